"""How archive.org wants its items named and described: names that it takes, texts as headers."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote

from dailies.hosts.host import Asset

_LONGEST_NAME: Final = 100
_LONGEST_TEXT: Final = 4000  # bytes of a header; web servers commonly take 8 KiB a line, 32 KiB in all
_LONGEST_WORD: Final = 200
_MOST: Final = 40  # subjects, creators; two digits number them
_DATE: Final = re.compile(r"\d{4}(-\d\d(-\d\d)?)?")
_PLAIN: Final = re.compile(r"[!-~]+")
_NOT_XML: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2: the host keeps XML


def safe_identifier(name: str) -> str:
    """3 to 100 of letters, digits, `.`, `_`, `-`, none of these three first; a changed name ends in 12 digits of its hash."""
    clean = re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip("._-")
    if clean == name and 3 <= len(name) <= _LONGEST_NAME:
        return name
    digits = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{clean[: _LONGEST_NAME - 13] or 'video'}-{digits}"


def metadata_headers(asset: Asset, settings: Mapping[str, str | tuple[str, ...]]) -> dict[str, str]:
    """Of the item; `settings` go before what the record says. They count when the item is made, whichever file comes first."""
    details = asset.details
    date = details.release_date or ""
    metadata: dict[str, str | tuple[str, ...]] = {
        "title": details.title.strip() or asset.video_id,
        "description": details.description,
        "date": date if _DATE.fullmatch(date) else "",
        "creator": details.people,
        "subject": (*details.tags, *details.categories),
        **settings,
    }
    return {
        f"x-archive-meta{number:02d}-{key.replace('_', '--')}": value
        for key, texts in metadata.items()
        for number, value in enumerate(
            _values((texts,), _LONGEST_TEXT) if isinstance(texts, str) else _values(texts, _LONGEST_WORD)
        )
    }


def header_value(text: str) -> str:
    """ASCII without blanks as it is, all else as `uri(…)` of its UTF-8 (archive.org's S3 interface)."""
    is_plain = _PLAIN.fullmatch(text) and not text.startswith("uri(")
    return text if is_plain else f"uri({quote(text)})"


def _values(texts: Iterable[str], longest: int) -> list[str]:
    """Each once, none empty, none longer than `longest` bytes."""
    clean = dict.fromkeys(_NOT_XML.sub("", text).strip() for text in texts)
    return [_short(text, longest) for text in clean if text][:_MOST]


def _short(text: str, longest: int) -> str:
    while len(value := header_value(text)) > longest:
        text = f"{text[: len(text) * longest // len(value) - 1]}…"
    return value
