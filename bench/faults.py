"""Many videos to three hosts of which every fifth request goes wrong in some way: nothing lost, nothing twice.

`python bench/faults.py [--videos 200] [--rate 0.2] [--hosts internet_archive,xvideosharing,streamtape] [--seed 1] [--markdown]`
runs the real command against loopback servers that misbehave on purpose, again and again until nothing is left to do (or 12 runs),
and then compares what the servers hold with what the records say. Exits with 1 where a copy is lost, double or untrue.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

from dailies import scaffold
from dailies.media import ffmpeg
from hosted import PLACES, SECRETS, Place, toml
from loopback import Fault

RUNS: Final = 12


def clips(folder: Path, count: int) -> None:
    """Small ones that differ in picture and sound."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pictures = f"testsrc2=size=64x48:rate=5:duration=1,hue=h={number * 360 // count}"
        sound = f"sine=frequency={200 + 5 * number}:duration=1"
        argv = [ffmpeg.executable(), "-nostdin", "-v", "error", "-f", "lavfi", "-i", pictures, "-f", "lavfi", "-i", sound]
        path = folder / f"film-{number:03}.mp4"
        subprocess.run([*argv, "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "-y", str(path)], check=True)


def dailies(root: Path, *arguments: str) -> Any:
    argv = [sys.executable, "-m", "dailies", "--root", str(root), *arguments, "--json"]
    variables = {**os.environ, **SECRETS, "PYTHONPATH": str(ROOT / "scripts")}
    done = subprocess.run(argv, env=variables, capture_output=True, check=False)
    if done.returncode not in {0, 1}:
        raise SystemExit(done.stderr.decode()[-3000:])
    return json.loads(done.stdout)


def untruths(records: list[Any], places: dict[str, Place]) -> list[str]:
    """What the records say that is not so, or nobody says."""
    found: list[str] = []
    for name, place in places.items():
        copies = place.copies()
        by_sha256 = collections.Counter(copies.values())
        found += [f"{name}: {count} copies of {sha256[:10]}" for sha256, count in by_sha256.items() if count > 1]
        for record in records:
            upload = record["uploads"].get(name, {}).get("video", {"status": "PENDING", "error": None})
            sha256 = str((record["file"] or {}).get("sha256"))
            has_it = by_sha256.get(sha256, 0) > 0
            if upload["status"] == "SUCCESS" and copies.get(upload["remote_id"]) != sha256:
                found.append(f"{name}: {record['id']}: said to be there as {upload['remote_id']}, and is not")
            elif upload["status"] != "SUCCESS" and has_it:
                found.append(f"{name}: {record['id']}: is there, and said to be {upload['status']}: {upload['error']}")
            elif upload["status"] != "SUCCESS" and not upload["error"]:
                found.append(f"{name}: {record['id']}: {upload['status']} without a reason")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--rate", type=float, default=0.2)
    parser.add_argument("--hosts", default="internet_archive,xvideosharing,streamtape")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    injected: collections.Counter[str] = collections.Counter()

    def chaos(_what: str) -> Fault | None:
        fault = chance.choice(list(Fault)) if chance.random() < options.rate else None
        injected.update([fault.name] if fault else [])
        return fault

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        root = Path(folder) / "library"
        places = {name: stack.enter_context(PLACES[name]()) for name in options.hosts.split(",")}
        scaffold.init(root)
        hosts = "".join(toml(name, place) for name, place in places.items())
        names = json.dumps(list(places))
        (root / "dailies.toml").write_text(
            f'[run]\ntransfers = 8\nmin_remaining = "1m"\n[similar]\naction = "ignore"\n'
            f'[publish]\nhosts = {names}\nstrategy = "all"\npreview_hosts = []\nbreaker = 1000\n{hosts}'
        )
        clips(root / "media/inbox", options.videos)
        dailies(root, "add", str(root / "media/inbox"))
        for place in places.values():
            assert place.server is not None
            place.server.chaos = chaos
        began, runs, report = time.monotonic(), 0, None
        while runs < RUNS and (report is None or report["summary"]["remaining"]):
            report = dailies(root, "run", "--force", "--no-commit")
            runs += 1
        took = time.monotonic() - began
        records = [json.loads(path.read_text("utf-8")) for path in root.glob("database/videos/*/*.json")]
        wrong = untruths(records, places)
        statuses = collections.Counter(
            record["uploads"].get(name, {}).get("video", {}).get("status", "PENDING") for record in records for name in places
        )
        reasons = collections.Counter(
            f"{name} {upload['video']['status']}: {upload['video']['error'][:110]}"
            for record in records
            for name, upload in record["uploads"].items()
            if upload["video"]["status"] != "SUCCESS"
        )
    rows = [
        ("videos × hosts", f"{options.videos} × {len(places)}"),
        (
            "faults injected",
            f"{sum(injected.values())} ({', '.join(f'{count} {name}' for name, count in sorted(injected.items()))})",
        ),
        ("runs, seconds", f"{runs}, {took:.0f}"),
        ("uploads by status", ", ".join(f"{count} {status}" for status, count in statuses.most_common())),
        ("double, lost or untrue", str(len(wrong))),
    ]
    for name, value in rows:
        print(f"| {name} | {value} |" if options.markdown else f"{name:24} {value}")
    for reason, count in reasons.most_common(20):
        print(f"  {count:4} {reason}")
    for line in wrong[:40]:
        print("WRONG", line)
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
