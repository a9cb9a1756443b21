"""The rules of playlists and of windows, as laws over made ones."""

import re
import string
import tempfile
import time
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dailies.clock import Deadline, SystemClock
from dailies.errors import Transient, VideoError
from dailies.sources.asking import Way
from dailies.sources.hls.marks import Mark, stretches
from dailies.sources.hls.playlist import (
    Init,
    Key,
    Limits,
    Master,
    MediaList,
    Piece,
    Rendition,
    Segment,
    Span,
    Variant,
    fingerprint,
    pieces,
    read,
)
from dailies.sources.hls.pool import LEAST_WINDOW, Pool, Window
from dailies.sources.hls.segments import Job, is_media
from dailies.sources.hls.track import Track

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


@given(segment_lists(), st.text(), st.text())
def test_the_same_segments_of_another_variant_are_another_playlist(segments: tuple[Segment, ...], one: str, other: str) -> None:
    prints = [fingerprint(pieces(segments), Variant("u", 1, 2, None, codecs=codecs).print) for codecs in (one, other)]

    assert (prints[0] == prints[1]) == (one == other)


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
    st.sampled_from(["init", "media", "gap", "lost"]),
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


def test_what_was_begun_is_taken_again_where_the_settings_allow() -> None:
    low, high = Variant("u", 1, 240, "g"), Variant("v", 2, 1080, "g")
    named = [Rendition("g", "w", is_default, name) for is_default, name in ((False, "de"), (True, "en"))]
    master = Master((low, high), tuple(named))

    assert [master.best(0), master.best(0, low.print), master.best(480, high.print)] == [high, low, low]
    assert [master.sound_of(low), master.sound_of(low, named[0].print)] == [named[1], named[0]]


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


@pytest.mark.parametrize("tag", [*TAGS, "#EXT-X-ENDLIST", "a"])
@pytest.mark.parametrize("fill", ["A", '"', "A=", 'A="', "A ", " ", ",", "'", "1"])
def test_no_line_takes_long_to_be_read(tag: str, fill: str) -> None:
    began = time.process_time()

    _refusal(f"#EXTM3U\n{tag}:{fill * (60_000 // len(fill))}\n#EXTINF:1,\na.ts")

    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("#" + "x" * 70_000, "has a line of more than 65536 characters"),
        ("#EXT-X-STREAM-INF:BANDWIDTH=1\na\n" * 2000, "has more than 1000 variants or renditions"),
        ('#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="g",NAME="n",URI="u"\n' * 2000, "has more than 1000 variants or renditions"),
        ("".join(f'#EXT-X-KEY:METHOD=AES-128,URI="k",KEYFORMAT="{at}"\n' for at in range(50)), "one segment has too many keys"),
        ("#EXTINF:1e306,\na.ts", "a segment has no length in time, or more than a day"),
        ("#EXTINF:86401,\na.ts", "a segment has no length in time, or more than a day"),
        ("#EXTINF:nan,\na.ts", "a segment has no length in time, or more than a day"),
        ("#EXTINF:-1,\na.ts", "a segment has no length in time, or more than a day"),
    ],
)
def test_what_is_too_much_is_refused(text: str, why: str) -> None:
    assert why in _refusal(f"#EXTM3U\n{text}")


@pytest.mark.parametrize(("said", "expected"), [("0.001", 1), ("-5", 8), ("nan", 8), ("inf", 8), ("1e9", 60), ("6", 6), ("0", 8)])
def test_a_playlist_is_asked_again_at_a_bearable_pace(said: str, expected: float) -> None:
    assert media(f"#EXT-X-TARGETDURATION:{said}", "#EXTINF:8,", "a.ts").target_s == expected


@pytest.mark.parametrize("rate", ["1e308", "-1", "9" * 300])
def test_a_variant_of_any_bandwidth_has_a_sum(rate: str) -> None:
    master = read(f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH={rate}\na\n", BASE, LIMITS)

    assert isinstance(master, Master)
    assert 0 <= int(master.best(0).bandwidth / 8 * 1e13) < 10**40


def _track(folder: Path, *segments: Segment) -> Track:
    """As a run finds it, that follows these."""
    track = Track(folder, "main")
    track.resume(Deadline.after(SystemClock(), 60))
    track.follows(segments)
    return track


def _brought(track: Track) -> list[str]:
    """Bring all that is missing; the journal's lines, without lengths and sums."""
    for piece in track.missing():
        track.temporary(piece).write_bytes(b"x")
        track.loose[piece.place] = track.settled(piece, 1, zlib.crc32(b"x"))
    track.join()
    track.close()
    return [f"{mark.number} {mark.kind}{'+' * mark.begins}" for mark in track.marks]


def test_what_follows_a_lost_segment_begins_anew_also_in_the_next_run(tmp_path: Path) -> None:
    segments = [Segment(number, "u", 1.0) for number in range(4)]
    track = _track(tmp_path, *segments[:3])
    track.loses({(0, True), (2, True)})
    assert _brought(track) == ["0 lost", "1 media+", "2 lost"]

    assert _brought(_track(tmp_path, *segments)) == ["0 lost", "1 media+", "2 lost", "3 media+"]


def test_fragments_need_their_init_and_go_on_behind_a_lost_one(tmp_path: Path) -> None:
    inits = [Init(url, None, None) for url in "ab"]
    segments = [Segment(number, "u", 1.0, init=inits[number // 3]) for number in range(6)]
    track = _track(tmp_path, *segments)
    track.loses({(1, True), (3, False)})

    assert _brought(track) == ["0 init+", "0 media", "1 lost", "2 media", "3 lost", "4 lost", "5 lost"]


def test_who_waits_for_a_piece_that_is_due_does_not_spin() -> None:
    tries = iter([Transient("not yet")])

    def bring(job: Job, _deadline: Deadline) -> Mark:
        for error in tries:
            raise error
        return Mark.of(job.piece)

    deadline, turns = Deadline.after(SystemClock(), 60), 0
    with tempfile.TemporaryDirectory() as folder, Pool(bring, 1, deadline, lambda _most: 0.02) as pool:
        pool.gives([Job(Track(Path(folder), "main"), Piece(1, "media", begins=False), Way("u"))])
        while not pool.takes():
            turns += 1
            deadline.pause(pool.idle_s or 0.0)

    assert turns < 10


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
