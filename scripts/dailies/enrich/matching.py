"""How well a catalogue's entry fits a video, and which one is taken: pure (docs/enrichment.md, "Matching")."""

import difflib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from dailies.enrich.clues import Clues

MARGIN: Final = 0.05  # the best two nearer than this: nobody can tell
MOST_CLOSELY: Final = 3  # so many are looked at closely
SURE: Final = 0.95  # good enough for a title
_ARTICLES: Final = frozenset({"the", "a", "an", "der", "die", "das", "le", "la", "les", "el", "los", "las", "il"})
_UNKNOWN_YEAR: Final = 0.8
_UNKNOWN_YEAR_OF_EPISODE: Final = 0.9  # season and episode say much already
_UNKNOWN_DURATION: Final = 0.95


@dataclass(frozen=True)
class Candidate:
    """An entry that a search found; `titles` are all that it goes by."""

    key: str
    titles: tuple[str, ...]
    year: int | None = None
    duration_s: float | None = None


@dataclass(frozen=True)
class Ambiguous:
    """Several fit as well."""

    titles: tuple[str, ...]


def normal(title: str) -> str:
    """Without case, marks, punctuation and a leading article."""
    marked = unicodedata.normalize("NFKD", title.casefold().replace("&", " and "))
    bare = "".join(character for character in marked if not unicodedata.combining(character))
    words = re.sub(r"[^\w]+|_", " ", bare.replace("'", "").replace("’", "")).split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in _ARTICLES else words)


def similarity(one: str, other: str) -> float:
    """0 to 1, the same both ways; other numbers make another title (`Rocky 2`, `Rocky 3`)."""
    first, second = sorted((normal(one), normal(other)))
    if not first:
        return 0.0
    ratio = difflib.SequenceMatcher(None, first, second, autojunk=False).ratio()
    is_other_number = re.findall(r"\d+", first) != re.findall(r"\d+", second)
    return ratio * 0.6 if is_other_number else ratio


def _year_factor(clues: Clues, year: int | None, *, hopeful: bool) -> float:
    if clues.year is None:
        return _UNKNOWN_YEAR_OF_EPISODE if clues.is_episode else _UNKNOWN_YEAR
    if year is None:
        return 1.0 if hopeful else _UNKNOWN_YEAR
    return {0: 1.0, 1: 0.95, 2: 0.8}.get(abs(clues.year - year), 0.5)


def _duration_factor(clues: Clues, duration_s: float | None, *, hopeful: bool) -> float:
    if clues.duration_s is None:
        return _UNKNOWN_DURATION
    if duration_s is None:
        return 1.0 if hopeful else _UNKNOWN_DURATION
    apart = abs(clues.duration_s - duration_s) / max(clues.duration_s, duration_s, 1.0)
    return next((factor for most, factor in ((0.05, 1.0), (0.15, 0.9), (0.3, 0.75)) if apart <= most), 0.5)


def score(clues: Clues, candidate: Candidate, *, hopeful: bool = False) -> float:
    """0 to 1: the best title, times what years and durations say. `hopeful`: what the entry does not say may yet fit."""
    title = max((similarity(clues.searched, one) for one in candidate.titles), default=0.0)
    years = _year_factor(clues, candidate.year, hopeful=hopeful)
    return title * years * _duration_factor(clues, candidate.duration_s, hopeful=hopeful)


def shortlist(clues: Clues, candidates: Sequence[Candidate], min_score: float) -> tuple[Candidate, ...] | Ambiguous:
    """Those that are worth a closer look, best first; too many that are alike are Ambiguous."""
    once = {candidate.key: candidate for candidate in reversed(candidates)}.values()
    hopes = sorted(((score(clues, one, hopeful=True), one.key, one) for one in once), reverse=True)
    worth = [(hope, one) for hope, _, one in hopes if hope >= min_score]
    alike = [one for hope, one in worth if hope > worth[0][0] - MARGIN]
    if len(alike) > MOST_CLOSELY:
        return Ambiguous(tuple(_shown(one) for one in alike[:MOST_CLOSELY]))
    return tuple(one for _, one in worth[:MOST_CLOSELY])


def choose(clues: Clues, candidates: Sequence[Candidate], min_score: float) -> Candidate | Ambiguous | None:
    """The one that fits; Ambiguous where the best two are within the margin."""
    scored = sorted(((score(clues, one), one.key, one) for one in candidates), reverse=True)
    if not scored or scored[0][0] < min_score:
        return None
    rivals = [one for found, _, one in scored if found > scored[0][0] - MARGIN]
    return Ambiguous(tuple(_shown(one) for one in rivals)) if len(rivals) > 1 else scored[0][2]


def closer(candidate: Candidate, year: int | None, duration_s: float | None) -> Candidate:
    """With what its own page says."""
    return replace(candidate, year=candidate.year or year, duration_s=duration_s or candidate.duration_s)


def _shown(candidate: Candidate) -> str:
    title = candidate.titles[0] if candidate.titles else candidate.key
    return f"{title} ({candidate.year})" if candidate.year else title


def is_sure(clues: Clues, candidate: Candidate) -> bool:
    """Good enough for a title: nearly everything fits, and the year (or the episode) is known."""
    return (clues.year is not None or clues.is_episode) and score(clues, candidate) >= SURE - (0.1 if clues.is_episode else 0)
