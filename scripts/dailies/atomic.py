"""Files that are whole or absent: written beside, synced, then put in place."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TEMPORARY_PREFIX = ".tmp-"
_SYNCS = 8  # at once: disks do several in the time of one


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
    _write(path, content, mode)
    sync_folder(path.parent)


def write_all(contents: Mapping[Path, bytes]) -> None:
    """`write` for many. Raises OSError; each of them is written or as it was then."""
    with ThreadPoolExecutor(_SYNCS, thread_name_prefix="write") as pool:
        list(pool.map(_write, contents.keys(), contents.values()))
        list(pool.map(sync_folder, {path.parent for path in contents}))


def _write(path: Path, content: bytes, mode: int = 0o666) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
