"""Several processes and several videos at once: one run a library, one record a source, every lane at work."""

import json
import os
import threading
import time
from pathlib import Path

import psutil
import pytest
from pydantic import BaseModel, ConfigDict, Field

from dailies import hosts, pipeline
from dailies.clock import SystemClock
from dailies.errors import Transient
from dailies.hosts import Asset, Capabilities, Ground, Receipt, Transfer
from dailies.locks import SharedLock
from dailies.model import StepName, Video
from dailies.process import POLL_S
from integration.kill_driver import (
    assert_each_is_done_once,
    assert_nothing_is_left,
    children_of,
    ended,
    program,
    running,
    steps_in_hand,
    wait_until,
)
from support import PUBLISHED, ClipMaker, Shelf

GATE = ('touch "$here/waiting"', 'while [ ! -e "$here/open" ]; do sleep 0.02; done')


def put_three(shelf: Shelf, make_clip: ClipMaker) -> None:
    for hertz in (300, 400, 500):
        shelf.put(make_clip(hertz=hertz), f"{hertz}.mp4")


def states(shelf: Shelf) -> dict[str, str]:
    return {name: record["state"] for name, record in shelf.records().items()}


def test_a_second_run_names_the_first_and_leaves_its_work_alone(shelf: Shelf, clip: Path, tmp_path: Path) -> None:
    shelf.put(clip)
    with running(shelf, "run", DAILIES_FFMPEG=program(tmp_path / "ffmpeg", *GATE)) as first:
        wait_until((tmp_path / "waiting").exists)

        second = shelf.cli("run", "--json")

        assert second.code == 0
        assert f"process {first.pid} " in second.err
        assert second.json()["videos"] == []
        assert states(shelf) == {"clip.mp4": "working"}
        (tmp_path / "open").touch()
        assert ended(first).code == 0
    assert_each_is_done_once(shelf)


def test_add_status_list_and_show_work_beside_a_run(shelf: Shelf, make_clip: ClipMaker, tmp_path: Path) -> None:
    shelf.put(make_clip(hertz=300), "early.mp4")
    with running(shelf, "run", DAILIES_FFMPEG=program(tmp_path / "ffmpeg", *GATE)) as run:
        wait_until((tmp_path / "waiting").exists)
        late = shelf.put(make_clip(hertz=400), "late.mp4")

        added = shelf.cli("add", late, "--json").json()

        assert [one["new"] for one in added] == [True]
        assert [video["code"] for video in shelf.cli("list", "--json").json()] == ["early", "late"]
        assert shelf.cli("status", "--json").json()["videos"]["working"] == 1
        assert shelf.cli("show", "early", "--json").json()["state"] == "working"
        (tmp_path / "open").touch()
        assert ended(run).code == 0
    assert states(shelf) == {"early.mp4": "done", "late.mp4": "queued"}
    shelf.cli("run")
    assert_each_is_done_once(shelf)


def test_as_many_ffmpegs_work_at_once_as_jobs_says(shelf: Shelf, make_clip: ClipMaker, tmp_path: Path) -> None:
    put_three(shelf, make_clip)
    met = '[ "$(ls "$here" | grep -c at-work)" -ge 2 ]'
    wait = f'left=250; until {met}; do left=$((left-1)); [ $left -gt 0 ] || {{ touch "$here/lonely"; exit 1; }}; sleep 0.02; done'

    done = shelf.cli("run", "--jobs", "2", DAILIES_FFMPEG=program(tmp_path / "ffmpeg", 'touch "$here/at-work-$$"', wait))

    assert done.code == 0, done.err
    assert not (tmp_path / "lonely").exists()
    assert_each_is_done_once(shelf)


def test_no_more_ffmpegs_work_at_once_than_jobs_says(shelf: Shelf, make_clip: ClipMaker, tmp_path: Path) -> None:
    put_three(shelf, make_clip)
    alone = ('mkdir "$here/busy" || touch "$here/overlap"', "trap 'rmdir \"$here/busy\"' EXIT", "sleep 0.05")
    path = program(tmp_path / "ffmpeg", *alone)
    Path(path).write_text(Path(path).read_text().replace("exec ", ""))  # so that the trap is reached

    done = shelf.cli("run", "--jobs", "1", DAILIES_FFMPEG=path)

    assert done.code == 0, done.err
    assert not (tmp_path / "overlap").exists()
    assert_each_is_done_once(shelf)


def test_equal_files_at_once_are_one_video_and_duplicates_of_it(shelf: Shelf, clip: Path) -> None:
    for number in range(3):
        shelf.put(clip, f"{number}.mp4")
    with running(shelf, "run", "--jobs", "3") as run:
        wait_until(lambda: steps_in_hand(shelf) == ["inspect"] * 3)
        with SharedLock(shelf.root / "work/records.lock", SystemClock()).write():  # so that all ask before one has answered
            wait_until(lambda: have_answered(shelf, 3))
            run_has_seen_that = threading.Event()
            run_has_seen_that.wait(5 * POLL_S)

        finished = ended(run)

    assert finished.code == 0, finished.err
    assert_one_is_published(shelf, copies=2)


def have_answered(shelf: Shelf, count: int) -> bool:
    """Whether that many media children are there and none of them has worked for a moment."""
    before = work_of(children_of(shelf))
    time.sleep(0.5)
    return len(before) >= count and work_of(list(before)) == before


def work_of(pids: list[int]) -> dict[int, float]:
    return {pid: sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids}


def assert_one_is_published(shelf: Shelf, copies: int) -> None:
    records = list(shelf.records().values())
    [original] = [record for record in records if record["state"] == "done"]
    others = [record for record in records if record is not original]
    assert [(one["state"], one["duplicate_of"], one["uploads"]) for one in others] == [("duplicate", original["id"], {})] * copies
    published = {path.name for path in (shelf.root / "media/published").iterdir()}
    assert published == {f"{original['id']}{suffix}" for suffix in PUBLISHED}
    assert_nothing_is_left(shelf)


class Converted:
    """Watches a run; `first_sent` is the video that the slow host got first."""

    def __init__(self) -> None:
        self.another = threading.Event()
        self.first_sent: str | None = None

    def step_started(self, video: Video, step: StepName) -> None:
        if step is StepName.PUBLISH and self.first_sent is None:
            self.first_sent = video.id

    def step_ended(self, video: Video, step: StepName, duration_s: float, error: str | None) -> None:
        if step in {StepName.CONVERT, StepName.ANALYSE} and self.first_sent not in {None, video.id}:
            self.another.set()

    def video_ended(self, video: Video) -> None: ...

    def uploading(self, video: Video, host: str, asset: Asset, sent: int) -> None: ...

    def fetching(self, video: Video, got: int, of: int | None) -> None: ...


class SlowHost(BaseModel):
    """Does not answer the first upload before another video has been converted or analysed."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)
    ground: Ground = Field(exclude=True, repr=False)
    path: str
    watcher: Converted

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(overwrites=True)

    def upload(self, path: Path, asset: Asset, transfer: Transfer) -> Receipt:
        if not self.watcher.another.wait(20):
            raise Transient("the processor was idle while this host was slow")
        return Receipt(remote_id=asset.name)

    def find(self, asset: Asset, transfer: Transfer) -> Receipt | None:
        return None

    def sweep_folders(self) -> tuple[Path, ...]:
        return ()


def test_a_slow_upload_does_not_keep_the_processor_from_the_next_video(
    shelf: Shelf, make_clip: ClipMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Converted()
    monkeypatch.setitem(hosts.HOSTS, "slow", lambda **fields: SlowHost(watcher=watcher, **fields))
    settings = (shelf.root / "dailies.toml").read_text("utf-8")
    settings = settings.replace('adapter = "storage"', 'adapter = "slow"').replace("# jobs = 0", "jobs = 1")
    (shelf.root / "dailies.toml").write_text(settings.replace("# transfers = 4", "transfers = 1"), "utf-8")
    put_three(shelf, make_clip)

    result = pipeline.run(shelf.open(), pipeline.Wanted(commit=False), watcher, threading.Event())

    assert result.report.errors_by_category == {}
    assert result.report.summary.done == 3


def test_many_processes_that_add_one_file_make_one_record(shelf: Shelf, clip: Path) -> None:
    source = str(shelf.put(clip))
    os.utime(source)  # so fresh that each looks at it twice, a second apart, before it writes
    with (
        running(shelf, "add", source, "--json") as one,
        running(shelf, "add", source, "--json") as two,
        running(shelf, "add", source, "--json") as three,
        running(shelf, "add", source, "--json") as four,
    ):
        finished = [ended(process) for process in (one, two, three, four)]

    assert [done.code for done in finished] == [0] * 4, [done.err for done in finished]
    answers = [json.loads(done.out)[0] for done in finished]
    assert sorted(answer["new"] for answer in answers) == [False, False, False, True]
    assert {answer["id"] for answer in answers} == {record["id"] for record in shelf.records().values()}


def test_an_ffmpeg_that_crashes_fails_its_own_video_alone_and_only_the_second_time(
    shelf: Shelf, make_clip: ClipMaker, tmp_path: Path
) -> None:
    shelf.put(make_clip(hertz=300), "bad.mp4")
    shelf.put(make_clip(hertz=400), "good.mp4")
    crashing = program(tmp_path / "ffmpeg", "ulimit -c 0", 'case "$*" in *work/bad-*) kill -SEGV $$;; esac')

    first = shelf.cli("run", "--json", DAILIES_FFMPEG=crashing)

    bad = shelf.records()["bad.mp4"]
    assert (first.code, first.json()["errors_by_category"]) == (1, {"crashed": 1})
    assert states(shelf) == {"bad.mp4": "queued", "good.mp4": "done"}
    assert (bad["last_error"]["category"], bad["last_error"]["step"], bad["retry_count"]) == ("crashed", "convert", 1)

    make_due(shelf, bad["id"])
    again = shelf.cli("run", DAILIES_FFMPEG=crashing)

    assert again.code == 1
    assert states(shelf) == {"bad.mp4": "failed", "good.mp4": "done"}
    assert shelf.records()["bad.mp4"]["last_error"]["category"] == "crashed"
    assert_nothing_is_left(shelf)


def make_due(shelf: Shelf, video_id: str) -> None:
    """The waiting time of a failure is over."""
    database = shelf.open().database
    database.save(database.load(video_id).with_(next_attempt_at=None))
