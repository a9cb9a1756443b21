"""SFTP: host keys checked, sent under another name, renamed into place."""

import contextlib
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from dailies.clock import Deadline
from dailies.errors import ConfigError, DailiesError, Denied, Transient
from dailies.hosts.host import Asset, Ground, Transfer
from dailies.hosts.places.address import Address
from dailies.hosts.places.coroutines import quiet
from dailies.hosts.places.place import ANSWER_S, Blocks, Cut, Found, Stored, from_errno, library, silent, stored, tidying
from dailies.wire import CONNECT_S, dial

_BLOCK_BYTES: Final = 1 << 20
_AHEAD: Final = 8  # blocks that are asked for at once
_PORT: Final = 22
_WRITE_BYTES: Final = 32 << 10  # every server takes as much (draft-ietf-secsh-filexfer-02, section 3)
_WRITES: Final = 128  # that are not answered yet


@dataclass(frozen=True)
class Sftp:
    """A folder of a server."""

    address: Address
    ground: Ground = field(repr=False)
    user_env: str
    password_env: str
    key_file: str
    known_hosts: str

    def probe(self, deadline: Deadline) -> None:
        """An empty file that comes and goes, in the deepest folder that is there."""
        with self._open(deadline) as system:
            folder = self.address.folder or "/"
            while folder != "/" and not system.exists(folder):
                folder = posixpath.dirname(folder)
            name = posixpath.join(folder, ".dailies-check")
            system.open(name, "wb").close()
            system.rm_file(name)

    def put(self, key: str, path: Path, asset: Asset, transfer: Transfer) -> None:
        target = self.address.path(key)
        folder, name = posixpath.split(target)
        temporary = posixpath.join(folder, f".tmp-{name}")  # the same each time: what a dead run left is overwritten
        is_begun = is_whole = False
        try:
            with self._open(transfer.deadline) as system:
                system.makedirs(folder, exist_ok=True)
                is_begun = True
                with system.open(temporary, "wb") as file:
                    writes = _Writes(system.ftp, file.handle)
                    for block in Blocks(path, asset, transfer, self.ground.http.throttle, _BLOCK_BYTES):
                        writes.send(block)
                    writes.wait(0)
                if system.info(temporary)["size"] != asset.size_bytes:
                    raise Transient(f"{self.address.where}: has not kept all of {key}; it is tried again later")
                transfer.deadline.check()
                _rename(system, temporary, target)
            is_whole = True
        finally:
            if is_begun and not is_whole:
                with tidying(transfer.deadline) as deadline, self._open(deadline) as system:
                    system.rm_file(temporary)

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

    def read(self, key: str, size_bytes: int, deadline: Deadline, start: int = 0) -> Iterator[bytes]:
        with self._open(deadline) as system, system.open(self.address.path(key), "rb") as file:
            for window in range(start, size_bytes, _AHEAD * _BLOCK_BYTES):  # prefetch() of a large file keeps all of it in memory
                end = min(window + _AHEAD * _BLOCK_BYTES, size_bytes)
                pieces = [(at, min(_BLOCK_BYTES, end - at)) for at in range(window, end, _BLOCK_BYTES)]
                for block in file.readv(pieces):
                    deadline.check()
                    yield block

    def remove(self, key: str, deadline: Deadline) -> None:
        with self._open(deadline) as system, contextlib.suppress(FileNotFoundError):
            system.rm_file(self.address.path(key))

    @contextlib.contextmanager
    def _open(self, deadline: Deadline) -> Iterator[Any]:
        """fsspec's file system on a connection that is cut when the deadline ends."""
        paramiko = library("paramiko", "sftp")
        quiet("paramiko")
        options = self._options()
        with Cut(deadline) as cut:
            try:
                sock = dial(self.address.host, self.address.port or _PORT, (), deadline)
                cut.takes(sock)
                with sock:
                    system = _system(paramiko, self._known(paramiko), self.address, sock=sock, **options)
                    with contextlib.closing(system.client):
                        system.ftp.get_channel().settimeout(ANSWER_S)
                        yield system
            except (paramiko.SSHException, OSError, EOFError) as error:
                if cut.was_made:
                    deadline.check()
                raise self._classed(error, paramiko) from None
            except UnicodeError:
                raise ConfigError(f"{self.address.where[:80]}: can be no name of a server; correct path") from None

    def _options(self) -> dict[str, Any]:
        return {
            "username": self.address.user or (self.ground.secret(self.user_env) if self.user_env else None),
            "password": self.ground.secret(self.password_env) if self.password_env else None,
            "key_filename": str(self.ground.root / Path(self.key_file).expanduser()) if self.key_file else None,
            "allow_agent": not (self.password_env or self.key_file),
            "look_for_keys": not (self.password_env or self.key_file),
            "timeout": CONNECT_S,
            "banner_timeout": CONNECT_S,
            "auth_timeout": CONNECT_S,
        }

    def _known(self, paramiko: Any) -> Any:
        """Raises ConfigError."""
        path = self.ground.root / Path(self.known_hosts).expanduser()
        try:
            return paramiko.HostKeys(str(path))
        except OSError as error:
            hint = f"ssh-keyscan -p {self.address.port or _PORT} {self.address.host}"
            raise ConfigError(
                f"{self.known_hosts}: known_hosts: {error.strerror}; make it with `{hint}` and compare the key"
            ) from None

    def _classed(self, error: Exception, paramiko: Any) -> DailiesError:
        where = self.address.where
        if isinstance(error, paramiko.BadHostKeyException):
            return Denied(f"{where}: shows another key than known_hosts has; find out why before you change that")
        if isinstance(error, paramiko.AuthenticationException | paramiko.PasswordRequiredException):
            return Denied(f"{where}: the account or its key is refused; check user_env, password_env and key_file")
        if isinstance(error, paramiko.SSHException) and "known_hosts" in str(error):
            return Denied(f"{where}: its key is not in known_hosts; add it there after you have compared it")
        if isinstance(error, OSError):
            return from_errno(where, error)
        return silent(where, error)


def _system(paramiko: Any, known: Any, address: Address, **options: Any) -> Any:
    """fsspec's file system takes any host key; this one takes those that are known."""
    sftp = library("fsspec.implementations.sftp", "sftp")

    def fast(*arguments: Any, **about: Any) -> Any:
        """AES-GCM first: it needs no hash of each packet in Python."""
        transport = paramiko.Transport(*arguments, **about)
        security = transport.get_security_options()
        security.ciphers = sorted(security.ciphers, key=lambda name: "gcm" not in name)
        return transport

    class Strict(sftp.SFTPFileSystem):  # type: ignore[misc, name-defined]
        def _connect(self) -> None:
            self.client = paramiko.SSHClient()
            self.client.get_host_keys().update(known)
            self.client.set_missing_host_key_policy(paramiko.RejectPolicy())
            self.client.connect(self.host, port=address.port or _PORT, transport_factory=fast, **self.ssh_kwargs)
            self.ftp = self.client.open_sftp()

    return Strict(address.host, skip_instance_cache=True, **options)


@dataclass
class _Writes:
    """Writes on their way, every answer checked; paramiko has no public way to do both.

    Its own pipeline stands still until all are answered, every hundred writes, and reads past the answers of the last hundred.
    """

    client: Any
    handle: bytes
    _sent_bytes: int = field(default=0, init=False)
    _waiting: int = field(default=0, init=False)

    def send(self, block: bytes) -> None:
        """Raises OSError and EOFError, also for earlier blocks."""
        sftp = library("paramiko.sftp", "sftp")
        for start in range(0, len(block), self._piece_bytes):
            piece = block[start : start + self._piece_bytes]
            self.client._async_request(self, sftp.CMD_WRITE, self.handle, sftp.int64(self._sent_bytes), piece)  # noqa: SLF001
            self._sent_bytes += len(piece)
            self._waiting += 1
            if self._waiting > _WRITES:
                self.wait(_WRITES // 2)

    def wait(self, left: int) -> None:
        while self._waiting > left:
            self.client._read_response()  # noqa: SLF001

    @cached_property
    def _piece_bytes(self) -> int:
        """With what goes before it (25 bytes and the handle) it fits one packet of the channel; paramiko leaves 64 of that."""
        packet_bytes: int = self.client.get_channel().out_max_packet_size
        return min(_WRITE_BYTES, packet_bytes - 64 - 25 - len(self.handle))

    def _async_response(self, _kind: int, message: Any, _number: int) -> None:
        """Called by paramiko for each answer that is read. Raises OSError and EOFError."""
        self._waiting -= 1
        self.client._convert_status(message)  # noqa: SLF001


def _rename(system: Any, old: str, new: str) -> None:
    """In one step where the server knows how (posix-rename@openssh.com), else over a moment without the file."""
    try:
        system.mv(old, new)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            system.rm_file(new)
        system.ftp.rename(old, new)
