"""The registry of host adapters: a plug-in is one file and one line here."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError

from dailies.body import Throttle
from dailies.clock import Clock
from dailies.config import Settings, explain
from dailies.errors import ConfigError
from dailies.hosts.folder import FolderHost
from dailies.hosts.host import Asset, Capabilities, Details, Ground, Host, Receipt, Session, Standing, Transfer
from dailies.http import Http
from dailies.model import Kind

__all__ = [
    "HOSTS",
    "Asset",
    "Capabilities",
    "Details",
    "Ground",
    "Host",
    "Receipt",
    "Session",
    "Standing",
    "Transfer",
    "build",
]

HOSTS: Final[Mapping[str, Callable[..., Host]]] = {"folder": FolderHost}


def build(settings: Settings, root: Path, clock: Clock, environment: Mapping[str, str]) -> dict[str, Host]:
    """The configured hosts by name. Raises ConfigError for an unknown adapter, a bad field or a name that no section defines."""
    hosts: dict[str, Host] = {}
    throttle = Throttle(clock, settings.publish.bandwidth)
    for name, section in settings.hosts.items():
        adapter = HOSTS.get(section.adapter)
        if adapter is None:
            raise ConfigError(f"hosts.{name}: unknown adapter {section.adapter!r}; known: {', '.join(sorted(HOSTS))}")
        if "ground" in section.fields():
            raise ConfigError(f"hosts.{name}: ground: unknown key; see docs/settings.md")
        secrets = {variable: environment.get(variable, "") for variable in section.secret_names()}
        ground = Ground(root, Http(clock, throttle), secrets)
        try:
            hosts[name] = adapter(ground=ground, **section.fields())
        except ValidationError as error:
            model = adapter if isinstance(adapter, type) and issubclass(adapter, BaseModel) else BaseModel
            raise ConfigError(explain(error, model, f"hosts.{name}")) from error
    for key, names in (("hosts", settings.publish.hosts), ("preview_hosts", settings.publish.preview_hosts)):
        kind = Kind.VIDEO if key == "hosts" else Kind.PREVIEW
        for name in names:
            if name not in hosts:
                raise ConfigError(f"publish.{key}: no section [hosts.{name}]; known: {', '.join(sorted(hosts))}")
            if kind not in hosts[name].capabilities.kinds:
                raise ConfigError(f"publish.{key}: {name} takes no {kind} ({settings.hosts[name].adapter}); name another")
    if not settings.publish.hosts:
        raise ConfigError("publish.hosts: names no host; videos would be published nowhere: add one")
    return hosts
