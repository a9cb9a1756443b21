"""What of a video is worth showing. For now: clips spread evenly."""

from dailies.model import Clip


def even_clips(duration_s: float, *, clips: int, length_s: float) -> tuple[Clip, ...]:
    """Each in the middle of its equal share of the video; a video shorter than the preview is used whole."""
    if duration_s <= clips * length_s:
        return (Clip(start_s=0.0, length_s=round(duration_s, 3), why="whole"),)
    share = duration_s / clips
    return tuple(
        Clip(start_s=round(share * number + (share - length_s) / 2, 3), length_s=length_s, why="even") for number in range(clips)
    )
