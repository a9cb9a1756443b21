"""Looking at every picture: of short videos, of those with too few keyframes to choose from, and for the list of all shots."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from dailies.media.analysis import Wanted
from dailies.media.child import cuts, measures, moments, phash
from dailies.media.child.cuts import CutFinder
from dailies.media.child.film import Film
from dailies.media.child.frame import SMALL
from dailies.media.child.measures import Picture, Plane
from dailies.media.child.moments import Look, Settled
from dailies.media.child.sight import Sample, Sight, settled
from dailies.model import Shot

_STEP_S: Final = 0.1  # between the pictures that are measured
_SHORTFALL_S: Final = 1.0
_MEASURED: Final = 6000  # of them at most, of a long video


def look_at_all(film: Film, duration_s: float, wanted: Wanted, span: tuple[float, float]) -> Sight:
    """For short videos, and for those with too few keyframes to choose from."""
    step_s = max(duration_s / wanted.candidates, 2 * _STEP_S)
    between_s = max(_STEP_S, duration_s / _MEASURED)
    lumas: list[tuple[float, phash.Lumas]] = []
    finder, found = CutFinder(), list[float]()
    seen: list[tuple[float, Look, Plane]] = []
    tiles: list[tuple[float, Picture, Picture]] = []
    last_s = 0.0
    for frame in film.pictures(None, float("inf")):
        last_s = max(last_s, frame.t_s)
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
        lumas.append((frame.t_s, phash.shrunk(small[0]).astype(np.uint8)))
    if seen and last_s < duration_s - _SHORTFALL_S:  # cut short: the rest was never there
        duration_s = last_s + 1 / film.fps
    loud = film.loudness(_STEP_S)
    everything = [_window(tile, seen, loud, wanted.clip_length) for tile in tiles]
    samples = [one for one in everything if span[0] - 0.001 <= one.t_s <= span[1]]
    others = [one for one in everything if not span[0] - 0.001 <= one.t_s <= span[1]]
    shots = _shots(found, duration_s)

    def settle(index: int) -> Settled | None:
        start = cuts.clear_start(samples[index].t_s, found, min(cuts.CLEAN_S, wanted.clip_length))
        shown = _mean(seen, start, wanted.clip_length)
        gate = moments.gate(shown, at=0.5) if shown and start != samples[index].t_s else None  # else it has been judged before
        return settled(samples[index].t_s, start, found, 0.0, wanted, gate)

    return Sight(duration_s, samples, others, settle, lumas, shots)


def _window(
    tile: tuple[float, Picture, Picture],
    seen: Sequence[tuple[float, Look, Plane]],
    loud: Mapping[int, float],
    length_s: float,
) -> Sample:
    """A moment by all that was seen from there to the end of its clip."""
    t_s, large, small = tile
    parts = range(int(t_s / _STEP_S), max(int(t_s / _STEP_S) + 1, int((t_s + length_s) / _STEP_S)))
    heard = [10 ** (loud[number] / 10) for number in parts if number in loud]
    loudness = 10 * math.log10(sum(heard) / len(heard) + 1e-12) if heard else None
    look, plane = next((one[1], one[2]) for one in seen if one[0] >= t_s)
    return Sample(t_s, None, large, small, plane, _mean(seen, t_s, length_s) or look, loudness)


def _mean(seen: Sequence[tuple[float, Look, Plane]], t_s: float, length_s: float) -> Look | None:
    """What is shown from there on for that long; as dark, light or plain as the worst fifth of it."""
    looks = [look for at, look, _ in seen if t_s <= at < t_s + length_s]
    if not looks:
        return None
    moved = [one.motion for one in looks if one.motion is not None]
    return replace(
        looks[0],
        dark=float(np.percentile([one.dark for one in looks], 20)),
        light=float(np.percentile([one.light for one in looks], 80)),
        contrast=float(np.percentile([one.contrast for one in looks], 20)),
        motion=float(np.mean(moved)) if moved else None,
        entropy=float(np.mean([one.entropy for one in looks])),
        sharpness=float(np.median([one.sharpness for one in looks])),
        skin=float(np.mean([one.skin for one in looks])),
        colour=float(np.mean([one.colour for one in looks])),
    )


def _shots(found: Sequence[float], duration_s: float) -> tuple[Shot, ...]:
    edges = [0.0, *found, duration_s]
    return tuple(Shot(start_s=round(one, 3), end_s=round(two, 3)) for one, two in itertools.pairwise(edges) if two > one)
