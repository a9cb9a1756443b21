"""How a run shares the database: what it claims at its start, its checkpoints, its last commit; and `dailies commit`."""

import threading
from dataclasses import replace
from typing import Final

from dailies import config, derived, report, summary
from dailies.checkpoint import Checkpoints
from dailies.claims import Claims
from dailies.clock import Deadline
from dailies.errors import ConfigError, NotPublished, Transient
from dailies.library import Library
from dailies.progress import log
from dailies.publication import Order, Published
from dailies.report import Collector, RunReport

COMMIT_LIMIT_S: Final = 360.0
CHECKPOINT_LIMIT_S: Final = 180.0
CLAIM_LIMIT_S: Final = 60.0  # of the publication at a run's start
CLAIM_CHECKPOINTS: Final = 4  # checkpoints that a claim outlives its run; it is renewed at every second one


def claims_of(library: Library, run_id: str, limit: int | None) -> Claims:
    """Far enough ahead that a checkpoint comes before the last of them is begun."""
    git, limits = library.settings.git, library.settings.run
    batch = (limits.jobs or config.cores()) + limits.transfers + 2 * git.checkpoint_videos
    life_s = CLAIM_CHECKPOINTS * git.checkpoint or limits.time_limit
    return Claims(library.database, library.clock, run_id, life_s, batch, limit)


def claim(library: Library, claims: Claims, deadline: Deadline) -> None:
    """Trouble is only told: work can begin, and hosts are asked before anything is sent that they cannot overwrite."""
    start = replace(order(library, "database: queue claimed", claims.run_id), claims=claims, is_kept=False)
    try:
        log.info("claims: %s", library.publisher.publish(start, deadline.within(CLAIM_LIMIT_S, _late)).message)
    except (NotPublished, Transient) as error:
        log.warning("claims: %s", error)


def _late() -> NotPublished:
    return NotPublished(f"took longer than {CLAIM_LIMIT_S:.0f} s")


def checkpoints(library: Library, collector: Collector, claims: Claims, stop: threading.Event) -> Checkpoints:
    settings, run_id = library.settings.git, collector.run_id

    def publish() -> str:
        now = replace(order(library, f"database: checkpoint, {collector.count_done()} done", run_id), claims=claims)
        return library.publisher.publish(now, Deadline.after(library.clock, CHECKPOINT_LIMIT_S, stop)).message

    return Checkpoints(library.clock, settings.checkpoint, settings.checkpoint_videos, collector.count_done, publish)


def commit(library: Library, stop: threading.Event, limit_s: float = COMMIT_LIMIT_S) -> Published:
    """`dailies commit`: publish the records as they are, with what failed pushes left behind."""
    deadline = Deadline.after(library.clock, limit_s, stop)
    library.publisher.refresh(deadline.sooner(limit_s / 2))
    by_hand = order(library, "database: by hand", report.new_run_id(library.clock.now()))
    return library.publisher.publish(by_hand, deadline)


def order(library: Library, what: str, run_id: str, finished: RunReport | None = None) -> Order:
    folder = library.database.folder
    readme = {"README.md": lambda before: summary.with_status(before, derived.read_status(folder))}
    return Order(f"{what} (run {run_id})", run_id, lambda: rebuild(library, finished), readme)


def rebuild(library: Library, finished: RunReport | None) -> None:
    """The derived files of the records on disk. Raises ConfigError."""
    try:
        derived.rebuild(library.database, library.clock.now(), finished)
    except OSError as error:
        raise ConfigError(f"database/: cannot be written: {error.strerror}; free the disk or make database/ writable") from error
