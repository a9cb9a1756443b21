"""Time: durations as people write them, timestamps that compare as text, deadlines."""

import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dailies.clock import Deadline, parse_duration, parse_timestamp, show_duration, timestamp
from dailies.errors import Category, Interrupted, OutOfTime, Transient
from support import FakeClock

MOMENTS = st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (90, 90.0), (1.5, 1.5), ("250ms", 0.25), ("45s", 45.0), ("30m", 1800.0), ("315m", 18900.0), ("1h30m", 5400.0),
        ("1h 30m", 5400.0), ("2d", 172800.0), ("0s", 0.0), ("1.5h", 5400.0), ("30M", 1800.0),
    ],
)  # fmt: skip
def test_durations_as_people_write_them(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "30", "m", "-5m", "30 minutes", "1h-5m", "5w", "h1", "1:30"])
def test_what_is_no_duration_is_refused_with_the_way_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration; write it like 45s, 30m or 1h30m"):
        parse_duration(text)


@given(st.integers(0, 50), st.integers(0, 59), st.integers(0, 59))
def test_parts_of_a_duration_add_up(hours: int, minutes: int, seconds: int) -> None:
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == hours * 3600 + minutes * 60 + seconds


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0s"), (4.2, "4.2s"), (60, "1m00s"), (725, "12m05s"), (3599.6, "1h00m"), (18900, "5h15m")]
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert show_duration(seconds) == text


def test_a_minute_is_never_shown_as_60_seconds() -> None:
    assert show_duration(59.97) == "1m00s"


def test_timestamps_are_utc_with_z_whatever_the_zone() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 999_999, tzinfo=timezone(timedelta(hours=2)))

    assert timestamp(moment) == "2026-01-02T01:04:05Z"


@given(MOMENTS)
def test_a_timestamp_reads_back_to_the_second(moment: datetime) -> None:
    assert parse_timestamp(timestamp(moment)) == moment.replace(microsecond=0)


@given(MOMENTS, MOMENTS)
def test_timestamps_compare_as_text_like_the_moments(one: datetime, other: datetime) -> None:
    if one <= other:
        assert timestamp(one) <= timestamp(other)


def test_a_deadline_counts_down_and_never_below_zero(clock: FakeClock) -> None:
    deadline = Deadline.after(clock, 10)

    clock.advance(4)
    assert deadline.remaining() == 6
    clock.advance(60)
    assert deadline.remaining() == 0


def test_a_deadline_raises_only_when_its_time_is_over(clock: FakeClock) -> None:
    deadline = Deadline.after(clock, 10)

    clock.advance(9.99)
    deadline.check()
    clock.advance(0.01)
    with pytest.raises(OutOfTime):
        deadline.check()


def test_a_stop_is_an_interruption_even_when_the_time_is_over(clock: FakeClock, stop: threading.Event) -> None:
    deadline = Deadline.after(clock, 0, stop)

    stop.set()

    with pytest.raises(Interrupted):
        deadline.check()


def test_a_nearer_limit_fails_with_its_own_error(clock: FakeClock) -> None:
    step = Deadline.after(clock, 100).within(10, lambda: Transient("too long", Category.TIMEOUT))

    clock.advance(10)

    with pytest.raises(Transient, match="too long") as failure:
        step.check()
    assert failure.value.category is Category.TIMEOUT


def test_a_farther_limit_leaves_the_runs_own(clock: FakeClock) -> None:
    step = Deadline.after(clock, 10).within(100, lambda: Transient("too long"))

    clock.advance(10)

    with pytest.raises(OutOfTime):
        step.check()


def test_a_stop_reaches_a_nearer_limit_too(clock: FakeClock, stop: threading.Event) -> None:
    step = Deadline.after(clock, 100, stop).within(10, lambda: Transient("too long"))

    stop.set()

    with pytest.raises(Interrupted):
        step.check()
