"""A database of many records beside one of a hundred: one save, one validated streamed pass, `dailies status`.

Usage: python bench/database.py [--records 100000]. Prints a table, writes bench/results/database.json.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from bench.repository import video
from dailies import scaffold
from dailies.database import to_json
from dailies.library import Library

SMALL = 100
TARGETS = {"save_ratio": 1.5, "pass_s": 15.0, "pass_mb": 150.0, "status_s": 2.0}


def make(root: Path, records: int) -> Library:
    scaffold.init(root)
    for number in range(records):
        one = video(number)
        path = root / "database/videos" / one.id[-12:-10] / f"{one.id}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_json(one).replace(b"x" * 2000, b"x" * 2900))  # 4 kB a record
    return Library.open(root=root)


def save_s(library: Library) -> float:
    """Median of 50 saves of one changed record."""
    times = []
    for number in range(50):
        held = library.database.load(video(number).id)
        began = time.perf_counter()
        library.database.save(held.with_(retry_count=held.retry_count + 1), held)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def status_s(root: Path) -> float:
    """Median of 3 after a first one; the whole command."""
    times = []
    for _ in range(4):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "dailies", "--root", str(root), "status", "--json"], check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        small, large = make(Path(name) / "small", SMALL), make(Path(name) / "large", options.records)
        saves = {SMALL: save_s(small), options.records: save_s(large)}
        idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        count = sum(1 for _ in large.database.scan())
        took = time.perf_counter() - began
        above = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - idle) / 1024
        result = {
            "records": count,
            "save_ms": {str(key): round(value * 1000, 2) for key, value in saves.items()},
            "save_ratio": round(saves[options.records] / saves[SMALL], 2),
            "pass_s": round(took, 1),
            "pass_mb": round(above, 1),
            "status_s": round(status_s(large.root), 2),
        }
    print("| what | measured | target |\n| --- | --- | --- |")
    for key, target in TARGETS.items():
        print(f"| {key} | {result[key]} | {target} |")
    print(json.dumps(result))
    place = Path(__file__).parent / "results" / "database.json"
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
