"""Publishing the database: fetch, merge records, rebuild, commit on the tip, push; again until it is there (docs/database.md)."""

import contextlib
import json
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from dailies import atomic, journal
from dailies.claims import Claims
from dailies.clock import Deadline, parse_timestamp
from dailies.database import Database, is_readable, is_record
from dailies.errors import DailiesError, Interrupted, NotPublished, OutOfTime
from dailies.git_door import GitError, Trouble
from dailies.journal import Journal
from dailies.locks import Single
from dailies.progress import log
from dailies.report import PushState
from dailies.repository import Repository
from dailies.rescue import Rescues

CEILINGS_S: Final = (2.0, 4.0, 8.0)  # of the waits after the first, second, third trouble with the network: full jitter below
LOCK_TIMEOUT_S: Final = 120.0  # a checkpoint at work is waited for
VIDEOS: Final = "database/videos/"
RUNS: Final = "database/runs/"
STATUS: Final = "database/status.json"
RESCUE_S: Final = 30.0  # kept of a publication's time for saving what could not be pushed
RACE_CEILINGS_S: Final = (0.5, 1.0, 2.0, 4.0)  # somebody was faster: soon again, the later the more there are of us


@dataclass(frozen=True)
class Published:
    """What was done, in a line for people and in numbers."""

    message: str
    commit: str | None
    is_pushed: bool
    state: PushState


def wait_ceiling(trouble: Trouble, count: int, retries: int) -> float | None:
    """Seconds below which the wait before the next try is drawn, after the `count`-th trouble of this kind; None to give up."""
    if trouble is Trouble.RACE:
        return RACE_CEILINGS_S[min(count, len(RACE_CEILINGS_S)) - 1]
    if trouble is not Trouble.NETWORK or count > retries:
        return None
    return CEILINGS_S[min(count, len(CEILINGS_S)) - 1]


@dataclass(frozen=True)
class Order:
    """What is to be published. `rebuild` makes the derived files from the merged records."""

    message: str
    run_id: str
    rebuild: Callable[[], None]
    edits: Mapping[str, Callable[[bytes], bytes]]  # files beside the database with a part of ours
    claims: Claims | None = None
    heartbeat_s: float = 0  # a commit without a changed record where the last one is older; 0 = none
    is_kept: bool = True  # tried again after trouble with the network, and saved where nothing helps


class PushFailed(NotPublished):
    """Not published; `state` is for the run report."""

    def __init__(self, message: str, state: PushState) -> None:
        super().__init__(message)
        self.state = state


@dataclass
class Publisher:
    """Publishes one library's database."""

    repository: Repository
    database: Database
    journal: Journal
    work: Path
    clean_text: Callable[[str], str] = str
    tip: str | None = None  # what the remote had when it was asked last: the records on disk contain it
    jitter: Callable[[float], float] = field(default=lambda ceiling: random.uniform(0, ceiling))  # noqa: S311 -- no secret

    @cached_property
    def rescues(self) -> Rescues:
        return Rescues(self.repository, self.work)

    def publish(self, order: "Order", deadline: Deadline) -> Published:
        """Raises PushFailed (after a rescue was tried), Interrupted."""
        with Single(self.work / "publish.lock").held(LOCK_TIMEOUT_S, deadline):
            attempt = _Attempt(self, order, deadline.sooner(RESCUE_S))  # what is checked out is read under the lock
            if not self.has_remote():
                return self._commit_here(attempt)
            try:
                published = self._until_pushed(attempt)
            except (GitError, OutOfTime) as error:
                attempt.deadline = deadline
                raise self._rescued(attempt, error) from error
            self.rescues.forget(deadline)
            return published

    def has_remote(self) -> bool:
        """Whether others can write this database too."""
        settings = self.repository.settings
        return settings.push and settings.remote in self.repository.remotes()

    def _commit_here(self, attempt: "_Attempt") -> Published:
        commit = attempt.commit_on(attempt.head)
        settings = self.repository.settings
        reason = f"no remote {settings.remote}" if settings.push else "[git] push is off"
        said = f"committed {commit[:12]}" if commit else "nothing changed, no commit"
        if commit is not None:  # here nothing but the branch holds it
            self.repository.advance(attempt.head, commit, attempt.deadline)
        return Published(f"{said}; not pushed: {reason}", commit, is_pushed=False, state=attempt.state)

    def _until_pushed(self, attempt: "_Attempt") -> Published:
        """Races are bounded by the deadline alone, trouble with the network by `push_retries`."""
        while True:
            attempt.deadline.check()
            try:
                return attempt.once()
            except GitError as error:
                attempt.failed(error)
                if error.trouble is Trouble.NETWORK and attempt.has_arrived():
                    return attempt.arrived()
                ceiling = wait_ceiling(error.trouble, attempt.count(error.trouble), attempt.retries)
                if ceiling is None:
                    raise
                self._wait(attempt, ceiling)

    def _wait(self, attempt: "_Attempt", ceiling_s: float) -> None:
        wait = self.jitter(ceiling_s)
        attempt.state = attempt.state.model_copy(update={"waits_s": (*attempt.state.waits_s, round(wait, 3))})
        attempt.deadline.pause(min(wait, attempt.deadline.remaining()))

    def _rescued(self, attempt: "_Attempt", error: DailiesError) -> "PushFailed":
        """What could not be pushed is saved: the next run takes it in."""
        if not attempt.order.is_kept:
            return PushFailed(str(error), attempt.state)
        if attempt.commit is None:  # the remote could not even be asked: saved on top of what is known
            attempt.commit = attempt.commit_on(self.tip or attempt.head)
        if attempt.commit is None:
            return PushFailed(str(error), attempt.state)
        try:
            backup = self.rescues.save(attempt.commit, attempt.tip, attempt.order.run_id, attempt.deadline)
        except (GitError, OutOfTime) as again:
            return PushFailed(f"{error}; and it could not be saved either: {again}", attempt.state)
        attempt.state = attempt.state.model_copy(update={"backup": backup})
        log.warning("git: saved as %s; the next run takes it in", backup)
        return PushFailed(f"{error}; saved as {backup}", attempt.state)

    # -- taking in what others have published

    def take_in(self, base: str | None, theirs: str, deadline: Deadline) -> int:
        """Merge a commit's records into those on disk; how many changed there. Other files are taken where nobody touched them."""
        changed = self.repository.changed(base, theirs, deadline)
        if not changed:
            return 0
        before, after = self.repository.contents(base, changed), self.repository.contents(theirs, changed)
        for path in changed:
            if journal.is_events(path):
                self._take_events(path, after.get(path))
            elif not path.startswith(VIDEOS):
                self._take_file(path, before.get(path), after.get(path))
        records = {path: (before.get(path), content) for path, content in after.items() if path.startswith(VIDEOS)}
        return self.database.merge_in(records)

    def _take_file(self, path: str, before: bytes | None, after: bytes | None) -> None:
        """A run's report, say: theirs, unless it was touched here."""
        place = self.database.root / path
        if not self._is_ours(path):
            return
        ours = _read(place)
        if ours != before or ours == after:
            return
        try:
            if after is None:
                place.unlink()
            else:
                atomic.write(place, after)
        except OSError as error:  # the branch keeps it
            log.warning("%s: cannot be written: %s", path, error.strerror)

    def _take_events(self, path: str, theirs: bytes | None) -> None:
        """What happened is never undone: lines are joined, and a file that is gone there stays here."""
        if theirs is not None and self._is_ours(path):
            self.journal.take_in(self.database.root / path, theirs)

    def _is_ours(self, path: str) -> bool:
        """A tree of git may hold any name."""
        place = self.database.root / path
        return ".." not in place.parts and place.resolve().is_relative_to(self.database.folder.resolve())

    def unreadable(self, parent: str | None, changed: Iterable[str]) -> set[str]:
        """Of records that differ, those that must stay as in `parent`: one side cannot be read, or is gone (design, rule 12)."""
        records = [path for path in changed if is_record(path)]
        theirs = self.repository.contents(parent, records)
        kept = {path for path, content in theirs.items() if not is_readable(path, content)}
        for path in records:
            ours = _read(self.database.root / path)
            if ours is None or not is_readable(path, ours):
                kept.add(path)
        return kept

    def restore_missing(self, tip: str, deadline: Deadline) -> set[str]:
        """No record is lost: deletions are tombstones, so a file that the tip has and the disk lacks is put back.

        What differs from the tip before that is the answer.
        """
        changed = self.repository.changed_on_disk(tip, deadline)
        missing = [path for path in changed if is_record(path) and not (self.database.root / path).exists()]
        kept = self.repository.contents(tip, missing)
        self.database.merge_in({path: (None, content) for path, content in kept.items()})
        events = [path for path in changed if journal.is_events(path)]
        for path, content in self.repository.contents(tip, events).items():
            self._take_events(path, content)
        return changed

    def refresh(self, deadline: Deadline) -> bool:
        """Before a run: the records as the remote has them, and what failed pushes left; whether the remote answered.

        Trouble is only told: work can begin.
        """
        if not self.has_remote():
            return False
        head = self.repository.head()
        try:
            tip = self.repository.fetch(deadline)
            if tip is not None:
                self.take_in(self.tip or self.repository.merge_base(head, tip), tip, deadline)
                self.tip = tip
            for commit, drop in self.rescues.found(deadline):
                base = self.repository.merge_base(self.tip, commit) or self.repository.parent(commit)
                self.take_in(base, commit, deadline)
                self.rescues.taken(drop)
                log.info("git: took in a rescued push, %s", commit[:12])
        except (NotPublished, OutOfTime) as error:
            log.warning("git: %s", error)
            return False
        return True


def _read(place: Path) -> bytes | None:
    with contextlib.suppress(OSError):
        return place.read_bytes()
    return None


class _Attempt:
    """One publication, with what has been tried."""

    def __init__(self, publisher: Publisher, order: Order, deadline: Deadline) -> None:
        self._publisher = publisher
        self._repository = publisher.repository
        self.order = order
        self.deadline = deadline
        self.retries = self._repository.settings.push_retries if order.is_kept else 0
        self.state = PushState()
        self.head = self._repository.head()
        self.base = publisher.tip  # what the records on disk are known to contain
        self.tip: str | None = None
        self.commit: str | None = None
        self._network_failures = 0

    def once(self) -> Published:
        """Fetch, merge, rebuild, validate, commit, push. Raises GitError."""
        repository, publisher, claims = self._repository, self._publisher, self.order.claims
        self.tip = repository.fetch(self.deadline)
        if claims:
            claims.withdraw()
        changed, saves = None, publisher.database.saves
        if self.tip is not None:
            publisher.take_in(self.base or repository.merge_base(self.head, self.tip), self.tip, self.deadline)
            changed = publisher.restore_missing(self.tip, self.deadline)
            publisher.tip = self.base = self.tip
        if claims:
            claims.stake()
        if publisher.database.saves != saves:
            changed = None  # more by now
        self.commit = None
        is_ahead = self.tip is None or (self.head is not None and repository.merge_base(self.head, self.tip) == self.tip)
        parent = self.head if is_ahead else self.tip
        made = self.commit_on(parent, changed if parent == self.tip else None)
        if made is None and (parent == self.tip or not self._holds_records(parent)):
            self._advance(self.tip if parent == self.tip else None)
            return Published("nothing changed, no commit", None, is_pushed=False, state=self.state)
        self.commit = made or parent
        assert self.commit is not None, "either a new commit or the one that the remote lacks"
        self.state = self.state.model_copy(update={"attempts": self.state.attempts + 1})
        repository.push(self.commit, repository.branch(), self.deadline, with_hooks=parent != self.tip)
        return self.arrived()

    def _holds_records(self, parent: str | None) -> bool:
        """Commits that were not pushed yet: a person's own go along with the database's, never alone."""
        return parent is not None and bool(self._repository.changed(self.tip, parent, self.deadline))

    def commit_on(self, parent: str | None, changed: set[str] | None = None) -> str | None:
        """None where no record differs from `parent`: derived files alone are no reason for a commit, but for a heartbeat.

        `changed`: the files that differ, where that is known.
        """
        order = self.order
        if changed is None:
            changed = self._repository.changed_on_disk(parent, self.deadline)
        kept = self._publisher.unreadable(parent, changed)
        is_changed = any(is_record(path) or path.startswith(RUNS) for path in changed - kept)
        if not is_changed and not self._lacks_heartbeat(parent):
            return None
        order.rebuild()
        message = order.message if is_changed else f"database: heartbeat (run {order.run_id})"
        before = self._repository.contents(parent, order.edits)
        edits = {path: order.edits[path](content) for path, content in before.items()}
        return self._repository.commit(
            parent, message, {path: new for path, new in edits.items() if new != before[path]}, kept, self.deadline
        )

    def _lacks_heartbeat(self, parent: str | None) -> bool:
        content = self._repository.contents(parent, [STATUS]).get(STATUS, b"")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            age = self.deadline.clock.now() - parse_timestamp(json.loads(content)["at"])
            return 0 < self.order.heartbeat_s <= age.total_seconds()
        return False  # nothing has ever been published

    def arrived(self) -> Published:
        if self.order.claims:
            self.order.claims.confirm()
        self._publisher.tip = self.commit
        self._advance(self.commit)
        commit = self.commit or ""
        remote = self._repository.settings.remote
        return Published(f"committed {commit[:12]}; pushed to {remote}", commit, is_pushed=True, state=self.state)

    def _advance(self, commit: str | None) -> None:
        """What is published is published: a branch here that cannot follow is only told."""
        if commit is None:
            return
        try:
            is_moved = self._repository.advance(self.head, commit, self.deadline)
        except (GitError, OutOfTime) as error:
            log.warning("git: %s", error)
            return
        if not is_moved:
            log.warning("git: this branch has commits of its own or is another one; `git pull` joins it with the database")

    def failed(self, error: GitError) -> None:
        update: dict[str, Any] = {"last_error": self._publisher.clean_text(str(error))}
        if error.trouble is Trouble.RACE:
            update["races"] = self.state.races + 1
        self._network_failures += error.trouble is Trouble.NETWORK
        self.state = self.state.model_copy(update=update)

    def count(self, trouble: Trouble) -> int:
        return self.state.races if trouble is Trouble.RACE else self._network_failures

    def has_arrived(self) -> bool:
        """After a lost answer the remote itself is asked."""
        if self.commit is None:
            return False
        with contextlib.suppress(GitError, Interrupted):
            branch = self._repository.branch()
            return self._repository.remote_branches(branch, self.deadline).get(branch) == self.commit
        return False
