"""A media file behind a link."""

import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from dailies.answer import full_jitter
from dailies.arriving import Incoming
from dailies.clock import Deadline
from dailies.errors import DailiesError, Denied, Interrupted, OutOfTime, Postponed, Transient
from dailies.model import Source
from dailies.sources import asking
from dailies.sources.slots import slot
from dailies.sources.source import Fetched, Ground, Place
from dailies.sources.web.representation import Representation
from dailies.sources.web.transfer import Changed, Transfer

TRIES: Final = 5  # in a row that bring nothing
PATIENCE_S: Final = 30.0  # for a server that wants to be asked later, in all
_LATER: Final = timedelta(minutes=10)
_SIDECAR_BYTES: Final = 4096
_SIDECAR_S: Final = 15.0
_SHA256: Final = re.compile(rb"\s*\\?([0-9a-fA-F]{64})(?![0-9a-fA-F])")


@dataclass(frozen=True)
class WebFile:
    ground: Ground

    def is_here(self, source: Source) -> bool:
        return self.ground.has_link(source)

    def fetch(self, source: Source, place: Place, deadline: Deadline) -> Fetched:
        """Goes on from what earlier fetches brought, where the server still has the same file."""
        link = asking.way(self.ground.link(source), self.ground)
        with closing(Transfer(self.ground, source, place, link)) as transfer:
            if not transfer.recall(deadline):
                self._persist(transfer, source, deadline)
                self._check(transfer, source, deadline)
                transfer.finish()
            assert transfer.known is not None
            return Fetched(_as_known(source, transfer.known))

    def remove(self, source: Source) -> None:
        """Nothing is deleted on a server."""

    def _persist(self, transfer: Transfer, source: Source, deadline: Deadline) -> None:
        """Until it is whole. Raises what no trying again helps against."""
        best, failures, patience_s, is_fresh = transfer.got, 0, PATIENCE_S, False
        while not transfer.is_whole:
            try:
                transfer.go(deadline)
                continue
            except Postponed as error:
                patience_s = self._wait(error, patience_s, deadline)
                continue
            except Transient as error:
                trouble = error
            if transfer.got > best:
                best, failures, is_fresh = transfer.got, -1, False
            if isinstance(trouble, Denied):
                if is_fresh:
                    raise trouble
                transfer.way = asking.way(asking.refreshed(source, self.ground, deadline), self.ground)
                is_fresh = True
                continue
            if isinstance(trouble, Changed):
                transfer.start_over()
                best = 0
            failures += 1
            if failures == TRIES:
                raise trouble
            deadline.pause(full_jitter(max(failures, 1), self.ground.http.draw))

    def _wait(self, error: Postponed, patience_s: float, deadline: Deadline) -> float:
        """What is left of the patience; raises the error where it wants more."""
        wait_s = max(0.0, (error.until - self.ground.clock.now()).total_seconds())
        if wait_s > patience_s:
            if patience_s < PATIENCE_S:  # it was obeyed and says so again: not in this run any more
                raise Postponed(str(error), self.ground.clock.now() + _LATER) from error
            raise error
        deadline.pause(wait_s)
        return patience_s - max(wait_s, 1.0)

    def _check(self, transfer: Transfer, source: Source, deadline: Deadline) -> None:
        """That it is what was promised; else it is thrown away."""
        assert transfer.part is not None
        assert transfer.known is not None
        for algorithm, promised in self._promised(transfer, source, transfer.known, deadline).items():
            found = transfer.part.digest(algorithm, deadline)
            if found != promised:
                transfer.forget()
                raise Transient(
                    f"{source.original_name}: its {algorithm} is {found}, and {promised} was promised; it is fetched anew later:"
                    " where that stays so, ask who serves it"
                )

    def _promised(self, transfer: Transfer, source: Source, known: Representation, deadline: Deadline) -> Mapping[str, str]:
        """{algorithm: hex}: a person's word, else the server's, else that of the file beside it."""
        if source.expected_sha256:
            return {"sha256": source.expected_sha256}
        if known.digests:
            return known.digests
        beside = self._sidecar(transfer.way, deadline)
        return {"sha256": beside} if beside else {}

    def _sidecar(self, way: asking.Way, deadline: Deadline) -> str | None:
        """What `<link>.sha256` begins with, where it does with a sha256. Raises the deadline's error."""
        parts, said = urlsplit(way.url), bytearray()
        beside = way.to(urlunsplit(parts._replace(path=f"{parts.path}.sha256")))

        def take(incoming: Incoming) -> None:
            for block in incoming.blocks():
                said.extend(block)
                if len(said) >= _SIDECAR_BYTES:
                    break

        limit = deadline.within(_SIDECAR_S, lambda: Transient("the sha256 beside a file did not come in time"))
        try:
            with slot(self.ground, limit):
                self.ground.http.receive(beside.url, limit, take, headers=beside.headers, read_s=_SIDECAR_S)
        except (Interrupted, OutOfTime):
            raise
        except DailiesError:
            return None  # it was never promised
        found = _SHA256.match(said)
        return found[1].decode().lower() if found else None


def _as_known(source: Source, known: Representation) -> Source:
    has_suffix = bool(PurePosixPath(source.original_name).suffix)
    name = source.original_name if has_suffix or not known.name else known.name
    return source.model_copy(update={"kind": "http", "size_bytes": known.size_bytes, "original_name": name})
