"""MusicBrainz: recordings, for music videos (docs/enrichment.md#musicbrainz). https://musicbrainz.org/doc/MusicBrainz_API"""

import re
from collections.abc import Callable, Mapping
from typing import ClassVar, Final

from pydantic import Field

from dailies.config import Enrich
from dailies.enrich.catalogue import Answered, Ask
from dailies.enrich.clues import Clues
from dailies.enrich.facts import Facts, year
from dailies.enrich.matching import Candidate, similarity

_SAME_ARTIST: Final = 0.8
_LUCENE: Final = re.compile(r'([+\-!(){}\[\]^"~*?:\\/]|&&|\|\|)')


class _Credit(Answered):
    name: str = ""


class _Tag(Answered):
    name: str = ""
    count: int = 0


class _Recording(Answered):
    id: str = Field(pattern=r"^[0-9a-f-]{36}$")
    title: str
    length: float = 0  # milliseconds
    first_release_date: str = Field("", alias="first-release-date")
    artists: tuple[_Credit, ...] = Field((), alias="artist-credit")
    tags: tuple[_Tag, ...] = ()


class _Recordings(Answered):
    recordings: tuple[_Recording, ...]


class MusicBrainz:
    """Keys: the id of a recording."""

    name: ClassVar[str] = "musicbrainz"
    attribution: ClassVar[str] = "Data of MusicBrainz: core data CC0, tags CC BY-NC-SA 3.0. https://musicbrainz.org"
    interval_s: ClassVar[float] = 1.0
    needs_contact: ClassVar[bool] = True
    fields: ClassVar[frozenset[str]] = frozenset({"title", "release_date", "people"})

    def __init__(self, settings: Enrich) -> None:
        self._url = settings.musicbrainz_url.rstrip("/")

    def headers(self, secret: Callable[[str], str]) -> Mapping[str, str]:  # noqa: ARG002 -- it wants no key
        return {}

    def reads(self, clues: Clues) -> bool:
        """Nothing but music: a title alone fits some song always."""
        return not clues.is_episode and bool("musicbrainz" in clues.ids or (clues.title and clues.artist))

    def lookup(self, clues: Clues, ask: Ask) -> str | None:  # noqa: ARG002 -- others ask
        return clues.ids.get("musicbrainz")

    def search(self, clues: Clues, ask: Ask) -> tuple[Candidate, ...]:
        query = f'recording:"{_escaped(clues.title)}" AND artist:"{_escaped(clues.artist or "")}"'
        found = ask(f"{self._url}/recording", {"query": query, "limit": "10", "fmt": "json"}, _Recordings)
        return tuple(
            Candidate(one.id, (one.title,), year(one.first_release_date), one.length / 1000 or None)
            for one in (found.recordings if found else ())
            if any(similarity(clues.artist or "", artist.name) >= _SAME_ARTIST for artist in one.artists)
        )

    def details(self, key: str, clues: Clues, ask: Ask) -> Facts | None:  # noqa: ARG002 -- others need the episode
        one = ask(f"{self._url}/recording/{key}", {"inc": "artist-credits tags", "fmt": "json"}, _Recording)
        if one is None:
            return None
        return Facts(
            title=one.title,
            release_date=one.first_release_date,
            people=[{"name": artist.name, "role": "artist"} for artist in one.artists],
            tags=[tag.name for tag in one.tags if tag.count > 0],
            year=one.first_release_date,
            duration_s=one.length / 1000,
        )


def _escaped(text: str) -> str:
    return _LUCENE.sub(r"\\\1", text)
