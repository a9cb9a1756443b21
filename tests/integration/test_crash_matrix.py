"""SIGKILL at every packet of an upload, for every adapter: the next run leaves exactly one copy and a true record."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import hosts_storage
from dailies import scaffold
from dailies.database import parse_video
from dailies.model import Kind, State, UploadStatus, Video
from hosted import PLACES, SECRETS, Place, stored, toml
from integration.crash_driver import Driver, Wire, driver
from integration.kill_driver import wait_until
from support import IS_LONG, variables

KILLED = -9
SETTINGS = '[run]\nmin_remaining = "1s"\n[similar]\naction = "ignore"\n[publish]\nhosts = ["target"]\npreview_hosts = []\n'
NOWHERE = '[hosts.target]\nadapter = "internet_archive"\ns3_url = "http://127.0.0.1:9"\nfront_url = "http://127.0.0.1:9"\n'


@pytest.fixture
def runs() -> Iterator[Driver]:
    with driver(variables(**SECRETS)) as found:
        yield found


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, clip: Path) -> Path:
    """A library with one video that is ready to be sent: all its hosts have been down so far."""
    root = tmp_path_factory.mktemp("prepared") / "library"
    scaffold.init(root)
    (root / "dailies.toml").write_text(SETTINGS + NOWHERE)
    with driver(variables(**SECRETS)) as runs:
        assert runs.run(root, "add", str(clip)) == 0
        assert runs.run(root, "run", "--no-commit") == 1, (root / "run.log").read_text()
    assert (root / "work" / video_of(root).id / "kept/output.mp4").exists()
    path = next(root.glob("database/videos/*/*.json"))
    path.write_bytes(path.read_bytes().replace(b'"uploads": {', b'"uploads": {}, "was": {'))
    return root


def video_of(root: Path) -> Video:
    (path,) = root.glob("database/videos/*/*.json")
    return parse_video(path.read_bytes())


def through(place: Place, wire: Wire, port: int) -> Place:
    """The same host, by way of the wire."""
    theirs, ours = f"127.0.0.1:{port}", f"127.0.0.1:{wire.port}"
    section = {key: str(value).replace(theirs, ours) for key, value in place.section.items()}
    if "known_hosts" in section:
        known = Path(section["known_hosts"])
        known.write_text(known.read_text().replace(f"[127.0.0.1]:{port}", f"[127.0.0.1]:{wire.port}"))
    if place.server is not None:
        place.server.url = wire.url  # it tells people where to go on
    return replace(place, section=section)


@contextmanager
def served(protocol: str, folder: Path) -> Iterator[tuple[Place, int]]:
    with hosts_storage.serving(protocol, folder) as server:
        yield (
            Place("storage", server.settings("films"), lambda: stored(server.folder / hosts_storage.BUCKET / "films"), None),
            server.port,
        )


@contextmanager
def opened(name: str, folder: Path) -> Iterator[tuple[Place, int]]:
    if name not in PLACES:
        with served(name, folder) as found:
            yield found
        return
    with PLACES[name]() as place:
        assert place.server is not None
        yield place, urlsplit(place.server.url).port or 0


@pytest.mark.parametrize(
    ("name", "arrives"),
    [*((name, arrives) for name in PLACES for arrives in (True, False)), ("s3", True), ("webdav", True), ("sftp", True)],
)
def test_a_run_that_dies_at_any_packet_leaves_one_copy(
    name: str, arrives: bool, prepared: Path, runs: Driver, tmp_path: Path
) -> None:
    stride = 1 if IS_LONG else (9 if name == "sftp" else 3)
    at, is_over, faults = (0 if arrives else 1) + 1 - stride, False, list[str]()
    while not is_over:
        at += stride
        root = tmp_path / f"library-{at}"
        shutil.copytree(prepared, root)
        with opened(name, tmp_path / f"host-{at}") as (place, port), Wire(port) as wire:
            (root / "dailies.toml").write_text(SETTINGS + toml("target", through(place, wire, port)))
            wire.aim(at, arrives=arrives)
            code = runs.run(root, "run", "--force", "--no-commit", started=lambda pid, wire=wire: setattr(wire, "victim", pid))  # type: ignore[misc]
            is_over = code != KILLED
            wait_until(lambda wire=wire, place=place: wire.is_quiet and is_idle(place))  # type: ignore[misc]
            wire.aim(0, arrives=True)
            if not is_over:
                code = runs.run(root, "run", "--force", "--no-commit")
            faults += [f"packet {at}: {fault}" for fault in faults_of(code, video_of(root), place.copies(), root)]
        shutil.rmtree(root)
    assert not faults, "\n".join(faults)
    assert at > 3  # it was killed at several points before it came through


def is_idle(place: Place) -> bool:
    """A host that works on a request still is asked later: that is what `settle` is for, not what is tried here."""
    return place.server is None or place.server.at_work == 0


def faults_of(code: int, video: Video, copies: Mapping[str, str], root: Path) -> list[str]:
    upload = video.upload("target", Kind.VIDEO)
    said = f"exit {code}, {video.state}, {upload.status} {upload.remote_id}, {dict(copies)}"
    ours = [remote_id for remote_id, sha256 in copies.items() if video.file and sha256 == video.file.sha256]
    is_true = upload.status is UploadStatus.SUCCESS and upload.remote_id in ours
    is_well = code == 0 and video.state is State.DONE and is_true and len(ours) == len(copies) == 1
    sessions = list(root.glob("work/session-*"))
    return [] if is_well and not sessions else [f"{said}; {(root / 'run.log').read_text()[-1500:]}"]
