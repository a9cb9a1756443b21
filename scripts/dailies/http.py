"""The one door to HTTP: deadlines, classed errors, bodies counted as they leave, credentials that stay with their host."""

import random
import ssl
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import requests
import urllib3

from dailies import __version__
from dailies.answer import FIRST_WAIT_S, Answer, fault, full_jitter
from dailies.arriving import Incoming, blocks, kept, to_disk
from dailies.body import Body, Throttle
from dailies.clock import Clock, Deadline
from dailies.errors import (
    Category,
    DailiesError,
    Denied,
    HostRefused,
    Interrupted,
    OutcomeUnknown,
    OutOfTime,
    RateLimited,
    Transient,
    VideoError,
)
from dailies.request import CALL_S, Request, checked, encodable, is_loopback
from dailies.wire import CONNECT_S, READ_S, PrivateAddress, Session, Watch, is_proxied, leads_outside

TRIES: Final = 3  # of a call that may be repeated
REDIRECTS: Final = 5
_AGENT: Final = f"dailies/{__version__}"
_WITH_BODY: Final = frozenset({200, 206})
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
_LENGTHS: Final = frozenset({"content-length", "transfer-encoding"})  # of an answer that does not end with its connection
_REASONS: Final = {  # of errors that have no words for people
    "RemoteDisconnected": "the connection was closed without an answer",
    "IncompleteRead": "the answer ended early",
    "ReadTimeoutError": "nothing came in time",
    "TimeoutError": "nothing came in time",
}


@dataclass
class Http:
    """One host's conversations. `trusts` says which other hosts of a redirect may see its credentials."""

    clock: Clock
    throttle: Throttle | None = None
    trusts: Callable[[str], bool] = lambda _host: False
    agent: str = _AGENT
    is_public_only: bool = False  # no address of this machine or its network is asked
    speaks_plainly: bool = False  # also http without TLS: for what anybody may see
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
        request = Request(method, url, headers or {}, {"params": encodable(params), "json": content, "data": encodable(form)})
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
        sized = {"Content-Length": str(len(body)), **(headers or {})}
        request = Request(method, url, sized, {"params": encodable(params)}, body, READ_S)
        answer = self._judged(self._exchange(request, deadline), accept)
        if not body.is_complete and answer.status < 300:
            raise Transient(f"{answer.host}: HTTP {answer.status} came before it had everything; it is tried again later")
        progress(body.file_sent)
        return answer

    def download(
        self,
        url: str,
        target: Path,
        deadline: Deadline,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        size_bytes: int | None = None,
    ) -> Answer:
        """A file onto disk, block by block, once; `size_bytes` where its length is known. `content` of the answer stays empty.

        Trouble leaves no `target`. Raises what `call` does, Transient for bytes missing or too many, Waiting for a full disk.
        """

        def take(answer: requests.Response) -> bytes:
            if not 200 <= answer.status_code < 300:
                return kept(answer)
            to_disk(answer, target, deadline, size_bytes)
            return b""

        identity = {"Accept-Encoding": "identity", **(headers or {})}  # the file's own bytes
        request = Request("GET", url, identity, {"params": encodable(params)}, take=take)
        return self._judged(self._exchange(request, deadline), ())

    def receive(
        self,
        url: str,
        deadline: Deadline,
        take: Callable[[Incoming], None],
        *,
        headers: Mapping[str, str] | None = None,
        read_s: float = CALL_S,
    ) -> Answer:
        """A body of any size, once, handed to `take` where the answer is 200 or 206; every answer is returned, whatever it says.

        Raises Transient, VideoError for an address that must not be asked, ConfigError, and what `take` raises but OSError,
        which means the connection's. `read_s`: no single wait for more bytes is longer.
        """

        def handed_over(answer: requests.Response) -> bytes:
            if answer.status_code not in _WITH_BODY:
                return kept(answer)
            said = {key.lower(): text for key, text in answer.headers.items()}
            take(Incoming(answer.status_code, said, answer.url, lambda: blocks(answer, deadline)))
            return b""

        identity = {"Accept-Encoding": "identity", **(headers or {})}  # the file's own bytes
        return self._exchange(Request("GET", url, identity, {}, read_s=read_s, take=handed_over, is_plain=True), deadline)

    def _judged(self, answer: Answer, accept: Collection[int]) -> Answer:
        if 200 <= answer.status < 300 or answer.status in accept:
            return answer
        raise fault(answer, self.clock)

    def _exchange(self, request: Request, deadline: Deadline) -> Answer:
        """Follows redirects. Raises Transient, OutcomeUnknown, ConfigError and the deadline's error."""
        for _ in range(REDIRECTS + 1):
            answer = self._once(request, deadline)
            if answer.status not in _MOVED or not answer.headers.get("location"):
                return answer
            request = request.moved(answer, self.trusts, plainly=self.speaks_plainly)
            if request.body is not None:
                request.body.rewind()
        raise answer.trouble(f"{answer.host}: redirects without end; check its address")

    def _once(self, request: Request, deadline: Deadline) -> Answer:
        """requests' own errors are dropped, not chained: their text shows the address with the key in it."""
        deadline.check()
        host = checked(request, plainly=self.speaks_plainly)
        is_guarded = self.is_public_only and not self._is_proxied(request.url, host)
        trouble: DailiesError
        limit = deadline
        if request.is_plain:
            silent = f"{host}: no answer within {request.read_s:.0f} s; it is tried again later"
            limit = deadline.within(request.read_s, lambda: Transient(silent))
        with Watch(limit, is_public_only=is_guarded) as watch:
            try:
                with self._asked(request, deadline) as answer:
                    if answer.status_code in _WITH_BODY:
                        watch.deadline = deadline  # whoever takes it sees how fast it comes
                    content = request.take(answer)
                    said = {key.lower(): text for key, text in answer.headers.items()}
                    whole = request.body is not None and request.body.is_complete
                    if not watch.was_cut or not _LENGTHS.isdisjoint(said):
                        told = request.told if content else ()
                        return Answer(answer.status_code, said, content, host, is_of_body=whole, url=request.url, told=told)
                    trouble = _lost(request, host, "cut on our side")  # what ends with the connection looks whole then
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                trouble = _lost(request, host, _why(error))
            except PrivateAddress:
                trouble = _private(host)
        self._session(request.url).close()
        ended = _ended(watch.deadline)
        if ended is not None and (isinstance(ended, Interrupted | OutOfTime) or not isinstance(trouble, OutcomeUnknown)):
            raise ended
        raise trouble

    def _asked(self, request: Request, deadline: Deadline) -> requests.Response:
        """The head of the answer; its body is still to come."""
        session, headers = self._session(request.url), {"User-Agent": self.agent, **request.headers}
        timeout = (CONNECT_S, min(request.read_s, deadline.remaining() + 1))  # the watch comes first
        if request.is_plain:
            return session.get_plainly(request.url, headers, timeout)
        options: dict[str, Any] = {key: value for key, value in request.options.items() if value is not None}
        if request.body is not None:
            options["data"] = request.body
        return session.request(
            request.method, request.url, headers=headers, timeout=timeout, allow_redirects=False, stream=True, **options
        )

    def _is_proxied(self, url: str, host: str) -> bool:
        """Whether a proxy connects in our place; it is given no address of this machine or its network, as far as we know it."""
        if is_loopback(url) or not is_proxied(url):
            return False
        if not leads_outside(host):
            raise _private(host)
        return True

    def _session(self, url: str) -> Session:
        """One a thread: sessions are not made for several."""
        session: Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = Session()
        session.cookies.clear()
        session.trust_env = not is_loopback(url)  # proxies and certificates of this machine
        return session


def _private(host: str) -> VideoError:
    return VideoError(
        f"{host}: leads to this machine or its network; give a public link, or set [sources] allow_private = true",
        Category.UNREACHABLE,
    )


def _ended(deadline: Deadline) -> DailiesError | None:
    try:
        deadline.check()
    except DailiesError as error:
        return error
    return None


def _why(error: Exception) -> str:
    """The innermost reason: its words know nothing of the address."""
    inner: BaseException = error
    while (
        deeper := inner.__cause__ or inner.__context__ or next((one for one in inner.args if isinstance(one, Exception)), None)
    ) is not None:
        inner = deeper
    if isinstance(inner, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({inner.verify_message}); check the address and this machine's certificates"
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return _REASONS.get(type(inner).__name__, type(inner).__name__)


def _lost(request: Request, host: str, why: str) -> Transient:
    """A lost answer is told from a cut by what had left."""
    body = request.body
    if body is None:
        return Transient(f"{host}: no answer: {why}; it is tried again later")
    if body.is_complete:
        return OutcomeUnknown(f"{host}: the answer to {len(body)} bytes was lost: {why}; the host is asked before it is sent again")
    return Transient(f"{host}: cut after {body.sent} of {len(body)} bytes: {why}; it is tried again later")
