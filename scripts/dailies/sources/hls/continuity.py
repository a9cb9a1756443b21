"""Transport streams joined byte by byte: where a server counts packets from zero in each segment, readers are told. Pure.

Each packet carries a counter of its stream (ISO 13818-1, 2.4.3.3); where it jumps, a reader takes what follows for damaged. A
packet without payload that says `discontinuity` makes the jump a lawful one, and changes no other byte.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from mmap import mmap
from typing import Final

PACKET_BYTES: Final = 188
_TAIL_BYTES: Final = 5000 * PACKET_BYTES
_HEAD_BYTES: Final = 8 * PACKET_BYTES
_PROGRAMS: Final = b"\x47\x40\x00"  # the packet of the table that leads every segment
_LEAST_PID: Final = 0x20  # those below are of tables, which nobody counts
_NULL: Final = 0x1FFF
Content = bytes | mmap


@dataclass(frozen=True)
class End:
    """How a segment ended: the counter of its last table of programs, and its last packets."""

    count: int
    tail: bytes

    @classmethod
    def of(cls, content: Content) -> "End | None":
        """None where it is no transport stream, or has no such table."""
        at = content.rfind(_PROGRAMS, 0, len(content) - 1) if content[:1] == _PROGRAMS[:1] else -1
        while at % PACKET_BYTES > 0 and at > 0:
            at = content.rfind(_PROGRAMS, 0, at + len(_PROGRAMS) - 1)
        if at < 0:
            return None
        tail = content if isinstance(content, bytes) else content[-min(len(content), _TAIL_BYTES) :]
        return cls(_count(content, at), tail)


def bridge(end: End | None, content: Content) -> bytes:
    """What to put between; nothing where the counters go on."""
    at = content.find(_PROGRAMS, 0, _HEAD_BYTES)
    is_whole = 0 <= at <= len(content) - PACKET_BYTES and at % PACKET_BYTES == 0
    if end is None or not is_whole or _count(content, at) == (end.count + 1) % 16:
        return b""
    last = dict(_counts(end.tail[-(len(end.tail) // PACKET_BYTES * PACKET_BYTES) :]))
    streams = {pid for pid in last if pid >= _LEAST_PID and pid != _NULL} - _tables(content[at : at + PACKET_BYTES])
    return b"".join(_jump(pid, count) for pid, count in _firsts(content, streams) if count != (last[pid] + 1) % 16)


def _count(content: Content, at: int) -> int:
    return content[at + 3 : at + 4][0] & 15


def _counts(content: Content) -> Iterator[tuple[int, int]]:
    """(stream, counter) of each packet."""
    for at in range(0, len(content) - PACKET_BYTES + 1, PACKET_BYTES):
        head = content[at : at + 4]
        yield (head[1] & 0x1F) << 8 | head[2], head[3] & 15


def _firsts(content: Content, streams: Collection[int]) -> Iterator[tuple[int, int]]:
    """Of these streams, but of those that say themselves that they jump."""
    left = set(streams)
    for number, (pid, count) in enumerate(_counts(content)):
        if pid in left:
            left.remove(pid)
            head = content[number * PACKET_BYTES : (number + 1) * PACKET_BYTES]
            if not (head[3] & 0x20 and head[4] and head[5] & 0x80):
                yield pid, count
        if not left:
            return


def _tables(packet: bytes) -> set[int]:
    """The streams that hold tables of one program each, as the table of programs says (2.4.4.3)."""
    start = 4 + (1 + packet[4] if packet[3] & 0x20 else 0)
    section = packet[start + 1 + packet[start] :] if start < PACKET_BYTES else b""
    end = min(len(section), 3 + ((section[1] & 0x0F) << 8 | section[2]) - 4) if len(section) > 8 else 0
    return {(section[at + 2] & 0x1F) << 8 | section[at + 3] for at in range(8, end - 3, 4)}


def _jump(pid: int, count: int) -> bytes:
    """An adaptation field with the flag and nothing else: packets without payload do not count."""
    head = bytes([0x47, pid >> 8, pid & 0xFF, 0x20 | (count - 1) % 16, PACKET_BYTES - 5, 0x80])
    return head.ljust(PACKET_BYTES, b"\xff")
