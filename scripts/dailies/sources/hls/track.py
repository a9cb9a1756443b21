"""One rendition on disk: a file for each segment as it comes, then a growing one for each stretch, and its journal."""

import contextlib
import itertools
import mmap
import os
import zlib
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

from dailies import atomic
from dailies.clock import Deadline
from dailies.disk import written
from dailies.sources.hls.continuity import Content, End, bridge
from dailies.sources.hls.marks import Mark, Stretch, intact, stretches
from dailies.sources.hls.playlist import Piece, Segment, pieces

_MAPPED_BYTES: Final = 4 << 20  # larger pieces are not read into memory


class Track:
    """One rendition: what is here of it, in order (`marks`), out of order (`loose`), and what is to come (`ahead`).

    Used by one thread; others only put files in place by `settled`.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._segments, self._joined = folder / "segments", folder / "joined"
        self._journal = self._joined / f"{name}.journal"
        self.marks: list[Mark] = []
        self.loose: dict[tuple[int, bool], Mark] = {}
        self.ahead: deque[Piece] = deque()
        self.size_bytes = self.duration_ms = 0
        self._stretch = 0
        self._end: End | None = None  # of what was appended last
        self._writers: dict[Path, BinaryIO] = {}

    def temporary(self, piece: Piece) -> Path:
        return self._segments / f"{self.name}-{piece.number}.{piece.kind}.part"

    def settled(self, piece: Piece, size_bytes: int, crc: int) -> Mark:
        """The temporary file of a piece has all of it."""
        mark = Mark.of(piece, size_bytes, crc)
        with written(self._segments):
            self.temporary(piece).replace(self._file(mark))
        return mark

    def resume(self, deadline: Deadline) -> None:
        """Find what an earlier run left; nothing is believed that was not read. Raises the deadline's error."""
        with written(self._joined):
            self._joined.mkdir(parents=True, exist_ok=True)
            self._segments.mkdir(exist_ok=True)
            said = self._journal.read_text("utf-8", "replace") if self._journal.exists() else ""
            marks: list[Mark] = []
            for line in said.splitlines():
                mark = Mark.parse(line)
                if mark is None:
                    break
                marks.append(mark)
            self._cut(list(self._intact(marks, deadline)))
            for path in sorted(self._segments.glob(f"{self.name}-*")):
                mark = Mark.parse(path.name.removeprefix(f"{self.name}-"))
                if mark is None or sum(1 for _ in intact(path, [mark], deadline)) == 0:
                    path.unlink()
                else:
                    self.loose[mark.place] = mark

    def expects(self, wanted: Sequence[Piece]) -> None:
        """All that there will be, from the beginning."""
        self.ahead = deque(wanted[len(self.marks) :])

    def follows(self, segments: Sequence[Segment], *, is_other: bool = False) -> None:
        """What a live playlist holds behind what is here, some of which may have gone from it; `is_other`: of another variant."""
        if self.marks and self.marks[-1].kind == "init":
            self._cut(self.marks[:-1])
        last = self.marks[-1].number if self.marks else None
        fresh = list(pieces([one for one in segments if last is None or one.number > last], last=last))
        first = fresh[0].number if fresh else None
        is_fragmented = "init" in {one.kind for one in self.marks} | {one.kind for one in fresh}
        for mark in list(self.loose.values()):
            is_over = (last is not None and mark.number <= last) or (is_other and first is not None and mark.number >= first)
            if is_over or (is_fragmented and first is not None and mark.number < first):
                self._file(self.loose.pop(mark.place)).unlink(missing_ok=True)
        places = {one.place for one in fresh}
        old = [mark.piece() for place, mark in self.loose.items() if place not in places]
        if is_other and fresh:
            fresh[0] = replace(fresh[0], begins=True)
        self.ahead = deque(self._begun(sorted([*fresh, *old], key=lambda one: one.place)))

    def loses(self, lost: Collection[tuple[int, bool]]) -> None:
        """The pieces of these places do not come, nor what cannot be read without one of them."""
        ahead: list[Piece] = []
        has_init = True
        for piece in self.ahead:
            if piece.kind == "init":
                has_init = piece.place not in lost
            is_lost = piece.place in lost or not (has_init or piece.is_empty)
            if not is_lost:
                ahead.append(piece)
            elif piece.kind != "init":
                ahead.append(Piece(piece.number, "lost", piece.begins, piece.duration_ms))
        self.ahead = deque(self._begun(ahead))

    def extends(self, added: Sequence[Piece]) -> None:
        """Also these, which a live playlist has by now."""
        self.ahead = deque(self._begun([*self.ahead, *added]))

    def _begun(self, ahead: Sequence[Piece]) -> Iterator[Piece]:
        """Behind something lost it begins anew; only fragments of MP4 bear times that go on."""
        is_fragmented = "init" in {one.kind for one in ahead} | {one.kind for one in self.marks}
        trailing = itertools.takewhile(lambda mark: mark.is_empty, reversed(self.marks))
        is_lost, last = any(mark.kind == "lost" for mark in trailing), self.marks[-1].number if self.marks else None
        for piece in ahead:
            is_lost = is_lost or piece.kind == "lost" or (last is not None and piece.number > last + 1)
            last = piece.number
            if piece.kind == "media" and is_lost and not is_fragmented:
                yield replace(piece, begins=True)
            else:
                yield piece
            is_lost = is_lost and piece.is_empty

    def missing(self) -> list[Piece]:
        return [one for one in self.ahead if not one.is_empty and one.place not in self.loose]

    def join(self) -> int:
        """Append whatever is next and here. Bytes that were appended."""
        before = self.size_bytes
        while self.ahead:
            piece = self.ahead[0]
            if not piece.is_empty and piece.place not in self.loose:
                break
            self._append(piece)
            self.loose.pop(piece.place, None)
            self.ahead.popleft()
        return self.size_bytes - before

    def stretches(self) -> list[Stretch]:
        return [Stretch(self._path(number), marks) for number, marks in enumerate(stretches(self.marks))]

    @property
    def waiting_bytes(self) -> int:
        return sum(mark.size_bytes for mark in self.loose.values())

    def _append(self, piece: Piece) -> None:
        """The journal's line comes last: what it does not tell of is cut off after a crash."""
        if piece.begins and self.marks:
            self._stretch, self._end = self._stretch + 1, None
        mark = Mark.of(piece)
        with written(self._joined):
            if not piece.is_empty:
                loose = self.loose[piece.place]
                mark = self._copied(piece, loose)
            journal = self._writer(self._journal)
            journal.write(f"{mark}\n".encode())
            journal.flush()
            if not piece.is_empty:
                self._file(loose).unlink(missing_ok=True)
        self._counts(mark)

    def _copied(self, piece: Piece, loose: Mark) -> Mark:
        """Behind the others, with a bridge where its counters do not go on."""
        joined = self._writer(self._path(self._stretch))
        with _content(self._file(loose), loose.size_bytes) as content:
            before = bridge(self._end, content)
            joined.write(before)
            joined.write(content)
            joined.flush()
            self._end = End.of(content)
            crc = zlib.crc32(content, zlib.crc32(before)) if before else loose.crc
        return Mark.of(piece, len(before) + loose.size_bytes, crc)

    def _writer(self, path: Path) -> BinaryIO:
        """Held open: there are thousands of pieces. Of the joined files only the last is written to."""
        if path not in self._writers:
            if path != self._journal:
                self.close()
            self._writers[path] = path.open("ab")
        return self._writers[path]

    def close(self) -> None:
        """Raises Waiting for a full disk: what could not be written is tried once more here."""
        writers, self._writers = self._writers, {}
        with contextlib.ExitStack() as stack:
            for path, writer in writers.items():
                stack.enter_context(written(path))
                stack.enter_context(writer)

    def _counts(self, mark: Mark) -> None:
        self.marks.append(mark)
        self.size_bytes += mark.size_bytes
        self.duration_ms += mark.duration_ms

    def _cut(self, marks: Sequence[Mark]) -> None:
        """Make what is on disk what these marks say."""
        self.close()
        groups = stretches(marks)
        self.marks, self.size_bytes, self.duration_ms, self._stretch = [], 0, 0, len(groups) - 1
        for mark in marks:
            self._counts(mark)
        with written(self._joined):
            for path in self._joined.glob(f"{self.name}.[0-9]*"):
                number = int(path.suffix[1:])
                if number >= len(groups):
                    path.unlink()
                else:
                    os.truncate(path, sum(mark.size_bytes for mark in groups[number]))
            atomic.write(self._journal, "".join(f"{mark}\n" for mark in marks).encode())
            self._end = self._found_end()

    def _found_end(self) -> End | None:
        last = next((mark for mark in reversed(stretches(self.marks)[-1]) if not mark.is_empty), None)
        if last is None or last.kind != "media":
            return None
        with self._path(self._stretch).open("rb") as joined:
            joined.seek(-last.size_bytes, os.SEEK_END)
            return End.of(joined.read())

    def _intact(self, marks: Sequence[Mark], deadline: Deadline) -> Iterator[Mark]:
        for number, group in enumerate(stretches(marks)):
            good = list(intact(self._path(number), group, deadline))
            yield from good
            if len(good) < len(group):
                return

    def _path(self, stretch: int) -> Path:
        return self._joined / f"{self.name}.{stretch}"

    def _file(self, mark: Mark) -> Path:
        return self._segments / f"{self.name}-{mark}"


@contextlib.contextmanager
def _content(path: Path, size_bytes: int) -> Iterator[Content]:
    with path.open("rb", buffering=0) as file:
        if size_bytes <= _MAPPED_BYTES:
            yield file.read()
        else:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                yield content
