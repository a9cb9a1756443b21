"""Copies of large files: hashed as they pass, interruptible at every chunk, a reflink where the file system can."""

import contextlib
import fcntl
import hashlib
import os
from pathlib import Path
from typing import Final

from dailies.clock import Deadline
from dailies.disk import full

CHUNK_BYTES: Final = 4 * 1024 * 1024
_SYNC_EVERY: Final = 16  # chunks
_FICLONE: Final = 0x40049409  # linux/fs.h; Btrfs, XFS and bcachefs share the blocks


def copy(source: Path, target: Path, deadline: Deadline) -> None:
    """Make `target`, synced. Raises the deadline's error, Waiting when the disk is full, OSError of the source."""
    with source.open("rb") as reader, target.open("wb") as writer:
        try:
            if not _is_cloned(reader.fileno(), writer.fileno()):
                for number, chunk in enumerate(iter(lambda: reader.read(CHUNK_BYTES), b""), start=1):
                    deadline.check()
                    writer.write(chunk)
                    if number % _SYNC_EVERY == 0:
                        os.fsync(writer.fileno())  # little by little: one sync of gigabytes could not be interrupted
            writer.flush()
            os.fsync(writer.fileno())
        except OSError as error:
            raise full(target, error) or error from error


def sha256(path: Path, deadline: Deadline) -> str:
    """Of the whole file in one streaming pass. Raises the deadline's error and OSError."""
    (digest,) = _digests(path, deadline, hashlib.sha256())
    return digest


def sha256_and_md5(path: Path, deadline: Deadline) -> tuple[str, str]:
    """As `sha256`; MD5 is what some hosts compare what they got with."""
    sha256, md5 = _digests(path, deadline, hashlib.sha256(), hashlib.md5(usedforsecurity=False))
    return sha256, md5


def _digests(path: Path, deadline: Deadline, *digests: "hashlib._Hash") -> list[str]:
    with path.open("rb") as reader:
        while chunk := reader.read(CHUNK_BYTES):
            deadline.check()
            for digest in digests:
                digest.update(chunk)
    return [digest.hexdigest() for digest in digests]


def _is_cloned(reader: int, writer: int) -> bool:
    with contextlib.suppress(OSError):
        fcntl.ioctl(writer, _FICLONE, reader)
        return True
    return False
