"""What convert + verify costs beside a bare `ffmpeg -c copy -movflags +faststart`, by the same ffmpeg on the same file.

`python bench/convert.py [--minutes 60] [--runs 3]` prints a table and writes bench/results/convert.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from bench.costs import RESULTS, Cost, looped, measured, media_folder
from dailies.clock import Deadline, SystemClock
from dailies.media import ffmpeg, render
from dailies.media.children import Children
from dailies.media.probe import Probe, probe

TARGET_RATIO: Final = 3.0
LIMIT_S: Final = 3600.0
# name of the case -> (clip, its seconds, container of the long file)
CASES: Final = {
    "H.264 + AAC in MP4, 720p24": ("bbb_720p24_2min.mp4", 120.0, "mp4"),
    "H.264 + AAC in MPEG-TS, 1080p60": ("bbb_1080p60_20s.ts", 20.02, "mpegts"),
}


@dataclass(frozen=True)
class Outcome:
    case: str
    minutes: float
    size_bytes: int
    copies: tuple[Cost, ...]
    converts: tuple[Cost, ...]

    def copy_cpu_s(self) -> float:
        return statistics.median(cost.cpu_s for cost in self.copies)

    def convert_cpu_s(self) -> float:
        return statistics.median(cost.cpu_s for cost in self.converts)

    def ratio(self) -> float:
        return self.convert_cpu_s() / self.copy_cpu_s()


def bare_copy(source: Path, target: Path) -> None:
    argv = [ffmpeg.executable(), "-nostdin", "-v", "error", "-i", str(source), "-c", "copy", "-movflags", "+faststart"]
    subprocess.run([*argv, "-f", "mp4", "-y", str(target)], check=True)


def compare(case: str, minutes: float, runs: int, folder: Path) -> Outcome:
    """Both ways in turn, so that whatever else the machine does falls on both."""
    name, clip_s, container = CASES[case]
    source = looped(ffmpeg.executable(), media_folder() / name, clip_s, container, minutes * 60, folder / f"long.{container}")
    deadline = Deadline.after(SystemClock(), LIMIT_S)
    target = folder / "output.mp4"
    copies, converts, warnings = [], [], list[str]()
    for _ in range(runs):
        copies.append(measured(lambda: bare_copy(source, target)))
        with Children(folder) as children:
            known = probe(name, source, deadline, children=children)  # `inspect` has it already: not counted

        def convert(known: Probe = known) -> None:
            with Children(folder) as children:  # its cost counts when it has ended
                rules = render.Rules(work=folder, threads=os.cpu_count() or 1, children=children)
                warnings.extend(render.convert(name, source, target, known, rules, deadline))

        converts.append(measured(convert))
    for warning in sorted(set(warnings)):
        print(f"{case}: {warning}", file=sys.stderr)
    outcome = Outcome(case, known.duration_s() / 60, source.stat().st_size, tuple(copies), tuple(converts))
    source.unlink()
    return outcome


def show(outcomes: list[Outcome]) -> None:
    print("| case | min | MB | copy CPU s | convert + verify CPU s | ratio | copy wall s | convert + verify wall s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for one in outcomes:
        walls = [statistics.median(cost.wall_s for cost in costs) for costs in (one.copies, one.converts)]
        numbers = (one.copy_cpu_s(), one.convert_cpu_s(), one.ratio(), *walls)
        said = " | ".join(f"{number:.2f}" for number in numbers)
        print(f"| {one.case} | {one.minutes:.1f} | {one.size_bytes / 1e6:.0f} | {said} |")
    verdict = "met" if all(one.ratio() <= TARGET_RATIO for one in outcomes) else "MISSED"
    print(f"\ntarget: at most {TARGET_RATIO:g} times the copy's CPU: {verdict}")


def write(outcomes: list[Outcome], runs: int) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    cases = [{**asdict(one), "ratio": round(one.ratio(), 3)} for one in outcomes]
    content = {"target_ratio": TARGET_RATIO, "runs": runs, "cores": os.cpu_count(), "cases": cases}
    (RESULTS / "convert.json").write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the file (default 60)")
    parser.add_argument("--runs", type=int, default=3, help="repetitions of each way (default 3)")
    parser.add_argument("--folder", type=Path, default=None, help="where the temporary files go (default: the system's)")
    wanted = parser.parse_args()
    if not media_folder().is_dir():
        print(f"real clips are not at {media_folder()}; set DAILIES_MEDIA", file=sys.stderr)
        return 2
    outcomes = []
    for case in CASES:
        with tempfile.TemporaryDirectory(prefix="dailies-bench-", dir=wanted.folder) as folder:
            outcomes.append(compare(case, wanted.minutes, wanted.runs, Path(folder)))
    show(outcomes)
    write(outcomes, wanted.runs)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
