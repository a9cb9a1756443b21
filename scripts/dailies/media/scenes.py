"""What of a video is worth showing: the analysis by a media child, and clips at even distances where there is none."""

from pathlib import Path

from dailies.clock import Deadline
from dailies.media.analysis import Analysis, Wanted
from dailies.media.children import Children, SurveyTask
from dailies.model import Clip


def analyse(name: str, path: Path, deadline: Deadline, *, children: Children, wanted: Wanted | None = None) -> Analysis:
    """Look at a few moments of `path` and choose those worth showing (docs/media.md); `name` is what messages call it.

    Raises VideoError (cannot be read, no pictures), Transient `crashed`, the deadline's own error.
    """
    return children.ask(name, SurveyTask(path=str(path), wanted=wanted or Wanted()), Analysis, deadline)


def even_clips(duration_s: float, *, clips: int, length_s: float) -> tuple[Clip, ...]:
    """Each in the middle of its equal share of the video; a video shorter than the preview is used whole."""
    if duration_s <= clips * length_s:
        return (Clip(start_s=0.0, length_s=round(duration_s, 3), why="whole"),)
    share = duration_s / clips
    return tuple(
        Clip(start_s=round(share * number + (share - length_s) / 2, 3), length_s=length_s, why="even") for number in range(clips)
    )
