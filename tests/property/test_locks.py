"""Laws of the locks around the records: every read and write holds them, readers share, retries back off."""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from filelock import ReadWriteLock, Timeout
from hypothesis import given, settings
from hypothesis import strategies as st

from dailies.database import Database, to_json
from dailies.errors import Category, Transient
from dailies.locks import TIMEOUT_S, Mode, SharedLock, Single, drop_dead_holders, living_holders
from dailies.model import Source, State, Upload, UploadStatus, Video
from support import FakeClock, variables

SCRATCH: Final = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # hundreds of examples sync their files
MOMENT = "2026-01-02T03:04:05Z"
MODES: st.SearchStrategy[Mode] = st.sampled_from(["read", "write"])

# Holds the lock that it is told, in a process of its own, until it is told to let go.
HOLDER = """
import sys
from pathlib import Path
from dailies.clock import SystemClock
from dailies.locks import SharedLock, Single

for line in sys.stdin:
    mode, _, path = line.rstrip("\\n").partition(" ")
    lock = Single(Path(path)).held() if mode == "single" else getattr(SharedLock(Path(path), SystemClock()), mode)()
    with lock:
        print("held", flush=True)
        sys.stdin.readline()
    print("free", flush=True)
"""


class _Holder:
    """Another process that holds a lock for as long as the test wants."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER], env=variables(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    @contextlib.contextmanager
    def holds(self, path: Path, mode: Literal["read", "write", "single"]) -> Iterator[None]:
        self._say(f"{mode} {path}", "held")
        try:
            yield
        finally:
            if self.process.poll() is None:
                self._say("", "free")

    def _say(self, order: str, answer: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == answer + "\n"

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def holder() -> Iterator[_Holder]:
    found = _Holder()
    yield found
    found.end()


def _video(number: int, title: str = "as first added", code: str = "clip") -> Video:
    identity = f"{number:064x}"[::-1]
    return Video(
        id=f"{code}-{identity[:12]}",
        code=code,
        title=title,
        source=Source(kind="file", uri=f"{number}.mp4", original_name=f"{number}.mp4", size_bytes=1, identity=identity),
        state=State.DONE,
        uploads={"published": {"video": Upload(status=UploadStatus.SUCCESS)}},
        created_at=MOMENT,
        updated_at=MOMENT,
    )


def _place(database: Database, video: Video) -> str:
    """Of its record, as git names it."""
    return database.path_of(video.id).relative_to(database.folder.parent).as_posix()


KNOWN = _video(1)
MERGED = _video(4, code="merged")

# Every way in which the records are read or written, by method; some have several.
READS: Mapping[str, Callable[[Database], Any]] = {
    "load": lambda database: database.load(KNOWN.id).title,
    "exists": lambda database: database.exists(KNOWN.id),
    "ids_by_identity": lambda database: database.ids_by_identity(),
    "scan": lambda database: len(list(database.scan())) > 0,
    "videos": lambda database: len(list(database.videos())) > 0,
    "index": lambda database: len(database.index().states) > 0,
    "glances": lambda database: list(database.glances()),
    "resolve an id": lambda database: database.resolve(KNOWN.id),
    "resolve a code": lambda database: database.resolve("clip"),
    "is_processed by code": lambda database: database.is_processed(code="clip"),
    "is_processed by url": lambda database: database.is_processed(url="1.mp4"),
    "blocked": lambda database: database.blocked(),
}
WRITES: Mapping[str, Callable[[Database], Any]] = {
    "save a change": lambda database: database.save(KNOWN.with_(title=f"changed {os.urandom(4).hex()}")),
    "save anew": lambda database: database.save(_video(2, code="other")),
    "add a new one": lambda database: database.add(_video(3, code="another")),
    "add a known one": lambda database: database.add(KNOWN),
    "add_all": lambda database: [
        added[1] for added in database.add_all([_video(5, code="several"), KNOWN]) if isinstance(added, tuple)
    ],
    "merge_in": lambda database: database.merge_in({_place(database, MERGED): (None, to_json(MERGED))}),
}
OPERATIONS = {**READS, **WRITES}
SEQUENCES = st.lists(st.sampled_from(sorted(OPERATIONS)), min_size=1, max_size=6)


@dataclass(frozen=True)
class _Records:
    """A database with one known record. Every operation gets an object of its own: nothing is remembered."""

    root: Path

    @property
    def lock(self) -> Path:
        return self.root / "work" / "records.lock"

    def open(self, clock: FakeClock | None = None, timeout_s: float = 0) -> Database:
        return Database(self.root, self.root / "work", clock or FakeClock(), lock_timeout_s=timeout_s)

    def contents(self) -> dict[str, bytes]:
        files = (path for path in (self.root / "database").rglob("*") if path.is_file())
        return {str(path.relative_to(self.root)): path.read_bytes() for path in files}


@contextlib.contextmanager
def _records() -> Iterator[_Records]:
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        records = _Records(Path(folder))
        path = records.open().path_of(KNOWN.id)
        path.parent.mkdir(parents=True)
        path.write_bytes(to_json(KNOWN))
        records.lock.parent.mkdir()
        yield records


def test_every_method_of_the_database_is_among_the_operations() -> None:
    methods = {name for name in vars(Database) if not name.startswith("_")} - {"path_of"}

    assert {name.split()[0] for name in OPERATIONS} == methods


@settings(max_examples=100, deadline=None)
@given(SEQUENCES)
def test_while_another_process_writes_nothing_gets_through(holder: _Holder, names: list[str]) -> None:
    """Feature: github-workflow-bug-fixes, Property 5: locks are held for every read and write: while another process has the
    write lock, no method of the database answers or changes a byte; afterwards all do."""
    with _records() as records:
        before = records.contents()
        with holder.holds(records.lock, "write"):
            for name in names:
                with pytest.raises(Transient, match="still locked"):
                    OPERATIONS[name](records.open())
                assert records.contents() == before, name
        for name in names:
            OPERATIONS[name](records.open())


@settings(max_examples=100, deadline=None)
@given(SEQUENCES)
def test_while_another_process_reads_readers_share_and_writers_wait(holder: _Holder, names: list[str]) -> None:
    """Feature: github-workflow-bug-fixes, Property 5: locks are held for every read and write: beside a reader every read is
    answered, and no write gets through."""
    with _records() as records:
        before = records.contents()
        alone = {name: READS[name](records.open()) for name in names if name in READS}
        with holder.holds(records.lock, "read"):
            for name in names:
                if name in READS:
                    assert READS[name](records.open()) == alone[name], name
                else:
                    with pytest.raises(Transient, match="still locked"):
                        WRITES[name](records.open())
                assert records.contents() == before, name


@dataclass
class _Watch:
    """Looks, whenever this thread opens, lists, renames or removes something of the records, whether the lock is held."""

    records: _Records
    thread: int = field(default_factory=threading.get_ident)
    seen: int = 0
    violations: list[str] = field(default_factory=list)
    is_looking: bool = False

    def event(self, name: str, path: str, *, is_write: bool) -> None:
        if self.is_looking or threading.get_ident() != self.thread or not path.startswith(str(self.records.root / "database")):
            return
        self.is_looking = True
        self.seen += 1
        lock = ReadWriteLock(self.records.lock, is_singleton=False)
        try:
            (lock.acquire_read if is_write else lock.acquire_write)(timeout=0)
            self.violations.append(f"{name} {path}")
            lock.release()
        except Timeout:
            pass
        finally:
            lock.close()
            self.is_looking = False


_WATCHES: list[_Watch] = []
_ACCESSES = {"open", "os.rename", "os.remove", "os.mkdir", "os.scandir", "os.listdir"}


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _WATCHES or event not in _ACCESSES or not isinstance(arguments[0], str | os.PathLike):
        return
    is_read = event in {"os.scandir", "os.listdir"} or (event == "open" and not _opens_for_writing(*arguments[1:3]))
    for watch in _WATCHES:
        watch.event(event, os.fspath(arguments[0]), is_write=not is_read)


def _opens_for_writing(mode: str | None, flags: int) -> bool:
    return any(letter in (mode or "") for letter in "wxa+") or bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


sys.addaudithook(_audit)  # cannot be taken back; does nothing without a watch


@contextlib.contextmanager
def _watched(records: _Records) -> Iterator[_Watch]:
    watch = _Watch(records)
    _WATCHES.append(watch)
    try:
        yield watch
    finally:
        _WATCHES.remove(watch)


@settings(max_examples=100, deadline=None)
@given(names=SEQUENCES, is_broken=st.booleans())
def test_every_file_of_the_records_is_touched_under_the_lock(names: list[str], is_broken: bool) -> None:
    """Feature: github-workflow-bug-fixes, Property 5: locks are held for every read and write: at each file that is opened,
    listed, renamed or removed the lock is held, exclusively where something changes, also where a broken record is taken back."""
    with _records() as records:
        for name in names:
            path = records.open().path_of(KNOWN.id)
            path.write_bytes(b"{" if is_broken else to_json(KNOWN))
            database = Database(records.root, records.root / "work", FakeClock(), lambda _: to_json(KNOWN), lock_timeout_s=0)
            with _watched(records) as watch:
                OPERATIONS[name](database)
            assert watch.violations == [], name
            assert watch.seen > 0 or name in {"exists", "resolve an id"}  # look without opening


@settings(max_examples=100, deadline=None)
@given(codes=st.lists(st.sampled_from(["one", "two", "three"]), min_size=2, max_size=5))
def test_the_same_source_added_by_many_at_once_is_one_record(codes: list[str]) -> None:
    """Feature: github-workflow-bug-fixes, Property 5: locks are held for every read and write: between looking whether a
    source is known and writing its record nobody else gets in."""
    with _records() as records, ThreadPoolExecutor(len(codes)) as pool:
        added = list(pool.map(lambda code: records.open(timeout_s=TIMEOUT_S).add(_video(7, code=code)), codes))

        assert sum(is_new for _, is_new in added) == 1
        assert len({video.id for video, _ in added}) == 1
        assert len(records.contents()) == 2


@dataclass
class _ReleasingClock(FakeClock):
    """Its n-th wait frees what is in the way."""

    in_the_way: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    frees_at: int = 0

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if len(self.slept) == self.frees_at:
            self.in_the_way.close()


@settings(max_examples=100, deadline=None)
@given(holding=MODES, wanted=MODES, frees_at=st.integers(1, 4))
def test_a_lock_is_tried_three_times_two_and_four_seconds_apart(holding: Mode, wanted: Mode, frees_at: int) -> None:
    """Feature: github-workflow-bug-fixes, Property 6: lock retries back off 2^n: three tries, waits of exactly 2 and 4 s, no
    wait at all where the lock is free, and none after the last try."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder, contextlib.ExitStack() as in_the_way:
        path = Path(folder) / "records.lock"
        in_the_way.enter_context(getattr(SharedLock(path, FakeClock()), holding)())
        clock = _ReleasingClock(in_the_way=in_the_way, frees_at=frees_at)
        is_shared = holding == wanted == "read"

        with contextlib.suppress(Transient), getattr(SharedLock(path, clock, 0), wanted)():
            assert is_shared or frees_at <= 2
            assert clock.slept == ([] if is_shared else [2.0, 4.0][:frees_at])
            return
        assert not is_shared
        assert frees_at > 2
        assert clock.slept == [2.0, 4.0]


@settings(max_examples=100, deadline=None)
@given(held=MODES, name=st.sampled_from(sorted(OPERATIONS)))
def test_whoever_waits_in_vain_is_told_who_holds_the_lock(holder: _Holder, held: Mode, name: str) -> None:
    """Feature: github-workflow-bug-fixes, Property 6: lock retries back off 2^n: every operation that finds the lock taken
    waits 2 and 4 s, then names the holder, how it holds the lock, since when, and the remedy."""
    clock = FakeClock()
    with _records() as records, holder.holds(records.lock, held):
        if held == "read" and name in READS:
            return
        with pytest.raises(Transient) as refused:
            OPERATIONS[name](records.open(clock))

        assert clock.slept == [2.0, 4.0]
        assert refused.value.category is Category.BUSY
        assert f"{records.lock}: still locked after 3 tries, by process {holder.process.pid} on " in str(refused.value)
        assert f"({held}, since 20" in str(refused.value)
        assert "end that process or wait for it" in str(refused.value)


@pytest.mark.parametrize("mode", ["read", "write"])
def test_a_lock_makes_the_folder_that_it_lies_in(tmp_path: Path, mode: Mode) -> None:
    path = tmp_path / "work" / "records.lock"

    with getattr(SharedLock(path, FakeClock(), 0), mode)():
        assert len(living_holders(path)) == 1


def test_one_try_waits_half_a_minute() -> None:
    assert TIMEOUT_S == 30


def test_a_killed_holder_keeps_nobody_out_and_its_note_goes(tmp_path: Path) -> None:
    path, dead = tmp_path / "records.lock", _Holder()
    with dead.holds(path, "write"):
        assert living_holders(path)
        dead.end()

    with SharedLock(path, FakeClock(), 0).write():
        assert drop_dead_holders(tmp_path) == 1
        assert len(living_holders(path)) == 1
    assert list(tmp_path.glob("*.holder-*")) == []


def test_a_second_run_is_refused_at_once_with_the_name_of_the_first(tmp_path: Path, holder: _Holder) -> None:
    path = tmp_path / "work" / "run.lock"
    path.parent.mkdir()
    named = f"held by process {holder.process.pid} on "
    with holder.holds(path, "single"), pytest.raises(Transient, match=named), Single(path).held():
        pytest.fail("two runs at once")
    with Single(path).held():
        assert len(living_holders(path)) == 1


@settings(max_examples=100, deadline=None)
@given(ending=st.sampled_from([None, Transient, OSError, KeyboardInterrupt, SystemExit]), mode=MODES)
def test_a_lock_ends_with_its_block_however_that_ends(ending: type[BaseException] | None, mode: Mode) -> None:
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        path = Path(folder) / "records.lock"
        with contextlib.suppress(*([ending] if ending else [])), getattr(SharedLock(path, FakeClock(), 0), mode)():
            assert len(living_holders(path)) == 1
            if ending:
                raise ending("as generated")
        with SharedLock(path, FakeClock(), 0).write():
            pass
        assert list(path.parent.glob("*.holder-*")) == []
