"""Asking a catalogue: from the cache, at its pace, two retries, and not at all while it is unavailable."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import ValidationError

from dailies.clock import Clock, Deadline
from dailies.enrich.availability import Availability
from dailies.enrich.cache import Cache, Missing
from dailies.enrich.catalogue import Model
from dailies.errors import DailiesError, Denied, RateLimited, Transient
from dailies.http import Http

RETRIES: Final = 2  # after the first try; before the n-th, 2^n seconds
_NOT_FOUND: Final = 404


class Unasked(DailiesError):
    """The answer is not in the cache and the catalogue may not be asked now."""


class Pacer:
    """One request in so many seconds, whoever asks."""

    def __init__(self, clock: Clock, interval_s: float) -> None:
        self._clock = clock
        self._interval_s = interval_s
        self._free_at = 0.0
        self._lock = threading.Lock()

    def take(self, deadline: Deadline) -> None:
        """Wait for a turn. Raises the deadline's error."""
        with self._lock:
            now = self._clock.monotonic()
            begin = max(now, self._free_at)
            self._free_at = begin + self._interval_s
        if begin > now:
            deadline.pause(begin - now)


@dataclass(frozen=True)
class Line:
    """The way to one catalogue, shared by all videos of a run."""

    name: str
    http: Http
    cache: Cache
    pacer: Pacer
    availability: Availability
    headers: Callable[[], Mapping[str, str]] = field(repr=False)  # raises Denied
    is_offline: bool = False


@dataclass
class Asking:
    """One video's questions to one catalogue. `was_asked`: at least one left this machine, or would have with a key."""

    line: Line
    deadline: Deadline
    was_asked: bool = False

    def __call__(self, url: str, params: Mapping[str, str], model: type[Model]) -> Model | None:
        """Raises Unasked, Transient, Denied, RateLimited, HostRefused, the deadline's error."""
        cached = self.line.cache.get(url, params)
        if cached is None:
            return None
        if cached is not Missing:
            try:
                return model.model_validate(cached)
            except ValidationError:
                pass  # somebody wrote into it: asked anew
        self._permit()
        answer = self._tried(url, params, model)
        self.line.cache.put(url, params, None if answer is None else answer.model_dump(mode="json", by_alias=True))
        return answer

    def _permit(self) -> None:
        if self.was_asked:
            return
        if self.line.is_offline or not self.line.availability.may_ask(self.line.name):
            raise Unasked(f"{self.line.name}: is not asked now; it is asked again in a later run")
        self.was_asked = True

    def _tried(self, url: str, params: Mapping[str, str], model: type[Model]) -> Model | None:
        """After trouble that may pass: 2 s, then 4 s, longer where the catalogue says so, never beyond the deadline."""
        for attempt in range(1, RETRIES + 2):
            try:
                return self._once(url, params, model)
            except Denied:
                raise
            except Transient as error:
                wait_s = max(2.0**attempt, error.wait_s if isinstance(error, RateLimited) else 0.0)
                if attempt > RETRIES or wait_s >= self.deadline.remaining():
                    raise
                self.deadline.pause(wait_s)
        raise AssertionError("the last try returns or raises")

    def _once(self, url: str, params: Mapping[str, str], model: type[Model]) -> Model | None:
        self.line.pacer.take(self.deadline)
        answer = self.line.http.call(
            "GET", url, self.deadline, params=params, headers=self.line.headers(), accept={_NOT_FOUND}, repeats=False
        )
        if answer.status == _NOT_FOUND:
            return None
        try:
            return model.model_validate(answer.json())
        except (ValidationError, RecursionError) as error:
            raise Transient(f"{self.line.name}: answered in a shape that is not known; it is tried again later") from error
