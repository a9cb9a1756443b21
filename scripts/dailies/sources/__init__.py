"""The registry of sources: where a video's bytes come from."""

from collections.abc import Callable, Mapping
from typing import Final

from dailies.clock import Deadline
from dailies.errors import Category, ConfigError, Waiting
from dailies.model import Source
from dailies.plugins import Plugins
from dailies.sources.source import Fetched, Fetcher, Ground, Place
from dailies.sources.turned import Turned

__all__ = ["SOURCES", "Fetched", "Fetcher", "Ground", "Place", "fetch", "fetcher", "is_here"]

SOURCES: Final[Mapping[str, Callable[[Ground], Fetcher]]] = Plugins(
    {
        "file": "dailies.sources.file:FileSource",
        "http": "dailies.sources.web:WebFile",
        "hls": "dailies.sources.hls:Playlist",
        "storage": "dailies.sources.storage:StoredFile",
    }
)


def fetcher(source: Source, ground: Ground) -> Fetcher:
    """Raises Waiting for a kind that a later version of the program queued."""
    if source.kind not in SOURCES:
        raise Waiting(
            f"{source.original_name}: sources of the kind {source.kind!r} are not known; use a newer dailies", Category.SETTINGS
        )
    return SOURCES[source.kind](ground)


def is_here(source: Source, ground: Ground) -> bool:
    """Whether a fetch can begin on this machine. Asks no network."""
    return source.kind in SOURCES and fetcher(source, ground).is_here(source)


def fetch(source: Source, ground: Ground, place: Place, deadline: Deadline) -> Fetched:
    """As its fetcher does, and by another where the content says so: names of links tell little. Raises what fetchers do."""
    try:
        try:
            return fetcher(source, ground).fetch(source, place, deadline)
        except Turned as turned:
            source = source.model_copy(update={"kind": turned.kind})
            return fetcher(source, ground).fetch(source, place, deadline)
    except ConfigError as error:
        if source.kind == "file":
            raise
        raise Waiting(f"{source.original_name}: {error}", Category.SETTINGS) from error  # one link's matter, and no other's
