"""Kodi's `<name>.nfo`: XML, XML with an address behind it, an address alone, or old text with pictures of letters."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Final

from dailies.enrich.clues import ids_in
from dailies.enrich.facts import Facts, date, lines
from dailies.enrich.sidecars.reading import Reading, Unreadable, decoded

_ROOTS: Final = ("movie", "episodedetails", "musicvideo", "tvshow")
_MOST_ELEMENTS: Final = 20
_REFUSED: Final = re.compile(r"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_OWN_IDS: Final = {"imdb": "imdb", "tmdb": "tmdb", "tvdb": "tvdb", "wikidata": "wikidata", "musicbrainzrecording": "musicbrainz"}


def read(content: bytes) -> Reading:
    """Raises Unreadable."""
    said = decoded(content)
    if _REFUSED.search(said):
        raise Unreadable("has a document type, which is refused; delete its <!DOCTYPE …>")
    blocks = list(_blocks(said))
    outside = ids_in(_without(said, blocks))
    elements, broken = [], 0
    for block in blocks:
        try:
            elements.append(ET.fromstring(block))  # noqa: S314 -- there is no DTD and so no entity
        except ET.ParseError:
            broken += 1
    if broken and not elements and not outside:
        raise Unreadable("is no valid XML; correct or delete it")
    if not elements:
        return Reading(Facts(ids=outside), ("is no valid XML; only its addresses were read",) if broken else ())
    facts = _together([_facts(element, outside) for element in elements])
    return Reading(facts, (f"{broken} of {len(blocks)} parts are no valid XML",) if broken else ())


def _blocks(said: str) -> Iterator[str]:
    """The outermost elements that Kodi knows, in order. Looks at each character a few times at most."""
    place, count = 0, 0
    while count < _MOST_ELEMENTS:
        starts = [(found, root) for root in _ROOTS if (found := _start(said, root, place)) >= 0]
        if not starts:
            return
        start, root = min(starts)
        end = said.find(f"</{root}>", start)
        if end < 0:
            yield said[start:]
            return
        place, count = end + len(root) + 3, count + 1
        yield said[start:place]


def _start(said: str, root: str, place: int) -> int:
    found = re.compile(rf"<{root}[\s>]").search(said, place)
    return found.start() if found else -1


def _without(said: str, blocks: list[str]) -> str:
    for block in blocks:
        said = said.replace(block, " ", 1)
    return said


def _facts(element: ET.Element, outside: dict[str, str]) -> Facts:
    def every(name: str) -> tuple[str, ...]:
        return lines([one.text for one in element.findall(name) if one.text])

    def first(*names: str) -> str | None:
        return next((found[0] for name in names if (found := every(name))), None)

    is_episode = element.tag == "episodedetails"
    dates = [first("premiered"), first("aired"), first("releasedate")]
    people = [
        {"name": one.findtext("name"), "role": "actor", "image": (one.findtext("thumb") or "").strip() or None}
        for one in element.findall("actor")
    ]
    people += [{"name": name, "role": role} for role in ("director", "artist") for name in every(role)]
    people += [{"name": name, "role": "writer"} for name in every("credits")]
    return Facts(
        title=first("title"),
        description=element.findtext("plot") or element.findtext("outline"),
        release_date=next((found for one in dates if (found := date(one))), None),
        views=None,  # votes and playcounts are something else
        categories=every("genre"),
        people=people,
        tags=every("tag"),
        studio=first("studio"),
        series=first("showtitle") or first("set/name") or (element.findtext("set") or "").strip() or None,
        year=first("year", "premiered", "aired"),
        season=first("season") if is_episode else None,
        episode=first("episode") if is_episode else None,
        ids=_ids(element, is_episode=is_episode) | (outside if not is_episode else {}),
        duration_s=_minutes(first("runtime")),
    )


def _ids(element: ET.Element, *, is_episode: bool) -> dict[str, str]:
    """An episode's own numbers at TMDB and TheTVDB are not its show's, by which catalogues are asked."""
    said = {(one.get("type") or "").lower(): (one.text or "").strip() for one in element.findall("uniqueid")}
    plain = (element.findtext("id") or "").strip()
    named = {"imdb": plain} if plain.startswith("tt") else {}
    named |= {name: found for name in ("imdb", "tmdb") if (found := (element.findtext(f"{name}id") or "").strip())}
    named |= {ours: said[theirs] for theirs, ours in _OWN_IDS.items() if said.get(theirs)}
    if element.tag == "tvshow" and "tmdb" in named:
        named["tmdb_tv"] = named.pop("tmdb")
    return {"imdb": named["imdb"]} if is_episode and "imdb" in named else {} if is_episode else named


def _minutes(text: str | None) -> float | None:
    found = re.match(r"\d{1,4}", text or "")
    return int(found[0]) * 60.0 if found else None


def _together(each: list[Facts]) -> Facts:
    """Several episodes in one file are one video, and no catalogue's entry."""
    if len(each) == 1:
        return each[0]
    first = each[0]
    return Facts(
        title=" / ".join(one.title for one in each if one.title),
        description="\n\n".join(one.description for one in each if one.description),
        release_date=first.release_date,
        categories=[name for one in each for name in one.categories],
        people=[person for one in each for person in one.people],
        tags=[tag for one in each for tag in one.tags],
        studio=first.studio,
        series=first.series,
        is_one=False,
    )
