"""archive.org: one PUT a file, taken in by the host later (docs/hosts/internet_archive.md)."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, field_validator

from dailies.answer import Answer, fault
from dailies.body import Body
from dailies.clock import Deadline
from dailies.copying import CHUNK_BYTES
from dailies.errors import Category, ConfigError, DailiesError, Denied, HostRefused, OutcomeUnknown, RateLimited, Transient
from dailies.hosts.archive_item import metadata_headers, safe_identifier
from dailies.hosts.host import Asset, Capabilities, Ground, Receipt, Standing, State, Transfer
from dailies.http import Http
from dailies.model import Kind

MARKER: Final = "dailies-sha256"  # of a file's own metadata: tells this upload from an older one of the same name
MAX_BYTES: Final = 1 << 40  # of an item
_HINT_BYTES: Final = 10_000_000_000  # from here on the host wants to know the size beforehand
_WAIT_S: Final = 60.0  # where it is overloaded and names no time; as much again is drawn
_EXPLAINED: Final = frozenset({400, 401, 403, 404, 409, 503})  # whose body says more than their number
_FIXED: Final = frozenset({"collection", "mediatype", "identifier"})
_LITERAL: Final = re.compile(r"[A-Za-z0-9._-]*")
_METADATA_KEY: Final = re.compile(r"[a-z][a-z0-9_-]*")
_KEY: Final = re.compile(r"[!-~]+")
_SAID: Final = re.compile(r"<(Code|Message)>(.*?)</\1>", re.DOTALL)


@dataclass(frozen=True)
class _Entry:
    """A file that the host has taken in."""

    size_bytes: int | None
    marker: str | None

    def is_of(self, asset: Asset) -> bool:
        return self.marker == asset.sha256


@dataclass(frozen=True)
class _Item:
    files: Mapping[str, _Entry]
    is_dark: bool


class InternetArchive(BaseModel):
    """An item on archive.org for each video; its preview and pictures are files of the same item."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    ground: Ground = Field(exclude=True, repr=False)
    identifier: str = Field("{id}", description="name of a video's item, unique on all of archive.org; takes `{id}` and `{kind}`")
    access_key_env: str = Field("IA_ACCESS_KEY_ID", description="environment variable with the access key")
    secret_key_env: str = Field("IA_SECRET_ACCESS_KEY", description="environment variable with the secret key")
    collection: str = Field("opensource_movies", description="of new items; those in `test_collection` go after about 30 days")
    mediatype: str = Field("movies", description="of new items")
    licence_url: str = Field("", description="licence of new items, as `https://creativecommons.org/licenses/by/4.0/`")
    metadata: Mapping[str, str | tuple[str, ...]] = Field(
        {}, description="more metadata of new items, as `creator` or `language`; goes before what the record says"
    )
    derive: bool = Field(True, description="lets archive.org make its own versions and thumbnails of a video (never of previews)")
    s3_url: str = Field("https://s3.us.archive.org", description="address that files are sent to")
    front_url: str = Field("https://archive.org", description="address that items are read from")

    @field_validator("identifier")
    @classmethod
    def _is_template(cls, text: str) -> str:
        literal = text.replace("{id}", "").replace("{kind}", "")
        if "{id}" not in text or not _LITERAL.fullmatch(literal) or text[0] in "._-":
            raise ValueError(f"{text!r}: needs {{id}}, beside it letters, digits, . _ - (not first) and {{kind}}")
        return text

    @field_validator("metadata")
    @classmethod
    def _has_names(cls, metadata: Mapping[str, str | tuple[str, ...]]) -> Mapping[str, str | tuple[str, ...]]:
        for key in metadata:
            if not _METADATA_KEY.fullmatch(key) or key in _FIXED:
                hint = "it has a setting of its own" if key in _FIXED else "names are of a-z, 0-9, _ and -, a letter first"
                raise ValueError(f"{key!r}: {hint}")
        return metadata

    @field_validator("s3_url", "front_url")
    @classmethod
    def _ends_without_slash(cls, url: str) -> str:
        return url.rstrip("/")

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(overwrites=True, max_bytes=MAX_BYTES, verifies_hash=True, gives_back=True)

    def preflight(self, deadline: Deadline) -> str:
        self._prove_keys(deadline)
        return f"{self.front_url}: takes the keys in {self.access_key_env} and {self.secret_key_env}"

    def upload(self, path: Path, asset: Asset, transfer: Transfer) -> Receipt:
        """`is_settled` is False: 200 means staged, taken in seconds to hours later."""
        identifier, deadline = self._identifier(asset), transfer.deadline
        if asset.size_bytes == 0:
            raise HostRefused(f"{asset.name}: is empty, which archive.org does not take; make it again")
        self._check_limit(identifier, deadline)
        try:
            headers = self._headers(asset, asset.md5 or _md5(path, asset, deadline))
            body = Body(path)
        except OSError as error:
            raise Transient(f"{path.name}: cannot be read: {error.strerror}; look at the disk", Category.UNREADABLE) from error
        answer = self._http.send(
            "PUT",
            self._file_url(identifier, asset.name),
            body,
            deadline,
            headers=headers,
            accept=_EXPLAINED,
            progress=transfer.progress,
        )
        if answer.status in _EXPLAINED:
            raise self._trouble(answer, identifier, deadline)
        if answer.content.strip():  # a success has no words: this is somebody else's page
            raise OutcomeUnknown(
                f"{answer.host}: HTTP {answer.status}: {answer.words()}; the item is looked at before anything else"
            )
        return self._receipt(identifier, asset, is_settled=False)

    def find(self, asset: Asset, transfer: Transfer) -> Receipt | None:
        """None also while it is staged: sending it again only replaces it."""
        identifier = self._identifier(asset)
        item = self._item(identifier, transfer.deadline)
        if item.is_dark:
            raise HostRefused(f"{identifier}: archive.org has taken this item out of view; write to info@archive.org")
        entry = item.files.get(asset.name)
        is_there = entry is not None and entry.is_of(asset) and entry.size_bytes == asset.size_bytes
        return self._receipt(identifier, asset, is_settled=True) if is_there else None

    def check(self, asset: Asset, remote_id: str, deadline: Deadline) -> Standing:
        """Never MISSING: what is absent may be staged still, and nothing that archive.org says tells one from the other."""
        identifier, key = _split(remote_id)
        item = self._item(identifier, deadline)
        entry = item.files.get(key)
        if item.is_dark:
            return Standing(State.FAILED, f"{identifier}: archive.org has taken this item out of view; write to info@archive.org")
        if entry is None or entry.size_bytes is None:
            return Standing(State.PROCESSING, f"{identifier}: archive.org has not taken {key} in yet")
        if not entry.is_of(asset):
            return Standing(State.PROCESSING, f"{identifier}: archive.org still has another version of {key}")
        if entry.size_bytes != asset.size_bytes:
            reason = f"{remote_id}: archive.org has {entry.size_bytes} bytes of the {asset.size_bytes} sent; upload it again"
            return Standing(State.FAILED, reason)
        return Standing(State.READY)

    def delete(self, remote_id: str, deadline: Deadline) -> None:
        """With what archive.org made of it. Also this is done by the host later; the item itself stays, empty."""
        identifier, key = _split(remote_id)
        headers = {"Authorization": self._authorization(), "x-archive-cascade-delete": "1", "x-archive-keep-old-version": "0"}
        answer = self._http.call("DELETE", self._file_url(identifier, key), deadline, headers=headers, accept=_EXPLAINED)
        if answer.status in _EXPLAINED and answer.status != 404:
            raise self._trouble(answer, identifier, deadline)

    def fetch(self, asset: Asset, remote_id: str, target: Path, deadline: Deadline) -> None:
        url = self._download_url(*_split(remote_id))
        try:
            self._http.download(url, target, deadline, size_bytes=asset.size_bytes)
        except HostRefused as error:
            raise Transient(f"{remote_id}: archive.org does not give it (yet): {error}; see {url}") from error

    def sweep_folders(self) -> tuple[Path, ...]:
        return ()

    @cached_property
    def _http(self) -> Http:
        """Redirects from one of archive.org's machines to another are common; these may see the keys."""
        return replace(self.ground.http, trusts=_is_of_the_archive)

    def _authorization(self) -> str:
        return f"LOW {self._key(self.access_key_env)}:{self._key(self.secret_key_env)}"

    def _key(self, variable: str) -> str:
        key = self.ground.secret(variable).strip()
        if not _KEY.fullmatch(key):
            raise Denied(f"{variable}: has characters that no key has; copy it again from archive.org/account/s3.php")
        return key

    def _identifier(self, asset: Asset) -> str:
        return safe_identifier(self.identifier.replace("{id}", asset.video_id).replace("{kind}", asset.kind))

    def _file_url(self, identifier: str, key: str) -> str:
        return f"{self.s3_url}/{quote(identifier)}/{quote(key)}"

    def _download_url(self, identifier: str, key: str) -> str:
        return f"{self.front_url}/download/{quote(identifier)}/{quote(key)}"

    def _receipt(self, identifier: str, asset: Asset, *, is_settled: bool) -> Receipt:
        return Receipt(
            remote_id=f"{identifier}/{asset.name}",
            watch_url=f"{self.front_url}/details/{identifier}",
            embed_url=f"{self.front_url}/embed/{identifier}" if asset.kind is Kind.VIDEO else None,
            direct_url=self._download_url(identifier, asset.name),
            is_settled=is_settled,
        )

    def _headers(self, asset: Asset, md5: str) -> dict[str, str]:
        is_derived = self.derive and asset.kind is Kind.VIDEO
        headers = {
            "Authorization": self._authorization(),
            "Content-MD5": md5,  # in hex, other than at Amazon
            "x-archive-auto-make-bucket": "1",
            "x-archive-queue-derive": "1" if is_derived else "0",
            "x-archive-keep-old-version": "0",
            f"x-archive-filemeta00-{MARKER}": asset.sha256,
        }
        if asset.size_bytes >= _HINT_BYTES:
            headers["x-archive-size-hint"] = str(asset.size_bytes)
        fixed = {"collection": self.collection, "mediatype": self.mediatype, "licenseurl": self.licence_url}
        return headers | metadata_headers(asset, {**fixed, **self.metadata})

    def _prove_keys(self, deadline: Deadline) -> None:
        """Raises Denied. Whose they are is told to nobody: messages are public, and that may be an e-mail address."""
        headers = {"Authorization": self._authorization()}
        said = self._http.call("GET", f"{self.s3_url}/", deadline, params={"check_auth": "1"}, headers=headers).json()
        if isinstance(said, dict) and said.get("authorized") is True:
            return
        if isinstance(said, dict) and (said.get("error") or said.get("authorized") is False):
            raise Denied(f"archive.org: does not take the keys in {self.access_key_env} and {self.secret_key_env}; make new ones")
        raise Transient(f"{self.s3_url}: the answer about the keys cannot be understood; it is tried again later")

    def _check_limit(self, identifier: str, deadline: Deadline) -> None:
        """Raises RateLimited for whatever is no clear yes: an overloaded archive.org answers with pages of all kinds."""
        params = {"check_limit": "1", "accesskey": self._key(self.access_key_env), "bucket": identifier}
        answer = self._http.call("GET", f"{self.s3_url}/", deadline, params=params, accept=range(400, 600))
        if 400 <= answer.status < 500 and answer.status != 429:
            raise self._trouble(answer, identifier, deadline)
        try:
            said = answer.json()
        except Transient:
            said = None
        if answer.status >= 300 or not isinstance(said, dict) or str(said.get("over_limit")) != "0":
            raise RateLimited(
                f"{answer.host}: takes no uploads just now; it is tried again when there is room", self._wait_s(answer)
            )

    def _wait_s(self, answer: Answer) -> float:
        said = answer.retry_after_s(self._http.clock)
        return _WAIT_S + self._http.draw(_WAIT_S) if said is None else said

    def _item(self, identifier: str, deadline: Deadline) -> _Item:
        """Empty for one that is not there. Raises Transient for a wrong shape."""
        said = self._http.call("GET", f"{self.front_url}/metadata/{quote(identifier)}", deadline).json()
        files = said.get("files", []) if isinstance(said, dict) else None
        if files is None or not isinstance(files, list) or ("error" in said and not said.get("is_dark")):
            raise Transient(f"{identifier}: archive.org's answer about it cannot be understood; it is tried again later")
        entries = {one["name"]: _entry(one) for one in files if isinstance(one, dict) and isinstance(one.get("name"), str)}
        return _Item(entries, is_dark=bool(said.get("is_dark")))

    def _trouble(self, answer: Answer, identifier: str, deadline: Deadline) -> DailiesError:
        """What a refusal means. Raises Denied where the keys are to blame."""
        told = dict(_SAID.findall(answer.content.decode("utf-8", "replace")))
        code, message = told.get("Code"), ": ".join(told.values())
        answer = replace(answer, content=message.encode() or answer.content)
        words = answer.words()
        said = f"{identifier}: {answer.host}: HTTP {answer.status}: {words}"
        if answer.status == 503 and "appears to be spam" in words:
            return HostRefused(f"{said}; write to info@archive.org")
        if answer.status == 503 and code == "SlowDown":
            return RateLimited(f"{said}; it is tried again when there is room", self._wait_s(answer))
        if code in {"BadDigest", "NoSuchBucket"}:  # damaged on the way, or sent before the new item was there
            return Transient(f"{said}; it is tried again later")
        if answer.status == 403 or code == "BucketAlreadyExists":
            self._prove_keys(deadline)
            return HostRefused(f"{said}; your keys are good but not for this item: set another identifier or collection")
        return fault(answer, self._http.clock)


def _md5(path: Path, asset: Asset, deadline: Deadline) -> str:
    """In hex, in one pass that also sees whether these are the bytes that were promised. Raises Transient and OSError."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            deadline.check()
            md5.update(chunk)
            sha256.update(chunk)
    if sha256.hexdigest() != asset.sha256:
        raise Transient(f"{path.name}: differs from what was checked before; it is made again", Category.CHANGED)
    return md5.hexdigest()


def _entry(said: Mapping[str, Any]) -> _Entry:
    size, marker = str(said.get("size", "")), said.get(MARKER)
    return _Entry(int(size) if size.isascii() and size.isdigit() else None, marker if isinstance(marker, str) else None)


def _split(remote_id: str) -> tuple[str, str]:
    identifier, slash, key = remote_id.partition("/")
    if not slash or not identifier or not key:
        raise ConfigError(f"{remote_id!r}: names no file on archive.org; it should be like identifier/file.mp4")
    return identifier, key


def _is_of_the_archive(host: str) -> bool:
    return host == "archive.org" or host.endswith(".archive.org")
