"""The door to git: a repository opened briefly, each command in a group of its own under its limit, and what its failure means."""

import base64
import contextlib
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

from git import GitCommandError, GitCommandNotFound, InvalidGitRepositoryError, NoSuchPathError, Repo

from dailies.clock import Deadline
from dailies.config import environment
from dailies.errors import ConfigError, NotPublished
from dailies.process import OWNER_VARIABLE, output_of, owner_tag

SAFE: Final = "the records are safe on this disk"
_QUIET: Final = {"GIT_TERMINAL_PROMPT": "0", "GIT_EDITOR": "true", "LC_ALL": "C"}  # never ask, never open an editor
_REMOTE_COMMANDS: Final = frozenset({"push", "fetch", "ls-remote"})


class Trouble(StrEnum):
    """What to do after a command that failed."""

    RACE = "race"  # somebody was faster: merge and push again
    NETWORK = "network"  # may pass: again after a while
    REFUSED = "refused"  # a person must act
    LOCAL = "local"  # this repository itself


# From git's and GitHub's own messages; the first that matches decides (facts/actions 2.4).
_RACE: Final = "non-fast-forward|fetch first|cannot lock ref|failed to update ref|incorrect old value|stale info"
_REFUSED: Final = (
    "denied| 403| 401|protected branch|GH001|GH006|GH013|authentication failed|could not read username|hook declined"
    "|file size limit|remote rejected|not allowed to push"
)
_NETWORK: Final = (
    "could not resolve|unable to access|not appear to be a git|timed out|connection|early eof|hung up|returned error: 5"
    "|took longer|could not read from remote|disconnect|sideband|broken pipe|rpc failed"
)
_HOOK: Final = "failed to push some refs"  # and nothing else said: a hook of the person's did not want it
_SIZE: Final = re.compile("GH001|file size limit|exceeds .*limit", re.IGNORECASE)
_SIGNS: Final = ((Trouble.RACE, _RACE), (Trouble.REFUSED, _REFUSED), (Trouble.NETWORK, _NETWORK), (Trouble.REFUSED, _HOOK))
_REMEDIES: Final = {
    Trouble.RACE: "others push all the time: run again",
    Trouble.REFUSED: "give this user or token write access to the branch, or set [git] branch to one it may write",
    Trouble.NETWORK: "look whether the remote can be reached, then run again",
    Trouble.LOCAL: "look at `git status`",
}
_SIZE_REMEDY: Final = "take the large file out of the commits that were not pushed, or keep it in Git LFS"


def trouble_of(said: str) -> Trouble:
    """Which kind of trouble git's words mean."""
    return next((trouble for trouble, signs in _SIGNS if re.search(signs, said, re.IGNORECASE)), Trouble.LOCAL)


class GitError(NotPublished):
    """A git command that failed, with what to do next."""

    def __init__(self, name: str, said: str, *, was_ended: bool = False) -> None:
        self.was_ended = was_ended  # by us, so that it may have left its locks
        words = " ".join(said.split()).removeprefix("stderr: ").strip("'")
        found = trouble_of(words)
        # what a remote command says in other words is tried again rather than given up
        self.trouble = Trouble.NETWORK if found is Trouble.LOCAL and name in _REMOTE_COMMANDS else found
        remedy = _SIZE_REMEDY if _SIZE.search(words) else _REMEDIES[self.trouble]
        super().__init__(f"git {name}: {words}: {remedy}; {SAFE}")


def found(folder: Path) -> Repo | None:
    """The repository that a folder is in, to be closed by the caller."""
    with contextlib.suppress(InvalidGitRepositoryError, NoSuchPathError):
        return Repo(folder, search_parent_directories=True)
    return None


@contextlib.contextmanager
def opened(root: Path, work: Path) -> Iterator[Repo]:
    """Only briefly: GitPython leaks processes in long ones. Raises ConfigError, GitError."""
    repo = found(root)
    if repo is None:
        raise ConfigError(f"{root}: not in a git repository; `git init` it, or run with --no-commit")
    try:
        with repo.git.custom_environment(**_QUIET, **_credentials(), **{OWNER_VARIABLE: owner_tag(work)}):
            yield repo
    except GitCommandNotFound as error:
        raise ConfigError("git: cannot be started; install git") from error
    except GitCommandError as error:
        raise GitError(str(error.command[-1]), str(error.stderr) or f"exit code {error.status}") from error
    finally:
        repo.close()


def command(repo: Repo, deadline: Deadline, limit_s: float, *arguments: str) -> str:
    """One git command in a group of its own, ended after its limit or on a stop. Raises GitError, Interrupted."""
    name = next(word for word in arguments if not word.startswith("-") and "=" not in word)
    limited = deadline.within(limit_s, lambda: GitError(name, f"took longer than {limit_s:.0f} s", was_ended=True))
    running = repo.git.execute(["git", *arguments], as_process=True, start_new_session=True)  # lives as long as this name
    child = running.proc
    assert child is not None, "it was just started"
    out, err = output_of(child, limited)
    if child.returncode != 0:
        raise GitError(name, err.decode("utf-8", "replace").strip() or f"exit code {child.returncode}")
    return str(out.decode("utf-8", "surrogateescape"))


def _credentials() -> Mapping[str, str]:
    """A workflow's token, for its own server only: neither on disk, where an artifact might take it along, nor in any argv.

    The form is that of actions/checkout (facts/actions 1.6).
    """
    token, server = environment().get("DAILIES_GIT_TOKEN"), environment().get("GITHUB_SERVER_URL")
    if not token or not server:
        return {}
    header = base64.b64encode(f"x-access-token:{token}".encode()).decode()
    key, value = f"http.{server}/.extraheader", f"AUTHORIZATION: basic {header}"
    return {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": key, "GIT_CONFIG_VALUE_0": value}
