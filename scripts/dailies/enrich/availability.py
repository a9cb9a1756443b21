"""Which catalogues answer: after 5 videos in a row without success one is skipped, but for one probe a run."""

import json
import logging
import threading
from pathlib import Path
from typing import Any, Final

from dailies import atomic
from dailies.clock import Clock, timestamp

FAILURES: Final = 5
_LOG: Final = logging.getLogger(__name__)


class Availability:
    """Kept in `work/catalogues.json`, so that a catalogue stays skipped in the next run. One of these is one run."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._probed: set[str] = set()

    def may_ask(self, name: str) -> bool:
        """True for what is available, and once a run for what is not: that video is the probe."""
        with self._lock:
            if self._failures(self._read(), name) < FAILURES:
                return True
            is_probe = name not in self._probed
            self._probed.add(name)
            return is_probe

    def succeeded(self, name: str) -> None:
        with self._lock:
            state = self._read()
            if self._failures(state, name):
                _LOG.info("catalogue=%s answers again", name)
                self._write({key: one for key, one in state.items() if key != name})

    def failed(self, name: str) -> None:
        with self._lock:
            state = self._read()
            before = self._failures(state, name)
            entry: dict[str, Any] = {"failures": min(before + 1, FAILURES)}
            if before + 1 >= FAILURES:
                known = state[name].get("unavailable_since") if name in state else None
                entry["unavailable_since"] = known or timestamp(self._clock.now())
                self._probed.add(name)  # it has just been asked
            if before + 1 == FAILURES:
                _LOG.warning("catalogue=%s gave no answer for %d videos in a row: skipped until it answers again", name, FAILURES)
            self._write({**state, name: entry})

    @staticmethod
    def _failures(state: dict[str, Any], name: str) -> int:
        entry = state.get(name)
        count = entry.get("failures") if isinstance(entry, dict) else None
        return count if isinstance(count, int) else 0

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self._path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return {key: one for key, one in found.items() if isinstance(one, dict)} if isinstance(found, dict) else {}

    def _write(self, state: dict[str, Any]) -> None:
        try:
            atomic.write(self._path, (json.dumps(state, indent=2, sort_keys=True) + "\n").encode())
        except OSError as error:
            _LOG.warning("%s: cannot be written: %s; free the disk", self._path.name, error.strerror)
