"""Queueing: from paths that a person names, or that lie in the inbox, to records."""

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dailies.clock import Clock, timestamp
from dailies.database import Database
from dailies.errors import ConfigError
from dailies.model import Metadata, Source, Video, file_identity, readable, slug, video_id
from dailies.sources import inbox
from dailies.sources.file import uri_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wishes:
    """What a person said while adding."""

    title: str | None = None
    tags: tuple[str, ...] = ()
    code: str | None = None
    remove_source: bool = False
    allow_duplicate: bool = False


@dataclass(frozen=True)
class Added:
    video: Video
    is_new: bool


@dataclass(frozen=True)
class Intake:
    """What became of the paths: records, and one line for each that was refused."""

    added: tuple[Added, ...]
    refused: tuple[str, ...]


def add(paths: Iterable[Path], wishes: Wishes, database: Database, root: Path, clock: Clock) -> Intake:
    """Queue files, and the media files of folders. What one path is wrong about does not stop the others."""
    files: list[Path] = []
    refused: list[str] = []
    for path in paths:
        if os.path.isdir(path):  # unlike Path's own, false and not an error for a name that is too long
            found = inbox.search(path)
            files += found.media
            refused += [f"{_shown(left)}: {why}" for left, why in found.left]
        elif os.path.isfile(path):
            files.append(path)
        else:
            refused.append(
                f"{_shown(path)}: {'is no regular file' if os.path.exists(path) else 'no such file or folder'}; check the path"
            )
    return _queue(files, refused, wishes, "add it again when it is complete", database, root, clock)


def scan_inbox(folder: Path, database: Database, root: Path, clock: Clock) -> Intake:
    """Queue what lies in the inbox; an inbox that is not there is empty."""
    found = inbox.search(folder)
    refused = [f"{_shown(path)}: {why}" for path, why in found.left]
    return _queue(list(found.media), refused, Wishes(), "it waits for the next run", database, root, clock)


def _queue(
    files: list[Path], refused: list[str], wishes: Wishes, later: str, database: Database, root: Path, clock: Clock
) -> Intake:
    added: list[Added] = []
    candidates: list[tuple[Path, Video]] = []
    for path in files:
        try:
            video = _video(path, wishes, root, clock)
        except OSError as error:
            refused.append(f"{_shown(path)}: cannot be read: {error.strerror}; make it readable for this user")
            continue
        known = database.with_identity(video.source.identity)
        if known is None:
            candidates.append((path, video))
        else:
            added.append(Added(known, is_new=False))
    unsettled = inbox.unsettled([path for path, _ in candidates], clock)
    for path, video in candidates:
        if path in unsettled:
            refused.append(f"{_shown(path)}: {unsettled[path]}; {later}")
            continue
        try:
            stored, is_new = database.add(video)
            added.append(Added(stored, is_new))
        except ConfigError as error:
            refused.append(str(error))
    return Intake(tuple(added), tuple(refused))


def _video(path: Path, wishes: Wishes, root: Path, clock: Clock) -> Video:
    """A new record for this file; raises OSError when it cannot be read."""
    uri = uri_of(path, root)
    identity, size = file_identity(path, uri)
    name = readable(path.name)
    code = slug(wishes.code or Path(name).stem)
    now = timestamp(clock.now())
    return Video(
        id=video_id(code, identity),
        code=code,
        title=wishes.title or Path(name).stem,
        source=Source(
            kind="file", uri=uri, original_name=name, size_bytes=size, identity=identity, remove_after_publish=wishes.remove_source
        ),
        duplicate_allowed=wishes.allow_duplicate,
        metadata=Metadata(tags=wishes.tags),
        edited_at={key: now for key, said in (("title", wishes.title), ("tags", wishes.tags), ("code", wishes.code)) if said},
        created_at=now,
        updated_at=now,
    )


def unknown(paths: Iterable[Path], database: Database, root: Path) -> list[Path]:
    """Those that have no record yet."""
    return [path for path in paths if database.with_identity(file_identity(path, uri_of(path, root))[0]) is None]


def _shown(path: Path) -> str:
    return readable(os.fspath(path))
