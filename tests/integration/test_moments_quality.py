"""Are the moments worth showing found? Generated films with planted moments, and Big Buck Bunny with cuts that ffmpeg finds."""

import itertools
import os
import re
import subprocess
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import av
import numpy as np
import pytest
from filelock import FileLock
from numpy.typing import NDArray

from dailies.clock import Deadline, SystemClock
from dailies.media import ffmpeg
from dailies.media.analysis import PROFILES, Analysis, Candidate, Gate, Wanted
from dailies.media.children import Children
from dailies.media.scenes import analyse
from dailies.model import Clip
from support import IS_LONG

WIDTH, HEIGHT, RATE = 256, 144, 10
STRETCH_S, HERTZ = 8, 16000
DULL = ("still", "black", "noise", "slow") * 3
PLANTED = 13
SEEDS = range(10 if IS_LONG else 3)
NEEDED = 9  # of ten clips
SCENE = re.compile(r"pts_time:([\d.]+)")
CUT = 0.3  # ffmpeg's scene score of what nobody doubts to be a cut

Plane = NDArray[np.uint8]


@dataclass(frozen=True)
class Film:
    """A film of eight-second stretches; `kinds` says what each of them shows."""

    path: Path
    kinds: tuple[str, ...]

    def shows(self, clip: Clip) -> dict[str, float]:
        """Seconds of each kind that a clip shows."""
        found: dict[str, float] = {}
        for number, kind in enumerate(self.kinds):
            begin, end = number * STRETCH_S, (number + 1) * STRETCH_S
            shared = min(end, clip.start_s + clip.length_s) - max(begin, clip.start_s)
            found[kind] = found.get(kind, 0.0) + max(0.0, shared)
        return found

    def mostly(self, clip: Clip) -> str:
        shown = self.shows(clip)
        return max(shown, key=lambda kind: shown[kind])

    def begins_in(self, clip: Clip) -> str:
        return self.kinds[int((clip.start_s + 0.5 / RATE) // STRETCH_S)]


def scenery(chance: np.random.Generator) -> tuple[Plane, Plane, Plane]:
    """A landscape without skin colours, twice as wide as the picture: soft hills and hard edges, green to blue."""
    rough = chance.uniform(40, 190, (HEIGHT // 24, WIDTH // 12)).repeat(24, axis=0).repeat(24, axis=1)
    for _ in range(3):
        rough = (rough + np.roll(rough, 5, axis=1) + np.roll(rough, 4, axis=0)) / 3
    for _ in range(12):
        top, left = int(chance.integers(0, HEIGHT - 20)), int(chance.integers(0, 2 * WIDTH - 30))
        rough[top : top + int(chance.integers(8, 40)), left : left + int(chance.integers(8, 60))] = chance.uniform(30, 210)
    blue = np.full((HEIGHT // 2, WIDTH), chance.integers(118, 160), np.uint8)
    red = np.full((HEIGHT // 2, WIDTH), chance.integers(90, 120), np.uint8)
    return np.clip(rough, 16, 235).astype(np.uint8), blue, red


def body(chance: np.random.Generator) -> tuple[int, int, tuple[int, int, int]]:
    """(width, height, colour) of somebody: a skin tone in limited-range YCbCr, light to dark."""
    colour = (int(chance.integers(110, 190)), int(chance.integers(100, 114)), int(chance.integers(146, 162)))
    return int(chance.integers(20, 28)) * 2, int(chance.integers(36, 50)) * 2, colour


def pictures(kind: str, chance: np.random.Generator) -> bytes:
    """One stretch as raw yuv420p."""
    luma, blue, red = scenery(chance)
    wide, tall, colour = body(chance)
    phase, pace = chance.uniform(0, 6), chance.uniform(2.5, 4)
    noise = chance.normal(0, 25, (HEIGHT * 2, WIDTH))
    out = bytearray()
    for number in range(STRETCH_S * RATE):
        shift = number // 4 * 2 if kind == "slow" else 0
        y, u, v = luma[:, shift : shift + WIDTH].copy(), blue[:, : WIDTH // 2].copy(), red[:, : WIDTH // 2].copy()
        if kind == "black":
            y[:], u[:], v[:] = 16, 128, 128
        elif kind == "noise":
            grain = np.roll(noise, int(chance.integers(0, noise.size)))[:HEIGHT]
            y[:] = np.clip(y + grain, 16, 235).astype(np.uint8)
        elif kind == "planted":
            t = number / RATE
            left = int((0.5 + 0.5 * np.sin(phase + pace * t)) * (WIDTH - wide)) // 2 * 2
            top = int((0.5 + 0.5 * np.sin(2 * phase + 1.7 * pace * t)) * (HEIGHT - tall)) // 2 * 2
            y[top : top + tall, left : left + wide] = colour[0]
            u[top // 2 : (top + tall) // 2, left // 2 : (left + wide) // 2] = colour[1]
            v[top // 2 : (top + tall) // 2, left // 2 : (left + wide) // 2] = colour[2]
        out += y.tobytes() + u.tobytes() + v.tobytes()
    return bytes(out)


def sound(kind: str, chance: np.random.Generator) -> NDArray[np.int16]:
    """Loud where it is planted, nearly or wholly silent elsewhere."""
    t = np.arange(STRETCH_S * HERTZ) / HERTZ
    level = chance.uniform(8000, 20000) if kind == "planted" else chance.choice([0.0, 15.0, 60.0])
    return np.asarray(level * np.sin(2 * np.pi * chance.uniform(200, 900) * t), np.int16)


def order(chance: np.random.Generator, seed: int) -> list[str]:
    """Of even seeds each planted stretch stands alone; of odd ones they lie as chance has it."""
    dull = [str(kind) for kind in chance.permutation(DULL)]
    if seed % 2:
        return [str(kind) for kind in chance.permutation([*dull, *["planted"] * PLANTED])]
    return [*itertools.chain.from_iterable(("planted", kind) for kind in dull), "planted"]


def make_film(path: Path, seed: int) -> Film:
    chance = np.random.default_rng(seed)
    kinds = order(chance, seed)
    ready = path.with_suffix(".done")
    if not ready.exists():
        encode(path, kinds, chance)
        ready.touch()
    return Film(path, tuple(kinds))


def encode(path: Path, kinds: Sequence[str], chance: np.random.Generator, *options: str) -> None:
    heard = path.with_suffix(".wav")
    with wave.open(str(heard), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(HERTZ)
        for kind in kinds:
            file.writeframes(sound(kind, chance).tobytes())
    raw = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{WIDTH}x{HEIGHT}", "-r", str(RATE), "-i", "pipe:0"]
    codec = ["-c:v", "libx264", "-preset", "veryfast", "-g", str(2 * RATE), "-threads", "1", "-c:a", "aac"]
    argv = [ffmpeg.executable(), "-v", "error", *raw, "-i", str(heard), *codec, *options, "-y", str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        for kind in kinds:
            process.stdin.write(pictures(kind, chance))
    assert process.returncode == 0


@pytest.fixture(scope="module")
def cinema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all workers: what is made once is made by whichever comes first."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "planted-moments"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def at_work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Children]:
    with Children(tmp_path_factory.mktemp("work")) as found:
        yield found


def analysed(path: Path, wanted: Wanted, children: Children) -> Analysis:
    return analyse(path.name, path, Deadline.after(SystemClock(), 100), children=children, wanted=wanted)


@dataclass(frozen=True)
class Shown:
    """What was found worth showing in a generated film."""

    film: Film
    clips: tuple[Clip, ...]
    candidates: tuple[Candidate, ...]


@pytest.fixture(params=[(seed, profile) for seed in SEEDS for profile in PROFILES], ids=lambda one: f"{one[0]}-{one[1]}")
def shown(request: pytest.FixtureRequest, cinema: Path, at_work: Children) -> Shown:
    seed, profile = request.param
    with FileLock(cinema / f"{seed}.lock"):
        film = make_film(cinema / f"{seed}.mp4", seed)
        kept = cinema / f"{seed}-{profile}.json"
        if not kept.exists():
            found = analysed(film.path, Wanted(clips=10, clip_length=3.0, weights=PROFILES[profile]), at_work)
            kept.write_text(found.model_dump_json())
    found = Analysis.model_validate_json(kept.read_text())
    return Shown(film, found.clips, found.candidates)


def test_nine_of_ten_clips_show_planted_moments(shown: Shown) -> None:
    kinds = [shown.film.mostly(clip) for clip in shown.clips]

    assert len(kinds) == 10
    assert kinds.count("planted") >= NEEDED, [(clip.start_s, kind) for clip, kind in zip(shown.clips, kinds, strict=True)]


def test_no_clip_shows_black_or_frozen_stretches(shown: Shown) -> None:
    wrong = [
        (clip.start_s, kind)
        for clip in shown.clips
        for kind in (shown.film.mostly(clip), shown.film.begins_in(clip))
        if kind in {"black", "still"}
    ]

    assert wrong == []


FEW = [(seed, "balanced") for seed in range(3)]


def gates_in(shown: Shown, kind: str) -> list[Gate | None]:
    """Of the moments in stretches of this kind whose clip ends before the next stretch begins."""
    inside = [one for one in shown.candidates if one.t_s % STRETCH_S < STRETCH_S - 3.5]
    return [one.gate for one in inside if shown.film.kinds[int(one.t_s // STRETCH_S)] == kind]


@pytest.mark.parametrize("shown", FEW, indirect=True, ids=str)
def test_what_is_black_is_told_as_such_and_what_is_planted_is_not(shown: Shown) -> None:
    planted = gates_in(shown, "planted")

    assert set(gates_in(shown, "black")) == {Gate.BLACK}
    assert planted.count(None) >= 0.8 * len(planted)
    assert set(planted) <= {None, Gate.NEAR_EQUAL, Gate.CUTS}


@pytest.mark.parametrize("shown", FEW, indirect=True, ids=str)
def test_what_is_frozen_is_told_as_such(shown: Shown) -> None:
    """Equal pictures, encoded by x264 as it comes: a keyframe and what follows it differ a little."""
    still = gates_in(shown, "still")

    assert still.count(Gate.FROZEN) >= 0.9 * len(still), still


@pytest.mark.parametrize("dull", ["black", "still"])
def test_a_moment_just_before_a_cut_is_not_shown_as_what_follows_it(dull: str, tmp_path: Path, at_work: Children) -> None:
    """A keyframe 0.3 s before each cut: that the picture jumps is no motion, and what follows the cut was never looked at."""
    kinds = tuple(["slow", dull] * 10 + ["slow"])
    film = Film(tmp_path / "film.mp4", kinds)
    keys = ",".join(f"{STRETCH_S * number - 0.3:.1f}" for number in range(1, len(kinds)))
    encode(film.path, kinds, np.random.default_rng(1), "-force_key_frames", keys)

    clips = analysed(film.path, Wanted(), at_work).clips

    assert [(clip.start_s, film.mostly(clip)) for clip in clips if film.mostly(clip) == dull] == []


# -- Big Buck Bunny


@dataclass(frozen=True)
class Bunny:
    path: Path
    found: Analysis

    @cached_property
    def cuts(self) -> list[float]:
        """Seconds at which a shot begins, as ffmpeg sees them."""
        graph = f"scale=256:-2,select='gt(scene,{CUT})',metadata=print:file=-"
        argv = [ffmpeg.executable(), "-v", "error", "-skip_loop_filter", "all", "-i", str(self.path), "-an", "-vf", graph]
        done = subprocess.run([*argv, "-f", "null", "-"], check=True, capture_output=True, text=True)
        return [float(found) for found in SCENE.findall(done.stdout)]


@pytest.fixture(scope="module")
def bunny(real_media: Path, at_work: Children) -> Bunny:
    path = real_media / "bbb_720p24_2min.mp4"
    return Bunny(path, analysed(path, Wanted(), at_work))


@pytest.mark.media
def test_the_clips_of_a_real_film_begin_with_a_second_of_one_shot(bunny: Bunny) -> None:
    assert len(bunny.cuts) > 30
    assert len(bunny.found.clips) == 10
    broken = [
        (clip.start_s, cut) for clip in bunny.found.clips for cut in bunny.cuts if clip.start_s + 0.01 < cut < clip.start_s + 1
    ]
    late = [(clip.start_s, cut) for clip in bunny.found.clips for cut in bunny.cuts if 0.05 < clip.start_s - cut < 0.29]

    assert broken == []
    assert late == []


@pytest.mark.media
def test_the_clips_of_a_real_film_are_spread_and_do_not_overlap(bunny: Bunny) -> None:
    clips = bunny.found.clips

    assert clips[-1].start_s + clips[-1].length_s - clips[0].start_s >= 0.7 * bunny.found.duration_s
    assert all(two.start_s - one.start_s >= one.length_s for one, two in itertools.pairwise(clips))


@pytest.mark.media
def test_no_two_clips_of_a_real_film_look_alike(bunny: Bunny) -> None:
    pictures = [small_picture(bunny.path, clip.start_s + 0.1) for clip in bunny.found.clips]

    unlike = {
        (one, two): float(np.abs(pictures[one] - pictures[two]).mean())
        for one, two in itertools.combinations(range(len(pictures)), 2)
    }
    assert min(unlike.values()) > 7.0, min(unlike.items(), key=lambda pair: pair[1])


def small_picture(path: Path, t_s: float) -> NDArray[np.float64]:
    """The picture of that time on 32 × 18 squares, RGB."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        container.seek(int(t_s / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            if frame.time is not None and frame.time >= t_s:
                small = frame.reformat(width=32, height=18, format="rgb24", interpolation="AREA")
                return small.to_ndarray().astype(np.float64)
    raise AssertionError(f"nothing is shown at {t_s} s")
