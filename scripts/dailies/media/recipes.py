"""ffmpeg command lines, written by ffmpeg-python; pure: values in, argv out."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import ffmpeg

from dailies.media.analysis import STEADY, Pace
from dailies.media.ffmpeg import FORMATS, PROTOCOLS
from dailies.media.health import is_readable
from dailies.media.probe import Probe, Stream
from dailies.model import Clip

COPIED_VIDEO: Final = frozenset({"h264", "hevc", "av1", "vp9"})
COPIED_AUDIO: Final = frozenset({"aac", "mp3", "ac3", "eac3", "opus"})
TEXT_SUBTITLES: Final = frozenset({"subrip", "ass", "ssa", "mov_text", "webvtt", "text"})
_GLOBAL: Final = ("-nostdin", "-hide_banner", "-v", "level+warning")
_MAX_PREVIEW_FPS: Final = 30.0
_FADE_S: Final = 0.03
_INDEXED: Final = ("mov", "matroska", "avi")
_EARLY_S: Final = 1.0
_ANIMATION_WIDTH: Final = 320
_TRANSFERS: Final = {16: "smpte2084", 18: "arib-std-b67"}  # H.273 codes, as zscale calls them
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


@dataclass(frozen=True)
class Look:
    """How a preview is made: at most `height` lines, x264's preset and quality."""

    height: int = 480
    preset: str = "veryfast"
    crf: int = 23


def preview(
    executable: str,
    path: Path,
    target: Path,
    clips: Sequence[Clip],
    probe: Probe,
    look: Look,
    *,
    threads: int,
    pace: Pace = STEADY,
    is_one_pass: bool = False,
) -> list[str]:
    """One process: the clips joined, constant frame rate, stereo, SDR; never scaled up. `probe` is of `path`.

    Each clip is an input of its own, entered at the keyframe before it; with `is_one_pass` the file is read once, for files whose
    keyframes are so far apart that each entry would decode most of it. `pace` is what its packets say.
    """
    inputs = (
        _one_reading(path, clips, probe) if is_one_pass else [_entered(path, clip, probe, pace.keyframe_gap_s) for clip in clips]
    )
    return _joined(executable, inputs, target, clips, _shape(probe, look, pace), look, threads=threads)


def piece(executable: str, path: Path, target: Path, clip: Clip, probe: Probe, look: Look, pace: Pace) -> list[str]:
    """One clip in the preview's size, unspoilt, for `joined_pieces`: of large pictures only one decoder at a time is held."""
    shape = _shape(probe, look, pace)
    pictures, sound = _entered(path, clip, probe, pace.keyframe_gap_s)
    streams = [_fitted(pictures, clip, shape), *([] if sound is None else [_stereo(sound, clip.length_s)])]
    options = {"c:v": "libx264", "preset": "ultrafast", "qp": "0", "c:a": "pcm_s16le"}
    return _compile(ffmpeg.output(*streams, str(target), format="matroska", **options), executable)


def joined_pieces(
    executable: str,
    pieces: Sequence[Path],
    target: Path,
    clips: Sequence[Clip],
    probe: Probe,
    look: Look,
    pace: Pace,
    *,
    threads: int,
) -> list[str]:
    """The preview of pieces made before; `probe` is of the whole video."""
    has_sound = probe.main_audio() is not None
    inputs = [(media["v:0"], media["a:0"] if has_sound else None) for media in map(source, pieces)]
    shape = replace(_shape(probe, look, pace), is_hdr=False)
    return _joined(executable, inputs, target, clips, shape, look, threads=threads)


def animation(executable: str, preview: Path, target: Path) -> list[str]:
    """A small animated WebP of a finished preview, without sound."""
    pictures = source(preview)["v:0"].filter("fps", "8").filter("scale", _ANIMATION_WIDTH, -2)
    options = {"c:v": "libwebp_anim", "quality": "55", "compression_level": "4", "loop": "0"}
    return _compile(ffmpeg.output(pictures, str(target), format="webp", **options), executable)


@dataclass(frozen=True)
class _Shape:
    """What every clip of a preview is brought to."""

    width: int
    height: int
    fps: float
    is_hdr: bool
    transfer: str


def _shape(probe: Probe, look: Look, pace: Pace) -> _Shape:
    video = probe.main_video()
    assert video is not None, "a preview is made of pictures"
    width, height = preview_size(video, look.height)
    fps = min(pace.fps or video.fps or 25.0, _MAX_PREVIEW_FPS)
    return _Shape(width, height, fps, video.is_hdr, _TRANSFERS.get(video.color_transfer, ""))


def _streams(media: Any, probe: Probe) -> tuple[Any, Any]:
    """(pictures, sound or None) as players choose them."""
    video, audio = probe.main_video(), probe.main_audio()
    assert video is not None, "a preview is made of pictures"
    return media[str(video.index)], media[str(audio.index)] if audio else None


def _entered(path: Path, clip: Clip, probe: Probe, gap_s: float) -> tuple[Any, Any]:
    """A clip as an input of its own."""
    # a container without an index is entered at the keyframe behind what was sought, or at any other: sooner, then cut
    early_s = 0.0 if probe.format.startswith(_INDEXED) else min(clip.start_s, gap_s + _EARLY_S)
    # pictures that change their size within a clip are scaled, as rebuilding a graph of ten inputs never ends;
    # one thread a decoder: they wait for each other anyway, and each thread holds pictures
    span = {"ss": f"{clip.start_s - early_s:.3f}", "t": f"{early_s + clip.length_s:.3f}"}
    pictures, sound = _streams(source(path, threads="1", reinit_filter="0", **span), probe)
    return _cut(pictures, sound, early_s, clip.length_s) if early_s else (pictures, sound)


def _one_reading(path: Path, clips: Sequence[Clip], probe: Probe) -> list[tuple[Any, Any]]:
    """All clips from one input that is decoded from its beginning to the end of the last clip."""
    pictures, sound = _streams(source(path, reinit_filter="0"), probe)
    seen = pictures.filter_multi_output("split", len(clips))
    heard = sound.filter_multi_output("asplit", len(clips)) if sound is not None else [None] * len(clips)
    return [_cut(seen[number], heard[number], clip.start_s, clip.length_s) for number, clip in enumerate(clips)]


def _cut(pictures: Any, sound: Any, start_s: float, length_s: float) -> tuple[Any, Any]:
    """This part of both, its times counted from its start."""
    span, shift = {"start": f"{start_s:.3f}", "duration": f"{length_s:.3f}"}, f"PTS-{start_s:.3f}/TB"
    shown = pictures.filter("trim", **span).filter("setpts", shift)
    return shown, None if sound is None else sound.filter("atrim", **span).filter("asetpts", shift)


def _fitted(pictures: Any, clip: Clip, shape: _Shape) -> Any:
    # from zero on: what a clip begins with is shown until its next picture
    shown = pictures.filter("fps", f"{shape.fps:.3f}", start_time="0")
    shown = shown.filter("trim", end_frame=max(1, round(clip.length_s * shape.fps)))
    if shape.is_hdr:
        # said outright, because files often do not: BT.2020 in, BT.709 out
        came = {"tin": shape.transfer, "pin": "bt2020", "min": "bt2020nc", "rin": "limited"}
        shown = shown.filter("zscale", w=shape.width, h=shape.height, t="linear", npl="100", **came).filter("format", "gbrpf32le")
        shown = shown.filter("zscale", p="bt709").filter("tonemap", "hable", desat="0")
        shown = shown.filter("zscale", t="bt709", m="bt709", r="limited")
    else:
        shown = shown.filter("scale", shape.width, shape.height, flags="bilinear", out_range="limited")
    return shown.filter("setsar", 1).filter("format", "yuv420p")


def _stereo(sound: Any, length_s: float) -> Any:
    """Laid over silence of the clip's length: the sound may end before the pictures, or begin behind them."""
    silence = ffmpeg.input(f"anullsrc=r=48000:cl=stereo:d={length_s:.3f}", f="lavfi")
    heard = sound.filter("aresample", "48000", **{"async": "1", "first_pts": "0"}).filter("aformat", channel_layouts="stereo")
    return ffmpeg.filter([silence, heard], "amix", inputs=2, duration="first", normalize=0, dropout_transition=0)


def _joined(
    executable: str,
    inputs: Sequence[tuple[Any, Any]],
    target: Path,
    clips: Sequence[Clip],
    shape: _Shape,
    look: Look,
    *,
    threads: int,
) -> list[str]:
    parts: list[Any] = []
    has_sound = inputs[0][1] is not None
    for clip, (pictures, sound) in zip(clips, inputs, strict=True):
        parts.append(_fitted(pictures, clip, shape))
        if has_sound:
            whole = _stereo(sound, clip.length_s)
            # a short fade on both sides: no click where two clips meet
            fade = min(_FADE_S, clip.length_s / 4)
            whole = whole.filter("afade", t="in", d=f"{fade:.3f}")
            parts.append(whole.filter("afade", t="out", st=f"{clip.length_s - fade:.3f}", d=f"{fade:.3f}"))
    joined = ffmpeg.concat(*parts, v=1, a=int(has_sound)).node
    # again over all of it: clips that are not whole numbers of pictures long leave gaps where they meet
    pictures = joined[0].filter("fps", f"{shape.fps:.3f}")
    streams = [pictures, joined[1]] if has_sound else [pictures]
    options = {
        "c:v": "libx264",
        "preset": look.preset,
        "crf": str(look.crf),
        "movflags": "+faststart",
        "fflags": "+bitexact",
        "map_metadata": "-1",
    }
    if has_sound:
        options |= {"c:a": "aac", "b:a": "128k"}
    return _compile(ffmpeg.output(*streams, str(target), format="mp4", threads=str(threads), **options), executable)


def preview_size(video: Stream, height: int) -> tuple[int, int]:
    """Even (width, height), square pixels, at most `height` lines and never more than the video has."""
    lines = max(2, min(height, video.shown_size()[1]) // 2 * 2)
    return max(2, round(lines * float(video.shown_aspect()) / 2) * 2), lines


@dataclass(frozen=True)
class Joint:
    """A rendition that is to be joined with others: a file, or a list of such for the concat demuxer.

    `offset_s` is added to its times, which are kept as they are; None: they are counted from its beginning.
    """

    path: Path
    is_list: bool = False
    offset_s: float | None = None


def joined(executable: str, joints: Sequence[Joint], target: Path) -> list[str]:
    """Matroska of all pictures and sound, copied; of several renditions the first has the pictures, the others have the sound."""
    is_timed = all(one.offset_s is not None for one in joints)  # else all begin at zero
    inputs = []
    for number, one in enumerate(joints):
        options: dict[str, Any] = {"protocol_whitelist": PROTOCOLS, "format_whitelist": FORMATS}
        if one.is_list:
            options |= {"f": "concat", "format_whitelist": f"concat,{FORMATS}"}
        if is_timed and one.offset_s:
            options["itsoffset"] = f"{one.offset_s:.6f}"
        if is_timed and number == 0:
            options["copyts"] = None
        inputs.append(ffmpeg.input(str(one.path), **options))
    streams = [inputs[0]["v?"], *([one["a?"] for one in inputs[1:]] or [inputs[0]["a?"]])]
    options = {"c": "copy", "avoid_negative_ts": "make_zero", "fflags": "+bitexact"}
    return _compile(ffmpeg.output(*streams, str(target), format="matroska", **options), executable)
