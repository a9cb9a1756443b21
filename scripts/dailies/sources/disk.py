"""What trouble of this machine's disk means while a source comes in."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from dailies.errors import Category, Transient, Waiting


@contextlib.contextmanager
def written(path: Path) -> Iterator[None]:
    """Around writes to `path`, and around nothing that reads from the network. Raises Waiting for a full disk, else Transient."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise Waiting(f"{path.parent}: its disk is full; free some space", Category.NO_SPACE) from error
        raise Transient(f"{path}: cannot be written: {error.strerror}; make its folder writable", Category.UNREADABLE) from error
