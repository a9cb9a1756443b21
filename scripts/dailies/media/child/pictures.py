"""Cover, sprite sheet with WebVTT and contact sheet, from pictures that the analysis has decoded anyway."""

import itertools
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np

from dailies.media.analysis import Wanted
from dailies.media.child.film import Film, Table
from dailies.media.child.measures import Picture
from dailies.media.child.turn import turned

COVER_SIDE: Final = 1280  # pixels at most, the longer one
_SHEET: Final = 20  # pictures of a contact sheet
_GAP: Final = 4  # pixels between them
_GREY: Final = (16, 128, 128)  # Y, Cb, Cr
_QUALITY: Final = {"jpg": {"q:v": "3"}, "webp": {"quality": "82"}}
# 3 × 5 digits and a colon, a row of three bits each
_GLYPHS: Final = {
    "0": (7, 5, 5, 5, 7), "1": (2, 6, 2, 2, 7), "2": (7, 1, 7, 4, 7), "3": (7, 1, 7, 1, 7), "4": (5, 5, 7, 1, 1),
    "5": (7, 4, 7, 1, 7), "6": (7, 4, 7, 5, 7), "7": (7, 1, 1, 2, 2), "8": (7, 5, 7, 5, 7), "9": (7, 5, 7, 1, 7),
    ":": (0, 2, 0, 2, 0),
}  # fmt: skip
_SCALE: Final = 3  # pixels a dot


def make(
    film: Film,
    table: Table,
    tiles: Sequence[tuple[float, Picture, Picture]],
    cover_t_s: float | None,
    duration_s: float,
    wanted: Wanted,
) -> Mapping[str, str]:
    """Write the pictures into the folder of `wanted`; file names by part. Nothing where none were asked for or seen."""
    if wanted.pictures is None or not tiles or cover_t_s is None:
        return {}
    folder, names = Path(wanted.pictures), wanted.names
    large = [(t_s, turned(tile, film.turn)) for t_s, tile, _ in tiles]
    small = [(t_s, turned(tile, film.turn)) for t_s, _, tile in tiles]
    made = {
        "cover": f"{names}cover.{wanted.cover_format}",
        "sprite": f"{names}sprite.jpg",
        "sprite_vtt": f"{names}sprite.vtt",
        "contact": f"{names}contact.jpg",
    }
    cover = turned(_at(film, table, cover_t_s), film.turn)
    (folder / made["cover"]).write_bytes(encoded(cover, wanted.cover_format))
    columns = math.ceil(math.sqrt(len(small)))
    (folder / made["sprite"]).write_bytes(encoded(_sheet([tile for _, tile in small], columns, 0), "jpg"))
    (folder / made["sprite_vtt"]).write_text(
        web_vtt([t_s for t_s, _ in small], duration_s, made["sprite"], columns, small[0][1].shape), "utf-8"
    )
    (folder / made["contact"]).write_bytes(encoded(_contact(large), "jpg"))
    return made


def _at(film: Film, table: Table, t_s: float) -> Picture:
    """The picture of this time at full size, decoded from the keyframe before it."""
    keys = table.keyframes()
    before = keys[table.times_s[keys] <= t_s + 0.5 / film.fps]
    stamp = int(table.stamps[before[-1]]) if len(before) else None
    side = min(COVER_SIDE, max(film.shown_size))
    found = None
    for frame in film.pictures(stamp, t_s + 0.5 / film.fps):
        found = frame
    assert found is not None, "a picture that was decoded before"
    return found.picture(side, film.aspect)


def encoded(picture: Picture, kind: str) -> bytes:
    """JPEG or WebP of Y, Cb, Cr planes in full range."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="yuvj444p")
    pixels = "yuvj420p" if kind == "jpg" else "yuv420p"
    frame = frame.reformat(width=frame.width // 2 * 2, height=frame.height // 2 * 2, format=pixels)
    encoder: Any = av.CodecContext.create("mjpeg" if kind == "jpg" else "libwebp", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = frame.width, frame.height, pixels, Fraction(1, 25)
    encoder.options = _QUALITY[kind]
    if kind == "jpg":
        encoder.qmin = encoder.qmax = 3
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def _sheet(tiles: Sequence[Picture], columns: int, gap: int) -> Picture:
    """Row by row; what is left of the last row stays dark."""
    _, height, width = tiles[0].shape
    rows = math.ceil(len(tiles) / columns)
    shape = (3, rows * (height + gap) + gap, columns * (width + gap) + gap)
    sheet = np.empty(shape, np.uint8)
    sheet[:] = np.array(_GREY, np.uint8)[:, None, None]
    for index, tile in enumerate(tiles):
        top, left = (index // columns) * (height + gap) + gap, (index % columns) * (width + gap) + gap
        sheet[:, top : top + height, left : left + width] = tile
    return sheet


def web_vtt(times_s: Sequence[float], duration_s: float, sprite: str, columns: int, shape: tuple[int, ...]) -> str:
    """Each cue lasts from the time of its picture to that of the next; the first begins with the video."""
    _, height, width = shape
    lines = ["WEBVTT", ""]
    edges = [0.0, *times_s[1:], max(duration_s, times_s[-1])]
    for index, (start, end) in enumerate(itertools.pairwise(edges)):
        left, top = (index % columns) * width, (index // columns) * height
        lines += [f"{clock(start)} --> {clock(end)}", f"{sprite}#xywh={left},{top},{width},{height}", ""]
    return "\n".join(lines)


def clock(seconds: float) -> str:
    """HH:MM:SS.mmm."""
    milliseconds = round(seconds * 1000)
    return (
        f"{milliseconds // 3600000:02d}:{milliseconds // 60000 % 60:02d}:{milliseconds // 1000 % 60:02d}.{milliseconds % 1000:03d}"
    )


def _contact(tiles: Sequence[tuple[float, Picture]]) -> Picture:
    """At most 20 pictures, evenly chosen, each with its time in the corner."""
    wanted = sorted({round(index) for index in np.linspace(0, len(tiles) - 1, min(_SHEET, len(tiles)))})
    shown = [_stamped(tiles[index][1], clock(tiles[index][0]).partition(".")[0]) for index in wanted]
    return _sheet(shown, min(4, len(shown)), _GAP)


def _stamped(tile: Picture, text: str) -> Picture:
    """With light digits on a dark ground, lower left."""
    dots = np.concatenate([_glyph(letter) for letter in text], axis=1)
    dots = np.pad(dots, 1).repeat(_SCALE, axis=0).repeat(_SCALE, axis=1)
    height, width = dots.shape
    if height > tile.shape[1] or width > tile.shape[2]:
        return tile
    stamped = tile.copy()
    corner = stamped[:, -height:, :width]
    corner[0] = np.where(dots, 235, corner[0] // 4)
    corner[1:] = 128
    return stamped


def _glyph(letter: str) -> np.ndarray:
    rows = [[row >> shift & 1 for shift in (2, 1, 0)] for row in _GLYPHS[letter]]
    return np.pad(np.array(rows, bool), ((0, 0), (0, 1)))
