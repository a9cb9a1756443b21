"""What the database needs of git: who has which records, committing beside the work tree, pushing, moving the branch along."""

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from git import GitCommandError, Repo

from dailies.clock import Deadline
from dailies.config import Git, environment
from dailies.errors import ConfigError
from dailies.git_door import SAFE, GitError, command, found, opened
from dailies.locks import Single

NOTE: Final = "git-is-writing"
DERIVED: Final = ("combined/", "combined_videos.json", "status.json", "badge.json")
# GitHub shows commits of this author as those of its own Actions (the account's number is public)
FALLBACK_NAME: Final = "github-actions[bot]"
FALLBACK_EMAIL: Final = "41898282+github-actions[bot]@users.noreply.github.com"
_NO_HOOKS: Final = ("-c", "core.hooksPath=/dev/null")  # hooks and signing are for people's commits
_INDEX_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True)
class Repository:
    """The git repository around a library. Commits are hashes; paths are relative to the library."""

    root: Path
    settings: Git

    @property
    def _work(self) -> Path:
        return self.root / "work"

    # -- doors

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        """Noted while git writes: the note stays where git, or the run, did not come to its own end."""
        note = self._work / NOTE
        note.parent.mkdir(exist_ok=True)
        note.touch()
        try:
            yield
        except GitError as error:
            if not error.was_ended:
                note.unlink(missing_ok=True)
            raise
        note.unlink(missing_ok=True)

    def drop_dead_locks(self) -> int:
        """After a run that died while its git was writing, and once that git was ended: remove the lock files that it left.

        Only those that are younger than the note of that run; where there is no note git's locks are somebody else's.
        """
        note = self._work / NOTE
        if not note.exists() or not self.exists():
            return 0
        since = note.stat().st_mtime
        with opened(self.root, self._work) as repo:
            folders = {Path(repo.git_dir), Path(repo.common_dir)}
            branch = "" if repo.head.is_detached else f"refs/heads/{repo.active_branch.name}.lock"
        names = ["index.lock", "HEAD.lock", *filter(None, [branch])]
        left = [path for folder in folders for path in (folder / name for name in names) if path.exists()]
        dead = [path for path in left if path.stat().st_mtime >= since - 1]
        for path in [*dead, self._index.with_name(f"{self._index.name}.lock")]:
            path.unlink(missing_ok=True)
        note.unlink(missing_ok=True)
        return len(dead)

    # -- what is where

    def exists(self) -> bool:
        repo = found(self.root)
        if repo is not None:
            repo.close()
        return repo is not None

    def top(self) -> Path:
        """The folder that the repository's paths begin at."""
        with opened(self.root, self._work) as repo:
            return _top(repo).resolve()

    def remotes(self) -> list[str]:
        with opened(self.root, self._work) as repo:
            return [remote.name for remote in repo.remotes]

    def head(self) -> str | None:
        """The checked-out commit; None before the first."""
        with opened(self.root, self._work) as repo:
            return repo.head.commit.hexsha if repo.head.is_valid() else None

    def branch(self) -> str:
        """The branch that the database is published to. Raises ConfigError when none is checked out and none is set."""
        if self.settings.branch:
            return self.settings.branch
        with opened(self.root, self._work) as repo:
            if repo.head.is_detached:
                raise ConfigError(f"git: no branch is checked out; check one out or set [git] branch; {SAFE}")
            return repo.active_branch.name

    def remote_branches(self, pattern: str, deadline: Deadline) -> dict[str, str]:
        """Name to commit of the branches of the remote that match, asked of the remote itself."""
        with opened(self.root, self._work) as repo:
            reference = f"refs/heads/{pattern}"
            said = command(repo, deadline, self.settings.fetch_limit, "ls-remote", self.settings.remote, reference)
        pairs = (line.split("\t", 1) for line in said.splitlines() if "\t" in line)
        return {name.removeprefix("refs/heads/"): commit for commit, name in pairs}

    def fetch(self, deadline: Deadline, branch: str | None = None) -> str | None:
        """The tip of the branch on the remote, fetched; None where there is none.

        Never with a depth, which would cut the history of a shallow clone (facts/actions 1.6).
        """
        name = branch or self.branch()
        tip = self.remote_branches(name, deadline).get(name)
        if tip is None:
            return None
        known = f"refs/remotes/{self.settings.remote}/{name}"
        with opened(self.root, self._work) as repo:
            with contextlib.suppress(GitCommandError):
                if str(repo.git.rev_parse("--verify", "--quiet", known)) == tip:
                    return tip
            what = ["--quiet", "--no-tags", self.settings.remote, f"+refs/heads/{name}:{known}"]
            command(repo, deadline, self.settings.fetch_limit, "fetch", *what)
            return str(repo.git.rev_parse("--verify", known))

    def parent(self, commit: str) -> str | None:
        """The first one; None where there is none, or a shallow clone does not have it."""
        with opened(self.root, self._work) as repo, contextlib.suppress(GitCommandError):
            return str(repo.git.rev_parse("--verify", "--quiet", f"{commit}^")) or None
        return None

    def complete_history(self, deadline: Deadline) -> bool:
        """Fetch what a shallow clone lacks; whether this was one."""
        with opened(self.root, self._work) as repo:
            if not (Path(repo.common_dir) / "shallow").exists():
                return False
            command(repo, deadline, self.settings.fetch_limit, "fetch", "--quiet", "--no-tags", "--unshallow", self.settings.remote)
            return True

    def merge_base(self, one: str | None, other: str | None) -> str | None:
        if one is None or other is None or one == other:
            return one and other
        with opened(self.root, self._work) as repo, contextlib.suppress(GitCommandError):
            return str(repo.git.merge_base(one, other)) or None
        return None

    def changed(self, base: str | None, commit: str, deadline: Deadline) -> set[str]:
        """Files of the database, but what is derived, that differ between two commits; all of `commit`'s without a base."""
        if base == commit:
            return set()
        with opened(self.root, self._work) as repo:
            spec = self._database(repo)
            if base is None:
                said = command(repo, deadline, self.settings.diff_limit, "ls-tree", "-rz", "--name-only", commit, "--", spec)
            else:
                options = ["--name-only", "-z", "--no-renames", base, commit, "--", spec]
                said = command(repo, deadline, self.settings.diff_limit, "diff", *options)
            return self._relative(repo, said)

    def changed_on_disk(self, base: str | None, deadline: Deadline) -> set[str]:
        """Files of the database, but what is derived, that are not on disk as in `base`: changed, new or gone."""
        with opened(self.root, self._work) as repo, self._private_index(repo, base, deadline):
            spec = self._database(repo)
            limit = self.settings.diff_limit
            known = command(repo, deadline, limit, "diff-files", "--name-only", "-z", "--", spec)
            new = command(repo, deadline, limit, "ls-files", "--others", "--exclude-standard", "-z", "--", spec)
            return self._relative(repo, known + new)

    def contents(self, commit: str | None, paths: Iterable[str]) -> dict[str, bytes]:
        """Files of a commit; those that it does not have are not in the answer."""
        if commit is None:
            return {}
        found: dict[str, bytes] = {}
        with opened(self.root, self._work) as repo:
            tree = repo.commit(commit).tree
            for path in paths:
                with contextlib.suppress(KeyError):
                    found[path] = tree[self._inside(repo, path)].data_stream.read()
        return found

    def untracked(self, paths: Iterable[str], deadline: Deadline) -> list[str]:
        """Those files of the library that a clone would not have."""
        wanted = list(paths)
        if not wanted:
            return []
        with opened(self.root, self._work) as repo:
            inside = {self._inside(repo, path): path for path in wanted}
            said = command(repo, deadline, self.settings.diff_limit, "ls-files", "-z", "--", *inside)
        return [path for name, path in inside.items() if name not in said.split("\0")]

    def size_bytes(self) -> int:
        """What its objects take on this disk."""
        with opened(self.root, self._work) as repo:
            said = dict(line.split(": ", 1) for line in str(repo.git.count_objects("-v")).splitlines())
        return 1024 * (int(said["size"]) + int(said["size-pack"]))

    def committed(self, path: Path) -> bytes | None:
        """The content of a file in the last commit; None where it has none."""
        with contextlib.suppress(ConfigError, GitError):
            return self.contents(self.head(), [path.as_posix()]).get(path.as_posix())
        return None

    # -- writing

    def commit(
        self, parent: str | None, message: str, edits: Mapping[str, bytes], kept: Iterable[str], deadline: Deadline
    ) -> str | None:
        """`database/` as it is on disk on top of `parent`, as a commit that nothing points to yet; None where it changes nothing.

        Nothing is removed but derived files. `edits`: other files of `parent` with new content. `kept`: files of the database that
        stay as they are in `parent`. By a private index: neither HEAD, nor the index, nor any file is touched.
        """
        limits = self.settings
        with opened(self.root, self._work) as repo, self._private_index(repo, parent, deadline):
            command(repo, deadline, limits.add_limit, *_NO_HOOKS, "add", "--ignore-removal", "--", self._database(repo))
            for name in self._gone(repo, deadline):
                command(repo, deadline, limits.add_limit, "update-index", "--force-remove", "--", name)
            for path in kept:
                self._keep(repo, parent, path, deadline)
            for path, content in edits.items():
                self._put(repo, parent, path, content, deadline)
            tree = command(repo, deadline, limits.commit_limit, "write-tree").strip()
            if parent is not None and tree == str(repo.git.rev_parse(f"{parent}^{{tree}}")):
                return None
            above = [] if parent is None else ["-p", parent]
            with repo.git.custom_environment(**self._author(repo)):
                options = [tree, *above, "--no-gpg-sign", "-m", message]
                return command(repo, deadline, limits.commit_limit, "commit-tree", *options).strip()

    def _gone(self, repo: Repo, deadline: Deadline) -> list[str]:
        """Derived files that are no longer on disk."""
        options = ["--diff-filter=D", "--name-only", "-z", "--", self._database(repo)]
        said = command(repo, deadline, self.settings.diff_limit, "diff-files", *options)
        return [name for name in said.split("\0") if name and self._is_derived(repo, name)]

    def _keep(self, repo: Repo, parent: str | None, path: str, deadline: Deadline) -> None:
        name = self._inside(repo, path)
        limit = self.settings.add_limit
        try:
            entry = repo.commit(parent).tree[name]
        except (KeyError, ValueError):  # new here: it stays out
            command(repo, deadline, limit, "update-index", "--force-remove", "--", name)
            return
        command(repo, deadline, limit, "update-index", "--add", "--cacheinfo", f"{entry.mode:o},{entry.hexsha},{name}")

    def _put(self, repo: Repo, parent: str | None, path: str, content: bytes, deadline: Deadline) -> None:
        """New content of a file of `parent`, with its mode, into the index that is in use."""
        name = self._inside(repo, path)
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.seek(0)
            blob = repo.git.hash_object("-w", "--stdin", istream=file)
        entry = f"{repo.commit(parent).tree[name].mode:o},{blob},{name}"
        command(repo, deadline, self.settings.add_limit, "update-index", "--cacheinfo", entry)

    def push(self, commit: str, branch: str, deadline: Deadline, *, with_hooks: bool = False) -> None:
        """Plain, never forced; `with_hooks` where commits of a person go along. Raises GitError."""
        with opened(self.root, self._work) as repo:
            what = ["--quiet", self.settings.remote, f"{commit}:refs/heads/{branch}"]
            command(repo, deadline, self.settings.push_limit, *(() if with_hooks else _NO_HOOKS), "push", *what)

    def delete_remote_branch(self, branch: str, deadline: Deadline) -> None:
        with opened(self.root, self._work) as repo:
            what = ["--quiet", "--delete", self.settings.remote, f"refs/heads/{branch}"]
            command(repo, deadline, self.settings.push_limit, *_NO_HOOKS, "push", *what)

    def advance(self, old: str | None, new: str, deadline: Deadline) -> bool:
        """Move the checked-out branch from `old` to `new`, which must follow it; whether that was possible.

        `database/` on disk is that of `new` already. Other files that `new` changes come along where nobody touched them here, as
        with `git pull`; whatever a person has changed or staged stays as it was.
        """
        if old is not None and self.merge_base(old, new) != old:
            return False
        with opened(self.root, self._work) as repo, self._noted():
            if repo.head.is_detached or repo.active_branch.name != self.branch():
                return False
            limit = self.settings.commit_limit
            database = self._database(repo)
            others: set[str] = set()
            if old is not None:
                options = ["--name-only", "-z", "--no-renames", old, new, "--", ".", f":(exclude){database}"]
                others = set(filter(None, command(repo, deadline, limit, "diff", *options).split("\0")))
            touched = self._touched(repo, old, others, deadline)
            command(repo, deadline, limit, "update-ref", "-m", "dailies: database", "HEAD", new, *([old] if old else []))
            command(repo, deadline, limit, "reset", "-q", "--", database)
            present = {path for path in others - touched if self._has(repo, new, path)}
            if present:
                command(repo, deadline, limit, *_NO_HOOKS, "checkout", "-q", new, "--", *sorted(present))
            gone = others - touched - present
            if gone:
                command(repo, deadline, limit, "rm", "-q", "--ignore-unmatch", "--", *sorted(gone))
            return True

    def _touched(self, repo: Repo, old: str | None, paths: set[str], deadline: Deadline) -> set[str]:
        """Those that a person changed, staged or not."""
        if not paths or old is None:
            return set()
        said = command(
            repo, deadline, self.settings.diff_limit, "status", "--porcelain", "-z", "--no-renames", "--", *sorted(paths)
        )
        return {entry[3:] for entry in said.split("\0") if entry}

    def bundle(self, commit: str, path: Path, deadline: Deadline) -> None:
        """Everything of `commit` that the remote is not known to have, as one file."""
        reference = "refs/dailies/rescue"
        with opened(self.root, self._work) as repo:
            repo.git.update_ref(reference, commit)
            known = [f"^{reference.commit.hexsha}" for remote in repo.remotes for reference in remote.refs]
            path.parent.mkdir(parents=True, exist_ok=True)
            command(repo, deadline, self.settings.push_limit, "bundle", "create", "-q", str(path), reference, *known)
            repo.git.update_ref("-d", reference)

    def unbundle(self, path: Path, deadline: Deadline) -> str:
        """The commit that a bundle was made of, with all that it needs."""
        with opened(self.root, self._work) as repo:
            said = command(repo, deadline, self.settings.fetch_limit, "bundle", "unbundle", str(path))
            return said.split()[0]

    def begin(self, remote: Path, message: str) -> None:
        """The first commit of a new repository, of everything in it, connected to `remote` (for the demo)."""
        with opened(self.root, self._work) as repo, repo.git.custom_environment(**self._author(repo)):
            repo.git.add("--all")
            repo.git.commit("--no-verify", "--no-gpg-sign", "--quiet", "--message", message)
            repo.create_remote(self.settings.remote, str(remote))

    # -- inside

    @property
    def _index(self) -> Path:
        return self._work / "publish.index"

    @contextlib.contextmanager
    def _private_index(self, repo: Repo, commit: str | None, deadline: Deadline) -> Iterator[None]:
        """An index of our own at `commit`; begun from the person's and kept, so that git need not read files that it knows."""
        index = self._index
        with Single(self._work / "publish.index.guard").held(_INDEX_TIMEOUT_S):
            yield from self._held_index(repo, commit, deadline, index)

    def _held_index(self, repo: Repo, commit: str | None, deadline: Deadline, index: Path) -> Iterator[None]:
        if not index.exists() and Path(repo.index.path).exists():
            shutil.copyfile(repo.index.path, index)
        with self._noted(), repo.git.custom_environment(GIT_INDEX_FILE=str(index)):
            what = ["--empty"] if commit is None else ["-m", commit]
            try:
                command(repo, deadline, self.settings.add_limit, "read-tree", *what)
            except GitError:  # an index that a dead run left half written, or with conflicts of the person's merge
                index.unlink(missing_ok=True)
                command(repo, deadline, self.settings.add_limit, "read-tree", *what[-1:])
            with contextlib.suppress(GitError):  # exits 1 for every file that differs
                command(repo, deadline, self.settings.add_limit, "update-index", "-q", "--refresh")
            yield

    def _has(self, repo: Repo, commit: str, path: str) -> bool:
        with contextlib.suppress(KeyError):
            return bool(repo.commit(commit).tree[path])
        return False

    def _database(self, repo: Repo) -> str:
        return self._inside(repo, "database")

    def _inside(self, repo: Repo, path: str) -> str:
        return (self.root.resolve() / path).relative_to(_top(repo).resolve()).as_posix()

    def _relative(self, repo: Repo, said: str) -> set[str]:
        prefix = self._database(repo).removesuffix("database")
        return {name.removeprefix(prefix) for name in said.split("\0") if name and not self._is_derived(repo, name)}

    def _is_derived(self, repo: Repo, name: str) -> bool:
        return name.removeprefix(f"{self._database(repo)}/").startswith(DERIVED)

    def _author(self, repo: Repo) -> Mapping[str, str]:
        """Settings, else git's own, else the bot of GitHub Actions: an empty home works."""
        name = self.settings.author_name or _configured(repo, "user.name", "GIT_AUTHOR_NAME") or FALLBACK_NAME
        email = self.settings.author_email or _configured(repo, "user.email", "GIT_AUTHOR_EMAIL") or FALLBACK_EMAIL
        return {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": email, "GIT_COMMITTER_NAME": name, "GIT_COMMITTER_EMAIL": email}


def _top(repo: Repo) -> Path:
    return Path(str(repo.working_tree_dir))


def _configured(repo: Repo, key: str, variable: str) -> str:
    if environment().get(variable):
        return environment()[variable]
    with contextlib.suppress(GitCommandError):
        return str(repo.git.config("--get", key))
    return ""


def origin_of(folder: Path, inside: str) -> tuple[str, str] | None:
    """(https address of `origin`, commit) of the repository whose folder `inside` this is; None for any other."""
    repo = found(folder)
    if repo is None:
        return None
    try:
        if (_top(repo) / inside).resolve() != folder:
            return None
        url = next((remote.url for remote in repo.remotes if remote.name == "origin"), None)
        if not url or not repo.head.is_valid():
            return None
        address = re.sub(r"^(?:ssh://)?git@([^:/]+)[:/]", r"https://\1/", url)
        return re.sub(r"(?<=://)[^/@]+@", "", address), repo.head.commit.hexsha
    finally:
        repo.close()


def create(root: Path, *, bare: bool = False) -> None:
    """A new repository with branch `main`."""
    Repo.init(root, mkdir=True, bare=bare, initial_branch="main").close()
