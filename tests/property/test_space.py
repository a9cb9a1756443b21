"""Laws of disk reservations: never more promised than is free, and every promise is let go of."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dailies.clock import timestamp
from dailies.errors import Category, Interrupted, OutOfTime, SourceGone, Transient, VideoError, Waiting
from dailies.owner import Owner
from dailies.space import STALE_AFTER, Space
from support import FakeClock, variables

SCRATCH: Final = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # hundreds of examples sync their files
PROCESSES = 4
SIZES = st.integers(0, 1000)
KEYS = st.sampled_from("abc")
ENDINGS: tuple[type[BaseException] | None, ...] = (
    None,
    *(Transient, VideoError, Waiting, SourceGone, OutOfTime, Interrupted),
    *(OSError, RuntimeError, KeyboardInterrupt, SystemExit),
)

# Takes orders, one JSON line each: reserves every wish, gives the brief ones back, tells what it was promised.
RESERVER = """
import json, sys
from pathlib import Path
from dailies.clock import SystemClock
from dailies.errors import Waiting
from dailies.space import Space

for line in sys.stdin:
    order = json.loads(line)
    work = Path(order["work"])
    space = Space(work, order["floor"], SystemClock(), lambda folder: order["free"])
    kept, lowest = {}, 0
    for key, size, is_brief in order["wishes"]:
        try:
            space.reserve(key, size, work / key)
        except Waiting:
            continue
        lowest = min(lowest, space.available())
        if is_brief:
            space.release(key)
        else:
            kept[key] = size
    print(json.dumps({"kept": kept, "lowest": lowest}), flush=True)
"""

# Reserves, says so, and works until a signal ends it: SIGTERM as `dailies run` takes it, SIGINT as Python does.
HOLDER = """
import signal, sys, threading
from pathlib import Path
from dailies.clock import Deadline, SystemClock
from dailies.space import Space

stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever starts the tests in the background has it ignored
work = Path(sys.argv[1])
deadline = Deadline.after(SystemClock(), 60, stop)
with Space(work, 0, SystemClock(), lambda folder: 100).reserved("video", 60, work / "video"):
    print("reserved", flush=True)
    while True:
        deadline.check()
        threading.Event().wait(0.01)
"""


def _started(script: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env=variables(),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


@contextlib.contextmanager
def _ended(processes: "list[subprocess.Popen[str]]") -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def reservers() -> "Iterator[list[subprocess.Popen[str]]]":
    processes = [_started(RESERVER) for _ in range(PROCESSES)]
    with _ended(processes):
        yield processes


@contextlib.contextmanager
def _work() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        yield Path(folder) / "work"


def _entries(work: Path) -> dict[str, Any]:
    path = work / "reservations.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def _told(process: "subprocess.Popen[str]", order: Any) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(order) + "\n")
    process.stdin.flush()


def _heard(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@settings(max_examples=100, deadline=None)
@given(
    free=st.integers(0, 3000),
    floor=st.integers(0, 500),
    wishes=st.lists(st.lists(st.tuples(SIZES, st.booleans()), min_size=1, max_size=4), min_size=PROCESSES, max_size=PROCESSES),
)
def test_many_processes_are_never_promised_more_than_is_free(
    reservers: "list[subprocess.Popen[str]]", free: int, floor: int, wishes: list[list[tuple[int, bool]]]
) -> None:
    """Feature: github-workflow-bug-fixes, Property 3: atomic reservation: what many processes are promised at once never
    exceeds what is free less the floor, and no promise is lost."""
    with _work() as work:
        for number, (process, own) in enumerate(zip(reservers, wishes, strict=True)):
            named = [(f"{number}-{place}", size, is_brief) for place, (size, is_brief) in enumerate(own)]
            _told(process, {"work": str(work), "free": free, "floor": floor, "wishes": named})
        answers = [json.loads(_heard(process)) for process in reservers]

        promised = {key: size for answer in answers for key, size in answer["kept"].items()}
        assert sum(promised.values()) <= max(0, free - floor)
        assert min(answer["lowest"] for answer in answers) >= 0
        assert {key: entry["size_bytes"] for key, entry in _entries(work).items()} == promised


@dataclass
class _Disk:
    """A disk of so many bytes: what the folders hold is not free. The files are real, if sparse."""

    work: Path
    capacity: int

    def used(self, key: str) -> int:
        path = self.work / key / "file"
        return path.stat().st_size if path.exists() else 0

    def free(self, _: Path) -> int:
        return self.capacity - sum(self.used(key) for key in "abc")

    def fill(self, key: str, size: int) -> None:
        path = self.work / key / "file"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.truncate(path, size)


_CHANGES = st.lists(st.tuples(st.sampled_from(["reserve", "reserve", "fill", "release"]), KEYS, SIZES), max_size=12)


@settings(max_examples=150, deadline=None)
@given(capacity=st.integers(0, 2500), floor=st.integers(0, 500), changes=_CHANGES)
def test_a_promise_is_made_exactly_where_it_can_be_kept(capacity: int, floor: int, changes: list[tuple[str, str, int]]) -> None:
    """Feature: github-workflow-bug-fixes, Property 3: atomic reservation: what is promised and not yet written never exceeds
    what is free less the floor, and a wish is refused only where it would."""
    with _work() as work:
        disk, promises = _Disk(work, capacity), dict[str, int]()
        space = Space(work, floor, FakeClock(), disk.free)
        for what, key, size in changes:
            if what == "fill" and key in promises:
                disk.fill(key, min(size, promises[key]))
            elif what == "release":
                space.release(key)
                promises.pop(key, None)
            elif what == "reserve":
                others = sum(max(0, promises[other] - disk.used(other)) for other in promises if other != key)
                room = disk.free(work) - floor - others
                with contextlib.suppress(Waiting):
                    space.reserve(key, size, work / key)
                    assert max(0, size - disk.used(key)) <= room
                    promises[key] = size
                assert (key in promises and promises[key] == size) or max(0, size - disk.used(key)) > room
            assert space.available() >= min(0, capacity - floor)
            assert {name: entry["size_bytes"] for name, entry in _entries(work).items()} == promises


def test_a_refusal_names_the_video_what_it_needs_what_there_is_and_the_remedy(tmp_path: Path) -> None:
    space = Space(tmp_path, 3_000_000, FakeClock(), lambda _: 10_000_000)

    with pytest.raises(Waiting, match=r"^clip: needs 8 MB of disk, 7 MB can be promised \(floor 3 MB\); free") as refused:
        space.reserve("clip", 8_000_000, tmp_path / "clip")

    assert refused.value.category is Category.NO_SPACE
    assert _entries(tmp_path) == {}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(SIZES, st.sampled_from(ENDINGS)), min_size=1, max_size=4))
def test_a_reservation_ends_with_its_block_however_that_ends(blocks: list[tuple[int, type[BaseException] | None]]) -> None:
    """Feature: github-workflow-bug-fixes, Property 4: the reservation is released on success, failure and interruption, and
    nobody else's is."""
    with _work() as work:
        space = Space(work, 0, FakeClock(), lambda _: 2000)
        space.reserve("other", 500, work / "other")
        for size, ending in blocks:
            with contextlib.suppress(*([ending] if ending else [])), space.reserved("video", size, work / "video"):
                assert space.available() == 1500 - size
                if ending:
                    raise ending("as generated")
            assert space.available() == 1500
            assert set(_entries(work)) == {"other"}


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(SIZES, min_size=1, max_size=4), ending=st.sampled_from(ENDINGS))
def test_nested_reservations_all_end_together(sizes: list[int], ending: type[BaseException] | None) -> None:
    """Feature: github-workflow-bug-fixes, Property 4: the reservations of several videos at once are released on success,
    failure and interruption, also where the last of them is refused."""
    with _work() as work:
        space = Space(work, 0, FakeClock(), lambda _: 1500)
        with contextlib.suppress(Waiting, *([ending] if ending else [])), contextlib.ExitStack() as stack:
            for number, size in enumerate(sizes):
                stack.enter_context(space.reserved(f"video-{number}", size, work / "video"))
            if ending:
                raise ending("as generated")
        assert _entries(work) == {}
        assert space.available() == 1500


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_process_leaves_no_reservation(tmp_path: Path, number: signal.Signals) -> None:
    """Feature: github-workflow-bug-fixes, Property 4: the reservation is released when a real process is interrupted."""
    process = _started(HOLDER, str(tmp_path))
    with _ended([process]):
        assert _heard(process) == "reserved\n"
        assert set(_entries(tmp_path)) == {"video"}

        process.send_signal(number)
        process.wait(timeout=30)

        assert _entries(tmp_path) == {}


def test_the_reservation_of_a_killed_process_is_dropped_and_a_living_ones_is_not(tmp_path: Path) -> None:
    """Feature: github-workflow-bug-fixes, Property 4: what a process killed outright was promised is free for the next run."""
    space = Space(tmp_path, 0, FakeClock(), lambda _: 100)
    space.reserve("own", 10, tmp_path / "own")
    process = _started(HOLDER, str(tmp_path))
    with _ended([process]):
        assert _heard(process) == "reserved\n"
        assert space.drop_stale() == 0
        process.kill()
        process.wait(timeout=30)

        assert space.drop_stale() == 1

    assert set(_entries(tmp_path)) == {"own"}
    assert space.available() == 90


_OWNERS = st.sampled_from(["living", "pid used again", "elsewhere", "not an owner"])
_AGES = st.integers(0, 4 * 3600)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text("abcdef", min_size=1), st.tuples(_OWNERS, _AGES), max_size=5))
def test_a_promise_is_stale_when_its_owner_is_dead_or_unknown_for_two_hours(entries: dict[str, tuple[str, int]]) -> None:
    """Feature: github-workflow-bug-fixes, Property 4: exactly the promises of the dead, and old ones of nobody known, are
    released by the next run."""
    clock, me = FakeClock(), Owner.current()
    owners = {
        "living": str(me),
        "pid used again": str(Owner(me.pid, me.started - 100, me.host)),
        "elsewhere": str(Owner(me.pid, me.started, "elsewhere.invalid")),
        "not an owner": "?",
    }
    with _work() as work:
        work.mkdir()
        written = {
            key: {
                "key": key,
                "folder": str(work / key),
                "size_bytes": 1,
                "owner": owners[owner],
                "at": timestamp(clock.now() - timedelta(seconds=age)),
            }
            for key, (owner, age) in entries.items()
        }
        (work / "reservations.json").write_text(json.dumps(written))

        dropped = Space(work, 0, clock, lambda _: 100).drop_stale()

        limit = STALE_AFTER.total_seconds()
        kept = {key for key, (owner, age) in entries.items() if owner == "living" or (owner != "pid used again" and age <= limit)}
        assert set(_entries(work)) == kept
        assert dropped == len(entries) - len(kept)


def test_a_refused_wish_leaves_the_earlier_promise_and_no_lock(tmp_path: Path) -> None:
    space = Space(tmp_path, 0, FakeClock(), lambda _: 100)
    space.reserve("video", 60, tmp_path / "video")

    with pytest.raises(Waiting):
        space.reserve("video", 101, tmp_path / "video")

    assert _entries(tmp_path)["video"]["size_bytes"] == 60
    assert space.available() == 40
