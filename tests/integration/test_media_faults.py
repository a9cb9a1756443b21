"""Faults that a review found in what looks at media and in what remembers it; each test failed before its fault was mended."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from dailies.cli import main
from dailies.clock import Deadline, SystemClock
from dailies.media import ffmpeg, render
from dailies.media.analysis import Wanted
from dailies.media.children import Children, ProbeTask
from dailies.media.probe import Probe, probe
from dailies.media.recipes import Look
from dailies.media.scenes import analyse
from dailies.model import Clip
from support import Finished, Shelf, variables

CHEAP: Final = ("--encoder-preset", "ultrafast", "--height", "90", "--clips", "2", "--clip-length", "1")
X264: Final = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
KILLED: Final = -signal.SIGKILL
Preview = Callable[..., Finished]
Grey = NDArray[np.float64]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.mp4"


@pytest.fixture
def preview(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Preview:
    """The command in this process, outside of any library but for settings that the test has put there."""
    monkeypatch.chdir(tmp_path)

    def run(path: Path, *more: str) -> Finished:
        capsys.readouterr()
        code = main(["preview", str(path), "-o", str(out), *CHEAP, *more])
        return Finished(int(code), *capsys.readouterr())

    return run


def encode(path: Path, *argv: str) -> Path:
    """What ffmpeg makes of these arguments."""
    subprocess.run([ffmpeg.executable(), "-nostdin", "-v", "error", *argv, "-y", str(path)], check=True)
    return path


def pattern(seconds: float, size: str = "160x90", rate: int = 10) -> tuple[str, ...]:
    return ("-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}:duration={seconds}")


def tone(seconds: float) -> tuple[str, ...]:
    return ("-f", "lavfi", "-i", f"sine=frequency=1000:sample_rate=48000:duration={seconds}")


def soon() -> Deadline:
    return Deadline.after(SystemClock(), 60)


def length_s(path: Path) -> float:
    """Of the pictures that can be decoded."""
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        return sum(1 for _ in container.decode(video=0)) / float(rate or 25)


# -- a library that remembers what was looked at

# dies as a lost machine would: before the first move to a place with this word in its path, once such a file is there
DYING: Final = """
import os, signal, sys
from pathlib import Path
from dailies import cli

root, word, pattern = Path.cwd(), sys.argv[1], sys.argv[2]

def hook(event, arguments):
    if event == "os.rename" and word in os.fsdecode(arguments[1]) and any(root.glob(pattern)):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
sys.exit(cli.main(["run"]))
"""


def run_dies_before(shelf: Shelf, word: str, *, once: str) -> None:
    argv = [sys.executable, "-c", DYING, word, once]
    done = subprocess.run(argv, cwd=shelf.root, env=variables(), capture_output=True, check=False, start_new_session=True)
    assert done.returncode == KILLED, done.stderr


def run(shelf: Shelf) -> Any:
    done = shelf.cli("run", "--json")
    assert done.code == 0, done.err
    return done.json()


def assert_was_looked_at(record: Any) -> None:
    """Fingerprint and tags are in the record."""
    assert record["steps"]["analyse"]["status"] == "completed"
    assert record["file"]["phash"]
    assert record["media"]["tags"]


def assert_is_shown(shelf: Shelf, record: Any) -> None:
    """The pictures too, and they are where they belong."""
    assert_was_looked_at(record)
    assert {"cover", "sprite", "contact"} <= set(record["images"])
    assert all((shelf.root / "media/published" / name).is_file() for name in record["images"].values())


@pytest.fixture
def brief(shelf: Shelf) -> Shelf:
    """A library whose previews cost little."""
    shelf.set("preview", clips=1, clip_length=1, height=90, encoder_preset="ultrafast")
    return shelf


@pytest.fixture
def strict(brief: Shelf) -> Shelf:
    """One that does not publish what looks like another video."""
    brief.set("similar", action="duplicate")
    return brief


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("film") / "film.mp4", *pattern(4), *X264)


@pytest.fixture(scope="module")
def copy(film: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The film, encoded again."""
    return encode(tmp_path_factory.mktemp("copy") / "copy.mp4", "-i", str(film), *X264, "-crf", "32")


def test_a_copy_whose_run_died_between_looking_and_recording_is_still_compared(strict: Shelf, film: Path, copy: Path) -> None:
    strict.put(film, "film.mp4")
    run(strict)
    strict.put(copy, "copy.mp4")
    run_dies_before(strict, "database/videos", once="work/*/kept/analysis.json")
    assert "analyse" not in strict.records()["copy.mp4"]["steps"]

    run(strict)

    records = strict.records()
    found, original = records["copy.mp4"], records["film.mp4"]["id"]
    assert (found["state"], found["duplicate_of"], found["similar_to"]) == ("duplicate", original, original)
    assert found["file"]["phash"]
    assert not (strict.root / f"media/published/{found['id']}.mp4").exists()


def test_a_film_whose_run_died_between_looking_and_recording_is_shown_whole(brief: Shelf, film: Path) -> None:
    brief.put(film, "film.mp4")
    run_dies_before(brief, "database/videos", once="work/*/kept/analysis.json")

    run(brief)

    record = brief.records()["film.mp4"]
    assert record["state"] == "done"
    assert_is_shown(brief, record)


@pytest.fixture
def with_copy(strict: Shelf, film: Path, copy: Path) -> Shelf:
    """The film and its copy, a duplicate; nobody asks for previews, for which all would be looked at again anyway."""
    strict.set("publish", preview_hosts=[])
    for path in (film, copy):
        strict.put(path)
        run(strict)
    assert strict.records()["copy.mp4"]["state"] == "duplicate"
    return strict


def test_a_duplicate_by_its_looks_is_compared_anew_when_its_original_is_removed(with_copy: Shelf) -> None:
    assert with_copy.cli("remove", with_copy.records()["film.mp4"]["id"]).code == 0

    run(with_copy)

    record = with_copy.records()["copy.mp4"]
    assert (record["state"], record["similar_to"], record["duplicate_of"]) == ("done", None, None)
    assert_was_looked_at(record)


def test_a_duplicate_by_its_looks_that_is_tried_again_is_one_again(with_copy: Shelf) -> None:
    assert with_copy.cli("retry", with_copy.records()["copy.mp4"]["id"]).code == 0

    run(with_copy)

    records = with_copy.records()
    found, original = records["copy.mp4"], records["film.mp4"]["id"]
    assert (found["state"], found["duplicate_of"], found["similar_to"]) == ("duplicate", original, original)
    assert_was_looked_at(found)


def test_where_only_the_pictures_are_lacking_the_preview_is_neither_made_nor_sent_again(brief: Shelf, film: Path) -> None:
    """A run dies between the two, and what it kept of the video is swept away."""
    brief.put(film, "film.mp4")
    run_dies_before(brief, ".cover.jpg", once="media/published/*.preview.mp4")
    before = brief.records()["film.mp4"]
    sent = brief.root / "media/published" / before["preview"]["name"]
    stamp = sent.stat().st_mtime_ns
    shutil.rmtree(brief.root / "work" / before["id"])

    report = run(brief)

    after = brief.records()["film.mp4"]
    assert "preview" not in report["videos"][0]["steps"]
    assert after["preview"] == before["preview"]
    assert sent.stat().st_mtime_ns == stamp
    assert_is_shown(brief, after)


# -- decoders that die


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("large") / "large.mp4", *pattern(2.4, "4096x2304", 5), *X264)


@pytest.fixture(scope="module")
def too_little(large: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Memory that suffices to probe the large film, and not to look at it."""
    folder = tmp_path_factory.mktemp("measured")
    with Children(folder) as children:
        children.ask("large", ProbeTask(path=str(large)), Probe, soon())
        [child] = children._idle
        return f"{psutil.Process(child.talk.pid).memory_info().rss // 1_000_000 + 25}MB"


def test_a_preview_shows_clips_at_even_distances_where_the_decoder_dies(
    large: Path, too_little: str, preview: Preview, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "dailies.toml").write_text(f'[run]\nchild_memory = "{too_little}"\n')

    done = preview(large)

    assert done.code == 0, done.err
    assert "its decoder died" in done.err
    assert "even distances" in done.err
    assert length_s(out) == pytest.approx(2, abs=0.25)


def test_a_video_whose_analysis_failed_is_looked_at_when_it_is_tried_again(brief: Shelf, large: Path, too_little: str) -> None:
    settings = brief.root / "dailies.toml"
    as_before = settings.read_text()
    brief.set("run", child_memory=too_little)
    brief.put(large, "large.mp4")
    run(brief)
    before = brief.records()["large.mp4"]
    assert (before["state"], before["steps"]["analyse"]["status"], before["file"].get("phash")) == ("done", "failed", None)
    settings.write_text(as_before)

    assert brief.cli("retry", before["id"]).code == 0
    run(brief)

    assert_is_shown(brief, brief.records()["large.mp4"])


def test_a_child_that_died_at_rest_costs_no_video(children: Children, film: Path) -> None:
    task = ProbeTask(path=str(film), header_only=True)
    children.ask("one", task, Probe, soon())
    pid = children._idle[0].talk.pid
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # all its threads too; left for its parent to reap

    assert children.ask("two", task, Probe, soon()).main_video() is not None
    assert not psutil.pid_exists(pid), "nobody has reaped it"


# -- files that are odd


@pytest.mark.timeout(30)
def test_pictures_that_change_their_size_give_a_preview(preview: Preview, out: Path, tmp_path: Path) -> None:
    small = encode(tmp_path / "small.ts", *pattern(6, "320x240"), *X264)
    wide = encode(tmp_path / "wide.ts", *pattern(6, "640x360"), *X264, "-output_ts_offset", "6")
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + wide.read_bytes())

    done = preview(both, "--clips", "10", "--clip-length", "0.5")

    assert done.code == 0, done.err
    assert length_s(out) == pytest.approx(5, abs=0.5)


def test_a_file_that_claims_to_last_for_days_takes_little_memory(tmp_path: Path) -> None:
    jump = "setts=ts='if(gte(TS*TB,2),TS+1000000/TB,TS)'"
    coding = (*X264, "-g", "10", "-c:a", "aac", "-bsf:v", jump, "-bsf:a", jump)
    path = encode(tmp_path / "days.mkv", *pattern(4), *tone(4), *coding)

    with Children(tmp_path, memory_bytes=300_000_000) as children:
        found = analyse("days", path, soon(), children=children, wanted=Wanted(pictures=str(tmp_path)))

    assert found.duration_s > 1_000_000
    assert found.candidates
    assert found.pictures


def test_a_flash_video_that_does_not_begin_at_zero_is_looked_at(tmp_path: Path) -> None:
    path = encode(tmp_path / "late.flv", *pattern(3), "-c:v", "flv1", "-g", "5", "-output_ts_offset", "7")

    with Children(tmp_path) as children:
        found = analyse("late", path, soon(), children=children, wanted=Wanted(clips=1, clip_length=1))

    assert found.duration_s == pytest.approx(3, abs=0.3)
    assert found.clips


def frames_of_x264(path: Path, count: int) -> Path:
    """As x264 makes them by itself: its decoder gives no picture before it is told that there is no more."""
    return encode(path, *pattern(1), "-frames:v", str(count), "-c:v", "libx264", "-pix_fmt", "yuv420p")


@pytest.mark.parametrize("count", [1, 2])
def test_a_video_of_a_picture_or_two_gives_a_preview(count: int, preview: Preview, out: Path, tmp_path: Path) -> None:
    done = preview(frames_of_x264(tmp_path / "short.mp4", count))

    assert done.code == 0, done.err
    assert length_s(out) == pytest.approx(count / 10, abs=0.12)


def test_videos_of_a_picture_or_two_pass_a_run(brief: Shelf, tmp_path: Path) -> None:
    for count in (1, 2):
        brief.put(frames_of_x264(tmp_path / f"{count}.mp4", count))

    run(brief)

    records = brief.records()
    assert {name: record["state"] for name, record in records.items()} == {"1.mp4": "done", "2.mp4": "done"}
    assert all(record["preview"] and record["images"] for record in records.values())
    assert all(record["warnings"] == [] for record in records.values())


def test_bursts_of_pictures_are_shown_at_their_own_rate(preview: Preview, out: Path, tmp_path: Path) -> None:
    """Two seconds in six at 24 pictures a second, the others at one."""
    bursts = ("-vf", "select='lt(mod(t,6),2)+not(mod(n,24))'", "-fps_mode", "vfr")
    path = encode(tmp_path / "bursts.mp4", *pattern(18, rate=24), *bursts, *X264)

    done = preview(path)

    assert done.code == 0, done.err
    with av.open(str(out)) as container:
        assert float(container.streams.video[0].average_rate or 0) == pytest.approx(24, abs=1)
    assert length_s(out) == pytest.approx(2, abs=0.12)


# -- sound that is not always there

AUDIO: Final = ("-c:a", "aac")
# name -> how it is made, when it is heard; the pictures last 8 s
SOUNDS: Final[dict[str, tuple[tuple[str, ...], list[tuple[float, float]]]]] = {
    "ends before the pictures": ((*tone(1), *AUDIO), [(0, 1)]),
    "begins behind them": (("-itsoffset", "5", *tone(1), *AUDIO), [(5, 6)]),
    "has a gap": ((*tone(6), "-af", "aselect='lt(t,2)+gte(t,5)'", *AUDIO), [(0, 2), (5, 6)]),
}
STARTS_S: Final = (0.5, 2.5, 3.5)
LENGTH_S: Final = 2.0
EDGE_S: Final = 0.12  # a part of a measurement, and what a frame of the coding adds


def shown(path: Path, out: Path) -> Path:
    """A preview of three clips, with sound in all of them, in some or in none."""
    clips = [Clip(start_s=start_s, length_s=LENGTH_S, why="as the test wants it") for start_s in STARTS_S]
    with Children(out.parent) as children:
        media = probe(path.name, path, soon(), children=children, header_only=True)
        rules = render.Rules(work=out.parent, threads=1, children=children)
        render.preview(path.name, path, out, clips, media, Look(90, "ultrafast", 23), rules, soon())
    return out


def loudness(path: Path) -> Grey:
    """RMS of every 0.1 s of the sound, 0 to 1, each at its time."""
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].rate
        frames = [(round((one.time or 0.0) * rate), one.to_ndarray()[0]) for one in container.decode(audio=0)]
    heard = np.zeros(max(first + len(samples) for first, samples in frames))
    for first, samples in frames:
        heard[max(0, first) : first + len(samples)] = samples[max(0, -first) :]
    parts = heard[: len(heard) // (rate // 10) * (rate // 10)].reshape(-1, rate // 10)
    return np.asarray(np.sqrt((parts**2).mean(axis=1)))


def assert_heard(preview: Path, spans: list[tuple[float, float]]) -> None:
    """In the whole preview there is sound, and it is heard where the film's was."""
    found, part = loudness(preview), np.arange(round(LENGTH_S * 10))
    assert length_s(preview) == pytest.approx(len(STARTS_S) * LENGTH_S, abs=0.12)
    assert len(found) == pytest.approx(len(STARTS_S) * len(part), abs=1)
    times_s = np.concatenate([start_s + 0.05 + 0.1 * part for start_s in STARTS_S])
    for t_s, level in zip(times_s, found, strict=False):
        if all(abs(t_s - edge) > EDGE_S for span in spans for edge in span):
            assert (level > 0.02) == any(one < t_s < two for one, two in spans), f"at {t_s:.2f} s: {level:.3f}"


@pytest.mark.parametrize("suffix", ["mp4", "ts"])
@pytest.mark.parametrize("sound", SOUNDS)
def test_sound_that_is_not_always_there_is_heard_where_it_was(sound: str, suffix: str, out: Path, tmp_path: Path) -> None:
    how, spans = SOUNDS[sound]
    path = encode(tmp_path / f"film.{suffix}", *pattern(8), *how, *X264, "-g", "10")

    assert_heard(shown(path, out), spans)


def test_sound_that_begins_behind_large_pictures_is_heard_where_it_was(out: Path, tmp_path: Path) -> None:
    """Whose clips are made one by one."""
    how, spans = SOUNDS["begins behind them"]
    path = encode(tmp_path / "large.mp4", *pattern(8, "2560x1440", 2), *how, *X264, "-g", "2")

    assert_heard(shown(path, out), spans)


# -- pictures that are to be shown mirrored or turned

WAYS: Final[dict[str, tuple[str, ...]]] = {
    "mirrored": ("-display_hflip",),
    "flipped": ("-display_vflip",),
    **{f"turned by {angle}": ("-display_rotation", angle) for angle in ("90", "180", "270")},
    **{f"turned by {angle} and mirrored": ("-display_rotation", angle, "-display_hflip") for angle in ("90", "180", "270")},
}


def grey(path: Path) -> Grey:
    with av.open(str(path)) as container:
        return np.asarray(next(container.decode(video=0)).to_ndarray(format="gray"), np.float64)


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Children]:
    """One child for all ways, to save time."""
    with Children(tmp_path_factory.mktemp("eyes"), videos=len(WAYS)) as children:
        yield children


@pytest.mark.parametrize("way", WAYS)
def test_a_cover_is_shown_as_ffmpeg_shows_the_film(way: str, film: Path, eyes: Children, tmp_path: Path) -> None:
    path = encode(tmp_path / "turned.mp4", *WAYS[way], "-i", str(film), "-c", "copy")
    expected = grey(encode(tmp_path / "expected.png", "-i", str(path), "-frames:v", "1"))

    analyse(way, path, soon(), children=eyes, wanted=Wanted(pictures=str(tmp_path)))

    cover = grey(tmp_path / "cover.jpg")
    assert cover.shape == expected.shape
    away = np.abs(cover - expected).mean()
    others = [np.abs(cover - other).mean() for other in (expected[::-1], expected[:, ::-1], expected[::-1, ::-1])]
    assert away < 20
    assert away < min(others) / 2
