"""Is the output what the source was? An output is accepted only after this (design, rule 6; facts/media 6.4)."""

from dailies.errors import Category, VideoError
from dailies.media.probe import Probe
from dailies.media.recipes import Plan

TOLERANCE_S = 0.1


def stream_hashes(stdout: bytes) -> list[str]:
    """The CRC-32 of each line that ffmpeg's streamhash muxer wrote, in order."""
    lines = stdout.decode("ascii", "replace").splitlines()
    return [line.rpartition("CRC32=")[2] for line in lines if "CRC32=" in line]


def packets_differ(source_hashes: list[str], output: Probe, plan: Plan) -> str | None:
    """What of the copied streams did not arrive unchanged, in words. `output` is a probe with hashes."""
    arrived = [output.streams[index].crc32 for index, _ in plan.copied() if index < len(output.streams)]
    if arrived == source_hashes and len(arrived) == len(plan.copied()):
        return None
    return f"packets differ: source {source_hashes}, MP4 {arrived}"


def mismatch(source: Probe, output: Probe, plan: Plan) -> str | None:
    """What is not as it was, in words; None when streams and dimensions agree. Packets and durations are compared apart."""
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


def lasts_differ(source: Probe, output: Probe, plan: Plan) -> str | None:
    """From start to end, or from the first to the last picture or sound: MP4 headers count in decoding times, and
    Matroska guesses the length of the last packet, so that with a variable frame rate only the latter tells. Probed by packets."""
    tolerance = max(TOLERANCE_S, _frame_s(source))
    wanted = _taken(source, plan)
    if abs(wanted.duration_s() - output.duration_s()) <= tolerance or abs(_span(wanted) - _span(output)) <= tolerance:
        return None
    return f"duration is {output.duration_s():.3f} s, expected {wanted.duration_s():.3f} s"


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
