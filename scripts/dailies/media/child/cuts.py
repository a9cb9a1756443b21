"""Where one shot ends and the next begins, and where a clip may start; the decision is pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dailies.media.child.measures import Picture, change

SIDE: Final = 80  # pixels: cuts are seen on very small pictures
LEAD_S: Final = 0.3  # after a cut that may lie before what was looked at
CLEAN_S: Final = 1.0  # a clip's first second is one shot
THRESHOLD: Final = 12.0  # grey levels, about half of what PySceneDetect and scdet take: what is doubtful counts as a cut here


@dataclass
class CutFinder:
    """Fed with one picture after the other. As ffmpeg's scdet: a jump counts by how much it exceeds the one before, so that
    a fast pan is no cut."""

    _last: Picture | None = None
    _change: float = 0.0

    def is_cut(self, picture: Picture) -> bool:
        """Whether a new shot begins with this picture."""
        if self._last is None:
            self._last = picture
            return False
        now = change(self._last, picture)
        jump = min(now, abs(now - self._change))
        self._last, self._change = picture, now
        return jump > THRESHOLD


def clear_start(t_s: float, cuts: Sequence[float], need_s: float) -> float:
    """Where a clip near `t_s` begins: not less than 0.3 s after a cut unless on it, and `need_s` without a cut from there.

    `cuts` in seconds, rising; the answer may lie behind the last of them, where nothing is known.
    """
    start = t_s
    for cut in cuts:
        if (cut <= t_s and t_s - cut < LEAD_S) or start < cut < start + need_s:
            start = cut
    return start
