"""Checkpoints: a long run publishes its records every few minutes, so that a lost machine costs no more."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from dailies.clock import Clock
from dailies.errors import DailiesError
from dailies.progress import log


@dataclass
class Checkpoints:
    """`tick` is called often, from one thread; `publish` runs in a thread of its own, one at a time. A bug in it is raised here."""

    clock: Clock
    interval_s: float
    videos: int
    finished: Callable[[], int]  # videos so far
    publish: Callable[[], str]  # returns a line for people
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="checkpoint"))
    _running: Future[None] | None = None
    _last_s: float = field(default=-1.0)
    _last_finished: int = 0

    def tick(self) -> None:
        now, finished = self.clock.monotonic(), self.finished()
        if self._last_s < 0:
            self._last_s = now
        is_due = now - self._last_s >= self.interval_s or finished - self._last_finished >= self.videos
        if not self.interval_s or not is_due or (self._running is not None and not self._running.done()):
            return
        self.wait()
        self._last_s, self._last_finished = now, finished
        self._running = self._pool.submit(self._work)

    def _work(self) -> None:
        try:
            log.info("checkpoint: %s", self.publish())
        except DailiesError as error:  # the next one, or the end of the run, publishes it
            log.warning("checkpoint: %s", error)

    def wait(self) -> None:
        """Until a checkpoint at work has ended; it sees a stop by itself."""
        if self._running is not None:
            self._running.result()
