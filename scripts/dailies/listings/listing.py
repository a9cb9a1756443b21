"""What every listing source can do; a kind of them is one file here (docs/sources.md, "listings")."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from dailies.clock import Deadline
from dailies.intake import Item


@dataclass(frozen=True)
class Found:
    """What a source holds now, the oldest first. `validators` are sent the next time; `is_unchanged`: since they were got.

    `notes` are lines for people. `count` are the entries that were looked at.
    """

    items: tuple[Item, ...] = ()
    count: int = 0
    notes: tuple[str, ...] = ()
    validators: Mapping[str, str] = field(default_factory=dict)
    is_unchanged: bool = False


class Listing(Protocol):
    @property
    def name(self) -> str: ...

    def look(self, validators: Mapping[str, str], deadline: Deadline) -> Found:
        """Raises every DailiesError: of such trouble patience.py says when it is tried again."""
