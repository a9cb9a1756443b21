"""The embedded host: a folder on this machine (docs/settings.md#folder)."""

import os
from pathlib import Path
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from dailies import atomic, copying
from dailies.clock import Deadline
from dailies.errors import Category, ConfigError, Transient
from dailies.hosts.host import Asset, Capabilities, Ground, Receipt, Standing, State, Transfer


class FolderHost(BaseModel):
    """`media/published/{id}.mp4`; overwritten in place, so the same upload twice is one file."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    ground: Ground = Field(exclude=True, repr=False)
    path: str = Field(description="the folder; relative to the library's root")
    public_url: str = Field("", description="address under which the folder is served; makes the links in the database")

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(overwrites=True, verifies_hash=True, gives_back=True, is_local=True)

    def upload(self, path: Path, asset: Asset, transfer: Transfer) -> Receipt:
        target, deadline = self._target(asset), transfer.deadline
        temporary = atomic.temporary_beside(target)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            copying.copy(path, temporary, deadline)
            written = copying.sha256(temporary, deadline)
            if written != asset.sha256:
                raise Transient(f"{target}: what was written differs from {path.name}; check the disk, it is tried again later")
            temporary.chmod(0o666 & ~_umask())
            atomic.put_in_place(temporary, target)
        except OSError as error:
            raise Transient(f"{target}: cannot be written: {error.strerror}; make the folder writable", Category.HOST) from error
        finally:
            if temporary.exists():
                temporary.unlink(missing_ok=True)
        return self._receipt(target)

    def find(self, asset: Asset, transfer: Transfer) -> Receipt | None:
        target, deadline = self._target(asset), transfer.deadline
        try:
            return self._receipt(target) if copying.sha256(target, deadline) == asset.sha256 else None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Transient(f"{target}: cannot be read: {error.strerror}; check its permissions", Category.HOST) from error

    def preflight(self, deadline: Deadline) -> str:  # noqa: ARG002 -- others wait for an answer
        folder = self.ground.root / self.path
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            raise ConfigError(f"{existing}: cannot be written; make it a folder that this user may write")
        return f"{folder} can be written"

    def check(self, asset: Asset, remote_id: str, deadline: Deadline) -> Standing:  # noqa: ARG002 -- the name is the video's
        is_there = self.find(asset, Transfer(deadline)) is not None
        return Standing(State.READY if is_there else State.MISSING)

    def delete(self, remote_id: str, deadline: Deadline) -> None:  # noqa: ARG002 -- others wait for an answer
        (self.ground.root / self.path / Path(remote_id).name).unlink(missing_ok=True)

    def fetch(self, asset: Asset, remote_id: str, target: Path, deadline: Deadline) -> None:  # noqa: ARG002 -- the name is the video's
        copying.copy(self._target(asset), target, deadline)

    def sweep_folders(self) -> tuple[Path, ...]:
        return (self.ground.root / self.path,)

    def _target(self, asset: Asset) -> Path:
        return self.ground.root / self.path / asset.name

    def _receipt(self, target: Path) -> Receipt:
        """A path outside the library says too much about this machine for a public record: only the name then."""
        inside = target.is_relative_to(self.ground.root)
        place = target.relative_to(self.ground.root).as_posix() if inside else target.name
        url = f"{self.public_url.rstrip('/')}/{quote(target.name)}" if self.public_url else place
        return Receipt(remote_id=target.name, watch_url=url, direct_url=url)


def _umask() -> int:
    """The process's umask can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
