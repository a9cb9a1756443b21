"""Memory and throughput of every adapter, beside `curl` or `rclone` over the same throttled way to the same loopback server.

`python bench/hosts.py [--megabytes 500] [--rate 100] [--runs 3] [--hosts NAME,…] [--markdown]` prints a table. Each
upload of ours is made by a fresh process that has built the host and sent one small file before its idle memory is read; its peak
is sampled every 5 ms. GCS and Azure have no server here. `--rate 0` is unthrottled.
"""

import argparse
import contextlib
import hashlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

import requests

import hosts_internet_archive as archive
import hosts_storage as storage
import hosts_streamtape as tape
import hosts_xvideosharing as xvs
from hosted import PLACES, SECRETS, Place, stored

PROTOCOLS: Final = ("s3", "webdav", "sftp")
MEMORY_MB: Final = 60
RATIO: Final = 0.9


class Way:
    """A TCP proxy that lets so many bytes a second pass to the server."""

    def __init__(self, port: int, bytes_per_s: float) -> None:
        self._port = port
        self._bytes_per_s = bytes_per_s
        self._free_at = 0.0
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                threading.Thread(target=self._carry, args=(client, server), kwargs={"is_braked": True}, daemon=True).start()
                threading.Thread(target=self._carry, args=(server, client), kwargs={"is_braked": False}, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, *, is_braked: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 18):
                if is_braked and self._bytes_per_s:
                    self._brake(len(data))
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def _brake(self, count: int) -> None:
        with self._lock:
            begin = max(time.monotonic(), self._free_at)
            self._free_at = begin + count / self._bytes_per_s
        time.sleep(max(0.0, begin - time.monotonic()))


@dataclass(frozen=True)
class Result:
    seconds: float
    idle_mb: float
    peak_mb: float


@contextmanager
def opened(name: str, folder: Path) -> Iterator[tuple[Place, int]]:
    if name in PLACES:
        with PLACES[name]() as place:
            assert place.server is not None
            yield place, urlsplit(place.server.url).port or 0
        return
    with storage.serving(name, folder) as server:
        place = Place("storage", server.settings("films"), lambda: stored(server.folder / storage.BUCKET / "films"), None)
        yield place, server.port


def through(place: Place, way: Way, port: int) -> Place:
    section = {key: str(value).replace(f"127.0.0.1:{port}", f"127.0.0.1:{way.port}") for key, value in place.section.items()}
    if "known_hosts" in section:
        known = Path(section["known_hosts"])
        known.write_text(known.read_text().replace(f"[127.0.0.1]:{port}", f"[127.0.0.1]:{way.port}"))
    if place.server is not None:
        place.server.url = f"http://127.0.0.1:{way.port}"  # it tells people where to go on
    return replace(place, section=section)


def ours(place: Place, path: Path, small: Path) -> Result:
    """In a process of its own."""
    order = {"adapter": place.adapter, **place.section}
    argv = [sys.executable, __file__, "--child", json.dumps([order, str(path), str(small)])]
    done = subprocess.run(argv, env={**os.environ, **SECRETS}, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.decode()[-3000:])
    return Result(*json.loads(done.stdout))


def child(order: dict[str, Any], path: Path, small: Path) -> None:
    import psutil

    from dailies import hosts
    from dailies.clock import Deadline, SystemClock
    from dailies.config import Settings
    from dailies.hosts import Asset, Details, Transfer
    from dailies.model import Kind

    settings = Settings.model_validate({"hosts": {"target": order}, "publish": {"hosts": ["target"], "preview_hosts": []}})
    clock = SystemClock()
    host = hosts.build(settings, path.parent, clock, os.environ)["target"]
    deadline = Deadline.after(clock, 3600)

    def send(file: Path, number: int) -> float:
        content = hashlib.sha256(), hashlib.md5()
        with file.open("rb") as reader:
            while chunk := reader.read(1 << 20):
                for digest in content:
                    digest.update(chunk)
        sha256, md5 = (digest.hexdigest() for digest in content)
        details = Details(title=f"film {number}")
        asset = Asset(f"film-{number:012}", Kind.VIDEO, ".mp4", sha256, file.stat().st_size, 60.0, details, md5)
        began = time.monotonic()
        host.upload(file, asset, Transfer(deadline))
        return time.monotonic() - began

    send(small, os.getpid() % 10**9)
    process, ended, peak = psutil.Process(), threading.Event(), 0
    idle = process.memory_info().rss

    def look() -> None:
        nonlocal peak
        while not ended.wait(0.005):
            peak = max(peak, process.memory_info().rss)

    looker = threading.Thread(target=look)
    looker.start()
    seconds = send(path, 10**9 + os.getpid() % 10**9)
    ended.set()
    looker.join()
    print(json.dumps([seconds, idle / 1e6, peak / 1e6]))


def timed(argv: list[str]) -> float:
    began = time.monotonic()
    done = subprocess.run(argv, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{argv[0]}: {done.stdout.decode()[-500:]} {done.stderr.decode()[-1500:]}")
    return time.monotonic() - began


def curl(*arguments: str) -> float:
    return timed(["curl", "--silent", "--show-error", "--fail", "--noproxy", "*", *arguments])


def peer_archive(place: Place, path: Path, _way: Way) -> float:
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    headers = [
        f"Authorization: LOW {archive.ACCESS}:{archive.SECRET}",
        "x-archive-auto-make-bucket: 1",
        "x-archive-queue-derive: 0",
        f"Content-MD5: {md5}",
        "x-archive-meta00-title: film",
        "x-archive-meta00-mediatype: movies",
        "x-archive-meta00-collection: opensource_movies",
        f"x-archive-size-hint: {path.stat().st_size}",
    ]
    marked = [word for header in headers for word in ("-H", header)]
    return curl("-T", str(path), *marked, f"{place.section['s3_url']}/film-peer/film-peer.mp4")


def peer_xvs(_place: Place, path: Path, way: Way) -> float:
    fields = {"key": xvs.KEY, "file_title": "film", "file_public": "1", "file_adult": "0"}
    forms = [word for key, value in fields.items() for word in ("-F", f"{key}={value}")]
    return curl(*forms, "-F", f"file=@{path};filename=film.mp4", f"http://127.0.0.1:{way.port}{xvs.NODE}")


def peer_tape(place: Place, path: Path, way: Way) -> float:
    login = {"login": tape.LOGIN, "key": tape.KEY}
    said = requests.get(f"{place.section['api_url']}/file/ul", params=login, timeout=30).json()
    address = urlsplit(said["result"]["url"])
    return curl("-F", f"file1=@{path};filename=film.mp4", f"http://127.0.0.1:{way.port}{address.path}")


def peer_youtube(place: Place, path: Path, way: Way) -> float:
    form = dict(
        zip(
            ("client_id", "client_secret", "refresh_token"),
            (SECRETS[key] for key in ("YT_ID", "YT_SECRET", "YT_REFRESH")),
            strict=True,
        )
    )
    token = requests.post(place.section["token_url"], data={"grant_type": "refresh_token", **form}, timeout=30).json()[
        "access_token"
    ]
    told = {
        "snippet": {"title": "film", "description": "", "tags": [], "categoryId": "22"},
        "status": {"privacyStatus": "private", "selfDeclaredMadeForKids": False},
    }
    size = str(path.stat().st_size)
    headers = {
        "Authorization": f"Bearer {token}",
        "X-Upload-Content-Length": size,
        "X-Upload-Content-Type": "video/mp4",
        "Slug": "film.mp4",
    }
    query = {"uploadType": "resumable", "part": "snippet,status", "notifySubscribers": "false"}
    address = f"{place.section['api_url']}/upload/youtube/v3/videos"
    session = requests.post(address, params=query, json=told, headers=headers, timeout=30).headers["Location"]
    return put(session, token, path, way)


def put(session: str, token: str, path: Path, way: Way) -> float:
    """The whole of a resumable upload in one request."""
    size, address = path.stat().st_size, urlsplit(session)
    span = [
        "-H",
        f"Authorization: Bearer {token}",
        "-H",
        f"Content-Range: bytes 0-{size - 1}/{size}",
        "-H",
        "Content-Type: application/octet-stream",
    ]
    return curl("-T", str(path), *span, f"http://127.0.0.1:{way.port}{address.path}?{address.query}")


def peer_peertube(place: Place, path: Path, way: Way) -> float:
    url = f"{place.section['url']}/api/v1"
    client = requests.get(f"{url}/oauth-clients/local", timeout=30).json()
    form = {**client, "grant_type": "password", "username": SECRETS["PT_NAME"], "password": SECRETS["PT_PASSWORD"]}
    token = requests.post(f"{url}/users/token", data=form, timeout=30).json()["access_token"]
    headers = {
        "Authorization": f"Bearer {token}",
        "X-Upload-Content-Length": str(path.stat().st_size),
        "X-Upload-Content-Type": "video/mp4",
    }
    told = {"name": "film of curl", "channelId": 7, "privacy": 2, "filename": "film.mp4"}
    session = requests.post(f"{url}/videos/upload-resumable", json=told, headers=headers, timeout=30).headers["Location"]
    return put(session, token, path, way)


def peer_rclone(place: Place, path: Path, way: Way) -> float:
    user, password = storage.USER, storage.PASSWORD
    options: dict[str, list[str]] = {
        "s3": [
            ":s3:",
            "--s3-provider",
            "Other",
            "--s3-endpoint",
            f"http://127.0.0.1:{way.port}",
            "--s3-access-key-id",
            user,
            "--s3-secret-access-key",
            password,
        ],
        "webdav": [":webdav:", "--webdav-url", f"http://127.0.0.1:{way.port}", "--webdav-user", user],
        "sftp": [":sftp:", "--sftp-host", "127.0.0.1", "--sftp-port", str(way.port), "--sftp-user", user],
    }
    scheme = str(place.section["path"]).partition(":")[0]
    remote, *rest = options[scheme]
    if scheme != "s3":
        hidden = subprocess.run([storage.rclone(), "obscure", password], capture_output=True, check=True).stdout.decode().strip()
        rest += [f"--{scheme}-pass", hidden]
    return timed(
        [
            storage.rclone(),
            "--config",
            "/dev/null",
            "--ignore-times",
            "copyto",
            str(path),
            f"{remote}{storage.BUCKET}/peer/film.mp4",
            *rest,
        ]
    )


PEERS: Final[dict[str, tuple[str, Callable[[Place, Path, Way], float]]]] = {
    "internet_archive": ("curl -T", peer_archive),
    "xvideosharing": ("curl -F", peer_xvs),
    "streamtape": ("curl -F", peer_tape),
    "youtube": ("curl -T", peer_youtube),
    "peertube": ("curl -T", peer_peertube),
    **dict.fromkeys(PROTOCOLS, ("rclone copyto", peer_rclone)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rate", type=float, default=100, help="MB/s")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--hosts", default=",".join(PEERS))
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        order, path, small = json.loads(options.child)
        child(order, Path(path), Path(small))
        return
    head = ("host", "ours, s", "peer, s", "peer : ours", "memory above idle, MB", "idle, MB")
    print(
        "| " + " | ".join(head) + " |\n|" + " --- |" * len(head)
        if options.markdown
        else "{:18}{:>10}{:>24}{:>14}{:>24}{:>10}".format(*head)
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (small := folder / "small.mp4").write_bytes(os.urandom(1 << 20))
        big = folder / "big.mp4"
        with big.open("wb") as file:
            for _ in range(options.megabytes):
                file.write(os.urandom(10**6))
        for number, name in enumerate(options.hosts.split(",")):
            with opened(name, folder / f"host-{number}") as (found, port):
                way = Way(port, options.rate * 1e6)
                target = through(found, way, port)
                said, peer = PEERS[name]
                runs = [(ours(target, big, small), peer(target, big, way)) for _ in range(options.runs)]
            seconds = statistics.median(run.seconds for run, _ in runs)
            theirs = statistics.median(other for _, other in runs)
            above = max(run.peak_mb - run.idle_mb for run, _ in runs)
            idle = statistics.median(run.idle_mb for run, _ in runs)
            row = (name, f"{seconds:.2f}", f"{theirs:.2f} ({said})", f"{theirs / seconds:.2f}", f"{above:.1f}", f"{idle:.0f}")
            print(
                "| " + " | ".join(row) + " |" if options.markdown else "{:18}{:>10}{:>24}{:>14}{:>24}{:>10}".format(*row),
                flush=True,
            )
    print(f"\n{options.megabytes} MB at {options.rate:g} MB/s; targets: peer : ours at least {RATIO}, {MEMORY_MB} MB above idle")


if __name__ == "__main__":
    main()
