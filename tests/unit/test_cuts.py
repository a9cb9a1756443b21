"""Where shots begin and where clips may start: laws of the pure functions, and cuts in pictures made by hand."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dailies.media.child.cuts import CLEAN_S, LEAD_S, CutFinder, clear_start
from dailies.media.child.measures import Picture

TIMES = st.integers(0, 12_000).map(lambda number: number / 1000)
CUTS = st.lists(TIMES, max_size=12, unique=True).map(sorted)


def found_in(pictures: Sequence[Picture]) -> list[int]:
    """Numbers of the pictures with which a shot begins."""
    finder = CutFinder()
    return [number for number, picture in enumerate(pictures) if finder.is_cut(picture)]


def texture(seed: int) -> Picture:
    chance = np.random.default_rng(seed)
    return chance.integers(16, 235, (3, 6, 10), np.uint8).repeat(8, axis=1).repeat(8, axis=2)


def still(seed: int, count: int) -> list[Picture]:
    return [texture(seed)] * count


@given(TIMES, CUTS)
def test_a_clip_starts_on_a_cut_or_at_least_so_long_after_one(t_s: float, cuts: list[float]) -> None:
    start = clear_start(t_s, cuts, CLEAN_S)

    assert start in cuts or all(cut > start or start - cut >= LEAD_S for cut in cuts)


@given(TIMES, CUTS, st.sampled_from([0.1, 0.5, CLEAN_S]))
def test_no_cut_lies_within_the_seconds_that_a_clip_needs(t_s: float, cuts: list[float], need_s: float) -> None:
    start = clear_start(t_s, cuts, need_s)

    assert [cut for cut in cuts if start < cut < start + need_s] == []


@given(TIMES, CUTS)
def test_a_clip_moves_only_where_it_must(t_s: float, cuts: list[float]) -> None:
    start = clear_start(t_s, cuts, CLEAN_S)
    is_free = all(cut > t_s or t_s - cut >= LEAD_S for cut in cuts) and not any(t_s < cut < t_s + CLEAN_S for cut in cuts)

    assert start == t_s if is_free else start in cuts
    assert start >= t_s or t_s - start < LEAD_S


@given(TIMES, CUTS)
def test_a_settled_start_is_left_where_it_is(t_s: float, cuts: list[float]) -> None:
    start = clear_start(t_s, cuts, CLEAN_S)

    assert clear_start(start, cuts, CLEAN_S) == start


def test_a_new_shot_is_found_with_its_first_picture() -> None:
    assert found_in([*still(1, 10), *still(2, 10), *still(3, 2), *still(4, 5)]) == [10, 20, 22]


def test_the_first_picture_begins_no_shot() -> None:
    assert found_in(still(1, 1)) == []


@pytest.mark.parametrize("step", [1, 2, 4])
def test_a_steady_pan_has_no_cut(step: int) -> None:
    """Behind the second picture: with that one begins what is known of the speed."""
    wide = np.concatenate([texture(seed) for seed in range(4)], axis=2)
    smooth = np.mean([np.roll(wide, by, axis=2) for by in range(8)], axis=0).astype(np.uint8)

    assert [number for number in found_in([smooth[:, :, at : at + 80] for at in range(8, 8 + 40 * step, step)]) if number > 1] == []


def test_a_fade_and_noise_have_no_cut() -> None:
    chance = np.random.default_rng(1)
    fade = [(texture(1) * (1 - number / 50)).astype(np.uint8) for number in range(50)]
    noisy = [np.clip(texture(1) + chance.normal(0, 6, (3, 48, 80)), 0, 255).astype(np.uint8) for _ in range(20)]

    assert found_in(fade) == []
    assert found_in(noisy) == []
