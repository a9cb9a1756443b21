"""The local inbox, the listing source that every library has."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dailies.clock import Deadline
from dailies.errors import Category, Transient
from dailies.intake import Item, Wishes
from dailies.listings.listing import Found
from dailies.model import readable
from dailies.sources import inbox

NAME: Final = "inbox"


@dataclass(frozen=True)
class Inbox:
    folder: Path
    name: str = NAME

    def look(self, validators: Mapping[str, str], deadline: Deadline) -> Found:  # noqa: ARG002 -- others have been told before
        """An inbox that is not there is empty; one that cannot be read raises Transient."""
        deadline.check()
        try:
            os.scandir(self.folder).close()
        except FileNotFoundError:
            return Found()
        except OSError as error:
            raise Transient(
                f"{readable(str(self.folder))}: cannot be read: {error.strerror}; make it a folder that this user may read",
                Category.UNREADABLE,
            ) from error
        found = inbox.search(self.folder)
        notes = tuple(f"{readable(str(path))}: {why}" for path, why in found.left)
        return Found(tuple(Item(path, Wishes()) for path in found.media), len(found.media), notes)
