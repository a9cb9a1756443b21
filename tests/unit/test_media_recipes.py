"""ffmpeg command lines as values, and where the clips of a preview lie."""

import re
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dailies.clock import Deadline, SystemClock
from dailies.media import ffmpeg, recipes, render, verify
from dailies.media.analysis import Pace
from dailies.media.children import Children
from dailies.media.probe import Probe, Stream, probe
from dailies.media.scenes import even_clips
from dailies.model import Clip
from support import ClipMaker

SOURCE, TARGET = Path("/work/source"), Path("/work/output.mp4")
GLOBALS = {"-nostdin", "-hide_banner", "-y"}


def pictures(index: int = 0, codec: str | None = "h264", **more: Any) -> Stream:
    shape: dict[str, Any] = {"width": 1920, "height": 1080, "pixel_format": "yuv420p", "fps": 25.0, "packets": 100}
    return Stream(index=index, kind="video", codec=codec, is_decodable=True, **{**shape, **more})


def sound(index: int = 1, codec: str | None = "aac", **more: Any) -> Stream:
    return Stream(index=index, kind="audio", codec=codec, packets=100, **{"channels": 2, "sample_rate": 48000, **more})


def words(index: int, codec: str) -> Stream:
    return Stream(index=index, kind="subtitle", codec=codec, packets=3)


def probed(*streams: Stream, **tags: str) -> Probe:
    return Probe(format="mov", size_bytes=1, declared_s=4.0, bit_rate=1, tags=tags, streams=streams)


def argv_of(*streams: Stream, **tags: str) -> list[str]:
    return recipes.convert("ffmpeg", SOURCE, TARGET, recipes.plan(probed(*streams, **tags)), threads=2)


def values(argv: list[str], option: str) -> list[str]:
    return [argv[place + 1] for place, word in enumerate(argv) if word == option]


def mp4_part(argv: list[str]) -> list[str]:
    """The options of the first output."""
    return argv[: argv.index(str(TARGET)) + 1]


def hash_part(argv: list[str]) -> list[str]:
    return argv[argv.index(str(TARGET)) + 1 :]


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "vp9"])
def test_pictures_that_mp4_takes_are_copied(codec: str) -> None:
    argv = argv_of(pictures(codec=codec))

    assert values(argv, "-c:0") == ["copy"]
    assert "libx264" not in argv


@pytest.mark.parametrize("container", ["avi", "mpeg"])
def test_pictures_from_a_container_without_presentation_times_are_made_anew(container: str) -> None:
    plan = recipes.plan(probed(pictures(), sound()).model_copy(update={"format": container}))

    assert [track.is_copied for track in plan.tracks] == [False, True]


@pytest.mark.parametrize("codec", ["mpeg2video", "mpeg4", "vp8", "theora", "prores"])
def test_other_pictures_are_made_anew_as_h264_of_even_size(codec: str) -> None:
    argv = argv_of(pictures(codec=codec))

    assert [values(argv, option) for option in ("-c:0", "-preset:0", "-crf:0")] == [["libx264"], ["veryfast"], ["20"]]
    assert values(argv, "-filter:0") == ["scale=trunc(iw/2)*2:trunc(ih/2)*2,format=yuv420p"]


@pytest.mark.parametrize("codec", ["aac", "mp3", "ac3", "eac3", "opus"])
def test_sound_that_mp4_takes_is_copied(codec: str) -> None:
    assert values(argv_of(pictures(), sound(codec=codec)), "-c:1") == ["copy"]


@pytest.mark.parametrize("codec", ["vorbis", "mp2", "pcm_s16le", "flac", "wmav2"])
def test_other_sound_is_made_anew_as_aac_160k(codec: str) -> None:
    argv = argv_of(pictures(), sound(codec=codec))

    assert values(argv, "-c:0") == ["copy"], "only the stream that cannot be copied is made anew"
    assert (values(argv, "-c:1"), values(argv, "-b:1")) == (["aac"], ["160k"])


def test_only_hevc_gets_apples_tag() -> None:
    argv = argv_of(pictures(0, "h264"), pictures(1, "hevc"))

    assert values(argv, "-tag:1") == ["hvc1"]
    assert "-tag:0" not in argv


@pytest.mark.parametrize(("codec", "is_copied"), [("mov_text", True), ("subrip", False), ("ass", False), ("webvtt", False)])
def test_text_subtitles_become_mov_text(codec: str, is_copied: bool) -> None:
    assert values(argv_of(pictures(), words(1, codec)), "-c:1") == ["copy" if is_copied else "mov_text"]


def test_what_mp4_cannot_hold_is_left_out_and_named() -> None:
    cover = pictures(2, "mjpeg", is_picture=True)
    odd = [words(1, "hdmv_pgs_subtitle"), cover, Stream(index=3, kind="data", codec=None)]
    plan = recipes.plan(probed(pictures(), *odd, Stream(index=4, kind="attachment", codec="ttf"), sound(5)))

    assert [track.stream.index for track in plan.tracks] == [0, 5]
    assert plan.left_out == (
        "stream 1 (subtitle, hdmv_pgs_subtitle) left out",
        "stream 2 (picture, mjpeg) left out",
        "stream 3 (data, unknown) left out",
        "stream 4 (attachment, ttf) left out",
    )


def test_streams_that_cannot_be_read_are_left_out() -> None:
    plan = recipes.plan(probed(pictures(), sound(1, None), pictures(2, pixel_format=None), sound(3, channels=0)))

    assert [track.stream.index for track in plan.tracks] == [0]


def test_streams_are_mapped_in_their_order_to_both_outputs() -> None:
    argv = argv_of(sound(0), pictures(1), sound(4))

    assert values(mp4_part(argv), "-map") == ["0:0", "0:1", "0:4"]
    assert values(hash_part(argv), "-map") == ["0:0", "0:1", "0:4"]


def test_only_copied_pictures_and_sound_are_hashed() -> None:
    argv = argv_of(pictures(), sound(1, "vorbis"), words(2, "mov_text"), sound(3))

    assert values(hash_part(argv), "-map") == ["0:0", "0:3"]


def test_nothing_copied_means_no_hashes() -> None:
    assert "streamhash" not in argv_of(pictures(codec="vp8"), sound(codec="vorbis"))


def test_raw_streams_are_hashed_as_mp4_will_hold_them() -> None:
    streams = [pictures(0, "h264", is_raw=True), sound(1, "aac", is_raw=True), pictures(2, "hevc", is_raw=True)]
    before = hash_part(argv_of(*streams))
    after = recipes.plan(probed(*streams)).output_filters()

    h264, hevc = "h264_mp4toannexb,filter_units=remove_types=7-9", "hevc_mp4toannexb,filter_units=remove_types=32-35"
    assert [values(before, f"-bsf:{n}") for n in range(3)] == [[h264], ["aac_adtstoasc"], [hevc]]
    assert after == {0: h264, 2: hevc}


def test_streams_of_mp4_and_matroska_need_no_filter() -> None:
    plan = recipes.plan(probed(pictures(), sound()))

    assert not any("-bsf" in word for word in argv_of(pictures(), sound()))
    assert plan.output_filters() == {}


def test_the_outputs_streams_are_hashed_by_their_new_places() -> None:
    streams = (Stream(index=0, kind="data", codec=None), sound(1, "vorbis"), pictures(2, is_raw=True), sound(3))
    plan = recipes.plan(probed(*streams))

    assert [index for index, _ in plan.copied()] == [1, 2]
    assert list(plan.output_filters()) == [1]


def test_a_person_sees_faststart_and_no_location_or_device() -> None:
    argv = mp4_part(argv_of(pictures(), sound()))

    assert values(argv, "-movflags") == ["+faststart"]
    assert values(argv, "-map_metadata:g") == ["-1"]
    assert values(argv, "-map_metadata:s") == ["-1"]


def test_kept_tags_languages_and_titles_are_each_an_option_of_their_own() -> None:
    argv = mp4_part(argv_of(pictures(), sound(language="fra", title="Commentary"), title="My talk", artist="Me"))

    assert sorted(values(argv, "-metadata")) == ["artist=Me", "title=My talk"]
    assert values(argv, "-metadata:s:0") == ["language=und"]
    assert sorted(values(argv, "-metadata:s:1")) == ["language=fra", "title=Commentary"]


def test_kept_tags_and_languages_arrive_in_the_mp4(make_clip: ClipMaker, tmp_path: Path, children: Children) -> None:
    source = make_clip("talk.mkv", options=("-metadata", "title=My talk", "-metadata:s:1", "language=fra"))
    deadline, target = Deadline.after(SystemClock(), 60), tmp_path / "output.mp4"
    known = probe("talk", source, deadline, children=children)

    render.convert("talk", source, target, known, render.Rules(work=tmp_path, threads=1, children=children), deadline)

    made = probe("talk", target, deadline, children=children)
    assert made.tags == {"title": "My talk"}
    assert [stream.language for stream in made.of_kind("audio")] == ["fra"]


def test_a_packet_that_arrives_changed_is_refused(make_clip: ClipMaker, tmp_path: Path, children: Children) -> None:
    source = make_clip("whole.mp4")
    deadline = Deadline.after(SystemClock(), 60)
    plan = recipes.plan(probe("whole", source, deadline, children=children))
    hashes = [stream.crc32 or "" for stream in probe("whole", source, deadline, children=children, filters={}).streams]
    content = bytearray(source.read_bytes())
    content[content.index(b"mdat") + 2000] ^= 1
    (tmp_path / "changed.mp4").write_bytes(content)

    whole = probe("whole", source, deadline, children=children, filters={})
    changed = probe("changed", tmp_path / "changed.mp4", deadline, children=children, filters={})

    assert verify.packets_differ(hashes, whole, plan) is None
    assert "packets differ" in (verify.packets_differ(hashes, changed, plan) or "")


def test_a_source_is_opened_by_content_and_only_from_disk() -> None:
    clip, media, look = Clip(start_s=0, length_s=1), probed(pictures()), recipes.Look()
    argvs = [
        argv_of(pictures()),
        recipes.decode("ffmpeg", SOURCE, [0], threads=1),
        *(recipes.preview("ffmpeg", SOURCE, TARGET, [clip], media, look, threads=1, is_one_pass=one) for one in (False, True)),
        recipes.piece("ffmpeg", SOURCE, TARGET, clip, media, look, Pace()),
        recipes.joined_pieces("ffmpeg", [SOURCE], TARGET, [clip], media, look, Pace(), threads=1),
        recipes.animation("ffmpeg", SOURCE, TARGET),
    ]

    for argv in argvs:
        before_input = argv[: argv.index("-i")]
        assert values(before_input, "-protocol_whitelist") == ["file,pipe"]
        assert values(before_input, "-format_whitelist") == [ffmpeg.FORMATS]
        assert not {"hls", "concat", "dash", "image2"} & set(ffmpeg.FORMATS.split(","))


def test_every_line_asks_nothing_and_says_its_levels() -> None:
    argv = argv_of(pictures())

    assert set(argv) >= GLOBALS
    assert values(argv, "-v") == ["level+warning"]


@pytest.mark.parametrize("name", ["-y", "-i", "--help.mp4", "-filter_complex", "a b;c.mp4", "%d.mp4", "new\nline.mp4"])
def test_a_name_stays_one_word_behind_its_folder(name: str) -> None:
    source, target = Path("/work") / name, Path("/work/tmp") / name
    plan = recipes.plan(probed(pictures(), sound()))

    argv = recipes.convert("ffmpeg", source, target, plan, threads=1)

    assert argv[argv.index("-i") + 1] == str(source)
    assert argv.count(str(target)) == 1
    assert name not in [word for word in argv if word not in {"-y", "-i"}], "never a word of its own"
    assert argv.count("-i") == 1


def test_a_name_with_a_leading_dash_is_converted(clip: Path, tmp_path: Path, children: Children) -> None:
    source = tmp_path / "-y -i.mp4"
    source.write_bytes(clip.read_bytes())
    deadline, target = Deadline.after(SystemClock(), 60), tmp_path / "--help.mp4"
    known = probe("dash", source, deadline, children=children)

    assert render.convert("dash", source, target, known, render.Rules(work=tmp_path, threads=1, children=children), deadline) == []
    assert target.stat().st_size > 0


def preview_of(*streams: Stream, look: recipes.Look | None = None, is_one_pass: bool = False) -> list[str]:
    chosen, media = even_clips(600, clips=3, length_s=3), probed(*streams)
    return recipes.preview("ffmpeg", SOURCE, TARGET, chosen, media, look or recipes.Look(), threads=2, is_one_pass=is_one_pass)


def graph(argv: list[str]) -> str:
    (found,) = values(argv, "-filter_complex")
    return found


def files(argv: list[str]) -> list[str]:
    """What is opened, without the silence below the sound."""
    return [name for name in values(argv, "-i") if not name.startswith("anullsrc=")]


def test_a_preview_seeks_to_each_clip_in_one_process() -> None:
    argv = preview_of(pictures(), sound())

    assert files(argv) == [str(SOURCE)] * 3
    assert values(argv, "-ss") == ["98.500", "298.500", "498.500"]
    assert values(argv, "-t") == ["3.000"] * 3
    assert values(argv, "-movflags") == ["+faststart"]


def test_a_preview_of_a_file_that_cannot_be_entered_reads_it_once() -> None:
    argv = preview_of(pictures(), sound(), is_one_pass=True)

    assert (files(argv), values(argv, "-ss")) == ([str(SOURCE)], [])
    assert re.findall(r"\]trim=[^\[]*start=(.*?)\[", graph(argv)) == ["98.500", "298.500", "498.500"]


def test_a_preview_is_made_as_the_settings_say() -> None:
    argv = preview_of(pictures(), look=recipes.Look(height=240, preset="slow", crf=30))

    assert [values(argv, option) for option in ("-preset", "-crf")] == [["slow"], ["30"]]
    assert "scale=426:240" in graph(argv)


def test_a_preview_of_a_silent_video_has_no_sound() -> None:
    argv = preview_of(pictures())

    assert "concat=a=0:n=3:v=1" in graph(argv)
    assert "-c:a" not in argv


def test_a_preview_with_sound_joins_both() -> None:
    argv = preview_of(pictures(), sound())

    assert "concat=a=1:n=3:v=1" in graph(argv)
    assert values(argv, "-c:a") == ["aac"]


def test_a_preview_takes_the_largest_pictures_and_at_most_30_a_second() -> None:
    shown = graph(preview_of(pictures(0, width=320, height=180), pictures(3, fps=60.0)))

    assert "[0:3]fps=30.000" in shown
    assert "[0:0]" not in shown


@pytest.mark.parametrize(
    ("stream", "height", "size"),
    [
        (pictures(), 480, (854, 480)),
        (pictures(width=480, height=204), 480, (480, 204)),
        (pictures(width=321, height=241), 480, (320, 240)),
        (pictures(rotation=90), 480, (270, 480)),
        (pictures(width=720, height=576, sample_aspect=(16, 15)), 480, (640, 480)),
        (pictures(width=1, height=1), 480, (2, 2)),
    ],
)
def test_preview_sizes(stream: Stream, height: int, size: tuple[int, int]) -> None:
    assert recipes.preview_size(stream, height) == size


@given(
    width=st.integers(2, 8000),
    height=st.integers(2, 8000),
    rotation=st.sampled_from([0, 90, 180, 270, -90]),
    lines=st.integers(64, 2160),
)
def test_a_preview_is_even_and_never_scaled_up(width: int, height: int, rotation: int, lines: int) -> None:
    stream = pictures(width=width, height=height, rotation=rotation)

    made_width, made_height = recipes.preview_size(stream, lines)

    shown_width, shown_height = stream.shown_size()
    assert made_width % 2 == made_height % 2 == 0
    assert made_height <= min(lines, shown_height)
    assert made_width <= max(2, shown_width + 1), "at most rounded to the next even number"
    assert abs(made_width - made_height * Fraction(shown_width, shown_height)) <= 2


@given(duration=st.floats(0.04, 100_000), clips=st.integers(1, 50), length=st.floats(0.1, 60))
def test_clips_lie_within_the_video_in_order_and_never_overlap(duration: float, clips: int, length: float) -> None:
    chosen = even_clips(duration, clips=clips, length_s=length)

    edges = [edge for clip in chosen for edge in (clip.start_s, clip.start_s + clip.length_s)]
    rounding = 0.0011
    assert all(after >= before - rounding for before, after in pairwise(edges))
    assert edges[0] >= 0
    assert edges[-1] <= duration + rounding


@given(duration=st.floats(0.04, 100_000), clips=st.integers(1, 50), length=st.floats(0.1, 60))
def test_a_video_shorter_than_the_preview_is_used_whole_else_every_clip_is_there(
    duration: float, clips: int, length: float
) -> None:
    chosen = even_clips(duration, clips=clips, length_s=length)

    if duration <= clips * length:
        assert [(clip.start_s, clip.length_s) for clip in chosen] == [(0.0, round(duration, 3))]
    else:
        assert [clip.length_s for clip in chosen] == [length] * clips


@given(duration=st.floats(100, 100_000), clips=st.integers(2, 10))
def test_clips_are_spread_evenly_and_symmetrically(duration: float, clips: int) -> None:
    chosen = even_clips(duration, clips=clips, length_s=3.0)

    gaps = [after.start_s - before.start_s for before, after in pairwise(chosen)]
    assert max(gaps) - min(gaps) <= 0.0021
    assert chosen[0].start_s == pytest.approx(duration - chosen[-1].start_s - 3.0, abs=0.0021)
