"""What is known of listing sources from one run to the next: in `work/listings.json`, and in status.json for other machines."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dailies import atomic
from dailies.clock import parse_timestamp, timestamp
from dailies.errors import ConfigError
from dailies.patience import Patience
from dailies.report import ListingReport


@dataclass(frozen=True)
class Memory:
    """Of one source. `validators` are those of the answer whose entries were queued, and stay on this machine."""

    report: ListingReport = field(default_factory=ListingReport)
    validators: Mapping[str, str] = field(default_factory=dict)

    @property
    def patience(self) -> Patience:
        report = self.report
        return Patience(report.failures, _moment(report.next_try_at), report.error, _moment(report.last_success_at))

    def with_(self, patience: Patience, now: datetime, **counts: int) -> "Memory":
        """`counts`: `found` and `added`, where they are new."""
        known = {
            "failures": patience.failures,
            "next_try_at": _told(patience.next_try_at),
            "last_success_at": _told(patience.last_success_at),
            "error": patience.last_error,
            "at": timestamp(now),
        }
        return Memory(self.report.model_copy(update={**known, **counts}), self.validators)


def read(path: Path, recorded: Mapping[str, Any]) -> dict[str, Memory]:
    """By name: of each source what is newest, here or as `recorded` (status.json). What cannot be read is forgotten."""
    here: Mapping[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found = json.loads(path.read_bytes())
        here = found if isinstance(found, dict) else {}
    memories: dict[str, Memory] = {}
    for name in {*here, *recorded}:
        ours, theirs = _parsed(here.get(name)), _parsed(recorded.get(name))
        is_older = (theirs.report.at or "") > (ours.report.at or "")
        memories[name] = Memory(theirs.report if is_older else ours.report, ours.validators)
    return memories


def write(path: Path, memories: Mapping[str, Memory]) -> None:
    """Raises ConfigError."""
    content = {name: {**one.report.model_dump(mode="json"), "validators": dict(one.validators)} for name, one in memories.items()}
    try:
        atomic.write(path, (json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}; free the disk or make work/ writable") from error


def _parsed(content: Any) -> Memory:
    if not isinstance(content, dict):
        return Memory()
    try:
        known = {key: value for key, value in content.items() if key in ListingReport.model_fields}
        report = ListingReport.model_validate(known)
        for moment in (report.next_try_at, report.last_success_at, report.at):
            _moment(moment)
    except (ValidationError, ValueError):
        return Memory()
    validators = content.get("validators")
    validators = validators if isinstance(validators, dict) else {}
    return Memory(report, {str(key): said for key, said in validators.items() if isinstance(said, str)})


def _moment(text: str | None) -> datetime | None:
    return parse_timestamp(text) if text else None


def _told(moment: datetime | None) -> str | None:
    """Never sooner than it was: times are told in whole seconds."""
    return None if moment is None else timestamp(moment + timedelta(seconds=1 if moment.microsecond else 0))
