"""The steps of a video's way, in order. Each takes a video and returns a new one; none stores by itself.

A step asks the record and the work folder whether it is needed, never a flag in memory: running again repeats nothing.
"""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from dailies import atomic, cleanup, copying, delivery, sources, uploads
from dailies.clock import Clock, Deadline
from dailies.config import Settings
from dailies.delivery import Dispatch, Files, Twin, asset_of
from dailies.enrich import Enricher
from dailies.errors import Category, DailiesError, Postponed, Transient, VideoError, Waiting
from dailies.hosts import Asset, Host
from dailies.media import analysis, render, scenes
from dailies.media import probe as probing
from dailies.media.analysis import STEADY, Analysis
from dailies.media.probe import Probe
from dailies.media.recipes import Look
from dailies.model import Clip, Kind, MediaFile, Preview, State, StepName, StepStatus, Video

Lane = Literal["media", "transfer"]
_SPACE_FACTOR: Final = 3.2  # the copy, the MP4 and what a folder host on the same disk takes of it, a tenth spare
_SPACE_EXTRA_BYTES: Final = 64_000_000  # the preview and the pictures
_COVER: Final = "cover"


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

    @property
    def pictures(self) -> Path:
        return self.kept / "pictures"

    @property
    def analysis(self) -> Path:
        return self.kept / "analysis.json"

    def make(self) -> None:
        self.kept.mkdir(parents=True, exist_ok=True)
        self.tmp.mkdir(exist_ok=True)


class Picture(BaseModel):
    """One of the files in `kept/pictures`."""

    model_config = ConfigDict(frozen=True)
    name: str
    size_bytes: int
    sha256: str


class Kept(BaseModel):
    """The analysis of the verified MP4 with this sha256, and the pictures that it made, by part."""

    model_config = ConfigDict(frozen=True)
    sha256: str
    analysis: Analysis
    pictures: Mapping[str, Picture]


@dataclass(frozen=True)
class Kit:
    """What all steps of a run share."""

    root: Path
    work: Path
    settings: Settings
    hosts: Mapping[str, Host]
    clock: Clock
    rules: render.Rules
    dispatch: Dispatch
    enricher: Enricher
    sources: sources.Ground


@dataclass
class Job:
    """One video in one run. `save` stores a record at once (write-ahead of uploads); `original_of` stores the sha256 and
    answers which other video these bytes belong to, both in one go; `similar_to` does the same with the fingerprint, `intend` with
    the intent to send the MP4 to a host."""

    kit: Kit
    folder: WorkFolder
    deadline: Deadline
    save: Callable[[Video], Video]
    original_of: Callable[[Video], str | None]
    similar_to: Callable[[Video], str | None]
    intend: delivery.Intend
    reserve: Callable[[int], None] = lambda _size_bytes: None
    fetching: Callable[[int, int | None], None] = lambda _got, _of: None
    probes: dict[Path, Probe] = field(default_factory=dict)  # of this run only; the record holds the summary
    trusted: dict[Path, bool] = field(default_factory=dict)  # kept files of an earlier run are read once before they are used

    def probe(self, video: Video, path: Path, *, header_only: bool = False) -> Probe:
        if path not in self.probes:
            self.probes[path] = probing.probe(
                video.source.original_name, path, self.deadline, children=self.kit.rules.children, header_only=header_only
            )
        return self.probes[path]

    def has(self, path: Path, file: MediaFile | Preview | None) -> bool:
        """Whether the work folder holds this very file: a disk or a power cut may have damaged what an earlier run kept."""
        if file is None or not _has(path, file.size_bytes):
            return False
        if path not in self.trusted:
            self.trusted[path] = copying.sha256(path, self.deadline) == file.sha256
        return self.trusted[path]

    def kept(self, video: Video) -> Kept | None:
        """What an analysis of this very MP4 found, with its pictures still there."""
        try:
            kept = Kept.model_validate_json(self.folder.analysis.read_bytes())
        except (OSError, ValueError):
            return None
        is_whole = all(_has(self.folder.pictures / one.name, one.size_bytes) for one in kept.pictures.values())
        return kept if video.file is not None and kept.sha256 == video.file.sha256 and is_whole else None


@dataclass(frozen=True)
class Step:
    name: StepName
    lane: Lane
    is_needed: Callable[[Video, Job], bool]
    act: Callable[[Video, Job], Video]
    is_optional: bool = False


def space_needed(size_bytes: int) -> int:
    """Bytes that the work folder and the published copy of a source of this size may take."""
    return int(size_bytes * _SPACE_FACTOR) + _SPACE_EXTRA_BYTES


def _has_failed(video: Video, step: StepName) -> bool:
    record = video.steps.get(step)
    return record is not None and record.status is StepStatus.FAILED


def needs_publishing(video: Video, kit: Kit) -> bool:
    return uploads.needs_publishing(video, kit.settings.publish)


def _lacks(video: Video, kit: Kit, kind: Kind) -> bool:
    """Whether a preview host still waits for the preview or the pictures, and none of their steps has failed."""
    if not _is_shown(video) or any(_has_failed(video, step) for step in (StepName.PREVIEW, StepName.PUBLISH_PREVIEW)):
        return False
    return any(not video.is_on(name, kind) for name in _preview_hosts(kit, kind))


def _preview_hosts(kit: Kit, kind: Kind) -> tuple[str, ...]:
    """Those of the preview hosts that take such files: some have no place for pictures."""
    return tuple(name for name in kit.settings.publish.preview_hosts if kind in kit.hosts[name].capabilities.kinds)


def _lacks_pictures(video: Video, kit: Kit) -> bool:
    """Also where nobody has looked for any yet; what could not be looked at has none."""
    is_without = video.has_completed(StepName.ANALYSE) and not video.images
    return not is_without and not _has_failed(video, StepName.ANALYSE) and _lacks(video, kit, Kind.IMAGE)


def _is_shown(video: Video) -> bool:
    return video.media is None or video.media.video_codec is not None


def _has(path: Path, size_bytes: int) -> bool:
    return path.is_file() and path.stat().st_size == size_bytes


def needs_preview(video: Video, job: Job) -> bool:
    return _lacks(video, job.kit, Kind.PREVIEW) and not job.has(job.folder.preview, video.preview)


def needs_analysis(video: Video, job: Job) -> bool:
    """Before it is published, as it may look like another; and for the preview and the pictures."""
    if not _is_shown(video) or _has_failed(video, StepName.ANALYSE):
        return False
    if not video.has_completed(StepName.ANALYSE):
        return needs_publishing(video, job.kit) or _lacks_pictures(video, job.kit)
    return (needs_preview(video, job) or _lacks_pictures(video, job.kit)) and job.kept(video) is None


def needs_publish_preview(video: Video, job: Job) -> bool:
    return _lacks(video, job.kit, Kind.PREVIEW) or (bool(video.images) and _lacks_pictures(video, job.kit))


def needs_enriching(video: Video, job: Job) -> bool:
    """Once: `dailies enrich` does it again."""
    settings = job.kit.settings.enrich
    is_wanted = settings.sidecars or bool(settings.catalogues)
    return is_wanted and StepName.ENRICH not in video.steps and needs_publishing(video, job.kit)


def needs_convert(video: Video, job: Job) -> bool:
    is_wanted = needs_publishing(video, job.kit) or needs_analysis(video, job) or needs_preview(video, job)
    return is_wanted and not job.has(job.folder.output, video.file)


def needs_inspect(video: Video, job: Job) -> bool:
    return video.media is None and (needs_publishing(video, job.kit) or needs_analysis(video, job) or needs_preview(video, job))


def needs_fetch(video: Video, job: Job) -> bool:
    is_wanted = needs_inspect(video, job) or needs_convert(video, job)
    return is_wanted and not _has(job.folder.source, video.source.size_bytes)


def fetch(video: Video, job: Job) -> Video:
    """The record says what became of the link; a source that was whole when its run died is not fetched again."""
    place = sources.Place(job.folder.source, job.folder.kept, job.folder.tmp, job.reserve, job.fetching)
    fetched = sources.fetch(video.source, job.kit.sources, place, job.deadline)
    for warning in fetched.warnings:
        video = video.with_warning(warning)
    is_link = fetched.source.kind != "file"  # it may bring other bytes than the last time: they are looked at anew
    return video.with_(source=fetched.source, media=None if is_link else video.media)


def inspect(video: Video, job: Job) -> Video:
    """sha256 in one pass, the probe, and whether another video has these bytes already."""
    path = job.folder.source
    digest = copying.sha256(path, job.deadline)
    _check_bytes(video, digest)
    video = video.with_(source=video.source.model_copy(update={"sha256": digest}))
    source = job.probe(video, path)
    for warning in render.check_source(video.source.original_name, source, job.kit.rules):
        video = video.with_warning(warning)
    video = video.with_(media=probing.summary(source))
    original = job.original_of(video)
    if original is not None:
        return video.with_(state=State.DUPLICATE, duplicate_of=original)
    return video


def _check_bytes(video: Video, digest: str) -> None:
    """A link may lead elsewhere by now: what is published stays what it is. Raises VideoError."""
    name, source = video.source.original_name, video.source
    if source.kind == "file" and source.expected_sha256 not in {None, digest}:  # of a link it was checked as it came
        raise VideoError(f"{name}: its sha256 is not what was promised; get the file again and add that", Category.CHANGED)
    if video.is_published() and source.sha256 not in {None, digest}:
        raise VideoError(f"{name}: has changed since it was published; add the new one by another link or name", Category.CHANGED)


def convert(video: Video, job: Job) -> Video:
    """Make, verify, put in place."""
    temporary = job.folder.tmp / "output.mp4"
    name = video.source.original_name
    source = job.probe(video, job.folder.source)
    warnings = render.convert(name, job.folder.source, temporary, source, job.kit.rules, job.deadline)
    for warning in warnings:
        video = video.with_warning(warning)
    digest, md5 = copying.sha256_and_md5(temporary, job.deadline)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    size = temporary.stat().st_size
    temporary.replace(job.folder.output)
    job.trusted[job.folder.output] = True
    phash = video.file.phash if video.file and video.file.sha256 == digest else None
    return video.with_(file=MediaFile(name=f"{video.id}.mp4", size_bytes=size, sha256=digest, md5=md5, phash=phash))


def analyse(video: Video, job: Job) -> Video:
    """One look at the MP4: the moments worth showing, the pictures, the fingerprint, and whether another video looks like it."""
    assert video.file is not None, "convert comes first"
    assert video.media is not None, "inspect comes first"
    kept = job.kept(video) or _looked_at(video, video.file, job)  # an earlier run may have died between looking and saying so
    video = video.with_(
        file=video.file.model_copy(update={"phash": kept.analysis.phash}),
        media=video.media.model_copy(update={"tags": kept.analysis.tags}),
        images={part: picture.name for part, picture in kept.pictures.items()},
        markers=kept.analysis.shots,
    )
    return _compared(video, job)


def _looked_at(video: Video, file: MediaFile, job: Job) -> Kept:
    settings = job.kit.settings
    temporary = job.folder.tmp / "pictures"
    temporary.mkdir()
    is_shown = bool(settings.publish.preview_hosts)  # else nobody is given the pictures
    wanted = analysis.wanted(settings.preview, pictures=temporary if is_shown else None, names=f"{video.id}.")
    name = video.source.original_name
    found = scenes.analyse(name, job.folder.output, job.deadline, children=job.kit.rules.children, wanted=wanted)
    pictures = {part: _picture(temporary / picture, job) for part, picture in found.pictures.items()}
    cleanup.drop_folder(job.folder.pictures)
    temporary.replace(job.folder.pictures)
    kept = Kept(sha256=file.sha256, analysis=found, pictures=pictures)
    atomic.write(job.folder.analysis, kept.model_dump_json().encode())
    return kept


def _picture(path: Path, job: Job) -> Picture:
    return Picture(name=path.name, size_bytes=path.stat().st_size, sha256=copying.sha256(path, job.deadline))


def _compared(video: Video, job: Job) -> Video:
    """With the video that it looks like, where the settings ask for that."""
    action = job.kit.settings.similar.action
    if action == "ignore":
        return video
    alike = job.similar_to(video)
    video = video.with_(similar_to=alike)
    if alike is None or video.is_published():
        return video
    if action == "duplicate" and not video.duplicate_allowed:
        return video.with_(state=State.DUPLICATE, duplicate_of=alike)
    return video.with_warning(f"looks like {alike}; see [similar] in docs/settings.md")


def publish(video: Video, job: Job) -> Video:
    """To the hosts in their order. Raises what is to become of the video when not enough of them took it."""
    assert video.file is not None, "convert comes first"
    job.folder.source.unlink(missing_ok=True)  # not needed any more, now that the record says so
    publish = job.kit.settings.publish
    files = {"video": (job.folder.output, asset_of(video, Kind.VIDEO, ".mp4", video.file.sha256, video.file.size_bytes))}
    errors: list[DailiesError] = []
    for name in uploads.in_turn(video, publish):
        if not needs_publishing(video, job.kit):
            break
        video, error = _delivered(video, name, files, job)
        if isinstance(error, Twin):
            return video.with_(state=State.DUPLICATE, duplicate_of=error.twin)
        errors += [error] if error else []
        if publish.strategy == "fallback" and uploads.ends_fallback(video.upload(name, Kind.VIDEO)):
            break
    if needs_publishing(video, job.kit):
        raise _unpublished(f"{video.code}: not everywhere it should be", errors)
    return video


def _delivered(video: Video, name: str, files: Files, job: Job) -> tuple[Video, DailiesError | None]:
    if name not in job.kit.hosts:
        return video, Waiting(f"{name}: no section [hosts.{name}]; add it or take it from the video's hosts", Category.HOST)
    return delivery.deliver(video, name, files, job.kit.dispatch, job.save, job.intend, job.deadline)


def _unpublished(what: str, errors: Sequence[DailiesError]) -> DailiesError:
    """What is to become of the video: tried again where one of them may take it later, failed where none ever will."""
    said = f"{what}: {'; '.join(map(str, errors))}"
    if any(isinstance(error, Transient) for error in errors):
        return Transient(said, Category.HOST)
    moments = [error.until for error in errors if isinstance(error, Postponed)]
    if moments:
        return Postponed(said, min(moments))
    waiting = [error.category for error in errors if isinstance(error, Waiting)]
    if waiting:  # a full disk here is no matter of the host's
        return Waiting(said, Category.HOST if Category.HOST in waiting else waiting[0])
    return VideoError(said, Category.HOST)


def publish_preview(video: Video, job: Job) -> Video:
    """The preview and the pictures, to each of the preview hosts that lacks them."""
    parts: list[Files] = []
    if _lacks(video, job.kit, Kind.PREVIEW):
        assert video.preview is not None, "preview comes first"
        made = video.preview
        asset = asset_of(video, Kind.PREVIEW, ".preview.mp4", made.sha256, made.size_bytes)
        parts.append({"preview": (job.folder.preview, asset)})
    kept = job.kept(video)
    pictures = sorted((kept.pictures if kept else {}).items(), key=lambda item: item[0] != _COVER)
    if pictures:
        parts.append({part: (job.folder.pictures / one.name, _picture_asset(video, one)) for part, one in pictures})
    errors: list[DailiesError] = []
    for files in parts:
        for name in _preview_hosts(job.kit, next(iter(files.values()))[1].kind):
            video, error = _delivered(video, name, files, job)
            errors += [error] if error else []
    if errors:
        raise _unpublished(f"{video.code}: preview", errors)
    return video


def _picture_asset(video: Video, picture: Picture) -> Asset:
    return asset_of(video, Kind.IMAGE, picture.name.removeprefix(video.id), picture.sha256, picture.size_bytes)


def preview(video: Video, job: Job) -> Video:
    settings = job.kit.settings.preview
    name = video.source.original_name
    media = job.probe(video, job.folder.output, header_only=True)
    kept = job.kept(video)
    clips = kept.analysis.clips if kept else ()
    if not clips:
        if kept:  # else the failure of the analysis is a warning already
            video = video.with_warning("preview: no moment stood out; its clips are at even distances")
        clips = _even(media, settings.clips, settings.clip_length)
    temporary = job.folder.tmp / "preview.mp4"
    pace = kept.analysis.pace if kept else STEADY
    look = Look(settings.height, settings.encoder_preset, settings.crf)
    rules = job.kit.rules
    made = render.preview(name, job.folder.output, temporary, clips, media, look, rules, job.deadline, pace=pace)
    if settings.animation and kept:
        video = _animated(video, temporary, kept, job)
    digest = copying.sha256(temporary, job.deadline)
    size = temporary.stat().st_size
    temporary.replace(job.folder.preview)
    job.trusted[job.folder.preview] = True
    return video.with_(
        preview=Preview(
            name=f"{video.id}.preview.mp4", size_bytes=size, duration_s=round(made.duration_s(), 3), sha256=digest, clips=clips
        )
    )


def _even(media: Probe, clips: int, length_s: float) -> tuple[Clip, ...]:
    pictures = media.main_video()
    assert pictures is not None, "a video without pictures needs no preview"
    duration_s = (pictures.end_s or 0.0) - (pictures.start_s or 0.0)
    return scenes.even_clips(duration_s, clips=clips, length_s=length_s)


def _animated(video: Video, made: Path, kept: Kept, job: Job) -> Video:
    """With the animated WebP of the preview as one more picture."""
    target = job.folder.tmp / f"{video.id}.preview.webp"
    render.animation(video.source.original_name, made, target, job.kit.rules, job.deadline)
    picture = _picture(target, job)
    target.replace(job.folder.pictures / target.name)
    kept = kept.model_copy(update={"pictures": {**kept.pictures, "animation": picture}})
    atomic.write(job.folder.analysis, kept.model_dump_json().encode())
    return video.with_(images={**video.images, "animation": picture.name})


def enrich(video: Video, job: Job) -> Video:
    """What the file's own tags, sidecars and catalogues know, before hosts are told."""
    path = next((one for one in (job.folder.source, job.folder.output) if one.is_file()), None)
    told = job.probe(video, path, header_only=True).told if path else {}
    return job.kit.enricher.enrich(video, job.deadline, told)


def clean(video: Video, job: Job) -> Video:
    """The very end: the source, where the person wants that and a host has it for certain; then the work folder."""
    try:
        remove_source(video, job.kit.sources, job.kit.settings)
    finally:
        cleanup.drop_folder(job.folder.path)
    return video


def remove_source(video: Video, ground: sources.Ground, settings: Settings) -> None:
    """Where the person wants that. A host that works on it still may yet refuse it."""
    wanted = video.source.remove_after_publish or settings.library.remove_source == "after_publish"
    if wanted and video.is_settled_anywhere():
        sources.fetcher(video.source, ground).remove(video.source)


STEPS: Final = (
    Step(StepName.FETCH, "transfer", needs_fetch, fetch),
    Step(StepName.INSPECT, "media", needs_inspect, inspect),
    Step(StepName.CONVERT, "media", needs_convert, convert),
    Step(StepName.ANALYSE, "media", needs_analysis, analyse, is_optional=True),
    Step(StepName.ENRICH, "transfer", needs_enriching, enrich, is_optional=True),
    Step(StepName.PUBLISH, "transfer", lambda video, job: needs_publishing(video, job.kit), publish),
    Step(StepName.PREVIEW, "media", needs_preview, preview, is_optional=True),
    Step(StepName.PUBLISH_PREVIEW, "transfer", needs_publish_preview, publish_preview, is_optional=True),
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
