"""Git: commit the database and push it. GitPython is used here and nowhere else."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from git import GitCommandError, GitCommandNotFound, InvalidGitRepositoryError, NoSuchPathError, Repo

from dailies.clock import Deadline
from dailies.config import Git, environment
from dailies.errors import ConfigError, NotPublished
from dailies.process import OWNER_VARIABLE, output_of, owner_tag

NOTE: Final = "git-is-writing"
FALLBACK_NAME: Final = "dailies"
FALLBACK_EMAIL: Final = "dailies@localhost"
_QUIET: Final = {"GIT_TERMINAL_PROMPT": "0", "GIT_EDITOR": "true", "LC_ALL": "C"}  # never ask, never open an editor
_SAFE: Final = "the records are safe on this disk"
_REMEDIES: Final = (
    (("fetch first", "non-fast-forward", "stale info"), "the remote has newer commits: `git pull --rebase`, then run again"),
    (
        ("denied", "403", "protected", "authentication", "could not read username", "declined"),
        "give this user or token write access",
    ),
    (
        ("could not resolve", "unable to access", "not appear to be a git", "timed out"),
        "look whether the remote can be reached, then run again",
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What `publish` did, in a line for people."""

    committed: str | None
    pushed: bool
    message: str


@dataclass(frozen=True)
class Repository:
    """The git repository around a library; every command under its own limit, none ever asks a question."""

    root: Path
    settings: Git

    @property
    def _work(self) -> Path:
        return self.root / "work"

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        """Noted while git writes: only a run that dies leaves the note."""
        note = self._work / NOTE
        note.parent.mkdir(exist_ok=True)
        note.touch()
        yield
        note.unlink(missing_ok=True)

    def drop_dead_locks(self) -> int:
        """After a run that died while its git was writing, and once that git was ended: remove the lock files that it left.

        Only those that are younger than the note of that run; where there is no note git's locks are somebody else's.
        """
        note = self._work / NOTE
        if not note.exists() or not self.exists():
            return 0
        since = note.stat().st_mtime
        with self._open() as repo:
            folders = {Path(repo.git_dir), Path(repo.common_dir)}
            branch = "" if repo.head.is_detached else f"refs/heads/{repo.active_branch.name}.lock"
        names = ["index.lock", "HEAD.lock", *filter(None, [branch])]
        left = [path for folder in folders for path in (folder / name for name in names) if path.exists()]
        dead = [path for path in left if path.stat().st_mtime >= since - 1]
        for path in dead:
            path.unlink(missing_ok=True)
        note.unlink(missing_ok=True)
        return len(dead)

    @contextlib.contextmanager
    def _open(self) -> Iterator[Repo]:
        """Opened briefly: GitPython leaks processes in long ones."""
        try:
            repo = Repo(self.root, search_parent_directories=True)
        except (InvalidGitRepositoryError, NoSuchPathError) as error:
            raise ConfigError(f"{self.root}: not in a git repository; `git init` it, or run with --no-commit") from error
        try:
            with repo.git.custom_environment(**_QUIET, **{OWNER_VARIABLE: owner_tag(self._work)}):
                yield repo
        except GitCommandNotFound as error:
            raise ConfigError("git: cannot be started; install git") from error
        finally:
            repo.close()

    def exists(self) -> bool:
        try:
            Repo(self.root, search_parent_directories=True).close()
        except (InvalidGitRepositoryError, NoSuchPathError):
            return False
        return True

    def remotes(self) -> list[str]:
        with self._open() as repo:
            return [remote.name for remote in repo.remotes]

    def has_changes(self, deadline: Deadline) -> bool:
        """Whether a record on disk differs from the last commit."""
        with self._open() as repo:
            return bool(
                self._run(repo, deadline, self.settings.diff_limit, "status", "--porcelain", "--", self._database(repo) + "/videos")
            )

    def committed(self, path: Path) -> bytes | None:
        """The content of a file (relative to the library) in the last commit; None where it has none."""
        with contextlib.suppress(ConfigError, GitCommandError), self._open() as repo:
            inside = (self.root / path).relative_to(_top(repo)).as_posix()
            content: bytes = repo.git.show(f"HEAD:{inside}", stdout_as_string=False, strip_newline_in_stdout=False)
            return content
        return None

    def publish(self, message: str, deadline: Deadline) -> Outcome:
        """Commit `database/` and nothing else where it changed, then push what of it the remote lacks. Raises NotPublished."""
        with self._open() as repo:
            with self._noted():
                commit = self._commit(repo, message, deadline)
            said = f"committed {commit[:12]}" if commit else "nothing changed, no commit"
            if not self.settings.push:
                return Outcome(commit, pushed=False, message=f"{said}; not pushed: [git] push is off")
            if self.settings.remote not in [remote.name for remote in repo.remotes]:
                return Outcome(commit, pushed=False, message=f"{said}; not pushed: no remote {self.settings.remote}")
            if commit is None and not self._has_unpushed(repo):
                return Outcome(None, pushed=False, message=said)
            self._push(repo, deadline)
            return Outcome(commit, pushed=True, message=f"{said}; pushed to {self.settings.remote}")

    def begin(self, remote: Path, message: str) -> None:
        """The first commit of a new repository, of everything in it, connected to `remote` (for the demo)."""
        with self._open() as repo, self._told("commit"), repo.git.custom_environment(**self._author(repo)):
            repo.git.add("--all")
            repo.git.commit("--no-verify", "--no-gpg-sign", "--quiet", "--message", message)
            repo.create_remote(self.settings.remote, str(remote))

    def head_on_remote(self) -> tuple[str, str]:
        """(the commit here, the commit of the same branch on the remote; empty where it has none)."""
        with self._open() as repo, self._told("ls-remote"):
            reference = f"refs/heads/{self._branch(repo)}"
            said = str(repo.git.ls_remote(self.settings.remote, reference, kill_after_timeout=self.settings.fetch_limit))
            return str(repo.git.rev_parse("HEAD")), said.partition("\t")[0]

    def _database(self, repo: Repo) -> str:
        return (self.root.resolve() / "database").relative_to(_top(repo).resolve()).as_posix()

    def _commit(self, repo: Repo, message: str, deadline: Deadline) -> str | None:
        """Only these paths, whatever else is staged; hooks and signing are for people's commits."""
        limits, path = self.settings, self._database(repo)
        self._run(repo, deadline, limits.add_limit, "add", "--all", "--", path)
        if not self._run(repo, deadline, limits.diff_limit, "status", "--porcelain", "--", path):
            return None
        with repo.git.custom_environment(**self._author(repo)):
            options = ["--no-verify", "--no-gpg-sign", "--quiet", "--message", message, "--only", "--", path]
            self._run(repo, deadline, limits.commit_limit, "-c", "core.hooksPath=/dev/null", "commit", *options)
        return str(repo.git.rev_parse("HEAD"))

    def _run(self, repo: Repo, deadline: Deadline, limit_s: float, *arguments: str) -> str:
        """One git command in a group of its own, ended after its limit or on a stop. Raises NotPublished, Interrupted."""
        name = next(word for word in arguments if not word.startswith("-") and "=" not in word)
        limited = deadline.within(limit_s, lambda: NotPublished(f"git {name}: took longer than {limit_s:.0f} s; {_SAFE}"))
        command = ["git", *arguments]
        running = repo.git.execute(command, as_process=True, start_new_session=True)  # ends its child when it is let go of
        child = running.proc
        assert child is not None, "it was just started"
        out, err = output_of(child, limited)
        if child.returncode != 0:
            raise NotPublished(_explained(name, err.decode("utf-8", "replace"), child.returncode))
        return str(out.decode("utf-8", "replace"))

    def _author(self, repo: Repo) -> Mapping[str, str]:
        """Settings, else git's own, else `dailies`: an empty home works."""
        name = self.settings.author_name or _configured(repo, "user.name", "GIT_AUTHOR_NAME") or FALLBACK_NAME
        email = self.settings.author_email or _configured(repo, "user.email", "GIT_AUTHOR_EMAIL") or FALLBACK_EMAIL
        return {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": email, "GIT_COMMITTER_NAME": name, "GIT_COMMITTER_EMAIL": email}

    def _branch(self, repo: Repo) -> str:
        if self.settings.branch:
            return self.settings.branch
        if repo.head.is_detached:
            raise NotPublished("git push: no branch is checked out; check one out or set [git] branch")
        return repo.active_branch.name

    def _has_unpushed(self, repo: Repo) -> bool:
        """Whether the remote, as last seen, lacks a commit to `database/`."""
        with contextlib.suppress(GitCommandError):
            known = f"refs/remotes/{self.settings.remote}/{self._branch(repo)}"
            repo.git.rev_parse("--verify", "--quiet", known)
            return bool(repo.git.rev_list("--max-count=1", f"{known}..HEAD", "--", f":(top){self._database(repo)}"))
        return True

    def _push(self, repo: Repo, deadline: Deadline) -> None:
        reference = f"HEAD:refs/heads/{self._branch(repo)}"
        self._run(repo, deadline, self.settings.push_limit, "push", "--quiet", self.settings.remote, reference)

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """A failed command of GitPython's own as one line with its remedy."""
        try:
            yield
        except GitCommandError as error:
            raise NotPublished(_explained(what, str(error.stderr), error.status)) from error


def _explained(name: str, said: str, status: object) -> str:
    """One line of what git wrote, with what to do about it."""
    words = " ".join(said.split()).removeprefix("stderr: ").strip("'") or f"exit code {status}"
    remedy = next((remedy for signs, remedy in _REMEDIES if any(sign in words.lower() for sign in signs)), "look at `git status`")
    return f"git {name}: {words}: {remedy}; {_SAFE}"


def _top(repo: Repo) -> Path:
    return Path(str(repo.working_tree_dir))


def _configured(repo: Repo, key: str, variable: str) -> str:
    if environment().get(variable):
        return environment()[variable]
    with contextlib.suppress(GitCommandError):
        return str(repo.git.config("--get", key))
    return ""


def create(root: Path, *, bare: bool = False) -> None:
    """A new repository with branch `main`."""
    Repo.init(root, mkdir=True, bare=bare, initial_branch="main").close()
