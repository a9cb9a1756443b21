"""The analysis itself, in the child process: one pass over a few moments of a video feeds everything (docs/media.md)."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from dailies.media.analysis import Analysis, Candidate, Gate, Wanted
from dailies.media.child import cuts, measures, moments, phash, pictures, tags
from dailies.media.child.cuts import CutFinder
from dailies.media.child.film import SMALL, Film, Frame, Table
from dailies.media.child.measures import Look, Picture, Plane
from dailies.media.child.moments import Choice, Chooser, Raw, Settled
from dailies.model import Clip, Shot

SOUND_S: Final = 1.5  # listened to from a candidate on
_DENSE_PICTURES: Final = 1500  # a video of no more is looked at whole
_STEP_S: Final = 0.1  # between the pictures that are measured when all are decoded
_MEASURED: Final = 6000  # pictures at most, of a long video
_KEYS_A_CLIP: Final = 3  # fewer keyframes leave no choice: then all pictures are decoded as well
_USUAL_SPREAD: Final = 0.1  # coefficient of variation of sizes below which they say nothing: constant bit rate
_PRIOR_S: Final = 3.0
_LEAST_DIFFERENCE: Final = 7.0  # grey levels between two moments that are not near-equal …
_OF_USUAL: Final = 0.3  # … or this share of what is usual in the video: a lecture is all alike


@dataclass(frozen=True)
class Sample:
    """A moment that was looked at; `stamp` is its keyframe's."""

    t_s: float
    stamp: int | None
    tile: Picture
    small: Picture
    blocks: Plane
    look: Look
    loudness: float | None
    gate: Gate | None = None  # where it was told from more than one picture


@dataclass(frozen=True)
class Sight:
    """All that was seen of a video, and how to look closer."""

    duration_s: float
    samples: Sequence[Sample]
    settle: Callable[[int], Settled | None]
    times_s: Sequence[float]  # of the pictures for the fingerprint
    lumas: Sequence[phash.Lumas]
    shots: tuple[Shot, ...] | None  # the whole film's, where every picture was decoded


def survey(path: Path, wanted: Wanted) -> Analysis:
    """Raises FFmpegError for what cannot be opened; ValueError where there are no pictures."""
    with Film(str(path)) as film:
        table = film.table()
        duration_s = table.duration_s
        first_s, last_s = _span(duration_s, wanted)
        sight = _sight(film, table, duration_s, wanted, (first_s, last_s))
        ranked = moments.candidates(_raw(sight), wanted.weights)
        choice = _choose(sight, ranked, wanted, first_s, last_s)
        ranked = [one.model_copy(update={"gate": choice.gates[i]}) if i in choice.gates else one for i, one in enumerate(ranked)]
        cover = _cover(sight.samples, ranked)
        made = pictures.make(film, table, [(one.t_s, one.tile, one.small) for one in sight.samples], cover, duration_s, wanted)
        return Analysis(
            duration_s=round(duration_s, 3),
            shots=(sight.shots if wanted.all_shots and sight.shots is not None else choice.shots),
            candidates=tuple(ranked),
            clips=choice.clips,
            cover_t_s=cover,
            phash=phash.fingerprint(sight.times_s, sight.lumas, duration_s),
            tags=tags.of(film, table, duration_s, [one.loudness for one in sight.samples]),
            pictures=made,
            keyframe_gap_s=_widest_gap(table, duration_s),
        )


def _span(duration_s: float, wanted: Wanted) -> tuple[float, float]:
    """The part that clips are taken from; all of a video that is shorter than what should be left out."""
    if duration_s - wanted.exclude_start_s - wanted.exclude_end_s <= wanted.clip_length:
        return 0.0, duration_s
    return wanted.exclude_start_s, duration_s - wanted.exclude_end_s


def _widest_gap(table: Table, duration_s: float) -> float:
    times = table.times_s[table.keyframes()]
    return float(np.diff(np.append(times, duration_s)).max()) if len(times) else duration_s


def _sight(film: Film, table: Table, duration_s: float, wanted: Wanted, span: tuple[float, float]) -> Sight:
    keys = table.keyframes()
    times = table.times_s[keys]
    usable = keys[(times >= span[0] - 0.001) & (times <= span[1] - wanted.clip_length)]
    is_dense = wanted.all_shots or len(table.sizes) <= _DENSE_PICTURES or len(usable) < _KEYS_A_CLIP * wanted.clips
    if is_dense:
        return _look_at_all(film, duration_s, wanted)
    return _look_at_keyframes(film, table, usable, duration_s, wanted)


# -- a few keyframes


def _look_at_keyframes(film: Film, table: Table, usable: np.ndarray, duration_s: float, wanted: Wanted) -> Sight:
    samples: list[Sample] = []
    for position in _spread(table, usable, wanted.candidates):
        stamp, frames, loudness = film.burst(int(table.stamps[position]), min(wanted.clip_length, SOUND_S))
        if frames and (not samples or frames[0].t_s > samples[-1].t_s):
            samples.append(_sample(film, stamp, frames, loudness))

    def settle(index: int) -> Settled | None:
        return _look_closer(film, samples[index], wanted, duration_s)

    lumas = [phash.shrunk(one.small[0]) for one in samples]
    return Sight(duration_s, samples, settle, [one.t_s for one in samples], lumas, None)


def _spread(table: Table, usable: np.ndarray, count: int) -> list[int]:
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
    return _settled(wish, wish, [], sample.t_s, wanted)


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
    return _settled(wish, start, found, sample.t_s, wanted)


def _settled(wish: float, start: float, found: Sequence[float], shot_start: float, wanted: Wanted) -> Settled | None:
    if start > wish + wanted.clip_length:
        return None
    is_on_cut = start in found
    begun = start if is_on_cut else max([shot_start, *(cut for cut in found if cut <= start)])
    ended = min((cut for cut in found if cut > start), default=start + wanted.clip_length)
    # a millisecond behind the cut: rounding must not show the last picture of the shot before
    return Settled(start + (0.001 if is_on_cut else 0.0), Shot(start_s=round(begun, 3), end_s=round(ended, 3)))


# -- every picture


def _look_at_all(film: Film, duration_s: float, wanted: Wanted) -> Sight:
    """For short videos, and for those with too few keyframes to choose from."""
    step_s = max(duration_s / wanted.candidates, 2 * _STEP_S)
    between_s = max(_STEP_S, duration_s / _MEASURED)
    lumas: list[phash.Lumas] = []
    finder, found = CutFinder(), list[float]()
    seen: list[tuple[float, Look, Plane]] = []
    tiles: list[tuple[float, Picture, Picture]] = []
    for frame in film.pictures(None, float("inf")):
        if finder.is_cut(frame.picture(cuts.SIDE, film.aspect)):
            found.append(frame.t_s)
        if seen and frame.t_s < seen[-1][0] + between_s - 0.001:
            continue
        if not tiles or frame.t_s >= len(tiles) * step_s:
            tile, small = frame.tile(film.aspect)
            tiles.append((frame.t_s, tile, small))
        else:
            small = frame.picture(SMALL, film.aspect)
        plane = measures.blocks(small)
        moved = measures.motion(seen[-1][2], plane) if seen and not (found and found[-1] == frame.t_s) else None
        seen.append((frame.t_s, measures.look(small, moved), plane))
        lumas.append(phash.shrunk(small[0]).astype(np.uint8))
    loud = film.loudness(_STEP_S, duration_s) if film.audio is not None else None
    samples = [_window(tile, seen, loud, wanted.clip_length) for tile in tiles]
    shots = _shots(found, duration_s)

    def settle(index: int) -> Settled | None:
        start = cuts.clear_start(samples[index].t_s, found, min(cuts.CLEAN_S, wanted.clip_length))
        return _settled(samples[index].t_s, start, found, max([0.0, *(cut for cut in found if cut <= start)]), wanted)

    times = [one[0] for one in seen]
    return Sight(duration_s, samples, settle, times, lumas, shots)


def _window(
    tile: tuple[float, Picture, Picture], seen: Sequence[tuple[float, Look, Plane]], loud: np.ndarray | None, length_s: float
) -> Sample:
    """A moment by all that was seen from there to the end of its clip."""
    t_s, large, small = tile
    inside = [one for one in seen if t_s <= one[0] < t_s + length_s]
    looks = [one[1] for one in inside]
    moved = [one.motion for one in looks if one.motion is not None]
    heard = loud[int(t_s / _STEP_S) : max(int(t_s / _STEP_S) + 1, int((t_s + length_s) / _STEP_S))] if loud is not None else ()
    mean = replace(
        looks[0],
        # a moment is as dark, light or plain as the worst fifth of it
        dark=float(np.percentile([one.dark for one in looks], 20)),
        light=float(np.percentile([one.light for one in looks], 80)),
        contrast=float(np.percentile([one.contrast for one in looks], 20)),
        motion=float(np.mean(moved)) if moved else None,
        entropy=float(np.mean([one.entropy for one in looks])),
        sharpness=float(np.median([one.sharpness for one in looks])),
        skin=float(np.mean([one.skin for one in looks])),
        colour=float(np.mean([one.colour for one in looks])),
    )
    power = float(np.mean(10 ** (np.asarray(heard) / 10))) if len(heard) else None
    return Sample(t_s, None, large, small, inside[0][2], mean, 10 * float(np.log10(power + 1e-12)) if power is not None else None)


def _shots(found: Sequence[float], duration_s: float) -> tuple[Shot, ...]:
    edges = [0.0, *found, duration_s]
    return tuple(Shot(start_s=round(one, 3), end_s=round(two, 3)) for one, two in itertools.pairwise(edges) if two > one)


# -- what follows from it


def _raw(sight: Sight) -> list[Raw]:
    usual_sharpness = moments.usual([one.look.sharpness for one in sight.samples])
    return [
        Raw(
            t_s=one.t_s,
            people=one.look.skin,
            motion=one.look.motion,
            audio=one.loudness,
            complexity=one.look.entropy + one.look.sharpness / max(usual_sharpness, 1.0),
            colour=one.look.colour,
            gate=moments.gate(
                dark=one.look.dark,
                light=one.look.light,
                contrast=one.look.contrast,
                motion=one.look.motion,
                sharpness=one.look.sharpness,
                usual_sharpness=usual_sharpness,
                plain=one.look.plain,
                at=one.t_s / max(sight.duration_s, 0.001),
            ),
        )
        for one in sight.samples
    ]


def _choose(sight: Sight, ranked: Sequence[Candidate], wanted: Wanted, first_s: float, last_s: float) -> Choice:
    if sight.duration_s <= wanted.clips * wanted.clip_length:
        return Choice((Clip(start_s=0.0, length_s=round(sight.duration_s, 3), why="whole"),), sight.shots or (), {})
    planes = [one.blocks for one in sight.samples]

    def unlike(one: int, other: int) -> float:
        return measures.difference(planes[one], planes[other])

    inside = [one for one in range(len(ranked)) if first_s - 0.001 <= ranked[one].t_s <= last_s]
    pairs = [unlike(one, other) for one in inside[::4] for other in inside[2::4]]
    chooser = Chooser(
        candidates=ranked,
        eligible=inside,
        weights=wanted.weights,
        first_s=first_s,
        last_s=last_s,
        count=wanted.clips,
        length_s=wanted.clip_length,
        settle=sight.settle,
        unlike=unlike,
        least_difference=min(_LEAST_DIFFERENCE, _OF_USUAL * moments.usual(pairs)),
    )
    return chooser.choose()


def _cover(samples: Sequence[Sample], ranked: Sequence[Candidate]) -> float | None:
    """The moment whose single picture says most: people, sharp and colourful, nothing against it."""
    if not ranked:
        return None

    def worth(index: int) -> float:
        one = ranked[index]
        is_plain = one.gate in (None, Gate.CUTS, Gate.NEAR_EQUAL, Gate.FROZEN)
        return is_plain + 0.4 * one.people + 0.35 * one.complexity + 0.25 * one.colour

    return round(samples[max(range(len(ranked)), key=lambda index: (worth(index), -index))].t_s, 3)
