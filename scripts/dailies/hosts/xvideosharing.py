"""Video hosts that run the XVideoSharing script: StreamWish, LuluStream and others (docs/hosts/xvideosharing.md)."""

import math
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator, model_validator

from dailies.answer import Answer
from dailies.body import multipart
from dailies.clock import Deadline
from dailies.config import Duration, Size
from dailies.errors import ConfigError, DailiesError, Denied, HostRefused, HostSilent, OutcomeUnknown, RateLimited, Transient
from dailies.hosts.answers import Text, discreet, is_address, read, upload_address, words
from dailies.hosts.host import Asset, Capabilities, Ground, Receipt, Standing, State, Transfer
from dailies.model import Kind
from dailies.redact import Redactor, plain

# players move from domain to domain: docs/hosts/xvideosharing.md tells how to follow
PRESETS: Final = {
    "streamwish": {"api_url": "https://api.streamwish.com/api", "player_url": "https://streamwish.to"},
    "lulustream": {"api_url": "https://api.lulustream.com/api", "player_url": "https://lulustream.com"},
}
_CODE: Final = r"^[A-Za-z0-9]+$"
_PER_PAGE: Final = 100
_PAGES: Final = 50  # of what a search by title finds
_TITLE_BYTES: Final = 120  # with the mark behind it no column is too short (the script's holds 255)
_NO_CALL: Final = 405  # our own name for a call that an install of the script lacks
_MISSING: Final = frozenset({404, _NO_CALL})
_ASKED: Final = frozenset({400, 404, 405, 410})  # answers to a question that say nothing about a file
_NO_NODE: Final = frozenset({404, 405, 410})
# texts that public clients of the script know; a person must act, or time must pass
_DENIED: Final = re.compile(
    r"disk space|files on your account|not allowed to upload|(wrong|invalid)\W+(\w+\W+)?(auth|key)", re.IGNORECASE
)
_LIMITED: Final = re.compile(r"too many|last 24|daily|per day", re.IGNORECASE)
_BY_DAY: Final = re.compile(r"24|daily|per day", re.IGNORECASE)
_UNKNOWN_CALL: Final = re.compile(r"(unknown|no such|unsupported|invalid) (method|operation|action|function|call)", re.IGNORECASE)


class _Said(BaseModel):
    """What every answer looks like."""

    status: int
    msg: Text = ""
    result: Any = None
    files: Any = None


class _Sent(BaseModel):
    """One of `files` of an upload's answer."""

    status: Text = ""
    code: Text = Field("", validation_alias=AliasChoices("filecode", "file_code"))


class _Listed(BaseModel):
    code: str = Field(pattern=_CODE, validation_alias=AliasChoices("file_code", "filecode"))
    title: Text = ""
    uploaded: Text = ""  # YYYY-MM-DD HH:MM:SS
    length: Text = ""

    def is_of(self, asset: Asset) -> bool:
        """By the mark in its title and, where both are known, by its duration."""
        before, token, behind = self.title.lower().rpartition(asset.token)
        is_marked = bool(token) and _number(asset) in before and ("preview" in behind) == (asset.kind is Kind.PREVIEW)
        return is_marked and _agrees(self.length, asset.duration_s)


class _Page(BaseModel):
    files: list[_Listed]
    pages: int | None = None
    results_total: int | None = None


class _Info(BaseModel):
    status: int = 200
    length: Text = Field("", validation_alias="file_length")
    canplay: Text = "1"


class _Account(BaseModel):
    login: Text = ""
    storage_left: Text = ""


class XVideoSharingHost(BaseModel):
    """A host that transcodes; the same upload twice is two files, so each title carries a mark by which it is found again."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    ground: Ground = Field(exclude=True, repr=False)
    preset: Literal["", "streamwish", "lulustream"] = Field("", description="fills `api_url` and `player_url`; what is given wins")
    api_url: str = Field("", validate_default=True, description="address of the API, as in `https://host.example/api`")
    player_url: str = Field("", validate_default=True, description="address of the player, of which links are made")
    key_env: str = Field(description="name of the variable that holds the API key")
    folder: int = Field(0, ge=0, description="number of the folder there (`fld_id`); 0 = the account's root")
    category: int = Field(0, ge=0, description="number of the category there (`cat_id`); 0 = none")
    tags: bool = Field(True, description="send the video's tags")
    adult: bool = Field(False, description="mark uploads as for adults")
    public: bool = Field(True, description="list uploads publicly there")
    max_size: Size = Field(0, description="larger files are not sent; 0 = no limit of our own", json_schema_extra={"unit": "size"})
    settle: Duration = Field(
        60.0, description="so long after an upload its listing may lack it", json_schema_extra={"unit": "duration"}
    )

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        return {**PRESETS.get(given.get("preset", ""), {}), **given} if isinstance(given, dict) else given

    @field_validator("api_url", "player_url")
    @classmethod
    def _address(cls, url: str) -> str:
        if not url:
            raise ValueError(f"needed where no preset is named; the presets are {', '.join(PRESETS)}")
        if not is_address(url):
            raise ValueError("is no address; write it like https://host.example")
        return url.rstrip("/")

    @property
    def capabilities(self) -> Capabilities:
        kinds = frozenset({Kind.VIDEO, Kind.PREVIEW})
        return Capabilities(overwrites=False, kinds=kinds, max_bytes=self.max_size or None, settle_s=self.settle)

    def preflight(self, deadline: Deadline) -> str:
        with self._discreet() as redacted:
            said = self._ask("account/info", deadline)
            if said.status != 200:
                raise ConfigError(f"{self._name}: has no account/info; check api_url")
            account = read(_Account, said.result, self._name)
            return redacted(f"{plain(account.login) or 'the account'}: {_left(account.storage_left)}")

    def upload(self, path: Path, asset: Asset, transfer: Transfer) -> Receipt:
        with self._discreet():
            server = self._server(transfer.deadline)
            body, kind = multipart(self._fields(asset), "file", asset.marked_name, path)
            answer = self.ground.http.send(
                "POST",
                server,
                body,
                transfer.deadline,
                headers={"Content-Type": kind},
                accept=_NO_NODE,
                progress=transfer.progress,
            )
            return self._receipt(self._confirmed(answer))

    def find(self, asset: Asset, transfer: Transfer) -> Receipt | None:
        with self._discreet():
            found = [file for file in self._listed(asset, transfer.deadline) if file.is_of(asset)]
            oldest = min(found, key=lambda file: (file.uploaded or "~", file.code), default=None)
            return self._receipt(oldest.code) if oldest else None

    def check(self, asset: Asset, remote_id: str, deadline: Deadline) -> Standing:
        with self._discreet():
            info = self._info(remote_id, deadline)
            if info.status in _MISSING:
                return self._unseen(asset, remote_id, deadline)
            if info.status != 200:
                return Standing(State.FAILED, f"{self._name} has it as {info.status}")
            if info.canplay.lower() not in {"", "1", "true"}:
                return Standing(State.PROCESSING)
            if not _agrees(info.length, asset.duration_s):
                return Standing(State.FAILED, f"lasts {_seconds(info.length):g} s at {self._name}, here {asset.duration_s:g} s")
            return Standing(State.READY)

    def delete(self, remote_id: str, deadline: Deadline) -> None:
        with self._discreet():
            said = self._ask("file/delete", deadline, file_code=remote_id)
            is_gone = said.status == 404 and self._info(remote_id, deadline).status == 404
            if said.status != 200 and not is_gone:
                raise ConfigError(f"{remote_id}: {self._name} has no call that deletes; delete it on its website")

    def fetch(self, asset: Asset, remote_id: str, target: Path, deadline: Deadline) -> None:  # noqa: ARG002 -- others do
        raise ConfigError(f"{remote_id}: {self._name} gives no file back, only what it made of it; name another host")

    def sweep_folders(self) -> tuple[Path, ...]:
        return ()

    @property
    def _name(self) -> str:
        return urlsplit(self.api_url).hostname or self.api_url

    def _discreet(self) -> AbstractContextManager[Redactor]:
        return discreet(self.ground.secret(self.key_env))

    def _ask(self, call: str, deadline: Deadline, **params: str) -> _Said:
        """Answers of status 200, of 404, and of 405 for a call that is not there; any other raises."""
        answer = self.ground.http.call(
            "GET",
            f"{self.api_url}/{call}",
            deadline,
            params={"key": self.ground.secret(self.key_env), **params},
            accept=_ASKED,
        )
        if answer.status in _ASKED - {400}:
            return _Said(status=_NO_CALL)
        is_told = answer.status == 200
        said = read(_Said, answer.json(), self._name) if is_told else _Said(status=answer.status, msg=answer.words())
        if said.status in {200, 404}:
            return said
        if _UNKNOWN_CALL.search(said.msg):
            return _Said(status=_NO_CALL)
        raise self._trouble(said.status, said.msg, Transient)

    def _trouble(self, status: int, told: str, otherwise: type[DailiesError]) -> DailiesError:
        said = f"{self._name}: status {status}: {words(told)}"
        if status in {401, 403} or _DENIED.search(told):
            return Denied(f"{said}; check the account and its key")
        if status == 429 or _LIMITED.search(told):
            return RateLimited(f"{said}; it is tried again when the host allows", 3600.0 if _BY_DAY.search(told) else 60.0)
        if status == 451 or otherwise is HostRefused:
            return HostRefused(f"{said}; the host will not take this")
        return otherwise(f"{said}; it is tried again later")

    def _server(self, deadline: Deadline) -> str:
        return upload_address(self._ask("upload/server", deadline).result, self.api_url, self._name)

    def _fields(self, asset: Asset) -> dict[str, str]:
        details = asset.details
        fields = {
            "key": self.ground.secret(self.key_env),
            "file_title": _title(asset),
            "file_descr": "\n".join(plain(line) for line in details.description.splitlines()),
            "file_public": str(int(self.public)),
            "file_adult": str(int(self.adult)),
        }
        if self.folder:
            fields["fld_id"] = str(self.folder)
        if self.category:
            fields["cat_id"] = str(self.category)
        if self.tags and details.tags:
            fields["tags"] = ", ".join(" ".join(plain(tag).replace(",", " ").split()) for tag in details.tags)
        return fields

    def _confirmed(self, answer: Answer) -> str:
        """The code of a file that the host has taken; HTTP 200 alone says nothing."""
        if answer.status in _NO_NODE:
            raise Transient(
                f"{answer.host}: HTTP {answer.status}: the server that was named takes no uploads; it is tried again later"
            )
        said = read(_Said, answer.json(), self._name, OutcomeUnknown)
        if said.status != 200:
            raise self._trouble(said.status, said.msg, OutcomeUnknown if said.status >= 500 else HostRefused)
        first = said.files[0] if isinstance(said.files, list) and said.files else None
        sent = read(_Sent, first, self._name, OutcomeUnknown)
        if sent.status and sent.status != "OK":
            raise self._trouble(said.status, sent.status, HostRefused)
        if not sent.status or not re.fullmatch(_CODE, sent.code):
            raise OutcomeUnknown(f"{self._name}: confirmed nothing, though it has everything; it is asked before it is sent again")
        return sent.code

    def _listed(self, asset: Asset, deadline: Deadline) -> Iterator[_Listed]:
        """What a search for the token finds, all pages; then the newest, since an install may search by whole titles only."""
        seen = set[str]()
        for number in range(1, _PAGES + 1):
            page = self._page(number, deadline, title=asset.token)
            fresh = [file for file in page.files if file.code not in seen]
            seen |= {file.code for file in fresh}
            yield from fresh
            is_last = number >= (page.pages or math.inf) and len(seen) >= (page.results_total or 0)
            if not fresh or is_last:
                break
        else:
            raise HostSilent(
                f"{asset.name}: {self._name} lists more than {_PAGES * _PER_PAGE} files for {asset.token}; look there yourself"
            )
        yield from (file for file in self._page(1, deadline).files if file.code not in seen)

    def _page(self, number: int, deadline: Deadline, **params: str) -> _Page:
        """Raises HostSilent where the install has no listing."""
        if self.folder:
            params["fld_id"] = str(self.folder)
        said = self._ask("file/list", deadline, per_page=str(_PER_PAGE), page=str(number), **params)
        if said.status != 200:
            raise HostSilent(
                f"{self._name}: has no file/list, so nobody but you can see whether it has this file; look there, and upload it"
                " with --force if it is not there"
            )
        return read(_Page, said.result, self._name)

    def _info(self, remote_id: str, deadline: Deadline) -> _Info:
        said = self._ask("file/info", deadline, file_code=remote_id)
        if said.status != 200:
            return _Info(status=said.status)
        first = said.result[0] if isinstance(said.result, list) and said.result else said.result
        return read(_Info, first, self._name)

    def _unseen(self, asset: Asset, remote_id: str, deadline: Deadline) -> Standing:
        """file/info says 404 of a file that is gone and of one that is worked on; the listing has only the latter."""
        try:
            is_listed = any(file.code == remote_id for file in self._listed(asset, deadline))
        except HostSilent:
            return Standing(State.PROCESSING, f"{self._name} says nothing of it, which may be so while it is worked on")
        return Standing(State.PROCESSING if is_listed else State.MISSING)

    def _receipt(self, code: str) -> Receipt:
        return Receipt(code, watch_url=f"{self.player_url}/{code}", embed_url=f"{self.player_url}/e/{code}", is_settled=False)


def _number(asset: Asset) -> str:
    """What ends a video's id: two videos may have the same bytes."""
    return asset.video_id.rpartition("-")[2].lower()


def _title(asset: Asset) -> str:
    """`Sintel trailer [7f3a91c2d0e4 a1b2c3d4e5]`; the script makes blanks of dots and underscores, some installs the reverse."""
    mark = f"[{_number(asset)} {asset.token}{' preview' if asset.kind is Kind.PREVIEW else ''}]"
    title = " ".join(plain(asset.details.title).split()) or asset.video_id
    short = title.encode()[:_TITLE_BYTES].decode("utf-8", "ignore").rstrip()
    return f"{short}{'' if short == title else '…'} {mark}"


def _seconds(length: str) -> float | None:
    """`52`, `52.2`, `0:52`, `00:00:52`; None for 0, which is said while it is not known."""
    parts = length.split(":")
    if not all(re.fullmatch(r"\d{1,9}(\.\d+)?", part) for part in parts):
        return None
    return sum(float(part) * 60.0**place for place, part in enumerate(reversed(parts))) or None


def _agrees(length: str, wanted: float | None) -> bool:
    """Within 2 s or 2 %; hosts round."""
    told = _seconds(length)
    return told is None or not wanted or abs(told - wanted) <= max(2.0, 0.02 * wanted)


def _left(storage: str) -> str:
    """`inf`, negative numbers and nothing at all are told by accounts without a limit, and by forks that do not count."""
    try:
        left = float(storage)
    except ValueError:
        left = math.nan
    return f"{left / 1e9:.1f} GB left" if math.isfinite(left) and left >= 0 else "no limit of storage told"
