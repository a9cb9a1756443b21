"""What a file is: streams, true durations and packet counts, read by PyAV in a child process (media/child)."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from dailies.clock import Deadline
from dailies.media.children import Children, ProbeTask
from dailies.model import Media

StreamKind = Literal["video", "audio", "subtitle", "data", "attachment"]


class Stream(BaseModel):
    """One stream. Times are seconds on the file's own clock; counts are 0 after a header-only probe."""

    model_config = ConfigDict(frozen=True)
    index: int
    kind: StreamKind
    codec: str | None
    is_picture: bool = False
    is_default: bool = False
    is_raw: bool = False  # Annex B video or ADTS audio: parameter sets in the packets, none beside them
    language: str | None = None
    title: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    last_s: float | None = None  # when its last packet is shown
    declared_s: float | None = None
    crc32: str | None = None  # of all its packets in order, as ffmpeg's streamhash writes it
    packets: int = 0
    corrupt_packets: int = 0
    leading_packets: int = 0  # before the first keyframe
    width: int = 0
    height: int = 0
    pixel_format: str | None = None
    sample_aspect: tuple[int, int] = (1, 1)
    fps: float = 0.0
    color_transfer: int = 0  # ITU-T H.273: 16 is PQ, 18 is HLG
    rotation: int = 0
    is_decodable: bool | None = None  # None: not tried
    channels: int = 0
    sample_rate: int = 0

    @property
    def is_hdr(self) -> bool:
        return self.color_transfer in {16, 18}

    def shown_size(self) -> tuple[int, int]:
        """(width, height) in stored pixels after rotation."""
        return (self.height, self.width) if self.rotation % 180 else (self.width, self.height)

    def shown_aspect(self) -> Fraction:
        """Width : height as a player shows it, after rotation and with non-square pixels stretched."""
        if not self.width or not self.height:
            return Fraction(1)
        aspect = Fraction(self.width * self.sample_aspect[0], self.height * self.sample_aspect[1])
        return 1 / aspect if self.rotation % 180 else aspect


class Probe(BaseModel):
    model_config = ConfigDict(frozen=True)
    format: str
    size_bytes: int
    declared_s: float | None
    bit_rate: int
    tags: dict[str, str]
    told: dict[str, str] = {}  # what its tags say for the record; more than what is kept in the MP4
    streams: tuple[Stream, ...]

    def of_kind(self, kind: StreamKind) -> tuple[Stream, ...]:
        return tuple(stream for stream in self.streams if stream.kind == kind and not stream.is_picture)

    def main_video(self) -> Stream | None:
        """The one that players choose: the largest; the first of equals."""
        return max(self.of_kind("video"), key=lambda stream: stream.width * stream.height, default=None)

    def main_audio(self) -> Stream | None:
        tracks = self.of_kind("audio")
        return next((stream for stream in tracks if stream.is_default), tracks[0] if tracks else None)

    def duration_s(self) -> float:
        """From the first start to the last end of pictures and sound; what the header says where no stream knows."""
        timed = [stream for stream in (*self.of_kind("video"), *self.of_kind("audio")) if stream.end_s is not None]
        if not timed:
            return self.declared_s or 0.0
        return max(stream.end_s or 0.0 for stream in timed) - min(stream.start_s or 0.0 for stream in timed)


def probe(
    name: str,
    path: Path,
    deadline: Deadline,
    *,
    children: Children,
    header_only: bool = False,
    filters: Mapping[int, str] | None = None,
) -> Probe:
    """What `path` is; `name` is what messages call it. With `filters` every stream's packets are hashed as well, each behind the
    bitstream filters that are named for its index.

    Raises VideoError (empty, unsupported, damaged), Transient `crashed` when the child dies: twice is final (policy.py).
    """
    task = ProbeTask(path=str(path), header_only=header_only, filters=filters)
    return children.ask(name, task, Probe, deadline)


def summary(probe: Probe) -> Media:
    """What the record says about the media."""
    video, audio = probe.main_video(), probe.main_audio()
    width, height = video.shown_size() if video else (0, 0)
    aspect = video.shown_aspect().limit_denominator(1000) if video else Fraction(0)
    return Media(
        duration_s=round(probe.duration_s(), 3),
        width=width,
        height=height,
        resolution=f"{width}x{height}",
        aspect_ratio=f"{aspect.numerator}:{aspect.denominator}" if video else "",
        fps=round(video.fps, 3) if video else 0.0,
        video_codec=video.codec if video else None,
        audio_codec=audio.codec if audio else None,
        audio_channels=audio.channels if audio else 0,
        bit_rate=probe.bit_rate,
        rotation=video.rotation if video else 0,
    )
