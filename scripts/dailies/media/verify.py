"""Is the output what the source was? An output is accepted only after this (design, rule 6; facts/media 6.4)."""

from dailies.errors import Category, VideoError
from dailies.media.probe import Probe
from dailies.media.recipes import Plan

TOLERANCE_S = 0.1


def stream_hashes(stdout: bytes) -> list[str]:
    """`murmur3=…` of each line that ffmpeg's streamhash muxer wrote, in order."""
    return [line.rpartition(",")[2] for line in stdout.decode("ascii", "replace").splitlines() if "murmur3=" in line]


def mismatch(source: Probe, output: Probe, plan: Plan) -> str | None:
    """What is not as it was, in words; None when streams and dimensions agree. Hashes and durations are compared apart."""
    expected = [track.stream.kind for track in plan.tracks]
    found = [stream.kind for stream in output.streams if stream.kind in {"video", "audio", "subtitle"}]
    if expected != found:
        return f"streams are {found}, expected {expected}"
    before, after = source.main_video(), output.main_video()
    if before is not None and after is not None:
        sizes = [stream.shown_size() for stream in (before, after)]
        # made anew: even sizes only
        if any(abs(one - two) > (0 if plan.is_copied_whole() else 1) for one, two in zip(*sizes, strict=True)):
            return f"dimensions are {sizes[1]}, expected {sizes[0]}"
    return None


def is_as_long(source: Probe, output: Probe, plan: Plan) -> bool:
    """By the header of the MP4."""
    return abs(_taken(source, plan).duration_s() - output.duration_s()) <= max(TOLERANCE_S, _frame_s(source))


def is_shown_as_long(source: Probe, output: Probe, plan: Plan) -> bool:
    """From the first to the last picture or sound: what headers cannot blur. MP4's counts in decoding times, and Matroska's last
    packet has a guessed length, so that a variable frame rate makes them differ. Both probed packet by packet."""
    spans = [_span(probe) for probe in (_taken(source, plan), output)]
    return abs(spans[0] - spans[1]) <= max(TOLERANCE_S, _frame_s(source))


def _span(probe: Probe) -> float:
    timed = [stream for stream in (*probe.of_kind("video"), *probe.of_kind("audio")) if stream.last_s is not None]
    return max((stream.last_s or 0.0 for stream in timed), default=0.0) - min(
        (stream.start_s or 0.0 for stream in timed), default=0.0
    )


def _taken(source: Probe, plan: Plan) -> Probe:
    """Only the streams that the plan takes."""
    taken = {track.stream.index for track in plan.tracks}
    return source.model_copy(update={"streams": tuple(stream for stream in source.streams if stream.index in taken)})


def _frame_s(source: Probe) -> float:
    video = source.main_video()
    return 1 / video.fps if video and video.fps else 0.0


def refused(name: str, reason: str) -> VideoError:
    return VideoError(f"{name}: the MP4 is not what the source was: {reason}; please report this file", Category.CONVERSION)
