"""All real clips queued at once: what must be seen of each (issue, "What must be seen", 2). Outputs are read by PyAV alone."""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import av
import pytest
from filelock import FileLock

from dailies import repository, scaffold
from support import Finished, Shelf, run_cli, variables

pytestmark = pytest.mark.media


@dataclass(frozen=True)
class Good:
    """A clip that must be done: seconds as SOURCES.md says (from the first start to the last end), what is shown, streams kept."""

    duration_s: float
    size: tuple[int, int]
    streams: tuple[str, ...]
    rotation: int = 0
    languages: tuple[str, ...] = ()


GOOD = {
    "bbb_720p24_2min.mp4": Good(120.0, (1280, 720), ("h264", "aac")),
    "bbb_480p24_30s_51audio.mp4": Good(30.022, (854, 480), ("h264", "aac")),
    "sintel_trailer_204p24_52s.mp4": Good(52.167, (480, 204), ("aac", "h264")),
    "static_green_720p30_42s.mp4": Good(42.453, (1280, 720), ("h264", "aac"), languages=("eng", "eng")),
    "flower_540p30_5s.mp4": Good(5.055, (960, 540), ("h264", "aac")),
    # the format says 16.57 s for an empty end of the subtitles; pictures and sound end at 13.056 s
    "nasa_13013_multistream.mp4": Good(
        13.056, (480, 270), ("h264", "aac", "mov_text", "h264", "aac", "mov_text"), languages=("eng",) * 6
    ),
    "bbb_1080p60_20s.ts": Good(20.023, (1920, 1080), ("aac", "h264")),
    "bbb_hevc_1080p24_51audio_5s.mkv": Good(5.013, (1920, 1080), ("hevc", "aac"), languages=("und", "eng")),
    "sintel_vp9_opus_480p24_5s.webm": Good(5.008, (854, 480), ("vp9", "opus")),
    "av1_360p25_5s.mkv": Good(5.0, (640, 360), ("av1",)),
    "vfr_phone_flir_1080x1440_11s.mp4": Good(11.353, (1080, 1440), ("h264", "aac")),
    "noaudio_onebyone_432p10_139s.mp4": Good(139.4, (768, 432), ("h264",)),
    "odd_321x241_h264_444.mp4": Good(1.0, (321, 241), ("h264",)),
    "rotated_minus90_bbb_1080p24_2s.mp4": Good(2.005, (1080, 1920), ("h264", "aac"), rotation=-90),
    "startoffset10s_bbb_800x640_4s.mp4": Good(4.0, (800, 640), ("h264",)),  # starts at 10 s, which is normalised away
}
FAILED = {
    "audioonly_sintel_5s.m4a": "no_video",
    "empty.mp4": "empty",
    "html_error_page.mp4": "unsupported",
    "truncated_no_moov.mp4": "damaged",
    "truncated_faststart_60pct.mp4": "damaged",
    "missing_stsd.mp4": "damaged",
    "bad_lace_size.mkv": "damaged",
    "fuzz_1185230.mp4": "damaged",
    "ts_cut_mid_packet.ts": "damaged",
}
WARNED = {"zeroed_16k_middle.mp4"}  # all packets are there, which the demuxer sees are no pictures
PASSING = {"bitflips_200.mp4"}  # only a full decode can see it
DULL = {"static_green_720p30_42s.mp4"}  # nothing of it is worth more than the rest
EVEN = "preview: no moment stood out; its clips are at even distances"
PREVIEW_S = 30.0


@dataclass(frozen=True)
class Shown:
    """What a player makes of a file: decoded pictures and sound of its best streams, and what the container says."""

    duration_s: float
    start_s: float
    size: tuple[int, int]
    rotation: int
    streams: tuple[str, ...]
    languages: tuple[str, ...]
    pictures: int
    samples: int
    tags: dict[str, str]


def shown(path: Path) -> Shown:
    """Of films over 20 s only the key pictures are decoded: that all packets arrive is a test of its own."""
    with av.open(str(path), metadata_errors="replace") as container:
        video = max(container.streams.video, key=lambda stream: stream.width * stream.height)
        spans = [
            (float(stream.start_time * stream.time_base), float((stream.start_time + stream.duration) * stream.time_base))
            for stream in (*container.streams.video, *container.streams.audio)
            if stream.start_time is not None and stream.duration is not None and stream.time_base is not None
        ]
        start_s, end_s = min(start for start, _ in spans), max(end for _, end in spans)
        video.codec_context.skip_frame = "NONKEY" if end_s > 20 else "DEFAULT"
        pictures, samples, rotation = 0, 0, 0
        for packet in container.demux([video, *container.streams.audio[:1]]):
            for frame in _decoded(packet):
                pictures += isinstance(frame, av.VideoFrame)
                samples += frame.samples if isinstance(frame, av.AudioFrame) else 0
                rotation = int(frame.rotation) if isinstance(frame, av.VideoFrame) else rotation
        return Shown(
            duration_s=end_s - start_s,
            start_s=start_s,
            size=(video.height, video.width) if rotation % 180 else (video.width, video.height),
            rotation=rotation,
            streams=tuple(str(stream.codec_context.codec.canonical_name) for stream in container.streams),
            languages=tuple(stream.metadata.get("language", "und") for stream in container.streams),
            pictures=pictures,
            samples=samples,
            tags=dict(container.metadata),
        )


def _decoded(packet: Any) -> list[Any]:
    """Players pass over a picture that is damaged."""
    try:
        return list(packet.decode())
    except av.error.InvalidDataError:
        return []


@dataclass(frozen=True)
class Seen:
    """A library after its run."""

    root: Path

    @cached_property
    def finished(self) -> Finished:
        return Finished(**json.loads((self.root / "finished.json").read_text()))

    @cached_property
    def records(self) -> dict[str, Any]:
        return Shelf(self.root, self.root).records()

    def published(self, name: str, kind: str = "") -> Path:
        return self.root / "media/published" / f"{self.records[name]['id']}{kind}.mp4"


def _clips(media: Path) -> list[Path]:
    files = [path for folder in (media, media / "corrupt") for path in sorted(folder.iterdir()) if path.is_file()]
    return [path for path in files if path.name != "SOURCES.md"]


def _play(root: Path, clips: list[Path]) -> None:
    """One run over all clips. A fixture of the module comes before those that clean the surroundings of each test."""
    repository.create(root)
    scaffold.init(root)
    foreign = ("DAILIES_", "GIT_", "GITHUB_", "RUNNER_", "CI")
    environment = {name: value for name, value in variables(HOME=str(root)).items() if not name.startswith(foreign)}
    shelf = Shelf(root, root)
    for clip in clips:
        shelf.put(clip)
    done = run_cli("run", "--json", cwd=root, environment={**environment, "GIT_CONFIG_NOSYSTEM": "1"}, timeout=170)
    (root / "finished.json").write_text(json.dumps({"code": done.code, "out": done.out, "err": done.err}))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, real_media: Path) -> Seen:
    """Made once, by whichever worker comes first (pytest-xdist's way for what is made once a session)."""
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "real-media"
    with FileLock(root.with_suffix(".lock")):
        if not (root / "finished.json").exists():
            _play(root, _clips(real_media))
    return Seen(root)


def test_every_clip_has_its_expectation_and_its_record(seen: Seen, real_media: Path) -> None:
    names = {path.name for path in _clips(real_media)}

    assert names == {*GOOD, *FAILED, *WARNED, *PASSING}
    assert set(seen.records) == names


def test_no_clip_crashes_the_run(seen: Seen) -> None:
    report = seen.finished.json()

    assert (seen.finished.code, report["status"]) == (1, "completed_with_errors")
    assert "Traceback" not in seen.finished.err
    assert (report["summary"]["done"], report["summary"]["failed"]) == (len(GOOD) + len(WARNED) + len(PASSING), len(FAILED))
    assert (report["summary"]["remaining"], report["summary"]["skipped"], report["summary"]["duplicate"]) == (0, 0, 0)
    assert Shelf(seen.root, seen.root).temporary_files() == []


@pytest.mark.parametrize("name", GOOD)
def test_a_good_clip_is_published_as_it_was(name: str, seen: Seen) -> None:
    good, record = GOOD[name], seen.records[name]
    video = shown(seen.published(name))

    assert (record["state"], record["warnings"], record["last_error"]) == ("done", [EVEN] if name in DULL else [], None)
    assert video.duration_s == pytest.approx(good.duration_s, abs=0.1)
    assert video.start_s == pytest.approx(0.0, abs=0.1)
    assert (video.size, video.rotation, video.streams) == (good.size, good.rotation, good.streams)
    assert video.pictures > 0
    assert bool(video.samples) == ("aac" in good.streams or "opus" in good.streams)


@pytest.mark.parametrize("name", GOOD)
def test_all_packets_of_a_good_clip_arrive(name: str, seen: Seen, real_media: Path) -> None:
    counts = []
    for path in (real_media / name, seen.published(name)):
        with av.open(str(path)) as container:
            packets = [
                packet.stream.index for packet in container.demux() if packet.size and packet.stream.type in {"video", "audio"}
            ]
        counts.append([packets.count(index) for index in sorted(set(packets))])

    assert counts[0] == counts[1]


@pytest.mark.parametrize("name", GOOD)
def test_the_record_says_what_is_published(name: str, seen: Seen) -> None:
    media, good = seen.records[name]["media"], GOOD[name]

    assert media["duration_s"] == pytest.approx(good.duration_s, abs=0.1)
    assert (media["width"], media["height"], media["rotation"]) == (*good.size, good.rotation)
    assert media["video_codec"] in good.streams
    assert (media["audio_codec"] is None) == (set(good.streams) == {media["video_codec"]})
    assert seen.records[name]["file"]["size_bytes"] == seen.published(name).stat().st_size


@pytest.mark.parametrize("name", [*GOOD, *WARNED, *PASSING])
def test_each_has_a_preview_with_sound_where_the_video_has_sound(name: str, seen: Seen) -> None:
    record = seen.records[name]
    preview = shown(seen.published(name, ".preview"))

    duration_s = record["media"]["duration_s"]
    clips_s = sum(clip["length_s"] for clip in record["preview"]["clips"])
    assert min(PREVIEW_S / 2, duration_s - 0.1) <= clips_s <= PREVIEW_S, "moments that resemble others leave at most half empty"
    assert preview.duration_s == pytest.approx(clips_s, abs=1.0 if duration_s > PREVIEW_S else 0.15)
    assert (preview.samples > 0) == (record["media"]["audio_codec"] is not None)
    assert preview.streams == (("h264", "aac") if preview.samples else ("h264",))
    assert (preview.size[1] <= 480, preview.rotation) == (True, 0)
    assert (preview.size[0] > preview.size[1]) == (record["media"]["width"] > record["media"]["height"])
    assert preview.duration_s == pytest.approx(record["preview"]["duration_s"], abs=0.1)


@pytest.mark.parametrize("name", [name for name, good in GOOD.items() if good.languages])
def test_languages_are_kept(name: str, seen: Seen) -> None:
    assert shown(seen.published(name)).languages == GOOD[name].languages


def test_titles_are_kept(seen: Seen) -> None:
    tags = {key.lower(): value for key, value in shown(seen.published("sintel_vp9_opus_480p24_5s.webm")).tags.items()}

    assert tags["title"] == "Sintel Trailer"
    assert tags["artist"] == "Durian Open Movie Team"
    assert tags["copyright"].startswith("(c) copyright Blender Foundation")


def test_the_text_of_subtitles_is_kept(seen: Seen, real_media: Path) -> None:
    name = "nasa_13013_multistream.mp4"
    texts = []
    for path in (real_media / name, seen.published(name)):
        with av.open(str(path)) as container:
            texts.append([bytes(packet) for packet in container.demux() if packet.size and packet.stream.type == "subtitle"])

    assert texts[0]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("name", [*GOOD, *WARNED, *PASSING])
def test_nothing_says_where_when_or_with_what_it_was_recorded(name: str, seen: Seen, real_media: Path) -> None:
    with av.open(str(real_media / "vfr_phone_flir_1080x1440_11s.mp4")) as source:
        place = source.metadata["location"]

    for path in (seen.published(name), seen.published(name, ".preview")):
        with av.open(str(path), metadata_errors="replace") as container:
            keys = {key.lower() for tags in (container.metadata, *(s.metadata for s in container.streams)) for key in tags}
        assert not {key for key in keys if any(word in key for word in ("location", "creation_time", "make", "model"))}
        assert place.encode() not in path.read_bytes()


@pytest.mark.parametrize("name", [*GOOD, *WARNED, *PASSING])
def test_players_can_start_before_all_is_there(name: str, seen: Seen) -> None:
    for kind in ("", ".preview"):
        content = seen.published(name, kind).read_bytes()
        assert 0 < content.index(b"moov") < content.index(b"mdat")


@pytest.mark.parametrize("name", FAILED)
def test_a_clip_that_is_no_whole_video_fails_for_its_reason(name: str, seen: Seen) -> None:
    record = seen.records[name]

    assert (record["state"], record["last_error"]["category"]) == ("failed", FAILED[name])
    assert record["last_error"]["message"].startswith(f"{name}: ")
    assert len([line for line in seen.finished.err.splitlines() if f"error={name}: " in line]) == 1
    assert not seen.published(name).exists()


@pytest.mark.parametrize("name", WARNED)
def test_damage_inside_whole_packets_is_a_recorded_warning(name: str, seen: Seen) -> None:
    record = seen.records[name]

    assert record["state"] == "done"
    assert record["warnings"]
    assert shown(seen.published(name)).duration_s == pytest.approx(5.0, abs=0.1)


@pytest.mark.parametrize("name", PASSING)
def test_damage_that_only_a_decode_can_see_passes(name: str, seen: Seen) -> None:
    assert seen.records[name]["state"] == "done"


# What the settings change


def _run(shelf: Shelf, *clips: Path) -> tuple[Finished, dict[str, Any]]:
    for clip in clips:
        shelf.put(clip)
    done = shelf.cli("run", "--json", "--no-commit")
    assert "Traceback" not in done.err, done.err
    return done, shelf.records()


def test_verify_decode_finds_what_only_a_decode_can_see(shelf: Shelf, real_media: Path) -> None:
    shelf.set("publish", verify="decode")

    done, records = _run(shelf, real_media / "corrupt/bitflips_200.mp4", real_media / "flower_540p30_5s.mp4")

    assert done.code == 1
    assert records["flower_540p30_5s.mp4"]["state"] == "done"
    bad = records["bitflips_200.mp4"]
    assert (bad["state"], bad["last_error"]["category"]) == ("failed", "damaged")
    assert "does not decode cleanly" in bad["last_error"]["message"]


def test_accept_damaged_salvages_what_is_there_with_a_warning(shelf: Shelf, real_media: Path) -> None:
    shelf.set("library", accept_damaged=True)

    done, records = _run(shelf, real_media / "corrupt/truncated_faststart_60pct.mp4", real_media / "corrupt/truncated_no_moov.mp4")

    record = records["truncated_faststart_60pct.mp4"]
    assert (done.code, record["state"]) == (1, "done")
    assert any("corrupt" in warning or "cut short" in warning for warning in record["warnings"])
    assert not any("accept_damaged" in warning for warning in record["warnings"])
    video = shown(shelf.root / "media/published" / f"{record['id']}.mp4")
    assert 2.0 < video.duration_s < 3.5  # 2.2 s of 5.0 s decode (SOURCES.md)
    assert (video.size, video.pictures > 40) == ((854, 480), True)
    assert records["truncated_no_moov.mp4"]["state"] == "failed"  # nothing can be read without an index


def test_accept_damaged_leaves_out_the_stream_that_cannot_be_read(shelf: Shelf, real_media: Path) -> None:
    shelf.set("library", accept_damaged=True)

    _, records = _run(shelf, real_media / "corrupt/missing_stsd.mp4")

    record = records["missing_stsd.mp4"]
    assert record["state"] == "done", record["last_error"]
    assert shown(shelf.root / "media/published" / f"{record['id']}.mp4").streams == ("h264",)
    assert any("audio" in warning for warning in record["warnings"])


def test_accept_audio_publishes_sound_alone_without_a_preview(shelf: Shelf, real_media: Path) -> None:
    shelf.set("library", accept_audio=True)

    done, records = _run(shelf, real_media / "audioonly_sintel_5s.m4a")

    record = records["audioonly_sintel_5s.m4a"]
    assert (done.code, record["state"], record["warnings"], record["preview"]) == (0, "done", [], None)
    with av.open(str(shelf.root / "media/published" / f"{record['id']}.mp4")) as container:
        assert [stream.codec_context.codec.canonical_name for stream in container.streams] == ["aac"]
        assert (container.duration or 0) / 1e6 == pytest.approx(5.0, abs=0.1)
