"""What becomes of an upload in a run: whole runs over a shop that does as it is told; the record and the stock are looked at."""

import hashlib
import itertools
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from dailies import policy, uploads
from dailies.clock import parse_timestamp
from dailies.delivery import asset_of, deliver
from dailies.errors import DailiesError, Exit, HostRefused, HostSilent, Interrupted, OutcomeUnknown, Postponed, Transient
from dailies.hosts import Asset, Receipt
from dailies.model import Kind, MediaFile, State, StepName, Upload, UploadStatus, Video
from shops import Depot, Killed, depots

DAY_S: Final = 86400.0


@pytest.fixture
def depot() -> Iterator[Depot]:
    with depots() as found:
        yield found.set(a="")


@pytest.fixture
def two(depot: Depot) -> Depot:
    return depot.set(a="", b="")


# -- from status to status


def test_the_intent_is_on_disk_before_the_first_byte_leaves(depot: Depot) -> None:
    video = depot.put()

    depot.run()

    (sent,) = depot.calls(call="upload")
    assert (sent["status"], sent["attempt_id"]) == ("IN_PROGRESS", depot.upload(video).attempt_id)
    assert depot.upload(video).status == "SUCCESS"
    assert depot.upload(video).remote_id == "0001"
    assert depot.upload(video).watch_url == "https://a.example/0001"


def test_three_failures_are_counted_and_the_fourth_is_final(depot: Depot) -> None:
    video = depot.put()
    depot.plan(upload="fail")

    seen = []
    for _ in range(6):
        result = depot.run()
        seen.append((str(depot.upload(video).status), depot.upload(video).retry_count, str(depot.now(video).state)))

    assert seen[:3] == [("FAILED", count, "queued") for count in (1, 2, 3)]
    assert seen[3:] == [("FAILED_FINAL", 4, "failed")] * 3
    assert len(depot.calls(call="upload")) == 4
    assert result.code is Exit.DONE, "nothing is left to do"


def test_a_file_that_the_host_refuses_is_final_at_once(depot: Depot) -> None:
    video = depot.put()
    depot.plan(upload="refuse")

    result = depot.run()

    assert (depot.upload(video).status, depot.upload(video).retry_count) == ("FAILED_FINAL", 0)
    assert "does not like" in (depot.upload(video).error or "")
    assert (depot.now(video).state, result.code) == ("failed", Exit.VIDEOS_FAILED)


def test_a_file_larger_than_the_host_takes_is_not_sent(depot: Depot) -> None:
    video = depot.set(a="largest = 5").put()

    depot.run()

    assert depot.upload(video).status == "FAILED_FINAL"
    assert depot.calls() == []


def test_a_host_that_lets_nobody_in_is_asked_once_a_run_and_nothing_is_counted(depot: Depot) -> None:
    videos = [depot.put(code=f"talk{number}", content=b"%d" % number) for number in range(6)]
    depot.plan(find="deny")

    result = depot.run()

    assert len(depot.calls()) <= 5, "those that were at it at that moment"
    assert {(depot.upload(video).status, depot.upload(video).retry_count) for video in videos} == {("PENDING", 0)}
    assert {(depot.now(video).state, depot.now(video).retry_count) for video in videos} == {("queued", 0)}
    assert result.code is Exit.VIDEOS_FAILED


def test_a_denied_upload_is_as_it_was_and_takes_no_place_of_a_day(depot: Depot) -> None:
    video = depot.set(a="max_per_day = 1").put()
    depot.plan(upload=["deny"])
    depot.run()
    assert (depot.upload(video).status, depot.upload(video).retry_count) == ("PENDING", 0)

    depot.run()

    assert depot.upload(video).status == "SUCCESS"


def test_all_files_kept_for_a_failed_video_are_there_for_the_next_run(two: Depot) -> None:
    video = two.put()
    two.plan("a", upload="fail")
    two.plan("b", upload=["fail"])

    two.run()
    assert two.kept(video).read_bytes() == b"moving pictures"
    converted = two.now(video).steps[StepName.CONVERT]
    result = two.run()

    assert (result.report.summary.done, two.stock("b")) == (1, [f"{video.id}.mp4"])
    assert two.now(video).steps[StepName.CONVERT] == converted


def test_a_failed_upload_starts_anew_after_retry(depot: Depot) -> None:
    video = depot.put()
    depot.plan(upload=["refuse"])
    depot.run()
    before = depot.now(video)

    depot.library.database.save(policy.retried(before), before)
    assert (depot.upload(video).status, depot.upload(video).retry_count) == ("PENDING", 0)


# -- lost answers


def test_a_lost_answer_is_asked_for_at_once_and_nothing_is_sent_twice(depot: Depot) -> None:
    video = depot.put()
    depot.plan(upload=["lose"])

    result = depot.run()

    assert depot.asked() == ["find", "upload", "find"]
    assert (depot.upload(video).status, depot.upload(video).remote_id) == ("SUCCESS", "0001")
    assert (depot.stock(), result.code) == ([f"{video.id}.mp4"], Exit.DONE)


def test_what_was_lost_and_is_not_there_counts_as_a_failure(depot: Depot) -> None:
    video = depot.put()
    depot.plan(upload=["cut"])

    depot.run()

    assert (depot.upload(video).status, depot.upload(video).retry_count) == ("FAILED", 1)
    assert depot.stock() == []


def test_while_it_may_have_arrived_no_other_host_is_given_it(two: Depot) -> None:
    video = two.put()
    two.plan("a", upload=["lose"], find=["ok", "fail", "fail", "ok"])

    for _ in range(2):
        two.run()
        assert two.upload(video).status == "UNKNOWN"
        assert two.calls("b") == []
    two.run()

    assert (two.upload(video).status, two.stock("a"), two.stock("b")) == ("SUCCESS", [f"{video.id}.mp4"], [])


def test_a_host_whose_listing_lags_behind_is_asked_again_after_its_time(depot: Depot) -> None:
    video = depot.set(a="lag = 40.0").put()
    depot.plan(upload=["lose"])

    depot.run()

    assert depot.upload(video).status == "SUCCESS"
    assert (depot.stock(), sum(depot.clock.slept) >= 40) == ([f"{video.id}.mp4"], True)


def test_where_nobody_but_a_person_can_know_the_record_says_what_to_do(two: Depot) -> None:
    video = two.put()
    two.plan("a", upload=["lose"], find="silent")

    codes = [two.run().code for _ in range(3)]

    upload = two.upload(video)
    assert upload.status == "UNKNOWN"
    assert f"dailies upload {video.id} a --is-there" in (upload.error or "")
    assert "--force" in (upload.error or "")
    assert (len(two.calls("a", "upload")), two.calls("b")) == (1, [])
    assert codes == [Exit.VIDEOS_FAILED] * 3
    assert two.kept(video).exists(), "--force sends it"
    assert [line["status"] for line in two.lines()].count("UNKNOWN") <= 2, "only what is new is noted"


def test_a_first_send_to_a_host_that_cannot_be_asked_is_made(depot: Depot) -> None:
    video = depot.put()
    depot.plan(find="silent")

    depot.run()

    assert (depot.upload(video).status, depot.stock()) == ("SUCCESS", [f"{video.id}.mp4"])


# -- what dead runs and lost machines leave


@pytest.mark.parametrize(("death", "sent"), [("die", 1), ("die early", 2)])
@pytest.mark.parametrize("replaces", ["", "replaces = true"])
def test_what_a_dead_run_had_begun_is_asked_for_before_anything_is_sent(depot: Depot, death: str, sent: int, replaces: str) -> None:
    video = depot.set(a=replaces).put()
    depot.plan(upload=[death])
    with pytest.raises(Killed):
        depot.run()
    assert depot.upload(video).status == "IN_PROGRESS"

    depot.run()

    assert (depot.upload(video).status, depot.upload(video).retry_count) == ("SUCCESS", 0)
    assert (depot.stock(), len(depot.calls(call="upload"))) == ([f"{video.id}.mp4"], sent)


def test_what_a_dead_run_sent_to_a_slow_listing_is_waited_for(depot: Depot) -> None:
    video = depot.set(a="lag = 40.0").put()
    depot.plan(upload=["die"])
    with pytest.raises(Killed):
        depot.run()

    depot.run()

    assert (depot.upload(video).status, depot.stock()) == ("SUCCESS", [f"{video.id}.mp4"])


def test_a_copy_of_a_machine_lost_without_a_trace_is_adopted(depot: Depot) -> None:
    video = depot.put()
    depot.run()
    depot.save_state(video, state=State.QUEUED, uploads={})
    depot.kept(video).parent.mkdir(parents=True)
    depot.kept(video).write_bytes(b"moving pictures")

    depot.run()

    assert (depot.upload(video).status, depot.upload(video).remote_id) == ("SUCCESS", "0001")
    assert depot.stock() == [f"{video.id}.mp4"]


def test_a_host_that_overwrites_is_not_asked_before_a_first_send(depot: Depot) -> None:
    depot.set(a="replaces = true").put()

    depot.run()

    assert depot.asked() == ["upload"]


# -- which hosts, in which order


def test_the_next_host_is_tried_after_a_failure_and_none_after_a_success(two: Depot) -> None:
    video = two.put()
    two.plan("a", upload="fail")

    result = two.run()

    assert [str(two.upload(video, name).status) for name in "ab"] == ["FAILED", "SUCCESS"]
    assert (result.code, two.now(video).state) == (Exit.DONE, "done")
    two.put(b"other", "other")
    two.plan("a", upload="ok")
    two.run()
    assert len(two.stock("b")) == 1


def test_with_all_every_host_gets_it_and_what_is_there_is_left_alone(depot: Depot) -> None:
    video = depot.set("strategy = 'all'", a="", b="").put()
    depot.plan("b", upload=["fail"])

    first = depot.run()
    assert [str(depot.upload(video, name).status) for name in "ab"] == ["SUCCESS", "FAILED"]
    second = depot.run()

    assert (first.code, second.code) == (Exit.VIDEOS_FAILED, Exit.DONE)
    assert (len(depot.stock("a")), len(depot.stock("b")), len(depot.calls("a", "upload"))) == (1, 1, 1)


def test_hosts_that_a_person_named_win_over_the_settings(two: Depot) -> None:
    two.put(hosts=("b",))

    two.run()

    assert (two.calls("a"), len(two.stock("b"))) == ([], 1)


def test_a_video_whose_host_is_not_configured_waits(depot: Depot) -> None:
    video = depot.put(hosts=("gone",))

    result = depot.run()

    assert (depot.now(video).state, depot.now(video).retry_count, result.code) == ("queued", 0, Exit.VIDEOS_FAILED)
    assert depot.kept(video).exists()


# -- our own limits, and those of hosts


def test_a_day_is_full_for_all_machines_and_opens_again_a_day_after_the_first(depot: Depot) -> None:
    depot.set(a="max_per_day = 2")
    videos = [depot.put(code=f"talk{number}", content=b"%d" % number) for number in range(3)]

    result = depot.run()  # a new run knows no more than the records do, as another machine would

    waiting = [video for video in videos if depot.upload(video).status == "RATE_LIMITED"]
    assert (len(waiting), result.report.summary.done, result.code) == (1, 2, Exit.DONE)
    assert 0 <= (parse_timestamp(depot.upload(waiting[0]).until or "") - depot.clock.now()).total_seconds() - DAY_S <= 1
    for _ in range(3):
        depot.clock.advance(DAY_S / 4)
        depot.run(force=False)
    assert depot.upload(waiting[0]).status == "RATE_LIMITED"
    depot.clock.advance(DAY_S / 4 + 2)
    depot.run(force=False)
    assert (depot.upload(waiting[0]).status, depot.upload(waiting[0]).retry_count) == ("SUCCESS", 0)


def test_an_upload_that_failed_and_then_waits_for_a_place_gets_one(depot: Depot) -> None:
    video = depot.set(a="max_per_day = 1").put()
    depot.plan(upload=["fail"])
    depot.run()
    for _ in range(3):
        depot.clock.advance(7 * 3600)
        depot.run()
        assert depot.upload(video).status == "RATE_LIMITED"
        assert depot.upload(video).until == "2026-01-03T03:04:05Z"

    depot.clock.advance(4 * 3600)
    depot.run()

    assert depot.upload(video).status == "SUCCESS"


def test_the_same_run_sends_it_when_its_time_comes_within_minutes(depot: Depot) -> None:
    depot.set(a="min_interval = '2m'")
    videos = [depot.put(code=f"talk{number}", content=b"%d" % number) for number in range(3)]
    began = depot.clock.monotonic()

    result = depot.run()

    assert (result.report.summary.done, result.report.summary.skipped) == (3, 0)
    assert depot.clock.monotonic() - began >= 240
    moments = sorted(parse_timestamp(line["timestamp"]) for line in depot.lines() if line["status"] == "SUCCESS")
    assert all((later - sooner).total_seconds() >= 120 for sooner, later in itertools.pairwise(moments))
    assert {depot.upload(video).retry_count for video in videos} == {0}


def test_a_host_that_wants_us_to_wait_is_obeyed_for_all_videos(depot: Depot) -> None:
    videos = [depot.put(f"film {number}".encode(), f"film-{number}") for number in range(12)]
    depot.plan(upload=["limit 7200"] * 6)

    depot.run()

    assert len(depot.calls(call="upload")) <= 6, "nobody else's file is sent meanwhile, but what was on its way"
    assert {depot.upload(video).status for video in videos} == {"RATE_LIMITED"}
    assert {depot.upload(video).until for video in videos} == {"2026-01-02T05:04:05Z"}
    calls = len(depot.calls())
    depot.run()
    assert len(depot.calls()) == calls, "not before its time, even by force of the run"
    depot.clock.advance(7201)
    depot.plan(upload="ok")
    depot.run()
    assert {(depot.upload(video).status, depot.upload(video).retry_count) for video in videos} == {("SUCCESS", 0)}


def test_a_run_does_not_wait_for_ever_for_a_host_that_wants_it_to_wait(depot: Depot) -> None:
    depot.put()
    depot.plan(upload="limit 250")

    depot.run()

    assert len(depot.calls(call="upload")) <= 2
    assert sum(depot.clock.slept) <= 301


def test_what_was_sent_before_the_mp4_was_made_anew_is_found_and_not_sent_again(depot: Depot) -> None:
    video = depot.put()
    depot.plan(upload=["die"])
    with pytest.raises(Killed):
        depot.run()
    other = b"other bytes of the same film"
    depot.kept(video).write_bytes(other)
    made = MediaFile(name=f"{video.id}.mp4", size_bytes=len(other), sha256=hashlib.sha256(other).hexdigest())
    depot.save_state(video, file=made)

    depot.run()

    assert (depot.upload(video).status, len(depot.stock()), len(depot.calls(call="upload"))) == ("SUCCESS", 1, 1)


def test_a_blocked_video_takes_no_place_of_a_day(depot: Depot) -> None:
    depot.set(a="max_per_day = 1")
    dispatch = depot.library.dispatch()
    blocked, other = depot.put(code="blocked"), depot.put(b"other", "other")

    upload, _ = depot.deliver(blocked, dispatch=dispatch, twin="another")

    assert upload.status == "BLOCKED"
    assert depot.deliver(other, dispatch=dispatch)[0].status == "SUCCESS"


# -- hosts that fail in a row


def test_after_failures_in_a_row_a_host_is_left_alone_and_the_others_are_not_counted(depot: Depot) -> None:
    depot.set("breaker = 2", a="")
    videos = [depot.put(code=f"talk{number:02}", content=b"%d" % number) for number in range(12)]
    depot.plan(upload="fail")

    result = depot.run()

    counts = [depot.upload(video).retry_count for video in videos]
    assert 2 <= sum(counts) <= 2 + 4, "those at work at that moment"
    assert {depot.now(video).retry_count for video in videos} == {0, 1}
    assert result.code is Exit.VIDEOS_FAILED
    depot.plan(upload="ok")
    depot.clock.advance(3600)
    assert depot.run().report.summary.done == 12


def test_a_success_between_failures_keeps_a_host_open(depot: Depot) -> None:
    depot.set("breaker = 2", a="")
    dispatch = depot.library.dispatch()
    depot.plan(upload=["fail", "ok", "fail", "ok"])

    found = [depot.deliver(depot.put(code=f"t{n}", content=b"%d" % n), dispatch=dispatch)[0].status for n in range(4)]

    assert found == ["FAILED", "SUCCESS", "FAILED", "SUCCESS"]
    assert dispatch.gates.closed() == []


def test_lost_answers_that_never_arrived_close_a_host_too(depot: Depot) -> None:
    depot.set("breaker = 2", a="")
    dispatch = depot.library.dispatch()
    depot.plan(upload="cut")

    found = [depot.deliver(depot.put(code=f"t{n}", content=b"%d" % n), dispatch=dispatch)[0].status for n in range(3)]

    assert found == ["FAILED", "FAILED", "PENDING"]
    assert "2 failures in a row" in dispatch.gates.closed()[0]


# -- duplicates


def test_the_same_mp4_of_another_video_is_blocked(depot: Depot) -> None:
    depot.put()
    depot.run()
    twin = depot.put(code="twin")

    result = depot.run()

    assert (depot.upload(twin).status, depot.now(twin).state, result.code) == ("BLOCKED", "duplicate", Exit.DONE)
    assert f"dailies allow-duplicates {twin.id} on" in (depot.upload(twin).error or "")
    assert len(depot.stock()) == 1


def test_of_two_with_the_same_mp4_at_once_exactly_one_is_sent(depot: Depot) -> None:
    depot.put(), depot.put(code="twin")
    depot.plan(upload="slow 30")

    depot.run()

    assert len(depot.stock()) == 1
    assert sorted(line["status"] for line in depot.lines()) == ["BLOCKED", "SUCCESS"]


def test_a_duplicate_that_a_person_allows_is_sent(depot: Depot) -> None:
    depot.put()
    depot.run()
    twin = depot.put(code="twin", duplicate_allowed=True)

    depot.run()

    assert (depot.upload(twin).status, len(depot.stock())) == ("SUCCESS", 2)


def test_another_host_is_not_given_what_is_a_duplicate_on_the_first(two: Depot) -> None:
    two.put()
    two.run()
    two.put(code="twin")

    two.run()

    assert two.calls("b") == []


# -- the end of a run in the middle of it


def test_an_upload_that_the_run_has_no_time_for_is_asked_about_in_the_next(depot: Depot) -> None:
    video = depot.put()
    depot.plan(upload=["slow 100000"])
    settings = depot.root / "dailies.toml"
    settings.write_text(settings.read_text().replace("'2h'", "'20s'"))

    result = depot.run()

    assert (depot.upload(video).status, depot.now(video).retry_count, result.code) == ("IN_PROGRESS", 0, Exit.DONE)
    depot.run()
    assert (depot.upload(video).status, len(depot.stock())) == ("SUCCESS", 1)


def test_a_stop_leaves_the_intent_and_counts_nothing(depot: Depot) -> None:
    video = depot.put()
    depot.plan(upload=["slow 600"])
    threading.Timer(0.3, depot.stop.set).start()
    stopping = depot.clock.sleep
    depot.clock.sleep = lambda seconds: (stopping(seconds), depot.stop.wait(0.01))[0]  # type: ignore[method-assign]  # real time too

    result = depot.run()

    assert result.code is Exit.INTERRUPTED
    assert (depot.upload(video).status, depot.upload(video).retry_count) == ("IN_PROGRESS", 0)


# -- one delivery


def test_the_reasons_of_a_delivery_are_told_apart(depot: Depot) -> None:
    kinds = {"fail": Transient, "refuse": HostRefused, "limit 9": Postponed, "cut": OutcomeUnknown}
    for act, kind in kinds.items():
        depot.plan(upload=[act])
        _, error = depot.deliver(depot.put(act.encode(), code=act.partition(" ")[0]))
        assert type(error) is kind


def test_an_upload_that_is_there_is_neither_asked_for_nor_sent(depot: Depot) -> None:
    video = depot.put()
    depot.save_upload(video, status="SUCCESS", remote_id="77")

    upload, error = depot.deliver(video)

    assert (upload.remote_id, error, depot.calls()) == ("77", None, [])


def test_an_edit_made_while_it_is_being_sent_is_not_lost(depot: Depot) -> None:
    video = depot.put()
    depot.plan(find="ok")
    library = depot.library
    before = library.database.load(video.id)
    save, edited = library.saver(before), []

    def edit_first(one: object, _host: str) -> None:
        """A person edits between the look at the record and the intent."""
        edited.append(depot.save_state(video, title="Better", edited_at={"title": "2026-01-02T03:04:05Z"}))
        save(one)  # type: ignore[arg-type]  # a video

    assert before.file is not None
    asset = asset_of(before, Kind.VIDEO, ".mp4", before.file.sha256, before.file.size_bytes)
    deliver(before, "a", {"video": (depot.kept(video), asset)}, library.dispatch(), save, edit_first, depot.deadline())

    assert (depot.now(video).title, depot.upload(video).status) == ("Better", UploadStatus.SUCCESS)


def test_an_interrupted_delivery_raises_and_leaves_the_intent(depot: Depot) -> None:
    video = depot.put()
    depot.plan(upload=["slow 5"])
    depot.clock.sleep = lambda seconds: depot.stop.set()  # type: ignore[method-assign]  # somebody stops it while it waits

    with pytest.raises(Interrupted):
        depot.deliver(video)

    assert depot.upload(video).status == "IN_PROGRESS"
    assert depot.lines() == []


def test_the_parts_of_pictures_that_are_not_made_any_more_go_from_the_record(depot: Depot) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    cover = Asset("talk-000000000000", Kind.IMAGE, ".cover.jpg", "0" * 64, 1)
    sprite = Asset("talk-000000000000", Kind.IMAGE, ".sprite.jpg", "1" * 64, 1)
    both = {"cover": cover, "sprite": sprite}
    upload = uploads.succeeded(Upload(), "shop", both, {"cover": Receipt("1"), "sprite": Receipt("2")}, now)
    assert set(upload.parts) == {"cover", "sprite"}

    assert uploads.succeeded(upload, "shop", {"cover": cover}, {"cover": Receipt("3")}, now).parts == {}


# -- previews and pictures


def send_pictures(depot: Depot, video: Video) -> tuple[Upload, DailiesError | None]:
    """A cover and a sprite, to shop a."""
    files, library, before = dict[str, tuple[Path, Asset]](), depot.library, depot.now(video)
    for part in ("cover", "sprite"):
        path = depot.root / f"{part}.jpg"
        path.write_bytes(part.encode())
        digest = hashlib.sha256(part.encode()).hexdigest()
        files[part] = (path, asset_of(before, Kind.IMAGE, f".{part}.jpg", digest, len(part)))
    save = library.saver(before)
    after, error = deliver(before, "a", files, library.dispatch(), save, lambda *_: None, depot.deadline())
    return after.upload("a", Kind.IMAGE), error


def test_pictures_are_one_upload_of_several_parts(depot: Depot) -> None:
    video = depot.put()

    upload, error = send_pictures(depot, video)

    assert (upload.status, upload.remote_id, error) == ("SUCCESS", "0001", None)
    assert {part: one.remote_id for part, one in upload.parts.items()} == {"cover": "0001", "sprite": "0002"}


def test_of_pictures_only_those_are_sent_that_are_not_there_yet(depot: Depot) -> None:
    video = depot.put()
    depot.plan(upload=["ok", "die"])
    with pytest.raises(Killed):
        send_pictures(depot, video)
    depot.plan(upload=[])
    depot.library.hosts["a"].delete("0002", depot.deadline())

    upload, _ = send_pictures(depot, video)

    assert [one["name"] for one in depot.calls(call="upload")] == [
        f"{video.id}.{part}.jpg" for part in ("cover", "sprite", "sprite")
    ]
    assert (upload.status, len(upload.parts), len(depot.stock())) == ("SUCCESS", 2, 2)


def test_pictures_of_which_nobody_knows_whether_they_are_there_keep_no_video_waiting(depot: Depot) -> None:
    video = depot.put()
    depot.plan(upload=["lose"], find="silent")

    upload, error = send_pictures(depot, video)

    assert (upload.status, type(error)) == ("UNKNOWN", HostSilent)
