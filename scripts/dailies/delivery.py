"""One kind of a video's files to one host: asked for, intended on disk, sent, confirmed (docs/registry.md)."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from dailies import uploads
from dailies.clock import Clock, Deadline, parse_timestamp, timestamp
from dailies.config import Settings
from dailies.database import Index
from dailies.errors import (
    Category,
    ConfigError,
    DailiesError,
    Denied,
    HostRefused,
    HostSilent,
    Interrupted,
    OutcomeUnknown,
    OutOfTime,
    Postponed,
    RateLimited,
    Transient,
    Waiting,
)
from dailies.gates import Gates
from dailies.hosts import Asset, Details, Host, Receipt, Session, Transfer
from dailies.journal import Event, Journal
from dailies.model import Kind, Upload, UploadStatus, Video

log = logging.getLogger(__name__)

SESSIONS: Final = "session-"
_TWIN: Final = timedelta(seconds=10)  # another video's upload of the same bytes may be over by then
_DIED: Final = "the run ended; the host has nothing of it"
Files = Mapping[str, tuple[Path, Asset]]  # part to (where it is, what it is); the first one's links are the upload's
Meter = Callable[[Video, str, Asset, int], None]  # of `asset` of a video this many bytes have left for a host
Save = Callable[[Video], Video]
# stores the intent to send these bytes to a host and answers which other video has them there already, both in one go
Intend = Callable[[Video, str], str | None]


@dataclass(frozen=True)
class ByHand:
    """`is_direct`: a person sends it, whom our own limits do not stop; `is_forced`: even what the host has, or may have."""

    is_direct: bool = False
    is_forced: bool = False


NOT_BY_HAND: Final = ByHand()


@dataclass(frozen=True)
class Dispatch:
    """What all deliveries of a run share."""

    hosts: Mapping[str, Host]
    gates: Gates
    journal: Journal
    settings: Settings
    work: Path
    clock: Clock
    clean_text: Callable[[str], str]
    meter: Meter = field(default=lambda *_: None)

    def session(self, host: str, asset: Asset) -> Session:
        return Session(self.work / f"{SESSIONS}{host}-{asset.name}.json")


def details_of(video: Video) -> Details:
    """What a host is told about the video."""
    said = video.metadata
    people = tuple(str(one["name"]) for one in said.people if one.get("name"))
    return Details(video.title, said.description, said.tags, said.categories, people, said.release_date)


def asset_of(video: Video, kind: Kind, suffix: str, sha256: str, size_bytes: int) -> Asset:
    duration_s = video.media.duration_s if video.media and kind is Kind.VIDEO else None
    md5 = video.file.md5 if video.file is not None and video.file.sha256 == sha256 else None
    return Asset(video.id, kind, suffix, sha256, size_bytes, duration_s, details_of(video), md5)


def twin_of(video: Video, host: str, index: Index, clock: Clock) -> str | None:
    """Another video whose same MP4 the host has. Raises Postponed where it is being sent there at this moment, or may have been."""
    if video.file is None:
        return None
    other = index.sending_twin(video.file.sha256, host, besides=video.id)
    if other is not None:
        raise Postponed(f"{host}: is being sent the same bytes of {other}", clock.now() + _TWIN)
    return index.sent_twin(video.file.sha256, host, besides=video.id)


def deliver(
    video: Video,
    name: str,
    files: Files,
    dispatch: Dispatch,
    save: Save,
    intend: Intend,
    deadline: Deadline,
    *,
    by_hand: "ByHand | None" = None,
) -> tuple[Video, DailiesError | None]:
    """(the video as it now stands, why it is not there).

    Raises ConfigError and the deadline's own error: the record then says that it was begun.
    """
    delivery = _Delivery(video, name, files, dispatch, save, intend, deadline)
    error = delivery.go(by_hand or NOT_BY_HAND)
    return delivery.video, error


def reconcile(video: Video, name: str, dispatch: Dispatch, save: Save, deadline: Deadline) -> tuple[Video, DailiesError | None]:
    """Ask the host about an upload of the video that may have been sent; nothing is sent. As `deliver`."""
    assert video.file is not None, "nothing is sent before it is converted"
    asset = asset_of(video, Kind.VIDEO, ".mp4", video.file.sha256, video.file.size_bytes)
    delivery = _Delivery(video, name, {"video": (Path(asset.name), asset)}, dispatch, save, lambda _video, _name: None, deadline)
    error = delivery.ask()
    return delivery.video, error


class _Delivery:
    """`video` is always what the database holds."""

    def __init__(
        self, video: Video, name: str, files: Files, dispatch: Dispatch, save: Save, intend: Intend, deadline: Deadline
    ) -> None:
        self.video = video
        self._name = name
        self._files = files
        self._dispatch = dispatch
        self._save = save
        self._intend = intend
        self._deadline = deadline
        self._host = dispatch.hosts[name]
        self._gate = dispatch.gates.of(name)
        self._adapter = dispatch.settings.hosts[name].adapter
        self._assets = {part: asset for part, (_, asset) in files.items()}
        self._kind = next(iter(self._assets.values())).kind
        self._before = self._upload
        self._began = dispatch.clock.monotonic()
        self._bytes = 0

    def go(self, by_hand: ByHand) -> DailiesError | None:
        if self._before.status is UploadStatus.SUCCESS:
            return None
        return self._guarded(lambda: self._arrive(by_hand))

    def ask(self) -> DailiesError | None:
        return self._guarded(self._clear_up)

    def _guarded(self, work: Callable[[], None]) -> DailiesError | None:
        """What came of it stands in the record; so does what went wrong, but the end of the run."""
        try:
            work()
        except (Interrupted, OutOfTime, ConfigError):
            raise
        except DailiesError as error:
            if self._deadline.remaining() <= 0 and not isinstance(error, OutcomeUnknown):
                raise  # the step's own time is over: nothing is known of the host
            return self._settled(error)
        self._gate.succeeded()
        return None

    def _arrive(self, by_hand: ByHand) -> None:
        self._check(by_hand)
        receipts = self._found(by_hand)
        if not receipts and self._upload.status is UploadStatus.IN_PROGRESS:  # of a run that died: for the audit
            self._note(self._with(uploads.not_begun(self._upload, self._before, _DIED)), self._upload.attempt_id)
        if len(receipts) < len(self._files):
            self._begin(by_hand)
            for part, (path, asset) in self._files.items():
                if part not in receipts:
                    receipts[part] = self._host.upload(path, asset, self._transfer(asset))
        self._confirm(receipts)

    def _clear_up(self) -> None:
        receipts = self._found()
        if len(receipts) == len(self._files):
            self._confirm(receipts)
        elif self._upload.status is UploadStatus.IN_PROGRESS:
            self._put(uploads.not_begun(self._upload, self._before, None), self._upload.attempt_id)

    def _check(self, by_hand: ByHand) -> None:
        """What is known without asking the host. Raises Waiting, Postponed, HostRefused."""
        may_repeat = self.video.duplicate_allowed or by_hand.is_forced
        refusal = uploads.refusal(self._before, self._now, may_repeat=may_repeat, is_direct=by_hand.is_direct)
        if refusal is not None:
            if self._before.status is UploadStatus.RATE_LIMITED and self._before.until is not None:
                raise Postponed(f"{self._name}: {refusal}", parse_timestamp(self._before.until))
            raise HostRefused(f"{self._name}: {refusal}")
        self._gate.check()
        limit = self._host.capabilities.max_bytes
        for _, asset in self._files.values():
            if limit is not None and asset.size_bytes > limit:
                sizes = f"takes {limit / 1e9:.1f} GB a file, {asset.name} has {asset.size_bytes / 1e9:.1f} GB"
                raise HostRefused(f"{self._name}: {sizes}; name another host")

    def _found(self, by_hand: ByHand = NOT_BY_HAND) -> dict[str, Receipt]:
        """What the host has already, by part: a machine lost without a trace may have sent it (design, rule 9).

        What was sent, perhaps, and is not there is a failure that counts.
        """
        is_open = self._upload.status in uploads.OPEN
        if (self._host.capabilities.overwrites or by_hand.is_forced) and not is_open:
            return {}
        try:
            found = (self._asked_as_sent() if is_open else {}) or self._asked()
            if is_open and len(found) < len(self._files) and self._host.capabilities.settle_s:
                self._deadline.pause(self._host.capabilities.settle_s)  # its listing may lag behind
                found = self._asked()
        except HostSilent as error:
            if is_open and not by_hand.is_forced:
                raise
            log.warning("video=%s host=%s cannot be asked whether it has it: %s", self.video.id, self._name, error)
            return {}
        if not found and self._upload.status is UploadStatus.UNKNOWN:
            absent = uploads.failed(self._upload, "the host does not have what was sent", self._max_retries, self._now)
            self._put(absent)
            if absent.status is UploadStatus.FAILED_FINAL:
                raise HostRefused(f"{self._name}: {absent.error}, again and again; look at the host")
        return found

    def _asked(self) -> dict[str, Receipt]:
        answers = {part: self._host.find(asset, self._transfer(asset)) for part, asset in self._assets.items()}
        return {part: receipt for part, receipt in answers.items() if receipt is not None}

    def _asked_as_sent(self) -> dict[str, Receipt]:
        """The MP4 may have been made anew, with other bytes, since it was sent: what was sent then is what counts."""
        sent, now = self._before, self._assets
        part, asset = next(iter(now.items()))
        if len(now) > 1 or sent.sha256 is None or sent.sha256 == asset.sha256:
            return {}
        self._assets = {part: replace(asset, sha256=sent.sha256, size_bytes=sent.size_bytes or 0, md5=None)}
        found = self._asked()
        self._assets = self._assets if found else now
        return found

    def _begin(self, by_hand: ByHand) -> None:
        """The intent is saved before the first byte (write-ahead)."""
        place = None if by_hand.is_direct else self._gate.enter()
        video = self.video.with_upload(self._name, self._kind, self._begun())
        if self._kind is not Kind.VIDEO:
            self.video = self._save(video)
            return
        try:
            twin = self._intend(video, self._name)
        except Postponed:
            self._gate.leave(place)
            raise
        if twin is not None:
            self._gate.leave(place)
            raise Twin(self._name, self.video.id, twin)
        self.video = video

    def _begun(self) -> Upload:
        return uploads.begun(self._upload, self._adapter, next(iter(self._assets.values())), self._now)

    def _transfer(self, asset: Asset) -> Transfer:
        def progress(sent: int) -> None:
            self._bytes = max(self._bytes, sent)
            self._dispatch.meter(self.video, self._name, asset, sent)

        return Transfer(self._deadline, self._dispatch.session(self._name, asset), progress)

    def _confirm(self, receipts: Mapping[str, Receipt]) -> None:
        ordered = {part: receipts[part] for part in self._assets}  # the first one's links are the upload's
        self._put(uploads.succeeded(self._upload, self._adapter, self._assets, ordered, self._now))
        self._drop_sessions()

    def _settled(self, error: DailiesError) -> DailiesError | None:
        """Record what came of it; None where the host had it after all."""
        said, now = self._said(error), self._now
        match error:
            case OutcomeUnknown():
                self._put(uploads.unknown(self._upload, said, now))
                return self._asked_again(error)
            case Twin():
                self._put(uploads.blocked(self._upload, said, now))
            case HostSilent():
                return self._left_to_a_person(error)
            case HostRefused():
                self._refused(said)
            case Denied():
                self._gate.close(said)
                self._withdraw(said)
                return Waiting(said, Category.HOST)
            case RateLimited():
                until = now + timedelta(seconds=error.wait_s)
                self._gate.limited(until, said)
                return self._limited(Postponed(said, until), is_the_hosts=True)
            case Postponed():
                return self._limited(error)
            case Transient():
                self._failed(said)
            case _:  # this machine lacks something
                self._withdraw(said)
        return error

    def _refused(self, said: str) -> None:
        if self._upload.status not in uploads.ENDED:
            self._put(uploads.refused(self._upload, said, self._now))
        self._drop_sessions()

    def _failed(self, said: str) -> None:
        self._gate.failed(said)
        if self._is_clear:  # else it could not even be asked: what may have been sent stays so
            self._put(uploads.failed(self._upload, said, self._max_retries, self._now))

    @property
    def _is_clear(self) -> bool:
        """Whether an earlier attempt is known to have left nothing there."""
        return self._before.status not in uploads.OPEN or self._upload.attempt_id != self._before.attempt_id

    def _limited(self, error: Postponed, *, is_the_hosts: bool = False) -> Postponed:
        later = uploads.limited(self._upload, self._said(error), error.until)
        if not self._is_clear:
            return error
        if is_the_hosts:
            self._put(later)
        elif (self._upload.status, self._upload.until) != (later.status, later.until):
            self.video = self._save(self._with(later))  # no attempt, no line
        return error

    def _withdraw(self, said: str) -> None:
        """Not counted: it is as it was before the attempt."""
        if self._upload.attempt_id != self._before.attempt_id:
            self._put(uploads.not_begun(self._upload, self._before, said), self._upload.attempt_id)

    def _left_to_a_person(self, error: HostSilent) -> DailiesError:
        """Nobody else can know. The video waits with its MP4 kept; a preview is not worth that."""
        if self._kind is not Kind.VIDEO:
            self._put(uploads.unknown(self._upload, self._said(error), self._now))
            return error
        ways = f"`dailies upload {self.video.id} {self._name} --is-there REMOTE_ID`, or `--force` to send it again"
        said = f"{self._said(error)}; look there, then {ways}"
        if (self._upload.status, self._upload.error) != (UploadStatus.UNKNOWN, said):
            self._put(uploads.unknown(self._upload, said, self._now))
        return Waiting(said, Category.HOST)

    def _asked_again(self, error: OutcomeUnknown) -> DailiesError | None:
        """At once: most lost answers are of uploads that arrived."""
        try:
            receipts = self._found()
        except (Interrupted, OutOfTime, ConfigError):
            raise
        except HostSilent as silent:
            return self._left_to_a_person(silent)
        except DailiesError as again:
            log.warning("video=%s host=%s is not known to have it: %s", self.video.id, self._name, again)
            return error
        if len(receipts) < len(self._files):
            self._gate.failed(self._said(error))
            return error
        self._gate.succeeded()
        self._confirm(receipts)
        return None

    @property
    def _upload(self) -> Upload:
        return self.video.upload(self._name, self._kind)

    @property
    def _max_retries(self) -> int:
        return self._dispatch.settings.publish.max_retries

    @property
    def _now(self) -> datetime:
        return self._dispatch.clock.now()

    def _said(self, error: DailiesError) -> str:
        return self._dispatch.clean_text(str(error))

    def _put(self, upload: Upload, attempt_id: str | None = None) -> None:
        """In the record first, then in the journal, with the attempt that it was where the record has forgotten that."""
        self.video = self._save(self._with(upload))
        self._note(self.video, attempt_id or upload.attempt_id)

    def _with(self, upload: Upload) -> Video:
        return self.video.with_upload(self._name, self._kind, upload)

    def _note(self, video: Video, attempt_id: str | None) -> None:
        first = next(iter(self._assets.values()))
        event = Event.of(
            video,
            self._name,
            self._kind,
            timestamp(self._now),
            attempt_id=attempt_id,
            metadata={"title": first.details.title, "name": first.name, "sha256": first.sha256},
            bytes=self._bytes,
            seconds=round(self._dispatch.clock.monotonic() - self._began, 3),
        )
        self._dispatch.journal.write(event)

    def _drop_sessions(self) -> None:
        for _, asset in self._files.values():
            self._dispatch.session(self._name, asset).drop()


class Twin(HostRefused):
    """Another video has the same bytes there."""

    def __init__(self, host: str, video_id: str, twin: str) -> None:
        super().__init__(f"{host}: has these bytes of {twin}; `dailies allow-duplicates {video_id} on` lets it go there too")
        self.twin = twin
