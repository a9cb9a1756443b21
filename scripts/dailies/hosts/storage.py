"""The host `storage`: a folder, or S3, Google Cloud Storage, Azure, WebDAV and SFTP through fsspec (docs/hosts/storage.md)."""

import hashlib
import os
from collections.abc import Mapping
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dailies.clock import Deadline
from dailies.config import explain, nearest
from dailies.disk import written
from dailies.errors import ConfigError, Transient
from dailies.hosts.host import Asset, Capabilities, Ground, Receipt, Standing, State, Transfer
from dailies.hosts.places import address as addresses
from dailies.hosts.places.address import Address
from dailies.hosts.places.disk import Disk
from dailies.hosts.places.place import Distant, Found, Place
from dailies.request import is_loopback

# Which settings mean something to which address
_OWN: Final = {
    "endpoint": ("s3", "gs"),
    "region": ("s3",),
    "access_key_env": ("s3",),
    "secret_key_env": ("s3",),
    "checksum": ("s3",),
    "token_env": ("gs",),
    "connection_string_env": ("az",),
    "user_env": ("webdav", "webdavs", "sftp"),
    "password_env": ("webdav", "webdavs", "sftp"),
    "key_file": ("sftp",),
    "known_hosts": ("sftp",),
}


class Storage(BaseModel):
    """A folder or storage of your own; overwritten in place, so the same upload twice is one file."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    ground: Ground = Field(exclude=True, repr=False)
    path: str = Field(
        description="a folder, relative to the library's root, or an address: `s3://bucket/folder`, `gs://bucket/folder`, "
        "`az://container/folder`, `webdavs://server/folder`, `sftp://user@server:22/folder`"
    )
    public_url: str = Field(
        "", description="address under which it is served, like `https://cdn.example/{key}`; makes the links in the database"
    )
    key: str = Field("{name}", description="name of a file there, from `{id}`, `{name}`, `{kind}`, `{sha256}`, `{suffix}`")
    endpoint: str = Field("", description="S3, GCS: address of a service that speaks like it; empty = Amazon's, Google's")
    region: str = Field("", description="S3: region of the bucket; empty = as this machine is set up")
    access_key_env: str = Field("", description="S3: variable that holds the access key; empty = this machine's own credentials")
    secret_key_env: str = Field("", description="S3: variable that holds the secret key")
    checksum: Literal["when_supported", "when_required"] = Field(
        "when_supported", description="S3: `when_required` for services that refuse the CRC32 of newer clients"
    )
    token_env: str = Field(
        "", description="GCS: variable that holds a service account's JSON, or the path to it; empty = Google's default credentials"
    )
    connection_string_env: str = Field("", description="Azure: variable that holds the connection string")
    user_env: str = Field("", description="WebDAV, SFTP: variable that holds the account's name")
    password_env: str = Field("", description="WebDAV, SFTP: variable that holds its password, or that of `key_file`")
    key_file: str = Field("", description="SFTP: file with the private key; empty = password, agent or `~/.ssh`")
    known_hosts: str = Field("~/.ssh/known_hosts", description="SFTP: file with the keys of servers that may be spoken to")

    @field_validator("path")
    @classmethod
    def _is_a_place(cls, path: str) -> str:
        addresses.parse(path)
        return path

    @field_validator("key")
    @classmethod
    def _is_a_template(cls, template: str) -> str:
        return addresses.check_template(template)

    @field_validator("endpoint")
    @classmethod
    def _is_safe(cls, endpoint: str) -> str:
        parts = urlsplit(endpoint)
        if endpoint and (parts.username or not parts.hostname or not (parts.scheme == "https" or is_loopback(endpoint))):
            raise ValueError("only https is spoken, but to this very machine; write https://server without an account")
        return endpoint

    @field_validator("public_url")
    @classmethod
    def _has_a_key(cls, template: str) -> str:
        return template if not template or "{key}" in template else f"{template.rstrip('/')}/{{key}}"

    @model_validator(mode="after")
    def _all_mean_something(self) -> "Storage":
        scheme = self._address.scheme if self._address else "a folder"
        for name in sorted(self.model_fields_set & set(_OWN)):
            if scheme not in _OWN[name]:
                raise ValueError(f"{name}: means nothing to {scheme}; leave it out")
        return self

    @property
    def capabilities(self) -> Capabilities:
        scheme = self._address.scheme if self._address else ""
        return Capabilities(overwrites=True, verifies_hash=True, gives_back=True, is_local=not scheme, max_bytes=_max_bytes(scheme))

    def upload(self, path: Path, asset: Asset, transfer: Transfer) -> Receipt:
        self._place.put(self._key(asset), path, asset, transfer)
        return self._receipt(self._key(asset))

    def find(self, asset: Asset, transfer: Transfer) -> Receipt | None:
        """Where no hash is kept beside the file, it is read back."""
        key, deadline = self._key(asset), transfer.deadline
        found = self._place.look(key, deadline)
        if found is None or not _may_be(found, asset):
            return None
        if found.sha256 is None and self._hash(key, found, deadline) != asset.sha256:
            return None
        return self._receipt(key)

    def preflight(self, deadline: Deadline) -> str:
        self._place.probe(deadline)
        return f"{self._address.where if self._address else self.ground.root / self.path} can be written"

    def check(self, asset: Asset, remote_id: str, deadline: Deadline) -> Standing:
        """By its size where no hash is kept beside it: `find` is for those who must know."""
        found = self._place.look(_checked(remote_id), deadline)
        return Standing(State.READY if found is not None and _may_be(found, asset) else State.MISSING)

    def delete(self, remote_id: str, deadline: Deadline) -> None:
        self._place.remove(_checked(remote_id), deadline)

    def fetch(self, asset: Asset, remote_id: str, target: Path, deadline: Deadline) -> None:
        place, key = self._place, _checked(remote_id)
        found = place.look(key, deadline)
        if found is None:
            raise Transient(f"{asset.name}: {key} is not there any more; upload it again")
        with written(target), target.open("wb") as file, closing(place.read(key, found.size_bytes, deadline)) as blocks:  # type: ignore[type-var]
            for block in blocks:
                file.write(block)
            file.flush()
            os.fsync(file.fileno())

    def sweep_folders(self) -> tuple[Path, ...]:
        return () if self._address else (self.ground.root / self.path,)

    @cached_property
    def _address(self) -> Address | None:
        return addresses.parse(self.path)

    @cached_property
    def _place(self) -> Place:
        address, ground = self._address, self.ground
        if address is None:
            return Disk(ground.root / self.path)
        return self._remote(address, ground)

    def distant(self) -> Distant:
        """Its place, where that is none of this machine's. Raises ConfigError."""
        if self._address is None:
            raise ConfigError(f"{self.path}: is a folder of this machine; give an address like s3://bucket/folder")
        return self._remote(self._address, self.ground)

    def _remote(self, address: Address, ground: Ground) -> Distant:
        """Only what this address needs is imported."""
        match address.scheme:
            case "s3":
                from dailies.hosts.places import s3

                keys = {"access_key_env": self.access_key_env, "secret_key_env": self.secret_key_env}
                return s3.S3(address, ground, self.endpoint, self.region, **keys, checksum=self.checksum)
            case "gs":
                from dailies.hosts.places.gcs import Gcs

                return Gcs(address, ground, self.endpoint, self.token_env)
            case "az":
                from dailies.hosts.places import azure

                return azure.Azure(address, ground, self.connection_string_env)
            case "webdav" | "webdavs":
                from dailies.hosts.places.webdav import WebDav

                return WebDav(address, ground, self.user_env, self.password_env)
            case "sftp":
                from dailies.hosts.places.sftp import Sftp

                return Sftp(address, ground, self.user_env, self.password_env, self.key_file, self.known_hosts)
        raise AssertionError(address.scheme)

    def _key(self, asset: Asset) -> str:
        fields = {"id": asset.video_id, "name": asset.name, "kind": asset.kind.value, "suffix": asset.suffix}
        return addresses.check_key(self.key.format(**fields, sha256=asset.sha256))

    def _hash(self, key: str, found: Found, deadline: Deadline) -> str:
        digest = hashlib.sha256()
        for block in self._place.read(key, found.size_bytes, deadline):
            digest.update(block)
        return digest.hexdigest()

    def _receipt(self, key: str) -> Receipt:
        """A path outside the library says too much about this machine for a public record: only the key then."""
        url = self.public_url.replace("{key}", quote(key)) if self.public_url else self._link(key)
        return Receipt(remote_id=key, watch_url=url, direct_url=url)

    def _link(self, key: str) -> str:
        if self._address:
            return f"{self._address.where}/{quote(key)}"
        target = self.ground.root / self.path / key
        return target.relative_to(self.ground.root).as_posix() if target.is_relative_to(self.ground.root) else key


def opened(path: str, keys: Mapping[str, object], ground: Ground, where: str) -> Distant:
    """The place behind an address, for who reads what others put there; `keys` let one in. Raises ConfigError."""
    for key in sorted(set(keys) - set(_OWN)):
        raise ConfigError(f"{where}: {key}: unknown key; the nearest known one is {nearest(key, _OWN)}")
    try:
        return Storage.model_validate({"ground": ground, "path": path, **keys}).distant()
    except ValidationError as error:
        raise ConfigError(explain(error, Storage, where)) from error


def _max_bytes(scheme: str) -> int | None:
    """Of one file."""
    match scheme:
        case "s3":
            from dailies.hosts.places.s3 import MAX_BYTES
        case "az":
            from dailies.hosts.places.azure import MAX_BYTES
        case _:
            return None
    return MAX_BYTES


def _may_be(found: Found, asset: Asset) -> bool:
    return found.size_bytes == asset.size_bytes and found.sha256 in {None, asset.sha256}


def _checked(remote_id: str) -> str:
    try:
        return addresses.check_key(remote_id)
    except ValueError as error:
        raise ConfigError(f"storage: {error}") from None
