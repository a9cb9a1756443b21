"""Who is told what a run is doing, while it does it."""

import logging
import threading
from typing import Final, Protocol

from dailies.clock import Clock, SystemClock, show_duration
from dailies.hosts import Asset
from dailies.model import StepName, Video

log = logging.getLogger(__name__)

_PAUSE_S: Final = 5.0
_STEP_S: Final = 1.0
_WORTH_BYTES: Final = 5_000_000  # less is there before it can be told


class Watcher(Protocol):
    """Called from any thread."""

    def step_started(self, video: Video, step: StepName) -> None: ...

    def step_ended(self, video: Video, step: StepName, duration_s: float, error: str | None) -> None: ...

    def video_ended(self, video: Video) -> None: ...

    def uploading(self, video: Video, host: str, asset: Asset, sent: int) -> None: ...

    def fetching(self, video: Video, got: int, of: int | None) -> None: ...


class Pace:
    """Of lines about a transfer: one at its end, before that each 5 s or 10 %, whichever comes later than a second."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: dict[tuple[str, str], tuple[float, int]] = {}
        self._ended: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def is_due(self, key: tuple[str, str], done: int, of: int | None) -> bool:
        """`of` is None where nobody knows how much will come."""
        now = self._clock.monotonic()
        with self._lock:
            at, before = self._told.setdefault(key, (now, 0))
            if of is not None and done >= of:
                del self._told[key]
                is_first = key not in self._ended
                self._ended.add(key)
                return is_first and of >= _WORTH_BYTES
            self._ended.discard(key)
            is_step = of is not None and now - at >= _STEP_S and (done - before) * 10 >= of
            if not is_step and now - at < _PAUSE_S:
                return False
            self._told[key] = (now, done)
            return True


class LogWatcher:
    """One plain line for each fact."""

    def __init__(self) -> None:
        self._pace = Pace(SystemClock())

    def step_started(self, video: Video, step: StepName) -> None:
        log.debug("video=%s step=%s started", video.id, step)

    def step_ended(self, video: Video, step: StepName, duration_s: float, error: str | None) -> None:
        if error is None:
            log.info("video=%s step=%s took=%s", video.id, step, show_duration(duration_s))
        else:
            log.warning("video=%s step=%s after=%s error=%s", video.id, step, show_duration(duration_s), error)

    def video_ended(self, video: Video) -> None:
        log.info("video=%s state=%s", video.id, video.state)

    def uploading(self, video: Video, host: str, asset: Asset, sent: int) -> None:
        if self._pace.is_due((host, asset.name), sent, asset.size_bytes):
            share = 100 * sent // max(1, asset.size_bytes)
            log.info("video=%s host=%s file=%s sent=%d%% of %.1f MB", video.id, host, asset.name, share, asset.size_bytes / 1e6)

    def fetching(self, video: Video, got: int, of: int | None) -> None:
        if self._pace.is_due(("", video.id), got, of):
            share = "" if of is None else f"{100 * got // max(1, of)}% of {of / 1e6:.1f} MB, "
            log.info("video=%s step=fetch got=%s%.1f MB", video.id, share, got / 1e6)
