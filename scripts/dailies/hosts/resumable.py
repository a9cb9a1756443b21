"""Google's resumable uploads, as YouTube and PeerTube (node-uploadx) speak them: sessions, and the tokens they are sent with.

A session is asked what it has before anything is sent to it again. That answers a cut (308: go on from there), a lost answer
(200: it is done) and an expired session (404: look whether the host has the file before starting anew).
"""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urljoin, urlsplit

from dailies.answer import LONGEST_WAIT_S, Answer, full_jitter
from dailies.body import Body
from dailies.clock import Deadline, timestamp
from dailies.errors import (
    DailiesError,
    Denied,
    HostRefused,
    HostSilent,
    Interrupted,
    OutcomeUnknown,
    OutOfTime,
    RateLimited,
    Transient,
)
from dailies.hosts.answers import is_address
from dailies.hosts.host import Asset, Receipt, Transfer
from dailies.http import Http
from dailies.redact import Redactor
from dailies.request import is_loopback

CHUNK_UNIT: Final = 256 * 1024  # a chunk that is not the last is a multiple of it (Google, "Upload a file in chunks")
RECOVERIES: Final = 5  # in a row, without a byte more at the host
SESSIONS: Final = 3  # of one call: a host that loses more is left for later
_RESUME: Final = 308
_GONE: Final = frozenset({404, 410})
_OTHER_PLACE: Final = 409  # PeerTube: the range does not begin where it stopped
_EVERY: Final = range(300, 600)  # answers are judged here
_RANGE: Final = re.compile(r"(?:bytes=)?0-(-?\d{1,18})")
_EARLIER_S: Final = 300.0  # an access token is renewed this long before it ends
_SHORTEST_SECRET: Final = 6


@dataclass(frozen=True)
class Held:
    """The host has the bytes before `offset` and waits for more, not before `wait_s`."""

    offset: int
    wait_s: float = 0.0


@dataclass(frozen=True)
class Gone:
    """The host knows this session no more: it expired, or it is done with it."""


@dataclass
class AccessToken:
    """Kept in memory until shortly before it ends. `fetch` gives (token, seconds it is good for); uploads may share it."""

    fetch: Callable[[Deadline], tuple[str, float]]
    _token: str = field(default="", init=False, repr=False)
    _ends: float = field(default=0.0, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def headers(self, deadline: Deadline) -> dict[str, str]:
        with self._lock:
            now = deadline.clock.monotonic()
            if not self._token or now >= self._ends:
                self._token, good_s = self.fetch(deadline)
                self._ends = now + max(good_s - _EARLIER_S, good_s / 2)
            return {"Authorization": f"Bearer {self._token}"}

    def drop(self) -> None:
        """The host takes it no more."""
        with self._lock:
            self._token = ""


@dataclass(frozen=True)
class Protocol:
    """What differs between hosts, for one asset."""

    name: str
    http: Http
    base_url: str  # addresses of sessions are resolved against it
    token: AccessToken
    create: Callable[[Deadline], Answer]  # a session; its address is in Location
    read: Callable[[Answer], Receipt]  # a final answer; raises Transient for what is none
    refusal: Callable[[Answer], DailiesError]  # what an answer that is an error means
    find: Callable[[Deadline], Receipt | None]  # in the host's listing; None where it certainly has none
    trusts: Callable[[str], bool] = lambda _host: False  # other hosts where a session may be
    new_status: int = 201  # of a session that has nothing yet; others are asked what they have
    chunk_bytes: int = 0  # of one request; 0 = all that is left in one
    settle_s: float = 0.0  # after which a listing is asked again before it is believed to lack a file


def upload(protocol: Protocol, path: Path, asset: Asset, transfer: Transfer) -> Receipt:
    """Send what the host has not got yet, by the saved session where there is one.

    Raises HostRefused, Denied, RateLimited, Transient, OutcomeUnknown (all bytes left and the host says no more), the deadline's
    error, and what `find` raises where a session is gone. The session stays: it tells a run that dies now what became of it.
    """
    size = len(Body(path))
    if size != asset.size_bytes or not size:
        raise Transient(f"{path.name}: has {size} bytes instead of {asset.size_bytes}; it is made again later")
    address = _saved(protocol, asset, transfer)
    for _ in range(SESSIONS):
        way = _Way(protocol, asset, transfer, address) if address else _begun(protocol, asset, transfer)
        with _doubted(way):
            receipt = way.send(path) or _found(protocol, transfer.deadline)
        if receipt is not None:
            return receipt
        address = None
    raise Transient(f"{protocol.name}: lost {SESSIONS} uploads of {path.name} one after another; it is tried again later")


@contextlib.contextmanager
def _doubted(way: "_Way") -> Iterator[None]:
    """Once all bytes left, only the host's own word, or the run's end, is more than that nobody knows what became of them."""
    try:
        yield
    except (HostRefused, HostSilent, Interrupted, OutOfTime):
        raise
    except DailiesError as error:
        if not way.is_whole:
            raise
        name = way.protocol.name
        raise OutcomeUnknown(f"{name}: was sent all and does not tell what became of it; it is asked later") from error


def finished(protocol: Protocol, asset: Asset, transfer: Transfer) -> Receipt | Held | None:
    """What the saved session says: a receipt (it is done), Held (it waits for more); None where there is none or it is gone.

    Raises what `refusal` makes of other answers, and Transient.
    """
    address = _saved(protocol, asset, transfer)
    try:
        said = _Way(protocol, asset, transfer, address).ask() if address else None
    except HostRefused:
        transfer.session.drop()
        raise
    return None if isinstance(said, Gone) else said


def _found(protocol: Protocol, deadline: Deadline) -> Receipt | None:
    """A session may be gone because it is done: the listing is asked, again once it had time to take the file up."""
    receipt = protocol.find(deadline)
    if receipt is None and protocol.settle_s:
        deadline.pause(protocol.settle_s)
        receipt = protocol.find(deadline)
    return receipt


def _saved(protocol: Protocol, asset: Asset, transfer: Transfer) -> str | None:
    """The address of a session for these very bytes at this very host."""
    content = transfer.session.load()
    address = content.get("address")
    known = {"name": asset.name, "sha256": asset.sha256, "size_bytes": asset.size_bytes}
    if not known.items() <= content.items() or not isinstance(address, str):
        return None
    return address if _is_trusted(protocol, address) else None


def _begun(protocol: Protocol, asset: Asset, transfer: Transfer) -> "_Way":
    """A new session, saved before the first byte leaves."""
    answer = protocol.create(transfer.deadline)
    location = answer.headers.get("location", "").strip()
    address = ""
    with contextlib.suppress(ValueError):
        address = urljoin(f"{protocol.base_url.rstrip('/')}/", location)
    if not location or not _is_trusted(protocol, address):
        raise Transient(f"{protocol.name}: HTTP {answer.status} names no address of its own to send to; it is tried again later")
    created = timestamp(protocol.http.clock.now())
    content = {
        "address": address,
        "name": asset.name,
        "sha256": asset.sha256,
        "size_bytes": asset.size_bytes,
        "created_at": created,
    }
    transfer.session.save(content)
    return _Way(protocol, asset, transfer, address, offset=0 if answer.status == protocol.new_status else None)


def _is_trusted(protocol: Protocol, address: str) -> bool:
    """Bytes and the access token go to https (or this machine) only, to the host itself or where it is known to send on to."""
    if not is_address(address):
        return False
    here, there = urlsplit(protocol.base_url), urlsplit(address)
    host = there.hostname or ""
    return (there.scheme == "https" or is_loopback(address)) and (host == here.hostname or protocol.trusts(host))


@dataclass
class _Way:
    """How one session goes."""

    protocol: Protocol
    asset: Asset
    transfer: Transfer
    address: str = field(repr=False)  # a secret: who has it can write to it
    offset: int | None = None  # to send from; None: the host must be asked
    best: int = 0  # most that it had
    failures: int = 0  # in a row, without progress
    is_whole: bool = False  # all bytes left, and no answer since said that some are missing

    def send(self, path: Path) -> Receipt | None:
        """Until the host has it all; None where the session is gone."""
        while True:
            try:
                said = self.ask() if self.offset is None else self._put(path, self.offset)
            except Transient as error:
                self._recover(error)
                continue
            except HostRefused:
                self.transfer.session.drop()
                raise
            if isinstance(said, Gone):
                return None
            if isinstance(said, Receipt):
                self.transfer.progress(self.asset.size_bytes)
                return said
            self._advance(said)

    def ask(self) -> Receipt | Held | Gone:
        """The status query."""
        answer = self._query()
        if answer.status == 401:
            self.protocol.token.drop()
            answer = self._query()
        return self._judged(answer)

    def _query(self) -> Answer:
        deadline = self.transfer.deadline
        headers = {**self.protocol.token.headers(deadline), "Content-Range": f"bytes */{self.asset.size_bytes}"}
        return self.protocol.http.call("PUT", self.address, deadline, headers=headers, accept=_EVERY, repeats=True)

    def _put(self, path: Path, start: int) -> Receipt | Held | Gone:
        """One request. Raises Transient; `is_whole` tells whether the last byte had left."""
        size, transfer = self.asset.size_bytes, self.transfer
        length = min(self.protocol.chunk_bytes or size, size - start)
        headers = {
            **self.protocol.token.headers(transfer.deadline),
            "Content-Type": "application/octet-stream",
            "Content-Range": f"bytes {start}-{start + length - 1}/{size}",
        }
        body = Body(path, offset=start, length=length)
        try:
            answer = self.protocol.http.send(
                "PUT",
                self.address,
                body,
                transfer.deadline,
                headers=headers,
                accept=_EVERY,
                progress=lambda sent: transfer.progress(start + sent),
            )
        finally:
            self.is_whole = body.is_complete and start + length == size  # whatever came back
        if answer.status == 401:  # it may have ended on the way
            self.protocol.token.drop()
            raise Transient(f"{self.protocol.name}: HTTP 401: the access token has ended; a new one is asked for")
        said = self._judged(answer)
        if isinstance(said, Held) and not start < said.offset <= start + length:
            raise Transient(f"{self.protocol.name}: sent {length} bytes, has not what it should; it is asked again")
        return said

    def _judged(self, answer: Answer) -> Receipt | Held | Gone:
        """Raises Transient for a range that cannot be and for all without an end, and what `read` and `refusal` make of it."""
        name = self.protocol.name
        if answer.status == _RESUME:
            held = Held(self._held(answer), answer.retry_after_s(self.protocol.http.clock) or 0.0)
            if held.offset == self.asset.size_bytes:
                self.is_whole = True
                raise Transient(f"{name}: has all bytes and is not done with them; it is asked again later")
            return held
        if answer.status in _GONE:
            return Gone()
        if answer.status == _OTHER_PLACE:
            raise Transient(f"{name}: HTTP 409: waits for other bytes than these; it is asked for which")
        if answer.status < 300:
            return self.protocol.read(answer)
        raise self.protocol.refusal(replace(self._without_address(answer), is_of_body=False))  # `is_whole` says it of the file

    def _held(self, answer: Answer) -> int:
        """How much it has, of `Range: bytes=0-41`; nothing where that is missing or ends at -1, as node-uploadx writes it."""
        text = answer.headers.get("range", "").strip()
        found = _RANGE.fullmatch(text)
        offset = int(found[1]) + 1 if found else 0
        if (text and not found) or not 0 <= offset <= self.asset.size_bytes:
            raise Transient(f"{self.protocol.name}: says that it has a range that cannot be; it is asked again later")
        return offset

    def _without_address(self, answer: Answer) -> Answer:
        """Error pages repeat the address that was asked for, and messages repeat the page."""
        values = [value for _, value in parse_qsl(urlsplit(self.address).query) if len(value) >= _SHORTEST_SECRET]
        return replace(answer, content=Redactor(values)(answer.content.decode("utf-8", "replace")).encode())

    def _advance(self, held: Held) -> None:
        self.is_whole = False
        if held.offset > self.best:
            self.best, self.failures = held.offset, 0
        self.offset = held.offset
        self.transfer.progress(held.offset)
        self.transfer.deadline.pause(held.wait_s)

    def _recover(self, error: Transient) -> None:
        """Wait before the host is asked again; raises where that makes no sense (any more)."""
        self.offset = None
        self.failures += 1
        wait = error.wait_s if isinstance(error, RateLimited) else 0.0
        deadline = self.transfer.deadline
        is_near = wait <= min(LONGEST_WAIT_S, deadline.remaining())
        if self.failures <= RECOVERIES and is_near and not isinstance(error, Denied):
            deadline.pause(max(wait, full_jitter(self.failures, self.protocol.http.draw)))
            return
        if isinstance(error, OutcomeUnknown) and not self.is_whole:  # of a part in the middle: the file is not there for certain
            raise Transient(str(error)) from error
        raise error
