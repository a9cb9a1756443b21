"""Fetching an HLS playlist, beside bare `requests` threads, ffmpeg, yt-dlp and streamlink over the same slow loopback server.

`python bench/hls.py [--segments 720] [--latency 0.05] [--runs 3] [--without ffmpeg,yt-dlp,…]` prints Markdown tables. The server
is a process of its own that answers each request late, from memory; everything that is measured is a process too, its start
included. Real pictures are cut into segments of about 190 kB (DAILIES_MEDIA, else a generated film). Besides: the MP4 made of
what was fetched beside `ffmpeg -c copy`, five kills at random moments, and links that expire after a third.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts")]

import requests

CONNECTIONS: Final = 32
SEGMENT_BYTES: Final = 190_000
SCRIPTS: Final = Path(sys.executable).parent
REFRESHED: Final = "/signed/new/index.m3u8"
KILLS: Final = 5


# The server


class Server(asyncio.Protocol):
    """HTTP/1.1 as far as playlists need it; `/signed/old/` lets nobody in after a third of the segments."""

    def __init__(self, files: dict[str, bytes], latency_s: float, counts: Counter[str]) -> None:
        self.files, self.latency_s, self.counts = files, latency_s, counts
        self.waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        while b"\r\n\r\n" in self.waiting:
            head, _, self.waiting = self.waiting.partition(b"\r\n\r\n")
            path = urlsplit(head.split(b" ", 2)[1].decode()).path
            asyncio.get_running_loop().call_later(self.latency_s, self.answer, path)

    def answer(self, path: str) -> None:
        if self.transport.is_closing():
            return
        name = path.rpartition("/")[2]
        if path == "/counts":
            self.say(200, json.dumps(self.counts).encode())
            self.counts.clear()
        elif path == "/fresh":
            self.say(200, f"http://{self.transport.get_extra_info('sockname')[0]}:{self.port}{REFRESHED}".encode())
        elif path.startswith("/signed/old/") and name != "index.m3u8" and self.counts.total() > len(self.files) / 3:
            self.say(403, b"expired")
        elif name in self.files:
            self.counts[path] += 1
            self.say(200, self.files[name])
        else:
            self.say(404, b"")

    @property
    def port(self) -> int:
        return int(self.transport.get_extra_info("sockname")[1])

    def say(self, status: int, body: bytes) -> None:
        kind = b"application/vnd.apple.mpegurl" if body.startswith(b"#EXTM3U") else b"video/mp2t"
        self.transport.write(b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\nContent-Type: %s\r\n\r\n" % (status, len(body), kind))
        self.transport.write(body)


async def serve(folder: Path, latency_s: float) -> None:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    counts: Counter[str] = Counter()
    server = await asyncio.get_running_loop().create_server(lambda: Server(files, latency_s, counts), "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def serving(folder: Path, latency_s: float) -> Iterator[str]:
    argv = [sys.executable, __file__, "--serve", str(folder), "--latency", str(latency_s)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(child.stdout.readline())}"
        finally:
            child.kill()


# What is fetched


def cut(folder: Path, segments: int) -> None:
    """So many segments of a transport stream, and their playlist."""
    import imageio_ffmpeg

    ffmpeg, film = imageio_ffmpeg.get_ffmpeg_exe(), folder.with_name("film.mp4")
    real = Path(os.environ.get("DAILIES_MEDIA") or ROOT.parent / "shared/media") / "bbb_720p24_2min.mp4"
    if real.exists():
        shutil.copy(real, film)
    else:
        noise = "testsrc2=size=640x360:rate=24:duration=60,noise=alls=12:allf=t"
        sound = "sine=duration=60"
        said = ["-f", "lavfi", "-i", noise, "-f", "lavfi", "-i", sound, "-preset", "ultrafast", "-b:v", "1300k", "-g", "48"]
        subprocess.run([ffmpeg, "-v", "error", *said, str(film)], check=True)
    length_s = 120.0 if real.exists() else 60.0
    each_s = SEGMENT_BYTES / (film.stat().st_size * 1.04 / length_s)
    loops = int(segments * each_s / length_s) + 1
    into = ["-f", "hls", "-hls_time", f"{each_s:.3f}", "-hls_flags", "split_by_time", "-hls_list_size", "0"]
    listed = ["-hls_segment_filename", str(folder / "s%04d.ts"), str(folder / "all.m3u8")]
    folder.mkdir()
    subprocess.run([ffmpeg, "-v", "error", "-stream_loop", str(loops), "-i", str(film), "-c", "copy", *into, *listed], check=True)
    lines = (folder / "all.m3u8").read_text().splitlines()
    end = [number for number, line in enumerate(lines) if line.endswith(".ts")][segments - 1]
    (folder / "index.m3u8").write_text("\n".join([*lines[: end + 1], "#EXT-X-ENDLIST", ""]))
    names = {line for line in lines[: end + 1] if line.endswith(".ts")} | {"index.m3u8"}
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()


# What is measured


@dataclass(frozen=True)
class Result:
    seconds: float
    cpu_s: float
    peak_mb: float


def measured(argv: Sequence[str], folder: Path) -> Result:
    """A process from its start to its end."""
    folder.mkdir()
    began = time.perf_counter()
    with (folder / "said.txt").open("wb") as said:
        child = subprocess.Popen(argv, cwd=folder, stdout=said, stderr=said, stdin=subprocess.DEVNULL)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if status:
        raise SystemExit(f"{argv}: {(folder / 'said.txt').read_text()[-2000:]}")
    return Result(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def bare(url: str, folder: Path) -> None:
    """As few lines as one needs: 32 threads with a session each, and files."""
    listed = requests.get(url, timeout=30).text.splitlines()
    names = iter([line for line in listed if line and not line.startswith("#")])
    lock = threading.Lock()

    def work() -> None:
        session = requests.Session()
        while True:
            with lock:
                name = next(names, None)
            if name is None:
                return
            with (
                session.get(url.rpartition("/")[0] + "/" + name, stream=True, timeout=30) as answer,
                (folder / name).open("wb") as file,
            ):
                answer.raise_for_status()
                for block in answer.iter_content(1 << 18):
                    file.write(block)

    threads = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def ours(url: str, folder: Path) -> None:
    from dailies import config, links, sources
    from dailies.clock import Deadline, SystemClock
    from dailies.model import Source

    origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
    sites = {"127.0.0.1": config.Site(refresh_url=f"{origin}/fresh")} if "/signed/" in url else {}
    settings = config.Sources(allow_private=True, connections=CONNECTIONS, sites=sites)
    (folder / "kept").mkdir(exist_ok=True)
    (folder / "tmp").mkdir(exist_ok=True)
    clock = SystemClock()
    ground = sources.Ground.of(settings, folder, clock, dict(os.environ))
    source = Source(kind="hls", uri=url, original_name="film", size_bytes=0, identity=links.identity(url))
    place = sources.Place(folder / "kept/source", folder / "kept", folder / "tmp")
    sources.fetch(source, ground, place, Deadline.after(clock, 600))


def convert(path: Path, folder: Path) -> None:
    from dailies.clock import Deadline, SystemClock
    from dailies.media import render
    from dailies.media.children import Children
    from dailies.media.probe import probe

    deadline = Deadline.after(SystemClock(), 600)
    with Children(folder) as children:
        rules = render.Rules(folder, 0, children)
        found = probe("film", path, deadline, children=children)
        render.convert("film", path, folder / "film.mp4", found, rules, deadline)


def converting(path: Path, scratch: Path) -> list[str]:
    """The one command that is left to do after the last byte: what is joined was joined while the segments came."""
    from dailies.clock import Deadline, SystemClock
    from dailies.media import ffmpeg, recipes
    from dailies.media.children import Children
    from dailies.media.probe import probe

    with Children(scratch) as children:
        found = probe("film", path, Deadline.after(SystemClock(), 600), children=children)
    return recipes.convert(ffmpeg.executable(), path, Path("film.mp4"), recipes.plan(found), threads=0)


def digest(paths: Sequence[Path]) -> str:
    found = hashlib.sha256()
    for path in paths:
        found.update(path.read_bytes())
    return found.hexdigest()


def again(task: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, __file__, f"--{task}", *map(str, arguments)]


def peers(url: str) -> dict[str, Callable[[Path], list[str]]]:
    import imageio_ffmpeg

    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    quiet = ["--quiet", "--no-warnings", "--ignore-config", "--hls-prefer-native", "--fixup", "never", "-o", "film.ts"]
    return {
        "ours": lambda folder: again("ours", url, folder),
        "32 bare requests sessions": lambda folder: again("bare", url, folder),
        "streamlink, 10 threads": lambda _: [
            *(str(SCRIPTS / "streamlink"), "--no-config", "--stream-segment-threads", "10", "-o", "film.ts"),
            *(f"hls://{url}", "best"),
        ],
        "yt-dlp -N 32": lambda _: [str(SCRIPTS / "yt-dlp"), *quiet, "-N", "32", url],
        "ffmpeg -c copy": lambda _: [ffmpeg, "-v", "error", "-i", url, "-c", "copy", "film.ts"],
    }


def compared(url: str, scratch: Path, runs: int, without: Sequence[str]) -> tuple[Path, float]:
    """The first table; what ours fetched, and in how many seconds."""
    chosen = {name: argv for name, argv in peers(url).items() if not any(one and one in name for one in without)}
    found: dict[str, list[Result]] = {name: [] for name in chosen}
    for number in range(runs):
        for name, argv in chosen.items():
            if name != "ffmpeg -c copy" or number == 0:
                folder = scratch / f"{name.split()[0]}-{number}"
                found[name].append(measured(argv(folder), folder))
                if name != "ours" or number:
                    shutil.rmtree(folder)
    head = statistics.median(one.seconds for one in found["ours"])
    rows = []
    for name, results in found.items():
        seconds, cpu_s = statistics.median(one.seconds for one in results), statistics.median(one.cpu_s for one in results)
        peak_mb = max(one.peak_mb for one in results)
        rows.append((name, f"{seconds:.2f}", f"{seconds / head:.2f}", f"{cpu_s:.2f}", f"{peak_mb:.0f}"))
    table(("", "seconds", "× ours", "CPU s", "peak MB"), rows)
    return scratch / "ours-0/kept/source", head


def converted(path: Path, scratch: Path, runs: int) -> None:
    import imageio_ffmpeg

    copy = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-c", "copy", "-movflags", "+faststart", "film.mp4"]
    ways = {
        "ours: join and convert (with the hash of every packet)": converting(path, scratch),
        "ours: probe, convert, verify": again("convert", path, "."),
        "ffmpeg -c copy -movflags +faststart": copy,
    }
    found: dict[str, list[Result]] = {name: [] for name in ways}
    for number in range(runs):
        for name, argv in ways.items():
            folder = scratch / f"convert-{number}"
            found[name].append(measured(argv, folder))
            shutil.rmtree(folder)
    rows = [
        (name, *(f"{statistics.median(getattr(one, key) for one in results):.2f}" for key in ("seconds", "cpu_s")))
        for name, results in found.items()
    ]
    table(("after the last byte", "seconds", "CPU s"), rows)


def killed(url: str, scratch: Path, expected: str, expected_s: float) -> None:
    folder = scratch / "killed"
    folder.mkdir()
    requests.get(f"{url.rpartition('/')[0]}/../counts", timeout=30)
    draw, kills = random.Random(7), 0  # the same moments each time
    while True:
        child = subprocess.Popen(again("ours", url, folder), stderr=subprocess.DEVNULL)
        try:
            child.wait(draw.uniform(0.3, 0.7) * expected_s if kills < KILLS else 120)
            break
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            kills += 1
    origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
    counts = requests.get(f"{origin}/counts", timeout=30).json()
    twice = sum(count - 1 for name, count in counts.items() if name.endswith(".ts"))
    same = digest([folder / "kept/source"]) == expected
    rows = [
        (f"killed {kills} times", f"same bytes: {same}", f"{twice} segments asked for again, at most {kills * CONNECTIONS} may be")
    ]
    table(("trial", "result", ""), [*rows, expired(origin, scratch, expected)])


def expired(origin: str, scratch: Path, expected: str) -> tuple[str, str, str]:
    folder = scratch / "expired"
    requests.get(f"{origin}/counts", timeout=30)
    result = measured(again("ours", f"{origin}/signed/old/index.m3u8", folder), folder)
    same = digest([folder / "kept/source"]) == expected
    return "403 after a third", f"same bytes: {same}", f"{result.seconds:.1f} s, of them 10 s waited before the fresh link"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--segments", type=int, default=720)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--without", default="")
    for task in ("serve", "ours", "bare", "convert"):
        parser.add_argument(f"--{task}", nargs=1 if task == "serve" else 2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(Path(options.serve[0]), options.latency))
    elif options.ours:
        ours(options.ours[0], Path(options.ours[1]))
    elif options.bare:
        bare(options.bare[0], Path(options.bare[1]))
    elif options.convert:
        convert(Path(options.convert[0]), Path(options.convert[1]).resolve())
    else:
        with tempfile.TemporaryDirectory() as place:
            scratch = Path(place)
            cut(scratch / "served", options.segments)
            paths = sorted((scratch / "served").glob("*.ts"))
            size = sum(path.stat().st_size for path in paths)
            print(f"{len(paths)} segments, {size / 1e6:.0f} MB, {options.latency * 1e3:.0f} ms before each answer\n")
            with serving(scratch / "served", options.latency) as origin:
                url = f"{origin}/plain/index.m3u8"
                began = time.perf_counter()
                fetched, fetched_s = compared(url, scratch, options.runs, options.without.split(","))
                assert digest([fetched]) == digest(paths), "other bytes came"
                converted(fetched, scratch, options.runs)
                killed(url, scratch, digest(paths), fetched_s)
                print(f"{time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
