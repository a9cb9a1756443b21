"""A loopback HTTP server that speaks a protocol strictly and misbehaves on purpose; protocols are subclasses beside the tests."""

import hashlib
import json
import mmap
import re
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qsl, urlsplit

_BLOCK: Final = 1 << 20


class Fault(Enum):
    """What a server may do instead of what it should."""

    EARLY_413 = "answers 413 before it reads the body, and closes"
    RESET = "resets the connection in the middle of the body"
    LOST_ANSWER = "does what was asked and closes without an answer"
    LIMITED = "429 with Retry-After in seconds"
    LIMITED_DATE = "429 with Retry-After as a date"
    SLOW_DOWN = "503 with the XML of S3's SlowDown"
    HTML = "200 with a page instead of JSON, doing nothing"
    SERVER_ERROR = "500, doing nothing"
    GARBLED = "200 with half of a JSON document, having done what was asked"
    SLOW_READER = "reads the body slowly, then does as it should"


class Point(Enum):
    """Where a request is; hooks are called there."""

    BEGUN = "headers read"
    HALF = "half of the body read"
    DONE = "done, not answered"
    ANSWERED = "answered"


@dataclass(frozen=True)
class Stored:
    """Bytes that came in, on disk."""

    path: Path
    size: int
    sha256: str
    md5: str
    filename: str = ""

    def read(self) -> bytes:
        return self.path.read_bytes()


@dataclass(frozen=True)
class Reply:
    status: int = 200
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, content: Any, status: int = 200, **headers: str) -> Self:
        return cls(status, json.dumps(content).encode(), {"Content-Type": "application/json", **headers})


@dataclass
class Call:
    """One request; its body is on disk."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case
    body: Stored

    def json(self) -> Any:
        return json.loads(self.body.read())

    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.read().decode(), keep_blank_values=True, strict_parsing=True))

    def multipart(self) -> tuple[dict[str, str], dict[str, Stored]]:
        """(fields, files), strictly by RFC 7578; content of any size is not read into memory."""
        found = re.fullmatch(r"multipart/form-data; boundary=([\w'()+,./:=?-]{1,70})", self.headers["content-type"])
        assert found, self.headers["content-type"]
        edge = f"--{found[1]}".encode()
        fields: dict[str, str] = {}
        files: dict[str, Stored] = {}
        with self.body.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            assert content[: len(edge) + 2] == edge + b"\r\n"
            start = len(edge) + 2
            while True:
                head_end = content.find(b"\r\n\r\n", start)
                head = content[start:head_end].decode()
                end = content.find(b"\r\n" + edge, head_end)
                name = re.search(r'^Content-Disposition: form-data; name="([^"]*)"(?:; filename="([^"]*)")?', head, re.MULTILINE)
                assert name, head
                if name[2] is None:
                    fields[name[1]] = content[head_end + 4 : end].decode()
                else:
                    files[name[1]] = self._stored(content, head_end + 4, end, name[2])
                start = end + 2 + len(edge) + 2
                if content[start - 2 : start] == b"--":
                    assert content[start:] == b"\r\n"
                    return fields, files

    def _stored(self, content: mmap.mmap, start: int, end: int, filename: str) -> Stored:
        path = self.body.path.with_suffix(f".{len(filename)}.part")
        sha256, md5 = hashlib.sha256(), hashlib.md5()
        with path.open("wb") as file:
            for place in range(start, end, _BLOCK):
                block = content[place : min(place + _BLOCK, end)]
                file.write(block)
                sha256.update(block)
                md5.update(block)
        return Stored(path, end - start, sha256.hexdigest(), md5.hexdigest(), filename)


class Loopback:
    """Used as a context. A subclass answers in `reply`; `lock` is held meanwhile, so that its state needs no other."""

    def __init__(self) -> None:
        self.calls: list[Call] = []  # whose body came whole, in order
        self.points: list[tuple[Point, str]] = []  # all that were passed
        self.lock = threading.RLock()
        self.at_work = 0  # requests that are not done with
        self.on_point: Callable[[Point, str], None] = lambda _point, _what: None
        self.chaos: Callable[[str], Fault | None] = lambda _what: None  # for requests that nothing was said of
        self.bytes_per_s = 0.0  # of bodies that are read; 0 = as fast as it goes
        self._faults: list[tuple[str, Fault]] = []
        self._folder = tempfile.TemporaryDirectory(prefix="loopback-")
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            rbufsize = _BLOCK
            disable_nagle_algorithm = True  # the body of an answer would wait 40 ms for the head to be acknowledged

            def log_message(self, *_: object) -> None:
                pass

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except ConnectionError:
                    self.close_connection = True

            def do(self) -> None:
                with server.lock:
                    server.at_work += 1
                try:
                    server._serve(self)
                finally:
                    with server.lock:
                        server.at_work -= 1

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = do

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._folder.cleanup()

    def reply(self, call: Call) -> Reply:
        """What the protocol says."""
        raise NotImplementedError

    def refuse(self, method: str, path: str, headers: Mapping[str, str]) -> Reply | None:
        """An answer that comes before the body is read, as to a wrong key; None to go on."""

    def breaks(self, what: str, fault: Fault, times: int = 1) -> None:
        """The next requests whose `METHOD /path` matches this pattern go wrong in this way."""
        self._faults += [(what, fault)] * times

    def _fault(self, what: str) -> Fault | None:
        with self.lock:
            for number, (pattern, fault) in enumerate(self._faults):
                if re.search(pattern, what):
                    del self._faults[number]
                    return fault
            return self.chaos(what)

    def _passes(self, point: Point, what: str) -> None:
        with self.lock:
            self.points.append((point, what))
        self.on_point(point, what)

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        what = f"{handler.command} {parts.path}"
        headers = {name.lower(): text for name, text in handler.headers.items()}
        assert "transfer-encoding" not in headers, "bodies have a length"
        fault = self._fault(what)
        self._passes(Point.BEGUN, what)
        early = self._instead(fault) or self.refuse(handler.command, parts.path, headers)
        length = int(headers.get("content-length", "0"))
        if fault is Fault.EARLY_413 or (early is not None and length > _BLOCK):
            handler.close_connection = True
            self._answer(handler, early or Reply(413, b"too large"), what)
            self._drain(handler, seconds=1.0)
            return
        body = self._read(handler, length, what, fault)
        if body is None:
            return
        if early is not None:
            self._answer(handler, early, what)
            return
        call = Call(handler.command, parts.path, dict(parse_qsl(parts.query, keep_blank_values=True)), headers, body)
        with self.lock:
            self.calls.append(call)
            reply = self.reply(call)
        self._passes(Point.DONE, what)
        if fault is Fault.LOST_ANSWER:
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        self._answer(handler, Reply(200, b'{"half": "of it') if fault is Fault.GARBLED else reply, what)

    @staticmethod
    def _instead(fault: Fault | None) -> Reply | None:
        soon = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
        xml = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
        replies = {
            Fault.LIMITED: Reply(429, b"slowly", {"Retry-After": "1"}),
            Fault.LIMITED_DATE: Reply(429, b"slowly", {"Retry-After": soon}),
            Fault.SLOW_DOWN: Reply(503, xml, {"Content-Type": "application/xml"}),
            Fault.HTML: Reply(200, b"<html><body>Welcome</body></html>", {"Content-Type": "text/html"}),
            Fault.SERVER_ERROR: Reply(500, b"out of order"),
        }
        return replies.get(fault) if fault else None

    def _answer(self, handler: BaseHTTPRequestHandler, reply: Reply, what: str) -> None:
        handler.send_response(reply.status)
        for name, text in reply.headers.items():
            handler.send_header(name, text)
        handler.send_header("Content-Length", str(len(reply.content)))
        if handler.close_connection:
            handler.send_header("Connection", "close")
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(reply.content)
        handler.wfile.flush()
        self._passes(Point.ANSWERED, what)

    def _read(self, handler: BaseHTTPRequestHandler, length: int, what: str, fault: Fault | None) -> Stored | None:
        """The body on disk; None where it did not come whole, or was not wanted any more."""
        with tempfile.NamedTemporaryFile(dir=self._folder.name, delete=False) as file:
            sha256, md5, done, began = hashlib.sha256(), hashlib.md5(), 0, time.monotonic()
            is_half = length == 0
            while done < length:
                block = handler.rfile.read1(min(_BLOCK, length - done))
                if not block:
                    handler.close_connection = True
                    return None
                done += len(block)
                file.write(block)
                sha256.update(block)
                md5.update(block)
                if self.bytes_per_s:
                    time.sleep(max(0.0, done / self.bytes_per_s - (time.monotonic() - began)))
                if fault is Fault.SLOW_READER:
                    time.sleep(0.02)
                if not is_half and done * 2 >= length:
                    is_half = True
                    self._passes(Point.HALF, what)
                    if fault is Fault.RESET:
                        _reset(handler)
                        return None
            if fault is Fault.RESET and length == 0:
                _reset(handler)
                return None
        return Stored(Path(file.name), done, sha256.hexdigest(), md5.hexdigest())

    @staticmethod
    def _drain(handler: BaseHTTPRequestHandler, seconds: float) -> None:
        """A server that closes at once would reset the connection before its answer is read."""
        handler.connection.settimeout(seconds)
        try:
            handler.connection.shutdown(socket.SHUT_WR)
            while handler.connection.recv(_BLOCK):
                pass
        except OSError:
            pass


def _reset(handler: BaseHTTPRequestHandler) -> None:
    """RST instead of FIN (SO_LINGER 0)."""
    handler.close_connection = True
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


@contextmanager
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def full() -> Iterator[str]:
    """The address of a server whose queue is full: connecting to it is blocked."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        for one in waiting:
            one.close()
