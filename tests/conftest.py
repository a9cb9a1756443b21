"""Fixtures that all tests share: an empty home, no network beyond loopback, generated clips, libraries with a real remote."""

import logging
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from dailies import repository, scaffold
from dailies.cli import main
from dailies.media import ffmpeg
from dailies.media.children import Children
from support import ROOT, ClipMaker, Command, FakeClock, Finished, Shelf

settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines are shared
settings.load_profile("here")
_UNWANTED = ("DAILIES_", "GIT_", "GITHUB_", "RUNNER_", "CI")


@pytest.fixture(autouse=True)
def _empty_surroundings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No home, no settings of this machine, no way out to the network."""
    for name in os.environ:
        if name.startswith(_UNWANTED) and name != "DAILIES_MEDIA":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    real_connect = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else "127.0.0.1"
        if host not in {"127.0.0.1", "::1", "localhost"}:
            raise AssertionError(f"a test reaches out to {address}")
        real_connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Commands in this process set up the package's logger."""
    logger = logging.getLogger("dailies")
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    with Children(tmp_path) as found:
        yield found


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    root, remote = tmp_path / "library", tmp_path / "remote.git"
    repository.create(remote, bare=True)
    repository.create(root)
    scaffold.init(root)
    found = Shelf(root, remote)
    found.open().repository.begin(remote, "dailies init")
    return found


@pytest.fixture(scope="session")
def make_clip(tmp_path_factory: pytest.TempPathFactory) -> ClipMaker:
    """`make_clip(name, seconds=1, hertz=440, video="libx264", audio="aac", size="160x120", …)` -> a generated clip, made once."""
    folder = tmp_path_factory.mktemp("clips")

    def make(
        name: str = "clip.mp4",
        *,
        seconds: float = 1,
        hertz: int = 440,
        video: str | None = "libx264",
        audio: str | None = "aac",
        size: str = "160x120",
        rate: int = 25,
        options: tuple[str, ...] = (),
    ) -> Path:
        key = "-".join(map(str, (seconds, hertz, video, audio, size, rate, *options))).replace("/", "_").replace(" ", "_")
        path = folder / f"{abs(hash(key)):x}" / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            pictures = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}:duration={seconds}"] if video else []
            sound = ["-f", "lavfi", "-i", f"sine=frequency={hertz}:sample_rate=48000:duration={seconds}"] if audio else []
            codecs = (["-c:v", video, "-pix_fmt", "yuv420p"] if video else []) + (["-c:a", audio] if audio else [])
            argv = [ffmpeg.executable(), "-nostdin", "-v", "error", *pictures, *sound, *codecs, *options, "-y", str(path)]
            subprocess.run(argv, check=True)
        return path

    return make


@pytest.fixture(scope="session")
def clip(make_clip: ClipMaker) -> Path:
    return make_clip()


@pytest.fixture(scope="session")
def real_media() -> Path:
    """The folder of real clips; tests that need it skip with a reason where it is not there."""
    folder = Path(os.environ.get("DAILIES_MEDIA") or ROOT.parent / "shared" / "media")
    if not folder.is_dir():
        pytest.skip(f"real clips are not at {folder}; set DAILIES_MEDIA")
    return folder


@pytest.fixture
def dailies(shelf: Shelf, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command in this process, in the library."""
    monkeypatch.chdir(shelf.root)

    def run(*arguments: str | Path) -> Finished:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Finished(int(code), *capsys.readouterr())

    return run
