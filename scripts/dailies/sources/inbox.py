"""Finding media in folders: which files count, which are still being written, which links lead outside."""

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from dailies.clock import Clock
from dailies.sources import lfs

log = logging.getLogger(__name__)

_VIDEO: Final = {".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv"}
MEDIA_SUFFIXES: Final = frozenset(_VIDEO | {".ts", ".vob", ".webm", ".wmv", ".m4a", ".mp3", ".ogg", ".wav"})
UNFINISHED_SUFFIXES: Final = frozenset({".part", ".crdownload", ".tmp", ".download"})
_FRESH_S: Final = 60.0  # younger files are looked at twice
_SECOND_LOOK_S: Final = 1.0
_WRITING: Final = frozenset("wa+")


@dataclass(frozen=True)
class Found:
    """What a folder holds: media to queue, and (path, why) of what is left alone."""

    media: tuple[Path, ...]
    left: tuple[tuple[Path, str], ...]

    def pointers(self) -> list[Path]:
        """Of what is left alone: Git LFS has the files elsewhere."""
        return [path for path, why in self.left if why == lfs.REMEDY]


def search(folder: Path) -> Found:
    """Media files below, in order; hidden ones are passed over, links out of the folder are left."""
    media: list[Path] = []
    left: list[tuple[Path, str]] = []
    inside = os.path.realpath(folder)  # unlike Path.resolve it takes a link to itself

    def refuse(error: OSError) -> None:
        left.append((Path(error.filename), f"cannot be read: {error.strerror}; make it readable for this user"))

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        links = [name for name in folders if Path(parent, name).is_symlink()]
        left += [(Path(parent, name), "is a link to a folder, which is not followed; add it by its own path") for name in links]
        for name in sorted(names):
            path = Path(parent, name)
            if name.startswith(".") or path.suffix.lower() not in MEDIA_SUFFIXES:
                continue
            try:
                path.lstat()
            except OSError as error:
                refuse(error)
                continue
            if not Path(os.path.realpath(path)).is_relative_to(inside):
                left.append((path, "is a link out of the folder; copy the file here or add it by its own path"))
            elif lfs.is_pointer(path):
                left.append((path, lfs.REMEDY))
            elif os.path.isfile(path):
                media.append(path)
    return Found(tuple(media), tuple(left))


def unsettled(paths: Iterable[Path], clock: Clock) -> dict[Path, str]:
    """Of these files, those still being written, and how that was seen. Looks twice, a second apart, at fresh ones."""
    candidates = list(paths)
    found = {path: "has the name of an unfinished download" for path in candidates if _looks_unfinished(path)}
    before = {path: _state(path) for path in candidates if path not in found}
    if any(clock.now().timestamp() - changed < _FRESH_S for _, changed in before.values()):
        clock.sleep(_SECOND_LOOK_S)
    found |= {path: "is still growing" for path, state in before.items() if _state(path) != state}
    writers = _open_for_writing() if before else frozenset()
    return found | {path: "is open in a program that writes" for path in before if str(path.resolve()) in writers}


def _looks_unfinished(path: Path) -> bool:
    """`x.mp4.part`, and `x.mp4` beside it, which some programs make first."""
    beside = (path.with_name(path.name + suffix) for suffix in UNFINISHED_SUFFIXES)
    return path.suffix.lower() in UNFINISHED_SUFFIXES or any(os.path.exists(other) for other in beside)


def _state(path: Path) -> tuple[int, float]:
    try:
        status = path.stat()
    except OSError:
        return (-1, 0.0)
    return (status.st_size, status.st_mtime)


def _open_for_writing() -> frozenset[str]:
    """Paths that this user's programs have open for writing; where the system does not tell the mode, all that are open."""
    paths: set[str] = set()
    for process in psutil.process_iter():
        try:
            opened = process.open_files()
        except (psutil.Error, OSError):
            continue
        paths |= {file.path for file in opened if _WRITING & set(getattr(file, "mode", "w"))}
    return frozenset(paths)
