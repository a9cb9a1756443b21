"""What tests work with: a fake clock, the command as a process, a library with a remote."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from dailies.library import Library

ROOT = Path(__file__).resolve().parent.parent
ClipMaker = Callable[..., Path]
# what the files of a video are called that is published with everything, behind its id
PUBLISHED: Final = (".contact.jpg", ".cover.jpg", ".mp4", ".preview.mp4", ".sprite.jpg", ".sprite.vtt")

IS_LONG: Final = os.environ.get("DAILIES_TESTS") == "all"  # every point of the long matrices, not a part of each


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


@dataclass(frozen=True)
class Finished:
    """A `dailies` command that ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Finished]


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "dailies", *map(str, arguments)]


def variables(**changes: str) -> Mapping[str, str]:
    """The environment of a command that a test starts."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "scripts"), **changes}


def run_cli(*arguments: str | Path, cwd: Path, environment: Mapping[str, str] | None = None, timeout: float = 120) -> Finished:
    """`dailies …` as a person starts it: a process of its own."""
    done = subprocess.run(
        command(*arguments), cwd=cwd, env=environment or variables(), capture_output=True, timeout=timeout, check=False
    )
    return Finished(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


@dataclass(frozen=True)
class Shelf:
    """A library in a git repository of its own, with a bare remote beside it."""

    root: Path
    remote: Path

    def cli(self, *arguments: str | Path, **environment: str) -> Finished:
        return run_cli(*arguments, cwd=self.root, environment=variables(**environment))

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
