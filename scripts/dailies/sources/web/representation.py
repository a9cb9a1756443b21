"""What an answer says of the file that it is, or is a part of: its size, its validator, its digests, its name."""

import base64
import binascii
import email.message
import email.utils
import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dailies import atomic
from dailies.arriving import Incoming
from dailies.errors import Category, Transient, VideoError
from dailies.model import readable
from dailies.redact import plain
from dailies.sources.turned import Turned

HEAD_BYTES: Final = 512  # of the beginning, which tells a page or a playlist from a media file
_BOM: Final = b"\xef\xbb\xbf"
_PLAYLIST: Final = b"#EXTM3U"
_STRONG: Final = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')  # RFC 9110, 8.8.3
_SETTLED: Final = timedelta(seconds=60)  # a file that changed just before may change again in the same second (8.8.2.2)
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", re.IGNORECASE)
_DIGEST: Final = re.compile(r"(?:^|,)\s*(sha-256|md5)\s*=\s*(:?)([A-Za-z0-9+/]+={0,2})\2\s*(?=,|;|$)", re.IGNORECASE)
_DIGEST_BYTES: Final = {"sha256": 32, "md5": 16}
_LONGEST_NAME: Final = 200


class Representation(BaseModel):
    """A file on a server as its first answer told of it, kept beside its bytes; `link` is a hash, `token` names its journal."""

    model_config = ConfigDict(frozen=True)

    link: str
    token: str = Field(default_factory=lambda: os.urandom(8).hex())
    size_bytes: int | None = Field(ge=0)  # None: it was not announced, and is known at its end
    validator: str | None = None  # strong: what If-Range is asked with
    serves_ranges: bool = False
    name: str | None = None
    digests: Mapping[str, str] = {}  # announced, in hex
    is_checked: bool = False  # what was promised of the whole is what came

    @property
    def is_resumable(self) -> bool:
        return self.serves_ranges and self.validator is not None and self.size_bytes is not None

    @classmethod
    def load(cls, path: Path, link: str) -> "Representation | None":
        """None where there is none, or it is of another link."""
        try:
            found = cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return None
        return found if found.link == link else None

    def save(self, path: Path) -> None:
        atomic.write(path, self.model_dump_json().encode())

    def is_in(self, headers: Mapping[str, str]) -> bool:
        """Whether an answer is of the same bytes."""
        field = "etag" if (self.validator or "").startswith('"') else "last-modified"
        return headers.get(field, "").strip() == self.validator


def told(incoming: Incoming, link: str, now: datetime) -> Representation:
    """Of an answer to the first request. Raises Transient for one that contradicts itself."""
    headers, part = incoming.headers, content_range(incoming.headers)
    is_part = incoming.status == 206
    if is_part and part is None:
        raise Transient(f"{host_of(incoming)}: sends a part without saying which; it is tried again later")
    return Representation(
        link=link,
        size_bytes=part[2] if is_part and part else length(headers),
        validator=strong_validator(headers, now),
        serves_ranges=is_part or headers.get("accept-ranges", "").strip().lower() == "bytes",
        name=_disposed(headers.get("content-disposition", "")),
        digests=digests(headers, is_whole=not is_part),
    )


def host_of(incoming: Incoming) -> str:
    return urlsplit(incoming.url).hostname or ""


def length(headers: Mapping[str, str]) -> int | None:
    """Of this answer's body, where that was announced."""
    said = headers.get("content-length", "").strip()
    is_said = said.isascii() and said.isdigit() and len(said) < 20 and "transfer-encoding" not in headers
    return int(said) if is_said else None


def content_range(headers: Mapping[str, str]) -> tuple[int, int, int] | None:
    """(start, end, size) of a part, its end excluded; None for what is no part of a file whose size is known."""
    found = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
    if not found:
        return None
    start, last, size = map(int, found.groups())
    return (start, last + 1, size) if start <= last < size else None


def strong_validator(headers: Mapping[str, str], now: datetime) -> str | None:
    """An ETag that is not weak; else a Last-Modified that lies well before the answer (RFC 9110, 8.8)."""
    etag, modified = headers.get("etag", "").strip(), headers.get("last-modified", "").strip()
    if _STRONG.fullmatch(etag):
        return etag
    changed = _moment(modified)
    is_settled = changed is not None and changed + _SETTLED <= (_moment(headers.get("date", "")) or now)
    return modified if is_settled and not etag else None


def _moment(text: str) -> datetime | None:
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def digests(headers: Mapping[str, str], *, is_whole: bool) -> dict[str, str]:
    """{algorithm: hex} of the whole file (RFC 9530; RFC 3230); Content-Digest is of the body alone, which may be a part."""
    fields = ["repr-digest", "digest", *(["content-digest"] if is_whole else [])]
    found: dict[str, str] = {}
    for name, _, text in _DIGEST.findall(", ".join(headers[field] for field in fields if field in headers)):
        algorithm = name.lower().replace("-", "")
        try:
            value = base64.b64decode(text, validate=True)
        except binascii.Error:
            continue
        if len(value) == _DIGEST_BYTES[algorithm]:
            found.setdefault(algorithm, value.hex())
    return found


def _disposed(text: str) -> str | None:
    """The file name of a Content-Disposition, as data (RFC 6266)."""
    message = email.message.Message()
    message["content-disposition"] = plain(text)
    try:
        said = message.get_filename() or ""
    except (LookupError, ValueError):
        return None
    name = posixpath.basename(plain(readable(said)).replace("\\", "/")).strip()
    return name[-_LONGEST_NAME:] if name.strip(".") else None


def begun(blocks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes, and all of them again."""
    head = b""
    for block in blocks:
        head += block
        if len(head) >= HEAD_BYTES:
            break
    return head, _again(head, blocks)


def _again(head: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from blocks


def check_kind(head: bytes, headers: Mapping[str, str], name: str) -> None:
    """Raises Turned for a playlist and VideoError for a web page: names of links tell little."""
    head = head.removeprefix(_BOM)
    if head.startswith(_PLAYLIST):
        raise Turned(f"{name}: is a playlist, not a media file; give the link of the file itself", "hls")
    is_page = headers.get("content-type", "").strip().lower().startswith(("text/html", "application/xhtml"))
    if is_page and head.lstrip().startswith(b"<"):
        raise VideoError(f"{name}: is a web page, not a media file; give the link of the file itself", Category.UNSUPPORTED)


def check_coding(incoming: Incoming, name: str) -> None:
    """Nothing is ever unpacked: a small answer may be a very large one. Raises VideoError."""
    coding = incoming.headers.get("content-encoding", "").strip().lower()
    if coding not in {"", "identity"}:
        raise VideoError(
            f"{name}: {host_of(incoming)} sends it packed ({plain(coding)[:40]}) although it was asked not to;"
            " give a link to the file as it is",
            Category.UNSUPPORTED,
        )
