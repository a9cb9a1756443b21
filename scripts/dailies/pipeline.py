"""One run from end to end: recover, look at the listing sources, take the queue, report, commit."""

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from dailies import actions, atomic, cleanup, config, derived, intake, policy, report, settling, sharing, sources
from dailies.claims import Claims
from dailies.clock import Deadline, Halt, SystemClock
from dailies.database import to_json
from dailies.errors import ConfigError, DailiesError, Exit, Interrupted, NotPublished, OutOfTime, Transient
from dailies.library import Library
from dailies.listings import Round
from dailies.locks import Single, living_owners
from dailies.media import ffmpeg
from dailies.media.children import Children
from dailies.media.render import Rules
from dailies.model import Video
from dailies.progress import Watcher, log
from dailies.publication import PushFailed
from dailies.recovery import Recovered, note_run, recover
from dailies.redact import plain
from dailies.report import Collector, RunReport, RunStatus, Slot
from dailies.runner import Runner
from dailies.sources import inbox
from dailies.steps import STEPS, Job, Kit, Lanes, WorkFolder, space_needed

COMMIT_RESERVE_S: Final = 180.0
END_GRACE_S: Final = 8.0  # a run ends cleanly within 5


@dataclass(frozen=True)
class Wanted:
    """What a person asked of one run; settings fill the rest."""

    limit: int | None = None
    commit: bool = True
    force: bool = False  # also what waits for a later attempt
    slot: Slot | None = None  # of the schedule, where that started the run
    is_demo: bool = False
    found: Round | None = None  # what the listing sources had a moment ago; else they are asked


@dataclass(frozen=True)
class Result:
    report: RunReport
    code: Exit
    error: str | None = None


def run(library: Library, wanted: Wanted, watcher: Watcher, stop: threading.Event) -> Result:
    """Raises ConfigError before anything is touched; later errors are in the result, beside a true report."""
    check_time(library)
    check_place(library, is_demo=wanted.is_demo)
    if _commits(library, wanted):
        library.repository.branch()  # raises before work is done that could not be recorded
    limit_s, started = library.settings.run.time_limit, library.clock.now()
    collector = Collector(report.new_run_id(started), started, limit_s, library.clean_text, wanted.slot)
    deadline = Deadline.after(library.clock, limit_s - commit_reserve_s(library), Halt(stop))
    kit = _kit(library, watcher)
    try:
        with Single(library.work / "run.lock").held():
            return _run_alone(library, wanted, watcher, kit, collector, deadline, stop)
    except Transient as error:
        if collector.has_begun:
            raise
        collector.problem(f"another run is at work: {error}")
        return Result(collector.report(RunStatus.COMPLETED, library.clock.now(), _remaining(library)), Exit.DONE, str(error))


def not_started(error: ConfigError) -> RunReport:
    """The report of a run that a person's mistake kept from starting."""
    clock = SystemClock()
    library_free = Collector(report.new_run_id(clock.now()), clock.now(), 0, plain)
    library_free.problem(str(error))
    return library_free.report(RunStatus.FAILED, clock.now(), 0)


def check_time(library: Library) -> None:
    """Raises ConfigError where no video could ever be started."""
    limits = library.settings.run
    if limits.time_limit <= limits.min_remaining:
        raise ConfigError(
            f"time limit: {limits.time_limit:.0f} s is not above the {limits.min_remaining:.0f} s that must remain to start "
            "a video; raise --time-limit or lower --min-remaining"
        )


def check_place(library: Library, *, is_demo: bool = False) -> None:
    """Raises ConfigError where a published file would vanish with the machine (design, rule 8)."""
    if not actions.is_hosted() or is_demo:
        return
    if all(library.hosts[name].capabilities.is_local for name in library.settings.publish.hosts if name in library.hosts):
        raise ConfigError(
            "publish.hosts: only a folder on this hosted runner, which vanishes with it; add a host that is elsewhere"
        )


def _kit(library: Library, watcher: Watcher | None = None) -> Kit:
    """Everything that a person could have set wrong is found here, before the first video. Raises ConfigError."""
    ffmpeg.executable()
    settings = library.settings
    rules = Rules(
        work=library.work,
        threads=max(1, config.cores() // jobs(library)),
        children=Children(library.work, videos=settings.run.child_videos, memory_bytes=settings.run.child_memory),
        accept_audio=settings.library.accept_audio,
        accept_damaged=settings.library.accept_damaged,
        decode_all=settings.publish.verify == "decode",
    )
    return Kit(
        library.root,
        library.work,
        settings,
        library.hosts,
        library.clock,
        rules,
        library.dispatch(watcher.uploading if watcher else None),
        library.enricher,
        library.sources,
    )


def commit_reserve_s(library: Library) -> float:
    """The last minutes of a run are kept for committing (design, rule 3)."""
    return min(COMMIT_RESERVE_S, library.settings.run.time_limit / 10)


def jobs(library: Library) -> int:
    """ffmpeg processes at once."""
    return library.settings.run.jobs or config.cores()


def _run_alone(
    library: Library,
    wanted: Wanted,
    watcher: Watcher,
    kit: Kit,
    collector: Collector,
    deadline: Deadline,
    stop: threading.Event,
) -> Result:
    collector.begin()
    claims = sharing.claims_of(library, collector.run_id, wanted.limit) if _commits(library, wanted) else None
    error: DailiesError | None = None
    try:
        log.info("recovered: %s", recover_library(library))
        note_run(library.work, collector.run_id)
        is_shared = claims is not None and library.publisher.refresh(deadline)
        _take_in(library, wanted, collector, deadline)
        troubles = settling.settle(library, kit.dispatch, deadline)
        with kit.rules.children:
            _work(library, wanted, _runner(library, kit, watcher, collector), claims, deadline, is_shared=is_shared)
        troubles += settling.settle(library, kit.dispatch, deadline)  # most hosts are done with what they got by now
        for trouble in dict.fromkeys(troubles):
            collector.problem(f"host {trouble}")
        for closed in kit.dispatch.gates.closed():
            collector.problem(f"host {closed}", is_failure=True)
    except (Interrupted, OutOfTime):
        pass  # before the first video was taken: said by the report's status
    except ConfigError as problem:
        collector.problem(str(problem))
        error = problem
    finally:
        if claims:
            claims.release()
    return _close(library, wanted, collector, stop, error)


def _take_in(library: Library, wanted: Wanted, collector: Collector, deadline: Deadline) -> None:
    """Queue what the inbox and the other listing sources have that is new; trouble with one of them is only told."""
    recorded = derived.read_status(library.database.folder).get("listings", {})
    desk = library.desk(deadline)
    found = wanted.found or library.listings.ask(recorded, desk, is_forced=wanted.force)
    taken = library.listings.take(found, desk)
    collector.listed(taken.reports)
    for problem in taken.problems:
        log.warning("%s", problem)
        collector.problem(problem)


def _work(library: Library, wanted: Wanted, runner: Runner, claims: Claims | None, deadline: Deadline, *, is_shared: bool) -> None:
    """Claim where others can see it, then take the queue; checkpoints beside it."""
    queue = policy.queue(library.database.videos(), library.clock.now(), is_forced=wanted.force)
    ours: list[Video] = []
    idle: list[Video] = []
    room = library.space.available()
    for video in queue:
        (ours if _may_begin(library, video, room) else idle).append(video)
    queue = ours + idle  # what can only wait takes no place of a limit
    if claims is None:
        runner.run(queue, deadline, wanted.limit)
        return
    claims.want(ours)
    checkpoints = sharing.checkpoints(library, runner.collector, claims, deadline.stop)
    if ours and wanted.limit != 0 and is_shared:
        sharing.claim(library, claims, deadline)
    try:
        replace(runner, on_tick=checkpoints.tick).run(queue, deadline, wanted.limit)
    finally:
        checkpoints.wait()


def takeable(library: Library) -> frozenset[str]:
    """The videos that a run which starts now would take."""
    now, room = library.clock.now(), library.space.available()
    videos = (video for video in library.database.videos() if policy.is_takeable(video, now))
    return frozenset(video.id for video in videos if _may_begin(library, video, room))


def _may_begin(library: Library, video: Video, room: int) -> bool:
    """A video that will only wait is not claimed, which would change its record in every run. `room` in bytes."""
    has_room = space_needed(video.source.size_bytes) <= room
    has_time = policy.may_start(video, library.settings.run.time_limit, library.settings)
    return has_room and has_time and sources.is_here(video.source, library.sources)


def end_living_run(library: Library) -> str:
    """For a rescue step: GitHub's runner kills only the top process, so the worker may live on beside it (facts/actions 1.2)."""
    ended = cleanup.end_run(living_owners(library.work / "run.lock"), END_GRACE_S)
    return f"ended {ended} run that was still at work" if ended else "no run is at work"


def recover_library(library: Library) -> Recovered:
    """Under the run lock only."""
    sweep = tuple(folder for host in library.hosts.values() for folder in host.sweep_folders())
    keep_s = library.settings.space.keep_work
    recovered = recover(library.database, library.space, library.work, sweep, keep_s, library.clock)
    locks = library.repository.drop_dead_locks()  # after the orphans have been ended
    return replace(recovered, holders=recovered.holders + locks)


def _commits(library: Library, wanted: Wanted) -> bool:
    return wanted.commit and library.settings.git.commit and library.repository.exists()


def _runner(library: Library, kit: Kit, watcher: Watcher, collector: Collector) -> Runner:
    media, transfers = jobs(library), library.settings.run.transfers
    return Runner(
        kit=kit,
        database=library.database,
        space=library.space,
        collector=collector,
        watcher=watcher,
        lanes=Lanes(media, transfers),
        workers=media + transfers,
        clean_text=library.clean_text,
        sha256_lock=threading.Lock(),
        commit_reserve_s=commit_reserve_s(library),
    )


def _close(library: Library, wanted: Wanted, collector: Collector, stop: threading.Event, error: DailiesError | None) -> Result:
    """Report and, unless interrupted, commit: a signal leaves that to the next run (design, rule 11)."""
    is_cancelled = stop.is_set()
    for message in library.database.blocked():
        collector.problem(message)
        error = error or ConfigError(message)
    status = report.status_of(collector, is_cancelled=is_cancelled, has_problem=error is not None)
    finished = collector.report(status, library.clock.now(), _remaining(library))
    try:
        _write(library, wanted, finished, stop, is_cancelled=is_cancelled)
    except Interrupted:
        return Result(finished, Exit.INTERRUPTED)
    except DailiesError as problem:
        is_unpublished = isinstance(problem, NotPublished | Transient | OutOfTime)
        code = _code(collector, problem, is_cancelled=is_cancelled)
        return Result(finished, Exit.NOT_PUBLISHED if is_unpublished and not is_cancelled else code, str(problem))
    return Result(finished, _code(collector, error, is_cancelled=is_cancelled), str(error) if error else None)


def _code(collector: Collector, error: DailiesError | None, *, is_cancelled: bool) -> Exit:
    if is_cancelled:
        return Exit.INTERRUPTED
    if error is not None:
        return Exit.USAGE
    return Exit.VIDEOS_FAILED if collector.has_failures else Exit.DONE


def _write(library: Library, wanted: Wanted, finished: RunReport, stop: threading.Event, *, is_cancelled: bool) -> None:
    """The report beside the records where one changed, else in `work/` only; then the derived files and the commit."""
    commits = _commits(library, wanted) and not is_cancelled  # git is not asked any more then
    deadline = Deadline.after(library.clock, sharing.COMMIT_LIMIT_S, stop)
    known = library.publisher.tip or library.repository.head() if commits else None  # others' records are not this run's
    changed = library.database.saves > 0 or (commits and bool(library.repository.changed_on_disk(known, deadline)))
    changed = changed or derived.are_news(finished.listings, library.database.folder)
    month = finished.started_at[:7]
    place = library.database.folder / "runs" / month / f"{finished.run_id}.json" if changed else library.work / "last-run.json"
    _write_report(place, finished)
    if is_cancelled:
        return
    if not commits:
        if changed:
            sharing.rebuild(library, finished)
        if not library.repository.exists():
            log.warning("not committed: %s is not in a git repository", library.root)
        return
    try:
        order = sharing.order(library, report.commit_title(finished), finished.run_id, finished)
        order = replace(order, heartbeat_s=library.settings.git.heartbeat)
        log.info("git: %s", library.publisher.publish(order, deadline).message)
    except PushFailed as error:
        _write_report(place, finished.model_copy(update={"push": error.state}))
        raise


def _write_report(place: Path, finished: RunReport) -> None:
    try:
        atomic.write(place, to_json(finished))
    except OSError as error:
        raise ConfigError(f"{place}: cannot be written: {error.strerror}; free the disk or make database/ writable") from error


def _remaining(library: Library) -> int:
    return sum(policy.is_open(video) for video in library.database.videos())


@dataclass(frozen=True)
class Planned:
    """What a run would do with one video now."""

    video: Video
    steps: tuple[str, ...]
    note: str


def dry_run(library: Library, wanted: Wanted) -> tuple[list[Planned], list[Path]]:
    """(the queue in order, with the steps that are needed; inbox files that would be queued). Touches nothing."""
    kit = _kit(library)
    planned: list[Planned] = []
    deadline = Deadline.after(library.clock, library.settings.run.time_limit)
    for video in policy.in_order(video for video in library.database.videos() if policy.is_open(video)):
        job = _idle_job(kit, WorkFolder(library.work / video.id), deadline)
        names = tuple(step.name.value for step in STEPS if step.is_needed(video, job))
        is_over_limit = wanted.limit is not None and len([one for one in planned if not one.note]) >= wanted.limit
        note = _why_not(library, wanted, video) or ("over the limit" if is_over_limit else "")
        planned.append(Planned(video, () if note else names, note))
    return planned, intake.unknown(inbox.search(library.inbox).media, library.desk(deadline))


def _idle_job(kit: Kit, folder: WorkFolder, deadline: Deadline) -> Job:
    """For asking steps whether they are needed: it stores nothing."""
    return Job(kit, folder, deadline, lambda same: same, lambda _: None, lambda _: None, lambda _video, _host: None)


def _why_not(library: Library, wanted: Wanted, video: Video) -> str:
    now = library.clock.now()
    if policy.is_claimed(video, now) and video.claim is not None:
        return f"in the hands of run {video.claim.run_id}"
    return "" if wanted.force or policy.is_due(video, now) else f"not before {video.next_attempt_at}"
