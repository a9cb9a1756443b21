"""Publishing the database: fetch, merge records, rebuild, commit on the tip, push; again until it is there (docs/database.md)."""

import contextlib
import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from dailies import atomic
from dailies.clock import Deadline
from dailies.database import Database
from dailies.errors import Interrupted, NotPublished
from dailies.locks import Single
from dailies.progress import log
from dailies.report import PushState
from dailies.repository import RESCUE, GitError, Repository, Trouble

CEILINGS_S: Final = (2.0, 4.0, 8.0)  # of the waits after the first, second, third trouble with the network: full jitter below
LOCK_TIMEOUT_S: Final = 120.0  # a checkpoint at work is waited for
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
    work: Path
    clean_text: Callable[[str], str] = str
    _left: list[Callable[[], None]] = field(default_factory=list)  # removes what was rescued, once it is published
    jitter: Callable[[float], float] = field(default=lambda ceiling: random.uniform(0, ceiling))  # noqa: S311 -- no secret

    def publish(self, message: str, run_id: str, rebuild: Callable[[], None], deadline: Deadline) -> Published:
        """`rebuild` makes the derived files from the merged records. Raises PushFailed (after a rescue was tried), Interrupted."""
        with Single(self.work / "publish.lock").held(LOCK_TIMEOUT_S):
            attempt = _Attempt(self, message, rebuild, deadline)  # what is checked out is read under the lock
            if not self._has_remote():
                return self._commit_here(attempt)
            try:
                published = self._until_pushed(attempt)
            except GitError as error:
                raise self._rescued(attempt, run_id, error) from error
            while self._left:
                self._left.pop()()
            return published

    def _has_remote(self) -> bool:
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
                ceiling = wait_ceiling(error.trouble, attempt.count(error.trouble), self.repository.settings.push_retries)
                if ceiling is None:
                    raise
                self._wait(attempt, ceiling)

    def _wait(self, attempt: "_Attempt", ceiling_s: float) -> None:
        wait = self.jitter(ceiling_s)
        attempt.state = attempt.state.model_copy(update={"waits_s": (*attempt.state.waits_s, round(wait, 3))})
        remaining = min(wait, attempt.deadline.remaining())
        while remaining > 0:
            attempt.deadline.check()
            attempt.deadline.clock.sleep(min(0.1, remaining))
            remaining -= 0.1

    def _rescued(self, attempt: "_Attempt", run_id: str, error: GitError) -> "PushFailed":
        """A branch of its own, else a bundle and a JSON backup: the next run imports whichever there is."""
        if attempt.commit is None:  # the remote could not even be asked: saved on top of what is here
            attempt.commit = attempt.commit_on(attempt.head)
        if attempt.commit is None:
            return PushFailed(str(error), attempt.state)
        branch = f"{RESCUE}{run_id}"
        try:
            self.repository.push(attempt.commit, branch, attempt.deadline)
            backup = f"branch {branch}"
        except GitError:
            path = self.work / "rescue" / f"{run_id}.bundle"
            self.repository.bundle(attempt.commit, path, attempt.deadline)
            atomic.write(path.with_suffix(".json"), self._backup(attempt))
            backup = str(path.relative_to(self.work.parent))
        attempt.state = attempt.state.model_copy(update={"backup": backup})
        log.warning("git: saved as %s; the next run takes it in", backup)
        return PushFailed(f"{error}; saved as {backup}", attempt.state)

    def _backup(self, attempt: "_Attempt") -> bytes:
        base = self.repository.merge_base(attempt.commit, attempt.tip)
        changed = self.repository.changed(base, attempt.commit or "", attempt.deadline)
        records = self.repository.contents(attempt.commit, sorted(changed))
        return json.dumps([json.loads(content) for content in records.values()], ensure_ascii=False, indent=2).encode() + b"\n"

    # -- taking in what others have published

    def take_in(self, base: str | None, theirs: str, deadline: Deadline) -> int:
        """Merge the records of a commit into those on disk; how many changed there."""
        changed = self.repository.changed(base, theirs, deadline)
        if not changed:
            return 0
        before, after = self.repository.contents(base, changed), self.repository.contents(theirs, changed)
        return self.database.merge_in({path: (before.get(path), content) for path, content in after.items()})

    def restore_missing(self, tip: str, deadline: Deadline) -> None:
        """No record is lost: deletions are tombstones, so a file that the tip has and the disk lacks is put back."""
        missing = [path for path in self.repository.changed_on_disk(tip, deadline) if not (self.database.root / path).exists()]
        kept = self.repository.contents(tip, missing)
        self.database.merge_in({path: (None, content) for path, content in kept.items()})

    def refresh(self, deadline: Deadline) -> None:
        """Before a run: the records as the remote has them, and what failed pushes left. Trouble is only told: work can begin."""
        if not self._has_remote():
            return
        head = self.repository.head()
        try:
            tip = self.repository.fetch(deadline)
            if tip is not None:
                self.take_in(self.repository.merge_base(head, tip), tip, deadline)
            self._import_rescues(head, deadline)
        except NotPublished as error:
            log.warning("%s", error)

    def _import_rescues(self, head: str | None, deadline: Deadline) -> None:
        repository = self.repository
        branches = repository.remote_branches(f"{RESCUE}*", deadline)
        commits = [repository.fetch(deadline, name) for name in branches]
        bundles = sorted((self.work / "rescue").glob("*.bundle"))
        commits += [repository.unbundle(path, deadline) for path in bundles]
        for commit in filter(None, commits):
            self.take_in(repository.merge_base(head, commit), commit, deadline)
        if commits:
            log.info("git: took in %d rescued pushes", len(commits))
            self._left.append(lambda: self._forget(branches, bundles, deadline))

    def _forget(self, branches: Iterable[str], bundles: Iterable[Path], deadline: Deadline) -> None:
        for name in branches:
            with contextlib.suppress(GitError):  # another run was faster
                self.repository.delete_remote_branch(name, deadline)
        for path in bundles:
            path.with_suffix(".json").unlink(missing_ok=True)
            path.unlink(missing_ok=True)


class _Attempt:
    """One publication, with what has been tried."""

    def __init__(self, publisher: Publisher, message: str, rebuild: Callable[[], None], deadline: Deadline) -> None:
        self._publisher = publisher
        self._rebuild = rebuild
        self._repository = publisher.repository
        self._message = message
        self.deadline = deadline
        self.state = PushState()
        self.head = self._repository.head()
        self.base: str | None = None  # what the records on disk are known to contain, after the first merge
        self.tip: str | None = None
        self.commit: str | None = None
        self._network_failures = 0

    def once(self) -> Published:
        """Fetch, merge, rebuild, validate, commit, push. Raises GitError."""
        repository, publisher = self._repository, self._publisher
        self.tip = repository.fetch(self.deadline)
        if self.tip is not None:
            publisher.take_in(self.base or repository.merge_base(self.head, self.tip), self.tip, self.deadline)
            publisher.restore_missing(self.tip, self.deadline)
            self.base = self.tip
        self.commit = None
        is_ahead = self.tip is None or (self.head is not None and repository.merge_base(self.head, self.tip) == self.tip)
        parent = self.head if is_ahead else self.tip
        made = self.commit_on(parent)
        if made is None and parent == self.tip:
            self._advance(self.tip)
            return Published("nothing changed, no commit", None, is_pushed=False, state=self.state)
        self.commit = made or parent
        assert self.commit is not None, "either a new commit or the one that the remote lacks"
        self.state = self.state.model_copy(update={"attempts": self.state.attempts + 1})
        repository.push(self.commit, repository.branch(), self.deadline)
        return self.arrived()

    def commit_on(self, parent: str | None) -> str | None:
        """None where no record differs from `parent`: derived files alone are no reason for a commit."""
        if not self._repository.changed_on_disk(parent, self.deadline):
            return None
        self._rebuild()
        return self._repository.commit(parent, self._message, self.deadline)

    def arrived(self) -> Published:
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
        except GitError as error:
            log.warning("%s", error)
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
