"""Who owns a lock, a reservation or a child: a process known by pid *and* start time."""

import os
import socket
from dataclasses import dataclass
from functools import cache
from typing import Self

import psutil

# psutil reads start times from a clock that may be adjusted by a little between two readings
SAME_START_S = 1.0


@dataclass(frozen=True)
class Owner:
    pid: int
    started: float
    host: str

    @classmethod
    def current(cls) -> Self:
        pid = os.getpid()
        return cls(pid, _started(pid), socket.gethostname())

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The owner written by `str`; None when it is not one."""
        pid, _, rest = text.partition("@")
        started, _, host = rest.partition("@")
        try:
            return cls(int(pid), float(started), host)
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{self.pid}@{self.started}@{self.host}"

    def is_alive(self) -> bool | None:
        """None when it cannot be told: the owner is on another machine."""
        if self.host != socket.gethostname():
            return None
        try:
            process = psutil.Process(self.pid)
            return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - self.started) < SAME_START_S
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return None


@cache
def _started(pid: int) -> float:
    return psutil.Process(pid).create_time()
