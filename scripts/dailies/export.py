"""The records and the journal as three tables, for other programs: SQLite, CSV, JSON (docs/export.md)."""

import csv
import json
import math
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from pydantic_core import to_json

from dailies import __version__, atomic
from dailies.clock import Clock, timestamp
from dailies.database import Database
from dailies.errors import ConfigError
from dailies.journal import Journal
from dailies.model import Kind, Upload, Video

SCHEMA_VERSION: Final = 1  # raised when a column goes or means something else
APPLICATION_ID: Final = 0x4461696C  # "Dail", in bytes 68 to 71 of a file: https://www.sqlite.org/fileformat2.html#application_id
FORMAT: Final = "dailies export"
_MAGIC: Final = b"SQLite format 3\0"
_HEAD: Final = f'{{"format": "{FORMAT}",'
_HEAD_BYTES: Final = 200
_META: Final = ("made_at", "dailies_version", "schema_version")
_ROW_NUMBER: Final = "INTEGER PRIMARY KEY"
_JSON: Final = frozenset({"tags", "categories", "people", "media_tags", "hosts", "warnings", "metadata"})
_TRUTHS: Final = frozenset({"duplicate_allowed", "is_settling"})
# what spreadsheets take for a formula: https://owasp.org/www-community/attacks/CSV_Injection; apostrophes so that it can be undone
_FORMULA: Final = re.compile(r"'*[=+\-@\t\r\n\0]")
# no room, no permission, no disk; other faults of SQLite are ours
_OUTSIDE: Final = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}
Cell = str | int | float | None


class _Sent(NamedTuple):
    video_id: str
    platform: str
    kind: Kind
    upload: Upload


class _Column(NamedTuple):
    name: str
    declared: str
    value: Callable[[Any], object]


def _at(path: str) -> Callable[[Any], object]:
    """What reads `duration_s` of a record, or `media.duration_s`, None where it has no `media`."""
    section, _, name = path.rpartition(".")
    read = attrgetter(name)
    if not section:
        return read
    enter = attrgetter(section)

    def value(record: Any) -> object:
        found = enter(record)
        return None if found is None else read(found)

    return value


def _cell(value: object) -> Cell:
    """As SQLite and JSON can both hold it, None for infinity and what is over 64 bits; lists and objects as JSON text."""
    match value:
        case None:
            return None
        case str():
            return str(value)  # of an Enum its value
        case float():
            return value if math.isfinite(value) else None
        case int():
            return int(value) if -(2**63) <= value < 2**63 else None
        case _:
            return to_json(value, inf_nan_mode="null").decode()


class _Table(NamedTuple):
    name: str
    columns: tuple[_Column, ...]
    constraints: tuple[str, ...] = ()

    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def ddl(self) -> str:
        lines = [*(f"{column.name} {column.declared}" for column in self.columns), *self.constraints]
        return f"CREATE TABLE {self.name} (\n  " + ",\n  ".join(lines) + "\n)"

    def insert(self) -> str:
        return f"INSERT INTO {self.name} VALUES ({', '.join('?' * len(self.columns))})"  # noqa: S608 -- ours

    def is_header(self, head: bytes) -> bool:
        """Whether a CSV file of this table, of any version, begins like that: names are only ever added behind these."""
        return head.decode("utf-8", "replace").split(",")[:3] == self.names()[:3]

    def row(self, record: object) -> list[Cell]:
        return [_cell(column.value(record)) for column in self.columns]


def _same(declared: str, *names: str) -> list[_Column]:
    """Columns that are called as in the record; `media.width` gives `width`."""
    return [_Column(name.rpartition(".")[2], declared, _at(name)) for name in names]


def _file_path(video: Video) -> str | None:
    return video.source.uri if video.source.kind == "file" else None


VIDEOS: Final = _Table(
    "videos",
    (
        _Column("id", "TEXT NOT NULL PRIMARY KEY", _at("id")),
        _Column("file_path", "TEXT", _file_path),
        *_same("TEXT NOT NULL", "title", "created_at"),
        _Column("duration", "REAL", _at("media.duration_s")),
        _Column("checksum", "TEXT", _at("file.sha256")),
        _Column("duplicate_allowed", "INTEGER NOT NULL CHECK (duplicate_allowed IN (0, 1))", _at("duplicate_allowed")),
        *_same("TEXT NOT NULL", "updated_at", "state", "code"),
        *_same("TEXT", "deleted_at", "duplicate_of", "similar_to"),
        _Column("source_kind", "TEXT NOT NULL", _at("source.kind")),
        _Column("source_uri", "TEXT NOT NULL", _at("source.uri")),
        _Column("source_size_bytes", "INTEGER", _at("source.size_bytes")),
        _Column("source_checksum", "TEXT", _at("source.sha256")),
        *_same("TEXT NOT NULL", "source.original_name"),
        _Column("file_name", "TEXT", _at("file.name")),
        *_same("INTEGER", "file.size_bytes"),
        *_same("TEXT", "file.phash"),
        *_same("INTEGER", "media.width", "media.height"),
        *_same("TEXT", "media.resolution", "media.aspect_ratio"),
        *_same("REAL", "media.fps"),
        *_same("TEXT", "media.video_codec", "media.audio_codec"),
        *_same("INTEGER", "media.audio_channels", "media.bit_rate", "media.rotation"),
        _Column("media_tags", "TEXT", _at("media.tags")),
        *_same("TEXT NOT NULL", "metadata.description"),
        *_same("TEXT", "metadata.release_date", "metadata.studio", "metadata.series"),
        *_same("INTEGER", "metadata.views", "metadata.likes"),
        *_same("TEXT NOT NULL", "metadata.tags", "metadata.categories", "metadata.people", "hosts", "warnings"),
        _Column("preview_name", "TEXT", _at("preview.name")),
        _Column("preview_duration", "REAL", _at("preview.duration_s")),
        *_same("INTEGER", "retry_count"),
        *_same("TEXT", "next_attempt_at"),
        _Column("error_step", "TEXT", _at("last_error.step")),
        _Column("error_category", "TEXT", _at("last_error.category")),
        _Column("error_message", "TEXT", _at("last_error.message")),
        _Column("error_at", "TEXT", _at("last_error.at")),
    ),
)
UPLOADS: Final = _Table(
    "video_uploads",
    (
        _Column("id", _ROW_NUMBER, lambda _: None),
        _Column("video_id", "TEXT NOT NULL REFERENCES videos (id) ON DELETE CASCADE", _at("video_id")),
        *_same("TEXT NOT NULL", "platform", "kind"),
        _Column("upload_status", "TEXT NOT NULL", _at("upload.status")),
        _Column("upload_timestamp", "TEXT", _at("upload.at")),
        _Column("platform_post_id", "TEXT", _at("upload.remote_id")),
        _Column("error_message", "TEXT", _at("upload.error")),
        *_same("INTEGER", "upload.retry_count"),
        *_same("TEXT", "upload.watch_url", "upload.embed_url", "upload.direct_url", "upload.adapter"),
        _Column("checksum", "TEXT", _at("upload.sha256")),
        _Column("not_before", "TEXT", _at("upload.until")),
        _Column("is_settling", "INTEGER NOT NULL CHECK (is_settling IN (0, 1))", _at("upload.is_settling")),
    ),
    ("UNIQUE (video_id, platform, kind)",),
)
EVENTS: Final = _Table(
    "upload_events",
    (
        _Column("id", _ROW_NUMBER, lambda _: None),
        *_same("TEXT NOT NULL", "timestamp"),
        _Column("video_id", "TEXT REFERENCES videos (id) ON DELETE SET NULL", _at("video_id")),
        _Column("recorded_video_id", "TEXT NOT NULL", _at("video_id")),
        *_same("TEXT NOT NULL", "host", "kind", "status"),
        *_same("TEXT", "attempt_id", "upload_id"),
        *_same("INTEGER", "retry_count"),
        *_same("TEXT", "error_message"),
        *_same("TEXT NOT NULL", "metadata"),
        *_same("INTEGER", "bytes"),
        *_same("REAL", "seconds"),
    ),
)
TABLES: Final = (VIDEOS, UPLOADS, EVENTS)
_REST: Final = """CREATE INDEX videos_by_state ON videos (state);
CREATE INDEX videos_by_time ON videos (created_at);
CREATE INDEX videos_by_checksum ON videos (checksum);
CREATE INDEX uploads_by_status ON video_uploads (platform, upload_status);
CREATE INDEX events_by_video ON upload_events (video_id, timestamp);
CREATE INDEX events_by_time ON upload_events (timestamp);
CREATE VIEW current_videos AS SELECT * FROM videos WHERE deleted_at IS NULL;
CREATE VIEW latest_uploads AS
  SELECT v.title, u.* FROM video_uploads u JOIN current_videos v ON v.id = u.video_id
  WHERE u.id IN (SELECT id FROM (
    SELECT id, ROW_NUMBER() OVER (PARTITION BY video_id, kind ORDER BY upload_timestamp DESC, platform) AS place
    FROM video_uploads WHERE upload_status = 'SUCCESS') WHERE place = 1);
CREATE VIEW failed_uploads AS
  SELECT v.title, u.* FROM video_uploads u JOIN current_videos v ON v.id = u.video_id
  WHERE u.upload_status IN ('FAILED', 'FAILED_FINAL', 'BLOCKED');
CREATE VIEW video_tags AS SELECT v.id AS video_id, t.value AS tag FROM current_videos v, json_each(v.tags) t;
CREATE VIEW video_people AS
  SELECT v.id AS video_id, json_extract(p.value, '$.name') AS name, json_extract(p.value, '$.role') AS role
  FROM current_videos v, json_each(v.people) p;
"""


@dataclass(frozen=True)
class Contents:
    """What is exported, and the clock that says when."""

    database: Database
    journal: Journal
    clock: Clock


Counts = Mapping[str, int]  # rows by table


def write_sqlite(contents: Contents, path: Path, *, force: bool = False) -> Counts:
    """Put a database in WAL mode at `path`; whoever has the one before open goes on reading that. Raises ConfigError."""
    with _told(path):
        target = _target(contents, path, _is_our_database, force=force)
        log = _side_files(target)[0]
        if log.exists() and log.stat().st_size and not force:
            raise ConfigError(f"{path}: has changes that another program made, in {log.name}; name another file, or --force")
        with _replacing(target) as temporary:
            with closing(_connect(temporary)) as connection:
                counts = _fill(connection, contents)
                connection.execute("PRAGMA journal_mode = WAL")
            for left in _side_files(target):
                left.unlink(missing_ok=True)  # who has the file before open keeps them, the new one must not meet them
        return counts


def write_csv(contents: Contents, folder: Path, *, force: bool = False) -> Counts:
    """Put one file a table into `folder`, none where one cannot be made. Raises ConfigError."""
    with _told(folder), closing(_connect("")) as connection, ExitStack() as stack:
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{folder}: is no folder; name one for the tables")
        targets = [(table, _target(contents, folder / f"{table.name}.csv", table.is_header, force=force)) for table in TABLES]
        counts = _fill(connection, contents)
        for table, target in targets:
            temporary = stack.enter_context(_replacing(target))
            with temporary.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)  # RFC 4180: CRLF, quotes doubled
                writer.writerow(table.names())
                writer.writerows(map(_safe, row) for row in _rows(connection, table))
        return counts


def write_json(contents: Contents, path: Path, *, force: bool = False) -> Counts:
    """Put one document at `path`. Raises ConfigError."""
    with _told(path), _replacing(_target(contents, path, _is_our_document, force=force)) as temporary, temporary.open("wb") as file:
        return _stream(contents, file)


def print_json(contents: Contents, file: BinaryIO) -> Counts:
    """Write the document to whoever reads `file`. Raises ConfigError; BrokenPipeError where nobody reads on."""
    with _told(Path("-")):
        return _stream(contents, file)


def _stream(contents: Contents, file: BinaryIO) -> Counts:
    """Row by row, a line each."""
    with closing(_connect("")) as connection:
        counts = _fill(connection, contents)
        about = dict(zip(_META, _one(connection, "SELECT * FROM meta"), strict=True))
        file.write(f"{_HEAD} {json.dumps(about)[1:-1]}".encode())
        for table in TABLES:
            file.write(f',\n"{table.name}": ['.encode())
            for number, row in enumerate(_rows(connection, table)):
                cells = {name: _unfolded(name, cell) for name, cell in zip(table.names(), row, strict=True)}
                file.write(f"{',' if number else ''}\n{json.dumps(cells, ensure_ascii=False)}".encode())
            file.write(b"\n]")
        file.write(b"\n}\n")
    return counts


def _connect(path: Path | str) -> sqlite3.Connection:
    """An empty path is a database in a temporary file of SQLite's own, of which memory holds only a cache."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF")
    return connection


def _fill(connection: sqlite3.Connection, contents: Contents) -> Counts:
    """All tables in one transaction. Events come first: the record of each was there before it, so that no pass misses one."""
    connection.execute("BEGIN")
    for table in TABLES:
        connection.execute(table.ddl())
    connection.executemany(EVENTS.insert(), map(EVENTS.row, contents.journal.events()))
    for video in contents.database.scan():
        connection.execute(VIDEOS.insert(), VIDEOS.row(video))
        connection.executemany(UPLOADS.insert(), map(UPLOADS.row, _sent(video)))
    connection.execute("UPDATE upload_events SET video_id = NULL WHERE video_id NOT IN (SELECT id FROM videos)")
    connection.execute("CREATE TABLE meta (made_at TEXT NOT NULL, dailies_version TEXT NOT NULL, schema_version INTEGER NOT NULL)")
    connection.execute("INSERT INTO meta VALUES (?, ?, ?)", (timestamp(contents.clock.now()), __version__, SCHEMA_VERSION))
    for statement in _REST.split(";\n"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")
    return {table.name: int(_one(connection, f"SELECT count(*) FROM {table.name}")[0]) for table in TABLES}  # noqa: S608 -- ours


def _sent(video: Video) -> Iterator[_Sent]:
    for platform, kinds in sorted(video.uploads.items()):
        for kind, upload in sorted(kinds.items()):
            yield _Sent(video.id, platform, kind, upload)


def _one(connection: sqlite3.Connection, query: str) -> tuple[Any, ...]:
    return tuple(connection.execute(query).fetchone())


def _rows(connection: sqlite3.Connection, table: _Table) -> Iterator[tuple[Cell, ...]]:
    return connection.execute(f"SELECT * FROM {table.name} ORDER BY rowid")  # noqa: S608 -- ours


def _safe(cell: Cell) -> Cell:
    """A formula becomes text by one apostrophe more; nothing else changes."""
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def _unfolded(name: str, cell: Cell) -> object:
    if cell is None:
        return None
    return json.loads(str(cell)) if name in _JSON else bool(cell) if name in _TRUTHS else cell


def _target(contents: Contents, path: Path, is_ours: Callable[[bytes], bool], *, force: bool) -> Path:
    """Where the file really goes, links followed. Raises ConfigError for what must not be replaced."""
    target = Path(os.path.realpath(path))
    if target.is_relative_to(os.path.realpath(contents.database.folder)):
        raise ConfigError(f"{path}: is among the records, which would be committed with it; name another place")
    if target.is_dir():
        raise ConfigError(f"{path}: is a folder; name a file in it")
    if not target.exists():
        return target
    if not target.is_file():
        raise ConfigError(f"{path}: is no plain file; name another one")
    with target.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head and not force and not is_ours(head):
        raise ConfigError(f"{path}: is there already and is no export of Dailies; name another file, or --force")
    return target


def _is_our_database(head: bytes) -> bool:
    return head.startswith(_MAGIC) and head[68:72] == APPLICATION_ID.to_bytes(4, "big")


def _is_our_document(head: bytes) -> bool:
    return head.startswith(_HEAD.encode())


def _side_files(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm")]


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Where to make it; put in place, synced, if nothing went wrong."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = atomic.temporary_beside(target)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        atomic.put_in_place(temporary, target)
    finally:
        for path in (temporary, *_side_files(temporary)):
            path.unlink(missing_ok=True)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the machine refuses is a person's to put right."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _OUTSIDE:
            raise
        reason = str(error)
    else:
        return
    raise ConfigError(f"{path}: cannot be written: {reason}; free the disk, make it writable or name another place")
