"""Asking hosts about uploads that are not certain: what a dead run may have sent, and what a host works on still."""

from datetime import timedelta
from typing import Final

from dailies import policy, uploads
from dailies.clock import Deadline, parse_timestamp, timestamp
from dailies.delivery import Dispatch, asset_of, reconcile
from dailies.errors import Category, ConfigError, DailiesError, Denied, Interrupted, OutOfTime, Transient, VideoError
from dailies.hosts import Asset, Standing
from dailies.hosts.host import State as Stands
from dailies.journal import Event
from dailies.library import Library
from dailies.model import Kind, State, StepName, Upload, UploadStatus, Video
from dailies.progress import log
from dailies.steps import remove_source

LIMIT_S: Final = 120.0  # of a pass: what is left waits for the next
_LOST_AFTER: Final = timedelta(days=2)  # an upload that a host confirmed and does not show by then
_STUCK_AFTER: Final = timedelta(days=7)  # one that it works on still, where sending it again only replaces it


def settle(library: Library, dispatch: Dispatch, deadline: Deadline) -> None:
    """One pass over the uploads that are not certain. Trouble is only told. Raises Interrupted and the end of the run."""
    short = deadline.within(LIMIT_S, lambda: OutOfTime("the other uploads are asked about in the next run"))
    for video_id in sorted(library.database.index().unsettled):
        try:
            video = library.database.load(video_id)
            if video.deleted_at is None and not policy.is_claimed(video, library.clock.now()):
                _settle_video(library, dispatch, video, short)
        except Interrupted:
            raise
        except OutOfTime as error:
            deadline.check()
            log.info("hosts: %s", error)
            return
        except DailiesError as error:
            log.warning("video=%s could not be settled: %s", video_id, library.clean_text(str(error)))


def _settle_video(library: Library, dispatch: Dispatch, video: Video, deadline: Deadline) -> None:
    """A host that is in trouble is no reason not to ask the others."""
    for name, kinds in video.uploads.items():
        for kind, upload in kinds.items():
            if name not in dispatch.hosts or dispatch.gates.of(name).closed:
                continue
            if upload.status in uploads.OPEN and _is_left_behind(library, video, name, kind):
                video, error = reconcile(video, name, dispatch, library.saver(video), deadline)
                log.info("video=%s host=%s reconciled: %s", video.id, name, error or video.upload(name, kind).status)
            elif upload.status is UploadStatus.SUCCESS and upload.is_settling:
                video = _checked_with_care(library, dispatch, video, name, kind, deadline)


def _checked_with_care(library: Library, dispatch: Dispatch, video: Video, name: str, kind: Kind, deadline: Deadline) -> Video:
    """What goes wrong is told, and noted of the host: one that is down must not take the time of all."""
    gate = dispatch.gates.of(name)
    try:
        video = _checked(library, dispatch, video, name, kind, deadline)
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


def _is_left_behind(library: Library, video: Video, name: str, kind: Kind) -> bool:
    """The publishing step clears up its own."""
    is_taken = policy.is_open(video) and name in uploads.hosts_of(video, library.settings.publish)
    return kind is Kind.VIDEO and video.file is not None and not is_taken


def _checked(library: Library, dispatch: Dispatch, video: Video, name: str, kind: Kind, deadline: Deadline) -> Video:
    upload, save = video.upload(name, kind), library.saver(video)
    found = [dispatch.hosts[name].check(asset, remote_id, deadline) for asset, remote_id in _assets(video, kind, upload)]
    age = library.clock.now() - parse_timestamp(upload.at) if upload.at else timedelta()
    is_worth = dispatch.hosts[name].capabilities.overwrites  # elsewhere the next copy would be refused as well
    standing = _worst(found, age, is_worth=is_worth)
    if standing.state is Stands.READY:
        video = save(video.with_upload(name, kind, uploads.settled(upload)))
        log.info("video=%s host=%s %s is settled", video.id, name, kind)
        if video.state is State.DONE and kind is Kind.VIDEO:
            remove_source(video, library.root, library.settings)
        return video
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
