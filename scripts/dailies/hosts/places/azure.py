"""Azure Blob Storage: blocks that become a blob once the hash is right."""

import base64
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from dailies.clock import Deadline
from dailies.errors import ConfigError, DailiesError
from dailies.hosts.host import Asset, Ground, Transfer
from dailies.hosts.places.address import Address
from dailies.hosts.places.coroutines import BLOCK_BYTES, OPTIONS, Caller, Sent, content_type, known_hash, quiet
from dailies.hosts.places.place import Blocks, Found, Stored, answered, library, silent

MAX_BYTES: Final = 50_000 * BLOCK_BYTES  # blocks of a blob (Azure, "Scalability targets for Blob storage")


@dataclass(frozen=True)
class Azure:
    """A container, or what is below a prefix of it."""

    address: Address
    ground: Ground = field(repr=False)
    connection_string_env: str

    def probe(self, deadline: Deadline) -> None:
        """An empty blob that comes and goes."""
        self._call(".dailies-check", deadline, "upload_blob", b"", overwrite=True)
        self._call(".dailies-check", deadline, "delete_blob")

    def put(self, key: str, path: Path, asset: Asset, transfer: Transfer) -> None:
        """Blocks that are never committed are no blob; Azure forgets them after a week."""
        blob, content = library("azure.storage.blob", "azure"), content_type(key)
        blocks = Blocks(path, asset, transfer, self.ground.http.throttle, BLOCK_BYTES)
        names = []
        for number, block in enumerate(blocks):
            names.append(base64.b64encode(f"{number:08d}".encode()).decode())
            if block:
                self._call(key, transfer.deadline, "stage_block", names[-1], Sent(block), length=len(block))
        self._call(
            key,
            transfer.deadline,
            "commit_block_list",
            [blob.BlobBlock(name) for name in names] if asset.size_bytes else [],
            metadata={"sha256": asset.sha256},
            content_settings=blob.ContentSettings(content_type=content),
        )

    def look(self, key: str, deadline: Deadline) -> Found | None:
        try:
            about = self._ask(key, deadline, "get_blob_properties")
        except FileNotFoundError:
            return None
        return Found(int(about.size), known_hash(about.metadata))

    def browse(self, pattern: str, deadline: Deadline) -> list[Stored]:
        try:
            return self._caller.browse(self.address, pattern, deadline)
        except FileNotFoundError:
            return []

    def read(self, key: str, size_bytes: int, deadline: Deadline, start: int = 0) -> Iterator[bytes]:
        try:
            yield from self._caller.read(f"{self.address.host}/{self.address.path(key)}", size_bytes, deadline, start)
        except FileNotFoundError:
            raise answered(self.address.where, 404, self.ground.http.clock, said=key) from None

    def remove(self, key: str, deadline: Deadline) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._ask(key, deadline, "delete_blob")

    def _call(self, key: str, deadline: Deadline, method: str, *arguments: Any, **options: Any) -> Any:
        try:
            return self._ask(key, deadline, method, *arguments, **options)
        except FileNotFoundError:
            raise answered(self.address.where, 404, self.ground.http.clock) from None

    def _ask(self, key: str, deadline: Deadline, method: str, *arguments: Any, **options: Any) -> Any:
        """Of the blob itself, in fsspec's thread. Raises FileNotFoundError."""
        missing = library("azure.core.exceptions", "azure").ResourceNotFoundError
        caller = self._caller

        async def asked() -> Any:
            client = caller.system.service_client.get_blob_client(self.address.host, self.address.path(key))
            try:
                return await getattr(client, method)(*arguments, **options)
            except missing:
                raise FileNotFoundError from None

        return caller.run(asked, deadline)

    @cached_property
    def _caller(self) -> Caller:
        adlfs = library("adlfs", "azure")
        quiet("azure")
        if not self.connection_string_env:
            raise ConfigError(f"{self.address.where}: connection_string_env: not set; name the variable that holds it")
        secret = self.ground.secret(self.connection_string_env)
        try:
            system = adlfs.AzureBlobFileSystem(connection_string=secret, **OPTIONS)
        except ValueError:
            raise ConfigError(f"{self.connection_string_env}: is no connection string; copy it from the account's keys") from None
        return Caller(system, self._classed)

    def _classed(self, error: BaseException) -> DailiesError | None:
        where, exceptions = self.address.where, library("azure.core.exceptions", "azure")
        status = getattr(error, "status_code", None)
        if isinstance(error, exceptions.HttpResponseError) and isinstance(status, int):
            headers = getattr(error.response, "headers", None)
            return answered(
                where, status, self.ground.http.clock, said=str(getattr(error, "error_code", "") or ""), headers=headers
            )
        known = (OSError, exceptions.AzureError, library("aiohttp", "azure").ClientError)
        return silent(where, error) if isinstance(error, known) else None
