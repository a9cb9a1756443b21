"""What the journal says of the pieces that are here, and whether they stand in a file as it says."""

import itertools
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Self, get_args

from dailies.clock import Deadline
from dailies.sources.hls.playlist import Piece, PieceKind

_BLOCK_BYTES: Final = 1 << 20
_TEXT: Final = re.compile(rf"(\d+)\.({'|'.join(get_args(PieceKind))})(\+?)\.(\d+)\.(\d+)\.([0-9a-f]{{8}})")


@dataclass(frozen=True)
class Mark:
    """A piece that is here: its line of the journal, and the name of its file before that."""

    number: int
    kind: PieceKind
    begins: bool
    duration_ms: int
    size_bytes: int
    crc: int

    @classmethod
    def of(cls, piece: Piece, size_bytes: int = 0, crc: int = 0) -> Self:
        return cls(piece.number, piece.kind, piece.begins, piece.duration_ms, size_bytes, crc)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        found = _TEXT.fullmatch(text)
        if found is None:
            return None
        kind: PieceKind = next(one for one in get_args(PieceKind) if one == found[2])
        return cls(int(found[1]), kind, bool(found[3]), int(found[4]), int(found[5]), int(found[6], 16))

    @property
    def is_empty(self) -> bool:
        return self.kind in {"gap", "lost"}

    def __str__(self) -> str:
        begins = "+" if self.begins else ""
        return f"{self.number}.{self.kind}{begins}.{self.duration_ms}.{self.size_bytes}.{self.crc:08x}"

    @property
    def place(self) -> tuple[int, bool]:
        return self.number, self.kind != "init"

    def piece(self) -> Piece:
        return Piece(self.number, self.kind, self.begins, self.duration_ms)


@dataclass(frozen=True)
class Stretch:
    """What plays without a break: one file."""

    path: Path
    marks: tuple[Mark, ...]

    @property
    def size_bytes(self) -> int:
        return sum(mark.size_bytes for mark in self.marks)

    @property
    def duration_s(self) -> float:
        return sum(mark.duration_ms for mark in self.marks) / 1000

    @property
    def is_fragmented(self) -> bool:
        return any(mark.kind == "init" for mark in self.marks)

    @property
    def has_media(self) -> bool:
        return any(mark.kind == "media" for mark in self.marks)


def stretches(marks: Iterable[Mark]) -> list[tuple[Mark, ...]]:
    found: list[list[Mark]] = [[]]
    for mark in marks:
        if mark.begins and found[-1]:
            found.append([])
        found[-1].append(mark)
    return [tuple(one) for one in found]


def intact(path: Path, marks: Sequence[Mark], deadline: Deadline) -> Iterator[Mark]:
    """Those that stand in the file as they were written, up to the first that does not."""
    if not path.exists():
        yield from itertools.takewhile(lambda mark: mark.size_bytes == 0, marks)
        return
    with path.open("rb") as file:
        for mark in marks:
            deadline.check()
            if _crc(file, mark.size_bytes) != mark.crc:
                return
            yield mark


def _crc(file: BinaryIO, size_bytes: int) -> int | None:
    """Of the next bytes; None where there are not so many."""
    crc = 0
    while size_bytes:
        block = file.read(min(size_bytes, _BLOCK_BYTES))
        if not block:
            return None
        size_bytes -= len(block)
        crc = zlib.crc32(block, crc)
    return crc


def crc_of(path: Path, deadline: Deadline) -> int:
    """Of a whole file. Raises the deadline's error."""
    crc = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            deadline.check()
            crc = zlib.crc32(block, crc)
    return crc
