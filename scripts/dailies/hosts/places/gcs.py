"""Google Cloud Storage: a resumable upload, whose last part only leaves once the hash is right."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dailies.clock import Deadline
from dailies.errors import ConfigError, DailiesError, Denied, Transient
from dailies.hosts.host import Asset, Ground, Transfer
from dailies.hosts.places.address import Address
from dailies.hosts.places.coroutines import BLOCK_BYTES, OPTIONS, Caller, Sent, content_type, known_hash, quiet
from dailies.hosts.places.place import Blocks, Found, Stored, answered, library, silent, tidying


@dataclass(frozen=True)
class Gcs:
    """A bucket, or what is below a prefix of it."""

    address: Address
    ground: Ground = field(repr=False)
    endpoint: str
    token_env: str

    def probe(self, deadline: Deadline) -> None:
        """An upload that is begun and given up."""
        self._give_up(self._begin(".dailies-check", {}, deadline), deadline)

    def put(self, key: str, path: Path, asset: Asset, transfer: Transfer) -> None:
        """JSON API, "Resumable uploads": a session takes parts; it becomes an object with the last byte."""
        blocks = Blocks(path, asset, transfer, self.ground.http.throttle, BLOCK_BYTES)
        deadline, sent, is_whole = transfer.deadline, 0, False
        session = self._begin(key, {"metadata": {"sha256": asset.sha256}, "contentType": content_type(key)}, deadline)
        try:
            for block in blocks:
                end = sent + len(block)
                place = f"bytes {sent}-{end - 1}/{asset.size_bytes}" if block else "bytes */0"
                headers, content = self._call(deadline, "PUT", session, headers={"Content-Range": place}, data=Sent(block))
                if end == asset.size_bytes:
                    self._check_whole(content, asset)
                elif headers.get("Range") != f"bytes=0-{end - 1}":
                    raise Transient(
                        f"{self.address.where}: has kept {headers.get('Range')} of {end} bytes; it is tried again later"
                    )
                sent = end
            is_whole = True
        finally:
            if not is_whole:
                with tidying(transfer.deadline) as short:
                    self._give_up(session, short)

    def look(self, key: str, deadline: Deadline) -> Found | None:
        try:
            about = self._caller.call("call", deadline, "GET", "b/{}/o/{}", *self._names(key), json_out=True)
        except FileNotFoundError:
            return None
        size = str(about.get("size", "")) if isinstance(about, dict) else ""
        if not size.isdigit():
            raise Transient(f"{self.address.where}: an answer without a size; it is tried again later")
        return Found(int(size), known_hash(about.get("metadata")))

    def browse(self, pattern: str, deadline: Deadline) -> list[Stored]:
        try:
            return self._caller.browse(self.address, pattern, deadline)
        except FileNotFoundError:
            return []

    def read(self, key: str, size_bytes: int, deadline: Deadline, start: int = 0) -> Iterator[bytes]:
        try:
            yield from self._caller.read("/".join(self._names(key)), size_bytes, deadline, start)
        except FileNotFoundError:
            raise answered(self.address.where, 404, self.ground.http.clock, said=key) from None

    def remove(self, key: str, deadline: Deadline) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._caller.call("call", deadline, "DELETE", "b/{}/o/{}", *self._names(key))

    def _names(self, key: str) -> tuple[str, str]:
        return self.address.host, self.address.path(key)

    def _begin(self, key: str, about: dict[str, Any], deadline: Deadline) -> str:
        bucket, name = self._names(key)
        base = self._caller.system.base.replace("/storage/v1/", f"/upload/storage/v1/b/{quote(bucket)}/o")
        headers, _ = self._call(deadline, "POST", base, uploadType="resumable", json={"name": name, **about})
        session = headers.get("Location")
        if not session:
            raise Transient(f"{self.address.where}: an answer without a session; it is tried again later")
        return str(session)

    def _give_up(self, session: str, deadline: Deadline) -> None:
        self._call(deadline, "DELETE", session)  # answers 499, which is what it should

    def _check_whole(self, content: bytes, asset: Asset) -> None:
        try:
            size = int(json.loads(content)["size"])
        except (ValueError, KeyError, TypeError):
            size = -1
        if size != asset.size_bytes:
            raise Transient(f"{self.address.where}: has not confirmed all of {asset.name}; it is tried again later")

    def _call(self, deadline: Deadline, *arguments: Any, **options: Any) -> Any:
        try:
            return self._caller.call("call", deadline, *arguments, **options)
        except FileNotFoundError:
            raise answered(self.address.where, 404, self.ground.http.clock) from None

    @cached_property
    def _caller(self) -> Caller:
        core = library("gcsfs.core", "gcs")
        quiet("gcsfs")
        options = {"endpoint_url": self.endpoint} if self.endpoint else {}
        try:
            system = core.GCSFileSystem(token=self._token(), access="read_write", **options, **OPTIONS)
        except (ValueError, OSError, library("google.auth.exceptions", "gcs").GoogleAuthError) as error:
            named = self.token_env or "google's default credentials"
            raise Denied(f"{self.address.where}: {named}: not usable: {type(error).__name__}; see docs/hosts/storage.md") from None
        return Caller(system, self._classed)

    def _token(self) -> Any:
        """What google's library takes: the content of a service account's JSON, a path to it, or its own default."""
        if not self.token_env:
            return "google_default"
        secret = self.ground.secret(self.token_env).strip()
        try:
            account = json.loads(secret if secret.startswith("{") else (self.ground.root / secret).read_text("utf-8"))
        except (OSError, ValueError):
            raise ConfigError(f"{self.token_env}: no JSON of a service account, and no path to one; set it to either") from None
        if not isinstance(account, dict) or "client_email" not in account:
            raise ConfigError(f"{self.token_env}: the JSON is not of a service account; make a key for one")
        return account

    def _classed(self, error: BaseException) -> DailiesError | None:
        where, clock, code = self.address.where, self.ground.http.clock, getattr(error, "code", None)
        if code is not None and str(code).isdigit():
            return answered(where, int(code), clock)
        if isinstance(error, OSError) and str(error).startswith("Forbidden"):
            return answered(where, 403, clock)
        if isinstance(error, ValueError) and str(error).startswith("Bad Request"):
            return answered(where, 400, clock)
        if isinstance(error, library("google.auth.exceptions", "gcs").GoogleAuthError):
            return Denied(f"{where}: {type(error).__name__}; check the account and its key")
        errors = (OSError, ValueError, library("aiohttp", "gcs").ClientError)
        return silent(where, error) if isinstance(error, errors) else None
