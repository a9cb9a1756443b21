"""One file from one server: what is missing of it is asked for, over several connections where that helps."""

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from dailies.answer import Answer
from dailies.arriving import Incoming
from dailies.clock import Deadline, Halt
from dailies.disk import written
from dailies.errors import Category, Interrupted, Postponed, Transient, VideoError
from dailies.model import Source
from dailies.sources.asking import Way, verdict
from dailies.sources.ranges import Claim, Part, is_whole
from dailies.sources.slots import slot
from dailies.sources.source import Ground, Place
from dailies.sources.web import representation
from dailies.sources.web.representation import Representation, host_of

SLOWEST_BYTES_PER_S: Final = 1000
SEVERAL_BYTES: Final = 32 << 20  # below, several connections cost more than they bring
CONNECTIONS: Final = 4
_FIRST_BYTES: Final = 8 << 20  # asked for before anything is known
_LEAST_BYTES: Final = 8 << 20  # of a request among several connections, and the most of one
_MOST_BYTES: Final = 64 << 20
_GROWTH_BYTES: Final = 64 << 20  # room is promised in such steps where the size is not known


class Changed(Transient):
    """The server has other bytes than those that are here: nothing can be gone on from."""


class Transfer:
    """What is here of the file, on disk in `place.kept`, and the way to the rest; `close` it."""

    def __init__(self, ground: Ground, source: Source, place: Place, way: Way) -> None:
        self.way = way
        self.known: Representation | None = None
        self.part: Part | None = None
        self._ground, self._source, self._place = ground, source, place
        self._part_path, self._journal, self._state = (place.kept / f"http.{what}" for what in ("part", "spans", "json"))
        self._takes_all = False  # ranges are not asked for
        self._restarts = 0
        self._came = 0
        self._promised = 0
        self._lock = threading.Lock()

    @property
    def got(self) -> int:
        return self.part.got if self.part is not None else 0

    @property
    def is_whole(self) -> bool:
        return self.part is not None and self.part.is_whole

    def close(self) -> None:
        if self.part is not None:
            self.part.close()
        self.part = None

    def recall(self, deadline: Deadline) -> bool:
        """Take up what an earlier fetch left; whether that was everything, and is in its place.

        Raises VideoError, Waiting and the deadline's error.
        """
        self.known = Representation.load(self._state, self._source.identity)
        if self.known is None or self.known.size_bytes is None:
            self.forget()
            return False
        size = self.known.size_bytes
        if self.known.is_checked and is_whole(self._place.target, self._journal, self.known.token, size, deadline):
            return True
        self._admit(size)
        self.part = Part.resumed(self._part_path, self._journal, self.known.token, size, deadline)
        return False

    def go(self, deadline: Deadline) -> None:
        """Fetch what is missing. What came before any trouble is kept; raises what `verdict` and Http do, Changed, Turned,
        VideoError, Waiting and the deadline's error."""
        if self.known is not None and not self.known.is_resumable:
            self.forget()
        self._came = self.got
        while self.part is None:
            self._begin(deadline)
        if not self.is_whole:
            self._fill(self.part, deadline)

    def start_over(self) -> None:
        """Other bytes are there now. Raises Transient where that goes on and on."""
        self.forget()
        self._restarts += 1
        self._takes_all = self._restarts > 1  # as with mirrors that do not agree
        if self._restarts > 3:
            raise Transient(f"{self._source.original_name}: changes while it is fetched; it is tried again later")

    def forget(self) -> None:
        self.close()
        self.known, self._promised = None, 0
        with written(self._state):
            for path in (self._state, self._journal, self._part_path):
                path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Put the whole file, which was checked, into its place."""
        assert self.part is not None
        assert self.known is not None
        self._keep(self.known.model_copy(update={"is_checked": True}))
        self.part.put_in_place(self._place.target)

    # The first request

    def _begin(self, deadline: Deadline) -> None:
        asked = {} if self._takes_all else {"range": f"bytes=0-{_FIRST_BYTES - 1}"}
        answer = self._ask(asked, self._first, deadline)
        if answer.status == 416 and not self._takes_all:  # an empty file has no first byte
            self._takes_all = True
        elif answer.status not in {200, 206}:
            raise verdict(self._source, answer, self._ground.clock)

    def _first(self, incoming: Incoming) -> None:
        name = self._source.original_name
        representation.check_coding(incoming, name)
        known = representation.told(incoming, self._source.identity, self._ground.clock.now())
        start, end, size = representation.content_range(incoming.headers) or (0, known.size_bytes, known.size_bytes)
        if incoming.status == 200:
            start, end = 0, known.size_bytes
        elif start or self._takes_all:
            raise Transient(f"{host_of(incoming)}: sends a part that was not asked for; it is tried again later")
        elif end != size and known.validator is None:
            self._takes_all = True  # nobody could tell whether the next part is of the same file
            return
        if self._takes_all:
            known = known.model_copy(update={"serves_ranges": False})
        if known.size_bytes is not None:
            self._admit(known.size_bytes)
        head, blocks = representation.begun(self._lively(incoming))
        representation.check_kind(head, incoming.headers, name)
        self._keep(known)
        self.part = Part.begun(self._part_path, self._journal, known.token, known.size_bytes)
        if end is None:
            self._pour_all(self.part, known, blocks, host_of(incoming))
        elif (claim := self.part.claim(end)) is not None:
            try:
                self._pour(self.part, claim, blocks, host_of(incoming))
            finally:
                self.part.give_back(claim)

    def _pour_all(self, part: Part, known: Representation, blocks: Iterator[bytes], host: str) -> None:
        """Whose end is the end of the answer."""
        part.pour(blocks, Claim(0, sys.maxsize), host)
        part.ends()
        self._keep(known.model_copy(update={"size_bytes": part.size_bytes}))

    def _keep(self, known: Representation) -> None:
        with written(self._state):
            known.save(self._state)
        self.known = known

    def _admit(self, size_bytes: int, spare_bytes: int = 0) -> None:
        most = self._ground.settings.max_size
        if size_bytes > most:
            raise VideoError(
                f"{self._source.original_name}: has {size_bytes} bytes or more, and {most} are fetched; raise [sources] max_size",
                Category.UNSUPPORTED,
            )
        self._promised = min(size_bytes + spare_bytes, most)
        self._place.reserve(self._promised)

    # The rest

    def _fill(self, part: Part, deadline: Deadline) -> None:
        count = self._connections()
        if count == 1:
            return self._work(part, None, deadline)
        halt = Halt(deadline.stop)
        inner = replace(deadline, stop=halt)
        most = min(max(_LEAST_BYTES, (part.size_bytes or 0) // (2 * count)), _MOST_BYTES)
        with ThreadPoolExecutor(count, "http-range") as pool:
            futures = [pool.submit(self._work_or_halt, part, most, inner, halt) for _ in range(count)]
        deadline.check()
        errors = [error for error in (future.exception() for future in futures) if error is not None]
        if errors and not part.is_whole:  # a server that allows fewer connections is fetched from all the same
            raise min(errors, key=_comes_after)
        return None

    def _connections(self) -> int:
        is_large = self.known is not None and (self.known.size_bytes or 0) > SEVERAL_BYTES
        return max(1, min(CONNECTIONS, self._ground.settings.connections - 1)) if is_large else 1

    def _work_or_halt(self, part: Part, most: int, deadline: Deadline, halt: Halt) -> None:
        """Trouble of one connection ends this one, trouble with the file or the disk ends all."""
        try:
            self._work(part, most, deadline)
        except BaseException as error:
            if _is_severe(error):
                halt.set()
            raise

    def _work(self, part: Part, most: int | None, deadline: Deadline) -> None:
        while (claim := part.claim(most)) is not None:
            try:
                self._bring(part, claim, deadline)
            finally:
                part.give_back(claim)

    def _bring(self, part: Part, claim: Claim, deadline: Deadline) -> None:
        known = self.known
        assert known is not None
        assert known.validator is not None
        asked = {"range": f"bytes={claim.at}-{claim.end - 1}", "if-range": known.validator}

        def take(incoming: Incoming) -> None:
            said = representation.content_range(incoming.headers)
            is_same = said is not None and known.is_in(incoming.headers) and said[2] == known.size_bytes
            if incoming.status != 206 or not is_same or said is None or said[0] != claim.at or said[1] > claim.end:
                raise Changed(f"{host_of(incoming)}: has another file now; it is fetched anew")
            representation.check_coding(incoming, self._source.original_name)
            brought = Claim(claim.at, said[1])
            try:
                self._pour(part, brought, self._lively(incoming), host_of(incoming))
            finally:
                claim.at = brought.at

        answer = self._ask(asked, take, deadline)
        if answer.status == 416:
            raise Changed(f"{answer.host}: has a shorter file now; it is fetched anew")
        if answer.status not in {200, 206}:
            raise verdict(self._source, answer, self._ground.clock)

    # Both

    def _ask(self, asked: Mapping[str, str], take: Callable[[Incoming], None], deadline: Deadline) -> Answer:
        headers, stall = {**self.way.headers, **asked}, self._ground.settings.stall
        with slot(self._ground, deadline):
            return self._ground.http.receive(self.way.url, deadline, take, headers=headers, read_s=stall)

    @staticmethod
    def _pour(part: Part, claim: Claim, blocks: Iterator[bytes], host: str) -> None:
        part.pour(blocks, claim, host)
        if claim.at != claim.end:
            raise Transient(f"{host}: sends {claim.end - claim.at} bytes fewer than it announced; it is tried again later")

    def _lively(self, incoming: Incoming) -> Iterator[bytes]:
        """The body, counted as it comes. Raises Transient where it hardly does."""
        clock, stall, since, came = self._ground.clock, self._ground.settings.stall, self._ground.clock.monotonic(), 0
        for block in incoming.blocks():
            self._tell(len(block))
            yield block
            came, took = came + len(block), clock.monotonic() - since
            if took >= stall:
                if came < SLOWEST_BYTES_PER_S * took:
                    raise Transient(f"{host_of(incoming)}: brings only {came} bytes in {took:.0f} s; it is tried again later")
                since, came = clock.monotonic(), 0

    def _tell(self, count: int) -> None:
        with self._lock:
            self._came += count
            if self._came > self._promised:
                self._admit(self._came, _GROWTH_BYTES)
            self._place.progress(self._came, self.known.size_bytes if self.known else None)


def _is_severe(error: BaseException) -> bool:
    return isinstance(error, Changed) or not isinstance(error, Transient | Postponed)


def _comes_after(error: BaseException) -> int:
    """What tells most of why a file did not come is raised; those that were halted only say so."""
    return 2 if isinstance(error, Interrupted) else 0 if _is_severe(error) else 1
