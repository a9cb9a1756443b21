"""Wikidata: films and other works (docs/enrichment.md#wikidata). https://www.wikidata.org/w/api.php"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, ClassVar, Final

from pydantic import BeforeValidator, Field

from dailies.config import Enrich
from dailies.enrich.catalogue import Answered, Ask
from dailies.enrich.clues import Clues
from dailies.enrich.facts import Facts, whole_number, year
from dailies.enrich.matching import Candidate

_PUBLISHED, _DURATION, _IMDB, _CAST, _DIRECTOR = "P577", "P2047", "P345", "P161", "P57"
_GENRE, _COMPANY, _SERIES = "P136", "P272", "P179"
_SECONDS: Final = {"Q7727": 60.0, "Q11574": 1.0, "Q25235": 3600.0}  # minute, second, hour
_DAY: Final = 11  # precision of a time: 11 is a day, 9 a year
_MOST_ACTORS: Final = 20
_MOST_IDS: Final = 50  # of one request
_ITEM: Final = re.compile(r"Q[1-9]\d{0,11}")


def _mapping(value: Any) -> Any:
    """An empty object of PHP is an empty list in JSON."""
    if isinstance(value, Mapping):
        return {key: one for key, one in value.items() if one is not None}
    return {} if value == [] else value


class _Snak(Answered):
    datavalue: Mapping[str, Any] = {}


class _Statement(Answered):
    mainsnak: _Snak = _Snak()
    rank: str = "normal"


class _Label(Answered):
    value: str = ""


class _Entity(Answered):
    id: str = ""
    labels: Annotated[Mapping[str, _Label], BeforeValidator(_mapping)] = {}
    descriptions: Annotated[Mapping[str, _Label], BeforeValidator(_mapping)] = {}
    claims: Annotated[Mapping[str, tuple[_Statement, ...]], BeforeValidator(_mapping)] = {}

    def label(self) -> str:
        return next((one.value for one in self.labels.values() if one.value), "")

    def values(self, kind: str) -> list[Any]:
        """Of the preferred statements, else of all that are not deprecated."""
        statements = [one for one in self.claims.get(kind, ()) if one.rank != "deprecated"]
        best = [one for one in statements if one.rank == "preferred"] or statements
        return [one.mainsnak.datavalue.get("value") for one in best]

    def items(self, kind: str) -> list[str]:
        found = [value.get("id") for value in self.values(kind) if isinstance(value, dict)]
        return [one for one in found if isinstance(one, str) and _ITEM.fullmatch(one)]

    def times(self) -> list[tuple[str, int]]:
        """(`YYYY-MM-DD`, precision) of the publication, earliest first."""
        found = [value for value in self.values(_PUBLISHED) if isinstance(value, dict)]
        return sorted((str(one.get("time", "")).lstrip("+")[:10], _whole(one.get("precision"))) for one in found)

    def duration_s(self) -> float | None:
        for value in self.values(_DURATION):
            if isinstance(value, dict):
                factor = _SECONDS.get(str(value.get("unit", "")).rpartition("/")[2])
                if factor is not None and re.fullmatch(r"\+?\d{1,6}(?:\.\d+)?", str(value.get("amount", ""))):
                    return float(value["amount"]) * factor
        return None

    def is_work(self) -> bool:
        """A film has a date of publication, an entry at IMDb or people in it; a river or a family name has none of them."""
        return any(kind in self.claims for kind in (_PUBLISHED, _CAST, _DURATION)) or (
            _IMDB in self.claims and any(str(value).startswith("tt") for value in self.values(_IMDB))
        )


class _Entities(Answered):
    entities: Annotated[Mapping[str, _Entity], BeforeValidator(_mapping)]


class _Hit(Answered):
    id: str = Field(pattern=r"^Q[1-9]\d{0,11}$")


class _Hits(Answered):
    search: tuple[_Hit, ...]


class _PageHit(Answered):
    title: str = ""


class _Query(Answered):
    search: tuple[_PageHit, ...] = ()


class _Pages(Answered):
    query: _Query


class Wikidata:
    """Keys: `Q83495`."""

    name: ClassVar[str] = "wikidata"
    attribution: ClassVar[str] = "Data of Wikidata, public domain (CC0). https://www.wikidata.org"
    interval_s: ClassVar[float] = 0.2
    needs_contact: ClassVar[bool] = True
    fields: ClassVar[frozenset[str]] = frozenset(
        {"title", "description", "release_date", "categories", "people", "studio", "series"}
    )

    def __init__(self, settings: Enrich) -> None:
        self._url = f"{settings.wikidata_url.rstrip('/')}/w/api.php"
        self._language = settings.language.partition("-")[0]

    def headers(self, secret: Callable[[str], str]) -> Mapping[str, str]:  # noqa: ARG002 -- it wants no key
        return {}

    def reads(self, clues: Clues) -> bool:
        """Few episodes have an item of their own, and a title alone fits too much."""
        is_known = bool(clues.ids.keys() & {"wikidata", "imdb"})
        return not clues.is_episode and (is_known or bool(clues.title and clues.year))

    def lookup(self, clues: Clues, ask: Ask) -> str | None:
        if "wikidata" in clues.ids:
            return clues.ids["wikidata"]
        if "imdb" not in clues.ids:
            return None
        query = {"action": "query", "list": "search", "srsearch": f"haswbstatement:{_IMDB}={clues.ids['imdb']}", "srlimit": "2"}
        pages = ask(self._url, {**query, "format": "json"}, _Pages)
        hits = [hit.title for hit in pages.query.search if _ITEM.fullmatch(hit.title)] if pages else []
        return hits[0] if len(hits) == 1 else None

    def search(self, clues: Clues, ask: Ask) -> tuple[Candidate, ...]:
        query = {"action": "wbsearchentities", "search": clues.title, "language": self._language, "type": "item", "limit": "10"}
        found = ask(self._url, {**query, "format": "json"}, _Hits)
        works = [one for one in self._entities([hit.id for hit in found.search] if found else [], ask) if one.is_work()]
        return tuple(Candidate(one.id, (one.label(),), _year(one), one.duration_s()) for one in works if one.label())

    def details(self, key: str, clues: Clues, ask: Ask) -> Facts | None:  # noqa: ARG002 -- others need the episode
        work = next(iter(self._entities([key], ask)), None)
        if work is None or not work.label():
            return None
        cast, directors = work.items(_CAST)[:_MOST_ACTORS], work.items(_DIRECTOR)[:5]
        genres, makers, series = work.items(_GENRE)[:10], work.items(_COMPANY)[:1], work.items(_SERIES)[:1]
        names = self._names([*cast, *directors, *genres, *makers, *series], ask)
        days = [day for day, precision in work.times() if precision >= _DAY]
        return Facts(
            title=work.label(),
            description=next((one.value for one in work.descriptions.values()), None),
            release_date=days[0] if days else None,
            categories=_named(genres, names),
            people=[{"name": name, "role": "actor"} for name in _named(cast, names)]
            + [{"name": name, "role": "director"} for name in _named(directors, names)],
            studio=next(iter(_named(makers, names)), None),
            series=next(iter(_named(series, names)), None),
            year=_year(work),
            ids={"imdb": next((str(value) for value in work.values(_IMDB)), "")},
            duration_s=work.duration_s(),
        )

    def _entities(self, keys: list[str], ask: Ask, props: str = "labels|descriptions|claims") -> list[_Entity]:
        if not keys:
            return []
        query = {"action": "wbgetentities", "ids": "|".join(keys[:_MOST_IDS]), "props": props, "languages": self._language}
        found = ask(self._url, {**query, "format": "json"}, _Entities)
        return [found.entities[key] for key in keys if found and key in found.entities]

    def _names(self, keys: list[str], ask: Ask) -> dict[str, str]:
        return {one.id: one.label() for one in self._entities(list(dict.fromkeys(keys)), ask, "labels")}


def _named(keys: Iterable[str], names: Mapping[str, str]) -> list[str]:
    return [names[key] for key in keys if names.get(key)]


def _whole(value: object) -> int:
    return whole_number(value) or 0


def _year(work: _Entity) -> int | None:
    return next((found for day, _ in work.times() if (found := year(day))), None)
