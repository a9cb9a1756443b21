"""Looking at a few keyframes of a long video, and closer at those that were chosen."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dailies.media.analysis import Gate, Wanted
from dailies.media.child import cuts, measures, moments, phash
from dailies.media.child.cuts import CutFinder
from dailies.media.child.film import Film, Table
from dailies.media.child.frame import SMALL, Frame
from dailies.media.child.measures import Picture
from dailies.media.child.moments import Look, Settled
from dailies.media.child.sight import Sample, Sight, settled

SOUND_S: Final = 1.5  # listened to from a candidate on
_USUAL_SPREAD: Final = 0.1  # coefficient of variation of sizes below which they say nothing: constant bit rate
_PRIOR_S: Final = 3.0
_JUMP: Final = 0.8  # of all change in a burst
_WATCH_S: Final = 0.2
_STILL_CLIP: Final = 0.25  # grey levels that a still may seem to change by over seconds
Positions = NDArray[np.int64]  # in the table


def look_at_keyframes(film: Film, table: Table, keys: tuple[Positions, Positions], duration_s: float, wanted: Wanted) -> Sight:
    """`keys` are those that may be shown and the others."""
    sound_s = min(wanted.clip_length, SOUND_S)
    usable, outside = keys
    count = min(wanted.candidates, round(wanted.candidates * len(outside) / max(1, len(usable))))
    samples = _bursts(film, table, _spread(table, usable, wanted.candidates), sound_s)
    others = _bursts(film, table, _spread(table, outside, count), 0.0)
    _, last, _ = film.burst(int(table.stamps[table.keyframes()[-1]]), 0.0)
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
    if moved is not None and moved > cuts.THRESHOLD and _jumps([frame.picture(cuts.SIDE, film.aspect) for frame in frames]):
        moved = None  # another shot: that is no motion
    return Sample(frames[0].t_s, stamp, tile, small, first, measures.look(small, moved), loudness)


def _jumps(pictures: Sequence[Picture]) -> bool:
    """Whether nearly all of the change is between two of them."""
    changes = [measures.change(one, other) for one, other in itertools.pairwise(pictures)]
    return max(changes) > _JUMP * sum(changes)


class _Watched:
    """What a clip would show, from a picture every 0.2 s."""

    def __init__(self) -> None:
        self._first: Picture | None = None
        self._looks: list[Look] = []
        self._next_s = 0.0

    def take(self, t_s: float, picture: Picture) -> None:
        if t_s < self._next_s:
            return
        self._next_s = t_s + _WATCH_S
        self._first = picture if self._first is None else self._first
        # against the first one: over seconds even slow motion adds up, and the flicker of a still does not
        self._looks.append(measures.look(picture, measures.change(self._first, picture)))

    def gate(self) -> Gate | None:
        if not self._looks:
            return None
        looks = sorted(self._looks, key=lambda one: one.dark)
        typical = looks[len(looks) // 4]
        moved = max(one.motion or 0.0 for one in looks)
        return moments.gate(replace(typical, motion=moved if len(looks) > 2 else None), at=0.5, lively=4 * _STILL_CLIP)


def _look_closer(film: Film, sample: Sample, wanted: Wanted, duration_s: float) -> Settled | None:
    """Decode from the keyframe to the end of the clip: where are cuts, and what is shown?

    First only the pictures that others are made from, about half the work: where these differ little there is no cut.
    """
    lead_s = cuts.LEAD_S if sample.t_s > 1.5 / film.fps else 0.0  # before the very first picture there is no shot
    wish = sample.t_s + lead_s
    changes, watched = CutFinder(), _Watched()
    for frame in film.pictures(sample.stamp, min(wish + _seen_s(wanted), duration_s), references_only=True):
        picture = frame.picture(cuts.SIDE, film.aspect)
        if changes.is_cut(picture):
            return _look_at_each(film, sample, wanted, wish, duration_s)
        if frame.t_s >= wish:
            watched.take(frame.t_s, picture)
    return settled(wish, wish, [], sample.t_s, wanted, watched.gate())


def _seen_s(wanted: Wanted) -> float:
    return max(cuts.CLEAN_S, wanted.clip_length)


def _look_at_each(film: Film, sample: Sample, wanted: Wanted, wish: float, duration_s: float) -> Settled | None:
    finder, watched, found, start = CutFinder(), _Watched(), list[float](), wish
    limit_s = wish + 2 * wanted.clip_length + 1
    for frame in film.pictures(sample.stamp, min(limit_s, duration_s)):
        picture = frame.picture(cuts.SIDE, film.aspect)
        if finder.is_cut(picture):
            found.append(frame.t_s)
            moved = cuts.clear_start(wish, found, min(cuts.CLEAN_S, wanted.clip_length))
            start, watched = moved, watched if moved == start else _Watched()
        if frame.t_s >= start + _seen_s(wanted):
            break
        if frame.t_s >= start:
            watched.take(frame.t_s, picture)
    return settled(wish, start, found, sample.t_s, wanted, watched.gate())
