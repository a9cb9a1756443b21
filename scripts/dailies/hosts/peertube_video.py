"""What PeerTube is told of a video and what it tells, read as data from outside (docs/hosts/peertube.md)."""

import contextlib
from collections.abc import Mapping
from datetime import date
from typing import Any, Final

from dailies.answer import Answer
from dailies.errors import OutcomeUnknown, Transient
from dailies.hosts.host import Asset, is_named

_NEAR_S: Final = 2.0  # durations are listed in whole seconds
_NAME: Final = (3, 120)
_DESCRIPTION: Final = (3, 10_000)
_TAG: Final = (2, 30)
_TAGS: Final = 5


def described(asset: Asset) -> dict[str, Any]:
    """Name, description, tags and date as long as PeerTube takes them."""
    details = asset.details
    name = " ".join(details.title.split()) or asset.video_id
    told: dict[str, Any] = {"name": (name if len(name) >= _NAME[0] else f"{name} {asset.video_id}")[: _NAME[1]].strip()}
    description = details.description.strip()[: _DESCRIPTION[1]]
    if len(description) >= _DESCRIPTION[0]:
        told["description"] = description
    tags = {tag.lower(): tag for tag in reversed(details.tags) if _TAG[0] <= len(tag) <= _TAG[1]}
    if tags:
        told["tags"] = list(reversed(tags.values()))[:_TAGS]
    with contextlib.suppress(ValueError):
        told["originallyPublishedAt"] = date.fromisoformat((details.release_date or "")[:10]).isoformat()
    return told


def is_as_long(video: Mapping[str, Any], asset: Asset) -> bool:
    """As far as both are known."""
    listed = video.get("duration")
    if asset.duration_s is None or not isinstance(listed, int | float) or not listed:
        return True
    return abs(listed - asset.duration_s) <= _NEAR_S


def file_name(source: Mapping[str, Any]) -> str:
    """What was sent was called so; empty where the instance does not tell. `filename` was its name before 6.1."""
    return str(source.get("inputFilename") or source.get("filename") or "")


def is_source_of(source: Mapping[str, Any], asset: Asset) -> bool:
    """By the token in the file's name, and the size where the instance tells it (6.1 and later)."""
    size = source.get("size")
    return is_named(file_name(source), asset) and (size is None or str(size) == str(asset.size_bytes))


def error(answer: Answer) -> Mapping[str, Any]:
    """What an error says of itself; empty where a proxy said it."""
    with contextlib.suppress(Transient):
        return json_object(answer)
    return {}


def json_object(answer: Answer) -> Mapping[str, Any]:
    """Raises Transient, or OutcomeUnknown where a file had left before."""
    told = answer.json()
    if not isinstance(told, dict):
        trouble = OutcomeUnknown if answer.is_of_body else Transient
        raise trouble(f"peertube: HTTP {answer.status} answered no object; it is asked again later")
    return told


def part(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object inside; an empty one where there is none."""
    part = content.get(key)
    return part if isinstance(part, dict) else {}


def objects(content: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """Raises Transient: a list that is not there is not an empty one."""
    found = content.get(key)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise Transient(f"peertube: answered no list of {key}; it is asked again later")
    return found
