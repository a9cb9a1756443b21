"""A little host that does as it is told, and a library of finished MP4s that need nothing but to be sent.

A shop keeps what it is given in a folder and does what `plan.json` in it says: for each kind of call an act for one call after the
other, or one act for all of them. It can be told so from outside, in the middle of a run and from another process too.
"""

import contextlib
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from dailies import atomic, config, copying, hosts, pipeline
from dailies.clock import Deadline, timestamp
from dailies.delivery import Dispatch, Files, asset_of, deliver
from dailies.errors import ConfigError, DailiesError, Denied, HostRefused, HostSilent, OutcomeUnknown, RateLimited, Transient
from dailies.hosts import Asset, Capabilities, Ground, Receipt, Standing, Transfer
from dailies.hosts.host import State as Stands
from dailies.library import Library
from dailies.model import Kind, Media, MediaFile, Source, StepName, StepRecord, StepStatus, Upload, Video, file_identity
from dailies.progress import LogWatcher
from dailies.steps import WorkFolder
from support import FakeClock

_turns: Final = threading.Lock()
KEY: Final = "correct-horse-battery"


class Killed(BaseException):
    """The machine is gone: nothing of the program sees to anything any more."""


class Shop(BaseModel):
    """`stock/<number>` holds the bytes of one upload each, `stock/<number>.json` what it is."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    ground: Ground = Field(exclude=True, repr=False)
    path: str = Field(description="the folder")
    replaces: bool = Field(False, description="the same name twice is one file")
    returns: bool = Field(True, description="gives the bytes back")
    lag: float = Field(0.0, description="seconds until its listing shows an upload")
    largest: int = Field(0, description="bytes a file; 0 = any")
    pictures: bool = Field(True, description="takes previews and pictures too")

    @property
    def capabilities(self) -> Capabilities:
        kinds = frozenset(Kind) if self.pictures else frozenset({Kind.VIDEO})
        return Capabilities(
            overwrites=self.replaces, kinds=kinds, gives_back=self.returns, settle_s=self.lag, max_bytes=self.largest or None
        )

    def preflight(self, deadline: Deadline) -> str:
        deadline.check()
        return "open"

    def upload(self, path: Path, asset: Asset, transfer: Transfer) -> Receipt:
        """`ok`, `lose` (kept, the answer lost), `cut` (not kept, the answer lost), `fail`, `refuse`, `deny`, `limit SECONDS`,
        `die` (kept, then the machine is gone), `die early`, `slow SECONDS`, `settle` (kept, and worked on)."""
        act, _, detail = self._turn("upload", asset).partition(" ")
        self._go_wrong(act, detail, asset)
        if act == "cut":
            raise OutcomeUnknown(f"{self.path}: the answer was lost")
        if act == "die" and detail == "early":
            raise Killed
        if act == "slow":
            transfer.deadline.pause(float(detail))
        transfer.progress(asset.size_bytes)
        receipt = self._keep(path, asset, transfer.deadline)
        if act == "lose":
            raise OutcomeUnknown(f"{self.path}: the answer was lost")
        if act == "die":
            raise Killed
        return Receipt(receipt.remote_id, receipt.watch_url, is_settled=act != "settle")

    def find(self, asset: Asset, transfer: Transfer) -> Receipt | None:
        """`ok`, `silent`, `fail`, `deny`, `limit SECONDS`, `die`."""
        act, _, detail = self._turn("find", asset).partition(" ")
        self._go_wrong(act, detail, asset)
        if act == "die":
            raise Killed
        if act == "silent":
            raise HostSilent(f"{self.path}: has no listing")
        now = transfer.deadline.clock.monotonic()
        for number, one in self._stock():
            if (one["name"], one["sha256"]) == (asset.name, asset.sha256) and one["seen_from"] <= now:
                return self._receipt(number)
        return None

    def check(self, asset: Asset, remote_id: str, deadline: Deadline) -> Standing:
        """`ready`, `missing`, `processing`, `failed`, `fail`, `slow SECONDS`, `linger SECONDS` (and processing)."""
        act, _, detail = self._turn("check", asset).partition(" ")
        self._go_wrong(act, detail, asset)
        if act in {"slow", "linger"}:
            deadline.pause(float(detail))
        if act == "linger":
            return Standing(Stands.PROCESSING)
        if act in set(Stands):
            return Standing(Stands(act), "it is no good" if act == Stands.FAILED else "")
        return Standing(Stands.READY if (self._folder / remote_id).exists() else Stands.MISSING)

    def delete(self, remote_id: str, deadline: Deadline) -> None:
        deadline.check()
        for name in (remote_id, f"{remote_id}.json"):
            (self._folder / name).unlink(missing_ok=True)

    def fetch(self, asset: Asset, remote_id: str, target: Path, deadline: Deadline) -> None:
        """`ok`, `wrong` (other bytes), `fail`, `cannot` (a person must act)."""
        act, _, detail = self._turn("fetch", asset).partition(" ")
        self._go_wrong(act, detail, asset)
        if act == "cannot":
            raise ConfigError(f"{self.path}: gives nothing back until somebody sets it up")
        copying.copy(self._folder / remote_id, target, deadline)
        if act == "wrong":
            target.write_bytes(b"something else")

    def sweep_folders(self) -> tuple[Path, ...]:
        return ()

    @property
    def _folder(self) -> Path:
        return self.ground.root / self.path / "stock"

    def _go_wrong(self, act: str, detail: str, asset: Asset) -> None:
        match act:
            case "fail":
                raise Transient(f"{self.path}: is down, said somebody who knows {KEY}")
            case "refuse":
                raise HostRefused(f"{self.path}: does not like {asset.name}")
            case "deny":
                raise Denied(f"{self.path}: does not let us in")
            case "limit":
                raise RateLimited(f"{self.path}: not so fast", float(detail))

    def _turn(self, call: str, asset: Asset) -> str:
        """What to do now; the call is noted, with what the record on disk says at this moment."""
        with _turns:
            root = self.ground.root / self.path
            root.mkdir(parents=True, exist_ok=True)
            plan = _read(root / "plan.json", {})
            acts = plan.get(call, "ok")
            act = acts if isinstance(acts, str) else acts.pop(0) if acts else "ok"
            (root / "plan.json").write_text(json.dumps(plan))
            record = next(self.ground.root.glob(f"database/videos/*/{asset.video_id}.json"))
            upload = json.loads(record.read_bytes())["uploads"].get(root.name, {}).get(asset.kind, {})
            told = {"title": asset.details.title, "status": upload.get("status"), "attempt_id": upload.get("attempt_id")}
            with (root / "calls.jsonl").open("a") as file:
                file.write(json.dumps({"call": call, "name": asset.name, "act": act, **told}) + "\n")
            return str(act)

    def _keep(self, path: Path, asset: Asset, deadline: Deadline) -> Receipt:
        with _turns:
            self._folder.mkdir(parents=True, exist_ok=True)
            known = [number for number, one in self._stock() if self.replaces and one["name"] == asset.name]
            number = known[0] if known else f"{len(list(self._folder.glob('*.json'))) + 1:04d}"
            copying.copy(path, self._folder / number, deadline)
            assert copying.sha256(self._folder / number, deadline) == asset.sha256, "the host was sent other bytes than promised"
            seen_from = deadline.clock.monotonic() + self.lag
            said = {"name": asset.name, "sha256": asset.sha256, "kind": asset.kind, "seen_from": seen_from}
            atomic.write(self._folder / f"{number}.json", json.dumps(said).encode())  # others look meanwhile
            return self._receipt(number)

    def _stock(self) -> Iterator[tuple[str, Any]]:
        for path in sorted(self._folder.glob("*.json")):
            yield path.stem, json.loads(path.read_text())

    def _receipt(self, number: str) -> Receipt:
        return Receipt(remote_id=number, watch_url=f"https://{Path(self.path).name}.example/{number}")


def _read(path: Path, otherwise: Any) -> Any:
    with contextlib.suppress(OSError):
        return json.loads(path.read_bytes())
    return otherwise


@contextlib.contextmanager
def opened() -> Iterator[None]:
    """Shops can be named in settings."""
    before = dict(hosts.HOSTS)
    hosts.HOSTS["shop"] = Shop  # type: ignore[index]  # read-only for everybody else
    try:
        yield
    finally:
        for name in hosts.HOSTS.keys() - before.keys():
            del hosts.HOSTS[name]  # type: ignore[attr-defined]


@contextlib.contextmanager
def depots() -> "Iterator[Depot]":
    """A new one, in memory where that can be: everything is synced to its disk."""
    scratch = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=scratch) as folder, opened():
        yield Depot(Path(folder) / "library")


def written(publish: str = "", **shops: str) -> str:
    """Settings of a library with these shops, each with settings of its own."""
    text = (
        "[run]\ntime_limit = '2h'\nmin_remaining = '10s'\n[space]\nfloor = 0\n[enrich]\nsidecars = false\n[git]\ncommit = false\n"
    )
    names = json.dumps(list(shops))
    text += f"[publish]\nhosts = {names}\npreview_hosts = []\n{publish}\n"
    return text + "".join(f"[hosts.{name}]\nadapter = 'shop'\npath = 'shops/{name}'\n{said}\n" for name, said in shops.items())


@dataclass
class Depot:
    """A library without git whose videos wait with their MP4s made: a run has only to send them."""

    root: Path
    clock: FakeClock = field(default_factory=FakeClock)
    stop: threading.Event = field(default_factory=threading.Event)

    def set(self, publish: str = "", **shops: str) -> "Depot":
        (self.root / "media/inbox").mkdir(parents=True, exist_ok=True)
        (self.root / "dailies.toml").write_text(written(publish, **shops))
        return self

    @property
    def library(self) -> Library:
        """Opened anew: nothing is known but what is on disk."""
        return Library(self.root, config.load(self.root), self.clock)

    def put(self, content: bytes = b"moving pictures", code: str = "talk", **changes: Any) -> Video:
        """A video that waits with its source and its MP4."""
        source = self.root / "media" / f"{code}.wav"
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_bytes(b"source of " + content)
        identity, size_bytes = file_identity(source, f"media/{code}.wav")
        video = self.video(content, code, identity, size_bytes)
        folder = WorkFolder(self.root / "work" / video.id)
        folder.make()
        folder.tmp.rmdir()
        folder.output.write_bytes(content)
        return self.library.database.save(video.with_(**changes))

    def video(self, content: bytes, code: str, identity: str = "", size_bytes: int = 0) -> Video:
        """A record whose MP4 has this content; sound only, so that nothing is looked at."""
        identity = identity or hashlib.sha256(code.encode()).hexdigest()
        sha256 = hashlib.sha256(content).hexdigest()
        now = timestamp(self.clock.now())
        return Video(
            id=f"{code}-{identity[:12]}",
            code=code,
            title=code.title(),
            source=Source(
                kind="file",
                uri=f"media/{code}.wav",
                original_name=f"{code}.wav",
                size_bytes=size_bytes,
                identity=identity,
                sha256=hashlib.sha256(b"source of " + content).hexdigest(),
            ),
            file=MediaFile(name=f"{code}-{identity[:12]}.mp4", size_bytes=len(content), sha256=sha256),
            media=Media(
                duration_s=1,
                width=0,
                height=0,
                resolution="",
                aspect_ratio="",
                fps=0,
                video_codec=None,
                audio_codec="aac",
                audio_channels=2,
                bit_rate=1,
                rotation=0,
            ),
            steps={StepName.CONVERT: StepRecord(status=StepStatus.COMPLETED, duration_s=1, at=now)},
            created_at=now,
            updated_at=now,
        )

    def kept(self, video: Video) -> Path:
        return WorkFolder(self.root / "work" / video.id).output

    def now(self, video: Video) -> Video:
        """As it is on disk."""
        return self.library.database.load(video.id)

    def upload(self, video: Video, name: str = "a", kind: Kind = Kind.VIDEO) -> Upload:
        return self.now(video).upload(name, kind)

    def save_upload(self, video: Video, name: str = "a", **fields: Any) -> Video:
        fields.setdefault("at", timestamp(self.clock.now()))
        before = self.now(video)
        return self.library.database.save(before.with_upload(name, Kind.VIDEO, Upload.model_validate(fields)), before)

    def save_state(self, video: Video, **changes: Any) -> Video:
        before = self.now(video)
        return self.library.database.save(before.with_(**changes), before)

    def run(self, **wanted: Any) -> pipeline.Result:
        """One whole run, as `dailies run` does it; videos that wait for a later attempt are taken too."""
        return pipeline.run(self.library, pipeline.Wanted(commit=False, **{"force": True, **wanted}), LogWatcher(), self.stop)

    def deadline(self, seconds: float = 3600) -> Deadline:
        return Deadline.after(self.clock, seconds, self.stop)

    def deliver(
        self, video: Video, name: str = "a", dispatch: Dispatch | None = None, twin: str | None = None
    ) -> tuple[Upload, DailiesError | None]:
        """One delivery, and nothing around it; `twin` has the same bytes there."""
        library, video = self.library, self.now(video)
        save = library.saver(video)
        assert video.file is not None
        asset = asset_of(video, Kind.VIDEO, ".mp4", video.file.sha256, video.file.size_bytes)
        files: Files = {"video": (self.kept(video), asset)}

        def intend(one: Video, _host: str) -> str | None:
            if twin is None:
                save(one)
            return twin

        after, error = deliver(video, name, files, dispatch or library.dispatch(), save, intend, self.deadline())
        assert after.upload(name, Kind.VIDEO) == self.upload(video, name)
        return after.upload(name, Kind.VIDEO), error

    # -- the shops

    def plan(self, name: str = "a", **acts: str | list[str]) -> None:
        """What a shop does from now on, by kind of call."""
        path = self.root / "shops" / name / "plan.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**_read(path, {}), **acts}))

    def calls(self, name: str = "a", call: str | None = None) -> list[dict[str, Any]]:
        path = self.root / "shops" / name / "calls.jsonl"
        noted = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [one for one in noted if call in (None, one["call"])]

    def asked(self, name: str = "a") -> list[str]:
        """The kinds of calls, in order."""
        return [one["call"] for one in self.calls(name)]

    def stock(self, name: str = "a") -> list[str]:
        """The names of what a shop holds, one for each copy."""
        folder = self.root / "shops" / name / "stock"
        return sorted(json.loads(path.read_text())["name"] for path in folder.glob("*.json"))

    def lines(self) -> list[dict[str, Any]]:
        """The journal."""
        paths = sorted(self.root.glob("database/events/*.jsonl"))
        return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]
