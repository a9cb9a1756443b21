"""A folder of storage: S3, Google Cloud Storage, Azure, WebDAV, SFTP."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from dailies import config
from dailies.clock import Deadline
from dailies.intake import Item, Wishes
from dailies.listings.listing import Found
from dailies.sources import Ground, storage
from dailies.sources.inbox import MEDIA_SUFFIXES
from dailies.sources.slots import slot

_SETTLED_S: Final = 60.0  # SFTP and WebDAV show a file that is still being sent; one of another year is no younger for that


@dataclass(frozen=True)
class Folder:
    name: str
    settings: config.Listing
    ground: Ground = field(repr=False)

    def look(self, validators: Mapping[str, str], deadline: Deadline) -> Found:  # noqa: ARG002 -- a folder has none
        """Media files only, the newest `limit` of them; hidden ones are passed over, as uploads begin under such names."""
        folder = storage.Folder.of(self.settings.folder)
        distant = storage.enter(self.name, self.settings, self.ground)
        with slot(self.ground, deadline):
            files = [file for file in distant.browse(folder.pattern, deadline) if _is_media(file.key)]
        now = self.ground.clock.now().timestamp()
        growing = [file for file in files if abs(now - file.changed_at) < _SETTLED_S]
        files = sorted(set(files).difference(growing), key=lambda file: (-file.changed_at, file.key))
        newest = files[: self.settings.limit] if self.settings.limit else files
        items = [Item(folder.uri(file.key), self._wishes(), source=storage.found(folder, file)) for file in reversed(newest)]
        told = f"{len(growing)} files were changed less than {_SETTLED_S:.0f} s ago; they wait for a later look"
        return Found(tuple(items), len(items), (told,) if growing else ())

    def _wishes(self) -> Wishes:
        return Wishes(tags=self.settings.tags, hosts=self.settings.hosts, listing=self.name)


def _is_media(key: str) -> bool:
    path = PurePosixPath(key)
    return path.suffix.lower() in MEDIA_SUFFIXES and not any(part.startswith(".") for part in path.parts)
