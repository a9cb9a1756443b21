"""Streamtape: it compares the sha256 that it is told with the bytes it gets (docs/hosts/streamtape.md)."""

import contextlib
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from dailies.answer import Answer
from dailies.body import multipart
from dailies.clock import Deadline
from dailies.config import Duration, Size, parse_size
from dailies.errors import ConfigError, DailiesError, Denied, HostRefused, OutcomeUnknown, RateLimited, Transient
from dailies.hosts.answers import Text, discreet, is_address, read, upload_address, words
from dailies.hosts.host import Asset, Capabilities, Ground, Receipt, Standing, State, Transfer
from dailies.model import Kind
from dailies.redact import Redactor

_ID: Final = re.compile(r"[A-Za-z0-9_-]+")
_IN_LINK: Final = re.compile(r"/[ev]/([A-Za-z0-9_-]+)(?:/|$)")
_TOLD: Final = frozenset({400, 404, 405, 410, 413, 415, 422, 509})  # HTTP's where it stands for `status`
_NO_CALL: Final = 405
_REFUSED: Final = frozenset({413, 415, 451})
_LIMITED: Final = frozenset({429, 509})
_BANDWIDTH_S: Final = 600.0  # how long 509 lasts is told nowhere
_TRUE: Final = frozenset({"true", "1", "converted"})


class _Said(BaseModel):
    """What every answer looks like; `msg` is for people only."""

    status: int
    msg: Text = ""
    result: Any = None


class _Target(BaseModel):
    url: str


class _Sent(BaseModel):
    """An upload's answer; not every version of the manual has all of it."""

    id: Text = ""
    url: Text = ""
    sha256: Text = ""
    size: Text = ""

    @property
    def code(self) -> str:
        return self.id if _ID.fullmatch(self.id) else _code_in(self.url)

    def differs_from(self, asset: Asset) -> bool:
        return self.sha256.lower() not in {"", asset.sha256} or self.size not in {"", str(asset.size_bytes)}


class _Listed(BaseModel):
    name: Text = ""
    size: Text = ""
    link: Text = ""
    linkid: Text = ""
    created_at: Text = ""

    @property
    def code(self) -> str:
        return self.linkid if _ID.fullmatch(self.linkid) else _code_in(self.link)

    def is_of(self, asset: Asset) -> bool:
        """By the mark in its name, whatever became of blanks and brackets, and by its size."""
        before, token, behind = self.name.lower().rpartition(asset.token)
        is_marked = bool(token) and asset.video_id.rpartition("-")[2].lower() in before
        return is_marked and ("preview" in behind) == (asset.kind is Kind.PREVIEW) and self.size == str(asset.size_bytes)


class _Folder(BaseModel):
    files: list[_Listed]


class _Info(BaseModel):
    status: int
    size: Text = ""
    converted: Text = "true"


class StreamtapeHost(BaseModel):
    """A host that transcodes; the same upload twice is two files, so each name carries a mark by which it is found again."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    ground: Ground = Field(exclude=True, repr=False)
    login_env: str = Field(description="name of the variable that holds the API login")
    key_env: str = Field(description="name of the variable that holds the API key")
    folder: str = Field("", description="id of the folder there; empty = the account's root")
    api_url: str = Field("https://api.streamtape.com", description="address of the API")
    site_url: str = Field("https://streamtape.com", description="address of the player, of which links are made")
    max_size: Size = Field(
        parse_size("15GB"), description="larger files are not sent; 0 = no limit of our own", json_schema_extra={"unit": "size"}
    )
    settle: Duration = Field(
        10.0, description="so long after an upload its listing may lack it", json_schema_extra={"unit": "duration"}
    )

    @field_validator("api_url", "site_url")
    @classmethod
    def _address(cls, url: str) -> str:
        if not is_address(url):
            raise ValueError("is no address; write it like https://host.example")
        return url.rstrip("/")

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            overwrites=False,
            kinds=frozenset({Kind.VIDEO, Kind.PREVIEW}),
            max_bytes=self.max_size or None,
            verifies_hash=True,
            settle_s=self.settle,
        )

    def preflight(self, deadline: Deadline) -> str:
        with self._discreet():
            if self._ask("account/info", deadline).status != 200:
                raise ConfigError(f"{self._name}: has no account/info; check api_url")
            if self.folder:
                self._files(deadline)
        return f"{self._name} knows the login and its key" + (f", and folder {self.folder}" if self.folder else "")

    def upload(self, path: Path, asset: Asset, transfer: Transfer) -> Receipt:
        with self._discreet():
            target = self._target(asset, transfer.deadline)
            body, kind = multipart({}, "file1", asset.marked_name, path)
            answer = self.ground.http.send(
                "POST",
                target,
                body,
                transfer.deadline,
                headers={"Content-Type": kind},
                accept=_TOLD,
                progress=transfer.progress,
            )
            return self._confirmed(answer, asset, transfer.deadline)

    def find(self, asset: Asset, transfer: Transfer) -> Receipt | None:
        with self._discreet():
            found = [file for file in self._files(transfer.deadline) if file.is_of(asset)]
            if not found:
                return None
            oldest = min(found, key=lambda file: (len(file.created_at), file.created_at, file.code))  # seconds or a date
            if not oldest.code:
                raise Transient(f"{self._name}: lists {asset.marked_name} without its id; it is asked again later")
            return self._receipt(oldest.code)

    def check(self, asset: Asset, remote_id: str, deadline: Deadline) -> Standing:
        with self._discreet():
            said = self._ask("file/info", deadline, file=remote_id)
            if said.status == 404:
                return Standing(State.MISSING)
            told = said.result.get(remote_id) if isinstance(said.result, dict) else None
            info = read(_Info, told, self._name)
        if info.status == 404:
            return Standing(State.MISSING)
        if info.status != 200:
            return Standing(State.FAILED, f"{self._name} has it as {info.status}")
        if info.size not in {"", str(asset.size_bytes)}:
            return Standing(State.FAILED, f"{self._name} has {words(info.size)} bytes of it, not {asset.size_bytes}")
        return Standing(State.READY if info.converted.lower() in _TRUE else State.PROCESSING)

    def delete(self, remote_id: str, deadline: Deadline) -> None:
        with self._discreet():
            self._ask("file/delete", deadline, file=remote_id)

    def fetch(self, asset: Asset, remote_id: str, target: Path, deadline: Deadline) -> None:  # noqa: ARG002 -- others do
        raise ConfigError(f"{remote_id}: {self._name} gives files to people only, not to programs; name another host")

    def sweep_folders(self) -> tuple[Path, ...]:
        return ()

    @property
    def _name(self) -> str:
        return urlsplit(self.api_url).hostname or self.api_url

    def _discreet(self) -> AbstractContextManager[Redactor]:
        return discreet(*self._credentials().values())

    def _credentials(self) -> dict[str, str]:
        return {"login": self.ground.secret(self.login_env), "key": self.ground.secret(self.key_env)}

    def _ask(self, call: str, deadline: Deadline, **params: str) -> _Said:
        """Answers of status 200 and of 404; any other raises."""
        answer = self.ground.http.call(
            "GET", f"{self.api_url}/{call}", deadline, params={**self._credentials(), **params}, accept=_TOLD
        )
        said = self._said(answer)
        if said.status in {200, 404}:
            return said
        if said.status == _NO_CALL:
            raise ConfigError(f"{self._name}: has no {call}; check api_url")
        raise self._trouble(said, Transient)

    def _said(self, answer: Answer) -> _Said:
        if answer.status >= 400:
            is_its_own = answer.status != 404 or b'"status"' in answer.content  # else it is of a server that knows no such address
            return _Said(status=answer.status if is_its_own else _NO_CALL, msg=answer.words())
        return read(_Said, answer.json(), self._name, OutcomeUnknown if answer.is_of_body else Transient)

    def _trouble(self, said: _Said, otherwise: type[DailiesError], what: str = "") -> DailiesError:
        """By `status` alone: 200, 400, 403, 404, 451, 509 and 50x are the manual's."""
        told = f"{self._name}: {what}status {said.status}: {words(said.msg)}"
        if said.status in {401, 403}:
            return Denied(f"{told}; check the login, its key and the folder")
        if said.status in _LIMITED:
            return RateLimited(f"{told}; it is tried again when the host allows", _BANDWIDTH_S if said.status == 509 else 60.0)
        if said.status in _REFUSED:
            return HostRefused(f"{told}; the host will not take this")
        return otherwise(f"{told}; it is tried again later")

    def _in_folder(self) -> dict[str, str]:
        return {"folder": self.folder} if self.folder else {}

    def _target(self, asset: Asset, deadline: Deadline) -> str:
        said = self._ask("file/ul", deadline, sha256=asset.sha256, **self._in_folder())
        if said.status != 200:
            raise self._no_folder()
        return upload_address(read(_Target, said.result, self._name).url, self.api_url, self._name)

    def _confirmed(self, answer: Answer, asset: Asset, deadline: Deadline) -> Receipt:
        """HTTP 200 alone says nothing; what came out of it must be what was promised."""
        said = self._said(answer)
        if said.status >= 500:
            raise self._trouble(said, OutcomeUnknown)
        if said.status != 200:
            raise self._trouble(said, Transient, "took nothing, as it does where the sha256 differs from what was promised, ")
        sent = read(_Sent, said.result, self._name, OutcomeUnknown)
        if sent.differs_from(asset):
            self._take_back(sent.code, deadline)
            raise Transient(f"{self._name}: what arrived differs from {asset.name}; it is sent again later")
        if not sent.code:
            raise OutcomeUnknown(f"{self._name}: took {asset.marked_name} and told no id; it is looked for there")
        return self._receipt(sent.code)

    def _take_back(self, code: str, deadline: Deadline) -> None:
        """As far as it can be: what is wrong with it is worse than that it stays."""
        if code:
            with contextlib.suppress(Transient, HostRefused):
                self._ask("file/delete", deadline, file=code)

    def _files(self, deadline: Deadline) -> list[_Listed]:
        """The whole folder: the call has no pages."""
        said = self._ask("file/listfolder", deadline, **self._in_folder())
        if said.status != 200:
            raise self._no_folder()
        return read(_Folder, said.result, self._name).files

    def _no_folder(self) -> ConfigError:
        return ConfigError(
            f"{self._name}: has no folder {self.folder or '(the root)'}; make it there, or check `folder` and `api_url`"
        )

    def _receipt(self, code: str) -> Receipt:
        return Receipt(code, watch_url=f"{self.site_url}/v/{code}", embed_url=f"{self.site_url}/e/{code}", is_settled=False)


def _code_in(link: str) -> str:
    """The id in `https://host/v/ID/name`."""
    found = _IN_LINK.search(link)
    return found[1] if found else ""
