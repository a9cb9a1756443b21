"""A local file: in the library (its path relative to the root) or anywhere else on this machine."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from dailies import copying
from dailies.clock import Deadline
from dailies.errors import Category, SourceGone, Transient, VideoError, Waiting
from dailies.model import Source, file_identity, path_to_uri, uri_to_path
from dailies.sources import lfs
from dailies.sources.source import Fetched, Ground, Place


def uri_of(path: Path, root: Path) -> str:
    """Normalised: relative to the library where it lies in it, so that every clone gives it the same identity."""
    absolute = Path(os.path.abspath(path))
    inside = absolute.is_relative_to(root)
    return path_to_uri(absolute.relative_to(root).as_posix() if inside else str(absolute))


@dataclass(frozen=True)
class FileSource:
    ground: Ground

    @property
    def root(self) -> Path:
        return self.ground.root

    def is_here(self, source: Source) -> bool:
        """What has gone from the library is here: it is known to be gone."""
        path = self.root / uri_to_path(source.uri)
        return (os.path.lexists(path) or not os.path.isabs(uri_to_path(source.uri))) and not lfs.is_pointer(path)

    def fetch(self, source: Source, place: Place, deadline: Deadline) -> Fetched:
        """Copies or reflinks; the copy must be what was queued, else VideoError `changed`."""
        path = self._path(source)
        self._check(path, source)
        copied = place.tmp / "source"
        try:
            copying.copy(path, copied, deadline)
        except PermissionError as error:
            raise self._unreadable(source, error) from error
        except OSError as error:
            raise Transient(
                f"{source.original_name}: cannot be copied: {error.strerror}; check the disk", Category.UNREADABLE
            ) from error
        if copied.stat().st_size != source.size_bytes:
            raise self._changed(source)
        copied.replace(place.target)
        return Fetched(source)

    def remove(self, source: Source) -> None:
        """Nothing is deleted that is not the very file that was queued."""
        path = self._path_or_none(source)
        try:
            if path is not None and self._is_the_very_file(path, source):
                path.unlink()
        except OSError as error:
            raise Transient(
                f"{source.original_name}: cannot be deleted: {error.strerror}; make its folder writable or delete it yourself",
                Category.UNREADABLE,
            ) from error

    @staticmethod
    def _is_the_very_file(path: Path, source: Source) -> bool:
        """The identity knows only both ends of a file; what is deleted must be what was published, byte for byte."""
        if not path.is_file() or file_identity(path, source.uri)[0] != source.identity:
            return False
        with path.open("rb") as file:
            return source.sha256 in {None, hashlib.file_digest(file, "sha256").hexdigest()}

    def _path_or_none(self, source: Source) -> Path | None:
        path = self.root / uri_to_path(source.uri)
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._unreadable(source, error) from error
        return path

    def _path(self, source: Source) -> Path:
        path = self._path_or_none(source)
        if path is not None:
            return path
        if os.path.isabs(uri_to_path(source.uri)):
            raise Waiting(
                f"{source.original_name}: is not on this machine; run where it is, or queue it again", Category.UNREACHABLE
            )
        raise SourceGone(f"{source.original_name}: has gone from the library; put it back and `dailies retry` it", Category.GONE)

    def _check(self, path: Path, source: Source) -> None:
        if not path.is_file():
            raise VideoError(f"{source.original_name}: is no longer a file; queue the file itself", Category.CHANGED)
        if lfs.is_pointer(path):
            raise Waiting(f"{source.original_name}: {lfs.REMEDY}", Category.UNREACHABLE)
        try:
            identity, _ = file_identity(path, source.uri)
        except OSError as error:
            raise self._unreadable(source, error) from error
        if identity != source.identity:
            raise self._changed(source)

    @staticmethod
    def _changed(source: Source) -> VideoError:
        return VideoError(f"{source.original_name}: has changed since it was queued; add it again", Category.CHANGED)

    @staticmethod
    def _unreadable(source: Source, error: OSError) -> Transient:
        return Transient(
            f"{source.original_name}: cannot be read: {error.strerror}; make it readable for this user", Category.UNREADABLE
        )
