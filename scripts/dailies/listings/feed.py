"""A feed or a list behind a link."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlunsplit

from dailies import config, links, lists
from dailies.answer import Answer
from dailies.arriving import ANSWER_BYTES
from dailies.clock import Deadline
from dailies.errors import Category, ConfigError, RateLimited, Transient
from dailies.intake import Item, Wishes
from dailies.listings.listing import Found
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
        entries = _newest(parsed.entries, self.settings.limit)
        notes = [*parsed.notes, *parsed.refused]
        notes += [f"{self.name}: names the feed {links.shown(one)}, which is not read; give it a section" for one in parsed.feeds]
        is_list = not any(entry.is_of_feed for entry in parsed.entries)
        if is_list and len(entries) < len(parsed.entries):
            notes.append(f"{self.name}: has {len(parsed.entries)} entries and {len(entries)} are looked at; see limit")
        items: list[Item] = []
        for entry in reversed(entries):
            try:
                items.append(Item(_without_account(lists.link_of(entry, base)), self._wishes(entry), entry.where))
            except ConfigError as error:
                notes.append(f"{entry.where}: {error}")
        validators = {key: answer.headers[key] for key in _CONDITIONS if answer.headers.get(key)}
        return Found(tuple(items), len(entries), tuple(notes), validators)

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


def _without_account(link: str) -> str:
    """Nobody has looked at it before it stands in a record: an account is given by [sources.sites] (docs/sources.md)."""
    parts = links.parse(link)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _newest(entries: tuple[lists.Entry, ...], limit: int) -> tuple[lists.Entry, ...]:
    """The newest first: by their dates where all have one, else as the list has them."""
    if all(entry.release_date for entry in entries):
        entries = tuple(sorted(entries, key=lambda entry: entry.release_date or "", reverse=True))
    return entries[:limit] if limit else entries
