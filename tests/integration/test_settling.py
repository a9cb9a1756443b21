"""What hosts work on still, and what dead runs left on hosts that nobody sends to any more: asked about in later runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dailies import settling
from dailies.errors import Exit, Interrupted
from dailies.model import Claim, Kind, State, Video
from shops import Depot, Killed, depots


@pytest.fixture
def depot() -> Iterator[Depot]:
    with depots() as found:
        yield found.set(a="")


def settling_video(depot: Depot, content: bytes = b"moving pictures", code: str = "talk", check: str = "processing") -> Video:
    """Published; its host works on it still."""
    video = depot.put(content, code)
    depot.plan("a", upload=["settle"], check=check)
    depot.run()
    assert (depot.now(video).state, depot.upload(video).status, depot.upload(video).is_settling) == ("done", "SUCCESS", True)
    return video


def settle(depot: Depot, seconds: float = 3600) -> None:
    """A pass alone."""
    library = depot.library
    settling.settle(library, library.dispatch(), depot.deadline(seconds))


def test_what_a_host_works_on_is_asked_about_until_it_is_ready(depot: Depot) -> None:
    video = settling_video(depot)
    depot.run()
    assert depot.upload(video).is_settling

    depot.plan(check="ready")
    depot.run()

    assert (depot.upload(video).status, depot.upload(video).is_settling) == ("SUCCESS", False)
    asked = len(depot.calls(call="check"))
    depot.run()
    assert len(depot.calls(call="check")) == asked


def test_the_source_is_removed_only_once_a_host_has_it_for_certain(depot: Depot) -> None:
    settings = depot.root / "dailies.toml"
    settings.write_text("[library]\nremove_source = 'after_publish'\n" + settings.read_text())
    video = settling_video(depot)
    source = depot.root / video.source.uri
    depot.run()
    assert source.exists()

    depot.plan(check="ready")
    depot.run()

    assert not source.exists()


@pytest.mark.parametrize(
    ("replaces", "status", "count", "state"), [("replaces = true", "FAILED", 1, "queued"), ("", "FAILED_FINAL", 0, "failed")]
)
def test_what_a_host_did_not_keep_is_sent_again_where_that_makes_sense(
    depot: Depot, replaces: str, status: str, count: int, state: str
) -> None:
    video = settling_video(depot.set(a=replaces))
    depot.plan(check="failed")

    settle(depot)

    upload, now = depot.upload(video), depot.now(video)
    assert (upload.status, upload.retry_count, now.state) == (status, count, state)
    assert "it is no good" in (upload.error or "")
    assert any("it is no good" in warning for warning in now.warnings)
    assert [line["status"] for line in depot.lines()][-1] == status


def test_what_a_host_lost_is_on_it_again_after_the_next_run(depot: Depot) -> None:
    video = settling_video(depot.set(a="replaces = true"))
    depot.plan(check=["failed"])
    settle(depot)
    depot.kept(video).parent.mkdir(parents=True)
    depot.kept(video).write_bytes(b"moving pictures")

    depot.run()

    assert (depot.upload(video).status, depot.now(video).state, depot.stock()) == ("SUCCESS", "done", [f"{video.id}.mp4"])


def test_what_is_missing_may_yet_come_for_two_days(depot: Depot) -> None:
    video = settling_video(depot.set(a="replaces = true"), check="missing")
    depot.clock.advance(47 * 3600)
    settle(depot)
    assert (depot.upload(video).status, depot.upload(video).is_settling) == ("SUCCESS", True)

    depot.clock.advance(2 * 3600)
    settle(depot)

    assert (depot.upload(video).status, depot.now(video).state) == ("FAILED", "queued")


@pytest.mark.parametrize(("replaces", "status"), [("replaces = true", "FAILED"), ("", "SUCCESS")])
def test_what_is_worked_on_without_end_is_sent_again_where_it_only_replaces_itself(
    depot: Depot, replaces: str, status: str
) -> None:
    video = settling_video(depot.set(a=replaces))
    depot.clock.advance(6 * 86400)
    settle(depot)
    assert depot.upload(video).status == "SUCCESS"

    depot.clock.advance(2 * 86400)
    settle(depot)

    assert depot.upload(video).status == status


def test_a_pass_takes_no_longer_than_its_limit_and_the_run_goes_on(depot: Depot) -> None:
    for number in range(4):
        settling_video(depot, b"%d" % number, f"talk{number}")
    depot.plan(check="slow 50")
    began = depot.clock.monotonic()

    settle(depot)

    assert depot.clock.monotonic() - began <= settling.LIMIT_S + 1
    late = depot.put(b"other", "other")
    depot.run()
    assert depot.upload(late).status == "SUCCESS"


def test_a_stop_ends_a_pass(depot: Depot) -> None:
    settling_video(depot)
    depot.plan(check="slow 50")
    depot.clock.sleep = lambda seconds: depot.stop.set()  # type: ignore[method-assign]  # somebody stops it while it waits

    with pytest.raises(Interrupted):
        settle(depot)


@pytest.mark.parametrize(("act", "asked"), [("fail", 2), ("deny", 1)])
def test_a_host_in_trouble_is_left_alone_and_the_others_are_asked(depot: Depot, act: str, asked: int) -> None:
    depot.set("strategy = 'all'\nbreaker = 2", a="", b="")
    videos = [depot.put(b"%d" % number, f"talk{number}") for number in range(5)]
    for name in "ab":
        depot.plan(name, upload="settle", check="processing")
    depot.run()
    for name in "ab":
        (depot.root / "shops" / name / "calls.jsonl").unlink()
    depot.plan("a", check=act)
    depot.plan("b", check="ready")

    settle(depot)

    assert len(depot.calls("a", "check")) == asked
    assert [depot.upload(video, "a").is_settling for video in videos] == [True] * 5
    assert [depot.upload(video, "b").is_settling for video in videos] == [False] * 5


def test_a_video_of_another_run_is_not_touched(depot: Depot) -> None:
    video = settling_video(depot)
    depot.save_state(video, claim=Claim(run_id="run-9", until="2027-01-01T00:00:00Z"))
    asked = len(depot.calls(call="check"))

    settle(depot)

    assert len(depot.calls(call="check")) == asked


# -- left behind


@pytest.mark.parametrize(("death", "status", "copies"), [("die", "SUCCESS", 1), ("die early", "PENDING", 0)])
def test_what_was_begun_on_a_host_that_is_not_sent_to_any_more_is_cleared_up(
    depot: Depot, death: str, status: str, copies: int
) -> None:
    video = depot.set(a="", b="").put()
    depot.plan("a", upload=[death])
    with pytest.raises(Killed):
        depot.run()
    depot.save_state(video, hosts=("b",))

    depot.run()

    assert (depot.upload(video, "a").status, len(depot.stock("a"))) == (status, copies)
    assert depot.upload(video, "b").status == "SUCCESS"
    assert len(depot.calls("a", "upload")) == 1, "nothing is sent"


def test_a_failed_video_whose_upload_may_have_arrived_is_asked_about(depot: Depot) -> None:
    video = depot.put(state=State.FAILED)
    depot.save_upload(video, status="UNKNOWN", attempt_id="aa", retry_count=1)

    result = depot.run()

    assert (depot.upload(video).status, depot.upload(video).retry_count, result.code) == ("FAILED", 2, Exit.DONE)
    assert depot.asked() == ["find"]


def test_a_host_that_cannot_tell_is_noted_once(depot: Depot) -> None:
    video = depot.put(state=State.FAILED)
    depot.save_upload(video, status="UNKNOWN", attempt_id="aa")
    depot.plan(find="silent")

    for _ in range(4):
        settle(depot)

    assert depot.upload(video).status == "UNKNOWN"
    assert "--is-there" in (depot.upload(video).error or "")
    assert len(depot.lines()) == 1


def test_a_removed_video_is_not_asked_about(depot: Depot) -> None:
    video = depot.put()
    depot.save_upload(video, status="UNKNOWN", attempt_id="aa")
    depot.save_state(video, deleted_at="2026-01-01T00:00:00Z")

    settle(depot)

    assert depot.calls() == []


def test_each_part_of_the_pictures_is_asked_about(depot: Depot, tmp_path: Path) -> None:
    video = depot.put(state=State.DONE)
    part = {"sha256": "0" * 64, "size_bytes": 1}
    parts = {name: {**part, "name": f"{video.id}.{name}.jpg", "remote_id": name} for name in ("cover", "sprite")}
    before = depot.now(video)
    said = {"status": "SUCCESS", "remote_id": "cover", "is_settling": True, "parts": parts, "at": "2026-01-02T03:04:05Z"}
    after = Video.model_validate({**before.model_dump(by_alias=True), "uploads": {"a": {"image": said}}})
    depot.library.database.save(after, before)
    depot.plan(check=["ready", "processing", "ready", "ready"])

    settle(depot)
    assert depot.upload(video, "a", Kind.IMAGE).is_settling
    settle(depot)

    assert not depot.upload(video, "a", Kind.IMAGE).is_settling
    assert [one["name"] for one in depot.calls()] == [f"{video.id}.{name}.jpg" for name in ("cover", "sprite")] * 2
