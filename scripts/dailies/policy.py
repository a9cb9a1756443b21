"""What becomes of a video after each kind of event; pure: the rules of retries, interruptions and waiting."""

import math
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from dailies import uploads
from dailies.clock import parse_timestamp, timestamp
from dailies.config import Settings
from dailies.errors import Category, DailiesError, Postponed, SourceGone, Transient, VideoError
from dailies.model import LastError, State, StepName, StepRecord, StepStatus, Upload, UploadStatus, Video

MAX_INTERRUPTIONS: Final = 5  # the runner dying unexplained in the same step of a video this often fails it (design, rule 10)
MEDIA_BYTES_PER_S: Final = 5_000_000  # slow disk and slow cores: what a video's own estimate reckons with
STEP_FACTOR: Final = 4.0  # times the media's duration, on top of [run] step_timeout
_OPEN: Final = frozenset({State.QUEUED, State.WORKING})


def is_open(video: Video) -> bool:
    return video.state in _OPEN and video.deleted_at is None


def is_due(video: Video, now: datetime) -> bool:
    return video.next_attempt_at is None or parse_timestamp(video.next_attempt_at) <= now


def is_claimed(video: Video, now: datetime, besides: str = "") -> bool:
    """Whether another run owns it at this moment (design, rule 9)."""
    return video.claim is not None and video.claim.run_id != besides and parse_timestamp(video.claim.until) > now


def is_takeable(video: Video, now: datetime, run_id: str = "", *, is_forced: bool = False) -> bool:
    """Open, due (or forced), and no other run's."""
    return is_open(video) and (is_forced or is_due(video, now)) and not is_claimed(video, now, run_id)


def in_order(videos: Iterable[Video]) -> list[Video]:
    """Oldest first; ids break ties, so that every run has the same order."""
    return sorted(videos, key=lambda video: (video.created_at, video.id))


def queue(videos: Iterable[Video], now: datetime, *, is_forced: bool = False) -> list[Video]:
    """What a run may take, in its order."""
    return in_order(video for video in videos if is_takeable(video, now, is_forced=is_forced))


def estimate_s(video: Video) -> float:
    """Seconds that a video may take; a run with less left does not start it."""
    return video.source.size_bytes / MEDIA_BYTES_PER_S


def may_start(video: Video, remaining_s: float, settings: Settings) -> bool:
    """Whether the run's remaining time is enough to begin with this video (design, rule 3)."""
    return remaining_s >= max(settings.run.min_remaining, estimate_s(video))


def step_limit_s(video: Video, step: StepName, settings: Settings) -> float:
    """Seconds after which a step of this video is stuck; a link is fetched as long as something comes."""
    if step is StepName.FETCH and video.source.kind != "file":
        return math.inf
    duration_s = video.media.duration_s if video.media else video.source.size_bytes / MEDIA_BYTES_PER_S
    return settings.run.step_timeout + STEP_FACTOR * duration_s


def backoff_s(attempt: int, settings: Settings) -> float:
    """2^n minutes after the n-th failure, capped."""
    return float(min(60 * 2.0 ** min(attempt, 30), settings.publish.retry_cap))


def after_error(video: Video, step: StepName | None, error: DailiesError, message: str, settings: Settings, now: datetime) -> Video:
    """The record after a failure; `message` is the redacted text of `error`."""
    if isinstance(error, SourceGone):
        return _ended(video, State.UNAVAILABLE, step, error, message, now)
    if isinstance(error, Postponed):
        return video.with_(state=State.QUEUED, next_attempt_at=timestamp(error.until + timedelta(seconds=0.999)))
    if not isinstance(error, VideoError | Transient):
        # waiting, out of time, interrupted, a person's matter: nothing is counted. Why it waits is in the log and the
        # report: a video that waits changes no record
        return video.with_(state=State.QUEUED)
    attempt = video.retry_count + 1
    crashed_again = error.category is Category.CRASHED and _crashed_before(video)
    if isinstance(error, VideoError) or crashed_again or attempt > settings.publish.max_retries:
        return _ended(video.with_(retry_count=attempt), State.FAILED, step, error, message, now)
    wait = timedelta(seconds=backoff_s(attempt, settings))
    put_back = video.with_(retry_count=attempt, state=State.QUEUED, next_attempt_at=timestamp(now + wait))
    return put_back.with_(last_error=_last_error(put_back, step, error, message, "queued again", now))


def _crashed_before(video: Video) -> bool:
    return video.last_error is not None and video.last_error.category == Category.CRASHED


def _last_error(video: Video, step: StepName | None, error: DailiesError, message: str, action: str, now: datetime) -> LastError:
    return LastError(
        step=step, attempt=video.retry_count, category=error.category, message=message, action=action, at=timestamp(now)
    )


def _ended(video: Video, state: State, step: StepName | None, error: DailiesError, message: str, now: datetime) -> Video:
    record = _last_error(video, step, error, message, "given up; `dailies retry` starts it anew", now)
    return video.with_(state=state, last_error=record, next_attempt_at=None, claim=None)


def after_crash(video: Video, step: StepName | None, now: datetime) -> Video:
    """A video that a dead run had in hand, in this step: queued again; the fifth time in a row failed.

    Not while a link was fetched, which may take longer than many machines live: what came is gone on from.
    """
    if step is None or (step is StepName.FETCH and video.source.kind != "file"):
        return video.with_(state=State.QUEUED)
    count = video.interruptions + 1 if video.interrupted_step is step else 1
    video = video.with_(state=State.QUEUED, interruptions=count, interrupted_step=step)
    if count < MAX_INTERRUPTIONS:
        return video
    message = f"{video.code}: the run died {count} times in a row in step {step}; look at the file, then `dailies retry {video.id}`"
    return _ended(video, State.FAILED, step, VideoError(message, Category.CRASHED), message, now)


def after_step(video: Video, step: StepName, duration_s: float, now: datetime) -> Video:
    done = StepRecord(status=StepStatus.COMPLETED, duration_s=round(duration_s, 3), at=timestamp(now))
    video = video.with_step(step, done)
    return video.with_(interruptions=0, interrupted_step=None) if video.interrupted_step is step else video


def after_optional_failure(video: Video, step: StepName, duration_s: float, message: str, now: datetime) -> Video:
    """A preview that failed is a warning; so is anything that keeps a published video from having one."""
    failed = StepRecord(status=StepStatus.FAILED, duration_s=round(duration_s, 3), at=timestamp(now), error=message)
    video = video.with_step(step, failed).with_warning(f"{step}: {message}")
    if step is StepName.ANALYSE:  # what an earlier look found is kept nowhere any more
        video = video.with_(images={}, markers=())
    is_before_preview = step in {StepName.FETCH, StepName.INSPECT, StepName.CONVERT}
    return video.with_step(StepName.PREVIEW, failed) if is_before_preview else video


def after_loss(video: Video) -> Video:
    """A host has not kept what it had confirmed: a finished video is queued again, and sent from what is left of it."""
    return video.with_(state=State.QUEUED, next_attempt_at=None) if video.state is State.DONE else video


def finished(video: Video) -> Video:
    return video.with_(state=State.DONE, next_attempt_at=None, last_error=None, claim=None)


def retried(video: Video) -> Video:
    """By hand: everything that failed is forgotten, what was completed stays; the larger epoch wins a merge."""
    kept = {name: record for name, record in video.steps.items() if video.has_completed(name)}
    if video.state is State.DUPLICATE:
        video, kept = _uncompared(video), {name: record for name, record in kept.items() if name is not StepName.ANALYSE}
    return video.with_(
        state=State.QUEUED,
        epoch=video.epoch + 1,
        retry_count=0,
        interruptions=0,
        interrupted_step=None,
        next_attempt_at=None,
        last_error=None,
        duplicate_of=None,
        warnings=(),
        steps=kept,
        uploads={host: {kind: uploads.again(upload) for kind, upload in kinds.items()} for host, kinds in video.uploads.items()},
        media=None if video.state is State.DUPLICATE else video.media,  # inspected anew: it may still be one
    )


def is_retryable(video: Video) -> bool:
    """Whatever is not on its way or all well; a finished video whose preview failed too."""
    has_failed_step = any(record.status is StepStatus.FAILED for record in video.steps.values())
    return video.state is not State.WORKING and (video.state is not State.DONE or has_failed_step)


def needs_retry(video: Video) -> bool:
    return video.state in {State.FAILED, State.UNAVAILABLE} and video.deleted_at is None


def is_orphaned_duplicate(video: Video, states: dict[str, State]) -> bool:
    """A duplicate of a failed or removed video is not a duplicate (design, rule 12)."""
    return video.state is State.DUPLICATE and states.get(video.duplicate_of or "") not in {State.DONE, *_OPEN}


def freed_duplicate(video: Video) -> Video:
    """Inspected anew, so that of several freed at once one is the original of the others."""
    freed = {host: {kind: _unblocked(upload) for kind, upload in kinds.items()} for host, kinds in video.uploads.items()}
    return _uncompared(video).with_(state=State.QUEUED, duplicate_of=None, media=None, uploads=freed)


def _unblocked(upload: Upload) -> Upload:
    return uploads.again(upload) if upload.status is UploadStatus.BLOCKED else upload


def _uncompared(video: Video) -> Video:
    """As if it had never been looked at: it may look like another by now."""
    steps = {name: record for name, record in video.steps.items() if name is not StepName.ANALYSE}
    return video.with_(steps=steps, similar_to=None)
