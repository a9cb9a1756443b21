"""The one door to HTTP over real sockets: what servers do wrong, what a stop ends, where credentials go."""

import gzip
import json
import os
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from dailies import http as door
from dailies import wire
from dailies.answer import Answer, fault, full_jitter
from dailies.arriving import ANSWER_BYTES
from dailies.body import Body, multipart
from dailies.clock import Deadline, SystemClock
from dailies.errors import (
    ConfigError,
    DailiesError,
    Denied,
    HostRefused,
    Interrupted,
    OutcomeUnknown,
    OutOfTime,
    RateLimited,
    Transient,
    VideoError,
)
from dailies.http import TRIES, Http
from loopback import Fault, Loopback, Point, Reply, full, silent
from support import ROOT, FakeClock

SECRET = "s3cr3t-0123456789"
BIG = 64 << 20
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
Talk = Callable[[socket.socket], None]


class Echo(Loopback):
    """Says what came; addresses in `moves` lead elsewhere, those in `replies` say what they are told to."""

    def __init__(self) -> None:
        super().__init__()
        self.moves: dict[str, tuple[int, str]] = {}
        self.replies: dict[str, Reply] = {}

    def reply(self, call: Any) -> Reply:
        if call.path in self.replies:
            return self.replies[call.path]
        if call.path in self.moves:
            status, location = self.moves[call.path]
            return Reply(status, b"", {"Location": location})
        return Reply.json({"path": call.path, "query": call.query, "headers": call.headers, "sha256": call.body.sha256})

    @property
    def begun(self) -> int:
        return sum(point is Point.BEGUN for point, _ in self.points)


@pytest.fixture
def server() -> Iterator[Echo]:
    with Echo() as echo:
        yield echo


@pytest.fixture
def other() -> Iterator[Echo]:
    """`url` by another name of this machine: another host."""
    with Echo() as echo:
        echo.url = echo.url.replace("127.0.0.1", "localhost")
        yield echo


@pytest.fixture
def http(clock: FakeClock) -> Http:
    return Http(clock, draw=lambda ceiling: ceiling)


@pytest.fixture
def deadline(clock: FakeClock) -> Deadline:
    return Deadline.after(clock, 3600)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(os.urandom(1 << 16) * 48)
    return path


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """More than the buffers of any socket."""
    path = tmp_path / "big.mp4"
    path.touch()
    os.truncate(path, BIG)
    return path


@contextmanager
def scripted(*talks: Talk, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The address of a server whose connections, in order, are talked to so; the last talk serves all that follow."""
    threads, taken, over = list[threading.Thread](), list[socket.socket](), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(number: int, sock: socket.socket) -> None:
            with suppress(OSError), sock:
                if tls is None:
                    talks[min(number, len(talks) - 1)](sock)
                else:
                    with tls.wrap_socket(sock, server_side=True) as covered:
                        taken.append(covered)
                        talks[min(number, len(talks) - 1)](covered)

        def accept() -> None:
            with suppress(OSError):
                for number in range(100):
                    sock, _ = listener.accept()
                    if over.is_set():
                        sock.close()
                        return
                    thread = threading.Thread(target=serve, args=(number, sock), daemon=True)
                    threads.append(thread)
                    taken.append(sock)
                    thread.start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        port = listener.getsockname()[1]
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        over.set()
        socket.create_connection(("127.0.0.1", port)).close()
        accepting.join(5)
        for sock in taken:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(5)


def heard(sock: socket.socket) -> bytes:
    """A request's headers."""
    head = b""
    while b"\r\n\r\n" not in head:
        block = sock.recv(1)
        if not block:
            raise ConnectionError
        head += block
    return head


def swallow(sock: socket.socket, count: int) -> int:
    """Bytes of a body that came, up to so many."""
    got = 0
    while got < count and (block := sock.recv(min(1 << 20, count - got))):
        got += len(block)
    return got


def says(content: bytes) -> Talk:
    def talk(sock: socket.socket) -> None:
        heard(sock)
        sock.sendall(content)
        sock.shutdown(socket.SHUT_WR)
        swallow(sock, 1 << 30)

    return talk


def falls_silent(content: bytes = b"") -> Talk:
    """Says this, then nothing until the other side has enough."""

    def talk(sock: socket.socket) -> None:
        heard(sock)
        sock.sendall(content)
        swallow(sock, 1 << 30)

    return talk


# --- what servers do wrong while a body is sent


@pytest.mark.parametrize(
    ("trouble", "error", "words"),
    [
        (Fault.EARLY_413, HostRefused, r"127\.0\.0\.1: HTTP 413: too large; the host will not take this"),
        (Fault.RESET, Transient, r"127\.0\.0\.1: cut after \d+ of 67108864 bytes: .+; it is tried again later"),
        (Fault.LOST_ANSWER, OutcomeUnknown, r"127\.0\.0\.1: the answer to 67108864 bytes was lost: .+; the host is asked .+"),
        (Fault.LIMITED, RateLimited, r"127\.0\.0\.1: HTTP 429: slowly; it is tried again when the host allows"),
        (Fault.LIMITED_DATE, RateLimited, r"127\.0\.0\.1: HTTP 429: slowly; it is tried again when the host allows"),
        (Fault.SLOW_DOWN, Transient, r"127\.0\.0\.1: HTTP 503: <Error><Code>SlowDown</Code>.+; it is tried again later"),
        (Fault.SERVER_ERROR, Transient, r"127\.0\.0\.1: HTTP 500: out of order; it is tried again later"),
        (Fault.HTML, Transient, r"127\.0\.0\.1: HTTP 200 (answered no JSON but '<html>.+|came before it had everything); .+"),
        (Fault.GARBLED, OutcomeUnknown, r"127\.0\.0\.1: HTTP 200 answered no JSON but '{\"half\": \"of it'; .+"),
    ],
)
def test_each_fault_says_what_comes_next(trouble: Fault, error: type[DailiesError], words: str, server: Echo, big: Path) -> None:
    clock, body = SystemClock(), Body(big)
    server.breaks("PUT", trouble)

    with pytest.raises(error) as caught:
        Http(clock).send("PUT", f"{server.url}/film", body, Deadline.after(clock, 30)).json()

    assert re.fullmatch(words, str(caught.value))
    assert server.begun == 1
    if isinstance(caught.value, RateLimited):
        assert 0 < caught.value.wait_s <= 2
    if trouble is Fault.RESET:
        assert type(caught.value) is Transient
        assert body.sent + (8 << 20) >= BIG // 2  # the kernels hold some
        assert body.sent < BIG
    assert (error is OutcomeUnknown) <= body.is_complete


def test_a_slow_reader_gets_everything_once(server: Echo, film: Path, http: Http, deadline: Deadline) -> None:
    server.breaks("PUT", Fault.SLOW_READER)
    told: list[int] = []

    answer = http.send("PUT", f"{server.url}/film", Body(film), deadline, progress=told.append)

    assert answer.status == 200
    assert [call.body.read() for call in server.calls] == [film.read_bytes()]
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0, film.stat().st_size)


@pytest.mark.parametrize("is_small", [True, False])
def test_an_answer_that_is_cut_after_the_whole_body_is_unknown(is_small: bool, film: Path, http: Http, deadline: Deadline) -> None:
    body = Body(film, length=1000 if is_small else None)

    def talk(sock: socket.socket) -> None:
        heard(sock)
        swallow(sock, len(body))
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    with scripted(talk) as url, pytest.raises(OutcomeUnknown, match="the answer ended early"):
        http.send("PUT", f"{url}/film", body, deadline)


def test_success_said_before_the_body_was_there_is_none(big: Path, http: Http, deadline: Deadline) -> None:
    def talk(sock: socket.socket) -> None:
        heard(sock)
        sock.sendall(ANSWER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        sock.shutdown(socket.SHUT_WR)
        swallow(sock, 1 << 20)

    with scripted(talk) as url, pytest.raises(Transient, match=r"came before it had everything|cut after"):
        http.send("PUT", f"{url}/film", Body(big), deadline)


def test_a_refused_connection_is_a_cut_before_the_first_byte(film: Path, http: Http, deadline: Deadline) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    body = Body(film)

    with pytest.raises(Transient, match=r"cut after 0 of \d+ bytes: Connection refused; it is tried again later$") as caught:
        http.send("PUT", f"http://127.0.0.1:{port}/film", body, deadline)

    assert type(caught.value) is Transient
    assert body.sent == 0


@pytest.mark.parametrize("breaks", [Path.unlink, lambda path: os.truncate(path, 1000)])
def test_a_file_that_breaks_while_it_is_sent_is_named(
    breaks: Callable[[Path], None], server: Echo, film: Path, http: Http, deadline: Deadline
) -> None:
    body = Body(film)
    breaks(film)

    with pytest.raises(Transient, match=r"^film\.mp4: "):
        http.send("PUT", f"{server.url}/film", body, deadline)

    assert server.calls == []


def test_a_body_of_no_bytes_has_a_length_too(server: Echo, film: Path, http: Http, deadline: Deadline) -> None:
    http.send("PUT", f"{server.url}/film", Body(film, length=0), deadline)

    assert server.calls[0].headers["content-length"] == "0"
    assert "transfer-encoding" not in server.calls[0].headers


def test_a_form_with_a_file_arrives(server: Echo, film: Path, http: Http, deadline: Deadline) -> None:
    body, kind = multipart({"title": "ü"}, "file", "film.mp4", film)

    http.send("POST", f"{server.url}/form", body, deadline, headers={"Content-Type": kind})

    fields, files = server.calls[0].multipart()
    assert fields == {"title": "ü"}
    assert files["file"].read() == film.read_bytes()


# --- connections that were kept


def test_a_connection_is_kept_for_the_next_call(http: Http, deadline: Deadline) -> None:
    def talk(sock: socket.socket) -> None:
        for _ in range(2):
            heard(sock)
            sock.sendall(ANSWER)

    def second(_sock: socket.socket) -> None:
        raise AssertionError("a second connection")

    with scripted(talk, second) as url:
        assert [http.call("GET", url, deadline).content for _ in range(2)] == [b"{}", b"{}"]


def test_a_kept_connection_that_was_closed_meanwhile_is_made_anew_and_the_body_leaves_once(
    film: Path, http: Http, deadline: Deadline
) -> None:
    closed, got = threading.Event(), list[int]()

    def first(sock: socket.socket) -> None:
        heard(sock)
        sock.sendall(ANSWER)
        sock.close()
        closed.set()

    def second(sock: socket.socket) -> None:
        heard(sock)
        got.append(swallow(sock, film.stat().st_size))
        sock.sendall(ANSWER)

    with scripted(first, second) as url:
        http.call("GET", url, deadline)
        assert closed.wait(5)
        http.send("PUT", url, Body(film), deadline)

    assert got == [film.stat().st_size]


@pytest.mark.parametrize("length", [1000, BIG])
def test_a_kept_connection_that_dies_under_a_body_is_not_tried_a_second_time(
    length: int, big: Path, http: Http, deadline: Deadline
) -> None:
    connections = list[int]()

    def talk(sock: socket.socket) -> None:
        connections.append(1)
        heard(sock)
        sock.sendall(ANSWER)
        sock.recv(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    body = Body(big, length=length)
    with scripted(talk) as url:
        http.call("GET", url, deadline)
        with pytest.raises(Transient) as caught:
            http.send("PUT", url, body, deadline)

    assert len(connections) == 1
    assert isinstance(caught.value, OutcomeUnknown) == body.is_complete  # what the kernel took whole may have come
    assert length < BIG or not body.is_complete


# --- calls that are repeated


@pytest.mark.parametrize(
    ("method", "repeats", "tries"),
    [
        ("GET", None, 3),
        ("HEAD", None, 3),
        ("DELETE", None, 3),
        ("POST", None, 1),
        ("PUT", None, 1),
        ("POST", True, 3),
        ("GET", False, 1),
    ],
)
@pytest.mark.parametrize("trouble", [Fault.RESET, Fault.SERVER_ERROR, Fault.SLOW_DOWN, Fault.LOST_ANSWER])
def test_only_what_may_be_repeated_is_tried_three_times_with_growing_waits(
    method: str, repeats: bool | None, tries: int, trouble: Fault, server: Echo, clock: FakeClock, deadline: Deadline
) -> None:
    server.breaks(method, trouble, 9)
    ceilings: list[float] = []

    def draw(ceiling: float) -> float:
        ceilings.append(ceiling)
        return ceiling / 2

    with pytest.raises(Transient):
        Http(clock, draw=draw).call(method, f"{server.url}/x", deadline, repeats=repeats)

    assert server.begun == tries <= TRIES
    assert ceilings == [2.0, 4.0][: tries - 1]
    assert sum(clock.slept) == pytest.approx(sum(ceilings) / 2)


def test_a_call_that_works_the_third_time_worked(server: Echo, http: Http, deadline: Deadline) -> None:
    server.breaks("GET", Fault.SERVER_ERROR, 2)

    assert http.call("GET", f"{server.url}/x", deadline).json()["path"] == "/x"


@pytest.mark.parametrize(("status", "error"), [(404, HostRefused), (401, Denied)])
def test_what_will_not_change_is_not_asked_again(
    status: int, error: type[DailiesError], server: Echo, http: Http, deadline: Deadline
) -> None:
    server.replies["/x"] = Reply(status)

    with pytest.raises(error):
        http.call("GET", f"{server.url}/x", deadline)

    assert server.begun == 1


def test_a_short_wait_that_a_host_asks_for_is_kept_and_a_long_one_is_handed_on(
    server: Echo, clock: FakeClock, http: Http, deadline: Deadline
) -> None:
    server.breaks("GET /x", Fault.LIMITED)
    server.replies["/y"] = Reply(429, b"", {"Retry-After": "3"})

    http.call("GET", f"{server.url}/x", deadline)
    assert sum(clock.slept) == pytest.approx(1)
    with pytest.raises(RateLimited) as caught:
        http.call("GET", f"{server.url}/y", deadline)

    assert caught.value.wait_s == 3
    assert sum(clock.slept) == pytest.approx(1)


def test_waits_between_tries_end_with_the_deadline(server: Echo, clock: FakeClock, http: Http) -> None:
    server.breaks("GET", Fault.SERVER_ERROR, 9)

    with pytest.raises(OutOfTime):
        http.call("GET", f"{server.url}/x", Deadline.after(clock, 3))

    assert server.begun == 2
    assert sum(clock.slept) == pytest.approx(3)


def test_no_call_is_made_once_time_is_over(server: Echo, clock: FakeClock, http: Http, film: Path) -> None:
    over = Deadline.after(clock, 0)

    with pytest.raises(OutOfTime):
        http.call("GET", f"{server.url}/x", over)
    with pytest.raises(OutOfTime):
        http.send("PUT", f"{server.url}/x", Body(film), over)

    assert server.begun == 0


@pytest.mark.parametrize("attempt", [1, 2, 3, 8, 20, 500])
def test_full_jitter_is_drawn_below_a_ceiling_that_doubles_up_to_ten_minutes(attempt: int) -> None:
    assert full_jitter(attempt, lambda ceiling: ceiling) == min(600.0, 2.0**attempt)


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("7", 7),
        ("9" * 400, 86_400),
        ("Fri, 02 Jan 2026 03:05:05 GMT", 60),
        ("Fri, 02 Jan 2026 03:05:05", 60),
        ("0", 1),
        ("Fri, 02 Jan 2015 03:05:05 GMT", 1),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 86_400),
        ("²", None),
        ("-5", None),
        ("soon", None),
        ("Fri, 99 Jan 2026 03:05:05 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_never_trouble(text: str, wait_s: float | None, clock: FakeClock) -> None:
    answer = Answer(429, {"retry-after": text}, b"", "host")

    assert answer.retry_after_s(clock) == wait_s
    error = fault(answer, clock)
    assert isinstance(error, RateLimited)
    assert error.wait_s == (60 if wait_s is None else wait_s)


@pytest.mark.parametrize(
    ("status", "is_of_body", "error"),
    [(503, True, OutcomeUnknown), (503, False, RateLimited), (429, True, RateLimited), (429, False, RateLimited)],
)
def test_a_gateway_that_is_busy_behind_a_whole_body_is_no_promise_that_nothing_came(
    status: int, is_of_body: bool, error: type[DailiesError], clock: FakeClock
) -> None:
    answer = Answer(status, {"retry-after": "30"}, b"", "host", is_of_body=is_of_body)

    assert type(fault(answer, clock)) is error


@pytest.mark.parametrize("content", [b"", b"<html>", b"\xff\xfe\xff", b"[" * 200_000, b'{"a": ' + b"9" * 5000 + b"}"])
@pytest.mark.parametrize("is_of_body", [True, False])
def test_what_is_no_json_is_classed_by_what_had_left(content: bytes, is_of_body: bool) -> None:
    with pytest.raises(Transient) as caught:
        Answer(200, {}, content, "host", is_of_body=is_of_body).json()

    assert type(caught.value) is (OutcomeUnknown if is_of_body else Transient)


# --- redirects


def test_five_redirects_are_followed_and_not_a_sixth(server: Echo, http: Http, deadline: Deadline) -> None:
    server.moves = {f"/{number}": (302, f"/{number + 1}") for number in range(6)}

    assert http.call("GET", f"{server.url}/1", deadline).json()["path"] == "/6"
    with pytest.raises(Transient, match="redirects without end"):
        http.call("GET", f"{server.url}/0", deadline, repeats=False)


def test_a_redirect_keeps_headers_and_not_the_query(server: Echo, http: Http, deadline: Deadline) -> None:
    server.moves = {"/a": (301, "/b")}

    seen = http.call("GET", f"{server.url}/a", deadline, params={"key": SECRET}, headers={"Authorization": SECRET}).json()

    assert seen["query"] == {}
    assert seen["headers"]["authorization"] == SECRET


@pytest.mark.parametrize("name", ["Authorization", "X-Api-Key", "Cookie"])
def test_credentials_go_to_no_other_host_unless_it_is_trusted(
    name: str, server: Echo, other: Echo, clock: FakeClock, deadline: Deadline
) -> None:
    server.moves = {"/a": (302, f"{other.url}/b")}
    headers = {name: SECRET, "Accept": "application/json", "Range": "bytes=0-"}

    seen = Http(clock).call("GET", f"{server.url}/a", deadline, headers=headers).json()["headers"]
    trusting = Http(clock, trusts=lambda host: host == "localhost").call("GET", f"{server.url}/a", deadline, headers=headers)

    assert SECRET not in str(seen)
    assert (seen["accept"], seen["range"]) == ("application/json", "bytes=0-")
    assert trusting.json()["headers"][name.lower()] == SECRET


def test_another_port_is_another_server(server: Echo, http: Http, deadline: Deadline) -> None:
    with Echo() as second:
        server.moves = {"/a": (302, f"{second.url}/b")}

        seen = http.call("GET", f"{server.url}/a", deadline, headers={"Authorization": SECRET}).json()

    assert "authorization" not in seen["headers"]


@pytest.mark.parametrize("is_early", [True, False])
@pytest.mark.parametrize("status", [307, 308])
def test_a_body_follows_within_its_host_whole(status: int, is_early: bool, film: Path, http: Http, deadline: Deadline) -> None:
    class Moving(Echo):
        def refuse(self, method: str, path: str, headers: Mapping[str, str]) -> Reply | None:
            return Reply(status, b"", {"Location": "/b"}) if is_early and path == "/a" else None

    with Moving() as server:
        server.moves = {"/a": (status, "/b")}
        http.send("PUT", f"{server.url}/a", Body(film), deadline)

        assert [call.body.read() == film.read_bytes() for call in server.calls if call.path == "/b"] == [True]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_body_goes_to_no_other_host(status: int, server: Echo, other: Echo, film: Path, http: Http, deadline: Deadline) -> None:
    server.moves = {"/a": (status, f"{other.url}/b")}

    with pytest.raises(Transient, match=r"127\.0\.0\.1: sends this on to localhost, which is given nothing"):
        http.send("PUT", f"{server.url}/a", Body(film), deadline)
    with pytest.raises(Transient, match="which is given nothing"):
        http.call("POST", f"{server.url}/a", deadline, form={"key": SECRET})
    with pytest.raises(Transient, match="which is given nothing"):
        http.call("POST", f"{server.url}/a", deadline, content={"key": SECRET})

    assert other.begun == 0


@pytest.mark.parametrize("status", [301, 302, 303])
def test_what_changes_something_is_not_sent_on_as_something_else(
    status: int, server: Echo, film: Path, http: Http, deadline: Deadline
) -> None:
    server.moves = {"/a": (status, "/b")}

    with pytest.raises(Transient, match="given nothing"):
        http.send("PUT", f"{server.url}/a", Body(film), deadline)
    with pytest.raises(Transient, match="given nothing"):
        http.call("DELETE", f"{server.url}/a", deadline, repeats=False)

    assert [call.path for call in server.calls] == ["/a", "/a"]


@pytest.mark.parametrize(
    "location",
    ["http://[::1", "mailto:someone", "file:///etc/passwd", "http://127.0.0.1:99999/", "http://example.org/", "http://:80/"],
)
def test_a_redirect_to_nowhere_is_the_hosts_trouble(location: str, server: Echo, http: Http, deadline: Deadline) -> None:
    server.moves = {"/a": (302, location)}

    with pytest.raises(Transient, match=r"^127\.0\.0\.1: sends this on to "):
        http.call("GET", f"{server.url}/a", deadline, repeats=False)


@pytest.mark.parametrize(
    "move",
    [(302, "/done"), (303, "/done?name=film"), (307, "https://host.example/"), (307, "http://host.example/"), (307, "http://:80/")],
)
def test_a_redirect_that_is_not_followed_behind_a_whole_body_leaves_the_outcome_unknown(
    move: tuple[int, str], server: Echo, film: Path, http: Http, deadline: Deadline
) -> None:
    server.moves = {"/a": move}

    with pytest.raises(OutcomeUnknown, match="sends this on to"):
        http.send("POST", f"{server.url}/a", Body(film), deadline)

    assert [call.body.size for call in server.calls] == [film.stat().st_size]


def test_redirects_without_end_behind_a_whole_body_leave_the_outcome_unknown(
    server: Echo, film: Path, http: Http, deadline: Deadline
) -> None:
    server.moves = {"/a": (307, "/a")}

    with pytest.raises(OutcomeUnknown, match="redirects without end"):
        http.send("PUT", f"{server.url}/a", Body(film), deadline)


def test_a_redirect_before_the_body_had_left_is_no_unknown_outcome(big: Path, http: Http, deadline: Deadline) -> None:
    def talk(sock: socket.socket) -> None:
        heard(sock)
        sock.sendall(b"HTTP/1.1 303 See Other\r\nLocation: /done\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        swallow(sock, 1 << 20)

    with scripted(talk) as url, pytest.raises(Transient, match=r"sends this on to|cut after") as caught:
        http.send("PUT", f"{url}/film", Body(big), deadline)

    assert type(caught.value) is Transient


# --- what is sent besides


def test_our_name_is_said_and_neither_netrc_nor_cookies_nor_proxies_of_the_environment(
    server: Echo, http: Http, deadline: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("~/.netrc").expanduser().write_text(f"machine 127.0.0.1 login someone password {SECRET}\n")
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server.replies["/set"] = Reply(200, b"{}", {"Set-Cookie": f"session={SECRET}"})

    http.call("GET", f"{server.url}/set", deadline)
    seen = http.call("GET", f"{server.url}/x", deadline).json()["headers"]

    assert re.fullmatch(r"dailies/\d.*", seen["user-agent"])
    assert SECRET not in str(seen)
    assert not {"cookie", "authorization"} & set(seen)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"http://example.org/?key={SECRET}", "example.org: http: only https is spoken"),
        (f"ftp://example.org/?key={SECRET}", "example.org: ftp: only https is spoken"),
        (f"https:///x?key={SECRET}", "cannot be read"),
        (f"https://[::1?key={SECRET}", "cannot be read"),
        (f"https://example.org:123456/?key={SECRET}", "cannot be read"),
        (f"https://{'a' * 64}.example/?key={SECRET}", "cannot be read"),
    ],
)
def test_an_address_that_cannot_be_is_a_matter_of_settings(url: str, words: str, http: Http, deadline: Deadline) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        http.call("GET", url, deadline)

    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("value", [f"{SECRET}\n", f"{SECRET}\r\nX: y", f" {SECRET}", f"{SECRET}€", f"{SECRET}\0"])
def test_a_key_that_no_header_can_hold_is_a_matter_of_settings_and_is_not_shown(
    value: str, server: Echo, http: Http, deadline: Deadline
) -> None:
    with pytest.raises(ConfigError, match=r"^127\.0\.0\.1: header Authorization: .* check the setting") as caught:
        http.call("GET", server.url, deadline, headers={"Authorization": value})

    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert server.begun == 0


def test_what_is_no_character_is_sent_as_a_question_mark(server: Echo, http: Http, deadline: Deadline) -> None:
    http.call("POST", f"{server.url}/x", deadline, params={"a": "\udce4"}, form={"b\ud800": "\udce4"})

    assert (server.calls[0].query, server.calls[0].form()) == ({"a": "?"}, {"b?": "?"})


def test_what_a_host_repeats_of_what_it_was_sent_is_hidden(server: Echo, http: Http, deadline: Deadline, film: Path) -> None:
    server.replies["/x"] = Reply(400, f"no such key: {SECRET}, nor {SECRET[::-1]}".encode())
    body, kind = multipart({"key": SECRET[::-1]}, "file", "film.mp4", film)

    with pytest.raises(HostRefused, match=r"HTTP 400: no such key: \*\*\*TOKEN\*\*\*, nor \*\*\*TOKEN\*\*\*;"):
        http.send("POST", f"{server.url}/x", body, deadline, headers={"Content-Type": kind, "Authorization": f"LOW me:{SECRET}"})


def test_neither_answers_nor_conversations_show_what_they_hold(server: Echo, http: Http, deadline: Deadline) -> None:
    answer = http.call("GET", f"{server.url}/{SECRET}?key={SECRET}", deadline, headers={"Authorization": SECRET})

    assert answer.json()["headers"]["authorization"] == SECRET
    assert SECRET not in repr(answer) + repr(http)


PRINTS_NOTHING = """
import logging, sys
from dailies.clock import Deadline, SystemClock
from dailies.http import Http
from dailies.redact import Redactor
from dailies.terminal import set_up_logging
set_up_logging(logging.DEBUG, Redactor())
clock = SystemClock()
print(Http(clock).call("GET", sys.argv[1], Deadline.after(clock, 10)).status)
"""


def test_the_log_of_the_libraries_below_is_not_ours() -> None:
    """urllib3 logs addresses: all of them at DEBUG, at WARNING those whose answer has a malformed header."""
    with scripted(says(b"HTTP/1.1 200 OK\r\nA: b\r\n nonsense\r\nno header\r\nContent-Length: 2\r\n\r\n{}")) as url:
        done = subprocess.run(
            [sys.executable, "-c", PRINTS_NOTHING, f"{url}/?key={SECRET}"],
            env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    assert (done.returncode, done.stdout, done.stderr) == (0, "200\n", "")


# --- TLS and proxies


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Self-signed, for this machine and host.example; its key is in the same file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    names = "subjectAltName=IP:127.0.0.1,DNS:host.example"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tests", "-addext", names]
    try:
        subprocess.run([*command, "-keyout", path, "-out", f"{path}.crt"], capture_output=True, check=True)
    except FileNotFoundError:
        pytest.skip("no openssl program to make a certificate with")
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def trusting(http: Http, url: str, certificate: Path) -> Http:
    http._session(url).verify = str(certificate)
    return http


def test_a_certificate_that_nobody_vouches_for_is_refused(tls: ssl.SSLContext, http: Http, deadline: Deadline) -> None:
    with (
        scripted(says(ANSWER), tls=tls) as url,
        pytest.raises(
            Transient, match=r"its certificate is not trusted \(self[- ]signed certificate\); check the address"
        ) as caught,
    ):
        http.call("GET", f"{url}/?key={SECRET}", deadline, headers={"Authorization": SECRET}, repeats=False)

    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_certificate_for_another_name_is_refused(tls: ssl.SSLContext, certificate: Path, http: Http, deadline: Deadline) -> None:
    with scripted(says(ANSWER), tls=tls) as url:
        there = url.replace("127.0.0.1", "localhost")
        with pytest.raises(Transient, match=r"certificate is not trusted \(.*localhost"):
            trusting(http, there, certificate).call("GET", there, deadline, repeats=False)


def test_a_redirect_out_of_tls_is_refused(
    tls: ssl.SSLContext, certificate: Path, server: Echo, http: Http, deadline: Deadline
) -> None:
    moved = f"HTTP/1.1 302 Found\r\nLocation: {server.url}/b\r\nContent-Length: 0\r\n\r\n".encode()

    with scripted(says(moved), tls=tls) as url, pytest.raises(Transient, match=r"without TLS, which is given nothing"):
        trusting(http, url, certificate).call("GET", url, deadline, repeats=False)

    assert server.begun == 0


@pytest.mark.parametrize("is_covered", [True, False])
def test_a_host_may_leave_a_body_where_it_is_for_longer_than_a_connection_may_take(
    is_covered: bool,
    tls: ssl.SSLContext,
    certificate: Path,
    big: Path,
    http: Http,
    deadline: Deadline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (wire, door):
        monkeypatch.setattr(module, "CONNECT_S", 0.3)

    def talk(sock: socket.socket) -> None:
        for _ in range(2):  # a new connection, and one that was kept
            heard(sock)
            time.sleep(0.6)
            swallow(sock, BIG)
            sock.sendall(ANSWER)

    with scripted(talk, tls=tls if is_covered else None) as url:
        for _ in range(2):
            assert trusting(http, url, certificate).send("PUT", url, Body(big), deadline).json() == {}


@contextmanager
def proxy(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """The environment names it for every host; the list gets what it is asked."""
    asked: list[bytes] = []

    def serve(sock: socket.socket) -> None:
        asked.append(heard(sock))
        talk(sock)

    with scripted(serve) as url:
        monkeypatch.setenv("HTTPS_PROXY", url.replace("//", f"//someone:{SECRET}@"))
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        yield asked


def test_hosts_elsewhere_are_reached_by_the_proxy_of_the_environment_and_netrc_is_not_read(
    tls: ssl.SSLContext, certificate: Path, http: Http, deadline: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("~/.netrc").expanduser().write_text(f"machine host.example login someone password {SECRET}\n")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    seen: list[bytes] = []

    def talk(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with tls.wrap_socket(sock, server_side=True) as covered:
            seen.append(heard(covered))
            covered.sendall(ANSWER)

    with proxy(talk, monkeypatch) as asked:
        assert http.call("GET", f"https://host.example/x?key={SECRET}", deadline).json() == {}

    assert asked[0].startswith(b"CONNECT host.example:443 ")
    assert SECRET.encode() not in asked[0]
    assert b"Authorization" not in seen[0]


def test_a_proxy_that_refuses_is_told_without_its_password(http: Http, deadline: Deadline, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        proxy(lambda sock: sock.sendall(b"HTTP/1.1 407 Who are you\r\n\r\n"), monkeypatch),
        pytest.raises(Transient, match=r"^host\.example: no answer: ") as caught,
    ):
        http.call("GET", f"https://host.example/x?key={SECRET}", deadline, repeats=False)

    assert SECRET not in "".join(traceback.format_exception(caught.value))


# --- a stop or a deadline ends whatever is blocked


@contextmanager
def _silent_tls() -> Iterator[str]:
    with silent() as url:
        yield url.replace("http:", "https:")


HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n%s\r\nhalf"
BLOCKED: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "connect": full,
    "tls": _silent_tls,
    "send or headers": silent,
    "headers": lambda: scripted(falls_silent()),
    "half of the headers": lambda: scripted(falls_silent(b"HTTP/1.1 200 OK\r\nX: y")),
    "answer": lambda: scripted(falls_silent(HALF % b"")),
    "answer of a connection that closes": lambda: scripted(falls_silent(HALF % b"Connection: close\r\n")),
}


@pytest.mark.parametrize("how", ["stop", "deadline"])
@pytest.mark.parametrize("what", ["GET", "PUT"])
@pytest.mark.parametrize("where", BLOCKED)
def test_a_stop_or_a_deadline_ends_it_wherever_it_is_blocked(
    where: str, what: str, how: str, stop: threading.Event, film: Path, big: Path
) -> None:
    clock, is_stop = SystemClock(), how == "stop"
    body = Body(big if where == "send or headers" else film)
    with BLOCKED[where]() as url:
        http, address, port = Http(clock), f"{url}/?key={SECRET}", int(url.rsplit(":", 1)[1])
        before = _connections(port)
        deadline = Deadline.after(clock, 60 if is_stop else 0.15, stop)
        timer = threading.Timer(0.15, stop.set)
        if is_stop:
            timer.start()
        began = time.monotonic()
        act = partial(http.call, "GET", address, deadline) if what == "GET" else partial(http.send, "PUT", address, body, deadline)
        with pytest.raises(Interrupted if is_stop else OutOfTime) as caught:
            act()
        took = time.monotonic() - began
        left = _connections(port) - before

    assert 0.1 < took < 0.65
    assert [thread.name for thread in threading.enumerate() if thread.name == "http-watch"] == []
    assert left == set()
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def _connections(port: int) -> set[tuple[int, Any]]:
    """To this server, by descriptor."""
    found = psutil.Process().net_connections("tcp")
    return {(one.fd, one.laddr) for one in found if one.raddr and one.raddr.port == port}


def test_a_stop_ends_what_is_blocked_on_a_kept_connection(stop: threading.Event) -> None:
    def talk(sock: socket.socket) -> None:
        heard(sock)
        sock.sendall(ANSWER)
        falls_silent()(sock)

    clock = SystemClock()
    http, deadline = Http(clock), Deadline.after(clock, 60, stop)
    with scripted(talk) as url:
        http.call("GET", url, deadline)
        began = time.monotonic()
        threading.Timer(0.15, stop.set).start()
        with pytest.raises(Interrupted):
            http.call("GET", url, deadline)

    assert time.monotonic() - began < 0.65


def _says_nothing(sock: socket.socket) -> None:
    swallow(sock, 1 << 20)


def test_a_stop_ends_what_a_proxy_holds_up(monkeypatch: pytest.MonkeyPatch, stop: threading.Event) -> None:
    clock = SystemClock()
    timer = threading.Timer(0.15, stop.set)
    with proxy(_says_nothing, monkeypatch):
        timer.start()
        began = time.monotonic()
        with pytest.raises(Interrupted):
            Http(clock).call("GET", "https://host.example/", Deadline.after(clock, 60, stop))

    assert time.monotonic() - began < 0.65


def test_a_limit_of_a_step_that_ends_behind_the_last_byte_leaves_the_outcome_unknown(film: Path) -> None:
    """A deadline's own error says "again later"; a run's end says nothing of the outcome, and the record has its intent."""
    clock = SystemClock()
    limit = Deadline.after(clock, 60).within(0.3, lambda: VideoError("publish took longer than 0.3 s"))

    with scripted(falls_silent()) as url:
        with pytest.raises(OutcomeUnknown):
            Http(clock).send("PUT", url, Body(film, length=1000), limit)
        limit = Deadline.after(clock, 60).within(0.3, lambda: VideoError("publish took longer than 0.3 s"))
        with pytest.raises(VideoError, match="took longer"):
            Http(clock).call("GET", url, limit)


def test_a_stop_in_the_middle_of_a_body_ends_it(server: Echo, big: Path, stop: threading.Event) -> None:
    clock, body = SystemClock(), Body(big)
    server.bytes_per_s = 20e6
    deadline = Deadline.after(clock, 60, stop)

    with pytest.raises(Interrupted):
        Http(clock).send("PUT", server.url, body, deadline, progress=lambda sent: stop.set() if sent > 5_000_000 else None)

    assert 5_000_000 < body.sent < BIG
    assert server.calls == []


# --- answers that are too much


def bomb(count: int) -> bytes:
    """gzip of so many times 16 MiB of zeros: each block is packed as if nothing were before it, so that one is made once."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    return gzip.compress(b"")[:10] + block * count + packer.flush()


MEASURES = """
import resource, sys
from dailies.clock import Deadline, SystemClock
from dailies.arriving import ANSWER_BYTES
from dailies.http import Http
clock = SystemClock()
http, deadline = Http(clock), Deadline.after(clock, 60)
http.call("GET", sys.argv[1] + "/warm", deadline)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
got = len(http.call("GET", sys.argv[1] + "/bomb", deadline, accept={302}).content)
print(got, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.parametrize("head", [{}, {"status": "302"}])
def test_an_answer_that_unpacks_to_a_gigabyte_takes_no_more_than_is_kept(head: dict[str, str], server: Echo) -> None:
    headers = {"Content-Encoding": "gzip", **({"Location": "/end"} if head else {})}
    server.replies["/bomb"] = Reply(int(head.get("status", 200)), bomb(64), headers)
    server.replies["/end"] = Reply(200, b"{}")
    done = subprocess.run(
        [sys.executable, "-c", MEASURES, server.url],
        env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    got, taken = map(int, done.stdout.split())
    assert got == (2 if head else ANSWER_BYTES)
    assert taken < 1.5 * ANSWER_BYTES


def test_a_long_answer_is_cut(server: Echo, http: Http, deadline: Deadline) -> None:
    server.replies["/long"] = Reply(200, bytes(ANSWER_BYTES + 1))

    assert len(http.call("GET", f"{server.url}/long", deadline).content) == ANSWER_BYTES


def test_a_packed_answer_is_unpacked(server: Echo, http: Http, deadline: Deadline) -> None:
    server.replies["/x"] = Reply(200, gzip.compress(json.dumps([1] * 1000).encode()), {"Content-Encoding": "gzip"})

    assert http.call("GET", f"{server.url}/x", deadline).json() == [1] * 1000
