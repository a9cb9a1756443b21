"""What the packets of a file say: the probe of media/probe.py, read by PyAV."""

import contextlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import av
from av.bitstream import BitStreamFilterContext
from av.stream import Disposition

from dailies.errors import Category
from dailies.media.ffmpeg import FORMATS, PROTOCOLS
from dailies.media.probe import Probe, Stream, StreamKind

DECODE_TRIES: Final = 300  # packets given to the decoder before its first picture must be there
KEPT_TAGS: Final = ("title", "artist", "album", "genre", "copyright")
# read for the record only; what says where and with what something was filmed is not
TOLD_TAGS: Final = frozenset(
    {*KEPT_TAGS, "album_artist", "comment", "date", "description", "episode_sort", "keywords", "network", "publisher"}
    | {"season_number", "show", "synopsis"}
)
_TOLD_CHARACTERS: Final = 5000
# The first bytes of containers that we read: a file that has them and cannot be opened is damaged, any other is unsupported.
_SIGNATURES: Final = ((4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (0, b"\x1aE\xdf\xa3"), (0, b"RIFF"), (0, b"OggS"), (0, b"FLV"))

_TS_PACKET: Final = 188  # bytes; each begins with "G"


@dataclass
class _Count:
    """What the packets of one stream say."""

    packets: int = 0
    corrupt: int = 0
    leading: int = 0
    start: float | None = None
    end: float | None = None
    last: float | None = None
    tries: int = 0
    decoded: bool | None = None
    rotation: int = 0
    hash: "_Hash | None" = None


@dataclass
class _Hash:
    """CRC-32 over the packets of one stream, behind a bitstream filter where one is given."""

    filter: BitStreamFilterContext | None
    value: int = 0

    def take(self, packet: Any) -> None:
        for part in self.filter.filter(packet) if self.filter else (packet,):
            self.value = zlib.crc32(part, self.value)


def _hash_of(stream: Any, filters: Mapping[int, str] | None) -> _Hash | None:
    if filters is None:
        return None
    name = filters.get(stream.index)
    return _Hash(BitStreamFilterContext(name, stream) if name else None)


def reason(path: Path, error: av.error.FFmpegError) -> tuple[Category, str]:
    """Why a file could not be opened, in words for the person."""
    if path.stat().st_size == 0:
        return Category.EMPTY, "is empty (0 bytes); copy or export it again"
    with path.open("rb") as file:
        head = file.read(_TS_PACKET + 1)
    is_transport_stream = head[:1] == head[_TS_PACKET:] == b"G"
    if is_transport_stream or any(head[at : at + len(mark)] == mark for at, mark in _SIGNATURES):
        said = f"cannot be opened ({error.strerror}); its index is missing or broken: repair or copy it again"
        return Category.DAMAGED, said
    return Category.UNSUPPORTED, f"is no media file that can be read ({error.strerror}); see docs/settings.md for the formats"


def read(path: Path, *, header_only: bool, filters: Mapping[int, str] | None) -> Probe:
    """Header only: no counts. With `filters`: hashes of all packets, behind the filters named for a stream. Raises FFmpegError."""
    options = {"protocol_whitelist": PROTOCOLS, "format_whitelist": FORMATS}
    with av.open(str(path), options=options, metadata_errors="replace") as container:
        counts = {stream.index: _Count(hash=_hash_of(stream, filters)) for stream in container.streams}
        if header_only:
            _look_at_pictures(container, counts)
        else:
            _count_packets(container, counts)
        declared = container.duration / av.time_base if container.duration is not None else None
        return Probe(
            format=container.format.name,
            size_bytes=path.stat().st_size,
            declared_s=declared,
            bit_rate=container.bit_rate or 0,
            tags={key: value for key, value in container.metadata.items() if key.lower() in KEPT_TAGS},
            told={key.lower(): value[:_TOLD_CHARACTERS] for key, value in container.metadata.items() if key.lower() in TOLD_TAGS},
            streams=tuple(_stream(stream, counts[stream.index]) for stream in container.streams),
        )


def _look_at_pictures(container: Any, counts: dict[int, _Count]) -> None:
    """Just far enough to know how the pictures are rotated: the header alone does not say in PyAV."""
    waiting = {stream.index for stream in container.streams.video}
    for packet in container.demux(video=list(range(len(container.streams.video)))) if waiting else ():
        count = counts[packet.stream.index]
        if packet.size:
            _try_decode(packet, count)
        else:
            _try_rest(packet, count)
        if count.decoded or count.tries >= DECODE_TRIES or not packet.size:
            waiting.discard(packet.stream.index)
        if not waiting:
            return


def _count_packets(container: Any, counts: dict[int, _Count]) -> None:
    for packet in container.demux():
        if packet.size == 0:
            _try_rest(packet, counts.setdefault(packet.stream.index, _Count()))
            continue
        count = counts.setdefault(packet.stream.index, _Count())
        count.packets += 1
        count.corrupt += packet.is_corrupt
        if count.hash:
            count.hash.take(packet)
        if packet.pts is not None:
            start = float(packet.pts * packet.time_base)
            end = start + float((packet.duration or 0) * packet.time_base)
            count.start = start if count.start is None else min(count.start, start)
            count.last = start if count.last is None else max(count.last, start)
            count.end = end if count.end is None else max(count.end, end)
        if packet.stream.type == "video":
            count.leading += not packet.is_keyframe and count.tries == 0
            _try_decode(packet, count)


def _try_decode(packet: Any, count: _Count) -> None:
    """Until the first picture: it proves that the decoder knows the stream, and says how it is rotated."""
    if count.decoded or count.tries >= DECODE_TRIES or (count.tries == 0 and not packet.is_keyframe):
        return
    count.tries += 1
    count.decoded = False
    try:
        for frame in packet.decode():
            count.decoded, count.rotation = True, int(frame.rotation)
            return
    except av.error.FFmpegError:
        return


def _try_rest(packet: Any, count: _Count) -> None:
    """At the end of a stream so short that its decoder still holds its pictures back."""
    if count.tries and not count.decoded:
        with contextlib.suppress(av.error.FFmpegError):
            for frame in packet.decode():
                count.decoded, count.rotation = True, int(frame.rotation)
                return


def _stream(stream: Any, count: _Count) -> Stream:
    context = stream.codec_context
    seconds = float(stream.time_base) if stream.time_base else 0.0
    start = stream.start_time * seconds if stream.start_time is not None else count.start
    declared = stream.duration * seconds if stream.duration is not None else None
    end = count.end if count.end is not None else (start or 0.0) + declared if declared is not None else None
    common = Stream(
        index=stream.index,
        kind=cast("StreamKind", stream.type if stream.type in {"video", "audio", "subtitle", "attachment"} else "data"),
        codec=context.codec.canonical_name if context else None,
        is_picture=bool(stream.disposition & Disposition.attached_pic),
        is_default=bool(stream.disposition & Disposition.default),
        language=stream.language,
        title=stream.metadata.get("title"),
        start_s=start,
        end_s=end,
        last_s=count.last,
        declared_s=declared,
        crc32=f"{count.hash.value:08x}" if count.hash else None,
        packets=count.packets,
        corrupt_packets=count.corrupt,
        leading_packets=count.leading,
        is_decodable=count.decoded,
        rotation=count.rotation,
    )
    return common.model_copy(update=_details(stream, context)) if context else common


def _details(stream: Any, context: Any) -> dict[str, Any]:
    if stream.type == "video":
        aspect = context.sample_aspect_ratio
        return {
            "width": context.width,
            "height": context.height,
            "pixel_format": context.pix_fmt,
            "fps": float(stream.average_rate or stream.guessed_rate or 0),
            "color_transfer": int(context.color_trc or 0),
            "sample_aspect": (aspect.numerator, aspect.denominator) if aspect else (1, 1),
            # avcC and hvcC begin with their version, 1; Annex B with a start code (ISO/IEC 14496-15)
            "is_raw": context.name in {"h264", "hevc"} and not (context.extradata or b"").startswith(b"\x01"),
        }
    if stream.type == "audio":
        is_adts = context.codec.canonical_name == "aac" and not context.extradata
        return {"channels": context.channels, "sample_rate": context.sample_rate, "is_raw": is_adts}
    return {}
