"""The one door to programs: own process group, a deadline, bounded output, nobody left behind."""

import contextlib
import logging
import os
import queue
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

import psutil

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
    with _started(argv, _variables(work, variables)) as child:
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


def converse(module: str, *, work: Path) -> "Conversation":
    """Start a module of this package in an interpreter of its own (native decoders may crash on hostile files)."""
    scripts = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join([scripts, *filter(None, [environment().get("PYTHONPATH")])])
    return Conversation([sys.executable, "-m", module], work=work, variables={"PYTHONPATH": path})


def _variables(work: Path, more: Mapping[str, str] | None) -> Mapping[str, str]:
    return {**without_secrets(environment()), **(more or {}), OWNER_VARIABLE: owner_tag(work)}


def _started(argv: Sequence[str], variables: Mapping[str, str], stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=variables, start_new_session=True
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


class Conversation:
    """A child that answers each line with one line, until it is ended. One thread at a time may ask it.

    It sees the end of its stdin when this process dies, however that happens, and does not outlive it.
    """

    def __init__(self, argv: Sequence[str], *, work: Path, variables: Mapping[str, str] | None = None) -> None:
        log.debug("start %s", shlex.join(argv))
        self._argv = tuple(argv)
        self._child = _started(argv, _variables(work, variables), subprocess.PIPE)
        self._answers, self._messages = _Answers(self._child.stdout), _Lines(self._child.stderr)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def has_ended(self) -> bool:
        return _has_ended(self._child)

    def ask(self, question: bytes, deadline: Deadline, *, memory_bytes: int) -> bytes | Completed:
        """Its answer, or how it ended instead; one that takes more memory than allowed is ended.

        After any exception (the deadline's own error, Interrupted) the child and its whole group have ended.
        """
        try:
            deadline.check()
            self._send(question)
            while True:
                answer = self._answers.take(POLL_S)
                if answer is not None:
                    return answer
                if self._answers.has_ended:
                    return self._ended()
                if self._memory() > memory_bytes:
                    return self._ended(f"took more than {memory_bytes / 1e6:.0f} MB of memory")
                deadline.check()
        except BaseException:
            self._ended()
            raise

    def end(self) -> None:
        """End it, at rest by itself, else with its group; it has gone when this returns."""
        self._close_stdin()
        waiter = threading.Event()
        for _ in range(round(GRACE_S / POLL_S * 10)):
            if _has_ended(self._child):
                break
            waiter.wait(POLL_S / 10)
        self._ended()

    def _close_stdin(self) -> None:
        if self._child.stdin is not None:
            with contextlib.suppress(OSError):
                self._child.stdin.close()

    def _send(self, question: bytes) -> None:
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died: its answers end as well
            self._child.stdin.write(question + b"\n")
            self._child.stdin.flush()

    def _memory(self) -> int:
        try:
            return int(psutil.Process(self._child.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def _ended(self, why: str | None = None) -> Completed:
        self._close_stdin()
        if self._child.returncode is None:
            end_group(self._child)
            self._child.wait()
        self._answers.finish()
        self._messages.finish()
        for pipe in (self._child.stdout, self._child.stderr):
            if pipe is not None:
                pipe.close()
        return Completed(self._argv, self._child.returncode, b"", (*self._messages.lines(), *filter(None, [why])))


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


class _Answers(_Reader):
    """Whole lines, as they come."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        super().__init__(pipe)

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set() and self._lines.empty()

    def take(self, seconds: float) -> bytes | None:
        """The next line; None where none came in time, or none will come."""
        with contextlib.suppress(queue.Empty):
            return self._lines.get(timeout=0 if self._ended.is_set() else seconds) or None
        return None

    def _read(self, pipe: IO[bytes]) -> None:
        while (line := pipe.readline(_STDOUT_BYTES)).endswith(b"\n"):  # half a line is no answer
            self._lines.put(line)
        self._lines.put(b"")  # wakes whoever waits


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
