"""Uploads by hand: a finished MP4 to a host, without the steps before it; and the registry of all uploads for other programs."""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from dailies import cleanup, copying, hosts, pipeline, policy, report, settling, sharing, uploads
from dailies.claims import Claims
from dailies.clock import Deadline, timestamp
from dailies.delivery import ByHand, Dispatch, Files, Intend, Meter, Save, asset_of, deliver, twin_of
from dailies.errors import ConfigError, DailiesError, HostRefused, Interrupted, OutOfTime, Transient, VideoError
from dailies.hosts import Asset, Receipt
from dailies.journal import Event
from dailies.library import Library
from dailies.locks import Single
from dailies.model import Kind, State, Upload, UploadStatus, Video
from dailies.progress import log
from dailies.steps import WorkFolder

_MB: Final = 1_000_000
_ID_CHARACTERS: Final = 200  # of a host's id, as a person gives it


@dataclass(frozen=True)
class Sent:
    """What became of one upload by hand."""

    video: Video
    host: str
    error: DailiesError | None


def run_upload_stage(video_id: str, host: str, metadata: Mapping[str, Any] | None = None) -> bool:
    """Send a video's MP4 to a host of the library around the working directory; True once the host has it.

    `metadata`: what the host is told instead of what the record says: `title`, `description`, `tags`, `categories`, `people`,
    `release_date`. False where the host did not take it, which the record tells too, and where another run is at work in this
    library; why is logged. Raises ConfigError where a person must act first: no library here, settings that make no sense, an
    unknown video, host or key of `metadata`, a record that cannot be read or written, no branch checked out; OutOfTime once
    `[run] time_limit` is over: what was begun stands as IN_PROGRESS in the record, and the host is asked about it first next time.
    """
    library = Library.open()
    limit = Deadline.after(library.clock, library.settings.run.time_limit)
    try:
        sent = upload(library, library.database.resolve(video_id), [host], limit, metadata=metadata)[0]
    except Transient as error:
        log.warning("video=%s host=%s not sent: %s", video_id, host, library.clean_text(str(error)))
        return False
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
    by_hand = ByHand(is_direct=True, is_forced=is_forced)
    with _hand(library, by_hand, deadline, meter, lambda: [library.database.load(video_id)]) as hand:
        return [hand.send(library.database.load(video_id), name, told) for name in names]


def upload_pending(library: Library, deadline: Deadline, meter: Meter | None = None) -> list[Sent]:
    """Every MP4 that is not yet where it should be, as a run would send it. Raises as `upload`."""

    def pending() -> list[Video]:
        return [video for video in policy.in_order(library.database.videos()) if _is_pending(library, video)]

    with _hand(library, ByHand(), deadline, meter, pending) as hand:
        return [sent for video in pending() for sent in hand.send_where_due(video)]


@contextlib.contextmanager
def _hand(
    library: Library, by_hand: ByHand, deadline: Deadline, meter: Meter | None, wanted: Callable[[], Iterable[Video]]
) -> Iterator["_Hand"]:
    """Alone on this machine; beside others with what they have published, and with claims that they can see.

    A video that is not open has no claim: no run takes it.
    """
    with Single(library.work / "run.lock").held():
        pipeline.recover_library(library)
        run_id, now = report.new_run_id(library.clock.now()), library.clock.now()
        is_shared = library.settings.git.commit and library.repository.exists() and library.publisher.refresh(deadline)
        ours = [video for video in wanted() if policy.is_takeable(video, now, is_forced=True)] if is_shared else []
        claims = Claims(library.database, library.clock, run_id, deadline.remaining(), batch=len(ours))
        if ours:
            claims.want(ours)
            sharing.claim(library, claims, deadline)
        try:
            yield _Hand(library, library.dispatch(meter), deadline, by_hand, run_id)
        finally:
            claims.release()


def record_as_sent(library: Library, video_id: str, host: str, remote_id: str, *, is_forced: bool = False) -> Video:
    """A person has looked: the host has it under this id. `is_forced`: also where another id is known, which is listed then.

    Raises ConfigError, and Transient where a run is at work.
    """
    library.check_host(host)
    if not remote_id.strip() or not remote_id.isprintable() or len(remote_id) > _ID_CHARACTERS:
        raise ConfigError(f"{remote_id[:_ID_CHARACTERS]!r}: no id of a host; give one line of at most {_ID_CHARACTERS} characters")
    with Single(library.work / "run.lock").held():
        video = library.database.load(video_id)
        if video.file is None:
            raise ConfigError(f"{video_id}: has no MP4 yet, so no host can have it; run `dailies run`")
        asset, adapter, before = _asset(video), library.settings.hosts[host].adapter, video.upload(host, Kind.VIDEO)
        if before.status is UploadStatus.SUCCESS and before.remote_id != remote_id:
            if not is_forced:
                known = f"{video_id}: is on {host} as {before.remote_id}"
                raise ConfigError(f"{known}; --force records {remote_id} and lists the other as an earlier copy")
            before = uploads.replaced(before)
        there = uploads.succeeded(before, adapter, {"video": asset}, {"video": Receipt(remote_id)}, library.clock.now())
        after = settling.arrived(video.with_upload(host, Kind.VIDEO, there), library.settings.publish)
        video = library.database.save(after, video)
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
        """Whether it may go to a host that has the same bytes already; a duplicate that it was until now is queued again.

        Raises ConfigError for an unknown video.
        """
        video = self._load(video_id)
        edited = {**video.edited_at, "duplicate_allowed": timestamp(self._library.clock.now())}
        if video.duplicate_allowed == allowed:
            return video
        after = policy.retried(video) if allowed and _is_held_back(video) else video
        return self._library.database.save(after.with_(duplicate_allowed=allowed, edited_at=edited), video)

    def _load(self, video_id: str) -> Video:
        return self._library.database.load(self._library.database.resolve(video_id))


class _Hand:
    """Sends by hand, one after the other; under the run lock."""

    def __init__(self, library: Library, dispatch: Dispatch, deadline: Deadline, by_hand: ByHand, run_id: str) -> None:
        self._library = library
        self._dispatch = dispatch
        self._deadline = deadline
        self._by_hand = by_hand
        self._run_id = run_id
        self._lock = threading.Lock()

    def send(self, video: Video, name: str, told: Mapping[str, Any]) -> Sent:
        """Whatever a person may override is overridden first, if they said so."""
        refusal = _refusal(self._library, video, self._run_id)
        if refusal is not None:
            return Sent(video, name, HostRefused(f"{video.id}: {refusal}"))
        before = wish = video.upload(name, Kind.VIDEO)
        if self._by_hand.is_forced and before.status in uploads.ENDED:
            wish = uploads.again(before)
        elif before.status is UploadStatus.SUCCESS:
            if not (self._by_hand.is_forced or video.duplicate_allowed):
                return Sent(video, name, HostRefused(f"{video.id}: is on {name} already; --force sends it again"))
            wish = uploads.replaced(before)
        return self._delivered(video, name, told, wish)

    def send_where_due(self, video: Video) -> list[Sent]:
        """Nothing where it is not wanted, not made yet or not to be had, or in the hands of others."""
        publish, sent = self._library.settings.publish, list[Sent]()
        if _refusal(self._library, video, self._run_id) is not None:
            return sent
        for name in uploads.in_turn(video, publish):
            if not uploads.needs_publishing(video, publish):
                break
            if name in self._library.hosts and self._is_due(video, name):
                sent.append(self._delivered(video, name, {}, video.upload(name, Kind.VIDEO)))
                video = sent[-1].video
            if publish.strategy == "fallback" and uploads.ends_fallback(video.upload(name, Kind.VIDEO)):
                break
        return sent

    def _is_due(self, video: Video, name: str) -> bool:
        upload, now = video.upload(name, Kind.VIDEO), self._library.clock.now()
        return not video.is_on(name) and uploads.refusal(upload, now, may_repeat=video.duplicate_allowed) is None

    def _delivered(self, video: Video, name: str, told: Mapping[str, Any], wish: Upload) -> Sent:
        """`wish`: the upload as it is to begin; it enters the record with the intent, so that what ends before changes nothing."""
        folder, library = WorkFolder(self._library.work / video.id), self._library
        asset = _asset(video)
        asset = replace(asset, details=replace(asset.details, **told))
        save = _sparing(library.saver(video), name, video.upload(name, Kind.VIDEO))
        try:
            with library.space.reserved(video.id, asset.size_bytes + _MB, folder.path):
                folder.make()
                files: Files = {"video": (self._obtained(video, asset, folder), asset)}
                intend, wished = self._intending(save), video.with_upload(name, Kind.VIDEO, wish)
                after, error = deliver(wished, name, files, self._dispatch, save, intend, self._deadline, by_hand=self._by_hand)
                video = library.database.load(video.id) if error else save(settling.arrived(after, library.settings.publish))
        except (Interrupted, OutOfTime, ConfigError):
            raise
        except DailiesError as problem:
            error = problem
        finally:
            cleanup.drop_folder(folder.tmp)
            if not policy.is_open(video):
                cleanup.drop_folder(folder.path)
        return Sent(video, name, error)

    def _intending(self, save: Save) -> Intend:
        def intend(video: Video, host: str) -> str | None:
            with self._lock:
                if not video.duplicate_allowed and not self._by_hand.is_forced:
                    twin = twin_of(video, host, self._library.database.index(), self._library.clock)
                    if twin is not None:
                        return twin
                save(video)
                return None

        return intend

    def _obtained(self, video: Video, asset: Asset, folder: WorkFolder) -> Path:
        """The MP4: kept here, or fetched again from a host that has it. Raises VideoError."""
        tried: list[str] = []
        if self._is_whole(folder.output, asset, tried):
            return folder.output
        for name in _givers(self._library, video):
            temporary = folder.tmp / "fetched"
            try:
                self._library.hosts[name].fetch(asset, video.upload(name, Kind.VIDEO).remote_id or "", temporary, self._deadline)
                if self._is_whole(temporary, asset, tried):
                    temporary.replace(folder.output)
                    return folder.output
                tried.append(f"{name} gives back other bytes")
            except (Interrupted, OutOfTime):
                raise
            except (DailiesError, OSError) as error:  # a person's matter at one host keeps no other from giving it
                tried.append(self._library.clean_text(str(error)))
        raise VideoError(f"{video.id}: its MP4 is not kept here{''.join(f'; {one}' for one in tried)}; add the source again")

    def _is_whole(self, path: Path, asset: Asset, tried: list[str]) -> bool:
        """What a disk does not give is told in `tried`."""
        try:
            return path.is_file() and copying.sha256(path, self._deadline) == asset.sha256
        except OSError as error:
            tried.append(f"{path.name} cannot be read: {error.strerror or error}")
            return False


def _sparing(save: Save, name: str, there: Upload) -> Save:
    """A copy that the host has confirmed stands in the record unless another was sent in its place, or may have been."""

    def sparing(video: Video) -> Video:
        nonlocal there
        upload = video.upload(name, Kind.VIDEO)
        if upload.status in uploads.OPEN:
            there = there.model_copy(update={"epoch": upload.epoch})  # else a merge would take what was begun for the newer
        elif upload.status is not UploadStatus.SUCCESS:
            video = video.with_upload(name, Kind.VIDEO, there)
        return save(video)

    return sparing if there.status is UploadStatus.SUCCESS else save


def _asset(video: Video) -> Asset:
    assert video.file is not None, "asked before"
    return asset_of(video, Kind.VIDEO, ".mp4", video.file.sha256, video.file.size_bytes)


def _givers(library: Library, video: Video) -> list[str]:
    """Hosts that have the video and give it back."""
    return [name for name, host in library.hosts.items() if host.capabilities.gives_back and video.is_on(name)]


def _is_held_back(video: Video) -> bool:
    """Given up because another video has the same bytes, or looks the same."""
    is_blocked = any(kinds[Kind.VIDEO].status is UploadStatus.BLOCKED for kinds in video.uploads.values() if Kind.VIDEO in kinds)
    return video.state is State.DUPLICATE or (video.state is State.FAILED and is_blocked)


def _is_pending(library: Library, video: Video) -> bool:
    """A finished MP4 that is wanted somewhere where it is not."""
    is_wanted = video.state not in {State.DUPLICATE, State.UNAVAILABLE} and video.file is not None
    return is_wanted and uploads.needs_publishing(video, library.settings.publish)


def _refusal(library: Library, video: Video, run_id: str = "") -> str | None:
    """What no force overrides; `run_id` is who asks."""
    if video.deleted_at is not None:
        return "was removed from the library"
    if video.file is None:
        return "has no MP4 yet; run `dailies run`"
    if policy.is_claimed(video, library.clock.now(), run_id) and video.claim is not None:
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
