"""Looking at videos when something goes wrong: runs and children that die, retries, odd pictures and sound."""

import json
import os
import signal
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest

from dailies.clock import Deadline
from dailies.database import to_json
from dailies.errors import VideoError
from dailies.media import ffmpeg, recipes, render
from dailies.media.analysis import Wanted
from dailies.media.children import Children
from dailies.media.probe import Probe, probe
from dailies.media.scenes import analyse
from dailies.model import Clip, Kind, State, StepName, StepStatus, Upload, UploadStatus, Video
from dailies.policy import retried
from integration.kill_driver import driven
from support import ClipMaker, FakeClock, Shelf

QUICK = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


def run_ffmpeg(*arguments: str | Path) -> None:
    subprocess.run([ffmpeg.executable(), "-nostdin", "-v", "error", *map(str, arguments)], check=True)


@pytest.fixture
def deadline(clock: FakeClock) -> Deadline:
    return Deadline.after(clock, 60)


@pytest.fixture(scope="module")
def film(make_clip: ClipMaker) -> Path:
    return make_clip("film.mp4", seconds=6)


@pytest.fixture(scope="module")
def copy(film: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("copy") / "copy.mp4"
    run_ffmpeg("-i", film, "-vf", "scale=iw/2:-2", *QUICK, "-crf", "30", "-c:a", "copy", path)
    return path


# -- runs and records


@pytest.mark.parametrize("later", [1, 8, 16])
def test_a_run_that_dies_after_it_has_looked_compares_in_the_next_one(later: int, shelf: Shelf, film: Path, copy: Path) -> None:
    """Before the record says anything, once it holds the fingerprint, and while it is told what it looks like."""
    shelf.set("preview", clips=1, clip_length=1)
    shelf.set("similar", action="duplicate")
    shelf.put(film)
    assert driven(shelf, "run", "--no-commit", log="events.json") == 0
    acts = json.loads((shelf.root / "events.json").read_text("utf-8"))["analyse"]
    looked = next(number for number, act in enumerate(acts, 1) if act.startswith("os.rename") and "/kept/.tmp-" in act)
    shelf.put(copy)

    assert driven(shelf, "run", "--no-commit", phase="analyse", at=looked + later) == -signal.SIGKILL
    shelf.cli("run", "--no-commit")

    records = shelf.records()
    assert (records["copy.mp4"]["state"], records["copy.mp4"]["duplicate_of"]) == ("duplicate", records["film.mp4"]["id"])
    assert not (shelf.root / f"media/published/{records['copy.mp4']['id']}.mp4").exists()


def changed(shelf: Shelf, name: str, **changes: object) -> Video:
    """The record of this file as a person or an earlier version might have left it."""
    database = shelf.open().database
    video = database.load(shelf.records()[name]["id"]).with_(**changes)
    database.path_of(video.id).write_bytes(to_json(video))
    return video


def test_a_video_that_could_not_be_looked_at_is_looked_at_when_it_is_retried(shelf: Shelf, film: Path) -> None:
    shelf.put(film)
    shelf.cli("run", "--no-commit")
    video = shelf.open().database.load(shelf.records()["film.mp4"]["id"])
    assert video.file is not None
    failed = video.steps[StepName.ANALYSE].model_copy(update={"status": StepStatus.FAILED})
    uploads = {host: {kind: one for kind, one in kinds.items() if kind is not Kind.IMAGE} for host, kinds in video.uploads.items()}
    without = {"file": video.file.model_copy(update={"phash": None}), "images": {}, "uploads": uploads}
    changed(shelf, "film.mp4", steps={**video.steps, StepName.ANALYSE: failed}, **without)

    assert shelf.cli("retry", video.id).code == 0
    assert shelf.cli("run", "--no-commit").code == 0

    after = shelf.open().database.load(video.id)
    assert (after.state, after.file and after.file.phash, set(after.images)) == (State.DONE, video.file.phash, set(video.images))
    assert after.is_on("published", Kind.IMAGE)


def test_a_freed_look_alike_is_compared_anew(shelf: Shelf, film: Path, copy: Path) -> None:
    shelf.set("similar", action="duplicate")
    shelf.put(film)
    shelf.cli("run", "--no-commit")
    shelf.put(copy)
    shelf.cli("run", "--no-commit")
    assert shelf.records()["copy.mp4"]["state"] == "duplicate"

    shelf.cli("remove", shelf.records()["film.mp4"]["id"])
    assert shelf.cli("run", "--no-commit").code == 0

    freed = shelf.records()["copy.mp4"]
    assert (freed["state"], freed["similar_to"], freed["duplicate_of"]) == ("done", None, None)
    assert freed["file"]["phash"]
    assert freed["media"]["tags"]


def test_where_only_pictures_are_lacking_no_preview_is_made_again(shelf: Shelf, film: Path) -> None:
    shelf.put(film)
    shelf.cli("run", "--no-commit")
    video = shelf.open().database.load(shelf.records()["film.mp4"]["id"])
    assert video.preview is not None
    sent = Upload(status=UploadStatus.SUCCESS, remote_id="sent before")
    steps = {name: step for name, step in video.steps.items() if name is not StepName.ANALYSE}
    preview = video.preview.model_copy(update={"sha256": "0" * 64})
    kinds = {Kind.VIDEO: video.upload("published", Kind.VIDEO), Kind.PREVIEW: sent}
    changed(shelf, "film.mp4", state=State.QUEUED, steps=steps, preview=preview, images={}, uploads={"published": kinds})

    assert shelf.cli("run", "--no-commit").code == 0

    after = shelf.open().database.load(video.id)
    assert (after.preview, after.upload("published", Kind.PREVIEW)) == (preview, sent)
    assert after.is_on("published", Kind.IMAGE)


def test_a_look_alike_that_is_retried_is_looked_at_again(shelf: Shelf, film: Path) -> None:
    shelf.put(film)
    shelf.cli("run", "--no-commit")
    video = shelf.open().database.load(shelf.records()["film.mp4"]["id"]).with_(state=State.DUPLICATE, similar_to="other")

    after = retried(video)

    assert not after.has_completed(StepName.ANALYSE)
    assert after.similar_to is None


# -- children


def test_a_child_that_died_at_rest_costs_the_next_video_nothing(children: Children, film: Path, deadline: Deadline) -> None:
    probe("first", film, deadline, children=children)
    [idle] = children._idle
    os.kill(idle.talk.pid, signal.SIGKILL)
    while not idle.talk.has_ended:
        os.sched_yield()

    assert probe("second", film, deadline, children=children).main_video() is not None


# -- pictures and sound


def preview_of(path: Path, target: Path, children: Children, deadline: Deadline, *clips: tuple[float, float]) -> Probe:
    """The preview of these (start, length)."""
    media = probe(path.name, path, deadline, children=children, header_only=True)
    rules = render.Rules(work=target.parent, threads=1, children=children)
    wanted = [Clip(start_s=start_s, length_s=length_s) for start_s, length_s in clips]
    return render.preview(path.name, path, target, wanted, media, recipes.Look(120, "ultrafast", 30), rules, deadline)


def loudness(path: Path) -> list[float]:
    """Mean square of each tenth of a second."""
    with av.open(str(path)) as container:
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    return [float(np.mean(part**2)) for part in np.array_split(samples, round(len(samples) / 4800))]


@pytest.fixture
def beep(tmp_path: Path) -> Path:
    """12 s of pictures; a tone from 5.0 to 7.0 s, and no sound before or after."""
    path = tmp_path / "beep.mkv"
    inputs = ["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=10:duration=12"]
    inputs += ["-itsoffset", "5", "-f", "lavfi", "-i", "sine=sample_rate=48000:duration=2"]
    run_ffmpeg(*inputs, *QUICK, "-g", "10", "-c:a", "flac", "-y", path)
    return path


def test_sound_that_begins_late_and_ends_early_stands_where_it_belongs(
    beep: Path, tmp_path: Path, children: Children, deadline: Deadline
) -> None:
    made = preview_of(beep, tmp_path / "out.mp4", children, deadline, (0.5, 2), (3.5, 3), (9, 2))

    heard = loudness(tmp_path / "out.mp4")
    loud = [number for number, level in enumerate(heard) if level > 1e-4]
    assert made.duration_s() == pytest.approx(7, abs=0.15)
    assert abs(loud[0] - 35) <= 1, "the second clip is shown from 2.0 s on, its tone begins 1.5 s into it"
    assert abs(loud[-1] - 49) <= 1


def test_pictures_that_change_their_size_are_shown(tmp_path: Path, children: Children, deadline: Deadline) -> None:
    parts = []
    for number, size in enumerate(("160x120", "320x180")):
        part = tmp_path / f"{number}.ts"
        source = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate=10:duration=6"]
        run_ffmpeg(*source, *QUICK, "-g", "10", "-output_ts_offset", str(10 + 6 * number), "-y", part)
        parts.append(part.read_bytes())
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(parts))

    made = preview_of(path, tmp_path / "out.mp4", children, deadline, (1, 1), (5.5, 1), (9, 1))

    assert made.duration_s() == pytest.approx(3, abs=0.3)


def cover_of(path: Path, folder: Path, children: Children, deadline: Deadline) -> tuple[float, Path]:
    folder.mkdir()
    found = analyse(path.name, path, deadline, children=children, wanted=Wanted(pictures=str(folder)))
    assert found.cover_t_s is not None
    return found.cover_t_s, folder / found.pictures["cover"]


def shown(path: Path, t_s: float, target: Path) -> np.ndarray:
    """The grey picture that ffmpeg shows at this time."""
    run_ffmpeg(*(("-ss", f"{t_s:.3f}") if t_s else ()), "-i", path, "-frames:v", "1", "-pix_fmt", "gray", "-y", target)
    with av.open(str(target)) as container:
        return next(container.decode(video=0)).to_ndarray(format="gray").astype(float)


TURNS = ("", "hflip", "vflip", "rotation 90", "rotation 180", "rotation 270", "rotation 90 hflip", "rotation 270 hflip")


@pytest.mark.parametrize("turn", TURNS)
def test_a_cover_is_turned_and_mirrored_as_players_do(
    turn: str, make_clip: ClipMaker, tmp_path: Path, children: Children, deadline: Deadline
) -> None:
    plain = make_clip("plain.mp4", seconds=1, size="160x120")
    path = tmp_path / "turned.mp4"
    options = turn.replace("rotation", "-display_rotation").replace("hflip", "-display_hflip").replace("vflip", "-display_vflip")
    run_ffmpeg(*options.split(), "-i", plain, "-c", "copy", path)

    t_s, cover = cover_of(path, tmp_path / "pictures", children, deadline)

    ours, theirs = shown(cover, 0, tmp_path / "ours.png"), shown(path, t_s, tmp_path / "theirs.png")
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).mean() < 8
    others = [np.rot90(ours, 2), ours[::-1], ours[:, ::-1]]
    assert all(np.abs(other - theirs).mean() > 2 * np.abs(ours - theirs).mean() for other in others)


@pytest.mark.parametrize("count", [1, 2])
def test_a_video_of_one_or_two_pictures_can_be_read(count: int, tmp_path: Path, children: Children, deadline: Deadline) -> None:
    path = tmp_path / "short.mp4"
    source = ["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=10:duration=1", "-frames:v", str(count)]
    run_ffmpeg(*source, "-c:v", "libx264", "-pix_fmt", "yuv420p", path)

    for header_only in (True, False):
        video = probe(path.name, path, deadline, children=children, header_only=header_only).main_video()
        assert video is not None
        assert video.is_decodable


def test_a_flash_video_that_does_not_begin_at_zero_is_looked_at(tmp_path: Path, children: Children, deadline: Deadline) -> None:
    path = tmp_path / "late.flv"
    source = ["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=10:duration=4"]
    run_ffmpeg(*source, *QUICK, "-output_ts_offset", "3", "-copyts", path)

    assert analyse(path.name, path, deadline, children=children).duration_s == pytest.approx(4, abs=0.3)


def test_a_variable_rate_loses_nearly_nothing(tmp_path: Path, children: Children, deadline: Deadline) -> None:
    """A second at 24 pictures, then three at one, and so on: 6.75 a second on the whole."""
    path = tmp_path / "bursts.mkv"
    source = ["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=24:duration=12"]
    chosen = "select='lt(mod(t,4),1)+eq(mod(n,24),0)'"
    run_ffmpeg(*source, "-vf", chosen, "-fps_mode", "vfr", *QUICK, path)

    found = analyse(path.name, path, deadline, children=children)

    assert "vfr" in found.tags
    assert found.pace.fps == pytest.approx(24, abs=1)


def test_a_file_that_claims_to_last_for_days_takes_no_memory(tmp_path: Path, children: Children, deadline: Deadline) -> None:
    path = tmp_path / "days.mkv"
    inputs = ["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=10:duration=6", "-f", "lavfi", "-i", "sine=duration=6"]
    jump = "setts=ts=if(gt(PTS*TB\\,3)\\,PTS+1000000/TB\\,PTS)"
    run_ffmpeg(*inputs, *QUICK, "-c:a", "flac", "-bsf:v", jump, "-bsf:a", jump, path)
    small = Children(tmp_path, memory_bytes=300_000_000)

    with small:
        found = analyse(path.name, path, deadline, children=small)

    assert found.duration_s > 900_000


def test_a_file_without_pictures_says_so(make_clip: ClipMaker, children: Children, deadline: Deadline) -> None:
    with pytest.raises(VideoError, match="has no pictures"):
        analyse("song", make_clip("song.m4a", video=None), deadline, children=children)
