"""What a run did: collected while it goes, then JSON and a line of text."""

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from dailies.clock import parse_timestamp, show_duration, timestamp
from dailies.model import Record, State, StepName, StepStatus, Timestamp, Video


class RunStatus(StrEnum):
    COMPLETED = "completed"
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    CANCELLED = "cancelled"
    FAILED = "failed"


class StepReport(Record):
    status: StepStatus
    duration_s: float
    error: str | None = None


class VideoReport(Record):
    id: str
    code: str
    state: State
    steps: Mapping[StepName, StepReport]
    bytes: int

    def last_error(self) -> str:
        """Of its last step that had one; empty for none."""
        return next((step.error for step in reversed(list(self.steps.values())) if step.error), "")


class Summary(Record):
    done: int = 0
    failed: int = 0
    duplicate: int = 0
    skipped: int = 0
    remaining: int = 0
    bytes_in: int = 0


class Retries(Record):
    attempted: int = 0
    succeeded: int = 0


class Slot(Record):
    """A schedule's slot that a run served. `late_s` from when it was due until GitHub fired it; `missed` slots came after it."""

    cron: str
    due_at: Timestamp
    late_s: float
    missed: int


class ListingReport(Record):
    """How it stands with a source of listings (docs/sources.md, "Patience"): `failures` in a row, entries `found` when it was last
    read, and how many of them were queued then (`added`); `at`: when it was last asked."""

    failures: int = 0
    next_try_at: Timestamp | None = None
    last_success_at: Timestamp | None = None
    error: str | None = None
    found: int = 0
    added: int = 0
    at: Timestamp | None = None


class PushState(Record):
    """How a push went, for the run report."""

    attempts: int = 0
    races: int = 0
    waits_s: tuple[float, ...] = ()
    last_error: str | None = None
    backup: str | None = None


class RunReport(Record):
    """`database/runs/<year>-<month>/<run id>.json`. `skipped` were not started or wait; `put_back` failed and are tried again;
    `remaining` are still in the queue."""

    schema_version: int = 1
    run_id: str
    status: RunStatus
    started_at: Timestamp
    finished_at: Timestamp
    time_limit_s: float
    videos: tuple[VideoReport, ...]
    summary: Summary
    errors_by_category: Mapping[str, int]
    retries: Retries
    mean_recovery_s: float | None
    seconds_saved_by_overlap: float = 0.0  # what the steps took one by one, less the time in which any was at work
    put_back: int = 0
    problems: tuple[str, ...] = ()
    push: PushState | None = None
    slot: Slot | None = None  # of a scheduled run
    listings: Mapping[str, ListingReport] = {}  # by name; the inbox is one of them


def new_run_id(now: datetime) -> str:
    return f"{timestamp(now).replace(':', '').replace('-', '')}-{os.urandom(3).hex()}"


class Collector:
    """Takes what happens, from any thread; makes the report at the end."""

    def __init__(
        self, run_id: str, started: datetime, time_limit_s: float, clean: Callable[[str], str], slot: Slot | None = None
    ) -> None:
        self.run_id = run_id
        self._started = started
        self._time_limit_s = time_limit_s
        self._clean = clean
        self._slot = slot
        self._lock = threading.Lock()
        self._steps: dict[str, dict[StepName, StepReport]] = {}
        self._spans: list[tuple[float, float]] = []  # of steps, monotonic seconds
        self._videos: dict[str, Video] = {}
        self._errors: Counter[str] = Counter()
        self._retried: set[str] = set()
        self._recoveries: list[float] = []
        self._put_back = 0
        self._skipped = 0
        self._problems: list[str] = []
        self._has_trouble = False
        self._listings: Mapping[str, ListingReport] = {}
        self.has_begun = False

    def begin(self) -> None:
        """The run lock is held: from here on it is this run."""
        self.has_begun = True

    @property
    def has_videos(self) -> bool:
        return bool(self._videos)

    def started_video(self, video: Video) -> None:
        with self._lock:
            self._videos[video.id] = video
            self._steps.setdefault(video.id, {})

    def step(self, video: Video, name: StepName, status: StepStatus, span: tuple[float, float], error: str | None = None) -> None:
        """`span`: when it began and ended, in monotonic seconds."""
        said, duration_s = self._clean(error) if error else None, span[1] - span[0]
        with self._lock:
            self._spans.append(span)
            self._steps[video.id][name] = StepReport(status=status, duration_s=round(duration_s, 3), error=said)

    def failure(self, category: str, *, is_put_back: bool) -> None:
        with self._lock:
            self._errors[category] += 1
            self._put_back += is_put_back

    def ended_video(self, before: Video, after: Video, now: datetime) -> None:
        with self._lock:
            self._videos[after.id] = after
            if before.retry_count and self._steps[after.id]:
                self._retried.add(after.id)
            if after.state is State.DONE and before.last_error is not None and before.retry_count:
                self._recoveries.append((now - parse_timestamp(before.last_error.at)).total_seconds())

    def count_done(self) -> int:
        """Finished videos so far."""
        with self._lock:
            return sum(video.state is State.DONE for video in self._videos.values())

    def skipped(self, count: int = 1) -> None:
        with self._lock:
            self._skipped += count

    def problem(self, text: str, *, is_failure: bool = False) -> None:
        """Something about the run that is no video's failure: a refused file in the inbox, a record that cannot be read, a host
        that was left alone (`is_failure`: such a run is not all well)."""
        with self._lock:
            self._has_trouble = self._has_trouble or is_failure
            self._problems.append(self._clean(text))

    def listed(self, listings: Mapping[str, ListingReport]) -> None:
        """How it stands with all sources of listings by now."""
        self._listings = {
            name: one.model_copy(update={"error": self._clean(one.error) if one.error else None}) for name, one in listings.items()
        }

    @property
    def has_failures(self) -> bool:
        """A failed video, or one that a failure put back: never "completed" then."""
        return (
            self._has_trouble
            or bool(self._put_back)
            or any(video.state in {State.FAILED, State.UNAVAILABLE} for video in self._videos.values())
        )

    def report(self, status: RunStatus, now: datetime, remaining: int) -> RunReport:
        states = Counter(video.state for video in self._videos.values())
        done = {video.id for video in self._videos.values() if video.state is State.DONE}
        recoveries = self._recoveries
        return RunReport(
            run_id=self.run_id,
            status=status,
            started_at=timestamp(self._started),
            finished_at=timestamp(now),
            time_limit_s=self._time_limit_s,
            videos=tuple(self._video(video) for video in self._videos.values()),
            summary=Summary(
                done=states[State.DONE],
                failed=states[State.FAILED] + states[State.UNAVAILABLE],
                duplicate=states[State.DUPLICATE],
                skipped=self._skipped,
                remaining=remaining,
                bytes_in=sum(video.source.size_bytes for video in self._videos.values() if StepName.FETCH in self._steps[video.id]),
            ),
            errors_by_category=dict(sorted(self._errors.items())),
            retries=Retries(attempted=len(self._retried), succeeded=len(self._retried & done)),
            mean_recovery_s=round(sum(recoveries) / len(recoveries), 1) if recoveries else None,
            seconds_saved_by_overlap=round(saved_by_overlap(self._spans), 3),
            put_back=self._put_back,
            problems=tuple(self._problems),
            slot=self._slot,
            listings=self._listings,
        )

    def _video(self, video: Video) -> VideoReport:
        return VideoReport(
            id=video.id, code=video.code, state=video.state, steps=self._steps[video.id], bytes=video.source.size_bytes
        )


def saved_by_overlap(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds that all spans take one by one, less the length of their union."""
    saved, end = 0.0, float("-inf")
    for began, ended in sorted(spans):
        saved += max(0.0, min(end, ended) - began)
        end = max(end, ended)
    return saved


def recent(paths: Iterable[Path], count: int = 1) -> list[RunReport]:
    """The last runs, newest first, as far as their reports can be read; the files are named by the time of their start."""
    found: list[RunReport] = []
    for path in sorted(paths, key=lambda path: path.name, reverse=True)[:count]:
        with contextlib.suppress(OSError, ValueError):
            found.append(RunReport.model_validate_json(path.read_bytes()))
    return found


def sentence(report: RunReport) -> str:
    """One line for people: what a run came to."""
    summary = report.summary
    counts = {name: getattr(summary, name) for name in ("done", "failed", "duplicate", "skipped")} | {"put back": report.put_back}
    nothing = "nothing finished" if report.videos else "nothing to do"
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or nothing
    seconds = (parse_timestamp(report.finished_at) - parse_timestamp(report.started_at)).total_seconds()
    return f"{report.status}: {said}; {summary.remaining} left in the queue; {show_duration(seconds)}"


def status_of(collector: Collector, *, is_cancelled: bool, has_problem: bool) -> RunStatus:
    """`has_problem`: a person must act; with no video taken nothing came of the run."""
    if is_cancelled:
        return RunStatus.CANCELLED
    if has_problem and not collector.has_videos:
        return RunStatus.FAILED
    return RunStatus.COMPLETED_WITH_ERRORS if collector.has_failures or has_problem else RunStatus.COMPLETED


def commit_title(report: RunReport) -> str:
    """What changed: `database: 3 done, 1 failed`."""
    summary: Mapping[str, Any] = report.summary.model_dump()
    said = ", ".join(f"{summary[name]} {name}" for name in ("done", "failed", "duplicate") if summary[name])
    return f"database: {said or 'queue updated'}"
