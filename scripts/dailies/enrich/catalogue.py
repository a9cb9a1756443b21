"""What every catalogue can do; one is a file and a line in the registry (docs/enrichment.md)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, model_validator

from dailies.config import Enrich
from dailies.enrich.clues import Clues
from dailies.enrich.facts import Facts
from dailies.enrich.matching import Ambiguous, Candidate, choose, closer, is_sure, shortlist


class Answered(BaseModel):
    """Part of an answer: numbers may be text, what is null or missing has its default."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, said: Any) -> Any:
        return {key: value for key, value in said.items() if value is not None} if isinstance(said, Mapping) else said


Model = TypeVar("Model", bound=Answered)


class Ask(Protocol):
    """One question: cached, paced, tried again. None is "there is no such thing". Raises Transient and its kin, HostRefused."""

    def __call__(self, url: str, params: Mapping[str, str], model: type[Model]) -> Model | None: ...


class Catalogue(Protocol):
    """`lookup` gives the key of an entry by an id, `search` what may fit, `details` all of one (None: it is gone)."""

    name: ClassVar[str]
    attribution: ClassVar[str]  # what its terms want people to read
    interval_s: ClassVar[float]  # from one request to the next
    needs_contact: ClassVar[bool]
    fields: ClassVar[frozenset[str]]  # that it may fill, besides tags

    def __init__(self, settings: Enrich) -> None: ...

    def headers(self, secret: Callable[[str], str]) -> Mapping[str, str]:
        """`secret` gives the value of a variable and raises Denied where it has none."""

    def reads(self, clues: Clues) -> bool:
        """Whether it may know such a video: no request is made for others."""

    def lookup(self, clues: Clues, ask: Ask) -> str | None: ...

    def search(self, clues: Clues, ask: Ask) -> tuple[Candidate, ...]: ...

    def details(self, key: str, clues: Clues, ask: Ask) -> Facts | None: ...


@dataclass(frozen=True)
class Match:
    key: str
    facts: Facts
    is_sure: bool  # by an id, or by nearly everything


def find(catalogue: Catalogue, clues: Clues, ask: Ask, min_score: float) -> Match | Ambiguous | None:
    """By id, else by title, year and duration. Raises what `ask` does."""
    if not catalogue.reads(clues):
        return None
    key = catalogue.lookup(clues, ask)
    if key is not None and (known := catalogue.details(key, clues, ask)) is not None:
        return Match(key, known, is_sure=True)
    if not clues.is_searchable or not clues.searched:
        return None
    likely = shortlist(clues, catalogue.search(clues, ask), min_score)
    if isinstance(likely, Ambiguous):
        return likely
    pages = {one.key: page for one in likely if (page := catalogue.details(one.key, clues, ask)) is not None}
    seen = [closer(one, pages[one.key].year, pages[one.key].duration_s) for one in likely if one.key in pages]
    chosen = choose(clues, seen, min_score)
    if chosen is None or isinstance(chosen, Ambiguous):
        return chosen
    return Match(chosen.key, pages[chosen.key], is_sure=is_sure(clues, chosen))
