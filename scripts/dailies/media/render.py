"""Makes the MP4 and the preview: runs the recipes, reads what ffmpeg says, verifies before anything is accepted."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dailies.clock import Deadline
from dailies.errors import Category, VideoError, Waiting
from dailies.media import ffmpeg, health, recipes, verify
from dailies.media.analysis import STEADY, Pace
from dailies.media.children import Children, died
from dailies.media.probe import Probe, probe
from dailies.model import Clip
from dailies.process import run

log = logging.getLogger(__name__)

_LARGE_PIXELS: Final = 1920 * 1200
_FAR_APART_S: Final = 60.0  # between keyframes: ten entries would decode more than one reading


@dataclass(frozen=True)
class Rules:
    """What the settings say about media, and the means of this run."""

    work: Path
    threads: int
    children: Children
    accept_audio: bool = False
    accept_damaged: bool = False
    decode_all: bool = False


def check_source(name: str, source: Probe, rules: Rules) -> list[str]:
    """Warnings about a source that can be published; raises VideoError with the worst fault otherwise."""
    faults = health.faults(source, accept_audio=rules.accept_audio)
    for fault in faults:
        if fault.is_fatal or not rules.accept_damaged:
            raise VideoError(f"{name}: {fault.message}", fault.category)
    return [fault.message.partition(";")[0] for fault in faults] + health.advice(source)


def convert(name: str, path: Path, target: Path, source: Probe, rules: Rules, deadline: Deadline) -> list[str]:
    """Make and verify `target` from `path`; what MP4 cannot hold as it is is made anew. Returns warnings for the record.

    Raises VideoError (damaged; or not what the source was), Transient when ffmpeg dies, Waiting when the disk is full.
    """
    plan = recipes.plan(source)
    warnings = list(plan.left_out)
    try:
        said = _convert(name, path, target, source, plan, rules, deadline)
    except VideoError as error:
        if error.category is not Category.CONVERSION or not plan.copied():
            raise
        log.warning("%s; made anew", error)
        warnings.append("could not be copied unchanged and was encoded anew")
        said = _convert(name, path, target, source, plan.transcoded(), rules, deadline)
    return warnings + said


def _convert(name: str, path: Path, target: Path, source: Probe, plan: recipes.Plan, rules: Rules, deadline: Deadline) -> list[str]:
    executable = ffmpeg.executable()
    made = run(recipes.convert(executable, path, target, plan, threads=rules.threads), deadline, work=rules.work)
    if made.died:
        raise died(name, made)
    if any("No space left" in line for line in made.messages):
        raise Waiting(f"{name}: the disk is full; free some space", Category.NO_SPACE)
    codecs = {stream.codec for stream in source.streams if stream.codec}
    broken, inner = health.damage(made.messages, codecs)
    if broken and not (rules.accept_damaged and made.code == 0):
        raise _damaged(name, broken)
    if made.code != 0:
        raise verify.refused(name, made.last_words())
    output = probe(name, target, deadline, children=rules.children, filters=plan.output_filters())
    reason = verify.mismatch(source, output, plan) or verify.packets_differ(verify.stream_hashes(made.stdout), output, plan)
    if reason is None and not broken:
        reason = verify.lasts_differ(source, output, plan)
    if reason:
        raise verify.refused(name, reason)
    # copied packets are proven by their hashes; what was made anew is proven by decoding it
    remade = [index for index, track in enumerate(plan.tracks) if not track.is_copied and track.stream.kind != "subtitle"]
    everything = [index for index, track in enumerate(plan.tracks) if track.stream.kind != "subtitle"]
    _decode(name, target, everything if rules.decode_all else remade, rules, deadline)
    return _words(broken, "damaged: ") + _words(inner, "damaged inside: ")


def _words(lines: list[str], prefix: str) -> list[str]:
    return [f"{prefix}{lines[0]}" + (f" (and {len(lines) - 1} more)" if len(lines) > 1 else "")] if lines else []


def _damaged(name: str, broken: list[str]) -> VideoError:
    return VideoError(
        f"{name}: is damaged: {broken[0]} ({len(broken)} such messages); copy it again or set [library] accept_damaged = true",
        Category.DAMAGED,
    )


def _decode(name: str, target: Path, streams: list[int], rules: Rules, deadline: Deadline) -> None:
    if not streams:
        return
    decoded = run(recipes.decode(ffmpeg.executable(), target, streams, threads=rules.threads), deadline, work=rules.work)
    wrong = [line for line in decoded.messages if "[error]" in line or "[fatal]" in line]
    if (decoded.code != 0 or wrong) and not rules.accept_damaged:
        raise VideoError(
            f"{name}: does not decode cleanly: {decoded.last_words()}; copy it again or set [library] accept_damaged = true",
            Category.DAMAGED,
        )


def preview(
    name: str,
    path: Path,
    target: Path,
    clips: Sequence[Clip],
    media: Probe,
    look: recipes.Look,
    rules: Rules,
    deadline: Deadline,
    *,
    pace: Pace = STEADY,
) -> Probe:
    """Make and check the preview of `path`; returns the preview's own probe. Pieces stand beside `target` meanwhile.

    Raises VideoError, Transient when ffmpeg dies.
    """
    video = media.main_video()
    if video is not None and video.width * video.height > _LARGE_PIXELS and len(clips) > 1:
        argv = _pieces(name, path, target, clips, media, look, rules, deadline, pace)
    else:
        is_one_pass = pace.keyframe_gap_s > _FAR_APART_S and len(clips) > 1
        executable = ffmpeg.executable()
        argv = recipes.preview(
            executable, path, target, clips, media, look, threads=rules.threads, pace=pace, is_one_pass=is_one_pass
        )
    _made(name, argv, rules, deadline)
    result = probe(name, target, deadline, children=rules.children, header_only=True)
    wanted = sum(clip.length_s for clip in clips)
    video = result.main_video()
    has_sound = bool(result.of_kind("audio"))
    # each clip may hold one picture more or less than its length
    tolerance = verify.TOLERANCE_S + (len(clips) / video.fps if video and video.fps else 0.0)
    if video is None or has_sound != bool(media.main_audio()) or abs(result.duration_s() - wanted) > tolerance:
        raise VideoError(
            f"{name}: the preview came out wrong: {result.duration_s():.2f} s, expected {wanted:.2f} s", Category.CONVERSION
        )
    return result


def animation(name: str, made: Path, target: Path, rules: Rules, deadline: Deadline) -> None:
    """An animated WebP of the finished preview `made`. Raises VideoError, Transient when ffmpeg dies."""
    _made(name, recipes.animation(ffmpeg.executable(), made, target), rules, deadline)


def _pieces(
    name: str,
    path: Path,
    target: Path,
    clips: Sequence[Clip],
    media: Probe,
    look: recipes.Look,
    rules: Rules,
    deadline: Deadline,
    pace: Pace,
) -> list[str]:
    """Clip by clip, then the command that joins them: ten decoders of 4K pictures at once would take gigabytes."""
    pieces = [target.with_name(f"{target.stem}-{number:02d}.mkv") for number in range(len(clips))]
    for clip, one in zip(clips, pieces, strict=True):
        _made(name, recipes.piece(ffmpeg.executable(), path, one, clip, media, look, pace), rules, deadline)
    return recipes.joined_pieces(ffmpeg.executable(), pieces, target, clips, media, look, pace, threads=rules.threads)


def _made(name: str, argv: list[str], rules: Rules, deadline: Deadline) -> None:
    made = run(argv, deadline, work=rules.work)
    if made.died:
        raise died(name, made)
    if made.code != 0:
        raise VideoError(f"{name}: no preview: ffmpeg {made.last_words()}", Category.CONVERSION)
