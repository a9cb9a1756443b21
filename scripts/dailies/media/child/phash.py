"""A 64-bit fingerprint of what a video shows, alike for its re-encoded, scaled and slightly trimmed copies.

Low frequencies of the three-dimensional DCT of a small brightness cube, each coded by its sign: Coskun, Sankur & Memon,
"Spatio-temporal transform based video hashing of digital video sequences", IEEE Transactions on Multimedia 8(6), 2006.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

SIDE: Final = 32  # pixels of a picture of the cube
_MOMENTS: Final = 32  # pictures of the cube, evenly spread over the video
_TIMES: Final = 3  # lowest frequencies taken along time: higher ones change with every trim
_SPACE: Final = 6  # … and along both sides
_BITS: Final = 64
_LITTLE: Final = 0.01  # of the largest coefficient
_NOISE: Final = 10.0  # of a coefficient (the DCT is orthonormal): what compression does to one that is nothing
_LEAST_TELLING: Final = 40  # coefficients that say something: with fewer, too many videos would be near each other
_LEAST_CONTRAST: Final = 3.0  # grey levels; below it there is nothing to tell apart

Lumas = NDArray[np.float32] | NDArray[np.uint8]


def _basis(length: int, count: int) -> NDArray[np.float64]:
    """The first `count` rows of the orthonormal DCT-II of this length."""
    rows, columns = np.arange(count)[:, None], np.arange(length)[None, :]
    basis = np.cos(np.pi * rows * (2 * columns + 1) / (2 * length)) * np.sqrt(2 / length)
    basis[0] /= np.sqrt(2)
    return np.asarray(basis, np.float64)


def _order() -> list[tuple[int, int, int]]:
    """(time, row, column) of the coefficients that make the bits: the lowest frequencies, without the mean."""
    every = [(t, y, x) for t in range(_TIMES) for y in range(_SPACE) for x in range(_SPACE) if (t, y, x) != (0, 0, 0)]
    return sorted(every, key=lambda at: (3 * at[0] + at[1] + at[2], at))[:_BITS]


def shrunk(luma: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A picture's brightness on 32 × 32 squares, whatever its shape."""
    height, width = luma.shape
    rows = np.add.reduceat(luma.astype(np.float32), np.arange(SIDE) * height // SIDE, axis=0)
    both = np.add.reduceat(rows, np.arange(SIDE) * width // SIDE, axis=1)
    tall = np.diff(np.append(np.arange(SIDE) * height // SIDE, height))
    wide = np.diff(np.append(np.arange(SIDE) * width // SIDE, width))
    return np.asarray(both / tall[:, None] / wide[None, :], np.float32)


def fingerprint(times_s: Sequence[float], lumas: Sequence[Lumas], duration_s: float) -> str | None:
    """16 hexadecimal digits; None where the pictures are too plain to be told from others. The times rise."""
    if not lumas:
        return None
    seen = np.stack(lumas).reshape(len(lumas), -1).astype(np.float64)
    wanted = (np.arange(_MOMENTS) + 0.5) * duration_s / _MOMENTS
    cube = _between(np.asarray(times_s), seen, wanted).reshape(_MOMENTS, SIDE, SIDE)
    if cube.std() < _LEAST_CONTRAST:
        return None
    time, space = _basis(_MOMENTS, _TIMES), _basis(SIDE, _SPACE)
    low = np.einsum("at,by,cx,tyx->abc", time, space, space, cube, optimize=True)
    values = np.array([low[at] for at in _order()])
    # what compression changes is not a sign: coefficients near nothing are all on one side
    if np.count_nonzero(np.abs(values) > _NOISE) < _LEAST_TELLING:
        return None
    # what compression changes is not a sign: coefficients near nothing are all on one side
    bits = values > _LITTLE * np.abs(values).max()
    return f"{int(''.join('1' if bit else '0' for bit in bits), 2):016x}"


def _between(times_s: NDArray[np.float64], seen: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """The pictures at the wanted times, blended from those around them."""
    right = np.clip(np.searchsorted(times_s, wanted), 1, max(1, len(times_s) - 1))
    if len(times_s) == 1:
        return np.repeat(seen, len(wanted), axis=0)
    left = right - 1
    gap = np.maximum(times_s[right] - times_s[left], 1e-9)
    share = np.clip((wanted - times_s[left]) / gap, 0, 1)[:, None]
    return np.asarray(seen[left] * (1 - share) + seen[right] * share, np.float64)


def distance(one: str, other: str) -> int:
    """How many of the 64 bits differ."""
    return (int(one, 16) ^ int(other, 16)).bit_count()
