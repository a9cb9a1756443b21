"""What GitHub's runner is told: log groups, annotations, masks, outputs, the step summary (facts/actions 1.8)."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from dailies.config import environment
from dailies.model import State
from dailies.redact import loggable, plain
from dailies.report import RunReport

MESSAGE_CHARS: Final = 4000  # the runner cuts at 4096
ANNOTATIONS: Final = 10  # of a level in a step; the rest would be dropped in silence
_WELL: Final = frozenset({State.DONE, State.DUPLICATE})
SUMMARY_BYTES: Final = 1024 * 1024 - 1024  # above 1 MiB the whole summary of the step is refused


def is_on() -> bool:
    """Whether this is a step of a workflow."""
    return environment().get("GITHUB_ACTIONS") == "true"


def is_hosted() -> bool:
    """Whether the machine vanishes with the job."""
    return is_on() and environment().get("RUNNER_ENVIRONMENT") == "github-hosted"


def escaped(text: str, *, is_property: bool = False) -> str:
    """`%` first, then what would end the command or the property."""
    for character in "%\r\n:," if is_property else "%\r\n":
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def annotation(level: str, message: str, title: str) -> str:
    """One line for the log: `::error title=…::…`; level is error, warning or notice."""
    said = plain(message)[:MESSAGE_CHARS]
    return f"::{level} title={escaped(plain(title)[:200], is_property=True)}::{escaped(said)}"


def group(title: str, lines: Iterable[str]) -> str:
    """Lines that are folded away below a title; groups do not nest."""
    return "\n".join([f"::group::{escaped(plain(title))}", *map(loggable, lines), "::endgroup::"])


def masks(secrets: Iterable[str]) -> Iterator[str]:
    """Each line of each secret: the runner then hides it in every log. Must be printed before anything else."""
    for secret in sorted(secrets):
        yield from (f"::add-mask::{escaped(line)}" for line in secret.splitlines() if line.strip())


def failures(report: RunReport) -> list[str]:
    """Annotations for the videos that failed, one of them left for the command's own last word."""
    failed = [(video, video.last_error()) for video in report.videos if video.state not in _WELL and video.last_error()]
    shown = failed if len(failed) < ANNOTATIONS else failed[: ANNOTATIONS - 2]
    lines = [annotation("error", error, f"{video.code} {video.state}") for video, error in shown]
    if len(failed) > len(shown):
        lines.append(annotation("error", f"{len(failed) - len(shown)} more failed: see the summary", "dailies"))
    return lines


def outputs(values: Mapping[str, object]) -> None:
    """For later steps and jobs; a value may have any content, as its end is a word that nobody can guess."""
    path = environment().get("GITHUB_OUTPUT")
    if not path:
        return
    end = f"end-{os.urandom(16).hex()}"
    with Path(path).open("a", encoding="utf-8") as file:
        file.writelines(f"{name}<<{end}\n{value}\n{end}\n" for name, value in values.items())


def summary(markdown: str) -> None:
    """Shown on the run's page; what is over the limit is cut at a line."""
    path = environment().get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    with Path(path).open("ab") as file:
        room = SUMMARY_BYTES - file.tell()
        encoded = f"{markdown}\n".encode()
        if len(encoded) > room:
            encoded = encoded[: max(0, room)].rpartition(b"\n")[0] + b"\n"
        file.write(encoded)
