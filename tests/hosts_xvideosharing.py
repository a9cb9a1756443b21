"""A host that runs the XVideoSharing script, on loopback: API and upload node in one server (docs/hosts/xvideosharing.md)."""

import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from loopback import Call, Loopback, Reply, Stored

KEY: Final = "xvs-key/0123 456789"  # is spelled otherwise in an address
NODE: Final = "/upload/01"
_PARAMS: Final = {
    "account/info": set[str](),
    "upload/server": set[str](),
    "file/info": {"file_code"},
    "file/list": {"fld_id", "title", "created", "public", "adult", "per_page", "page"},
    "file/edit": {"file_code", "file_title", "file_descr", "cat_id", "file_fld_id", "file_public", "file_adult", "tags"},
    "file/delete": {"file_code"},
}
_FIELDS: Final = {"key", "file_title", "file_descr", "fld_id", "cat_id", "tags", "file_public", "file_adult"}


@dataclass
class XvsFile:
    """One file of the account. `is_worked_on`: file/info says 404 of it, as of one that is gone."""

    code: str
    title: str
    stored: Stored
    fields: dict[str, str]
    uploaded: str
    length: str
    can_play: bool = True
    is_worked_on: bool = False
    listed_at: float = 0.0


@dataclass
class XvsServer(Loopback):
    """Files by code. What else it does is set by a test:

    `says`: whole answers by call (`upload` for the node); `without`: calls that the install lacks; `refuses`: the words with
    which it turns uploads down; `lag_s`: how long a new file is not listed (infinite: until `catch_up`); `sanitizes`: titles keep
    letters, digits, dots and dashes only; `by_whole_title`: its search finds no part of a title; `echoes`: it repeats what it
    was sent.
    """

    files: dict[str, XvsFile] = field(default_factory=dict)
    says: dict[str, Any] = field(default_factory=dict)
    without: set[str] = field(default_factory=set)
    refuses: str = ""
    lag_s: float = 0.0
    length: str = "0"
    works_on_new: bool = False
    sanitizes: bool = False
    by_whole_title: bool = False
    echoes: bool = False
    per_page: int = 100

    def __post_init__(self) -> None:
        super().__init__()
        self._made = 0

    @property
    def api_url(self) -> str:
        return f"{self.url}/api"

    @property
    def uploads(self) -> list[Call]:
        return [call for call in self.calls if call.path == NODE]

    def stored(self) -> list[bytes]:
        return [file.stored.read() for file in self.files.values()]

    def catch_up(self) -> None:
        """The listing shows everything."""
        for file in self.files.values():
            file.listed_at = 0.0

    def reply(self, call: Call) -> Reply:
        if call.path == NODE:
            return self._upload(call)
        name = call.path.removeprefix("/api/")
        if call.method != "GET" or name not in _PARAMS:
            return Reply(404, b"<html>Not Found</html>", {"Content-Type": "text/html"})
        if name in self.says:
            return Reply.json(self.says[name])
        if call.query.get("key") != KEY:
            told = f": {call.query.get('key')} in {call.path}" if self.echoes else ""
            return _said(403, f"Wrong auth{told}")
        if name in self.without:
            return _said(404, "no such page")
        if unknown := set(call.query) - {"key"} - _PARAMS[name]:
            return _said(400, f"unknown parameters {sorted(unknown)}")
        return {
            "account/info": self._account,
            "upload/server": self._server_address,
            "file/info": self._info,
            "file/list": self._list,
            "file/edit": self._edit,
            "file/delete": self._delete,
        }[name](call.query)

    def _account(self, _query: dict[str, str]) -> Reply:
        return _said(200, login="uploader", email="u@host.example", storage_left=1288483337, storage_used="685101", premium=1)

    def _server_address(self, _query: dict[str, str]) -> Reply:
        return _result(f"{self.url}{NODE}")

    def _upload(self, call: Call) -> Reply:
        if call.method != "POST":
            return Reply(405, b"POST only")
        if "upload" in self.says:
            return Reply.json(self.says["upload"])
        fields, files = call.multipart()
        if fields.get("key") != KEY:
            return _said(403, f"Wrong auth: {fields.get('key')}" if self.echoes else "Wrong auth")
        if set(fields) - _FIELDS or set(files) != {"file"} or not {fields["file_public"], fields["file_adult"]} <= {"0", "1"}:
            return _said(400, f"wrong fields {sorted(fields)} {sorted(files)}")
        if self.refuses:
            return Reply.json({"msg": "OK", "status": 200, "files": [{"filecode": "", "filename": "", "status": self.refuses}]})
        file = self._keep(fields, files["file"])
        sent = {"filecode": file.code, "filename": files["file"].filename, "status": "OK"}
        return Reply.json({"msg": "OK", "status": 200, "files": [sent]})

    def _keep(self, fields: dict[str, str], stored: Stored) -> XvsFile:
        self._made += 1
        title = fields.get("file_title") or stored.filename.rpartition(".")[0]
        title = " ".join(re.sub(r'[_.<>#"]+', " ", title).split())
        file = XvsFile(
            code=f"code{self._made:08d}",
            title=re.sub(r"[^\w.-]+", "_", title) if self.sanitizes else title,
            stored=stored,
            fields=fields,
            uploaded=f"2026-01-02 03:{self._made // 60:02d}:{self._made % 60:02d}",
            length=self.length,
            can_play=not self.works_on_new,
            is_worked_on=self.works_on_new,
            listed_at=time.monotonic() + self.lag_s if self.lag_s else 0.0,
        )
        self.files[file.code] = file
        return file

    def _info(self, query: dict[str, str]) -> Reply:
        return _result([self._one(code) for code in query["file_code"].split(",")])

    def _one(self, code: str) -> dict[str, Any]:
        file = self.files.get(code)
        if file is None or file.is_worked_on:
            return {"status": 404, "filecode": code}
        return {
            "status": 200,
            "file_code": code,
            "file_title": file.title,
            "file_length": file.length,
            "file_public": int(file.fields["file_public"]),
            "file_created": file.uploaded,
            "canplay": int(file.can_play),
        }

    def _listed(self, query: dict[str, str]) -> Iterator[dict[str, Any]]:
        """Newest first."""
        wanted = query.get("title", "").lower()
        for file in sorted(self.files.values(), key=lambda one: one.uploaded, reverse=True):
            is_shown = file.listed_at <= time.monotonic()
            is_there = query.get("fld_id", "0") in {"0", file.fields.get("fld_id", "0")}
            is_named = not wanted or (wanted == file.title.lower() if self.by_whole_title else wanted in file.title.lower())
            if is_shown and is_there and is_named:
                yield {
                    "file_code": file.code,
                    "title": file.title,
                    "uploaded": file.uploaded,
                    "length": file.length,
                    "canplay": int(file.can_play),
                    "public": file.fields["file_public"],
                    "fld_id": file.fields.get("fld_id", "0"),
                    "views": "0",
                }

    def _list(self, query: dict[str, str]) -> Reply:
        found = list(self._listed(query))
        size = min(int(query.get("per_page", "10")), self.per_page)
        page = found[(int(query.get("page", "1")) - 1) * size :][:size]
        pages = math.ceil(len(found) / size)
        return _result({"files": page, "pages": pages, "results": len(page), "results_total": str(len(found))})

    def _edit(self, query: dict[str, str]) -> Reply:
        file = self.files.get(query["file_code"])
        if file is None:
            return _said(404, "no file")
        file.title = query.get("file_title", file.title)
        return _said(200)

    def _delete(self, query: dict[str, str]) -> Reply:
        return _said(200) if self.files.pop(query["file_code"], None) else _said(404, "no file")


def _said(status: int, msg: str = "OK", **result: Any) -> Reply:
    told: dict[str, Any] = {"msg": msg, "server_time": "2026-01-02 03:04:05", "status": status}
    return Reply.json({**told, "result": result} if result else told)


def _result(result: Any) -> Reply:
    return Reply.json({"msg": "OK", "server_time": "2026-01-02 03:04:05", "status": 200, "result": result})
