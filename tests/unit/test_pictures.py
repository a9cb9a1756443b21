"""Sprite sheets, their WebVTT, contact sheets and the digits on them; pictures are encoded for real and read by PyAV."""

import io
import itertools
import re
from datetime import timedelta

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dailies.media.child import pictures
from dailies.media.child.measures import Picture

CUE = re.compile(r"(\d\d+):(\d\d):(\d\d)\.(\d{3}) --> (\d\d+):(\d\d):(\d\d)\.(\d{3})\n(\S+)#xywh=(\d+),(\d+),(\d+),(\d+)\n")
TIMES = st.lists(st.integers(0, 400_000), min_size=1, max_size=90, unique=True).map(
    lambda found: [one / 100 for one in sorted(found)]
)


def grey(level: int, height: int = 90, width: int = 160) -> Picture:
    return np.stack([np.full((height, width), value, np.uint8) for value in (level, 128, 128)])


def cues(text: str) -> list[tuple[float, float, str, tuple[int, int, int, int]]]:
    """(begin, end, picture, x y width height) of each cue; all of the text must be cues."""
    head, _, body = text.partition("\n\n")
    assert head == "WEBVTT"
    found = []
    for match in CUE.finditer(body):
        numbers = [int(one) for one in match.groups()[:8]]
        begin, end = (timedelta(hours=h, minutes=m, seconds=s, milliseconds=ms) for h, m, s, ms in (numbers[:4], numbers[4:]))
        x, y, width, height = (int(one) for one in match.groups()[9:])
        found.append((begin.total_seconds(), end.total_seconds(), match[9], (x, y, width, height)))
    assert CUE.sub("", body).strip() == ""
    return found


@given(TIMES, st.integers(0, 100))
def test_the_cues_follow_each_other_from_the_beginning_to_the_end(times_s: list[float], rest_s: int) -> None:
    duration_s = times_s[-1] + rest_s
    found = cues(pictures.web_vtt(times_s, duration_s, "sprite.jpg", 9, (3, 90, 160)))

    assert len(found) == len(times_s)
    assert found[0][0] == 0.0
    assert found[-1][1] == pytest.approx(duration_s)
    assert all(begin <= end for begin, end, *_ in found)
    assert all(one[1] == two[0] for one, two in itertools.pairwise(found))
    assert [begin for begin, *_ in found[1:]] == pytest.approx(times_s[1:])


@given(TIMES, st.integers(1, 12), st.integers(1, 120), st.integers(1, 160))
def test_every_cue_shows_a_tile_of_its_own_inside_the_sheet(times_s: list[float], columns: int, height: int, width: int) -> None:
    tiles = [grey(100, height, width)] * len(times_s)
    _, tall, wide = pictures._sheet(tiles, columns, 0).shape
    found = cues(pictures.web_vtt(times_s, times_s[-1] + 1, "s.jpg", columns, tiles[0].shape))

    places = [place for *_, place in found]
    assert len(set(places)) == len(places)
    assert all(x + one_wide <= wide and y + one_tall <= tall for x, y, one_wide, one_tall in places)
    assert {place[2:] for place in places} == {(width, height)}


def test_a_cue_shows_the_tile_that_was_put_there() -> None:
    tiles = [grey(20 + 7 * number) for number in range(23)]
    sheet = pictures._sheet(tiles, 5, 0)
    found = cues(pictures.web_vtt(list(range(23)), 23, "s.jpg", 5, tiles[0].shape))

    for number, (*_, (x, y, width, height)) in enumerate(found):
        assert (sheet[0, y : y + height, x : x + width] == 20 + 7 * number).all()


@given(st.floats(0, 360_000 * 10, allow_nan=False))
def test_a_clock_is_right_to_the_millisecond(seconds: float) -> None:
    hours, minutes, rest = pictures.clock(seconds).split(":")

    assert int(minutes) < 60
    assert float(rest) < 60
    assert int(hours) * 3600 + int(minutes) * 60 + float(rest) == pytest.approx(seconds, abs=0.00051)


def test_each_digit_has_a_glyph_of_its_own() -> None:
    drawn = {letter: pictures._glyph(letter) for letter in "0123456789:"}

    assert {glyph.shape for glyph in drawn.values()} == {(5, 4)}
    assert len({glyph.tobytes() for glyph in drawn.values()}) == 11
    assert not any(glyph[:, 3].any() for glyph in drawn.values())


def test_a_stamp_is_light_on_dark_in_the_corner_and_nowhere_else() -> None:
    tile = grey(120)
    stamped = pictures._stamped(tile, "01:02:03")

    changed = np.argwhere(stamped[0] != tile[0])
    assert changed[:, 0].min() >= 90 - 7 * 3
    assert changed[:, 1].max() < (8 * 4 + 2) * 3
    assert set(np.unique(stamped[0])) == {30, 120, 235}
    assert (tile[0] == 120).all()


@pytest.mark.parametrize(("height", "width"), [(2, 2), (20, 300), (90, 50)])
def test_a_stamp_that_does_not_fit_is_left_out(height: int, width: int) -> None:
    tile = grey(120, height, width)

    assert np.array_equal(pictures._stamped(tile, "01:02:03"), tile)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 19, 20, 21, 81])
def test_a_contact_sheet_holds_at_most_twenty_pictures_the_first_and_the_last_among_them(count: int) -> None:
    tiles = [(float(number), grey(20 + 2 * number)) for number in range(count)]
    sheet = pictures._contact(tiles)[0]

    columns = min(4, count)
    assert sheet.shape[1] == columns * (160 + 4) + 4
    tops = [(4 + row * 94, 4 + column * 164) for row in range(sheet.shape[0] // 94) for column in range(columns)]
    levels = [int(sheet[top + 5, left + 5]) for top, left in tops]
    shown = [level for level in levels if level != 16]
    assert len(shown) == min(count, 20)
    assert (shown[0], shown[-1]) == (20, 20 + 2 * (count - 1))
    assert shown == sorted(shown)


@pytest.mark.parametrize(("kind", "codec"), [("jpg", "mjpeg"), ("webp", "webp")])
@pytest.mark.parametrize(("height", "width"), [(90, 160), (91, 161), (2, 2)])
def test_a_picture_is_encoded_as_it_is(kind: str, codec: str, height: int, width: int) -> None:
    content = pictures.encoded(grey(200, height, width), kind)

    with av.open(io.BytesIO(content), "r") as container:
        [frame] = container.decode(video=0)
        assert container.streams.video[0].codec_context.name == codec
    assert (frame.width, frame.height) == (width // 2 * 2, height // 2 * 2)
    assert frame.to_ndarray(format="gray").mean() == pytest.approx(200, abs=6)
