"""Registries whose entries are imported when they are first asked for: each costs time at every start, and few are used."""

import importlib
from collections import UserDict
from typing import Any


class Plugins(UserDict[str, Any]):
    """By name; an entry that is text is `module:attribute`."""

    def __getitem__(self, name: str) -> Any:
        found = self.data[name]
        if isinstance(found, str):
            module, _, attribute = found.partition(":")
            found = self.data[name] = getattr(importlib.import_module(module), attribute)
        return found
