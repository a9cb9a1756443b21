"""What leaves: files counted as the socket takes them, forms, the speed of all uploads together."""

import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dailies.body import BLOCK_BYTES, Body, Throttle, multipart
from dailies.clock import Deadline, SystemClock
from dailies.errors import Interrupted, OutOfTime, Transient
from loopback import Call, Stored
from support import FakeClock

# what a name or a value from outside may hold; lone surrogates come from file names that are no UTF-8
HOSTILE = st.text(st.characters(exclude_categories=()) | st.sampled_from("\r\n\"'\\;=-\0"), max_size=40)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bodies")


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(bytes(range(256)) * (3 * BLOCK_BYTES // 256))
    return path


def whole(body: Body) -> bytes:
    return b"".join(body)


@settings(deadline=None)
@given(
    content=st.binary(max_size=300) | st.integers(1, 3).map(lambda count: b"abc" * (count * BLOCK_BYTES // 2)),
    cut=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    edges=st.tuples(st.binary(max_size=50), st.binary(max_size=50)),
)
@example(content=b"", cut=(0.0, 0.0), edges=(b"", b""))
def test_a_body_is_as_long_as_it_says_and_the_same_again_once_rewound(
    place: Path, content: bytes, cut: tuple[float, float], edges: tuple[bytes, bytes]
) -> None:
    path = place / "part"
    path.write_bytes(content)
    offset, end = sorted(int(share * len(content)) for share in cut)
    body = Body(path, offset=offset, length=end - offset, prefix=edges[0], suffix=edges[1])

    first = whole(body)

    assert first == edges[0] + content[offset:end] + edges[1]
    assert (len(first), body.sent, body.file_sent, body.is_complete) == (len(body), len(body), end - offset, True)
    body.rewind()
    assert (body.sent, body.is_complete) == (0, False)
    assert whole(body) == first


@settings(deadline=None)
@given(offset=st.integers(0, 2 * BLOCK_BYTES))
def test_without_a_length_it_goes_to_the_end_of_the_file(place: Path, offset: int) -> None:
    path = place / "open-ended"
    path.write_bytes(b"x" * 2 * BLOCK_BYTES)

    assert len(whole(Body(path, offset=offset))) == 2 * BLOCK_BYTES - offset


def test_what_was_handed_out_counts_once_the_socket_has_taken_it(film: Path) -> None:
    body, seen = Body(film, prefix=b"head"), []
    body.before_block = lambda count: seen.append((count, body.sent, body.file_sent))

    for _ in range(4):
        body.read()

    assert seen == [
        (4, 0, 0),
        (BLOCK_BYTES, 4, 0),
        (BLOCK_BYTES, 4 + BLOCK_BYTES, BLOCK_BYTES),
        (BLOCK_BYTES, 4 + 2 * BLOCK_BYTES, 2 * BLOCK_BYTES),
    ]
    assert not body.is_complete
    assert body.read() == b""
    assert (body.is_complete, body.sent) == (True, len(body))


def test_of_a_file_that_grew_only_the_promised_bytes_leave(film: Path) -> None:
    body, before = Body(film), film.read_bytes()
    with film.open("ab") as file:
        file.write(b"more")

    assert whole(body) == before


def _shrinks(film: Path) -> None:
    with film.open("r+b") as file:
        file.truncate(BLOCK_BYTES + 1)


def _becomes_a_folder(film: Path) -> None:
    film.unlink()
    film.mkdir()


@pytest.mark.parametrize(
    ("breaks", "words"),
    [
        (_shrinks, "became shorter while it was sent"),
        (Path.unlink, "cannot be read any more: No such file or directory"),
        (_becomes_a_folder, "cannot be read any more: Is a directory"),
    ],
)
def test_a_file_that_breaks_meanwhile_is_named(film: Path, breaks: Callable[[Path], None], words: str) -> None:
    body = Body(film)
    breaks(film)

    with pytest.raises(Transient, match=rf"^film\.mp4: {words}; it is tried again later$"):
        whole(body)

    assert not body.is_complete


@pytest.mark.parametrize(("name", "offset"), [("gone.mp4", 0), ("film.mp4", 1 << 30)])
def test_a_file_that_is_gone_or_shorter_than_what_was_sent_of_it_is_no_body(film: Path, name: str, offset: int) -> None:
    with pytest.raises(Transient, match=rf"^{name}: "):
        Body(film.with_name(name), offset=offset)


@settings(deadline=None)
@given(fields=st.dictionaries(HOSTILE, HOSTILE, max_size=4), name=HOSTILE, filename=HOSTILE, content=st.binary(max_size=300))
@example(fields={'a"\r\nb': "c\r\n--dailies\r\n"}, name="file", filename='f".mp4\r\nX: y', content=b"\r\n--dailies--\r\n")
@example(fields={"lone": "\ud800"}, name="\udcff", filename="\udce4.mp4", content=b"")
def test_a_form_is_read_back_as_it_was_written(
    place: Path, fields: dict[str, str], name: str, filename: str, content: bytes
) -> None:
    path, sent = place / "file", place / "sent"
    path.write_bytes(content)

    body, content_type = multipart(fields, name, filename, path)

    sent.write_bytes(whole(body))
    assert sent.stat().st_size == len(body)
    call = Call("POST", "/", {}, {"content-type": content_type}, Stored(sent, len(body), "", ""))
    got_fields, got_files = call.multipart()
    assert got_fields == {_escaped(key): _encoded(value) for key, value in fields.items()}
    ((got_name, file),) = got_files.items()
    assert (got_name, file.filename) == (_escaped(name), _escaped(filename))
    assert (file.read(), file.sha256) == (content, hashlib.sha256(content).hexdigest())


def _encoded(text: str) -> str:
    return text.encode(errors="replace").decode()


def _escaped(text: str) -> str:
    """HTML, "multipart form data": what browsers write of names."""
    return _encoded(text).replace("\n", "%0A").replace("\r", "%0D").replace('"', "%22")


def test_no_two_forms_have_the_same_boundary(film: Path) -> None:
    assert multipart({}, "file", "a", film)[1] != multipart({}, "file", "a", film)[1]


@settings(deadline=None)
@given(rate=st.floats(1000, 1e9), blocks=st.lists(st.tuples(st.integers(1, BLOCK_BYTES), st.floats(0, 5)), max_size=30))
def test_never_more_has_left_than_the_rate_allows_and_one_block(rate: float, blocks: list[tuple[int, float]]) -> None:
    clock = FakeClock()
    throttle, began, left = Throttle(clock, rate), clock.monotonic(), 0
    deadline = Deadline.after(clock, 1e9)

    for count, idle_s in blocks:
        throttle.take(count, deadline)
        assert left <= rate * (clock.monotonic() - began) * (1 + 1e-6) + 1
        left += count
        clock.advance(idle_s)


def test_what_may_leave_at_once_does_not_wait(clock: FakeClock) -> None:
    throttle = Throttle(clock, 100)
    throttle.take(1000, Deadline.after(clock, 1e6))
    clock.advance(10)

    throttle.take(1000, Deadline.after(clock, 1e6))

    assert clock.slept == []


def test_no_limit_is_no_wait_and_no_look_at_the_deadline(clock: FakeClock, stop: threading.Event) -> None:
    stop.set()

    Throttle(clock, 0).take(1 << 40, Deadline.after(clock, 1, stop))

    assert clock.slept == []


def test_many_threads_together_keep_the_rate() -> None:
    clock = SystemClock()
    throttle, deadline = Throttle(clock, 4_000_000), Deadline.after(clock, 30)

    def take() -> None:
        for _ in range(4):
            throttle.take(50_000, deadline)

    threads = [threading.Thread(target=take) for _ in range(10)]
    began = time.monotonic()

    _run(threads)

    assert 0.4 < time.monotonic() - began < 5  # 2 MB, of which the last block leaves as soon as the others have


@pytest.mark.parametrize("how", ["stop", "deadline"])
def test_a_wait_for_its_turn_ends_with_the_deadline(how: str, stop: threading.Event) -> None:
    clock = SystemClock()
    throttle, deadline = Throttle(clock, 1), Deadline.after(clock, 30 if how == "stop" else 0.2, stop)
    throttle.take(1000, deadline)
    raised: list[Any] = []

    def wait() -> None:
        with pytest.raises((Interrupted, OutOfTime)) as caught:
            throttle.take(1, deadline)
        raised.append(caught.type)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    if how == "stop":
        stop.set()
    thread.join(0.5)

    assert not thread.is_alive()
    assert raised == [Interrupted if how == "stop" else OutOfTime]


def _run(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
