"""SIGKILL at any moment of a run: the next one puts everything right and does every video exactly once."""

import itertools
import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from dailies import repository, scaffold
from dailies.database import parse_video
from dailies.errors import Exit
from dailies.model import Kind, StepName, StepStatus, Video
from dailies.steps import STEPS
from integration.kill_driver import (
    assert_each_is_done_once,
    driven,
    hanging,
    hung,
    is_alive,
    running,
    wait_until,
)
from support import IS_LONG, ClipMaker, Shelf

KILLED = -signal.SIGKILL
PHASES = ("start", *(step.name.value for step in STEPS), "commit")
SHARES = dict(zip(PHASES, itertools.cycle([0.5, 1.0, 0.0]), strict=False))  # how far into each phase: one of three
Acts = Mapping[str, list[str]]


@pytest.fixture(scope="module")
def acts(tmp_path_factory: pytest.TempPathFactory, clip: Path) -> Acts:
    """What an undisturbed run of one video does to files and programs, by phase."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shelf = Shelf(folder / "library", folder / "remote.git")
    repository.create(shelf.remote, bare=True)
    repository.create(shelf.root)
    scaffold.init(shelf.root)
    shelf.open().repository.begin(shelf.remote, "dailies init")
    shelf.put(clip)
    assert driven(shelf, "run", log=str(folder / "acts.json")) == 0
    found: Acts = json.loads((folder / "acts.json").read_text("utf-8"))
    return found


def stored(shelf: Shelf) -> list[Video]:
    """Every record as it lies on disk; fails for one that is not whole."""
    return [parse_video(path.read_bytes()) for path in sorted(shelf.root.glob("database/videos/*/*.json"))]


def completed(video: Video) -> dict[str, Any]:
    return {name: step for name, step in video.steps.items() if step.status is StepStatus.COMPLETED}


def kill_at(shelf: Shelf, phase: str, act: int) -> None:
    assert driven(shelf, "run", phase=phase, at=act) == KILLED


def place_of(acts: Acts, phase: str, word: str) -> int:
    """The number of the first act of a phase that has `word` in it."""
    return next(number for number, act in enumerate(acts[phase], start=1) if word in act)


def test_the_driver_sees_every_phase_of_a_run(acts: Acts) -> None:
    assert tuple(acts) == PHASES
    assert all(len(acts[phase]) >= 3 for phase in PHASES)


@pytest.mark.parametrize(
    ("phase", "share"), [(phase, share) for phase in PHASES for share in (0.0, 0.5, 1.0) if IS_LONG or share == SHARES[phase]]
)
def test_a_run_that_is_killed_anywhere_is_finished_by_the_next_one(
    shelf: Shelf, clip: Path, acts: Acts, phase: str, share: float
) -> None:
    shelf.put(clip)
    kill_at(shelf, phase, 1 + round(share * (len(acts[phase]) - 1)))
    before = stored(shelf)

    again = shelf.cli("run", "--json")

    assert again.code == 0, again.err
    assert_each_is_done_once(shelf)
    repeated = {step for video in again.json()["videos"] for step in video["steps"]} & {
        step for video in before for step in completed(video)
    }
    assert repeated <= {StepName.CLEAN}  # which is always the last


def test_a_run_that_dies_when_the_mp4_is_in_place_but_not_recorded_does_not_fetch_again(
    shelf: Shelf, clip: Path, acts: Acts
) -> None:
    shelf.put(clip)
    kill_at(shelf, "convert", place_of(acts, "convert", "os.rename database/videos"))

    again = shelf.cli("run", "--json").json()

    assert "fetch" not in again["videos"][0]["steps"]
    assert_each_is_done_once(shelf)


def test_an_upload_that_was_confirmed_is_not_sent_again(shelf: Shelf, clip: Path, acts: Acts) -> None:
    shelf.put(clip)
    kill_at(shelf, "preview", 1)
    [before] = stored(shelf)
    stamp = (shelf.root / f"media/published/{before.id}.mp4").stat().st_mtime_ns

    shelf.cli("run")

    [after] = stored(shelf)
    assert after.upload("published", Kind.VIDEO) == before.upload("published", Kind.VIDEO)
    assert (shelf.root / f"media/published/{before.id}.mp4").stat().st_mtime_ns == stamp


def test_an_upload_whose_answer_was_lost_is_found_and_not_sent_again(shelf: Shelf, clip: Path, acts: Acts) -> None:
    shelf.put(clip)
    kill_at(shelf, "publish", place_of(acts, "publish", "os.rename media/published") + 1)
    [before] = stored(shelf)
    stamp = (shelf.root / f"media/published/{before.id}.mp4").stat().st_mtime_ns

    shelf.cli("run")

    assert_each_is_done_once(shelf)
    assert (shelf.root / f"media/published/{before.id}.mp4").stat().st_mtime_ns == stamp


def test_the_disk_that_a_dead_run_had_promised_to_a_finished_video_is_free_again(shelf: Shelf, clip: Path, acts: Acts) -> None:
    shelf.put(clip)
    kill_at(shelf, "clean", place_of(acts, "clean", "work/reservations.lock"))
    assert [video.state.value for video in stored(shelf)] == ["done"]

    shelf.cli("run")

    assert_each_is_done_once(shelf)


@pytest.mark.parametrize("share", [0.2, 0.5], ids=["early", "middle"])
def test_a_recovery_that_is_killed_itself_is_done_by_the_run_after_it(shelf: Shelf, clip: Path, acts: Acts, share: float) -> None:
    shelf.put(clip)
    kill_at(shelf, "publish", place_of(acts, "publish", "os.rename media/published"))
    kill_at(shelf, "start", 1 + round(share * (len(acts["start"]) - 1)))

    again = shelf.cli("run")

    assert again.code == 0, again.err
    assert_each_is_done_once(shelf)


def test_the_source_of_a_moved_file_goes_once_however_often_the_last_step_dies(shelf: Shelf, clip: Path, acts: Acts) -> None:
    source = shelf.put(clip)
    assert shelf.cli("add", source, "--move").code == 0
    kill_at(shelf, "clean", 2)
    kill_at(shelf, "clean", 2)

    again = shelf.cli("run")

    assert again.code == 0, again.err
    assert not source.exists()
    assert_each_is_done_once(shelf)


@pytest.mark.parametrize("command", ["add", "commit-tree", "push"])
def test_a_run_that_is_killed_before_a_git_command_is_committed_and_pushed_by_the_next_one(
    shelf: Shelf, clip: Path, acts: Acts, command: str
) -> None:
    shelf.put(clip)
    words = [act.split() for act in acts["commit"]]
    kill_at(shelf, "commit", next(n for n, said in enumerate(words, start=1) if said[:2] == ["start", "git"] and command in said))

    again = shelf.cli("run")

    assert again.code == 0, again.err
    assert_each_is_done_once(shelf)


@pytest.mark.parametrize("is_git_killed", [False, True], ids=["git lives on", "git dies too"])
def test_a_run_that_dies_while_git_holds_its_lock_does_not_block_the_next_one(
    shelf: Shelf, clip: Path, is_git_killed: bool
) -> None:
    shelf.put(clip)
    (shelf.root / ".gitattributes").write_text("database/videos/** filter=stuck\n")
    shelf.git("config", "filter.stuck.clean", "sleep 30; cat")
    with running(shelf, "run") as run:
        wait_until((shelf.root / "work/publish.index.lock").exists)
        gits = psutil.Process(run.pid).children(recursive=True)
        run.kill()
        run.wait()
        for process in gits if is_git_killed else ():
            process.kill()
        shelf.git("config", "filter.stuck.clean", "cat")

        again = shelf.cli("run")

        for process in filter(psutil.Process.is_running, gits):
            process.kill()
    assert again.code == 0, again.err
    assert_each_is_done_once(shelf)


def test_orphaned_ffmpegs_of_a_killed_run_are_ended_and_its_videos_finished(
    shelf: Shelf, make_clip: ClipMaker, tmp_path: Path
) -> None:
    for hertz in (300, 400, 500):
        shelf.put(make_clip(hertz=hertz), f"{hertz}.mp4")
    with running(shelf, "run", "--jobs", "2", DAILIES_FFMPEG=hanging(tmp_path)) as run:
        orphans = hung(tmp_path, 2)
        run.kill()
        run.wait()
        assert all(map(is_alive, orphans))

        again = shelf.cli("run")

        assert again.code == 0, again.err
        assert not any(map(is_alive, orphans))
    assert len(stored(shelf)) == 3
    assert_each_is_done_once(shelf)


def test_orphans_that_ignore_a_polite_signal_are_killed_and_only_by_their_own_library(
    shelf: Shelf, clip: Path, tmp_path: Path
) -> None:
    shelf.put(clip)
    other = Shelf(tmp_path / "other", shelf.remote)
    scaffold.init(other.root)
    with running(shelf, "run", DAILIES_FFMPEG=hanging(tmp_path, "trap '' TERM")) as run:
        orphans = hung(tmp_path)
        run.kill()
        run.wait()

        elsewhere = other.cli("cleanup")
        assert elsewhere.code == 0, elsewhere.err
        assert all(map(is_alive, orphans))

        assert "orphaned programs ended" in shelf.cli("cleanup").out
        assert not any(map(is_alive, orphans))


def test_five_deaths_in_a_row_in_one_step_fail_the_video_as_crashed(shelf: Shelf, clip: Path) -> None:
    shelf.put(clip)
    for _ in range(5):
        kill_at(shelf, "convert", 2)

    last = shelf.cli("run")

    [video] = stored(shelf)
    assert video.state == "failed", last.err
    assert video.last_error is not None
    assert (video.last_error.category, video.last_error.step) == ("crashed", StepName.CONVERT)
    assert (video.interruptions, video.retry_count) == (5, 0)


def test_deaths_are_forgotten_once_the_step_succeeds(shelf: Shelf, clip: Path) -> None:
    shelf.put(clip)
    for _ in range(2):
        kill_at(shelf, "inspect", 2)

    shelf.cli("run")

    [video] = stored(shelf)
    assert (video.interruptions, video.interrupted_step, video.retry_count) == (0, None, 0)
    assert_each_is_done_once(shelf)


def test_an_interruption_by_a_signal_counts_nothing(shelf: Shelf, clip: Path, tmp_path: Path) -> None:
    shelf.put(clip)
    kill_at(shelf, "convert", 2)
    with running(shelf, "run", DAILIES_FFMPEG=hanging(tmp_path)) as run:
        hung(tmp_path)
        run.send_signal(signal.SIGTERM)
        assert run.wait(10) == Exit.INTERRUPTED

    shelf.cli("cleanup")

    [video] = stored(shelf)
    assert (video.state, video.interruptions, video.retry_count) == ("queued", 1, 0)  # the death alone
