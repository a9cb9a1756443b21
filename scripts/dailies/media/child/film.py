"""An opened video as the analysis reads it: packet table, short bursts at keyframes, pictures of a stretch, loudness. PyAV.

Times are seconds from the file's start, as players and `ffmpeg -ss` count them; stamps are ticks of the stream's time base.
"""

import contextlib
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, Final, Self

import av
import numpy as np
from av.stream import Discard, Disposition
from numpy.typing import NDArray

from dailies.media.child.frame import Frame, Scaler
from dailies.media.child.nothing import NoPictures
from dailies.media.child.tone import transfer_of
from dailies.media.child.turn import SIDEWAYS, Turn, turn_of
from dailies.media.ffmpeg import FORMATS, PROTOCOLS

_BURST_S: Final = 0.13  # from the first to the last picture of a burst
_BURST_PACKETS: Final = (2, 8)
_BROKEN: Final = (av.error.FFmpegError, ValueError)  # of one packet: the next may be whole
_RETRIES_S: Final = (0.0, 2.0, 8.0, 32.0)
_SILENCE_DB: Final = -120.0


@dataclass(frozen=True)
class Table:
    """The packets of the pictures in decoding order: `stamps` to seek by, `times_s` of keyframes, `sizes` in bytes, `keys`."""

    stamps: NDArray[np.int64]
    times_s: NDArray[np.float64]
    sizes: NDArray[np.int64]
    keys: NDArray[np.bool_]
    duration_s: float  # of the pictures

    @cached_property
    def gaps_s(self) -> NDArray[np.float64]:
        """From one picture to the next."""
        return np.diff(np.sort(self.times_s))

    def keyframes(self) -> NDArray[np.int64]:
        """Their positions in the table."""
        return np.flatnonzero(self.keys)


class Film:
    """One file, opened; the pictures that players choose and their sound. Raises FFmpegError, NoPictures."""

    def __init__(self, path: str) -> None:
        self._container: Any = av.open(
            path, options={"protocol_whitelist": PROTOCOLS, "format_whitelist": FORMATS}, metadata_errors="replace"
        )
        pictures = [stream for stream in self._container.streams.video if not stream.disposition & Disposition.attached_pic]
        if not pictures:
            raise NoPictures
        sounds = list(self._container.streams.audio)
        self.video: Any = max(
            pictures, key=lambda one: (one.codec_context.width * one.codec_context.height) if one.codec_context else 0
        )
        self.audio: Any = next((one for one in sounds if one.disposition & Disposition.default), sounds[0] if sounds else None)
        if self.audio is not None and self.audio.codec_context is None:
            self.audio = None
        for stream in self._container.streams:
            if stream not in (self.video, self.audio):
                stream.discard = Discard.all
        self._decoder = self.video.codec_context
        self._decoder.thread_count = 1  # a burst is too short for threads, and each of them holds pictures
        self._decoder.thread_type = "NONE"
        self._decoder.options = {"skip_loop_filter": "all"}
        self._scaler = Scaler()
        self.tick_s = float(self.video.time_base or Fraction(1, 90000))
        start = self._container.start_time
        self.origin_s = start / av.time_base if start is not None else 0.0
        self.fps = float(self.video.average_rate or self.video.guessed_rate or 25)
        width, height = self._decoder.width, self._decoder.height
        pixel = self._decoder.sample_aspect_ratio or Fraction(1)
        self.turn: Turn | None = None  # how pictures are to be shown; known with the first of them
        self.transfer = transfer_of(self._decoder.color_trc)
        self.aspect = Fraction(width, height) * pixel if width and height and pixel > 0 else Fraction(16, 9)

    @property
    def shown_size(self) -> tuple[int, int]:
        """(width, height) in pixels after rotation."""
        size = (self._decoder.width, self._decoder.height)
        return (size[1], size[0]) if self.turn in SIDEWAYS else size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def seconds(self, stamp: int | None) -> float | None:
        return stamp * self.tick_s - self.origin_s if stamp is not None else None

    def table(self) -> Table:
        """From the container's own index where that is whole (MP4), else from the packets, none of them decoded."""
        entries = self.video.index_entries
        if len(entries) and len(entries) >= self.video.frames > 0 and self._container.format.name.startswith("mov"):
            rows = [(one.timestamp, one.size, one.is_keyframe) for one in entries if not one.is_discard]
            # the index counts in decoding times; what is sought, and shown, are presentation times
            shift = self.video.start_time - rows[0][0] if self.video.start_time is not None and rows else 0
            promised = self.seconds((self.video.start_time or 0) + self.video.duration) if self.video.duration else None
        else:
            rows, shift, promised = list(self._packets()), 0, None
        stamps, sizes, keys = zip(*rows, strict=True) if rows else ((), (), ())
        shown = np.array(stamps, np.int64) + shift
        times = shown * self.tick_s - self.origin_s
        held = float(times.max()) + 1 / self.fps if rows else 0.0
        duration_s = promised if promised is not None and abs(promised - held) < held / 2 else held
        return Table(shown, times, np.array(sizes, np.int64), np.array(keys, np.bool_), duration_s)

    def _packets(self) -> Iterator[tuple[int, int, bool]]:
        self._rewind()
        for packet in self._demuxed(self.video):
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is not None:
                yield stamp, packet.size, packet.is_keyframe

    def _rewind(self) -> None:
        """To the first packet; some containers know no time before it, others none at all."""
        start = self._container.start_time
        for target in (0, start or 0):
            with contextlib.suppress(av.error.FFmpegError):
                self._container.seek(target)
                return

    def _demuxed(self, *streams: Any) -> Iterator[Any]:
        """Packets until the end or to where the file is broken."""
        with contextlib.suppress(av.error.FFmpegError):
            for packet in self._container.demux(*streams):
                if packet.size:
                    yield packet

    def _from(self, stamp: int, *streams: Any) -> Iterator[Any]:
        """Packets from the keyframe at `stamp` on; sound that lies before it in the file is skipped."""
        slack = round(0.5 / self.fps / self.tick_s)
        for earlier_s in _RETRIES_S:  # a transport stream may be entered behind what was sought
            with contextlib.suppress(av.error.FFmpegError):
                self._container.seek(stamp + slack - round(earlier_s / self.tick_s), stream=self.video, backward=True)
            self._decoder.flush_buffers()
            if self.audio is not None:
                self.audio.codec_context.flush_buffers()
            packets = self._demuxed(*streams)
            for packet in packets:
                if packet.stream.index != self.video.index or not packet.is_keyframe:
                    continue
                found = packet.pts if packet.pts is not None else packet.dts
                if found is None or found < stamp - slack:
                    continue
                if found > stamp + slack and earlier_s != _RETRIES_S[-1]:
                    break
                yield packet
                yield from packets
                return

    def burst(self, stamp: int, sound_s: float) -> tuple[int, list[Frame], float | None]:
        """(the true stamp of the keyframe at `stamp`, it and the pictures right after it, loudness of `sound_s` from there in dB).

        One packet after the other and then a flush: a decoder that waits for its reorder delay would read two more groups of
        pictures (facts/media 6.2).
        """
        count = min(max(round(_BURST_S * self.fps) + 1, _BURST_PACKETS[0]), _BURST_PACKETS[1])
        frames: list[Any] = []
        energy = _Energy()
        sent, until = 0, None
        for packet in self._from(stamp, *filter(None, (self.video, self.audio))):
            if packet.stream.index == self.video.index:
                if sent == 0 and packet.pts is not None:
                    stamp = packet.pts
                if sent < count:
                    frames += self._decoded(packet)
                    sent += 1
                    until = until if until is not None else self._time_of(packet) + sound_s
            elif until is not None and sound_s:
                energy.take(packet)
            if sent >= count and (self.audio is None or until is None or self._time_of(packet) >= until):
                break
        frames += self._decoded(None)
        return stamp, self._timed(frames), energy.loudness()

    def _time_of(self, packet: Any) -> float:
        stamp = packet.pts if packet.pts is not None else packet.dts
        return float(stamp * packet.time_base) - self.origin_s if stamp is not None else 0.0

    def _decoded(self, packet: Any) -> list[Any]:
        try:
            return list(self._decoder.decode(packet))
        except _BROKEN:
            return []

    def _timed(self, frames: list[Any]) -> list[Frame]:
        if frames and self.turn is None:
            self.turn = turn_of(frames[0])
        timed = [
            Frame(seconds, frame, self._scaler, self.transfer)
            for frame in frames
            if (seconds := self.seconds(frame.pts)) is not None
        ]
        return sorted(timed, key=lambda one: one.t_s)

    def pictures(self, stamp: int | None, until_s: float, *, references_only: bool = False) -> Iterator[Frame]:
        """Every picture from the keyframe at `stamp` (None: from the start) to `until_s`, decoded one after the other.

        `references_only` leaves out those that no other is made from, often half of them and more of the work.
        """
        self._decoder.skip_frame = "NONREF" if references_only else "DEFAULT"
        try:
            yield from self._pictures(stamp, until_s)
        finally:
            self._decoder.skip_frame = "DEFAULT"

    def _pictures(self, stamp: int | None, until_s: float) -> Iterator[Frame]:
        if stamp is None:
            self._rewind()
            self._decoder.flush_buffers()
        for packet in self._demuxed(self.video) if stamp is None else self._from(stamp, self.video):
            for one in self._timed(self._decoded(packet)):
                if one.t_s >= until_s:
                    return
                yield one
        yield from self._timed(self._decoded(None))

    def loudness(self, step_s: float) -> dict[int, float]:
        """dB of each `step_s` of the sound that there is, by its number: a file may claim to last for years."""
        parts: defaultdict[int, _Energy] = defaultdict(_Energy)
        if self.audio is not None:
            self._rewind()
            self.audio.codec_context.flush_buffers()
            for packet in self._demuxed(self.audio):
                parts[int(self._time_of(packet) / step_s)].take(packet)
        return {number: level for number, part in parts.items() if (level := part.loudness()) is not None}


class _Energy:
    """The loudness of some packets of sound: their mean square, in dB of full scale."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._count = 0

    def take(self, packet: Any) -> None:
        try:
            frames = packet.decode()
        except _BROKEN:
            return
        for frame in frames:
            samples = frame.to_ndarray()
            scale = float(np.iinfo(samples.dtype).max) if samples.dtype.kind in "iu" else 1.0
            values = samples.astype(np.float32).ravel()
            self._sum += float(np.dot(values, values)) / scale**2
            self._count += values.size

    def loudness(self) -> float | None:
        if not self._count:
            return None
        return max(_SILENCE_DB, 10 * math.log10(self._sum / self._count + 1e-12))
