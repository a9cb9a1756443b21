"""WebDAV (RFC 4918): sent under another name, moved into place."""

import contextlib
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from dailies.clock import Deadline
from dailies.errors import DailiesError, Denied, Transient
from dailies.hosts.host import Asset, Ground, Transfer
from dailies.hosts.places.address import Address
from dailies.hosts.places.place import ANSWER_S, Blocks, Cut, Found, Stored, answered, from_errno, library, silent, stored, tidying
from dailies.request import is_loopback
from dailies.wire import CONNECT_S, dial

_BLOCK_BYTES: Final = 1 << 20
_REMOVAL_S: Final = 0.1
_NO_DELAY: Final = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@dataclass(frozen=True)
class WebDav:
    """A folder of a server."""

    address: Address
    ground: Ground = field(repr=False)
    user_env: str
    password_env: str

    def probe(self, deadline: Deadline) -> None:
        """An empty file that comes and goes, in the deepest folder that is there."""
        with self._open(deadline) as system:
            folder = self.address.folder
            while folder and not _is_there(system, folder):
                folder = folder.rpartition("/")[0]
            name = f"{folder}/.dailies-check".lstrip("/")
            system.client.upload_fileobj(_Empty(), name, overwrite=True, size=0)
            system.rm_file(name)

    def put(self, key: str, path: Path, asset: Asset, transfer: Transfer) -> None:
        target = self.address.path(key)
        folder, _, name = target.rpartition("/")
        temporary = f"{folder}/.tmp-{name}".lstrip("/")  # the same each time: what a dead run left is overwritten
        blocks = Blocks(path, asset, transfer, self.ground.http.throttle, _BLOCK_BYTES)
        is_begun = is_whole = False
        try:
            with self._open(transfer.deadline) as system:
                _make_folder(system, folder)
                is_begun = True
                system.client.upload_fileobj(blocks, temporary, overwrite=True, size=asset.size_bytes)
                if system.info(temporary)["size"] != asset.size_bytes:
                    raise Transient(f"{self.address.where}: has not kept all of {key}; it is tried again later")
                transfer.deadline.check()
                system.client.move(temporary, target, overwrite=True)
            is_whole = True
        finally:
            if is_begun and not is_whole:
                with tidying(transfer.deadline) as deadline, self._open(deadline) as system:
                    _remove_soon(system, temporary, deadline)

    def look(self, key: str, deadline: Deadline) -> Found | None:
        with self._open(deadline) as system:
            try:
                about = system.info(self.address.path(key))
            except FileNotFoundError:
                return None
            if about["type"] != "file" or not isinstance(about["size"], int):
                raise Transient(f"{self.address.where}: {key}: is no file there; look what it is")
            return Found(about["size"])

    def browse(self, pattern: str, deadline: Deadline) -> list[Stored]:
        base = self.address.path("")
        with self._open(deadline) as system:
            try:
                return stored(system.glob(f"{base}{pattern}", detail=True), base)
            except FileNotFoundError:
                return []

    def read(self, key: str, size_bytes: int, deadline: Deadline, start: int = 0) -> Iterator[bytes]:  # noqa: ARG002 -- to its end
        with self._open(deadline) as system, system.client.open(self.address.path(key), "rb", chunk_size=_BLOCK_BYTES) as file:
            at = file.seek(start) if start and file.supports_ranges else 0
            while block := file.read(_BLOCK_BYTES):
                deadline.check()
                yield block[max(0, start - at) :]
                at += len(block)

    def remove(self, key: str, deadline: Deadline) -> None:
        with self._open(deadline) as system, contextlib.suppress(FileNotFoundError):
            system.rm_file(self.address.path(key))

    @contextlib.contextmanager
    def _open(self, deadline: Deadline) -> Iterator[Any]:
        """fsspec's file system on connections that are cut when the deadline ends."""
        deadline.check()
        dav, httpx = library("webdav4.fsspec", "webdav"), library("httpx", "webdav")
        clients, http = library("webdav4.client", "webdav"), library("webdav4.http", "webdav")
        broken = (clients.ClientError, httpx.HTTPError, OSError, KeyError, ValueError, SyntaxError, AttributeError)
        url = f"{self.address.where.removesuffix(quote(self.address.folder)).rstrip('/')}/"
        with Cut(deadline) as cut:
            client = http.Client(
                base_url=url,
                auth=self._auth(),
                headers={"User-Agent": self.ground.http.agent},
                timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
                trust_env=not is_loopback(url),
                event_hooks={"request": [lambda request: _trace(request, cut)]},
            )
            _dial_by_ours(client, deadline)
            try:
                with client:
                    yield dav.WebdavFileSystem(url, client=clients.Client(url, http_client=client, retry=False))
            except broken as error:
                if cut.was_made:
                    deadline.check()
                raise self._classed(error, clients, httpx) from None

    def _auth(self) -> tuple[str, str] | None:
        if not self.user_env:
            return None
        return self.ground.secret(self.user_env), self.ground.secret(self.password_env)

    def _classed(self, error: Exception, clients: Any, httpx: Any) -> DailiesError:
        where, clock = self.address.where, self.ground.http.clock
        response = getattr(error, "response", None)
        response = response if isinstance(response, httpx.Response) else _response(error, httpx)
        if response is not None:
            return answered(where, response.status_code, clock, said=response.reason_phrase, headers=response.headers)
        if isinstance(error, clients.ResourceNotFound | FileNotFoundError):
            return answered(where, 404, clock)
        if isinstance(error, clients.ForbiddenOperation):
            return Denied(f"{where}: not allowed there; check the account and who may write there")
        if isinstance(error, clients.InsufficientStorage):
            return Transient(f"{where}: its disk is full; free some space there")
        if isinstance(error, OSError):
            return from_errno(where, error)
        return silent(where, error)


def _response(error: BaseException | None, httpx: Any) -> Any:
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, httpx.Response):
            return response
        error = error.__cause__ or error.__context__
    return None


def _is_there(system: Any, folder: str) -> bool:
    """Of the folder alone: without a depth a server would list everything below it (RFC 4918, 9.1)."""
    try:
        system.client.propfind(folder, headers={"Depth": "0"})
    except library("webdav4.client", "webdav").ResourceNotFound:
        return False
    return True


def _make_folder(system: Any, folder: str) -> None:
    if not folder or _is_there(system, folder):
        return
    _make_folder(system, folder.rpartition("/")[0])
    with contextlib.suppress(library("webdav4.client", "webdav").ResourceAlreadyExists):
        system.client.mkdir(folder)


def _remove_soon(system: Any, path: str, deadline: Deadline) -> None:
    """A server that has not yet seen the cut holds its lock. Raises the deadline's error."""
    while True:
        deadline.pause(_REMOVAL_S)
        with contextlib.suppress(library("webdav4.client", "webdav").ClientError):
            system.rm_file(path)
            return


class _Empty:
    def read(self, _size: int = -1) -> bytes:
        return b""


def _trace(request: Any, cut: Cut) -> None:
    """httpcore tells of each connection that it makes (httpx, "Extensions")."""

    def told(event: str, about: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            cut.takes(about["return_value"].get_extra_info("socket"))

    request.extensions["trace"] = told


def _dial_by_ours(client: Any, deadline: Deadline) -> None:
    """Connections that see a stop while they are made, for httpcore has a setting (`network_backend`) that httpx does not pass on.

    Where a later version has other names inside it goes on as it is: a stop is then seen up to CONNECT_S later.
    """
    core, inside = library("httpcore", "webdav"), sys.modules.get("httpcore._backends.sync")
    stream_of: Any = getattr(inside, "SyncStream", None)
    if stream_of is None:
        return

    class Dialling(core.SyncBackend):  # type: ignore[misc, name-defined]
        def connect_tcp(self, host: str, port: int, **options: Any) -> Any:
            try:
                return stream_of(dial(host, port, (*(options.get("socket_options") or ()), _NO_DELAY), deadline))
            except TimeoutError as error:
                raise core.ConnectTimeout(str(error)) from error
            except OSError as error:
                raise core.ConnectError(str(error)) from error

    for transport in (vars(client).get("_transport"), *vars(client).get("_mounts", {}).values()):
        pool = getattr(transport, "_pool", None)
        if pool is not None:
            vars(pool)["_network_backend"] = Dialling()
