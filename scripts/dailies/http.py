"""The one door to HTTP: deadlines, classed errors, bodies counted as they leave, credentials that stay with their host."""

import contextlib
import email.utils
import ipaddress
import json
import random
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from dailies import __version__
from dailies.body import Body, Throttle
from dailies.clock import Clock, Deadline
from dailies.errors import ConfigError, DailiesError, Denied, HostRefused, OutcomeUnknown, RateLimited, Transient
from dailies.redact import plain
from dailies.wire import CONNECT_S, READ_S, Adapter, Watch

CALL_S: Final = 60.0  # of any other call
ANSWER_BYTES: Final = 16_000_000  # of an answer that is kept
TRIES: Final = 3  # of a call that may be repeated
RETRY_AFTER_CAP_S: Final = 86_400.0
FIRST_WAIT_S: Final = 2.0
LONGEST_WAIT_S: Final = 600.0
REDIRECTS: Final = 5
_DENIED: Final = frozenset({401, 403, 407})
_REFUSED: Final = frozenset({400, 404, 405, 409, 410, 411, 413, 414, 415, 416, 422, 451})
_AGENT: Final = f"dailies/{__version__}"
_KEEPS_METHOD: Final = frozenset({307, 308})
_MOVED: Final = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class Answer:
    """What a server said; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    host: str
    is_of_body: bool = False  # the whole of a file had left before

    def json(self) -> Any:
        """Raises Transient for what is no JSON, as a page of a proxy is; OutcomeUnknown where a file had left before."""
        try:
            return json.loads(self.content)
        except ValueError:
            said = plain(self.content[:80].decode("utf-8", "replace"))
            trouble = OutcomeUnknown if self.is_of_body else Transient
            raise trouble(f"{self.host}: HTTP {self.status} answered no JSON but {said!r}; it is tried again later") from None

    def words(self) -> str:
        """The beginning of what it said, as one line."""
        return " ".join(plain(self.content[:300].decode("utf-8", "replace")).split())

    def retry_after_s(self, clock: Clock) -> float | None:
        """Retry-After in seconds, whether it was said so or as a date (RFC 9110, 10.2.3); None where it was not said."""
        text = self.headers.get("retry-after", "").strip()
        if not text:
            return None
        if text.isdigit():
            return min(float(text), RETRY_AFTER_CAP_S)
        with contextlib.suppress(ValueError, TypeError):
            moment = email.utils.parsedate_to_datetime(text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return max(0.0, min((moment - clock.now()).total_seconds(), RETRY_AFTER_CAP_S))
        return None


def fault(answer: Answer, clock: Clock) -> DailiesError:
    """What an answer that is no success means for what comes next (docs/registry.md, "Errors")."""
    said = f"{answer.host}: HTTP {answer.status}{f': {answer.words()}' if answer.content else ''}"
    wait = answer.retry_after_s(clock)
    if answer.status == 429 or (answer.status == 503 and wait is not None):
        return RateLimited(f"{said}; it is tried again when the host allows", 60.0 if wait is None else wait)
    if answer.status in _DENIED:
        return Denied(f"{said}; check the account and its keys")
    if answer.status in _REFUSED:
        return HostRefused(f"{said}; the host will not take this")
    trouble = OutcomeUnknown if answer.is_of_body else Transient  # a gateway may say so of a server that goes on
    return trouble(f"{said}; it is tried again later")


def full_jitter(attempt: int, draw: Callable[[float], float]) -> float:
    """Seconds to wait after the n-th failure (1, 2 …): evenly from 0 to a ceiling that doubles from 2 s to 10 min.

    (Brooker, "Exponential Backoff And Jitter", 2015.)
    """
    return draw(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (attempt - 1)))


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


@dataclass(frozen=True)
class _Request:
    """One exchange that is to be made."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    options: Mapping[str, Any] = field(repr=False)  # params, json, data
    body: Body | None = None
    read_s: float = CALL_S

    def moved(self, status: int, location: str, trusts: Callable[[str], bool]) -> "_Request":
        """To another address, without credentials where that is another host's. Raises Transient."""
        url = urljoin(self.url, location)
        here, there = urlsplit(self.url), urlsplit(url)
        is_same = here.hostname == there.hostname or trusts(there.hostname or "")
        keeps = status in _KEEPS_METHOD or self.method in {"GET", "HEAD"}
        carries = self.body is not None or self.options.get("json") is not None or self.options.get("data") is not None
        if carries and (not keeps or not is_same):
            raise Transient(f"{here.hostname}: sends this on to {there.hostname}, which is given nothing; check its address")
        headers = self.headers if is_same else {key: text for key, text in self.headers.items() if key.lower() != "authorization"}
        return replace(self, url=url, headers=headers, options={**self.options, "params": None})


@dataclass
class Http:
    """One host's conversations. `trusts` says which other hosts of a redirect may see its credentials."""

    clock: Clock
    throttle: Throttle | None = None
    trusts: Callable[[str], bool] = lambda _host: False
    agent: str = _AGENT
    draw: Callable[[float], float] = field(default=lambda ceiling: random.uniform(0, ceiling), repr=False)  # noqa: S311 -- no secret
    _local: threading.local = field(default_factory=threading.local, repr=False, init=False)

    def call(
        self,
        method: str,
        url: str,
        deadline: Deadline,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        content: Any = None,
        accept: Collection[int] = (),
        repeats: bool | None = None,
    ) -> Answer:
        """A small request; `content` goes out as JSON, `form` as a form. Every answer of 2xx or in `accept` is returned.

        Repeated after trouble up to 3 times where that changes nothing (`repeats`; else by the method).
        Raises HostRefused, Denied, RateLimited, Transient, ConfigError and the deadline's error.
        """
        request = _Request(method, url, headers or {}, {"params": params, "json": content, "data": form})
        may_repeat = method in {"GET", "HEAD", "DELETE"} if repeats is None else repeats
        for attempt in range(1, TRIES + 1):
            try:
                return self._judged(self._exchange(request, deadline), accept)
            except (HostRefused, Denied):
                raise
            except RateLimited as error:
                if not may_repeat or attempt == TRIES or error.wait_s > FIRST_WAIT_S:
                    raise
                deadline.pause(error.wait_s)
            except Transient:
                if not may_repeat or attempt == TRIES:
                    raise
                deadline.pause(full_jitter(attempt, self.draw))
        raise AssertionError("the last try returns or raises")

    def send(
        self,
        method: str,
        url: str,
        body: Body,
        deadline: Deadline,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        accept: Collection[int] = (),
        progress: Callable[[int], None] = lambda _sent: None,
    ) -> Answer:
        """A body, once. `progress` is told the bytes of the file that have left.

        Raises OutcomeUnknown where the answer was lost behind the last byte, else as `call` does.
        """

        def before_block(count: int) -> None:
            deadline.check()
            if self.throttle is not None:
                self.throttle.take(count, deadline)
            progress(body.file_sent)

        body.rewind()
        body.before_block = before_block
        request = _Request(method, url, {"Content-Length": str(len(body)), **(headers or {})}, {"params": params}, body, READ_S)
        answer = self._judged(self._exchange(request, deadline), accept)
        if not body.is_complete and answer.status < 300:
            raise Transient(f"{answer.host}: HTTP {answer.status} came before it had everything; it is tried again later")
        progress(body.file_sent)
        return answer

    def _judged(self, answer: Answer, accept: Collection[int]) -> Answer:
        if 200 <= answer.status < 300 or answer.status in accept:
            return answer
        raise fault(answer, self.clock)

    def _exchange(self, request: _Request, deadline: Deadline) -> Answer:
        """Follows redirects. Raises Transient, OutcomeUnknown, ConfigError and the deadline's error."""
        for _ in range(REDIRECTS + 1):
            answer = self._once(request, deadline)
            location = answer.headers.get("location")
            if answer.status not in _MOVED or not location:
                return answer
            request = request.moved(answer.status, location, self.trusts)
            if request.body is not None:
                request.body.rewind()
        raise Transient(f"{answer.host}: redirects without end; check its address")

    def _once(self, request: _Request, deadline: Deadline) -> Answer:
        """requests' own errors are dropped, not chained: their text shows the address with the key in it."""
        deadline.check()
        host = urlsplit(request.url).hostname or "?"
        _check_scheme(request.url, host)
        session = self._session(request.url)
        options: dict[str, Any] = {key: value for key, value in request.options.items() if value is not None}
        if request.body is not None:
            options["data"] = request.body
        headers = {"User-Agent": self.agent, **request.headers}
        with Watch(deadline) as watch:
            try:
                answer = session.request(
                    request.method,
                    request.url,
                    headers=headers,
                    timeout=(CONNECT_S, min(request.read_s, max(0.001, deadline.remaining()))),
                    allow_redirects=False,
                    stream=True,
                    **options,
                )
                with answer:
                    content = answer.raw.read(ANSWER_BYTES, decode_content=True) or b""
                    said = {key.lower(): text for key, text in answer.headers.items()}
                    whole = request.body is not None and request.body.is_complete
                    return Answer(answer.status_code, said, content, host, is_of_body=whole)
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                session.close()
                if watch.was_cut:
                    deadline.check()
                trouble = _lost(request, host, _why(error))
        raise trouble from None

    def _session(self, url: str) -> requests.Session:
        """One a thread: sessions are not made for several."""
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.mount("https://", Adapter())
            session.mount("http://", Adapter())
            session.auth = lambda request: request  # else requests looks into ~/.netrc
            self._local.session = session
        session.cookies.clear()
        session.trust_env = not is_loopback(url)  # proxies and certificates of this machine
        return session


def _check_scheme(url: str, host: str) -> None:
    scheme = urlsplit(url).scheme
    if scheme == "https" or (scheme == "http" and is_loopback(url)):
        return
    raise ConfigError(f"{host}: {scheme or 'no scheme'}: only https is spoken, but to this very machine; write https://")


def _why(error: Exception) -> str:
    """The innermost reason: its words know nothing of the address."""
    inner: BaseException = error
    while (
        deeper := inner.__cause__ or inner.__context__ or next((one for one in inner.args if isinstance(one, Exception)), None)
    ) is not None:
        inner = deeper
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return type(inner).__name__


def _lost(request: _Request, host: str, why: str) -> Transient:
    """A lost answer is told from a cut by what had left."""
    body = request.body
    if body is None:
        return Transient(f"{host}: no answer: {why}; it is tried again later")
    if body.is_complete:
        return OutcomeUnknown(f"{host}: the answer to {len(body)} bytes was lost: {why}; the host is asked before it is sent again")
    return Transient(f"{host}: cut after {body.sent} of {len(body)} bytes: {why}; it is tried again later")
