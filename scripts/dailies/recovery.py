"""What a run does first: put right what a dead one left. Needs the run lock, so nobody else's work is touched."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from dailies import cleanup, locks, policy
from dailies.clock import Clock
from dailies.database import Database
from dailies.delivery import SESSIONS
from dailies.model import ID_PATTERN, State, StepName, Video
from dailies.owner import Owner
from dailies.space import Space
from dailies.steps import WorkFolder

_MARK = "step.json"
_RUN_ID = "run-id"
_ID = re.compile(ID_PATTERN)


@dataclass(frozen=True)
class Recovered:
    """What was left behind, by kind."""

    orphans: int
    reservations: int
    temporary_files: int
    holders: int
    videos: int
    folders: int

    def __str__(self) -> str:
        found = {
            "orphaned programs ended": self.orphans,
            "reservations released": self.reservations,
            "temporary files removed": self.temporary_files,
            "locks of the dead removed": self.holders,
            "videos queued again": self.videos,
            "work folders removed": self.folders,
        }
        return ", ".join(f"{count} {what}" for what, count in found.items() if count) or "nothing was left behind"


def mark_step(folder: WorkFolder, step: StepName) -> None:
    """Noted before a step begins: only a run that dies leaves it (design, rule 10)."""
    content = {"step": step, "owner": str(Owner.current())}
    (folder.path / _MARK).write_text(json.dumps(content), "utf-8")


def unmark_step(folder: WorkFolder) -> None:
    (folder.path / _MARK).unlink(missing_ok=True)


def _marked_step(folder: Path) -> StepName | None:
    try:
        return StepName(json.loads((folder / _MARK).read_text("utf-8"))["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def work_folders(work: Path) -> list[Path]:
    """The folders of videos in `work/`: those that have an id for a name."""
    return sorted(path for path in work.iterdir() if path.is_dir() and _ID.fullmatch(path.name)) if work.is_dir() else []


def note_run(work: Path, run_id: str) -> None:
    """Which run is at work here, so that the next one knows whose claims are free should it die."""
    work.mkdir(exist_ok=True)
    (work / _RUN_ID).write_text(run_id, "utf-8")


def _last_run(work: Path) -> str:
    try:
        return (work / _RUN_ID).read_text("utf-8")
    except (OSError, ValueError):
        return ""


def recover(database: Database, space: Space, work: Path, sweep: tuple[Path, ...], keep_s: float, clock: Clock) -> Recovered:
    """Orphans first: what they still write must not race with what follows."""
    orphans = cleanup.end_orphans(work)
    reservations = space.drop_stale()
    holders = locks.drop_dead_holders(work)
    temporary = cleanup.drop_temporary_files((database.folder, work, *sweep), clock)
    _drop_old_sessions(work, keep_s, clock)
    videos, folders = _put_right(database, work, keep_s, clock)
    return Recovered(orphans, reservations, temporary, holders, videos, folders)


def _drop_old_sessions(work: Path, keep_s: float, clock: Clock) -> None:
    """What an adapter kept of an upload that nobody will go on with."""
    for path in work.glob(f"{SESSIONS}*.json"):
        if clock.now().timestamp() - path.stat().st_mtime > keep_s:
            path.unlink(missing_ok=True)


def _put_right(database: Database, work: Path, keep_s: float, clock: Clock) -> tuple[int, int]:
    """Videos that a dead run had in hand are queued again, duplicates of nothing too; folders of finished ones go."""
    states = {video.id: video.state for video in database.videos()}
    last_run, now = _last_run(work), clock.now()
    changed = removed = 0
    for video in list(database.videos()):
        folder = work / video.id
        if policy.is_claimed(video, now, last_run):  # another machine has it in hand
            continue
        after = _after(video, folder, states, clock)
        changed += after is not video
        if after.claim is not None and after.claim.run_id == last_run:
            after = after.with_(claim=None)
        if after is not video:
            states[after.id] = database.save(after, video).state
        unmark_step(WorkFolder(folder))
        cleanup.drop_folder(WorkFolder(folder).tmp)
    for folder in work_folders(work):
        is_old = clock.now().timestamp() - folder.stat().st_mtime > keep_s
        if is_old or states.get(folder.name) not in {State.QUEUED, State.WORKING}:
            cleanup.drop_folder(folder)
            removed += 1
    return changed, removed


def _after(video: Video, folder: Path, states: dict[str, State], clock: Clock) -> Video:
    if policy.is_orphaned_duplicate(video, states):
        return policy.freed_duplicate(video)
    step = _marked_step(folder)
    if video.state is State.WORKING or (step is not None and policy.is_open(video)):
        return policy.after_crash(video, step, clock.now())
    return video
