"""Odd, huge, hostile and broken files through `dailies preview`: a correct preview, or a clear reason. PyAV alone reads them."""

import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import av
import numpy as np
import pytest

from dailies.cli import main
from dailies.clock import Deadline, SystemClock
from dailies.media import ffmpeg
from dailies.media.analysis import Wanted
from dailies.media.children import Children
from dailies.media.scenes import analyse
from support import Finished, run_cli

CHEAP = ("--encoder-preset", "ultrafast", "--height", "120", "--clips", "2", "--clip-length", "1")
Preview = Callable[..., Finished]
Maker = Callable[..., Path]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.mp4"


@pytest.fixture
def preview(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Preview:
    """The command in this process, outside of any library."""
    monkeypatch.chdir(tmp_path)

    def run(path: Path, *more: str) -> Finished:
        capsys.readouterr()
        code = main(["preview", str(path), "-o", str(out), *CHEAP, *more])
        return Finished(int(code), *capsys.readouterr())

    return run


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    """`make(name, *options, size=, rate=, seconds=, sound_s=)`: a moving test picture with a tone, encoded as the options say."""

    def made(
        name: str,
        *options: str,
        size: str = "160x120",
        rate: str = "25",
        seconds: float = 3,
        sound_s: float | None = None,
        before: tuple[str, ...] = (),
    ) -> Path:
        path = tmp_path / name
        inputs = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}:duration={seconds}"]
        if sound_s is not None:
            inputs += ["-f", "lavfi", "-i", f"sine=sample_rate=48000:duration={sound_s}"]
        chosen = options or ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
        subprocess.run([ffmpeg.executable(), "-v", "error", *before, *inputs, *chosen, "-y", str(path)], check=True)
        return path

    return made


@dataclass(frozen=True)
class Shown:
    """What a player makes of a preview."""

    size: tuple[int, int]
    times_s: tuple[float, ...]
    sound_s: float | None
    first: np.ndarray  # RGB
    transfer: int
    pixels: str

    @property
    def duration_s(self) -> float:
        return self.times_s[-1] + (self.times_s[-1] - self.times_s[0]) / max(1, len(self.times_s) - 1)


def is_faststart(path: Path) -> bool:
    """Whether `moov` stands before `mdat`."""
    content, at, found = path.read_bytes(), 0, list[bytes]()
    while at + 8 <= len(content):
        size, kind = struct.unpack(">I4s", content[at : at + 8])
        found.append(kind)
        at += struct.unpack(">Q", content[at + 8 : at + 16])[0] if size == 1 else max(size, 8)
    return found.index(b"moov") < found.index(b"mdat")


def read(path: Path) -> Shown:
    with av.open(str(path)) as container:
        [video] = container.streams.video
        frames = list(container.decode(video))
        context = video.codec_context
        sound = None
    with av.open(str(path)) as container:
        if container.streams.audio:
            sound = sum(frame.samples for frame in container.decode(audio=0)) / (container.streams.audio[0].rate or 1)
    return Shown(
        size=(context.width, context.height),
        times_s=tuple(float(frame.time or 0) for frame in frames),
        sound_s=sound,
        first=frames[len(frames) // 2].to_ndarray(format="rgb24"),
        transfer=int(context.color_trc or 0),
        pixels=str(context.pix_fmt),
    )


def the_preview(out: Path, done: Finished, *, duration_s: float, aspect: float, has_sound: bool | None = None) -> Shown:
    """It is there and is what every preview must be; durations to 0.12 s, shapes to 4 %."""
    assert done.code == 0, done.err
    assert is_faststart(out)
    shown = read(out)
    assert (shown.size[0] % 2, shown.size[1] % 2) == (0, 0)
    assert shown.pixels in {"yuv420p", "yuvj420p"}
    assert shown.size[0] / shown.size[1] == pytest.approx(aspect, rel=0.04)
    assert shown.duration_s == pytest.approx(duration_s, abs=0.12)
    gaps = [two - one for one, two in pairwise(shown.times_s)]
    assert max(gaps) - min(gaps) < 0.002, "the frame rate is not constant"
    assert shown.times_s[0] == pytest.approx(0, abs=0.05)
    if has_sound is not None:
        assert (shown.sound_s is not None) == has_sound
    if shown.sound_s is not None:
        assert shown.sound_s == pytest.approx(duration_s, abs=0.12)
    return shown


def the_reason(out: Path, done: Finished) -> str:
    """One line that says why there is none."""
    assert done.code in {1, 2}, done.err
    assert not out.exists()
    assert "Traceback" not in done.err
    [line] = done.err.strip().splitlines()
    return line


X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")

# name -> how it is encoded; all last 3 s at 4:3
FORMS: dict[str, tuple[str, ...]] = {
    "plain.mp4": X264,
    "offset.mp4": (*X264, "-output_ts_offset", "10"),
    "offset.ts": (*X264, "-output_ts_offset", "1000"),
    "one-keyframe.mkv": (*X264, "-g", "9999", "-sc_threshold", "0"),
    "b-frames.mp4": ("-c:v", "libx264", "-preset", "medium", "-bf", "4", "-pix_fmt", "yuv420p"),
    "no-cues.mkv": (*X264, "-cues_to_front", "0", "-live", "1"),
    "fragments.mp4": (*X264, "-movflags", "frag_keyframe+empty_moov"),
    "old.avi": ("-c:v", "mpeg4"),
    "old.mpg": ("-c:v", "mpeg2video"),
    "old.flv": ("-c:v", "flv1"),
    "pictures.mkv": ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p"),
    "422.mkv": ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv422p10le"),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_file_gives_a_preview(name: str, make: Maker, preview: Preview, out: Path) -> None:
    done = preview(make(name, *FORMS[name]))

    the_preview(out, done, duration_s=2.0, aspect=4 / 3, has_sound=False)


def test_sound_that_outlasts_the_pictures_is_not_shown(make: Maker, preview: Preview, out: Path) -> None:
    done = preview(make("long-sound.mp4", *X264, "-c:a", "aac", seconds=3, sound_s=9))

    the_preview(out, done, duration_s=2.0, aspect=4 / 3, has_sound=True)


def test_pictures_that_outlast_the_sound_are_shown_in_silence(make: Maker, preview: Preview, out: Path) -> None:
    done = preview(make("short-sound.mp4", *X264, "-c:a", "aac", seconds=6, sound_s=1))

    the_preview(out, done, duration_s=2.0, aspect=4 / 3, has_sound=True)


@pytest.mark.parametrize("seconds", [0.04, 0.5, 2.0])
def test_a_video_shorter_than_its_preview_is_shown_whole(seconds: float, make: Maker, preview: Preview, out: Path) -> None:
    done = preview(make("short.mp4", *X264, "-c:a", "aac", seconds=seconds, sound_s=seconds))

    assert done.code == 0, done.err
    assert is_faststart(out)
    assert read(out).duration_s == pytest.approx(seconds, abs=0.12)
    assert "1 clips" in done.out


def test_a_variable_frame_rate_becomes_constant(make: Maker, preview: Preview, out: Path) -> None:
    drops = ("-vf", "select='not(mod(n,7))+lt(mod(n,30),6)'", "-fps_mode", "vfr")
    done = preview(make("vfr.mp4", *drops, *X264, seconds=6))

    the_preview(out, done, duration_s=2.0, aspect=4 / 3)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_rotation_is_applied(rotation: int, make: Maker, preview: Preview, out: Path, tmp_path: Path) -> None:
    """The upper left of the test picture is not what its other corners are."""
    flat, turned = make("flat.mp4", *X264, size="160x90"), tmp_path / "turned.mp4"
    argv = ["-display_rotation", str(rotation), "-i", str(flat), "-c", "copy", str(turned)]
    subprocess.run([ffmpeg.executable(), "-v", "error", *argv], check=True)
    assert preview(flat, "--height", "90").code == 0
    upright = read(out).first.astype(float)

    done = preview(turned, "--height", "160" if rotation % 180 else "90")

    shown = the_preview(out, done, duration_s=2.0, aspect=16 / 9 if rotation == 180 else 9 / 16)
    expected = np.rot90(upright, rotation // 90)
    assert shown.first.shape == expected.shape
    assert np.abs(shown.first - expected).mean() < 12


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_hdr_is_shown_in_colours_of_ordinary_screens(transfer: str, make: Maker, preview: Preview, out: Path) -> None:
    """A grey ramp coded in PQ or HLG comes out neither washed out nor clipped, and is labelled or unlabelled SDR."""
    colours = f"-color_primaries bt2020 -color_trc {transfer} -colorspace bt2020nc".split()
    tags = f"colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc:log-level=none"
    x265 = ("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le", "-x265-params", tags, *colours, "-tag:v", "hvc1")
    path = make("hdr.mp4", *x265, seconds=4)
    with av.open(str(path)) as container:
        assert int(container.streams.video[0].codec_context.color_trc) == {"smpte2084": 16, "arib-std-b67": 18}[transfer]

    shown = the_preview(out, preview(path), duration_s=2.0, aspect=4 / 3)

    assert shown.transfer not in {16, 18}
    assert shown.first.std() > 25
    assert shown.first.max() > 150


def test_pictures_larger_than_hd_are_scaled_input_by_input(make: Maker, preview: Preview, out: Path, tmp_path: Path) -> None:
    path = make("4k.mp4", *X264, "-c:a", "aac", size="2560x1440", rate="10", sound_s=3)

    the_preview(out, preview(path), duration_s=2.0, aspect=16 / 9, has_sound=True)
    assert {one.name for one in tmp_path.iterdir()} == {"4k.mp4", "out.mp4"}


def test_a_cover_in_the_file_is_no_video(make: Maker, preview: Preview, out: Path, tmp_path: Path) -> None:
    """A cover larger than the video, before it in the file."""
    video, cover, both = make("v.mp4"), tmp_path / "cover.png", tmp_path / "both.mp4"
    subprocess.run(
        [ffmpeg.executable(), "-v", "error", "-f", "lavfi", "-i", "color=red:size=600x600", "-frames:v", "1", str(cover)],
        check=True,
    )
    argv = [
        "-i",
        str(cover),
        "-i",
        str(video),
        "-map",
        "0",
        "-map",
        "1",
        "-c",
        "copy",
        "-disposition:v:0",
        "attached_pic",
        str(both),
    ]
    subprocess.run([ffmpeg.executable(), "-v", "error", *argv], check=True)

    the_preview(out, preview(both), duration_s=2.0, aspect=4 / 3)


def test_sound_with_a_cover_only_is_no_video(make: Maker, preview: Preview, out: Path, tmp_path: Path) -> None:
    sound, cover, both = tmp_path / "s.m4a", tmp_path / "cover.png", tmp_path / "both.m4a"
    subprocess.run([ffmpeg.executable(), "-v", "error", "-f", "lavfi", "-i", "sine=duration=2", str(sound)], check=True)
    subprocess.run(
        [ffmpeg.executable(), "-v", "error", "-f", "lavfi", "-i", "color=red:size=64x64", "-frames:v", "1", str(cover)], check=True
    )
    argv = [
        "-i",
        str(sound),
        "-i",
        str(cover),
        "-map",
        "0",
        "-map",
        "1",
        "-c",
        "copy",
        "-disposition:v:0",
        "attached_pic",
        str(both),
    ]
    subprocess.run([ffmpeg.executable(), "-v", "error", *argv], check=True)

    assert "no pictures" in the_reason(out, preview(both))


def test_of_several_videos_the_largest_is_shown(make: Maker, preview: Preview, out: Path, tmp_path: Path) -> None:
    small, large, both = make("small.mp4", size="80x80"), make("large.mp4", size="160x90"), tmp_path / "both.mkv"
    argv = ["-i", str(small), "-i", str(large), "-map", "0", "-map", "1", "-c", "copy", str(both)]
    subprocess.run([ffmpeg.executable(), "-v", "error", *argv], check=True)

    the_preview(out, preview(both), duration_s=2.0, aspect=16 / 9)


def test_a_wrong_duration_in_the_header_does_no_harm(make: Maker, preview: Preview, out: Path) -> None:
    """Three seconds that say they are an hour, in the movie's and in the track's header."""
    path = make("wrong.mp4")
    content = bytearray(path.read_bytes())
    for box in (b"mvhd", b"tkhd"):
        at = content.index(box) + 4  # version 0: flags, creation, modification, then time scale or track number
        where = at + 16 if box == b"mvhd" else at + 20
        content[where : where + 4] = struct.pack(">I", 3_600_000)
    path.write_bytes(content)

    done = preview(path)

    the_preview(out, done, duration_s=2.0, aspect=4 / 3)


def test_an_empty_segment_in_a_transport_stream_does_no_harm(make: Maker, preview: Preview, out: Path, tmp_path: Path) -> None:
    """Segments joined byte by byte, one of them of zero length."""
    one, two = make("one.ts", *X264), make("two.ts", *X264, "-output_ts_offset", "3")
    joined = tmp_path / "joined.ts"
    joined.write_bytes(one.read_bytes() + b"" + two.read_bytes())

    the_preview(out, preview(joined), duration_s=2.0, aspect=4 / 3)


def test_pictures_that_are_not_square_are_shown_as_they_should(make: Maker, preview: Preview, out: Path) -> None:
    done = preview(make("anamorphic.mp4", *X264, "-aspect", "16:9", size="144x144"))

    the_preview(out, done, duration_s=2.0, aspect=16 / 9)


@pytest.mark.parametrize("size", ["2x2", "4x300", "300x4", "15x17"])
def test_the_smallest_and_the_oddest_shapes_give_a_preview(size: str, make: Maker, preview: Preview, out: Path) -> None:
    path = make("odd.mkv", "-vf", f"scale={size.replace('x', ':')}", "-c:v", "ffv1")

    done = preview(path)

    assert done.code == 0, done.err
    shown = read(out)
    assert (shown.size[0] % 2, shown.size[1] % 2) == (0, 0)


def test_the_name_of_a_file_is_never_an_option_nor_a_protocol(
    make: Maker, preview: Preview, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make("plain.mp4")
    for name in ("concat:a|b.mp4", "%03d.mp4", "Ünï 🎬 'b\";$e.mp4"):
        target = clip.with_name(name)
        shutil.copyfile(clip, target)
        the_preview(out, preview(target), duration_s=2.0, aspect=4 / 3)


def test_explain_of_a_file_whose_name_is_no_unicode_is_valid_xml(make: Maker, out: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9\x07.mp4")
    shutil.copyfile(make("plain.mp4"), odd)

    done = run_cli("preview", odd, "-o", out, *CHEAP, "--explain", cwd=tmp_path)

    assert done.code == 0, done.err
    assert ET.fromstring(out.with_suffix(".svg").read_bytes()).tag.endswith("svg")


def test_a_preview_never_takes_the_place_of_its_own_source(make: Maker, tmp_path: Path) -> None:
    path = make("plain.mp4")
    before = path.read_bytes()

    done = run_cli("preview", path, "-o", path, *CHEAP, cwd=tmp_path)

    assert done.code == 2, done.out
    assert path.read_bytes() == before


@pytest.mark.parametrize("seconds", [5, 20, 70])
def test_what_is_excluded_is_never_shown(seconds: int, make: Maker, tmp_path: Path) -> None:
    """Also of a video that is hardly longer than its preview."""
    path = make("film.mp4", *X264, "-g", "25", size="64x48", seconds=seconds)
    wanted = Wanted(clips=5, clip_length=1.0, exclude_start_s=1.5, exclude_end_s=1.0)
    with Children(tmp_path) as children:
        found = analyse("film", path, Deadline.after(SystemClock(), 60), children=children, wanted=wanted)

    assert found.clips
    assert min(clip.start_s for clip in found.clips) >= 1.499
    assert max(clip.start_s + clip.length_s for clip in found.clips) <= seconds - 0.999


# -- the pictures of a file


def ramp(make: Maker, seconds: int) -> Path:
    """A film whose brightness says the time: from 20 to 220 grey levels."""
    light = f"geq=lum='20+200*T/{seconds}':cb=128:cr=128"
    return make("ramp.mp4", "-vf", light, *X264, "-g", "25", "-crf", "10", size="64x48", seconds=seconds)


CUE = re.compile(r"(\d\d):(\d\d):(\d\d\.\d{3}) --> .*\nsprite\.jpg#xywh=(\d+),(\d+),(\d+),(\d+)\n")


@pytest.mark.parametrize("seconds", [6, 64])
def test_the_sprite_shows_what_is_seen_at_the_times_of_its_cues(
    seconds: int, make: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every picture is looked at in a short film, a few keyframes in a long one; the first cue begins with the film."""
    monkeypatch.chdir(tmp_path)
    path, folder = ramp(make, seconds), tmp_path / "pictures"

    assert main(["frames", str(path), "-o", str(folder)]) == 0

    assert {one.name for one in folder.iterdir()} == {"cover.jpg", "sprite.jpg", "sprite.vtt", "contact.jpg"}
    sheet = first_picture(folder / "sprite.jpg")
    cues = [[float(one) for one in found] for found in CUE.findall((folder / "sprite.vtt").read_text())]
    assert len(cues) > 10
    for hours, minutes, rest, left, top, width, height in cues[1:]:
        tile = sheet[int(top) : int(top + height), int(left) : int(left + width)]
        t_s = hours * 3600 + minutes * 60 + rest
        assert (20 + 200 * t_s / seconds - 16) * 255 / 219 == pytest.approx(tile.mean(), abs=2 + 200 / 25 / seconds * 2)


@pytest.mark.parametrize(("cover", "head"), [("jpg", b"\xff\xd8\xff"), ("webp", b"RIFF")])
def test_a_preview_and_the_pictures_come_from_one_look(
    cover: str, head: bytes, make: Maker, preview: Preview, out: Path, tmp_path: Path
) -> None:
    path = make("plain.mp4", size="320x240")
    if cover == "jpg":
        assert preview(path, "--frames", str(tmp_path / "pictures")).code == 0
    else:
        assert main(["frames", str(path), "-o", str(tmp_path / "pictures"), "--cover", "webp"]) == 0

    made = tmp_path / "pictures" / f"cover.{cover}"
    assert made.read_bytes().startswith(head)
    assert first_picture(made).shape == (240, 320)


def first_picture(path: Path) -> np.ndarray:
    """Grey levels in full range."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        return np.asarray(
            frame.to_ndarray(format="yuvj420p" if frame.format.name.startswith("yuvj") else "yuv420p")[: frame.height]
        )


# -- the shared clips: seconds of pictures, shape as shown, sound

REAL = {
    "bbb_480p24_30s_51audio.mp4": (16 / 9, True),
    "sintel_trailer_204p24_52s.mp4": (480 / 204, True),
    "static_green_720p30_42s.mp4": (16 / 9, True),
    "flower_540p30_5s.mp4": (16 / 9, True),
    "nasa_13013_multistream.mp4": (16 / 9, True),
    "bbb_1080p60_20s.ts": (16 / 9, True),
    "bbb_hevc_1080p24_51audio_5s.mkv": (16 / 9, True),
    "sintel_vp9_opus_480p24_5s.webm": (16 / 9, True),
    "av1_360p25_5s.mkv": (16 / 9, False),
    "vfr_phone_flir_1080x1440_11s.mp4": (3 / 4, True),
    "noaudio_onebyone_432p10_139s.mp4": (16 / 9, False),
    "rotated_minus90_bbb_1080p24_2s.mp4": (9 / 16, True),
    "startoffset10s_bbb_800x640_4s.mp4": (16 / 9, False),
}


@pytest.mark.media
@pytest.mark.parametrize("name", REAL)
def test_every_real_clip_gives_a_correct_preview(name: str, real_media: Path, preview: Preview, out: Path) -> None:
    aspect, has_sound = REAL[name]

    done = preview(real_media / name)

    the_preview(out, done, duration_s=2.0 if not name.startswith("rotated") else 1.9, aspect=aspect, has_sound=has_sound)


@pytest.mark.media
def test_a_clip_of_one_second_in_444_is_shown_whole(real_media: Path, preview: Preview, out: Path) -> None:
    the_preview(
        out, preview(real_media / "odd_321x241_h264_444.mp4", "--height", "480"), duration_s=1.0, aspect=321 / 241, has_sound=False
    )


@pytest.mark.media
def test_sound_alone_is_refused_in_words(real_media: Path, preview: Preview, out: Path) -> None:
    assert "no pictures" in the_reason(out, preview(real_media / "audioonly_sintel_5s.m4a"))


CORRUPT = {
    "bad_lace_size.mkv": None,
    "bitflips_200.mp4": 2.0,
    "empty.mp4": "is empty",
    "fuzz_1185230.mp4": None,
    "html_error_page.mp4": "no media file",
    "missing_stsd.mp4": None,
    "truncated_faststart_60pct.mp4": None,
    "truncated_no_moov.mp4": "cannot be opened",
    "ts_cut_mid_packet.ts": None,
    "zeroed_16k_middle.mp4": 2.0,
}


@pytest.mark.media
def test_every_corrupt_file_has_its_expectation(real_media: Path) -> None:
    assert {path.name for path in (real_media / "corrupt").iterdir()} == set(CORRUPT)


@pytest.mark.media
@pytest.mark.parametrize("name", CORRUPT)
def test_a_corrupt_file_gives_a_salvaged_preview_or_a_clear_reason(
    name: str, real_media: Path, preview: Preview, out: Path
) -> None:
    """A number is the length that must be salvaged, words must be said, None leaves the choice."""
    expected, done = CORRUPT[name], preview(real_media / "corrupt" / name)

    if isinstance(expected, str) or (expected is None and done.code):
        line = the_reason(out, done)
        assert line.startswith(f"dailies: {name}: ")
        assert (expected or "") in line
        assert "Traceback" not in line
        assert "; " in line, "no remedy is named"
    else:
        assert done.code == 0, done.err
        assert is_faststart(out)
        assert read(out).duration_s <= 2.12
