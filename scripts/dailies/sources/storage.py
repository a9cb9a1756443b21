"""A file of object storage or a server, as a listing found it there (docs/sources.md, "storage")."""

import contextlib
import glob
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from urllib.parse import quote, unquote

from dailies import config
from dailies.clock import Deadline
from dailies.errors import Category, ConfigError, Postponed, RateLimited, SourceGone, Transient, VideoError, Waiting
from dailies.hosts import Ground as Keys
from dailies.hosts.places import address as addresses
from dailies.hosts.places.address import Address
from dailies.hosts.places.place import Distant, Stored
from dailies.hosts.storage import opened
from dailies.model import Source, readable
from dailies.sources import ranges
from dailies.sources.slots import slot
from dailies.sources.source import Fetched, Ground, Place

KIND: Final = "storage"
_WILD: Final = frozenset("*?[")
_ALL: Final = "**"


@dataclass(frozen=True)
class Folder:
    """What `folder` of a listing names: an address, and a pattern below it."""

    path: str
    address: Address
    pattern: str

    @classmethod
    def of(cls, text: str) -> "Folder":
        """Raises ConfigError, which shows nothing of what stands before an `@`."""
        parts = text.split("/")
        first = next((number for number, part in enumerate(parts) if number > 2 and _WILD & set(part)), len(parts))
        path = "/".join(parts[:first])
        try:
            address = addresses.parse(path)
        except ValueError as error:
            raise ConfigError(f"folder: {error}") from None
        if address is None:
            raise ConfigError(
                "folder: is one of this machine; put its files into the inbox, or name an address like s3://bucket/films"
            )
        return cls(path, address, "/".join(parts[first:]) or _ALL)

    def uri(self, key: str) -> str:
        """Of a file: without the account's name."""
        return f"{self._start}{quote(self.address.path(key).lstrip('/'))}"

    def key(self, uri: str) -> str | None:
        """None where the file is not below this folder."""
        path = unquote(uri.removeprefix(self._start))
        base = self.address.path("").lstrip("/")
        return path.removeprefix(base) if uri.startswith(self._start) and path.startswith(base) else None

    @property
    def _start(self) -> str:
        port = f":{self.address.port}" if self.address.port else ""
        return f"{self.address.scheme}://{self.address.host}{port}/"


def enter(name: str, listing: config.Listing, ground: Ground) -> Distant:
    """Raises ConfigError."""
    secrets = {variable: ground.variables.get(variable, "") for variable in listing.secret_names()}
    return opened(Folder.of(listing.folder).path, listing.fields(), Keys(ground.root, ground.http, secrets), f"listings.{name}")


def found(folder: Folder, file: Stored) -> Source:
    """A file that has changed is another source: its size and version are part of which it is."""
    uri = folder.uri(file.key)
    name = readable(file.key.rpartition("/")[2])
    return Source(kind=KIND, uri=uri, original_name=name, size_bytes=file.size_bytes, identity=_identity(uri, file))


def _identity(uri: str, file: Stored) -> str:
    return hashlib.sha256(f"{KIND}\0{uri}\0{file.size_bytes}\0{file.version}".encode()).hexdigest()


@dataclass(frozen=True)
class StoredFile:
    ground: Ground

    def is_here(self, source: Source) -> bool:
        name, _ = self._place(source)
        listing = self.ground.listings.get(name or "")
        return listing is not None and all(self.ground.variables.get(variable) for variable in listing.secret_names())

    def fetch(self, source: Source, place: Place, deadline: Deadline) -> Fetched:
        """It must be what was found; what an earlier fetch brought of it is gone on from."""
        try:
            self._fetch(source, place, deadline)
        except RateLimited as error:
            raise Postponed(
                f"{source.original_name}: {error}", self.ground.clock.now() + timedelta(seconds=error.wait_s)
            ) from error
        except ConfigError as error:
            raise Waiting(f"{source.original_name}: {error}", Category.SETTINGS) from error
        return Fetched(source)

    def remove(self, source: Source) -> None:
        """Nothing is deleted on a server."""

    def _fetch(self, source: Source, place: Place, deadline: Deadline) -> None:
        path, journal = place.kept / "storage.part", place.kept / "storage.spans"
        if ranges.is_whole(place.target, journal, source.identity, source.size_bytes, deadline):
            return
        most = self.ground.settings.max_size
        if source.size_bytes > most:
            raise VideoError(
                f"{source.original_name}: has {source.size_bytes} bytes and {most} are fetched; raise [sources] max_size",
                Category.UNSUPPORTED,
            )
        name, key = self._place(source)
        if name is None:
            raise Waiting(f"{source.original_name}: no [listings] has its folder; put the section back", Category.SETTINGS)
        distant = enter(name, self.ground.listings[name], self.ground)
        self._check(source, key, distant, deadline)
        place.reserve(source.size_bytes)
        part = ranges.Part.resumed(path, journal, source.identity, source.size_bytes, deadline)
        try:
            while (claim := part.claim(None)) is not None:
                with slot(self.ground, deadline):
                    blocks = distant.read(key, claim.end, deadline, claim.at)
                    part.pour(_told(blocks, claim.end - claim.at, part, place), claim, source.original_name)
                if claim.at < claim.end:
                    raise Transient(f"{source.original_name}: ended after {claim.at} of {claim.end} bytes; it is tried again later")
            part.put_in_place(place.target)
        finally:
            part.close()

    def _check(self, source: Source, key: str, distant: Distant, deadline: Deadline) -> None:
        """Raises SourceGone, or VideoError `changed`."""
        with slot(self.ground, deadline):
            there = [one for one in distant.browse(glob.escape(key), deadline) if one.key == key]
        if not there:
            raise SourceGone(f"{source.original_name}: is not there any more; put it back and `dailies retry` it")
        if _identity(source.uri, there[0]) != source.identity:
            raise VideoError(
                f"{source.original_name}: has changed since it was queued; add it again, which the next look at its folder does",
                Category.CHANGED,
            )

    def _place(self, source: Source) -> tuple[str | None, str]:
        """(the listing whose folder it lies in, its key there)."""
        for name, listing in self.ground.listings.items():
            with contextlib.suppress(ConfigError):  # what is wrong with a folder is told by who looks into it
                if listing.folder and (key := Folder.of(listing.folder).key(source.uri)) is not None:
                    return name, key
        return None, ""


def _told(blocks: Iterator[bytes], count: int, part: ranges.Part, place: Place) -> Iterator[bytes]:
    """At most so many bytes: some places read on to the end of the file."""
    before, got = part.got, 0
    for block in blocks:
        yield block[: count - got]
        got += len(block)
        place.progress(before + min(got, count), part.size_bytes)
        if got >= count:
            return
