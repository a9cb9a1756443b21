"""Time: the clock that everything reads, deadlines, and how times and durations are written."""

import math
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, Protocol, runtime_checkable

from dailies.errors import DailiesError, Interrupted, OutOfTime

TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhd]))+")
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")


@runtime_checkable  # a value that pydantic sees in an adapter is of this
class Clock(Protocol):
    """What reads the time or waits takes one of these."""

    def now(self) -> datetime:
        """Wall time, UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Halt(threading.Event):
    """A stop of one's own that is also set when the outer one is: a run that must end is not a person who asked for it."""

    def __init__(self, outer: threading.Event) -> None:
        super().__init__()
        self._outer = outer

    def is_set(self) -> bool:
        return super().is_set() or self._outer.is_set()


@dataclass(frozen=True)
class Deadline:
    """The moment (monotonic seconds) by which work must end, and the signal to end sooner."""

    clock: Clock
    at: float
    error: Callable[[], DailiesError] = field(default=lambda: OutOfTime("the run's time is over"))
    stop: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def after(cls, clock: Clock, seconds: float, stop: threading.Event | None = None) -> "Deadline":
        return cls(clock, clock.monotonic() + seconds, stop=stop or threading.Event())

    def within(self, seconds: float, error: Callable[[], DailiesError]) -> "Deadline":
        """The nearer of this deadline and `seconds` from now, which then fails with `error`."""
        at = self.clock.monotonic() + seconds
        return self if self.at <= at else Deadline(self.clock, at, error, self.stop)

    def sooner(self, seconds: float) -> "Deadline":
        """This deadline less what is kept for later, at most half of what is left."""
        return replace(self, at=self.at - min(seconds, self.remaining() / 2))

    def remaining(self) -> float:
        """Seconds left; never negative."""
        return max(0.0, self.at - self.clock.monotonic())

    def pause(self, seconds: float) -> None:
        """Wait, seeing a stop within a tenth of a second. Raises like `check`."""
        until = self.clock.monotonic() + seconds
        self.check()
        while (left := until - self.clock.monotonic()) > 0:
            self.clock.sleep(min(0.1, left))
            self.check()

    def check(self) -> None:
        """Raise Interrupted after a stop, this deadline's own error when its time is over."""
        if self.stop.is_set():
            raise Interrupted("the run was asked to stop")
        if self.remaining() <= 0:
            raise self.error()


def timestamp(moment: datetime) -> str:
    """UTC, ISO 8601 with `Z`, whole seconds: these compare as text."""
    return moment.astimezone(UTC).strftime(TIME_FORMAT)


def parse_timestamp(text: str) -> datetime:
    return datetime.strptime(text, TIME_FORMAT).replace(tzinfo=UTC)


def parse_duration(text: object) -> float:
    """Seconds of `90`, `"45s"`, `"30m"`, `"1h30m"`, `"2d"`; raises ValueError."""
    if isinstance(text, int | float) and not isinstance(text, bool) and math.isfinite(text):
        return float(text)
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is not a duration; write it like 45s, 30m or 1h30m")  # noqa: TRY004 -- pydantic reports it
    compact = text.replace(" ", "").lower()
    if not _DURATION.fullmatch(compact):
        raise ValueError(f"{text!r} is not a duration; write it like 45s, 30m or 1h30m")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(compact))


def show_duration(seconds: float) -> str:
    """For people: `4.2s`, `12m05s`, `5h15m`."""
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"
