"""Threads that fetch pieces: what is tried again and when, and when a link has failed."""

import heapq
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final, Self

from dailies.answer import full_jitter
from dailies.clock import Deadline, Halt
from dailies.errors import DailiesError, Transient
from dailies.sources.hls.marks import Mark
from dailies.sources.hls.segments import Busy, Job, Refused

log = logging.getLogger(__name__)

TRIES: Final = 5  # of a piece
LEAST_WINDOW: Final = 8
LONGEST_WAIT_S: Final = 60.0  # that a server may ask for, before the fetch is left for later
_LOOK_S: Final = 0.1
_GATHER_S: Final = 0.05  # one thread that is woken for each piece holds up the others


class Window:
    """The last attempts: a link has failed when more than half of them did."""

    def __init__(self, size: int) -> None:
        self._last: deque[bool] = deque(maxlen=max(LEAST_WINDOW, size))

    @property
    def size(self) -> int:
        return self._last.maxlen or 0

    def add(self, *, is_good: bool) -> None:
        self._last.append(is_good)

    @property
    def has_failed(self) -> bool:
        return len(self._last) == self.size and sum(self._last) * 2 < self.size


@dataclass(order=True)
class _Turn:
    """A job that waits: by when, then by order."""

    at: float
    place: tuple[int, bool]
    track: str
    job: Job = field(compare=False)
    tries: int = field(compare=False, default=0)

    @property
    def key(self) -> tuple[str, tuple[int, bool]]:
        return self.track, self.place


class Pool:
    """A context: `bring` is called by up to `size` threads; what they brought is taken by one, which also learns what failed.

    `deadline` is of the threads' own work: it ends with the context too.
    """

    def __init__(
        self, bring: Callable[[Job, Deadline], Mark], size: int, deadline: Deadline, draw: Callable[[float], float]
    ) -> None:
        self._bring, self._size, self._draw = bring, size, draw
        self._halt = Halt(deadline.stop)
        self._deadline = replace(deadline, stop=self._halt)
        self._clock = deadline.clock
        self._lock = threading.Lock()
        self._given, self._changed = threading.Condition(self._lock), threading.Condition(self._lock)
        self._turns: list[_Turn] = []
        self._at_work: set[tuple[str, tuple[int, bool]]] = set()
        self._fresh: dict[tuple[str, tuple[int, bool]], Job] = {}
        self._brought: deque[tuple[Job, Mark]] = deque()
        self._threads: list[threading.Thread] = []
        self._fatal: BaseException | None = None
        self._window = Window(size)
        self._quiet_until = 0.0
        self._is_stopped = False
        self.given_up: list[Job] = []  # they will not come by their links
        self.count = 0  # pieces that came since the links were fresh
        self.last: Transient | None = None
        self.busy: Busy | None = None
        self._waited_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._halt.set()
        with self._lock:
            self._given.notify_all()
        for thread in self._threads:
            thread.join()

    @property
    def window(self) -> int:
        return self._window.size

    def gives(self, jobs: Iterable[Job]) -> None:
        """Also these; one that is at work stays so, and is tried by its new link where that fails."""
        with self._lock:
            now, brought = self._clock.monotonic(), {(job.track.name, mark.place) for job, mark in self._brought}
            for job in jobs:
                turn = _Turn(now, job.piece.place, job.track.name, job)
                if turn.key in self._at_work:
                    self._fresh[turn.key] = job
                elif turn.key not in brought:
                    heapq.heappush(self._turns, turn)
            wanted = min(self._size, len(self._turns) + len(self._at_work)) - len(self._threads)
            self._given.notify_all()
        for _ in range(wanted):
            thread = threading.Thread(target=self._work, name="segments", daemon=True)
            self._threads.append(thread)
            thread.start()

    def renews(self) -> None:
        """Forget what waits and what failed: it is given anew with fresh links."""
        with self._lock:
            self._turns.clear()
            self._window = Window(self._size)
            self._is_stopped, self.given_up, self.count, self.last = False, [], 0, None

    def takes(self) -> list[tuple[Job, Mark]]:
        """What was brought since the last time, waiting for a few of them. Raises what ended a thread."""
        with self._lock:
            if self._fatal is None and (self._at_work or self._is_due()) and not self._is_stopped:
                self._changed.wait(_GATHER_S)
            if self._fatal is not None:
                raise self._fatal
            brought, self._brought = list(self._brought), deque()
        return brought

    @property
    def has_failed(self) -> bool:
        """Whether the links bring no more: too many failed, or all that is left did."""
        with self._lock:
            return self._is_stopped or bool(self.given_up and not self._turns and not self._at_work)

    @property
    def idle_s(self) -> float | None:
        """Until something is due; None while somebody is at work, or nothing is left."""
        with self._lock:
            if self._at_work or self._brought or not self._turns or self._is_stopped:
                return None
            return max(0.0, max(self._turns[0].at, self._quiet_until) - self._clock.monotonic())

    @property
    def is_empty(self) -> bool:
        with self._lock:
            return not (self._turns or self._at_work or self._brought)

    def _work(self) -> None:
        try:
            while (turn := self._next()) is not None:
                self._try(turn)
        except BaseException as error:  # noqa: BLE001 -- raised by `takes`, in the thread that asked for all this
            with self._lock:
                self._fatal = self._fatal or error
                self._changed.notify_all()

    def _is_due(self) -> bool:
        return bool(self._turns) and max(self._turns[0].at, self._quiet_until) <= self._clock.monotonic()

    def _next(self) -> _Turn | None:
        with self._lock:
            while not self._halt.is_set():
                if not self._is_stopped and self._is_due():
                    turn = heapq.heappop(self._turns)
                    self._at_work.add(turn.key)
                    return turn
                self._given.wait(_LOOK_S)
        return None

    def _try(self, turn: _Turn) -> None:
        mark, error = None, None
        try:
            mark = self._bring(turn.job, self._deadline)
        except Transient as trouble:
            error = trouble
        except DailiesError:
            if self._halt.is_set():  # cut by the end of the context, which has its own reason
                return
            raise
        finally:
            with self._lock:
                self._at_work.discard(turn.key)
                if mark is not None:
                    self._succeeds(turn, mark)
                elif error is not None:
                    self._fails(turn, error)
                if self._is_stopped or not (self._turns or self._at_work):
                    self._changed.notify_all()

    def _succeeds(self, turn: _Turn, mark: Mark) -> None:
        self._fresh.pop(turn.key, None)
        self._brought.append((turn.job, mark))
        self._window.add(is_good=True)
        self.count += 1
        self._waited_s, self.busy = 0.0, None

    def _fails(self, turn: _Turn, error: Transient) -> None:
        now, piece = self._clock.monotonic(), turn.job.piece
        log.debug("segment=%s.%s try=%s error=%s", turn.track, piece.number, turn.tries + 1, error)
        if isinstance(error, Busy):
            self._is_quiet(now, error)
            heapq.heappush(self._turns, replace(turn, at=self._quiet_until))
            return
        if (fresh := self._fresh.pop(turn.key, None)) is not None:
            heapq.heappush(self._turns, replace(turn, at=now, job=fresh, tries=0))
            return
        self.last = error
        self._window.add(is_good=False)
        if isinstance(error, Refused) or turn.tries + 1 >= TRIES:
            self.given_up.append(turn.job)
        else:
            again = now + full_jitter(turn.tries + 1, self._draw)
            heapq.heappush(self._turns, replace(turn, at=again, tries=turn.tries + 1))
        self._is_stopped = self._is_stopped or self._window.has_failed

    def _is_quiet(self, now: float, error: Busy) -> None:
        """Nobody asks meanwhile; what a server asks for again and again adds up until something came."""
        until = now + error.wait_s
        if until > self._quiet_until:
            self._waited_s += until - max(now, self._quiet_until)
            self._quiet_until = until
        if self._waited_s > LONGEST_WAIT_S:
            self.busy = error
