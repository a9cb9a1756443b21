"""How long `dailies --help` takes, and which heavy modules it imports (none is wanted).

`python bench/start.py [--runs 10]` prints a table and writes bench/results/start.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
RESULTS: Final = ROOT / "bench" / "results" / "start.json"
TARGET_S: Final = 0.4
FORBIDDEN: Final = ("av", "numpy", "git", "requests")
# -X importtime: "import time: self | cumulative | name", the name indented by how deep it was imported
COMMAND: Final = ("-m", "dailies", "--help")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}


def wall_s() -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, *COMMAND], env=environment(), stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - began


def imported() -> set[str]:
    """Top-level names of everything that the command imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *COMMAND], env=environment(), capture_output=True, text=True, check=True
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=10, help="repetitions (default 10)")
    wanted = parser.parse_args()
    wall_s()  # the first start compiles and fills the disk cache
    walls = [wall_s() for _ in range(wanted.runs)]
    median, heavy = statistics.median(walls), sorted(imported() & set(FORBIDDEN))
    print("| what | measured | target |\n| --- | --- | --- |")
    print(f"| `dailies --help`, median of {wanted.runs} | {median:.3f} s ({min(walls):.3f} to {max(walls):.3f}) | {TARGET_S} s |")
    print(f"| of {', '.join(FORBIDDEN)} imported | {', '.join(heavy) or 'none'} | none |")
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "target_s": TARGET_S,
        "median_s": round(median, 4),
        "walls_s": [round(wall, 4) for wall in walls],
        "forbidden": heavy,
    }
    RESULTS.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
