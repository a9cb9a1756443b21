"""Looking at a few keyframes of a long video, and closer at those that were chosen."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dailies.media.analysis import Wanted
from dailies.media.child import cuts, measures, phash
from dailies.media.child.cuts import CutFinder
from dailies.media.child.film import Film, Table
from dailies.media.child.frame import SMALL, Frame
from dailies.media.child.moments import Settled
from dailies.media.child.sight import Sample, Sight, settled

SOUND_S: Final = 1.5  # listened to from a candidate on
_USUAL_SPREAD: Final = 0.1  # coefficient of variation of sizes below which they say nothing: constant bit rate
_PRIOR_S: Final = 3.0
Positions = NDArray[np.int64]  # in the table


def look_at_keyframes(film: Film, table: Table, keys: tuple[Positions, Positions], duration_s: float, wanted: Wanted) -> Sight:
    """`keys` are those that may be shown and the others."""
    sound_s = min(wanted.clip_length, SOUND_S)
    usable, outside = keys
    count = min(wanted.candidates, round(wanted.candidates * len(outside) / max(1, len(usable))))
    samples = _bursts(film, table, _spread(table, usable, wanted.candidates), sound_s)
    others = _bursts(film, table, _spread(table, outside, count), 0.0)
    last = _bursts(film, table, [int(table.keyframes()[-1])], 0.0)
    if not last and samples:  # cut short: the index promises what is not there
        duration_s = max(one.t_s for one in [*samples, *others]) + 1 / film.fps

    def settle(index: int) -> Settled | None:
        return _look_closer(film, samples[index], wanted, duration_s)

    lumas = sorted(((one.t_s, phash.shrunk(one.small[0])) for one in [*samples, *others]), key=lambda one: one[0])
    return Sight(duration_s, samples, others, settle, lumas, None)


def _bursts(film: Film, table: Table, positions: Sequence[int], sound_s: float) -> list[Sample]:
    samples: list[Sample] = []
    for position in positions:
        stamp, frames, loudness = film.burst(int(table.stamps[position]), sound_s)
        if frames and (not samples or frames[0].t_s > samples[-1].t_s):
            samples.append(_sample(film, stamp, frames, loudness))
    return samples


def _spread(table: Table, usable: Positions, count: int) -> list[int]:
    """One keyframe of each of `count` equal parts: in turn the one in the middle and the one before the most bytes.

    Sizes are a prior only: they tell where something may happen, never what is shown (the ABR trap, facts/media 6.2).
    """
    if len(usable) <= count:
        return [int(one) for one in usable]
    times = table.times_s[usable]
    edges = np.linspace(times[0], times[-1] + 0.001, count + 1)
    small = np.where(table.keys, 0, table.sizes)
    total = np.append(0, np.cumsum(small))
    ends = np.searchsorted(table.times_s[usable], times + _PRIOR_S)
    after = np.append(usable, len(small))[np.minimum(ends, len(usable))]
    spans = np.append(times, times[-1] + _PRIOR_S)[np.minimum(ends, len(usable))] - times
    rates = (total[after] - total[usable]) / np.maximum(spans, 0.1)
    says_something = rates.std() > _USUAL_SPREAD * max(rates.mean(), 1.0)
    found = []
    for number in range(count):
        inside = np.flatnonzero((times >= edges[number]) & (times < edges[number + 1]))
        if not len(inside):
            continue
        middle = (edges[number] + edges[number + 1]) / 2
        by_size = number % 2 and says_something
        best = inside[rates[inside].argmax()] if by_size else inside[np.abs(times[inside] - middle).argmin()]
        found.append(int(usable[best]))
    return found


def _sample(film: Film, stamp: int | None, frames: Sequence[Frame], loudness: float | None) -> Sample:
    tile, small = frames[0].tile(film.aspect)
    first = measures.blocks(small)
    last = measures.blocks(frames[-1].picture(SMALL, film.aspect)) if len(frames) > 1 else None
    moved = measures.motion(first, last) if last is not None else None
    return Sample(frames[0].t_s, stamp, tile, small, first, measures.look(small, moved), loudness)


def _look_closer(film: Film, sample: Sample, wanted: Wanted, duration_s: float) -> Settled | None:
    """Decode from the keyframe to the end of the clip: where are cuts?

    First only the pictures that others are made from, about half the work: where these differ little there is no cut.
    """
    lead_s = cuts.LEAD_S if sample.t_s > 1.5 / film.fps else 0.0  # before the very first picture there is no shot
    wish = sample.t_s + lead_s
    length_s = max(min(cuts.CLEAN_S, wanted.clip_length), wanted.clip_length)
    changes = CutFinder()
    for frame in film.pictures(sample.stamp, min(wish + length_s, duration_s), references_only=True):
        if changes.is_cut(frame.picture(cuts.SIDE, film.aspect)):
            return _look_at_each(film, sample, wanted, wish, duration_s)
    return settled(wish, wish, [], sample.t_s, wanted)


def _look_at_each(film: Film, sample: Sample, wanted: Wanted, wish: float, duration_s: float) -> Settled | None:
    need_s = min(cuts.CLEAN_S, wanted.clip_length)
    finder, found, start = CutFinder(), list[float](), wish
    limit_s = wish + 2 * wanted.clip_length + 1
    for frame in film.pictures(sample.stamp, min(limit_s, duration_s)):
        if finder.is_cut(frame.picture(cuts.SIDE, film.aspect)):
            found.append(frame.t_s)
            start = cuts.clear_start(wish, found, need_s)
        if frame.t_s >= start + max(need_s, wanted.clip_length):
            break
    return settled(wish, start, found, sample.t_s, wanted)
