"""The steps of a video's way, in order. Each takes a video and returns a new one; none stores by itself.

A step asks the record and the work folder whether it is needed, never a flag in memory: running again repeats nothing.
"""

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from dailies import cleanup, copying
from dailies.clock import Clock, Deadline, timestamp
from dailies.config import Settings
from dailies.errors import Category, Transient
from dailies.hosts import Host, Receipt
from dailies.media import probe as probing
from dailies.media import render, scenes
from dailies.media.probe import Probe
from dailies.model import Kind, MediaFile, Preview, State, StepName, StepStatus, Upload, UploadStatus, Video
from dailies.sources import fetcher

Lane = Literal["media", "transfer"]
_OPEN: Final = frozenset({UploadStatus.IN_PROGRESS, UploadStatus.UNKNOWN})
_SPACE_FACTOR: Final = 3.2  # the copy, the MP4 and what a folder host on the same disk takes of it, a tenth spare
_SPACE_EXTRA_BYTES: Final = 64_000_000  # the preview


@dataclass(frozen=True)
class WorkFolder:
    """`work/<video id>/`: `tmp/` goes with the step or the run, `kept/` when the video is done or failed for good."""

    path: Path

    @property
    def kept(self) -> Path:
        return self.path / "kept"

    @property
    def tmp(self) -> Path:
        return self.path / "tmp"

    @property
    def source(self) -> Path:
        return self.kept / "source"

    @property
    def output(self) -> Path:
        return self.kept / "output.mp4"

    @property
    def preview(self) -> Path:
        return self.kept / "preview.mp4"

    def make(self) -> None:
        self.kept.mkdir(parents=True, exist_ok=True)
        self.tmp.mkdir(exist_ok=True)


@dataclass(frozen=True)
class Kit:
    """What all steps of a run share."""

    root: Path
    work: Path
    settings: Settings
    hosts: Mapping[str, Host]
    clock: Clock
    rules: render.Rules


@dataclass
class Job:
    """One video in one run. `save` stores a record at once (write-ahead of uploads); `original_of` stores the sha256 and
    answers which other video these bytes belong to, both in one go."""

    kit: Kit
    folder: WorkFolder
    deadline: Deadline
    save: Callable[[Video], Video]
    original_of: Callable[[Video], str | None]
    probes: dict[Path, Probe] = field(default_factory=dict)  # of this run only; the record holds the summary
    trusted: dict[Path, bool] = field(default_factory=dict)  # kept files of an earlier run are read once before they are used

    def probe(self, video: Video, path: Path, *, header_only: bool = False) -> Probe:
        if path not in self.probes:
            self.probes[path] = probing.probe(
                video.source.original_name, path, self.deadline, work=self.kit.work, header_only=header_only
            )
        return self.probes[path]

    def has(self, path: Path, file: MediaFile | Preview | None) -> bool:
        """Whether the work folder holds this very file: a disk or a power cut may have damaged what an earlier run kept."""
        if file is None or not _has(path, file.size_bytes):
            return False
        if path not in self.trusted:
            self.trusted[path] = copying.sha256(path, self.deadline) == file.sha256
        return self.trusted[path]


@dataclass(frozen=True)
class Step:
    name: StepName
    lane: Lane
    is_needed: Callable[[Video, Job], bool]
    act: Callable[[Video, Job], Video]
    is_optional: bool = False


def space_needed(video: Video) -> int:
    """Bytes that a video's work folder and its published copy may take."""
    return int(video.source.size_bytes * _SPACE_FACTOR) + _SPACE_EXTRA_BYTES


def _has_failed(video: Video, step: StepName) -> bool:
    record = video.steps.get(step)
    return record is not None and record.status is StepStatus.FAILED


def needs_publishing(video: Video, kit: Kit) -> bool:
    on = [video.is_on(name) for name in kit.settings.publish.hosts]
    return not any(on) if kit.settings.publish.strategy == "fallback" else not all(on)


def _lacks_preview(video: Video, kit: Kit) -> bool:
    """Whether a preview host still waits for one, and none of its steps has failed."""
    if any(_has_failed(video, step) for step in (StepName.PREVIEW, StepName.PUBLISH_PREVIEW)):
        return False
    is_shown = video.media is None or video.media.video_codec is not None
    return is_shown and not all(video.is_on(name, Kind.PREVIEW) for name in kit.settings.publish.preview_hosts)


def _has(path: Path, size_bytes: int) -> bool:
    return path.is_file() and path.stat().st_size == size_bytes


def needs_preview(video: Video, job: Job) -> bool:
    return _lacks_preview(video, job.kit) and not job.has(job.folder.preview, video.preview)


def needs_convert(video: Video, job: Job) -> bool:
    is_wanted = needs_publishing(video, job.kit) or needs_preview(video, job)
    return is_wanted and not job.has(job.folder.output, video.file)


def needs_inspect(video: Video, job: Job) -> bool:
    return video.media is None and (needs_publishing(video, job.kit) or needs_preview(video, job))


def needs_fetch(video: Video, job: Job) -> bool:
    is_wanted = needs_inspect(video, job) or needs_convert(video, job)
    return is_wanted and not _has(job.folder.source, video.source.size_bytes)


def fetch(video: Video, job: Job) -> Video:
    temporary = job.folder.tmp / "source"
    fetcher(video.source.kind, job.kit.root).fetch(video.source, temporary, job.deadline)
    temporary.replace(job.folder.source)
    return video


def inspect(video: Video, job: Job) -> Video:
    """sha256 in one pass, the probe, and whether another video has these bytes already."""
    path = job.folder.source
    digest = copying.sha256(path, job.deadline)
    video = video.with_(source=video.source.model_copy(update={"sha256": digest}))
    source = job.probe(video, path)
    for warning in render.check_source(video.source.original_name, source, job.kit.rules):
        video = video.with_warning(warning)
    video = video.with_(media=probing.summary(source))
    original = job.original_of(video)
    if original is not None:
        return video.with_(state=State.DUPLICATE, duplicate_of=original)
    return video


def convert(video: Video, job: Job) -> Video:
    """Make, verify, put in place."""
    temporary = job.folder.tmp / "output.mp4"
    name = video.source.original_name
    source = job.probe(video, job.folder.source)
    warnings = render.convert(name, job.folder.source, temporary, source, job.kit.rules, job.deadline)
    for warning in warnings:
        video = video.with_warning(warning)
    digest = copying.sha256(temporary, job.deadline)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    size = temporary.stat().st_size
    temporary.replace(job.folder.output)
    job.trusted[job.folder.output] = True
    return video.with_(file=MediaFile(name=f"{video.id}.mp4", size_bytes=size, sha256=digest))


def publish(video: Video, job: Job) -> Video:
    """To the hosts in their order; raises Transient when not enough of them took it."""
    assert video.file is not None, "convert comes first"
    job.folder.source.unlink(missing_ok=True)  # not needed any more, now that the record says so
    errors: list[str] = []
    for name in job.kit.settings.publish.hosts:
        if not needs_publishing(video, job.kit):
            break
        video, error = _upload(video, name, Kind.VIDEO, job.folder.output, video.file.sha256, job)
        errors += [error] if error else []
    if needs_publishing(video, job.kit):
        raise Transient(f"{video.code}: not everywhere it should be: {'; '.join(errors)}", Category.HOST)
    return video


def publish_preview(video: Video, job: Job) -> Video:
    assert video.preview is not None, "preview comes first"
    errors: list[str] = []
    for name in job.kit.settings.publish.preview_hosts:
        video, error = _upload(video, name, Kind.PREVIEW, job.folder.preview, video.preview.sha256, job)
        errors += [error] if error else []
    if errors:
        raise Transient(f"{video.code}: preview: {'; '.join(errors)}", Category.HOST)
    return video


def _upload(video: Video, name: str, kind: Kind, path: Path, sha256: str, job: Job) -> tuple[Video, str | None]:
    """One host: (the video as it now stands, the error). The intent is saved before the first byte (write-ahead)."""
    host = job.kit.hosts[name]
    upload = video.upload(name, kind)
    if upload.status is UploadStatus.SUCCESS:
        return video, None
    must_ask = upload.status in _OPEN or not host.overwrites  # a machine lost without a trace may have sent it
    try:
        receipt = host.find(video.id, kind, sha256, job.deadline) if must_ask else None
        if receipt is None:
            upload = upload.model_copy(update={"status": UploadStatus.IN_PROGRESS, "attempt_id": os.urandom(8).hex(), **_now(job)})
            video = job.save(video.with_upload(name, kind, upload))
            receipt = host.upload(path, video.id, kind, sha256, job.deadline)
    except Transient as error:
        failed = {"status": UploadStatus.FAILED, "retry_count": upload.retry_count + 1, "error": str(error), **_now(job)}
        return job.save(video.with_upload(name, kind, upload.model_copy(update=failed))), f"{name}: {error}"
    return job.save(video.with_upload(name, kind, _succeeded(upload, receipt, sha256, job))), None


def _succeeded(upload: Upload, receipt: Receipt, sha256: str, job: Job) -> Upload:
    links = {"watch_url": receipt.watch_url, "embed_url": receipt.embed_url, "direct_url": receipt.direct_url}
    outcome = {"status": UploadStatus.SUCCESS, "remote_id": receipt.remote_id, "sha256": sha256, "error": None}
    return upload.model_copy(update={**outcome, **links, **_now(job)})


def _now(job: Job) -> dict[str, str]:
    return {"at": timestamp(job.kit.clock.now())}


def preview(video: Video, job: Job) -> Video:
    settings = job.kit.settings.preview
    media = job.probe(video, job.folder.output, header_only=True)
    pictures = media.main_video()
    assert pictures is not None, "a video without pictures needs no preview"
    duration_s = (pictures.end_s or 0.0) - (pictures.start_s or 0.0)
    clips = scenes.even_clips(duration_s, clips=settings.clips, length_s=settings.clip_length)
    temporary = job.folder.tmp / "preview.mp4"
    made = render.preview(
        video.code, job.folder.output, temporary, clips, media, height=settings.height, rules=job.kit.rules, deadline=job.deadline
    )
    digest = copying.sha256(temporary, job.deadline)
    size = temporary.stat().st_size
    temporary.replace(job.folder.preview)
    job.trusted[job.folder.preview] = True
    return video.with_(
        preview=Preview(
            name=f"{video.id}.preview.mp4", size_bytes=size, duration_s=round(made.duration_s(), 3), sha256=digest, clips=clips
        )
    )


def clean(video: Video, job: Job) -> Video:
    """The very end: the source, where the person wants that and a host has confirmed; then the work folder."""
    wanted = video.source.remove_after_publish or job.kit.settings.library.remove_source == "after_publish"
    try:
        if wanted and video.is_published():
            fetcher(video.source.kind, job.kit.root).remove(video.source)
    finally:
        cleanup.drop_folder(job.folder.path)
    return video


STEPS: Final = (
    Step(StepName.FETCH, "transfer", needs_fetch, fetch),
    Step(StepName.INSPECT, "media", needs_inspect, inspect),
    Step(StepName.CONVERT, "media", needs_convert, convert),
    Step(StepName.PUBLISH, "transfer", lambda video, job: needs_publishing(video, job.kit), publish),
    Step(StepName.PREVIEW, "media", needs_preview, preview, is_optional=True),
    Step(
        StepName.PUBLISH_PREVIEW, "transfer", lambda video, job: _lacks_preview(video, job.kit), publish_preview, is_optional=True
    ),
    Step(StepName.CLEAN, "transfer", lambda _video, _job: True, clean, is_optional=True),
)


class Lanes:
    """ffmpeg work limited to the cores, copies and uploads beside it: a slow upload never idles the processor."""

    def __init__(self, media: int, transfer: int) -> None:
        self._slots: Mapping[Lane, threading.Semaphore] = {
            "media": threading.Semaphore(media),
            "transfer": threading.Semaphore(transfer),
        }

    def take(self, lane: Lane, deadline: Deadline) -> threading.Semaphore:
        """A slot of the lane, to be released by the caller. Raises the deadline's error."""
        slot = self._slots[lane]
        while not slot.acquire(timeout=0.1):
            deadline.check()
        return slot
