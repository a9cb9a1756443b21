"""Laws of the record merge: commutative, idempotent, and writers in any order of arrival converge to one record."""

import copy
import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dailies import merge
from dailies.merge import STATE_ORDER, UPLOAD_ORDER

Json = dict[str, Any]
_MOMENTS = st.integers(0, 5).map(lambda number: f"2026-01-0{number + 1}T00:00:00Z")
_TAGS = st.lists(st.sampled_from("abcde"), unique=True, max_size=4)
_UPLOAD = st.fixed_dictionaries(
    {
        "status": st.sampled_from(UPLOAD_ORDER),
        "retry_count": st.integers(0, 3),
        "remote_id": st.sampled_from([None, "one", "two"]),
        "at": _MOMENTS,
        "previous": st.just([]),
    }
)
_RECORDS = st.fixed_dictionaries(
    {
        "id": st.just("clip-000000000000"),
        "epoch": st.integers(0, 2),
        "state": st.sampled_from(STATE_ORDER),
        "retry_count": st.integers(0, 4),
        "interruptions": st.integers(0, 4),
        "last_error": st.sampled_from([None, {"message": "one"}, {"message": "two"}]),
        "steps": st.dictionaries(st.sampled_from(["fetch", "convert"]), st.fixed_dictionaries({"at": _MOMENTS}), max_size=2),
        "warnings": st.just([]),
        "title": st.sampled_from(["First", "Second", "Third"]),
        "metadata": st.fixed_dictionaries(
            {"tags": _TAGS, "studio": st.sampled_from([None, "one", "two"]), "extra": st.integers(0, 2)}
        ),
        "edited_at": st.dictionaries(st.sampled_from(["title", "studio"]), _MOMENTS, max_size=2),
        "uploads": st.dictionaries(
            st.sampled_from(["a", "b"]), st.dictionaries(st.sampled_from(["video", "preview"]), _UPLOAD), max_size=2
        ),
        "file": st.sampled_from([None, {"sha256": "1"}, {"sha256": "2"}]),
        "deleted_at": st.one_of(st.none(), _MOMENTS),
        "created_at": _MOMENTS,
        "updated_at": _MOMENTS,
        "from_the_future": st.integers(0, 2),
    }
)


@st.composite
def _writers(draw: st.DrawFn) -> tuple[Json, list[Json]]:
    """A base, and what up to four writers made of it: each changed some fields."""
    base = draw(_RECORDS)
    changed = []
    for _ in range(draw(st.integers(2, 4))):
        other = draw(_RECORDS)
        keys = draw(st.sets(st.sampled_from(sorted(other))))
        changed.append({**copy.deepcopy(base), **{key: other[key] for key in keys}})
    return base, changed


@settings(max_examples=200, deadline=None)
@given(_writers())
def test_the_order_of_two_sides_does_not_matter(made: tuple[Json, list[Json]]) -> None:
    base, (one, two, *_) = made
    assert merge.merge(base, one, two) == merge.merge(base, two, one)


@settings(max_examples=200, deadline=None)
@given(_RECORDS, _RECORDS)
def test_merging_with_itself_changes_nothing(base: Json, record: Json) -> None:
    merged = merge.merge(base, record, record)
    assert {key: value for key, value in merged.items() if key != "conflicts"} == record


@settings(max_examples=200, deadline=None)
@given(_RECORDS, _RECORDS)
def test_a_side_that_changed_nothing_yields(base: Json, record: Json) -> None:
    merged = merge.merge(base, record, base)
    for key in ("title", "metadata", "file", "from_the_future"):
        assert merged[key] == record[key]
    if record["epoch"] == base["epoch"]:
        assert merged["state"] == record["state"]


@settings(max_examples=300, deadline=None)
@given(_writers())
def test_writers_in_any_order_of_arrival_converge_to_one_record(made: tuple[Json, list[Json]]) -> None:
    base, writers = made
    outcomes = []
    for order in itertools.permutations(writers):
        tip = base
        for writer in order:
            tip = merge.merge(base, writer, tip)
        outcomes.append(tip)
    assert all(outcome == outcomes[0] for outcome in outcomes)


@settings(max_examples=200, deadline=None)
@given(_writers())
def test_a_success_is_never_lost(made: tuple[Json, list[Json]]) -> None:
    base, writers = made
    tip = base
    for writer in writers:
        tip = merge.merge(base, writer, tip)
    for writer in writers:
        for host, kinds in writer["uploads"].items():
            for kind, upload in kinds.items():
                if upload["status"] == "SUCCESS":
                    kept = tip["uploads"][host][kind]
                    ids = {kept["remote_id"], *(entry["remote_id"] for entry in kept["previous"])}
                    assert kept["status"] == "SUCCESS"
                    assert upload["remote_id"] in ids


@settings(max_examples=200, deadline=None)
@given(_RECORDS, st.text(max_size=5), st.text(max_size=5), _MOMENTS, _MOMENTS)
def test_the_later_edit_wins_and_the_loser_is_kept(base: Json, one: str, two: str, first: str, second: str) -> None:
    ours = {**base, "title": f"ours {one}", "edited_at": {"title": first}}
    theirs = {**base, "title": f"theirs {two}", "edited_at": {"title": second}}

    merged = merge.merge(base, ours, theirs)

    if first != second:
        assert merged["title"] == (ours if first > second else theirs)["title"]
    losers = {entry["value"] for entry in merged["conflicts"] if entry["field"] == "title"}
    assert {merged["title"], *losers} == {ours["title"], theirs["title"]}


def test_an_upload_that_was_given_up_stays_so_beside_an_edit_and_its_copy_stays_listed() -> None:
    there = {"status": "SUCCESS", "remote_id": "1", "epoch": 0, "previous": []}
    forced = {"status": "IN_PROGRESS", "attempt_id": "a", "epoch": 1, "previous": [{"remote_id": "1"}]}
    base, ours, theirs = ({"uploads": {"a": {"video": one}}} for one in (there, forced, {**there, "error": None}))

    for sides in ((ours, theirs), (theirs, ours)):
        merged = merge.merge(base, *sides)["uploads"]["a"]["video"]
        assert (merged["status"], merged["previous"]) == ("IN_PROGRESS", [{"remote_id": "1"}])
