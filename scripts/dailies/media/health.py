"""Is the file whole? Faults told from a probe and from what ffmpeg said while it read."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from dailies.errors import Category
from dailies.media.probe import Probe, Stream

# A header may promise a little more than the packets hold (rounding, a last subtitle); more than this is missing media.
SHORTFALL_S: Final = 1.0
SHORTFALL_SHARE: Final = 0.01
_LINE: Final = re.compile(r"^\[(?P<context>[^\]]*?)(?: @ [^\]]*)?\] (?:\[(?P<inner>error|fatal|panic|warning)\] )?(?P<text>.*)$")
_OF_OUTPUT: Final = re.compile(r"mp4$|streamhash$|out#|[avs]f#|[avs]ost#|enc:")
_CORRUPT: Final = re.compile(r"corrupt|partial file|ended prematurely|invalid as first byte|truncat", re.IGNORECASE)


@dataclass(frozen=True)
class Fault:
    """`is_fatal`: nothing can be salvaged, whatever the settings allow."""

    category: Category
    message: str
    is_fatal: bool = False


def faults(probe: Probe, *, accept_audio: bool) -> list[Fault]:
    """What is wrong with a source, worst first; empty for a whole file."""
    media = (*probe.of_kind("video"), *probe.of_kind("audio"))
    readable = [stream for stream in media if is_readable(stream)]
    if not media:
        return [Fault(Category.UNSUPPORTED, "holds neither pictures nor sound; queue a video file", is_fatal=True)]
    if not probe.of_kind("video") and not accept_audio:
        return [
            Fault(Category.NO_VIDEO, "has no pictures; set [library] accept_audio = true to publish sound alone", is_fatal=True)
        ]
    if not readable or not any(stream.packets for stream in readable):
        return [Fault(Category.DAMAGED, "no stream can be read; copy or export it again", is_fatal=True)]
    found = [_unreadable(stream) for stream in media if stream not in readable]
    if probe.of_kind("video") and not any(stream.kind == "video" for stream in readable):
        found = [Fault(fault.category, fault.message, is_fatal=True) for fault in found]
    corrupt = sum(stream.corrupt_packets for stream in media)
    if corrupt:
        found.append(
            Fault(Category.DAMAGED, f"{corrupt} packets are corrupt; copy it again or set [library] accept_damaged = true")
        )
    return found + _shortfall(probe)


def is_readable(stream: Stream) -> bool:
    """A codec that is known, with the parameters a player needs, whose first picture decodes."""
    if stream.codec is None:
        return False
    if stream.kind == "video":
        return bool(stream.width and stream.height and stream.pixel_format) and stream.is_decodable is not False
    return bool(stream.sample_rate and stream.channels)


def _unreadable(stream: Stream) -> Fault:
    return Fault(
        Category.DAMAGED,
        f"{stream.kind} stream {stream.index} ({stream.codec or 'unknown codec'}) cannot be read; "
        "export it again or set [library] accept_damaged = true to leave it out",
    )


def _shortfall(probe: Probe) -> list[Fault]:
    """An interrupted copy: the header promises more than is there. A transport stream's header promises nothing."""
    ends = [stream.end_s for stream in probe.streams if stream.end_s is not None]
    if not ends or probe.declared_s is None or probe.format == "mpegts":
        return []
    starts = [stream.start_s for stream in probe.streams if stream.start_s is not None]
    held = max(ends) - min([*starts, 0.0])
    if probe.declared_s - held <= max(SHORTFALL_S, SHORTFALL_SHARE * probe.declared_s):
        return []
    promise = f"its header promises {probe.declared_s:.1f} s, {held:.1f} s are there"
    return [Fault(Category.DAMAGED, f"is cut short: {promise}; copy it again or set [library] accept_damaged = true")]


def advice(probe: Probe) -> list[str]:
    """Warnings for the record about a file that is whole."""
    return [
        f"begins inside a group of pictures: the first {stream.leading_packets} pictures of stream {stream.index} are left out"
        for stream in probe.of_kind("video")
        if stream.leading_packets
    ]


def damage(lines: Iterable[str], codecs: Iterable[str]) -> tuple[list[str], list[str]]:
    """ffmpeg's lines (`-v level+warning`) told apart: (packets missing or corrupt, trouble inside pictures or sound).

    A codec's own complaint means that all packets are there; what a demuxer calls an error does not.
    """
    codec_names = {*codecs, "NULL"}
    broken, inner = [], []
    for line in lines:
        found = _LINE.match(line)
        if found is None or _OF_OUTPUT.match(found["context"]):
            continue  # what the output cannot hold is told by the exit code
        is_error = found["inner"] in {"error", "fatal", "panic"} or found["context"] in {"error", "fatal", "panic"}
        if found["context"].partition("#")[0] in codec_names or found["context"].startswith("dec:"):
            inner += [found["text"]] if is_error else []
        elif is_error or _CORRUPT.search(found["text"]):
            broken.append(found["text"])
    return broken, inner
