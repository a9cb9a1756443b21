"""What helps to find a video in a catalogue; nothing of it changes by being found, so that enriching twice asks the same."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Final

from dailies.enrich.facts import Facts, Said, ids, line, year
from dailies.model import Video

# as Jellyfin and Plex name them: `[tmdbid-603]`, `{imdb-tt0133093}`, `[tvdbid=121361]`
_NAMED_ID: Final = re.compile(r"[\[{(](imdb|tmdb|tvdb|tvmaze|wikidata|musicbrainz)(?:id)?[-= ]([\w-]{1,40})[\])}]", re.IGNORECASE)
_LINKED_ID: Final = (
    ("imdb", re.compile(r"imdb\.com/title/(tt\d{7,10})")),
    ("tmdb", re.compile(r"themoviedb\.org/movie/(\d+)")),
    ("tmdb_tv", re.compile(r"themoviedb\.org/tv/(\d+)")),
    ("tvdb", re.compile(r"thetvdb\.com/\S*?(?:[?&]id=|series/)(\d+)")),
    ("tvmaze", re.compile(r"tvmaze\.com/shows/(\d+)")),
    ("wikidata", re.compile(r"wikidata\.org/(?:wiki|entity)/(Q\d+)")),
    ("musicbrainz", re.compile(r"musicbrainz\.org/recording/([0-9a-f-]{36})")),
)
_EPISODE: Final = re.compile(r"(?<![a-z0-9])(?:s(\d{1,3})[ ._-]?e(\d{1,4})|(\d{1,2})x(\d{2,3}))(?![a-z0-9])", re.IGNORECASE)
_YEAR_IN_BRACKETS: Final = re.compile(r"[(\[]((?:18\d|19\d|20[0-3])\d)[)\]]")
_YEAR: Final = re.compile(r"(?<=[ ])((?:19\d|20[0-3])\d)(?= |$)")
_RELEASE_WORD: Final = re.compile(
    r"(?<= )(?:\d{3,4}p|4k|uhd|hdr|x26[45]|h ?26[45]|hevc|blu-?ray|brrip|bdrip|dvdrip|web-?dl|webrip|hdtv|remux)(?= |$).*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Clues:
    """`title` is an episode's own where `season` and `episode` are known, `series` the show's then."""

    title: str = ""
    year: int | None = None
    duration_s: float | None = None
    series: str | None = None
    season: int | None = None
    episode: int | None = None
    artist: str | None = None
    ids: Mapping[str, str] = field(default_factory=dict)
    is_searchable: bool = True

    @property
    def is_episode(self) -> bool:
        return self.season is not None and self.episode is not None

    @property
    def searched(self) -> str:
        """What a catalogue lists it under."""
        return (self.series or "") if self.is_episode else self.title

    def with_ids(self, more: Mapping[str, str]) -> "Clues":
        return replace(self, ids={**more, **self.ids})


def ids_in(said: str) -> dict[str, str]:
    """Ids in a file name or in the addresses of catalogues; of each kind the first."""
    found: dict[str, str] = {}
    for match in _NAMED_ID.finditer(said):
        found.setdefault(match[1].lower(), match[2])
    for kind, pattern in _LINKED_ID:
        if kind not in found and (linked := pattern.search(said)):
            found[kind] = linked[1]
    return ids(found)


def of_name(name: str) -> Clues:
    """Of a file name: `The.Matrix.1999.1080p.mkv`, `The Matrix (1999) [tmdbid-603].mp4`, `The Show S01E02 Pilot.mp4`."""
    known = ids_in(name)
    stem = _NAMED_ID.sub(" ", PurePath(name).stem[:300])
    plain = " ".join(re.sub(r"[._]", " ", stem).split())
    bracketed = _YEAR_IN_BRACKETS.search(plain)
    found_year = bracketed or next(reversed(list(_YEAR.finditer(plain))), None)
    episode = _EPISODE.search(plain)
    if episode:
        show = _without_year(plain[: episode.start()])
        own = _RELEASE_WORD.sub("", " " + plain[episode.end() :])
        if "tmdb" in known:
            known = {**{key: one for key, one in known.items() if key != "tmdb"}, "tmdb_tv": known["tmdb"]}
        return Clues(
            title=_trimmed(own),
            series=_trimmed(show) or None,
            season=int(episode[1] or episode[3]),
            episode=int(episode[2] or episode[4]),
            year=year(found_year[1]) if found_year and found_year.start() < episode.start() else None,
            ids=known,
        )
    if found_year is not None:
        return Clues(title=_trimmed(plain[: found_year.start()]), year=year(found_year[1]), ids=known)
    return Clues(title=_trimmed(_RELEASE_WORD.sub("", plain)), ids=known)


def _without_year(text: str) -> str:
    return _YEAR_IN_BRACKETS.sub(" ", text)


def _trimmed(text: str) -> str:
    return " ".join(text.split()).strip(" -–([{")


def of(video: Video, said: Sequence[Said]) -> Clues:
    """Of a person's words first, then of what lies beside the file, then of its name."""
    name = of_name(video.source.original_name)
    known: list[Facts] = [one.facts for one in said]
    of_person = video.edited_at.keys()
    title = line(video.title) if "title" in of_person else None
    released = video.metadata.release_date if "release_date" in of_person else None
    link = video.source.uri if video.source.kind != "file" else ""
    found_ids = [*(facts.ids for facts in known), name.ids, ids_in(link)]
    season = next((facts.season for facts in known if facts.season is not None), name.season)
    episode = next((facts.episode for facts in known if facts.episode is not None), name.episode)
    return Clues(
        title=title or next((one.facts.title for one in said if one.facts.title and one.is_sure), None) or name.title,
        year=year(released) or next((found for facts in known if (found := facts.year or year(facts.release_date))), name.year),
        duration_s=video.media.duration_s if video.media else None,
        series=next((facts.series for facts in known if facts.series), name.series),
        season=season,
        episode=episode,
        artist=next((artist for facts in known if (artist := facts.artist())), None),
        ids={kind: one for each in reversed(found_ids) for kind, one in each.items()},
        is_searchable=all(facts.is_one for facts in known),
    )
