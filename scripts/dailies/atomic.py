"""Files that are whole or absent: written beside, synced, then put in place."""

import os
from pathlib import Path

TEMPORARY_PREFIX = ".tmp-"


def temporary_beside(path: Path) -> Path:
    """Where to make `path`: the same folder, known by its prefix and this process's pid to `cleanup`."""
    return path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{os.urandom(4).hex()}")


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable (POSIX: the folder itself is synced)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put_in_place(temporary: Path, path: Path) -> None:
    """Replace `path` by the finished, already synced `temporary`."""
    temporary.replace(path)
    sync_folder(path.parent)


def write(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write all of `content` or leave what was there; `mode` before the umask. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        put_in_place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
