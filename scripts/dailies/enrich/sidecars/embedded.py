"""Tags in the file itself, as ffmpeg names them: any case, many spellings."""

import re
from collections.abc import Mapping

from dailies.enrich.facts import Facts


def read(tags: Mapping[str, str]) -> Facts:
    said = {key.lower().strip(): text for key, text in tags.items()}

    def first(*keys: str) -> str | None:
        return next((said[key] for key in keys if said.get(key, "").strip()), None)

    return Facts(
        title=first("title"),
        description=first("description", "synopsis", "comment"),
        release_date=first("date", "date_released", "originaldate"),
        categories=_parts(first("genre")),
        people=[{"name": name, "role": "artist"} for name in _parts(first("artist", "album_artist"))],
        tags=_parts(first("keywords")),
        studio=first("network", "publisher", "production_studio"),
        series=first("show", "tvshow"),
        year=first("date", "year"),
        season=first("season_number"),
        episode=first("episode_sort"),
    )


def _parts(text: str | None) -> list[str]:
    return re.split(r"[;/|]|, ", text) if text else []
