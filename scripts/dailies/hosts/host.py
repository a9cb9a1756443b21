"""What every host can do; an adapter is one file and one line in the registry."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dailies.clock import Deadline
from dailies.model import Kind


@dataclass(frozen=True)
class Receipt:
    """What a host answered once it has the bytes."""

    remote_id: str
    watch_url: str | None = None
    embed_url: str | None = None
    direct_url: str | None = None


class Host(Protocol):
    """Each call raises Transient (later), ConfigError (a person must act), or the deadline's own error."""

    @property
    def overwrites(self) -> bool:
        """Whether the same upload twice is one file; where not, the host is asked before anything is sent (design, rule 9)."""

    def upload(self, path: Path, video_id: str, kind: Kind, sha256: str, deadline: Deadline) -> Receipt:
        """Send the file; returns once the host has confirmed it."""

    def find(self, video_id: str, kind: Kind, sha256: str, deadline: Deadline) -> Receipt | None:
        """What the host has of these bytes: asked before anything is sent again after a lost answer."""

    def preflight(self, deadline: Deadline) -> str:
        """Ask by the cheapest call whether an upload would be let in; a line for people."""

    def sweep_folders(self) -> tuple[Path, ...]:
        """Local folders in which a dead run may have left temporary files."""
