"""What hosts work on still, and what dead runs left on hosts that nobody sends to any more: asked about in later runs."""

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dailies import settling
from dailies.errors import Exit, Interrupted
from dailies.model import Claim, Kind, LastError, Preview, State, StepName, Upload, Video
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


def settle(depot: Depot, seconds: float = 3600) -> list[str]:
    """A pass alone."""
    library = depot.library
    return settling.settle(library, library.dispatch(), depot.deadline(seconds))


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


def test_of_a_removed_video_it_is_asked_what_was_sent_and_nothing_else_changes(depot: Depot) -> None:
    video = depot.put()
    depot.plan(upload=["die"])
    with pytest.raises(Killed):
        depot.run()
    depot.save_state(video, deleted_at="2026-01-01T00:00:00Z", state=State.FAILED)

    depot.run()

    assert (depot.upload(video).status, len(depot.calls(call="upload"))) == ("SUCCESS", 1)
    assert (depot.now(video).state, depot.now(video).deleted_at) == ("failed", "2026-01-01T00:00:00Z")


def test_a_video_that_had_failed_and_is_there_after_all_is_finished_by_the_next_run(depot: Depot) -> None:
    video = depot.put()
    depot.plan(upload=["lose"], find=["ok", *["fail"] * 9])
    for _ in range(4):
        depot.run()
    assert (depot.now(video).state, depot.upload(video).status) == ("failed", "UNKNOWN")
    depot.plan(find="ok")

    settle(depot)

    assert (depot.now(video).state, depot.now(video).last_error, depot.upload(video).status) == ("queued", None, "SUCCESS")
    assert depot.run().code is Exit.DONE
    assert (depot.now(video).state, len(depot.stock())) == ("done", 1)


def test_a_video_that_failed_elsewhere_stays_so_whatever_a_host_has(depot: Depot) -> None:
    video = depot.put()
    depot.plan(upload=["die"])
    with pytest.raises(Killed):
        depot.run()
    why = LastError(step=StepName.CONVERT, attempt=1, category="damaged", message="x", action="y", at="2026-01-01T00:00:00Z")
    depot.save_state(video, state=State.FAILED, last_error=why)

    settle(depot)

    assert (depot.upload(video).status, depot.now(video).state) == ("SUCCESS", "failed")


def test_passes_that_have_no_time_for_all_get_round_to_each(depot: Depot) -> None:
    for number in range(6):
        settling_video(depot, b"%d" % number, f"talk{number}")
    (depot.root / "shops/a/calls.jsonl").unlink()
    depot.plan(check="linger 50")
    random.seed(1)

    for _ in range(10):
        settle(depot)

    assert len({one["name"] for one in depot.calls(call="check")}) == 6


def test_what_is_worked_on_without_end_is_a_warning_once_where_it_is_not_sent_again(depot: Depot) -> None:
    video = settling_video(depot)
    depot.clock.advance(6 * 86400)
    settle(depot)
    assert depot.now(video).warnings == ()
    depot.clock.advance(2 * 86400)
    settle(depot)
    warned = depot.now(video)
    depot.clock.advance(86400)

    settle(depot)

    assert depot.now(video) == warned
    (warning,) = warned.warnings
    assert warning.startswith("a: works on the video since 2026-01-02T")
    assert (depot.upload(video).is_settling, len(depot.calls(call="upload"))) == (True, 1)


def test_a_host_without_settings_that_may_have_something_is_a_problem(depot: Depot, caplog: pytest.LogCaptureFixture) -> None:
    for code in ("one", "two"):
        depot.save_upload(depot.put(code.encode(), code, state=State.FAILED), "old", status="UNKNOWN", attempt_id="aa")

    problems = settle(depot)

    assert problems == ["old: may have uploads that it cannot be asked about: put [hosts.old] back"]
    assert len([record for record in caplog.records if "[hosts.old]" in record.message]) == 1
    for video in depot.library.database.videos():
        depot.save_state(video, deleted_at="2026-01-01T00:00:00Z")
    assert settle(depot) == []


# -- previews and pictures


def shown(depot: Depot, kind: Kind, preview: bytes | None = None, images: tuple[str, ...] = (), **upload: Any) -> Video:
    """A finished video, one kind of whose files may have been sent."""
    video = depot.put(state=State.DONE)
    made = hashlib.sha256(preview or b"").hexdigest()
    name = f"{video.id}.preview.mp4"
    told = Preview(name=name, size_bytes=len(preview or b""), duration_s=1, sha256=made, clips=()) if preview else None
    pictures = {part: f"{video.id}.{part}.jpg" for part in images}
    said = Upload.model_validate({"status": "UNKNOWN", "attempt_id": "aa", "at": "2026-01-02T03:04:05Z", **upload})
    return depot.save_state(video, preview=told, images=pictures, uploads={"a": {kind: said}})


def stocked(depot: Depot, name: str, content: bytes) -> None:
    """The host has it, whoever sent it."""
    folder = depot.root / "shops/a/stock"
    folder.mkdir(parents=True, exist_ok=True)
    number = f"{len(list(folder.iterdir())):04d}"
    sha256 = hashlib.sha256(content).hexdigest()
    (folder / number).write_bytes(content)
    (folder / f"{number}.json").write_text(json.dumps({"name": name, "sha256": sha256, "seen_from": 0}))


@pytest.mark.parametrize("status", ["UNKNOWN", "IN_PROGRESS"])
def test_a_preview_that_may_have_been_sent_is_asked_for(depot: Depot, status: str) -> None:
    video = shown(depot, Kind.PREVIEW, b"clips", status=status)
    stocked(depot, f"{video.id}.preview.mp4", b"clips")

    settle(depot)

    upload = depot.upload(video, "a", Kind.PREVIEW)
    assert (upload.status, upload.remote_id, depot.asked()) == ("SUCCESS", "0000", ["find"])
    assert [(line["kind"], line["status"]) for line in depot.lines()] == [("preview", "SUCCESS")]
    settle(depot)
    assert depot.asked() == ["find"]


@pytest.mark.parametrize(("status", "then", "count"), [("UNKNOWN", "FAILED", 1), ("IN_PROGRESS", "PENDING", 0)])
def test_a_preview_that_did_not_arrive_is_no_longer_asked_for(depot: Depot, status: str, then: str, count: int) -> None:
    video = shown(depot.set(a="lag = 60.0"), Kind.PREVIEW, b"clips", status=status)
    settle(depot)
    assert depot.upload(video, "a", Kind.PREVIEW).status == status, "its listing may lag behind"
    depot.clock.advance(61)

    settle(depot)

    upload = depot.upload(video, "a", Kind.PREVIEW)
    assert (upload.status, upload.retry_count, depot.now(video).state) == (then, count, "done")
    assert depot.asked() == ["find"] * 2


def test_the_preview_as_it_was_sent_is_what_counts(depot: Depot) -> None:
    sent: dict[str, Any] = {"sha256": hashlib.sha256(b"older clips").hexdigest(), "size_bytes": 11}
    video = shown(depot, Kind.PREVIEW, b"clips", **sent)
    stocked(depot, f"{video.id}.preview.mp4", b"older clips")

    settle(depot)

    assert (depot.upload(video, "a", Kind.PREVIEW).status, depot.upload(video, "a", Kind.PREVIEW).sha256) == (
        "SUCCESS",
        sent["sha256"],
    )


def test_a_host_that_cannot_tell_of_a_preview_is_noted_once(depot: Depot) -> None:
    video = shown(depot, Kind.PREVIEW, b"clips", status="IN_PROGRESS")
    depot.plan(find="silent")

    for _ in range(3):
        settle(depot)

    assert (depot.upload(video, "a", Kind.PREVIEW).status, len(depot.lines())) == ("UNKNOWN", 1)


def test_a_host_that_is_down_leaves_a_preview_as_it_is(depot: Depot) -> None:
    video = shown(depot, Kind.PREVIEW, b"clips")
    depot.plan(find="fail")
    before = depot.now(video)

    settle(depot)

    assert depot.now(video) == before


def test_pictures_are_asked_for_where_the_record_knows_each_of_them(depot: Depot) -> None:
    contents = {"cover": b"one", "sprite": b"two"}
    part = {name: {"sha256": hashlib.sha256(one).hexdigest(), "size_bytes": 3, "remote_id": "x"} for name, one in contents.items()}
    video = shown(depot, Kind.IMAGE, images=("cover", "sprite"))
    names = depot.now(video).images
    parts = {one: {**part[one], "name": names[one]} for one in contents}
    said = Upload.model_validate({"status": "UNKNOWN", "attempt_id": "aa", "at": "2026-01-02T03:04:05Z", "parts": parts})
    depot.save_state(video, uploads={"a": {Kind.IMAGE: said}})
    for one, content in contents.items():
        stocked(depot, names[one], content)

    settle(depot)

    upload = depot.upload(video, "a", Kind.IMAGE)
    assert (upload.status, len(upload.parts), depot.asked()) == ("SUCCESS", 2, ["find"] * 2)


def test_pictures_that_nobody_knows_any_more_count_as_not_sent(depot: Depot) -> None:
    video = shown(depot, Kind.IMAGE, images=("cover", "sprite"), sha256="0" * 64, size_bytes=3)

    settle(depot)

    upload = depot.upload(video, "a", Kind.IMAGE)
    assert (upload.status, depot.asked()) == ("FAILED", [])
    assert "not known any more" in (upload.error or "")


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
