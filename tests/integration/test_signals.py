"""SIGINT, SIGTERM and SIGHUP end a run cleanly within five seconds; what hangs by itself is ended by its deadline."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from dailies.clock import parse_timestamp
from dailies.errors import Exit
from integration.kill_driver import (
    assert_each_is_done_once,
    assert_nothing_is_left,
    ended,
    hanging,
    hung,
    is_alive,
    program,
    running,
    steps_in_hand,
    wait_until,
)
from support import ClipMaker, Finished, Shelf

LIMIT_S = 5.0


def signalled(run: "subprocess.Popen[bytes]", number: int) -> Finished:
    """How the run ended after the signal; it must be at once."""
    began = time.monotonic()
    run.send_signal(number)
    finished = ended(run, 2 * LIMIT_S)
    assert time.monotonic() - began < LIMIT_S
    return finished


def assert_interrupted(shelf: Shelf, finished: Finished) -> None:
    """Exit 130, nothing left, nothing counted, a true report on disk; committing is the next run's."""
    assert finished.code == Exit.INTERRUPTED, finished.err
    assert_nothing_is_left(shelf)
    fields = ("state", "retry_count", "interruptions", "claim")
    counted = [tuple(record[field] for field in fields) for record in shelf.records().values()]
    assert set(counted) == {("queued", 0, 0, None)}
    reports = [json.loads(path.read_text("utf-8")) for path in shelf.root.glob("database/runs/*/*.json")]
    assert [(report["status"], report["summary"]["remaining"]) for report in reports] == [("cancelled", len(counted))]
    subjects = shelf.git("log", "--format=%s").splitlines()
    assert [subject.partition(" (run")[0] for subject in subjects] == ["database: queue claimed", "dailies init"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_while_ffmpeg_hangs_ends_it_and_the_next_run_finishes(
    shelf: Shelf, clip: Path, tmp_path: Path, number: signal.Signals
) -> None:
    shelf.put(clip)
    with running(shelf, "run", "--json", DAILIES_FFMPEG=hanging(tmp_path)) as run:
        children = hung(tmp_path)

        finished = signalled(run, number)

        assert not any(map(is_alive, children))
        assert finished.json()["status"] == "cancelled"
        assert_interrupted(shelf, finished)
    assert shelf.cli("run").code == 0
    assert_each_is_done_once(shelf)


def test_children_that_ignore_a_polite_signal_are_killed_and_videos_that_wait_for_a_core_stay_queued(
    shelf: Shelf, make_clip: ClipMaker, tmp_path: Path
) -> None:
    for hertz in (300, 400, 500):
        shelf.put(make_clip(hertz=hertz), f"{hertz}.mp4")
    with running(shelf, "run", "--jobs", "2", DAILIES_FFMPEG=hanging(tmp_path, "trap '' TERM")) as run:
        children = hung(tmp_path, 2)

        finished = signalled(run, signal.SIGTERM)

        assert not any(map(is_alive, children))
        assert len(shelf.records()) == 3
        assert_interrupted(shelf, finished)


def test_a_signal_during_a_long_copy_ends_it(shelf: Shelf, clip: Path) -> None:
    if (
        subprocess.run(["cp", "--reflink=always", clip, shelf.root / "shared.mp4"], capture_output=True, check=False).returncode
        == 0
    ):
        pytest.skip("this disk copies in no time: it shares the blocks")
    shelf.set("space", floor=0)
    (shelf.root / "shared.mp4").unlink(missing_ok=True)
    source = shelf.put(clip, "long.mp4")
    os.truncate(source, 600_000_000)  # sparse: takes no disk itself, its copy does for a moment
    os.utime(source, (1, 1))
    with running(shelf, "run", "--json") as run:
        wait_until(lambda: steps_in_hand(shelf))

        finished = signalled(run, signal.SIGTERM)

        [video] = finished.json()["videos"]
        assert {name: step["status"] for name, step in video["steps"].items()} == {"fetch": "interrupted"}
        assert_interrupted(shelf, finished)


def test_signals_that_come_again_change_nothing(shelf: Shelf, clip: Path, tmp_path: Path) -> None:
    shelf.put(clip)
    with running(shelf, "run", DAILIES_FFMPEG=hanging(tmp_path, "trap '' TERM")) as run:
        hung(tmp_path)
        run.send_signal(signal.SIGINT)
        run.send_signal(signal.SIGHUP)

        finished = signalled(run, signal.SIGINT)

        assert_interrupted(shelf, finished)


def test_a_signal_during_a_push_that_hangs_ends_the_run(shelf: Shelf, clip: Path, tmp_path: Path) -> None:
    shelf.put(clip)
    hook = shelf.root / ".git/hooks/pre-push"
    hanging(tmp_path)
    hook.symlink_to(tmp_path / "hanging-ffmpeg")
    with running(shelf, "run") as run:
        children = hung(tmp_path)
        try:
            finished = signalled(run, signal.SIGTERM)

            assert finished.code == Exit.INTERRUPTED
            assert not any(map(is_alive, children))
        finally:
            for pid in filter(is_alive, children):
                os.kill(pid, signal.SIGKILL)
    hook.unlink()
    assert shelf.cli("run").code == 0
    assert_each_is_done_once(shelf)


@pytest.mark.parametrize("manner", ["", "trap '' TERM"], ids=["polite", "stubborn"])
def test_a_step_that_takes_too_long_is_ended_and_tried_again_in_two_minutes(
    shelf: Shelf, make_clip: ClipMaker, tmp_path: Path, manner: str
) -> None:
    shelf.set("run", step_timeout="3s")
    shelf.put(make_clip(seconds=0.2))
    with running(shelf, "run", "--json", DAILIES_FFMPEG=hanging(tmp_path, manner)) as run:
        children = hung(tmp_path)

        finished = ended(run)

        assert not any(map(is_alive, children))
    assert_nothing_is_left(shelf)
    assert_timed_out(shelf, finished)


def assert_timed_out(shelf: Shelf, finished: Finished) -> None:
    """One attempt is counted, the next is due in two minutes, and the run does not say that all went well."""
    [record] = shelf.records().values()
    error = record["last_error"]
    assert (record["state"], record["retry_count"]) == ("queued", 1)
    assert (error["step"], error["category"], error["attempt"]) == ("convert", "timeout", 1)
    assert (parse_timestamp(record["next_attempt_at"]) - parse_timestamp(error["at"])).total_seconds() == 120
    report: dict[str, Any] = finished.json()
    assert report["videos"][0]["steps"]["convert"]["duration_s"] < 3 + 4 * 0.2 + 2 + 2  # the limit, the grace, a slow machine
    assert (finished.code, report["status"], report["errors_by_category"]) == (1, "completed_with_errors", {"timeout": 1})


def test_a_preview_that_takes_too_long_is_a_warning_and_the_video_is_done(
    shelf: Shelf, make_clip: ClipMaker, tmp_path: Path
) -> None:
    shelf.set("run", step_timeout="3s")
    shelf.put(make_clip(seconds=0.2))
    only_previews = program(tmp_path / "ffmpeg", 'case "$*" in *filter_complex*) exec sleep 600;; esac')

    done = shelf.cli("run", DAILIES_FFMPEG=only_previews)

    [record] = shelf.records().values()
    assert done.code == 0, done.err
    assert record["state"] == "done"
    assert [warning for warning in record["warnings"] if "preview took longer than" in warning]
    assert_nothing_is_left(shelf)
