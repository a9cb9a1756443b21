"""What a run came to, for people: Markdown of a run, the status block of a README, a badge. Pure; outside text stays text."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

from dailies.clock import show_duration
from dailies.model import Kind, State, Video
from dailies.redact import plain
from dailies.report import RunReport, RunStatus, Slot, VideoReport, sentence

BEGIN: Final = "<!-- dailies:status -->"
END: Final = "<!-- /dailies:status -->"
_WELL: Final = {State.DUPLICATE: 1, State.DONE: 2}
ROWS_BYTES: Final = 900_000  # of the 1 MiB that a step summary may have
_BLOCK: Final = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}".encode(), re.DOTALL)
_PUNCTUATION: Final = re.compile(r"[!-,./:-@\[-`{-~]")
_WEB: Final = re.compile(r"https?://", re.IGNORECASE)
_SAFE_IN_URL: Final = "/:?&=%#~+,;@!$"


def text(outside: str) -> str:
    """Any text as itself: punctuation as character references, which can be neither markup, nor a mention, nor a table's edge."""
    return _PUNCTUATION.sub(lambda found: f"&#{ord(found[0])};", plain(outside))


def link(name: str, url: str | None) -> str:
    """A link where the address is one of the web, else the name alone."""
    if url is None or not _WEB.match(url):
        return text(name)
    return f"[{text(name)}](<{quote(plain(url), safe=_SAFE_IN_URL)}>)"


def of_run(report: RunReport, videos: Mapping[str, Video]) -> str:
    """The page of one run; `videos` are the records of its videos, as far as they could be read."""
    parts = [f"## Dailies: {report.status.replace('_', ' ')}", text(sentence(report)), *_lateness(report.slot)]
    parts += [f"- {text(problem)}" for problem in report.problems]
    if report.push is not None and report.push.last_error:
        parts.append(f"**Not pushed**: {text(report.push.last_error)}; saved as {text(report.push.backup or 'nothing')}")
    if report.errors_by_category:
        parts += [
            "",
            *_table(("failure", "videos"), ((text(name), str(count)) for name, count in report.errors_by_category.items())),
        ]
    if report.videos:
        parts += ["", *_videos(report, videos), "", *_timings(report.videos)]
    return "\n".join(parts) + "\n"


def _lateness(slot: Slot | None) -> list[str]:
    if slot is None:
        return []
    missed = f", {slot.missed} more slots missed" if slot.missed else ""
    return ["", f"Schedule {text(slot.cron)}: due {slot.due_at}, started {show_duration(slot.late_s)} late{missed}"]


def _videos(report: RunReport, videos: Mapping[str, Video]) -> list[str]:
    rows: list[tuple[str, ...]] = []
    size = 0
    for video in sorted(report.videos, key=lambda one: _WELL.get(one.state, 0)):  # what needs a person comes first
        spent = show_duration(sum(step.duration_s for step in video.steps.values()))
        row = (text(video.code), video.state.value, _links(videos.get(video.id)), spent, text(video.last_error()))
        size += sum(len(cell.encode()) + 3 for cell in row)
        if size > ROWS_BYTES:
            rows.append((f"… and {len(report.videos) - len(rows)} more", "", "", "", ""))
            break
        rows.append(row)
    return _table(("video", "state", "where", "time", "why"), rows)


def _links(video: Video | None) -> str:
    if video is None:
        return ""
    uploads = ((host, video.upload(host, Kind.VIDEO)) for host in video.uploads if video.is_on(host))
    return " ".join(link(host, upload.watch_url or upload.direct_url) for host, upload in uploads)


def _timings(videos: Iterable[VideoReport]) -> list[str]:
    spent: dict[str, list[float]] = defaultdict(list)
    for video in videos:
        for name, step in video.steps.items():
            spent[name.value].append(step.duration_s)
    rows = ((name, str(len(times)), show_duration(sum(times)), show_duration(max(times))) for name, times in spent.items())
    return _table(("step", "videos", "in all", "longest"), rows)


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (columns, ("---",) * len(columns), *rows)]


def of_library(status: Mapping[str, Any]) -> str:
    """How the library stands: the queue, failures by reason, the last run, the schedule."""
    rows = [(state, str(count)) for state, count in status["videos"].items() if count]
    rows += [(f"failed: {text(category)}", str(count)) for category, count in status["failures_by_category"].items()]
    if status.get("next_due_at"):
        rows.append(("next attempt", status["next_due_at"]))
    last = status.get("last_run")
    if last:
        rows.append(("last run", f"{last['status'].replace('_', ' ')}, {last['finished_at']}"))
    schedule = status.get("schedule")
    if schedule:
        missed = f", {schedule['missed']} slots missed" if schedule["missed"] else ""
        rows.append(("schedule", f"due {schedule['due_at']}, {show_duration(schedule['late_s'])} late{missed}"))
        rows.append(("next run due", schedule["next_due_at"] or "never"))
    return "\n".join(_table(("what", "now"), rows or [("videos", "none yet")])) + "\n"


def with_status(readme: bytes, status: Mapping[str, Any]) -> bytes:
    """The README with what stands between the markers made anew; untouched where it has none."""
    if not status:
        return readme
    block = f"{BEGIN}\n{of_library(status)}{END}".encode()
    return _BLOCK.sub(lambda _: block, readme, count=1)


def badge(status: Mapping[str, Any]) -> dict[str, Any]:
    """For shields.io's endpoint badges (schemaVersion 1)."""
    counts = status["videos"]
    failed = counts[State.FAILED] + counts[State.UNAVAILABLE]
    said = [f"{counts[State.DONE]} done"]
    said += [f"{status['queue_depth']} queued"] if status["queue_depth"] else []
    said += [f"{failed} failed"] if failed else []
    has_failed = (status.get("last_run") or {}).get("status") == RunStatus.FAILED
    return {
        "schemaVersion": 1,
        "label": "dailies",
        "message": ", ".join(said),
        "color": "red" if has_failed else "orange" if failed else "brightgreen",
    }
