"""yt-dlp's `<name>.info.json`: fields are named one by one, so that formats, headers, cookies and signed addresses stay out."""

from collections.abc import Iterable
from typing import Any

from dailies.enrich.clues import ids_in
from dailies.enrich.facts import Facts, date, lines
from dailies.enrich.sidecars.reading import Reading, Unreadable, parsed_json


def read(content: bytes) -> Reading:
    said = parsed_json(content)
    if said.get("_type", "video") not in ("video", "multi_video"):
        raise Unreadable("is of a playlist, not of a video; it was left out")
    return Reading(
        Facts(
            title=_first(said, "title", "fulltitle", "track"),
            description=said.get("description"),
            release_date=next((found for key in ("release_date", "upload_date") if (found := date(said.get(key)))), None),
            views=said.get("view_count"),
            likes=said.get("like_count"),
            categories=[*lines(said.get("categories")), *lines(said.get("genres") or said.get("genre"))],
            people=[*_people(said, "artist", "artists"), *_people(said, "actor", "cast"), *_people(said, "creator", "creators")],
            tags=lines(said.get("tags")),
            studio=_first(said, "channel", "uploader", "uploader_id"),
            series=said.get("series"),
            year=said.get("release_year"),
            season=said.get("season_number"),
            episode=said.get("episode_number"),
            ids=ids_in(str(said.get("webpage_url") or said.get("original_url") or "")),
            duration_s=said.get("duration"),
        )
    )


def _first(said: dict[str, Any], *keys: str) -> Any:
    return next((said[key] for key in keys if said.get(key)), None)


def _people(said: dict[str, Any], role: str, plural: str) -> Iterable[dict[str, str]]:
    """`artists` is the list of newer versions, `artist` the text of older ones with commas in it."""
    names = said.get(plural) or said.get(role) or ()
    parts = names.split(", ") if isinstance(names, str) else names
    return [{"name": name, "role": role} for name in lines(parts)]
