"""Which of the things said a record takes: pure, never over a person's words, and twice is once."""

from collections.abc import Collection, Sequence
from pathlib import PurePath
from typing import Any, Final

from dailies.enrich.facts import Said
from dailies.model import Metadata, Video

PERSON: Final = "person"
WARNING_PREFIX: Final = "enrich: "
FIELDS: Final = ("description", "release_date", "views", "likes", "categories", "people", "studio", "series")
LOCAL: Final = ("sidecar:dailies", "sidecar:nfo", "sidecar:info.json", "embedded")  # the earlier wins


class Ranks:
    """Who wins: what lies beside the file, then catalogues as the settings name them, then those no longer named."""

    def __init__(self, catalogues: Sequence[str], known: Collection[str]) -> None:
        order = (*LOCAL, *catalogues, *sorted(set(known) - set(catalogues)))
        self._ranks = {where: number for number, where in enumerate(order)}

    def of(self, where: str) -> int:
        """The smaller wins; what is not known came from somewhere else and stays."""
        return self._ranks.get(where, self._ranks.get(where.partition(":")[0], -1))


def _is_of_person(video: Video, field: str, value: Any) -> bool:
    where = video.metadata.provenance.get(field)
    return field in video.edited_at or where == PERSON or (where is None and bool(value or value == 0))


def _is_name_of_file(video: Video) -> bool:
    """The title that a video is given when nobody says another."""
    return video.title in {PurePath(video.source.original_name).stem, video.code}


def is_open(video: Video, field: str, rank: int, ranks: Ranks) -> bool:
    """Whether a source of this rank may fill it."""
    if field == "title":
        where = video.metadata.provenance.get("title")
        of_person = "title" in video.edited_at or where == PERSON or (where is None and not _is_name_of_file(video))
        return not of_person and (where is None or rank <= ranks.of(where))
    value, where = getattr(video.metadata, field), video.metadata.provenance.get(field)
    if _is_of_person(video, field, value):
        return False
    return where is None or not (value or value == 0) or rank <= ranks.of(where)


def fill(video: Video, said: Sequence[Said], ranks: Ranks) -> Video:
    """The video with what was said; itself where that changes nothing."""
    changes: dict[str, Any] = {}
    provenance = dict(video.metadata.provenance)
    title = video.title
    ordered = sorted(said, key=lambda one: ranks.of(one.where))
    for one in reversed(ordered):  # the best last
        rank = ranks.of(one.where)
        for field in FIELDS:
            value = getattr(one.facts, field)
            if (value or value == 0) and is_open(video, field, rank, ranks):
                changes[field] = tuple(person.model_dump() for person in value) if field == "people" else value
                provenance[field] = one.where
        if one.facts.title and one.is_sure and is_open(video, "title", rank, ranks):
            title = one.facts.title
            provenance["title"] = one.where
    changes["tags"], provenance = _united(video.metadata, ordered, provenance)
    provenance |= {field: PERSON for field in (*FIELDS, "title") if field in video.edited_at and field in provenance}
    metadata = video.metadata.model_copy(update={**changes, "provenance": provenance})
    filled = video.with_(title=title, metadata=metadata)
    return video if filled == video else filled


def _united(metadata: Metadata, said: Sequence[Said], provenance: dict[str, str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Tags of each source are taken once: one that a person took away does not come back."""
    tags = {tag.casefold(): tag for tag in metadata.tags}
    taken = [where for where in provenance.get("tags", PERSON if tags else "").split(", ") if where]
    new = [one for one in said if one.facts.tags and one.where not in taken]
    if not new:
        return metadata.tags, provenance
    added = {tag.casefold(): tag for one in reversed(new) for tag in one.facts.tags if tag.casefold() not in tags}
    return (*metadata.tags, *sorted(added.values())), {**provenance, "tags": ", ".join([*taken, *(one.where for one in new)])}


def warned(video: Video, warnings: Sequence[str]) -> Video:
    """With these warnings of enrichment instead of those of the last time."""
    others = tuple(text for text in video.warnings if not text.startswith(WARNING_PREFIX))
    now = (*others, *dict.fromkeys(WARNING_PREFIX + text for text in warnings))
    return video if set(now) == set(video.warnings) else video.with_(warnings=now)


def filled(before: Video, after: Video) -> dict[str, str]:
    """Which fields changed, and where their values came from."""
    fields = [field for field in (*FIELDS, "tags") if getattr(before.metadata, field) != getattr(after.metadata, field)]
    fields = ["title", *fields] if before.title != after.title else fields
    return {field: after.metadata.provenance.get(field, "") for field in fields}
