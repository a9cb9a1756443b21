"""ffmpeg command lines, written by ffmpeg-python; pure: values in, argv out."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import ffmpeg

from dailies.media.ffmpeg import FORMATS, PROTOCOLS
from dailies.media.health import is_readable
from dailies.media.probe import Probe, Stream
from dailies.model import Clip

COPIED_VIDEO: Final = frozenset({"h264", "hevc", "av1", "vp9"})
COPIED_AUDIO: Final = frozenset({"aac", "mp3", "ac3", "eac3", "opus"})
TEXT_SUBTITLES: Final = frozenset({"subrip", "ass", "ssa", "mov_text", "webvtt", "text"})
_GLOBAL: Final = ("-nostdin", "-hide_banner", "-v", "level+warning")
_MAX_PREVIEW_FPS: Final = 30.0
# Both sides in Annex B without parameter sets and delimiters: transport streams repeat them, MP4 keeps them beside the packets
_ANNEX_B: Final = {
    "h264": "h264_mp4toannexb,filter_units=remove_types=7-9",
    "hevc": "hevc_mp4toannexb,filter_units=remove_types=32-35",
}
# These hold no presentation times: H.264 with B-frames copied from them would play in the wrong order
_WITHOUT_TIMES: Final = frozenset({"avi", "mpeg"})
_REPEAT: Final = "\0"  # never in an argument


@dataclass(frozen=True)
class Track:
    """One stream of the output: taken as it is, or made anew."""

    stream: Stream
    is_copied: bool

    def hash_filter(self, *, of_source: bool) -> str | None:
        """The bitstream filter that makes source and MP4 comparable: MP4 holds neither Annex B nor ADTS (facts 6.4)."""
        if not self.stream.is_raw:
            return None
        if self.stream.kind == "video":
            return _ANNEX_B[self.stream.codec or ""]
        return "aac_adtstoasc" if of_source else None


@dataclass(frozen=True)
class Plan:
    """What goes into the MP4, in this order, and what is left out."""

    tracks: tuple[Track, ...]
    left_out: tuple[str, ...]
    tags: tuple[tuple[str, str], ...] = ()

    def copied(self) -> list[tuple[int, Track]]:
        """(output index, track) of those whose packets must arrive unchanged; subtitles may be rewritten."""
        return [(index, track) for index, track in enumerate(self.tracks) if track.is_copied and track.stream.kind != "subtitle"]

    def output_filters(self) -> dict[int, str]:
        """Output index to the bitstream filters behind which its packets are hashed."""
        named = ((index, track.hash_filter(of_source=False)) for index, track in self.copied())
        return {index: name for index, name in named if name}

    def is_copied_whole(self) -> bool:
        return all(track.is_copied for track in self.tracks if track.stream.kind != "subtitle")

    def transcoded(self) -> "Plan":
        """The same with pictures and sound made anew."""
        tracks = (replace(track, is_copied=track.stream.kind == "subtitle") for track in self.tracks)
        return replace(self, tracks=tuple(tracks))


def plan(probe: Probe) -> Plan:
    """Pictures, sound and text subtitles; copied where MP4 takes the codec (design, rule 6)."""
    tracks: list[Track] = []
    left_out: list[str] = []
    for stream in probe.streams:
        if stream.kind in {"video", "audio"} and not stream.is_picture and is_readable(stream):
            is_timed = stream.kind == "audio" or probe.format not in _WITHOUT_TIMES
            tracks.append(Track(stream, is_copied=is_timed and stream.codec in COPIED_VIDEO | COPIED_AUDIO))
        elif stream.kind == "subtitle" and stream.codec in TEXT_SUBTITLES:
            tracks.append(Track(stream, is_copied=stream.codec == "mov_text"))
        else:
            left_out.append(
                f"stream {stream.index} ({'picture' if stream.is_picture else stream.kind}, {stream.codec or 'unknown'}) left out"
            )
    return Plan(tuple(tracks), tuple(left_out), tuple(sorted(probe.tags.items())))


def source(path: Path, **options: Any) -> Any:
    return ffmpeg.input(str(path), protocol_whitelist=PROTOCOLS, format_whitelist=FORMATS, **options)


def _compile(output: Any, executable: str) -> list[str]:
    argv: list[str] = output.global_args(*_GLOBAL).overwrite_output().compile(cmd=executable)
    expanded = argv[:1]
    for flag, argument in itertools.pairwise(argv):
        first, *more = argument.split(_REPEAT)
        expanded += [first, *(part for value in more for part in (flag, value))]
    return expanded


def _repeated(values: list[str]) -> str:
    """Values of an option that stands once for each of them: ffmpeg-python 0.2.0 takes no lists."""
    return _REPEAT.join(value.replace(_REPEAT, "") for value in values)


def convert(executable: str, path: Path, target: Path, plan: Plan, *, threads: int) -> list[str]:
    """One reading of the source makes the MP4 and, on stdout, the hashes of the copied streams.

    Start offsets are normalised by ffmpeg itself; location and device tags go with all metadata but a few named ones.
    """
    media = source(path, fflags="+genpts")
    options: dict[str, Any] = {
        "map_metadata:g": "-1",
        "map_metadata:s": "-1",  # and not those of chapters, which are what people wrote
        "fflags": "+bitexact",  # equal input, equal output: converting again after a lost machine gives the same file
        "movflags": "+faststart",
        "max_muxing_queue_size": "4096",
        "threads": str(threads),
    }
    if plan.tags:
        options["metadata"] = _repeated([f"{key}={value}" for key, value in plan.tags])
    for index, track in enumerate(plan.tracks):
        options |= _track_options(index, track)
    mp4 = ffmpeg.output(*_mapped(media, plan.tracks), str(target), format="mp4", **options)
    hashed = [track for _, track in plan.copied()]
    if not hashed:
        return _compile(mp4, executable)
    filters = {f"bsf:{index}": track.hash_filter(of_source=True) for index, track in enumerate(hashed)}
    filters = {key: name for key, name in filters.items() if name}
    hashes = ffmpeg.output(*_mapped(media, hashed), "pipe:1", format="streamhash", hash="CRC32", c="copy", **filters)
    return _compile(ffmpeg.merge_outputs(mp4, hashes), executable)


def _mapped(media: Any, tracks: Sequence[Track]) -> list[Any]:
    return [media[str(track.stream.index)] for track in tracks]


def _track_options(index: int, track: Track) -> dict[str, Any]:
    stream = track.stream
    title = [f"title={stream.title}"] if stream.title else []
    options: dict[str, Any] = {f"metadata:s:{index}": _repeated([f"language={stream.language or 'und'}", *title])}
    if stream.kind == "subtitle":
        return options | {f"c:{index}": "copy" if track.is_copied else "mov_text"}
    if track.is_copied:
        # Apple's players want hvc1; the parameter sets are beside the packets in MP4 anyway
        return options | {f"c:{index}": "copy"} | ({f"tag:{index}": "hvc1"} if stream.codec == "hevc" else {})
    if stream.kind == "audio":
        return options | {f"c:{index}": "aac", f"b:{index}": "160k"}
    return options | {
        f"c:{index}": "libx264",
        f"preset:{index}": "veryfast",
        f"crf:{index}": "20",
        f"filter:{index}": "scale=trunc(iw/2)*2:trunc(ih/2)*2,format=yuv420p",
    }


def decode(executable: str, path: Path, streams: list[int], *, threads: int) -> list[str]:
    """Decode these streams to nothing: what is damaged inside shows on stderr."""
    media = source(path, threads=str(threads))
    mapped = [media[str(index)] for index in streams]
    # vfr times rounded to a guessed rate make the null muxer complain of equal dts: passthrough (SOURCES.md, vfr_phone)
    return _compile(ffmpeg.output(*mapped, "-", format="null", fps_mode="passthrough"), executable)


def preview(
    executable: str, path: Path, target: Path, clips: tuple[Clip, ...], probe: Probe, *, height: int, threads: int
) -> list[str]:
    """One process: each clip its own input, joined, constant frame rate, stereo; never scaled up. `probe` is of `path`."""
    video, audio = probe.main_video(), probe.main_audio()
    assert video is not None, "a preview is made of pictures"
    width, height = preview_size(video, height)
    fps = min(video.fps or 25.0, _MAX_PREVIEW_FPS)
    parts: list[Any] = []
    for clip in clips:
        media = source(path, ss=f"{clip.start_s:.3f}", t=f"{clip.length_s:.3f}")
        pictures = media[str(video.index)].filter("fps", f"{fps:.3f}").filter("scale", width, height)
        parts.append(pictures.filter("setsar", 1).filter("format", "yuv420p"))
        if audio is not None:
            sound = media[str(audio.index)].filter("aresample", 48000).filter("aformat", channel_layouts="stereo")
            sound = sound.filter("apad", whole_dur=f"{clip.length_s:.3f}").filter("atrim", end=f"{clip.length_s:.3f}")
            parts.append(sound)
    joined = ffmpeg.concat(*parts, v=1, a=int(audio is not None)).node
    streams = [joined[0], joined[1]] if audio is not None else [joined[0]]
    options = {
        "c:v": "libx264",
        "preset": "veryfast",
        "crf": "23",
        "movflags": "+faststart",
        "fflags": "+bitexact",
        "map_metadata": "-1",
    }
    if audio is not None:
        options |= {"c:a": "aac", "b:a": "128k"}
    return _compile(ffmpeg.output(*streams, str(target), format="mp4", threads=str(threads), **options), executable)


def preview_size(video: Stream, height: int) -> tuple[int, int]:
    """Even (width, height), square pixels, at most `height` lines and never more than the video has."""
    lines = max(2, min(height, video.shown_size()[1]) // 2 * 2)
    return max(2, round(lines * float(video.shown_aspect()) / 2) * 2), lines
