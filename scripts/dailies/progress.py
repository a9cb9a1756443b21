"""Who is told what a run is doing, while it does it."""

import logging
from typing import Protocol

from dailies.clock import show_duration
from dailies.model import StepName, Video

log = logging.getLogger(__name__)


class Watcher(Protocol):
    """Called from any thread."""

    def step_started(self, video: Video, step: StepName) -> None: ...

    def step_ended(self, video: Video, step: StepName, duration_s: float, error: str | None) -> None: ...

    def video_ended(self, video: Video) -> None: ...


class LogWatcher:
    """One plain line for each fact."""

    def step_started(self, video: Video, step: StepName) -> None:
        log.debug("video=%s step=%s started", video.id, step)

    def step_ended(self, video: Video, step: StepName, duration_s: float, error: str | None) -> None:
        if error is None:
            log.info("video=%s step=%s took=%s", video.id, step, show_duration(duration_s))
        else:
            log.warning("video=%s step=%s after=%s error=%s", video.id, step, show_duration(duration_s), error)

    def video_ended(self, video: Video) -> None:
        log.info("video=%s state=%s", video.id, video.state)
