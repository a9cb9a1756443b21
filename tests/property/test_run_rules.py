"""Laws of a run: nothing begun without time for it, nothing temporary left, and what each kind of end counts."""

import contextlib
import errno
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dailies import atomic, cleanup, pipeline, policy, sources
from dailies.clock import Deadline, parse_timestamp, timestamp
from dailies.config import Publish, Run, Settings
from dailies.database import Database, parse_video, to_json
from dailies.delivery import Dispatch
from dailies.enrich import Enricher
from dailies.errors import Category, ConfigError, DailiesError, Interrupted, OutOfTime, SourceGone, Transient, VideoError, Waiting
from dailies.gates import Gates
from dailies.hosts import Asset, Ground, Host, Transfer
from dailies.hosts.storage import Storage
from dailies.http import Http
from dailies.journal import Journal
from dailies.library import Library
from dailies.media.children import Children
from dailies.media.render import Rules
from dailies.model import (
    Kind,
    LastError,
    Source,
    State,
    StepName,
    StepRecord,
    StepStatus,
    Upload,
    UploadStatus,
    Video,
    file_identity,
)
from dailies.progress import LogWatcher
from dailies.report import Collector, RunStatus
from dailies.runner import Runner
from dailies.space import Space
from dailies.steps import Kit, Lanes
from support import FakeClock, Shelf, variables

SCRATCH: Final = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # hundreds of examples sync their files
MOMENT: Final = "2026-01-02T03:04:05Z"
NOW: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PLENTY: Final = 10**15


def _video(number: int = 1, **changes: Any) -> Video:
    """A video whose file is on no machine: a run finds it waiting."""
    identity = f"{number:012x}" + "0" * 52
    source: dict[str, Any] = {
        "uri": f"/nowhere/{number}.mp4",
        "original_name": f"{number}.mp4",
        "size_bytes": 1,
        "identity": identity,
    }
    source |= changes.pop("source", {})
    return Video(
        id=f"clip-{source['identity'][:12]}",
        code="clip",
        title="Clip",
        source=Source(kind="file", **source),
        created_at=MOMENT,
        updated_at=MOMENT,
        **changes,
    )


class _Watcher(LogWatcher):
    """Notes what was begun and how much time was left; every step takes as long as it is told."""

    def __init__(self, took: Callable[[Video], None]) -> None:
        self.begun: list[str] = []
        self._took = took

    def step_started(self, video: Video, step: StepName) -> None:
        self.begun.append(video.id)
        self._took(video)


@dataclass
class _Stage:
    """A library without git in a folder of its own, and a runner with one worker over it."""

    root: Path
    clock: FakeClock = field(default_factory=FakeClock)
    settings: Settings = field(default_factory=Settings)

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def database(self) -> Database:
        return Database(self.root, self.work, self.clock)

    @property
    def host(self) -> Storage:
        return Storage(ground=Ground(self.root, Http(self.clock)), path="published")

    @property
    def space(self) -> Space:
        return Space(self.work, 0, self.clock, lambda _: PLENTY)

    def run(self, deadline: Deadline, took: Callable[[Video], None] = lambda _: None) -> tuple[list[str], int]:
        """(ids of the videos that were begun, how many were skipped)."""
        hosts: dict[str, Host] = {"published": self.host}
        collector = Collector("run", self.clock.now(), 60, str)
        watcher = _Watcher(took)
        with Children(self.work) as children:
            runner = Runner(
                kit=self._kit(hosts, children),
                database=self.database,
                space=self.space,
                collector=collector,
                watcher=watcher,
                lanes=Lanes(1, 1),
                workers=1,
                clean_text=str,
                sha256_lock=threading.Lock(),
            )
            runner.run(policy.queue(self.database.videos(), self.clock.now()), deadline)
        return watcher.begun, collector.report(RunStatus.COMPLETED, self.clock.now(), 0).summary.skipped

    def _kit(self, hosts: dict[str, Host], children: Children) -> Kit:
        gates = Gates(self.settings, dict, self.clock)
        dispatch = Dispatch(hosts, gates, Journal(self.root, self.work), self.settings, self.work, self.clock, str)
        enricher = Enricher(self.settings.enrich, self.root, self.work, Http(self.clock), self.clock, {})
        rules = Rules(self.work, 1, children)
        ground = sources.Ground.of(self.settings.sources, self.root, self.clock, {})
        return Kit(self.root, self.work, self.settings, hosts, self.clock, rules, dispatch, enricher, ground)

    def left_behind(self) -> list[str]:
        """Whatever no end may leave: temporary files, `tmp/`, marks of steps, reservations."""
        patterns = (".tmp-*", "work/*/tmp", "work/*/step.json")
        found = [str(path.relative_to(self.root)) for pattern in patterns for path in self.root.rglob(pattern)]
        reservations = self.work / "reservations.json"
        return found + (["a reservation"] if reservations.exists() and reservations.read_text().strip() != "{}" else [])


@contextlib.contextmanager
def _stage(clock: FakeClock | None = None, settings: Settings | None = None) -> Iterator[_Stage]:
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        stage = _Stage(Path(folder), clock or FakeClock(), settings or Settings())
        stage.work.mkdir()
        yield stage


# --- Property 7 -------------------------------------------------------------------------------------------------------------

SECONDS = st.integers(0, 20_000)
SIZES = st.integers(0, 60_000_000_000)  # up to 12,000 s by a video's own estimate


@settings(max_examples=200, deadline=None)
@given(size=SIZES, left=st.floats(0, 20_000), minimum=SECONDS)
def test_a_video_may_start_only_with_the_minimum_and_its_own_estimate_left(size: int, left: float, minimum: int) -> None:
    """Feature: github-workflow-bug-fixes, Property 7: nothing is started with less than the minimum left, nor with less than
    the video's own estimate, and everything else is."""
    video = _video(source={"size_bytes": size})

    may_start = policy.may_start(video, left, Settings(run=Run(min_remaining=minimum)))

    assert may_start == (left >= minimum and left >= policy.estimate_s(video))


@settings(max_examples=100, deadline=None)
@given(size=SIZES, more=st.integers(1, 10**9))
def test_a_larger_video_is_never_estimated_to_be_done_sooner(size: int, more: int) -> None:
    assert policy.estimate_s(_video(source={"size_bytes": size})) < policy.estimate_s(_video(source={"size_bytes": size + more}))
    assert policy.estimate_s(_video(source={"size_bytes": 5_000_000})) == 1


@settings(max_examples=100, deadline=None)
@given(
    left=SECONDS,
    minimum=st.integers(1, 7200),
    queue=st.lists(st.tuples(SIZES, st.integers(0, 6000)), min_size=1, max_size=4),
)
def test_a_run_begins_exactly_the_videos_that_it_has_time_for(left: int, minimum: int, queue: list[tuple[int, int]]) -> None:
    """Feature: github-workflow-bug-fixes, Property 7: nothing started with less than the minimum left: a run takes its queue
    in order, begins each video that the time left at that moment is enough for, and skips the others."""
    videos = [_video(number, source={"size_bytes": size}) for number, (size, _) in enumerate(queue)]
    lasts = {video.id: seconds for video, (_, seconds) in zip(videos, queue, strict=True)}
    with _stage(settings=Settings(run=Run(min_remaining=minimum))) as stage:
        for video in videos:
            stage.database.save(video)

        begun, skipped = stage.run(Deadline.after(stage.clock, left), took=lambda video: stage.clock.advance(lasts[video.id]))

        expected, now_left = list[str](), left
        for video in videos:
            if now_left >= max(minimum, policy.estimate_s(video)):
                expected.append(video.id)
                now_left = max(0, now_left - lasts[video.id])
        assert begun == expected
        assert skipped == len(videos)  # not begun, or waiting for their file
        assert [video.retry_count for video in stage.database.videos()] == [0] * len(videos)


@pytest.mark.parametrize(("limit", "minimum"), [(1801, 1800), (1900, 1800), (35 * 60, 30 * 60), (315 * 60, 314 * 60)])
def test_a_run_just_longer_than_the_minimum_begins_a_video(shelf: Shelf, limit: int, minimum: int) -> None:
    """What is kept back for committing is part of the time that is left (design, rule 3)."""
    clock, watcher = FakeClock(), _Watcher(lambda _: None)
    settings = shelf.open().settings.model_copy(update={"run": Run(time_limit=limit, min_remaining=minimum)})
    library = Library(shelf.root, settings, clock)
    library.work.mkdir(exist_ok=True)
    library.database.save(_video())

    pipeline.run(library, pipeline.Wanted(commit=False), watcher, threading.Event())

    assert watcher.begun == [_video().id]


# --- Property 9 -------------------------------------------------------------------------------------------------------------


class _Breaking:
    """The n-th time that something is made durable or put in place (fsync, replace) fails, or a signal arrives there."""

    def __init__(self, at: int, error: BaseException | None) -> None:
        self._left = at
        self._error = error

    def through(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left == 0 and self._error is not None:
                raise self._error
            return real(*arguments, **named)

        return call


@contextlib.contextmanager
def _broken(at: int, error: BaseException | None) -> Iterator[None]:
    """What was raised, if it comes through at all, must be told or end the block: never anything else."""
    breaking = _Breaking(at, error)
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(DailiesError, OSError, KeyboardInterrupt):
        patch.setattr(os, "fsync", breaking.through(os.fsync))
        patch.setattr(os, "replace", breaking.through(os.replace))
        yield


ERRORS: Final[tuple[BaseException | None, ...]] = (
    None,
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EIO, "Input/output error"),
    Interrupted("as generated"),
    KeyboardInterrupt(),
)
WRITERS = ("atomic", "record", "folder in the way", "upload", "upload of other bytes", "upload too late", "upload of nothing")


def _write(stage: _Stage, what: str, content: bytes) -> None:
    """One of the ways in which this program makes files."""
    path = stage.root / "made"
    path.write_bytes(content)
    digest = hashlib.sha256(b"" if what == "upload of other bytes" else content).hexdigest()
    deadline = Deadline.after(stage.clock, 0 if what == "upload too late" else 60)
    if what == "atomic":
        atomic.write(stage.root / "target", content)
    elif what == "folder in the way":
        (stage.root / "folder").mkdir(exist_ok=True)
        atomic.write(stage.root / "folder", content)
    elif what == "record":
        stage.database.save(_video().with_(title=content.hex()))
    else:
        source = path if what != "upload of nothing" else stage.root / "missing"
        stage.host.upload(source, Asset(_video().id, Kind.VIDEO, ".mp4", digest, len(content)), Transfer(deadline))


_WRITES = st.lists(
    st.tuples(st.sampled_from(WRITERS), st.binary(max_size=20), st.integers(1, 4), st.sampled_from(ERRORS)), min_size=1, max_size=6
)


@settings(max_examples=100, deadline=None)
@given(_WRITES)
def test_however_a_write_ends_it_leaves_no_temporary_file(writes: list[tuple[str, bytes, int, BaseException | None]]) -> None:
    """Feature: github-workflow-bug-fixes, Property 9: no temporary file after success, failure or interruption: of records,
    of whole files and of uploads to a folder, whatever was done before; and what stands there is one of the things written."""
    whole = {b""}
    with _stage() as stage:
        for what, content, at, error in writes:
            whole.add(content)
            with _broken(at, error):
                _write(stage, what, content)
            assert stage.left_behind() == [], what
            target, published = stage.root / "target", stage.root / "published" / f"{_video().id}.mp4"
            assert all(path.read_bytes() in whole for path in (target, published) if path.exists())
            assert all(bytes.fromhex(video.title) in whole for video in stage.database.videos())


@dataclass
class _EndingClock(FakeClock):
    """Its n-th reading is the end: a signal has come, or the time is over."""

    end: Callable[[], None] = lambda: None
    at: int = 0
    readings: int = 0

    def monotonic(self) -> float:
        self.readings += 1
        if self.readings == self.at:
            self.end()
        return super().monotonic()


SOURCES = ("elsewhere", "gone", "changed", "a folder now", "not a video")
ENDS = ("nothing", "signal", "time over", "disk full", "step too long")


def _queued(stage: _Stage, source: str, **changes: Any) -> Video:
    """A queued video in each state that its file may be found in."""
    path = stage.root / "clip.mp4"
    path.write_bytes(b"no video at all")
    identity, size = file_identity(path, path.name)
    found: dict[str, Any] = {"uri": path.name, "size_bytes": size, "identity": identity}
    if source == "elsewhere":
        found["uri"] = "/nowhere/clip.mp4"
    elif source == "changed":
        path.write_bytes(b"something else.")
    elif source in {"gone", "a folder now"}:
        path.unlink()
        if source == "a folder now":
            path.mkdir()
    return stage.database.save(_video(source=found, **changes))


@contextlib.contextmanager
def _full_disk(stage: _Stage) -> Iterator[None]:
    """Nothing more fits into a work folder; everything else is as ever."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if any(os.path.samestat(os.fstat(descriptor), path.stat()) for path in stage.work.glob("*/tmp/*")):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        yield


def _end(end: str, clock: _EndingClock, stop: threading.Event) -> None:
    if end == "signal":
        stop.set()
    elif end in {"time over", "step too long"}:
        clock.advance(3600 if end == "time over" else 1000)


@settings(max_examples=100, deadline=None)
@given(source=st.sampled_from(SOURCES), end=st.sampled_from(ENDS), at=st.integers(1, 11), failures=st.integers(0, 3))
def test_however_a_video_ends_its_run_leaves_nothing_temporary(source: str, end: str, at: int, failures: int) -> None:
    """Feature: github-workflow-bug-fixes, Property 9: no temporary file after success, failure or interruption: neither a
    file, a `tmp/`, the mark of a step nor a reservation, wherever the run was ended, and the record is true."""
    clock, stop = _EndingClock(at=at), threading.Event()
    with _stage(clock, Settings(run=Run(min_remaining=1))) as stage:
        video = _queued(stage, "elsewhere" if end == "nothing" and source == "not a video" else source, retry_count=failures)
        clock.readings, clock.end = 0, lambda: _end(end, clock, stop)
        with _full_disk(stage) if end == "disk full" else contextlib.nullcontext():
            stage.run(Deadline.after(clock, 1800, stop))

        after = stage.database.load(video.id)
        assert stage.left_behind() == []
        assert policy.is_open(after) or after.last_error is not None
        assert after.retry_count in {failures, failures + 1}
        assert after.retry_count == failures or after.last_error is not None
        assert after.last_error is None or after.last_error.category not in {Category.INTERRUPTED, Category.TIME_OVER}
        assert after.state is not State.WORKING


# Ends in the middle of what it does, as if the machine had gone.
DYING: Final = """
import os, signal, sys
from pathlib import Path
from dailies import atomic

def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(os, sys.argv[2], die)
atomic.write(Path(sys.argv[1]), b"new")
"""


@pytest.mark.parametrize("place", ["fsync", "replace"])
def test_what_a_killed_process_was_writing_goes_with_the_next_run(tmp_path: Path, place: str) -> None:
    """Feature: github-workflow-bug-fixes, Property 9: no temporary file: after a kill the old content stands, and cleaning up
    removes what was being written."""
    target = tmp_path / "target"
    target.write_bytes(b"old")

    dead = subprocess.run([sys.executable, "-c", DYING, str(target), place], env=variables(), check=False, timeout=60)

    assert dead.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"
    assert len(list(tmp_path.glob(".tmp-*"))) == 1
    assert cleanup.drop_temporary_files([tmp_path], FakeClock(moment=datetime.now(UTC))) == 1
    assert list(tmp_path.iterdir()) == [target]


_NAMES = st.sampled_from([f".tmp-{os.getpid()}-ab", ".tmp-4999999-ab", "clip.mp4", "clip.tmp-1", "tmp-4999999-ab"])  # no such pid


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.tuples(st.sampled_from(["", "a", "a/b"]), _NAMES), st.integers(0, 4 * 3600), max_size=8))
def test_cleaning_up_removes_what_the_dead_and_the_forgetful_left_and_nothing_else(files: dict[tuple[str, str], int]) -> None:
    """Feature: github-workflow-bug-fixes, Property 9: no temporary file of a dead process, or older than two hours, outlives
    the next run; those of the living and all other files do."""
    clock = FakeClock()
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        for (parent, name), age in files.items():
            path = Path(folder, parent, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            os.utime(path, (clock.now().timestamp() - age,) * 2)

        removed = cleanup.drop_temporary_files([Path(folder), Path(folder, "missing")], clock)

        kept = {key for key, age in files.items() if not key[1].startswith(".tmp-") or (str(os.getpid()) in key[1] and age <= 7200)}
        assert {key for key in files if Path(folder, *key).exists()} == kept
        assert removed == len(files) - len(kept)


# --- what each end counts (policy.py) ---------------------------------------------------------------------------------------

STEPS = st.sampled_from(list(StepName))
STATES = st.sampled_from(list(State))
MAYBE_MOMENT = st.sampled_from([None, MOMENT])
RECORDS = st.builds(
    StepRecord,
    status=st.sampled_from(list(StepStatus)),
    duration_s=st.floats(0, 100),
    at=st.just(MOMENT),
    error=st.sampled_from([None, "as generated"]),
)
LAST_ERRORS = st.builds(
    LastError,
    step=st.none() | STEPS,
    attempt=st.integers(0, 5),
    category=st.sampled_from([category.value for category in Category if category is not Category.CRASHED]),
    message=st.just("as generated"),
    action=st.just("queued again"),
    at=st.just(MOMENT),
)


@st.composite
def _open_videos(draw: st.DrawFn) -> Video:
    """A video in a run's hand, whatever has become of it so far."""
    return _video(
        state=draw(st.sampled_from([State.QUEUED, State.WORKING])),
        epoch=draw(st.integers(0, 3)),
        retry_count=draw(st.integers(0, 3)),
        interruptions=draw(st.integers(0, 4)),
        interrupted_step=draw(st.none() | STEPS),
        next_attempt_at=draw(MAYBE_MOMENT),
        last_error=draw(st.none() | LAST_ERRORS),
        duplicate_of=draw(st.none() | st.just(_video(2).id)),
        warnings=tuple(draw(st.lists(st.sampled_from(["one", "two"]), unique=True))),
        steps=draw(st.dictionaries(STEPS, RECORDS, max_size=4)),
        uploads={
            "published": {
                "video": Upload(
                    status=draw(st.sampled_from(list(UploadStatus))),
                    retry_count=draw(st.integers(0, 3)),
                    remote_id=draw(st.sampled_from([None, "there"])),
                    error=draw(st.sampled_from([None, "as generated"])),
                    until=draw(MAYBE_MOMENT),
                )
            }
        },
    )


def _after(video: Video, error: DailiesError, settings: Settings | None = None, now: datetime = NOW) -> Video:
    return policy.after_error(video, StepName.CONVERT, error, str(error), settings or Settings(), now)


@settings(max_examples=100, deadline=None)
@given(video=_open_videos(), retries=st.integers(0, 5), cap=st.integers(60, 10_000))
def test_failures_are_queued_again_so_often_and_the_next_is_final(video: Video, retries: int, cap: int) -> None:
    """The n-th failure waits 2^n minutes, capped; with the default of 3 retries the 4th is final."""
    settings, video = Settings(publish=Publish(max_retries=retries, retry_cap=cap)), video.with_(retry_count=0)
    for attempt in range(1, retries + 1):
        video = _after(video, Transient("host is away"), settings)
        assert (video.state, video.retry_count) == (State.QUEUED, attempt)
        assert video.next_attempt_at == timestamp(NOW + timedelta(seconds=min(cap, 60 * 2**attempt)))
        assert video.last_error is not None
        assert (video.last_error.attempt, video.last_error.action) == (attempt, "queued again")

    video = _after(video, Transient("host is away"), settings)

    assert (video.state, video.retry_count, video.next_attempt_at) == (State.FAILED, retries + 1, None)
    assert Settings().publish.max_retries == 3


@settings(max_examples=100, deadline=None)
@given(attempt=st.integers(1, 10_000), cap=st.integers(0, 10**6))
def test_the_backoff_never_shrinks_nor_passes_its_cap(attempt: int, cap: int) -> None:
    settings = Settings(publish=Publish(retry_cap=cap))

    waits = [policy.backoff_s(number, settings) for number in (attempt, attempt + 1)]

    assert waits[0] <= waits[1] <= cap
    assert waits[0] == min(cap, 60 * 2**attempt)


NOBODYS_FAULT: Final = (Waiting("not on this machine"), Interrupted("a signal"), OutOfTime("time is over"), ConfigError("settings"))


@settings(max_examples=200, deadline=None)
@given(
    video=_open_videos(),
    error=st.sampled_from(NOBODYS_FAULT),
    retries=st.integers(0, 3),
)
def test_waiting_an_interruption_the_end_of_time_and_a_persons_matter_count_nothing(
    video: Video, error: DailiesError, retries: int
) -> None:
    """Design, rules 8 and 10: also for a video that has no retry left."""
    after = _after(video, error, Settings(publish=Publish(max_retries=retries)))

    assert after == video.with_(state=State.QUEUED)


@settings(max_examples=100, deadline=None)
@given(video=_open_videos(), error=st.sampled_from([VideoError("damaged"), SourceGone("gone")]))
def test_what_cannot_be_cured_by_waiting_ends_at_once(video: Video, error: DailiesError) -> None:
    after = _after(video, error)

    assert after.state is (State.FAILED if isinstance(error, VideoError) else State.UNAVAILABLE)
    assert after.next_attempt_at is None
    assert after.last_error is not None
    assert (after.last_error.step, after.last_error.message) == (StepName.CONVERT, str(error))
    assert policy.needs_retry(after)


@settings(max_examples=100, deadline=None)
@given(video=_open_videos())
def test_a_child_that_dies_twice_on_one_file_fails_it(video: Video) -> None:
    """`_open_videos` never crashed before: the first is an attempt like any other."""
    crash, video = Transient("ffmpeg was ended by signal 11", Category.CRASHED), video.with_(retry_count=0)

    once = _after(video, crash)
    twice = _after(once, crash)

    assert (once.state, once.retry_count) == (State.QUEUED, 1)
    assert twice.state is State.FAILED
    assert twice.last_error is not None
    assert twice.last_error.category == Category.CRASHED


@settings(max_examples=200, deadline=None)
@given(video=_open_videos(), deaths=st.lists(st.none() | st.sampled_from([StepName.CONVERT, StepName.PUBLISH]), max_size=12))
def test_only_five_deaths_in_a_row_in_the_same_step_fail_a_video(video: Video, deaths: list[StepName | None]) -> None:
    """Design, rule 10. A death outside any step is nobody's fault and neither counts nor breaks a row."""
    after, row = video.with_(interruptions=0, interrupted_step=None), list[StepName]()
    for step in deaths:
        row = row if step is None else [*row, step] if step in row else [step]
        after = policy.after_crash(after, step, NOW)
        if len(row) == 5:
            break

    assert (after.state is State.FAILED) == (len(row) == 5)
    assert after.retry_count == video.retry_count
    if after.state is State.FAILED:
        assert after.last_error is not None
        assert after.last_error.category == Category.CRASHED
    elif deaths:
        assert after == video.with_(state=State.QUEUED, interruptions=len(row), interrupted_step=row[-1] if row else None)


@settings(max_examples=100, deadline=None)
@given(video=_open_videos(), deaths=st.integers(1, 40), kind=st.sampled_from(["http", "hls", "storage"]))
def test_a_link_whose_fetch_dies_with_its_machine_is_never_given_up(video: Video, deaths: int, kind: str) -> None:
    after = before = video.with_(source=video.source.model_copy(update={"kind": kind}))
    for _ in range(deaths):
        after = policy.after_crash(after, StepName.FETCH, NOW)

    assert after == before.with_(state=State.QUEUED)


@given(video=_open_videos(), step=STEPS, took=st.floats(0, 1000))
def test_a_step_that_succeeds_ends_its_row_of_deaths_and_no_others(video: Video, step: StepName, took: float) -> None:
    after = policy.after_step(video, step, took, NOW)

    assert after.has_completed(step)
    is_its_row = video.interrupted_step is step
    assert (after.interruptions, after.interrupted_step) == (
        (0, None) if is_its_row else (video.interruptions, video.interrupted_step)
    )


@settings(max_examples=200, deadline=None)
@given(video=_open_videos(), state=STATES)
def test_retrying_by_hand_forgets_failures_keeps_what_was_done_and_raises_the_epoch(video: Video, state: State) -> None:
    video = video.with_(state=state)

    after = policy.retried(video)

    assert (after.state, after.epoch) == (State.QUEUED, video.epoch + 1)
    assert (after.retry_count, after.interruptions, after.interrupted_step) == (0, 0, None)
    assert (after.next_attempt_at, after.last_error) == (None, None)
    assert all(record.status is StepStatus.COMPLETED for record in after.steps.values())
    again = {StepName.ANALYSE} if state is State.DUPLICATE else set()  # it may look like another by now
    assert {name for name in video.steps if video.has_completed(name)} - again == set(after.steps)
    assert (after.id, after.source, after.created_at) == (video.id, video.source, video.created_at)
    before, now = video.upload("published", Kind.VIDEO), after.upload("published", Kind.VIDEO)
    is_there_perhaps = before.status in {UploadStatus.SUCCESS, UploadStatus.IN_PROGRESS, UploadStatus.UNKNOWN}
    forgotten = {} if is_there_perhaps else {"status": UploadStatus.PENDING, "error": None, "until": None}
    is_later = bool(forgotten) and before.status is not UploadStatus.PENDING  # else a merge would bring the failure back
    assert now == before.model_copy(update={"retry_count": 0, "epoch": before.epoch + is_later, **forgotten})
    assert after.uploads.keys() == video.uploads.keys()
    assert policy.is_open(after)
    assert policy.is_due(after, NOW)


@settings(max_examples=100, deadline=None)
@given(video=_open_videos(), holder=st.none() | STATES)
def test_a_duplicate_of_a_failed_or_removed_video_is_looked_at_anew(video: Video, holder: State | None) -> None:
    """Design, rule 12. Another of its duplicates may be first now: these bytes are compared again."""
    media = {"duration_s": 1, "width": 1, "height": 1, "resolution": "1x1", "aspect_ratio": "1:1", "fps": 1, "video_codec": "h264"}
    media |= {"audio_codec": None, "audio_channels": 0, "bit_rate": 1, "rotation": 0}
    content = {**video.model_dump(mode="json", by_alias=True), "state": "duplicate", "duplicate_of": _video(2).id, "media": media}
    duplicate = Video.model_validate(content)

    is_orphaned = policy.is_orphaned_duplicate(duplicate, {_video(2).id: holder} if holder else {})
    freed = policy.freed_duplicate(duplicate)

    assert is_orphaned == (holder not in {State.QUEUED, State.WORKING, State.DONE})
    assert (freed.state, freed.duplicate_of) == (State.QUEUED, None)
    assert freed.media is None  # else inspect, which finds duplicates, is not needed


@settings(max_examples=100, deadline=None)
@given(offset=st.none() | st.integers(-7200, 7200), state=STATES, deleted_at=MAYBE_MOMENT)
def test_a_video_is_taken_when_it_is_open_and_its_time_has_come(offset: int | None, state: State, deleted_at: str | None) -> None:
    at = None if offset is None else timestamp(NOW + timedelta(seconds=offset))
    video = _video(state=state, next_attempt_at=at, deleted_at=deleted_at)

    assert policy.is_due(video, NOW) == (at is None or parse_timestamp(at) <= NOW)
    assert policy.is_open(video) == (state in {State.QUEUED, State.WORKING} and deleted_at is None)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 9)), unique_by=lambda one: one[0], max_size=8).flatmap(st.permutations)
)
def test_the_oldest_comes_first_whatever_the_order_of_the_files(order: list[tuple[int, int]]) -> None:
    videos = [_video(number).with_(created_at=f"2026-01-02T03:04:0{second}Z") for number, second in order]

    taken = policy.in_order(videos)

    assert [(video.created_at, video.id) for video in taken] == sorted((video.created_at, video.id) for video in videos)


def test_every_record_that_the_rules_make_can_be_stored() -> None:
    """`with_` trusts its values: what `policy` puts in must be what the model would take."""
    video = _video(interruptions=4, interrupted_step=StepName.FETCH)
    made = [
        _after(video, Transient("later")),
        _after(video, VideoError("damaged")),
        _after(video, Waiting("elsewhere")),
        policy.after_crash(video, StepName.FETCH, NOW),
        policy.after_optional_failure(video, StepName.CONVERT, 1.0, "no preview", NOW),
        policy.finished(policy.after_step(video, StepName.FETCH, 1.0, NOW)),
        policy.retried(video),
    ]

    assert [parse_video(to_json(after)) for after in made] == made
