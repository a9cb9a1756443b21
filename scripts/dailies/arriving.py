"""What an answer brings: kept in memory, handed on as it comes, or put onto disk."""

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import requests

from dailies.body import BLOCK_BYTES
from dailies.clock import Deadline
from dailies.disk import written
from dailies.errors import Transient

ANSWER_BYTES: Final = 16_000_000  # of an answer that is kept


@dataclass(frozen=True)
class Incoming:
    """The head of an answer whose body is still to come; header names in lower case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    url: str = field(repr=False)  # where redirects led
    blocks: Callable[[], Iterator[bytes]] = field(repr=False)  # the body as it was sent, a block as soon as some of it is there


def kept(answer: requests.Response) -> bytes:
    """Piece by piece, so that what was packed small on purpose is not unpacked further than it is kept."""
    found = io.BytesIO()
    while left := ANSWER_BYTES - found.tell():
        block = answer.raw.read(min(BLOCK_BYTES, left), decode_content=True)
        if not block:
            break
        found.write(block)
    return found.getvalue()


def blocks(answer: requests.Response, deadline: Deadline) -> Iterator[bytes]:
    """Not gathered to whole ones: who counts how fast they come is told of each."""
    while block := answer.raw.read1(BLOCK_BYTES, decode_content=False):
        deadline.check()
        yield block


def to_disk(answer: requests.Response, target: Path, deadline: Deadline, size_bytes: int | None) -> None:
    """urllib3 counts against Content-Length, and none of its errors is an OSError: those here are the disk's."""
    host, got = urlsplit(answer.url).hostname, 0
    with written(target), contextlib.ExitStack() as undo:
        with target.open("wb") as file:
            undo.callback(target.unlink, missing_ok=True)
            for block in answer.raw.stream(BLOCK_BYTES, decode_content=False):
                deadline.check()
                got += len(block)
                if size_bytes is not None and got > size_bytes:
                    break
                file.write(block)
        if size_bytes is not None and got != size_bytes:
            more = "more" if got > size_bytes else f"{got}"
            raise Transient(f"{host}: {target.name} has {size_bytes} bytes and {more} came; it is tried again later")
        undo.pop_all()
