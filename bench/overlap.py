"""Uploads beside ffmpeg: 8 videos to a host as slow as the ffmpeg work, in one run and one after another.

`python bench/overlap.py [--seconds 20] [--markdown]` prints a table. The host is a loopback server that speaks the Internet
Archive's protocol and reads bodies so slowly that an upload takes as long as the ffmpeg work of its video. `one after another` are
8 runs of one video each, of which only the steps are counted; `one run` is the whole process of a run of 8, its start and end
included.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

from dailies import scaffold
from dailies.media import ffmpeg
from hosts_internet_archive import ACCESS, SECRET, ArchiveServer

VIDEOS: Final = 8
MEDIA_STEPS: Final = ("inspect", "convert", "analyse", "preview")
TARGET: Final = 0.65


def clips(folder: Path, seconds: int) -> list[Path]:
    """Such as must be encoded anew: MPEG-2, each with another sound."""
    made = []
    for number in range(VIDEOS):
        path = folder / f"clip-{number}.mpg"
        pictures = f"testsrc2=size=1280x720:rate=25:duration={seconds}"
        sound = f"sine=frequency={300 + 50 * number}:duration={seconds}"
        argv = [ffmpeg.executable(), "-nostdin", "-v", "error", "-f", "lavfi", "-i", pictures, "-f", "lavfi", "-i", sound]
        subprocess.run([*argv, "-c:v", "mpeg2video", "-q:v", "4", "-c:a", "mp2", "-y", str(path)], check=True)
        made.append(path)
    return made


def library(root: Path, server: ArchiveServer) -> None:
    scaffold.init(root)
    host = f'adapter = "internet_archive"\ns3_url = "{server.url}"\nfront_url = "{server.url}"\n'
    (root / "dailies.toml").write_text(
        f'[run]\njobs = 1\nmin_remaining = "1m"\n[publish]\nhosts = ["archive"]\npreview_hosts = ["published"]\n'
        f'[hosts.archive]\n{host}[hosts.published]\nadapter = "storage"\npath = "media/published"\n'
    )


def dailies(root: Path, *arguments: str | Path) -> Any:
    variables: Mapping[str, str] = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "scripts"),
        "IA_ACCESS_KEY_ID": ACCESS,
        "IA_SECRET_ACCESS_KEY": SECRET,
    }
    argv = [sys.executable, "-m", "dailies", "--root", str(root), *map(str, arguments), "--json"]
    done = subprocess.run(argv, env=variables, capture_output=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr.decode())
    return json.loads(done.stdout)


def step_seconds(report: Any, names: tuple[str, ...] = ()) -> float:
    steps = [(name, step) for video in report["videos"] for name, step in video["steps"].items()]
    return sum(float(step["duration_s"]) for name, step in steps if not names or name in names)


def published_bytes(root: Path) -> int:
    records = [json.loads(path.read_text("utf-8")) for path in root.glob("database/videos/*/*.json")]
    return int(next(record["file"]["size_bytes"] for record in records if record["state"] == "done"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=20, help="length of a clip")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ArchiveServer() as server:
        place = Path(folder)
        made = clips(place, options.seconds)
        alone, together = place / "alone", place / "together"
        for root in (alone, together):
            library(root, server)
            dailies(root, "add", *made)
        first = dailies(alone, "run", "--limit", "1")
        media_s = step_seconds(first, MEDIA_STEPS)
        server.bytes_per_s = published_bytes(alone) / media_s
        one_by_one = [dailies(alone, "run", "--limit", "1") for _ in range(VIDEOS - 1)]
        shutil.rmtree(alone)
        apart_s = sum(map(step_seconds, one_by_one)) * VIDEOS / (VIDEOS - 1)  # the first was to set the speed
        began = time.monotonic()
        report = dailies(together, "run")
        together_s = time.monotonic() - began
        saved_s = float(report["seconds_saved_by_overlap"])
    print(f"ffmpeg work of one video {media_s:.1f} s, the host takes {server.bytes_per_s / 1e6:.2f} MB/s\n")
    rows = [
        ("8 videos", "seconds"),
        ("one after another (steps only)", f"{apart_s:.1f}"),
        ("one run (whole process)", f"{together_s:.1f}"),
    ]
    rows += [("seconds_saved_by_overlap in its report", f"{saved_s:.1f}")]
    for name, value in rows:
        print(f"| {name} | {value} |" if options.markdown else f"{name:42} {value:>8}")
    print(f"\none run : one after another = {together_s / apart_s:.2f} (target at most {TARGET})")


if __name__ == "__main__":
    main()
