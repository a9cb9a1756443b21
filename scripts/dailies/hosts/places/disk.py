"""A folder on this machine: written beside, compared, then put in place."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dailies import atomic, copying
from dailies.clock import Deadline
from dailies.errors import Category, ConfigError, Transient
from dailies.hosts.host import Asset, Transfer
from dailies.hosts.places.place import Found


@dataclass(frozen=True)
class Disk:
    """`place` as long as it is a folder."""

    folder: Path

    def probe(self, deadline: Deadline) -> None:  # noqa: ARG002 -- others wait for an answer
        existing = next(parent for parent in (self.folder, *self.folder.parents) if parent.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            raise ConfigError(f"{existing}: cannot be written; make it a folder that this user may write")

    def put(self, key: str, path: Path, asset: Asset, transfer: Transfer) -> None:
        target, deadline = self.folder / key, transfer.deadline
        temporary = atomic.temporary_beside(target)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            copying.copy(path, temporary, deadline)
            written = copying.sha256(temporary, deadline)
            if written != asset.sha256:
                raise Transient(f"{target}: what was written differs from {path.name}; check the disk, it is tried again later")
            temporary.chmod(0o666 & ~_umask())
            atomic.put_in_place(temporary, target)
        except OSError as error:
            raise Transient(f"{target}: cannot be written: {error.strerror}; make the folder writable", Category.HOST) from error
        finally:
            if temporary.exists():
                temporary.unlink(missing_ok=True)
        transfer.progress(asset.size_bytes)

    def look(self, key: str, deadline: Deadline) -> Found | None:
        target = self.folder / key
        try:
            return Found(target.stat().st_size, copying.sha256(target, deadline))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(target, error) from error

    def read(self, key: str, size_bytes: int, deadline: Deadline, start: int = 0) -> Iterator[bytes]:  # noqa: ARG002 -- read to its end
        target = self.folder / key
        try:
            with target.open("rb") as file:
                file.seek(start)
                while block := file.read(copying.CHUNK_BYTES):
                    deadline.check()
                    yield block
        except FileNotFoundError as error:
            raise Transient(f"{target}: is not there any more; upload it again") from error
        except OSError as error:
            raise _unreadable(target, error) from error

    def remove(self, key: str, deadline: Deadline) -> None:  # noqa: ARG002 -- others wait for an answer
        target = self.folder / key
        try:
            target.unlink(missing_ok=True)
        except OSError as error:
            raise Transient(f"{target}: cannot be deleted: {error.strerror}; make its folder writable") from error


def _unreadable(target: Path, error: OSError) -> Transient:
    return Transient(f"{target}: cannot be read: {error.strerror}; check the disk and its permissions", Category.HOST)


def _umask() -> int:
    """The process's umask can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
