"""What readers get: exactly the design's fields, pages by month, the newest 1,000, status.json; nothing written for nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from dailies import derived
from dailies.database import Database, to_json
from dailies.model import (
    Clip,
    Kind,
    LastError,
    Media,
    MediaFile,
    Metadata,
    Preview,
    Source,
    State,
    StepName,
    Upload,
    UploadStatus,
    Video,
)
from dailies.report import Retries, RunReport, RunStatus, Summary
from support import FakeClock

FIELDS = {
    *("code", "title", "source_url", "thumbnail_url", "duration", "views", "likes", "release_date", "categories", "people", "tags"),
    *(
        "studio",
        "series",
        "hosting",
        "preview_video_url",
        "preview_duration",
        "preview_clips",
        "preview_file_size_mb",
        "preview_ia",
    ),
    *("sha256", "updated_at"),
}


@pytest.fixture
def database(tmp_path: Path, clock: FakeClock) -> Database:
    return Database(tmp_path, tmp_path / "work", clock)


def video(number: int = 1, *, state: State = State.DONE, created_at: str = "2026-01-02T03:04:05Z", **more: Any) -> Video:
    identity = f"{number:012x}".ljust(64, "0")
    source = Source(kind="file", uri=f"media/inbox/{number}.mp4", original_name=f"{number}.mp4", size_bytes=9, identity=identity)
    video_id = f"talk-{number:012x}"
    known = {"id": video_id, "code": "talk", "title": f"Talk {number}", "source": source, "state": state, "created_at": created_at}
    return Video.model_validate({**known, "updated_at": created_at, **more})


def put(database: Database, *videos: Video) -> None:
    """Straight to disk: `save` syncs each, which a thousand need not."""
    for one in videos:
        path = database.path_of(one.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_json(one))


def read(database: Database, name: str) -> Any:
    return json.loads((database.folder / name).read_text("utf-8"))


def rebuild(database: Database, clock: FakeClock, report: RunReport | None = None) -> None:
    derived.rebuild(database, clock.now(), report)


def finished_video() -> Video:
    upload = Upload(status=UploadStatus.SUCCESS, watch_url="w", embed_url="e", direct_url="d", sha256="b" * 64)
    shown = upload.model_copy(update={"direct_url": "pd"})
    media = Media(
        duration_s=52.2, width=480, height=204, resolution="480x204", aspect_ratio="40:17", fps=24.0, video_codec="h264",
        audio_codec="aac", audio_channels=2, bit_rate=511000, rotation=0,
    )  # fmt: skip
    clips = (Clip(start_s=1, length_s=3), Clip(start_s=9, length_s=3))
    return video(
        media=media,
        file=MediaFile(name="x.mp4", size_bytes=5, sha256="b" * 64),
        metadata=Metadata(views=7, tags=("a", "b"), people=({"name": "Ann"},), studio="S"),
        preview=Preview(name="x.preview.mp4", size_bytes=1_234_567, duration_s=6.0, sha256="c" * 64, clips=clips),
        uploads={"archive": {Kind.VIDEO: upload, Kind.PREVIEW: shown}, "broken": {Kind.VIDEO: Upload(status=UploadStatus.FAILED)}},
    )


def test_combined_fields_are_exactly_the_designs() -> None:
    assert set(derived.combined_entry(video())) == FIELDS
    assert set(derived.combined_entry(finished_video())) == FIELDS


def test_a_finished_videos_entry_says_what_the_record_says() -> None:
    entry = derived.combined_entry(finished_video())

    assert (entry["code"], entry["title"], entry["duration"], entry["sha256"]) == ("talk", "Talk 1", 52.2, "b" * 64)
    assert (entry["views"], entry["tags"], entry["people"], entry["studio"]) == (7, ["a", "b"], [{"name": "Ann"}], "S")
    assert entry["hosting"] == {"archive": {"embed_url": "e", "watch_url": "w", "direct_url": "d"}}, "only where it is"
    assert (entry["preview_video_url"], entry["preview_duration"], entry["preview_clips"]) == ("pd", 6.0, 2)
    assert entry["preview_file_size_mb"] == 1.23


def test_the_path_of_a_source_on_this_machine_is_nobodys_business() -> None:
    assert derived.combined_entry(video())["source_url"] is None


def test_a_link_is_told() -> None:
    linked = video()
    linked = linked.with_(source=linked.source.model_copy(update={"kind": "http", "uri": "https://example.org/a.mp4"}))

    assert derived.combined_entry(linked)["source_url"] == "https://example.org/a.mp4"


def test_only_finished_videos_that_are_not_deleted_are_combined(database: Database, clock: FakeClock) -> None:
    put(database, *[video(number, state=state) for number, state in enumerate(State, start=1)])
    put(database, video(50, deleted_at="2026-01-05T00:00:00Z"))

    rebuild(database, clock)

    assert [entry["title"] for entry in read(database, "combined_videos.json")] == [f"Talk {list(State).index(State.DONE) + 1}"]


def test_pages_are_by_month_of_creation_newest_first(database: Database, clock: FakeClock) -> None:
    moments = ["2025-12-31T23:59:59Z", "2026-01-01T00:00:00Z", "2026-01-31T10:00:00Z"]
    put(database, *[video(number, created_at=moment) for number, moment in enumerate(moments)])

    rebuild(database, clock)

    pages = {path.stem: [entry["title"] for entry in read(database, f"combined/{path.name}")] for path in pages_of(database)}
    assert pages == {"2025-12": ["Talk 0"], "2026-01": ["Talk 2", "Talk 1"]}


def pages_of(database: Database) -> list[Path]:
    return sorted((database.folder / "combined").glob("*.json"))


def test_a_page_without_videos_goes(database: Database, clock: FakeClock) -> None:
    put(database, video(1, created_at="2025-12-01T00:00:00Z"), video(2))
    rebuild(database, clock)

    put(database, video(1, created_at="2025-12-01T00:00:00Z", deleted_at="2026-01-02T00:00:00Z"))
    rebuild(database, clock)

    assert [path.stem for path in pages_of(database)] == ["2026-01"]


def test_the_list_holds_the_newest_1000_and_the_pages_all(database: Database, clock: FakeClock) -> None:
    put(database, *[video(n, created_at=f"2026-01-02T{n // 3600:02d}:{n // 60 % 60:02d}:{n % 60:02d}Z") for n in range(1002)])

    rebuild(database, clock)

    titles = [entry["title"] for entry in read(database, "combined_videos.json")]
    assert (len(titles), titles[0], titles[-1]) == (1000, "Talk 1001", "Talk 2")
    assert len(read(database, "combined/2026-01.json")) == 1002


def failed(number: int, category: str) -> Video:
    error = LastError(step=StepName.INSPECT, attempt=4, category=category, message="m", action="failed", at="2026-01-02T03:04:05Z")
    return video(number, state=State.FAILED, last_error=error)


def test_status_counts_states_failures_and_what_is_due_next(database: Database, clock: FakeClock) -> None:
    put(database, video(1), failed(2, "damaged"), failed(3, "empty"), failed(4, "damaged"), video(5, state=State.WORKING))
    put(database, video(6, state=State.QUEUED, next_attempt_at="2026-01-02T05:00:00Z"), video(7, state=State.QUEUED))
    put(database, video(8, state=State.QUEUED, next_attempt_at="2026-01-02T04:00:00Z"))

    rebuild(database, clock)

    status = read(database, "status.json")
    assert status["videos"] == {"queued": 3, "working": 1, "done": 1, "failed": 3, "duplicate": 0, "unavailable": 0}
    assert (status["queue_depth"], status["next_due_at"], status["at"]) == (4, "2026-01-02T04:00:00Z", "2026-01-02T03:04:05Z")
    assert status["failures_by_category"] == {"damaged": 2, "empty": 1}
    assert set(status) == {
        "schema",
        "at",
        "videos",
        "queue_depth",
        "failures_by_category",
        "next_due_at",
        "schedule",
        "last_run",
    } | {"listings"}


def report(run_id: str) -> RunReport:
    at = "2026-01-02T03:04:05Z"
    return RunReport(
        run_id=run_id, status=RunStatus.COMPLETED, started_at=at, finished_at=at, time_limit_s=1.0, videos=(),
        summary=Summary(done=1), errors_by_category={}, retries=Retries(), mean_recovery_s=None,
    )  # fmt: skip


def test_status_keeps_the_last_run_until_there_is_another(database: Database, clock: FakeClock) -> None:
    rebuild(database, clock, report("one"))
    rebuild(database, clock)
    assert read(database, "status.json")["last_run"]["run_id"] == "one"

    rebuild(database, clock, report("two"))
    assert read(database, "status.json")["last_run"]["run_id"] == "two"
    assert read(database, "status.json")["last_run"]["summary"]["done"] == 1


def test_a_fresh_status_is_that_of_the_records_and_writes_nothing(database: Database, clock: FakeClock) -> None:
    rebuild(database, clock, report("one"))
    put(database, video(1, state=State.QUEUED))

    status = derived.fresh_status(database, clock.now())

    assert (status["queue_depth"], status["last_run"]["run_id"]) == (1, "one")
    assert read(database, "status.json")["queue_depth"] == 0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_broken_status_is_made_anew(content: bytes, database: Database, clock: FakeClock) -> None:
    database.folder.mkdir()
    (database.folder / "status.json").write_bytes(content)

    rebuild(database, clock)

    assert read(database, "status.json")["last_run"] is None


def test_unchanged_content_is_not_rewritten(database: Database, clock: FakeClock) -> None:
    put(database, video(1), video(2, created_at="2025-12-01T00:00:00Z"))
    rebuild(database, clock)
    names = [database.folder / "combined_videos.json", database.folder / "status.json", *pages_of(database)]
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in names}

    rebuild(database, clock)

    assert len(names) == 4
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in names} == before


def test_only_the_page_that_changed_is_rewritten(database: Database, clock: FakeClock) -> None:
    put(database, video(1), video(2, created_at="2025-12-01T00:00:00Z"))
    rebuild(database, clock)
    december, january = pages_of(database)
    before = (december.stat().st_ino, december.stat().st_mtime_ns)

    put(database, video(3))
    rebuild(database, clock)

    assert (december.stat().st_ino, december.stat().st_mtime_ns) == before
    assert len(json.loads(january.read_text("utf-8"))) == 2


def test_what_is_written_is_plain_text_for_git(database: Database, clock: FakeClock) -> None:
    put(database, video(1, title="Café ✓"))

    rebuild(database, clock)

    text = (database.folder / "combined_videos.json").read_bytes()
    assert "Café ✓".encode() in text
    assert text.endswith(b"]\n")
    assert list(database.folder.rglob(".tmp-*")) == []
