"""From stretches and renditions to one file; where there is but one of both it is that file already."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dailies.clock import Deadline
from dailies.disk import written
from dailies.errors import Category, VideoError, Waiting
from dailies.media import ffmpeg, recipes
from dailies.media.children import died
from dailies.process import run
from dailies.sources.hls.marks import Stretch

_STAMP: Final = b"com.apple.streaming.transportStreamTimestamp\0"
_STAMP_HZ: Final = 90_000
_HEAD_BYTES: Final = 4096


def join(name: str, tracks: Sequence[Sequence[Stretch]], target: Path, work: Path, deadline: Deadline) -> None:
    """One Matroska file of all packets, one timeline. Raises VideoError, Transient where ffmpeg dies, Waiting for a full disk."""
    inputs = [_input(track, is_timed=len(tracks) > 1) for track in tracks]
    made = run(recipes.joined(ffmpeg.executable(), inputs, target), deadline, work=work)
    if made.died:
        raise died(name, made)
    if any("No space left" in line for line in made.messages):
        raise Waiting(f"{name}: the disk is full; free some space", Category.NO_SPACE)
    if made.code != 0:
        raise VideoError(f"{name}: its segments cannot be joined: ffmpeg {made.last_words()}", Category.CONVERSION)


def _input(track: Sequence[Stretch], *, is_timed: bool) -> recipes.Joint:
    """`is_timed`: sound is apart, and both must keep to the lengths that the playlists say, or they would drift."""
    if len(track) == 1:
        return recipes.Joint(track[0].path, offset_s=_stamp_s(track[0].path))
    listed = track[0].path.with_suffix(".ffconcat")
    lines = ["ffconcat version 1.0"]
    for stretch in track:
        lines += [f"file {stretch.path.name}", *([f"duration {stretch.duration_s:.3f}"] if is_timed else [])]
    with written(listed):
        listed.write_text("\n".join(lines) + "\n", "utf-8")
    return recipes.Joint(listed, is_list=True)


def _stamp_s(path: Path) -> float:
    """When packed sound begins on the clock of the pictures (RFC 8216, 3.4): nothing else in it says so."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    _, found, rest = head.partition(_STAMP)
    if not (found and head.startswith(b"ID3") and len(rest) >= 8):
        return 0.0
    return (int.from_bytes(rest[:8]) & (2**33 - 1)) / _STAMP_HZ
