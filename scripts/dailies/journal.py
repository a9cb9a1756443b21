"""The audit: every attempt to upload is a line of JSON, in `logs/uploads.log` and in `database/events/<year-month>.jsonl`."""

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout
from pydantic import ConfigDict

from dailies import atomic
from dailies.clock import parse_timestamp, timestamp
from dailies.errors import Category, ConfigError, NotPublished
from dailies.model import Kind, Record, Timestamp, UploadStatus, Video

FOLDER: Final = "database/events/"
LOG: Final = "logs/uploads.log"
LOG_BYTES: Final = 10_000_000
LOG_COUNT: Final = 5  # older ones go
_LOCK_S: Final = 30.0


class Event(Record):
    """One attempt and what came of it. `upload_id` is the host's own id; `bytes` and `seconds` of the sending."""

    model_config = ConfigDict(frozen=True, extra="allow", use_enum_values=True)
    timestamp: Timestamp
    video_id: str
    host: str
    kind: Kind
    status: UploadStatus
    attempt_id: str | None = None
    upload_id: str | None = None
    retry_count: int = 0
    error_message: str | None = None
    metadata: Mapping[str, Any] = {}
    bytes: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, video: Video, host: str, kind: Kind, moment: str, **more: Any) -> "Event":
        """How an upload of the video stands from this moment on; `more` says what the record does not."""
        upload = video.upload(host, kind)
        fields = {
            "attempt_id": upload.attempt_id,
            "upload_id": upload.remote_id,
            "retry_count": upload.retry_count,
            "error_message": upload.error,
            "metadata": {"title": video.title, "sha256": upload.sha256},
        }
        return cls(timestamp=moment, video_id=video.id, host=host, kind=kind, status=upload.status, **{**fields, **more})


class Journal:
    """The events of one library; writers in any number of threads and processes."""

    def __init__(self, root: Path, work: Path) -> None:
        self._folder = root / FOLDER
        self._log = root / LOG
        self._lock = work / "events.lock"

    def write(self, event: Event) -> None:
        """Raises ConfigError where it cannot be written."""
        line = json.dumps(event.model_dump(mode="json"), ensure_ascii=False, sort_keys=True)
        path = self._folder / f"{event.timestamp[:7]}.jsonl"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked():
                _append(path, line.encode())
                self._rotated(line)
        except Timeout:  # one line is written whole or not at all; an upload is not given up for its note
            _append(path, line.encode())
        except OSError as error:
            raise _unwritable(path, error) from error

    def take_in(self, path: Path, theirs: bytes) -> None:
        """Join what others recorded with what stands here. Raises ConfigError, NotPublished."""
        try:
            with self._locked():
                ours = path.read_bytes() if path.exists() else b""
                joined = union(ours, theirs)
                if joined != ours:
                    atomic.write(path, joined)
        except Timeout as error:
            raise NotPublished(f"{path}: still locked after {_LOCK_S:.0f} s; end the process that holds {self._lock}") from error
        except OSError as error:
            raise _unwritable(path, error) from error

    def events(self) -> Iterator[Event]:
        """All of them, oldest month first; lines that cannot be read are passed over."""
        for path in sorted(self._folder.glob("*.jsonl")):
            yield from _read(path)

    def sent_since(self, moment: datetime) -> dict[str, list[datetime]]:
        """When uploads to each host came to their end since then, on all machines; only what was let in."""
        found: dict[str, list[datetime]] = {}
        for path in sorted(self._folder.glob("*.jsonl")):
            if path.stem >= timestamp(moment)[:7]:
                for event in _read(path):
                    if event.attempt_id and event.status != UploadStatus.PENDING and parse_timestamp(event.timestamp) >= moment:
                        found.setdefault(event.host, []).append(parse_timestamp(event.timestamp))
        return found

    def _locked(self) -> FileLock:
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(self._lock, timeout=_LOCK_S)

    def _rotated(self, line: str) -> None:
        if not self._log.parent.exists():
            self._log.parent.mkdir(parents=True)
            (self._log.parent / ".gitignore").write_text("*\n", "utf-8")
        handler = RotatingFileHandler(self._log, maxBytes=LOG_BYTES, backupCount=LOG_COUNT, encoding="utf-8")
        try:
            handler.emit(logging.makeLogRecord({"msg": line}))
        finally:
            handler.close()


def _read(path: Path) -> Iterator[Event]:
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(ValueError):
            yield Event.model_validate_json(line)


def _append(path: Path, line: bytes) -> None:
    """Behind a line that a machine that died has left unfinished, on one of its own."""
    with path.open("a+b") as file:
        is_torn = file.seek(0, os.SEEK_END) > 0 and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n"
        file.write((b"\n" if is_torn else b"") + line + b"\n")


def is_events(path: str) -> bool:
    """Whether a path of the library is a file of events."""
    return path.startswith(FOLDER) and path.endswith(".jsonl")


def union(ours: bytes, theirs: bytes) -> bytes:
    """The lines of both, each once, by time: the same whichever side is ours. Files that are equal stay as they are."""
    if ours.startswith(theirs):
        return ours
    if theirs.startswith(ours):
        return theirs
    lines = {line for side in (ours, theirs) for line in side.splitlines() if line.strip()}
    return b"".join(line + b"\n" for line in sorted(lines, key=lambda line: (_moment(line), line)))


def _moment(line: bytes) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):  # others may write anything
        return str(json.loads(line)["timestamp"])
    return ""


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"{path}: cannot be written: {error.strerror or error}; free the disk or make it writable", Category.DATABASE
    )
