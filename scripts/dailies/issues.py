"""An issue for each kind of failure, opened, kept current and closed by itself."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter, ValidationError

from dailies import github, summary
from dailies.clock import Deadline
from dailies.github import Unavailable
from dailies.model import State, Video

LABEL: Final = "dailies"
SHOWN: Final = 50
MESSAGE_CHARS: Final = 120  # GitHub takes 65,536 in a body, and a character may become six
_NO_WORD: Final = re.compile(r"[^a-z0-9_]+")
_MARK: Final = "<!-- dailies:failure={} -->"


class Issue(BaseModel):
    """What of an issue the API tells matters here."""

    number: int
    body: str | None = None
    pull_request: Any = None


@dataclass(frozen=True)
class Change:
    """One call. `number` is None for a new issue."""

    number: int | None
    fields: Mapping[str, str | tuple[str, ...]]
    comment: str | None = None


def failing(videos: Iterable[Video]) -> dict[str, list[Video]]:
    """Videos that wait for a person, by category, which is a plain word then whatever a record holds."""
    found: dict[str, list[Video]] = defaultdict(list)
    for video in videos:
        if video.state in {State.FAILED, State.UNAVAILABLE} and video.last_error is not None:
            found[_NO_WORD.sub("-", video.last_error.category.lower())[:60]].append(video)
    return found


def changes(failed: Mapping[str, list[Video]], issues: Iterable[Issue]) -> list[Change]:
    """What makes the open issues say what is: `issues` as the API lists them, others than ours are left alone."""
    open_ = {_category(issue.body or ""): issue for issue in issues if issue.pull_request is None}
    found: list[Change] = []
    for category, videos in sorted(failed.items()):
        known, body = open_.get(category), _body(category, videos)
        if known is None:
            found.append(Change(None, {"title": f"Videos that fail: {category}", "body": body, "labels": (LABEL,)}))
        elif known.body != body:
            found.append(Change(known.number, {"body": body}))
    for category, issue in sorted(open_.items()):
        if category and category not in failed:
            found.append(Change(issue.number, {"state": "closed"}, "No video fails with this any more."))
    return found


def synchronise(videos: Iterable[Video], work: Path, deadline: Deadline) -> int:
    """How many issues changed. Raises Unavailable, Interrupted."""
    answer = github.api(f"issues?labels={LABEL}&state=open&per_page=100", work, deadline)
    try:
        issues = TypeAdapter(list[Issue]).validate_python(answer)
    except ValidationError as error:
        raise Unavailable(f"github: the list of issues is none: {error.error_count()} faults") from error
    wanted = changes(failing(videos), issues)
    for change in wanted:
        if change.comment:
            github.api(f"issues/{change.number}/comments", work, deadline, method="POST", fields={"body": change.comment})
        place, method = ("issues", "POST") if change.number is None else (f"issues/{change.number}", "PATCH")
        github.api(place, work, deadline, method=method, fields=change.fields)
    return len(wanted)


def _category(body: str) -> str:
    """Of an issue of ours; empty for any other."""
    before, _, rest = _MARK.partition("{}")
    return body.partition(before)[2].partition(rest)[0] if before in body else ""


def _body(category: str, videos: list[Video]) -> str:
    """Names and messages as code: no mention in them may call anybody."""
    lines = [_MARK.format(category), f"{len(videos)} videos failed with `{category}` and wait for a person.", ""]
    lines += ["| video | since | why |", "| --- | --- | --- |"]
    for video in sorted(videos, key=lambda one: one.id)[:SHOWN]:
        at, message = (video.last_error.at, video.last_error.message) if video.last_error else ("", "")
        lines.append(f"| <code>{video.id}</code> | {at} | <code>{summary.text(message[:MESSAGE_CHARS])}</code> |")
    if len(videos) > SHOWN:
        lines.append(f"| … and {len(videos) - SHOWN} more | | |")
    return "\n".join(
        [*lines, "", "`dailies retry ID` or `dailies retry --failed` starts them anew; `dailies remove ID` gives them up."]
    )
