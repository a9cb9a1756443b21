"""Exports read back by plain SQLite, csv and json."""

import csv
import io
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dailies import __version__, cli, export, scaffold, tables
from dailies.cli import export as export_commands
from dailies.database import Database
from dailies.errors import ConfigError
from dailies.export import Contents
from dailies.journal import Event, Journal
from dailies.model import (
    Kind,
    LastError,
    Media,
    MediaFile,
    Metadata,
    Source,
    StepName,
    Upload,
    UploadStatus,
    Video,
)
from support import ROOT, FakeClock

HOSTILE = "=cmd|'/C calc'!A0 \"q\", ü😀;\r\n'); DROP TABLE videos; -- \u2028\x00 end"
AT = "2026-01-02T03:04:05Z"
OTHER = b"somebody's own\n"


def video(number: int, **fields: Any) -> Video:
    identity = f"{number:064x}"[::-1]
    source = Source(kind="file", uri=f"media/{number}.mp4", original_name=f"{number}.mp4", size_bytes=7, identity=identity)
    known = {"code": f"clip-{number}", "title": f"Clip {number}", "source": source, "created_at": AT, "updated_at": AT, **fields}
    return Video(id=f"clip-{number}-{identity[:12]}", **known)


def event(of: str, **fields: Any) -> Event:
    known = {"host": "archive", "kind": Kind.VIDEO, "status": UploadStatus.SUCCESS, "timestamp": AT, **fields}
    return Event(video_id=of, **known)


RICH = video(
    1,
    title=HOSTILE,
    duplicate_allowed=True,
    file=MediaFile(name="1.mp4", size_bytes=3335978, sha256="a" * 64, phash="f0f0"),
    media=Media(
        duration_s=52.25, width=480, height=204, resolution="480x204", aspect_ratio="40:17", fps=24.0, video_codec="h264",
        audio_codec=None, audio_channels=2, bit_rate=511000, rotation=0, tags=("portrait",),
    ),
    metadata=Metadata(tags=("sea", "sun"), people=({"name": "Ann", "role": "actor"},), views=10**30),
    last_error=LastError(step=StepName.PUBLISH, attempt=1, category="host", message="no", action="queued again", at=AT),
    uploads={
        "archive": {
            Kind.VIDEO: Upload(status=UploadStatus.SUCCESS, adapter="ia", remote_id="r1", watch_url="https://w/1", at=AT),
            Kind.PREVIEW: Upload(status=UploadStatus.FAILED, retry_count=2, error="503", at=AT),
        },
        "mirror": {Kind.VIDEO: Upload(status=UploadStatus.SUCCESS, remote_id="r2", at="2026-01-03T00:00:00Z", is_settling=True)},
    },
)  # fmt: skip
PLAIN = video(2)
REMOVED = video(
    3, deleted_at="2026-02-01T00:00:00Z", uploads={"archive": {Kind.VIDEO: Upload(status=UploadStatus.FAILED_FINAL, at=AT)}}
)
NOBODY = "gone-000000000000"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    scaffold.init(tmp_path / "library")
    return tmp_path / "library"


@pytest.fixture
def contents(root: Path, clock: FakeClock) -> Contents:
    database, journal = Database(root, root / "work", clock), Journal(root, root / "work")
    for one in (RICH, PLAIN, REMOVED):
        database.save(one)
    journal.write(event(RICH.id, bytes=12, seconds=0.5, metadata={"note": HOSTILE[:9]}, attempt_id="t1", upload_id="r1"))
    journal.write(event(REMOVED.id, status=UploadStatus.FAILED, error_message="503"))
    journal.write(event(NOBODY))
    return Contents(database, journal, clock)


def query(path: Path, text: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(text).fetchall()


def rows(path: Path, table: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [line for line in connection.iterdump() if not line.startswith('INSERT INTO "meta"')]


@pytest.fixture
def database(contents: Contents, tmp_path: Path) -> Path:
    export.write_sqlite(contents, tmp_path / "out.sqlite")
    return tmp_path / "out.sqlite"


def test_a_database_is_whole_and_its_foreign_keys_hold(database: Path) -> None:
    assert query(database, "PRAGMA integrity_check") == [("ok",)]
    assert query(database, "PRAGMA foreign_key_check") == []
    assert query(database, "PRAGMA foreign_key_list(video_uploads)")[0][2:7] == ("videos", "video_id", "id", "NO ACTION", "CASCADE")
    assert query(database, "PRAGMA foreign_key_list(upload_events)")[0][2:7] == (
        "videos",
        "video_id",
        "id",
        "NO ACTION",
        "SET NULL",
    )


def test_a_database_is_in_wal_mode_and_one_file(database: Path) -> None:
    assert [path.name for path in database.parent.iterdir() if path.is_file()] == ["out.sqlite"]
    assert query(database, "PRAGMA journal_mode") == [("wal",)]


def test_a_database_says_what_it_is(database: Path, clock: FakeClock) -> None:
    assert query(database, "PRAGMA user_version") == [(export.SCHEMA_VERSION,)]
    assert query(database, "SELECT made_at, dailies_version, schema_version FROM meta") == [
        (AT, __version__, export.SCHEMA_VERSION)
    ]
    assert clock.now().strftime("%Y-%m-%dT%H:%M:%SZ") == AT


def test_a_video_is_a_row_with_the_values_of_its_record(database: Path) -> None:
    row = next(row for row in rows(database, "videos") if row["id"] == RICH.id)

    expected = {
        "title": HOSTILE, "file_path": "media/1.mp4", "created_at": AT, "duration": 52.25, "checksum": "a" * 64,
        "duplicate_allowed": 1, "width": 480, "height": 204, "fps": 24.0, "video_codec": "h264", "audio_codec": None,
        "bit_rate": 511000, "resolution": "480x204", "size_bytes": 3335978, "phash": "f0f0", "state": "queued",
        "error_step": "publish", "error_message": "no", "views": None, "deleted_at": None, "source_size_bytes": 7,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert [json.loads(row[name]) for name in ("tags", "media_tags", "categories")] == [["sea", "sun"], ["portrait"], []]
    assert json.loads(row["people"]) == [{"name": "Ann", "role": "actor"}]


def test_a_video_without_media_has_nulls_there(database: Path) -> None:
    row = next(row for row in rows(database, "videos") if row["id"] == PLAIN.id)

    assert [row[name] for name in ("duration", "checksum", "width", "media_tags", "error_step")] == [None] * 5


def test_only_a_file_has_a_path(contents: Contents, tmp_path: Path) -> None:
    link = PLAIN.source.model_copy(update={"kind": "http", "uri": "https://x/1.mp4"})
    contents.database.save(PLAIN.with_(source=link))

    export.write_sqlite(contents, tmp_path / "out.sqlite")

    asked = f"SELECT file_path, source_uri FROM videos WHERE id = '{PLAIN.id}'"
    assert query(tmp_path / "out.sqlite", asked) == [(None, "https://x/1.mp4")]


def test_an_upload_is_a_row_with_the_values_of_its_record(database: Path) -> None:
    found = rows(database, "video_uploads")

    assert [row["id"] for row in found] == [1, 2, 3, 4]
    named = ("platform", "kind", "upload_status", "upload_timestamp", "platform_post_id", "error_message", "retry_count")
    assert [tuple(row[name] for name in named) for row in found if row["video_id"] == RICH.id] == [
        ("archive", "preview", "FAILED", AT, None, "503", 2),
        ("archive", "video", "SUCCESS", AT, "r1", None, 0),
        ("mirror", "video", "SUCCESS", "2026-01-03T00:00:00Z", "r2", None, 0),
    ]
    assert {(row["watch_url"], row["adapter"], row["is_settling"]) for row in found} >= {
        ("https://w/1", "ia", 0),
        (None, None, 1),
    }


def test_an_upload_stands_once_for_each_video_platform_and_kind(database: Path) -> None:
    names = ", ".join(tables.UPLOADS.names()[1:])
    again = f"INSERT INTO video_uploads ({names}) SELECT {names} FROM video_uploads"
    with closing(sqlite3.connect(database)) as connection, pytest.raises(sqlite3.IntegrityError, match=r"UNIQUE.*video_id.*kind"):
        connection.execute(again)


def test_every_field_of_an_event_is_a_column(contents: Contents, database: Path) -> None:
    found = rows(database, "upload_events")
    recorded = [one.model_dump(mode="json") for one in contents.journal.events()]

    assert set(Event.model_fields) <= set(found[0])
    for row in found:
        row.update(video_id=row["recorded_video_id"], metadata=json.loads(row["metadata"]))
    assert [{name: row[name] for name in Event.model_fields} for row in found] == recorded


def test_an_event_points_at_its_video_as_long_as_there_is_a_record(database: Path) -> None:
    asked = "SELECT video_id, recorded_video_id FROM upload_events ORDER BY id"
    assert query(database, asked) == [(RICH.id, RICH.id), (REMOVED.id, REMOVED.id), (None, NOBODY)]


def test_a_removed_video_stays_with_its_time_and_out_of_the_views(database: Path) -> None:
    assert query(database, "SELECT id, deleted_at FROM videos WHERE deleted_at IS NOT NULL") == [(REMOVED.id, REMOVED.deleted_at)]
    assert sorted(query(database, "SELECT id FROM current_videos")) == [(RICH.id,), (PLAIN.id,)]
    assert query(database, "SELECT video_id, kind FROM failed_uploads") == [(RICH.id, "preview")]


def test_the_latest_upload_of_a_video_is_its_newest_success(database: Path) -> None:
    assert query(database, "SELECT video_id, kind, platform, title FROM latest_uploads") == [(RICH.id, "video", "mirror", HOSTILE)]


def test_tags_and_people_can_be_counted(database: Path) -> None:
    assert query(database, "SELECT video_id, tag FROM video_tags ORDER BY tag") == [(RICH.id, "sea"), (RICH.id, "sun")]
    assert query(database, "SELECT * FROM video_people") == [(RICH.id, "Ann", "actor")]


def test_values_have_the_types_that_are_declared(database: Path) -> None:
    kinds = {"INTEGER": "integer", "REAL": "real", "TEXT": "text"}
    for table in tables.TABLES:
        for _, name, declared, *_ in query(database, f"PRAGMA table_info({table.name})"):
            found = {kind for (kind,) in query(database, f"SELECT DISTINCT typeof({name}) FROM {table.name}")}
            assert found <= {kinds[declared], "null"}, (table.name, name)


def test_times_are_understood_by_the_date_functions(database: Path) -> None:
    asked = "SELECT datetime(created_at) FROM videos UNION SELECT datetime(timestamp) FROM upload_events"
    assert query(database, asked) == [("2026-01-02 03:04:05",)]
    assert query(database, "SELECT datetime(max(upload_timestamp)) FROM video_uploads") == [("2026-01-03 00:00:00",)]


def test_what_is_asked_often_has_an_index(database: Path) -> None:
    for asked in (
        "SELECT * FROM videos WHERE state = 'failed'",
        "SELECT * FROM video_uploads WHERE platform = 'a' AND upload_status = 'FAILED'",
        "SELECT * FROM video_uploads WHERE video_id = 'x'",
        "SELECT * FROM upload_events WHERE video_id = 'x' ORDER BY timestamp",
    ):
        plan = [row[3] for row in query(database, f"EXPLAIN QUERY PLAN {asked}")]
        assert len(plan) == 1, plan
        assert plan[0].startswith("SEARCH")


def test_two_exports_are_the_same_but_for_their_time(contents: Contents, database: Path, clock: FakeClock) -> None:
    clock.advance(3600)
    export.write_sqlite(contents, database.with_name("second.sqlite"))

    assert dump(database) == dump(database.with_name("second.sqlite"))
    assert query(database.with_name("second.sqlite"), "SELECT made_at FROM meta") == [("2026-01-02T04:04:05Z",)]


def test_who_reads_the_old_database_goes_on_reading_it(contents: Contents, database: Path) -> None:
    with closing(sqlite3.connect(database)) as reader:
        cursor = reader.execute("SELECT title FROM videos ORDER BY id")
        first = cursor.fetchone()
        contents.database.save(video(4))
        export.write_sqlite(contents, database)

        assert query(database, "SELECT count(*) FROM videos") == [(4,)]
        assert [first, *cursor.fetchall()] == [(HOSTILE,), ("Clip 2",), ("Clip 3",)]
        assert reader.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert query(database, "PRAGMA integrity_check") == [("ok",)]


def test_changes_that_others_made_are_not_thrown_away_nor_mixed_in(contents: Contents, database: Path) -> None:
    with closing(sqlite3.connect(database)) as writer:
        writer.execute("CREATE TABLE notes (text)")
        writer.commit()
        with pytest.raises(ConfigError, match=r"out\.sqlite-wal"):
            export.write_sqlite(contents, database)
        assert query(database, "SELECT count(*) FROM notes") == [(0,)]

        export.write_sqlite(contents, database, force=True)

        assert query(database, "SELECT name FROM sqlite_master WHERE name = 'notes'") == []
    assert query(database, "PRAGMA integrity_check") == [("ok",)]


Write = Callable[..., export.Counts]
FILES = [(export.write_sqlite, "x.sqlite"), (export.write_json, "x.json"), (export.write_csv, "csv")]


@pytest.mark.parametrize(("write", "name"), FILES)
def test_every_export_counts_its_rows_and_replaces_the_one_before(
    contents: Contents, tmp_path: Path, write: Write, name: str
) -> None:
    for _ in range(2):
        assert write(contents, tmp_path / "new" / name) == {"videos": 3, "video_uploads": 4, "upload_events": 3}
    assert not list(tmp_path.rglob(".tmp-*"))


@pytest.mark.parametrize(("write", "name"), FILES)
def test_a_file_of_somebody_else_is_replaced_by_force_only(contents: Contents, tmp_path: Path, write: Write, name: str) -> None:
    path = tmp_path / name
    there = path / "videos.csv" if name == "csv" else path
    there.parent.mkdir(exist_ok=True)
    there.write_bytes(OTHER)

    with pytest.raises(ConfigError, match="--force"):
        write(contents, path)
    assert there.read_bytes() == OTHER

    write(contents, path, force=True)
    assert there.read_bytes() != OTHER


def test_a_database_of_another_program_is_not_ours(contents: Contents, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "x.sqlite")) as connection:
        connection.execute("CREATE TABLE videos (id)")

    with pytest.raises(ConfigError, match="no export of Dailies"):
        export.write_sqlite(contents, tmp_path / "x.sqlite")


@pytest.mark.parametrize(("write", "name"), FILES)
def test_an_export_that_breaks_off_leaves_what_was_there(
    contents: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write, name: str
) -> None:
    write(contents, tmp_path / "out" / name)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    contents.database.save(video(5))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConfigError, match=r"No space left on device; free the disk"):
        write(contents, tmp_path / "out" / name)

    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_csv_gives_back_every_value(contents: Contents, database: Path, tmp_path: Path) -> None:
    export.write_csv(contents, tmp_path / "csv")

    assert sorted(path.name for path in (tmp_path / "csv").iterdir()) == ["upload_events.csv", "video_uploads.csv", "videos.csv"]
    for table in tables.TABLES:
        text = (tmp_path / "csv" / f"{table.name}.csv").read_bytes().decode("utf-8")
        found = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        expected = [{name: "" if cell is None else str(cell) for name, cell in row.items()} for row in rows(database, table.name)]
        for row in expected:
            row.update({name: f"'{cell}" for name, cell in row.items() if cell == HOSTILE})
        assert found == expected


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "'="])
def test_no_cell_of_a_csv_is_a_formula(contents: Contents, tmp_path: Path, start: str) -> None:
    contents.database.save(PLAIN.with_(title=f"{start}1+1", metadata=Metadata(description="'tis - one = two")))

    export.write_csv(contents, tmp_path)

    with (tmp_path / "videos.csv").open(encoding="utf-8", newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["id"] == PLAIN.id)
    assert (row["title"], row["description"]) == (f"'{start}1+1", "'tis - one = two")


def test_a_number_below_zero_is_a_number_in_a_csv(contents: Contents, tmp_path: Path) -> None:
    assert RICH.media is not None
    contents.database.save(RICH.with_(media=RICH.media.model_copy(update={"rotation": -90})))

    export.write_csv(contents, tmp_path)

    with (tmp_path / "videos.csv").open(encoding="utf-8", newline="") as file:
        assert "-90" in [row["rotation"] for row in csv.DictReader(file)]


def test_json_has_the_same_rows_with_lists_and_truths(contents: Contents, database: Path, tmp_path: Path) -> None:
    export.write_json(contents, tmp_path / "x.json")

    document = json.loads((tmp_path / "x.json").read_bytes(), parse_constant=pytest.fail)
    assert {name: len(document[name]) for name in ("videos", "video_uploads", "upload_events")} == {
        "videos": 3,
        "video_uploads": 4,
        "upload_events": 3,
    }
    row = next(row for row in document["videos"] if row["id"] == RICH.id)
    assert (row["title"], row["tags"]) == (HOSTILE, ["sea", "sun"])
    assert row["duplicate_allowed"] is True  # 1 would be equal
    assert [list(row) for row in document["videos"]] == [list(row) for row in rows(database, "videos")]
    assert document["made_at"] == AT


def test_what_json_cannot_hold_is_null(contents: Contents, tmp_path: Path) -> None:
    people = ({"name": "Ann", "height": float("inf")},)
    contents.journal.write(event(RICH.id, seconds=float("inf"), bytes=10**30))
    media = RICH.media and RICH.media.model_copy(update={"fps": float("nan")})
    contents.database.save(RICH.with_(media=media, metadata=Metadata(people=people)))

    export.write_json(contents, tmp_path / "x.json")

    document = json.loads((tmp_path / "x.json").read_bytes(), parse_constant=pytest.fail)
    row = next(row for row in document["videos"] if row["id"] == RICH.id)
    assert (row["fps"], row["people"]) == (None, [{"name": "Ann", "height": None}])
    assert [(one["seconds"], one["bytes"]) for one in document["upload_events"]][-1] == (None, None)


def test_a_library_without_anything_exports_empty_tables(root: Path, clock: FakeClock, tmp_path: Path) -> None:
    nothing = Contents(Database(root, root / "work", clock), Journal(root, root / "work"), clock)

    assert set(export.write_sqlite(nothing, tmp_path / "x.sqlite").values()) == {0}
    export.write_json(nothing, tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text())["videos"] == []


def call(root: Path, *arguments: str | Path) -> int:
    assert export_commands.exports.registered_commands
    return cli.main(["--root", str(root), "export", *map(str, arguments)])


@pytest.mark.parametrize(("name", "made"), [("sqlite", "dailies.sqlite"), ("csv", "csv/videos.csv"), ("json", "dailies.json")])
def test_without_a_name_the_export_goes_to_the_work_folder(
    root: Path, contents: Contents, capsys: pytest.CaptureFixture[str], name: str, made: str
) -> None:
    assert call(root, name) == 0

    path = root / "work/export" / made
    assert path.is_file()
    assert "3 videos, 4 video_uploads, 3 upload_events" in capsys.readouterr().out


def test_a_dash_is_standard_output(root: Path, contents: Contents, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert call(root, "json", "-") == 0

    assert len(json.loads(capfdbinary.readouterr().out)["videos"]) == 3


@pytest.mark.parametrize("name", ["sqlite", "csv", "json"])
def test_a_place_that_cannot_be_written_is_one_line_and_exit_2(
    root: Path, contents: Contents, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "file").write_bytes(OTHER)
    (tmp_path / "folder").mkdir()
    wrong = tmp_path / ("file" if name == "csv" else "folder")
    for path in (wrong, tmp_path / "file" / "below", root / "database" / "out"):
        assert call(root, name, path) == 2
        said = capsys.readouterr()
        assert (said.out, len(said.err.splitlines())) == ("", 1)
        assert str(path) in said.err
    assert (tmp_path / "file").read_bytes() == OTHER


def test_a_record_that_cannot_be_read_is_named_and_the_others_are_exported(
    root: Path, contents: Contents, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contents.database.path_of(PLAIN.id).write_bytes(b"{")

    assert call(root, "sqlite", tmp_path / "x.sqlite") == 2

    assert PLAIN.id in capsys.readouterr().err
    assert query(tmp_path / "x.sqlite", "SELECT count(*) FROM videos") == [(2,)]


def test_the_documentation_names_every_column_and_view(database: Path) -> None:
    text = (ROOT / "docs/export.md").read_text("utf-8")
    views = [name for (name,) in query(database, "SELECT name FROM sqlite_master WHERE type = 'view'")]
    missing = [name for name in [*views, *(name for table in tables.TABLES for name in table.names())] if f"`{name}`" not in text]

    assert missing == []
