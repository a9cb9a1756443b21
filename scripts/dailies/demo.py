"""`dailies demo`: the whole pipeline on generated clips, in a folder of its own, with a remote of its own."""

import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import ffmpeg as command

from dailies import pipeline, policy, repository, scaffold
from dailies.clock import Deadline, SystemClock
from dailies.errors import ConfigError, VideoError
from dailies.library import Library
from dailies.media import ffmpeg
from dailies.model import State, Video
from dailies.pipeline import Wanted
from dailies.process import run
from dailies.progress import Watcher

FOLDER: Final = "demo"
MARK: Final = ".made-by-dailies-demo"
CLIP_S: Final = 8
_LIMIT_S: Final = 300.0


@dataclass(frozen=True)
class Clip:
    """A generated film: a moving pattern and a tone."""

    name: str
    pattern: str
    hertz: int
    options: tuple[tuple[str, str], ...]


CLIPS: Final = (
    Clip("harbour walk.mp4", "testsrc2=size=640x360:rate=25", 440, (("c:v", "libx264"), ("preset", "ultrafast"), ("c:a", "aac"))),
    Clip("night train.mkv", "mandelbrot=size=480x270:rate=24", 220, (("c:v", "libx264"), ("preset", "ultrafast"), ("c:a", "flac"))),
    Clip("old camera.mpg", "testsrc=size=352x288:rate=25", 660, (("c:v", "mpeg2video"), ("q:v", "4"), ("c:a", "mp2"))),
)
DUPLICATE: Final = "harbour walk (copy).mp4"
TRUNCATED: Final = "interrupted recording.mp4"


@dataclass(frozen=True)
class Outcome:
    """What became of one file of the demo."""

    video: Video
    is_expected: bool


@dataclass(frozen=True)
class Played:
    library: Library
    remote: Path
    outcomes: tuple[Outcome, ...]
    is_pushed: bool

    @property
    def is_expected(self) -> bool:
        return self.is_pushed and len(self.outcomes) == len(CLIPS) + 2 and all(outcome.is_expected for outcome in self.outcomes)


def play(parent: Path, watcher: Watcher, stop: threading.Event) -> Played:
    """Everything anew in `parent`/demo. Raises ConfigError when that folder is somebody else's."""
    folder = _fresh_folder(parent / FOLDER)
    remote = folder / "remote.git"
    root = folder / "library"
    repository.create(remote, bare=True)
    repository.create(root)
    scaffold.init(root)
    library = Library.open(root=root)
    library.repository.begin(remote, "dailies init")
    make_clips(library.inbox, library.work, Deadline.after(SystemClock(), _LIMIT_S, stop))
    pipeline.run(library, Wanted(is_demo=True), watcher, stop)
    deadline = Deadline.after(SystemClock(), _LIMIT_S, stop)
    here, there = library.repository.head(), library.repository.remote_branches("main", deadline).get("main")
    videos = policy.in_order(Library.open(root=root).database.videos())
    return Played(library, remote, _judged(videos), is_pushed=here == there)


def _fresh_folder(folder: Path) -> Path:
    if folder.exists():
        if not (folder / MARK).exists():
            raise ConfigError(f"{folder}: is there and was not made by `dailies demo`; move it away")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARK).touch()
    return folder


def make_clips(inbox: Path, work: Path, deadline: Deadline) -> None:
    """Three films, the first once more under another name, and its first half as an interrupted recording would leave it."""
    for clip in CLIPS:
        pictures = command.input(clip.pattern, f="lavfi", t=CLIP_S)
        sound = command.input(f"sine=frequency={clip.hertz}:sample_rate=48000", f="lavfi", t=CLIP_S)
        output = command.output(pictures, sound, str(inbox / clip.name), pix_fmt="yuv420p", **dict(clip.options))
        made = run(output.global_args("-nostdin", "-v", "error").compile(cmd=ffmpeg.executable()), deadline, work=work)
        if made.code != 0:
            raise VideoError(f"{clip.name}: cannot be generated: {made.last_words()}; see `dailies doctor`")
    whole = (inbox / CLIPS[0].name).read_bytes()
    (inbox / DUPLICATE).write_bytes(whole)
    (inbox / TRUNCATED).write_bytes(whole[: len(whole) // 2])


def _judged(videos: list[Video]) -> tuple[Outcome, ...]:
    """Of two equal files either is the original: whichever is looked at first."""
    twins = [video for video in videos if video.source.original_name in {CLIPS[0].name, DUPLICATE}]
    is_pair_right = sorted(video.state for video in twins) == [State.DONE, State.DUPLICATE]
    expected = {clip.name: State.DONE for clip in CLIPS} | {TRUNCATED: State.FAILED}
    return tuple(
        Outcome(video, is_pair_right if video in twins else video.state is expected.get(video.source.original_name))
        for video in videos
    )
