"""How long a source of listings is left alone after it failed: the schedule, pure (docs/sources.md, "Patience")."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

# failures in a row, and how long the next try waits from then on
_WAITS: Final = ((7, timedelta(minutes=15)), (5, timedelta(minutes=5)), (3, timedelta(seconds=60)))
_GRACE: Final = timedelta(seconds=1)  # who looks once a minute must not miss a minute by a hair
GIVEN_UP: Final = 10  # failures in a row after which a run asks no more


def wait_after(failures: int) -> timedelta:
    """After so many failures in a row; of a source that is not given up."""
    return next((wait for least, wait in _WAITS if failures >= least), timedelta())


@dataclass(frozen=True)
class Patience:
    """What is known of one source. It is tried when `next_try_at` has come; where that is None at once, or not any more."""

    failures: int = 0  # in a row
    next_try_at: datetime | None = None
    last_error: str | None = None
    last_success_at: datetime | None = None

    @property
    def is_given_up(self) -> bool:
        return self.failures >= GIVEN_UP and self.next_try_at is None

    def is_due(self, now: datetime) -> bool:
        return not self.is_given_up and (self.next_try_at is None or now + _GRACE >= self.next_try_at)

    def failed(self, now: datetime, error: str, asked_for: timedelta = timedelta()) -> "Patience":
        """`asked_for`: how long the source itself wants to be left alone."""
        failures = self.failures + 1
        wait = max(wait_after(failures), asked_for)
        until = now + wait if wait and failures < GIVEN_UP else None
        return replace(self, failures=failures, next_try_at=until, last_error=error)

    def succeeded(self, now: datetime) -> "Patience":
        """Also where it was read and had nothing: one success forgets all failures."""
        return Patience(last_success_at=now)

    def renewed(self, now: datetime) -> "Patience":
        """At the start of a run: a source that an earlier one gave up is tried once more."""
        return replace(self, next_try_at=now) if self.is_given_up else self
