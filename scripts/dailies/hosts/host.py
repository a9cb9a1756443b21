"""What every host can do; an adapter is one file and one line in the registry (docs/hosts.md)."""

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

from dailies import atomic
from dailies.clock import Deadline
from dailies.disk import full
from dailies.errors import ConfigError, Denied
from dailies.http import Http
from dailies.model import Kind

ALL_KINDS: Final = frozenset(Kind)
_TOKEN_DIGITS: Final = 10


@dataclass(frozen=True)
class Ground:
    """What an adapter stands on: the library's root, its way to the network, the values of the variables that hold secrets."""

    root: Path
    http: Http
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    def secret(self, variable: str) -> str:
        """Raises Denied where it is not set; an unset secret of a workflow is an empty string."""
        value = self.secrets.get(variable, "")
        if not value:
            raise Denied(f"{variable or 'the name of a variable'}: not set or empty; set it to the host's key")
        return value


@dataclass(frozen=True)
class Capabilities:
    """What a host is able to; the rest of the program asks this instead of knowing adapters."""

    overwrites: bool  # the same upload twice is one file; where not, the host is asked before anything is sent (design, rule 9)
    kinds: frozenset[Kind] = ALL_KINDS
    max_bytes: int | None = None
    is_resumable: bool = False
    verifies_hash: bool = False  # it refuses bytes that differ from what was promised
    deletes: bool = True
    gives_back: bool = False  # `fetch` gets the very bytes again
    needs_public_url: bool = False
    is_local: bool = False  # what it holds goes with this machine
    settle_s: float = 0.0  # after an upload its listing may lack it this long: what is absent is asked for again then


@dataclass(frozen=True)
class Receipt:
    """What a host answered once it has the bytes. `is_settled`: else it works on them still and `check` tells later."""

    remote_id: str
    watch_url: str | None = None
    embed_url: str | None = None
    direct_url: str | None = None
    is_settled: bool = True


class State(StrEnum):
    MISSING = "missing"
    PROCESSING = "processing"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True)
class Standing:
    """How an upload is by now; `reason` where the host failed or refused it."""

    state: State
    reason: str = ""


@dataclass(frozen=True)
class Details:
    """What people are told about a video, for hosts that show it."""

    title: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    release_date: str | None = None  # ISO 8601


@dataclass(frozen=True)
class Asset:
    """What a host is given: one file of a video, named by the video's id and `suffix` (`.mp4`, `.preview.mp4`, `.cover.jpg` …)."""

    video_id: str
    kind: Kind
    suffix: str
    sha256: str
    size_bytes: int
    duration_s: float | None = None
    details: Details = Details()
    md5: str | None = None  # where it is known already

    @property
    def name(self) -> str:
        return f"{self.video_id}{self.suffix}"

    @property
    def token(self) -> str:
        """Stands in the name sent, so that a host without hashes can be asked for these bytes."""
        return self.sha256[:_TOKEN_DIGITS]

    @property
    def marked_name(self) -> str:
        """`film-0123456789ab [a1b2c3d4e5].mp4`: for hosts where the same name twice is two files."""
        return f"{self.video_id} [{self.token}]{self.suffix}"


def is_named(name: str, asset: Asset) -> bool:
    """Whether a file of this name was sent as the asset: by the video too, as two may have the same bytes."""
    return asset.video_id in name and f"[{asset.token}]" in name


class Session:
    """What an adapter must know again after a crash (upload ids, session addresses: secrets): a file in `work/`, never in git."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._content: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            content = json.loads(path.read_bytes()) if path else {}
            self._content = content if isinstance(content, dict) else {}

    def load(self) -> Mapping[str, Any]:
        """What was saved last; empty for none."""
        return self._content

    def save(self, content: Mapping[str, Any]) -> None:
        """Whole, synced, readable by this user only. Raises Waiting for a full disk, ConfigError where it cannot be written."""
        self._content = dict(content)
        if self._path is None:
            return
        try:
            atomic.write(self._path, json.dumps(self._content).encode(), mode=0o600)
        except OSError as error:
            raise full(self._path, error) or self._unwritable(error) from error

    def drop(self) -> None:
        """Raises ConfigError where it cannot be removed."""
        self._content = {}
        if self._path is None:
            return
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> ConfigError:
        return ConfigError(f"{self._path}: cannot be written: {error.strerror}; make its folder writable")

    def __repr__(self) -> str:
        return f"Session({os.fspath(self._path) if self._path else ''})"


@dataclass(frozen=True)
class Transfer:
    """One conversation about one asset. `progress` is told how many bytes of the file have left, as often as one likes."""

    deadline: Deadline
    session: Session = field(default_factory=Session)
    progress: Callable[[int], None] = lambda _sent: None


class Host(Protocol):
    """Each call raises what http.py raises (HostRefused, Denied, RateLimited, OutcomeUnknown, Transient), ConfigError, or the
    deadline's own error."""

    @property
    def capabilities(self) -> Capabilities: ...

    def preflight(self, deadline: Deadline) -> str:
        """Ask by the cheapest call whether an upload would be let in; a line for people."""

    def upload(self, path: Path, asset: Asset, transfer: Transfer) -> Receipt:
        """Send the file; returns once the host has confirmed it. What a session has is used, what it needs is saved before."""

    def find(self, asset: Asset, transfer: Transfer) -> Receipt | None:
        """What the host has of these bytes; None where it certainly has none. Raises HostSilent where it cannot be known."""

    def check(self, asset: Asset, remote_id: str, deadline: Deadline) -> Standing:
        """How an upload is by now."""

    def delete(self, remote_id: str, deadline: Deadline) -> None:
        """Take it away; what is not there any more is no error. Raises ConfigError where the host has no way to."""

    def fetch(self, asset: Asset, remote_id: str, target: Path, deadline: Deadline) -> None:
        """Get the bytes again; whoever asked compares them. Raises ConfigError where the host does not give them back."""

    def sweep_folders(self) -> tuple[Path, ...]:
        """Local folders in which a dead run may have left temporary files."""
