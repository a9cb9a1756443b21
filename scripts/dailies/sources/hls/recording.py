"""One playlist from its link to the file: what is wanted, what is here, when the link is made fresh, when a live one has ended."""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dailies import copying
from dailies.clock import Deadline
from dailies.errors import Category, DailiesError, Denied, Postponed, SourceGone, Transient, VideoError
from dailies.model import Source
from dailies.sources.asking import Way, refreshed, verdict
from dailies.sources.hls.kept_segments import Finished, Kept, Track, crc_of
from dailies.sources.hls.playlist import Init, MediaList, Piece, Segment, pieces
from dailies.sources.hls.pool import Pool
from dailies.sources.hls.reading import Found, Reader
from dailies.sources.hls.segments import Job, Segments, too_large
from dailies.sources.source import Fetched, Ground, Place

log = logging.getLogger(__name__)

ATTEMPTS: Final = 3  # with fresh links, that bring next to nothing
BEFORE_FRESH_S: Final = 10.0
UNCHANGED: Final = 5  # target durations after which a live playlist has ended
UNCHANGED_LEAST_S: Final = 60.0
_MARGIN: Final = 1.1  # of what is reserved
_FIRST_BYTES: Final = 64_000_000  # reserved for a live playlist, of which nothing is known


class _Anew(Exception):
    """What a fresh link led to is not what was fetched so far."""

    def __init__(self, found: Found) -> None:
        super().__init__()
        self.found = found


@dataclass
class _Following:
    """How far a playlist is known; `changed_at`, `next_at`: on the monotonic clock."""

    url: str
    target_s: float
    changed_at: float
    next_at: float
    last: int | None = None
    init: Init | None = None
    has_ended: bool = False


@dataclass
class Recording:
    source: Source
    ground: Ground
    place: Place
    deadline: Deadline
    kept: Kept
    _orders: Mapping[str, Sequence[Piece]] = field(default_factory=dict)
    _following: dict[str, _Following] = field(default_factory=dict)
    _warnings: list[str] = field(default_factory=list)
    _way: Way = field(default_factory=lambda: Way(""))
    _fruitless: int = 0
    _promised: int = 0
    _bits_per_s: int = 0
    _whole_ms: int = 0

    def run(self) -> Fetched:
        """Raises what fetchers do."""
        with contextlib.closing(self.kept):
            self.kept.resume(self.deadline)
            try:
                found = self._first()
            except SourceGone:
                if not self._has_recorded():
                    raise
                self._warnings.append("its playlist has gone: what was recorded before is kept")
                return self._finish()
            return self._all_of(found)

    def _all_of(self, found: Found) -> Fetched:
        for _ in range(ATTEMPTS):
            self._takes(found)
            try:
                self._bring()
            except _Anew as anew:
                log.info("video=%s playlist=%s", self.source.original_name, "is another by now; begun anew")
                found = anew.found
            else:
                return self._finish()
        raise Transient(
            f"{self.source.original_name}: its playlist is another each time; it is tried again later", Category.CHANGED
        )

    def _first(self) -> Found:
        """A link that lets nobody in is made fresh once."""
        reader = Reader(self.source, self.ground, self.deadline)
        try:
            return reader.look(self.ground.link(self.source))
        except Denied:
            return reader.look(refreshed(self.source, self.ground, self.deadline))

    def _has_recorded(self) -> bool:
        return self.kept.is_live() and any(mark.kind == "media" for track in self._tracks for mark in track.marks)

    @property
    def _tracks(self) -> list[Track]:
        return list(self.kept.tracks.values())

    # What is wanted

    def _takes(self, found: Found) -> None:
        """Make this playlist what is wanted, going on with what is here where it is the same."""
        orders = {name: tuple(pieces(listed.media.segments)) for name, listed in found.lists.items()}
        if not self.kept.fits(orders, is_live=found.is_live):
            self.kept.begin(orders, is_live=found.is_live, deadline=self.deadline)
        self._way, self._bits_per_s, self._orders, self._following = found.way, found.bits_per_s, orders, {}
        for name, listed in found.lists.items():
            track = self.kept.tracks[name]
            if self.kept.is_live():
                self._follow(track, listed.url, listed.media)
            else:
                track.expects(orders[name])
        self._whole_ms = sum(piece.duration_ms for order in orders.values() for piece in order)
        self._promise()

    def _follow(self, track: Track, url: str, media: MediaList) -> None:
        now, behind = self.ground.clock.monotonic(), track.ahead[-1].number if track.ahead else None
        track.follows(self._within(track, media.segments))
        following = _Following(url, media.target_s, now, now + media.target_s, has_ended=media.is_ended)
        if media.segments:
            following.last, following.init = media.segments[-1].number, media.segments[-1].init
        elif track.marks or behind is not None:
            following.last = max(behind or 0, track.marks[-1].number if track.marks else 0)
        self._following[track.name] = following
        self._ends_by_length(track)

    def _within(self, track: Track, segments: Sequence[Segment]) -> list[Segment]:
        """Those of them that may still be recorded."""
        last, length_s = track.marks[-1].number if track.marks else -1, self._length_s(track, with_ahead=False)
        return self._until_full([one for one in segments if one.number > last], length_s, len(track.marks))

    def _until_full(self, segments: Sequence[Segment], length_s: float, count: int) -> list[Segment]:
        settings = self.ground.settings
        found: list[Segment] = []
        for one in segments:
            if length_s >= settings.max_duration or count + len(found) >= settings.max_segments:
                break
            length_s += one.duration_s
            found.append(one)
        return found

    def _length_s(self, track: Track, *, with_ahead: bool = True) -> float:
        ahead_ms = sum(one.duration_ms for one in track.ahead) if with_ahead else 0
        return (track.duration_ms + ahead_ms) / 1000

    def _ends_by_length(self, track: Track) -> None:
        settings, following = self.ground.settings, self._following[track.name]
        is_full = self._length_s(track) >= settings.max_duration
        if (is_full or len(track.marks) + len(track.ahead) >= settings.max_segments) and not following.has_ended:
            following.has_ended = True
            self._warnings.append(f"recorded for {self._length_s(track) / 3600:.1f} h and no longer, as [sources] says")

    # Fetching

    def _bring(self) -> None:
        segments = Segments(self.source.original_name, self.ground)
        with Pool(segments.bring, self.ground.settings.connections, self.deadline, self.ground.http.draw) as pool:
            self._gives(pool)
            while not self._is_done():
                self.deadline.check()
                self._joins(pool)
                if pool.busy is not None:
                    raise self._postponed(pool)
                if pool.has_failed:
                    self._renew(pool)
                self._polls(pool)
                self._rests(pool)

    def _gives(self, pool: Pool) -> None:
        jobs = [Job(track, piece, self._way) for track in self._tracks for piece in track.missing()]
        pool.gives(sorted(jobs, key=lambda job: job.piece.place))

    def _is_done(self) -> bool:
        return not any(track.ahead for track in self._tracks) and all(one.has_ended for one in self._following.values())

    def _joins(self, pool: Pool) -> None:
        for job, mark in pool.takes():
            job.track.loose[mark.place] = mark
        for track in self._tracks:
            track.join()
        self._check_size()
        self.place.progress(self._size_bytes, self._projected() if not self._following else None)
        self._promise()

    def _rests(self, pool: Pool) -> None:
        """Where nobody is at work: until a segment is tried again or a playlist is due."""
        idle_s = pool.idle_s
        if idle_s is None and not pool.is_empty:
            return
        now = self.ground.clock.monotonic()
        dues = [one.next_at - now for one in self._following.values() if not one.has_ended]
        waits = [*dues, *([] if idle_s is None else [idle_s])]
        if waits and min(waits) > 0 and not self._is_done():
            self.deadline.pause(min(waits))

    def _postponed(self, pool: Pool) -> DailiesError:
        assert pool.busy is not None
        return verdict(self.source, pool.busy.answer, self.ground.clock)

    def _renew(self, pool: Pool) -> None:
        """The links have failed: wait, get fresh ones, go on with what is missing."""
        self._fruitless = 0 if pool.count * 2 >= pool.window else self._fruitless + 1
        missing = sum(len(track.missing()) for track in self._tracks)
        if self._fruitless >= ATTEMPTS:
            raise Transient(
                f"{self.source.original_name}: {missing} segments do not come: {pool.last}; they are tried again later",
                Category.UNREACHABLE,
            )
        log.info("video=%s missing=%d error=%s", self.source.original_name, missing, pool.last)
        self.deadline.pause(BEFORE_FRESH_S)
        found = Reader(self.source, self.ground, self.deadline).look(refreshed(self.source, self.ground, self.deadline))
        orders = {name: tuple(pieces(listed.media.segments)) for name, listed in found.lists.items()}
        if not self.kept.fits(orders, is_live=found.is_live):
            raise _Anew(found)
        self._joins(pool)
        pool.renews()
        self._takes(found)
        self._gives(pool)

    # Live

    def _polls(self, pool: Pool) -> None:
        for name, following in self._following.items():
            now = self.ground.clock.monotonic()
            if following.has_ended or now < following.next_at:
                continue
            media = self._listed(following)
            track, now = self.kept.tracks[name], self.ground.clock.monotonic()
            fresh = [one for one in media.segments if following.last is None or one.number > following.last] if media else []
            if fresh:
                self._extend(track, following, fresh, pool)
                following.changed_at, following.next_at = now, now + following.target_s
            else:
                following.next_at = now + following.target_s / 2
            if media is not None and media.is_ended:
                following.has_ended = True
            elif now - following.changed_at > max(UNCHANGED_LEAST_S, UNCHANGED * following.target_s):
                following.has_ended = True
                self._warnings.append("its playlist ended without saying so")

    def _extend(self, track: Track, following: _Following, fresh: Sequence[Segment], pool: Pool) -> None:
        wanted = self._until_full(fresh, self._length_s(track), len(track.marks) + len(track.ahead))
        added = list(pieces(wanted, last=following.last, init=following.init))
        following.last, following.init = fresh[-1].number, fresh[-1].init
        track.ahead.extend(added)
        pool.gives(Job(track, one, self._way) for one in added if one.kind != "gap")
        self._ends_by_length(track)

    def _listed(self, following: _Following) -> MediaList | None:
        """The playlist as it is by now; None where it did not come: the next time it is asked by a fresh link."""
        reader = Reader(self.source, self.ground, self.deadline)
        try:
            return reader.again(self._way.to(following.url))
        except (SourceGone, Postponed, Transient) as error:
            log.info("video=%s playlist=%s", self.source.original_name, error)
        try:
            found = reader.look(refreshed(self.source, self.ground, self.deadline))
        except (SourceGone, Postponed, Transient):
            return None
        self._way = found.way
        for name, listed in found.lists.items():
            if name in self._following:
                self._following[name].url = listed.url
        return None

    # Room and size

    @property
    def _size_bytes(self) -> int:
        return sum(track.size_bytes + track.waiting_bytes for track in self._tracks)

    def _check_size(self) -> None:
        if self._size_bytes > self.ground.settings.max_size:
            raise too_large(self.source.original_name, self.ground)

    def _projected(self) -> int | None:
        """All bytes, as far as one can say."""
        here_ms = sum(track.duration_ms for track in self._tracks)
        if here_ms and not self._following:
            return int(sum(track.size_bytes for track in self._tracks) * self._whole_ms / here_ms)
        return int(self._bits_per_s / 8 * self._whole_ms / 1000 / max(1, len(self._orders))) or None

    def _promise(self) -> None:
        """Room is asked for in large steps: each is written to disk."""
        needed = max(self._size_bytes, self._projected() or 0, _FIRST_BYTES if self._following else 0)
        if needed > self._promised:
            self._promised = int(needed * _MARGIN)
            self.place.reserve(self._promised)

    # The end

    def _finish(self) -> Fetched:
        tracks = [[one for one in track.stretches() if one.has_media] for track in self._tracks]
        self._check(tracks)
        warnings = tuple(dict.fromkeys((*self._warnings, *self._left_out())))
        if [len(track) for track in tracks] == [1]:
            path = tracks[0][0].path
            crc = None if len(self._tracks[0].stretches()) == 1 else crc_of(path, self.deadline)
        else:
            from dailies.sources.hls import joining

            self.place.reserve(2 * self._size_bytes)
            path = self.place.tmp / "joined.mkv"
            joining.join(self.source.original_name, tracks, path, self.ground.root / "work", self.deadline)
            crc = crc_of(path, self.deadline)
        self._compare(path)
        finished = Finished(size_bytes=path.stat().st_size, crc=crc, warnings=warnings)
        self.kept.finish(path, self.place.target, finished)
        self.place.progress(finished.size_bytes, finished.size_bytes)
        return known(self.source, finished)

    def _check(self, tracks: Sequence[Sequence[object]]) -> None:
        """Order, count and sizes, before anything is joined."""
        if not all(tracks) or not tracks:
            raise VideoError(f"{self.source.original_name}: its playlist names no segments; check the link", Category.EMPTY)
        for track in self._tracks:
            places = [mark.place for mark in track.marks]
            wanted = sorted(places) if self.kept.is_live() else [piece.place for piece in self._orders[track.name]]
            sizes = [one.path.stat().st_size if one.path.exists() else 0 for one in track.stretches()]
            if places != wanted or sizes != [one.size_bytes for one in track.stretches()]:
                raise Transient(f"{self.source.original_name}: its segments are not in order; tried again later", Category.DAMAGED)

    def _compare(self, path: Path) -> None:
        """With what a person promised; what differs is thrown away."""
        promised = self.source.expected_sha256
        found = copying.sha256(path, self.deadline) if promised else None
        if found != promised:
            self.kept.begin(self._orders, is_live=self.kept.is_live(), deadline=self.deadline)
            raise Transient(
                f"{self.source.original_name}: its sha256 is {found}, and {promised} was promised; it is fetched anew later",
                Category.CHANGED,
            )

    def _left_out(self) -> list[str]:
        gaps = sum(mark.kind == "gap" for track in self._tracks for mark in track.marks)
        lost = sum(
            track.marks[-1].number - track.marks[0].number + 1 - len({mark.number for mark in track.marks})
            for track in self._tracks
        )
        return [
            *([f"{gaps} segments left out: the playlist has gaps there"] if gaps else []),
            *([f"{lost} segments lost: they had gone from the playlist before they were fetched"] if lost else []),
        ]


def known(source: Source, finished: Finished) -> Fetched:
    return Fetched(source.model_copy(update={"kind": "hls", "size_bytes": finished.size_bytes}), finished.warnings)
