"""One playlist from its link to the file: what is wanted, what is here, when the link is made fresh, when a live one has ended."""

import contextlib
import itertools
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dailies import copying
from dailies.clock import Deadline
from dailies.errors import Category, DailiesError, Denied, Postponed, SourceGone, Transient, VideoError
from dailies.model import Source
from dailies.sources.asking import Way, refreshed, verdict
from dailies.sources.hls.kept_segments import Finished, Kept, Orders
from dailies.sources.hls.marks import Mark, Stretch, crc_of
from dailies.sources.hls.playlist import Init, MediaList, Segment, pieces
from dailies.sources.hls.pool import Pool
from dailies.sources.hls.reading import Found, Listed, Reader
from dailies.sources.hls.segments import Job, Segments, too_large
from dailies.sources.hls.track import Track
from dailies.sources.source import Fetched, Ground, Place

log = logging.getLogger(__name__)

ATTEMPTS: Final = 3  # with fresh links, that bring next to nothing
BEFORE_FRESH_S: Final = 10.0
UNCHANGED: Final = 5  # target durations after which a live playlist has ended
UNCHANGED_LEAST_S: Final = 60.0
_OUT_OF_STEP_S: Final = 0.5
_MOMENTARY: Final = (SourceGone, Postponed, VideoError, Transient)  # while a live playlist is written, or at its end
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
    _orders: Orders = field(default_factory=dict)
    _following: dict[str, _Following] = field(default_factory=dict)
    _warnings: list[str] = field(default_factory=list)
    _way: Way = field(default_factory=lambda: Way(""))
    _fruitless: int = 0
    _promised: int = 0
    _bits_per_s: int = 0
    _whole_ms: int = 0
    _fresh_at: float | None = None  # when the links, which have failed, are made fresh
    _refusals: Counter[tuple[str, tuple[int, bool]]] = field(default_factory=Counter)  # of pieces, by each fresh link

    def __post_init__(self) -> None:
        self._segments = Segments(self.source.original_name, self.ground)

    def run(self) -> Fetched:
        """Raises what fetchers do."""
        with contextlib.closing(self.kept):
            self.kept.resume(self.deadline)
            try:
                found = self._first()
            except (SourceGone, VideoError, Denied) as error:
                if not self.kept.has_recorded():
                    raise
                self._ends("its playlist has gone", error)
                return self._finish()
            return self._all_of(found)

    def _all_of(self, found: Found) -> Fetched:
        for _ in range(ATTEMPTS):
            self._takes(found)
            try:
                self._bring()
            except _Anew as anew:
                log.info("video=%s playlist=%s", self.source.original_name, "is another by now")
                found = anew.found
            else:
                return self._finish()
        raise Transient(
            f"{self.source.original_name}: its playlist is another each time; it is tried again later", Category.CHANGED
        )

    def _first(self) -> Found:
        """A link that lets nobody in is made fresh once."""
        try:
            return self._reader.look(self.ground.link(self.source))
        except Denied:
            return self._refreshed()

    def _refreshed(self) -> Found:
        return self._reader.look(refreshed(self.source, self.ground, self.deadline))

    @property
    def _reader(self) -> Reader:
        return Reader(self.source, self.ground, self.deadline, self.kept.state.variants)

    @property
    def _tracks(self) -> list[Track]:
        return list(self.kept.tracks.values())

    # What is wanted

    def _takes(self, found: Found) -> None:
        """Make this playlist what is wanted, going on with what is here where it is the same."""
        orders, before = _orders(found), self.kept.state.variants
        if not self.kept.fits(orders, found.variants, is_live=found.is_live):
            if self.kept.has_recorded():
                self._ends("its playlist is another by now")
                return
            self.kept.begin(orders, found.variants, is_live=found.is_live, deadline=self.deadline)
            before = found.variants
        self.kept.turns(found.variants)
        self._way, self._bits_per_s, self._orders, self._following = found.way, found.bits_per_s, orders, {}
        for name, listed in found.lists.items():
            track = self.kept.tracks[name]
            if self.kept.is_live():
                self._follow(track, listed, is_other=before.get(name) != listed.variant)
            else:
                track.expects(orders[name])
        self._whole_ms = sum(piece.duration_ms for order in orders.values() for piece in order)
        self._promise()

    def _follow(self, track: Track, listed: Listed, *, is_other: bool) -> None:
        """Numbers that begin anew, below those that are here, are no news."""
        now, media = self.ground.clock.monotonic(), listed.media
        if track.marks and media.segments and media.segments[-1].number + len(media.segments) < track.marks[-1].number:
            self._warnings.append("its numbers began anew: what came behind that is not recorded")
        track.follows(self._within(track, media.segments), is_other=is_other)
        known = [*(one.number for one in media.segments[-1:]), *(mark.number for mark in track.marks[-1:])]
        known += [one.number for one in itertools.islice(reversed(track.ahead), 1)]
        following = _Following(listed.url, media.target_s, now, now + media.target_s, has_ended=media.is_ended)
        following.last = max(known, default=None)
        following.init = media.segments[-1].init if media.segments else None
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
        with Pool(self._segments.bring, self.ground.settings.connections, self.deadline, self.ground.http.draw) as pool:
            self._gives(pool)
            while not self._is_done():
                self.deadline.check()
                self._joins(pool)
                if pool.busy is not None:
                    raise self._postponed(pool)
                if pool.has_failed:
                    self._fails(pool)
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
        projected = self._projected() if not self._following else None
        self.place.progress(self._size_bytes, projected and max(projected, self._size_bytes))
        self._promise()

    def _rests(self, pool: Pool) -> None:
        """Where nobody is at work: until a segment is tried again, a playlist is due or the links are made fresh."""
        idle_s, has_failed, now = pool.idle_s, pool.has_failed, self.ground.clock.monotonic()
        if idle_s is None and not pool.is_empty and not has_failed:
            return
        waits = [one.next_at - now for one in self._following.values() if not one.has_ended]
        waits += [] if idle_s is None else [idle_s]
        waits += [self._fresh_at - now] if has_failed and self._fresh_at is not None else []
        if waits and min(waits) > 0 and not self._is_done():
            self.deadline.pause(min(waits))

    def _postponed(self, pool: Pool) -> DailiesError:
        assert pool.busy is not None
        return verdict(self.source, pool.busy.answer, self.ground.clock)

    def _fails(self, pool: Pool) -> None:
        """The links have failed: wait, get fresh ones, go on with what is missing; a live playlist is followed meanwhile."""
        now = self.ground.clock.monotonic()
        if self._fresh_at is None:
            self._fresh_at = now + BEFORE_FRESH_S
            self._judges(pool)
        elif now >= self._fresh_at:
            self._fresh_at = None
            self._renew(pool)

    def _judges(self, pool: Pool) -> None:
        """Count the failure: after too many a piece of a live playlist is lost, then all that is left; others are for later."""
        is_live = self.kept.has_recorded()
        has_come = pool.count > 0 if is_live else pool.count * 2 >= pool.window
        self._fruitless = 0 if has_come else self._fruitless + 1
        if is_live and self._loses(pool):
            return
        missing = sum(len(track.missing()) for track in self._tracks)
        log.info("video=%s missing=%d error=%s", self.source.original_name, missing, pool.last)
        if self._fruitless < ATTEMPTS:
            return
        if not is_live:
            raise Transient(
                f"{self.source.original_name}: {missing} segments do not come: {pool.last}; they are tried again later",
                Category.UNREACHABLE,
            )
        self._ends("its last segments did not come", pool.last)
        pool.renews()

    def _loses(self, pool: Pool) -> bool:
        """Whether nothing is missing without the pieces that each fresh link was refused for."""
        self._refusals.update((job.track.name, job.piece.place) for job in pool.given_up)
        for track in self._tracks:
            lost = {place for (name, place), count in self._refusals.items() if name == track.name and count >= ATTEMPTS}
            if lost & {piece.place for piece in track.ahead}:
                track.loses(lost)
        if any(track.missing() for track in self._tracks):
            return False
        pool.renews()
        self._fresh_at = None
        return True

    def _is_same(self, found: Found) -> bool:
        """Of another variant of a live playlist nothing may come by jobs of the one before."""
        is_fit = self.kept.fits(_orders(found), found.variants, is_live=found.is_live)
        return is_fit and found.variants == self.kept.state.variants

    def _renew(self, pool: Pool) -> None:
        try:
            found = self._refreshed()
        except (SourceGone, VideoError, Transient) as error:
            if not self.kept.has_recorded():
                raise
            log.info("video=%s playlist=%s", self.source.original_name, error)
        else:
            self._joins(pool)
            if not self._is_same(found):
                raise _Anew(found)
            self._takes(found)
        pool.renews()
        self._gives(pool)

    # Live

    def _polls(self, pool: Pool) -> None:
        for name, following in self._following.items():
            now = self.ground.clock.monotonic()
            if following.has_ended or now < following.next_at:
                continue
            media = self._listed(following, pool)
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
        track.extends(added)
        pool.gives(Job(track, one, self._way) for one in added if not one.is_empty)
        self._ends_by_length(track)

    def _listed(self, following: _Following, pool: Pool) -> MediaList | None:
        """The playlist as it is by now; None where none came: the next time it is asked by a fresh link."""
        try:
            return self._reader.again(self._way.to(following.url))
        except _MOMENTARY as error:
            log.info("video=%s playlist=%s", self.source.original_name, error)
        try:
            found = self._refreshed()
        except _MOMENTARY:
            return None
        if found.lists.keys() != self._following.keys():
            return None
        if not self._is_same(found):
            self._joins(pool)
            raise _Anew(found)
        self._way = found.way
        for name, listed in found.lists.items():
            self._following[name].url = listed.url
        return None

    def _ends(self, what: str, why: DailiesError | None = None) -> None:
        """Nothing more is recorded: what is here stands."""
        log.info("video=%s ended=%s error=%s", self.source.original_name, what, why)
        self._warnings.append(f"{what}: what was recorded before is kept")
        for following in self._following.values():
            following.has_ended = True
        for track in self._tracks:
            track.follows(())
            track.join()

    # Room and size

    @property
    def _size_bytes(self) -> int:
        """What is under way takes room as well."""
        return sum(track.size_bytes + track.waiting_bytes for track in self._tracks) + self._segments.coming_bytes

    def _check_size(self) -> None:
        self._segments.here_bytes = sum(track.size_bytes + track.waiting_bytes for track in self._tracks)
        if self._segments.here_bytes > self.ground.settings.max_size:
            raise too_large(self.source.original_name, self.ground)

    def _projected(self) -> int | None:
        """All bytes, as far as one can say."""
        here_ms = sum(track.duration_ms for track in self._tracks)
        if here_ms and not self._following:
            return int(sum(track.size_bytes for track in self._tracks) * self._whole_ms / here_ms)
        return int(self._bits_per_s / 8 * self._whole_ms / 1000 / max(1, len(self._orders))) or None

    def _promise(self) -> None:
        """Room is asked for in large steps: each is written to disk."""
        projected = min(self._projected() or 0, self.ground.settings.max_size)  # a playlist may say anything
        needed = max(self._size_bytes, projected, _FIRST_BYTES if self._following else 0)
        if needed > self._promised:
            self._promised = int(needed * _MARGIN)
            self.place.reserve(self._promised)

    # The end

    def _finish(self) -> Fetched:
        tracks = [[one for one in track.stretches() if one.has_media] for track in self._tracks]
        if self.kept.has_recorded():
            tracks = [track for track in tracks if track]
        self._check(tracks)
        warnings = tuple(dict.fromkeys((*self._warnings, *self._left_out(), *_out_of_step(tracks))))
        if [len(track) for track in tracks] == [1]:
            path = tracks[0][0].path
            crc = None if [len(track.stretches()) for track in self._tracks] == [1] else crc_of(path, self.deadline)
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
            if not self.kept.has_recorded():
                self.kept.begin(self._orders, self.kept.state.variants, is_live=self.kept.is_live(), deadline=self.deadline)
            raise Transient(
                f"{self.source.original_name}: its sha256 is {found}, and {promised} was promised; it is fetched anew later",
                Category.CHANGED,
            )

    def _left_out(self) -> list[str]:
        gaps = sum(mark.kind == "gap" for track in self._tracks for mark in track.marks)
        lost = sum(_lost(track.marks) for track in self._tracks)
        return [
            *([f"{gaps} segments left out: the playlist has gaps there"] if gaps else []),
            *([f"{lost} segments lost: they did not come, or had gone from the playlist before they were fetched"] if lost else []),
        ]


def _orders(found: Found) -> Orders:
    return {name: tuple(pieces(listed.media.segments)) for name, listed in found.lists.items()}


def _lost(marks: Sequence[Mark]) -> int:
    numbers = {mark.number for mark in marks if mark.kind != "lost"}
    return marks[-1].number - marks[0].number + 1 - len(numbers) if marks else 0


def _out_of_step(tracks: Sequence[Sequence[Stretch]]) -> list[str]:
    """Stretches of separate sound are put where the lengths of those before them say: a loss on one side only moves it."""
    starts = [list(itertools.accumulate((one.duration_s for one in track[:-1]), initial=0.0)) for track in tracks]
    if len({len(track) for track in starts}) <= 1 and all(max(at) - min(at) <= _OUT_OF_STEP_S for at in zip(*starts, strict=True)):
        return []
    return ["its sound may be out of step with its pictures: not the same segments of both were lost"]


def known(source: Source, finished: Finished) -> Fetched:
    return Fetched(source.model_copy(update={"kind": "hls", "size_bytes": finished.size_bytes}), finished.warnings)
