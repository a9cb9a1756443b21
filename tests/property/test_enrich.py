"""Laws of enrichment: exact retries, catalogues that are skipped and found again, and filling that is the same every time."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from catalogues import TOKEN, TmdbServer
from dailies.clock import Deadline
from dailies.config import Enrich
from dailies.enrich import CATALOGUES, Enricher, filling
from dailies.enrich.facts import Facts, Said
from dailies.http import Http
from dailies.model import Metadata, Source, Video
from loopback import Reply
from support import FakeClock

AT = "2026-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def server() -> Iterator[TmdbServer]:
    with TmdbServer() as found:
        yield found


def video(name: str = "film [tmdbid-603].mp4", **changes: Any) -> Video:
    source = Source(kind="file", uri=f"media/{name}", original_name=name, size_bytes=1, identity="a" * 64)
    return Video(id="film-0123456789ab", code="film", title=Path(name).stem, source=source, created_at=AT, updated_at=AT, **changes)


def enricher(server: TmdbServer, work: Path, clock: FakeClock) -> Enricher:
    chosen = Enrich(catalogues=("tmdb",), tmdb_url=server.url)
    return Enricher(chosen, work, work, Http(clock), clock, {"TMDB_TOKEN": TOKEN})


# Property 15: after the first try 2 retries, 2^n seconds before the n-th, on trouble that may pass


@dataclass(frozen=True)
class Kind:
    """An answer, whether asking again may help, and how long it wants us to wait."""

    reply: Reply
    passes: bool
    wait_s: float = 0


FINE = Kind(Reply.json({"title": "The Matrix"}), passes=False)
KINDS = {
    "fine": FINE,
    "error": Kind(Reply(500, b"out of order"), passes=True),
    "page": Kind(Reply(200, b"<html>"), passes=True),
    "shape": Kind(Reply.json([1]), passes=True),
    "soon": Kind(Reply(429, b"", {"Retry-After": "1"}), passes=True, wait_s=1),
    "later": Kind(Reply(429, b"", {"Retry-After": "9"}), passes=True, wait_s=9),
    "much later": Kind(Reply(503, b"", {"Retry-After": "7200"}), passes=True, wait_s=7200),
    "denied": Kind(Reply(401, b"{}"), passes=False),
    "refused": Kind(Reply(400, b"{}"), passes=False),
    "absent": Kind(Reply(404, b"{}"), passes=False),
}


def expected_waits(said: list[str], left_s: float) -> list[float]:
    """Seconds between the requests of one question."""
    waits: list[float] = []
    for attempt, kind in enumerate((KINDS[name] for name in said[:2]), 1):
        wait = max(2.0**attempt, kind.wait_s)
        if not kind.passes or wait >= left_s - sum(waits):
            break
        waits.append(wait)
    return waits


@given(said=st.lists(st.sampled_from(sorted(KINDS)), min_size=3, max_size=3), left_s=st.sampled_from([1.0, 3.0, 5.0, 8.0, 100.0]))
@settings(deadline=None, max_examples=50)
def test_a_question_is_asked_again_twice_after_two_and_four_seconds(said: list[str], left_s: float, server: TmdbServer) -> None:
    """Feature: github-workflow-bug-fixes, Property 15: two retries after the first try, after 2^n s."""
    clock, moments = FakeClock(), []
    answers = iter([KINDS[name].reply for name in said])

    def answer(_call: object) -> Reply:
        moments.append(clock.elapsed)
        return next(answers)

    server.instead = answer
    with TemporaryDirectory() as work:
        enricher(server, Path(work), clock).enrich(video("[tmdbid-603].mp4"), Deadline.after(clock, left_s))

    waits = [later - sooner for sooner, later in pairwise(moments)]
    assert waits == pytest.approx(expected_waits(said, left_s))


# Property 16: 5 videos in a row without success, then one probe a run


def expected_asks(runs: list[list[bool]]) -> list[list[bool]]:
    """Which videos of which runs ask; True of a video is that the catalogue would answer it."""
    failures, asks = 0, []
    for run in runs:
        asked: list[bool] = []
        may_probe = failures >= 5
        for answers in run:
            is_asked = failures < 5 or may_probe
            asked.append(is_asked)
            if is_asked:
                failures, may_probe = (0 if answers else failures + 1), False
        asks.append(asked)
    return asks


@given(runs=st.lists(st.lists(st.sampled_from([True, *[False] * 9]), min_size=3, max_size=8), min_size=2, max_size=3))
@example(runs=[[False] * 7, [False, True, False], [True, False, True]])
@example(runs=[[False, False, False], [False] * 5, [False] * 3, [True] * 2])
@example(runs=[[False] * 4 + [True] + [False] * 6])
@settings(deadline=None, max_examples=15)
def test_a_catalogue_that_fails_five_videos_in_a_row_is_skipped_but_for_one_probe_a_run(
    runs: list[list[bool]], server: TmdbServer
) -> None:
    """Feature: github-workflow-bug-fixes, Property 16: five videos in a row without success: skipped, with one probe a run."""
    clock, number, asks = FakeClock(), 0, []
    with TemporaryDirectory() as work:
        for run in runs:
            of_run, asked = enricher(server, Path(work), clock), []
            for answers in run:
                number += 1
                server.instead = lambda _call, answers=answers: Reply(404 if answers else 400, b"{}")
                before = len(server.calls)
                one = video(f"film {number} [tmdbid-{number}].mp4")
                assert of_run.enrich(one, Deadline.after(clock, 600)) is one
                asked.append(len(server.calls) > before)
            asks.append(asked)

    assert asks == expected_asks(runs)


# Filling


FACTS = st.builds(
    Facts,
    title=st.none() | st.sampled_from(["A", "B"]),
    description=st.none() | st.sampled_from(["one", "two"]),
    release_date=st.none() | st.just("2024-05-03"),
    views=st.none() | st.integers(0, 3),
    categories=st.lists(st.sampled_from("xyz")),
    people=st.lists(st.sampled_from(["Ann", "Ben"])),
    tags=st.lists(st.sampled_from(["a", "A", "b", "c"])),
    studio=st.none() | st.sampled_from(["S", "T"]),
)
PLACES = ["sidecar:dailies", "sidecar:nfo", "sidecar:info.json", "embedded", "tmdb:1", "tmdb:2", "tvmaze:1", "wikidata:Q1"]
RANKS = filling.Ranks(("tmdb", "tvmaze"), CATALOGUES)
SAID = st.lists(  # no place speaks twice
    st.builds(Said, where=st.sampled_from(PLACES), facts=FACTS, is_sure=st.booleans()), unique_by=lambda one: RANKS.of(one.where)
)
FIELDS = (*filling.FIELDS, "tags", "title")
METADATA = st.builds(
    Metadata,
    description=st.sampled_from(["", "by hand"]),
    views=st.none() | st.just(0),
    categories=st.sampled_from([(), ("by hand",)]),
    tags=st.sampled_from([(), ("by hand",), ("a",)]),
    provenance=st.dictionaries(st.sampled_from(FIELDS), st.sampled_from([*PLACES, "person", "elsewhere"]), max_size=3),
)
VIDEOS = st.builds(
    lambda metadata, title, edited: video(metadata=metadata, edited_at=dict.fromkeys(edited, AT)).with_(title=title),
    METADATA,
    st.sampled_from(["film [tmdbid-603]", "by hand"]),
    st.sets(st.sampled_from(FIELDS), max_size=3),
)


@given(VIDEOS, SAID)
@settings(deadline=None)
def test_filling_twice_is_filling_once(one: Video, said: list[Said]) -> None:
    once = filling.fill(one, said, RANKS)

    assert filling.fill(once, said, RANKS) is once


@given(VIDEOS, SAID)
@settings(deadline=None)
def test_the_order_of_what_is_said_does_not_matter(one: Video, said: list[Said]) -> None:
    assert filling.fill(one, said, RANKS) == filling.fill(one, said[::-1], RANKS)


@given(VIDEOS, SAID)
@settings(deadline=None)
def test_a_persons_words_stay_and_what_changed_says_where_from(one: Video, said: list[Said]) -> None:
    after = filling.fill(one, said, RANKS)
    changed = filling.filled(one, after)

    person = {field for field in FIELDS if field in one.edited_at or one.metadata.provenance.get(field) == "person"} - {"tags"}
    person |= {field for field in filling.FIELDS if getattr(one.metadata, field) and field not in one.metadata.provenance}
    assert not person & changed.keys()
    assert set(one.metadata.tags) <= set(after.metadata.tags)
    assert all(where.rpartition(", ")[2] in {one.where for one in said} for where in changed.values())


@given(SAID)
@settings(deadline=None)
def test_of_all_that_is_said_the_best_place_is_taken(said: list[Said]) -> None:
    after = filling.fill(video(), said, RANKS)

    for field in filling.FIELDS:
        places = [one.where for one in said if getattr(one.facts, field) not in (None, ())]
        assert after.metadata.provenance.get(field) == min(places, key=RANKS.of, default=None)


@given(VIDEOS, SAID)
@settings(deadline=None)
def test_a_value_gives_way_only_to_a_better_place(one: Video, said: list[Said]) -> None:
    after = filling.fill(one, said, RANKS)

    for field in filling.FIELDS:
        before = one.metadata.provenance.get(field)
        if getattr(one.metadata, field) and before is not None and field not in one.edited_at:
            assert RANKS.of(after.metadata.provenance[field]) <= RANKS.of(before)
