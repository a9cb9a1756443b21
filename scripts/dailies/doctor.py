"""`dailies doctor`: is everything there that a run needs?"""

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from dailies import pipeline, space
from dailies.clock import Deadline
from dailies.errors import ConfigError, DailiesError
from dailies.library import Library
from dailies.media import ffmpeg
from dailies.process import run, run_module

_LIMIT_S = 60.0
Verdict = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Check:
    """One finding; an `error` is a required check that fails (exit 2)."""

    name: str
    verdict: Verdict
    message: str


def examine(library: Library) -> Iterator[Check]:
    deadline = Deadline.after(library.clock, _LIMIT_S)
    yield Check("python", "ok", platform.python_version())
    yield _ffmpeg(library, deadline)
    yield _pyav(library, deadline)
    yield _git(library)
    yield from _hosts(library)
    yield _disk(library)
    yield from _folders(library)
    yield _records(library)


def _ffmpeg(library: Library, deadline: Deadline) -> Check:
    try:
        said = run([ffmpeg.executable(), "-hide_banner", "-encoders"], deadline, work=library.work)
        version = run([ffmpeg.executable(), "-version"], deadline, work=library.work)
    except DailiesError as error:
        return Check("ffmpeg", "error", str(error))
    missing = [name for name in ("libx264", "aac", "mov_text") if f" {name} ".encode() not in said.stdout]
    if said.code != 0 or missing:
        return Check(
            "ffmpeg", "error", f"{ffmpeg.executable()}: lacks {', '.join(missing) or said.last_words()}; unset DAILIES_FFMPEG"
        )
    return Check("ffmpeg", "ok", version.stdout.decode("utf-8", "replace").splitlines()[0].partition(" Copyright")[0])


def _pyav(library: Library, deadline: Deadline) -> Check:
    """A probe of nothing: the child must start and say that an empty file is empty."""
    said = run_module("dailies.media.worker", [os.devnull, "header"], deadline, work=library.work)
    return Check("pyav", "ok", "decodes in a process of its own") if said.code == 0 else Check("pyav", "error", said.last_words())


def _git(library: Library) -> Check:
    if shutil.which("git") is None:
        return Check("git", "error", "not found; install git")
    if not library.repository.exists():
        return Check(
            "git", "warning", f"{library.root} is not in a git repository: records are kept but not committed; `git init` it"
        )
    remotes = library.repository.remotes()
    if library.settings.git.push and library.settings.git.remote not in remotes:
        return Check("git", "warning", f"no remote {library.settings.git.remote}: commits stay on this machine")
    return Check("git", "ok", f"remotes: {', '.join(remotes) or 'none'}")


def _hosts(library: Library) -> Iterator[Check]:
    try:
        pipeline.check_place(library)
        for name in library.hosts:
            used = name in library.settings.publish.hosts
            yield Check(
                f"host {name}",
                "ok" if used else "warning",
                library.settings.hosts[name].adapter + ("" if used else ", not in [publish] hosts"),
            )
    except ConfigError as error:
        yield Check("hosts", "error", str(error))


def _disk(library: Library) -> Check:
    available = library.space.available()
    free = f"{space.free_bytes(library.root) / 1e9:.1f} GB free, {max(0, available) / 1e9:.1f} GB can be promised"
    if available <= 0:
        return Check("disk", "error", f"{free}; free some space or lower [space] floor")
    return Check("disk", "ok", free)


def _folders(library: Library) -> Iterator[Check]:
    for name, path in (("database", library.database.folder), ("work", library.work)):
        if not os.access(path if path.exists() else library.root, os.W_OK):
            yield Check(name, "error", f"{path}: cannot be written; change its permissions")
    if not library.inbox.is_dir():
        yield Check("inbox", "warning", f"{library.inbox}: is not there; make it, or name another in [library] inbox")


def _records(library: Library) -> Check:
    count = sum(1 for _ in library.database.videos())
    blocked = library.database.blocked()
    if blocked:
        return Check("records", "error", f"{count} videos; {blocked[0]}")
    return Check("records", "ok", f"{count} videos")
