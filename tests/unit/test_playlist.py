"""The rules of playlists and of windows, as laws over made ones."""

import re
import string
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dailies.errors import VideoError
from dailies.sources.hls.kept_segments import Mark, stretches
from dailies.sources.hls.playlist import Key, Limits, Master, MediaList, Piece, Segment, Span, Variant, fingerprint, pieces, read
from dailies.sources.hls.pool import LEAST_WINDOW, Window
from dailies.sources.hls.segments import is_media

BASE = "https://media.example.org/a/b/index.m3u8?token=1"
LIMITS = Limits("film", 1000)
NAMES = st.text(string.ascii_lowercase, min_size=1, max_size=5).map("{}.ts".format)
LENGTHS = st.integers(1, 20_000).map(lambda ms: ms / 1000)


def media(*lines: str) -> MediaList:
    found = read("\n".join(["#EXTM3U", *lines, "#EXT-X-ENDLIST"]), BASE, LIMITS)
    assert isinstance(found, MediaList)
    return found


def text_of(segments: Sequence[Segment]) -> str:
    """As a server would write it, each thing said outright."""
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:20", f"#EXT-X-MEDIA-SEQUENCE:{segments[0].number if segments else 0}"]
    for one in segments:
        lines.append("#EXT-X-KEY:METHOD=NONE" if one.key is None else f'#EXT-X-KEY:METHOD=AES-128,URI="{one.key.url}"')
        if one.key is not None and one.key.iv is not None:
            lines[-1] += f",IV=0x{one.key.iv.hex()}"
        lines += ["#EXT-X-DISCONTINUITY"] * one.is_discontinuous + ["#EXT-X-GAP"] * one.is_gap
        lines += [f"#EXT-X-BYTERANGE:{one.span.length}@{one.span.offset}"] if one.span else []
        lines += [f"#EXTINF:{one.duration_s:.3f},", one.url]
    return "\n".join([*lines, "#EXT-X-ENDLIST"])


@st.composite
def segment_lists(draw: st.DrawFn) -> tuple[Segment, ...]:
    first = draw(st.integers(0, 2**40))
    keys = st.none() | st.builds(Key, NAMES.map(lambda name: urljoin(BASE, name)), st.none() | st.binary(min_size=16, max_size=16))
    spans = st.none() | st.builds(Span, st.integers(0, 2**40), st.integers(1, 2**40))
    urls = NAMES.map(lambda name: urljoin(BASE, name))
    made = draw(st.lists(st.tuples(urls, LENGTHS, spans, keys, st.booleans(), st.booleans()), max_size=12))
    return tuple(
        Segment(first + at, url, length, span, key, is_discontinuous=cut, is_gap=gap)
        for at, (url, length, span, key, cut, gap) in enumerate(made)
    )


@given(segment_lists())
def test_what_is_written_is_what_is_read(segments: tuple[Segment, ...]) -> None:
    found = read(text_of(segments), BASE, LIMITS)

    assert isinstance(found, MediaList)
    assert found.segments == segments


@given(segment_lists())
def test_each_segment_is_one_piece_and_its_number_is_the_vector(segments: tuple[Segment, ...]) -> None:
    found = list(pieces(segments))

    assert [one.number for one in found] == [one.number for one in segments]
    assert [one.kind for one in found] == ["gap" if one.is_gap else "media" for one in segments]
    for piece, segment in zip(found, segments, strict=True):
        if segment.key is not None:
            assert piece.key == Key(segment.key.url, segment.key.iv or segment.number.to_bytes(16))


@given(segment_lists(), st.integers(0, 12))
def test_a_playlist_that_is_read_in_two_parts_gives_the_same_pieces(segments: tuple[Segment, ...], at: int) -> None:
    before, behind = segments[:at], segments[at:]
    last = before[-1].number if before else None

    assert [*pieces(before), *pieces(behind, last=last)] == list(pieces(segments))


@given(segment_lists(), st.text(string.ascii_lowercase, min_size=1, max_size=9))
def test_fresh_links_are_the_same_playlist_and_other_ranges_are_another(segments: tuple[Segment, ...], token: str) -> None:
    fresh = [replace(one, url=f"{one.url}?sign={token}") for one in segments]
    other = [replace(one, span=Span(1, 2**41)) for one in segments]

    assert fingerprint(pieces(fresh)) == fingerprint(pieces(segments))
    if segments:
        assert fingerprint(pieces(other)) != fingerprint(pieces(segments))
        assert fingerprint(pieces(segments[:-1])) != fingerprint(pieces(segments))


@given(st.lists(st.tuples(st.sampled_from(["a.ts", "b.ts"]), st.integers(1, 1000), st.booleans()), min_size=1, max_size=12))
def test_a_range_without_an_offset_begins_where_the_last_one_of_its_file_ended(ranges: list[tuple[str, int, bool]]) -> None:
    lines: list[str] = []
    expected: list[Span] = []
    for number, (name, length, is_said) in enumerate(ranges):
        follows = number > 0 and ranges[number - 1][0] == name and not is_said
        offset = expected[-1].end if follows else 5000 * number
        expected.append(Span(offset, length))
        lines += [f"#EXT-X-BYTERANGE:{length}" + ("" if follows else f"@{offset}"), "#EXTINF:1,", name]

    assert [one.span for one in media(*lines).segments] == expected


@given(st.lists(st.booleans(), max_size=20), st.integers(0, 40))
def test_a_window_has_failed_when_more_than_half_of_it_did(outcomes: list[bool], size: int) -> None:
    window = Window(size)
    for is_good in outcomes:
        window.add(is_good=is_good)

    last = outcomes[-window.size :]
    assert window.size == max(size, LEAST_WINDOW)
    assert window.has_failed == (len(last) == window.size and last.count(False) > window.size / 2)


MARKS = st.builds(
    Mark,
    st.integers(0, 2**50),
    st.sampled_from(["init", "media", "gap"]),
    st.booleans(),
    st.integers(0, 10**9),
    st.integers(0, 2**50),
    st.integers(0, 2**32 - 1),
)


@given(MARKS)
def test_a_line_of_the_journal_says_all_of_a_mark(mark: Mark) -> None:
    assert Mark.parse(str(mark)) == mark


@given(MARKS, st.integers(0, 80))
def test_half_a_line_of_the_journal_is_no_mark(mark: Mark, length: int) -> None:
    text = str(mark)

    assert length >= len(text) or Mark.parse(text[:length]) is None


@given(st.lists(MARKS, max_size=9))
def test_stretches_hold_every_mark_once_and_begin_where_one_begins(marks: list[Mark]) -> None:
    found = stretches(marks)

    assert [mark for one in found for mark in one] == marks
    assert all(one[0].begins for one in found[1:])
    assert not any(mark.begins for one in found for mark in one[1:])


INIT = '#EXT-X-MAP:URI="init.mp4"'


def _said(found: MediaList) -> list[tuple[int, str, bool]]:
    return [(one.number, one.kind, one.begins) for one in pieces(found.segments)]


def test_an_init_stands_before_what_it_begins() -> None:
    found = media(INIT, "#EXTINF:1,", "a.m4s", "#EXTINF:1,", "b.m4s", '#EXT-X-MAP:URI="other.mp4"', "#EXTINF:1,", "c.m4s")

    assert _said(found) == [(0, "init", True), (0, "media", False), (1, "media", False), (2, "init", True), (2, "media", False)]


def test_an_init_is_given_again_behind_a_discontinuity() -> None:
    found = media(INIT, "#EXTINF:1,", "a.m4s", "#EXT-X-DISCONTINUITY", "#EXTINF:1,", "b.m4s")

    assert _said(found) == [(0, "init", True), (0, "media", False), (1, "init", True), (1, "media", False)]


def test_an_init_has_a_range_and_the_key_that_stood_before_it() -> None:
    found = media(
        '#EXT-X-KEY:METHOD=AES-128,URI="k1",IV=0x01', '#EXT-X-MAP:URI="all.mp4",BYTERANGE="720@0"', "#EXT-X-KEY:METHOD=NONE",
        "#EXT-X-BYTERANGE:100@720", "#EXTINF:1,", "all.mp4",
    )  # fmt: skip

    init = next(pieces(found.segments))
    assert (init.span, init.key) == (Span(0, 720), Key("https://media.example.org/a/b/k1", (1).to_bytes(16)))
    assert found.segments[0].key is None


def test_segments_that_were_lost_make_a_new_stretch() -> None:
    later = [Segment(number, "u", 1.0) for number in (7, 8)]

    assert [one.begins for one in pieces(later, last=3)] == [True, False]
    assert [one.begins for one in pieces(later, last=6)] == [False, False]


def test_a_plain_key_beside_one_of_a_drm_opens_the_segment() -> None:
    found = media(
        '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://x",KEYFORMAT="com.apple.streamingkeydelivery"',
        '#EXT-X-KEY:METHOD=AES-128,URI="plain"', "#EXTINF:1,", "a.ts",
    )  # fmt: skip

    assert found.segments[0].key == Key("https://media.example.org/a/b/plain", None)


@given(st.lists(st.tuples(st.integers(1, 9000), st.integers(1, 3000)), min_size=1, max_size=9), st.integers(0, 3000))
def test_the_best_variant_is_of_the_height_or_the_smallest(made: list[tuple[int, int]], max_height: int) -> None:
    master = Master(tuple(Variant("u", rate, height, None) for rate, height in made), ())
    best = master.best(max_height)

    fitting = [one for one in made if not max_height or one[1] <= max_height]
    if fitting:
        assert (best.bandwidth, best.height) == max(fitting)
    else:
        assert best.height == min(height for _, height in made)


def test_sound_alone_is_no_variant_of_a_film() -> None:
    text = (
        '#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9,CODECS="mp4a.40.2"\na\n#EXT-X-STREAM-INF:BANDWIDTH=5,CODECS="avc1,mp4a.40.2"\nb\n'
    )
    master = read(text, BASE, LIMITS)

    assert isinstance(master, Master)
    assert master.best(100).url.endswith("/b")


TAGS = (
    *("#EXT-X-KEY", "#EXT-X-MAP", "#EXTINF", "#EXT-X-BYTERANGE", "#EXT-X-MEDIA-SEQUENCE", "#EXT-X-STREAM-INF"),
    *("#EXT-X-MEDIA", "#EXT-X-SESSION-KEY", "#EXT-X-TARGETDURATION", "#EXT-X-DEFINE"),
)
TAGGED = st.builds("{}:{}\na.ts".format, st.sampled_from(TAGS), st.text(string.printable.replace("\n", ""), max_size=30))


@given(st.text(string.printable, max_size=200) | st.lists(TAGGED, max_size=6).map("\n".join))
def test_no_text_does_anything_but_be_read_or_refused_in_one_line(text: str) -> None:
    assert re.fullmatch(r"film: .+|", _refusal(f"#EXTM3U\n{text}"))


def _refusal(text: str) -> str:
    try:
        read(text, BASE, LIMITS)
    except VideoError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"\x47" + bytes(187) + b"\x47", True),
        (b"\x47" + bytes(187) + b"\x48", False),
        (b"\x47short", False),
        (b"\0\0\0\x18styp", True),
        (b"ID3\4", True),
        (b"\xff\xf1\x50", True),
        (b"<html>", False),
        (b"", False),
    ],
)
def test_what_a_segment_may_begin_with(head: bytes, expected: bool) -> None:
    assert is_media(head) is expected


def test_a_piece_shows_no_link() -> None:
    assert "token" not in repr(Piece(1, "media", False, 1, BASE)) + repr(Segment(1, BASE, 1.0)) + repr(Key(BASE, None))
