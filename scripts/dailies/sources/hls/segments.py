"""One segment over the network: its key, its range, decrypted and verified block by block as it comes."""

import contextlib
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from dailies.answer import Answer
from dailies.arriving import Incoming
from dailies.clock import Deadline
from dailies.disk import written
from dailies.errors import Category, ConfigError, Transient, VideoError
from dailies.redact import plain
from dailies.request import CALL_S
from dailies.sources.asking import Way
from dailies.sources.hls.marks import Mark
from dailies.sources.hls.playlist import Piece, Span
from dailies.sources.hls.track import Track
from dailies.sources.slots import slot
from dailies.sources.source import Ground

_KEY_BYTES: Final = 16
_HEAD_BYTES: Final = 4 * 188
_SLOWEST_BYTES_PER_S: Final = 1000
_BOXES: Final = frozenset(
    {b"ftyp", b"styp", b"moof", b"moov", b"sidx", b"emsg", b"prft", b"free", b"skip", b"mdat", b"ssix", b"uuid"}
)


class Refused(Transient):
    """A server said no: the same link will not do better."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, Category.UNREACHABLE)
        self.status = status


class Busy(Transient):
    """A server wants everybody to wait."""

    def __init__(self, answer: Answer, wait_s: float) -> None:
        super().__init__(f"{answer.host} wants to be asked later (HTTP {answer.status})", Category.UNREACHABLE)
        self.answer = answer
        self.wait_s = wait_s


@dataclass(frozen=True)
class Job:
    """`way`: how the link was asked that named it."""

    track: Track
    piece: Piece
    way: Way


@dataclass
class Segments:
    """Brings pieces of one video; any number of threads may ask."""

    name: str
    ground: Ground
    _keys: dict[str, bytes] = field(default_factory=dict, repr=False)
    _locks: dict[str, threading.Lock] = field(default_factory=dict, repr=False)
    here_bytes: int = 0  # of all that is complete; told by whoever joins
    coming_bytes: int = 0  # of what is under way
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def bring(self, job: Job, deadline: Deadline) -> Mark:
        """Raises Refused, Busy and Transient of this piece; what else is raised ends the whole fetch."""
        piece = job.piece
        key = None if piece.key is None else self._key(piece.key.url, job.way, deadline)
        sink = _Sink(job, None if key is None or piece.key is None else _Opened(key, piece.key.iv or b""))

        def take(incoming: Incoming) -> None:
            _check_head(incoming, piece.span)
            with sink, self._counted() as count:
                for block in steady(incoming, self.ground):
                    count(len(block))
                    sink.write(block)

        headers = {} if piece.span is None else {"Range": f"bytes={piece.span.offset}-{piece.span.end - 1}"}
        try:
            self._receive(job.way.to(piece.url), take, headers, deadline)
            return job.track.settled(piece, sink.size_bytes, sink.crc)
        finally:
            job.track.temporary(piece).unlink(missing_ok=True)

    def _receive(self, way: Way, take: Callable[[Incoming], None], headers: Mapping[str, str], deadline: Deadline) -> None:
        read_s = self.ground.settings.stall or CALL_S
        with slot(self.ground, deadline):
            try:
                answer = self.ground.http.receive(way.url, deadline, take, headers={**way.headers, **headers}, read_s=read_s)
            except ConfigError as error:  # an address that somebody else wrote
                raise VideoError(f"{self.name}: {error}", Category.UNSUPPORTED) from error
        if answer.status not in {200, 206}:
            raise _refusal(answer, self.ground)

    def _key(self, url: str, way: Way, deadline: Deadline) -> bytes:
        """Asked for once, however many threads need it."""
        with self._lock:
            lock = self._locks.setdefault(url, threading.Lock())
        with lock:
            if url not in self._keys:
                self._keys[url] = self._fetch_key(way.to(url), deadline)
            return self._keys[url]

    def _fetch_key(self, way: Way, deadline: Deadline) -> bytes:
        found = bytearray()

        def take(incoming: Incoming) -> None:
            for block in incoming.blocks():
                found.extend(block)
                if len(found) > _KEY_BYTES:
                    break

        self._receive(way, take, {}, deadline)
        if len(found) != _KEY_BYTES:
            raise Transient(f"{self.name}: the key is not of {_KEY_BYTES} bytes", Category.UNREACHABLE)
        return bytes(found)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[Callable[[int], None]]:
        """Around the bytes of one segment, which take room before they are complete. Raises VideoError where they are too many."""
        counted = 0

        def count(size_bytes: int) -> None:
            nonlocal counted
            counted += size_bytes
            with self._lock:
                self.coming_bytes += size_bytes
            if self.here_bytes + self.coming_bytes > self.ground.settings.max_size:
                raise too_large(self.name, self.ground)

        try:
            yield count
        finally:
            with self._lock:
                self.coming_bytes -= counted


def too_large(name: str, ground: Ground) -> VideoError:
    most = ground.settings.max_size / 1e9
    return VideoError(f"{name}: has more than {most:.1f} GB; raise [sources] max_size", Category.UNSUPPORTED)


def steady(incoming: Incoming, ground: Ground) -> Iterator[bytes]:
    """The blocks, all of them. Raises Transient where they come too slowly or are fewer or more than was said."""
    said = incoming.headers.get("content-length", "")
    wanted = int(said) if said.isdigit() else None
    got, since, before = 0, ground.clock.monotonic(), 0
    for block in incoming.blocks():
        got += len(block)
        now = ground.clock.monotonic()
        if ground.settings.stall and now - since >= ground.settings.stall:
            if got - before < _SLOWEST_BYTES_PER_S * (now - since):
                raise Transient("it came too slowly", Category.UNREACHABLE)
            since, before = now, got
        yield block
    if wanted is not None and got != wanted:
        raise Transient(f"{got} of {wanted} bytes came", Category.UNREACHABLE)


def _refusal(answer: Answer, ground: Ground) -> Transient:
    wait_s = answer.retry_after_s(ground.clock)
    if answer.status == 429 or (answer.status == 503 and wait_s is not None):
        return Busy(answer, 60.0 if wait_s is None else wait_s)
    if 400 <= answer.status < 500:
        return Refused(f"{answer.host}: HTTP {answer.status}", answer.status)
    return Transient(f"{answer.host}: HTTP {answer.status}", Category.UNREACHABLE)


def _check_head(incoming: Incoming, span: Span | None) -> None:
    """Before a byte of the body: a page in the place of a segment, all of a resource in the place of a part of it."""
    if incoming.headers.get("content-type", "").partition(";")[0].strip().lower() == "text/html":
        raise Transient("a page came in the place of media", Category.UNREACHABLE)
    if span is None:
        return
    told = incoming.headers.get("content-range", "").replace(" ", "").lower()
    if incoming.status != 206 or not told.startswith(f"bytes{span.offset}-{span.end - 1}/"):
        raise Transient("its server does not send parts of files", Category.UNREACHABLE)


class _Opened:
    """AES-128 in CBC, undone as it comes. Raises Transient for what does not end as it must."""

    def __init__(self, key: bytes, vector: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
        from cryptography.hazmat.primitives.padding import PKCS7

        self._cipher = Cipher(algorithms.AES(key), modes.CBC(vector)).decryptor()
        self._padding = PKCS7(128).unpadder()

    def update(self, block: bytes) -> bytes:
        return self._padding.update(self._cipher.update(block))

    def end(self) -> bytes:
        try:
            return self._padding.update(self._cipher.finalize()) + self._padding.finalize()
        except ValueError:
            raise Transient("it does not open with its key", Category.UNREACHABLE) from None


class _Sink:
    """Onto disk: a context around the blocks of one segment, whose beginning is looked at before it counts."""

    def __init__(self, job: Job, opened: _Opened | None) -> None:
        self._path = job.track.temporary(job.piece)
        self._opened = opened
        self._head = b""
        self.size_bytes = self.crc = 0

    def __enter__(self) -> None:
        with written(self._path):
            self._file = self._path.open("wb", buffering=0)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._file:
            if kind is None:
                self._put(self._opened.end() if self._opened else b"")
                if not is_media(self._head):
                    raise Transient(f"what came is no media but {_words(self._head)}", Category.UNREACHABLE)

    def write(self, block: bytes) -> None:
        self._put(self._opened.update(block) if self._opened else block)

    def _put(self, block: bytes) -> None:
        if len(self._head) < _HEAD_BYTES:
            self._head += block[: _HEAD_BYTES - len(self._head)]
        self.size_bytes += len(block)
        self.crc = zlib.crc32(block, self.crc)
        with written(self._path):
            left = memoryview(block)
            while left:
                left = left[self._file.write(left) :]


def is_media(head: bytes) -> bool:
    """Whether a segment may begin like this: a transport stream, a box of MP4, packed sound (RFC 8216, 3)."""
    if head[:1] == b"\x47":
        return len(head) >= 188 and all(head[at] == 0x47 for at in range(188, len(head), 188))
    is_sound = head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0) or head[:2] == b"\x0b\x77"
    return is_sound or head[4:8] in _BOXES


def _words(head: bytes) -> str:
    return repr(plain(head[:24].decode("ascii", "replace"))) if head else "nothing"
