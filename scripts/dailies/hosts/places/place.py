"""What `storage` stands on: places that hold files by key, a file's blocks on their way, and what a library's errors mean."""

import contextlib
import hashlib
import importlib
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, Final, Protocol

from dailies.answer import Answer, fault
from dailies.body import Throttle
from dailies.clock import Clock, Deadline, SystemClock
from dailies.errors import ConfigError, DailiesError, Denied, HostRefused, Transient
from dailies.hosts.host import Asset, Transfer
from dailies.redact import plain

GRACE_S: Final = 0.8  # for tidying up once the time is over or a stop was seen
TIDY_S: Final = 5.0  # … and when there is time
LOOK_S: Final = 0.1  # how late a blocked call sees a stop
ANSWER_S: Final = 900.0  # a server may take long over a large file before it answers


@dataclass(frozen=True)
class Found:
    """What a place holds under a key; `sha256` where it was kept beside."""

    size_bytes: int
    sha256: str | None = None


@dataclass(frozen=True)
class Stored:
    """A file that a place has; `version` is another when its bytes are (ETag, else when it was changed)."""

    key: str
    size_bytes: int
    version: str
    changed_at: float = 0.0  # seconds since 1970; 0 where it is not told


def stored(found: object, base: str) -> list[Stored]:
    """Of what fsspec's `glob` tells, by name, of files whose names begin with `base`; servers' words for the same thing differ."""
    files: list[Stored] = []
    for name, about in found.items() if isinstance(found, Mapping) else ():
        key = str(name).removeprefix(base).strip("/")
        size = about.get("size")
        tag = str(about.get("etag") or about.get("ETag") or "").removeprefix("W/").strip('"')  # a listing may lack the quotes
        moments = (about.get(word) for word in ("mtime", "LastModified", "last_modified", "modified", "updated"))
        changed_at = _seconds(next((moment for moment in moments if moment), None))
        if about.get("type") == "file" and isinstance(size, int) and key:
            files.append(Stored(key, size, tag or str(int(changed_at)), changed_at))
    return files


def _seconds(moment: object) -> float:
    if isinstance(moment, str):
        with contextlib.suppress(ValueError):
            moment = datetime.fromisoformat(moment)
    return moment.timestamp() if isinstance(moment, datetime) else float(moment) if isinstance(moment, int | float) else 0.0


class Place(Protocol):
    """Raises Denied, RateLimited, HostRefused, Transient, ConfigError and the deadline's error."""

    def probe(self, deadline: Deadline) -> None:
        """Ask by the cheapest calls whether something may be written; leaves nothing behind."""

    def put(self, key: str, path: Path, asset: Asset, transfer: Transfer) -> None:
        """Whole, or nothing and what was there before."""

    def look(self, key: str, deadline: Deadline) -> Found | None:
        """None where there certainly is nothing."""

    def read(self, key: str, size_bytes: int, deadline: Deadline, start: int = 0) -> Iterator[bytes]:
        """The bytes from `start` on, block by block."""

    def remove(self, key: str, deadline: Deadline) -> None:
        """What is not there is no error."""


class Distant(Place, Protocol):
    """A place that is none of this machine's."""

    def browse(self, pattern: str, deadline: Deadline) -> list[Stored]:
        """The files below its folder that fsspec's `glob` finds by this pattern, which is relative to it."""


@dataclass
class Blocks:
    """A file on its way: each block waits for its turn and is hashed; the last stays here where the hash is wrong."""

    path: Path
    asset: Asset
    transfer: Transfer
    throttle: Throttle | None
    block_bytes: int
    _pieces: Iterator[bytes] | None = field(default=None, init=False)

    def __iter__(self) -> Iterator[bytes]:
        """At least one block, which is empty for an empty file. Raises Transient and the deadline's error."""
        digest, sent, size = hashlib.sha256(), 0, self.asset.size_bytes
        with self._opened() as file:
            if self.path.stat().st_size != size:
                raise self._differs()
            while True:
                self.transfer.deadline.check()
                block = file.read(min(self.block_bytes, size - sent))
                digest.update(block)
                is_last = sent + len(block) == size
                if (not block and not is_last) or (is_last and digest.hexdigest() != self.asset.sha256):
                    raise self._differs()
                if self.throttle is not None:
                    self.throttle.take(len(block), self.transfer.deadline)
                yield block
                sent += len(block)
                self.transfer.progress(sent)
                if is_last:
                    return

    def read(self, _size: int = -1) -> bytes:
        """As a file that is read once, in blocks of its own size."""
        self._pieces = self._pieces or iter(self)
        return next(self._pieces, b"")

    def _opened(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except OSError as error:  # else it would pass for trouble of the place's
            raise Transient(f"{self.path.name}: cannot be read: {error.strerror}; it is tried again later") from error

    def _differs(self) -> Transient:
        return Transient(f"{self.path.name}: differs from what was promised; it was changed meanwhile and is tried again later")


class Cut:
    """Shuts the sockets of a call that blocks when its deadline ends; `was_made` tells that from trouble of the network's.

    It holds them by descriptors of its own, which stay good while TLS is put around a socket (as wire.py's Watch does).
    """

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self.was_made = False
        self._sockets: list[socket.socket] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="storage-cut", daemon=True)

    def __enter__(self) -> "Cut":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        for held in self._sockets:
            held.close()

    def takes(self, connection: socket.socket) -> None:
        self._sockets.append(socket.fromfd(connection.fileno(), connection.family, connection.type))

    def _look(self) -> None:
        while not self._ended.wait(LOOK_S):
            if self.deadline.stop.is_set() or self.deadline.remaining() <= 0:
                self.was_made = True
                for connection in tuple(self._sockets):
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def tidying(outer: Deadline) -> Iterator[Deadline]:
    """A short while of real time, whatever ended; what fails in it is left as it is: it was trouble that brought us here."""
    has_ended = outer.stop.is_set() or outer.remaining() <= 0
    with contextlib.suppress(DailiesError):
        yield Deadline.after(SystemClock(), GRACE_S if has_ended else TIDY_S)


def library(module: str, extra: str) -> ModuleType:
    """A package that only some addresses need. Raises ConfigError that names the extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        needs = f"the package {error.name or module} is missing"
        raise ConfigError(f"storage: {needs}; install dailies[{extra}]") from error


def answered(where: str, status: int, clock: Clock, *, said: str = "", headers: Mapping[str, str] | None = None) -> DailiesError:
    """What an answer of HTTP means, as http.py has it, but for what is not there: that is the bucket or folder itself."""
    if status == 404:
        return Denied(f"{where}: HTTP 404: {plain(said) or 'not there'}; make it, or correct path")
    low = {key.lower(): text for key, text in (headers or {}).items()}
    return fault(Answer(status, low, " ".join(said.split()).encode(), where), clock)


def silent(where: str, error: BaseException) -> Transient:
    """No answer: only the kind of trouble is told, as the words of libraries show addresses and more."""
    return Transient(f"{where}: no answer: {why(error)}; it is tried again later")


def why(error: BaseException) -> str:
    """The innermost reason, in words that hold no address."""
    inner = error
    while (deeper := inner.__cause__ or inner.__context__) is not None:
        inner = deeper
    return inner.strerror if isinstance(inner, OSError) and inner.strerror else type(inner).__name__


def from_errno(where: str, error: OSError) -> DailiesError:
    """Raised by systems of files: the kind of the error is its class."""
    if isinstance(error, PermissionError):
        return Denied(f"{where}: permission denied; check the account and who may write there")
    if isinstance(error, FileNotFoundError):
        return Denied(f"{where}: no such folder; make it, or correct path")
    if isinstance(error, IsADirectoryError | NotADirectoryError):
        return HostRefused(f"{where}: a folder where a file is wanted, or the reverse; correct path")
    return silent(where, error)
