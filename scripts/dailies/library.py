"""A library opened for a command: its settings, and what is made from them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path

from dailies import config, hosts
from dailies.clock import Clock, Deadline, SystemClock
from dailies.config import Settings
from dailies.database import Database
from dailies.delivery import Dispatch, Meter
from dailies.enrich import Enricher
from dailies.errors import ConfigError
from dailies.gates import Gates
from dailies.hosts import Host
from dailies.http import Http
from dailies.intake import Desk
from dailies.journal import Journal
from dailies.listings import Listings
from dailies.model import Kind, Video, readable
from dailies.publication import Publisher
from dailies.redact import Redactor, plain, secrets_of
from dailies.repository import Repository
from dailies.sources import Ground
from dailies.space import Space


@dataclass(frozen=True)
class Library:
    """The repository whose root holds `dailies.toml`."""

    root: Path
    settings: Settings
    clock: Clock = field(default_factory=SystemClock)

    @classmethod
    def open(cls, start: Path | None = None, root: Path | None = None) -> "Library":
        """The library at `root`, else the nearest one upwards from `start`. Raises ConfigError."""
        found = config.find_root((start or Path.cwd()).resolve()) if root is None else root.resolve()
        if str(found) != readable(str(found)):
            raise ConfigError(f"{readable(str(found))}: the path of a library must be valid UTF-8; rename that folder")
        return cls(found, config.load(found))

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def inbox(self) -> Path:
        return self.root / self.settings.library.inbox

    @cached_property
    def repository(self) -> Repository:
        return Repository(self.root, self.settings.git)

    @cached_property
    def database(self) -> Database:
        return Database(self.root, self.work, self.clock, restore=self.repository.committed)

    @cached_property
    def space(self) -> Space:
        return Space(self.work, self.settings.space.floor, self.clock)

    def desk(self, deadline: Deadline) -> Desk:
        """Where this library queues files."""
        return Desk(self.database, self.root, self.clock, deadline)

    @cached_property
    def sources(self) -> Ground:
        """What all sources stand on: their connections are counted over all fetches of this process."""
        return Ground.of(self.settings.sources, self.root, self.clock, config.environment(), self.settings.listings)

    @cached_property
    def listings(self) -> Listings:
        """Where this library looks for new things. Raises ConfigError for a host that is not configured."""
        for section in self.settings.listings.values():
            for name in section.hosts:
                self.check_host(name)
        path = self.work / "listings.json"
        return Listings(self.inbox, self.settings.listings, self.sources, path, self.clock, self.clean_text)

    @cached_property
    def hosts(self) -> Mapping[str, Host]:
        return hosts.build(self.settings, self.root, self.clock, config.environment())

    def dispatch(self, meter: Meter | None = None) -> Dispatch:
        """What deliveries share; `meter` is told how far they are."""
        gates = Gates(self.settings, lambda: self.journal.sent_since(self.clock.now() - timedelta(days=1)), self.clock)
        told = {"meter": meter} if meter else {}
        return Dispatch(self.hosts, gates, self.journal, self.settings, self.work, self.clock, self.clean_text, **told)

    def check_host(self, name: str, kind: Kind = Kind.VIDEO) -> None:
        """Raises ConfigError for a host that is not configured, or takes no such files."""
        if name not in self.hosts:
            raise ConfigError(f"{name}: no section [hosts.{name}]; known: {', '.join(sorted(self.hosts))}")
        if kind not in self.hosts[name].capabilities.kinds:
            raise ConfigError(f"{name}: takes no {kind}; name another host")

    def saver(self, video: Video) -> Callable[[Video], Video]:
        """Saves one version of a video after the other, each on the one before, of which `video` is the first."""
        before = video

        def save(after: Video) -> Video:
            """What others changed meanwhile is in what is returned; whoever goes on without it has not undone it."""
            nonlocal before
            stored = self.database.save(after, before)
            before = after.with_(updated_at=stored.updated_at)
            return stored

        return save

    @cached_property
    def journal(self) -> Journal:
        return Journal(self.root, self.work)

    @cached_property
    def enricher(self) -> Enricher:
        """Raises ConfigError for a catalogue that is not known."""
        settings = self.settings.enrich
        return Enricher(settings, self.root, self.work, Http(self.clock), self.clock, config.environment())

    @cached_property
    def publisher(self) -> Publisher:
        return Publisher(self.repository, self.database, self.journal, self.work, self.clean_text)

    def secret_names(self) -> frozenset[str]:
        """Environment variables that hold secrets of hosts, listings, sites and catalogues."""
        enrich = self.settings.enrich
        catalogues = {enrich.tmdb_token_env} if "tmdb" in enrich.catalogues else set()
        sites = {site.authorization_env for site in self.settings.sources.sites.values() if site.authorization_env}
        return (
            frozenset(name for section in self.settings.hosts.values() for name in hosts.secret_names(section))
            | frozenset(name for section in self.settings.listings.values() for name in section.secret_names())
            | catalogues
            | sites
        )

    @cached_property
    def redactor(self) -> Redactor:
        return Redactor(secrets_of(config.environment(), self.secret_names()))

    def clean_text(self, text: str) -> str:
        """For messages that stand in committed records: no secret, one line, no longer than a person reads."""
        return plain(self.redactor(text))[:1000]
