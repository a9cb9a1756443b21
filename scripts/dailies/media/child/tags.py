"""What a video is in one word each, from its technical facts: `4k`, `hdr`, `portrait`, `silent`, `vfr`, `60fps`, `short` …"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from dailies.media.child.film import Film, Table

_SIZES: Final = ((4320, "8k"), (2160, "4k"), (1440, "1440p"), (1080, "1080p"), (720, "720p"), (0, "sd"))  # shorter side, at least
_SHORT_S: Final = 60.0
_LONG_S: Final = 3600.0
_SILENT_DB: Final = -60.0


def of(film: Film, table: Table, duration_s: float, loudness: Sequence[float | None]) -> tuple[str, ...]:
    width, height = film.shown_size
    found = [next(name for least, name in _SIZES if min(width, height) >= least * 0.97)]
    found += ["hdr"] if film.transfer else []
    found += ["portrait"] if height > width else ["square"] if height == width else []
    found += ["silent"] if all(one is None or one < _SILENT_DB for one in loudness) else []
    found += ["vfr"] if is_variable(table) else []
    found += [f"{round(film.fps)}fps"] if film.fps >= 47 else []
    found += ["short"] if duration_s < _SHORT_S else ["long"] if duration_s >= _LONG_S else []
    return tuple(found)


def is_variable(table: Table) -> bool:
    """Whether more than one in fifty pictures stands for much longer or shorter than the others."""
    if len(table.times_s) < 10:
        return False
    usual = float(np.median(table.gaps_s))
    return bool(np.mean(np.abs(table.gaps_s - usual) > 0.25 * usual) > 0.02) if usual > 0 else False
