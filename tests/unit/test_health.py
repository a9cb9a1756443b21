"""Is a file whole? Told from probes made by hand and from lines that ffmpeg really wrote."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dailies.errors import Category
from dailies.media.health import Fault, advice, damage, faults, is_readable
from dailies.media.probe import Probe, Stream


def pictures(index: int = 0, **more: Any) -> Stream:
    known: dict[str, Any] = {"codec": "h264", "width": 640, "height": 360, "pixel_format": "yuv420p", "packets": 250}
    return Stream(index=index, kind="video", **{**known, "is_decodable": True, "start_s": 0.0, "end_s": 10.0, **more})


def sound(index: int = 1, **more: Any) -> Stream:
    known: dict[str, Any] = {"codec": "aac", "channels": 2, "sample_rate": 48000, "packets": 470}
    return Stream(index=index, kind="audio", **{**known, "start_s": 0.0, "end_s": 10.0, **more})


def probed(*streams: Stream, declared_s: float | None = 10.0, container: str = "mov,mp4,m4a,3gp,3g2,mj2") -> Probe:
    return Probe(format=container, size_bytes=1, declared_s=declared_s, bit_rate=1, tags={}, streams=streams)


def told(*streams: Stream, accept_audio: bool = False, declared_s: float | None = 10.0) -> list[Fault]:
    return faults(probed(*streams, declared_s=declared_s), accept_audio=accept_audio)


def test_a_whole_file_has_no_faults_and_needs_no_advice() -> None:
    assert told(pictures(), sound()) == []
    assert advice(probed(pictures(), sound())) == []


def test_neither_pictures_nor_sound_is_unsupported() -> None:
    [fault] = told(Stream(index=0, kind="subtitle", codec="subrip", packets=3), accept_audio=True)

    assert (fault.category, fault.is_fatal) == (Category.UNSUPPORTED, True)


def test_sound_alone_is_no_video_unless_it_is_accepted() -> None:
    [fault] = told(sound(0))

    assert (fault.category, fault.is_fatal) == (Category.NO_VIDEO, True)
    assert "accept_audio = true" in fault.message
    assert told(sound(0), accept_audio=True) == []


def test_a_cover_picture_is_no_video() -> None:
    [fault] = told(sound(0), pictures(1, is_picture=True))

    assert fault.category is Category.NO_VIDEO


@pytest.mark.parametrize(
    "streams", [(pictures(codec=None),), (pictures(packets=0), sound(packets=0)), (pictures(is_decodable=False),)]
)
def test_a_file_of_which_nothing_can_be_read_cannot_be_salvaged(streams: tuple[Stream, ...]) -> None:
    [fault] = told(*streams)

    assert (fault.category, fault.is_fatal) == (Category.DAMAGED, True)


def test_sound_that_cannot_be_read_may_be_left_out_if_the_person_says_so() -> None:
    [fault] = told(pictures(), sound(codec=None))

    assert (fault.category, fault.is_fatal) == (Category.DAMAGED, False)
    assert fault.message.startswith("audio stream 1 (unknown codec) cannot be read")
    assert "accept_damaged = true" in fault.message


def test_pictures_that_cannot_be_read_are_fatal_though_the_sound_is_there() -> None:
    [fault] = told(pictures(is_decodable=False), sound())

    assert (fault.category, fault.is_fatal) == (Category.DAMAGED, True)


@pytest.mark.parametrize(
    "stream",
    [pictures(width=0), pictures(height=0), pictures(pixel_format=None), pictures(is_decodable=False), pictures(codec=None),
     sound(channels=0), sound(sample_rate=0), sound(codec=None)],
)  # fmt: skip
def test_a_stream_without_what_a_player_needs_is_unreadable(stream: Stream) -> None:
    assert not is_readable(stream)


def test_a_header_only_probe_has_not_tried_to_decode_and_is_believed() -> None:
    assert is_readable(pictures(is_decodable=None))


def test_corrupt_packets_are_counted_over_all_streams() -> None:
    [fault] = told(pictures(corrupt_packets=2), sound(corrupt_packets=1))

    assert (fault.category, fault.is_fatal) == (Category.DAMAGED, False)
    assert fault.message.startswith("3 packets are corrupt")


def test_an_interrupted_copy_is_told_by_its_headers_promise() -> None:
    [fault] = told(pictures(end_s=2.2), sound(end_s=2.1), declared_s=5.0)

    assert (fault.category, fault.is_fatal) == (Category.DAMAGED, False)
    assert fault.message.startswith("is cut short: its header promises 5.0 s, 2.2 s are there")


@pytest.mark.parametrize(
    ("declared_s", "held_s", "is_fault"), [(10, 9.1, False), (10, 8.9, True), (1000, 991, False), (1000, 989, True)]
)
def test_a_second_or_a_hundredth_may_be_missing(declared_s: float, held_s: float, is_fault: bool) -> None:
    assert bool(told(pictures(end_s=held_s), declared_s=declared_s)) is is_fault


@given(st.floats(0.1, 100_000), st.floats(0, 1))
def test_missing_media_is_a_fault_exactly_beyond_the_allowance(declared_s: float, share: float) -> None:
    held_s = declared_s * share

    found = told(pictures(end_s=held_s), declared_s=declared_s)

    assert bool(found) == (declared_s - held_s > max(1.0, declared_s / 100))


def test_a_transport_streams_header_promises_nothing() -> None:
    assert faults(probed(pictures(end_s=2.0), declared_s=60.0, container="mpegts"), accept_audio=False) == []


def test_a_file_whose_clock_begins_late_is_not_short() -> None:
    assert told(pictures(start_s=100.0, end_s=110.0), declared_s=10.0) == []


def test_a_header_that_counts_from_zero_promises_the_lead_in_too() -> None:
    assert told(pictures(start_s=100.0, end_s=110.0), declared_s=110.0) == []


def test_a_file_that_begins_inside_a_group_of_pictures_is_told_and_not_refused() -> None:
    stream = pictures(leading_packets=7)

    assert told(stream) == []
    assert advice(probed(stream)) == ["begins inside a group of pictures: the first 7 pictures of stream 0 are left out"]


# Written by ffmpeg 9 at `-v level+warning` while it copied the real damaged clips.
DEMUXER_LINES = [
    "[in#0/mov,mp4,m4a,3gp,3g2,mj2 @ 0x5583a69ba7c0] [warning] Packet corrupt (stream = 0, dts = 25600).",
    "[in#0/mov,mp4,m4a,3gp,3g2,mj2 @ 0x5583a69ba440] [warning] corrupt input packet in stream 0",
    "[in#0/mov,mp4,m4a,3gp,3g2,mj2 @ 0x5583a69ba7c0] [error] stream 1, offset 0x57093: partial file",
    "[in#0/matroska,webm @ 0x55d30da55780] [error] Error parsing frame sizes.",
    "[in#0 @ 0x55f5ffdfd6c0] [error] Invalid mdhd time scale -771239991, defaulting to 1",
]
CODEC_LINES = [
    "[h264 @ 0x556132120dc0] [error] Invalid NAL unit size (0 > 2826).",
    "[h264 @ 0x556132120dc0] [error] missing picture in access unit with size 2830",
    "[aac @ 0x55f5ffe03e40] [error] Prediction is not allowed in AAC-LC.",
    "[NULL @ 0x55a0c8451400] [error] non-existing PPS 0 referenced",
]
HARMLESS_LINES = [
    "[in#0/mov,mp4,m4a,3gp,3g2,mj2 @ 0x55f5ffdfd6c0] [warning] Found duplicated MOOV Atom. Skipped it",
    "[in#0/mpegts @ 0x55a0c844c800] [warning] PES packet size mismatch",
    "[mp4 @ 0x55d30da5d300] [warning] track 1: codec frame size is not set",
    '[h264 @ 0x55f5ffdff000] [warning] Failed to parse header of NALU (type 0): "Invalid data found". Skipping NALU.',
    "[aist#0:2/mp3 @ 0x55d30dac1c00] [warning] Guessed Channel Layout: stereo",
    "    Consider increasing the value for the 'analyzeduration' (0) and 'probesize' (5000000) options",
    "",
]


@pytest.mark.parametrize("line", DEMUXER_LINES)
def test_what_a_demuxer_misses_is_missing(line: str) -> None:
    assert damage([line], {"h264", "aac"}) == ([line.partition("] [")[2].partition("] ")[2]], [])


@pytest.mark.parametrize("line", CODEC_LINES)
def test_what_a_codec_complains_of_is_inside_packets_that_are_there(line: str) -> None:
    assert damage([line], {"h264", "aac"}) == ([], [line.partition("] [")[2].partition("] ")[2]])


@pytest.mark.parametrize("line", HARMLESS_LINES)
def test_a_mere_warning_is_no_damage(line: str) -> None:
    assert damage([line], {"h264", "aac"}) == ([], [])


@pytest.mark.parametrize("context", ["mp4", "streamhash", "out#0/mp4", "vost#0:0/libx264", "vf#0:0", "enc:libx264"])
def test_what_the_output_complains_of_is_no_damage_of_the_source(context: str) -> None:
    assert damage([f"[{context} @ 0x55d30da5d300] [error] Packet is corrupt"], {"h264", "aac"}) == ([], [])


def test_lines_keep_their_order_and_each_goes_one_way() -> None:
    broken, inner = damage([*CODEC_LINES, *HARMLESS_LINES, *DEMUXER_LINES], {"h264", "aac"})

    assert (len(broken), len(inner)) == (len(DEMUXER_LINES), len(CODEC_LINES))
    assert broken[0].startswith("Packet corrupt")


@given(st.lists(st.text(max_size=60)))
def test_no_line_of_any_kind_breaks_the_reading(lines: list[str]) -> None:
    broken, inner = damage(lines, {"h264"})

    assert len(broken) + len(inner) <= len(lines)
