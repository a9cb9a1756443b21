"""Lists of things to queue: text, CSV, JSON, OPML, and feeds. Pure: bytes in, entries and complaints out."""

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urljoin

from dailies import feeds, links
from dailies.enrich.facts import date, line, lines, text
from dailies.errors import ConfigError
from dailies.feeds import Feed
from dailies.redact import plain

MOST_BYTES: Final = 64_000_000
MOST_ENTRIES: Final = 100_000
_NAMES: Final = ("url", "link", "path")  # keys that hold what is to be queued; the first that says something
_KEYS: Final = frozenset({*_NAMES, "title", "tags", "code", "description", "release_date", "hosts", "sha256"})
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_NO_PATH: Final = re.compile(r"[\0\ud800-\udfff]")
_PAGE: Final = re.compile(r"\s*(?:<\?xml[^>]*>\s*)?<(?:!doctype\s+)?html\b", re.IGNORECASE)
_TEXTS: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"[ \t\r]*(?:\n|$)')  # JSON, one text a line
_JSON: Final = re.compile(r"\[\s*[\[{\"\]]|\{\s*[\"}]")
_UTF32: Final = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Entry:
    """One thing to queue. `where` is `FILE:LINE`; `name` a link or a path, as it stands there."""

    where: str
    name: str
    title: str | None = None
    tags: tuple[str, ...] = ()
    code: str | None = None
    description: str | None = None
    release_date: str | None = None
    hosts: tuple[str, ...] = ()
    sha256: str | None = None
    is_of_feed: bool = False  # written by others: it can name links only


@dataclass(frozen=True)
class Parsed:
    """`refused` and `notes` are lines for people; `feeds` are links of feeds, which nobody has asked."""

    entries: tuple[Entry, ...] = ()
    refused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    feeds: tuple[str, ...] = ()


class _Refused(ValueError):
    """One entry: what is wrong; the remedy."""


Made = tuple[int, Entry | str | None]  # the line, and the entry, what is wrong with it, or None for nothing there


def parse(content: bytes, where: str) -> Parsed:
    """`where` names the list in messages. Its content tells its kind. Raises ConfigError for what is no list."""
    if len(content) > MOST_BYTES:
        raise ConfigError(f"{where}: has {len(content)} bytes; {MOST_BYTES} are read: split it")
    if content.startswith(_UTF32):
        raise ConfigError(f"{where}: is UTF-32; write it as UTF-8")
    said = content.decode("utf-16", "replace") if content.startswith(_UTF16) else None
    head = said if said is not None else content[:4096].decode("utf-8-sig", "replace")
    if head.lstrip().startswith("<"):
        if _PAGE.match(head):
            raise ConfigError(f"{where}: is a web page; give the link of a feed or a list")
        return _feed(content.removeprefix(codecs.BOM_UTF8).lstrip(), where)
    return _listed(said if said is not None else _decoded(content, where), where)


def _listed(said: str, where: str) -> Parsed:
    """Of what is no XML."""
    if "\0" in said[:4096]:
        raise ConfigError(f"{where}: is no text; give a list of links and paths, or add the file itself")
    if "#EXT-X-" in said[:4096]:
        raise ConfigError(f"{where}: is an HLS playlist and no list of videos; add its link")
    if _JSON.match(said.lstrip()):
        return _collected(_from_json(said), where)
    if (delimiter := _delimiter(said)) is not None:
        return _from_csv(said, delimiter, where)
    if _TEXTS.match(said.lstrip()):
        return _collected(_from_json(said), where)
    if where.lower().endswith((".csv", ".tsv")):
        raise ConfigError(f"{where}: its first line names no column url, link or path; write one there")
    return _collected(_from_text(said), where)


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{where}:{number}: is not valid UTF-8; save the list as UTF-8") from None


def _collected(made: Iterator[Made], where: str, *, is_of_feed: bool = False) -> Parsed:
    entries: list[Entry] = []
    refused: list[str] = []
    for number, one in made:
        place = f"{where}:{number}"
        if isinstance(one, str):
            refused.append(f"{place}: {plain(one)}")
        elif one is not None:
            if len(entries) == MOST_ENTRIES:
                refused.append(f"{place}: has more than {MOST_ENTRIES} entries; the rest was left out: split it")
                break
            entries.append(replace(one, where=place, is_of_feed=is_of_feed))
    return Parsed(tuple(entries), tuple(refused))


def _from_text(said: str) -> Iterator[Made]:
    for number, row in enumerate(said.splitlines(), 1):
        name = row.strip()
        if name and not name.startswith("#"):
            yield number, _made(lambda name=name: _entry({"path": name}))  # type: ignore[misc]


def _made(make: Callable[[], Entry]) -> Entry | str:
    try:
        return make()
    except _Refused as error:
        return str(error)


def _delimiter(said: str) -> str | None:
    """Of a table: its first line, that is neither empty nor a comment, has a column for what is to be queued."""
    first = next((row for row in said.splitlines() if row.strip() and not row.startswith("#")), "")
    for delimiter in (",", ";", "\t"):
        cells = {_key(cell) for cell in next(csv.reader([first], delimiter=delimiter), [])}
        if cells & set(_NAMES):
            return delimiter
    return None


def _key(cell: str) -> str:
    return cell.strip().lower().replace(" ", "_")


def _from_csv(said: str, delimiter: str, where: str) -> Parsed:
    rows = csv.reader(io.StringIO(said, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []

    def made() -> Iterator[Made]:
        begun = 0
        try:
            for cells in rows:
                begun, first = rows.line_num, begun + 1  # a cell may hold lines
                if not any(cell.strip() for cell in cells) or (not header and cells[0].startswith("#")):
                    continue
                if not header:
                    header.extend(map(_key, cells))
                elif len(cells) > len(header):
                    yield first, f"has {len(cells)} cells under {len(header)} columns; put texts that hold {delimiter!r} in quotes"
                else:
                    yield first, _made(lambda cells=cells: _entry(dict(zip(header, cells, strict=False))))  # type: ignore[misc]
        except csv.Error as error:
            yield begun + 1, f"cannot be read from here on: {error}; correct its quotes"

    parsed = _collected(made(), where)
    unknown = [key or "(empty)" for key in header if key not in _KEYS]
    return replace(parsed, notes=(f"{where}: columns that mean nothing here: {plain(', '.join(unknown))}",)) if unknown else parsed


def _from_json(said: str) -> Iterator[Made]:
    """A list, or one object or text a line."""
    decoder = json.JSONDecoder()
    start = len(said) - len(said.lstrip())
    is_list = said[start] == "["
    place = start + is_list
    number, counted = 1, 0
    while (place := _next(said, place)) < len(said) and not (is_list and said[place] == "]"):
        number, counted = number + said.count("\n", counted, place), place
        try:
            found, place = decoder.raw_decode(said, place)
        except (ValueError, RecursionError):
            if is_list:
                yield number, "is no valid JSON from here on; correct it"
                return
            yield number, "is no valid JSON; correct this line"
            place = said.find("\n", place) % (len(said) + 1)
            continue
        yield number, _made(lambda found=found: _entry(found if isinstance(found, Mapping) else {"path": found}))  # type: ignore[misc]
    if is_list and (place >= len(said) or said[place + 1 :].strip()):
        yield number, "the list does not end here with a ]; correct it"


def _next(said: str, place: int) -> int:
    while place < len(said) and (said[place].isspace() or said[place] == ","):
        place += 1
    return place


def _entry(given: Mapping[str, Any]) -> Entry:
    """Of one row or object; keys in any case. Raises _Refused."""
    said = {_key(str(key)): value for key, value in given.items()}
    name = next((said[key] for key in _NAMES if said.get(key)), None)
    if not isinstance(name, str) or not name.strip():
        raise _Refused("names nothing to queue; give a url, link or path")
    tags, hosts = said.get("tags"), said.get("hosts")
    sha256 = (_line(said, "sha256") or "").lower()
    if sha256 and not _SHA256.fullmatch(sha256):
        raise _Refused("sha256: must be 64 hexadecimal digits; copy it as sha256sum prints it")
    when = said.get("release_date") or None
    if when is not None and date(when) is None:
        raise _Refused(f"release_date: {str(when)[:40]!r} is no date; write it like 2026-01-31")
    return Entry(
        "",
        _name(name.strip()),
        title=_line(said, "title"),
        tags=lines(tags.split(";") if isinstance(tags, str) else tags),
        code=_line(said, "code"),
        description=text(said.get("description")),
        release_date=date(when),
        hosts=lines(hosts.replace(",", ";").split(";") if isinstance(hosts, str) else hosts),
        sha256=sha256 or None,
    )


def _line(said: Mapping[str, Any], key: str) -> str | None:
    return line(said.get(key))


def _name(name: str) -> str:
    if name.lower().startswith("file:"):
        raise _Refused("file: links are not taken; write the path itself")
    if _NO_PATH.search(name):
        raise _Refused("holds a character that no path has; correct it")
    return name


def _feed(content: bytes, where: str) -> Parsed:
    feed: Feed = feeds.parse(content, where, MOST_ENTRIES)

    def made() -> Iterator[Made]:
        for item in feed.items:
            yield item.line, _made(lambda item=item: _of_item(item))  # type: ignore[misc]

    parsed = _collected(made(), where, is_of_feed=True)
    without = [f"{where}: {feed.without} entries have no media file; they were left out"] if feed.without else []
    over = [f"{where}: has more than {MOST_ENTRIES} entries; the rest was left out: split it"] if feed.is_cut else []
    return replace(parsed, notes=tuple(without), refused=(*parsed.refused, *over), feeds=feed.feeds)


def _of_item(item: feeds.Item) -> Entry:
    if not item.url:
        raise _Refused("names no file; give its enclosure a url")
    return Entry("", item.url, item.title, item.tags, description=item.description, release_date=item.release_date)


def link_of(entry: Entry, base: str | None = None) -> str:
    """The link that an entry of a feed or a distant list means; `base` is the list's own. Raises ConfigError."""
    try:
        url = urljoin(base, entry.name) if base else entry.name
    except ValueError:
        url = entry.name
    if not links.is_link(url) or links.parse(url).scheme.lower() not in links.SCHEMES:
        raise ConfigError("its file has no link of https or http; it was left out")
    return url
