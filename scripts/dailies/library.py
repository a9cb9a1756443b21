"""A library opened for a command: its settings, and what is made from them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dailies import config, hosts
from dailies.clock import Clock, Deadline, SystemClock
from dailies.config import Settings
from dailies.database import Database
from dailies.errors import ConfigError
from dailies.hosts import Host
from dailies.intake import Desk
from dailies.model import readable
from dailies.publication import Publisher
from dailies.redact import Redactor, plain, secrets_of
from dailies.repository import Repository
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
    def hosts(self) -> Mapping[str, Host]:
        return hosts.build(self.settings, self.root, self.clock, config.environment())

    @cached_property
    def publisher(self) -> Publisher:
        return Publisher(self.repository, self.database, self.work, self.clean_text)

    @cached_property
    def redactor(self) -> Redactor:
        return Redactor(secrets_of(config.environment(), self.settings.secret_names()))

    def clean_text(self, text: str) -> str:
        """For messages that stand in committed records: no secret, one line, no longer than a person reads."""
        return plain(self.redactor(text))[:1000]
