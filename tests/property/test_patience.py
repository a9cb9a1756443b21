"""Laws of the patience with listing sources: 3 failures in a row wait 60 s, 5 five minutes, 7 fifteen, 10 end it for the run."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dailies.patience import GIVEN_UP, Patience

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))
# what happened, and how many seconds later the next thing did
EVENTS = st.lists(st.tuples(st.booleans(), st.integers(0, 3600)), max_size=30)


def after(failures: int, known: Patience | None = None, now: datetime = START) -> Patience:
    """So many failures in a row, all at one moment."""
    patience = known or Patience()
    for _ in range(failures):
        patience = patience.failed(now, "down")
    return patience


@pytest.mark.parametrize(
    ("failures", "wait_s"), [(1, 0), (2, 0), (3, 60), (4, 60), (5, 300), (6, 300), (7, 900), (8, 900), (9, 900)]
)
def test_the_schedule_is_this(failures: int, wait_s: int) -> None:
    """Feature: github-workflow-bug-fixes, Property 13: failures in a row make the waits longer, as the schedule says."""
    patience = after(failures)
    due = START + timedelta(seconds=wait_s)

    assert (patience.failures, patience.is_given_up, patience.is_due(due)) == (failures, False, True)
    assert wait_s == 0 or not patience.is_due(due - timedelta(seconds=2))


def test_who_looks_once_a_minute_misses_none_by_a_hair() -> None:
    assert after(3).is_due(START + timedelta(seconds=59, milliseconds=300))


@settings(deadline=None)
@given(st.integers(GIVEN_UP, 40), MOMENTS)
def test_ten_failures_give_it_up_for_the_run_and_no_time_brings_it_back(failures: int, later: datetime) -> None:
    """Feature: github-workflow-bug-fixes, Property 13: the tenth failure gives it up for the run."""
    patience = after(failures)

    assert patience.is_given_up
    assert not patience.is_due(later)


@settings(deadline=None)
@given(st.integers(0, 40), MOMENTS)
def test_one_success_forgets_every_failure(failures: int, now: datetime) -> None:
    """Feature: github-workflow-bug-fixes, Property 13: one success resets."""
    patience = after(failures).succeeded(now)

    assert patience == Patience(0, None, None, now)
    assert patience.is_due(now)


@settings(deadline=None)
@given(st.integers(GIVEN_UP, 40))
def test_a_new_run_tries_what_was_given_up_once(failures: int) -> None:
    renewed = after(failures).renewed(START)

    assert renewed.is_due(START)
    assert renewed.failed(START, "down").is_given_up
    assert renewed.failures == failures


@settings(deadline=None)
@given(st.integers(0, GIVEN_UP - 1))
def test_a_new_run_changes_nothing_else(failures: int) -> None:
    assert after(failures).renewed(START) == after(failures)


@settings(deadline=None)
@given(EVENTS)
def test_failures_are_those_since_the_last_success(events: list[tuple[bool, int]]) -> None:
    patience, now, in_a_row, last_success = Patience(), START, 0, None
    for is_success, seconds in events:
        now += timedelta(seconds=seconds)
        patience = patience.succeeded(now) if is_success else patience.failed(now, "down")
        in_a_row, last_success = (0, now) if is_success else (in_a_row + 1, last_success)

    assert (patience.failures, patience.last_success_at) == (in_a_row, last_success)
    assert (patience.last_error is None) == (in_a_row == 0)


@settings(deadline=None)
@given(st.integers(0, GIVEN_UP - 2), st.integers(0, 86_400))
def test_a_source_that_asks_for_more_time_gets_it_and_never_less_than_the_schedule(failures: int, seconds: int) -> None:
    known = after(failures)
    asked_for = known.failed(START, "slowly", timedelta(seconds=seconds))
    by_schedule = known.failed(START, "slowly")

    assert not asked_for.is_due(START + timedelta(seconds=seconds - 2)) or seconds < 2
    assert asked_for.is_due(max(START + timedelta(seconds=seconds), by_schedule.next_try_at or START))
