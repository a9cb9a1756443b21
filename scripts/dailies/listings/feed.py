"""A feed or a list behind a link."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote, urlunsplit

from dailies import config, links, lists
from dailies.answer import Answer
from dailies.arriving import ANSWER_BYTES
from dailies.clock import Deadline
from dailies.errors import Category, ConfigError, RateLimited, Transient
from dailies.intake import Item, Wishes
from dailies.listings.listing import Found
from dailies.redact import SHORTEST_SECRET, says_secret
from dailies.sources import Ground
from dailies.sources.asking import way
from dailies.sources.slots import slot

_UNCHANGED: Final = 304
_ANSWERS: Final = frozenset({_UNCHANGED, *range(400, 600)})  # that are judged here
_CONDITIONS: Final = {"etag": "If-None-Match", "last-modified": "If-Modified-Since"}


@dataclass(frozen=True)
class Feed:
    name: str
    settings: config.Listing
    ground: Ground = field(repr=False)

    def look(self, validators: Mapping[str, str], deadline: Deadline) -> Found:
        """Asked once: it is patience.py that says when again."""
        asked = way(self._link(), self.ground)
        conditions = {_CONDITIONS[key]: said for key, said in validators.items() if key in _CONDITIONS}
        with slot(self.ground, deadline):
            answer = self.ground.http.call(
                "GET", asked.url, deadline, headers={**asked.headers, **conditions}, accept=_ANSWERS, repeats=False
            )
        if answer.status == _UNCHANGED:
            return Found(is_unchanged=True, validators=validators)
        self._check(answer)
        return self._found(answer)

    def _link(self) -> str:
        """Raises ConfigError."""
        if self.settings.feed:
            return self.settings.feed
        link = self.ground.variables.get(self.settings.secret_env, "")
        if not links.is_link(link):
            raise ConfigError(f"{self.settings.secret_env}: holds no link; set it to the feed's")
        return link

    def _check(self, answer: Answer) -> None:
        """Raises what an answer without a list means."""
        if answer.status >= 400:
            wait_s = answer.retry_after_s(self.ground.clock)
            why = f"{answer.host}: HTTP {answer.status}; check the feed's link, it is tried again later"
            raise RateLimited(why, wait_s) if wait_s is not None else Transient(why, Category.UNREACHABLE)
        if len(answer.content) >= ANSWER_BYTES:
            raise ConfigError(f"{answer.host}: sends more than {ANSWER_BYTES // 10**6} MB; only smaller lists are read")

    def _found(self, answer: Answer) -> Found:
        base = answer.url if self.settings.feed else None  # a secret must not come into records with what is relative to it
        parsed = lists.parse(answer.content, self.name)
        is_list = not any(entry.is_of_feed for entry in parsed.entries)
        entries = _newest(parsed.entries, self.settings.limit, is_list=is_list)
        notes = [*parsed.notes, *parsed.refused]
        notes += [f"names the feed {links.shown(one)}, which is not read; give it a section" for one in parsed.feeds]
        if is_list and len(entries) < len(parsed.entries):
            notes.append(f"has {len(parsed.entries)} entries and the last {len(entries)} are looked at; see limit")
        items: list[Item] = []
        for entry in reversed(entries):
            try:
                items.append(Item(self._taken(lists.link_of(entry, base)), self._wishes(entry), entry.where))
            except ConfigError as error:
                notes.append(f"{entry.where}: {error}")
        if notes and not items and (entries or parsed.refused):
            raise ConfigError(f"has nothing that can be queued; {notes[0]}")
        notes += [] if self.settings.keep_query else _twins(items)
        validators = {key: answer.headers[key] for key in _CONDITIONS if answer.headers.get(key)}
        return Found(tuple(items), len(entries), tuple(notes), validators)

    def _taken(self, link: str) -> str:
        """Nobody looks at it before it stands in a record. Raises ConfigError where that would give the feed's own key away."""
        parts = links.parse(link)
        if self.settings.secret_env and _values(link) & _keys(self._link()):
            raise ConfigError("its link holds the key of the feed, which is kept out of records; it was left out")
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))  # accounts are given by [sources.sites]

    def _wishes(self, entry: lists.Entry) -> Wishes:
        """Hosts that others name are none of this library's."""
        return Wishes(
            title=entry.title,
            tags=tuple(dict.fromkeys((*self.settings.tags, *entry.tags))),
            code=entry.code,
            hosts=self.settings.hosts,
            keep_query=self.settings.keep_query,
            sha256=entry.sha256,
            description=entry.description,
            release_date=entry.release_date,
            listing=self.name,
        )


def _keys(link: str) -> set[str]:
    """What may be a key in the query of a feed's link: too long or too plainly named for anything else."""
    found = parse_qsl(links.parse(link).query)
    return {value for name, value in found if len(value) >= SHORTEST_SECRET or says_secret(name)}


def _values(link: str) -> set[str]:
    parts = links.parse(link)
    return {*(value for _, value in parse_qsl(parts.query)), *map(unquote, parts.path.split("/"))}


def _twins(items: Iterable[Item]) -> list[str]:
    names = {str(item.name) for item in items}
    exact = {links.normalised(name, keeps_query=True): links.normalised(name) for name in names}
    count = sum(many for many in Counter(exact.values()).values() if many > 1)
    return [f"{count} entries differ only behind the ?, which makes them one video; set keep_query = true"] if count else []


def _newest(entries: tuple[lists.Entry, ...], limit: int, *, is_list: bool) -> tuple[lists.Entry, ...]:
    """The newest first: by their dates where all have one; else feeds begin with them, and lists are written on at their end."""
    entries = entries[::-1] if is_list else entries
    if all(entry.release_date for entry in entries):
        entries = tuple(sorted(entries, key=lambda entry: entry.release_date or "", reverse=True))
    return entries[:limit] if limit else entries
