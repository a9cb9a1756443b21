"""archive.org over loopback: its S3 interface, `/metadata` and `/download` in one server; what is put is taken in by `ingest()`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from loopback import Call, Loopback, Reply, Stored

ACCESS: Final = "AK0123456789abcd"
SECRET: Final = "SK9876543210zyxw"
USER: Final = "someone@example.org"
SPAM: Final = "Please reduce your request rate. - Your upload of x from username someone appears to be spam."
_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,99}")
_META: Final = re.compile(r"x-archive-(file)?meta(\d\d)-(.+)")
_REQUIRED: Final = ("x-archive-auto-make-bucket", "x-archive-queue-derive", "content-md5")


@dataclass(frozen=True)
class Put:
    """One file as it was sent."""

    stored: Stored
    item: Mapping[str, list[str]]  # what its headers said of the item
    file: Mapping[str, list[str]]  # and of itself
    headers: Mapping[str, str]


@dataclass
class Item:
    """What `/metadata` knows. `extra` is merged into its answer, as `is_dark`; `entries` into those of files."""

    metadata: dict[str, list[str]]
    files: dict[str, Put] = field(default_factory=dict)
    extra: dict[str, object] = field(default_factory=dict)
    entries: dict[str, dict[str, object]] = field(default_factory=dict)


class ArchiveServer(Loopback):
    def __init__(self) -> None:
        super().__init__()
        self.items: dict[str, Item] = {}
        self.staged: list[tuple[str, str, Put | None]] = []  # identifier, key, nothing for a deletion; in order
        self.ingests_at_once = False
        self.foreign: set[str] = set()  # identifiers that are somebody else's
        self.over_limit: object = 0
        self.refuses_as: tuple[int, str, str] | None = None  # each PUT and DELETE: status, code, message
        self.moves_to = ""  # each PUT once: Location
        self.words = b""  # of a successful PUT

    @property
    def files(self) -> dict[str, Put]:
        """`identifier/key` of all that is there or will be once it is taken in."""
        found = {f"{name}/{key}": put for name, item in self.items.items() for key, put in item.files.items()}
        for name, key, put in self.staged:
            if put is None:
                found.pop(f"{name}/{key}", None)
            else:
                found[f"{name}/{key}"] = put
        return found

    def ingest(self) -> None:
        """What was staged is taken in. An item's metadata is that of the first file."""
        with self.lock:
            for name, key, put in self.staged:
                if put is None:
                    self.items[name].files.pop(key, None)
                    continue
                self.items.setdefault(name, Item(dict(put.item))).files[key] = put
            self.staged.clear()

    def refuse(self, method: str, path: str, headers: Mapping[str, str]) -> Reply | None:
        if method not in {"PUT", "DELETE"}:
            return None
        if headers.get("authorization") != f"LOW {ACCESS}:{SECRET}":
            return _error(403, "AccessDenied", f"Access Denied for {headers.get('authorization', 'nobody')}")
        if method == "PUT" and "content-length" not in headers:
            return _error(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
        if self.refuses_as is not None:
            return _error(*self.refuses_as)
        identifier = unquote(path).strip("/").split("/")[0]
        if not _IDENTIFIER.fullmatch(identifier):
            return _error(400, "InvalidBucketName", "The specified bucket is not valid.")
        if identifier in self.foreign:
            return _error(403, "AccessDenied", "Access Denied - You lack sufficient privileges to write to this item.")
        if self.moves_to:
            moves_to, self.moves_to = self.moves_to, ""
            return Reply(307, b"", {"Location": moves_to})
        return None

    def reply(self, call: Call) -> Reply:
        _, first, *rest = [*unquote(call.path).split("/", 2), ""]
        match call.method, first, rest[0]:
            case "GET", "", _:
                return self._about(call)
            case "GET", "metadata", identifier:
                return self._metadata(identifier)
            case "GET", "download", place:
                put = (
                    self.items[place.split("/")[0]].files.get(place.split("/", 1)[1]) if place.split("/")[0] in self.items else None
                )
                return Reply(200, put.stored.read()) if put else Reply(404, b"<html>Item not available</html>")
            case "PUT", identifier, key:
                return self._put(call, identifier, key)
            case "DELETE", identifier, key:
                return self._delete(call, identifier, key)
        return Reply(405)

    def _about(self, call: Call) -> Reply:
        if "check_auth" in call.query:
            if call.headers.get("authorization") == f"LOW {ACCESS}:{SECRET}":
                return Reply.json({"authorized": True, "username": USER})
            return Reply.json({"error": "invalid keys"})
        assert set(call.query) == {"check_limit", "accesskey", "bucket"}, call.query
        assert "authorization" not in call.headers
        queued = {"bucket": call.query["bucket"], "accesskey": call.query["accesskey"], "detail": {"limit_reason": ""}}
        return Reply.json({**queued, "over_limit": self.over_limit})

    def _metadata(self, identifier: str) -> Reply:
        item = self.items.get(identifier)
        if item is None:
            return Reply.json({})
        files = [
            {
                "name": key,
                "source": "original",
                "size": str(put.stored.size),
                "md5": put.stored.md5,
                **{name: texts[0] for name, texts in put.file.items()},
                **item.entries.get(key, {}),
            }
            for key, put in item.files.items()
        ]
        own = {"name": f"{identifier}_files.xml", "source": "original", "format": "Metadata", "md5": "0" * 32, "summation": "md5"}
        return Reply.json({"created": 1, "files": [*files, own], "metadata": item.metadata, **item.extra})

    def _put(self, call: Call, identifier: str, key: str) -> Reply:
        assert all(name in call.headers for name in _REQUIRED), call.headers
        assert re.fullmatch(r"[0-9a-f]{32}", call.headers["content-md5"]), "in hex"
        assert key, "a file has a name"
        if call.headers["content-md5"] != call.body.md5:
            return _error(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")
        item, file = _decoded(call.headers)
        assert {"title", "mediatype", "collection"} <= set(item)
        self.staged.append((identifier, key, Put(call.body, item, file, call.headers)))
        if self.ingests_at_once:
            self.ingest()
        return Reply(200, self.words)

    def _delete(self, call: Call, identifier: str, key: str) -> Reply:
        if f"{identifier}/{key}" not in self.files:
            return _error(404, "NoSuchKey", "The specified key does not exist.")
        assert call.headers.get("x-archive-cascade-delete") == "1"
        self.staged.append((identifier, key, None))
        if self.ingests_at_once:
            self.ingest()
        return Reply(204)


def _decoded(headers: Mapping[str, str]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """(of the item, of the file), strictly: numbers from 00 without a gap, ASCII, `uri(…)` where there are blanks."""
    found: tuple[dict[str, list[str]], dict[str, list[str]]] = ({}, {})
    for name, text in sorted(headers.items()):
        if parts := _META.fullmatch(name):
            assert text.isascii(), text
            assert not re.search(r"\s", text), text
            assert len(text) < 8000
            key = parts[3].replace("--", "_")
            values = found[bool(parts[1])].setdefault(key, [])
            assert int(parts[2]) == len(values), name
            values.append(unquote(text[4:-1], errors="strict") if text.startswith("uri(") and text.endswith(")") else text)
    return found


def _error(status: int, code: str, message: str) -> Reply:
    xml = f"<?xml version='1.0'?>\n<Error><Code>{code}</Code><Message>{message}</Message><Resource>x</Resource></Error>"
    return Reply(status, xml.encode(), {"Content-Type": "application/xml"})
