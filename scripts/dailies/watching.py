"""`dailies watch`: look at the listing sources, run where there is something to do, wait; until a signal."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from dailies import derived, pipeline
from dailies.clock import Clock, Deadline
from dailies.errors import ConfigError, DailiesError, Exit, Interrupted
from dailies.intake import Desk
from dailies.library import Library
from dailies.listings import Round
from dailies.pipeline import Result, Wanted
from dailies.progress import log

RENEWAL_S: Final = 3600.0  # a source that was given up is tried again: a watch is as many runs as there are hours
SKIPPED_S: Final = 900.0  # what a run left alone starts the next one not sooner
_LOOK_LIMIT_S: Final = 3600.0


@dataclass
class Watch:
    """`opened` gives the library afresh, so that nothing is remembered but what is on disk; `run` is one run of the pipeline.

    Locks are held by the runs only.
    """

    opened: Callable[[], Library]
    run: Callable[[Library, Wanted], Result]
    wanted: Wanted
    interval_s: float
    stop: threading.Event
    clock: Clock
    _tried: frozenset[str] = field(default=frozenset(), init=False)  # what the last run has seen, whatever became of it
    _left: frozenset[str] = field(default=frozenset(), init=False)  # videos that it might have taken and left
    _left_at: float = field(default=float("-inf"), init=False)
    _renewed_at: float = field(default=float("-inf"), init=False)

    def once(self) -> Exit:
        """One look, and a run where that is worth it. Raises ConfigError; other trouble is told, the next look may do better."""
        try:
            return self._look()
        except Interrupted:
            return Exit.DONE
        except ConfigError:
            raise
        except DailiesError as error:
            log.error("watch: %s", error)
            return Exit.VIDEOS_FAILED

    def until_stopped(self) -> Exit:
        """130 where the signal came into a run, as `run` does."""
        while True:
            code = self.once()
            if code is Exit.INTERRUPTED:
                return code
            try:
                Deadline.after(self.clock, self.interval_s + 60, self.stop).pause(self.interval_s)
            except Interrupted:
                return Exit.DONE

    def _look(self) -> Exit:
        library = self.opened()
        desk = library.desk(Deadline.after(self.clock, _LOOK_LIMIT_S, self.stop))
        found = self._asked(library, desk)
        news = library.listings.news(found, desk)
        if not news - self._tried and not self._has_work(library):
            library.listings.remember(found, desk)
            return Exit.DONE
        log.info("watch: %d new, a run starts", len(news - self._tried))
        result = self.run(library, replace(self.wanted, found=found))
        if result.report.listings:
            self._tried, self._left, self._left_at = news, pipeline.takeable(library), self.clock.monotonic()
        else:  # another run is at work, and nothing was taken
            library.listings.remember(found, desk)
        return result.code

    def _has_work(self, library: Library) -> bool:
        is_patient = self.clock.monotonic() - self._left_at < SKIPPED_S
        return bool(pipeline.takeable(library) - (self._left if is_patient else frozenset()))

    def _asked(self, library: Library, desk: Desk) -> Round:
        is_renewal = self.clock.monotonic() - self._renewed_at >= RENEWAL_S
        if is_renewal:
            self._renewed_at = self.clock.monotonic()
        recorded = derived.read_status(library.database.folder).get("listings", {})
        return library.listings.ask(recorded, desk, renews=is_renewal)
