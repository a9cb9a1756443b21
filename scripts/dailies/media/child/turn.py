"""How stored pictures are to be turned and mirrored to be shown, by the file's display matrix."""

import math
import struct
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final

import numpy as np

from dailies.media.child.measures import Picture


class Turn(Enum):
    """As ffmpeg's own `autorotate` does it (fftools/ffmpeg_filter.c), so that pictures and previews agree."""

    AS_IT_IS = "as it is"
    CLOCKWISE = "clockwise"
    COUNTER_CLOCKWISE = "counter-clockwise"
    TRANSPOSED = "transposed"
    TRANSVERSED = "transversed"
    UPSIDE_DOWN = "upside down"
    MIRRORED = "mirrored"
    FLIPPED = "flipped"


SIDEWAYS: Final = frozenset({Turn.CLOCKWISE, Turn.COUNTER_CLOCKWISE, Turn.TRANSPOSED, Turn.TRANSVERSED})


def turn_of(frame: Any) -> Turn:
    side = frame.side_data.get("DISPLAYMATRIX")
    content = bytes(side) if side is not None else b""
    return _turn(struct.unpack("=9i", content[:36])) if len(content) >= 36 else Turn.AS_IT_IS


def _turn(matrix: tuple[int, ...]) -> Turn:
    """`matrix` is a b u c d v x y w in fixed point, as `AV_FRAME_DATA_DISPLAYMATRIX` holds it."""
    a, b, _, c, d = matrix[:5]
    across, down = math.hypot(a, c), math.hypot(b, d)
    if not across or not down:
        return Turn.AS_IT_IS
    degrees = math.degrees(math.atan2(b / down, a / across)) % 360
    if abs(degrees - 90) < 1:
        return Turn.TRANSPOSED if c > 0 else Turn.CLOCKWISE
    if abs(degrees - 180) < 1:
        return Turn.UPSIDE_DOWN if a < 0 and d < 0 else Turn.MIRRORED if a < 0 else Turn.FLIPPED
    if abs(degrees - 270) < 1:
        return Turn.TRANSVERSED if c < 0 else Turn.COUNTER_CLOCKWISE
    return Turn.FLIPPED if d < 0 else Turn.AS_IT_IS


_WAYS: Final[Mapping[Turn, Callable[[Picture], Picture]]] = {
    Turn.CLOCKWISE: lambda picture: np.rot90(picture, -1, axes=(1, 2)),
    Turn.COUNTER_CLOCKWISE: lambda picture: np.rot90(picture, 1, axes=(1, 2)),
    Turn.TRANSPOSED: lambda picture: np.swapaxes(picture, 1, 2),
    Turn.TRANSVERSED: lambda picture: np.rot90(np.swapaxes(picture, 1, 2), 2, axes=(1, 2)),
    Turn.UPSIDE_DOWN: lambda picture: picture[:, ::-1, ::-1],
    Turn.MIRRORED: lambda picture: picture[:, :, ::-1],
    Turn.FLIPPED: lambda picture: picture[:, ::-1, :],
    Turn.AS_IT_IS: lambda picture: picture,
}


def turned(picture: Picture, turn: Turn | None) -> Picture:
    """[3, height, width] as it is to be shown."""
    return _WAYS[turn or Turn.AS_IT_IS](picture)
