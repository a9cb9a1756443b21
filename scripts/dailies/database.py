"""Records: load, save atomically, lock, list. One file per video under `database/videos/`."""

import contextlib
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from dailies import atomic, links, merge
from dailies.clock import Clock, timestamp
from dailies.errors import Blocked, Category, ConfigError
from dailies.locks import TIMEOUT_S, SharedLock
from dailies.model import ID_PATTERN, Kind, State, UploadStatus, Video, readable
from dailies.similar import Fingerprints

log = logging.getLogger(__name__)

_ID: Final = re.compile(ID_PATTERN)
_RECORD: Final = re.compile(rf"database/videos/([0-9a-f]{{2}})/{ID_PATTERN}\.json")
_OPEN: Final = frozenset({UploadStatus.IN_PROGRESS, UploadStatus.UNKNOWN})
_THERE: Final = _OPEN | {UploadStatus.SUCCESS}
_IN_USE: Final = frozenset({State.QUEUED, State.WORKING, State.DONE})
Restore = Callable[[Path], bytes | None]  # the committed content of a record, None where there is none


def to_json(record: BaseModel) -> bytes:
    """Keys sorted, two-space indent, UTF-8, newline at the end."""
    content = record.model_dump(mode="json", by_alias=True)
    return (json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()


def parse_video(content: bytes) -> Video:
    """Raises ValidationError."""
    return Video.model_validate_json(content)


def is_record(path: str) -> bool:
    """Whether a path of the library is that of a video's record; whatever else lies there is none."""
    return _RECORD.fullmatch(path) is not None


def is_readable(path: str, content: bytes) -> bool:
    """Whether this is the record that its path promises, of a version that this program knows."""
    with contextlib.suppress(ValueError):
        return parse_video(content).id == Path(path).stem
    return False


def _parsed(side: bytes | None) -> Any:
    """A side of a merge that cannot be read is none: what is known is merged without it."""
    with contextlib.suppress(ValueError):
        return json.loads(side) if side else None
    return None


class _Reason(BaseModel):
    category: str


class Glance(BaseModel):
    """What of a record `status` counts."""

    state: State
    deleted_at: str | None
    next_attempt_at: str | None
    last_error: _Reason | None


@dataclass
class Index:
    """What a pass over the records leaves in memory: who has which code, bytes and source."""

    by_code: dict[str, set[str]] = field(default_factory=dict)
    by_sha256: dict[str, set[str]] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    fingerprints: Fingerprints = field(default_factory=Fingerprints)
    by_file: dict[str, set[str]] = field(default_factory=dict)  # sha256 of the MP4
    unsettled: set[str] = field(default_factory=set)  # uploads that hosts must be asked about
    _keys: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    _holders: dict[str, Mapping[str, UploadStatus]] = field(default_factory=dict)  # hosts that have the video, or may have
    _lock: threading.Lock = field(default_factory=threading.Lock)  # one thread saves while another asks

    def put(self, video: Video) -> None:
        with self._lock:
            self._put(video)

    def _put(self, video: Video) -> None:
        self._forget(video.id)
        every = [upload for kinds in video.uploads.values() for upload in kinds.values()]
        is_kept = video.deleted_at is None
        if any(upload.status in _OPEN or (upload.is_settling and is_kept) for upload in every):
            self.unsettled.add(video.id)
        if not is_kept:
            return
        code, sha256, file = self._keys[video.id] = (video.code, video.source.sha256 or "", video.file.sha256 if video.file else "")
        self.states[video.id] = video.state
        self.by_code.setdefault(code, set()).add(video.id)
        self.by_sha256.setdefault(sha256, set()).add(video.id)
        self.by_file.setdefault(file, set()).add(video.id)
        self._put_uploads(video)
        self.fingerprints.put(video.id, video.file.phash if video.file else None, video.media.duration_s if video.media else None)

    def _forget(self, video_id: str) -> None:
        code, sha256, file = self._keys.pop(video_id, ("", "", ""))
        self._holders.pop(video_id, None)
        self.unsettled.discard(video_id)
        self.by_file.get(file, set()).discard(video_id)
        self.states.pop(video_id, None)
        self.by_code.get(code, set()).discard(video_id)
        self.by_sha256.get(sha256, set()).discard(video_id)
        self.fingerprints.put(video_id, None, None)

    def _put_uploads(self, video: Video) -> None:
        statuses = {host: kinds[Kind.VIDEO].status for host, kinds in video.uploads.items() if Kind.VIDEO in kinds}
        self._holders[video.id] = {host: status for host, status in statuses.items() if status in _THERE}

    def sent_twin(self, sha256: str, host: str, besides: str) -> str | None:
        """Another video with the same MP4 that this host has."""
        return self._twin(sha256, host, besides, frozenset({UploadStatus.SUCCESS}))

    def sending_twin(self, sha256: str, host: str, besides: str) -> str | None:
        """Another video with the same MP4 that this host is being sent, or may have."""
        return self._twin(sha256, host, besides, _OPEN)

    def _twin(self, sha256: str, host: str, besides: str, statuses: frozenset[UploadStatus]) -> str | None:
        with self._lock:
            others = self.by_file.get(sha256, set()) - {besides} if sha256 else set()
            return min((one for one in others if self._holders.get(one, {}).get(host) in statuses), default=None)

    def holder_of(self, sha256: str, besides: str) -> str | None:
        """The video that these bytes belong to: one that is done or on its way, the finished one first (design, rule 12)."""
        with self._lock:
            candidates = self.by_sha256.get(sha256, set()) - {besides} if sha256 else set()
            in_use = [video_id for video_id in candidates if self.states.get(video_id) in _IN_USE]
        return min(in_use, key=lambda video_id: (self.states[video_id] is not State.DONE, video_id), default=None)

    def similar_to(self, video: Video, *, distance: int, tolerance_s: float) -> str | None:
        """The video in use that looks most like this one: copies of it re-encoded, scaled or a little cut."""
        if video.file is None or video.file.phash is None or video.media is None:
            return None
        with self._lock:
            alike = self.fingerprints.near(video.file.phash, video.media.duration_s, distance=distance, tolerance_s=tolerance_s)
            return next((found for _, found in alike if found != video.id and self.states.get(found) in _IN_USE), None)


class Database:
    """The records of one library. Every read and write holds the lock, once for a pass or a save."""

    def __init__(
        self, root: Path, work: Path, clock: Clock, restore: Restore = lambda _: None, lock_timeout_s: float = TIMEOUT_S
    ) -> None:
        self.folder = root / "database"
        self.root = root
        self._clock = clock
        self._restore = restore
        self._lock = SharedLock(work / "records.lock", clock, lock_timeout_s)
        self._index: Index | None = None
        self.saves = 0  # records that were changed through this object

    def path_of(self, video_id: str) -> Path:
        """Raises ConfigError for what is no id: it must never become a path (design, rule 7)."""
        if not _ID.fullmatch(video_id):
            raise ConfigError(f"{video_id!r}: not a video id; see `dailies list`")
        return self.folder / "videos" / video_id[-12:-10] / f"{video_id}.json"

    def exists(self, video_id: str) -> bool:
        with self._lock.read():
            return self.path_of(video_id).exists()

    def load(self, video_id: str) -> Video:
        """Raises ConfigError when there is none, or it cannot be read nor restored."""
        with self._lock.read():
            content = self._content(self.path_of(video_id))
        if content is None:
            raise ConfigError(f"{video_id}: no such video; see `dailies list`")
        return self._parsed_or_restored(video_id, content)

    def save(self, video: Video, base: Video | None = None) -> Video:
        """Write the record whole; `updated_at` is set where something changed. Returns what was written.

        `base` is the record that `video` was made from: where the file is another by now (an edit, a merge), both are merged.
        """
        with self._lock.write():
            return self._store(video, base)

    def merge_in(self, changes: Mapping[str, tuple[bytes | None, bytes]]) -> int:
        """Merge records that others published, (base, theirs) by path, into those on disk; how many changed here.

        What is no valid record stays out: nothing that others commit can break this database.
        """
        changed = 0
        with self._lock.write():
            for path, (base, theirs) in changes.items():
                if not is_record(path):
                    log.warning("%s of the remote is not taken: no record has this name", readable(path))
                    continue
                changed += self._merge_file(self.path_of(Path(path).stem), base, theirs)
        if changed:
            self._index = None
        return changed

    def add(self, video: Video) -> tuple[Video, bool]:
        """(the record of this source, whether it is new): the same source is one record, whatever its code."""
        with self._lock.write():
            known = self._id_with_identity(video.source.identity)
            if known is None:
                self._refuse_blocked(video)
                return self._store(video), True
        return self.load(known), False

    def add_all(self, videos: Iterable[Video]) -> list[tuple[Video, bool] | Blocked]:
        """`add` for many, several times as fast; in their order, one that is blocked as its error."""
        wanted = [(video.source.identity[:12], video) for video in videos]
        with self._lock.write():
            known = self._ids_by_identity()
            blocked = {path.name.partition(".json.corrupt-")[0][-12:]: _named(path) for path in self._set_aside_before()}
            fresh = {key: video for key, video in reversed(wanted) if key not in known and key not in blocked}
            now = timestamp(self._clock.now())
            stored = {key: video.with_(updated_at=now) for key, video in fresh.items()}
            self.saves += len(stored)
            self._write_all(list(stored.values()))
            contents = {key: self._content(self.path_of(known[key])) for key, _ in wanted if key in known}
        found: list[tuple[Video, bool] | Blocked] = []
        told: set[str] = set()
        for key, _ in wanted:
            if key in stored:
                found.append((stored[key], key not in told))
                told.add(key)
            else:
                found.append(self._known(known[key], contents[key]) if key in known else Blocked(_blocked_message(blocked[key])))
        return found

    def _known(self, video_id: str, content: bytes | None) -> tuple[Video, bool] | Blocked:
        try:
            return (self._parsed_or_restored(video_id, content) if content is not None else self.load(video_id)), False
        except Blocked as error:
            return error

    def ids_by_identity(self) -> dict[str, str]:
        """First 12 digits of a source's identity to the id that ends with them, of all records."""
        with self._lock.read():
            return self._ids_by_identity()

    def _ids_by_identity(self) -> dict[str, str]:
        stems = (name.removesuffix(".json") for shard in self._folders() for name in os.listdir(shard) if name.endswith(".json"))
        return {stem[-12:]: stem for stem in stems}

    def scan(self) -> Iterator[Video]:
        """All records by path, deleted ones too; one that cannot be read is restored, else left to `blocked`.

        Read shard by shard under the lock and handed out without it: whoever iterates may save, and memory holds one shard.
        """
        for video_id, content in self._read():
            with contextlib.suppress(Blocked):
                yield self._parsed_or_restored(video_id, content)

    def glances(self) -> Iterator[Glance]:
        """The little that status needs of all records that are not deleted, several times as fast as a whole pass."""
        for video_id, content in self._read():
            try:
                glance = Glance.model_validate_json(content)
            except ValueError:
                try:
                    glance = Glance.model_validate(self._parsed_or_restored(video_id, content).model_dump())
                except Blocked:
                    continue
            if glance.deleted_at is None:
                yield glance

    def _read(self) -> Iterator[tuple[str, bytes]]:
        for shard in self._shards():
            with self._lock.read():
                names = sorted(name for name in os.listdir(shard) if name.endswith(".json"))
                contents = [(name.removesuffix(".json"), self._content(shard / name)) for name in names]
            yield from ((video_id, content) for video_id, content in contents if content is not None)

    def videos(self) -> Iterator[Video]:
        """All records that are not deleted."""
        return (video for video in self.scan() if video.deleted_at is None)

    def index(self) -> Index:
        """Built by the first call in one pass, kept current by `save`."""
        if self._index is None:
            index = Index()
            for video in self.scan():
                index.put(video)
            self._index = index
        return self._index

    def resolve(self, name: str) -> str:
        """The id of an id or a code. Raises ConfigError: unknown, or a code that several videos have."""
        if _ID.fullmatch(name) and self.exists(name):
            return name
        found = sorted(self.index().by_code.get(name, ()))
        if not found:
            raise ConfigError(f"{name}: no video has this id or code; see `dailies list`")
        if len(found) > 1:
            raise ConfigError(f"{name}: {len(found)} videos have this code: {', '.join(found)}; give the id")
        return found[0]

    def is_processed(self, *, code: str | None = None, url: str | None = None) -> bool:
        """True only when a host has the video."""
        if code is not None:
            return any(self.load(video_id).is_published() for video_id in self.index().by_code.get(code, ()))
        same = {links.identity(url), links.identity(url, keeps_query=True)} if url and links.is_link(url) else set()
        return any(video.is_published() for video in self.videos() if video.source.uri == url or video.source.identity in same)

    def blocked(self) -> list[str]:
        """A line for each record that was set aside and could not be taken back (design, rule 12)."""
        with self._lock.read():
            aside = {_named(path) for path in self._set_aside_before()}
            return [_blocked_message(path) for path in sorted(aside) if not path.exists()]

    def _shards(self) -> list[Path]:
        with self._lock.read():
            return self._folders()

    def _set_aside_before(self) -> Iterable[Path]:
        return (shard / name for shard in self._folders() for name in os.listdir(shard) if ".json.corrupt-" in name)

    def _folders(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("videos/*") if path.is_dir())

    def _merge_file(self, path: Path, base: bytes | None, theirs: bytes) -> bool:
        ours = self._content(path)
        try:
            self._checked(path.stem, theirs)
            before, here = _parsed(base), _parsed(ours)
            video = self._checked(path.stem, json.dumps(merge.merge(before, here, json.loads(theirs))).encode())
        except ValueError as error:
            log.warning("record %s of the remote is not taken: %s", path.stem, _first_line(error))
            return False
        if to_json(video) == ours:
            return False
        if ours is not None and here is None:
            self._set_aside(path)
        self._write(path, video)
        return True

    @staticmethod
    def _joined(base: Video, ours: Video, theirs: Video) -> Video:
        sides = (side.model_dump(mode="json", by_alias=True) for side in (base, ours, theirs))
        return Video.model_validate(merge.merge(*sides))

    def _store(self, video: Video, base: Video | None = None) -> Video:
        path = self.path_of(video.id)
        before = self._content(path)
        if before is not None:
            try:
                known = self._checked(video.id, before)
            except ValueError:
                self._set_aside(path)
            else:
                if base is not None and known != base:
                    video = self._joined(base, video, known)
                if known.with_(updated_at=video.updated_at) == video:
                    return known  # the time of a change is no change
        video = video.with_(updated_at=timestamp(self._clock.now()))
        self._write(path, video)
        self.saves += 1
        if self._index is not None:
            self._index.put(video)
        return video

    def _write_all(self, videos: Collection[Video]) -> None:
        """New ones."""
        contents = {self.path_of(video.id): to_json(video) for video in videos}
        try:
            atomic.write_all(contents)
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        if self._index is not None:
            for video in videos:
                self._index.put(video)

    @staticmethod
    def _write(path: Path, video: Video) -> None:
        try:
            atomic.write(path, to_json(video))
        except OSError as error:
            raise _unwritable(path, error) from error

    def _id_with_identity(self, identity: str) -> str | None:
        shard = self.folder / "videos" / identity[:2]
        for path in sorted(shard.glob(f"*-{identity[:12]}.json")):
            return path.stem
        return None

    def _refuse_blocked(self, video: Video) -> None:
        for aside in self.path_of(video.id).parent.glob(f"*-{video.source.identity[:12]}.json.corrupt-*"):
            raise Blocked(_blocked_message(_named(aside)))

    @staticmethod
    def _content(path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}; check its permissions", Category.DATABASE) from error

    def _parsed_or_restored(self, video_id: str, content: bytes) -> Video:
        try:
            return self._checked(video_id, content)
        except ValueError as error:
            with self._lock.write():
                return self._take_back(self.path_of(video_id), content, _first_line(error))

    @staticmethod
    def _checked(video_id: str, content: bytes) -> Video:
        video = parse_video(content)
        if video.id != video_id:
            raise ValueError(f"the file of {video_id} holds the record of {video.id}")
        return video

    def _take_back(self, path: Path, content: bytes, reason: str) -> Video:
        """Set the broken file aside and take the record from the last commit; unless somebody has put it right meanwhile."""
        now = self._content(path)
        if now not in (None, content):
            return self._parsed_or_blocked(path, now)
        aside = self._set_aside(path)
        committed = self._restore(path.relative_to(self.root))
        video = self._parsed_or_blocked(path, committed)
        log.warning(
            "record %s could not be read (%s): taken back from the last commit, set aside as %s", path.stem, reason, aside.name
        )
        self._write(path, video)
        return video

    def _parsed_or_blocked(self, path: Path, content: bytes | None) -> Video:
        try:
            return self._checked(path.stem, content or b"")
        except ValueError as error:
            raise Blocked(_blocked_message(path)) from error

    def _set_aside(self, path: Path) -> Path:
        """Never overwritten, never deleted: the broken file gets another name."""
        moment = timestamp(self._clock.now()).replace(":", "")
        aside = path.with_name(f"{path.name}.corrupt-{moment}-{os.urandom(3).hex()}")
        with contextlib.suppress(FileNotFoundError):
            path.rename(aside)
        return aside


def _unwritable(path: Path, error: OSError) -> ConfigError:
    why = f"{path}: cannot be written: {error.strerror}; free the disk or make database/ writable"
    return ConfigError(why, Category.DATABASE)


def _named(aside: Path) -> Path:
    """The record that `aside` was."""
    return aside.with_name(aside.name.partition(".corrupt-")[0])


def _first_line(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        fault = error.errors(include_url=False)[0]
        return readable(f"{'.'.join(map(str, fault['loc'])) or 'record'}: {fault['msg']}")
    return str(error)


def _blocked_message(path: Path) -> str:
    return (
        f"{path}: this record cannot be read and the last commit does not have it; it was set aside as "
        f"{path.name}.corrupt-…: repair that file and name it {path.name} again, or delete it to start the video anew"
    )
