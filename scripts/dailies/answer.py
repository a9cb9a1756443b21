"""What an answer of a server means for what comes next."""

import contextlib
import email.utils
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, Final

from dailies.clock import Clock
from dailies.errors import DailiesError, Denied, HostRefused, OutcomeUnknown, RateLimited, Transient
from dailies.redact import Redactor, plain

RETRY_AFTER_CAP_S: Final = 86_400.0
FIRST_WAIT_S: Final = 2.0
LONGEST_WAIT_S: Final = 600.0
_RETRY_AFTER_LEAST_S: Final = 1.0
_DENIED: Final = frozenset({401, 403, 407})
_REFUSED: Final = frozenset({400, 404, 405, 409, 410, 411, 413, 414, 415, 416, 422, 451})
_WORDS_BYTES: Final = 8192  # of an answer, looked through for what people are told


@dataclass(frozen=True)
class Answer:
    """What a server said; header names in lower case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)
    host: str
    is_of_body: bool = False  # the whole of a file had left before
    url: str = field(default="", repr=False, compare=False)  # where redirects led
    told: tuple[str, ...] = field(default=(), repr=False, compare=False)  # what it was sent: hidden where it says that again

    def json(self) -> Any:
        """Raises Transient for what is no JSON, as a page of a proxy is; OutcomeUnknown where a file had left before."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            said = self.words(80)
            text = f"{self.host}: HTTP {self.status} answered no JSON but {said!r}; it is tried again later"
            raise self.trouble(text) from None

    def trouble(self, text: str) -> Transient:
        """What says neither yes nor no: behind the whole of a file nobody knows what became of that."""
        return OutcomeUnknown(text) if self.is_of_body else Transient(text)

    def words(self, count: int = 300) -> str:
        """The beginning of what it said, as one line."""
        text = Redactor(self.told)(self.content[:_WORDS_BYTES].decode("utf-8", "replace"))
        return plain(" ".join(text.split()))[:count]

    def retry_after_s(self, clock: Clock) -> float | None:
        """Retry-After in seconds, whether it was said so or as a date (RFC 9110, 10.2.3); None where it was not said.

        At least a second: a host that says 0 is not asked without a pause.
        """
        text = self.headers.get("retry-after", "").strip()
        if not text:
            return None
        if text.isascii() and text.isdigit():
            return _kept_within(float(text))
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            moment = email.utils.parsedate_to_datetime(text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return _kept_within((moment - clock.now()).total_seconds())
        return None


def _kept_within(seconds: float) -> float:
    return max(_RETRY_AFTER_LEAST_S, min(seconds, RETRY_AFTER_CAP_S))


def fault(answer: Answer, clock: Clock) -> DailiesError:
    """What an answer that is no success means for what comes next (docs/registry.md, "Errors")."""
    said = f"{answer.host}: HTTP {answer.status}{f': {answer.words()}' if answer.content else ''}"
    wait = answer.retry_after_s(clock)
    is_overload = answer.status == 503 and wait is not None and not answer.is_of_body  # else a gateway may say so, as below
    if answer.status == 429 or is_overload:
        return RateLimited(f"{said}; it is tried again when the host allows", 60.0 if wait is None else wait)
    if answer.status in _DENIED:
        return Denied(f"{said}; check the account and its keys")
    if answer.status in _REFUSED:
        return HostRefused(f"{said}; the host will not take this")
    return answer.trouble(f"{said}; it is tried again later")  # a gateway may say so of a server that goes on


def full_jitter(attempt: int, draw: Callable[[float], float]) -> float:
    """Seconds to wait after the n-th failure (1, 2 …): evenly from 0 to a ceiling that doubles from 2 s to 10 min.

    (Brooker, "Exponential Backoff And Jitter", 2015.)
    """
    return draw(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (attempt - 1)))
