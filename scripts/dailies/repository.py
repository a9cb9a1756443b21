"""Git: commit the database and push it. GitPython is used here and nowhere else."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from git import GitCommandError, GitCommandNotFound, InvalidGitRepositoryError, NoSuchPathError, Repo

from dailies.config import Git
from dailies.errors import Category, ConfigError, NotPublished

FALLBACK_NAME: Final = "dailies"
FALLBACK_EMAIL: Final = "dailies@localhost"
_QUIET: Final = {"GIT_TERMINAL_PROMPT": "0", "GIT_EDITOR": "true", "LC_ALL": "C"}  # never ask, never open an editor
_PERMISSION: Final = ("permission", "denied", "403", "protected", "authentication", "could not read username")


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

    @contextlib.contextmanager
    def _open(self) -> Iterator[Repo]:
        """Opened briefly: GitPython leaks processes in long ones."""
        try:
            repo = Repo(self.root, search_parent_directories=True)
        except (InvalidGitRepositoryError, NoSuchPathError) as error:
            raise ConfigError(f"{self.root}: not in a git repository; `git init` it, or run with --no-commit") from error
        try:
            with repo.git.custom_environment(**_QUIET):
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

    def has_changes(self) -> bool:
        """Whether a record on disk differs from the last commit."""
        with self._open() as repo, self._told("git status"):
            changed = repo.git.status(
                "--porcelain", "--", self._database(repo) / "videos", kill_after_timeout=self.settings.diff_limit
            )
        return bool(changed)

    def committed(self, path: Path) -> bytes | None:
        """The content of a file (relative to the library) in the last commit; None where it has none."""
        with contextlib.suppress(ConfigError, GitCommandError), self._open() as repo:
            inside = (self.root / path).relative_to(_top(repo)).as_posix()
            content: bytes = repo.git.show(f"HEAD:{inside}", stdout_as_string=False, strip_newline_in_stdout=False)
            return content
        return None

    def publish(self, message: str) -> Outcome:
        """Commit `database/` and nothing else where it changed, then push where the remote exists. Raises NotPublished."""
        with self._open() as repo:
            commit = self._commit(repo, message)
            said = f"committed {commit[:12]}" if commit else "nothing changed, no commit"
            if not self.settings.push:
                return Outcome(commit, pushed=False, message=f"{said}; not pushed: [git] push is off")
            if self.settings.remote not in [remote.name for remote in repo.remotes]:
                return Outcome(commit, pushed=False, message=f"{said}; not pushed: no remote {self.settings.remote}")
            if commit is None and self._is_pushed(repo):
                return Outcome(None, pushed=False, message=said)
            self._push(repo)
            return Outcome(commit, pushed=True, message=f"{said}; pushed to {self.settings.remote}")

    def begin(self, remote: Path, message: str) -> None:
        """The first commit of a new repository, of everything in it, connected to `remote` (for the demo)."""
        with self._open() as repo, self._told("git commit"), repo.git.custom_environment(**self._author(repo)):
            repo.git.add("--all")
            repo.git.commit("--no-verify", "--no-gpg-sign", "--quiet", "--message", message)
            repo.create_remote(self.settings.remote, str(remote))

    def head_on_remote(self) -> tuple[str, str]:
        """(the commit here, the commit of the same branch on the remote; empty where it has none)."""
        with self._open() as repo, self._told("git ls-remote"):
            reference = f"refs/heads/{self._branch(repo)}"
            said = str(repo.git.ls_remote(self.settings.remote, reference, kill_after_timeout=self.settings.fetch_limit))
            return str(repo.git.rev_parse("HEAD")), said.partition("\t")[0]

    def _database(self, repo: Repo) -> Path:
        return (self.root.resolve() / "database").relative_to(_top(repo).resolve())

    def _commit(self, repo: Repo, message: str) -> str | None:
        """Only these paths, whatever else is staged; hooks and signing are for people's commits."""
        paths = [self._database(repo).as_posix()]
        with self._told("git commit", "check `git status`"), repo.git.custom_environment(**self._author(repo)):
            repo.git.add("--all", "--", *paths, kill_after_timeout=self.settings.add_limit)
            if not repo.git.status("--porcelain", "--", *paths, kill_after_timeout=self.settings.diff_limit):
                return None
            options = ["--no-verify", "--no-gpg-sign", "--quiet", "--message", message]
            repo.git.commit(*options, "--only", "--", *paths, kill_after_timeout=self.settings.commit_limit)
            return str(repo.git.rev_parse("HEAD"))

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

    def _is_pushed(self, repo: Repo) -> bool:
        with contextlib.suppress(GitCommandError):
            known = repo.git.rev_parse("--verify", "--quiet", f"refs/remotes/{self.settings.remote}/{self._branch(repo)}")
            return str(known) == str(repo.git.rev_parse("HEAD"))
        return False

    def _push(self, repo: Repo) -> None:
        branch = self._branch(repo)
        with self._told("git push", f"`git pull --rebase {self.settings.remote} {branch}`, then run again"):
            repo.git.push("--quiet", self.settings.remote, f"HEAD:refs/heads/{branch}", kill_after_timeout=self.settings.push_limit)

    @contextlib.contextmanager
    def _told(self, what: str, remedy: str = "check `git status`") -> Iterator[None]:
        """A failed command as one line with its remedy."""
        try:
            yield
        except GitCommandError as error:
            said = " ".join(str(error.stderr).split()).removeprefix("stderr: ").strip("'") or f"exit code {error.status}"
            if any(word in said.lower() for word in _PERMISSION):
                remedy = "give this user or token write access to the branch"
            raise NotPublished(f"{what}: {said}: {remedy}; the records are safe on this disk", Category.GIT) from error


def _top(repo: Repo) -> Path:
    return Path(str(repo.working_tree_dir))


def _configured(repo: Repo, key: str, variable: str) -> str:
    if os.environ.get(variable):
        return os.environ[variable]
    with contextlib.suppress(GitCommandError):
        return str(repo.git.config("--get", key))
    return ""


def create(root: Path, *, bare: bool = False) -> None:
    """A new repository with branch `main`."""
    Repo.init(root, mkdir=True, bare=bare, initial_branch="main").close()
