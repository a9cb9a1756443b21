"""The registry's rules, one event at a time."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dailies import policy, uploads
from dailies.config import Publish
from dailies.errors import Category, DailiesError, HostRefused, OutcomeUnknown, Postponed, Transient, VideoError, Waiting
from dailies.hosts import Asset, Receipt
from dailies.model import Kind, Source, State, Upload, UploadStatus, Video
from dailies.steps import _unpublished

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
ASSET = Asset("talk-000000000000", Kind.VIDEO, ".mp4", "a" * 64, 3)


def _upload(status: str, **fields: Any) -> Upload:
    return Upload.model_validate({"status": status, **fields})


def _video(**uploads_: str) -> Video:
    return Video(
        id="talk-000000000000",
        code="talk",
        title="Talk",
        source=Source(kind="file", uri="x", original_name="x", size_bytes=1, identity="0" * 64),
        created_at="2026-01-02T03:04:05Z",
        updated_at="2026-01-02T03:04:05Z",
        uploads={name: {Kind.VIDEO: _upload(status)} for name, status in uploads_.items()},
    )


def test_each_attempt_has_an_id_of_its_own_and_forgets_the_wait() -> None:
    waited = _upload("RATE_LIMITED", until="2026-01-02T00:00:00Z")

    first, second = uploads.begun(waited, "shop", ASSET, NOW), uploads.begun(waited, "shop", ASSET, NOW)

    assert (first.status, first.until, first.at) == ("IN_PROGRESS", None, "2026-01-02T03:04:05Z")
    assert first.attempt_id
    assert first.attempt_id != second.attempt_id


def test_failures_are_counted_up_to_the_last_one_allowed() -> None:
    upload, seen = _upload("IN_PROGRESS"), []
    for _ in range(4):
        upload = uploads.failed(upload, "down", 3, NOW)
        seen.append((str(upload.status), upload.retry_count))

    assert seen == [("FAILED", 1), ("FAILED", 2), ("FAILED", 3), ("FAILED_FINAL", 4)]


def test_without_retries_the_first_failure_is_final() -> None:
    assert uploads.failed(_upload("IN_PROGRESS"), "down", 0, NOW).status == "FAILED_FINAL"


def test_a_wait_ends_in_no_case_too_early() -> None:
    until = NOW + timedelta(seconds=1.2)

    limited = uploads.limited(_upload("PENDING"), "wait", until)

    assert limited.until == "2026-01-02T03:04:07Z"
    assert uploads.refusal(limited, NOW + timedelta(seconds=1.9)) is not None
    assert uploads.refusal(limited, NOW + timedelta(seconds=2)) is None


def test_waiting_is_no_attempt() -> None:
    failed = _upload("FAILED", at="2026-01-01T00:00:00Z", attempt_id="aa", retry_count=1)

    limited = uploads.limited(failed, "full", LATER)

    assert (limited.at, limited.attempt_id, limited.retry_count) == ("2026-01-01T00:00:00Z", "aa", 1)


@pytest.mark.parametrize(
    ("status", "by_itself", "allowed_twice", "by_hand"),
    [
        ("PENDING", True, True, True),
        ("IN_PROGRESS", True, True, True),
        ("UNKNOWN", True, True, True),
        ("FAILED", True, True, True),
        ("FAILED_FINAL", False, False, False),
        ("BLOCKED", False, True, False),
        ("SUCCESS", False, True, False),
        ("RATE_LIMITED", False, False, True),
    ],
)
def test_what_may_be_sent(status: str, by_itself: bool, allowed_twice: bool, by_hand: bool) -> None:
    upload = _upload(status, until="2026-01-02T09:00:00Z")

    found = [
        uploads.refusal(upload, NOW) is None,
        uploads.refusal(upload, NOW, may_repeat=True) is None,
        uploads.refusal(upload, NOW, is_direct=True) is None,
    ]

    assert found == [by_itself, allowed_twice, by_hand]


def test_an_attempt_that_was_not_let_in_leaves_the_upload_as_it_was() -> None:
    before = _upload("FAILED", retry_count=2, attempt_id="aa", at="2026-01-01T00:00:00Z")

    after = uploads.not_begun(uploads.begun(before, "shop", ASSET, NOW), before, "no key")

    assert (after.status, after.retry_count, after.attempt_id, after.at) == ("FAILED", 2, "aa", before.at)
    assert uploads.not_begun(_upload("IN_PROGRESS"), _upload("IN_PROGRESS"), None).status == "PENDING"


def test_success_forgets_the_trouble_and_keeps_the_links() -> None:
    before = _upload("RATE_LIMITED", error="wait", until="2026-01-02T00:00:00Z")

    after = uploads.succeeded(before, "shop", {"video": ASSET}, {"video": Receipt("7", "w", "e", "d", is_settled=False)}, NOW)

    assert (after.status, after.error, after.until, after.is_settling) == ("SUCCESS", None, None, True)
    assert (after.remote_id, after.watch_url, after.embed_url, after.direct_url) == ("7", "w", "e", "d")
    assert (after.sha256, after.parts) == ("a" * 64, {})


def test_what_is_replaced_stands_among_the_earlier_ones_unless_the_host_overwrote_it() -> None:
    there = _upload("SUCCESS", remote_id="1", watch_url="w")

    anew = uploads.replaced(there)

    (entry,) = anew.previous
    assert (anew.status, anew.remote_id, anew.watch_url) == ("PENDING", None, None)
    assert (entry["status"], entry["remote_id"], entry["watch_url"]) == ("SUCCESS", "1", "w")
    other = uploads.succeeded(anew, "shop", {"video": ASSET}, {"video": Receipt("2")}, NOW)
    assert [entry["remote_id"] for entry in other.previous] == ["1"]
    assert uploads.succeeded(anew, "shop", {"video": ASSET}, {"video": Receipt("1")}, NOW).previous == ()


@pytest.mark.parametrize("status", list(UploadStatus))
def test_a_retry_by_hand_starts_what_ended_and_never_forgets_what_may_be_there(status: UploadStatus) -> None:
    after = uploads.again(_upload(status, retry_count=3, error="x"))

    kept = {UploadStatus.SUCCESS, UploadStatus.IN_PROGRESS, UploadStatus.UNKNOWN}
    assert (after.status, after.retry_count) == (status if status in kept else "PENDING", 0)


def test_retry_of_a_video_resets_all_of_its_uploads() -> None:
    after = policy.retried(_video(a="FAILED_FINAL", b="UNKNOWN", c="SUCCESS").with_(state=State.FAILED))

    assert [str(after.upload(name, Kind.VIDEO).status) for name in "abc"] == ["PENDING", "UNKNOWN", "SUCCESS"]
    assert (after.state, after.retry_count, after.epoch) == ("queued", 0, 1)


# -- several hosts


def test_fallback_needs_one_host_and_all_needs_every_one() -> None:
    video, names = _video(b="SUCCESS"), ("a", "b")

    assert not uploads.needs_publishing(video, Publish(hosts=names))
    assert uploads.needs_publishing(video, Publish(hosts=names, strategy="all"))
    assert not uploads.needs_publishing(video.with_(hosts=("b",)), Publish(hosts=names, strategy="all"))
    assert uploads.needs_publishing(video.with_(hosts=("a",)), Publish(hosts=names))


def test_what_may_have_been_sent_is_cleared_up_before_anything_else_is_sent() -> None:
    names = ("a", "b", "c", "d")

    assert uploads.in_turn(_video(c="UNKNOWN", d="IN_PROGRESS"), Publish(hosts=names)) == ("c", "d", "a", "b")
    assert uploads.in_turn(_video(c="FAILED"), Publish(hosts=names)) == names


def test_the_next_host_is_not_tried_while_one_may_have_it() -> None:
    found = {str(status) for status in UploadStatus if uploads.ends_fallback(_upload(status))}

    assert found == {"IN_PROGRESS", "UNKNOWN", "BLOCKED"}


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        ([HostRefused("x"), HostRefused("y")], VideoError),
        ([HostRefused("x"), Transient("y")], Transient),
        ([OutcomeUnknown("x")], Transient),
        ([Postponed("x", LATER), Transient("y")], Transient),
        ([Postponed("x", LATER), HostRefused("y")], Postponed),
        ([Waiting("x", Category.HOST), HostRefused("y")], Waiting),
        ([Waiting("x"), Postponed("y", LATER)], Postponed),
    ],
)
def test_what_becomes_of_a_video_that_not_enough_hosts_took(errors: list[DailiesError], kind: type) -> None:
    error = _unpublished("talk", errors)

    assert type(error) is kind
    assert error.category is (Category.BUSY if kind is Postponed else Category.HOST)


def test_of_several_moments_the_first_is_taken() -> None:
    error = _unpublished("talk", [Postponed("x", LATER), Postponed("y", NOW)])

    assert isinstance(error, Postponed)
    assert error.until == NOW


def test_a_finished_video_that_a_host_has_not_kept_is_queued_again() -> None:
    lost = policy.after_loss(_video().with_(state=State.DONE))
    failed = policy.after_loss(_video().with_(state=State.FAILED))

    assert (lost.state, failed.state) == ("queued", "failed")
