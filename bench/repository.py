"""Commit + push of 10 changed records in a database of 10,000, beside plain git, and how the repository grows beside one big file.

Usage: python bench/repository.py [--records 10000] [--runs 5]. Prints a table, writes bench/results/repository.json.
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from dailies import repository, scaffold
from dailies.database import to_json
from dailies.library import Library
from dailies.model import Source, State, Video
from dailies.sharing import commit

CHANGED = 10
TARGET_S = 3.0


def video(number: int) -> Video:
    identity = hashlib.sha256(str(number).encode()).hexdigest()
    moment = f"2026-{number % 12 + 1:02d}-01T00:00:00Z"
    source = Source(kind="file", uri=f"media/{number}.mp4", original_name=f"{number}.mp4", size_bytes=number, identity=identity)
    return Video(
        id=f"clip-{number}-{identity[:12]}", code=f"clip-{number}", title=f"Clip {number}", source=source, state=State.DONE,
        warnings=("x" * 2000,), created_at=moment, updated_at=moment,
    )  # fmt: skip


def make(folder: Path, records: int) -> Path:
    root, remote = folder / "library", folder / "remote.git"
    repository.create(remote, bare=True)
    repository.create(root)
    scaffold.init(root)
    for number in range(records):
        one = video(number)
        path = root / "database/videos" / one.id[-12:-10] / f"{one.id}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_json(one))
    Library.open(root=root).repository.begin(remote, "start")
    git(root, "push", "-q", "origin", "HEAD:refs/heads/main")
    return root


def make_one_file(folder: Path, records: int) -> Path:
    """The same records as one indented JSON list, as many projects keep theirs."""
    root, remote = folder / "one", folder / "one.git"
    repository.create(remote, bare=True)
    repository.create(root)
    (root / "database.json").write_bytes(one_file([video(number) for number in range(records)]))
    git(root, "remote", "add", "origin", str(remote))
    publish_plainly(root, ".")
    return root


def one_file(videos: list[Video]) -> bytes:
    content = [json.loads(to_json(one)) for one in videos]
    return (json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()


def publish_plainly(root: Path, what: str) -> float:
    began = time.perf_counter()
    git(root, "add", what)
    git(root, "commit", "-q", "-m", "plain")
    git(root, "push", "-q", "origin", "HEAD:refs/heads/main")
    return time.perf_counter() - began


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    return subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


def change(root: Path, run: int) -> None:
    library = Library.open(root=root)
    for number in range(CHANGED):
        held = library.database.load(video(run * CHANGED + number).id)
        library.database.save(held.with_(retry_count=held.retry_count + 1), held)


def packed_kib(root: Path) -> int:
    git(root, "gc", "-q")
    lines = dict(line.split(": ") for line in git(root, "count-objects", "-v").splitlines())
    return int(lines["size-pack"])


def loose_kib(root: Path) -> int:
    lines = dict(line.split(": ") for line in git(root, "count-objects", "-v").splitlines())
    return int(lines["size"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    ours: list[float] = []
    plain: list[float] = []
    big: list[float] = []
    many_loose: list[int] = []
    one_loose: list[int] = []
    with tempfile.TemporaryDirectory() as name:
        root = make(Path(name), options.records)
        commit(Library.open(root=root), threading.Event())
        before = packed_kib(root)
        for run in range(options.runs):
            change(root, 2 * run)
            began = time.perf_counter()
            commit(Library.open(root=root), threading.Event())
            ours.append(time.perf_counter() - began)
            loose = loose_kib(root)
            change(root, 2 * run + 1)
            plain.append(publish_plainly(root, "database"))
            many_loose.append(loose_kib(root) - loose)
        growth = (packed_kib(root) - before) / (2 * options.runs)
        one = make_one_file(Path(name), options.records)
        before = packed_kib(one)
        videos = [video(number) for number in range(options.records)]
        for run in range(options.runs):
            for number in range(run * CHANGED, (run + 1) * CHANGED):
                videos[number] = videos[number].with_(retry_count=1)
            (one / "database.json").write_bytes(one_file(videos))
            loose = loose_kib(one)
            big.append(publish_plainly(one, "."))
            one_loose.append(loose_kib(one) - loose)
        one_growth = (packed_kib(one) - before) / options.runs
    result = {
        "records": options.records, "changed": CHANGED, "dailies_s": statistics.median(ours), "git_s": statistics.median(plain),
        "one_file_s": statistics.median(big), "target_s": TARGET_S, "packed_growth_kib_per_commit": growth,
        "one_file_packed_growth_kib_per_commit": one_growth, "loose_kib_per_commit": statistics.median(many_loose),
        "one_file_loose_kib_per_commit": statistics.median(one_loose),
    }  # fmt: skip
    print("| what | commit and push s | new objects KiB | packed growth KiB |\n| --- | --- | --- | --- |")
    print(f"| dailies commit, derived files rebuilt | {result['dailies_s']:.2f} | | {growth:.1f} |")
    print(f"| git add, commit, push, a file a record | {result['git_s']:.2f} | {result['loose_kib_per_commit']} | {growth:.1f} |")
    print(f"| the same, one big file | {result['one_file_s']:.2f} | {result['one_file_loose_kib_per_commit']} | {one_growth:.1f} |")
    print(f"target: at most {TARGET_S} s: {'met' if statistics.median(ours) <= TARGET_S else 'MISSED'}")
    place = Path(__file__).parent / "results" / "repository.json"
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
