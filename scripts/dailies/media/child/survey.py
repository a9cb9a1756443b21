"""The analysis itself, in the child process: one pass over a few moments of a video feeds everything (docs/media.md)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from dailies.media.analysis import Analysis, Candidate, Gate, Pace, Wanted
from dailies.media.child import measures, moments, phash, pictures, tags
from dailies.media.child.film import Film, Table
from dailies.media.child.keyframes import look_at_keyframes
from dailies.media.child.moments import Choice, Chooser, Raw
from dailies.media.child.nothing import NoPictures
from dailies.media.child.sight import Sample, Sight
from dailies.media.child.whole import look_at_all
from dailies.model import Clip

_DENSE_PICTURES: Final = 1500  # a video of no more is looked at whole
_TOO_MANY: Final = 200_000  # pictures, to decode them all for want of keyframes
_KEYS_A_CLIP: Final = 3  # fewer keyframes leave no choice: then all pictures are decoded as well
_LEAST_DIFFERENCE: Final = 7.0  # grey levels between two moments that are not near-equal …
_OF_USUAL: Final = 0.3  # … or this share of what is usual in the video: a lecture is all alike


def survey(path: Path, wanted: Wanted) -> Analysis:
    """Raises FFmpegError for what cannot be opened, NoPictures."""
    with Film(str(path)) as film:
        table = film.table()
        duration_s = table.duration_s
        if not len(table.stamps):
            raise NoPictures
        first_s, last_s = _span(duration_s, wanted)
        sight = _sight(film, table, duration_s, wanted, (first_s, last_s))
        duration_s, last_s = sight.duration_s, min(last_s, sight.duration_s)
        ranked = moments.candidates(_raw(sight), wanted.weights)
        choice = _choose(sight, ranked, wanted, first_s, last_s)
        ranked = [one.model_copy(update={"gate": choice.gates[i]}) if i in choice.gates else one for i, one in enumerate(ranked)]
        cover = _cover(sight.samples, ranked)
        seen = sorted([*sight.samples, *sight.others], key=lambda one: one.t_s)
        made = pictures.make(film, table, [(one.t_s, one.tile, one.small) for one in seen], cover, duration_s, wanted)
        return Analysis(
            duration_s=round(duration_s, 3),
            shots=(sight.shots if wanted.all_shots and sight.shots is not None else choice.shots),
            candidates=tuple(ranked),
            clips=choice.clips,
            cover_t_s=cover,
            phash=phash.fingerprint([t_s for t_s, _ in sight.lumas], [luma for _, luma in sight.lumas], duration_s),
            tags=tags.of(film, table, duration_s, [one.loudness for one in sight.samples]),
            pictures=made,
            pace=Pace(keyframe_gap_s=_widest_gap(table, duration_s), fps=round(_lossless_fps(table), 3)),
        )


def _span(duration_s: float, wanted: Wanted) -> tuple[float, float]:
    """The part that clips are taken from; all of a video that is shorter than what should be left out."""
    if duration_s - wanted.exclude_start_s - wanted.exclude_end_s <= wanted.clip_length:
        return 0.0, duration_s
    return wanted.exclude_start_s, duration_s - wanted.exclude_end_s


def _lossless_fps(table: Table) -> float:
    """A constant rate that shows nearly every picture of a variable one; 0 where the rate does not vary."""
    gaps = table.gaps_s[table.gaps_s > 0]
    if not tags.is_variable(table) or not len(gaps):
        return 0.0
    return float(1 / np.percentile(gaps, 10))


def _widest_gap(table: Table, duration_s: float) -> float:
    times = table.times_s[table.keyframes()]
    return float(np.diff(np.append(times, duration_s)).max()) if len(times) else duration_s


def _sight(film: Film, table: Table, duration_s: float, wanted: Wanted, span: tuple[float, float]) -> Sight:
    keys = table.keyframes()
    times = table.times_s[keys]
    is_usable = (times >= span[0] - 0.001) & (times <= span[1] - wanted.clip_length)
    count, usable = len(table.sizes), int(is_usable.sum())
    has_choice = usable >= _KEYS_A_CLIP * wanted.clips or (usable >= wanted.clips and count > _TOO_MANY)
    if wanted.all_shots or count <= _DENSE_PICTURES or not has_choice:
        return look_at_all(film, duration_s, wanted, span)
    return look_at_keyframes(film, table, (keys[is_usable], keys[~is_usable]), duration_s, wanted)


def _raw(sight: Sight) -> list[Raw]:
    usual_sharpness = moments.usual([one.look.sharpness for one in sight.samples])
    lively = moments.lively([one.look.motion for one in sight.samples])
    return [
        Raw(
            t_s=one.t_s,
            people=one.look.skin,
            motion=one.look.motion,
            audio=one.loudness,
            complexity=one.look.entropy + one.look.sharpness / max(usual_sharpness, 1.0),
            colour=one.look.colour,
            gate=moments.gate(one.look, at=one.t_s / max(sight.duration_s, 0.001), usual_sharpness=usual_sharpness, lively=lively),
        )
        for one in sight.samples
    ]


def _choose(sight: Sight, ranked: Sequence[Candidate], wanted: Wanted, first_s: float, last_s: float) -> Choice:
    if last_s - first_s <= wanted.clips * wanted.clip_length:
        return Choice((Clip(start_s=round(first_s, 3), length_s=round(last_s - first_s, 3), why="whole"),), sight.shots or (), {})
    planes = [one.blocks for one in sight.samples]

    def unlike(one: int, other: int) -> float:
        return measures.difference(planes[one], planes[other])

    every = range(len(ranked))
    pairs = [unlike(one, other) for one in every[::4] for other in every[2::4]]
    chooser = Chooser(
        candidates=ranked,
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
