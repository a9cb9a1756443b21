"""Streamtape on loopback: API and upload node in one server (docs/hosts/streamtape.md)."""

from dataclasses import dataclass, field
from typing import Any, Final

from loopback import Call, Loopback, Reply, Stored

LOGIN: Final = "tape-login-0123456789"
KEY: Final = "tape-key/0123 456789"  # is spelled otherwise in an address
FOLDER: Final = "folder_A-1"
_NODE: Final = "/ul/"
_PARAMS: Final = {
    "account/info": set[str](),
    "file/ul": {"folder", "sha256", "httponly"},
    "file/info": {"file"},
    "file/listfolder": {"folder"},
    "file/delete": {"file"},
}


@dataclass
class TapeFile:
    id: str
    name: str
    stored: Stored
    folder: str
    created_at: int
    is_converted: bool = True
    is_listed: bool = True


@dataclass
class StreamtapeServer(Loopback):
    """Files by id. What else it does is set by a test:

    `says`: whole answers by call (`upload` for the node); `lags`: new files are not listed until `catch_up`; `alters`: it keeps and
    tells of other bytes than came; `tells_no_id`: as in some versions of its manual; `renames`: blanks and brackets of names become
    underscores; `works_on_new`: new files are not converted yet; `echoes`: it repeats what it was sent.
    """

    files: dict[str, TapeFile] = field(default_factory=dict)
    folders: set[str] = field(default_factory=lambda: {"", FOLDER})
    says: dict[str, Any] = field(default_factory=dict)
    lags: bool = False
    alters: bool = False
    tells_no_id: bool = False
    renames: bool = False
    works_on_new: bool = False
    echoes: bool = False

    def __post_init__(self) -> None:
        super().__init__()
        self._made = 0
        self._promised: dict[str, dict[str, str]] = {}  # of addresses that were given out, each for one upload

    @property
    def uploads(self) -> list[Call]:
        return [call for call in self.calls if call.path.startswith(_NODE)]

    def stored(self) -> list[bytes]:
        return [file.stored.read() for file in self.files.values()]

    def catch_up(self) -> None:
        """The listing shows everything."""
        for file in self.files.values():
            file.is_listed = True

    def reply(self, call: Call) -> Reply:
        if call.path.startswith(_NODE):
            return self._upload(call)
        name = call.path.removeprefix("/")
        if call.method != "GET" or name not in _PARAMS:
            return Reply(404, b"<html>Not Found</html>", {"Content-Type": "text/html"})
        if name in self.says:
            return Reply.json(self.says[name])
        if (call.query.get("login"), call.query.get("key")) != (LOGIN, KEY):
            told = f" {call.query.get('login')}:{call.query.get('key')}" if self.echoes else ""
            return _said(403, f"Authentication failed{told}")
        query = {key: text for key, text in call.query.items() if key not in {"login", "key"}}
        if unknown := set(query) - _PARAMS[name]:
            return _said(400, f"unknown parameters {sorted(unknown)}")
        if query.get("folder", "") not in self.folders:
            return _said(404, "Folder not found")
        return {
            "account/info": self._account,
            "file/ul": self._target,
            "file/info": self._info,
            "file/listfolder": self._list,
            "file/delete": self._delete,
        }[name](query)

    def _account(self, _query: dict[str, str]) -> Reply:
        return _said(200, result={"apiid": LOGIN, "email": "u@host.example", "signup_at": "2020-01-02 03:04:05"})

    def _target(self, query: dict[str, str]) -> Reply:
        path = f"{_NODE}{len(self._promised) + 1}"
        self._promised[path] = query
        return _said(200, result={"url": f"{self.url}{path}", "valid_until": "2026-01-02 09:04:05"})

    def _upload(self, call: Call) -> Reply:
        promised = self._promised.pop(call.path, None)
        if promised is None or call.method != "POST":
            return _said(404, "this address is of no upload")
        if "upload" in self.says:
            return Reply.json(self.says["upload"])
        fields, files = call.multipart()
        if fields or set(files) != {"file1"}:
            return _said(400, f"wrong fields {sorted(fields)} {sorted(files)}")
        stored = files["file1"]
        if promised.get("sha256", stored.sha256) != stored.sha256:
            return _said(400, "sha256 mismatch")
        file = self._keep(stored, promised.get("folder", ""))
        sha256 = "0" * 64 if self.alters else stored.sha256
        told: dict[str, Any] = {"name": file.name, "size": str(stored.size), "sha256": sha256, "content_type": "video/mp4"}
        told |= {"url": "https://tapecontent.example/x.mp4"} if self.tells_no_id else {"id": file.id, "url": self._link(file)}
        return _said(200, result=told)

    def _keep(self, stored: Stored, folder: str) -> TapeFile:
        self._made += 1
        name = stored.filename.translate(str.maketrans(" []", "___")) if self.renames else stored.filename
        file = TapeFile(
            id=f"Tape_{self._made:04d}-x",
            name=name,
            stored=stored,
            folder=folder,
            created_at=1_767_000_000 + self._made,
            is_converted=not self.works_on_new,
            is_listed=not self.lags,
        )
        self.files[file.id] = file
        return file

    def _link(self, file: TapeFile) -> str:
        return f"https://streamtape.example/v/{file.id}/{file.name}"

    def _info(self, query: dict[str, str]) -> Reply:
        return _said(200, result={file_id: self._one(file_id) for file_id in query["file"].split(",")})

    def _one(self, file_id: str) -> dict[str, Any]:
        file = self.files.get(file_id)
        if file is None:
            return {"id": file_id, "status": 404, "name": False, "size": False, "type": False, "converted": False}
        known = {"id": file_id, "status": 200, "name": file.name, "size": file.stored.size}
        return {**known, "type": "video/mp4", "converted": file.is_converted, "thumb": "x.jpg"}

    def _list(self, query: dict[str, str]) -> Reply:
        """Newest first."""
        files = [file for file in self.files.values() if file.is_listed and file.folder == query.get("folder", "")]
        shown = [
            {
                "name": file.name,
                "size": file.stored.size,
                "link": self._link(file),
                "created_at": file.created_at,
                "downloads": 0,
                "linkid": file.id,
                "convert": "converted" if file.is_converted else "pending",
            }
            for file in reversed(files)
        ]
        return _said(200, result={"folders": [{"id": FOLDER, "name": "films"}], "files": shown})

    def _delete(self, query: dict[str, str]) -> Reply:
        return _said(200, result=True) if self.files.pop(query["file"], None) else _said(404, "File not found")


def _said(status: int, msg: str = "OK", result: Any = None) -> Reply:
    return Reply.json({"status": status, "msg": msg, "result": result})
