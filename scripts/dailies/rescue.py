"""Rescue: what could not be pushed is saved as a branch of its own, else as a bundle, and taken in by whoever comes next."""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from dailies import atomic, journal
from dailies.clock import Deadline
from dailies.errors import OutOfTime
from dailies.git_door import GitError
from dailies.progress import log
from dailies.repository import Repository

PREFIX: Final = "rescue/"
Drop = Callable[[Deadline], None]


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    try:
        yield
    except GitError as error:
        log.warning("rescue: %s cannot be taken in: %s", name, error)


@dataclass
class Rescues:
    """Those of one library: branches `rescue/<run id>` of the remote, `work/rescue/<run id>.bundle` with a JSON copy beside it."""

    repository: Repository
    work: Path
    _left: list[Drop] = field(default_factory=list)  # removes what was taken in, or is in a later one, once that is safe
    _saved: int = 0

    def save(self, commit: str, tip: str | None, run_id: str, deadline: Deadline) -> str:
        """Where it is saved; it holds all that was saved or taken in here before. Raises GitError when even the disk refuses."""
        self._saved += 1
        name = run_id if self._saved == 1 else f"{run_id}-{self._saved}"
        before, branch = list(self._left), f"{PREFIX}{name}"
        try:
            self.repository.push(commit, branch, deadline.sooner(deadline.remaining() / 2))
        except (GitError, OutOfTime):
            path = self._folder / f"{name}.bundle"
            self.repository.bundle(commit, path, deadline)
            atomic.write(path.with_suffix(".json"), self._copy(commit, tip, deadline))
            saved, drop = path.relative_to(self.work.parent).as_posix(), partial(self._drop_bundle, path)
        else:
            saved, drop = f"branch {branch}", partial(self._drop_branch, branch)
        for older in before:
            older(deadline)
        self._left[:] = [drop]
        return saved

    def count(self, deadline: Deadline, *, is_shared: bool) -> int:
        """How many wait to be taken in. Raises GitError."""
        return len(self._bundles()) + (len(self._branches(deadline)) if is_shared else 0)

    def found(self, deadline: Deadline) -> Iterator[tuple[str, Drop]]:
        """(commit, what removes it once it is published): to be handed back by `taken`. One that cannot be read is only told."""
        for name in self._branches(deadline):
            with _told(name):
                commit = self.repository.fetch(deadline, name)
                if commit is not None:
                    yield commit, partial(self._drop_branch, name)
        for path in self._bundles():
            with _told(path.name):
                yield self._unbundled(path, deadline), partial(self._drop_bundle, path)

    def taken(self, drop: Drop) -> None:
        """The records on disk hold it."""
        self._left.append(drop)

    def forget(self, deadline: Deadline) -> None:
        """What was taken in has been published."""
        while self._left:
            self._left.pop()(deadline)

    def _unbundled(self, path: Path, deadline: Deadline) -> str:
        try:
            return self.repository.unbundle(path, deadline)
        except GitError:
            if not self.repository.complete_history(deadline):  # a shallow clone may lack what it builds on
                raise
            return self.repository.unbundle(path, deadline)

    @property
    def _folder(self) -> Path:
        return self.work / "rescue"

    def _bundles(self) -> list[Path]:
        return sorted(self._folder.glob("*.bundle"))

    def _branches(self, deadline: Deadline) -> list[str]:
        return sorted(self.repository.remote_branches(f"{PREFIX}*", deadline))

    def _drop_branch(self, name: str, deadline: Deadline) -> None:
        with contextlib.suppress(GitError, OutOfTime):  # another run was faster, or the next one does it
            self.repository.delete_remote_branch(name, deadline)

    @staticmethod
    def _drop_bundle(path: Path, _deadline: Deadline) -> None:
        path.with_suffix(".json").unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    def _copy(self, commit: str, tip: str | None, deadline: Deadline) -> bytes:
        """The changed records, for people."""
        base = self.repository.merge_base(commit, tip)
        changed = sorted(path for path in self.repository.changed(base, commit, deadline) if not journal.is_events(path))
        records = self.repository.contents(commit, changed)
        return json.dumps([json.loads(content) for content in records.values()], ensure_ascii=False, indent=2).encode() + b"\n"
