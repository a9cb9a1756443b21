"""The registry of host adapters: a plug-in is one file and one line here."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError

from dailies.config import Settings, explain
from dailies.errors import ConfigError
from dailies.hosts.folder import FolderHost
from dailies.hosts.host import Asset, Host, Receipt

__all__ = ["HOSTS", "Asset", "Host", "Receipt", "build"]

HOSTS: Final[Mapping[str, Callable[..., Host]]] = {"folder": FolderHost}


def build(settings: Settings, root: Path) -> dict[str, Host]:
    """The configured hosts by name. Raises ConfigError for an unknown adapter, a bad field or a name that no section defines."""
    hosts: dict[str, Host] = {}
    for name, section in settings.hosts.items():
        adapter = HOSTS.get(section.adapter)
        if adapter is None:
            raise ConfigError(f"hosts.{name}: unknown adapter {section.adapter!r}; known: {', '.join(sorted(HOSTS))}")
        if "root" in section.fields():
            raise ConfigError(f"hosts.{name}: root: is the library's and cannot be set; use path")
        try:
            hosts[name] = adapter(root=root, **section.fields())
        except ValidationError as error:
            model = adapter if isinstance(adapter, type) and issubclass(adapter, BaseModel) else BaseModel
            raise ConfigError(explain(error, model, f"hosts.{name}")) from error
    for key, names in (("hosts", settings.publish.hosts), ("preview_hosts", settings.publish.preview_hosts)):
        for name in names:
            if name not in hosts:
                raise ConfigError(f"publish.{key}: no section [hosts.{name}]; known: {', '.join(sorted(hosts))}")
    if not settings.publish.hosts:
        raise ConfigError("publish.hosts: names no host; videos would be published nowhere: add one")
    return hosts
