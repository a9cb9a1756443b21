"""Where new things are looked for: the inbox, feeds, folders of storage. Asked with patience, then queued."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from dailies import config, intake, links
from dailies.clock import Clock, Deadline
from dailies.errors import Category, ConfigError, DailiesError, Interrupted, OutOfTime, RateLimited, Transient
from dailies.intake import Desk, Item
from dailies.listings import memory
from dailies.listings.feed import Feed
from dailies.listings.folder import Folder
from dailies.listings.inbox import NAME as INBOX
from dailies.listings.inbox import Inbox
from dailies.listings.listing import Found, Listing
from dailies.listings.memory import Memory
from dailies.model import Video
from dailies.progress import log
from dailies.report import ListingReport
from dailies.sources import Ground
from dailies.sources.inbox import unsettled

__all__ = ["INBOX", "Asked", "Found", "Listing", "Listings", "Round"]

LOOK_S: Final = 60.0  # of one source
_AT_ONCE: Final = 8
_FINGERPRINT: Final = "settings"  # beside the validators: whose answer they are of
_RECORDS: Final = "records"  # … and how many records there were then, as text that compares like the number
_TOLD: Final = 10  # lines about one source


@dataclass(frozen=True)
class Asked:
    """What became of one source: `found` None where it failed or its time had not come."""

    name: str
    memory: Memory
    found: Found | None = None
    error: str | None = None


@dataclass(frozen=True)
class Round:
    """One look at every source. Nothing of it is queued before `Listings.take`."""

    asked: tuple[Asked, ...]

    def items(self) -> list[Item]:
        return [item for one in self.asked if one.found is not None for item in one.found.items]


@dataclass(frozen=True)
class Taken:
    """How it stands with every source afterwards, and what people are told."""

    reports: Mapping[str, ListingReport]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Listings:
    """All listing sources of a library. `path` is the file in which they are remembered, `clean` takes secrets out of texts."""

    inbox: Path
    sections: Mapping[str, config.Listing]
    ground: Ground = field(repr=False)
    path: Path
    clock: Clock
    clean: Callable[[str], str] = field(repr=False)

    def due(self, recorded: Mapping[str, Any]) -> int:
        """Sources elsewhere that the next run would ask."""
        known, now = memory.read(self.path, recorded), self.clock.now()
        return sum(known.get(name, Memory()).patience.renewed(now).is_due(now) for name in self.sections)

    def ask(self, recorded: Mapping[str, Any], desk: Desk, *, is_forced: bool = False, renews: bool = True) -> Round:
        """Look at all that are due (`is_forced`: at all, whatever they said before), the inbox first, others beside each other.

        `recorded` is what status.json knows; `renews` gives those a new try that were given up. Raises the deadline's errors.
        """
        known, now, deadline, records = memory.read(self.path, recorded), self.clock.now(), desk.deadline, _count(desk)

        def one(source: Listing) -> Asked:
            before = known.get(source.name, Memory())
            if is_forced or not self._is_current(before, source.name, records):
                before = replace(before, validators={})
            patience = before.patience.renewed(now) if renews else before.patience
            if not is_forced and not patience.is_due(now):
                return Asked(source.name, before)
            return self._ask(source, before, deadline)

        first = one(Inbox(self.inbox))
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="listing") as pool:
            return Round((first, *pool.map(one, self._elsewhere())))

    def news(self, found: Round, desk: Desk) -> frozenset[str]:
        """The identities of what is in no record; a file that is still being written, or cannot be read, is no news yet."""
        fresh = intake.unknown_items(found.items(), desk)
        files = {Path(item.name) for items in fresh.values() for item in items if isinstance(item.name, Path)}
        growing = unsettled(files, self.clock)
        return frozenset(name for name, (item, *_) in fresh.items() if name is not None and item.name not in growing)

    def take(self, found: Round, desk: Desk) -> Taken:
        """Queue what is new and remember it."""
        problems: list[str] = []
        memories: list[Memory] = []
        for one in found.asked:
            taken = self._take(one.found, desk) if one.found is not None else intake.Intake((), ())
            told = (one.error,) if one.error else (*one.found.notes, *taken.refused) if one.found is not None else ()
            new = [added.video for added in taken.added if added.is_new]
            problems += _capped(one.name, (*told, *_open_secrets(new)))
            if new:
                log.info("listing %s: %d new", one.name, len(new))
            memories.append(self._after(one, len(new), is_all=not taken.refused))
        return Taken(self._write(memories, found, desk), tuple(problems))

    def remember(self, found: Round, desk: Desk) -> None:
        """Of a round of which nothing was queued: what is in no record yet must be told again."""
        unqueued = [one.found is not None and _lacks(one.found, desk) for one in found.asked]
        self._write([self._after(one, 0, is_all=not lacks) for one, lacks in zip(found.asked, unqueued, strict=True)], found, desk)

    def _take(self, found: Found, desk: Desk) -> intake.Intake:
        fresh = [item for items in intake.unknown_items(found.items, desk).values() for item in items]
        files = desk.take([item for item in fresh if isinstance(item.name, Path)], "it waits for the next run")
        linked = desk.take_links(item for item in fresh if not isinstance(item.name, Path))
        return intake.Intake((*files.added, *linked.added), (*files.refused, *linked.refused))

    def _after(self, one: Asked, new: int, *, is_all: bool = True) -> Memory:
        """`is_all`: nothing was refused that may be taken the next time."""
        if one.found is None:
            return one.memory
        count = one.memory.report.found if one.found.is_unchanged else one.found.count
        report = one.memory.report.model_copy(update={"found": count, "added": new})
        return Memory(report, one.found.validators if is_all else {})

    def _write(self, memories: Iterable[Memory], found: Round, desk: Desk) -> dict[str, ListingReport]:
        """Sources that have no section any more are forgotten. What cannot be written is asked for again, and no more."""
        by_name = {one.name: known for one, known in zip(found.asked, memories, strict=True)}
        records = _count(desk)
        marked = {name: self._marked(one, name, records) for name, one in by_name.items()}
        try:
            memory.write(self.path, marked)
        except ConfigError as error:
            log.warning("listings: %s", error)
        return {name: one.report for name, one in by_name.items()}

    def _ask(self, source: Listing, before: Memory, deadline: Deadline) -> Asked:
        limit = deadline.within(LOOK_S, lambda: Transient(f"nothing came in {LOOK_S:.0f} s; it is tried again", Category.TIMEOUT))
        try:
            found = source.look(before.validators, limit)
        except (Interrupted, OutOfTime):
            raise
        except DailiesError as error:
            why = self.clean(str(error))
            asked_for = timedelta(seconds=error.wait_s if isinstance(error, RateLimited) else 0)
            patience = before.patience.failed(now := self.clock.now(), why, asked_for)
            log.warning("listing %s", _named(source.name, why))
            return Asked(source.name, before.with_(patience, now), error=why)
        now = self.clock.now()
        return Asked(source.name, before.with_(before.patience.succeeded(now), now), found)

    def _elsewhere(self) -> Iterable[Listing]:
        for name, section in self.sections.items():
            yield Folder(name, section, self.ground) if section.folder else Feed(name, section, self.ground)

    def _is_current(self, known: Memory, name: str, records: str) -> bool:
        """Validators of other settings say nothing: what was left out then may be wanted now. Nor where records have gone."""
        is_same = known.validators.get(_FINGERPRINT) == self._fingerprint(name)
        return is_same and known.validators.get(_RECORDS, "") <= records

    def _marked(self, known: Memory, name: str, records: str) -> Memory:
        marks = {_FINGERPRINT: self._fingerprint(name), _RECORDS: records}
        return replace(known, validators={**known.validators, **marks}) if known.validators else known

    def _fingerprint(self, name: str) -> str:
        section = self.sections.get(name)
        if section is None:
            return ""
        link = self.ground.variables.get(section.secret_env, "") if section.secret_env else ""
        return hashlib.sha256(f"{section.model_dump_json()}\0{link}".encode("utf-8", "surrogateescape")).hexdigest()


def _count(desk: Desk) -> str:
    return f"{len(desk.database.ids_by_identity()):012}"


def _lacks(found: Found, desk: Desk) -> bool:
    """Whether something is in no record; asked only where it matters."""
    return bool(found.validators) and bool(intake.unknown_items(found.items, desk))


def _open_secrets(new: Iterable[Video]) -> Iterable[str]:
    count = sum(links.is_link(video.source.uri) and links.holds_secrets(video.source.uri) for video in new)
    if count:
        yield f"{count} links hold what looks like a key, and stand in database/; take a feed without, or `authorization_env`"


def _capped(name: str, told: Sequence[str]) -> list[str]:
    rest = [f"and {len(told) - _TOLD} more"] if len(told) > _TOLD else []
    return [_named(name, text) for text in (*told[:_TOLD], *rest)]


def _named(name: str, text: str) -> str:
    """Lines about an entry begin with the name already."""
    return text if text.startswith(f"{name}:") else f"{name}: {text}"
