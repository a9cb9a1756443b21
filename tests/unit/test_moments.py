"""Which moments are worth showing: laws of the pure functions that rank and choose."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dailies.config import PreviewSettings
from dailies.media.analysis import PROFILES, Candidate, Factor, Gate, Wanted, wanted
from dailies.media.child.cuts import CLEAN_S, clear_start
from dailies.media.child.moments import Choice, Chooser, Look, Raw, Settled, candidates, gate, ranks, winner
from dailies.media.child.survey import _span
from dailies.model import Shot

VALUES = st.lists(st.none() | st.integers(-1000, 1000).map(float), max_size=30)
WEIGHTS = st.sampled_from(list(PROFILES.values()))
RAWS = st.lists(
    st.builds(
        Raw,
        t_s=st.floats(0, 5000),
        people=st.floats(0, 1),
        motion=st.none() | st.floats(0, 200),
        audio=st.none() | st.floats(-120, 0),
        complexity=st.floats(0, 100),
        colour=st.floats(0, 180),
        gate=st.none() | st.sampled_from(Gate),
    ),
    max_size=20,
)


@given(VALUES, st.integers(-1000, 1000))
def test_ranks_are_shares_that_rise_with_their_values(values: list[float | None], floor: int) -> None:
    found = ranks(values, floor)

    assert len(found) == len(values)
    assert all(0 <= rank <= 1 for rank in found)
    pairs = sorted((max(value, floor), rank) for value, rank in zip(values, found, strict=True) if value is not None)
    for (low, low_rank), (high, high_rank) in itertools.pairwise(pairs):
        assert low_rank == high_rank if low == high else low_rank < high_rank


@given(VALUES)
def test_what_is_unknown_stands_in_the_middle_and_no_one_else_moves_for_it(values: list[float | None]) -> None:
    known = [value for value in values if value is not None]

    found = ranks(values, -2000.0)

    assert [rank for rank, value in zip(found, values, strict=True) if value is not None] == ranks(known, -2000.0)
    assert all(rank == 0.5 for rank, value in zip(found, values, strict=True) if value is None)


@given(st.lists(st.integers(-1000, 1000).map(float), min_size=2, max_size=30, unique=True))
def test_the_least_of_different_values_is_0_and_the_greatest_1(values: list[float]) -> None:
    found = ranks(values, -2000.0)

    assert (found[values.index(min(values))], found[values.index(max(values))]) == (0.0, 1.0)


@given(VALUES)
def test_ranks_of_the_opposite_are_the_opposite(values: list[float | None]) -> None:
    """Equal values stand in the middle of the places that they share."""
    opposite = ranks([None if value is None else -value for value in values], -2000.0)

    assert opposite == pytest.approx([1 - rank for rank in ranks(values, -2000.0)])


@given(VALUES, st.integers(1, 5), st.integers(-50, 50))
def test_ranks_know_no_unit(values: list[float | None], scale: int, offset: int) -> None:
    changed = [None if value is None else value * scale + offset for value in values]

    assert ranks(changed, -1e6) == ranks(values, -1e6)


@given(RAWS, WEIGHTS)
def test_every_candidate_keeps_its_time_and_its_gate_and_has_a_score_between_its_factors(
    raw: list[Raw], weights: dict[Factor, float]
) -> None:
    found = candidates(raw, weights)

    assert [(one.t_s, one.gate) for one in found] == [(round(one.t_s, 3), one.gate) for one in raw]
    for one in found:
        asked = [getattr(one, factor.value) for factor, weight in weights.items() if weight]
        assert min(asked) - 0.001 <= one.score <= max(asked) + 0.001
        assert winner(one, weights) in Factor


@given(RAWS)
def test_weights_count_by_their_proportion_only(raw: list[Raw]) -> None:
    doubled = {factor: 2 * weight for factor, weight in PROFILES["balanced"].items()}

    scores = zip(candidates(raw, doubled), candidates(raw, PROFILES["balanced"]), strict=True)
    assert all(one.score == pytest.approx(other.score, abs=0.0002) for one, other in scores)


def candidate(t_s: float, score: float = 0.5, gate: Gate | None = None) -> Candidate:
    return Candidate(t_s=t_s, score=score, gate=gate, motion=score, audio=score, complexity=score, people=score, colour=score)


def chosen(
    found: list[Candidate],
    *,
    first_s: float = 0.0,
    last_s: float,
    count: int = 10,
    length_s: float = 3.0,
    settle: Callable[[int], Settled | None] | None = None,
    unlike: Callable[[int, int], float] = lambda _, __: 100.0,
) -> Choice:
    def at_once(index: int) -> Settled:
        return Settled(found[index].t_s, Shot(start_s=found[index].t_s, end_s=found[index].t_s + length_s))

    chooser = Chooser(
        candidates=found,
        weights=PROFILES["balanced"],
        first_s=first_s,
        last_s=last_s,
        count=count,
        length_s=length_s,
        settle=settle or at_once,
        unlike=unlike,
    )
    return chooser.choose()


FOUND = st.lists(
    st.builds(candidate, st.integers(0, 3000).map(lambda t: t / 10), st.floats(0, 1), st.none() | st.sampled_from(Gate)),
    max_size=60,
    unique_by=lambda one: one.t_s,
).map(lambda found: sorted(found, key=lambda one: one.t_s))
CUTS = st.lists(st.integers(0, 3000).map(lambda t: t / 10), max_size=40, unique=True).map(sorted)


@given(FOUND, CUTS, st.integers(1, 12), st.sampled_from([0.5, 3.0, 10.0]), st.integers(0, 100), st.integers(150, 300))
@example([candidate(10.0, 0.9), candidate(13.2)], [12.95], 2, 3.0, 0, 150)
def test_clips_never_overlap_and_never_leave_the_part_that_may_be_shown(
    found: list[Candidate], cuts: list[float], count: int, length_s: float, first_s: int, last_s: int
) -> None:
    found = [one for one in found if first_s <= one.t_s <= last_s]

    def settle(index: int) -> Settled | None:
        start = clear_start(found[index].t_s, cuts, min(CLEAN_S, length_s))
        shot = Shot(start_s=start, end_s=start + length_s)
        return Settled(start, shot) if start <= found[index].t_s + length_s else None

    clips = chosen(found, first_s=first_s, last_s=last_s, count=count, length_s=length_s, settle=settle).clips

    assert len(clips) <= count
    assert all(two.start_s - one.start_s >= length_s - 0.001 for one, two in itertools.pairwise(clips))
    assert all(clip.start_s + clip.length_s <= last_s + 0.01 for clip in clips)
    assert all(not clip.start_s < cut - 0.001 < clip.start_s + min(CLEAN_S, length_s) - 0.002 for clip in clips for cut in cuts)


@pytest.mark.parametrize("cut_s", [9.9, 10.05])
def test_no_clip_begins_before_the_part_that_may_be_shown(cut_s: float) -> None:
    """A moment of that part, right after a cut: the clip may start on the cut only where the cut is in that part as well."""
    found = [candidate(10.1), candidate(40.0, 0.2)]

    def settle(index: int) -> Settled:
        start = clear_start(found[index].t_s, [cut_s], CLEAN_S)
        return Settled(start, Shot(start_s=start, end_s=start + 3))

    clips = chosen(found, first_s=10.0, last_s=60.0, count=1, settle=settle).clips

    assert len(clips) == 1
    assert clips[0].start_s >= 10.0


@given(FOUND, st.integers(1, 12))
def test_nothing_black_white_or_flat_is_ever_chosen(found: list[Candidate], count: int) -> None:
    choice = chosen(found, last_s=300, count=count)

    hard = {one.t_s for one in found if one.gate in {Gate.BLACK, Gate.WHITE, Gate.FLAT}}
    assert hard.isdisjoint(clip.start_s for clip in choice.clips)


@given(FOUND)
def test_the_best_moment_of_all_is_always_shown(found: list[Candidate]) -> None:
    plain = [one for one in found if one.gate is None and one.t_s <= 297]
    choice = chosen(found, last_s=300, count=2)

    if plain:
        assert max(one.score for one in plain) in {clip.score for clip in choice.clips}


@given(FOUND, st.integers(1, 12))
def test_the_same_candidates_give_the_same_choice(found: list[Candidate], count: int) -> None:
    assert chosen(found, last_s=300, count=count) == chosen(found, last_s=300, count=count)


def test_a_near_equal_moment_is_passed_over_and_says_so() -> None:
    found = [candidate(10.0 * number, 0.9 - number / 100) for number in range(20)]
    alike = {3: 0, 5: 4}

    choice = chosen(
        found, last_s=200, count=10, unlike=lambda one, other: 1.0 if alike.get(max(one, other)) == min(one, other) else 50.0
    )

    starts = {clip.start_s for clip in choice.clips}
    assert not {0.0, 30.0} <= starts
    assert not {40.0, 50.0} <= starts
    assert Gate.NEAR_EQUAL in choice.gates.values()


def test_a_moment_without_a_second_of_one_shot_is_passed_over_and_says_so() -> None:
    found = [candidate(10.0 * number, 0.9 - number / 100) for number in range(12)]

    choice = chosen(
        found, last_s=200, count=3, settle=lambda index: None if index == 0 else Settled(10.0 * index, Shot(start_s=0, end_s=1))
    )

    assert choice.gates[0] is Gate.CUTS
    assert 0.0 not in {clip.start_s for clip in choice.clips}


def test_clips_that_lie_together_give_their_weakest_for_the_best_of_the_rest() -> None:
    """The best moments fill the first half of a film; 70 % of it are covered nevertheless, by the best of the other half."""
    rich = [candidate(2.0 * number, 0.9) for number in range(50)]
    dull = [candidate(2.0 * number, 0.2 if number == 80 else 0.1) for number in range(50, 98)]

    clips = chosen([*rich, *dull], last_s=200, count=4).clips

    assert len(clips) == 4
    assert clips[-1].start_s - clips[0].start_s >= 0.7 * 200
    assert [clip.score for clip in clips] == [0.9, 0.9, 0.9, 0.2]


def test_a_moment_worth_nothing_is_not_shown_for_the_sake_of_distance() -> None:
    """Eight seconds rich in moments, eight dull ones, and so on: two thirds of the film are dull."""
    found = [candidate(2.0 * number, 0.9 if number // 4 % 3 == 0 else 0.1) for number in range(120)]

    clips = chosen(found, last_s=240).clips

    assert len(clips) == 10
    assert sum(clip.score == 0.9 for clip in clips) >= 9


GOOD = Look(
    brightness=120.0,
    dark=200.0,
    light=20.0,
    contrast=40.0,
    motion=3.0,
    entropy=7.0,
    sharpness=10.0,
    skin=0.1,
    colour=20.0,
    plain=0.2,
)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"dark": 20.0, "contrast": 3.0, "motion": 0.0}, Gate.BLACK),
        ({"light": 230.0, "contrast": 3.0}, Gate.WHITE),
        ({"contrast": 3.0, "motion": 0.0}, Gate.FLAT),
        ({"motion": 0.0}, Gate.FROZEN),
        ({"motion": 0.2}, Gate.FROZEN),  # what compression makes of a still is little in a lively film
        ({"motion": 0.2, "lively": 0.4}, None),  # a calm one may move as little
        ({"motion": 0.04, "lively": 0.1}, Gate.FROZEN),
        ({"motion": None}, None),
        ({"sharpness": 1.0}, Gate.BLURRED),
        ({"plain": 0.9, "at": 0.02}, Gate.TITLES),
        ({"plain": 0.9, "at": 0.95}, Gate.TITLES),
        ({"plain": 0.9, "at": 0.5}, None),
    ],
)
def test_what_speaks_against_a_moment(changes: dict[str, Any], said: Gate | None) -> None:
    of_film: dict[str, float] = {"at": 0.5, "usual_sharpness": 10.0, "lively": 4.0}
    of_film |= {key: value for key, value in changes.items() if key in of_film}
    look = replace(GOOD, **{key: value for key, value in changes.items() if key not in of_film})

    assert gate(look, **of_film) is said


@given(st.floats(0.01, 5000), st.floats(0, 600), st.floats(0, 600), st.sampled_from([0.5, 3.0, 10.0]))
def test_the_part_that_may_be_shown_leaves_out_what_it_must_or_is_the_whole_of_a_short_video(
    duration_s: float, start_s: float, end_s: float, length_s: float
) -> None:
    first_s, last_s = _span(duration_s, Wanted(clip_length=length_s, exclude_start_s=start_s, exclude_end_s=end_s))

    if duration_s - start_s - end_s > length_s:
        assert (first_s, last_s) == (start_s, duration_s - end_s)
    else:
        assert (first_s, last_s) == (0.0, duration_s)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_settings_become_what_is_asked_for(profile: str) -> None:
    asked = wanted(PreviewSettings.model_validate({"profile": profile, "clips": 4, "exclude_start": "90s", "exclude_end": 5}))

    assert (asked.clips, asked.exclude_start_s, asked.exclude_end_s, asked.weights) == (4, 90.0, 5.0, PROFILES[profile])
    assert sum(asked.weights.values()) == pytest.approx(1.0)


def test_weights_of_ones_own_stand_for_the_profile() -> None:
    asked = wanted(PreviewSettings.model_validate({"profile": "talk", "weights": {"motion": 0.7, "audio": 0.3}}))

    assert asked.weights == {Factor.MOTION: 0.7, Factor.AUDIO: 0.3}
