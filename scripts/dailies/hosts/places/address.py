"""Addresses of storage: `s3://bucket/prefix`, `sftp://user@host:22/path` …, and templates of keys."""

import re
import string
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

from dailies.request import is_loopback

SCHEMES: Final = ("s3", "gs", "az", "webdavs", "webdav", "sftp")
KEY_FIELDS: Final = ("id", "name", "kind", "sha256", "suffix")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True)
class Address:
    """`host` is the bucket or container of object storage; `folder` has no slash at its ends, but sftp's begins with one."""

    scheme: str
    host: str
    folder: str
    user: str = ""
    port: int | None = None

    @property
    def where(self) -> str:
        """For people and receipts: without the account's name."""
        port = f":{self.port}" if self.port else ""
        scheme = {"webdavs": "https", "webdav": "http"}.get(self.scheme, self.scheme)
        return f"{scheme}://{self.host}{port}/{quote(self.folder.lstrip('/'))}".rstrip("/")

    def path(self, key: str) -> str:
        return f"{self.folder}/{key}" if self.folder else key


def parse(path: str) -> Address | None:
    """None for a folder of this machine. Raises ValueError, which shows nothing of what stands before an `@`."""
    found = _SCHEME.match(path)
    if found is None:
        return None
    scheme = found[1].lower()
    if scheme not in SCHEMES:
        raise ValueError(f"{scheme}:// is not known; known: a folder, {', '.join(f'{one}://' for one in SCHEMES)}")
    parts = _split(path, scheme)
    host, port = parts.hostname or "", parts.port
    if not host or not parts.netloc.isascii():
        raise ValueError(f"{scheme}:// names no {_what(scheme)}; write it like {scheme}://{_what(scheme)}/folder")
    if parts.query or parts.fragment:
        raise ValueError("holds a ? or #; leave out what is behind it")
    if scheme in {"s3", "gs", "az"}:
        if port is not None:
            raise ValueError("has a port; an address of a server of your own is the setting endpoint")
        host = parts.netloc  # names of buckets keep their case
    if scheme == "webdav" and not is_loopback(path):
        raise ValueError("webdav:// is spoken to this very machine only; write webdavs://")
    folder = check_key(unquote(parts.path).strip("/"), may_be_empty=True)
    return Address(scheme, host, f"/{folder}".rstrip("/") if scheme == "sftp" else folder, parts.username or "", port)


def _split(path: str, scheme: str) -> SplitResult:
    try:
        parts = urlsplit(path)
        _ = parts.port
    except ValueError:
        raise ValueError(f"is no address; write it like {scheme}://{_what(scheme)}/folder") from None
    if parts.password is not None or (parts.username is not None and scheme != "sftp"):
        named = "access_key_env and secret_key_env" if scheme == "s3" else "user_env and password_env"
        named = {"gs": "token_env", "az": "connection_string_env"}.get(scheme, named)
        raise ValueError(f"holds credentials; take them out and name the variables that hold them in {named}")
    return parts


def _what(scheme: str) -> str:
    return {"s3": "bucket", "gs": "bucket", "az": "container"}.get(scheme, "host")


def check_key(key: str, *, may_be_empty: bool = False) -> str:
    """Raises ValueError for what would lead elsewhere."""
    if not key and may_be_empty:
        return key
    parts = key.split("/")
    if any(part in {"", ".", ".."} for part in parts) or "\\" in key or not key.isprintable():
        raise ValueError(f"{key!r} is no plain path; it must be relative, without empty parts, `.`, `..` and backslashes")
    return key


def check_template(template: str) -> str:
    """Of keys. Raises ValueError."""
    try:
        fields = [
            (name, spec or conversion) for _, name, spec, conversion in string.Formatter().parse(template) if name is not None
        ]
    except ValueError:
        raise ValueError(f"{template!r} has a brace without its other; fields are written like {{name}}") from None
    for name, more in fields:
        if name not in KEY_FIELDS or more:
            raise ValueError(f"{{{name}}} is not known; known: {', '.join(f'{{{one}}}' for one in KEY_FIELDS)}")
    names = {name for name, _ in fields}
    if "name" not in names and not {"id", "suffix"} <= names:
        raise ValueError("must hold {name}, or {id} and {suffix}: else files would take each other's place")
    check_key(template.format(**dict.fromkeys(KEY_FIELDS, "x")))
    return template
