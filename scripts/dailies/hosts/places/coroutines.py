"""Calls of fsspec's asynchronous back ends that see a deadline: the coroutine behind `info` is `_info` (fsspec, "Async")."""

import asyncio
import contextlib
import io
import logging
import mimetypes
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent import futures
from dataclasses import dataclass
from typing import Any, Final

from dailies.clock import Deadline
from dailies.errors import DailiesError, Transient
from dailies.hosts.places.address import Address
from dailies.hosts.places.place import LOOK_S, Stored, stored

BLOCK_BYTES: Final = 8 << 20  # S3 takes parts from 5 MiB, GCS multiples of 256 KiB
OPTIONS: Final[Mapping[str, Any]] = {"skip_instance_cache": True, "use_listings_cache": False}
Classed = Callable[[BaseException], DailiesError | None]


@dataclass(frozen=True)
class Caller:
    """One file system. `classed` says what a library's error means; None for what is a fault of ours."""

    system: Any
    classed: Classed

    def call(self, name: str, deadline: Deadline, *arguments: Any, **options: Any) -> Any:
        """The file system's own method. Raises what `classed` makes of an error, FileNotFoundError, the deadline's error."""
        return self.run(lambda: getattr(self.system, f"_{name}")(*arguments, **options), deadline)

    def run(self, make: Callable[[], Coroutine[Any, Any, Any]], deadline: Deadline) -> Any:
        """In fsspec's own thread; cancelled there when the deadline ends."""
        return self.finish(self.begin(make, deadline), deadline)

    def begin(self, make: Callable[[], Coroutine[Any, Any, Any]], deadline: Deadline) -> "futures.Future[Any]":
        """To be finished, or cancelled, by whoever began it."""
        deadline.check()
        return asyncio.run_coroutine_threadsafe(make(), self.system.loop)

    def finish(self, future: "futures.Future[Any]", deadline: Deadline) -> Any:
        """Raises as `call` does."""
        while not future.done():
            futures.wait([future], LOOK_S)
            if not future.done():
                try:
                    deadline.check()
                except DailiesError:
                    future.cancel()
                    raise
        if future.cancelled():
            raise Transient("storage: the connection was given up; it is tried again later")
        error = future.exception()
        if error is None:
            return future.result()
        if isinstance(error, FileNotFoundError):
            raise error
        raise self.classed(error) or error from None

    def read(self, path: str, size_bytes: int, deadline: Deadline, start: int = 0) -> Iterator[bytes]:
        for at in range(start, size_bytes, BLOCK_BYTES):
            yield self.call("cat_file", deadline, path, start=at, end=min(at + BLOCK_BYTES, size_bytes))

    def browse(self, address: Address, pattern: str, deadline: Deadline) -> list[Stored]:
        """In a bucket or container."""
        base = f"{address.host}/{address.path('')}"
        return stored(self.call("glob", deadline, f"{base}{pattern}", detail=True), base)


class Sent(io.BytesIO):
    """A block that is sent: aiohttp wants a file for large ones and closes it, but it may have to be sent again."""

    def close(self) -> None:
        pass


def content_type(key: str) -> str:
    return mimetypes.guess_type(key)[0] or "application/octet-stream"


def quiet(*loggers: str) -> None:
    """Libraries that log what they raise anyway, with addresses in it."""
    for name in loggers:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def known_hash(metadata: object) -> str | None:
    """Some servers change the case of what is kept beside a file."""
    if isinstance(metadata, Mapping):
        with contextlib.suppress(StopIteration):
            return next(text for key, text in metadata.items() if str(key).lower() == "sha256" and isinstance(text, str))
    return None
