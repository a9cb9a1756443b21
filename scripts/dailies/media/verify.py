"""Is the output what the source was? An output is accepted only after this (design, rule 6; facts/media 6.4)."""

from dailies.errors import Category, VideoError
from dailies.media.probe import Probe
from dailies.media.recipes import Plan

TOLERANCE_S = 0.1


def stream_hashes(stdout: bytes) -> list[str]:
    """`murmur3=…` of each line that ffmpeg's streamhash muxer wrote, in order."""
    return [line.rpartition(",")[2] for line in stdout.decode("ascii", "replace").splitlines() if "murmur3=" in line]


def mismatch(source: Probe, output: Probe, plan: Plan) -> str | None:
    """What is not as it was, in words; None when streams, duration and dimensions agree. The hashes are compared apart."""
    expected = [track.stream.kind for track in plan.tracks]
    found = [stream.kind for stream in output.streams if stream.kind in {"video", "audio", "subtitle"}]
    if expected != found:
        return f"streams are {found}, expected {expected}"
    wanted, got = _duration(source, plan), output.duration_s()
    if abs(wanted - got) > max(TOLERANCE_S, _frame_s(source)):
        return f"duration is {got:.3f} s, expected {wanted:.3f} s"
    before, after = source.main_video(), output.main_video()
    if before is not None and after is not None:
        sizes = [stream.shown_size() for stream in (before, after)]
        # made anew: even sizes only
        if any(abs(one - two) > (0 if plan.is_copied_whole() else 1) for one, two in zip(*sizes, strict=True)):
            return f"dimensions are {sizes[1]}, expected {sizes[0]}"
    return None


def _duration(source: Probe, plan: Plan) -> float:
    """Seconds of the streams that the plan takes."""
    taken = {track.stream.index for track in plan.tracks}
    return source.model_copy(update={"streams": tuple(stream for stream in source.streams if stream.index in taken)}).duration_s()


def _frame_s(source: Probe) -> float:
    video = source.main_video()
    return 1 / video.fps if video and video.fps else 0.0


def refused(name: str, reason: str) -> VideoError:
    return VideoError(f"{name}: the MP4 is not what the source was: {reason}; please report this file", Category.CONVERSION)
