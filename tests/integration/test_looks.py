"""A run that dies while it looks at a video, at the moments when that might be forgotten; more in test_media_faults.py."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from dailies.media import ffmpeg
from integration.kill_driver import driven
from support import ClipMaker, Shelf


@pytest.fixture(scope="module")
def film(make_clip: ClipMaker) -> Path:
    return make_clip("film.mp4", seconds=6)


@pytest.fixture(scope="module")
def copy(film: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("copy") / "copy.mp4"
    encoder = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-crf", "30", "-c:a", "copy"]
    argv = [ffmpeg.executable(), "-nostdin", "-v", "error", "-i", str(film), "-vf", "scale=iw/2:-2", *encoder, str(path)]
    subprocess.run(argv, check=True)
    return path


@pytest.mark.parametrize("later", [1, 8, 16])
def test_a_run_that_dies_after_it_has_looked_compares_in_the_next_one(later: int, shelf: Shelf, film: Path, copy: Path) -> None:
    """Before the record says anything, once it holds the fingerprint, and while it is told what it looks like."""
    shelf.set("preview", clips=1, clip_length=1)
    shelf.set("similar", action="duplicate")
    shelf.put(film)
    assert driven(shelf, "run", "--no-commit", log="events.json") == 0
    acts = json.loads((shelf.root / "events.json").read_text("utf-8"))["analyse"]
    looked = next(number for number, act in enumerate(acts, 1) if act.startswith("os.rename") and "/kept/.tmp-" in act)
    shelf.put(copy)

    assert driven(shelf, "run", "--no-commit", phase="analyse", at=looked + later) == -signal.SIGKILL
    shelf.cli("run", "--no-commit")

    records = shelf.records()
    assert (records["copy.mp4"]["state"], records["copy.mp4"]["duplicate_of"]) == ("duplicate", records["film.mp4"]["id"])
    assert not (shelf.root / f"media/published/{records['copy.mp4']['id']}.mp4").exists()
