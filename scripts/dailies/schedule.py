"""The schedule: which slot of the cron line a run serves, how late that is, and whether a run is worth starting. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cronsim import CronSim, CronSimError

from dailies.clock import timestamp
from dailies.errors import ConfigError
from dailies.report import Slot

LOOK_BACK: Final = timedelta(days=35)  # the longest a workflow run may wait (facts/actions 1.1)


def slot(cron: str, fired: datetime, previous: datetime | None) -> Slot:
    """The slot that a run serves which GitHub fired at `fired`, having fired the one before at `previous`.

    It is the first since then: later ones up to `fired` were missed. Without `previous` it is the last one. Times are UTC, as
    GitHub reads cron lines. Raises ConfigError for no cron line.
    """
    passed = _between(cron, max(previous, fired - LOOK_BACK), fired) if previous is not None else []
    due = passed[0] if passed else next(_slots(cron, fired.replace(microsecond=0) + timedelta(seconds=1), reverse=True), fired)
    late_s = round((fired - due).total_seconds(), 1)
    return Slot(cron=cron, due_at=timestamp(due), late_s=late_s, missed=max(0, len(passed) - 1))


def next_due(cron: str, now: datetime) -> str | None:
    """When the schedule is due next; None for a date that never comes. Raises ConfigError for no cron line."""
    moment = next(_slots(cron, now), None)
    return timestamp(moment) if moment else None


def _between(cron: str, after: datetime, until: datetime) -> list[datetime]:
    found: list[datetime] = []
    for moment in _slots(cron, after):
        if moment > until:
            return found
        found.append(moment)
    return found


def _slots(cron: str, start: datetime, *, reverse: bool = False) -> CronSim:
    try:
        return CronSim(cron, start, reverse=reverse)
    except CronSimError as error:
        raise ConfigError(f"schedule: {cron!r} is no cron line: {error}; correct it in the workflow") from error


@dataclass(frozen=True)
class Facts:
    """What there is to do, as `plan` found it."""

    due: int = 0
    elsewhere: int = 0  # claimed by another run
    waiting: int = 0  # for their next attempt
    next_attempt_at: str | None = None
    inbox: int = 0
    rescues: int = 0
    is_forced: bool = False
    lacks_heartbeat: bool = False
    absent: int = 0  # their files are not on this machine
    listings: int = 0  # sources that are to be asked for new things


def decide(facts: Facts) -> tuple[bool, str]:
    """(whether a run is worth starting, why)."""
    work = {"queued": facts.due, "in the inbox": facts.inbox, "listings to look at": facts.listings}
    work["rescued pushes to take in"] = facts.rescues
    found = ", ".join(f"{count} {what}" for what, count in work.items() if count)
    if found:
        return True, found
    if facts.is_forced:
        return True, "forced"
    if facts.lacks_heartbeat:
        return True, "keepalive: the last commit is a day old"
    reasons = ["nothing to do"]
    if facts.elsewhere:
        reasons.append(f"{facts.elsewhere} in the hands of another run")
    if facts.absent:
        reasons.append(f"{facts.absent} whose files are not on this machine")
    if facts.waiting:
        reasons.append(f"{facts.waiting} wait, the first until {facts.next_attempt_at}")
    return False, "; ".join(reasons)
