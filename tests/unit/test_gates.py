"""Whether a host is asked at all at a moment."""

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dailies.config import Settings
from dailies.errors import Postponed, Waiting
from dailies.gates import Gate, Gates
from support import FakeClock


def _settings(**host: Any) -> Settings:
    return Settings.model_validate({"publish": {"breaker": 3, "hosts": ["a"]}, "hosts": {"a": {"adapter": "folder", **host}}})


def _gate(clock: FakeClock, sent: tuple[datetime, ...] = (), **host: Any) -> Gate:
    return Gate("a", _settings(**host), sent, clock)


def test_without_limits_everything_goes(clock: FakeClock) -> None:
    gate = _gate(clock)

    for _ in range(100):
        gate.enter()


def test_a_place_of_a_day_is_free_again_a_day_after_it_was_taken(clock: FakeClock) -> None:
    gate, began = _gate(clock, max_per_day=2), clock.now()
    gate.enter()
    clock.advance(3600)
    gate.enter()

    with pytest.raises(Postponed) as full:
        gate.enter()
    assert full.value.until == began + timedelta(days=1)
    clock.advance(86400 - 3600)
    gate.enter()
    with pytest.raises(Postponed) as full:
        gate.enter()
    assert full.value.until == began + timedelta(days=1, hours=1)


def test_what_other_machines_sent_is_counted(clock: FakeClock) -> None:
    long_ago, lately = clock.now() - timedelta(days=2), clock.now() - timedelta(hours=20)
    gate = _gate(clock, (lately, long_ago), max_per_day=1)

    with pytest.raises(Postponed) as full:
        gate.enter()

    assert full.value.until == lately + timedelta(days=1)


def test_with_more_than_a_day_may_hold_the_newest_decide(clock: FakeClock) -> None:
    hours = [clock.now() - timedelta(hours=hours) for hours in (20, 10, 5)]
    gate = _gate(clock, tuple(hours), max_per_day=1)

    with pytest.raises(Postponed) as full:
        gate.enter()

    assert full.value.until == hours[2] + timedelta(days=1)


def test_between_two_uploads_there_is_the_interval(clock: FakeClock) -> None:
    gate, began = _gate(clock, min_interval="90s"), clock.now()
    gate.enter()
    clock.advance(60)

    with pytest.raises(Postponed) as early:
        gate.enter()

    assert early.value.until == began + timedelta(seconds=90)
    clock.advance(30)
    gate.enter()


def test_a_place_that_is_given_back_is_free(clock: FakeClock) -> None:
    gate = _gate(clock, max_per_day=1)

    gate.leave(gate.enter())

    gate.enter()


class _SlowMoment(datetime):
    """Whoever reckons with it is overtaken by other threads."""

    def __sub__(self, other: Any) -> Any:
        time.sleep(0.001)
        return super().__sub__(other)


def test_of_many_threads_only_as_many_enter_as_there_are_places() -> None:
    clock = FakeClock(_SlowMoment(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    gate, entered = _gate(clock, max_per_day=5), list[datetime]()

    def enter() -> None:
        try:
            entered.append(gate.enter())
        except Postponed:
            return

    threads = [threading.Thread(target=enter) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(entered) == 5


def test_a_success_starts_the_count_of_failures_anew(clock: FakeClock) -> None:
    gate = _gate(clock)
    for _ in range(5):
        gate.failed("down")
        gate.failed("down")
        gate.succeeded()
    gate.check()

    gate.failed("down")
    gate.failed("down")
    gate.failed("gone")

    with pytest.raises(Waiting, match="a: left alone for the rest of this run: 3 failures in a row, the last: gone"):
        gate.check()
    gate.succeeded()
    with pytest.raises(Waiting):
        gate.check()


def test_a_closed_host_says_why_it_was_closed_first(clock: FakeClock) -> None:
    gates = Gates(_settings(), dict, clock)

    gates.of("a").close("no key")
    gates.of("a").close("later")

    assert gates.closed() == ["a: no key"]


def test_the_records_are_asked_once_and_only_where_a_gate_is_needed(clock: FakeClock) -> None:
    asked = []
    gates = Gates(_settings(max_per_day=1), lambda: asked.append(1) or {"a": [clock.now()]}, clock)  # type: ignore[func-returns-value]
    assert asked == []

    assert gates.of("a") is gates.of("a")

    assert asked == [1]
    with pytest.raises(Postponed):
        gates.of("a").enter()
