"""What a run did: the report's numbers, its status, and the lines that people read."""

from typing import Any

import pytest

from dailies.clock import timestamp
from dailies.model import LastError, Source, State, StepName, StepStatus, Video
from dailies.report import Collector, RunReport, RunStatus, Summary, commit_title, new_run_id, sentence, status_of
from support import FakeClock


@pytest.fixture
def collector(clock: FakeClock) -> Collector:
    return Collector("run-1", clock.now(), 60.0, lambda text: text.replace("hunter2", "***"))


def video(number: int = 1, **more: Any) -> Video:
    identity = f"{number:012x}".ljust(64, "0")
    source = Source(kind="file", uri=f"{number}.mp4", original_name=f"{number}.mp4", size_bytes=100, identity=identity)
    at = "2026-01-02T03:04:05Z"
    known = {"id": f"talk-{number:012x}", "code": "talk", "title": "Talk", "source": source, "created_at": at, "updated_at": at}
    return Video.model_validate({**known, **more})


def taken(collector: Collector, clock: FakeClock, number: int, state: State, **before: Any) -> None:
    """A video goes through a run: fetched, then left in `state`."""
    start = video(number, **before)
    collector.started_video(start)
    collector.step(start, StepName.FETCH, StepStatus.COMPLETED, (1.0, 1.12345))
    collector.ended_video(start, start.with_(state=state), clock.now())


def made(collector: Collector, clock: FakeClock, status: RunStatus = RunStatus.COMPLETED, remaining: int = 0) -> RunReport:
    return collector.report(status, clock.now(), remaining)


def earlier(at: str) -> dict[str, Any]:
    error = LastError(step=StepName.PUBLISH, attempt=1, category="host", message="m", action="queued again", at=at)
    return {"retry_count": 1, "last_error": error}


def test_the_report_has_the_fields_that_readers_were_promised(collector: Collector, clock: FakeClock) -> None:
    taken(collector, clock, 1, State.DONE)

    content = made(collector, clock).model_dump(mode="json")

    promised = "run_id status started_at finished_at time_limit_s videos summary errors_by_category retries mean_recovery_s"
    assert set(promised.split()) <= set(content)
    assert set(content["videos"][0]) == {"id", "code", "state", "steps", "bytes"}
    assert content["videos"][0]["steps"] == {"fetch": {"status": "completed", "duration_s": 0.123, "error": None}}
    assert set(content["summary"]) == {"done", "failed", "duplicate", "skipped", "remaining", "bytes_in"}
    assert set(content["retries"]) == {"attempted", "succeeded"}


def test_the_summary_counts_outcomes(collector: Collector, clock: FakeClock) -> None:
    states = [State.DONE, State.DONE, State.FAILED, State.UNAVAILABLE, State.DUPLICATE, State.QUEUED]
    for number, state in enumerate(states):
        taken(collector, clock, number, state)
    collector.skipped()
    collector.skipped(2)

    summary = made(collector, clock, remaining=4).summary

    assert summary == Summary(done=2, failed=2, duplicate=1, skipped=3, remaining=4, bytes_in=600)


def test_only_bytes_that_were_fetched_are_counted(collector: Collector, clock: FakeClock) -> None:
    taken(collector, clock, 1, State.DONE)
    collector.started_video(video(2))

    assert made(collector, clock).summary.bytes_in == 100


def test_errors_are_counted_by_category_in_order(collector: Collector, clock: FakeClock) -> None:
    for category in ("host", "damaged", "host"):
        collector.failure(category, is_put_back=False)

    errors = made(collector, clock).errors_by_category
    assert list(errors.items()) == [("damaged", 1), ("host", 2)]


def test_retries_and_the_time_to_recover(collector: Collector, clock: FakeClock) -> None:
    clock.advance(600)
    taken(collector, clock, 1, State.DONE, **earlier("2026-01-02T03:04:05Z"))
    taken(collector, clock, 2, State.DONE, **earlier("2026-01-02T03:09:05Z"))
    taken(collector, clock, 3, State.FAILED, **earlier("2026-01-02T03:04:05Z"))
    taken(collector, clock, 4, State.DONE)

    report = made(collector, clock)

    assert (report.retries.attempted, report.retries.succeeded) == (3, 2)
    assert report.mean_recovery_s == 450.0


def test_a_run_without_recoveries_has_no_mean(collector: Collector, clock: FakeClock) -> None:
    taken(collector, clock, 1, State.DONE)

    assert made(collector, clock).mean_recovery_s is None


def test_secrets_leave_every_text_of_the_report(collector: Collector, clock: FakeClock) -> None:
    collector.started_video(video())
    collector.step(video(), StepName.PUBLISH, StepStatus.FAILED, (1.0, 2.0), "key hunter2 refused")
    collector.problem("inbox: hunter2")

    text = made(collector, clock).model_dump_json()

    assert "hunter2" not in text
    assert "key *** refused" in text


def test_a_report_read_back_is_the_same(collector: Collector, clock: FakeClock) -> None:
    taken(collector, clock, 1, State.DONE)
    report = made(collector, clock)

    assert RunReport.model_validate_json(report.model_dump_json()) == report


@pytest.mark.parametrize(
    ("states", "is_cancelled", "has_problem", "status"),
    [
        ([], False, False, RunStatus.COMPLETED),
        ([State.DONE], False, False, RunStatus.COMPLETED),
        ([State.DONE, State.DUPLICATE], False, False, RunStatus.COMPLETED),
        ([State.DONE, State.FAILED], False, False, RunStatus.COMPLETED_WITH_ERRORS),
        ([State.UNAVAILABLE], False, False, RunStatus.COMPLETED_WITH_ERRORS),
        ([State.DONE], False, True, RunStatus.COMPLETED_WITH_ERRORS),
        ([], False, True, RunStatus.FAILED),
        ([State.FAILED], True, True, RunStatus.CANCELLED),
    ],
)
def test_a_run_never_says_completed_when_something_failed(
    collector: Collector, clock: FakeClock, states: list[State], is_cancelled: bool, has_problem: bool, status: RunStatus
) -> None:
    for number, state in enumerate(states):
        taken(collector, clock, number, state)

    assert status_of(collector, is_cancelled=is_cancelled, has_problem=has_problem) is status


def test_a_video_that_a_failure_put_back_is_an_error_of_the_run(collector: Collector, clock: FakeClock) -> None:
    taken(collector, clock, 1, State.QUEUED)
    collector.failure("host", is_put_back=True)

    assert status_of(collector, is_cancelled=False, has_problem=False) is RunStatus.COMPLETED_WITH_ERRORS


def test_a_video_that_only_waits_is_no_error(collector: Collector, clock: FakeClock) -> None:
    taken(collector, clock, 1, State.QUEUED)

    assert status_of(collector, is_cancelled=False, has_problem=False) is RunStatus.COMPLETED


def test_one_line_for_people(collector: Collector, clock: FakeClock) -> None:
    taken(collector, clock, 1, State.DONE)
    taken(collector, clock, 2, State.FAILED)
    clock.advance(725)

    said = sentence(made(collector, clock, RunStatus.COMPLETED_WITH_ERRORS, remaining=3))

    assert said == "completed_with_errors: 1 done, 1 failed; 3 left in the queue; 12m05s"


def test_an_idle_run_says_so(collector: Collector, clock: FakeClock) -> None:
    assert sentence(made(collector, clock)) == "completed: nothing to do; 0 left in the queue; 0.0s"


def test_a_commit_names_what_became_of_the_videos_and_the_run(collector: Collector, clock: FakeClock) -> None:
    taken(collector, clock, 1, State.DONE)
    taken(collector, clock, 2, State.DUPLICATE)

    assert commit_title(made(collector, clock)) == "database: 1 done, 1 duplicate"


def test_a_commit_of_queued_videos_only_says_so(collector: Collector, clock: FakeClock) -> None:
    assert commit_title(made(collector, clock)) == "database: queue updated"


def test_run_ids_sort_by_time_and_never_repeat(clock: FakeClock) -> None:
    ids = [new_run_id(clock.now()) for _ in range(100)]
    clock.advance(1)

    assert len(set(ids)) == 100
    assert max(ids) < new_run_id(clock.now())
    assert ids[0].startswith(timestamp(FakeClock().now()).replace(":", "").replace("-", ""))
