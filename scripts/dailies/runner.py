"""The loop: next video, next needed step, deadline, save, and what to do after each kind of error."""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dailies import cleanup, policy
from dailies.clock import Deadline, show_duration
from dailies.database import Database
from dailies.delivery import twin_of
from dailies.errors import Category, ConfigError, DailiesError, Interrupted, OutOfTime, Postponed, Transient, Waiting
from dailies.model import State, StepName, StepStatus, Video
from dailies.progress import Watcher
from dailies.recovery import mark_step, unmark_step
from dailies.report import Collector
from dailies.space import Space
from dailies.steps import STEPS, Job, Kit, Lanes, Step, WorkFolder, needs_publishing, space_needed

log = logging.getLogger(__name__)

_LOOK_S = 0.2  # how late the loop sees a stop
_PATIENCE = timedelta(minutes=5)  # a run waits this long for a host that wants it to, and idles no longer in all


@dataclass(frozen=True)
class Runner:
    """Takes the queue once; a video that fails is tried again by a later run, never by the same one."""

    kit: Kit
    database: Database
    space: Space
    collector: Collector
    watcher: Watcher
    lanes: Lanes
    workers: int
    clean_text: Callable[[str], str]  # redacts and makes one line: messages stand in committed records
    sha256_lock: threading.Lock
    on_tick: Callable[[], None] = lambda: None  # called a few times a second, for checkpoints
    commit_reserve_s: float = 0.0  # of the run's time, kept behind the deadline for committing
    postponed: dict[str, tuple[datetime, Video]] = field(default_factory=dict)  # taken again by this run at that time

    def run(self, queue: Iterable[Video], deadline: Deadline, limit: int | None = None) -> None:
        """Until the queue is taken, the time is over or a stop. Raises ConfigError and what is a bug, after all have ended."""
        self.database.index()  # before there are threads
        waiting = deque(queue)
        started, idle_s = 0, 0.0
        with ThreadPoolExecutor(self.workers, thread_name_prefix="video") as pool:
            active: set[Future[None]] = set()
            try:
                while waiting or active or self.postponed:
                    active |= {pool.submit(self._process, video, deadline) for video in self._due(deadline)}
                    while waiting and len(active) < self.workers and started != limit and not deadline.stop.is_set():
                        video = self._as_it_is(waiting.popleft())
                        if video is None:
                            continue
                        if policy.may_start(video, deadline.remaining() + self.commit_reserve_s, self.kit.settings):
                            active.add(pool.submit(self._process, video, deadline))
                            started += 1
                        else:
                            self._tell_not_started(video)
                    if not active:
                        idle_s += _LOOK_S
                        if not self.postponed or deadline.stop.is_set() or deadline.remaining() <= 0 or idle_s > _PATIENCE.seconds:
                            break
                        self.kit.clock.sleep(_LOOK_S)
                    ended, active = wait(active, _LOOK_S, FIRST_COMPLETED)
                    self.on_tick()
                    for future in ended:
                        future.result()
            except BaseException:
                deadline.stop.set()  # the others end cleanly before the pool is left
                raise
            finally:
                self.collector.skipped(len(waiting) + len(self.postponed))

    def _due(self, deadline: Deadline) -> list[Video]:
        """Postponed videos whose time has come: they wait in no slot, and the run goes on meanwhile."""
        if deadline.stop.is_set():
            return []
        now = self.kit.clock.now()
        ready = [video_id for video_id, (until, _) in list(self.postponed.items()) if until <= now]
        videos = [self._as_it_is(self.postponed.pop(video_id)[1]) for video_id in ready]
        return [video for video in videos if video is not None]

    def _as_it_is(self, queued: Video) -> Video | None:
        """The record by now; None where another run has taken or finished the video, or a person has removed it."""
        try:
            video = self.database.load(queued.id)
        except ConfigError:  # blocked meanwhile: the run's end tells
            return None
        if policy.is_open(video) and not policy.is_claimed(video, self.kit.clock.now(), self.collector.run_id):
            return video
        log.info("video=%s left to others: state=%s", video.id, video.state)
        self.collector.skipped()
        return None

    def _tell_not_started(self, video: Video) -> None:
        self.collector.skipped()
        estimate, limit = policy.estimate_s(video), self.kit.settings.run.time_limit
        if estimate > limit:  # no run of this length will ever start it
            needs = f"{show_duration(estimate)} by its size, more than the whole run has ({show_duration(limit)})"
            self.collector.problem(f"{video.id}: is reckoned to take {needs}; raise [run] time_limit")
            log.warning("video=%s not started: reckoned to take %s; raise [run] time_limit", video.id, needs)

    def _process(self, video: Video, deadline: Deadline) -> None:
        """One video, as far as it goes; whatever happens leaves a true record, no temporary file and no reservation."""
        way = _Way(self, video, WorkFolder(self.kit.work / video.id))
        self.collector.started_video(video)
        try:
            with self.space.reserved(video.id, space_needed(video.source.size_bytes), way.folder.path):
                way.folder.make()
                try:
                    way.go(deadline)
                finally:
                    cleanup.drop_folder(way.folder.tmp)
        except DailiesError as error:
            way.stopped_by(error, deadline)
        finally:
            way.leave()


class _Way:
    """A video's way through the steps. `video` is always what the database holds."""

    def __init__(self, runner: Runner, video: Video, folder: WorkFolder) -> None:
        self.folder = folder
        self._runner = runner
        self._kit = runner.kit
        self._before = self._base = video
        self._video = video
        self._postponed: datetime | None = None
        self._step: StepName | None = None

    def go(self, deadline: Deadline) -> None:
        job = Job(
            self._kit,
            self.folder,
            deadline,
            self._save,
            self._original_of,
            self._similar_to,
            self._intend,
            self._reserve,
            lambda got, of: self._runner.watcher.fetching(self._video, got, of),
        )
        for step in STEPS:
            deadline.check()
            if step.is_needed(self._video, job):
                self._take(step, job, deadline)
            if self._video.state is State.DUPLICATE:
                cleanup.drop_folder(self.folder.path)
                return
        self._save(policy.finished(self._video))

    def _take(self, step: Step, job: Job, deadline: Deadline) -> None:
        self._step = step.name
        slot = self._runner.lanes.take(step.lane, deadline)
        try:
            self._act(step, job, deadline)
        finally:
            slot.release()

    def _act(self, step: Step, job: Job, deadline: Deadline) -> None:
        """One step: marked, timed, saved; the failure of what is optional is a warning."""
        runner, clock = self._runner, self._kit.clock
        if step.name is not StepName.FETCH:  # a source that is only waited for changes no record
            self._save(self._video.with_(state=State.WORKING))
        is_optional = step.is_optional or not needs_publishing(self._video, self._kit)
        mark_step(self.folder, step.name)
        runner.watcher.step_started(self._video, step.name)
        began = clock.monotonic()
        job.deadline = deadline.within(policy.step_limit_s(self._video, step.name, self._kit.settings), lambda: self._timeout(step))
        try:
            video = step.act(self._video, job)
        except DailiesError as error:
            ended, message = clock.monotonic(), runner.clean_text(str(error))
            took = ended - began
            self._tell_failure(step, error, (began, ended), message)
            if not is_optional or isinstance(error, OutOfTime | Interrupted | Waiting | ConfigError):
                raise
            self._save(policy.after_optional_failure(self._video, step.name, took, message, clock.now()))
        else:
            ended = clock.monotonic()
            took = ended - began
            self._save(policy.after_step(video, step.name, took, clock.now()))
            runner.collector.step(self._video, step.name, StepStatus.COMPLETED, (began, ended))
            runner.watcher.step_ended(self._video, step.name, took, None)
        finally:
            cleanup.drop_folder(self.folder.tmp)
            if self.folder.path.is_dir():
                unmark_step(self.folder)
                self.folder.make()

    def _timeout(self, step: Step) -> Transient:
        limit = policy.step_limit_s(self._video, step.name, self._kit.settings)
        return Transient(
            f"{self._video.code}: {step.name} took longer than {limit:.0f} s; raise [run] step_timeout if it may", Category.TIMEOUT
        )

    def _tell_failure(self, step: Step, error: DailiesError, span: tuple[float, float], message: str) -> None:
        is_interrupted = isinstance(error, OutOfTime | Interrupted)
        status = StepStatus.INTERRUPTED if is_interrupted else StepStatus.FAILED
        self._runner.collector.step(self._video, step.name, status, span, message)
        self._runner.watcher.step_ended(self._video, step.name, span[1] - span[0], message)

    def stopped_by(self, error: DailiesError, deadline: Deadline) -> None:
        """Record what became of the video; a person's matter (ConfigError) ends the run."""
        runner = self._runner
        message = runner.clean_text(str(error))
        video = policy.after_error(self._video, self._step, error, message, self._kit.settings, self._kit.clock.now())
        if isinstance(error, Postponed) and error.until - self._kit.clock.now() <= _PATIENCE:
            self._postponed = error.until
            video = self._video.with_(state=State.QUEUED)  # in the hands of this run still: what else it says stays
        elif isinstance(error, Waiting):
            runner.collector.skipped()
            if error.category is Category.HOST:  # a person must act: such a run is not all well
                runner.collector.failure(error.category, is_put_back=True)
            if self._step is None:  # else the watcher has said it
                log.warning("video=%s waits: %s", video.id, message)
        elif not isinstance(error, OutOfTime | Interrupted | ConfigError):
            runner.collector.failure(error.category, is_put_back=video.state is State.QUEUED)
        self._save(video)
        if not policy.is_open(video):
            cleanup.drop_folder(self.folder.path)
        if isinstance(error, ConfigError):
            deadline.stop.set()
            raise error

    def leave(self) -> None:
        self._runner.collector.ended_video(self._before, self._video, self._kit.clock.now())
        self._runner.watcher.video_ended(self._video)
        for empty in (self.folder.kept, self.folder.path):  # a video that only waits leaves nothing
            if empty.is_dir() and not os.listdir(empty):
                empty.rmdir()
        if self._postponed is not None:  # last: from here on another thread may take it
            self._runner.postponed[self._video.id] = (self._postponed, self._video)

    def _reserve(self, size_bytes: int) -> None:
        """In place of what was promised while the size of the source was not known."""
        self._runner.space.reserve(self._video.id, space_needed(size_bytes), self.folder.path)

    def _save(self, video: Video) -> Video:
        """What others changed meanwhile is in `_video`; a step that goes on without it has not undone it."""
        self._video = self._runner.database.save(video, self._base)
        self._base = video.with_(updated_at=self._video.updated_at)
        return self._video

    def _original_of(self, video: Video) -> str | None:
        """Under one lock: two videos with the same bytes at once make one original and one duplicate."""
        digest = video.source.sha256
        if digest is None:
            return None
        with self._runner.sha256_lock:
            if not video.duplicate_allowed:
                original = self._runner.database.index().holder_of(digest, besides=video.id)
                if original is not None:
                    return original
            self._save(video)
            return None

    def _intend(self, video: Video, host: str) -> str | None:
        """Under one lock, as above: of two videos with the same MP4 at once one is sent."""
        with self._runner.sha256_lock:
            if not video.duplicate_allowed:
                twin = twin_of(video, host, self._runner.database.index(), self._kit.clock)
                if twin is not None:
                    return twin
            self._save(video)
            return None

    def _similar_to(self, video: Video) -> str | None:
        """Under one lock, as above: of two copies at once one is the first."""
        settings = self._kit.settings.similar
        with self._runner.sha256_lock:
            self._save(video)
            index = self._runner.database.index()
            return index.similar_to(video, distance=settings.distance, tolerance_s=settings.tolerance)
