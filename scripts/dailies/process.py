"""The one door to programs: own process group, a deadline, bounded output, nobody left behind."""

import contextlib
import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from dailies.clock import Deadline
from dailies.config import environment
from dailies.errors import Category, ConfigError, Transient
from dailies.owner import Owner
from dailies.redact import without_secrets

log = logging.getLogger(__name__)

GRACE_S: Final = 2.0  # between TERM and KILL
POLL_S: Final = 0.1  # how late a stop or a deadline is seen
OWNER_VARIABLE: Final = "DAILIES_OWNER"  # every child carries it, so that the next run finds orphans (cleanup.py)
_HEAD_LINES: Final = 400
_TAIL_LINES: Final = 25
_LINE_BYTES: Final = 2000
_STDOUT_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True)
class Completed:
    """A program that ended by itself. `code` is negative for a signal; `messages` are its first and last stderr lines."""

    argv: Sequence[str]
    code: int
    stdout: bytes
    messages: tuple[str, ...]

    @property
    def died(self) -> bool:
        return self.code < 0

    def last_words(self) -> str:
        """For an error message: how it ended and the last lines that it wrote."""
        end = f"ended by signal {-self.code}" if self.died else f"exit code {self.code}"
        said = " | ".join(line.strip() for line in self.messages[-_TAIL_LINES:] if line.strip())
        return f"{end}: {said}" if said else end


def owner_tag(work: Path) -> str:
    return f"{Owner.current()} {work.resolve()}"


def run(argv: Sequence[str], deadline: Deadline, *, work: Path, variables: Mapping[str, str] | None = None) -> Completed:
    """Run to the end. `work` is the library's work folder, named in the child so that an orphan can be told.

    A child that opens other people's files gets no secret but those in `variables`.

    Raises the deadline's own error, Interrupted, or ConfigError when there is no such program; the whole group is ended first.
    """
    deadline.check()
    log.debug("run %s", shlex.join(argv))
    with _started(argv, {**without_secrets(environment()), **(variables or {}), OWNER_VARIABLE: owner_tag(work)}) as child:
        stdout, messages = _Collected(child.stdout), _Lines(child.stderr)
        try:
            while not _has_ended(child):
                deadline.check()
                stdout.wait_for_end(POLL_S)
        except BaseException:
            end_group(child)
            raise
        finally:
            _kill_rest(child)
            child.wait()
            stdout.finish()
            messages.finish()
    return Completed(tuple(argv), child.returncode, bytes(stdout.content), messages.lines())


def run_module(module: str, arguments: Sequence[str], deadline: Deadline, *, work: Path) -> Completed:
    """Run a module of this package in an interpreter of its own (native decoders may crash on hostile files)."""
    scripts = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join([scripts, *filter(None, [environment().get("PYTHONPATH")])])
    argv = [sys.executable, "-m", module, *arguments]
    return run(argv, deadline, work=work, variables={"PYTHONPATH": path})


def _started(argv: Sequence[str], variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=variables, start_new_session=True
        )
    except (FileNotFoundError, PermissionError) as error:
        raise ConfigError(f"{argv[0]}: cannot be started: {error.strerror}; see `dailies doctor`") from error
    except OSError as error:  # no memory, too many processes
        raise Transient(f"{argv[0]}: cannot be started now: {error.strerror}; tried again later", Category.BUSY) from error


def _has_ended(child: "subprocess.Popen[bytes]") -> bool:
    """Whether the leader has ended, without reaping it where that is possible: its pid still names the group then."""
    if child.returncode is not None:
        return True
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        return child.poll() is not None
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def output_of(child: "subprocess.Popen[bytes]", deadline: Deadline) -> tuple[bytes, bytes]:
    """(stdout, stderr) of a child that was started elsewhere in a group of its own; ends the group and raises on the deadline."""
    try:
        while True:
            deadline.check()
            with contextlib.suppress(subprocess.TimeoutExpired):
                return child.communicate(timeout=POLL_S)
    except BaseException:
        end_group(child)
        child.communicate()
        raise


def end_group(child: "subprocess.Popen[bytes]") -> None:
    """TERM to the whole group, up to 2 s of grace, then KILL."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGTERM)
    waiter = threading.Event()
    for _ in range(round(GRACE_S / POLL_S * 2)):
        if _has_ended(child):
            break
        waiter.wait(POLL_S / 2)
    _kill_rest(child)


def _kill_rest(child: "subprocess.Popen[bytes]") -> None:
    """Whatever of the group is still there: also after a normal end nobody is left behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies
        os.killpg(child.pid, signal.SIGKILL)


class _Reader:
    """Reads a pipe in a thread of its own, so that a talkative child never blocks."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        assert pipe is not None
        self._pipe = pipe
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self._read(self._pipe)
        finally:
            self._ended.set()

    def _read(self, pipe: IO[bytes]) -> None:
        raise NotImplementedError

    def wait_for_end(self, seconds: float) -> None:
        self._ended.wait(seconds)
        if self._ended.is_set():  # the pipe is closed but the child lives on: do not spin
            threading.Event().wait(POLL_S / 10)

    def finish(self) -> None:
        self._thread.join(timeout=GRACE_S)


class _Collected(_Reader):
    def __init__(self, pipe: IO[bytes] | None) -> None:
        self.content = bytearray()
        super().__init__(pipe)

    def _read(self, pipe: IO[bytes]) -> None:
        while chunk := pipe.read1(65536):  # type: ignore[attr-defined]  # a BufferedReader, which IO does not say
            if len(self.content) < _STDOUT_BYTES:
                self.content += chunk


class _Lines(_Reader):
    def __init__(self, pipe: IO[bytes] | None) -> None:
        self._head: list[bytes] = []
        self._tail: deque[bytes] = deque(maxlen=_TAIL_LINES)
        super().__init__(pipe)

    def _read(self, pipe: IO[bytes]) -> None:
        while line := pipe.readline(_LINE_BYTES):
            if len(self._head) < _HEAD_LINES:
                self._head.append(line)
            else:
                self._tail.append(line)

    def lines(self) -> tuple[str, ...]:
        return tuple(line.decode("utf-8", "replace").rstrip("\r\n") for line in (*self._head, *self._tail))
