"""The connections that all fetches of a run share."""

import contextlib
from collections.abc import Iterator

from dailies.clock import Deadline
from dailies.sources.source import Ground

_LOOK_S = 0.1  # how late a stop is seen


@contextlib.contextmanager
def slot(ground: Ground, deadline: Deadline) -> Iterator[None]:
    """One of them. Raises the deadline's error."""
    while not ground.slots.acquire(timeout=_LOOK_S):
        deadline.check()
    try:
        yield
    finally:
        ground.slots.release()
