"""`dailies doctor`: is everything there that a run needs?"""

import os
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from dailies import actions, config, hosts, pipeline, scaffold, space
from dailies.clock import Deadline
from dailies.config import HostSettings
from dailies.errors import ConfigError, DailiesError, VideoError
from dailies.hosts import Host
from dailies.library import Library
from dailies.media import ffmpeg
from dailies.media.children import Children
from dailies.media.probe import probe
from dailies.model import uri_to_path
from dailies.policy import is_open
from dailies.process import run
from dailies.sources import lfs, storage

WORKFLOW: Final = ".github/workflows/batch.yml"
_LIMIT_S: Final = 60.0
_LOOKED_AT: Final = 1000  # queued files
_REPOSITORY_BYTES: Final = 5_000_000_000  # GitHub wants less than 10 GB
_WAYS: Final = "see docs/media-on-actions.md for the ways that work"
_UNSET: Final = "not set or empty; set it; in a workflow add it as a secret of the repository and name it in the env of batch.yml"
Verdict = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Check:
    """One finding; an `error` is a required check that fails (exit 2)."""

    name: str
    verdict: Verdict
    message: str


def examine(library: Library, *, is_live: bool = False) -> Iterator[Check]:
    """`is_live`: hosts are asked as well."""
    deadline = Deadline.after(library.clock, _LIMIT_S)
    yield Check("python", "ok", platform.python_version())
    yield _ffmpeg(library, deadline)
    yield _pyav(library, deadline)
    yield _git(library)
    yield from _hosts(library, deadline, is_live=is_live)
    yield from _listings(library)
    yield from _sources(library)
    yield from _workflow(library)
    yield from _media(library, deadline)
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
    with Children(library.work) as children:
        try:
            probe("nothing", Path(os.devnull), deadline, children=children)
        except VideoError:
            return Check("pyav", "ok", "decodes in a process of its own")
        except DailiesError as error:
            return Check("pyav", "error", str(error))
    return Check("pyav", "error", f"takes {os.devnull} for a video; install PyAV anew")


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
    size = library.repository.size_bytes()
    said = f"remotes: {', '.join(remotes) or 'none'}; {size / 1e6:.0f} MB of history"
    if size > _REPOSITORY_BYTES:
        return Check("git", "warning", f"{said}: GitHub wants less than 10 GB; take large files out, or keep them in Git LFS")
    return Check("git", "ok", said)


def _hosts(library: Library, deadline: Deadline, *, is_live: bool) -> Iterator[Check]:
    """Where any host that publishes is enough, one that fails is only a warning as long as another does not."""
    settings = library.settings
    found = {name: _credentials(name, host) for name, host in settings.hosts.items()}
    try:
        pipeline.check_place(library)
        for name, host in library.hosts.items():
            if is_live and found[name].verdict == "ok":
                found[name] = _preflight(name, host, deadline)
    except ConfigError as error:
        yield Check("hosts", "error", str(error))
    used = settings.publish.hosts
    is_any_enough = settings.publish.strategy == "fallback" and any(found[name].verdict == "ok" for name in used if name in found)
    for name, check in found.items():
        is_optional = is_any_enough or name not in used
        if check.verdict == "error" and is_optional:
            yield replace(check, verdict="warning")
        elif name not in {*used, *settings.publish.preview_hosts}:
            yield Check(check.name, "warning", f"{check.message}; no list in [publish] names it")
        else:
            yield check


def _credentials(name: str, host: HostSettings) -> Check:
    """An unset secret is an empty string in a workflow."""
    missing = [variable for variable in hosts.secret_names(host) if not config.environment().get(variable)]
    if missing:
        return Check(f"host {name}", "error", f"{', '.join(missing)}: {_UNSET}")
    return Check(f"host {name}", "ok", host.adapter)


def _preflight(name: str, host: Host, deadline: Deadline) -> Check:
    try:
        return Check(f"host {name}", "ok", host.preflight(deadline))
    except DailiesError as error:
        return Check(f"host {name}", "error", str(error))


def _listings(library: Library) -> Iterator[Check]:
    """A listing that fails fails no run; a host that nobody configured does."""
    variables = config.environment()
    for name, section in library.settings.listings.items():
        check = f"listing {name}"
        try:
            for host in section.hosts:
                library.check_host(host)
        except ConfigError as error:
            yield Check(check, "error", str(error))
            continue
        missing = sorted(variable for variable in section.secret_names() if not variables.get(variable))
        if missing:
            yield Check(check, "warning", f"{', '.join(missing)}: {_UNSET}")
            continue
        try:
            if section.folder:
                storage.enter(name, section, library.sources)
        except ConfigError as error:
            yield Check(check, "warning", str(error))
        else:
            yield Check(check, "ok", "a folder of storage" if section.folder else "a feed")


def _sources(library: Library) -> Iterator[Check]:
    """Links that could not be asked, or not be made fresh."""
    variables = config.environment()
    for host, site in library.settings.sources.sites.items():
        if site.authorization_env and not variables.get(site.authorization_env):
            yield Check(f"site {host}", "warning", f"{site.authorization_env}: {_UNSET}")
        if site.refresh_command and shutil.which(site.refresh_command[0]) is None:
            why = "no such program; install it, or correct refresh_command"
            yield Check(f"site {host}", "warning", f"{site.refresh_command[0]}: {why}")
    queued = (video.source.secret_env for video in library.database.videos() if is_open(video))
    for name in sorted({name for name in queued if name and not variables.get(name)}):
        yield Check("links", "warning", f"{name}: {_UNSET}; the video whose link it holds waits")


def _workflow(library: Library) -> Iterator[Check]:
    """The workflow hands over only those secrets that it names, and is read in the repository's top only."""
    path, needs = library.root / WORKFLOW, library.root / scaffold.REQUIREMENTS
    if needs.is_file() and scaffold.UNKNOWN in needs.read_text("utf-8", "replace"):
        yield Check("workflow", "warning", f"{scaffold.REQUIREMENTS}: does not say where Dailies comes from; put its address there")
    if not path.is_file():
        return
    if library.repository.exists() and library.repository.top() != library.root.resolve():
        yield Check("workflow", "warning", f"{WORKFLOW}: GitHub looks in the repository's top only; move it there with its paths")
    text = re.sub(r"(^|\s)#.*", "", path.read_text("utf-8", "replace"))  # a comment hands over nothing
    for name in sorted(library.secret_names()):
        if not re.search(rf"\b{re.escape(name)}\b", text):
            line = f"{name}: ${{{{ secrets.{name} }}}}"
            yield Check("workflow", "warning", f"{WORKFLOW} does not hand over {name}; add `{line}` to env of Check and Run")


def _media(library: Library, deadline: Deadline) -> Iterator[Check]:
    """Media must be where the run is (design, rule 8; docs/media-on-actions.md)."""
    files = [uri_to_path(video.source.uri) for video in library.database.videos() if is_open(video) and video.source.kind == "file"]
    inside = [path for path in files if not os.path.isabs(path)][:_LOOKED_AT]
    outside = [path for path in files if os.path.isabs(path) and not os.path.exists(path)]
    if outside:
        yield Check("media", "warning", f"{len(outside)} queued files are not on this machine, the first {outside[0]}; {_WAYS}")
    pointers = [path for path in inside if lfs.is_pointer(library.root / path)]
    if pointers:
        yield Check("media", "warning", f"{pointers[0]}: {lfs.REMEDY}")
    if (library.root / WORKFLOW).is_file() and library.repository.exists() and not actions.is_on():
        missing = library.repository.untracked(inside, deadline)
        if missing:
            yield Check(
                "media",
                "warning",
                f"{len(missing)} queued files are not in git, the first {missing[0]}: no hosted runner sees them; {_WAYS}",
            )


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
