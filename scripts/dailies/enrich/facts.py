"""What any source says of a video: text from outside, cleaned where it comes in, so that nobody behind has to."""

import datetime as dt
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

LINE_CHARACTERS: Final = 500
TEXT_CHARACTERS: Final = 20_000
MOST_ITEMS: Final = 100
MOST_PEOPLE: Final = 50
_LARGEST: Final = 2**63 - 1  # what SQLite holds
_UNWANTED: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_DATE: Final = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)(?:[T ].*)?")
_URL: Final = re.compile(r"https?://[^\s@\"'<>\\]{1,2000}", re.IGNORECASE)
# Ids stand in addresses: nothing else may.
ID_PATTERNS: Final = {
    "imdb": re.compile(r"tt\d{7,10}"),
    "tmdb": re.compile(r"[1-9]\d{0,9}"),  # of a film
    "tmdb_tv": re.compile(r"[1-9]\d{0,9}"),  # of a show
    "tvdb": re.compile(r"[1-9]\d{0,9}"),
    "tvmaze": re.compile(r"[1-9]\d{0,9}"),
    "wikidata": re.compile(r"Q[1-9]\d{0,11}"),
    "musicbrainz": re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),  # of a recording
}


def text(value: object) -> str | None:
    """Lines stay lines; control characters, bidi overrides and lone surrogates go. None for what is no text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return None
    whole = _UNWANTED.sub("", value.replace("\r\n", "\n").replace("\r", "\n")[: 2 * TEXT_CHARACTERS])
    return unicodedata.normalize("NFC", whole)[:TEXT_CHARACTERS].strip() or None


def line(value: object) -> str | None:
    whole = text(value)
    return None if whole is None else " ".join(whole.split())[:LINE_CHARACTERS].strip() or None


def lines(value: object) -> tuple[str, ...]:
    """Of a list, or of one text; each once, whatever its case."""
    items = [value] if isinstance(value, str) else value if isinstance(value, Iterable) and not isinstance(value, Mapping) else ()
    found: dict[str, str] = {}
    for item in items:
        if (said := line(item)) is not None:
            found.setdefault(said.casefold(), said)
    return tuple(found.values())[:MOST_ITEMS]


def whole_number(value: object) -> int | None:
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value.strip()) < 20:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST else None


def seconds(value: object) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 10**7 else None


def date(value: object) -> str | None:
    """`YYYY-MM-DD`; a year alone is no date."""
    if isinstance(value, dt.date):
        return value.isoformat()[:10]
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    found = _DATE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        return None
    try:
        return dt.date(int(found[1]), int(found[2]), int(found[3])).isoformat()
    except ValueError:
        return None


def year(value: object) -> int | None:
    """The year of a date or a number."""
    found = re.match(r"\s*(\d{4})(?!\d)", date(value) or str(value))
    return int(found[1]) if found and 1870 <= int(found[1]) <= 2200 else None


def link(value: object) -> str | None:
    """A web address without credentials."""
    return value.strip() if isinstance(value, str) and _URL.fullmatch(value.strip()) else None


def ids(value: object) -> dict[str, str]:
    """By catalogue; what does not look like its id is left out."""
    given = value if isinstance(value, Mapping) else {}
    said = {str(key).lower(): str(one).strip() for key, one in given.items() if isinstance(one, str | int)}
    return {key: one for key, one in said.items() if key in ID_PATTERNS and ID_PATTERNS[key].fullmatch(one)}


class Person(BaseModel):
    """`image` is a web address."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    name: Annotated[str, BeforeValidator(lambda value: line(value) or "")]
    role: Annotated[str | None, BeforeValidator(line)] = None
    image: Annotated[str | None, BeforeValidator(link)] = None


def people(value: object) -> tuple[Person, ...]:
    """Of names, mappings or people; who has no name is left out, each (name, role) stands once."""
    items = [value] if isinstance(value, str | Person | Mapping) else value if isinstance(value, Iterable) else ()
    found: dict[tuple[str, str | None], Person] = {}
    for item in items:
        raw = {"name": item} if isinstance(item, str) else item.model_dump() if isinstance(item, Person) else item
        if isinstance(raw, Mapping) and (person := Person.model_validate({"name": None, **raw})).name:
            found.setdefault((person.name.casefold(), person.role), person)
    return tuple(found.values())[:MOST_PEOPLE]


Line = Annotated[str | None, BeforeValidator(line)]
Lines = Annotated[tuple[str, ...], BeforeValidator(lines)]
Number = Annotated[int | None, BeforeValidator(whole_number)]
# Inside the class these functions' names are fields.
_Text = Annotated[str | None, BeforeValidator(text)]
_Date = Annotated[str | None, BeforeValidator(date)]
_Year = Annotated[int | None, BeforeValidator(year)]
_People = Annotated[tuple[Person, ...], BeforeValidator(people)]
_Ids = Annotated[Mapping[str, str], BeforeValidator(ids)]
_Seconds = Annotated[float | None, BeforeValidator(seconds)]


class Facts(BaseModel):
    """One source's words on a video. What cannot be read is as if it had not been said. Also the schema of our own sidecars."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    title: Line = Field(None, description="title, on one line")
    description: _Text = Field(None, description="text of several lines")
    release_date: _Date = Field(None, description="`YYYY-MM-DD`")
    views: Number = Field(None, description="how often it was seen")
    likes: Number = Field(None, description="how often it was liked")
    categories: Lines = Field((), description="list of genres or categories")
    people: _People = Field((), description='list of names or of `{name = "…", role = "…", image = "https://…"}`')
    tags: Lines = Field((), description="list of tags")
    studio: Line = Field(None, description="who made it")
    series: Line = Field(None, description="the series or collection that it belongs to")
    year: _Year = Field(None, description="year of release, to find it in catalogues")
    season: Number = Field(None, description="number of the season, to find an episode in catalogues")
    episode: Number = Field(None, description="number of the episode")
    ids: _Ids = Field({}, description=f"ids in catalogues: {', '.join(f'`{name}`' for name in ID_PATTERNS)}")
    duration_s: _Seconds = Field(None, exclude=True)
    is_one: bool = Field(True, exclude=True)  # False: several episodes in one file, which no catalogue knows as one

    def artist(self) -> str | None:
        return next((person.name for person in self.people if person.role == "artist"), None)


class Said(BaseModel):
    """Facts, and where from: `sidecar:nfo`, `embedded`, `tmdb:603` … A title is taken only from who `is_sure`."""

    model_config = ConfigDict(frozen=True)
    where: str
    facts: Facts
    is_sure: bool = True
