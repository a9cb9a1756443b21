"""Joined transport streams: where counters jump readers are told, and nothing else changes."""

from hypothesis import example, given
from hypothesis import strategies as st

from dailies.sources.hls.continuity import PACKET_BYTES, End, bridge

PMT, VIDEO, SOUND = 0x1000, 0x100, 0x101
_PROGRAM = bytes([0, 0, 0xB0, 13, 0, 1, 0xC1, 0, 0, 0, 1, 0xE0 | PMT >> 8, PMT & 0xFF, 1, 2, 3, 4])


def packet(pid: int, count: int, *, jumps: bool = False) -> bytes:
    field = bytes([1, 0x80]) if jumps else b""
    head = bytes([0x47, (0x40 if pid == 0 else 0) | pid >> 8, pid & 0xFF, (0x30 if jumps else 0x10) | count % 16])
    return (head + field + (_PROGRAM if pid == 0 else b"")).ljust(PACKET_BYTES, b"\xff")


def segment(counts: dict[int, int], order: list[int]) -> bytes:
    """Tables first, then packets of these streams; `counts` go on."""
    made = []
    for pid in (0, PMT, *order):
        made.append(packet(pid, counts.setdefault(pid, 0)))
        counts[pid] += 1
    return b"".join(made)


ORDERS = st.lists(st.sampled_from([VIDEO, SOUND]), min_size=1, max_size=40)


@given(ORDERS, ORDERS)
def test_nothing_stands_between_segments_whose_counters_go_on(one: list[int], other: list[int]) -> None:
    counts: dict[int, int] = {}
    first, second = segment(counts, one), segment(counts, other)

    assert bridge(End.of(first), second) == b""


@given(ORDERS, ORDERS)
def test_each_stream_whose_counter_jumps_is_told_once(one: list[int], other: list[int]) -> None:
    first, second = segment({0: 3, PMT: 3, VIDEO: 5, SOUND: 9}, one), segment({0: 0}, other)

    between = bridge(End.of(first), second)

    told = [between[at : at + PACKET_BYTES] for at in range(0, len(between), PACKET_BYTES)]
    after = {VIDEO: (5 + one.count(VIDEO)) % 16, SOUND: (9 + one.count(SOUND)) % 16}
    jumping = {pid for pid in set(one) & set(other) if after[pid] != 0}
    assert {(head[1] & 0x1F) << 8 | head[2] for head in told} == jumping
    assert all((head[3], head[5]) == (0x20 | 15, 0x80) for head in told), "no payload, one below the first that follows"
    assert len(told) == len(jumping)


def test_a_stream_that_says_itself_that_it_jumps_needs_no_help() -> None:
    first = segment({}, [VIDEO, VIDEO])
    second = packet(0, 0) + packet(PMT, 0) + packet(VIDEO, 0, jumps=True) + packet(VIDEO, 1)

    assert bridge(End.of(first), second) == b""


@example(b"G@\0", b"G@\0")
@given(st.binary(max_size=600), st.binary(max_size=600))
def test_what_is_no_transport_stream_is_left_alone(before: bytes, behind: bytes) -> None:
    assert bridge(End.of(before), behind) == b"" or behind[:1] == b"\x47"
