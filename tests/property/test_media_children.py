"""Laws of media children: whatever ends a question ends its child, and no child serves more videos than it may. Real processes."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dailies.clock import Deadline, SystemClock
from dailies.errors import Category, Interrupted, OutOfTime, Transient, VideoError
from dailies.media.analysis import Analysis, Wanted
from dailies.media.children import Children, ProbeTask, SurveyTask
from dailies.media.probe import Probe
from dailies.process import OWNER_VARIABLE
from support import FakeClock, variables

PATIENCE_S = 20.0
NAMES = st.sampled_from("abcde")


class Unforeseen(BaseException):
    """What nobody expects."""


@dataclass
class BrokenClock(FakeClock):
    """Fails whoever reads the time, once it is broken."""

    is_broken: bool = False

    def monotonic(self) -> float:
        if self.is_broken:
            raise Unforeseen
        return super().monotonic()


def pids_of(work: Path) -> set[int]:
    """The children that live, or wait to be reaped, and serve this work folder."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if child.environ().get(OWNER_VARIABLE, "").endswith(f" {work.resolve()}"):
                found.add(child.pid)
    return found


def group_of(pid: int) -> list[int]:
    """Whoever is left in the process group of a child, zombies too."""
    found = []
    for one in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(one) == pid:
                found.append(one)
    return found


def has_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) and not group_of(pid)


def clear_away(pids: set[int]) -> None:
    """What should not be there must not trouble the next test."""
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            psutil.Process(pid).kill()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@dataclass
class Scene:
    """Children at a work folder, and a pipe dressed as a video: whoever opens it waits for bytes that never come."""

    work: Path
    clip: Path
    clock: BrokenClock = field(default_factory=BrokenClock)
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def pipe(self) -> Path:
        return self.work / "pipe.mp4"

    def deadline(self) -> Deadline:
        return Deadline.after(self.clock, 10, self.stop)

    def probe(self, children: Children, name: str) -> Probe:
        task = ProbeTask(path=str(self.clip), header_only=True)
        return children.ask(name, task, Probe, Deadline.after(SystemClock(), PATIENCE_S))

    def survey_of_the_pipe(self, children: Children, name: str, deadline: Deadline | None = None) -> Analysis:
        return children.ask(name, SurveyTask(path=str(self.pipe), wanted=Wanted()), Analysis, deadline or self.deadline())

    def once_at_work(self, act: Callable[[int], None]) -> "Future[int]":
        """Do it to the child as soon as it has opened the pipe; the result is its pid."""

        def wait_and_act() -> int:
            descriptor = os.open(self.pipe, os.O_WRONLY)  # waits until the other side is opened
            try:
                [pid] = pids_of(self.work)
                act(pid)
                until, never = time.monotonic() + PATIENCE_S, threading.Event()
                while not has_gone(pid) and time.monotonic() < until:
                    never.wait(0.02)
            finally:
                os.close(descriptor)
            return pid

        return ThreadPoolExecutor(1).submit(wait_and_act)


@contextlib.contextmanager
def scene(clip: Path) -> Iterator[Scene]:
    with TemporaryDirectory(prefix="children-") as folder:
        found = Scene(Path(folder), clip)
        os.mkfifo(found.pipe)
        yield found


def _time_runs_out(scene: Scene, _: int) -> None:
    scene.clock.advance(11)


def _stop(scene: Scene, _: int) -> None:
    scene.stop.set()


def _break_the_clock(scene: Scene, _: int) -> None:
    scene.clock.is_broken = True


def _killed_by(number: signal.Signals) -> Callable[[Scene, int], None]:
    return lambda _, pid: os.kill(pid, number)


# what happens to a child that is at work -> what the one who asked is told
ENDINGS: dict[str, tuple[Callable[[Scene, int], None], type[BaseException], str]] = {
    "deadline": (_time_runs_out, OutOfTime, "time is over"),
    "stop": (_stop, Interrupted, "asked to stop"),
    "unforeseen": (_break_the_clock, Unforeseen, "^$"),
    "SIGKILL": (_killed_by(signal.SIGKILL), Transient, "ended by signal 9"),
    "SIGSEGV": (_killed_by(signal.SIGSEGV), Transient, "ended by signal 11"),
    "SIGABRT": (_killed_by(signal.SIGABRT), Transient, "ended by signal 6"),
}


@pytest.mark.parametrize("ending", ENDINGS)
@settings(max_examples=1, deadline=None)
@given(served=st.lists(NAMES, min_size=1, max_size=2))
@example(served=[])
def test_a_child_has_gone_after_any_exception_and_the_next_question_has_a_new_one(
    ending: str, clip: Path, served: list[str]
) -> None:
    """Feature: github-workflow-bug-fixes, Property 11: after any exception, whether the child was new or had served others, it
    and its whole group have gone, reaped, and the next question is answered by a new one."""
    act, error, words = ENDINGS[ending]
    with scene(clip) as at, Children(at.work) as children:
        for name in served:
            at.probe(children, name)
        acted = at.once_at_work(lambda pid: act(at, pid))

        with pytest.raises(error, match=words) as raised:
            at.survey_of_the_pipe(children, "film")
        left = pids_of(at.work)
        pid = acted.result(PATIENCE_S)

        assert left == set()
        assert has_gone(pid)
        assert error is not Transient or str(raised.value).startswith("film: ")
        assert at.probe(children, "film").main_video() is not None
        assert pids_of(at.work).isdisjoint({pid})
    assert pids_of(at.work) == set()


@settings(max_examples=2, deadline=None)
@given(served=st.lists(NAMES, max_size=2), memory_bytes=st.integers(1, 20_000_000))
def test_a_child_that_takes_too_much_memory_has_gone(clip: Path, served: list[str], memory_bytes: int) -> None:
    """Feature: github-workflow-bug-fixes, Property 11: a child over its memory limit is that video's error, and has gone."""
    with scene(clip) as at, Children(at.work) as children:
        for name in served:
            at.probe(children, name)
        known = pids_of(at.work)
        children._memory_bytes = memory_bytes

        with pytest.raises(Transient, match=r"^film: its decoder died .*took more than \d+ MB of memory") as raised:
            at.survey_of_the_pipe(children, "film", Deadline.after(SystemClock(), PATIENCE_S))

        assert raised.value.category is Category.CRASHED
        assert pids_of(at.work) == set()
        assert all(has_gone(pid) for pid in known)


@settings(max_examples=4, deadline=None)
@given(orders=st.lists(st.sampled_from(["good", "refused", "no pictures", "too late", "stopped"]), min_size=2, max_size=6))
@example(orders=["refused", "good", "too late", "good", "stopped", "refused"])
def test_a_refusal_ends_no_child_and_a_question_that_comes_too_late_starts_none(clip: Path, orders: list[str]) -> None:
    """Feature: github-workflow-bug-fixes, Property 11: a refused file leaves its child to the next one; whatever was asked, the
    end of the block ends it."""
    with scene(clip) as at, Children(at.work) as children:
        (at.work / "no.mp4").write_bytes(b"<html>403</html>")
        over, stopped = threading.Event(), threading.Event()
        stopped.set()
        for order in orders:
            before = pids_of(at.work)
            seconds, stop = (0.0, over) if order == "too late" else (PATIENCE_S, stopped if order == "stopped" else over)
            path = at.work / "no.mp4" if order == "refused" else clip
            expected = {"refused": VideoError, "too late": OutOfTime, "stopped": Interrupted}.get(order)
            with pytest.raises(expected) if expected else contextlib.nullcontext():
                task = ProbeTask(path=str(path), header_only=True)
                children.ask("one", task, Probe, Deadline.after(SystemClock(), seconds, stop))
            assert len(pids_of(at.work)) <= 1
            assert before <= pids_of(at.work)
        last = pids_of(at.work)
    assert all(has_gone(pid) for pid in last)


# Asks what cannot be asked, in a process of its own: a child that is lost would trouble the tests that follow.
CANNOT_ASK = """
import os, sys
from pathlib import Path
import psutil
from dailies.clock import Deadline, SystemClock
from dailies.media.children import Children, ProbeTask
from dailies.media.probe import Probe

raised = ""
with Children(Path(sys.argv[1])) as children:
    try:
        task = ProbeTask(path=os.fsdecode(b"caf\\xe9.mp4"), header_only=True)
        children.ask("one", task, Probe, Deadline.after(SystemClock(), 20))
    except Exception as error:
        raised = type(error).__name__
print(raised, len(psutil.Process().children(recursive=True)))
"""


def test_a_question_that_cannot_be_asked_leaves_no_child_behind(tmp_path: Path) -> None:
    """Feature: github-workflow-bug-fixes, Property 11: a path that is no Unicode (Latin-1 on a UTF-8 system) cannot be sent to a
    child: whatever is raised, no child is lost."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CANNOT_ASK, str(tmp_path)],
        env=variables(),
        capture_output=True,
        text=True,
        check=True,
    )

    raised, left = done.stdout.split()
    assert raised
    assert left == "0"


def test_a_child_that_is_at_work_when_all_are_closed_ends_with_its_work(clip: Path) -> None:
    """Feature: github-workflow-bug-fixes, Property 11: `close` leaves it to whoever asked it, who must not keep it."""
    with scene(clip) as at, ThreadPoolExecutor(1) as pool:
        children = Children(at.work)
        asked = pool.submit(children.ask, "one", ProbeTask(path=str(at.pipe)), Probe, at.deadline())
        descriptor = os.open(at.pipe, os.O_WRONLY)
        children.close()
        os.close(descriptor)  # the end of the file: it is empty, and refused
        with pytest.raises(VideoError, match="empty"):
            asked.result(PATIENCE_S)
        left = pids_of(at.work)
        children.close()
        clear_away(left)

    assert left == set()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, Interrupted])
def test_no_child_survives_a_block_that_fails(error: type[BaseException], clip: Path) -> None:
    """Feature: github-workflow-bug-fixes, Property 11: an exception elsewhere in the run ends the idle children as well."""
    pids: set[int] = set()
    with scene(clip) as at, contextlib.suppress(error), Children(at.work) as children:
        at.probe(children, "one")
        pids = pids_of(at.work)
        raise error("as generated")

    assert len(pids) == 1
    assert all(has_gone(pid) for pid in pids)


def test_one_childs_death_is_not_the_trouble_of_another(clip: Path) -> None:
    """Feature: github-workflow-bug-fixes, Property 11: the child that is killed ends; another that is at work is not touched."""
    with scene(clip) as at, scene(clip) as other, ThreadPoolExecutor(1) as pool, Children(at.work) as children:
        is_open, may_end = threading.Event(), threading.Event()

        def hold(pid: int) -> None:
            is_open.set()
            assert may_end.wait(PATIENCE_S)
            os.kill(pid, signal.SIGKILL)

        held = at.once_at_work(hold)
        asked = pool.submit(at.survey_of_the_pipe, children, "held")
        assert is_open.wait(PATIENCE_S)
        with Children(other.work) as others:
            killed = other.once_at_work(lambda pid: os.kill(pid, signal.SIGKILL))
            with pytest.raises(Transient, match=r"^second: .*signal 9"):
                other.survey_of_the_pipe(others, "second")
            assert has_gone(killed.result(PATIENCE_S))

        assert len(pids_of(at.work)) == 1
        assert not asked.done()
        may_end.set()
        with pytest.raises(Transient, match=r"^held: .*signal 9"):
            asked.result(PATIENCE_S)
        assert has_gone(held.result(PATIENCE_S))


@settings(max_examples=4, deadline=None)
@given(names=st.lists(NAMES, min_size=1, max_size=7), videos=st.integers(1, 3))
@example(names=list("abcde"), videos=1)
@example(names=list("abcabcdeab"), videos=3)
def test_a_child_serves_no_more_videos_than_it_may(clip: Path, names: list[str], videos: int) -> None:
    """Feature: github-workflow-bug-fixes, Property 12: for any order of videos no child serves more than N of them, one that is
    spent has gone before the next begins, and none is replaced sooner than it must."""
    served: dict[int, list[str]] = {}
    with scene(clip) as at, Children(at.work, videos=videos) as children:
        for name in names:
            at.probe(children, name)
            [pid] = pids_of(at.work)
            served.setdefault(pid, []).append(name)

        assert all(len(set(one)) <= videos for one in served.values())
        spent = list(served)[:-1]
        assert all(len(set(served[pid])) == videos for pid in spent)
        assert all(has_gone(pid) for pid in spent)
    assert all(has_gone(pid) for pid in served)


def test_a_child_of_one_video_is_replaced_after_its_eighth_task(clip: Path) -> None:
    """Feature: github-workflow-bug-fixes, Property 12: what one video leaks is bounded too."""
    served: list[int] = []
    with scene(clip) as at, Children(at.work, videos=1) as children:
        for _ in range(9):
            at.probe(children, "one")
            served += pids_of(at.work)

    assert [served.count(pid) for pid in dict.fromkeys(served)] == [8, 1]


@settings(max_examples=2, deadline=None)
@given(names=st.lists(NAMES, min_size=4, max_size=8))
def test_threads_that_ask_at_once_share_no_child_and_recycle_them_all(clip: Path, names: list[str]) -> None:
    """Feature: github-workflow-bug-fixes, Property 12: with several threads there is a child each at most, each serves N videos at
    most, and all have gone at the end."""
    with scene(clip) as at, Children(at.work, videos=2) as children, ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda name: at.probe(children, name).main_video(), names))
        pids = pids_of(at.work)

        assert len(answers) == len(names)
        assert None not in answers
        assert len(pids) <= 2
        assert all(len(child.names) <= 2 for child in children._idle)
    assert all(has_gone(pid) for pid in pids)
