"""What is made from the records for readers: combined pages, status.json, a badge. Never a source of truth, never in conflict."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from pydantic import BaseModel

from dailies import atomic, links, schedule, summary
from dailies.clock import parse_timestamp, timestamp
from dailies.database import Database, Glance
from dailies.errors import ConfigError
from dailies.listings import memory
from dailies.model import Kind, Preview, State, Timestamp, Upload, Video
from dailies.patience import GIVEN_UP
from dailies.report import ListingReport, RunReport, RunStatus, Slot, recent

NEWEST: Final = 1000
_ARCHIVE: Final = "internet_archive"  # the adapter, as uploads name it
_LOOKED_AT: Final = 10  # reports of runs, for the last one and the last that was scheduled


def combined_entry(video: Video) -> dict[str, Any]:
    """One flat object per finished video (design, "Records")."""
    uploads = {name: kinds[Kind.VIDEO] for name, kinds in video.uploads.items() if video.is_on(name)}
    previews = {name: kinds[Kind.PREVIEW] for name, kinds in video.uploads.items() if video.is_on(name, Kind.PREVIEW)}
    first_preview = next(iter(previews.values()), None)
    preview = video.preview
    metadata = video.metadata
    return {
        "code": video.code,
        "title": video.title,
        "source_url": links.public(video.source.uri) if links.is_link(video.source.uri) else None,
        "thumbnail_url": _cover(video),
        "duration": video.media.duration_s if video.media else None,
        "views": metadata.views,
        "likes": metadata.likes,
        "release_date": metadata.release_date,
        "categories": list(metadata.categories),
        "people": [dict(person) for person in metadata.people],
        "tags": list(metadata.tags),
        "studio": metadata.studio,
        "series": metadata.series,
        "hosting": {
            name: {"embed_url": upload.embed_url, "watch_url": upload.watch_url, "direct_url": upload.direct_url}
            for name, upload in sorted(uploads.items())
        },
        "preview_video_url": first_preview.direct_url or first_preview.watch_url if first_preview else None,
        "preview_duration": preview.duration_s if preview else None,
        "preview_clips": len(preview.clips) if preview else 0,
        "preview_file_size_mb": round(preview.size_bytes / 1e6, 2) if preview else None,
        "preview_ia": _archived(previews.values(), preview),
        "sha256": video.file.sha256 if video.file else None,
        "updated_at": video.updated_at,
    }


def _archived(previews: Iterable[Upload], preview: Preview | None) -> dict[str, Any] | None:
    """Where the Internet Archive has the preview; its ids are `identifier/file name`."""
    found = next((one for one in previews if one.adapter == _ARCHIVE and one.remote_id), None)
    if found is None or preview is None:
        return None
    return {
        "identifier": (found.remote_id or "").partition("/")[0],
        "direct_url": found.direct_url,
        "details_url": found.watch_url,
        "file_size_mb": round(preview.size_bytes / 1e6, 2),
    }


def _cover(video: Video) -> str | None:
    covers = (kinds[Kind.IMAGE] for name, kinds in video.uploads.items() if video.is_on(name, Kind.IMAGE))
    return next((cover.direct_url or cover.watch_url for cover in covers), None)


@dataclass
class _Counts:
    """What status.json says of the records."""

    states: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    due: list[str] = field(default_factory=list)

    def take(self, video: Video | Glance) -> None:
        self.states[video.state] += 1
        if video.state is State.FAILED and video.last_error:
            self.failures[video.last_error.category] += 1
        if video.state is State.QUEUED and video.next_attempt_at:
            self.due.append(video.next_attempt_at)


def rebuild(database: Database, now: datetime, last_run: RunReport | None) -> None:
    """Write combined_videos.json, its pages, status.json and badge.json from one pass over the records."""
    pages: dict[str, list[Video]] = defaultdict(list)
    counts = _Counts()
    for video in database.videos():
        counts.take(video)
        if video.state is State.DONE:
            pages[video.created_at[:7]].append(video)
    _write_pages(database.folder, pages)
    newest = _newest_first(video for page in pages.values() for video in page)
    _write(database.folder / "combined_videos.json", [combined_entry(video) for video in newest[:NEWEST]])
    status = _status(counts, _last(database.folder, last_run), now)
    _write(database.folder / "status.json", status)
    _write(database.folder / "badge.json", summary.badge(status))


@dataclass(frozen=True)
class _Runs:
    """What status.json says of runs: the last one, the schedule as it was found last, how listing sources stand by then."""

    last: Any
    slot: Any
    listings: Mapping[str, Any]

    @classmethod
    def known(cls, status: Mapping[str, Any]) -> Self:
        return cls(status.get("last_run"), status.get("schedule"), status.get("listings") or {})


def _last(folder: Path, finished: RunReport | None) -> _Runs:
    """Of the run that ends, those that any machine recorded, and status.json."""
    known = _Runs.known(read_status(folder))
    reports = [*filter(None, [finished]), *recent(folder.glob("runs/*/*.json"), _LOOKED_AT)]
    runs = [*map(_run_summary, reports), *filter(None, [known.last])]
    slots = filter(None, [*map(_slot, reports), known.slot])
    newest = max(runs, key=lambda run: str(run["finished_at"]), default=None)
    listings = [*(report.model_dump(mode="json")["listings"] for report in reports if report.listings), known.listings]
    return _Runs(
        newest, max(slots, key=lambda slot: str(slot["started_at"]), default=None), max(listings, key=_looked_at, default={})
    )


def _looked_at(listings: Mapping[str, Any]) -> str:
    """When the newest of them was asked."""
    return max((str(one.get("at") or "") for one in listings.values()), default="")


def fresh_status(database: Database, now: datetime) -> dict[str, Any]:
    """status.json as it would be written now."""
    counts = _Counts()
    for glance in database.glances():
        counts.take(glance)
    known = _Runs.known(read_status(database.folder))
    here = memory.read(database.root / "work/listings.json", known.listings)  # of runs that had nothing to commit
    listings = {name: one.report.model_dump(mode="json") for name, one in here.items()}
    return _status(counts, replace(known, listings=listings), now)


def are_news(listings: Mapping[str, ListingReport], folder: Path) -> bool:
    """Whether the patience with a source is another than status.json has it: a machine without a work folder must know.

    A source that is given up stays so, however often it is tried.
    """
    known = read_status(folder).get("listings") or {}
    now = {name: one.model_dump() for name, one in listings.items()}
    return bool(now) and any(_standing(now.get(name, {})) != _standing(known.get(name, {})) for name in {*now, *known})


def _standing(report: Mapping[str, Any]) -> tuple[int, str | None]:
    return min(report.get("failures", 0), GIVEN_UP), report.get("next_try_at")


def _newest_first(videos: Iterable[Video]) -> list[Video]:
    return sorted(videos, key=lambda video: (video.created_at, video.id), reverse=True)


def _status(counts: _Counts, runs: _Runs, now: datetime) -> dict[str, Any]:
    return {
        "schema": 1,
        "at": timestamp(now),
        "videos": {state.value: counts.states[state] for state in State},
        "queue_depth": counts.states[State.QUEUED] + counts.states[State.WORKING],
        "failures_by_category": dict(sorted(counts.failures.items())),
        "next_due_at": min(counts.due, default=None),
        "schedule": runs.slot and {**runs.slot, "next_due_at": schedule.next_due(runs.slot["cron"], now)},
        "listings": runs.listings,
        "last_run": runs.last,
    }


class _Schedule(Slot):
    started_at: Timestamp


class _LastRun(BaseModel):
    status: RunStatus
    finished_at: Timestamp


class _Status(BaseModel):
    """The shape of status.json that others may rely on."""

    at: Timestamp
    videos: Mapping[str, int]
    queue_depth: int
    failures_by_category: Mapping[str, int]
    schedule: _Schedule | None = None
    last_run: _LastRun | None = None
    listings: Mapping[str, ListingReport] = {}


def read_status(folder: Path) -> dict[str, Any]:
    """The last written status.json; empty where there is none or it cannot be read, as it is rebuilt anyway."""
    try:
        content = (folder / "status.json").read_text("utf-8")
        known = _Status.model_validate_json(content)
        moments = [known.at, *([known.last_run.finished_at] if known.last_run else [])]
        if known.schedule:
            schedule.next_due(known.schedule.cron, parse_timestamp(known.schedule.due_at))
            moments.append(known.schedule.started_at)
        for moment in moments:
            parse_timestamp(moment)
    except (OSError, ValueError, ConfigError):
        return {}
    return dict(json.loads(content))


def _slot(report: RunReport | None) -> dict[str, Any] | None:
    """The schedule as its last run found it; a run by hand says nothing about it."""
    if report is None or report.slot is None:
        return None
    return {**report.slot.model_dump(mode="json"), "started_at": report.started_at}


def _run_summary(report: RunReport) -> dict[str, Any]:
    return {
        "run_id": report.run_id,
        "status": report.status.value,
        "started_at": report.started_at,
        "finished_at": report.finished_at,
        "summary": report.summary.model_dump(mode="json"),
    }


def _write_pages(folder: Path, pages: dict[str, list[Video]]) -> None:
    for month, videos in pages.items():
        _write(folder / "combined" / f"{month}.json", [combined_entry(video) for video in _newest_first(videos)])
    for path in (folder / "combined").glob("*.json"):
        if path.stem not in pages:
            path.unlink()


def _write(path: Path, content: Any) -> None:
    """Only where it says something new."""
    encoded = (json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()
    if not path.exists() or path.read_bytes() != encoded:
        atomic.write(path, encoded)
