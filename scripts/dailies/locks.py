"""Locks between processes: shared for readers, exclusive for a writer, and who holds them."""

import contextlib
import errno
import json
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from filelock import AcquireReturnProxy, FileLock, ReadWriteLock, Timeout

from dailies.clock import Clock, Deadline, timestamp
from dailies.errors import Category, ConfigError, Transient
from dailies.owner import Owner

TIMEOUT_S: Final = 30.0
TRIES: Final = 3
_LOOK_S: Final = 0.2  # how late a wait sees a stop
Mode = Literal["read", "write"]


class SharedLock:
    """One lock for a pass over the records or one save; `filelock` keeps readers and the writer apart, the OS frees the dead's."""

    def __init__(self, path: Path, clock: Clock, timeout_s: float = TIMEOUT_S) -> None:
        self._path = path
        self._clock = clock
        self._timeout_s = timeout_s

    def read(self) -> contextlib.AbstractContextManager[None]:
        return self._held("read")

    def write(self) -> contextlib.AbstractContextManager[None]:
        return self._held("write")

    @contextlib.contextmanager
    def _held(self, mode: Mode) -> Iterator[None]:
        lock = self._opened(mode)
        if lock is None:
            yield
            return
        self._acquire(lock, mode)
        try:
            with _holder(self._path, mode):
                yield
        finally:
            lock.release()
            lock.close()

    def _opened(self, mode: Mode) -> ReadWriteLock | None:
        """Its own instance: filelock's is for one thread at a time. None where nobody can write: readers need no lock there."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return ReadWriteLock(self._path, is_singleton=False)
        except (OSError, sqlite3.Error) as error:
            if mode == "read" and isinstance(error, OSError) and error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
                return None
            raise _unusable(self._path, error) from error

    def _acquire(self, lock: ReadWriteLock, mode: Mode) -> None:
        """3 tries of 30 s, 2^n s between them; raises Transient that names the holders."""
        acquire = lock.acquire_read if mode == "read" else lock.acquire_write
        for attempt in range(1, TRIES + 1):
            try:
                acquire(timeout=self._timeout_s)
            except Timeout:
                if attempt == TRIES:
                    break
                self._clock.sleep(2.0**attempt)
            except (OSError, sqlite3.Error) as error:
                lock.close()
                raise _unusable(self._path, error) from error
            else:
                return
        lock.close()
        holders = ", ".join(living_holders(self._path)) or "unknown"
        raise Transient(
            f"{self._path}: still locked after {TRIES} tries, by {holders}; end that process or wait for it", Category.BUSY
        )


def _unusable(path: Path, error: Exception) -> ConfigError:
    return ConfigError(f"{path}: cannot be used as a lock: {error}; free the disk or make the folder writable", Category.DATABASE)


class Single:
    """A lock that one process at a time can have (`run.lock`, `publish.lock`)."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextlib.contextmanager
    def held(self, timeout_s: float = 0, deadline: Deadline | None = None) -> Iterator[None]:
        """Raises Transient that names the holder when somebody else has it for longer, and the deadline's own errors."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock = self._acquired(timeout_s, deadline)
        except Timeout as error:
            holder = ", ".join(living_holders(self._path)) or "another process"
            raise Transient(f"{self._path}: held by {holder}", Category.BUSY) from error
        except OSError as error:
            raise _unusable(self._path, error) from error
        with lock, _holder(self._path, "write"):
            yield

    def _acquired(self, timeout_s: float, deadline: Deadline | None) -> AcquireReturnProxy[FileLock]:
        lock = FileLock(self._path)
        while deadline is not None and timeout_s > 0:
            deadline.check()
            timeout_s -= _LOOK_S
            with contextlib.suppress(Timeout):
                return lock.acquire(timeout=_LOOK_S)
        return lock.acquire(timeout=timeout_s)


def _holder_files(lock: Path) -> list[Path]:
    return sorted(lock.parent.glob(f"{lock.name}.holder-*.json"))


@contextlib.contextmanager
def _holder(lock: Path, mode: Mode) -> Iterator[None]:
    """Beside the lock, for people and messages: {pid, started, host, since, mode}."""
    owner = Owner.current()
    path = lock.with_name(f"{lock.name}.holder-{owner.pid}-{threading.get_ident()}.json")
    content = {"pid": owner.pid, "started": owner.started, "host": owner.host, "since": timestamp(datetime.now(UTC)), "mode": mode}
    with contextlib.suppress(OSError):  # only information: a full disk must not make it an obstacle
        path.write_text(json.dumps(content) + "\n", "utf-8")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _read_holder(path: Path) -> tuple[Owner, str] | None:
    try:
        holder = json.loads(path.read_text("utf-8"))
        owner = Owner(int(holder["pid"]), float(holder["started"]), str(holder["host"]))
        return owner, f"process {owner.pid} on {owner.host} ({holder['mode']}, since {holder['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return None  # being written or removed at this moment


def living_owners(lock: Path) -> list[Owner]:
    """Who has it, as far as that can be told on this machine."""
    found = (_read_holder(path) for path in _holder_files(lock))
    return [owner for owner, _ in filter(None, found) if owner.is_alive()]


def living_holders(lock: Path) -> list[str]:
    found = (_read_holder(path) for path in _holder_files(lock))
    return [text for owner, text in filter(None, found) if owner.is_alive() is not False]


def drop_dead_holders(folder: Path) -> int:
    """Remove the notes of holders that died; the locks themselves were freed by the OS. Returns how many."""
    dead = 0
    for path in folder.glob("*.holder-*.json"):
        found = _read_holder(path)
        if found is not None and found[0].is_alive() is False:
            path.unlink(missing_ok=True)
            dead += 1
    return dead
