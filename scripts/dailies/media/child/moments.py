"""Which moments are worth showing; pure: raw numbers in, ranked candidates and chosen clips out."""

import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from dailies.media.analysis import Candidate, Factor, Gate, Weights
from dailies.model import Clip, Shot

# Below these a difference says nothing: compression, noise, a dark corner of skin colour
_FLOORS: Final = {Factor.PEOPLE: 0.01, Factor.MOTION: 0.4, Factor.AUDIO: -60.0, Factor.COMPLEXITY: 0.0, Factor.COLOUR: 1.0}
_TOO_MUCH_SKIN: Final = 0.8  # a wall, sand or wood fills the picture
_SPREAD: Final = 0.7  # of the film that the clips should cover
_SPREAD_BONUS: Final = 0.25  # of its score, for a moment far from those chosen
_GOOD: Final = 0.4  # of the moments, the best: the others are taken only when these do not suffice
_ROUNDING_S: Final = 0.001
_STILL: Final = 0.05  # grey levels of motion
_STILL_AMONG: Final = 0.25
_HARD: Final = frozenset({Gate.BLACK, Gate.WHITE, Gate.FLAT})


@dataclass(frozen=True)
class Look:
    """What pictures say of a moment; grey levels 0 to 255, shares 0 to 1. `motion` None: there was one picture only."""

    brightness: float
    dark: float  # 95th percentile
    light: float  # 5th percentile
    contrast: float  # standard deviation
    motion: float | None
    entropy: float  # bits a pixel
    sharpness: float
    skin: float
    colour: float
    plain: float  # share of the most frequent grey


@dataclass(frozen=True)
class Raw:
    """The raw factors of one moment."""

    t_s: float
    people: float  # share of skin colours
    motion: float | None  # grey levels; None: unknown
    audio: float | None  # dB; None: no sound there
    complexity: float
    colour: float
    gate: Gate | None


def ranks(values: Sequence[float | None], floor: float) -> list[float]:
    """Percentile ranks 0 to 1 within the video; equal values share their rank, unknown ones stand in the middle.

    Ranks make quiet, loud and uneven videos alike: no fixed threshold of loudness or motion fits all of them.
    """
    known = sorted(max(value, floor) for value in values if value is not None)
    if len(known) < 2 or known[0] == known[-1]:
        return [0.5] * len(values)

    def rank(value: float | None) -> float:
        if value is None:
            return 0.5
        held = max(value, floor)
        return (bisect_left(known, held) + bisect_right(known, held) - 1) / 2 / (len(known) - 1)

    return [rank(value) for value in values]


def candidates(raw: Sequence[Raw], weights: Weights) -> list[Candidate]:
    """Ranked against the moments that are not black, white or flat: those would lift all others."""
    total = sum(weights.values()) or 1.0
    seen: dict[Factor, list[float | None]] = {
        Factor.PEOPLE: [one.people if one.people <= _TOO_MUCH_SKIN else 0.0 for one in raw],
        Factor.MOTION: [one.motion for one in raw],
        Factor.AUDIO: [one.audio for one in raw],
        Factor.COMPLEXITY: [one.complexity for one in raw],
        Factor.COLOUR: [one.colour for one in raw],
    }
    ranked = {factor: ranks(values, _FLOORS[factor]) for factor, values in seen.items()}
    found = []
    for index, one in enumerate(raw):
        factors = {factor.value: round(ranked[factor][index], 4) for factor in Factor}
        score = sum(weights.get(factor, 0.0) * factors[factor.value] for factor in Factor) / total
        found.append(Candidate(t_s=round(one.t_s, 3), score=round(score, 4), gate=one.gate, **factors))
    return found


def winner(candidate: Candidate, weights: Weights) -> Factor:
    """The factor that speaks most for the moment: by how far it lifts the score above the middle."""
    return max(Factor, key=lambda factor: weights.get(factor, 0.0) * (getattr(candidate, factor.value) - 0.5))


@dataclass(frozen=True)
class Settled:
    """Where a clip at a moment can begin, and the shot around it as far as it was seen."""

    start_s: float
    shot: Shot
    gate: Gate | None = None  # of what is shown from there on, which may be another shot than the moment's own


@dataclass(frozen=True)
class Choice:
    clips: tuple[Clip, ...]
    shots: tuple[Shot, ...]
    gates: dict[int, Gate]  # of moments that were refused on the way, by their index


@dataclass
class Chooser:
    """Greedy: the best moment first, each next one far enough from those chosen and unlike them.

    `settle` looks closely at a moment and answers where its clip may begin, or None where no second is without a cut;
    `unlike` compares two moments, grey levels.
    """

    candidates: Sequence[Candidate]
    weights: Weights
    first_s: float
    last_s: float
    count: int
    length_s: float
    settle: Callable[[int], Settled | None]
    unlike: Callable[[int, int], float]
    least_difference: float = 7.0

    def choose(self) -> Choice:
        self._chosen: dict[int, Settled] = {}
        self._gates: dict[int, Gate] = {}
        self._seen: dict[int, Settled | None] = {}
        apart = max(self.length_s, (self.last_s - self.first_s) / (2 * self.count))
        plain = [index for index, one in enumerate(self.candidates) if one.gate is None]
        good = sorted(plain, key=lambda index: -self.candidates[index].score)[: max(2 * self.count, round(_GOOD * len(plain)))]
        soft = [index for index, one in enumerate(self.candidates) if one.gate not in _HARD]
        half = (self.count + 1) // 2
        rounds = (
            # the best ones, if need be close together, before dull ones for the sake of distance
            (good, apart, self.least_difference, self.count),
            (good, self.length_s, self.least_difference, self.count),
            (plain, apart, self.least_difference, self.count),
            (plain, self.length_s, self.least_difference, self.count),
            # better fewer clips than poor ones: what is blurred, frozen or said twice only makes a preview half full
            (soft, self.length_s, self.least_difference, half),
            (plain, self.length_s, 0.0, half),
            (soft, self.length_s, 0.0, half),
        )
        for pool, gap, difference, wanted in rounds:
            self._take(pool, gap, difference, wanted, is_soft=pool is soft)
        self._widen(plain)
        return Choice(tuple(self._clips()), tuple(self._shots()), self._gates)

    def _take(self, pool: Sequence[int], gap: float, difference: float, wanted: int, *, is_soft: bool) -> None:
        left = [index for index in pool if index not in self._chosen]
        while left and len(self._chosen) < wanted:
            best = max(left, key=lambda index: (self._gain(index), -index))
            left.remove(best)
            self._try(best, gap, difference, is_soft=is_soft)

    def _try(self, index: int, gap: float, difference: float, *, is_soft: bool) -> bool:
        """Take the moment unless something speaks against it."""
        starts = [one.start_s for one in self._chosen.values()]
        if any(abs(self.candidates[index].t_s - start) < gap for start in starts):
            return False
        if any(self.unlike(index, other) < difference for other in self._chosen):
            self._gates.setdefault(index, Gate.NEAR_EQUAL)
            return False
        settled = self._settled(index)
        against = Gate.CUTS if settled is None else settled.gate
        if settled is None or against in _HARD or (against and not is_soft):
            self._gates[index] = against or Gate.CUTS
            return False
        is_inside = self.first_s - _ROUNDING_S <= settled.start_s <= self.last_s - self.length_s + _ROUNDING_S
        if not is_inside or any(abs(settled.start_s - start) < gap for start in starts):
            return False
        self._gates.pop(index, None)
        self._chosen[index] = settled
        return True

    def _settled(self, index: int) -> Settled | None:
        if index not in self._seen:
            self._seen[index] = self.settle(index)
        return self._seen[index]

    def _gain(self, index: int) -> float:
        one = self.candidates[index]
        share = (self.last_s - self.first_s) / self.count
        nearest = min((abs(one.t_s - other.start_s) for other in self._chosen.values()), default=share)
        return one.score * (1 + _SPREAD_BONUS * min(1.0, nearest / share if share else 1.0))

    def _widen(self, pool: Sequence[int]) -> None:
        """Clips that lie together give their weakest for the best moment of the part that is not shown."""
        span = self.last_s - self.first_s
        starts = sorted(one.start_s for one in self._chosen.values())
        if len(starts) < 3 or starts[-1] - starts[0] >= _SPREAD * span:
            return
        is_early = starts[0] - self.first_s < self.last_s - starts[-1]  # the end is not shown
        edge = starts[0] + _SPREAD * span if is_early else starts[-1] - _SPREAD * span
        outside = [
            index for index in pool if (self.candidates[index].t_s >= edge if is_early else self.candidates[index].t_s <= edge)
        ]
        ends = {min(self._chosen, key=self._start), max(self._chosen, key=self._start)}
        weakest = min((index for index in self._chosen if index not in ends), key=lambda index: self.candidates[index].score)
        dropped = self._chosen.pop(weakest)
        for index in sorted(outside, key=lambda index: -self.candidates[index].score):
            if self._try(index, self.length_s, self.least_difference, is_soft=False):
                return
        self._chosen[weakest] = dropped

    def _start(self, index: int) -> float:
        return self._chosen[index].start_s

    def _clips(self) -> list[Clip]:
        return [
            Clip(
                start_s=round(self._start(index), 3),
                length_s=self.length_s,
                score=self.candidates[index].score,
                why=winner(self.candidates[index], self.weights).value,
            )
            for index in sorted(self._chosen, key=self._start)
        ]

    def _shots(self) -> list[Shot]:
        return [self._chosen[index].shot for index in sorted(self._chosen, key=self._start)]


def gate(  # noqa: PLR0911 -- one line a reason
    look: Look, *, at: float, usual_sharpness: float = 0.0, lively: float = 0.0
) -> Gate | None:
    """What speaks against a moment. `at` is where in the film it stands, 0 to 1; `usual_sharpness` is the film's median, `lively`
    the motion that a quarter of its moments exceed."""
    if look.dark < 28:
        return Gate.BLACK
    if look.light > 215:
        return Gate.WHITE
    if look.contrast < 6:
        return Gate.FLAT
    if look.plain > 0.75 and (at < 0.1 or at > 0.88):  # letters on a plain ground, where films have them
        return Gate.TITLES
    # what compression makes of a still is little beside a lively film; in a calm one only what does not change at all is frozen
    if look.motion is not None and look.motion < max(_STILL, min(_STILL_AMONG, lively / 4)):
        return Gate.FROZEN
    if look.sharpness < 0.2 * usual_sharpness:
        return Gate.BLURRED
    return None


def usual(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0


def lively(values: Sequence[float | None]) -> float:
    """What a quarter of them exceed; 0 where too few are known."""
    known = [value for value in values if value is not None]
    return statistics.quantiles(known, n=4)[2] if len(known) > 3 else 0.0
