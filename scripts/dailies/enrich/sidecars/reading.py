"""What a reader of sidecars gives, and how texts are decoded."""

import codecs
import json
from dataclasses import dataclass
from typing import Any

from dailies.enrich.facts import Facts


class Unreadable(Exception):
    """A sidecar that says nothing; the message is what is wrong and what became of it."""


@dataclass(frozen=True)
class Reading:
    """`ignored` are parts that were left out, for a warning."""

    facts: Facts
    ignored: tuple[str, ...] = ()


def decoded(content: bytes) -> str:
    """UTF-8, UTF-16 with its mark, else the old Western code page that scene files have."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def parsed_json(content: bytes) -> dict[str, Any]:
    """Raises Unreadable for anything but an object."""
    try:
        found = json.loads(decoded(content))
    except (ValueError, RecursionError) as error:
        reason = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "it is nested too deeply"
        raise Unreadable(f"is no valid JSON ({reason}); correct or delete it") from error
    if not isinstance(found, dict):
        raise Unreadable("holds no JSON object; correct or delete it")
    return found
