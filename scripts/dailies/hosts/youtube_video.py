"""What YouTube is told of a video and what it tells: its resources, read as data from outside (docs/hosts/youtube.md)."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

from dailies.answer import Answer
from dailies.errors import OutcomeUnknown, Transient
from dailies.hosts.answers import words
from dailies.hosts.host import Asset, Receipt, Standing, State, is_named
from dailies.redact import plain

_TITLE: Final = 100
_DESCRIPTION_BYTES: Final = 5000
_TAGS: Final = 500
_BROKEN: Final = frozenset({"failed", "rejected"})
_STATES: Final = {"processed": State.READY, "uploaded": State.PROCESSING, "deleted": State.MISSING}


def snippet(asset: Asset, template: str, category_id: str) -> dict[str, Any]:
    """Title, description and tags, as long as YouTube takes them. `template`: {title}, {description}, {release_date}."""
    details = asset.details
    title = _text(" ".join(details.title.split()))[:_TITLE].strip() or asset.video_id
    values = {"{release_date}": details.release_date or "", "{title}": title, "{description}": details.description}
    description = re.sub("|".join(map(re.escape, values)), lambda found: values[found[0]], template)
    return {
        "title": title,
        "description": _text(description).encode()[:_DESCRIPTION_BYTES].decode("utf-8", "ignore"),
        "tags": list(_tags([_marker(asset), *details.tags])),
        "categoryId": category_id,
    }


def receipt(answer: Answer) -> Receipt:
    """Of the video resource that ends a session. Raises OutcomeUnknown or Transient for what is none."""
    video = _object(answer)
    remote_id = video.get("id")
    if not isinstance(remote_id, str) or not remote_id:
        trouble = OutcomeUnknown if answer.is_of_body else Transient
        raise trouble(f"youtube: HTTP {answer.status} names no video; it is asked again")
    return receipt_of(video)


def receipt_of(video: Mapping[str, Any]) -> Receipt:
    remote_id = str(video.get("id"))
    name = quote(remote_id, safe="")
    return Receipt(
        remote_id=remote_id,
        watch_url=f"https://www.youtube.com/watch?v={name}",
        embed_url=f"https://www.youtube.com/embed/{name}",
        is_settled=part(video, "status").get("uploadStatus") == "processed",
    )


def standing(video: Mapping[str, Any]) -> Standing:
    """Of a resource with its parts status and processingDetails. Raises Transient for a state nobody knows."""
    status, processing = part(video, "status"), part(video, "processingDetails")
    state = status.get("uploadStatus")
    if state in _BROKEN:
        return Standing(State.FAILED, words(str(status.get("rejectionReason") or status.get("failureReason") or state)))
    if state == "uploaded" and processing.get("processingStatus") in {"failed", "terminated"}:
        return Standing(State.FAILED, words(str(processing.get("processingFailureReason") or "processing failed")))
    if not isinstance(state, str) or state not in _STATES:
        raise Transient("youtube: says nothing known of the state of an upload; it is asked again later")
    return Standing(_STATES[state])


def is_of(video: Mapping[str, Any], asset: Asset) -> bool:
    """By the tag; by the file's name and size where somebody edited the tags."""
    if part(video, "status").get("uploadStatus") == "deleted":
        return False
    tags, details = part(video, "snippet").get("tags"), part(video, "fileDetails")
    if isinstance(tags, list) and _marker(asset) in tags:
        return True
    return is_named(str(details.get("fileName")), asset) and str(details.get("fileSize")) == str(asset.size_bytes)


def why(answer: Answer) -> tuple[str, str]:
    """(reason, message) of an error of Google's; empty where it says none."""
    error: Mapping[str, Any] = {}
    with contextlib.suppress(Transient):
        error = part(_object(answer), "error")
    errors = error.get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    message = " ".join(plain(str(error.get("message", ""))).split())
    return plain(str(first.get("reason", "")))[:60], message[:200]


def part(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object inside; an empty one where there is none."""
    part = content.get(key)
    return part if isinstance(part, dict) else {}


def items(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Raises Transient: a list that is not there is not an empty one."""
    found = content.get("items", [] if content.get("kind") else None)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise Transient("youtube: answered no list; it is asked again later")
    return found


def _object(answer: Answer) -> Mapping[str, Any]:
    content = answer.json()
    return content if isinstance(content, dict) else {}


def _marker(asset: Asset) -> str:
    """A tag, which only the owner is shown."""
    return f"dailies-{asset.video_id[-12:]}-{asset.token}"


def _text(text: str) -> str:
    """YouTube takes neither < nor >, nor control characters but newlines."""
    return "".join(c for c in text if c not in "<>" and (c == "\n" or c.isprintable()))


def _tags(tags: list[str]) -> Iterator[str]:
    """As many as fit in 500 characters: commas count, and quotes around those with blanks (videos resource, snippet.tags[])."""
    left, seen = _TAGS, set[str]()
    for tag in tags:
        clean = " ".join(_text(tag.replace(",", " ").replace('"', " ")).split())
        cost = len(clean) + (2 if " " in clean else 0) + (1 if seen else 0)
        if clean and clean.lower() not in seen and cost <= left:
            left -= cost
            seen.add(clean.lower())
            yield clean
