"""One file without a library: `preview`, `analyse` and `frames` look at it, choose and make what was asked for."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from dailies import atomic, config
from dailies.clock import Clock, Deadline, SystemClock
from dailies.config import Settings
from dailies.errors import Category, ConfigError, Transient, VideoError
from dailies.media import analysis, health, render, scenes
from dailies.media.analysis import Analysis
from dailies.media.children import Children
from dailies.media.probe import Probe, probe
from dailies.media.recipes import Look
from dailies.media.render import Rules
from dailies.model import readable

log = logging.getLogger(__name__)

_PROBE_S: Final = 120.0
_BASE_S: Final = 600.0
_FACTOR: Final = 4.0  # times the duration, as [run] step_timeout of a library


@dataclass(frozen=True)
class Studio:
    """One file that is looked at; its deadline comes from its duration. `name` is what messages call it."""

    name: str
    path: Path  # a link to it with a plain name, whatever its own is
    media: Probe
    settings: Settings
    rules: Rules
    deadline: Deadline
    room: Path  # for what is not finished

    def analyse(self, *, pictures: Path | None = None, names: str = "", all_shots: bool = False) -> Analysis:
        """Raises VideoError, Transient when the decoder dies."""
        wanted = analysis.wanted(self.settings.preview, pictures=pictures, names=names, all_shots=all_shots)
        found = scenes.analyse(self.name, self.path, self.deadline, children=self.rules.children, wanted=wanted)
        promised = self.media.duration_s()
        if promised - found.duration_s > max(health.SHORTFALL_S, health.SHORTFALL_SHARE * promised):
            log.warning("%s is cut short: its header promises %.1f s, pictures last %.1f s", self.name, promised, found.duration_s)
        return found

    def preview(self, target: Path, frames: Path | None = None) -> Analysis:
        """Choose, render, put `target` in place; one that ends in .webp is animated. With `frames` the pictures of the same look
        go into that folder. Raises VideoError, ConfigError."""
        if target.exists() and target.samefile(self.path):
            raise ConfigError(f"{target}: is the video itself; name another file for the preview")
        wanted = self.settings.preview
        found = self._chosen(self._pictures() if frames else None)
        if frames:
            self._put(found, frames)
        if not found.clips:
            even = scenes.even_clips(found.duration_s, clips=wanted.clips, length_s=wanted.clip_length)
            found = found.model_copy(update={"clips": even})
        made = self.room / "preview.mp4"
        look = Look(wanted.height, wanted.encoder_preset, wanted.crf)
        render.preview(self.name, self.path, made, found.clips, self.media, look, self.rules, self.deadline, pace=found.pace)
        if target.suffix.lower() == ".webp":
            animated = self.room / "preview.webp"
            render.animation(self.name, made, animated, self.rules, self.deadline)
            made = animated
        write(target, made.read_bytes())
        return found

    def _chosen(self, pictures: Path | None) -> Analysis:
        """The analysis; one without moments where its decoder died, so that there is a preview all the same."""
        try:
            return self.analyse(pictures=pictures)
        except Transient as error:
            if error.category is not Category.CRASHED:
                raise
            log.warning("%s; the preview shows clips at even distances", error)
            return Analysis.of_nothing(self.media.duration_s())

    def frames(self, folder: Path) -> dict[str, Path]:
        """Cover, sprite sheet, WebVTT and contact sheet into `folder`, by part. Raises VideoError, ConfigError."""
        found = self.analyse(pictures=self._pictures())
        if not found.pictures:
            raise VideoError(f"{self.name}: no picture of it can be decoded; export it again", Category.DAMAGED)
        return self._put(found, folder)

    def _pictures(self) -> Path:
        pictures = self.room / "pictures"
        pictures.mkdir()
        return pictures

    def _put(self, found: Analysis, folder: Path) -> dict[str, Path]:
        for file in found.pictures.values():
            write(folder / file, (self.room / "pictures" / file).read_bytes())
        return {part: folder / file for part, file in found.pictures.items()}


@contextmanager
def opened(path: Path, settings: Settings, stop: threading.Event, clock: Clock | None = None) -> Iterator[Studio]:
    """Look at what `path` is. Raises ConfigError when there is no such file, VideoError when there is nothing to show."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; give the path of a video")
    clock, name = clock or SystemClock(), readable(path.name)
    memory_bytes = settings.run.child_memory
    with TemporaryDirectory(prefix="dailies-") as folder, Children(Path(folder), memory_bytes=memory_bytes) as children:
        room = Path(folder)
        link = room / "source"
        link.symlink_to(path.resolve())
        media = _readable(name, probe(name, link, _limit(name, _PROBE_S, clock, stop), children=children, header_only=True))
        limit = _limit(name, _BASE_S + _FACTOR * media.duration_s(), clock, stop)
        rules = Rules(work=room, threads=config.cores(), children=children)
        yield Studio(name, link, media, settings, rules, limit, room)


def _limit(name: str, seconds: float, clock: Clock, stop: threading.Event) -> Deadline:
    message = f"{name}: took longer than {seconds:.0f} s; try again when the machine has less to do"
    return replace(Deadline.after(clock, seconds, stop), error=lambda: Transient(message, Category.TIMEOUT))


def _readable(name: str, media: Probe) -> Probe:
    """Without the streams that no decoder can read. Raises VideoError when no pictures are left."""
    if media.main_video() is None:
        raise VideoError(f"{name}: has no pictures; give a video", Category.NO_VIDEO)
    streams = tuple(one for one in media.streams if one.kind not in {"video", "audio"} or health.is_readable(one))
    media = media.model_copy(update={"streams": streams})
    if media.main_video() is None:
        raise VideoError(f"{name}: its pictures cannot be read; export it again", Category.DAMAGED)
    return media


def write(target: Path, content: bytes) -> None:
    """Whole or not at all. Raises ConfigError."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(target, content)
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written: {error.strerror}; choose another place") from error
