"""What people see: tables and bars on a terminal, plain lines elsewhere. Everything from outside is shown as text, never markup."""

import logging
import sys
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from dailies import actions, links
from dailies.clock import show_duration
from dailies.hosts import Asset
from dailies.model import StepName, Video
from dailies.progress import LogWatcher, log
from dailies.redact import RedactingFormatter, Redactor, loggable, plain
from dailies.steps import STEPS

_COLOURS = {
    "done": "green",
    "ok": "green",
    "failed": "red",
    "error": "red",
    "warning": "yellow",
    "duplicate": "cyan",
    "unavailable": "yellow",
}


BLOCK = "block"  # of a log record: text that is a command to GitHub's runner


class StderrHandler(logging.Handler):
    """Writes to what stderr is at that moment: Rich puts itself in between while bars are shown."""

    def __init__(self, mask: Redactor) -> None:
        super().__init__()
        self.mask = mask

    def emit(self, record: logging.LogRecord) -> None:
        block = getattr(record, BLOCK, None)  # lines for GitHub's runner, whole: nobody else's come in between
        text = self.format(record) if block is None else "\n".join(map(self.mask, block.splitlines()))
        print(text, file=sys.stderr, flush=True)


def set_up_logging(level: int, redactor: Redactor) -> None:
    """One handler on the package's logger; calling again replaces it."""
    handler = StderrHandler(redactor)
    layout = "%(levelname)s %(name)s: %(message)s" if level <= logging.DEBUG else "%(message)s"
    handler.setFormatter(RedactingFormatter(redactor, layout))
    logger = logging.getLogger("dailies")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on a terminal; elsewhere one line a row, fields apart by tabs, for `cut` and `grep`."""
    console = Console()
    texts = [[plain(str(cell)) for cell in row] for row in rows]
    if not console.is_terminal:
        for row in texts:
            print("\t".join(map(loggable, row)))
        return
    drawn = Table(title=title or None, title_justify="left", title_style="bold")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in texts:
        drawn.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    console.print(drawn)


class GroupWatcher(LogWatcher):
    """For GitHub's log: a line when a step begins, and all about a video folded away in a group once it ends."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: defaultdict[str, list[str]] = defaultdict(list)

    def step_started(self, video: Video, step: StepName) -> None:
        log.info("video=%s step=%s", video.id, step)

    def step_ended(self, video: Video, step: StepName, duration_s: float, error: str | None) -> None:
        self._lines[video.id].append(f"{step}: {show_duration(duration_s)}{f': {error}' if error else ''}")

    def video_ended(self, video: Video) -> None:
        facts = [f"{name}: {value}" for name, value in lines_of(video)]
        lines = [*self._lines.pop(video.id, ()), *facts]
        log.info("%s", video.state, extra={BLOCK: actions.group(f"{video.code}: {video.state}", lines)})


class BarWatcher(LogWatcher):
    """A bar for each video on its way; failures also as lines above the bars."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._transfers: dict[tuple[str, str], TaskID] = {}
        self._lock = threading.Lock()  # the parts of one fetch come from several threads

    def step_started(self, video: Video, step: StepName) -> None:
        if video.id not in self._tasks:
            self._tasks[video.id] = self._progress.add_task("", total=len(STEPS))
        number = [one.name for one in STEPS].index(step)
        self._progress.update(self._tasks[video.id], description=f"{video.code[:32]:32} {step}", completed=number)

    def step_ended(self, video: Video, step: StepName, duration_s: float, error: str | None) -> None:
        with self._lock:
            fetched = self._transfers.pop(("", video.id), None) if step is StepName.FETCH else None
        if fetched is not None:
            self._progress.remove_task(fetched)
        if error is not None:
            super().step_ended(video, step, duration_s, error)

    def video_ended(self, video: Video) -> None:
        task = self._tasks.pop(video.id, None)
        if task is not None:
            self._progress.remove_task(task)
        super().video_ended(video)

    def uploading(self, video: Video, host: str, asset: Asset, sent: int) -> None:  # noqa: ARG002 -- its id is in the name
        """A bar of its own in MB below its video's."""
        self._moved((host, asset.name), f"  to {host}: {asset.name}", sent, asset.size_bytes)

    def fetching(self, video: Video, got: int, of: int | None) -> None:
        self._moved(("", video.id), f"  fetch: {video.code}", got, of)

    def _moved(self, key: tuple[str, str], name: str, done: int, of: int | None) -> None:
        with self._lock:
            if key not in self._transfers:
                self._transfers[key] = self._progress.add_task(name[:48], total=None)
            total = None if of is None else round(of / 1e6, 1)
            self._progress.update(self._transfers[key], completed=round(done / 1e6, 1), total=total)
            if of is not None and done >= of:
                self._progress.remove_task(self._transfers.pop(key))


def bars() -> Progress:
    """To be used as a context; on stderr, gone at the end."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def is_interactive() -> bool:
    return Console(stderr=True).is_terminal


def lines_of(video: Video) -> list[tuple[str, object]]:
    """A record for people: (name, value) of what is known."""
    media, error, preview = video.media, video.last_error, video.preview
    known: list[tuple[str, object]] = [("id", video.id), ("code", video.code), ("title", video.title), ("state", video.state.value)]
    known.append(("source", links.shown(video.source.uri) if links.is_link(video.source.uri) else video.source.uri))
    if media is not None:
        codecs = " + ".join(filter(None, (media.video_codec, media.audio_codec)))
        known.append(("media", f"{show_duration(media.duration_s)}, {media.resolution}, {media.fps:g} fps, {codecs}"))
        known += [("is", ", ".join(media.tags))] if media.tags else []
    if video.duplicate_of:
        known.append(("duplicate of", video.duplicate_of))
    if video.similar_to:
        known.append(("looks like", video.similar_to))
    if video.metadata.tags:
        known.append(("tags", ", ".join(video.metadata.tags)))
    for host, kinds in sorted(video.uploads.items()):
        known += [
            (f"{host} {kind}", f"{upload.status} {upload.direct_url or upload.watch_url or ''}")
            for kind, upload in sorted(kinds.items())
        ]
    if preview is not None:
        shown = ", ".join(f"{clip.start_s:.1f} s ({clip.why})" for clip in preview.clips)
        known.append(("preview", f"{preview.duration_s:.1f} s, clips from {shown}"))
    known += [("warning", warning) for warning in video.warnings]
    if error is not None:
        known.append(("last error", f"{error.category} in {error.step}, attempt {error.attempt}: {error.message}"))
        known.append(("action", error.action + (f", not before {video.next_attempt_at}" if video.next_attempt_at else "")))
    return known
