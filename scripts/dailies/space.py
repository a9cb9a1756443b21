"""Disk reservations: two videos never promise the same free space."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import psutil
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from dailies import atomic
from dailies.clock import Clock, parse_timestamp, timestamp
from dailies.errors import Category, ConfigError, Transient, Waiting
from dailies.owner import Owner

STALE_AFTER: Final = timedelta(hours=2)
LOCK_TIMEOUT_S: Final = 30.0


class Entry(BaseModel):
    """One promise: `folder` may grow to `size_bytes`; what it already holds is no longer free anyway."""

    model_config = ConfigDict(frozen=True)
    key: str
    folder: str
    size_bytes: int
    owner: str
    at: str

    def outstanding(self) -> int:
        return max(0, self.size_bytes - folder_size(Path(self.folder)))


_ENTRIES: Final = TypeAdapter(dict[str, Entry])


def folder_size(folder: Path) -> int:
    """Bytes of all files below; files that vanish meanwhile count nothing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += (Path(parent) / name).lstat().st_size
    return total


def free_bytes(folder: Path) -> int:
    return int(psutil.disk_usage(str(folder)).free)


class Space:
    """The reservations of one library on this machine, in `work/reservations.json`."""

    def __init__(self, work: Path, floor_bytes: int, clock: Clock, free: Callable[[Path], int] = free_bytes) -> None:
        self._work = work
        self._floor_bytes = floor_bytes
        self._clock = clock
        self._free = free

    @contextlib.contextmanager
    def reserved(self, key: str, size_bytes: int, folder: Path) -> Iterator[None]:
        """`reserve`, and `release` however the block ends."""
        self.reserve(key, size_bytes, folder)
        try:
            yield
        finally:
            self.release(key)

    def reserve(self, key: str, size_bytes: int, folder: Path) -> None:
        """Promise `size_bytes` to `folder`. Raises Waiting when there is no room."""
        with self._entries() as entries:
            entries.pop(key, None)
            entry = Entry(
                key=key, folder=str(folder), size_bytes=size_bytes, owner=str(Owner.current()), at=timestamp(self._clock.now())
            )
            available = self._available(entries)
            if entry.outstanding() > available:
                raise Waiting(
                    f"{key}: needs {size_bytes / 1e6:.0f} MB of disk, {max(0, available) / 1e6:.0f} MB can be promised "
                    f"(floor {self._floor_bytes / 1e6:.0f} MB); free some space or lower [space] floor",
                    Category.NO_SPACE,
                )
            entries[key] = entry

    def release(self, key: str) -> None:
        with self._entries() as entries:
            entries.pop(key, None)

    def available(self) -> int:
        """Bytes that can still be promised; negative below the floor."""
        with self._entries() as entries:
            return self._available(entries)

    def drop_stale(self) -> int:
        """Drop promises whose owner is dead, or cannot be checked and the entry is older than 2 h. Returns how many."""
        with self._entries() as entries:
            stale = [key for key, entry in entries.items() if self._is_stale(entry, self._clock.now())]
            for key in stale:
                del entries[key]
            return len(stale)

    def _available(self, entries: dict[str, Entry]) -> int:
        promised = sum(entry.outstanding() for entry in entries.values())
        return self._free(self._work) - promised - self._floor_bytes

    @staticmethod
    def _is_stale(entry: Entry, now: datetime) -> bool:
        owner = Owner.parse(entry.owner)
        alive = owner.is_alive() if owner else None
        return not alive if alive is not None else now - parse_timestamp(entry.at) > STALE_AFTER

    @contextlib.contextmanager
    def _entries(self) -> Iterator[dict[str, Entry]]:
        """The entries under the lock; written back when they changed and the block ended well."""
        path = self._work / "reservations.json"
        try:
            self._work.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._work / "reservations.lock").acquire(timeout=LOCK_TIMEOUT_S)
        except Timeout as error:
            raise Transient(
                f"{path}: still locked after {LOCK_TIMEOUT_S:.0f} s; end the process that holds it", Category.BUSY
            ) from error
        except OSError as error:
            raise _unwritable(path, error) from error
        with lock:
            before = _read(path)
            entries = dict(before)
            yield entries
            if entries != before:
                _write(path, entries)


def _read(path: Path) -> dict[str, Entry]:
    try:
        return _ENTRIES.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValidationError:
        return {}  # machine-local and rebuilt by the next reservation; only a person's edit can break it


def _write(path: Path, entries: dict[str, Entry]) -> None:
    content = json.dumps({key: entry.model_dump() for key, entry in entries.items()}, indent=2)
    try:
        atomic.write(path, content.encode() + b"\n")
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{path}: cannot be written: {error.strerror}; free the disk or make work/ writable", Category.NO_SPACE)
