"""Queueing: from paths that a person names, or that lie in the inbox, to records."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dailies.clock import Clock, Deadline, timestamp
from dailies.database import Database
from dailies.errors import Blocked
from dailies.model import Metadata, Source, Video, file_identity, readable, slug, video_id
from dailies.sources import inbox, lfs
from dailies.sources.file import uri_of


@dataclass(frozen=True)
class Wishes:
    """What a person said while adding."""

    title: str | None = None
    tags: tuple[str, ...] = ()
    code: str | None = None
    remove_source: bool = False
    allow_duplicate: bool = False
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Added:
    video: Video
    is_new: bool


@dataclass(frozen=True)
class Intake:
    """What became of the paths: records, and one line for each that was refused."""

    added: tuple[Added, ...]
    refused: tuple[str, ...]


@dataclass(frozen=True)
class Desk:
    """Where things are queued."""

    database: Database
    root: Path
    clock: Clock
    deadline: Deadline

    def take(self, files: Iterable[Path], wishes: Wishes, later: str) -> Intake:
        """Queue these files. `later`: what a file that is still being written is told."""
        added: list[Added] = []
        refused: list[str] = []
        candidates: list[tuple[Path, Video]] = []
        known = self.database.ids_by_identity()
        for path in files:
            self.deadline.check()
            try:
                video = _video(path, wishes, self.root, self.clock)
            except OSError as error:
                refused.append(f"{_shown(path)}: cannot be read: {error.strerror}; make it readable for this user")
                continue
            if video.source.identity[:12] not in known:
                candidates.append((path, video))
                continue
            try:
                added.append(Added(self.database.load(known[video.source.identity[:12]]), is_new=False))
            except Blocked as error:
                refused.append(str(error))
        unsettled = inbox.unsettled([path for path, _ in candidates], self.clock)
        refused += [f"{_shown(path)}: {why}; {later}" for path, why in unsettled.items()]
        for path, video in candidates:
            self.deadline.check()
            if path not in unsettled:
                try:
                    added.append(Added(*self.database.add(video)))
                except Blocked as error:
                    refused.append(str(error))
        return Intake(tuple(added), tuple(refused))


def add(paths: Iterable[Path], wishes: Wishes, desk: Desk) -> Intake:
    """Queue files, and the media files of folders. What one path is wrong about does not stop the others."""
    files: list[Path] = []
    refused: list[str] = []
    for path in paths:
        if os.path.isdir(path):  # unlike Path's own, false and not an error for a name that is too long
            found = inbox.search(path)
            files += found.media
            refused += [f"{_shown(left)}: {why}" for left, why in found.left]
        elif lfs.is_pointer(path):
            refused.append(f"{_shown(path)}: {lfs.REMEDY}")
        elif os.path.isfile(path):
            files.append(path)
        else:
            what = "is no regular file" if os.path.exists(path) else "no such file or folder"
            refused.append(f"{_shown(path)}: {what}; check the path")
    taken = desk.take(files, wishes, "add it again when it is complete")
    return Intake(taken.added, (*refused, *taken.refused))


def scan_inbox(folder: Path, desk: Desk) -> Intake:
    """Queue what lies in the inbox and is not known yet; an inbox that is not there is empty."""
    found = inbox.search(folder)
    fresh = unknown(found.media, desk)
    taken = desk.take(fresh, Wishes(), "it waits for the next run")
    return Intake(taken.added, (*(f"{_shown(path)}: {why}" for path, why in found.left), *taken.refused))


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
        hosts=wishes.hosts,
        metadata=Metadata(tags=wishes.tags),
        edited_at={key: now for key, said in (("title", wishes.title), ("tags", wishes.tags), ("code", wishes.code)) if said},
        created_at=now,
        updated_at=now,
    )


def edited(
    video: Video, clock: Clock, *, title: str | None, description: str | None, add: Iterable[str], remove: Iterable[str]
) -> Video:
    """The video as a person wants it, with the time of each edit; itself where nothing changes."""
    said = {"title": title, "description": description}
    tags = tuple(sorted({*video.metadata.tags, *add} - set(remove)))
    metadata = video.metadata.model_copy(
        update={"tags": tags, "description": description if description is not None else video.metadata.description}
    )
    changed = video.with_(title=title if title is not None else video.title, metadata=metadata)
    if changed == video:
        return video
    now = timestamp(clock.now())
    return changed.with_(edited_at={**video.edited_at, **{key: now for key, value in said.items() if value is not None}})


def unknown(paths: Iterable[Path], desk: Desk) -> list[Path]:
    """Those that have no record yet; what cannot be read is among them, so that it is told."""
    known = desk.database.ids_by_identity()
    return [path for path in paths if _identity(path, desk) not in known]


def _identity(path: Path, desk: Desk) -> str | None:
    desk.deadline.check()
    try:
        return file_identity(path, uri_of(path, desk.root))[0][:12]
    except OSError:
        return None


def _shown(path: Path) -> str:
    return readable(os.fspath(path))
