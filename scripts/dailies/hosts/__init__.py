"""The registry of host adapters: a plug-in is one file and one line here."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError

from dailies.body import Throttle
from dailies.clock import Clock
from dailies.config import HostSettings, Settings, explain
from dailies.errors import ConfigError
from dailies.hosts.host import Asset, Capabilities, Details, Ground, Host, Receipt, Session, Standing, Transfer
from dailies.http import Http
from dailies.model import Kind
from dailies.plugins import Plugins

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
    "secret_names",
]

HOSTS: Final[Mapping[str, Callable[..., Host]]] = Plugins(
    {
        "storage": "dailies.hosts.storage:Storage",
        "folder": "dailies.hosts.storage:Storage",  # what libraries of older versions call it
        "internet_archive": "dailies.hosts.internet_archive:InternetArchive",
        "xvideosharing": "dailies.hosts.xvideosharing:XVideoSharingHost",
        "streamtape": "dailies.hosts.streamtape:StreamtapeHost",
        "youtube": "dailies.hosts.youtube:YouTube",
        "peertube": "dailies.hosts.peertube:PeerTube",
    }
)


def secret_names(section: HostSettings) -> tuple[str, ...]:
    """Environment variables that hold its secrets: what `*_env` keys name, those too that stand at their default."""
    adapter = HOSTS.get(section.adapter)
    known = adapter.model_fields if isinstance(adapter, type) and issubclass(adapter, BaseModel) else {}
    defaults = {key: field.default for key, field in known.items() if not field.is_required()}
    values = {**defaults, **section.fields()}
    return tuple(str(value) for key, value in values.items() if key.endswith("_env") and value)


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
        secrets = {variable: environment.get(variable, "") for variable in secret_names(section)}
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
