"""A server of playlists that misbehaves on purpose, clips cut for it, and what tests compare of them."""

import re
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from dailies import config, links, sources
from dailies.clock import Clock, Deadline, SystemClock
from dailies.media import ffmpeg
from dailies.model import Source
from loopback import Call, Loopback, Reply

KEY: Final = bytes(range(16))
_TYPES: Final = {".m3u8": "application/vnd.apple.mpegurl", ".ts": "video/mp2t", ".html": "text/html", ".mp4": "video/mp4"}
_DRIP_BYTES: Final = 20


class Streams(Loopback):
    """`files` by path; a playlist may be made when it is asked for. `gate` says which status a path gets instead.

    `odd` lists by path what goes wrong with its next answers: `cut`, `long`, `drip`, `page`, `noise`, or a status.
    """

    def __init__(self, files: Mapping[str, bytes | Callable[[], bytes]] | None = None) -> None:
        super().__init__()
        self.files: dict[str, bytes | Callable[[], bytes]] = dict(files or {})
        self.gate: Callable[[Call], Reply | None] = lambda _call: None
        self.odd: dict[str, list[str]] = {}
        self.hits: Counter[str] = Counter()
        self.latency_s = 0.0
        self.most_at_once = 0
        self.sends_ranges = True

    def serves(self, folder: Path, under: str = "") -> None:
        self.files |= {f"{under}/{path.name}": path.read_bytes() for path in folder.iterdir() if path.is_file()}

    def asked(self, suffix: str = ".ts") -> dict[str, int]:
        with self.lock:
            return {path: count for path, count in self.hits.items() if path.endswith(suffix)}

    def reply(self, call: Call) -> Reply:
        self.hits[call.path] += 1
        self.most_at_once = max(self.most_at_once, self.at_work)
        refusal = self.gate(call)
        if refusal is not None:
            return refusal
        found = self.files.get(call.path)
        if found is None:
            return Reply(404)
        content = found if isinstance(found, bytes) else found()
        kind = {"Content-Type": _TYPES.get(Path(call.path).suffix, "application/octet-stream")}
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", call.headers.get("range", ""))
        if span is None or not self.sends_ranges:
            return Reply(200, content, kind)
        start, end = int(span[1]), min(int(span[2]) + 1, len(content))
        return Reply(206, content[start:end], kind | {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"})

    def _answer(self, handler: BaseHTTPRequestHandler, reply: Reply, what: str) -> None:
        time.sleep(self.latency_s)
        with self.lock:
            waiting = self.odd.get(what.partition(" ")[2])
            odd = waiting.pop(0) if waiting else ""
        if odd == "page":
            reply = Reply(200, b"<!doctype html><title>Sign in</title>", {"Content-Type": "text/html"})
        elif odd == "noise":
            reply = Reply(200, b"no media" * 200, {"Content-Type": "video/mp2t"})
        elif odd.isdigit():
            reply = Reply(int(odd))
        if odd not in {"cut", "long", "drip"}:
            super()._answer(handler, reply, what)
            return
        handler.close_connection = True
        handler.send_response(reply.status)
        handler.send_header("Content-Length", str(len(reply.content) + (188 if odd == "long" else 0)))
        handler.end_headers()
        self._misbehaves(handler, reply.content, odd)

    @staticmethod
    def _misbehaves(handler: BaseHTTPRequestHandler, content: bytes, odd: str) -> None:
        if odd == "drip":
            for at in range(0, len(content), _DRIP_BYTES):
                handler.wfile.write(content[at : at + _DRIP_BYTES])
                time.sleep(0.05)
        else:
            handler.wfile.write(content[: len(content) // 2] if odd == "cut" else content)
            handler.connection.shutdown(socket.SHUT_RDWR)


def cut(clip: Path, folder: Path, *options: str, seconds: float = 0.5, muxer: str = "hls") -> Path:
    """The clip as a playlist with segments of about so many seconds, not encoded anew; returns its folder.

    The muxer `hls` counts packets through all segments, `segment` begins anew in each.
    """
    folder.mkdir(parents=True)
    argv = [ffmpeg.executable(), "-nostdin", "-v", "error", "-i", str(clip), "-c", "copy", "-f", muxer]
    if muxer == "segment":
        suffix = "aac" if "adts" in options else "ts"
        argv += ["-segment_time", str(seconds), "-break_non_keyframes", "1", "-segment_list", "index.m3u8", *options]
        argv += [f"s%03d.{suffix}"]
    else:
        argv += ["-hls_time", str(seconds), "-hls_list_size", "0", "-hls_flags", "split_by_time"]
        argv += ["-hls_segment_filename", "s%03d.ts"] if "fmp4" not in options else []
        argv += [*options, "index.m3u8"]
    subprocess.run(argv, check=True, cwd=folder)
    return folder


def whole(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.glob("*.ts")))


def without_bridges(path: Path) -> bytes:
    """A joined transport stream less the packets that were put where its counters jump."""
    content = path.read_bytes()
    packets = [content[at : at + 188] for at in range(0, len(content), 188)]
    return b"".join(one for one in packets if one[3] & 0xF0 != 0x20 or one[4:6] != b"\xb7\x80")


def packed(folder: Path, start_s: float) -> Path:
    """Its ADTS segments with the tag that says when they begin on the clock of the pictures (RFC 8216, 3.4)."""
    owner = b"com.apple.streaming.transportStreamTimestamp\0"
    for number, path in enumerate(sorted(folder.glob("*.aac"))):
        frame = owner + round((start_s + number * 0.5) * 90_000).to_bytes(8)
        tag = b"PRIV" + len(frame).to_bytes(4) + b"\0\0" + frame
        path.write_bytes(b"ID3\4\0\0" + bytes([0, 0, 0, len(tag)]) + tag + path.read_bytes())
    return folder


def locked(content: bytes, number: int | None = None, *, iv: bytes | None = None) -> bytes:
    """AES-128 as HLS has it."""
    padding = PKCS7(128).padder()
    cipher = Cipher(algorithms.AES(KEY), modes.CBC(iv or (number or 0).to_bytes(16))).encryptor()
    return cipher.update(padding.update(content) + padding.finalize()) + cipher.finalize()


def listing(*lines: str, target: int = 1, first: int = 0, ended: bool = True) -> bytes:
    head = ["#EXTM3U", "#EXT-X-VERSION:7", f"#EXT-X-TARGETDURATION:{target}", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    return "\n".join([*head, *lines, *(["#EXT-X-ENDLIST"] if ended else []), ""]).encode()


def entries(names: Sequence[str], seconds: float = 0.5) -> list[str]:
    return [line for name in names for line in (f"#EXTINF:{seconds:.3f},", name)]


def packets(path: Path, kind: str) -> list[str]:
    """The hash of each packet of the first stream of this kind (v, a), as MP4 and transport streams have in common."""
    is_apart = "aac_adtstoasc" if kind == "a" else "h264_mp4toannexb,filter_units=remove_types=6-9"
    argv = [ffmpeg.executable(), "-v", "error", "-i", str(path), "-map", f"0:{kind}:0", "-c", "copy", "-bsf", is_apart]
    done = subprocess.run([*argv, "-f", "framehash", "-hash", "CRC32", "-"], capture_output=True, check=True)
    return [line.split(",")[5].strip() for line in done.stdout.decode().splitlines() if not line.startswith("#")]


def streamhash(path: Path) -> list[str]:
    argv = [ffmpeg.executable(), "-v", "error", "-i", str(path), "-map", "0:v?", "-map", "0:a?", "-c", "copy"]
    done = subprocess.run([*argv, "-f", "streamhash", "-hash", "CRC32", "-"], capture_output=True, check=True)
    return done.stdout.decode().splitlines()


@dataclass
class Bench:
    """A work folder and a way to fetch into it."""

    folder: Path
    clock: Clock = field(default_factory=SystemClock)
    stop: threading.Event = field(default_factory=threading.Event)
    reserved: list[int] = field(default_factory=list)
    told: list[tuple[int, int | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "kept").mkdir(parents=True)
        (self.folder / "tmp").mkdir()

    @property
    def target(self) -> Path:
        return self.folder / "kept/source"

    def place(self) -> sources.Place:
        told = self.told
        return sources.Place(
            self.target, self.folder / "kept", self.folder / "tmp", self.reserved.append, lambda got, of: told.append((got, of))
        )

    def fetch(self, url: str, *, within_s: float = 3600, **settings: object) -> sources.Fetched:
        said = config.Sources.model_validate({"allow_private": True, "connections": 4, **settings})
        ground = sources.Ground.of(said, self.folder, self.clock, {})
        source = Source(kind="hls", uri=url, original_name="film", size_bytes=0, identity=links.identity(url))
        return sources.fetcher(source, ground).fetch(source, self.place(), Deadline.after(self.clock, within_s, self.stop))
