"""What trouble of this machine's disk means for whoever writes to it."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from dailies.errors import Category, Transient, Waiting


def full(path: Path, error: OSError) -> Waiting | None:
    """None for trouble of another kind."""
    if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
        return None
    return Waiting(f"{path.parent}: its disk is full; free some space", Category.NO_SPACE)


@contextlib.contextmanager
def written(path: Path) -> Iterator[None]:
    """Around writes to `path`, and around nothing that reads from the network. Raises Waiting for a full disk, else Transient."""
    try:
        yield
    except OSError as error:
        unwritable = Transient(f"{path}: cannot be written: {error.strerror}; make its folder writable", Category.UNREADABLE)
        raise full(path, error) or unwritable from error
