"""Git LFS: a checkout without it has small text files, pointers, in the place of media (the specification of git-lfs, v1)."""

import re
import stat
from pathlib import Path
from typing import Final

REMEDY: Final = "is a Git LFS pointer, not the file itself; check out with LFS (docs/media-on-actions.md) or `git lfs pull`"
_FIRST: Final = b"version https://git-lfs.github.com/spec/v1\n"
_OID: Final = re.compile(rb"^oid sha256:([0-9a-f]{64})$", re.MULTILINE)
_BYTES: Final = 1024  # a pointer is smaller


def is_pointer(path: Path) -> bool:
    """False for what cannot be read."""
    return _text(path).startswith(_FIRST)


def oid(path: Path) -> str | None:
    """The sha256 of the file that a pointer stands for; None for any other file."""
    found = _OID.search(_text(path)) if is_pointer(path) else None
    return found[1].decode() if found else None


def _text(path: Path) -> bytes:
    """Of what may be a pointer by its kind and size; empty for all else."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size >= _BYTES:  # a pipe would never be opened to its end
            return b""
        return path.read_bytes()
    except OSError:
        return b""
