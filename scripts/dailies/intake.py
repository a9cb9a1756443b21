"""Queueing: from paths and links that a person names, or that lie in the inbox, to records."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from dailies import links
from dailies.clock import Clock, Deadline, timestamp
from dailies.database import Database
from dailies.errors import Blocked, ConfigError
from dailies.hosts.places import address
from dailies.model import Metadata, Source, Video, file_identity, readable, slug, video_id
from dailies.sources import inbox, lfs
from dailies.sources.file import uri_of

_PLAYLISTS: Final = (".m3u8", ".m3u")
_AT_ONCE: Final = 1000  # records that are stored while others wait for the database


@dataclass(frozen=True)
class Wishes:
    """What a person said while adding."""

    title: str | None = None
    tags: tuple[str, ...] = ()
    code: str | None = None
    remove_source: bool = False
    allow_duplicate: bool = False
    hosts: tuple[str, ...] = ()
    keep_query: bool = False  # the query is part of which link it is
    secret_env: str | None = None  # the variable that holds the link
    sha256: str | None = None  # of the file that is promised
    description: str | None = None
    release_date: str | None = None
    listing: str | None = None  # it was no person who said this, but the source by this name


@dataclass(frozen=True)
class Item:
    """One name to queue: a path or a link. `where` stands in front of what is said about it, as the line of a list.

    `source` is given by who has looked at what is there: then nothing is guessed from the name.
    """

    name: str | Path
    wishes: Wishes
    where: str = ""
    source: Source | None = None

    def told(self, why: str) -> str:
        return f"{self.where}: {why}" if self.where else why


@dataclass(frozen=True)
class Added:
    """`is_unheard`: it was known, and what was said of it now is in no record; `is_other_query`: its link ended otherwise."""

    video: Video
    is_new: bool
    where: str = ""
    is_unheard: bool = False
    is_other_query: bool = False


@dataclass(frozen=True)
class Intake:
    """What became of the names: records, and one line for each that was refused."""

    added: tuple[Added, ...]
    refused: tuple[str, ...]


@dataclass(frozen=True)
class Desk:
    """Where things are queued."""

    database: Database
    root: Path
    clock: Clock
    deadline: Deadline

    def take(self, files: Iterable[Item], later: str) -> Intake:
        """Queue these files. `later`: what a file that is still being written is told."""
        added: list[Added] = []
        refused: list[str] = []
        candidates: list[tuple[Item, Video]] = []
        known = self.database.ids_by_identity()
        for item in files:
            self.deadline.check()
            path = Path(item.name)
            try:
                video = _video(path, item.wishes, self.root, self.clock)
            except OSError as error:
                refused.append(item.told(f"{_shown(path)}: cannot be read: {error.strerror}; make it readable for this user"))
                continue
            if video.source.identity[:12] not in known:
                candidates.append((item, video))
                continue
            try:
                added.append(_known(self.database.load(known[video.source.identity[:12]]), item))
            except Blocked as error:
                refused.append(item.told(str(error)))
        unsettled = inbox.unsettled([Path(item.name) for item, _ in candidates], self.clock)
        waiting = [(item, why) for item, _ in candidates if (why := unsettled.get(Path(item.name)))]
        refused += [item.told(f"{_shown(Path(item.name))}: {why}; {later}") for item, why in waiting]
        taken = self._take_all([(item, video) for item, video in candidates if Path(item.name) not in unsettled])
        return Intake((*added, *taken.added), (*refused, *taken.refused))

    def take_links(self, items: Iterable[Item]) -> Intake:
        """Queue what links lead to, without asking for it."""
        made: list[tuple[Item, Video]] = []
        refused: list[str] = []
        for item in items:
            try:
                made.append((item, _linked(item, self.clock)))
            except ConfigError as error:
                refused.append(item.told(str(error)))
        taken = self._take_all(made)
        return Intake(taken.added, (*refused, *taken.refused))

    def _take_all(self, made: Sequence[tuple[Item, Video]]) -> Intake:
        added: list[Added] = []
        refused: list[str] = []
        for start in range(0, len(made), _AT_ONCE):
            self.deadline.check()
            some = made[start : start + _AT_ONCE]
            for (item, _), found in zip(some, self.database.add_all(video for _, video in some), strict=True):
                if isinstance(found, Blocked):
                    refused.append(item.told(str(found)))
                else:
                    added.append(Added(found[0], is_new=True, where=item.where) if found[1] else _known(found[0], item))
        return Intake(tuple(added), tuple(refused))


def _known(video: Video, item: Item) -> Added:
    said = replace(item.wishes, keep_query=False, secret_env=None)  # which link it is, and nothing about it
    return Added(video, False, item.where, is_unheard=said != Wishes(), is_other_query=_has_other_query(video, item))


def _has_other_query(video: Video, item: Item) -> bool:
    name, uri = str(item.name), video.source.uri
    if item.wishes.secret_env or video.source.secret_env or not (links.is_link(name) and links.is_link(uri)):
        return False
    return not item.wishes.keep_query and links.parse(name).query != links.parse(uri).query


def add(names: Iterable[str | Path], wishes: Wishes, desk: Desk) -> Intake:
    """Queue files, the media files of folders, and links. What one is wrong about does not stop the others."""
    return add_all([Item(name, wishes) for name in names], desk)


def add_all(items: Iterable[Item], desk: Desk) -> Intake:
    """`add`, each as it is wished for."""
    webbed: list[Item] = []
    files: list[Item] = []
    refused: list[str] = []
    for item in items:
        if links.is_link(str(item.name)):
            webbed.append(item)
            continue
        path = Path(item.name)
        if os.path.isdir(path):  # unlike Path's own, false and not an error for a name that is too long
            found = inbox.search(path)
            files += [replace(item, name=one) for one in found.media]
            refused += [item.told(f"{_shown(left)}: {why}") for left, why in found.left]
        elif lfs.is_pointer(path):
            refused.append(item.told(f"{_shown(path)}: {lfs.REMEDY}"))
        elif os.path.isfile(path):
            files.append(item)
        else:
            what = "is no regular file" if os.path.exists(path) else "no such file or folder"
            refused.append(item.told(f"{_shown(path)}: {what}; check the path"))
    linked = desk.take_links(webbed)
    taken = desk.take(files, "add it again when it is complete")
    return Intake((*linked.added, *taken.added), (*refused, *linked.refused, *taken.refused))


def _video(path: Path, wishes: Wishes, root: Path, clock: Clock) -> Video:
    """A new record for this file; raises OSError when it cannot be read."""
    uri = uri_of(path, root)
    identity, size = file_identity(path, uri)
    name = readable(path.name)
    source = Source(kind="file", uri=uri, original_name=name, size_bytes=size, identity=identity)
    source = source.model_copy(update={"remove_after_publish": wishes.remove_source, "expected_sha256": wishes.sha256})
    return _queued(source, Path(name).stem, wishes, clock)


def _linked(item: Item, clock: Clock) -> Video:
    """A new record for what this leads to; raises ConfigError where it is no link, or where what only files have is wished for."""
    url, wishes = str(item.name), item.wishes
    if item.source is not None:
        return _queued(item.source, links.title_of(url), wishes, clock)
    scheme = links.parse(url).scheme.lower()
    if scheme in address.SCHEMES:
        raise ConfigError(
            f'{links.shown(url)}: is looked through, not added; put it into dailies.toml as [listings.NAME] folder = "…"'
        )
    if scheme not in links.SCHEMES:
        raise ConfigError(f"{links.shown(url)}: {scheme}: no source speaks it; give a link of https or http")
    if wishes.remove_source:
        raise ConfigError(f"{links.shown(url)}: nothing is deleted on a server; add it without --move")
    name = links.name_of(url)
    source = Source(
        kind="hls" if name.lower().endswith(_PLAYLISTS) else "http",  # a guess: its content decides
        uri=links.origin(url) if wishes.secret_env else links.without_fragment(url),
        original_name=links.host_of(url) if wishes.secret_env else name,
        size_bytes=0,
        identity=links.identity(url, keeps_query=wishes.keep_query),
        expected_sha256=wishes.sha256,
        secret_env=wishes.secret_env,
    )
    return _queued(source, source.original_name if wishes.secret_env else links.title_of(url), wishes, clock)


def _queued(source: Source, title: str, wishes: Wishes, clock: Clock) -> Video:
    code = slug(wishes.code or title)
    now = timestamp(clock.now())
    fields = ("title", "tags", "code", "description", "release_date")
    said = [field for field in fields if getattr(wishes, field)]
    is_person = wishes.listing is None
    return Video(
        id=video_id(code, source.identity),
        code=code,
        title=wishes.title or title,
        source=source,
        duplicate_allowed=wishes.allow_duplicate,
        hosts=wishes.hosts,
        metadata=Metadata(
            tags=wishes.tags,
            description=wishes.description or "",
            release_date=wishes.release_date,
            provenance={} if is_person else {field: f"listing:{wishes.listing}" for field in said if field != "code"},
        ),
        edited_at=dict.fromkeys(said, now) if is_person else {},
        created_at=now,
        updated_at=now,
    )


def edited(
    video: Video, clock: Clock, *, title: str | None, description: str | None, add: Iterable[str], remove: Iterable[str]
) -> Video:
    """The video as a person wants it, with the time of each edit; itself where nothing changes."""
    title, description = (readable(text) if text is not None else None for text in (title, description))
    said = {"title": title, "description": description}
    tags = tuple(sorted({*video.metadata.tags, *map(readable, add)} - set(map(readable, remove))))
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


def unknown_items(items: Iterable[Item], desk: Desk) -> dict[str | None, list[Item]]:
    """Those that have no record yet, by the identity that records know; None: of what cannot be read."""
    known = desk.database.ids_by_identity()
    found: dict[str | None, list[Item]] = {}
    for item in items:
        identity = _identity_of(item, desk)
        if identity not in known:
            found.setdefault(identity, []).append(item)
    return found


def _identity_of(item: Item, desk: Desk) -> str | None:
    if item.source is not None:
        return item.source.identity[:12]
    if isinstance(item.name, Path):
        return _identity(item.name, desk)
    return links.identity(item.name, keeps_query=item.wishes.keep_query)[:12]


def _identity(path: Path, desk: Desk) -> str | None:
    desk.deadline.check()
    try:
        return file_identity(path, uri_of(path, desk.root))[0][:12]
    except OSError:
        return None


def _shown(path: Path) -> str:
    return readable(os.fspath(path))
