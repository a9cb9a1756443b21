"""What was seen of a video: the moments that were looked at, and where a clip at one of them may begin."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dailies.media.analysis import Gate, Wanted
from dailies.media.child import phash
from dailies.media.child.measures import Picture, Plane
from dailies.media.child.moments import Look, Settled
from dailies.model import Shot


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


@dataclass(frozen=True)
class Sight:
    """All that was seen of a video, and how to look closer. `samples` are the candidates; `others` stand outside the part that
    may be shown, for the sprite sheet and the fingerprint. `duration_s` is what is there, whatever a header promises."""

    duration_s: float
    samples: Sequence[Sample]
    others: Sequence[Sample]
    settle: Callable[[int], Settled | None]
    lumas: Sequence[tuple[float, phash.Lumas]]  # by time, for the fingerprint
    shots: tuple[Shot, ...] | None  # the whole film's, where every picture was decoded


def settled(
    wish: float, start: float, found: Sequence[float], shot_start: float, wanted: Wanted, gate: Gate | None
) -> Settled | None:
    """Where a clip wished for begins, given the cuts found and what speaks against what is shown there."""
    if start > wish + wanted.clip_length:
        return None
    is_on_cut = start in found
    begun = start if is_on_cut else max([shot_start, *(cut for cut in found if cut <= start)])
    ended = min((cut for cut in found if cut > start), default=start + wanted.clip_length)
    # a millisecond behind the cut: rounding must not show the last picture of the shot before
    return Settled(start + (0.001 if is_on_cut else 0.0), Shot(start_s=round(begun, 3), end_s=round(ended, 3)), gate)
