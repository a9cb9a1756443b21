"""Three-way merge of records, not of lines: pure, total, the same on every machine (docs/database.md, "Merging").

`base` is the record as this run read it, `ours` as it is now, `theirs` the branch tip's. A side that left a field as it was yields
to the side that changed it; where both did, the rules below decide, and where they know no better, the content does.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

Json = Mapping[str, Any]
Rank = Callable[[Any], Any]

STATE_ORDER: Final = ("queued", "working", "unavailable", "failed", "duplicate", "done")  # the later wins
OPEN_STATES: Final = frozenset({"queued", "working"})
UPLOAD_ORDER: Final = ("PENDING", "FAILED", "RATE_LIMITED", "BLOCKED", "FAILED_FINAL", "IN_PROGRESS", "UNKNOWN", "SUCCESS")
# What the runner writes about a video's progress goes together: half of one run's and half of another's would be a lie.
PROGRESS: Final = ("state", "duplicate_of", "interrupted_step", "next_attempt_at", "last_error", "warnings", "steps")
COUNTS: Final = ("retry_count", "interruptions")
EDITED: Final = ("title", "code", "duplicate_allowed")
EDITED_METADATA: Final = ("description", "release_date", "views", "likes", "categories", "people", "studio", "series")
_SPECIAL: Final = frozenset(
    {
        *PROGRESS,
        *COUNTS,
        *EDITED,
        "epoch",
        "metadata",
        "uploads",
        "edited_at",
        "conflicts",
        "deleted_at",
        "created_at",
        "updated_at",
    }
)


def merge_files(base: bytes, ours: bytes, theirs: bytes) -> bytes:
    """For git's merge driver: the merged record as the database writes it. An empty base is none. Raises ValueError for no JSON."""
    before = json.loads(base) if base.strip() else None
    merged = merge(before, json.loads(ours), json.loads(theirs))
    return (json.dumps(merged, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()


def content(value: Any) -> str:
    """Canonical text: equal values have equal texts, and any two can be ordered."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def merge(base: Json | None, ours: Json | None, theirs: Json | None) -> dict[str, Any]:
    """One record of two; one that a side lacks is not deleted by that: deletions are tombstones. Raises ValueError for none."""
    if ours is None or theirs is None:
        only = ours if theirs is None else theirs
        if only is None:
            raise ValueError("there is nothing to merge")
        return dict(only)
    start = base or {}
    merged = {
        key: _pick(start.get(key), ours.get(key), theirs.get(key)) for key in ours.keys() | theirs.keys() if key not in _SPECIAL
    }
    merged |= _progress(start, ours, theirs)
    merged |= _edited(start, ours, theirs)
    merged["uploads"] = _uploads(start.get("uploads", {}), ours.get("uploads", {}), theirs.get("uploads", {}))
    merged["deleted_at"] = min(_known(ours.get("deleted_at"), theirs.get("deleted_at")), default=None)
    merged["created_at"] = min(_known(ours.get("created_at"), theirs.get("created_at")), default=None)
    merged["updated_at"] = max(_known(ours.get("updated_at"), theirs.get("updated_at")), default=None)
    if merged.get("state") not in OPEN_STATES and merged.get("claim") is not None:
        merged["claim"] = None  # nobody owns what is finished
    known = ours.keys() | theirs.keys() | {"conflicts"}
    return {key: value for key, value in merged.items() if key in known or value not in (None, {})}


def _known(*values: Any) -> list[Any]:
    return [value for value in values if value is not None]


def _pick(base: Any, ours: Any, theirs: Any, rank: Rank = lambda value: value is not None) -> Any:
    """The side that changed it; of two changes the one of higher rank, then of greater content."""
    if theirs in (ours, base):
        return ours
    if ours == base:
        return theirs
    return max((ours, theirs), key=lambda value: (rank(value), content(value)))


def _progress(base: Json, ours: Json, theirs: Json) -> dict[str, Any]:
    """The larger epoch wins first; then states by their order; counts take the larger."""
    epochs = {"ours": ours.get("epoch", 0), "theirs": theirs.get("epoch", 0)}
    newest = max(epochs.values())
    current = [side for side, epoch in ((ours, epochs["ours"]), (theirs, epochs["theirs"])) if epoch == newest]
    groups = [_group(side) for side in current]
    before = _group(base) if base.get("epoch", 0) == newest else None
    chosen = groups[0] if len(groups) == 1 else _pick(before, groups[0], groups[1], _progress_rank)
    counts = {key: max(side.get(key, 0) for side in current) for key in COUNTS}
    return {**chosen, **counts, "epoch": newest}


def _group(record: Json) -> dict[str, Any]:
    return {key: record[key] for key in PROGRESS if key in record}


def _progress_rank(group: Json) -> tuple[int, str]:
    state = group.get("state", "")
    moments = [step.get("at", "") for step in group.get("steps", {}).values()]
    return (STATE_ORDER.index(state) if state in STATE_ORDER else -1, max(moments, default=""))


def _edited(base: Json, ours: Json, theirs: Json) -> dict[str, Any]:
    """Fields that people edit: the later edit wins, the loser is kept in `conflicts`; tags by what each side added and removed."""
    sides = (base, ours, theirs)
    stamps = [side.get("edited_at", {}) for side in sides]
    metadata = [side.get("metadata", {}) for side in sides]
    known = metadata[1].keys() | metadata[2].keys()
    edits = {key: _later(key, sides, stamps) for key in EDITED if key in ours or key in theirs}
    inner = {key: _later(key, metadata, stamps) for key in EDITED_METADATA if key in known}
    fields = {key: value for key, (value, _, _) in inner.items()}
    fields |= {key: _pick(*(side.get(key) for side in metadata)) for key in known if key not in {*EDITED_METADATA, "tags"}}
    if "tags" in known:
        fields["tags"] = _members(*(side.get("tags", ()) for side in metadata))
    chosen = edits | inner
    other = (stamps[1].keys() | stamps[2].keys()) - chosen.keys()
    edited_at = {key: max(_known(stamps[1].get(key), stamps[2].get(key))) for key in other}
    edited_at |= {key: at for key, (_, at, _) in chosen.items() if at}
    values = {key: value for key, (value, _, _) in edits.items()}
    return {**values, "metadata": fields, "edited_at": edited_at, "conflicts": _conflicts(ours, theirs, chosen)}


def _later(key: str, sides: Sequence[Json], stamps: Sequence[Json]) -> tuple[Any, str, Any]:
    """(the value, when it was edited, the value that lost or None): value and time go together."""
    base, ours, theirs = ((side.get(key), stamp.get(key, "")) for side, stamp in zip(sides, stamps, strict=True))
    if theirs in (ours, base):
        return (*ours, None)
    if ours == base:
        return (*theirs, None)
    loser, winner = sorted((ours, theirs), key=lambda edit: (edit[1], content(edit[0])))
    return (*winner, loser[0])


def _conflicts(ours: Json, theirs: Json, chosen: Mapping[str, tuple[Any, str, Any]]) -> list[Any]:
    """What was said and lost, but what stands now."""
    entries = [entry for side in (ours, theirs) for entry in side.get("conflicts", ())]
    entries += [{"field": key, "value": loser} for key, (_, _, loser) in chosen.items() if loser is not None]
    standing = {content({"field": key, "value": value}) for key, (value, _, _) in chosen.items()}
    lost = {content(entry): entry for entry in entries}
    return [lost[key] for key in sorted(lost.keys() - standing)]


def _members(base: Iterable[str], ours: Iterable[str], theirs: Iterable[str]) -> list[str]:
    """Added by either side, and what neither removed; in sorted order, so that no side's order matters."""
    lists = [list(side) for side in (base, ours, theirs)]
    if lists[1] == lists[2] or lists[0] in lists[1:]:
        return lists[1] if lists[2] == lists[0] else lists[2]
    before, one, two = (set(side) for side in lists)
    return sorted((one & two) | (one - before) | (two - before))


def _uploads(base: Json, ours: Json, theirs: Json) -> dict[str, Any]:
    """Per host and kind; a SUCCESS is never lost, a second one is kept among `previous`."""
    return {
        host: {
            kind: _upload(*(side.get(host, {}).get(kind) for side in (base, ours, theirs)))
            for kind in sorted(ours.get(host, {}).keys() | theirs.get(host, {}).keys())
        }
        for host in sorted(ours.keys() | theirs.keys())
    }


def _upload(base: Json | None, ours: Json | None, theirs: Json | None) -> Any:
    if ours is not None and theirs is not None and ours.get("epoch", 0) != theirs.get("epoch", 0):
        return _later_epoch(ours, theirs)
    confirmed = [side for side in (ours, theirs) if side is not None and side.get("status") == "SUCCESS"]
    if len(confirmed) == 1:
        return confirmed[0]
    if len(confirmed) == 2 and ours is not None and theirs is not None and ours != theirs:
        return _both_confirmed(ours, theirs)
    return _pick(base, ours, theirs, _upload_rank)


def _later_epoch(ours: Json, theirs: Json) -> dict[str, Any]:
    """A SUCCESS was given up, by force or because the host had lost it; what the other side knows of copies stays listed."""
    older, newer = sorted((ours, theirs), key=lambda side: int(side.get("epoch", 0)))
    listed = {content(entry): entry for side in (ours, theirs) for entry in side.get("previous", ())}
    known = {entry.get("remote_id") for entry in listed.values()} | {newer.get("remote_id")}
    if older.get("status") == "SUCCESS" and older.get("remote_id") not in known:
        listed[content(older)] = {**older, "previous": []}
    return {**newer, "previous": [listed[key] for key in sorted(listed)]}


def _upload_rank(upload: Json | None) -> tuple[int, int, str]:
    if upload is None:
        return (-1, 0, "")
    status = upload.get("status", "")
    return (UPLOAD_ORDER.index(status) if status in UPLOAD_ORDER else -1, upload.get("retry_count", 0), upload.get("at") or "")


def _both_confirmed(ours: Json, theirs: Json) -> dict[str, Any]:
    """The one that was confirmed first stays; what else is on the host is listed, so that a person can remove it."""
    first, second = sorted(
        ({**side, "previous": []} for side in (ours, theirs)), key=lambda side: (side.get("at") or "", content(side))
    )
    listed = {content(entry): entry for side in (ours, theirs) for entry in side.get("previous", ())}
    if first.get("remote_id") != second.get("remote_id"):
        listed[content(second)] = second
    listed.pop(content(first), None)
    return {**first, "previous": [listed[key] for key in sorted(listed)]}
