"""Which videos look alike: all fingerprints compared in one vectorised pass."""

import math
from array import array
from dataclasses import dataclass, field


@dataclass
class Fingerprints:
    """64-bit fingerprints and durations by video id; one lookup among 100,000 takes milliseconds (docs/benchmarks.md)."""

    _slots: dict[str, int] = field(default_factory=dict)
    _ids: list[str] = field(default_factory=list)
    _prints: "array[int]" = field(default_factory=lambda: array("Q"))
    _durations: "array[float]" = field(default_factory=lambda: array("d"))  # NaN, which is near nothing, where there is none

    def put(self, video_id: str, phash: str | None, duration_s: float | None) -> None:
        """Also forgets that of a video which has none any more."""
        slot = self._slots.get(video_id)
        if phash is None or duration_s is None:
            if slot is not None:
                self._durations[slot] = math.nan
            return
        if slot is None:
            slot = self._slots[video_id] = len(self._ids)
            self._ids.append(video_id)
            self._prints.append(0)
            self._durations.append(math.nan)
        self._prints[slot], self._durations[slot] = int(phash, 16), duration_s

    def near(self, phash: str, duration_s: float, *, distance: int, tolerance_s: float) -> list[tuple[int, str]]:
        """(bits that differ, id) of those that are near enough and last about as long, the nearest first."""
        import numpy as np

        differing = np.bitwise_count(np.frombuffer(self._prints, np.uint64) ^ np.uint64(int(phash, 16)))
        is_as_long = np.abs(np.frombuffer(self._durations, np.float64) - duration_s) <= tolerance_s
        return sorted((int(differing[slot]), self._ids[slot]) for slot in np.flatnonzero((differing <= distance) & is_as_long))
