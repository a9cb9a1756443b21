"""Uploads by hand: a finished MP4 to a host, without the steps before it; and the registry of all uploads for other programs."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dailies import cleanup, copying, hosts, pipeline, policy, uploads
from dailies.clock import Deadline, timestamp
from dailies.delivery import ByHand, Dispatch, Files, Intend, Meter, asset_of, deliver
from dailies.errors import ConfigError, DailiesError, HostRefused, Interrupted, OutOfTime, VideoError
from dailies.hosts import Asset, Receipt
from dailies.journal import Event
from dailies.library import Library
from dailies.locks import Single
from dailies.model import Kind, State, Upload, UploadStatus, Video
from dailies.progress import log
from dailies.steps import WorkFolder

_MB = 1_000_000


@dataclass(frozen=True)
class Sent:
    """What became of one upload by hand."""

    video: Video
    host: str
    error: DailiesError | None


def run_upload_stage(video_id: str, host: str, metadata: Mapping[str, Any] | None = None) -> bool:
    """Send a video's MP4 to a host of the library around the working directory; True once the host has it.

    `metadata`: what the host is told instead of what the record says: `title`, `description`, `tags`, `categories`, `people`,
    `release_date`. Why it was not sent is logged and stands in the record. Raises ConfigError for what is unknown, and where
    another run is at work.
    """
    library = Library.open()
    limit = Deadline.after(library.clock, library.settings.run.time_limit)
    sent = upload(library, library.database.resolve(video_id), [host], limit, metadata=metadata)[0]
    if sent.error is not None:
        log.warning("video=%s host=%s not sent: %s", sent.video.id, host, library.clean_text(str(sent.error)))
    return sent.error is None


def upload(
    library: Library,
    video_id: str,
    names: list[str],
    deadline: Deadline,
    *,
    is_forced: bool = False,
    metadata: Mapping[str, Any] | None = None,
    meter: Meter | None = None,
) -> list[Sent]:
    """One video to each of these hosts. Raises ConfigError, Transient where another run is at work, and the deadline's error."""
    for name in names:
        library.check_host(name)
    told = _details(metadata or {})
    with Single(library.work / "run.lock").held():
        pipeline.recover_library(library)
        hand = _Hand(library, library.dispatch(meter), deadline, ByHand(is_direct=True, is_forced=is_forced))
        return [hand.send(library.database.load(video_id), name, told) for name in names]


def upload_pending(library: Library, deadline: Deadline, meter: Meter | None = None) -> list[Sent]:
    """Every MP4 that is not yet where it should be, as a run would send it. Raises as `upload`."""
    with Single(library.work / "run.lock").held():
        pipeline.recover_library(library)
        hand = _Hand(library, library.dispatch(meter), deadline, ByHand())
        return [sent for video in policy.in_order(library.database.videos()) for sent in hand.send_where_due(video)]


def record_as_sent(library: Library, video_id: str, host: str, remote_id: str) -> Video:
    """A person has looked: the host has it under this id. Raises ConfigError."""
    library.check_host(host)
    video = library.database.load(video_id)
    if video.file is None:
        raise ConfigError(f"{video_id}: has no MP4 yet, so no host can have it; run `dailies run`")
    asset = _asset(video)
    adapter, before = library.settings.hosts[host].adapter, video.upload(host, Kind.VIDEO)
    there = uploads.succeeded(before, adapter, {"video": asset}, {"video": Receipt(remote_id)}, library.clock.now())
    video = library.database.save(video.with_upload(host, Kind.VIDEO, there), video)
    library.journal.write(Event.of(video, host, Kind.VIDEO, timestamp(library.clock.now())))
    return video


class VideoRegistry:
    """What the library knows of its uploads."""

    def __init__(self, library: Library | None = None) -> None:
        """The library around the working directory, where none is given. Raises ConfigError."""
        self._library = library or Library.open()

    def get_all_videos(self) -> list[Video]:
        """Oldest first."""
        return policy.in_order(self._library.database.videos())

    def get_upload_status(self, video_id: str, host: str, kind: Kind = Kind.VIDEO) -> Upload:
        """PENDING where nothing was tried. Raises ConfigError for an unknown video."""
        return self._load(video_id).upload(host, kind)

    def can_upload(self, video_id: str, host: str) -> tuple[bool, str]:
        """(whether `run_upload_stage` would send it, why not). The host itself is not asked."""
        try:
            video = self._load(video_id)
            self._library.check_host(host)
        except ConfigError as error:
            return False, str(error)
        upload, now = video.upload(host, Kind.VIDEO), self._library.clock.now()
        refusal = _refusal(self._library, video)
        refusal = refusal or uploads.refusal(upload, now, may_repeat=video.duplicate_allowed, is_direct=True)
        return refusal is None, refusal or ""

    def set_duplicate_allowed(self, video_id: str, allowed: bool) -> Video:  # noqa: FBT001 -- what it sets
        """Whether it may go to a host that has the same bytes already. Raises ConfigError for an unknown video."""
        video = self._load(video_id)
        edited = {**video.edited_at, "duplicate_allowed": timestamp(self._library.clock.now())}
        if video.duplicate_allowed == allowed:
            return video
        return self._library.database.save(video.with_(duplicate_allowed=allowed, edited_at=edited), video)

    def _load(self, video_id: str) -> Video:
        return self._library.database.load(self._library.database.resolve(video_id))


class _Hand:
    """Sends by hand, one after the other; under the run lock."""

    def __init__(self, library: Library, dispatch: Dispatch, deadline: Deadline, by_hand: ByHand) -> None:
        self._library = library
        self._dispatch = dispatch
        self._deadline = deadline
        self._by_hand = by_hand
        self._lock = threading.Lock()

    def send(self, video: Video, name: str, told: Mapping[str, Any]) -> Sent:
        """Whatever a person may override is overridden first, if they said so."""
        refusal = _refusal(self._library, video)
        if refusal is not None:
            return Sent(video, name, HostRefused(f"{video.id}: {refusal}"))
        before = video.upload(name, Kind.VIDEO)
        may_repeat = self._by_hand.is_forced or video.duplicate_allowed
        if self._by_hand.is_forced and before.status in uploads.ENDED:
            video = self._put(video, name, uploads.again(before))
        elif may_repeat and before.status is UploadStatus.SUCCESS:
            video = self._put(video, name, uploads.replaced(before))
        elif before.status is UploadStatus.SUCCESS:
            return Sent(video, name, HostRefused(f"{video.id}: is on {name} already; --force sends it again"))
        return self._delivered(video, name, told)

    def send_where_due(self, video: Video) -> list[Sent]:
        """Nothing where it is not wanted, not made yet or not to be had, or in the hands of others."""
        publish, sent = self._library.settings.publish, list[Sent]()
        if video.state in {State.DUPLICATE, State.UNAVAILABLE} or _refusal(self._library, video) is not None:
            return sent
        for name in uploads.in_turn(video, publish):
            if not uploads.needs_publishing(video, publish):
                break
            if name in self._library.hosts and self._is_due(video, name):
                sent.append(self._delivered(video, name, {}))
                video = sent[-1].video
            if publish.strategy == "fallback" and uploads.ends_fallback(video.upload(name, Kind.VIDEO)):
                break
        return sent

    def _is_due(self, video: Video, name: str) -> bool:
        upload, now = video.upload(name, Kind.VIDEO), self._library.clock.now()
        return not video.is_on(name) and uploads.refusal(upload, now, may_repeat=video.duplicate_allowed) is None

    def _put(self, video: Video, name: str, upload: Upload) -> Video:
        return self._library.database.save(video.with_upload(name, Kind.VIDEO, upload), video)

    def _delivered(self, video: Video, name: str, told: Mapping[str, Any]) -> Sent:
        folder, library = WorkFolder(self._library.work / video.id), self._library
        asset = _asset(video)
        asset = replace(asset, details=replace(asset.details, **told))
        save = library.saver(video)
        try:
            with library.space.reserved(video.id, asset.size_bytes + _MB, folder.path):
                folder.make()
                files: Files = {"video": (self._obtained(video, asset, folder), asset)}
                intend = self._intending(save)
                video, error = deliver(video, name, files, self._dispatch, save, intend, self._deadline, by_hand=self._by_hand)
        except (Interrupted, OutOfTime, ConfigError):
            raise
        except DailiesError as problem:
            error = problem
        finally:
            cleanup.drop_folder(folder.tmp)
            if not policy.is_open(video):
                cleanup.drop_folder(folder.path)
        return Sent(video, name, error)

    def _intending(self, save: Any) -> Intend:
        def intend(video: Video, host: str) -> str | None:
            with self._lock:
                if not video.duplicate_allowed and not self._by_hand.is_forced and video.file is not None:
                    twin = self._library.database.index().sent_twin(video.file.sha256, host, besides=video.id)
                    if twin is not None:
                        return twin
                save(video)
                return None

        return intend

    def _obtained(self, video: Video, asset: Asset, folder: WorkFolder) -> Path:
        """The MP4: kept here, or fetched again from a host that has it. Raises VideoError."""
        if folder.output.is_file() and copying.sha256(folder.output, self._deadline) == asset.sha256:
            return folder.output
        tried: list[str] = []
        for name in _givers(self._library, video):
            temporary = folder.tmp / "fetched"
            try:
                self._library.hosts[name].fetch(asset, video.upload(name, Kind.VIDEO).remote_id or "", temporary, self._deadline)
                if copying.sha256(temporary, self._deadline) == asset.sha256:
                    temporary.replace(folder.output)
                    return folder.output
                tried.append(f"{name} gives back other bytes")
            except (Interrupted, OutOfTime, ConfigError):
                raise
            except DailiesError as error:
                tried.append(str(error))
        raise VideoError(f"{video.id}: its MP4 is not kept here{''.join(f'; {one}' for one in tried)}; add the source again")


def _asset(video: Video) -> Asset:
    assert video.file is not None, "asked before"
    return asset_of(video, Kind.VIDEO, ".mp4", video.file.sha256, video.file.size_bytes)


def _givers(library: Library, video: Video) -> list[str]:
    """Hosts that have the video and give it back."""
    return [name for name, host in library.hosts.items() if host.capabilities.gives_back and video.is_on(name)]


def _refusal(library: Library, video: Video) -> str | None:
    """What no force overrides."""
    if video.deleted_at is not None:
        return "was removed from the library"
    if video.file is None:
        return "has no MP4 yet; run `dailies run`"
    if policy.is_claimed(video, library.clock.now()) and video.claim is not None:
        return f"is in the hands of run {video.claim.run_id}"
    kept = WorkFolder(library.work / video.id).output
    if not kept.is_file() and not _givers(library, video):
        return "its MP4 is not kept here and no host gives it back; add the source again"
    return None


def _details(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Raises ConfigError for a key that no host is told."""
    known = set(hosts.Details.__dataclass_fields__)
    unknown = sorted(metadata.keys() - known)
    if unknown:
        raise ConfigError(f"metadata: {unknown[0]}: hosts are told {', '.join(sorted(known))}; leave it out")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in metadata.items()}
