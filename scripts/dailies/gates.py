"""Whether a host is asked at all at this moment: our own limits, and hosts that have failed too often in this run."""

import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

from dailies.clock import Clock
from dailies.config import Settings
from dailies.errors import Category, Postponed, Waiting

_DAY = timedelta(days=1)


class Gate:
    """Of one host in one run; asked and told from any thread."""

    def __init__(self, name: str, settings: Settings, sent: Iterable[datetime], clock: Clock) -> None:
        host = settings.hosts[name]
        self._name = name
        self._breaker = settings.publish.breaker
        self._per_day = host.max_per_day
        self._interval = timedelta(seconds=host.min_interval)
        self._clock = clock
        self._sent = sorted(sent)
        self._failures = 0
        self._limits = 0
        self._not_before: datetime | None = None
        self._closed = ""
        self._lock = threading.Lock()

    @property
    def closed(self) -> str:
        """Why nothing is sent any more in this run; empty where it is."""
        return self._closed

    def check(self) -> None:
        """Raises Waiting where the host is left alone for the rest of this run, Postponed where it wants us to wait."""
        if self._closed:
            raise Waiting(f"{self._name}: left alone for the rest of this run: {self._closed}", Category.HOST)
        if self._not_before is not None and self._clock.now() < self._not_before:
            raise Postponed(f"{self._name}: wants us to wait", self._not_before)

    def enter(self) -> datetime:
        """Take a place for an upload that begins now. Raises Postponed with the moment when there is one."""
        with self._lock:
            now = self._clock.now()
            self._sent = [moment for moment in self._sent if now - moment < _DAY]
            if self._per_day and len(self._sent) >= self._per_day:
                until = self._sent[-self._per_day] + _DAY
                raise Postponed(f"{self._name}: max_per_day = {self._per_day} is reached", until)
            if self._interval and self._sent and now - self._sent[-1] < self._interval:
                raise Postponed(f"{self._name}: min_interval since the last upload is not over", self._sent[-1] + self._interval)
            self._sent.append(now)
            return now

    def leave(self, moment: datetime | None) -> None:
        """Give a place back, where one was taken: nothing was sent."""
        with self._lock:
            self._sent = [one for one in self._sent if one is not moment]

    def succeeded(self) -> None:
        with self._lock:
            self._failures = self._limits = 0

    def limited(self, until: datetime, reason: str) -> None:
        """The host wants nobody's file before; one that says so again and again is left alone."""
        with self._lock:
            self._not_before = max(filter(None, (self._not_before, until)))
            self._limits += 1
            if self._limits >= self._breaker:
                self._closed = self._closed or f"{self._limits} times in a row it wanted us to wait, the last: {reason}"

    def failed(self, reason: str) -> None:
        with self._lock:
            self._failures += 1
            if self._failures >= self._breaker:
                self._closed = self._closed or f"{self._failures} failures in a row, the last: {reason}"

    def close(self, reason: str) -> None:
        with self._lock:
            self._closed = self._closed or reason


class Gates:
    """Of all hosts in one run. `sent` says when the last uploads to each host began, on all machines; it is asked once."""

    def __init__(self, settings: Settings, sent: Callable[[], Mapping[str, Iterable[datetime]]], clock: Clock) -> None:
        self._settings = settings
        self._sent = sent
        self._clock = clock
        self._gates: dict[str, Gate] = {}
        self._lock = threading.Lock()

    def of(self, name: str) -> Gate:
        with self._lock:
            if not self._gates:
                sent = self._sent()
                self._gates = {host: Gate(host, self._settings, sent.get(host, ()), self._clock) for host in self._settings.hosts}
            return self._gates[name]

    def closed(self) -> list[str]:
        """A line for each host that was left alone."""
        with self._lock:
            return [f"{name}: {gate.closed}" for name, gate in self._gates.items() if gate.closed]
