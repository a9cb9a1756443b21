"""What all tests share: an empty home, no network beyond loopback, generated clips, libraries with a real remote."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dailies import repository, scaffold
from dailies.library import Library
from dailies.media import ffmpeg

ROOT = Path(__file__).resolve().parent.parent
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


@dataclass
class FakeClock:
    """Time that only moves when somebody waits; `slept` are the waits."""

    moment: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    elapsed: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.elapsed

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)
        self.elapsed += seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


@dataclass(frozen=True)
class Finished:
    """A `dailies` command that ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "dailies", *map(str, arguments)]


def run_cli(*arguments: str | Path, cwd: Path, timeout: float = 120, **environment: str) -> Finished:
    """`dailies …` as a person starts it: a process of its own."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "scripts"), **environment}
    done = subprocess.run(command(*arguments), cwd=cwd, env=variables, capture_output=True, timeout=timeout, check=False)
    return Finished(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


@dataclass(frozen=True)
class Shelf:
    """A library in a git repository of its own, with a bare remote beside it."""

    root: Path
    remote: Path

    def cli(self, *arguments: str | Path, **environment: str) -> Finished:
        return run_cli(*arguments, cwd=self.root, **environment)

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.root, capture_output=True, check=True)
        return done.stdout.decode().strip()

    def open(self) -> Library:
        return Library.open(root=self.root)

    def records(self) -> dict[str, Any]:
        """Every record on disk by its source's original name; each must be valid JSON."""
        found = [json.loads(path.read_text("utf-8")) for path in sorted(self.root.glob("database/videos/*/*.json"))]
        return {record["source"]["original_name"]: record for record in found}

    def set(self, section: str, **values: Any) -> None:
        """Append settings to dailies.toml, in the section that is there already."""
        path = self.root / "dailies.toml"
        lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
        path.write_text(path.read_text().replace(f"[{section}]\n", f"[{section}]\n{lines}", 1))

    def put(self, clip: Path, name: str | None = None) -> Path:
        """A clip into the inbox, with a time that says that nobody is writing it any more."""
        target = self.root / "media/inbox" / (name or clip.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(clip, target)
        old = datetime.now(UTC).timestamp() - 3600
        os.utime(target, (old, old))
        return target

    def temporary_files(self) -> list[Path]:
        """What no finished or interrupted run may leave."""
        everywhere = [*self.root.rglob(".tmp-*"), *self.root.glob("work/*/tmp/*"), *self.root.glob("work/*/step.json")]
        return [path for path in everywhere if ".git" not in path.parts]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    root, remote = tmp_path / "library", tmp_path / "remote.git"
    repository.create(remote, bare=True)
    repository.create(root)
    scaffold.init(root)
    found = Shelf(root, remote)
    found.open().repository.begin(remote, "dailies init")
    return found


ClipMaker = Callable[..., Path]


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
