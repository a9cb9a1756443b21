"""`dailies` as a process that hangs, is told to stop or dies: the driver that kills itself, and what the tests of it share.

As a script: `python kill_driver.py PLAN ARGUMENT…` runs `dailies ARGUMENT…` under an audit hook. PLAN is JSON:
`{"phase": "convert", "at": 3}` sends SIGKILL to the own process just before the third act of that phase, as a machine that is
lost would; `{"log": "events.json"}` writes all acts by phase instead. An act is a program started, or a file or folder of the
library made, opened for writing, moved or removed. The phases are `start`, the step that `work/<id>/step.json` names, until it
names another, and `commit`, from the report on.
"""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dailies.model import Video
    from support import Finished, Shelf

_ON_PATHS: Final = frozenset({"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"})
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Hook:
    """Counts the acts of each phase, and ends this process (or does what else it is told) at the chosen one."""

    def __init__(self, root: Path, phase: str | None, at: int, then: Callable[[], None] = die) -> None:
        self._root = root
        self._chosen = (phase, at)
        self._then = then
        self._phase = "start"
        self._lock = threading.Lock()
        self.acts: dict[str, list[str]] = {}

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        act = self._act(event, arguments)
        if act is None:
            return
        with self._lock:
            self._phase = self._now(act)
            done = self.acts.setdefault(self._phase, [])
            done.append(act)
            is_chosen = (self._phase, len(done)) == self._chosen
        if is_chosen:
            self._then()

    def _act(self, event: str, arguments: tuple[Any, ...]) -> str | None:
        if event == "subprocess.Popen":
            return f"start {' '.join(map(str, arguments[1]))}"
        if event not in _ON_PATHS or isinstance(arguments[0], int):
            return None
        if event == "open" and not (arguments[2] or 0) & _WRITING:
            return None
        path = os.path.join(self._root, os.fsdecode(arguments[0]))
        if "__pycache__" in path:  # the interpreter's own, before any command has begun
            return None
        return f"{event} {os.path.relpath(path, self._root)}" if path.startswith(f"{self._root}/") else None

    def _now(self, act: str) -> str:
        if self._phase == "commit" or " database/runs" in act:
            return "commit"
        for mark in self._root.glob("work/*/step.json"):
            with contextlib.suppress(OSError, ValueError):  # it is being written, or removed
                said = json.loads(mark.read_text("utf-8"))
                if said["owner"].startswith(f"{os.getpid()}@"):  # not what a run that died has left
                    return str(said["step"])
        return self._phase


def main(plan: dict[str, Any], arguments: list[str]) -> int:
    from dailies import cli

    hook = Hook(Path.cwd().resolve(), plan.get("phase"), plan.get("at", 0))
    if "log" in plan:
        atexit.register(lambda: Path(plan["log"]).write_text(json.dumps(hook.acts), "utf-8"))
    sys.addaudithook(hook)
    return cli.main(arguments)


def driven(shelf: "Shelf", *arguments: str, **plan: Any) -> int:
    """The exit code of `dailies ARGUMENT…` under a plan; a group of its own, so that a test may kill all of it."""
    from support import variables

    argv = [sys.executable, __file__, json.dumps(plan), *arguments]
    return subprocess.run(
        argv, cwd=shelf.root, env=variables(), capture_output=True, check=False, start_new_session=True
    ).returncode


def wait_until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """What `condition` answers once that is true; fails when it stays false."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.01)
    return found


@contextlib.contextmanager
def running(shelf: "Shelf", *arguments: str, **environment: str) -> "Iterator[subprocess.Popen[bytes]]":
    """`dailies ARGUMENT…` at work; whatever the test does, nothing of it is left behind."""
    from support import command, variables

    argv, pipe = command(*arguments), subprocess.PIPE
    with subprocess.Popen(argv, cwd=shelf.root, env=variables(**environment), stdout=pipe, stderr=pipe) as process:
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            for pid in children_of(shelf):
                os.kill(pid, signal.SIGKILL)


def ended(process: "subprocess.Popen[bytes]", seconds: float = 60) -> "Finished":
    from support import Finished

    out, err = process.communicate(timeout=seconds)
    return Finished(process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


def program(path: Path, *lines: str) -> str:
    """A shell script to name in DAILIES_FFMPEG; it goes on as the real ffmpeg where the lines do not end it."""
    from dailies.media import ffmpeg

    text = "\n".join(("#!/bin/sh", f"here='{path.parent}'", *lines, f"exec '{ffmpeg.executable()}' \"$@\""))
    path.write_text(text + "\n", "utf-8")
    path.chmod(0o755)
    return str(path)


def hanging(folder: Path, *before: str) -> str:
    """An ffmpeg that hangs together with a child of its own, and notes both pids in a file of `folder`."""
    note = 'echo "$$ $!" > "$here/new-$$" && mv "$here/new-$$" "$here/hung-$$"'
    return program(folder / "hanging-ffmpeg", *before, "sleep 600 &", note, "wait", "exit 1")


def hung(folder: Path, count: int = 1) -> list[int]:
    """The pids of `count` hanging ffmpegs and their children, once these are there."""
    notes = wait_until(lambda: len(found := sorted(folder.glob("hung-*"))) >= count and found)
    return [int(pid) for note in notes for pid in note.read_text().split()]


def steps_in_hand(shelf: "Shelf") -> list[str]:
    """What the marks in the work folders say now."""
    found = []
    for mark in shelf.root.glob("work/*/step.json"):
        with contextlib.suppress(OSError, ValueError):  # it is being written, or removed
            found.append(str(json.loads(mark.read_text("utf-8"))["step"]))
    return found


def is_alive(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def children_of(shelf: "Shelf") -> list[int]:
    """Living programs that a run of this library started."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            tag = process.environ().get("DAILIES_OWNER", "")
            found += [process.pid] if tag.endswith(f" {(shelf.root / 'work').resolve()}") and is_alive(process.pid) else []
    return found


def assert_nothing_is_left(shelf: "Shelf") -> None:
    """No program, no temporary file, no reservation."""
    assert children_of(shelf) == []
    assert shelf.temporary_files() == []
    reservations = shelf.root / "work/reservations.json"
    assert not reservations.exists() or json.loads(reservations.read_text("utf-8")) == {}


def files_of(video: "Video") -> dict[str, str]:
    """The published files that a record names, and their sha256."""
    from dailies.model import Kind

    whole = {file.name: file.sha256 for file in (video.file, video.preview) if file}
    pictures = video.upload("published", Kind.IMAGE).parts.values()
    assert {one.name for one in pictures} == set(video.images.values())
    return whole | {one.name: one.sha256 for one in pictures}


def assert_each_is_done_once(shelf: "Shelf") -> None:
    """Every record is done and says what stands in `media/published`, which holds nothing else; all is committed and pushed."""
    import hashlib

    from dailies.database import parse_video
    from support import PUBLISHED

    videos = [parse_video(path.read_bytes()) for path in shelf.root.glob("database/videos/*/*.json")]
    assert [(video.code, video.state) for video in videos if video.state != "done"] == []
    expected = {name: sha256 for video in videos for name, sha256 in files_of(video).items()}
    assert set(expected) == {f"{video.id}{suffix}" for video in videos for suffix in PUBLISHED}
    published = (shelf.root / "media/published").iterdir()
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in published} == expected
    assert [video.id for video in videos if (shelf.root / "work" / video.id).exists()] == []
    assert_nothing_is_left(shelf)
    assert shelf.git("status", "--porcelain", "--", "database") == ""
    assert shelf.git("rev-parse", "HEAD") == shelf.git("ls-remote", "origin", "refs/heads/main").split("\t")[0]


if __name__ == "__main__":
    raise SystemExit(main(json.loads(sys.argv[1]), sys.argv[2:]))
