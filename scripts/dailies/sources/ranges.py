"""A file that comes in spans, in any order: its bytes on disk, and a journal of what is there that a kill cannot falsify."""

import hashlib
import os
import threading
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from dailies import atomic
from dailies.clock import Deadline
from dailies.disk import written
from dailies.errors import Transient

SPAN_BYTES: Final = 1 << 20  # at most so much of a connection's work is lost by a kill


@dataclass(frozen=True, order=True)
class Span:
    """Bytes from `start` up to `end` that were written, and their CRC-32."""

    start: int
    end: int
    crc: int


@dataclass
class Claim:
    """What one connection is to bring, from `at` on."""

    at: int
    end: int


def gaps(spans: Iterable[Span], size_bytes: int) -> list[Claim]:
    """What is not there yet, in order."""
    found, at = [], 0
    for span in sorted(spans):
        if span.start > at:
            found.append(Claim(at, span.start))
        at = span.end
    return [*found, Claim(at, size_bytes)] if at < size_bytes else found


def _apart(spans: Iterable[Span], size_bytes: int) -> Iterator[Span]:
    """Those that lie in the file and not over another."""
    at = 0
    for span in sorted(spans):
        if at <= span.start < span.end <= size_bytes:
            yield span
            at = span.end


class Part:
    """The file as far as it is here; `size_bytes` is None where it will be known at its end only. Several threads may fill it.

    A line of the journal follows the bytes that it tells of. Nothing is synced: after a power cut lines may be there whose bytes
    are not, or half a line; so what is gone on from is read and compared first. The journal's first line is the `token` of the
    fetch that it belongs to.
    """

    def __init__(self, path: Path, journal: Path, size_bytes: int | None, spans: Iterable[Span] = ()) -> None:
        spans = tuple(spans)
        self.path, self.journal, self.size_bytes = path, journal, size_bytes
        self.got = sum(span.end - span.start for span in spans)
        self._missing = [] if size_bytes is None else gaps(spans, size_bytes)
        self._lock = threading.Lock()
        with written(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._lines = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    @classmethod
    def begun(cls, path: Path, journal: Path, token: str, size_bytes: int | None) -> Self:
        """Nothing of it is here."""
        with written(path):
            path.unlink(missing_ok=True)
            _write_journal(journal, token, ())
            part = cls(path, journal, size_bytes)
            os.ftruncate(part._file, size_bytes or 0)
        return part

    @classmethod
    def resumed(cls, path: Path, journal: Path, token: str, size_bytes: int, deadline: Deadline) -> Self:
        """What an earlier fetch brought, as far as it is still what it was. Raises the deadline's error."""
        spans = sound(path, _read_journal(journal, token), size_bytes, deadline)
        with written(path):
            _write_journal(journal, token, spans)
            part = cls(path, journal, size_bytes, spans)
            os.ftruncate(part._file, size_bytes)
        return part

    def close(self) -> None:
        os.close(self._file)
        os.close(self._lines)

    @property
    def is_whole(self) -> bool:
        return self.size_bytes is not None and self.got == self.size_bytes

    def claim(self, most: int | None) -> Claim | None:
        """The first bytes that nobody brings yet, `most` of them or as many as there are in a row; None where there are none."""
        with self._lock:
            if not self._missing:
                return None
            gap = self._missing.pop(0)
            if most is None or gap.end - gap.at <= most:
                return gap
            self._missing.insert(0, Claim(gap.at + most, gap.end))
            return Claim(gap.at, gap.at + most)

    def give_back(self, claim: Claim) -> None:
        """What of it did not come is claimed by another."""
        if claim.at < claim.end:
            with self._lock:
                self._missing = sorted([claim, *self._missing], key=lambda gap: gap.at)

    def pour(self, blocks: Iterable[bytes], claim: Claim, host: str) -> None:
        """Write what comes from a host; `claim.at` moves along. What broke off is noted too.

        Raises Transient for more than was claimed.
        """
        begun, crc = claim.at, 0
        try:
            for block in blocks:
                if claim.at + len(block) > claim.end:
                    raise Transient(f"{host}: sends more bytes than it announced; it is tried again later")
                self._write(claim.at, block)
                claim.at, crc = claim.at + len(block), zlib.crc32(block, crc)
                if claim.at - begun >= SPAN_BYTES:
                    self._note(Span(begun, claim.at, crc))
                    begun, crc = claim.at, 0
        finally:
            if claim.at > begun:
                self._note(Span(begun, claim.at, crc))

    def ends(self) -> None:
        """The file of unknown size came to its end."""
        self.size_bytes = self.got

    def digest(self, algorithm: str, deadline: Deadline) -> str:
        """Of all that is there, in hex."""
        found = hashlib.new(algorithm, usedforsecurity=False)
        with written(self.path):
            for block in _read(self._file, 0, self.got, deadline):
                found.update(block)
        return found.hexdigest()

    def put_in_place(self, target: Path) -> None:
        """It survives a power cut as it is then."""
        with written(target):
            os.fsync(self._file)
            self.path.replace(target)

    def _write(self, at: int, block: bytes) -> None:
        view = memoryview(block)
        with written(self.path):
            while view:
                count = os.pwrite(self._file, view, at)
                at, view = at + count, view[count:]

    def _note(self, span: Span) -> None:
        with self._lock, written(self.journal):
            os.write(self._lines, _line(span))  # at once: lines of two threads do not mix
            self.got += span.end - span.start


def sound(path: Path, spans: Iterable[Span], size_bytes: int, deadline: Deadline) -> tuple[Span, ...]:
    """Those whose bytes are in the file as they were written."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ()
    try:
        return tuple(span for span in _apart(spans, size_bytes) if _crc(file, span, deadline) == span.crc)
    finally:
        os.close(file)


def is_whole(path: Path, journal: Path, token: str, size_bytes: int, deadline: Deadline) -> bool:
    """Whether a file is what the journal says of a complete one."""
    if not path.is_file() or path.stat().st_size != size_bytes:
        return False
    return not gaps(sound(path, _read_journal(journal, token), size_bytes, deadline), size_bytes)


def _crc(file: int, span: Span, deadline: Deadline) -> int | None:
    crc, count = 0, 0
    try:
        for block in _read(file, span.start, span.end, deadline):
            crc, count = zlib.crc32(block, crc), count + len(block)
    except OSError:
        return None  # what the disk lost is fetched again
    return crc if count == span.end - span.start else None


def _read(file: int, start: int, end: int, deadline: Deadline) -> Iterator[bytes]:
    while start < end and (block := os.pread(file, min(SPAN_BYTES, end - start), start)):
        deadline.check()
        yield block
        start += len(block)


def _line(span: Span) -> bytes:
    return f"{span.start} {span.end} {span.crc}\n".encode()


def _write_journal(journal: Path, token: str, spans: Iterable[Span]) -> None:
    atomic.write(journal, f"{token}\n".encode() + b"".join(map(_line, spans)))


def _read_journal(journal: Path, token: str) -> Iterator[Span]:
    """Without lines that are cut off; of the journal of another fetch nothing."""
    try:
        first, *lines = journal.read_bytes().split(b"\n")
    except OSError:
        return
    if first != token.encode():
        return
    for line in lines:
        numbers = line.split(b" ")
        if len(numbers) == 3 and all(number.isdigit() and len(number) < 20 for number in numbers):
            yield Span(*map(int, numbers))
