"""Rescue: what could not be pushed is saved as a branch of its own, else as a bundle, and taken in by whoever comes next."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from dailies import atomic
from dailies.clock import Deadline
from dailies.errors import OutOfTime
from dailies.git_door import GitError
from dailies.progress import log
from dailies.repository import Repository

PREFIX: Final = "rescue/"


@dataclass
class Rescues:
    """Those of one library: branches `rescue/<run id>` of the remote, `work/rescue/<run id>.bundle` with a JSON copy beside it."""

    repository: Repository
    work: Path
    _left: list[Callable[[Deadline], None]] = field(default_factory=list)  # removes what was taken in, once that is published

    def save(self, commit: str, tip: str | None, run_id: str, deadline: Deadline) -> str:
        """Where it is saved. Raises GitError when even the disk refuses."""
        branch = f"{PREFIX}{run_id}"
        try:
            self.repository.push(commit, branch, deadline.sooner(deadline.remaining() / 2))
        except (GitError, OutOfTime):
            path = self._folder / f"{run_id}.bundle"
            self.repository.bundle(commit, path, deadline)
            atomic.write(path.with_suffix(".json"), self._copy(commit, tip, deadline))
            return path.relative_to(self.work.parent).as_posix()
        return f"branch {branch}"

    def count(self, deadline: Deadline, *, is_shared: bool) -> int:
        """How many wait to be taken in. Raises GitError."""
        return len(self._bundles()) + (len(self._branches(deadline)) if is_shared else 0)

    def commits(self, deadline: Deadline) -> list[str]:
        """What was saved, fetched; one that cannot be read is told and keeps its place. Raises GitError for no remote."""
        found: list[str] = []
        for name in self._branches(deadline):
            commit = self.repository.fetch(deadline, name)
            if commit is not None:
                found.append(commit)
                self._left.append(partial(self._drop_branch, name))
        for path in self._bundles():
            try:
                found.append(self.repository.unbundle(path, deadline))
            except GitError as error:
                log.warning("rescue: %s cannot be taken in: %s", path.name, error)
                continue
            self._left.append(partial(self._drop_bundle, path))
        return found

    def forget(self, deadline: Deadline) -> None:
        """What was taken in has been published."""
        while self._left:
            self._left.pop()(deadline)

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
        records = self.repository.contents(commit, sorted(self.repository.changed(base, commit, deadline)))
        return json.dumps([json.loads(content) for content in records.values()], ensure_ascii=False, indent=2).encode() + b"\n"
