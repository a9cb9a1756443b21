"""`dailies plan`: should a run start now, with what, and how late is it?"""

from datetime import datetime
from typing import Final

from pydantic import ValidationError

from dailies import config, derived, github, intake, pipeline, policy, schedule, sources
from dailies.clock import Deadline, parse_timestamp
from dailies.config import Section
from dailies.errors import ConfigError, NotPublished
from dailies.github import Firing, Unavailable
from dailies.library import Library
from dailies.model import Video, uri_to_path
from dailies.progress import log
from dailies.report import Slot
from dailies.sources import inbox, lfs

LIMIT_S: Final = 120.0


class Plan(Section):
    """What `plan` says and `run` obeys. `limit` None: all. `cron` and what follows: of a scheduled run only."""

    should_run: bool
    reason: str
    limit: int | None
    time_limit_s: float
    hosts: tuple[str, ...]
    dry_run: bool
    force: bool
    cron: str | None = None
    due_at: str | None = None
    late_s: float | None = None
    missed: int = 0

    def slot(self) -> Slot | None:
        if self.cron is None or self.due_at is None or self.late_s is None:
            return None
        return Slot(cron=self.cron, due_at=self.due_at, late_s=self.late_s, missed=self.missed)


def parse(text: str) -> Plan:
    """A plan that another job has printed. Raises ConfigError."""
    try:
        return Plan.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(config.explain(error, Plan, "DAILIES_PLAN")) from error


def make(library: Library, cron: str, *, limit: int | None, dry_run: bool, force: bool) -> Plan:
    """`cron` is the line that fired, empty for a run by hand. Raises ConfigError for what a run could not start with."""
    pipeline.check_time(library)
    if library.repository.exists():
        library.repository.branch()  # raises for a tag that was checked out
    library.hosts  # noqa: B018 -- raises for a host that is not configured
    deadline = Deadline.after(library.clock, LIMIT_S)
    slot = _slot(library, cron, deadline) if cron else None
    should_run, reason = schedule.decide(_facts(library, deadline, is_forced=force))
    return Plan(
        should_run=should_run,
        reason=reason,
        limit=limit,
        time_limit_s=library.settings.run.time_limit,
        hosts=library.settings.publish.hosts,
        dry_run=dry_run,
        force=force,
        **(slot.model_dump() if slot else {}),
    )


def _slot(library: Library, cron: str, deadline: Deadline) -> Slot:
    """GitHub knows when it fired; where it cannot be asked the last run that the database knows of has to do."""
    try:
        firing = github.firing(library.work, deadline)
    except Unavailable as error:
        log.warning("schedule: %s; reckoned from the last recorded run instead", error)
        known = (derived.read_status(library.database.folder).get("schedule") or {}).get("started_at")
        firing = Firing(library.clock.now(), parse_timestamp(known) if known else None)
    return schedule.slot(cron, firing.at, firing.before)


def _facts(library: Library, deadline: Deadline, *, is_forced: bool) -> schedule.Facts:
    now = library.clock.now()
    open_ = [video for video in library.database.videos() if policy.is_open(video)]
    waiting = [] if is_forced else [video.next_attempt_at for video in open_ if not policy.is_due(video, now)]
    takeable = [video for video in open_ if policy.is_takeable(video, now, is_forced=is_forced)]
    due = sum(_is_reachable(library, video) for video in takeable)
    found = inbox.search(library.inbox)
    return schedule.Facts(
        due=due,
        elsewhere=sum(policy.is_claimed(video, now) for video in open_),
        absent=len(takeable) - due,
        waiting=len(waiting),
        next_attempt_at=min(filter(None, waiting), default=None),
        inbox=len(intake.unknown(found.media, library.desk(deadline))) + _elsewhere(library, found),
        listings=library.listings.due(derived.read_status(library.database.folder).get("listings", {})),
        rescues=_rescues(library, deadline),
        is_forced=is_forced,
        lacks_heartbeat=library.settings.actions.keepalive and _is_silent(library, now),
    )


def _is_reachable(library: Library, video: Video) -> bool:
    """Here, or in Git LFS, which the job that only plans need not fetch; it needs no secrets of sources either."""
    source = video.source
    if source.secret_env is not None or source.kind == "storage":
        return True
    return sources.is_here(source, library.sources) or lfs.is_pointer(library.root / uri_to_path(source.uri))


def _elsewhere(library: Library, found: inbox.Found) -> int:
    """Files of Git LFS that no record has: the job that only plans needs no more than their pointers."""
    pointers = found.pointers()
    known = {video.source.sha256 for video in library.database.scan()} if pointers else set()
    return sum(lfs.oid(path) not in known for path in pointers)


def _rescues(library: Library, deadline: Deadline) -> int:
    try:
        publisher = library.publisher
        return publisher.rescues.count(deadline, is_shared=publisher.has_remote())
    except NotPublished as error:
        log.warning("%s", error)
        return 0


def _is_silent(library: Library, now: datetime) -> bool:
    """Whether the committed status is as old as a heartbeat may be."""
    written = derived.read_status(library.database.folder).get("at")
    heartbeat_s = library.settings.git.heartbeat
    return bool(heartbeat_s and written) and (now - parse_timestamp(str(written))).total_seconds() >= heartbeat_s
