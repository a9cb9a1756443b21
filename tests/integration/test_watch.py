"""`dailies watch` as a person starts it: it sees what comes, runs, and ends when it is told to."""

import json
import os
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dailies.errors import Exit
from dailies.library import Library
from dailies.listings import Taken
from dailies.pipeline import Result, Wanted
from dailies.report import Collector, ListingReport, RunReport, RunStatus
from dailies.watching import RENEWAL_S, Watch
from integration.kill_driver import assert_nothing_is_left, ended, hanging, hung, running, wait_until
from integration.test_listings import Desk, FeedServer, feed
from loopback import Reply
from support import ClipMaker, FakeClock, Shelf


def states(shelf: Shelf) -> list[str]:
    return [json.loads(path.read_text("utf-8"))["state"] for path in shelf.root.glob("database/videos/*/*.json")]


def looked_at(shelf: Shelf) -> Callable[[], bool]:
    return (shelf.root / "work/listings.json").exists


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_file_put_into_the_inbox_is_published_and_a_signal_ends_the_watch(
    shelf: Shelf, make_clip: ClipMaker, number: signal.Signals
) -> None:
    clip = make_clip(seconds=0.2)
    with running(shelf, "watch", "--interval", "1s") as watch:
        wait_until(looked_at(shelf))
        shelf.put(clip)
        wait_until(lambda: states(shelf) == ["done"] and list(shelf.root.glob("database/runs/*/*.json")), 60)
        wait_until(lambda: not list(shelf.root.glob("work/run.lock.holder-*")), 60)
        watch.send_signal(number)

        finished = ended(watch)

    assert finished.code == Exit.DONE, finished.err
    assert "completed: 1 done" in finished.out
    assert "Traceback" not in finished.err
    assert_nothing_is_left(shelf)
    assert shelf.git("status", "--porcelain", "--", "database") == ""


def test_a_signal_in_a_run_ends_it_as_it_ends_a_run(shelf: Shelf, clip: Path, tmp_path: Path) -> None:
    shelf.put(clip)
    with running(shelf, "watch", DAILIES_FFMPEG=hanging(tmp_path)) as watch:
        hung(tmp_path)
        watch.send_signal(signal.SIGTERM)

        finished = ended(watch, 20)

    assert finished.code == Exit.INTERRUPTED, finished.err
    assert states(shelf) == ["queued"]
    assert_nothing_is_left(shelf)


def test_once_looks_once_and_has_the_runs_exit_code(shelf: Shelf) -> None:
    assert shelf.cli("watch", "--once").code == Exit.DONE
    shelf.put(Path(os.devnull), "empty.mp4")

    done = [shelf.cli("watch", "--once", "--no-commit") for _ in range(2)]

    assert [one.code for one in done] == [Exit.VIDEOS_FAILED, Exit.DONE], done[0].err
    assert states(shelf) == ["failed"]
    assert shelf.git("log", "--format=%s") == "dailies init"


@pytest.mark.parametrize(
    ("arguments", "why"), [(("--interval", "0s"), "1s is the least"), (("--interval", "soon"), "is not a duration")]
)
def test_an_interval_that_is_none_is_refused(shelf: Shelf, arguments: tuple[str, ...], why: str) -> None:
    done = shelf.cli("watch", *arguments)

    assert (done.code, why in done.err) == (Exit.USAGE, True)


# The loop itself, with a clock that stands still


def report_of(taken: Taken | None) -> RunReport:
    """Of a run that took that in; None: it could not begin."""
    begun = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    collector = Collector("run", begun, 60, str)
    collector.listed(taken.reports if taken else {})
    return collector.report(RunStatus.COMPLETED, begun, 0)


class Rounds:
    """A watch that is told to stop after so many rounds; `runs` are the runs that it started."""

    def __init__(self, desk: Desk, interval_s: float = 60) -> None:
        self.stop = threading.Event()
        self.desk = desk
        self.runs: list[Wanted] = []
        clock = desk.clock
        self.watch = Watch(self.opened, self.run, Wanted(commit=False), interval_s, self.stop, clock)
        self.left = 0

    def opened(self) -> Library:
        self.left -= 1
        if self.left == 0:
            self.desk.clock.sleep = lambda seconds: self.stop.set()  # type: ignore[method-assign]
        return Library(self.desk.library.root, self.desk.library.settings, self.desk.clock)

    def run(self, library: Library, wanted: Wanted) -> Result:
        """Only the beginning of a run: what is found is queued; nothing is published."""
        from dailies.clock import Deadline

        assert wanted.found is not None
        self.runs.append(wanted)
        taken = library.listings.take(wanted.found, library.desk(Deadline.after(self.desk.clock, 60)))
        for video in library.database.videos():
            library.database.save(video.with_(deleted_at="2026-01-02T03:04:05Z"))
        return Result(report_of(taken), Exit.DONE)

    def go(self, count: int) -> int:
        """How many runs that came to."""
        self.left = count
        self.stop.clear()
        before = len(self.runs)
        assert self.watch.until_stopped() is Exit.DONE
        return len(self.runs) - before


@pytest.fixture
def desk(shelf: Shelf, clock: FakeClock) -> Desk:
    return Desk.of(shelf, clock)


def test_a_feed_is_read_once_an_interval_and_a_run_starts_for_what_is_new(shelf: Shelf, clock: FakeClock) -> None:
    with FeedServer() as server:
        desk = Desk.of(shelf, clock, news={"feed": f"{server.url}/feed"})
        server.content = feed("https://example.org/a.mp4")

        runs = Rounds(desk).go(5)

        assert (runs, server.answers) == (1, [200, 304, 304, 304, 304])
        assert desk.sources() == set()  # the run had it


def test_what_no_run_can_take_starts_no_run_after_the_first(shelf: Shelf, desk: Desk) -> None:
    shelf.put(Path(os.devnull), "a.mp4")
    rounds = Rounds(desk)

    def run(_library: Library, wanted: Wanted) -> Result:
        rounds.runs.append(wanted)
        return Result(report_of(Taken({"inbox": ListingReport()}, ())), Exit.DONE)

    rounds.watch.run = run

    assert rounds.go(5) == 1


def test_a_file_that_is_being_written_starts_no_run(shelf: Shelf, desk: Desk) -> None:
    path = shelf.put(Path(os.devnull), "a.mp4")
    path.with_name("a.mp4.part").touch()

    assert Rounds(desk).go(3) == 0


def test_a_source_that_is_given_up_is_tried_again_in_an_hour(shelf: Shelf, clock: FakeClock) -> None:
    with FeedServer() as server:
        server.status = [Reply(500)] * 50
        rounds = Rounds(Desk.of(shelf, clock, news={"feed": f"{server.url}/feed"}), interval_s=300)
        rounds.go(int(3 * RENEWAL_S / 300))

        assert 10 <= len(server.answers) <= 13


def test_memory_does_not_grow_with_the_rounds(shelf: Shelf, clock: FakeClock) -> None:
    import tracemalloc

    with FeedServer() as server:
        server.content = feed(*(f"https://example.org/{number}.mp4" for number in range(50)))
        rounds = Rounds(Desk.of(shelf, clock, news={"feed": f"{server.url}/feed"}))
        rounds.watch.once()
        rounds.watch.once()
        tracemalloc.start()
        rounds.watch.once()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(20):
            rounds.watch.once()
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()

    assert grown < 300_000


def test_what_is_found_while_another_run_is_at_work_is_taken_by_a_later_one(shelf: Shelf, clock: FakeClock) -> None:
    with FeedServer() as server:
        server.content = feed("https://example.org/a.mp4")
        down = {"feed": "http://127.0.0.1:9/feed"}
        rounds = Rounds(Desk.of(shelf, clock, news={"feed": f"{server.url}/feed"}, down=down))
        busy = [True, True]

        def run(library: Library, wanted: Wanted) -> Result:
            return Result(report_of(None), Exit.DONE) if busy and busy.pop() else rounds.run(library, wanted)

        rounds.watch.run = run

        assert rounds.go(2) == 0
        assert json.loads((shelf.root / "work/listings.json").read_bytes())["down"]["failures"] == 2
        assert rounds.go(3) == 1
        assert [video.source.uri for video in rounds.desk.library.database.scan()] == ["https://example.org/a.mp4"]


def test_a_video_that_only_waits_starts_a_run_four_times_an_hour(shelf: Shelf, desk: Desk) -> None:
    shelf.put(Path(os.devnull), "a.mp4")
    rounds = Rounds(desk)

    def run(library: Library, wanted: Wanted) -> Result:
        assert wanted.found is not None
        rounds.runs.append(wanted)
        return Result(report_of(library.listings.take(wanted.found, desk.at(60))), Exit.DONE)

    rounds.watch.run = run

    assert rounds.go(61) == 5
    shelf.put(Path(os.devnull), "b.mp4")
    assert rounds.go(1) == 1


def test_a_watch_goes_on_where_nothing_can_be_remembered(shelf: Shelf, desk: Desk) -> None:
    (shelf.root / "work/listings.json").mkdir(parents=True)

    assert Rounds(desk).go(3) == 0


def test_the_help_of_a_watch_says_what_its_time_limit_is_of(shelf: Shelf) -> None:
    assert "Each run stops cleanly by then" in shelf.cli("watch", "--help", COLUMNS="200").out
