"""A decoded picture and its smaller copies: averaged, square pixels, full range, BT.601 planes, SDR."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import av
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from dailies.media.child.measures import Picture
from dailies.media.child.tone import Transfer, to_sdr

THUMB: Final = 320  # pixels, the longer side of the pictures that tiles are made of
SMALL: Final = 160  # … and of those that are measured


@dataclass(frozen=True)
class Frame:
    t_s: float
    frame: Any
    scaler: "Scaler"
    transfer: Transfer | None = None

    def picture(self, longer_side: int, aspect: Fraction) -> Picture:
        """[3, height, width] as stored (before rotation), square pixels, full range."""
        picture: Picture = self._scaled(longer_side, aspect).to_ndarray()
        return picture

    def tile(self, aspect: Fraction) -> tuple[Picture, Picture]:
        """The picture at 320 and at 160 pixels; the smaller one made of the larger."""
        large = self._scaled(THUMB, aspect)
        width, height = _fitted(SMALL, aspect)
        small = self.scaler.scaled(large, width, height, "yuv444p", dst_color_range=ColorRange.JPEG)
        return large.to_ndarray(), small.to_ndarray()

    def _scaled(self, longer_side: int, aspect: Fraction) -> Any:
        width, height = _fitted(longer_side, aspect)
        frame = self.frame
        matrix = _matrix(frame)
        if self.transfer:
            wide = self.scaler.scaled(frame, width, height, "rgb48le", src_colorspace=Colorspace.BT2020)
            frame = av.VideoFrame.from_ndarray(to_sdr(wide.to_ndarray(), self.transfer), format="rgb24")
        colours = {"src_colorspace": matrix, "dst_colorspace": Colorspace.ITU601, "dst_color_range": ColorRange.JPEG}
        return self.scaler.scaled(frame, width, height, "yuv444p", **colours)


def _matrix(frame: Any) -> Colorspace:
    """As told; where nothing is told, as players guess it: BT.709 from 720 lines on."""
    if frame.colorspace in {Colorspace.ITU709, Colorspace.BT2020}:
        return Colorspace(frame.colorspace)
    is_untold = frame.colorspace == 2 and frame.height >= 720
    return Colorspace.ITU709 if is_untold else Colorspace.ITU601


class Scaler:
    """Keeps what swscale has set up for each size; by averaging, so that noise does not pass for motion."""

    def __init__(self) -> None:
        self._by_size: dict[tuple[int, int, str], VideoReformatter] = {}

    def scaled(self, frame: Any, width: int, height: int, pixels: str, **options: Any) -> Any:
        reformatter = self._by_size.setdefault((width, height, pixels), VideoReformatter())
        # one thread: starting more costs more than such a small picture
        return reformatter.reformat(
            frame, width=width, height=height, format=pixels, interpolation=Interpolation.AREA, threads=1, **options
        )


def _fitted(longer_side: int, aspect: Fraction) -> tuple[int, int]:
    """Even (width, height) of a picture of this shape."""
    short = max(2, round(longer_side * float(min(aspect, 1 / aspect)) / 2) * 2)
    return (longer_side, short) if aspect >= 1 else (short, longer_side)
