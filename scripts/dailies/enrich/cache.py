"""Answers of catalogues on this machine's disk, the empty ones too, so that nothing is asked twice in a month."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from dailies import __version__, atomic
from dailies.clock import Clock, parse_timestamp, timestamp

_LOG: Final = logging.getLogger(__name__)


class Missing:
    """Nothing is known: an empty answer is something else."""


@dataclass(frozen=True)
class Cache:
    """`folder/<sha256 of the request>.json`; each file is whole or absent."""

    folder: Path
    clock: Clock
    keep_s: float

    def get(self, url: str, params: Mapping[str, str]) -> Any | type[Missing] | None:
        """None is a cached "there is none"; what is old or cannot be read is missing."""
        try:
            found = json.loads(self._path(url, params).read_bytes())
            is_fresh = parse_timestamp(found["at"]) + timedelta(seconds=self.keep_s) > self.clock.now()
            return found["answer"] if is_fresh else Missing
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return Missing

    def put(self, url: str, params: Mapping[str, str], answer: Any | None) -> None:
        """A disk that takes nothing costs another request, not the video."""
        entry = {"at": timestamp(self.clock.now()), "url": url, "params": dict(params), "answer": answer}
        try:
            atomic.write(self._path(url, params), json.dumps(entry).encode())
        except OSError as error:
            _LOG.warning("cache=%s cannot be written: %s; free the disk", self.folder.name, error.strerror)

    def _path(self, url: str, params: Mapping[str, str]) -> Path:
        """Another version of this program reads other parts of an answer."""
        request = json.dumps([__version__, url, sorted(params.items())])
        return self.folder / f"{hashlib.sha256(request.encode('utf-8', 'replace')).hexdigest()}.json"
