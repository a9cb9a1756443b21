"""A host with a key, as a plug-in would add it: other people's server is a folder here. Imported by the harness's interpreters."""

from pydantic import Field

from dailies import hosts
from dailies.clock import Deadline
from dailies.config import environment
from dailies.errors import ConfigError
from dailies.hosts.storage import Storage


class VaultHost(Storage):
    """A folder behind a key."""

    key_env: str = Field(description="environment variable that holds the key")

    def preflight(self, deadline: Deadline) -> str:
        key = environment()[self.key_env]
        if key != environment()["HARNESS_RIGHT_KEY"]:
            raise ConfigError(f"vault: the key {key} in {self.key_env} is refused; make a new one")
        return "the key is taken"


hosts.HOSTS["vault"] = VaultHost  # type: ignore[index]  # read-only for everybody else
