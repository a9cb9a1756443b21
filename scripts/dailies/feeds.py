"""RSS, Atom, podcast feeds and OPML, read in one pass: no document type, no entity, nothing kept of what is not wanted. Pure."""

import email.utils
import html
import re
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, Final
from xml.parsers import expat

from dailies.enrich.facts import TEXT_CHARACTERS, date, line, lines, text
from dailies.errors import ConfigError
from dailies.redact import plain

_DEEPEST: Final = 100
_MOST_ELEMENTS: Final = 2_000_000  # some seconds: nothing can stop it meanwhile
_BLOCK_BYTES: Final = 1 << 16
_MOST_CHARACTERS: Final = 4 * TEXT_CHARACTERS  # of one entry
_MOST_FILES: Final = 50  # … of which it names the same in several qualities
_SPACES: Final = {
    "http://www.itunes.com/dtds/podcast-1.0.dtd": "itunes:",
    "http://search.yahoo.com/mrss/": "media:",
    "http://search.yahoo.com/mrss": "media:",
    "http://purl.org/dc/elements/1.1/": "dc:",
    "http://purl.org/rss/1.0/modules/content/": "content:",
    "http://www.w3.org/2005/Atom": "",
    "http://purl.org/rss/1.0/": "",
    "http://backend.userland.com/rss2": "",
}
_ROOTS: Final = frozenset({"rss", "rdf", "feed", "opml"})
_ITEMS: Final = frozenset({"item", "entry"})
_MEDIA: Final = ("video/", "audio/", "application/vnd.apple.mpegurl", "application/x-mpegurl", "application/mp4")
_OTHER: Final = ("image/", "text/", "application/pdf", "application/epub")
_TAG: Final = re.compile(r"</?[a-zA-Z][^<>]*>")
_HIDDEN: Final = re.compile(r"<!--|<script\b|<style\b", re.IGNORECASE)
_SHOWN: Final = re.compile(r"-->|</script\s*>|</style\s*>", re.IGNORECASE)
_BREAK: Final = re.compile(r"<(?:br|/p|/div|/li)\b[^<>]*>", re.IGNORECASE)


@dataclass(frozen=True)
class Item:
    """One entry with a media file."""

    line: int
    url: str
    title: str | None = None
    tags: tuple[str, ...] = ()
    description: str | None = None
    release_date: str | None = None


@dataclass(frozen=True)
class Feed:
    """`feeds`: links of other feeds (OPML); `without`: entries that have no media file; `is_cut`: there were more."""

    items: tuple[Item, ...]
    feeds: tuple[str, ...] = ()
    without: int = 0
    is_cut: bool = False


class _Enough(Exception):
    """As many entries as are wanted have been read."""


@dataclass
class _Draft:
    """An entry while it is read."""

    line: int
    depth: int
    said: dict[str, list[str]] = field(default_factory=dict)  # by the name of its direct children
    files: list[tuple[str, str]] = field(default_factory=list)  # (link, its type)
    size: int = 0  # characters so far

    def begin(self, name: str) -> None:
        """A direct child."""
        self.size += len(name) + 1
        if self.size <= _MOST_CHARACTERS:
            self.said.setdefault(name, []).append("")

    def take(self, name: str, said: str) -> None:
        self.size += len(said)
        if self.size <= _MOST_CHARACTERS and name in self.said:
            self.said[name][-1] += said

    def first(self, *names: str) -> str:
        return next((found for name in names for said in self.said.get(name, ()) if (found := said.strip())), "")

    def item(self) -> Item | None:
        """None where it has no media file."""
        media = [url for url, kind in self.files if kind.startswith(_MEDIA)]
        url = next(iter(media or [url for url, kind in self.files if not kind.startswith(_OTHER)]), None)
        if url is None:
            return None
        tags = [*self.said.get("category", ()), *self.first("itunes:keywords", "media:keywords").split(",")]
        return Item(
            self.line,
            url.strip(),
            title=line(unmarked(self.first("title", "media:title"))),
            tags=lines(tags),
            description=text(unmarked(self.first("content:encoded", "description", "summary", "content", "itunes:summary"))),
            release_date=moment(self.first("pubDate", "published", "dc:date", "updated")),
        )


def unmarked(said: str) -> str:
    """The text of what may be HTML: feeds say not which it is. Looks at each character a few times at most."""
    if "<" in said:
        first, *hidden = _HIDDEN.split(said)
        said = first + "".join("".join(_SHOWN.split(part, maxsplit=1)[1:]) for part in hidden)
        said = _TAG.sub("", _BREAK.sub("\n", said))
    return html.unescape(said).strip()


def moment(said: str) -> str | None:
    """The day, in UTC, of a date as mail (RSS) or ISO 8601 (Atom) writes it."""
    if (found := date(said)) is not None:
        return found
    try:
        return email.utils.parsedate_to_datetime(said).astimezone(UTC).date().isoformat()
    except (ValueError, TypeError, OverflowError):
        return None


class _Reader:
    """Expat's handlers: they hold one entry at a time."""

    def __init__(self, where: str, most: int) -> None:
        self.where = where
        self.most = most
        self.items: list[Item] = []
        self.feeds: list[str] = []
        self.without = 0
        self._path: list[str] = []
        self._count = 0
        self._draft: _Draft | None = None
        self._parser = expat.ParserCreate(namespace_separator="}")
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.EntityDeclHandler = self._refuse
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text

    def read(self, content: bytes) -> bool:
        """Whether all of it was wanted. Raises ConfigError."""
        try:
            for place in range(0, len(content), _BLOCK_BYTES):
                self._parser.Parse(content[place : place + _BLOCK_BYTES], place + _BLOCK_BYTES >= len(content))
        except _Enough:
            return False
        except (expat.ExpatError, LookupError, ValueError) as error:  # an encoding that nobody knows is a LookupError
            reason = expat.errors.messages.get(getattr(error, "code", 0), "its encoding is not known")
            raise self._trouble(f"is no valid XML: {reason}; correct it") from None
        return True

    def _trouble(self, why: str) -> ConfigError:
        return ConfigError(f"{self.where}:{self._parser.CurrentLineNumber}: {why}")

    def _refuse(self, *_: Any) -> None:
        raise self._trouble("has a document type, which is refused; delete its <!DOCTYPE …>")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        name = _name(tag)
        if not self._path and name.lower() not in _ROOTS:
            raise self._trouble(f"is XML of another kind ({plain(name)[:40]}); give RSS, Atom or OPML")
        self._path.append(name)
        self._count += 1
        if self._count > _MOST_ELEMENTS:
            raise self._trouble(f"has more than {_MOST_ELEMENTS} elements; split it")
        if len(self._path) > _DEEPEST:
            raise self._trouble(f"is nested more than {_DEEPEST} deep; it was left out")
        if name == "outline" and self._path[0] == "opml":
            self._outline(attributes)
        elif self._draft is not None:
            self._draft.files += _files(name, attributes) if len(self._draft.files) < _MOST_FILES else []
            if len(self._path) == self._draft.depth + 1:
                self._draft.begin(name)
            if name == "category":
                self._draft.take(name, attributes.get("term", ""))  # Atom's
        elif name in _ITEMS:
            self._draft = _Draft(self._parser.CurrentLineNumber, len(self._path))

    def _end(self, _tag: str) -> None:
        if self._draft is not None and len(self._path) == self._draft.depth:
            self._keep(self._draft.item())
            self._draft = None
        self._path.pop()

    def _text(self, said: str) -> None:
        if self._draft is not None and len(self._path) > self._draft.depth:
            self._draft.take(self._path[self._draft.depth], said)

    def _keep(self, item: Item | None) -> None:
        if item is None:
            self.without += 1
        elif len(self.items) == self.most:
            raise _Enough
        else:
            self.items.append(item)

    def _outline(self, attributes: dict[str, str]) -> None:
        """OPML 2.0: `xmlUrl` is a feed; a `link` leads to something, which may be a media file."""
        said = {key.lower(): value for key, value in attributes.items()}
        url = said.get("url") or (said.get("htmlurl") if said.get("type", "").lower() == "link" else None)
        if said.get("xmlurl") and len(self.feeds) < self.most:
            self.feeds.append(said["xmlurl"].strip())
        elif url:
            title = line(unmarked(said.get("title") or said.get("text") or ""))
            tags = lines(said.get("category", "").replace("/", ",").split(","))
            self._keep(Item(self._parser.CurrentLineNumber, url.strip(), title, tags))


def _name(tag: str) -> str:
    space, _, name = tag.rpartition("}")
    if name == "RDF":
        return "rdf"
    return f"{_SPACES[space]}{name}" if space in _SPACES else f"?:{name}" if space else name


def _files(name: str, attributes: dict[str, str]) -> list[tuple[str, str]]:
    """The media file that an element names, and its type, which may be empty."""
    if name == "link" and attributes.get("rel") == "enclosure":
        url = attributes.get("href")
    elif name in {"enclosure", "media:content"}:
        url = attributes.get("url")
    else:
        return []
    kind = attributes.get("type") or (f"{attributes['medium']}/" if attributes.get("medium") else "")
    return [(url or "", kind.strip().lower())]


def parse(content: bytes, where: str, most: int) -> Feed:
    """At most `most` entries, as they stand. Raises ConfigError, which names the line, for what is no feed."""
    reader = _Reader(where, most)
    is_whole = reader.read(content)
    return Feed(tuple(reader.items), tuple(reader.feeds), reader.without, is_cut=not is_whole)
