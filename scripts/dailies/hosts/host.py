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


@dataclass(frozen=True)
class Asset:
    """What a host is given: one file of a video, named by the video's id and `suffix` (`.mp4`, `.preview.mp4`, `.cover.jpg` …)."""

    video_id: str
    kind: Kind
    suffix: str
    sha256: str

    @property
    def name(self) -> str:
        return f"{self.video_id}{self.suffix}"


class Host(Protocol):
    """Each call raises Transient (later), ConfigError (a person must act), or the deadline's own error."""

    @property
    def overwrites(self) -> bool:
        """Whether the same upload twice is one file; where not, the host is asked before anything is sent (design, rule 9)."""

    def upload(self, path: Path, asset: Asset, deadline: Deadline) -> Receipt:
        """Send the file; returns once the host has confirmed it."""

    def find(self, asset: Asset, deadline: Deadline) -> Receipt | None:
        """What the host has of these bytes: asked before anything is sent again after a lost answer."""

    def preflight(self, deadline: Deadline) -> str:
        """Ask by the cheapest call whether an upload would be let in; a line for people."""

    def sweep_folders(self) -> tuple[Path, ...]:
        """Local folders in which a dead run may have left temporary files."""
