"""What leaves: a file's bytes counted block by block, forms with one file, and the speed of all of it."""

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from dailies.clock import Clock, Deadline
from dailies.errors import Transient
from dailies.redact import plain

BLOCK_BYTES: Final = 256 * 1024


class Throttle:
    """All uploads together leave no faster than this; 0 is no limit."""

    def __init__(self, clock: Clock, bytes_per_s: float) -> None:
        self._clock = clock
        self._bytes_per_s = bytes_per_s
        self._free_at = 0.0
        self._lock = threading.Lock()

    def take(self, count: int, deadline: Deadline) -> None:
        """Wait until `count` bytes may leave. Raises the deadline's error."""
        if not self._bytes_per_s:
            return
        with self._lock:
            now = self._clock.monotonic()
            begin = max(now, self._free_at)
            self._free_at = begin + count / self._bytes_per_s
        deadline.pause(begin - now)


class Body:
    """A part of a file, with bytes before and behind it, read as it leaves. `sent` counts what the socket has taken.

    Knows its length, so that it never goes out in chunks; read block by block, so that memory stays as it is. What was
    handed out counts once more is asked for: only then has the socket taken it.
    Making and reading it raise Transient where the file is gone, shorter or unreadable.
    """

    def __init__(self, path: Path, *, offset: int = 0, length: int | None = None, prefix: bytes = b"", suffix: bytes = b"") -> None:
        self._path = path
        self._offset = offset
        self._prefix = prefix
        self._suffix = suffix
        self._file_bytes = self._size() - offset if length is None else length
        if self._file_bytes < 0:
            raise self._shorter()
        self._pieces: Iterator[bytes] = iter(())
        self._handed_out = 0
        self.sent = 0
        self.is_complete = False  # the socket has taken the last byte
        self.fields: tuple[str, ...] = ()  # what a form says besides the file
        self.before_block: Callable[[int], None] = lambda _count: None
        self.rewind()

    def __len__(self) -> int:
        return len(self._prefix) + self._file_bytes + len(self._suffix)

    def __bool__(self) -> bool:  # requests would take one of no bytes for none
        return True

    def __iter__(self) -> Iterator[bytes]:  # requests takes only what can be iterated for a stream
        while block := self.read(BLOCK_BYTES):
            yield block

    def rewind(self) -> None:
        """For another try, from the first byte."""
        self._handed_out = self.sent = 0
        self.is_complete = False
        self._pieces = self._blocks()

    @property
    def file_sent(self) -> int:
        """Bytes of the file among those that left."""
        return max(0, min(self.sent - len(self._prefix), self._file_bytes))

    def read(self, _size: int = -1) -> bytes:
        """The next block, of a size of our own."""
        self.sent = self._handed_out
        block = next(self._pieces, b"")
        if block:
            self.before_block(len(block))
            self._handed_out += len(block)
        else:
            self.is_complete = self.sent == len(self)
        return block

    def _blocks(self) -> Iterator[bytes]:
        if self._prefix:
            yield self._prefix
        yield from self._file_blocks()
        if self._suffix:
            yield self._suffix

    def _file_blocks(self) -> Iterator[bytes]:
        left = self._file_bytes
        try:
            with self._path.open("rb", buffering=0) as file:
                file.seek(self._offset)
                while left > 0:
                    block = file.read(min(BLOCK_BYTES, left))
                    if not block:
                        raise self._shorter()
                    left -= len(block)
                    yield block
        except OSError as error:  # of the file: what happens to the socket is not thrown in here
            raise self._unreadable(error) from None

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError as error:
            raise self._unreadable(error) from None

    def _shorter(self) -> Transient:
        return Transient(f"{plain(self._path.name)}: became shorter while it was sent; it is tried again later")

    def _unreadable(self, error: OSError) -> Transient:
        return Transient(f"{plain(self._path.name)}: cannot be read any more: {error.strerror}; it is tried again later")


def multipart(fields: Mapping[str, str], name: str, filename: str, path: Path) -> tuple[Body, str]:
    """(the body of a form with one file, its Content-Type). Names are escaped as browsers do (HTML, "multipart/form-data").

    What is no character (a lone surrogate, as in a file name that is no UTF-8) goes out as `?`.
    """
    boundary = f"dailies-{random.SystemRandom().getrandbits(96):024x}"
    head = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(key)}"\r\n\r\n{value}\r\n' for key, value in fields.items()
    )
    head += f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"; filename="{_quoted(filename)}"\r\n'
    head += "Content-Type: application/octet-stream\r\n\r\n"
    body = Body(path, prefix=head.encode(errors="replace"), suffix=f"\r\n--{boundary}--\r\n".encode())
    body.fields = tuple(fields.values())
    return body, f"multipart/form-data; boundary={boundary}"


def _quoted(text: str) -> str:
    return text.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
