"""Asking hosts about uploads that are not certain: what a dead run may have sent, and what a host works on still."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from dailies import policy, uploads
from dailies.clock import Deadline, parse_timestamp, timestamp
from dailies.config import Publish
from dailies.delivery import Dispatch, asset_of, reconcile
from dailies.errors import Category, ConfigError, DailiesError, Denied, HostSilent, Interrupted, OutOfTime, Transient, VideoError
from dailies.hosts import Asset, Standing, Transfer
from dailies.hosts.host import State as Stands
from dailies.journal import Event
from dailies.library import Library
from dailies.model import Kind, State, StepName, Upload, UploadStatus, Video
from dailies.progress import log
from dailies.steps import remove_source

LIMIT_S: Final = 120.0  # of a pass: what is left waits for the next
_LOST_AFTER: Final = timedelta(days=2)  # an upload that a host confirmed and does not show by then
_STUCK_AFTER: Final = timedelta(days=7)  # one that it works on still
_NOT_KNOWN: Final = "whether it arrived cannot be asked: which files were sent is not known any more"
Look = Callable[[Library, Dispatch, Video, str, Kind, Deadline], Video]


def settle(library: Library, dispatch: Dispatch, deadline: Deadline) -> list[str]:
    """One pass over the uploads that are not certain. Trouble is only told; what a person must see to is returned, in lines.

    It begins anywhere: where the time is not enough for all, none is always the last. Raises Interrupted and the end of the run.
    """
    short = deadline.within(LIMIT_S, lambda: OutOfTime("the other uploads are asked about in the next run"))
    absent: set[str] = set()
    for video_id in _rotated(sorted(library.database.index().unsettled)):
        try:
            video = library.database.load(video_id)
            absent |= _absent(video, dispatch)
            if not policy.is_claimed(video, library.clock.now()):
                _settle_video(library, dispatch, video, short)
        except Interrupted:
            raise
        except OutOfTime as error:
            deadline.check()
            log.info("hosts: %s", error)
            break
        except DailiesError as error:
            log.warning("video=%s could not be settled: %s", video_id, library.clean_text(str(error)))
    problems = [f"{name}: may have uploads that it cannot be asked about: put [hosts.{name}] back" for name in sorted(absent)]
    for problem in problems:
        log.warning("host %s", problem)
    return problems


def arrived(video: Video, publish: Publish) -> Video:
    """A video that had failed because no host took it, and that is where it should be after all: the next run finishes it."""
    has_failed = video.state is State.FAILED and video.last_error is not None and video.last_error.step is StepName.PUBLISH
    if not has_failed or uploads.needs_publishing(video, publish):
        return video
    return video.with_(state=State.QUEUED, epoch=video.epoch + 1, retry_count=0, next_attempt_at=None, last_error=None)


def _rotated(video_ids: list[str]) -> list[str]:
    first = random.randrange(len(video_ids)) if video_ids else 0  # noqa: S311 -- no secret
    return video_ids[first:] + video_ids[:first]


def _absent(video: Video, dispatch: Dispatch) -> set[str]:
    """Hosts that have no settings any more, and may have something of the video."""
    if video.deleted_at is not None:
        return set()
    open_ = {name for name, kinds in video.uploads.items() if any(one.status in uploads.OPEN for one in kinds.values())}
    return open_ - dispatch.hosts.keys()


def _settle_video(library: Library, dispatch: Dispatch, video: Video, deadline: Deadline) -> None:
    """A host that is in trouble is no reason not to ask the others; of a removed video it is only asked what it was sent."""
    for name, kinds in video.uploads.items():
        for kind, upload in kinds.items():
            if name not in dispatch.hosts or dispatch.gates.of(name).closed:
                continue
            if upload.status in uploads.OPEN and _is_left_behind(library, video, name, kind):
                look = _reconciled if kind is Kind.VIDEO else _looked_for
                video = _with_care(look, library, dispatch, video, name, kind, deadline)
            elif upload.status is UploadStatus.SUCCESS and upload.is_settling and video.deleted_at is None:
                video = _with_care(_checked, library, dispatch, video, name, kind, deadline)


def _is_left_behind(library: Library, video: Video, name: str, kind: Kind) -> bool:
    """The publishing steps clear up their own."""
    publish = library.settings.publish
    names = uploads.hosts_of(video, publish) if kind is Kind.VIDEO else publish.preview_hosts
    is_taken = policy.is_open(video) and name in names
    return not is_taken and (kind is not Kind.VIDEO or video.file is not None)


def _reconciled(library: Library, dispatch: Dispatch, video: Video, name: str, kind: Kind, deadline: Deadline) -> Video:
    """Its errors stand in the record."""
    video, error = reconcile(video, name, dispatch, library.saver(video), deadline)
    log.info("video=%s host=%s reconciled: %s", video.id, name, error or video.upload(name, kind).status)
    if error or video.deleted_at is not None:
        return video
    return library.database.save(arrived(video, library.settings.publish), video)


def _looked_for(library: Library, dispatch: Dispatch, video: Video, name: str, kind: Kind, deadline: Deadline) -> Video:
    """A preview or pictures that may have been sent. A run that makes them anew sends what is not there."""
    upload, now = video.upload(name, kind), library.clock.now()
    assets = _sent(video, kind, upload)
    host, adapter, retries = dispatch.hosts[name], library.settings.hosts[name].adapter, library.settings.publish.max_retries
    sessions = {part: dispatch.session(name, asset) for part, asset in assets.items()}
    try:
        asked = {part: host.find(asset, Transfer(deadline, sessions[part])) for part, asset in assets.items()}
    except HostSilent as silent:  # noted once
        said = library.clean_text(str(silent))
        is_known = (upload.status, upload.error) == (UploadStatus.UNKNOWN, said)
        return video if is_known else _put(library, video, name, kind, uploads.unknown(upload, said, now))
    found = {part: receipt for part, receipt in asked.items() if receipt is not None}
    if not assets:
        after = uploads.failed(upload, _NOT_KNOWN, retries, now)
    elif len(found) == len(assets):
        after = uploads.succeeded(upload, adapter, assets, found, now)
    elif _age(upload, now) < timedelta(seconds=host.capabilities.settle_s):
        return video  # its listing may lag behind
    elif upload.status is UploadStatus.IN_PROGRESS:
        after = uploads.not_begun(upload, upload, None)
    else:
        after = uploads.failed(upload, "the host does not have what was sent", retries, now)
    for session in sessions.values():
        session.drop()
    return _put(library, video, name, kind, after)


def _put(library: Library, video: Video, name: str, kind: Kind, upload: Upload) -> Video:
    video = library.database.save(video.with_upload(name, kind, upload), video)
    log.info("video=%s host=%s %s reconciled: %s", video.id, name, kind, upload.error or upload.status)
    library.journal.write(Event.of(video, name, kind, timestamp(library.clock.now())))
    return video


def _sent(video: Video, kind: Kind, upload: Upload) -> dict[str, Asset]:
    """What was sent, by part; empty where the record does not say it of all parts."""
    parts = upload.parts
    if parts and upload.sha256 in {None, next(iter(parts.values())).sha256}:  # else they are of an earlier attempt
        suffixes = {part: one.name.removeprefix(video.id) for part, one in parts.items()}
        return {part: asset_of(video, kind, suffixes[part], one.sha256, one.size_bytes) for part, one in parts.items()}
    made = video.preview if kind is Kind.PREVIEW else None
    names = {"preview": made.name} if made else video.images if kind is Kind.IMAGE else {}
    sha256 = upload.sha256 or (made.sha256 if made else None)
    size_bytes = upload.size_bytes or (made.size_bytes if made else None)
    if len(names) != 1 or sha256 is None or size_bytes is None:
        return {}
    return {part: asset_of(video, kind, name.removeprefix(video.id), sha256, size_bytes) for part, name in names.items()}


def _with_care(look: Look, library: Library, dispatch: Dispatch, video: Video, name: str, kind: Kind, deadline: Deadline) -> Video:
    """What goes wrong is told, and noted of the host: one that is down must not take the time of all."""
    gate = dispatch.gates.of(name)
    try:
        video = look(library, dispatch, video, name, kind, deadline)
        if look is not _reconciled:  # which tells the gate itself
            gate.succeeded()
    except (Interrupted, OutOfTime, ConfigError):
        raise
    except DailiesError as error:
        said = library.clean_text(str(error))
        log.warning("video=%s host=%s could not be asked how %s is: %s", video.id, name, kind, said)
        if isinstance(error, Denied):
            gate.close(said)
        elif isinstance(error, Transient):
            gate.failed(said)
    return video


def _checked(library: Library, dispatch: Dispatch, video: Video, name: str, kind: Kind, deadline: Deadline) -> Video:
    upload, save = video.upload(name, kind), library.saver(video)
    found = [dispatch.hosts[name].check(asset, remote_id, deadline) for asset, remote_id in _assets(video, kind, upload)]
    age = _age(upload, library.clock.now())
    is_worth = dispatch.hosts[name].capabilities.overwrites  # elsewhere the next copy would be refused as well
    standing = _worst(found, age, is_worth=is_worth)
    if standing.state is Stands.READY:
        video = save(video.with_upload(name, kind, uploads.settled(upload)))
        log.info("video=%s host=%s %s is settled", video.id, name, kind)
        if video.state is State.DONE and kind is Kind.VIDEO:
            remove_source(video, library.sources, library.settings)
        return video
    if standing.state is Stands.PROCESSING and age > _STUCK_AFTER:
        return _noted(library, video, f"{name}: works on the {kind} since {upload.at}; look at the host")
    if standing.state is not Stands.FAILED:
        return video
    said = library.clean_text(f"{name}: did not keep it: {standing.reason or 'no reason given'}; look at the host")
    log.warning("video=%s %s", video.id, said)
    now, settings = library.clock.now(), library.settings
    lost = uploads.lost(upload, said, settings.publish.max_retries, now, is_worth_sending=is_worth)
    after = video.with_upload(name, kind, lost).with_warning(said)
    if kind is Kind.VIDEO and uploads.is_hopeless(after, settings.publish):
        after = policy.after_error(after, StepName.PUBLISH, VideoError(said, Category.HOST), said, settings, now)
    elif is_worth or (kind is Kind.VIDEO and uploads.needs_publishing(after, settings.publish)):
        after = policy.after_loss(after)
    video = save(after)
    library.journal.write(Event.of(video, name, kind, timestamp(now)))
    return video


def _noted(library: Library, video: Video, said: str) -> Video:
    """Once; nothing is sent."""
    if said in video.warnings:
        return video
    log.warning("video=%s %s", video.id, said)
    return library.database.save(video.with_warning(said), video)


def _age(upload: Upload, now: datetime) -> timedelta:
    return now - parse_timestamp(upload.at) if upload.at else timedelta()


def _assets(video: Video, kind: Kind, upload: Upload) -> list[tuple[Asset, str]]:
    """(what was sent, the host's id of it)."""
    if upload.parts:
        suffixes = [(part, part.name.removeprefix(video.id)) for part in upload.parts.values()]
        return [(asset_of(video, kind, suffix, part.sha256, part.size_bytes), part.remote_id) for part, suffix in suffixes]
    made = video.file if kind is Kind.VIDEO else video.preview
    if made is None or upload.remote_id is None:
        return []
    return [(asset_of(video, kind, made.name.removeprefix(video.id), made.sha256, made.size_bytes), upload.remote_id)]


def _worst(standings: list[Standing], age: timedelta, *, is_worth: bool) -> Standing:
    """Of several files; what is missing or worked on may yet come, for some time."""
    order = (Stands.FAILED, Stands.MISSING, Stands.PROCESSING, Stands.READY)
    worst = min(standings, key=lambda one: order.index(one.state), default=Standing(Stands.READY))
    if worst.state is Stands.MISSING and age > _LOST_AFTER:
        return Standing(Stands.FAILED, "it is not there any more")
    if worst.state is Stands.PROCESSING and is_worth and age > _STUCK_AFTER:
        return Standing(Stands.FAILED, worst.reason or "it is worked on without end")
    return worst
