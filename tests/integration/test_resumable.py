"""Resumable uploads, by both hosts that speak them: cut, lost, expired, limited, and gone on with in the next run."""

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dailies.clock import Deadline
from dailies.errors import (
    Category,
    ConfigError,
    Denied,
    HostRefused,
    Interrupted,
    OutcomeUnknown,
    OutOfTime,
    RateLimited,
    Transient,
    Waiting,
)
from dailies.hosts.host import Asset, Host, Receipt, Session, Transfer
from hosts_resumable import UNIT, PeertubeServer, ResumableServer, YoutubeServer, film, peertube, youtube
from loopback import Call, Fault, Point, Reply
from support import FakeClock

CONTENT = bytes(range(251)) * 13_000  # 3.2 MB, no multiple of anything


@dataclass
class Stage:
    """One host, one film, one session on disk. A run is a new adapter that knows only what is there."""

    server: ResumableServer
    make: Callable[..., Host]
    folder: Path
    clock: FakeClock
    asset: Asset

    @property
    def file(self) -> Path:
        return self.folder / "film.mp4"

    @property
    def saved(self) -> dict[str, Any]:
        path = self.folder / "session.json"
        return json.loads(path.read_bytes()) if path.exists() else {}

    def transfer(self, seconds: float = 36_000, stop: threading.Event | None = None) -> Transfer:
        return Transfer(Deadline.after(self.clock, seconds, stop), Session(self.folder / "session.json"))

    def run(self, transfer: Transfer | None = None, **settings: Any) -> Receipt:
        return self.make(self.server, self.folder, self.clock, **settings).upload(
            self.file, self.asset, transfer or self.transfer()
        )

    def find(self) -> Receipt | None:
        return self.make(self.server, self.folder, self.clock).find(self.asset, self.transfer())


def stage_of(server: ResumableServer, folder: Path, clock: FakeClock) -> Stage:
    make: Callable[..., Host] = youtube if isinstance(server, YoutubeServer) else peertube
    return Stage(server, make, folder, clock, film(folder / "film.mp4", CONTENT))


@pytest.fixture(params=[YoutubeServer, PeertubeServer])
def stage(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Stage]:
    with request.param() as server:
        yield stage_of(server, tmp_path, clock)


@pytest.fixture
def tube(tmp_path: Path, clock: FakeClock) -> Iterator[Stage]:
    """YouTube, whose sessions outlive the upload."""
    with YoutubeServer() as server:
        yield stage_of(server, tmp_path, clock)


def test_a_file_arrives_whole_and_is_named_by_its_bytes(stage: Stage) -> None:
    receipt = stage.run()

    assert stage.server.stored() == [CONTENT]
    (video,) = stage.server.videos.values()
    assert (video.id, video.filename) == (receipt.remote_id, stage.asset.marked_name)
    assert receipt.watch_url
    assert not receipt.is_settled


def test_progress_counts_the_bytes_of_the_file(stage: Stage) -> None:
    told: list[int] = []

    stage.run(replace(stage.transfer(), progress=told.append), chunk_size=UNIT * 4)

    assert told == sorted(told)
    assert told[-1] == len(CONTENT)
    assert len(set(told)) > 8


def test_the_session_is_on_disk_before_the_first_byte_leaves(stage: Stage) -> None:
    seen: list[dict[str, Any]] = []
    stage.server.on_point = lambda point, what: seen.append(stage.saved) if (point, what[:3]) == (Point.BEGUN, "PUT") else None

    stage.run()

    assert {"address", "name", "sha256", "size_bytes", "created_at"} == set(seen[0])
    assert (stage.folder / "session.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_session_that_a_full_disk_does_not_take_waits_for_space(stage: Stage, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Waiting, match="its disk is full; free some space") as raised:
        stage.run()

    assert raised.value.category is Category.NO_SPACE
    assert stage.server.sent == []


def test_a_session_that_cannot_be_kept_is_a_matter_for_a_person(stage: Stage) -> None:
    (stage.folder / "file").touch()
    path = stage.folder / "file" / "session.json"

    with pytest.raises(ConfigError, match=r"session\.json: cannot be written: .+; make its folder writable"):
        stage.run(Transfer(stage.transfer().deadline, Session(path)))

    assert stage.server.sent == []


def test_a_file_goes_out_in_requests_of_the_size_that_is_set(stage: Stage) -> None:
    stage.run(chunk_size=UNIT * 4)

    assert stage.server.sent == [(start, min(UNIT * 4, len(CONTENT) - start)) for start in range(0, len(CONTENT), UNIT * 4)]
    assert stage.server.stored() == [CONTENT]


def test_all_that_is_left_goes_out_in_one_request_where_no_size_is_set(stage: Stage) -> None:
    stage.run(chunk_size=0)

    assert stage.server.sent == [(0, len(CONTENT))]
    assert len([call for call in stage.server.calls if call.method == "PUT"]) == 1  # a new session is not asked what it has


def test_a_cut_goes_on_from_what_has_arrived(stage: Stage) -> None:
    stage.server.breaks("PUT", Fault.RESET, 3)

    stage.run()

    assert stage.server.stored() == [CONTENT]
    assert stage.server.begun == 1
    ((start, length),) = stage.server.sent  # what was cut never came whole
    assert start > len(CONTENT) // 2 - UNIT
    assert start + length == len(CONTENT)


@pytest.mark.parametrize("fault", [Fault.LOST_ANSWER, Fault.GARBLED])
def test_a_lost_or_unreadable_answer_to_the_last_byte_is_asked_for(stage: Stage, fault: Fault) -> None:
    stage.server.breaks("PUT", fault)

    receipt = stage.run(chunk_size=0)

    assert list(stage.server.videos) == [receipt.remote_id]
    assert [length for _, length in stage.server.sent] == [len(CONTENT)]


@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.HTML, Fault.LIMITED, Fault.LIMITED_DATE, Fault.SLOW_DOWN])
def test_trouble_on_the_way_is_waited_out_and_leaves_one_video(stage: Stage, fault: Fault) -> None:
    stage.clock.moment = datetime.now(UTC)  # some say until when
    stage.server.breaks("PUT", fault, 3)

    stage.run(chunk_size=UNIT * 4)

    assert stage.server.stored() == [CONTENT]
    assert stage.server.begun == 1


def test_the_next_run_goes_on_with_the_saved_session(stage: Stage) -> None:
    stage.server.breaks("PUT", Fault.RESET, 40)
    with pytest.raises(Transient):
        stage.run()
    stage.server._faults.clear()
    (upload,) = stage.server.uploads.values()
    arrived = upload.received

    stage.run()

    assert arrived > 0
    assert stage.server.sent == [(arrived, len(CONTENT) - arrived)]
    assert stage.server.stored() == [CONTENT]
    assert stage.server.begun == 1


def test_an_upload_that_was_done_in_a_dead_run_is_not_sent_again(tube: Stage) -> None:
    first = tube.run()
    calls = len(tube.server.calls)

    assert tube.find() == first
    assert tube.run() == first
    assert [call.method for call in tube.server.calls[calls:] if call.path != "/token"] == ["PUT", "PUT"]  # asked, no more
    assert tube.server.stored() == [CONTENT]


def test_an_unfinished_session_is_certain_absence(stage: Stage) -> None:
    stage.server.breaks("PUT", Fault.RESET, 40)
    with pytest.raises(Transient):
        stage.run()
    stage.server._faults.clear()
    before = len(stage.server.calls)

    assert stage.find() is None
    assert [call.method for call in stage.server.calls[before:] if "token" not in call.path and "oauth" not in call.path] == ["PUT"]


def test_an_expired_session_is_begun_anew_only_behind_a_look(stage: Stage) -> None:
    stage.server.breaks("PUT", Fault.RESET, 40)
    with pytest.raises(Transient):
        stage.run()
    stage.server._faults.clear()
    stage.server.expire()
    before = len(stage.server.calls)

    stage.run()

    asked = [call for call in stage.server.calls[before:] if call.path.endswith(("/playlistItems", "/users/me/videos"))]
    assert len(asked) == 2  # at once, and when the listing had time to take it up
    assert sum(stage.clock.slept) >= 30
    assert stage.server.stored() == [CONTENT]


def test_a_file_whose_session_expired_behind_it_is_found_not_sent_again(stage: Stage) -> None:
    first = stage.run()
    stage.server.expire()

    again = stage.run()

    assert again.remote_id == first.remote_id
    assert stage.server.stored() == [CONTENT]
    assert stage.server.begun == 1


def test_an_expired_session_begins_nothing_while_the_host_cannot_be_asked(stage: Stage) -> None:
    stage.run()
    stage.server.expire()
    saved = stage.saved
    stage.server.breaks("GET .*(playlistItems|users/me/videos)", Fault.SERVER_ERROR, 40)

    with pytest.raises(Transient):
        stage.run()

    assert stage.server.begun == 1
    assert stage.saved == saved  # so that the next run asks too


def test_an_answer_that_stays_lost_is_unknown(tube: Stage) -> None:
    tube.server.breaks("PUT", Fault.GARBLED, 40)

    with pytest.raises(OutcomeUnknown, match="asked later"):
        tube.run()

    assert len(tube.server.videos) == 1
    assert tube.saved
    tube.server._faults.clear()
    assert tube.find() is not None


def test_a_limit_of_the_step_behind_the_last_byte_leaves_the_outcome_unknown(stage: Stage) -> None:
    real = stage.server.reply
    stage.server.reply = lambda call: Reply(503) if call.method == "PUT" else real(call)  # type: ignore[method-assign]
    limit = stage.transfer().deadline.within(5, lambda: Transient("publish took longer than 5 s", Category.TIMEOUT))

    with pytest.raises(OutcomeUnknown, match="asked later"):
        stage.run(replace(stage.transfer(), deadline=limit))

    assert stage.saved


def test_a_limit_of_the_step_before_the_last_byte_is_its_own(stage: Stage) -> None:
    stage.server.unit = 1 << 40  # nothing stays of what is cut
    stage.server.breaks("PUT", Fault.RESET, 400)
    limit = stage.transfer().deadline.within(5, lambda: Transient("publish took longer than 5 s", Category.TIMEOUT))

    with pytest.raises(Transient, match="publish took longer") as raised:
        stage.run(replace(stage.transfer(), deadline=limit), chunk_size=UNIT * 4)

    assert type(raised.value) is Transient


def test_a_session_that_is_gone_behind_the_last_byte_at_a_host_that_cannot_be_asked_is_unknown(tube: Stage) -> None:
    real = tube.server._state_of
    tube.server._state_of = lambda upload: real(upload) and tube.server.error(404, "gone", "")  # type: ignore[method-assign]
    tube.server.breaks("GET .*playlistItems", Fault.SERVER_ERROR, 40)

    with pytest.raises(OutcomeUnknown, match="asked later"):
        tube.run()

    assert len(tube.server.videos) == 1
    assert tube.saved


def test_cuts_without_end_are_given_up_after_a_few(stage: Stage) -> None:
    stage.server.unit = 1 << 40  # nothing stays of what is cut
    stage.server.breaks("PUT", Fault.RESET, 400)

    with pytest.raises(Transient) as raised:
        stage.run(chunk_size=UNIT * 4)

    assert not isinstance(raised.value, OutcomeUnknown)  # the last byte never left
    assert len(stage.server._faults) > 350
    assert stage.server.videos == {}


def test_a_part_in_the_middle_without_an_answer_is_no_unknown_upload(stage: Stage) -> None:
    real = stage.server.reply

    def reply(call: Call) -> Reply:
        if call.method == "PUT" and call.body.size:
            raise ConnectionResetError
        return real(call)

    stage.server.reply = reply  # type: ignore[method-assign]
    with pytest.raises(Transient) as raised:
        stage.run(chunk_size=UNIT)

    assert not isinstance(raised.value, OutcomeUnknown)


def test_progress_gives_a_bad_line_more_tries(stage: Stage) -> None:
    cuts: list[int] = []

    def cut_each(point: Point, what: str) -> None:
        if point is Point.HALF and what.startswith("PUT") and len(cuts) < 9:
            cuts.append(1)
            stage.server.breaks("PUT", Fault.RESET)

    stage.server.on_point = cut_each
    stage.server.unit = 1

    stage.run()

    assert stage.server.stored() == [CONTENT]


def test_a_wait_that_the_host_asks_for_behind_the_last_byte_is_obeyed(stage: Stage) -> None:
    """A gateway's 503 there says nothing of the file; the session does, once the wait is over."""
    busy = iter([True])
    real = stage.server.reply

    def reply(call: Call) -> Reply:
        said = real(call)
        return Reply(503, b"", {"Retry-After": "300"}) if call.method == "PUT" and next(busy, False) else said

    stage.server.reply = reply  # type: ignore[method-assign]
    stage.run(chunk_size=0)

    assert sum(stage.clock.slept) >= 300
    assert stage.server.sent == [(0, len(CONTENT))]
    assert stage.server.stored() == [CONTENT]


def test_a_wait_that_the_host_asks_for_is_obeyed(stage: Stage) -> None:
    answers = iter([503, 429])
    real = stage.server.reply

    def reply(call: Call) -> Reply:
        if call.method == "PUT" and (status := next(answers, None)):
            return Reply(status, b"slowly", {"Retry-After": "300"})
        return real(call)

    stage.server.reply = reply  # type: ignore[method-assign]
    stage.run()

    assert sum(stage.clock.slept) >= 600
    assert stage.server.stored() == [CONTENT]


@pytest.mark.parametrize(("wait", "seconds"), [("7200", 36_000.0), ("300", 200.0)])
def test_a_wait_longer_than_patience_or_time_is_for_later(stage: Stage, wait: str, seconds: float) -> None:
    real = stage.server.reply
    stage.server.reply = lambda call: (  # type: ignore[method-assign]
        Reply(429, b"slowly", {"Retry-After": wait}) if call.method == "PUT" else real(call)
    )

    with pytest.raises((RateLimited, OutcomeUnknown)):
        stage.run(stage.transfer(seconds))

    assert sum(stage.clock.slept) < 100


def test_an_access_token_that_ends_on_the_way_is_renewed(stage: Stage) -> None:
    def ends(point: Point, what: str) -> None:
        if point is Point.HALF and what.startswith("PUT") and not stage.server.token_ends and stage.server.tokens_given == 1:
            stage.server.token_ends = 1

    stage.server.on_point = ends
    stage.run(chunk_size=UNIT * 4)

    assert stage.server.tokens_given >= 2
    assert stage.server.stored() == [CONTENT]


def test_a_question_that_is_not_taken_is_asked_with_a_new_token(stage: Stage) -> None:
    stage.server.breaks("PUT", Fault.RESET, 40)
    with pytest.raises(Transient):
        stage.run()
    stage.server._faults.clear()
    stage.server.token_ends = 1

    assert stage.find() is None  # the session is there, and waits
    assert stage.server.tokens_given == 3


def test_a_session_that_takes_no_token_is_denied(stage: Stage) -> None:
    real = stage.server.reply
    stage.server.reply = lambda call: stage.server.error(401, "authError", "no") if call.method == "PUT" else real(call)  # type: ignore[method-assign]

    with pytest.raises((Denied, OutcomeUnknown)):
        stage.run()

    assert stage.saved


def test_no_message_shows_the_address_of_a_session(tube: Stage) -> None:
    tube.server.breaks("PUT", Fault.RESET, 40)
    with pytest.raises(Transient) as raised:
        tube.run()
    tube.server._faults.clear()
    told = [str(raised.value), repr(raised.value)]
    real = tube.server.reply

    def echo(call: Call) -> Reply:
        return tube.server.error(403, "forbidden", f"no {call.query['upload_id']}") if call.method == "PUT" else real(call)

    tube.server.reply = echo  # type: ignore[method-assign]
    with pytest.raises(Denied, match="forbidden: no") as refused:
        tube.run()

    assert "secret" in tube.saved["address"]
    assert "session-0" not in " ".join([*told, str(refused.value), repr(refused.value)])


@pytest.mark.parametrize(
    "location",
    [
        "",
        "https://evil.example/?upload_id=1",
        "http://127.0.0.2.example/u",
        "//user:pw@127.0.0.1/u",
        "ftp://127.0.0.1/u",
        "https://[::1",
    ],
)
def test_bytes_go_to_no_address_but_the_hosts_own(stage: Stage, location: str) -> None:
    stage.server.location = location

    with pytest.raises(Transient, match="names no address of its own"):
        stage.run()

    assert stage.saved == {}


def test_a_relative_address_is_the_hosts_own(stage: Stage) -> None:
    stage.server.begun = 1
    stage.server.location = f"{stage.server.upload_path}?upload_id=secret/session-00000002"
    stage.server.name_of_session = lambda told, size: "secret/session-00000002"  # type: ignore[method-assign]

    stage.run()

    assert stage.server.stored() == [CONTENT]


def test_a_saved_session_of_other_bytes_or_another_host_is_not_used(stage: Stage) -> None:
    transfer = stage.transfer()
    foreign = {"address": f"{stage.server.url}/x?upload_id=secret", "sha256": "0" * 64, "size_bytes": len(CONTENT)}
    for content in (foreign, {**foreign, "sha256": stage.asset.sha256, "address": "https://evil.example/x"}, {"address": 7}):
        transfer.session.save(content)
        stage.run(stage.transfer())

    assert all(call.path == stage.server.upload_path for call in stage.server.calls if call.method == "PUT")


@pytest.mark.parametrize("said", ["bytes=0-99999999999", "bytes=5-9", "all of it", "bytes=0--7"])
def test_a_range_that_cannot_be_is_no_progress(stage: Stage, said: str) -> None:
    stage.server.incomplete = lambda upload: Reply(308, headers={"Range": said})  # type: ignore[method-assign]

    with pytest.raises(Transient):
        stage.run(chunk_size=UNIT * 4)

    assert stage.server.videos == {}


def test_a_host_that_has_all_and_is_not_done_is_asked_again(tube: Stage) -> None:
    real = tube.server._state_of
    answers = iter([True, True])

    def state(upload: Any) -> Reply:
        if upload.received == upload.size and next(answers, False):
            return tube.server.incomplete(upload)
        return real(upload)

    tube.server._state_of = state  # type: ignore[method-assign]
    tube.run()

    assert tube.server.sent == [(0, len(CONTENT))]
    assert tube.server.stored() == [CONTENT]


def test_a_refusal_is_final_and_forgets_the_session(stage: Stage) -> None:
    real = stage.server._state_of
    stage.server._state_of = lambda upload: (  # type: ignore[method-assign]
        stage.server.error(422, "unreadable", "no video") if upload.received == upload.size else real(upload)
    )

    with pytest.raises(HostRefused, match="unreadable"):
        stage.run()

    assert stage.saved == {}


def test_time_that_is_over_keeps_the_session_for_the_next_run(stage: Stage) -> None:
    stage.server.on_point = lambda point, what: stage.clock.advance(3600) if (point, what[:3]) == (Point.HALF, "PUT") else None
    with pytest.raises(OutOfTime):
        stage.run(stage.transfer(1800), chunk_size=UNIT * 4)
    stage.server.on_point = lambda _point, _what: None

    stage.run()

    assert stage.server.begun == 1
    assert stage.server.stored() == [CONTENT]


def test_an_interruption_keeps_the_session_for_the_next_run(stage: Stage) -> None:
    stop = threading.Event()
    stage.server.on_point = lambda point, what: stop.set() if (point, what[:3]) == (Point.HALF, "PUT") else None
    with pytest.raises(Interrupted):
        stage.run(stage.transfer(stop=stop), chunk_size=UNIT * 4)

    stage.run()

    assert stage.server.begun == 1
    assert stage.server.stored() == [CONTENT]


def test_a_file_that_is_not_what_was_said_is_not_begun(stage: Stage) -> None:
    stage.file.write_bytes(b"shorter")

    with pytest.raises(Transient, match="instead of"):
        stage.run()

    assert stage.server.begun == 0


def test_a_host_that_loses_every_session_is_left_for_later(stage: Stage) -> None:
    stage.server.on_point = lambda point, what: stage.server.expire() if (point, what[:3]) == (Point.BEGUN, "PUT") else None

    with pytest.raises(Transient, match="one after another"):
        stage.run()

    assert stage.server.begun == 3
