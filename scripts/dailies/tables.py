"""The three tables of an export: their columns, and where in a record or an event each comes from (docs/export.md)."""

import math
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final, NamedTuple

from pydantic_core import to_json

from dailies.model import Kind, Upload, Video

ROW_NUMBER: Final = "INTEGER PRIMARY KEY"
JSON_COLUMNS: Final = frozenset({"tags", "categories", "people", "media_tags", "hosts", "warnings", "metadata"})
TRUTHS: Final = frozenset({"duplicate_allowed", "is_settling"})
Cell = str | int | float | None


class Sent(NamedTuple):
    video_id: str
    platform: str
    kind: Kind
    upload: Upload


class Column(NamedTuple):
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


class Table(NamedTuple):
    name: str
    columns: tuple[Column, ...]
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


def _same(declared: str, *names: str) -> list[Column]:
    """Columns that are called as in the record; `media.width` gives `width`."""
    return [Column(name.rpartition(".")[2], declared, _at(name)) for name in names]


def _file_path(video: Video) -> str | None:
    return video.source.uri if video.source.kind == "file" else None


VIDEOS: Final = Table(
    "videos",
    (
        Column("id", "TEXT NOT NULL PRIMARY KEY", _at("id")),
        Column("file_path", "TEXT", _file_path),
        *_same("TEXT NOT NULL", "title", "created_at"),
        Column("duration", "REAL", _at("media.duration_s")),
        Column("checksum", "TEXT", _at("file.sha256")),
        Column("duplicate_allowed", "INTEGER NOT NULL CHECK (duplicate_allowed IN (0, 1))", _at("duplicate_allowed")),
        *_same("TEXT NOT NULL", "updated_at", "state", "code"),
        *_same("TEXT", "deleted_at", "duplicate_of", "similar_to"),
        Column("source_kind", "TEXT NOT NULL", _at("source.kind")),
        Column("source_uri", "TEXT NOT NULL", _at("source.uri")),
        Column("source_size_bytes", "INTEGER", _at("source.size_bytes")),
        Column("source_checksum", "TEXT", _at("source.sha256")),
        *_same("TEXT NOT NULL", "source.original_name"),
        Column("file_name", "TEXT", _at("file.name")),
        *_same("INTEGER", "file.size_bytes"),
        *_same("TEXT", "file.phash"),
        *_same("INTEGER", "media.width", "media.height"),
        *_same("TEXT", "media.resolution", "media.aspect_ratio"),
        *_same("REAL", "media.fps"),
        *_same("TEXT", "media.video_codec", "media.audio_codec"),
        *_same("INTEGER", "media.audio_channels", "media.bit_rate", "media.rotation"),
        Column("media_tags", "TEXT", _at("media.tags")),
        *_same("TEXT NOT NULL", "metadata.description"),
        *_same("TEXT", "metadata.release_date", "metadata.studio", "metadata.series"),
        *_same("INTEGER", "metadata.views", "metadata.likes"),
        *_same("TEXT NOT NULL", "metadata.tags", "metadata.categories", "metadata.people", "hosts", "warnings"),
        Column("preview_name", "TEXT", _at("preview.name")),
        Column("preview_duration", "REAL", _at("preview.duration_s")),
        *_same("INTEGER", "retry_count"),
        *_same("TEXT", "next_attempt_at"),
        Column("error_step", "TEXT", _at("last_error.step")),
        Column("error_category", "TEXT", _at("last_error.category")),
        Column("error_message", "TEXT", _at("last_error.message")),
        Column("error_at", "TEXT", _at("last_error.at")),
    ),
)
UPLOADS: Final = Table(
    "video_uploads",
    (
        Column("id", ROW_NUMBER, lambda _: None),
        Column("video_id", "TEXT NOT NULL REFERENCES videos (id) ON DELETE CASCADE", _at("video_id")),
        *_same("TEXT NOT NULL", "platform", "kind"),
        Column("upload_status", "TEXT NOT NULL", _at("upload.status")),
        Column("upload_timestamp", "TEXT", _at("upload.at")),
        Column("platform_post_id", "TEXT", _at("upload.remote_id")),
        Column("error_message", "TEXT", _at("upload.error")),
        *_same("INTEGER", "upload.retry_count"),
        *_same("TEXT", "upload.watch_url", "upload.embed_url", "upload.direct_url", "upload.adapter"),
        Column("checksum", "TEXT", _at("upload.sha256")),
        Column("not_before", "TEXT", _at("upload.until")),
        Column("is_settling", "INTEGER NOT NULL CHECK (is_settling IN (0, 1))", _at("upload.is_settling")),
    ),
    ("UNIQUE (video_id, platform, kind)",),
)
EVENTS: Final = Table(
    "upload_events",
    (
        Column("id", ROW_NUMBER, lambda _: None),
        *_same("TEXT NOT NULL", "timestamp"),
        Column("video_id", "TEXT REFERENCES videos (id) ON DELETE SET NULL", _at("video_id")),
        Column("recorded_video_id", "TEXT NOT NULL", _at("video_id")),
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
SCHEMA: Final = """CREATE INDEX videos_by_state ON videos (state);
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
