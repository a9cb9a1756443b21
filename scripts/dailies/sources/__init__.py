"""The registry of sources: where a video's bytes come from."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from dailies.clock import Deadline
from dailies.model import Source
from dailies.sources import file

__all__ = ["SOURCES", "Fetcher", "fetcher"]


class Fetcher(Protocol):
    """Each call raises Waiting (not reachable from here), SourceGone, VideoError or Transient."""

    def is_here(self, source: Source) -> bool:
        """Whether a fetch can begin on this machine; where not it would raise Waiting."""

    def fetch(self, source: Source, target: Path, deadline: Deadline) -> None:
        """Bring the bytes to `target`, which is the work folder's own."""

    def remove(self, source: Source) -> None:
        """Delete the original; only ever called once a host has confirmed the upload."""


SOURCES: Final[Mapping[str, Callable[[Path], Fetcher]]] = {"file": file.FileSource}


def fetcher(kind: str, root: Path) -> Fetcher:
    return SOURCES[kind](root)
