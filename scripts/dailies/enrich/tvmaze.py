"""TVmaze: episodes of shows (docs/enrichment.md#tvmaze). https://www.tvmaze.com/api"""

import html
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator

from dailies.config import Enrich
from dailies.enrich.catalogue import Answered, Ask
from dailies.enrich.clues import Clues
from dailies.enrich.facts import Facts, year
from dailies.enrich.matching import Candidate


class _Named(Answered):
    name: str = ""


class _Image(Answered):
    medium: str = ""


class _Person(Answered):
    name: str = ""
    image: _Image = _Image()


class _Role(Answered):
    person: _Person = _Person()


class _Embedded(Answered):
    cast: tuple[_Role, ...] = ()


class _Externals(Answered):
    imdb: str = ""
    thetvdb: str = ""


class _Show(Answered):
    id: int = Field(ge=1)
    name: str
    genres: tuple[str, ...] = ()
    premiered: str = ""
    averageRuntime: float = 0  # noqa: N815 -- TVmaze's name
    network: _Named = _Named()
    webChannel: _Named = _Named()  # noqa: N815 -- TVmaze's name
    externals: _Externals = _Externals()
    embedded: _Embedded = Field(_Embedded(), alias="_embedded")


class _Hit(Answered):
    show: _Show


class _Hits(Answered):
    hits: tuple[_Hit, ...]

    @model_validator(mode="before")
    @classmethod
    def _of_list(cls, said: Any) -> Any:
        """TVmaze answers with a bare list."""
        return {"hits": said} if isinstance(said, list) else said


class _Episode(Answered):
    name: str = ""
    airdate: str = ""
    runtime: float = 0
    summary: str = ""


class TvMaze:
    """Keys: the number of a show."""

    name: ClassVar[str] = "tvmaze"
    attribution: ClassVar[str] = "Data of TVmaze, licensed under CC BY-SA 4.0. https://www.tvmaze.com"
    interval_s: ClassVar[float] = 0.5  # 20 requests in 10 s
    needs_contact: ClassVar[bool] = False
    fields: ClassVar[frozenset[str]] = frozenset(
        {"title", "description", "release_date", "categories", "people", "studio", "series"}
    )

    def __init__(self, settings: Enrich) -> None:
        self._url = settings.tvmaze_url.rstrip("/")

    def headers(self, secret: Callable[[str], str]) -> Mapping[str, str]:  # noqa: ARG002 -- it wants no key
        return {}

    def reads(self, clues: Clues) -> bool:
        return clues.is_episode and bool(clues.series or clues.ids.keys() & {"tvmaze", "imdb", "tvdb"})

    def lookup(self, clues: Clues, ask: Ask) -> str | None:
        if "tvmaze" in clues.ids:
            return clues.ids["tvmaze"]
        for ours, theirs in (("tvdb", "thetvdb"), ("imdb", "imdb")):
            if ours in clues.ids and (show := ask(f"{self._url}/lookup/shows", {theirs: clues.ids[ours]}, _Show)) is not None:
                return str(show.id)
        return None

    def search(self, clues: Clues, ask: Ask) -> tuple[Candidate, ...]:
        found = ask(f"{self._url}/search/shows", {"q": clues.searched}, _Hits)
        shows = [hit.show for hit in found.hits] if found else []
        return tuple(
            Candidate(str(show.id), (show.name,), year(show.premiered), show.averageRuntime * 60 or None) for show in shows
        )

    def details(self, key: str, clues: Clues, ask: Ask) -> Facts | None:
        show = ask(f"{self._url}/shows/{key}", {"embed": "cast"}, _Show)
        place = {"season": str(clues.season), "number": str(clues.episode)}
        episode = ask(f"{self._url}/shows/{key}/episodebynumber", place, _Episode)
        if show is None or episode is None:
            return None
        people = [one.person for one in show.embedded.cast]
        return Facts(
            title=episode.name,
            description=_plain(episode.summary),
            release_date=episode.airdate,
            categories=show.genres,
            people=[{"name": one.name, "role": "actor", "image": one.image.medium or None} for one in people],
            studio=show.network.name or show.webChannel.name,
            series=show.name,
            ids={"imdb": show.externals.imdb, "tvdb": show.externals.thetvdb},
            duration_s=episode.runtime * 60,
        )


def _plain(markup: str) -> str:
    """Summaries are HTML of a few tags."""
    return html.unescape(re.sub(r"<[^<>]{0,200}>", "", re.sub(r"</p>\s*<p>|<br ?/?>", "\n", markup)))
