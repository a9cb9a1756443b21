"""What one look at a video found: candidates with their scores, the clips worth showing, shots, cover, fingerprint and tags."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from dailies.config import PreviewSettings
from dailies.model import Clip, Shot

Share = Annotated[float, Field(ge=0, le=1)]


class Factor(StrEnum):
    """What speaks for a moment; each is a percentile rank within the video, 0 to 1."""

    PEOPLE = "people"
    MOTION = "motion"
    AUDIO = "audio"
    COMPLEXITY = "complexity"
    COLOUR = "colour"


class Gate(StrEnum):
    """What speaks against a moment, worst first."""

    BLACK = "black"
    WHITE = "white"
    FLAT = "flat"
    FROZEN = "frozen"
    BLURRED = "blurred"
    TITLES = "titles"
    CUTS = "cuts"  # no second of it without a cut
    NEAR_EQUAL = "near_equal"  # to a moment that was chosen before


Weights = Mapping[Factor, float]
PROFILES: Final[Mapping[str, Weights]] = {
    "balanced": {Factor.PEOPLE: 0.4, Factor.MOTION: 0.3, Factor.AUDIO: 0.2, Factor.COMPLEXITY: 0.1, Factor.COLOUR: 0.0},
    "action": {Factor.PEOPLE: 0.1, Factor.MOTION: 0.55, Factor.AUDIO: 0.25, Factor.COMPLEXITY: 0.1, Factor.COLOUR: 0.0},
    "talk": {Factor.PEOPLE: 0.5, Factor.MOTION: 0.1, Factor.AUDIO: 0.35, Factor.COMPLEXITY: 0.05, Factor.COLOUR: 0.0},
}


class Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class Wanted(Value):
    """What of a video is asked for. Lengths in seconds; the weights need not add up to 1."""

    clips: int = 10
    clip_length: float = 3.0
    exclude_start_s: float = 0.0
    exclude_end_s: float = 0.0
    weights: Weights = PROFILES["balanced"]
    candidates: int = 81
    all_shots: bool = False  # the whole film's shots: every picture is decoded
    cover_format: Literal["jpg", "webp"] = "jpg"
    pictures: str | None = None  # folder for cover, sprite, WebVTT and contact sheet; None: none are made
    names: str = ""  # what the pictures' names begin with


def wanted(settings: PreviewSettings, *, pictures: Path | None = None, names: str = "", all_shots: bool = False) -> Wanted:
    """What the settings ask for; `pictures` is the folder for them, `names` what their names begin with."""
    return Wanted(
        clips=settings.clips,
        clip_length=settings.clip_length,
        exclude_start_s=settings.exclude_start,
        exclude_end_s=settings.exclude_end,
        weights={Factor(name): weight for name, weight in settings.weights.items()} or PROFILES[settings.profile],
        all_shots=all_shots,
        cover_format=settings.cover,
        pictures=str(pictures) if pictures else None,
        names=names,
    )


class Candidate(Value):
    """A moment that was looked at. Times are seconds from the file's start, factors and score 0 to 1."""

    t_s: float
    motion: Share
    audio: Share
    complexity: Share
    people: Share
    colour: Share
    score: Share
    gate: Gate | None


class Pace(Value):
    """What a preview's making needs to know of a file's packets."""

    keyframe_gap_s: float = 0.0  # the widest: entering the file may decode as much
    fps: float = 0.0  # at which nearly nothing is lost, where the rate varies; 0: the file's own


STEADY: Final = Pace()


class Analysis(Value):
    """`shots` are those around the clips, or all on request; `pictures` are the files made, by their part's name."""

    duration_s: float
    shots: tuple[Shot, ...]
    candidates: tuple[Candidate, ...]
    clips: tuple[Clip, ...]
    cover_t_s: float | None
    phash: str | None
    tags: tuple[str, ...]
    pictures: Mapping[str, str] = {}
    pace: Pace = STEADY

    @classmethod
    def of_nothing(cls, duration_s: float) -> "Analysis":
        """Of a video that could not be looked at."""
        return cls(duration_s=duration_s, shots=(), candidates=(), clips=(), cover_t_s=None, phash=None, tags=())
