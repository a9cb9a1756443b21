"""What every source can do; a source is one file and one line in the registry (docs/sources.md)."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from dailies import config
from dailies.clock import Clock, Deadline
from dailies.errors import Waiting
from dailies.http import Http
from dailies.model import Source


@dataclass(frozen=True)
class Ground:
    """What sources stand on: the library's root, their settings, their way to the network, the environment.

    `slots` are the connections that all fetches of a run may have at once.
    """

    root: Path
    settings: config.Sources
    http: Http
    clock: Clock
    variables: Mapping[str, str] = field(repr=False)
    slots: threading.BoundedSemaphore = field(repr=False)
    listings: Mapping[str, config.Listing] = field(default_factory=dict)  # what lets one into folders of storage stands there

    @classmethod
    def of(
        cls,
        settings: config.Sources,
        root: Path,
        clock: Clock,
        variables: Mapping[str, str],
        listings: Mapping[str, config.Listing] | None = None,
    ) -> Self:
        """`variables`: the environment."""
        http = Http(clock, is_public_only=not settings.allow_private, speaks_plainly=True)
        return cls(root, settings, http, clock, variables, threading.BoundedSemaphore(settings.connections), listings or {})

    def has_link(self, source: Source) -> bool:
        """Whether `link` would answer: one that is kept out of the record may not be in this environment."""
        return source.secret_env is None or bool(self.variables.get(source.secret_env))

    def link(self, source: Source) -> str:
        """The link as it was given: of one that is kept out of the record, from the environment. Raises Waiting."""
        if source.secret_env is None:
            return source.uri
        link = self.variables.get(source.secret_env, "")
        if not link:
            raise Waiting(f"{source.original_name}: {source.secret_env} is not set or empty; set it to the link")
        return link


@dataclass(frozen=True)
class Place:
    """Where the bytes of one video go.

    `target` is the whole of it, put in place at the end; `kept` holds what the next run can go on from, `tmp` goes with the step.
    `reserve` promises room once the size (bytes of the source) is known, or raises Waiting; `progress` is told bytes that came and,
    where known, all that will.
    """

    target: Path
    kept: Path
    tmp: Path
    reserve: Callable[[int], None] = lambda _size_bytes: None
    progress: Callable[[int, int | None], None] = lambda _got, _of: None


@dataclass(frozen=True)
class Fetched:
    """The source as it is known by now (its kind, its size), and what a person should know."""

    source: Source
    warnings: tuple[str, ...] = ()


class Fetcher(Protocol):
    """Each call raises Waiting (not reachable from here), Postponed, SourceGone, VideoError, Transient or the deadline's error."""

    def is_here(self, source: Source) -> bool:
        """Whether a fetch can begin on this machine; where not it would raise Waiting. Asks no network."""

    def fetch(self, source: Source, place: Place, deadline: Deadline) -> Fetched:
        """Bring the bytes to `place.target`. Asked again after it was done or killed anywhere, it fetches nothing twice."""

    def remove(self, source: Source) -> None:
        """Delete the original; only ever called once a host has confirmed the upload."""
