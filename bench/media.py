"""What looking at a video costs beside the tools people use for it, by the same ffmpeg on the same files.

`python bench/media.py --peer PATH/stash_peer.py [--runs 3]` prints tables, writes bench/results/media.json and
docs/media-costs.svg. The peer's script runs its program's exact commands; it wants ffprobe on PATH, and Pillow and numpy in
`--peer-python`. `--scenedetect` names PySceneDetect's command. What is not given is left out.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from bench.costs import RESULTS, Cost, looped, measured, media_folder
from dailies.media import ffmpeg

CLIP: Final = ("bbb_720p24_2min.mp4", 120.0)
HOUR_S: Final = 3541.102  # no equal distance of 12, 25 or 81 parts falls on the clip's period
FOUR_HOURS_S: Final = 14164.4
DETECTED_S: Final = 600.0  # PySceneDetect looks at this much; its figure is scaled
# the shape of the peer's preview: 12 clips of 0.75 s, 640 wide, x264 slow at crf 21
PEERS_SHAPE: Final = ("--clips", "12", "--clip-length", "0.75", "--height", "360", "--encoder-preset", "slow", "--crf", "21")
SAME_QUALITY: Final = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "128k")


@dataclass(frozen=True)
class Tools:
    ffmpeg: str
    peer: Path | None
    peer_python: str
    scenedetect: str | None
    runs: int


@dataclass(frozen=True)
class Row:
    """One way on one file; medians over the runs."""

    file: str
    way: str
    cpu_s: float
    wall_s: float
    note: str = ""


def taken(tools: Tools, file: str, ways: dict[str, Callable[[], object]], runs: int | None = None) -> list[Row]:
    """All ways in turn, again and again, so that whatever else the machine does falls on all of them."""
    costs: dict[str, list[Cost]] = {way: [] for way in ways}
    for _ in range(runs or tools.runs):
        for way, work in ways.items():
            costs[way].append(measured(work))
    rows = [
        Row(file, way, statistics.median(one.cpu_s for one in found), statistics.median(one.wall_s for one in found))
        for way, found in costs.items()
    ]
    for row in rows:
        print(f"{row.file}: {row.way}: {row.cpu_s:.2f} CPU s, {row.wall_s:.2f} s", file=sys.stderr)
    return rows


def dailies(*arguments: str | Path) -> Callable[[], object]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    argv = [sys.executable, "-m", "dailies", *map(str, arguments)]
    return lambda: subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, env=variables)


def command(*arguments: str | Path) -> Callable[[], object]:
    return lambda: subprocess.run([str(one) for one in arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def peer(tools: Tools, folder: Path, file: Path) -> Callable[[], object]:
    """The peer's commands with our ffmpeg first on PATH."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    if not (programs / "ffmpeg").exists():
        (programs / "ffmpeg").symlink_to(tools.ffmpeg)
    variables = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    argv = [tools.peer_python, str(tools.peer), str(file), str(folder / "peer"), "cover", "phash", "sprite", "preview"]
    return lambda: subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, env=variables)


def one_by_one(tools: Tools, folder: Path, file: Path) -> Callable[[], object]:
    """What a script would do: ten processes at equal distances, then a concat."""

    def work() -> None:
        parts = []
        for number in range(10):
            part = folder / f"part-{number}.mp4"
            argv = [
                tools.ffmpeg,
                "-nostdin",
                "-v",
                "error",
                "-y",
                "-ss",
                f"{HOUR_S * (number + 0.5) / 10:.3f}",
                "-t",
                "3",
                "-i",
                str(file),
            ]
            subprocess.run([*argv, "-vf", "scale=-2:480", *SAME_QUALITY, str(part)], check=True)
            parts.append(part)
        listed = folder / "parts.txt"
        listed.write_text("".join(f"file '{part}'\n" for part in parts), "utf-8")
        argv = [tools.ffmpeg, "-nostdin", "-v", "error", "-y", "-f", "concat", "-safe", "0", "-i", str(listed), "-c", "copy"]
        subprocess.run([*argv, "-movflags", "+faststart", str(folder / "joined.mp4")], check=True)

    return work


def exactly(tools: Tools, folder: Path, file: Path, starts: list[float]) -> Callable[[], object]:
    """The least: decoding and encoding those 30 s by one ffmpeg, cut out beforehand without a frame too many."""
    cut = folder / "exactly.mkv"
    inputs = [part for start in starts for part in ("-ss", f"{start:.3f}", "-t", "3", "-i", str(file))]
    joined = "".join(f"[{number}:v][{number}:a]" for number in range(len(starts))) + f"concat=n={len(starts)}:v=1:a=1[v][a]"
    same = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-g", "48", "-c:a", "aac")
    argv = [tools.ffmpeg, "-nostdin", "-v", "error", "-y", *inputs, "-filter_complex", joined, "-map", "[v]", "-map", "[a]"]
    subprocess.run([*argv, *same, str(cut)], check=True)
    scaled = ("-vf", "scale=-2:480", *SAME_QUALITY, "-movflags", "+faststart")
    return command(tools.ffmpeg, "-nostdin", "-v", "error", "-y", "-i", cut, *scaled, folder / "least.mp4")


def rendered(file: Path, found: Path, target: Path) -> Callable[[], object]:
    """Our rendering alone, of clips that were chosen before."""
    variables = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'scripts'}"}
    argv = [sys.executable, str(Path(__file__).with_name("render_only.py")), str(file), str(found), str(target)]
    return lambda: subprocess.run(argv, check=True, env=variables)


def compare(tools: Tools, gop_s: int, folder: Path) -> list[Row]:
    """One file of an hour with keyframes this far apart."""
    label = f"1 h, GOP {gop_s} s"
    file = hour(tools, gop_s, HOUR_S, folder)
    out = folder / "out.mp4"
    ways = {
        "dailies: analysis, cover, sprite, contact sheet, phash, preview 12 × 0.75 s": dailies(
            "preview", file, "-o", out, "--frames", folder / "frames", *PEERS_SHAPE
        ),
        "dailies: analysis alone": dailies("analyse", file, "--json"),
        "dailies: default preview (10 × 3 s, 480p)": dailies("preview", file, "-o", out),
        "one ffmpeg a clip (10 × 3 s, 480p, no look at the content)": one_by_one(tools, folder, file),
    }
    if tools.peer:
        ways["peer: cover, sprite, phash, preview 12 × 0.75 s"] = peer(tools, folder, file)
    rows = taken(tools, label, ways)
    found = folder / "found.json"
    chosen = subprocess.run(
        [sys.executable, "-m", "dailies", "analyse", str(file), "--json"],
        check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
    ).stdout  # fmt: skip
    found.write_bytes(chosen)
    starts = [clip["start_s"] for clip in json.loads(chosen)["clips"]]
    rows += taken(
        tools,
        label,
        {
            f"dailies: rendering the default preview alone ({len(starts)} clips)": rendered(file, found, out),
            "decoding and encoding exactly those seconds": exactly(tools, folder, file, starts),
        },
    )
    whole = {
        "ffmpeg: decode everything": command(tools.ffmpeg, "-nostdin", "-v", "error", "-i", file, "-an", "-f", "null", "-"),
        "ffmpeg: decode everything, scdet at 160": command(
            tools.ffmpeg, "-nostdin", "-v", "error", "-i", file, "-an", "-vf", "scale=160:-2,scdet", "-f", "null", "-"
        ),
    }
    rows += taken(tools, label, whole, runs=1)
    if tools.scenedetect:
        rows.append(detected(tools, label, file, folder))
    return rows


def detected(tools: Tools, label: str, file: Path, folder: Path) -> Row:
    part = folder / "part.mp4"
    subprocess.run(
        [tools.ffmpeg, "-nostdin", "-v", "error", "-y", "-i", str(file), "-t", str(DETECTED_S), "-c", "copy", str(part)], check=True
    )
    detect = command(tools.scenedetect or "", "-i", part, "detect-content")
    [row] = taken(tools, label, {"PySceneDetect detect-content": detect}, runs=1)
    share = HOUR_S / DETECTED_S
    return Row(label, row.way, row.cpu_s * share, row.wall_s * share, f"measured on {DETECTED_S / 60:g} min, times {share:.1f}")


def hour(tools: Tools, gop_s: int, seconds: float, folder: Path) -> Path:
    name, clip_s = CLIP
    clip = media_folder() / name  # a keyframe every 2 s
    if gop_s != 2:
        fixed = ("-g", str(24 * gop_s), "-keyint_min", str(24 * gop_s), "-sc_threshold", "0")
        again = folder / f"clip-{gop_s}.mp4"
        argv = [
            tools.ffmpeg,
            "-nostdin",
            "-v",
            "error",
            "-y",
            "-i",
            str(clip),
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-crf",
            "20",
        ]
        subprocess.run([*argv, *fixed, "-c:a", "copy", str(again)], check=True)
        clip = again
    return looped(tools.ffmpeg, clip, clip_s, "mp4", seconds, folder / f"long-{gop_s}-{seconds:.0f}.mp4")


def length(tools: Tools, folder: Path) -> list[Row]:
    """The same on 1 h and on 4 h."""
    rows = []
    for label, seconds in (("1 h, GOP 2 s", HOUR_S), ("4 h, GOP 2 s", FOUR_HOURS_S)):
        file = hour(tools, 2, seconds, folder)
        ways = {
            "dailies: everything, for the length": dailies(
                "preview", file, "-o", folder / "out.mp4", "--frames", folder / "f", *PEERS_SHAPE
            )
        }
        rows += taken(tools, label, ways)
    return rows


def cpu(rows: list[Row], file: str, way: str) -> float | None:
    return next((row.cpu_s for row in rows if row.file == file and row.way.startswith(way)), None)


def verdicts(rows: list[Row]) -> list[str]:
    """Each target of the comparison, what was reached, and whether that is enough."""
    found = []

    def said(name: str, ours: float | None, theirs: float | None, limit: float) -> None:
        if ours and theirs:
            verdict = "met" if ours / theirs <= limit else "MISSED"
            found.append(f"| {name} | {ours / theirs:.3f} | {limit:.3f} | {verdict} |")

    for gop_s, limit in ((10, 0.2), (2, 0.45)):
        file = f"1 h, GOP {gop_s} s"
        said(f"everything : peer, GOP {gop_s} s", cpu(rows, file, "dailies: analysis,"), cpu(rows, file, "peer"), limit)
        alone = cpu(rows, file, "dailies: analysis alone")
        said(
            f"analysis : decode everything and scdet, GOP {gop_s} s",
            alone,
            cpu(rows, file, "ffmpeg: decode everything, scdet"),
            1 / 40,
        )
        said(f"analysis : PySceneDetect, GOP {gop_s} s", alone, cpu(rows, file, "PySceneDetect"), 1 / 40)
        least = cpu(rows, file, "decoding and encoding exactly")
        said(f"rendering : exactly those seconds, GOP {gop_s} s", cpu(rows, file, "dailies: rendering"), least, 1.6)
    one, four = (cpu(rows, file, "dailies: everything, for") for file in ("1 h, GOP 2 s", "4 h, GOP 2 s"))
    said("4 h : 1 h", four, one, 1.5)
    return found


def chart(rows: list[Row]) -> str:
    """Bars of CPU seconds, on a logarithmic scale from 1 to 1,000."""
    shown = [row for row in rows if "for the length" not in row.way]
    size = f'viewBox="0 0 1000 {len(shown) * 22 + 20}"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">']
    lines.append('<rect width="100%" height="100%" fill="white"/>')
    for number, row in enumerate(shown):
        wide, top = 140 * math.log10(max(1.1, row.cpu_s)), number * 22 + 10
        colour = "#2b5c8a" if row.way.startswith("dailies") else "#b0b0b0"
        said = f"{row.file.removeprefix('1 h, ')}: {row.way.partition(' (')[0][:70]}"
        lines.append(f'<text x="490" y="{top + 14}" text-anchor="end">{said}</text>')
        lines.append(f'<rect x="500" y="{top + 3}" width="{wide:.0f}" height="15" fill="{colour}"/>')
        lines.append(f'<text x="{505 + wide:.0f}" y="{top + 15}">{row.cpu_s:.1f} s</text>')
    return "\n".join([*lines, "</svg>", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer", type=Path, default=None, help="the script that runs the peer's commands")
    parser.add_argument("--peer-python", default=sys.executable, help="an interpreter with Pillow and numpy")
    parser.add_argument("--scenedetect", default=shutil.which("scenedetect"), help="PySceneDetect's command")
    parser.add_argument("--runs", type=int, default=3, help="repetitions of each way (default 3)")
    parser.add_argument("--folder", type=Path, default=None, help="where the temporary files go (default: the system's)")
    wanted = parser.parse_args()
    if not media_folder().is_dir():
        print(f"real clips are not at {media_folder()}; set DAILIES_MEDIA", file=sys.stderr)
        return 2
    if wanted.peer and not shutil.which("ffprobe"):
        print("the peer's script wants ffprobe on PATH; install it or leave --peer out", file=sys.stderr)
        return 2
    tools = Tools(ffmpeg.executable(), wanted.peer, wanted.peer_python, wanted.scenedetect, wanted.runs)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="dailies-bench-", dir=wanted.folder) as name:
        for gop_s in (10, 2):
            rows += compare(tools, gop_s, Path(name))
        rows += length(tools, Path(name))
    print("| file | what | CPU s | wall s |\n| --- | --- | --- | --- |")
    for row in rows:
        print(f"| {row.file} | {row.way}{f' ({row.note})' if row.note else ''} | {row.cpu_s:.2f} | {row.wall_s:.2f} |")
    print("\n| ratio of CPU seconds | reached | target | |\n| --- | --- | --- | --- |")
    print("\n".join(verdicts(rows)))
    RESULTS.mkdir(parents=True, exist_ok=True)
    content = {"runs": tools.runs, "cores": os.cpu_count(), "rows": [row.__dict__ for row in rows]}
    (RESULTS / "media.json").write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    (ROOT / "docs" / "media-costs.svg").write_text(chart(rows), "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
