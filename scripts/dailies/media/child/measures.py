"""Numbers of small pictures: brightness, motion, complexity, skin, colour. numpy arrays in, floats out.

A picture is uint8 [3, height, width]: Y, Cb, Cr, full range (JFIF).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dailies.media.child.moments import Look

Picture = NDArray[np.uint8]
Plane = NDArray[np.float32]

BLOCK: Final = 8  # pixels; averaging over 64 takes noise away and leaves what moves
# Skin in YCrCb whatever its tone: Chai & Ngan, "Face segmentation using skin-color map in videophone applications", 1999
_SKIN_CB: Final = (77, 127)
_SKIN_CR: Final = (133, 173)
_SKIN_Y: Final = 40
_MODE_WIDTH: Final = 6  # grey levels to each side of the most frequent one that count as one plain background


def blocks(picture: Picture) -> Plane:
    """Means over squares of 8 pixels, [3, height // 8, width // 8]."""
    planes, height, width = picture.shape
    rows, columns = max(1, height // BLOCK), max(1, width // BLOCK)
    tall, wide = min(BLOCK, height), min(BLOCK, width)
    cut = picture[:, : rows * tall, : columns * wide].reshape(planes, rows, tall, columns, wide)
    return np.asarray(cut.mean(axis=(2, 4), dtype=np.float32), np.float32)


def motion(first: Plane, last: Plane) -> float:
    """Mean absolute difference of block-averaged brightness, grey levels."""
    return float(np.abs(first[0] - last[0]).mean())


def difference(first: Plane, last: Plane) -> float:
    """How unlike two block-averaged pictures are: brightness and both colours."""
    return float(np.abs(first - last).mean())


def change(first: Picture, last: Picture) -> float:
    """How much two neighbouring pictures differ, for finding cuts: mean absolute difference of all three planes."""
    return float(np.abs(first.astype(np.int16) - last).mean())


def look(picture: Picture, moved: float | None) -> Look:
    luma, blue, red = picture
    counts = np.bincount(luma.ravel(), minlength=256)
    shares = counts / luma.size
    cumulative = np.cumsum(shares)
    present = shares[shares > 0]
    values = luma.astype(np.float32)
    laplacian = values[1:-1, 1:-1] * 4 - values[:-2, 1:-1] - values[2:, 1:-1] - values[1:-1, :-2] - values[1:-1, 2:]
    mode = int(counts.argmax())
    skin = (luma > _SKIN_Y) & (blue >= _SKIN_CB[0]) & (blue <= _SKIN_CB[1]) & (red >= _SKIN_CR[0]) & (red <= _SKIN_CR[1])
    return Look(
        brightness=float(values.mean()),
        dark=float(np.searchsorted(cumulative, 0.95)),
        light=float(np.searchsorted(cumulative, 0.05)),
        contrast=float(values.std()),
        motion=moved,
        entropy=float(-(present * np.log2(present)).sum()),
        sharpness=float(np.abs(laplacian).mean()) if laplacian.size else 0.0,
        skin=float(skin.mean()),
        colour=_colourfulness(blue, red),
        plain=float(shares[max(0, mode - _MODE_WIDTH) : mode + _MODE_WIDTH + 1].sum()),
    )


def _colourfulness(blue: NDArray[np.uint8], red: NDArray[np.uint8]) -> float:
    """After Hasler & Süsstrunk, "Measuring colourfulness in natural images", 2003, on the colour planes that we have."""
    spread = float(np.hypot(blue.std(), red.std()))
    mean = float(np.hypot(blue.mean() - 128, red.mean() - 128))
    return spread + 0.3 * mean
