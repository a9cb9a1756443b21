"""The records and the journal as three tables, for other programs: SQLite, CSV, JSON (docs/export.md)."""

import csv
import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from dailies import __version__, atomic
from dailies.clock import Clock, timestamp
from dailies.database import Database
from dailies.errors import ConfigError
from dailies.journal import Journal
from dailies.model import Video
from dailies.tables import EVENTS, JSON_COLUMNS, SCHEMA, TABLES, TRUTHS, UPLOADS, VIDEOS, Cell, Sent, Table

SCHEMA_VERSION: Final = 1  # raised when a column goes or means something else
APPLICATION_ID: Final = 0x4461696C  # "Dail", in bytes 68 to 71 of a file: https://www.sqlite.org/fileformat2.html#application_id
FORMAT: Final = "dailies export"
_MAGIC: Final = b"SQLite format 3\0"
_HEAD: Final = f'{{"format": "{FORMAT}",'
_HEAD_BYTES: Final = 200
_META: Final = ("made_at", "dailies_version", "schema_version")
# what spreadsheets take for a formula: https://owasp.org/www-community/attacks/CSV_Injection; apostrophes so that it can be undone
_FORMULA: Final = re.compile(r"'*[=+\-@\t\r\n\0]")
# no room, no permission, no disk; other faults of SQLite are ours
_OUTSIDE: Final = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}


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
    for statement in SCHEMA.split(";\n"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")
    return {table.name: int(_one(connection, f"SELECT count(*) FROM {table.name}")[0]) for table in TABLES}  # noqa: S608 -- ours


def _sent(video: Video) -> Iterator[Sent]:
    for platform, kinds in sorted(video.uploads.items()):
        for kind, upload in sorted(kinds.items()):
            yield Sent(video.id, platform, kind, upload)


def _one(connection: sqlite3.Connection, query: str) -> tuple[Any, ...]:
    return tuple(connection.execute(query).fetchone())


def _rows(connection: sqlite3.Connection, table: Table) -> Iterator[tuple[Cell, ...]]:
    return connection.execute(f"SELECT * FROM {table.name} ORDER BY rowid")  # noqa: S608 -- ours


def _safe(cell: Cell) -> Cell:
    """A formula becomes text by one apostrophe more; nothing else changes."""
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def _unfolded(name: str, cell: Cell) -> object:
    if cell is None:
        return None
    return json.loads(str(cell)) if name in JSON_COLUMNS else bool(cell) if name in TRUTHS else cell


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
