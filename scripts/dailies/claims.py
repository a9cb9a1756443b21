"""Claims: one run owns a video at a time (design, rule 9). They travel in the commits that a run pushes anyway."""

import contextlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dailies import policy
from dailies.clock import Clock, parse_timestamp, timestamp
from dailies.database import Database
from dailies.errors import ConfigError
from dailies.model import Claim, Video


@dataclass
class Claims:
    """Those of one run. A publication withdraws before it merges what no push has confirmed, stakes what is then free, and
    confirms what has arrived: of two runs that want the same video the one whose push came first has it, whatever their clocks say.
    """

    database: Database
    clock: Clock
    run_id: str
    life_s: float  # a machine lost without a trace frees its videos after this; renewed once less than half of it is left
    batch: int  # videos claimed ahead
    limit: int | None = None  # videos that the run takes in all
    _queue: dict[str, str | None] = field(default_factory=dict)  # id to `next_attempt_at` when the run began
    _staked: dict[str, Claim | None] = field(default_factory=dict)  # not confirmed yet; with the claim that was there before
    _ours: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def want(self, videos: Iterable[Video]) -> None:
        """The run's queue, in its order."""
        with self._lock:
            self._queue = {video.id: video.next_attempt_at for video in videos}

    def withdraw(self) -> None:
        """Before a merge: a claim that nobody has seen must not stand against one that was published."""
        with self._lock:
            for video_id, before in self._staked.items():
                self._put(video_id, before)
                if before is None or before.run_id != self.run_id:
                    self._ours.discard(video_id)
            self._staked.clear()

    def stake(self) -> None:
        """After a merge: the next batch of the queue that is free, and what this run has already."""
        now, held = self.clock.now(), 0
        claim = Claim(run_id=self.run_id, until=timestamp(now + timedelta(seconds=self.life_s)))
        with self._lock:
            for video_id in list(self._queue):
                if held >= self.batch:
                    return
                video = self._loaded(video_id)
                if video is None or not self._is_to_come(video, now):
                    del self._queue[video_id]
                    continue
                if self.limit is not None and len(self._ours | {video_id}) > self.limit:
                    return
                held += 1
                if not self._is_fresh(video.claim):
                    self._staked[video_id] = video.claim
                    self._ours.add(video_id)
                    self.database.save(video.with_(claim=claim), video)

    def confirm(self) -> None:
        """The remote has them."""
        with self._lock:
            self._staked.clear()

    def release(self) -> None:
        """At the end of the run, also of an interrupted one: whoever comes next may go on at once."""
        with self._lock, contextlib.suppress(ConfigError):  # no room on the disk: they end by themselves
            for video_id in self._ours:
                self._put(video_id, None)
            self._staked.clear()
            self._ours.clear()

    def _is_to_come(self, video: Video, now: datetime) -> bool:
        """A video that this run has put back is tried again by a later one only."""
        is_put_back = video.next_attempt_at != self._queue[video.id]
        return not is_put_back and policy.is_takeable(video, now, self.run_id, is_forced=True)

    def _is_fresh(self, claim: Claim | None) -> bool:
        if claim is None or claim.run_id != self.run_id:
            return False
        return (parse_timestamp(claim.until) - self.clock.now()).total_seconds() > self.life_s / 2

    def _loaded(self, video_id: str) -> Video | None:
        with contextlib.suppress(ConfigError):  # blocked meanwhile: the run's end tells
            return self.database.load(video_id)
        return None

    def _put(self, video_id: str, claim: Claim | None) -> None:
        video = self._loaded(video_id)
        if video is not None and video.claim is not None and video.claim.run_id == self.run_id:
            self.database.save(video.with_(claim=claim), video)
