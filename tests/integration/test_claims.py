"""Claims: of two runs with one remote each video has one owner, and no owner that is gone keeps it."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dailies import intake, pipeline, policy
from dailies.claims import Claims
from dailies.clock import Deadline, SystemClock, parse_timestamp, timestamp
from dailies.errors import Transient, VideoError
from dailies.library import Library
from dailies.model import Claim, State, StepName
from dailies.publication import Order, Published
from dailies.recovery import mark_step
from dailies.steps import WorkFolder
from integration.kill_driver import ended, hanging, hung, program, running, wait_until
from integration.test_publication import clone, on_remote
from support import ClipMaker, FakeClock, Shelf

HOUR = timedelta(hours=1)
LIFE_S = 3600.0


@pytest.fixture
def film(make_clip: ClipMaker) -> Path:
    return make_clip(seconds=0.2)


@pytest.fixture
def other(shelf: Shelf, tmp_path: Path) -> Callable[[], Shelf]:
    """A clone of what is published by then, as on another machine."""
    return lambda: clone(shelf, tmp_path / "other")


def soon() -> Deadline:
    return Deadline.after(SystemClock(), 60)


def publish(shelf: Shelf) -> None:
    shelf.open().publisher.publish(Order("test", "test", lambda: None, {}), soon())


def queue(shelf: Shelf, *paths: Path) -> list[str]:
    """Files that lie outside the library, where every clone on this machine finds them: queued and published; their ids."""
    for path in paths:
        os.utime(path, (1e9, 1e9))
    taken = intake.add(paths, intake.Wishes(), shelf.open().desk(soon()))
    publish(shelf)
    return [one.video.id for one in taken.added]


def queue_texts(shelf: Shelf, *names: str) -> list[str]:
    """Videos that fail at once in a run."""
    paths = [shelf.root.parent / name for name in names]
    for path in paths:
        path.write_text(path.name)
    return queue(shelf, *paths)


def hold(shelf: Shelf, video_id: str, until: datetime, **changes: Any) -> Claim:
    """As a run elsewhere claims it; published."""
    claim = Claim(run_id="stranger", until=timestamp(until))
    change(shelf, video_id, claim=claim, **changes)
    return claim


def change(shelf: Shelf, video_id: str, **changes: Any) -> None:
    database = shelf.open().database
    video = database.load(video_id)
    database.save(video.with_(**changes), video)
    publish(shelf)


def now() -> datetime:
    return datetime.now(UTC)


def claims_on(shelf: Shelf) -> dict[str, Any]:
    """Who has which video, as the remote says."""
    return {video_id: (record["claim"] or {}).get("run_id") for video_id, record in on_remote(shelf).items()}


def claims_here(shelf: Shelf) -> set[Any]:
    return {(record["claim"] or {}).get("run_id") for record in shelf.records().values()}


def claiming(shelf: Shelf, run_id: str, clock: FakeClock) -> tuple[Claims, Callable[[], Published]]:
    """The claims of a run that wants every video, and what publishes them."""
    library = Library(shelf.root, shelf.open().settings, clock)
    claims = Claims(library.database, clock, run_id, LIFE_S, batch=10)
    claims.want(policy.in_order(library.database.videos()))
    order = Order(f"claims of {run_id}", run_id, lambda: None, {}, claims)
    return claims, lambda: library.publisher.publish(order, soon())


@contextlib.contextmanager
def held_push(shelf: Shelf) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """The next push waits at the remote, others pass it by: yields what waits for that and what lets it go on."""
    folder = shelf.remote
    lines = ('test -e "$here/asked" && exit 0', ': > "$here/asked"', 'while [ ! -e "$here/go" ]; do sleep 0.02; done', "exit 0")
    program(folder / "pause", *lines)
    (folder / "hooks/pre-receive").symlink_to(folder / "pause")
    try:
        yield lambda: wait_until((folder / "asked").exists), (folder / "go").touch
    finally:
        (folder / "go").touch()


def gate(folder: Path) -> str:
    """An ffmpeg that waits for the file `open`, and says so."""
    return program(folder / "waiting-ffmpeg", ': > "$here/waiting"', 'while [ ! -e "$here/open" ]; do sleep 0.02; done')


# -- one owner at a time


def test_what_a_run_has_in_hand_another_leaves_alone(shelf: Shelf, other: Callable[[], Shelf], film: Path, tmp_path: Path) -> None:
    [video_id] = queue(shelf, film)
    there = other()
    with running(shelf, "run", DAILIES_FFMPEG=hanging(tmp_path)):
        hung(tmp_path)
        owner = claims_on(shelf)[video_id]

        beside = there.cli("run", "--json")

        assert owner
        assert (beside.code, beside.json()["videos"]) == (0, [])
        assert claims_on(shelf) == {video_id: owner}
        assert "in the hands of another run" in there.cli("plan").out


def test_a_claim_that_is_over_keeps_nobody_from_the_video(shelf: Shelf, film: Path) -> None:
    [video_id] = queue(shelf, film)
    claim = hold(shelf, video_id, now() + HOUR)
    assert shelf.cli("run", "--json").json()["videos"] == []
    assert on_remote(shelf)[video_id]["claim"] == claim.model_dump()
    hold(shelf, video_id, now() - timedelta(seconds=1))

    done = shelf.cli("run")

    assert (done.code, on_remote(shelf)[video_id]["state"]) == (0, "done")
    assert claims_on(shelf) == {video_id: None}


@pytest.mark.parametrize(("first", "second", "behind_s"), [("a", "z", 0), ("z", "a", 0), ("a", "z", 3000), ("z", "a", -3000)])
def test_of_two_that_claim_at_once_the_one_whose_push_came_first_has_it(
    shelf: Shelf, other: Callable[[], Shelf], first: str, second: str, behind_s: int
) -> None:
    [video_id] = queue_texts(shelf, "talk")
    there = other()
    _, publish_first = claiming(shelf, first, clock_behind(behind_s))
    _, publish_second = claiming(there, second, FakeClock())
    published: list[Published] = []
    thread = threading.Thread(target=lambda: published.append(publish_second()))
    with held_push(shelf) as (wait_for_push, _):
        thread.start()
        wait_for_push()
        publish_first()
    thread.join()

    assert [one.state.races for one in published] == [1]
    assert claims_on(shelf) == {video_id: first}
    assert claims_here(there) == {first}


def clock_behind(seconds: float) -> FakeClock:
    clock = FakeClock()
    clock.advance(-seconds)
    return clock


def test_what_another_has_claimed_before_is_not_claimed(shelf: Shelf, other: Callable[[], Shelf]) -> None:
    one, two = queue_texts(shelf, "one", "two")
    there = other()
    hold(shelf, one, FakeClock().now() + HOUR)
    claims, publish = claiming(there, "second", FakeClock())

    publish()

    assert claims_on(shelf) == {one: "stranger", two: "second"}
    claims.release()
    assert claims_here(there) == {"stranger", None}


# -- how far ahead, how long


def test_a_run_claims_a_batch_ahead_and_the_next_once_those_are_done(shelf: Shelf, clock: FakeClock) -> None:
    ids = queue_texts(shelf, "a", "b", "c", "d")
    database = shelf.open().database
    claims = Claims(database, clock, "mine", LIFE_S, batch=2)
    queued = [database.load(video_id) for video_id in ids]
    claims.want(queued)

    claims.stake()
    first = [database.load(video_id).claim is not None for video_id in ids]
    database.save(queued[0].with_(state=State.DONE), queued[0])
    claims.stake()

    assert first == [True, True, False, False]
    assert [database.load(video_id).claim is not None for video_id in ids] == [False, True, True, False]


def test_a_claim_is_renewed_once_less_than_half_of_it_is_left(shelf: Shelf, clock: FakeClock) -> None:
    [video_id] = queue_texts(shelf, "talk")
    _, publish = claiming(shelf, "mine", clock)
    untils = []
    for seconds in (0, LIFE_S / 2 - 1, 1):
        clock.advance(seconds)
        publish()
        untils.append((parse_timestamp(on_remote(shelf)[video_id]["claim"]["until"]) - clock.now()).total_seconds())

    assert untils == [LIFE_S, LIFE_S / 2 + 1, LIFE_S]


def test_the_claim_of_a_video_that_this_run_has_put_back_is_not_renewed(shelf: Shelf, clock: FakeClock) -> None:
    [video_id] = queue_texts(shelf, "talk")
    _, publish = claiming(shelf, "mine", clock)
    publish()
    claim = shelf.open().database.load(video_id).claim
    change(shelf, video_id, next_attempt_at=timestamp(clock.now()))

    clock.advance(LIFE_S - 1)
    publish()

    assert shelf.open().database.load(video_id).claim == claim


def test_what_no_push_has_confirmed_is_withdrawn_to_what_was_there_before(shelf: Shelf, clock: FakeClock) -> None:
    fresh, over = queue_texts(shelf, "fresh", "over")
    old = hold(shelf, over, clock.now() - HOUR)
    claims, _ = claiming(shelf, "mine", clock)
    database = shelf.open().database

    claims.stake()
    staked = claims_here(shelf)
    claims.withdraw()

    assert staked == {"mine"}
    assert (database.load(fresh).claim, database.load(over).claim) == (None, old)


def test_what_a_push_has_confirmed_is_not_withdrawn_but_released_at_the_end(shelf: Shelf, clock: FakeClock) -> None:
    queue_texts(shelf, "talk")
    claims, publish = claiming(shelf, "mine", clock)

    publish()
    claims.withdraw()
    assert claims_here(shelf) == {"mine"}
    claims.release()

    assert claims_here(shelf) == {None}


def test_only_ones_own_claims_are_released(shelf: Shelf, clock: FakeClock) -> None:
    [video_id] = queue_texts(shelf, "talk")
    claims, publish = claiming(shelf, "mine", clock)
    publish()
    hold(shelf, video_id, clock.now() + HOUR)

    claims.release()

    assert claims_here(shelf) == {"stranger"}


# -- gone with their run


def test_nobody_owns_what_has_come_to_an_end(shelf: Shelf, clock: FakeClock) -> None:
    [video_id] = queue_texts(shelf, "talk")
    hold(shelf, video_id, clock.now() + HOUR)
    library = shelf.open()
    video = library.database.load(video_id)

    failed = policy.after_error(video, None, VideoError("broken"), "broken", library.settings, clock.now())
    put_back = policy.after_error(video, None, Transient("busy"), "busy", library.settings, clock.now())

    assert (policy.finished(video).claim, failed.claim) == (None, None)
    assert put_back.claim == video.claim


def test_a_video_that_was_queued_elsewhere_is_taken_here(shelf: Shelf, other: Callable[[], Shelf]) -> None:
    queue_texts(shelf, "first")
    there = other()
    [video_id] = queue_texts(shelf, "talk")

    there.cli("run")

    assert on_remote(shelf)[video_id]["state"] == "failed"
    assert set(claims_on(shelf).values()) == {None}


@pytest.mark.parametrize(("kind", "state"), [("film", "done"), ("text", "failed")])
def test_a_run_that_ended_leaves_no_claim(shelf: Shelf, film: Path, kind: str, state: str) -> None:
    [video_id] = queue(shelf, film) if kind == "film" else queue_texts(shelf, "talk")

    shelf.cli("run")

    assert on_remote(shelf)[video_id]["state"] == state
    assert (claims_on(shelf), claims_here(shelf)) == ({video_id: None}, {None})
    assert "database: queue claimed" in shelf.git("log", "--format=%s")
    assert shelf.git("log", "-S", '"run_id"', "--format=%s", "--", "database/videos")


def test_an_interrupted_run_leaves_no_claim_for_whoever_publishes_next(shelf: Shelf, film: Path, tmp_path: Path) -> None:
    [video_id] = queue(shelf, film)
    with running(shelf, "run", DAILIES_FFMPEG=hanging(tmp_path)) as run:
        hung(tmp_path)
        assert claims_here(shelf) != {None}
        run.send_signal(signal.SIGINT)
        assert ended(run).code == 130

    assert claims_here(shelf) == {None}
    assert shelf.cli("commit").code == 0
    assert (claims_on(shelf), on_remote(shelf)[video_id]["state"]) == ({video_id: None}, "queued")


def test_a_run_that_was_killed_is_freed_by_the_next_one_on_its_machine_and_by_no_other(
    shelf: Shelf, other: Callable[[], Shelf], film: Path, tmp_path: Path
) -> None:
    [video_id] = queue(shelf, film)
    with running(shelf, "run", DAILIES_FFMPEG=hanging(tmp_path)) as run:
        hung(tmp_path)
        run.kill()
        run.wait()
    dead = claims_on(shelf)[video_id]

    elsewhere = other().cli("run", "--json")
    assert (elsewhere.json()["videos"], claims_on(shelf)) == ([], {video_id: dead})
    here = shelf.cli("run")

    assert (here.code, on_remote(shelf)[video_id]["state"]) == (0, "done")
    assert (claims_on(shelf), claims_here(shelf)) == ({video_id: None}, {None})


@pytest.mark.parametrize("state", [State.WORKING, State.QUEUED])
def test_what_a_living_stranger_has_in_hand_is_no_crash_of_this_machine(shelf: Shelf, state: State) -> None:
    [video_id] = queue_texts(shelf, "talk")
    claim = hold(shelf, video_id, now() + HOUR, state=state)
    library = shelf.open()
    folder = WorkFolder(library.work / video_id)
    folder.make()
    mark_step(folder, StepName.CONVERT)  # an own run died in it before the stranger took it
    before = library.database.load(video_id)

    recovered = pipeline.recover_library(library)

    after = library.database.load(video_id)
    assert (recovered.videos, after) == (0, before)
    assert (after.claim, after.interruptions) == (claim, 0)


def test_a_video_that_a_stranger_left_in_hand_is_queued_again_once_the_claim_is_over(shelf: Shelf) -> None:
    [video_id] = queue_texts(shelf, "talk")
    claim = hold(shelf, video_id, now() - HOUR, state=State.WORKING)
    library = shelf.open()

    recovered = pipeline.recover_library(library)

    after = library.database.load(video_id)
    assert (recovered.videos, after.state, after.interruptions) == (1, State.QUEUED, 0)
    assert after.claim == claim


# -- what stays as it was


@pytest.mark.parametrize("way", ["no remote", "push is off", "no commit"])
def test_who_is_alone_claims_nothing(shelf: Shelf, way: str) -> None:
    queue_texts(shelf, "talk")
    if way == "no remote":
        shelf.git("remote", "remove", "origin")
    if way == "push is off":
        shelf.set("git", push=False)

    done = shelf.cli("run", *(["--no-commit"] if way == "no commit" else []))

    assert "state=failed" in done.err
    assert "claims" not in done.err
    assert "claimed" not in shelf.git("log", "--format=%s")


def test_a_video_that_another_run_has_finished_meanwhile_is_not_done_again(
    shelf: Shelf, other: Callable[[], Shelf], make_clip: ClipMaker, tmp_path: Path
) -> None:
    shelf.set("run", jobs=1, transfers=1)
    shelf.set("git", checkpoint="200ms")
    *taken, late = queue(shelf, *(make_clip(f"{hertz}.mp4", seconds=0.2, hertz=hertz) for hertz in (300, 400, 500)))
    there = other()
    with running(shelf, "run", "--json", DAILIES_FFMPEG=gate(tmp_path)) as run:
        wait_until((tmp_path / "waiting").exists)
        renewed_after(shelf, taken[0])
        change(there, late, state=State.DONE)
        wait_until(lambda: shelf.open().database.load(late).state is State.DONE)
        (tmp_path / "open").touch()
        report = ended(run).json()

    assert sorted(one["id"] for one in report["videos"]) == sorted(taken)
    assert report["summary"]["skipped"] == 1
    assert on_remote(shelf)[late]["steps"] == {}
    assert set(claims_on(shelf).values()) == {None}


def renewed_after(shelf: Shelf, video_id: str) -> None:
    """Waits for a checkpoint that renews the claim."""
    before = on_remote(shelf)[video_id]["claim"]["until"]
    wait_until(lambda: on_remote(shelf)[video_id]["claim"]["until"] > before)


def test_an_edit_beside_a_claim_is_kept_and_the_run_goes_on(
    shelf: Shelf, other: Callable[[], Shelf], film: Path, tmp_path: Path
) -> None:
    [video_id] = queue(shelf, film)
    with running(shelf, "run", DAILIES_FFMPEG=gate(tmp_path)) as run:
        wait_until((tmp_path / "waiting").exists)
        there = other()
        there.cli("edit", video_id, "--title", "Edited meanwhile")
        publish(there)
        assert claims_on(shelf)[video_id]
        (tmp_path / "open").touch()
        assert ended(run).code == 0

    record = on_remote(shelf)[video_id]
    assert (record["title"], record["state"], record["claim"]) == ("Edited meanwhile", "done", None)


def test_a_retry_beside_a_claim_does_not_take_the_video_away(shelf: Shelf) -> None:
    [video_id] = queue_texts(shelf, "talk")
    claim = hold(shelf, video_id, now() + HOUR, retry_count=2)

    assert shelf.cli("retry", video_id).code == 0
    assert shelf.cli("run", "--json").json()["videos"] == []

    record = on_remote(shelf)[video_id]
    assert (record["epoch"], record["retry_count"], record["claim"]) == (1, 0, claim.model_dump())


def test_a_run_with_a_limit_claims_no_more_than_that_and_the_next_for_what_it_lost(
    shelf: Shelf, other: Callable[[], Shelf], make_clip: ClipMaker, tmp_path: Path
) -> None:
    lost, taken, free = queue(shelf, *(make_clip(f"{hertz}.mp4", seconds=0.2, hertz=hertz) for hertz in (300, 400, 500)))
    there = other()
    with held_push(shelf) as (wait_for_push, go_on), running(there, "run", "--limit", "1", DAILIES_FFMPEG=hanging(tmp_path)):
        wait_for_push()
        hold(shelf, lost, now() + HOUR)
        go_on()
        hung(tmp_path)

        assert claims_on(shelf)[lost] == "stranger"
        assert claims_on(shelf)[taken]
        assert claims_on(shelf)[free] is None
        assert [mark.parent.name for mark in there.root.glob("work/*/step.json")] == [taken]


def test_a_branch_that_cannot_follow_leaves_no_claim_either(
    shelf: Shelf, other: Callable[[], Shelf], film: Path, tmp_path: Path
) -> None:
    [video_id] = queue(shelf, film)
    there = other()
    there.git("-c", "user.name=x", "-c", "user.email=x@y", "commit", "-q", "--allow-empty", "-m", "a person's own")
    change(shelf, video_id, title="Renamed")

    there.cli("run", DAILIES_FFMPEG=program(tmp_path / "crashing", "ulimit -c 0", "kill -SEGV $$"))

    record = on_remote(shelf)[video_id]
    assert (record["state"], record["retry_count"], record["claim"]) == ("queued", 1, None)
