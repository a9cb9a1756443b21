"""A loopback server of one file with ETag, Last-Modified and ranges (RFC 9110), which misbehaves on purpose."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Self
from urllib.parse import urlsplit

PATH: Final = "/films/film.mp4"
_BLOCK: Final = 64 * 1024


@dataclass(frozen=True)
class Trouble:
    """What goes wrong with one answer."""

    status: int = 0  # instead of the file
    headers: Mapping[str, str] = field(default_factory=dict)  # besides
    content: bytes = b""  # instead of the file's, with `status`
    cut_after: int | None = None  # bytes of the body, then the end of the connection
    length_off: int = 0  # added to Content-Length
    shift: int = 0  # a range is served from so many bytes further on, and says so
    drip_s: float = 0.0  # between ten bytes
    silent_s: float = 0.0  # before the body


@dataclass
class Asked:
    """One request for the file, and how many bytes of it were handed to the socket."""

    path: str
    headers: dict[str, str]
    first: int = 0
    sent: int = 0
    status: int = 0
    is_open: bool = True  # until its last bytes are on their way


@dataclass
class FileServer:
    """Used as a context. `troubles` befall the next requests for the file, one each; None is none."""

    content: bytes = b""
    etag: str = '"one"'
    modified: str = "Mon, 02 Jan 2023 03:04:05 GMT"
    headers: dict[str, str] = field(default_factory=dict)  # of every answer with the file
    has_ranges: bool = True
    has_length: bool = True  # else in chunks
    heeds_if_range: bool = True
    delay_s: float = 0.0  # per block
    authorization: str = ""  # else 401
    beside: dict[str, bytes] = field(default_factory=dict)  # other paths
    beside_sent: list[str] = field(default_factory=list)  # to their end
    troubles: list[Trouble | None] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                with contextlib.suppress(ConnectionError):
                    server._serve(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"http://{self.host}{PATH}"

    def held(self) -> bytes:
        return self.content

    def replace(self, content: bytes) -> None:
        self.content, self.etag = content, f'"{hash(content)}"'

    def lose(self) -> None:
        self.troubles = [Trouble(404)] * 20

    @property
    def sent(self) -> int:
        """Bytes of the file that were sent so far."""
        return sum(one.sent for one in self.asked)

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        path = urlsplit(handler.path).path
        asked = Asked(handler.path, {name.lower(): text for name, text in handler.headers.items()})
        if path in self.beside:
            self._answer(handler, 200, {}, self.beside[path])
            return self.beside_sent.append(path)
        if path != PATH:
            return self._answer(handler, 404, {}, b"nothing here")
        with self.lock:
            self.asked.append(asked)
            trouble = (self.troubles.pop(0) if self.troubles else None) or Trouble()
            self.at_once += 1
            self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            self._serve_file(handler, asked, trouble)
        finally:
            self._closes(asked)
        return None

    def _closes(self, asked: Asked) -> None:
        with self.lock:
            self.at_once -= asked.is_open
            asked.is_open = False

    @staticmethod
    def _answer(handler: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str], content: bytes) -> None:
        handler.send_response(status)
        for name, text in {**headers, "Content-Length": str(len(content))}.items():
            handler.send_header(name, text)
        handler.end_headers()
        handler.wfile.write(content)

    def _serve_file(self, handler: BaseHTTPRequestHandler, asked: Asked, trouble: Trouble) -> None:
        if self.authorization and asked.headers.get("authorization") != self.authorization:
            trouble = Trouble(401)
        asked.status = trouble.status
        if trouble.status:
            return self._answer(handler, trouble.status, trouble.headers, trouble.content)
        content, named = self.content, {"ETag": self.etag, "Last-Modified": self.modified}
        said = {name: text for name, text in named.items() if text} | self.headers | dict(trouble.headers)
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", asked.headers.get("range", ""))
        is_current = not self.heeds_if_range or asked.headers.get("if-range", self.etag) in {self.etag, self.modified}
        start, end = 0, len(content)
        if self.has_ranges:
            said["Accept-Ranges"] = "bytes"
        if found and self.has_ranges and is_current:
            start, end = int(found[1]) + trouble.shift, min(int(found[2]) + 1, len(content))
            if start >= len(content):
                return self._answer(handler, 416, {"Content-Range": f"bytes */{len(content)}"}, b"")
            said.setdefault("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        asked.first, asked.status = start, 206 if "Content-Range" in said else 200
        handler.send_response(asked.status)
        length = {"Content-Length": str(end - start + trouble.length_off)} if self.has_length else {"Transfer-Encoding": "chunked"}
        for name, text in {**said, **length}.items():
            handler.send_header(name, text)
        handler.end_headers()
        self._send(handler, asked, trouble, memoryview(content)[start:end])
        if trouble.length_off:
            handler.close_connection = True
        return None

    def _send(self, handler: BaseHTTPRequestHandler, asked: Asked, trouble: Trouble, content: memoryview) -> None:
        time.sleep(trouble.silent_s)
        step = 10 if trouble.drip_s else _BLOCK
        stop = len(content) if trouble.cut_after is None else min(trouble.cut_after, len(content))
        for at in range(0, stop, step):
            block = content[at : min(at + step, stop)]
            if at + step >= stop:
                self._closes(asked)
            if not self.has_length:
                handler.wfile.write(f"{len(block):x}\r\n".encode())
            handler.wfile.write(block)
            if not self.has_length:
                handler.wfile.write(b"\r\n")
            asked.sent += len(block)
            if wait_s := trouble.drip_s or self.delay_s:
                time.sleep(wait_s)
        if trouble.cut_after is not None:
            _cut(handler)
        elif not self.has_length:
            handler.wfile.write(b"0\r\n\r\n")


def _cut(handler: BaseHTTPRequestHandler) -> None:
    """FIN in the middle, so that what was sent before arrives."""
    handler.close_connection = True
    with contextlib.suppress(OSError):
        handler.connection.shutdown(socket.SHUT_RDWR)
