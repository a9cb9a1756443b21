"""One run from end to end: recover, scan the inbox, take the queue, report, commit."""

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from dailies import atomic, cleanup, config, derived, intake, policy, report
from dailies.checkpoint import Checkpoints
from dailies.clock import Deadline, Halt, SystemClock
from dailies.database import to_json
from dailies.errors import ConfigError, DailiesError, Exit, Interrupted, NotPublished, OutOfTime, Transient
from dailies.library import Library
from dailies.locks import Single, living_owners
from dailies.media import ffmpeg
from dailies.media.render import Rules
from dailies.model import Video
from dailies.progress import Watcher, log
from dailies.publication import Published, PushFailed
from dailies.recovery import Recovered, recover
from dailies.redact import plain
from dailies.report import Collector, RunReport, RunStatus
from dailies.runner import Runner
from dailies.sources import inbox
from dailies.steps import STEPS, Job, Kit, Lanes, WorkFolder

COMMIT_RESERVE_S: Final = 180.0
END_GRACE_S: Final = 8.0  # a run ends cleanly within 5


@dataclass(frozen=True)
class Wanted:
    """What a person asked of one run; settings fill the rest."""

    limit: int | None = None
    commit: bool = True
    is_demo: bool = False


@dataclass(frozen=True)
class Result:
    report: RunReport
    code: Exit
    error: str | None = None


def run(library: Library, wanted: Wanted, watcher: Watcher, stop: threading.Event) -> Result:
    """Raises ConfigError before anything is touched; later errors are in the result, beside a true report."""
    limits = library.settings.run
    if limits.time_limit <= limits.min_remaining:
        raise ConfigError(
            f"time limit: {limits.time_limit:.0f} s is not above the {limits.min_remaining:.0f} s that must remain to start "
            "a video; raise --time-limit or lower --min-remaining"
        )
    started = library.clock.now()
    collector = Collector(report.new_run_id(started), started, limits.time_limit, library.clean_text)
    deadline = Deadline.after(library.clock, limits.time_limit - commit_reserve_s(library), Halt(stop))
    check_place(library, is_demo=wanted.is_demo)
    kit = _kit(library)
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


def check_place(library: Library, *, is_demo: bool = False) -> None:
    """Raises ConfigError where a published file would vanish with the machine (design, rule 8)."""
    environment = config.environment()
    is_hosted = environment.get("GITHUB_ACTIONS") == "true" and environment.get("RUNNER_ENVIRONMENT") == "github-hosted"
    adapters = {library.settings.hosts[name].adapter for name in library.settings.publish.hosts if name in library.settings.hosts}
    if is_hosted and adapters == {"folder"} and not is_demo:
        raise ConfigError(
            "publish.hosts: only a folder on this hosted runner, which vanishes with it; add a host that is elsewhere"
        )


def _kit(library: Library) -> Kit:
    """Everything that a person could have set wrong is found here, before the first video. Raises ConfigError."""
    ffmpeg.executable()
    settings = library.settings
    rules = Rules(
        work=library.work,
        threads=max(1, config.cores() // jobs(library)),
        accept_audio=settings.library.accept_audio,
        accept_damaged=settings.library.accept_damaged,
        decode_all=settings.publish.verify == "decode",
    )
    return Kit(library.root, library.work, settings, library.hosts, library.clock, rules)


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
    error: DailiesError | None = None
    try:
        log.info("recovered: %s", recover_library(library))
        if _commits(library, wanted):
            library.publisher.refresh(deadline)
        taken = intake.scan_inbox(library.inbox, library.desk(deadline))
        for refused in taken.refused:
            log.warning("inbox: %s", refused)
            collector.problem(f"inbox: {refused}")
        checkpoints = _checkpoints(library, collector, stop) if _commits(library, wanted) else None
        try:
            _runner(library, kit, watcher, collector, checkpoints).run(deadline, wanted.limit)
        finally:
            if checkpoints:
                checkpoints.wait()
    except (Interrupted, OutOfTime):
        pass  # before the first video was taken: said by the report's status
    except ConfigError as problem:
        collector.problem(str(problem))
        error = problem
    return _close(library, wanted, collector, stop, error)


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


def _checkpoints(library: Library, collector: Collector, stop: threading.Event) -> Checkpoints:
    settings = library.settings.git

    def publish() -> str:
        deadline = Deadline.after(library.clock, COMMIT_RESERVE_S, stop)
        return _publish(library, f"database: checkpoint (run {collector.run_id})", collector.run_id, deadline).message

    return Checkpoints(library.clock, settings.checkpoint, settings.checkpoint_videos, collector.count_done, publish)


def _publish(library: Library, message: str, run_id: str, deadline: Deadline, finished: RunReport | None = None) -> Published:
    return library.publisher.publish(message, run_id, lambda: _rebuild(library, finished), deadline)


def _rebuild(library: Library, finished: RunReport | None) -> None:
    try:
        derived.rebuild(library.database, library.clock.now(), finished)
    except OSError as error:
        raise ConfigError(f"database/: cannot be written: {error.strerror}; free the disk or make database/ writable") from error


def commit(library: Library, stop: threading.Event) -> Published:
    """`dailies commit`: publish the records as they are, with what failed pushes left behind."""
    deadline = Deadline.after(library.clock, COMMIT_RESERVE_S * 2, stop)
    library.publisher.refresh(deadline)
    return _publish(library, "database: by hand", report.new_run_id(library.clock.now()), deadline)


def _runner(library: Library, kit: Kit, watcher: Watcher, collector: Collector, checkpoints: Checkpoints | None) -> Runner:
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
        on_tick=checkpoints.tick if checkpoints else lambda: None,
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
        is_unpublished = isinstance(problem, NotPublished | Transient)
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
    commits = _commits(library, wanted)
    deadline = Deadline.after(library.clock, COMMIT_RESERVE_S * 2, stop)
    head = library.repository.head() if commits else None
    changed = library.database.saves > 0 or (commits and bool(library.repository.changed_on_disk(head, deadline)))
    month = finished.started_at[:7]
    place = library.database.folder / "runs" / month / f"{finished.run_id}.json" if changed else library.work / "last-run.json"
    _write_report(place, finished)
    if is_cancelled:
        return
    if not commits:
        if changed:
            _rebuild(library, finished)
        if not library.repository.exists():
            log.warning("not committed: %s is not in a git repository", library.root)
        return
    try:
        message = report.commit_message(finished)
        log.info("git: %s", _publish(library, message, finished.run_id, deadline, finished if changed else None).message)
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
    kit, now = _kit(library), library.clock.now()
    planned: list[Planned] = []
    deadline = Deadline.after(library.clock, library.settings.run.time_limit)
    for video in policy.in_order(video for video in library.database.videos() if policy.is_open(video)):
        job = Job(kit, WorkFolder(library.work / video.id), deadline, lambda same: same, lambda _: None)
        names = tuple(step.name.value for step in STEPS if step.is_needed(video, job))
        due = policy.is_due(video, now)
        is_over_limit = wanted.limit is not None and len([one for one in planned if not one.note]) >= wanted.limit
        note = f"not before {video.next_attempt_at}" if not due else "over the limit" if is_over_limit else ""
        planned.append(Planned(video, () if note else names, note))
    return planned, intake.unknown(inbox.search(library.inbox).media, library.desk(deadline))
