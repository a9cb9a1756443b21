"""YouTube and PeerTube on loopback: one strict core of Google's resumable uploads, and what each has around it."""

import hashlib
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import parse_qs, unquote, urlsplit

from dailies.clock import Clock
from dailies.hosts.host import Asset, Details, Ground
from dailies.hosts.peertube import PeerTube
from dailies.hosts.youtube import YouTube
from dailies.http import Http
from dailies.model import Kind
from loopback import Call, Fault, Loopback, Reply, Stored

UNIT: Final = 256 * 1024
_TAKES: Final = (None, Fault.RESET, Fault.LOST_ANSWER, Fault.GARBLED, Fault.SLOW_READER)
_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_QUERY: Final = re.compile(r"bytes \*/(\d+)")


@dataclass
class Upload:
    """One session; its bytes are on disk, as many as came, also of a request that was cut."""

    id: str
    path: Path
    size: int
    told: dict[str, Any]
    filename: str
    received: int = 0
    video_id: str = ""
    busy: int = 0  # answers of 503 before the file is done with


@dataclass
class Video:
    """One that the host has."""

    id: str
    number: int
    filename: str
    size: int
    sha256: str
    told: dict[str, Any]
    status: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None


class _Recorder:
    """What is read from a connection goes to the session's file too, as it does at a real host."""

    def __init__(self, stream: Any, upload: Upload) -> None:
        self._stream = stream
        self._upload = upload

    def read1(self, size: int) -> bytes:
        block = cast("bytes", self._stream.read1(size))
        with self._upload.path.open("ab") as file:
            file.write(block)
        return block

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class ResumableServer(Loopback):
    """The core. `videos` is what the host has; `uploads` are its sessions. Tests may set:

    `unit`: of a cut request whole ones stay; `token_ends`: so many requests get 401; `forgets`: a session is gone as soon as it is
    done; `echoes`: errors of sessions repeat their address; `busy`: answers of 503 behind the last byte; `location`: where sessions
    are said to be.
    """

    upload_path = ""

    def __init__(self) -> None:
        super().__init__()
        self.videos: dict[str, Video] = {}
        self.uploads: dict[str, Upload] = {}
        self.tokens_given = 0
        self.token_ends = 0
        self.forgets = False
        self.echoes = False
        self.busy = 0
        self.location: str | None = None  # instead of the true one
        self.unit = UNIT
        self.begun = 0
        self.sent: list[tuple[int, int]] = []  # (first byte, length) of each request that carried bytes

    def expire(self) -> None:
        """Every session is gone."""
        with self.lock:
            self.uploads.clear()

    def stored(self) -> list[bytes]:
        return [video.path.read_bytes() for video in self.videos.values() if video.path]

    @property
    def token(self) -> str:
        return f"access-token-{self.tokens_given}"

    def is_let_in(self, headers: Mapping[str, str]) -> bool:
        if self.token_ends:
            self.token_ends -= 1
            return False
        return bool(self.tokens_given) and headers.get("authorization") == f"Bearer {self.token}"

    # Sessions

    def begin(self, told: dict[str, Any], filename: str, call: Call) -> Upload:
        assert call.headers["x-upload-content-type"] == "video/mp4"
        size = int(call.headers["x-upload-content-length"])
        self.begun += 1
        name = self.name_of_session(told, size)
        if name not in self.uploads:
            with tempfile.NamedTemporaryFile(dir=self._folder.name, delete=False) as file:
                self.uploads[name] = Upload(name, Path(file.name), size, told, filename, busy=self.busy)
        return self.uploads[name]

    def name_of_session(self, told: dict[str, Any], size: int) -> str:
        return f"secret/session-{self.begun:08d}"

    def _session_of(self, path: str, query: Mapping[str, list[str]]) -> Upload | None:
        return self.uploads.get(query.get("upload_id", [""])[0]) if path == self.upload_path else None

    def _read(self, handler: BaseHTTPRequestHandler, length: int, what: str, fault: Fault | None) -> Stored | None:
        parts = urlsplit(handler.path)
        found = _RANGE.fullmatch(handler.headers.get("Content-Range", ""))
        upload = self._session_of(parts.path, parse_qs(parts.query))
        is_next = upload is not None and found is not None and int(found[1]) == upload.received
        if handler.command != "PUT" or upload is None or not is_next or fault not in _TAKES:
            return super()._read(handler, length, what, fault)
        with upload.path.open("r+b") as file:
            file.truncate(upload.received)
        stream = handler.rfile
        handler.rfile = cast("Any", _Recorder(stream, upload))
        try:
            body = super()._read(handler, length, what, fault)
        finally:
            handler.rfile = stream
        if body is None:  # cut: whole units stay
            with self.lock, upload.path.open("r+b") as file:
                upload.received = upload.path.stat().st_size // self.unit * self.unit
                file.truncate(upload.received)
        return body

    def _put(self, call: Call) -> Reply:
        """Strictly by the protocol."""
        if not self.is_let_in(call.headers):
            return self.error(401, "authError", "Invalid Credentials")
        upload = self._session_of(call.path, {key: [value] for key, value in call.query.items()})
        size = call.body.size
        call.body.path.unlink()
        if upload is None:
            return self.error(404, "notFound", "Not Found" + (f": {call.query.get('upload_id')}" if self.echoes else ""))
        if query := _QUERY.fullmatch(call.headers["content-range"]):
            assert size == 0
            assert call.headers["content-length"] == "0"
            assert int(query[1]) == upload.size
        else:
            found = _RANGE.fullmatch(call.headers["content-range"])
            assert found, call.headers["content-range"]
            first, last, total = map(int, found.groups())
            assert call.headers["content-type"] == "application/octet-stream"
            assert (last - first + 1, total) == (size, upload.size)
            self.sent.append((first, size))
            if first != upload.received:
                return self.other_place(upload)
            if last + 1 != total and size % UNIT:
                return self.error(400, "badRequest", "chunks are multiples of 256 KiB")
            upload.received = last + 1
        return self._state_of(upload)

    def _state_of(self, upload: Upload) -> Reply:
        if upload.received < upload.size:
            return self.incomplete(upload)
        if not upload.video_id:
            self._publish(upload)
        if upload.busy:
            upload.busy -= 1
            return Reply.json({"detail": "The upload is already being processed"}, 503, **{"Retry-After": "300"})
        if self.forgets:
            self.uploads.pop(upload.id)
        return self.complete(self.videos[upload.video_id])

    def _publish(self, upload: Upload) -> None:
        number = len(self.videos) + 1
        assert upload.path.stat().st_size == upload.size
        with upload.path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        upload.video_id = f"video-{number:04d}"
        status = {"uploadStatus": "uploaded"}
        self.videos[upload.video_id] = Video(
            upload.video_id, number, upload.filename, upload.size, sha256, upload.told, status, upload.path
        )

    def incomplete(self, upload: Upload) -> Reply:
        headers = {"Range": f"bytes=0-{upload.received - 1}"} if upload.received else {}
        return Reply(308, headers=headers)

    def other_place(self, upload: Upload) -> Reply:
        return self.error(400, "badRequest", "not the next byte")

    def complete(self, video: Video) -> Reply:
        raise NotImplementedError

    def error(self, status: int, reason: str, message: str) -> Reply:
        raise NotImplementedError


class YoutubeServer(ResumableServer):
    """YouTube's Data API v3 and Google's token endpoint, of one channel. Tests may set:

    `refuses`: (status, reason) with which sessions are not begun; `scopes`: `upload` alone may not look; `is_revoked`: the refresh
    token is dead; `page`: entries of a page.
    """

    upload_path = "/upload/youtube/v3/videos"
    CLIENT: Final = ("client-id-1234", "client-secret-1234", "refresh-token-1234")

    def __init__(self) -> None:
        super().__init__()
        self.refuses: tuple[int, str] | None = None
        self.scopes = {"upload", "readonly", "force-ssl"}
        self.is_revoked = False
        self.page = 50
        self.units = 0
        self.drops_slug = False

    @property
    def token_url(self) -> str:
        return f"{self.url}/token"

    def reply(self, call: Call) -> Reply:
        if (call.method, call.path) == ("POST", "/token"):
            return self._grant(call.form())
        if call.method == "PUT":
            return self._put(call)
        if not self.is_let_in(call.headers):
            return self.error(401, "authError", "Invalid Credentials")
        if (call.method, call.path) == ("POST", self.upload_path):
            return self._insert(call)
        scope = "force-ssl" if call.method == "DELETE" else "readonly"
        if scope not in self.scopes:
            return self.error(403, "insufficientPermissions", "Request had insufficient authentication scopes.")
        known = {
            ("GET", "/youtube/v3/channels"): self._channels,
            ("GET", "/youtube/v3/playlistItems"): self._playlist,
            ("GET", "/youtube/v3/videos"): self._list,
            ("DELETE", "/youtube/v3/videos"): self._delete,
        }
        return known[call.method, call.path](call.query)

    def error(self, status: int, reason: str, message: str) -> Reply:
        inner = {"domain": "youtube", "reason": reason, "message": message}
        return Reply.json({"error": {"code": status, "message": message, "errors": [inner]}}, status)

    def complete(self, video: Video) -> Reply:
        return Reply.json({"kind": "youtube#video", "id": video.id, "status": video.status}, 201)

    def _grant(self, form: dict[str, str]) -> Reply:
        assert set(form) == {"grant_type", "client_id", "client_secret", "refresh_token"}
        assert form["grant_type"] == "refresh_token"
        if (form["client_id"], form["client_secret"]) != self.CLIENT[:2]:
            return Reply.json({"error": "invalid_client"}, 401)
        if self.is_revoked or form["refresh_token"] != self.CLIENT[2]:
            return Reply.json({"error": "invalid_grant", "error_description": "Token has been expired or revoked."}, 400)
        self.tokens_given += 1
        return Reply.json({"access_token": self.token, "expires_in": 3599, "scope": "x", "token_type": "Bearer"})

    def _insert(self, call: Call) -> Reply:
        assert call.query["uploadType"] == "resumable"
        assert call.query["part"] == "snippet,status"
        assert call.query["notifySubscribers"] in {"true", "false"}
        if self.refuses:
            return self.error(*self.refuses, "we are sorry")
        told = call.json()
        snippet = told["snippet"]
        assert set(told) == {"snippet", "status"}
        assert 1 <= len(snippet["title"]) <= 100
        assert len(snippet["description"].encode()) <= 5000
        assert not set("<>") & set(snippet["title"] + snippet["description"])
        assert len(",".join(f'"{tag}"' if " " in tag else tag for tag in snippet["tags"])) <= 500
        name = "unknown" if self.drops_slug else unquote(call.headers.get("slug", "unknown"))
        upload = self.begin(told, name, call)
        location = f"{self.url}{self.upload_path}?uploadType=resumable&upload_id={upload.id}"
        return Reply(200, headers={"Location": location if self.location is None else self.location})

    def _channels(self, query: dict[str, str]) -> Reply:
        assert query["mine"] == "true"
        self.units += 1
        channel = {"snippet": {"title": "My films"}, "contentDetails": {"relatedPlaylists": {"uploads": "UU-list"}}}
        return Reply.json({"kind": "youtube#channelListResponse", "items": [channel]})

    def _playlist(self, query: dict[str, str]) -> Reply:
        assert (query["playlistId"], query["part"], query["maxResults"]) == ("UU-list", "contentDetails", "50")
        self.units += 1
        newest = sorted(self.videos.values(), key=lambda video: -video.number)
        start = int(query.get("pageToken", "0"))
        content: dict[str, Any] = {
            "kind": "youtube#playlistItemListResponse",
            "items": [{"contentDetails": {"videoId": video.id}} for video in newest[start : start + self.page]],
        }
        if start + self.page < len(newest):
            content["nextPageToken"] = str(start + self.page)
        return Reply.json(content)

    def _list(self, query: dict[str, str]) -> Reply:
        self.units += 1
        ids = query["id"].split(",")
        assert len(ids) <= 50
        parts = query["part"].split(",")
        found = [self._resource(self.videos[one], parts) for one in ids if one in self.videos]
        return Reply.json({"kind": "youtube#videoListResponse", "items": found})

    @staticmethod
    def _resource(video: Video, parts: list[str]) -> dict[str, Any]:
        whole = {
            "snippet": video.told.get("snippet", {}),
            "status": video.status,
            "fileDetails": {"fileName": video.filename, "fileSize": str(video.size)},
            "processingDetails": {"processingStatus": "processing"},
        }
        return {"kind": "youtube#video", "id": video.id, **{part: whole[part] for part in parts}}

    def _delete(self, query: dict[str, str]) -> Reply:
        if query["id"] not in self.videos:
            return self.error(404, "videoNotFound", "no such video")
        del self.videos[query["id"]]
        return Reply(204)


class PeertubeServer(ResumableServer):
    """A PeerTube instance with one account. Tests may set:

    `refuses`: (status, code) with which sessions are not begun; `tells_source`: it keeps the names of files; `asks_otp`: the
    account has a second factor; `durations`: what is listed of a video.
    """

    upload_path = "/api/v1/videos/upload-resumable"
    CLIENT: Final = ("local-client", "local-client-secret")
    ACCOUNT: Final = ("ada", "password of ada")

    def __init__(self) -> None:
        super().__init__()
        self.forgets = True  # the session is cleaned up behind the answer
        self.refuses: tuple[int, str] | None = None
        self.tells_source = True
        self.asks_otp = False
        self.durations: dict[str, int] = {}
        self.duration = 60  # of all others
        self.calls_left = -1  # of its limit; negative = none
        self.page = 100

    def reply(self, call: Call) -> Reply:
        if self.calls_left == 0:
            self.calls_left = -1
            return Reply.json({"detail": "too many"}, 429, **{"Retry-After": "10"})
        self.calls_left -= 1 if self.calls_left > 0 else 0
        path = call.path.removeprefix("/api/v1")
        assert path != call.path, call.path
        if (call.method, path) == ("GET", "/oauth-clients/local"):
            return Reply.json(dict(zip(("client_id", "client_secret"), self.CLIENT, strict=True)))
        if (call.method, path) == ("POST", "/users/token"):
            return self._grant(call.form())
        if call.method == "PUT":
            return self._put(call)
        if not self.is_let_in(call.headers):
            return self.error(401, "invalid_token", "Token is invalid")
        if (call.method, path) == ("POST", "/videos/upload-resumable"):
            return self._init(call)
        if (call.method, path) == ("GET", "/users/me"):
            channels = [{"id": 7, "name": "ada_channel"}, {"id": 8, "name": "talks"}]
            return Reply.json({"username": "ada", "videoChannels": channels})
        if (call.method, path) == ("GET", "/users/me/videos"):
            return self._mine(call.query)
        found = re.fullmatch(r"/videos/(video-\d+)(/source)?", path)
        assert found, path
        return self._one(call.method, found[1], is_source=bool(found[2]))

    def error(self, status: int, reason: str, message: str) -> Reply:
        told = {"type": "about:blank", "title": "Error", "detail": message, "status": status, "code": reason}
        return Reply.json(told, status, **{"Content-Type": "application/problem+json"})

    def complete(self, video: Video) -> Reply:
        return Reply.json({"video": {"id": video.number, "uuid": video.id, "shortUUID": f"short{video.number}"}})

    def incomplete(self, upload: Upload) -> Reply:
        return Reply(308, headers={"Range": f"bytes=0-{upload.received - 1}"})  # also where that is -1, as node-uploadx does

    def other_place(self, upload: Upload) -> Reply:
        return self.error(409, "conflict", "chunk doesn't match range")

    def name_of_session(self, told: dict[str, Any], size: int) -> str:
        if "lastModified" not in told:
            return super().name_of_session(told, size)
        known = "-".join(map(str, (told["name"], size, told["lastModified"], "user")))
        return f"1-{hashlib.md5(known.encode()).hexdigest()}.mp4"

    def _grant(self, form: dict[str, str]) -> Reply:
        assert (form["client_id"], form["client_secret"], form["grant_type"]) == (*self.CLIENT, "password")
        if self.asks_otp:
            return self.error(401, "missing_two_factor", "Missing two factor header")
        if (form["username"], form["password"]) != self.ACCOUNT:
            return self.error(400, "invalid_grant", "Invalid grant: user credentials are invalid")
        self.tokens_given += 1
        return Reply.json({"access_token": self.token, "token_type": "Bearer", "expires_in": 14399, "refresh_token": "r"})

    def _init(self, call: Call) -> Reply:
        if self.refuses:
            return self.error(*self.refuses, "we are sorry")
        told = call.json()
        assert 3 <= len(told["name"]) <= 120
        assert told["channelId"] in {7, 8}
        assert told["privacy"] in {1, 2, 3, 4}
        assert len(told.get("tags", [])) <= 5
        assert all(2 <= len(tag) <= 30 for tag in told.get("tags", []))
        upload = self.begin(told, told["filename"], call)
        location = f"{self.url.removeprefix('http:')}{self.upload_path}?upload_id={upload.id}"
        return Reply(200 if upload.received else 201, headers={"Location": location if self.location is None else self.location})

    def _mine(self, query: dict[str, str]) -> Reply:
        assert query["sort"] == "-createdAt"
        newest = sorted(self.videos.values(), key=lambda video: -video.number)
        start, count = int(query["start"]), int(query["count"])
        assert count <= 100
        listed = [self._resource(video) for video in newest[start : start + count]]
        return Reply.json({"total": len(newest), "data": listed})

    def _resource(self, video: Video) -> dict[str, Any]:
        number = {"uploaded": 2, "processed": 1}.get(video.status["uploadStatus"], 7)
        return {
            "id": video.number,
            "uuid": video.id,
            "shortUUID": f"short{video.number}",
            "name": video.told.get("name", ""),
            "duration": self.durations.get(video.id, self.duration),
            "state": {"id": number, "label": "Transcoding failed" if number == 7 else "x"},
        }

    def _one(self, method: str, video_id: str, *, is_source: bool) -> Reply:
        video = self.videos.get(video_id)
        if video is None:
            return self.error(404, "not_found", "Video not found")
        if method == "DELETE":
            del self.videos[video_id]
            return Reply(204)
        assert method == "GET"
        if not is_source:
            return Reply.json(self._resource(video))
        if not self.tells_source:
            return self.error(404, "not_found", "Video source not found")
        return Reply.json({"inputFilename": video.filename, "size": video.size, "width": 640, "height": 360, "fps": 25})


def youtube(server: YoutubeServer, root: Path, clock: Clock, **settings: Any) -> YouTube:
    secrets = dict(zip(("YT_ID", "YT_SECRET", "YT_REFRESH"), server.CLIENT, strict=True))
    names = {"client_id_env": "YT_ID", "client_secret_env": "YT_SECRET", "refresh_token_env": "YT_REFRESH"}
    fields = {**names, "api_url": server.url, "token_url": server.token_url, **settings}
    return YouTube(ground=Ground(root, Http(clock), secrets), **fields)


def peertube(server: PeertubeServer, root: Path, clock: Clock, **settings: Any) -> PeerTube:
    secrets = dict(zip(("PT_NAME", "PT_PASSWORD"), server.ACCOUNT, strict=True))
    fields = {"url": server.url, "username_env": "PT_NAME", "password_env": "PT_PASSWORD", **settings}
    return PeerTube(ground=Ground(root, Http(clock), secrets), **fields)


def film(path: Path, content: bytes, **changes: Any) -> Asset:
    """A file with these bytes and what it is called."""
    path.write_bytes(content)
    details = Details(title="A film", description="What it shows", tags=("sea", "summer evening"))
    sha256 = hashlib.sha256(content).hexdigest()
    return replace(
        Asset("film-0123456789ab", Kind.VIDEO, ".mp4", sha256, len(content), duration_s=60.0, details=details), **changes
    )
