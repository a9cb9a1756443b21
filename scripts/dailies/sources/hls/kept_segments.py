"""All of a playlist that is on disk: its tracks, what it looked like, what was finished."""

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from dailies import atomic
from dailies.clock import Deadline
from dailies.disk import written
from dailies.sources.hls.marks import Mark, crc_of, intact
from dailies.sources.hls.playlist import Piece, fingerprint
from dailies.sources.hls.track import Track

_LIVE: Final = "live"
Orders = Mapping[str, Sequence[Piece]]


class Finished(BaseModel):
    """The whole of it; without `crc` it is the one stretch that the journal tells of."""

    model_config = ConfigDict(frozen=True)
    size_bytes: int
    crc: int | None = None
    warnings: tuple[str, ...] = ()


class State(BaseModel):
    """`prints`: by track what its playlist looked like, or that it was live; `variants`: the print of what it is of a master."""

    model_config = ConfigDict(frozen=True)
    prints: Mapping[str, str] = {}
    variants: Mapping[str, str] = {}
    finished: Finished | None = None


class Kept:
    """All of a playlist that is on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "hls.json"
        self.tracks: dict[str, Track] = {}
        try:
            self.state = State.model_validate_json(self._path.read_bytes())
        except (OSError, ValidationError):
            self.state = State()

    def is_live(self) -> bool:
        return _LIVE in self.state.prints.values()

    def has_recorded(self) -> bool:
        """What is recorded of a live playlist may never come again."""
        here = [mark for track in self.tracks.values() for mark in (*track.marks, *track.loose.values())]
        return self.is_live() and any(mark.kind == "media" for mark in here)

    def resume(self, deadline: Deadline) -> None:
        """Whatever the state tells of."""
        self.tracks = {name: Track(self.folder, name) for name in self.state.prints}
        for track in self.tracks.values():
            track.resume(deadline)

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            for track in self.tracks.values():
                stack.callback(track.close)

    def fits(self, orders: Orders, variants: Mapping[str, str], *, is_live: bool) -> bool:
        """Whether what is here is of this playlist."""
        if self.is_live():
            return orders.keys() == self.state.prints.keys() and (self.has_recorded() or variants == self.state.variants)
        return self.state.prints == _prints(orders, variants, is_live=is_live)

    def turns(self, variants: Mapping[str, str]) -> None:
        """A live playlist goes on with these."""
        if variants != self.state.variants:
            self._save(self.state.model_copy(update={"variants": variants}))

    def begin(self, orders: Orders, variants: Mapping[str, str], *, is_live: bool, deadline: Deadline) -> None:
        """From nothing."""
        self.close()
        with written(self.folder):
            for name in ("segments", "joined"):
                if (self.folder / name).exists():
                    shutil.rmtree(self.folder / name)
        self._save(State(prints=_prints(orders, variants, is_live=is_live), variants=variants))
        self.resume(deadline)

    def finish(self, path: Path, target: Path, finished: Finished) -> None:
        """Put the whole in place, and tell before, so that nobody begins anew behind it."""
        self._save(self.state.model_copy(update={"finished": finished}))
        with written(target):
            with path.open("rb") as file:
                os.fsync(file.fileno())
            atomic.put_in_place(path, target)
        journal = self.folder / "joined" / f"{next(iter(self.tracks))}.journal"
        with written(self.folder):
            shutil.rmtree(self.folder / "segments", ignore_errors=True)
            for left in journal.parent.iterdir():
                if left != journal:
                    left.unlink()

    def finished(self, target: Path, deadline: Deadline) -> Finished | None:
        """What was finished and is still there, byte for byte."""
        finished = self.state.finished
        try:
            if finished is None or target.stat().st_size != finished.size_bytes:
                return None
        except FileNotFoundError:
            return None
        if finished.crc is not None:
            return finished if crc_of(target, deadline) == finished.crc else None
        journal = self.folder / "joined" / f"{next(iter(self.state.prints))}.journal"
        lines = journal.read_text("utf-8", "replace").splitlines() if journal.exists() else []
        marks = [mark for mark in map(Mark.parse, lines) if mark is not None]
        return finished if sum(1 for _ in intact(target, marks, deadline)) == len(lines) > 0 else None

    def _save(self, state: State) -> None:
        with written(self._path):
            atomic.write(self._path, state.model_dump_json(indent=2).encode())
        self.state = state


def _prints(orders: Orders, variants: Mapping[str, str], *, is_live: bool) -> Mapping[str, str]:
    return {name: _LIVE if is_live else fingerprint(order, variants.get(name, "")) for name, order in orders.items()}
