"""Uploads by hand, and what other programs are told of the registry."""

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dailies import VideoRegistry, cli, run_upload_stage, stage
from dailies.clock import Deadline
from dailies.database import parse_video
from dailies.errors import ConfigError, Exit, Interrupted, OutOfTime, Transient
from dailies.journal import Event
from dailies.locks import Single
from dailies.model import Claim, Kind, State, Video
from dailies.sharing import commit
from shops import KEY, Depot, Killed, depots, opened, written
from support import Shelf


@pytest.fixture
def depot() -> Iterator[Depot]:
    with depots() as found:
        yield found.set(a="", b="")


def send(depot: Depot, video_id: str, *names: str, **more: Any) -> list[stage.Sent]:
    return stage.upload(depot.library, video_id, list(names), depot.deadline(), **more)


def pending(depot: Depot) -> list[stage.Sent]:
    return stage.upload_pending(depot.library, depot.deadline())


def command(depot: Depot, *arguments: str, code: int | None = None) -> Result:
    """A command in this process, as the shop is known here only; its exit code is checked."""
    done = CliRunner().invoke(cli.app, ["--root", str(depot.root), *arguments], standalone_mode=False)
    found = cli._code_of(done.exception) if done.exception else done.return_value or done.exit_code
    assert code in (None, found), (found, done.output, done.exception)
    return done


# -- for other programs


def test_the_package_offers_the_stage_and_the_registry(depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    video = depot.put()
    monkeypatch.chdir(depot.root)

    assert VideoRegistry().can_upload(video.id, "a") == (True, "")
    assert run_upload_stage("talk", "a", metadata={"title": "Told", "tags": ["x"]})

    assert depot.calls("a", "upload")[0]["title"] == "Told"
    assert depot.now(video).title == "Talk"
    registry = VideoRegistry()
    assert [one.id for one in registry.get_all_videos()] == [video.id]
    assert registry.get_upload_status("talk", "a").status == "SUCCESS"
    assert registry.get_upload_status("talk", "b").status == "PENDING"
    assert registry.can_upload("talk", "a") == (False, "is there already")


def test_the_stage_says_false_where_the_host_did_not_take_it(depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    video = depot.put()
    depot.plan(upload=["fail"])
    monkeypatch.chdir(depot.root)

    assert not run_upload_stage(video.id, "a")

    assert (depot.upload(video).status, depot.upload(video).retry_count) == ("FAILED", 1)


def test_the_stage_says_false_where_another_run_is_at_work(
    depot: Depot, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    video = depot.put()
    monkeypatch.chdir(depot.root)

    with Single(depot.root / "work/run.lock").held():
        assert not run_upload_stage(video.id, "a")

    assert "held by process" in caplog.text
    assert depot.calls() == []


@pytest.mark.parametrize(
    ("video_id", "host", "metadata", "said"),
    [
        ("nobody", "a", {}, "no video has this id or code"),
        ("talk", "nowhere", {}, r"no section \[hosts.nowhere\]"),
        ("talk", "a", {"colour": "red"}, "hosts are told"),
    ],
)
def test_what_is_unknown_is_an_error(
    depot: Depot, monkeypatch: pytest.MonkeyPatch, video_id: str, host: str, metadata: dict[str, str], said: str
) -> None:
    depot.put()
    monkeypatch.chdir(depot.root)

    with pytest.raises(ConfigError, match=said):
        run_upload_stage(video_id, host, metadata)


def test_reasons_why_it_cannot_be_uploaded(depot: Depot) -> None:
    video = depot.set(a="", b="returns = false").put()
    registry = VideoRegistry(depot.library)

    assert registry.can_upload("nobody", "a")[1].startswith("nobody: no video")
    assert "no section" in registry.can_upload(video.id, "nowhere")[1]
    depot.save_upload(video, "a", status="FAILED_FINAL", error="too large")
    assert registry.can_upload(video.id, "a") == (False, "FAILED_FINAL: too large")
    depot.save_upload(video, "a", status="BLOCKED", error="a: has these bytes of x")
    assert registry.can_upload(video.id, "a") == (False, "BLOCKED: a: has these bytes of x")
    assert registry.can_upload(video.id, "b") == (True, "")
    depot.kept(video).unlink()
    assert "not kept here" in registry.can_upload(video.id, "b")[1]
    depot.save_state(video, claim=Claim(run_id="run-9", until="2027-01-01T00:00:00Z"))
    assert registry.can_upload(video.id, "b") == (False, "is in the hands of run run-9")
    depot.save_state(video, claim=None, file=None)
    assert registry.can_upload(video.id, "b") == (False, "has no MP4 yet; run `dailies run`")
    depot.save_state(video, deleted_at="2026-01-01T00:00:00Z")
    assert registry.can_upload(video.id, "b") == (False, "was removed from the library")


def test_whoever_can_upload_is_sent_and_whoever_cannot_is_not(depot: Depot) -> None:
    statuses = ("PENDING", "FAILED", "FAILED_FINAL", "BLOCKED", "RATE_LIMITED", "SUCCESS", "UNKNOWN", "IN_PROGRESS")
    for allowed in (False, True):
        for number, status in enumerate(statuses):
            video = depot.put(f"{number}{allowed}".encode(), f"talk{number}-{allowed}".lower(), duplicate_allowed=allowed)
            depot.save_upload(video, status=status, until="2027-01-01T00:00:00Z", retry_count=1)

            can, why_not = VideoRegistry(depot.library).can_upload(video.id, "a")
            (sent,) = send(depot, video.id, "a")

            assert can is (sent.error is None), (status, why_not, sent.error)


# -- direct uploads


def test_a_direct_upload_is_not_held_up_by_limits_of_ours(depot: Depot) -> None:
    depot.set(a="max_per_day = 1", b="")
    videos = [depot.put(code=f"talk{number}", content=b"%d" % number) for number in range(3)]
    depot.run(limit=2)
    waiting = next(video for video in videos if depot.upload(video, "a").status != "SUCCESS")

    (sent,) = send(depot, waiting.id, "a")

    assert (sent.error, len(depot.stock("a"))) == (None, 2)


def test_a_finished_mp4_that_is_not_kept_is_fetched_again_from_a_host(depot: Depot) -> None:
    video = depot.put()
    depot.run()
    assert not depot.kept(video).parent.parent.exists()

    (sent,) = send(depot, video.id, "b")

    assert sent.error is None
    assert (depot.asked("a")[-1], depot.stock("b")) == ("fetch", [f"{video.id}.mp4"])
    assert not depot.kept(video).parent.parent.exists(), "the work folder is gone afterwards"


def test_other_bytes_than_those_that_were_sent_are_not_passed_on(depot: Depot) -> None:
    video = depot.put()
    depot.run()
    depot.plan("a", fetch="wrong")

    (sent,) = send(depot, video.id, "b")

    assert "a gives back other bytes" in str(sent.error)
    assert (depot.stock("b"), depot.upload(video, "b").status) == ([], "PENDING")
    assert not depot.kept(video).parent.parent.exists()


def test_a_kept_file_that_a_disk_has_damaged_is_not_sent(depot: Depot) -> None:
    video = depot.put()
    depot.kept(video).write_bytes(b"Moving pictures")

    (sent,) = send(depot, video.id, "a")

    assert "not kept here" in str(sent.error)
    assert depot.stock("a") == []


def test_what_is_there_is_sent_again_by_force_only_and_the_earlier_copy_is_listed(depot: Depot) -> None:
    video = depot.put()
    send(depot, video.id, "a")
    assert "--force" in str(send(depot, video.id, "a")[0].error)

    (sent,) = send(depot, video.id, "a", is_forced=True)

    upload = depot.upload(video, "a")
    assert (sent.error, upload.remote_id, len(depot.stock("a"))) == (None, "0002", 2)
    assert [entry["remote_id"] for entry in upload.previous] == ["0001"]


def test_what_only_its_host_has_is_fetched_from_there_and_sent_there_again_by_force(depot: Depot) -> None:
    video = depot.set(a="").put()
    depot.run()

    (sent,) = send(depot, video.id, "a", is_forced=True)

    upload = depot.upload(video)
    assert (sent.error, upload.status, upload.remote_id, len(depot.stock())) == (None, "SUCCESS", "0002", 2)
    assert [entry["remote_id"] for entry in upload.previous] == ["0001"]


@pytest.mark.parametrize(
    ("plan", "is_untouched"),
    [
        ({"fetch": "wrong"}, True),
        ({"fetch": "fail"}, True),
        ({"find": "deny"}, True),
        ({"find": "limit 60"}, True),
        *(({"find": "silent", "upload": act}, False) for act in ("refuse", "deny", "fail", "limit 60")),
    ],
)
def test_what_is_there_stays_so_where_no_other_copy_is_sent(depot: Depot, plan: dict[str, str], is_untouched: bool) -> None:
    video = depot.set(a="").put(duplicate_allowed=True)
    depot.run()
    before = depot.now(video)
    depot.plan(**plan)

    (sent,) = send(depot, video.id, "a")

    upload = depot.upload(video)
    assert (sent.error is not None, upload.status, upload.remote_id, depot.now(video).state) == (True, "SUCCESS", "0001", "done")
    assert (depot.now(video) == before) is is_untouched


def test_by_force_too_what_is_there_stays_so_where_no_other_copy_is_sent(depot: Depot) -> None:
    video = depot.set(a="").put()
    depot.run()
    depot.plan(upload="refuse")

    send(depot, video.id, "a", is_forced=True)

    assert (depot.upload(video).status, depot.upload(video).remote_id) == ("SUCCESS", "0001")
    assert depot.run().code is Exit.DONE


def test_what_is_there_is_listed_while_another_copy_may_have_arrived(depot: Depot) -> None:
    video = depot.set(a="").put()
    depot.run()
    depot.plan(upload=["lose"], find=["fail"])

    send(depot, video.id, "a", is_forced=True)

    upload = depot.upload(video)
    assert (upload.status, [entry["remote_id"] for entry in upload.previous]) == ("UNKNOWN", ["0001"])


def test_what_was_given_up_stays_so_where_its_mp4_is_not_to_be_had(depot: Depot) -> None:
    video = depot.put()
    before = depot.save_upload(video, status="FAILED_FINAL", error="x", retry_count=4)
    depot.kept(video).write_bytes(b"Moving pictures")

    assert send(depot, video.id, "a", is_forced=True)[0].error is not None

    assert depot.now(video) == before


def test_a_disk_or_a_host_that_does_not_give_it_back_keeps_no_other_from_it(depot: Depot) -> None:
    video = depot.set("strategy = 'all'", a="", b="", c="").put()
    depot.save_state(video, hosts=("a", "b"))
    depot.run()
    depot.kept(video).parent.mkdir(parents=True)
    depot.kept(video).symlink_to("/proc/self/mem")  # a file that cannot be read
    depot.plan("a", fetch="cannot")

    (sent,) = send(depot, video.id, "c")

    assert (sent.error, depot.asked("b")[-1], depot.stock("c")) == (None, "fetch", [f"{video.id}.mp4"])


def test_a_video_that_had_failed_and_is_sent_by_hand_is_finished_by_the_next_run(depot: Depot) -> None:
    video = depot.put(hosts=("b",))
    depot.run()
    depot.plan("a", upload=["refuse"])
    depot.save_state(video, hosts=("a",), state=State.QUEUED)
    depot.kept(video).parent.mkdir(parents=True)
    depot.kept(video).write_bytes(b"moving pictures")
    depot.run()
    assert depot.now(video).state == "failed"

    assert send(depot, video.id, "a", is_forced=True)[0].error is None

    assert depot.now(video).state == "queued"
    assert depot.run().code is Exit.DONE
    assert (depot.now(video).state, len(depot.stock("a"))) == ("done", 1)


def test_while_the_same_bytes_are_being_sent_nothing_is_blocked_for_good(depot: Depot) -> None:
    depot.save_upload(depot.put(state=State.FAILED), status="IN_PROGRESS", attempt_id="aa")
    twin = depot.put(code="twin")

    (sent,) = send(depot, twin.id, "a")

    assert "is being sent the same bytes" in str(sent.error)
    assert (depot.upload(twin).status, depot.calls(call="upload")) == ("RATE_LIMITED", [])


@pytest.mark.parametrize("status", ["FAILED_FINAL", "BLOCKED"])
def test_what_was_given_up_is_sent_by_force(depot: Depot, status: str) -> None:
    video = depot.put()
    depot.save_upload(video, status=status, error="x", retry_count=4)
    assert send(depot, video.id, "a")[0].error is not None

    send(depot, video.id, "a", is_forced=True)

    assert (depot.upload(video).status, depot.upload(video).retry_count) == ("SUCCESS", 0)


def test_a_duplicate_is_sent_once_a_person_allows_it(depot: Depot) -> None:
    depot.put()
    depot.run()
    twin = depot.put(code="twin")
    assert "has these bytes" in str(send(depot, twin.id, "a")[0].error)
    assert VideoRegistry(depot.library).can_upload(twin.id, "a")[0] is False

    VideoRegistry(depot.library).set_duplicate_allowed(twin.id, True)

    assert VideoRegistry(depot.library).can_upload(twin.id, "a") == (True, "")
    assert send(depot, twin.id, "a")[0].error is None
    assert len(depot.stock("a")) == 2


def test_a_duplicate_that_a_person_allows_is_sent_by_the_next_run(depot: Depot) -> None:
    depot.put()
    depot.run()
    twin = depot.put(code="twin")
    depot.run()
    assert depot.upload(twin).status == "BLOCKED"

    VideoRegistry(depot.library).set_duplicate_allowed(twin.id, True)

    allowed = depot.now(twin)
    assert (allowed.state, allowed.duplicate_of, depot.upload(twin).status) == ("queued", None, "PENDING")
    depot.save_state(twin, media=twin.media)  # it is no file that could be looked at
    depot.kept(twin).parent.mkdir(parents=True)
    depot.kept(twin).write_bytes(b"moving pictures")
    assert depot.run().code is Exit.DONE
    assert (depot.now(twin).state, len(depot.stock("a"))) == ("done", 2)


def test_a_duplicate_is_sent_by_force(depot: Depot) -> None:
    depot.put()
    depot.run()
    twin = depot.put(code="twin")

    assert send(depot, twin.id, "a", is_forced=True)[0].error is None


@pytest.fixture
def silent(depot: Depot) -> Depot:
    """Of its only video nobody knows whether it is there."""
    depot.put()
    depot.plan("a", upload=["lose"], find="silent")
    depot.run()
    return depot


def test_a_person_who_has_looked_says_that_it_is_there(silent: Depot) -> None:
    (video,) = silent.library.database.videos()

    stage.record_as_sent(silent.library, video.id, "a", "77")
    result = silent.run()

    assert (silent.upload(video).status, silent.upload(video).remote_id) == ("SUCCESS", "77")
    assert (silent.now(video).state, len(silent.calls("a", "upload")), result.code) == ("done", 1, Exit.DONE)
    assert [line["upload_id"] for line in silent.lines()][-1] == "77"


@pytest.mark.parametrize("remote_id", ["", "  ", "a\nb", "a\x1b[2J", "x" * 201])
def test_what_is_no_id_of_a_host_is_not_recorded(silent: Depot, remote_id: str) -> None:
    (video,) = silent.library.database.videos()

    with pytest.raises(ConfigError, match="no id of a host"):
        stage.record_as_sent(silent.library, video.id, "a", remote_id)

    command(silent, "upload", video.id, "a", "--is-there", remote_id, code=2)
    assert (silent.upload(video).status, len(silent.calls("a", "upload"))) == ("UNKNOWN", 1)


def test_another_id_of_what_is_there_is_recorded_by_force_only_and_the_earlier_one_is_listed(depot: Depot) -> None:
    video = depot.put()
    depot.run()
    before = depot.now(video)
    command(depot, "upload", video.id, "a", "--is-there", "77", code=2)
    assert depot.now(video) == before
    assert stage.record_as_sent(depot.library, video.id, "a", "0001").upload("a", Kind.VIDEO).previous == ()

    command(depot, "upload", video.id, "a", "--is-there", "77", "--force", code=0)

    upload = depot.upload(video)
    assert (upload.status, upload.remote_id, upload.epoch) == ("SUCCESS", "77", before.upload("a", Kind.VIDEO).epoch + 1)
    assert [entry["remote_id"] for entry in upload.previous] == ["0001"]


def test_beside_a_run_nothing_is_recorded_as_sent(silent: Depot) -> None:
    (video,) = silent.library.database.videos()

    with Single(silent.root / "work/run.lock").held(), pytest.raises(Transient, match="held by process"):
        stage.record_as_sent(silent.library, video.id, "a", "77")

    assert silent.upload(video).status == "UNKNOWN"


def test_a_person_who_has_looked_sends_it_again_by_force(silent: Depot) -> None:
    (video,) = silent.library.database.videos()
    assert send(silent, video.id, "a")[0].error is not None
    assert len(silent.calls("a", "upload")) == 1

    assert send(silent, video.id, "a", is_forced=True)[0].error is None

    assert silent.upload(video).status == "SUCCESS"
    assert silent.run().code is Exit.DONE
    assert silent.now(video).state == "done"


def test_force_still_asks_a_host_that_can_tell(depot: Depot) -> None:
    video = depot.put()
    depot.plan("a", upload=["die"])
    with pytest.raises(Killed):
        depot.run()

    send(depot, video.id, "a", is_forced=True)

    assert (depot.upload(video).status, depot.stock("a")) == ("SUCCESS", [f"{video.id}.mp4"])


def test_a_video_in_the_hands_of_another_run_is_left_to_it(depot: Depot) -> None:
    video = depot.put(claim=Claim(run_id="run-9", until="2027-01-01T00:00:00Z"))

    assert "in the hands of run run-9" in str(send(depot, video.id, "a", is_forced=True)[0].error)
    assert pending(depot) == []
    assert depot.calls("a") == []


def test_beside_a_run_nothing_is_sent_by_hand(depot: Depot) -> None:
    video = depot.put()

    with Single(depot.root / "work/run.lock").held(), pytest.raises(Transient, match="held by process"):
        send(depot, video.id, "a")

    assert depot.calls("a") == []


def test_a_stop_ends_an_upload_by_hand_and_leaves_the_intent(depot: Depot) -> None:
    video = depot.put()
    depot.plan("a", upload=["slow 60"])
    depot.clock.sleep = lambda seconds: depot.stop.set()  # type: ignore[method-assign]  # somebody stops it while it waits

    with pytest.raises(Interrupted):
        send(depot, video.id, "a")

    assert depot.upload(video).status == "IN_PROGRESS"


# -- all that is pending


def test_all_that_is_pending_goes_where_a_run_would_send_it(depot: Depot) -> None:
    first, second = depot.put(), depot.put(b"other", "other")
    depot.plan("a", upload=["fail"])

    sent = pending(depot)

    assert len(depot.stock("a")) + len(depot.stock("b")) == 2
    assert {depot.now(video).is_published() for video in (first, second)} == {True}
    assert [one.error is None for one in sent].count(True) == 2
    assert pending(depot) == []


@pytest.mark.parametrize("plan", [{"upload": ["lose"], "find": ["ok", "fail"]}, {"upload": ["lose"], "find": "silent"}])
def test_while_it_may_have_arrived_pending_goes_to_no_other_host(depot: Depot, plan: dict[str, Any]) -> None:
    video = depot.put()
    depot.plan("a", **plan)

    pending(depot)

    assert (depot.upload(video, "a").status, depot.calls("b")) == ("UNKNOWN", [])


def test_a_duplicate_on_the_first_host_is_not_pending_on_the_next(depot: Depot) -> None:
    depot.put()
    depot.run()
    depot.put(code="twin")

    pending(depot)
    pending(depot)

    assert depot.calls("b") == []


def test_what_is_not_to_be_had_is_not_pending(depot: Depot) -> None:
    video = depot.put(state=State.FAILED)
    depot.kept(video).unlink()

    assert pending(depot) == []


def test_a_host_that_came_later_is_given_what_is_finished(depot: Depot) -> None:
    video = depot.set(a="").put()
    depot.run()
    depot.set("strategy = 'all'", a="", b="")

    pending(depot)

    assert (depot.stock("b"), depot.now(video).state) == ([f"{video.id}.mp4"], "done")


# -- commands


def test_uploads_are_listed_and_filtered(depot: Depot) -> None:
    depot.set("strategy = 'all'", a="", b="").put()
    depot.plan("b", upload=["refuse"])
    depot.run()

    everything = json.loads(command(depot, "uploads", "--json", code=0).stdout)
    assert [(row["id"][:4], row["host"], row["kind"], row["status"]) for row in everything] == [
        ("talk", "a", "video", "SUCCESS"),
        ("talk", "b", "video", "FAILED_FINAL"),
    ]
    assert everything[0]["watch_url"] == "https://a.example/0001"
    assert [row["host"] for row in json.loads(command(depot, "uploads", "--json", "--host", "b").stdout)] == ["b"]
    assert [row["host"] for row in json.loads(command(depot, "uploads", "--json", "--status", "success").stdout)] == ["a"]
    assert json.loads(command(depot, "uploads", "--json", "--host", "b", "--status", "SUCCESS").stdout) == []
    command(depot, "uploads", "--status", "WELL", code=2)
    assert "known: a, b" in str(command(depot, "uploads", "--host", "b", "--host", "nowhere", code=2).exception)
    depot.set(a="")
    assert [row["host"] for row in json.loads(command(depot, "uploads", "--json", "--host", "b").stdout)] == ["b"]


def test_upload_prints_where_it_is_and_its_exit_code_says_whether_all_is_well(depot: Depot) -> None:
    video = depot.put()

    done = command(depot, "upload", "talk", "a", code=0)

    assert done.stdout == f"{video.id}\ta\thttps://a.example/0001\n"
    command(depot, "upload", "talk", "a", code=1)
    command(depot, "upload", "talk", "a", "--force", code=0)
    command(depot, "upload", "--all-pending", code=0)


@pytest.mark.parametrize(
    "arguments",
    [
        ["upload"],
        ["upload", "talk"],
        ["upload", "talk", "nowhere"],
        ["upload", "nobody", "a"],
        ["upload", "talk", "a", "--all-pending"],
        ["upload", "talk", "a", "b", "--is-there", "7"],
        ["allow-duplicates", "talk", "perhaps"],
        ["allow-duplicates", "nobody", "on"],
    ],
)
def test_what_makes_no_sense_is_exit_2_and_touches_nothing(depot: Depot, arguments: list[str]) -> None:
    depot.put()

    command(depot, *arguments, code=2)

    assert depot.calls("a") == []


def test_beside_a_run_upload_says_who_is_at_work(depot: Depot) -> None:
    depot.put()

    with Single(depot.root / "work/run.lock").held():
        done = command(depot, "upload", "talk", "a", code=1)

    assert "held by process" in str(done.exception)


def test_is_there_and_allow_duplicates_are_commands(depot: Depot) -> None:
    video = depot.put()

    command(depot, "upload", "talk", "a", "--is-there", "77", code=0)
    command(depot, "allow-duplicates", "talk", "on", code=0)

    assert (depot.upload(video).remote_id, depot.now(video).duplicate_allowed) == ("77", True)
    command(depot, "allow-duplicates", "talk", "off", code=0)
    assert not depot.now(video).duplicate_allowed


def test_add_names_the_hosts_of_one_video(depot: Depot) -> None:
    file = depot.root / "media" / "new.mp4"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"x")

    command(depot, "add", str(file), "--host", "b", "--host", "b", code=0)

    (video,) = depot.library.database.videos()
    assert video.hosts == ("b",)
    command(depot, "add", str(file), "--host", "nowhere", code=2)


def test_no_secret_stands_in_what_is_committed(depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    depot.set(a="", b="").put()
    settings = depot.root / "dailies.toml"
    settings.write_text(settings.read_text().replace("sidecars = false", "sidecars = false\ncatalogues = ['tmdb']"))
    monkeypatch.setenv("TMDB_TOKEN", KEY)
    depot.plan("a", upload="fail")
    depot.plan("b", upload="fail")

    depot.run()
    pending(depot)

    committed = [
        path for path in depot.root.rglob("*") if path.is_file() and "work" not in path.parts and "shops" not in path.parts
    ]
    told = b"".join(path.read_bytes() for path in committed)
    assert b"is down, said somebody who knows" in told
    assert KEY.encode() not in told


# -- two machines


@pytest.fixture
def here(shelf: Shelf) -> Depot:
    """In git, with a remote that has a video which waits to be sent."""
    (shelf.root / "dailies.toml").write_text(written(a="").replace("commit = false", "heartbeat = 0"))
    depot = Depot(shelf.root)
    depot.put()
    shelf.git("push", "-q", "origin", "HEAD:refs/heads/main")
    published(depot)
    return depot


def published(depot: Depot) -> None:
    commit(depot.library, threading.Event())


def on_remote(depot: Depot, video: Video) -> Video:
    path = depot.library.database.path_of(video.id).relative_to(depot.root)
    shown = subprocess.run(["git", "show", f"main:{path}"], cwd=depot.root.parent / "remote.git", capture_output=True, check=True)
    return parse_video(shown.stdout)


def elsewhere(depot: Depot, tmp_path: Path) -> Depot:
    """Another machine."""
    remote = depot.root.parent / "remote.git"
    subprocess.run(["git", "clone", "-q", f"file://{remote}", str(tmp_path / "other")], check=True)
    (tmp_path / "other/dailies.toml").write_text((depot.root / "dailies.toml").read_text())
    return Depot(tmp_path / "other")


def test_what_a_run_on_another_machine_has_in_hand_is_not_sent_by_hand(here: Depot, tmp_path: Path) -> None:
    (video,) = here.library.database.videos()
    with opened():
        other = elsewhere(here, tmp_path)
        other.save_state(video, claim=Claim(run_id="run-9", until="2027-01-01T00:00:00Z"))
        published(other)

        (sent,) = send(here, video.id, "a")

        assert "in the hands of run run-9" in str(sent.error)
        assert (pending(here), here.calls()) == ([], [])


@pytest.mark.parametrize("is_all", [False, True])
def test_what_is_sent_by_hand_is_claimed_where_other_machines_see_it(here: Depot, tmp_path: Path, is_all: bool) -> None:
    (video,) = here.library.database.videos()
    with opened():
        (sent,) = pending(here) if is_all else send(here, video.id, "a")

        claimed = on_remote(here, video)
        assert (sent.error, here.upload(video).status, here.now(video).claim) == (None, "SUCCESS", None)
        assert (claimed.upload("a", Kind.VIDEO).status, claimed.claim is not None) == ("PENDING", True)
        other = elsewhere(here, tmp_path)
        assert "in the hands of" in str(send(other, video.id, "a")[0].error)
        published(here)
        assert (on_remote(here, video).claim, on_remote(here, video).is_on("a")) == (None, True)
        assert "is on a already" in str(send(other, video.id, "a")[0].error)


def test_after_an_upload_in_git_it_is_told_what_publishes_the_record(here: Depot) -> None:
    with opened():
        assert "`dailies commit`" in command(here, "upload", "talk", "a", code=0).stderr


def test_without_git_nothing_is_told_of_it(depot: Depot) -> None:
    depot.put()

    assert "commit" not in command(depot, "upload", "talk", "a", code=0).stderr


def test_without_its_remote_an_upload_by_hand_goes_on(here: Depot) -> None:
    (video,) = here.library.database.videos()
    (here.root.parent / "remote.git").rename(here.root.parent / "gone.git")
    with opened():
        assert send(here, video.id, "a")[0].error is None


def test_events_of_two_machines_are_joined_and_a_file_that_was_deleted_comes_back(shelf: Shelf, tmp_path: Path) -> None:
    def note(one: Shelf, who: str) -> None:
        library = one.open()
        library.journal.write(
            Event.model_validate(
                {"timestamp": "2026-01-02T03:04:05Z", "video_id": who, "host": "a", "kind": "video", "status": "FAILED"}
            )
        )

    def publish(one: Shelf, name: str) -> None:
        library = one.open()
        library.database.save(Depot(one.root).video(b"", name))
        commit(library, threading.Event())

    def known(one: Shelf) -> list[str]:
        return [event.video_id for event in one.open().journal.events()]

    shelf.git("push", "-q", "origin", "HEAD:refs/heads/main")
    subprocess.run(["git", "clone", "-q", f"file://{shelf.remote}", str(tmp_path / "other")], check=True)
    other = Shelf(tmp_path / "other", shelf.remote)
    note(shelf, "ours")
    note(other, "theirs")

    publish(shelf, "one")
    publish(other, "two")
    assert known(other) == ["ours", "theirs"]
    publish(shelf, "three")
    assert known(shelf) == ["ours", "theirs"]
    (shelf.root / "database/events/2026-01.jsonl").unlink()
    publish(shelf, "four")

    assert known(shelf) == ["ours", "theirs"]
    shown = subprocess.run(["git", "show", "main:database/events/2026-01.jsonl"], cwd=shelf.remote, capture_output=True, check=True)
    assert [json.loads(line)["video_id"] for line in shown.stdout.splitlines()] == ["ours", "theirs"]


def test_a_deadline_ends_what_is_pending(depot: Depot) -> None:
    depot.put()
    depot.plan("a", upload=["slow 60"])

    with pytest.raises(OutOfTime):
        stage.upload_pending(depot.library, Deadline.after(depot.clock, 10))
