"""The registry's rules: what becomes of an upload after each kind of event; pure (docs/registry.md)."""

import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from dailies.clock import parse_timestamp, timestamp
from dailies.config import Publish
from dailies.hosts import Asset, Receipt
from dailies.model import Kind, Part, Upload, UploadStatus, Video

OPEN: Final = frozenset({UploadStatus.IN_PROGRESS, UploadStatus.UNKNOWN})  # sent, perhaps: the host knows
ENDED: Final = frozenset({UploadStatus.FAILED_FINAL, UploadStatus.BLOCKED})  # only a person starts it anew


def hosts_of(video: Video, publish: Publish) -> tuple[str, ...]:
    """Where the video is to go, in order: those that a person named for it, else those of the settings."""
    return video.hosts or publish.hosts


def needs_publishing(video: Video, publish: Publish) -> bool:
    on = [video.is_on(name) for name in hosts_of(video, publish)]
    return not any(on) if publish.strategy == "fallback" else not all(on)


def in_turn(video: Video, publish: Publish) -> tuple[str, ...]:
    """The hosts in the order in which they are asked: what may have been sent is cleared up before anything else is."""
    names = hosts_of(video, publish)
    return tuple(sorted(names, key=lambda name: video.upload(name, Kind.VIDEO).status not in OPEN))


def ends_fallback(upload: Upload) -> bool:
    """Whether no further host is tried: that would make it two copies."""
    return upload.status in OPEN or upload.status is UploadStatus.BLOCKED


def refusal(upload: Upload, now: datetime, *, may_repeat: bool = False, is_direct: bool = False) -> str | None:
    """Why this upload may not be sent now; None where it may. `may_repeat`: a person allows copies of it; `is_direct`: a person
    sends it, who need not wait."""
    if may_repeat and upload.status in {UploadStatus.SUCCESS, UploadStatus.BLOCKED}:
        return None
    if upload.status is UploadStatus.SUCCESS:
        return "is there already"
    if upload.status in ENDED:
        return f"{upload.status}: {upload.error or 'given up'}"
    is_early = upload.status is UploadStatus.RATE_LIMITED and upload.until is not None and parse_timestamp(upload.until) > now
    if is_early and not is_direct:
        return f"not before {upload.until}: {upload.error or 'rate limited'}"
    return None


def begun(upload: Upload, adapter: str, asset: Asset, now: datetime) -> Upload:
    """The intent, with an attempt id of its own and what is sent: saved before the first byte."""
    return upload.model_copy(
        update={
            "status": UploadStatus.IN_PROGRESS,
            "adapter": adapter,
            "sha256": asset.sha256,
            "size_bytes": asset.size_bytes,
            "attempt_id": os.urandom(8).hex(),
            "at": timestamp(now),
            "until": None,
        }
    )


def succeeded(upload: Upload, adapter: str, assets: Mapping[str, Asset], receipts: Mapping[str, Receipt], now: datetime) -> Upload:
    """The first file's links are the upload's; where there are several each is one of its parts."""
    first = next(iter(receipts))
    receipt = receipts[first]
    parts = {
        part: Part(
            name=assets[part].name,
            sha256=assets[part].sha256,
            size_bytes=assets[part].size_bytes,
            remote_id=one.remote_id,
            direct_url=one.direct_url,
        )
        for part, one in receipts.items()
    }
    return _changed(
        upload,
        now,
        status=UploadStatus.SUCCESS,
        adapter=adapter,
        remote_id=receipt.remote_id,
        sha256=assets[first].sha256,
        size_bytes=assets[first].size_bytes,
        error=None,
        until=None,
        is_settling=not all(one.is_settled for one in receipts.values()),
        watch_url=receipt.watch_url,
        embed_url=receipt.embed_url,
        direct_url=receipt.direct_url,
        previous=tuple(entry for entry in upload.previous if entry.get("remote_id") != receipt.remote_id),
        parts=parts if len(parts) > 1 else {},
    )


def failed(upload: Upload, error: str, max_retries: int, now: datetime) -> Upload:
    """Counted; one more than `max_retries` is final."""
    count = upload.retry_count + 1
    status = UploadStatus.FAILED_FINAL if count > max_retries else UploadStatus.FAILED
    return _changed(upload, now, status=status, retry_count=count, error=error)


def refused(upload: Upload, error: str, now: datetime) -> Upload:
    return _changed(upload, now, status=UploadStatus.FAILED_FINAL, error=error)


def blocked(upload: Upload, error: str, now: datetime) -> Upload:
    return _changed(upload, now, status=UploadStatus.BLOCKED, error=error)


def limited(upload: Upload, error: str, until: datetime) -> Upload:
    """`at` stays that of the last attempt: waiting takes no place of a day."""
    later = timestamp(until + timedelta(seconds=0.999))
    return upload.model_copy(update={"status": UploadStatus.RATE_LIMITED, "error": error, "until": later})


def unknown(upload: Upload, error: str, now: datetime) -> Upload:
    return _changed(upload, now, status=UploadStatus.UNKNOWN, error=error)


def not_begun(upload: Upload, before: Upload, error: str | None) -> Upload:
    """As it was before an attempt that came to nothing and is not counted, not among those of a day either."""
    status = before.status if before.status not in OPEN else UploadStatus.PENDING
    kept = {key: getattr(before, key) for key in ("attempt_id", "at", "until")}
    return upload.model_copy(update={**kept, "status": status, "error": error})


def settled(upload: Upload) -> Upload:
    return upload.model_copy(update={"is_settling": False, "error": None})


def lost(upload: Upload, error: str, max_retries: int, now: datetime, *, is_worth_sending: bool) -> Upload:
    """A host has not kept what it had confirmed; where it would refuse the next copy too, that was the last."""
    upload = upload.model_copy(update={"epoch": upload.epoch + 1, "is_settling": False})
    return failed(upload, error, max_retries, now) if is_worth_sending else refused(upload, error, now)


def is_hopeless(video: Video, publish: Publish) -> bool:
    """Whether it is not where it should be, and no host will take it any more by itself."""
    statuses = [video.upload(name, Kind.VIDEO).status for name in hosts_of(video, publish)]
    return needs_publishing(video, publish) and all(status in {*ENDED, UploadStatus.SUCCESS} for status in statuses)


def again(upload: Upload) -> Upload:
    """By hand: what had failed may be tried anew; what may have been sent is still asked for first."""
    if upload.status in OPEN or upload.status is UploadStatus.SUCCESS:
        return upload.model_copy(update={"retry_count": 0})
    fresh = {"status": UploadStatus.PENDING, "retry_count": 0, "error": None, "until": None}
    return upload.model_copy(update={**fresh, "epoch": upload.epoch + (upload.status is not UploadStatus.PENDING)})


def replaced(upload: Upload) -> Upload:
    """By force: sent anew beside what is there, which is listed among `previous`."""
    entry = {
        key: value for key, value in upload.model_dump(mode="json", exclude={"previous"}).items() if value not in (None, {}, [])
    }
    return Upload(epoch=upload.epoch + 1, previous=(*upload.previous, entry))


def _changed(upload: Upload, now: datetime, **changes: Any) -> Upload:
    return upload.model_copy(update={**changes, "at": timestamp(now)})
