"""Playlists over a real loopback server: what is fetched is what stood there, whatever the server does."""

import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dailies import config, sources
from dailies.clock import Deadline, SystemClock
from dailies.errors import (
    Category,
    DailiesError,
    Denied,
    Interrupted,
    OutOfTime,
    Postponed,
    SourceGone,
    Transient,
    VideoError,
    Waiting,
)
from dailies.media import render
from dailies.media.children import Children
from dailies.media.probe import Probe, probe
from dailies.sources.hls.segments import Segments
from dailies.sources.turned import Turned
from hls import KEY, Bench, Streams, cut, entries, listing, locked, packed, packets, streamhash, whole, without_bridges
from loopback import Call, Reply
from support import ROOT, ClipMaker, FakeClock, variables


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory, make_clip: ClipMaker) -> Path:
    """A folder with eight segments and their playlist."""
    clip = make_clip("film.mp4", seconds=4, options=("-g", "12", "-bf", "0"))
    return cut(clip, tmp_path_factory.mktemp("film") / "cut")


@pytest.fixture
def server(film: Path) -> Iterator[Streams]:
    with Streams() as found:
        found.serves(film)
        yield found


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "work")


@pytest.fixture
def hurried(tmp_path: Path, clock: FakeClock) -> Bench:
    """Waits pass at once."""
    return Bench(tmp_path / "work", clock)


def converted(path: Path, folder: Path) -> tuple[Probe, list[str]]:
    """As the pipeline does it."""
    deadline = Deadline.after(SystemClock(), 60)
    with Children(folder) as children:
        rules = render.Rules(folder, 1, children)
        found = probe("film", path, deadline, children=children)
        assert render.check_source("film", found, rules) == []
        warnings = render.convert("film", path, folder / "film.mp4", found, rules, deadline)
        return probe("film", folder / "film.mp4", deadline, children=children), warnings


# What is fetched


@pytest.mark.media
@pytest.mark.parametrize("name", ["hls_bbb_480p60", "hls_bbb_trailer_aes128"])
def test_a_real_playlist_arrives_packet_by_packet(name: str, real_media: Path, bench: Bench, tmp_path: Path) -> None:
    with Streams() as server:
        server.serves(real_media / name)
        bench.fetch(f"{server.url}/index.m3u8")

    opened = [_opened(path, real_media / name / "enc.key") for path in sorted((real_media / name).glob("*.ts"))]
    (tmp_path / "whole.ts").write_bytes(b"".join(opened))
    assert bench.target.read_bytes() == b"".join(opened)
    assert streamhash(bench.target) == streamhash(tmp_path / "whole.ts")


def _opened(path: Path, key: Path) -> bytes:
    if not key.exists():
        return path.read_bytes()
    number = int(path.stem.removeprefix("seg"))
    said = ["openssl", "enc", "-d", "-aes-128-cbc", "-K", key.read_bytes().hex(), "-iv", f"{number:032x}", "-in", str(path)]
    return subprocess.run(said, capture_output=True, check=True).stdout


def test_segments_are_the_target_as_they_are(server: Streams, bench: Bench, film: Path) -> None:
    fetched = bench.fetch(f"{server.url}/index.m3u8")

    assert bench.target.read_bytes() == whole(film)
    assert (fetched.source.size_bytes, fetched.warnings) == (len(whole(film)), ())
    assert set(server.asked().values()) == {1}
    assert sum(bench.reserved[-1:]) >= len(whole(film))


def test_what_was_finished_is_not_fetched_again(server: Streams, bench: Bench, film: Path) -> None:
    first = bench.fetch(f"{server.url}/index.m3u8")
    server.hits.clear()

    assert bench.fetch(f"{server.url}/index.m3u8") == first
    assert not server.hits


def test_a_finished_file_that_was_damaged_is_fetched_again(server: Streams, bench: Bench, film: Path) -> None:
    bench.fetch(f"{server.url}/index.m3u8")
    _flip(bench.target)

    bench.fetch(f"{server.url}/index.m3u8")

    assert bench.target.read_bytes() == whole(film)


def _flip(path: Path, at: int = 1000) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("height", [0, 480, 100])
def test_the_best_variant_under_the_height_is_taken(height: int, server: Streams, bench: Bench) -> None:
    variants = {"low": (300, 240), "middle": (800, 480), "high": (3000, 1080)}
    lines = ['#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="s",NAME="x",URI="words.m3u8"']
    for name, (rate, lines_high) in variants.items():
        lines += [f'#EXT-X-STREAM-INF:BANDWIDTH={rate},RESOLUTION=10x{lines_high},SUBTITLES="s"', f"{name}/index.m3u8"]
        server.files |= {f"/{name}{path}": content for path, content in list(server.files.items()) if path.count("/") == 1}
    server.files["/master.m3u8"] = "\n".join(["#EXTM3U", *lines]).encode()

    fetched = bench.fetch(f"{server.url}/master.m3u8", max_height=height)

    wanted = {0: "high", 480: "middle", 100: "low"}[height]
    assert {path.split("/")[1] for path in server.asked()} == {wanted}
    assert fetched.warnings == ()


_RATES = {"low": 300, "high": 900}


def _variants(server: Streams, film: Path) -> None:
    """/master.m3u8 with two of the same lengths: `high` is the film from its end, `low` as it is."""
    names = sorted(path.name for path in film.glob("*.ts"))
    for under, order in {"low": names, "high": names[::-1]}.items():
        server.files |= {f"/{under}/{name}": (film / other).read_bytes() for name, other in zip(names, order, strict=True)}
        server.files[f"/{under}/index.m3u8"] = listing(*entries(names))
    lines = [f"#EXT-X-STREAM-INF:BANDWIDTH={rate},RESOLUTION=10x{rate}\n{name}/index.m3u8" for name, rate in _RATES.items()]
    server.files["/master.m3u8"] = "\n".join(["#EXTM3U", *lines]).encode()


def test_variants_of_the_same_lengths_are_never_mixed(server: Streams, hurried: Bench, film: Path) -> None:
    _variants(server, film)
    server.odd = {"/high/s003.ts": ["500"] * 20}
    with pytest.raises(Transient):
        hurried.fetch(f"{server.url}/master.m3u8")

    hurried.fetch(f"{server.url}/master.m3u8", max_height=300)

    assert hurried.target.read_bytes() == whole(film)


def test_the_variant_that_was_begun_is_gone_on_with(server: Streams, hurried: Bench, film: Path) -> None:
    _variants(server, film)
    server.odd = {"/low/s003.ts": ["500"] * 20}
    better, both = b"#EXT-X-STREAM-INF:BANDWIDTH=900", server.files["/master.m3u8"]
    assert isinstance(both, bytes)
    server.files["/master.m3u8"] = both[: both.index(better)]
    with pytest.raises(Transient):
        hurried.fetch(f"{server.url}/master.m3u8")
    server.odd, server.files["/master.m3u8"] = {}, both

    hurried.fetch(f"{server.url}/master.m3u8")

    assert not any("/high/" in path for path in server.asked())


@pytest.mark.parametrize("kind", ["stream", "packed"])
def test_sound_that_is_kept_apart_is_joined_with_the_pictures(
    kind: str, server: Streams, bench: Bench, make_clip: ClipMaker, tmp_path: Path
) -> None:
    clip = make_clip("both.mp4", seconds=3, options=("-g", "12", "-bf", "0"))
    pictures = cut(clip, tmp_path / "v", "-an")
    if kind == "packed":
        began_s = probed(pictures / "s000.ts", tmp_path).streams[0].start_s or 0.0
        sound = packed(cut(clip, tmp_path / "a", "-vn", "-segment_format", "adts", muxer="segment"), began_s + 0.5)
    else:
        sound = cut(clip, tmp_path / "a", "-vn", "-output_ts_offset", "0.5")
    server.serves(pictures, "/v")
    server.serves(sound, "/a")
    server.files["/master.m3u8"] = (
        b'#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="g",NAME="en",DEFAULT=YES,URI="a/index.m3u8"\n'
        b'#EXT-X-STREAM-INF:BANDWIDTH=9,AUDIO="g"\nv/index.m3u8\n'
    )

    bench.fetch(f"{server.url}/master.m3u8")

    seen, heard = probed(bench.target, tmp_path).streams
    assert (packets(bench.target, "v"), packets(bench.target, "a")) == (packets(clip, "v"), packets(clip, "a"))
    assert (heard.start_s or 0.0) - (seen.start_s or 0.0) == pytest.approx(0.5, abs=0.06), "as far apart as they were"
    assert converted(bench.target, tmp_path)[1] == []


def probed(path: Path, folder: Path) -> Probe:
    with Children(folder) as children:
        return probe("film", path, Deadline.after(SystemClock(), 60), children=children)


@pytest.mark.parametrize("is_locked", [False, True])
def test_fragments_of_mp4_follow_their_init(
    is_locked: bool, server: Streams, bench: Bench, make_clip: ClipMaker, tmp_path: Path
) -> None:
    clip = make_clip("film.mp4", seconds=4, options=("-g", "12", "-bf", "0"))
    folder = cut(clip, tmp_path / "f", "-hls_segment_type", "fmp4")
    server.serves(folder, "/f")
    if is_locked:
        _lock(server, "/f", ".m4s", "init.mp4")

    bench.fetch(f"{server.url}/f/index.m3u8")

    parts = [folder / "init.mp4", *sorted(folder.glob("*.m4s"), key=lambda path: int(re.sub(r"\D", "", path.stem)))]
    assert bench.target.read_bytes() == b"".join(path.read_bytes() for path in parts)
    assert packets(bench.target, "v") == packets(clip, "v")
    assert converted(bench.target, tmp_path)[1] == []


def _lock(server: Streams, under: str, suffix: str, init: str = "") -> None:
    """Encrypt all of it by the implicit vector, and tell so in the playlist; an init has one of its own."""
    content = server.files[f"{under}/index.m3u8"]
    assert isinstance(content, bytes)
    names = [line for line in content.decode().splitlines() if line.endswith(suffix) and not line.startswith("#")]
    for number, name in enumerate(names):
        plain = server.files[f"{under}/{name}"]
        assert isinstance(plain, bytes)
        server.files[f"{under}/{name}"] = locked(plain, number)
    if init:
        plain = server.files[f"{under}/{init}"]
        assert isinstance(plain, bytes)
        server.files[f"{under}/{init}"] = locked(plain, iv=b"\7" * 16)
        told = f'#EXT-X-KEY:METHOD=AES-128,URI="/key",IV=0x{"07" * 16}\n#EXT-X-MAP'
        content = content.replace(b"#EXT-X-MAP", told.encode(), 1)
    content = content.replace(b"#EXTINF", b'#EXT-X-KEY:METHOD=AES-128,URI="/key"\n#EXTINF', 1)
    server.files |= {f"{under}/index.m3u8": content, "/key": KEY}


@pytest.mark.parametrize("vector", ["implicit", "explicit"])
def test_what_is_encrypted_by_a_plain_key_is_opened(vector: str, server: Streams, bench: Bench, film: Path) -> None:
    iv = bytes(range(100, 116)) if vector == "explicit" else None
    names = sorted(path.name for path in film.glob("*.ts"))
    told = f",IV=0x{iv.hex()}" if iv else ""
    server.files |= {f"/{name}": locked((film / name).read_bytes(), 7 + number, iv=iv) for number, name in enumerate(names)}
    server.files |= {"/key": KEY, "/l.m3u8": listing(f'#EXT-X-KEY:METHOD=AES-128,URI="key"{told}', *entries(names), first=7)}

    bench.fetch(f"{server.url}/l.m3u8")

    assert bench.target.read_bytes() == whole(film)
    assert server.hits["/key"] == 1


def test_a_wrong_key_is_no_success(server: Streams, hurried: Bench, film: Path) -> None:
    server.files |= {"/key": KEY[::-1], "/s000.ts": locked((film / "s000.ts").read_bytes(), 0)}
    server.files["/l.m3u8"] = listing('#EXT-X-KEY:METHOD=AES-128,URI="key"', *entries(["s000.ts"]))

    with pytest.raises(Transient, match="1 segments do not come: it does not open with its key"):
        hurried.fetch(f"{server.url}/l.m3u8")


def test_parts_of_one_file_are_put_together(server: Streams, bench: Bench, film: Path) -> None:
    pieces = [path.read_bytes() for path in sorted(film.glob("*.ts"))]
    server.files["/all.ts"] = b"no media" * 7 + b"".join(pieces)
    spans = [f"#EXT-X-BYTERANGE:{len(piece)}{'' if number else '@56'}" for number, piece in enumerate(pieces)]
    server.files["/l.m3u8"] = listing(*(line for span in spans for line in (span, "#EXTINF:0.5,", "all.ts")))

    bench.fetch(f"{server.url}/l.m3u8")

    assert bench.target.read_bytes() == whole(film)


def test_a_server_that_sends_all_in_place_of_a_part_is_no_success(server: Streams, hurried: Bench) -> None:
    server.sends_ranges = False
    server.files["/l.m3u8"] = listing("#EXT-X-BYTERANGE:376@0", *entries(["s000.ts"]))

    with pytest.raises(Transient, match="its server does not send parts of files"):
        hurried.fetch(f"{server.url}/l.m3u8")


@pytest.fixture(scope="session")
def second(tmp_path_factory: pytest.TempPathFactory, make_clip: ClipMaker) -> Path:
    clip = make_clip("second.mp4", seconds=2, hertz=880, options=("-g", "12", "-bf", "0"))
    return cut(clip, tmp_path_factory.mktemp("second") / "cut")


def test_stretches_between_discontinuities_become_one_film(
    server: Streams, bench: Bench, film: Path, second: Path, tmp_path: Path
) -> None:
    server.serves(second, "/second")
    names = sorted(path.name for path in film.glob("*.ts"))
    others = [f"second/{path.name}" for path in sorted(second.glob("*.ts"))]
    server.files["/l.m3u8"] = listing(*entries(names), "#EXT-X-DISCONTINUITY", *entries(others))

    bench.fetch(f"{server.url}/l.m3u8")

    made, warnings = converted(bench.target, tmp_path)
    for folder in (film, second):
        (tmp_path / f"{folder.parent.name}.ts").write_bytes(whole(folder))
    originals = [tmp_path / f"{folder.parent.name}.ts" for folder in (film, second)]
    for kind in ("v", "a"):
        assert packets(bench.target, kind) == [one for path in originals for one in packets(path, kind)]
    assert made.duration_s() == pytest.approx(6.0, abs=0.15)
    assert warnings == []


def test_counters_that_begin_anew_in_each_segment_are_no_damage(server: Streams, bench: Bench, clip: Path, tmp_path: Path) -> None:
    folder = cut(clip, tmp_path / "anew", muxer="segment")
    server.serves(folder, "/anew")

    bench.fetch(f"{server.url}/anew/index.m3u8")

    assert without_bridges(bench.target) == whole(folder) != bench.target.read_bytes()
    assert converted(bench.target, tmp_path)[1] == []
    (tmp_path / "whole.ts").write_bytes(whole(folder))
    assert streamhash(bench.target) == streamhash(tmp_path / "whole.ts")


def test_gaps_are_left_out_with_one_warning(server: Streams, bench: Bench, film: Path) -> None:
    names = sorted(path.name for path in film.glob("*.ts"))
    lines = entries(names)
    lines[lines.index("s003.ts") : lines.index("s003.ts")] = ["#EXT-X-GAP"]
    lines[lines.index("s004.ts") : lines.index("s004.ts")] = ["#EXT-X-GAP"]
    server.files["/l.m3u8"] = listing(*lines)

    fetched = bench.fetch(f"{server.url}/l.m3u8")

    assert fetched.warnings == ("2 segments left out: the playlist has gaps there",)
    assert without_bridges(bench.target) == b"".join(
        (film / name).read_bytes() for name in names if name not in {"s003.ts", "s004.ts"}
    )
    assert not {"/s003.ts", "/s004.ts"} & server.asked().keys()


def test_no_more_connections_are_open_than_the_settings_say(server: Streams, bench: Bench) -> None:
    server.latency_s = 0.02

    bench.fetch(f"{server.url}/index.m3u8", connections=3)

    assert server.most_at_once == 3


# What goes wrong


def test_what_is_under_way_counts_and_does_not_stay(server: Streams, hurried: Bench, film: Path) -> None:
    size_bytes = (film / "s000.ts").stat().st_size
    server.files = {f"/{number}.ts": (film / "s000.ts").read_bytes() for number in range(4)}
    server.files["/l.m3u8"] = listing(*entries([f"{number}.ts" for number in range(4)]))
    server.odd = {f"/{number}.ts": ["cut"] for number in range(4)}
    server.gate = lambda call: Reply(500) if sum(server.asked().values()) > 4 and call.path.endswith(".ts") else None

    with pytest.raises(Transient):
        hurried.fetch(f"{server.url}/l.m3u8", max_size=size_bytes * 4)

    assert not list(hurried.folder.rglob("*.part"))


def test_segments_under_way_are_part_of_the_size(tmp_path: Path) -> None:
    ground = sources.Ground.of(config.Sources(allow_private=True, max_size=10_000), tmp_path, SystemClock(), {})
    segments = Segments("film", ground)
    segments.here_bytes = 4_000

    with segments._counted() as one, segments._counted() as other:
        one(3_000)
        with pytest.raises(VideoError, match="raise \\[sources\\] max_size"):
            other(3_001)

    assert segments.coming_bytes == 0


def test_a_full_disk_is_no_fault_of_the_video(server: Streams, hurried: Bench) -> None:
    """The very device that has no room stands in the place of the joined file."""

    def gate(call: Call) -> None:
        joined = hurried.folder / "kept/joined/main.0"
        if call.path == "/s000.ts" and not joined.is_symlink():
            joined.symlink_to("/dev/full")

    server.gate = gate
    server.files |= {"/s000.ts": b"\x47".ljust(188, b"\0") * 9, "/l.m3u8": listing(*entries(["s000.ts"]))}

    with pytest.raises(Waiting, match="its disk is full"):
        hurried.fetch(f"{server.url}/l.m3u8")


def test_bytes_are_on_disk_before_they_have_their_name(server: Streams, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[int] = set()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    bench.fetch(f"{server.url}/index.m3u8")

    assert bench.target.stat().st_ino in synced


def test_progress_never_says_that_less_will_come_than_has(server: Streams, hurried: Bench) -> None:
    server.odd = {"/s001.ts": ["500"] * 3}
    server.files["/s000.ts"] = b"\x47".ljust(188, b"\0")

    hurried.fetch(f"{server.url}/index.m3u8")

    assert all(of is None or got <= of for got, of in hurried.told)
    assert len(hurried.told) > 1


@pytest.mark.parametrize("odd", ["cut", "long", "page", "noise", "500", "503"])
def test_a_segment_that_goes_wrong_is_asked_for_again(odd: str, server: Streams, hurried: Bench, film: Path) -> None:
    server.odd = {"/s002.ts": [odd, odd], "/s005.ts": [odd]}

    hurried.fetch(f"{server.url}/index.m3u8")

    assert hurried.target.read_bytes() == whole(film)
    assert (server.hits["/s002.ts"], server.hits["/s005.ts"], server.hits["/s001.ts"]) == (3, 2, 1)


def test_a_drip_is_cut_and_tried_again(server: Streams, bench: Bench, film: Path) -> None:
    server.odd = {"/s002.ts": ["drip"]}

    bench.fetch(f"{server.url}/index.m3u8", stall=1)

    assert bench.target.read_bytes() == whole(film)
    assert server.hits["/s002.ts"] == 2


def test_errors_here_and_there_leave_no_trace(server: Streams, hurried: Bench, film: Path) -> None:
    draw, names = random.Random(3), sorted(path.name for path in film.glob("*.ts"))
    odd = {name: [draw.choice(["cut", "long", "500", "page"])] * draw.choice([0, 0, 1, 2]) for name in names}
    server.odd = {f"/{name}": list(said) for name, said in odd.items()}

    hurried.fetch(f"{server.url}/index.m3u8")

    assert hurried.target.read_bytes() == whole(film)
    assert server.asked() == {f"/{name}": 1 + len(said) for name, said in odd.items()}


def _expiring(server: Streams, film: Path, after: int) -> None:
    """Segments of the old link are refused once so many have gone out; /fresh names a new one."""
    long = [f"s{number:03d}.ts" for number in range(40)]
    server.files |= {
        f"/{token}/{name}": (film / f"s{int(name[1:4]) % 8:03d}.ts").read_bytes() for token in ("old", "new") for name in long
    }
    server.files |= {f"/{token}/index.m3u8": listing(*entries(long)) for token in ("old", "new")}
    server.files["/fresh"] = f"{server.url}/new/index.m3u8".encode()

    def gate(call: Call) -> Reply | None:
        is_late = sum(server.asked().values()) > after
        return Reply(403, b"expired") if call.path.startswith("/old/s") and is_late else None

    server.gate = gate


def test_links_that_expire_are_made_fresh_and_nothing_is_fetched_twice(server: Streams, hurried: Bench, film: Path) -> None:
    _expiring(server, film, after=13)

    hurried.fetch(f"{server.url}/old/index.m3u8", sites={"127.0.0.1": {"refresh_url": f"{server.url}/fresh"}})

    wanted = [(film / f"s{number % 8:03d}.ts").read_bytes() for number in range(40)]
    assert without_bridges(hurried.target) == b"".join(wanted)
    assert (server.hits["/fresh"], sum("/new/s" in path for path in server.asked())) == (1, 40 - 13)
    assert sum(hurried.clock.slept) == pytest.approx(10.0, abs=0.5)  # type: ignore[attr-defined]  # of a FakeClock


def test_links_that_never_work_are_given_up_early(server: Streams, hurried: Bench, film: Path) -> None:
    _expiring(server, film, after=0)

    with pytest.raises(Transient, match=r"film: 40 segments do not come: 127.0.0.1: HTTP 403; they are tried again later"):
        hurried.fetch(f"{server.url}/old/index.m3u8")

    assert server.hits["/old/index.m3u8"] == 3
    assert sum(server.asked().values()) <= 3 * (8 + 4), "a window, and what was at work besides"


def test_a_few_segments_that_never_come_are_an_error_that_keeps_the_others(server: Streams, hurried: Bench) -> None:
    del server.files["/s006.ts"]

    with pytest.raises(Transient, match=r"1 segments do not come: 127\.0\.0\.1: HTTP 404"):
        hurried.fetch(f"{server.url}/index.m3u8")

    wanted = {f"/s{number:03d}.ts": 4 if number == 6 else 1 for number in range(8)}
    assert server.asked() == wanted, "the attempt that brought the others is not counted"


def test_a_playlist_that_is_another_by_then_is_begun_anew(server: Streams, hurried: Bench, film: Path) -> None:
    _expiring(server, film, after=13)
    names = [f"s{number:03d}.ts" for number in range(5)]
    server.files["/new/index.m3u8"] = listing(*entries(names))

    hurried.fetch(f"{server.url}/old/index.m3u8", sites={"127.0.0.1": {"refresh_url": f"{server.url}/fresh"}})

    assert hurried.target.read_bytes() == b"".join((film / name).read_bytes() for name in names)


def test_a_server_that_asks_for_a_moment_gets_it(server: Streams, hurried: Bench, film: Path) -> None:
    refusals = iter([Reply(429, b"", {"Retry-After": "7"})])
    server.gate = lambda call: next(refusals, None) if call.path == "/s001.ts" else None

    hurried.fetch(f"{server.url}/index.m3u8")

    assert hurried.target.read_bytes() == whole(film)
    assert sum(hurried.clock.slept) == pytest.approx(7.0, abs=0.5)  # type: ignore[attr-defined]  # of a FakeClock


def test_a_server_that_asks_for_an_hour_postpones_the_video(server: Streams, hurried: Bench) -> None:
    server.gate = lambda call: Reply(503, b"", {"Retry-After": "3600"}) if call.path.endswith(".ts") else None

    with pytest.raises(Postponed, match="wants to be asked later"):
        hurried.fetch(f"{server.url}/index.m3u8")


@pytest.mark.parametrize(("status", "error"), [(404, SourceGone), (410, SourceGone), (403, Denied), (500, Transient)])
def test_a_playlist_that_is_refused_says_what_comes_next(
    status: int, error: type[DailiesError], server: Streams, hurried: Bench
) -> None:
    server.gate = lambda _call: Reply(status)

    with pytest.raises(error, match=r"film: .*127\.0\.0\.1.*"):
        hurried.fetch(f"{server.url}/index.m3u8?token=abcdefgh")

    assert server.hits["/index.m3u8"] == {404: 1, 410: 1, 403: 2, 500: 3}[status]


def test_media_in_the_place_of_a_playlist_turns_to_the_other_source(server: Streams, bench: Bench) -> None:
    with pytest.raises(Turned) as turned:
        bench.fetch(f"{server.url}/s000.ts")

    assert turned.value.kind == "http"


_SEGMENT = "#EXTINF:0.5,\ns000.ts"
_REFUSED = {
    "a page": (b"<!doctype html><p>Sign in", "is a page"),
    "a text": (b"s000.ts\n", "does not begin with #EXTM3U"),
    "sample encryption": (
        listing('#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://x"', _SEGMENT),
        r"is protected \(SAMPLE-AES\); only what is",
    ),
    "fairplay": (
        listing('#EXT-X-KEY:METHOD=AES-128,URI="x",KEYFORMAT="com.apple.streamingkeydelivery"', _SEGMENT),
        r"is protected \(FairPlay\)",
    ),
    "widevine": (
        b'#EXTM3U\n#EXT-X-SESSION-KEY:METHOD=SAMPLE-AES-CTR,URI="x",KEYFORMAT="urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed"\n'
        b"#EXT-X-STREAM-INF:BANDWIDTH=1\nindex.m3u8\n",
        r"is protected \(Widevine\)",
    ),
    "a local file": (listing(*entries(["file:///etc/passwd"])), "names file: as a source; only https and http"),
    "another protocol": (listing(*entries(["ftp://media.example.org/a.ts"])), "names ftp: as a source"),
    "data": (listing(*entries(["data:video/mp2t;base64,AAAA"])), "names data: as a source"),
    "a pipe": (listing(*entries(["pipe:0"])), "names pipe: as a source"),
    "a concat script": (listing(*entries(["concat:a.ts|b.ts"])), "names concat: as a source"),
    "a local key": (listing('#EXT-X-KEY:METHOD=AES-128,URI="file:///etc/passwd"', _SEGMENT), "names file: as a source"),
    "nesting": (b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nbad.m3u8\n", "has variants of its own"),
    "too long": (listing(*entries(["s000.ts"], seconds=50_000)), "lasts 13.9 h, longer than 12.0 h; raise"),
    "too many": (listing(*entries(["s000.ts"] * 60)), "has more than 50 segments; raise"),
    "too large": (listing("#" + "x" * 16_000_000, _SEGMENT), "the playlist has more than 16 MB"),
    "nonsense": (b"#EXTM3U\n#EXTINF:abc,\ns000.ts\n", "the playlist cannot be read"),
    "nothing": (listing(), "names no segments"),
}


@pytest.mark.parametrize("what", _REFUSED)
def test_what_is_not_fetched_says_why_in_one_line(what: str, server: Streams, bench: Bench) -> None:
    content, why = _REFUSED[what]
    server.files["/bad.m3u8"] = content

    with pytest.raises(VideoError, match=rf"film: .*{why}") as refused:
        bench.fetch(f"{server.url}/bad.m3u8?token=geheim", max_segments=50)

    assert "\n" not in str(refused.value)
    assert "geheim" not in str(refused.value)
    assert refused.value.category in {Category.UNSUPPORTED, Category.EMPTY}
    assert not server.asked()


def test_more_bytes_than_the_settings_allow_are_refused(server: Streams, bench: Bench) -> None:
    with pytest.raises(VideoError, match=r"raise \[sources\] max_size"):
        bench.fetch(f"{server.url}/index.m3u8", max_size=20_000)


def test_private_addresses_are_not_asked(server: Streams, bench: Bench) -> None:
    with pytest.raises(VideoError, match="leads to this machine or its network"):
        bench.fetch(f"{server.url}/index.m3u8", allow_private=False)


# Going on


def _stopped_after(server: Streams, bench: Bench, count: int) -> None:
    """Fetch until so many segments have gone out, then stop as a signal would."""

    def gate(_call: Call) -> Reply | None:
        if sum(server.asked().values()) > count:
            bench.stop.set()
        return None

    server.gate = gate
    with pytest.raises(Interrupted):
        bench.fetch(f"{server.url}/index.m3u8", connections=2)
    server.gate = lambda _call: None
    bench.stop.clear()


def test_what_is_complete_is_gone_on_with(server: Streams, bench: Bench, film: Path) -> None:
    _stopped_after(server, bench, 4)

    bench.fetch(f"{server.url}/index.m3u8", connections=2)

    assert bench.target.read_bytes() == whole(film)
    assert sum(server.asked().values()) <= 8 + 2 + 1, "but for what was under way"


@pytest.mark.parametrize("where", ["joined/main.0", "joined/main.journal", "segments/*"])
def test_what_a_power_cut_damaged_is_fetched_again(where: str, server: Streams, bench: Bench, film: Path) -> None:
    server.odd = {"/s001.ts": ["500"] * 9}
    _stopped_after(server, bench, 4)
    server.odd = {}
    for path in (bench.folder / "kept").glob(where):
        if path.stat().st_size:
            _flip(path, at=path.stat().st_size // 2)

    bench.fetch(f"{server.url}/index.m3u8")

    assert bench.target.read_bytes() == whole(film)


def test_behind_a_gap_it_comes_to_the_same_bytes(server: Streams, hurried: Bench, make_clip: ClipMaker, tmp_path: Path) -> None:
    clip = make_clip("film.mp4", seconds=4, options=("-g", "12", "-bf", "0"))
    folder = cut(clip, tmp_path / "anew", muxer="segment")
    names = sorted(path.name for path in folder.glob("*.ts"))
    server.serves(folder)
    server.files["/l.m3u8"] = listing(*entries(names[:1]), "#EXT-X-GAP", *entries(names[1:]))
    server.odd = {f"/{names[2]}": ["500"] * 20}
    with pytest.raises(Transient):
        hurried.fetch(f"{server.url}/l.m3u8")
    server.odd = {}

    hurried.fetch(f"{server.url}/l.m3u8")

    at_once = Bench(tmp_path / "at_once")
    at_once.fetch(f"{server.url}/l.m3u8")
    assert hurried.target.read_bytes() == at_once.target.read_bytes()


def test_a_stop_is_seen_while_a_server_says_nothing(server: Streams, bench: Bench) -> None:
    server.latency_s = 2.0
    timer = threading.Timer(0.3, bench.stop.set)
    timer.start()
    began = SystemClock().monotonic()

    with pytest.raises(Interrupted):
        bench.fetch(f"{server.url}/index.m3u8")

    assert SystemClock().monotonic() - began < 1.0


_CHILD = """
import sys
from pathlib import Path
from hls import Bench
bench = object.__new__(Bench)
from dailies.clock import SystemClock
import threading
bench.folder, bench.clock, bench.stop, bench.reserved, bench.told = Path(sys.argv[2]), SystemClock(), threading.Event(), [], []
print("begun", flush=True)
bench.fetch(sys.argv[1])
"""


def test_killed_at_random_moments_it_comes_to_the_same_bytes(server: Streams, bench: Bench, film: Path) -> None:
    names = [f"s{number:03d}.ts" for number in range(60)]
    server.files |= {f"/{name}": (film / f"s{number % 8:03d}.ts").read_bytes() for number, name in enumerate(names)}
    server.files["/l.m3u8"] = listing(*entries(names))
    server.latency_s, draw, kills = 0.03, random.Random(5), 0
    environment = variables(PYTHONPATH=f"{ROOT / 'scripts'}:{ROOT / 'tests'}")
    argv = [sys.executable, "-c", _CHILD, f"{server.url}/l.m3u8", str(bench.folder)]
    while True:
        with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            try:
                child.wait(draw.uniform(0.05, 0.25) if kills < 3 else 60)
            except subprocess.TimeoutExpired:
                kills += 1
                child.send_signal(signal.SIGKILL)
                continue
        break

    assert (child.returncode, kills) == (0, 3)
    assert without_bridges(bench.target) == b"".join(server.files[f"/{name}"] for name in names)  # type: ignore[misc]  # all are bytes
    assert sum(server.asked().values()) <= len(names) + kills * 4


# Live


class Channel:
    """A playlist that shows `window` segments and goes on by one each time it is asked, until its end."""

    def __init__(self, server: Streams, film: Path, *, window: int, length: int, step: int = 1, name: str = "live") -> None:
        self.window, self.length, self.step, self.shown = window, length, step, window
        self.first = 0
        self.polls: Callable[[], int] = lambda: server.hits[f"/{name}.m3u8"]
        self.names = [f"{name}{number:03d}.ts" for number in range(length)]
        server.files |= {f"/{name}": (film / f"s{number % 8:03d}.ts").read_bytes() for number, name in enumerate(self.names)}
        server.files[f"/{name}.m3u8"] = self.listing
        self.ends = True

    def listing(self) -> bytes:
        last = min(self.shown, self.length)
        first = max(0, last - self.window)
        self.shown += self.step
        is_over = self.ends and self.shown > self.length + self.step
        return listing(*entries(self.names[first:last]), first=self.first + first, ended=is_over)

    def bytes(self, film: Path, numbers: range) -> bytes:
        return b"".join((film / f"s{number % 8:03d}.ts").read_bytes() for number in numbers)


def test_a_live_playlist_is_recorded_until_it_ends(server: Streams, hurried: Bench, film: Path) -> None:
    channel = Channel(server, film, window=3, length=20)

    fetched = hurried.fetch(f"{server.url}/live.m3u8")

    assert without_bridges(hurried.target) == channel.bytes(film, range(20))
    assert fetched.warnings == ()
    assert sum(hurried.clock.slept) == pytest.approx(17 * 1.0, abs=2.0), "a target duration each"  # type: ignore[attr-defined]


@pytest.mark.parametrize("window", [3, 30])
def test_an_endless_playlist_is_recorded_for_as_long_as_the_settings_say(
    window: int, server: Streams, hurried: Bench, film: Path
) -> None:
    channel = Channel(server, film, window=window, length=500)

    fetched = hurried.fetch(f"{server.url}/live.m3u8", max_duration=6)

    assert without_bridges(hurried.target) == channel.bytes(film, range(12))
    assert len(fetched.warnings) == 1


def test_a_live_playlist_that_stands_still_has_ended(server: Streams, hurried: Bench, film: Path) -> None:
    channel = Channel(server, film, window=3, length=9)
    channel.ends = False

    fetched = hurried.fetch(f"{server.url}/live.m3u8")

    assert without_bridges(hurried.target) == channel.bytes(film, range(9))
    assert fetched.warnings == ("its playlist ended without saying so",)
    assert 60 <= sum(hurried.clock.slept) < 75  # type: ignore[attr-defined]  # of a FakeClock


def test_segments_that_went_before_they_were_fetched_are_told(server: Streams, hurried: Bench, film: Path, tmp_path: Path) -> None:
    Channel(server, film, window=2, length=20, step=5)

    fetched = hurried.fetch(f"{server.url}/live.m3u8")

    assert fetched.warnings == ("10 segments lost: they did not come, or had gone from the playlist before they were fetched",)
    assert probed(hurried.target, tmp_path).duration_s() == pytest.approx(4.8, abs=0.4)


def test_a_recording_is_gone_on_with_in_the_next_run(server: Streams, hurried: Bench, film: Path) -> None:
    channel = Channel(server, film, window=4, length=20)
    with pytest.raises(OutOfTime):
        hurried.fetch(f"{server.url}/live.m3u8", within_s=5)
    assert not hurried.target.exists()

    fetched = hurried.fetch(f"{server.url}/live.m3u8")

    assert without_bridges(hurried.target) == channel.bytes(film, range(20))
    assert fetched.warnings == ()
    assert set(server.asked().values()) == {1}


def test_a_recording_whose_playlist_has_gone_is_kept(server: Streams, hurried: Bench, film: Path) -> None:
    channel = Channel(server, film, window=4, length=500)
    with pytest.raises(OutOfTime):
        hurried.fetch(f"{server.url}/live.m3u8", within_s=5)
    del server.files["/live.m3u8"]

    fetched = hurried.fetch(f"{server.url}/live.m3u8")

    count = sum("live" in path for path in server.asked())
    assert without_bridges(hurried.target) == channel.bytes(film, range(count))
    assert fetched.warnings == ("its playlist has gone: what was recorded before is kept",)


LOST = "1 segments lost: they did not come, or had gone from the playlist before they were fetched"


def _while(server: Streams, channel: Channel, answer: Reply, *, first: int, last: int = 10**9) -> None:
    """The playlist is this instead, once so many segments were shown."""
    server.gate = lambda call: answer if call.path == "/live.m3u8" and first <= channel.polls() <= last else None


@pytest.mark.parametrize("answer", [Reply(200), Reply(200, b"<html>", {"Content-Type": "text/html"}), Reply(403), Reply(404)])
def test_a_playlist_that_is_none_for_a_moment_is_no_end(answer: Reply, server: Streams, hurried: Bench, film: Path) -> None:
    channel = Channel(server, film, window=6, length=20)
    _while(server, channel, answer, first=5, last=7)

    hurried.fetch(f"{server.url}/live.m3u8")

    assert without_bridges(hurried.target) == channel.bytes(film, range(20))


@pytest.mark.parametrize("answer", [Reply(200), Reply(200, b"<html>", {"Content-Type": "text/html"}), Reply(403), Reply(404)])
def test_a_playlist_that_is_none_any_more_has_ended(answer: Reply, server: Streams, hurried: Bench, film: Path) -> None:
    channel = Channel(server, film, window=4, length=500)
    _while(server, channel, answer, first=5)

    fetched = hurried.fetch(f"{server.url}/live.m3u8")

    assert without_bridges(hurried.target) == channel.bytes(film, range(7))
    assert fetched.warnings == ("its playlist ended without saying so",)


def test_a_stream_whose_playlist_and_segments_both_go_has_ended(server: Streams, hurried: Bench, film: Path) -> None:
    channel = Channel(server, film, window=4, length=500)
    server.gate = lambda call: Reply(404) if channel.polls() >= 5 or call.path == "/live006.ts" else None

    fetched = hurried.fetch(f"{server.url}/live.m3u8")

    assert without_bridges(hurried.target) == channel.bytes(film, range(6))
    assert fetched.warnings == ("its playlist ended without saying so", LOST)


def test_segments_that_come_no_more_end_a_recording(server: Streams, hurried: Bench, film: Path) -> None:
    channel = Channel(server, film, window=4, length=500)
    server.gate = lambda call: Reply(404) if channel.polls() >= 5 and call.path.endswith(".ts") else None

    fetched = hurried.fetch(f"{server.url}/live.m3u8", within_s=300)

    assert without_bridges(hurried.target) == channel.bytes(film, range(7))
    assert "its last segments did not come: what was recorded before is kept" in fetched.warnings


@pytest.mark.parametrize("answer", [Reply(200, b"<html>", {"Content-Type": "text/html"}), Reply(403), Reply(410)])
def test_a_recording_that_cannot_go_on_in_the_next_run_is_kept(answer: Reply, server: Streams, hurried: Bench, film: Path) -> None:
    channel = Channel(server, film, window=4, length=500)
    with pytest.raises(OutOfTime):
        hurried.fetch(f"{server.url}/live.m3u8", within_s=5)
    server.gate = lambda _call: answer

    fetched = hurried.fetch(f"{server.url}/live.m3u8")

    assert without_bridges(hurried.target) == channel.bytes(film, range(sum("live" in path for path in server.asked())))
    assert fetched.warnings == ("its playlist has gone: what was recorded before is kept",)


def test_numbers_that_begin_anew_between_two_runs_end_the_recording(server: Streams, hurried: Bench, film: Path) -> None:
    channel = Channel(server, film, window=4, length=500)
    channel.first = 100
    with pytest.raises(OutOfTime):
        hurried.fetch(f"{server.url}/live.m3u8", within_s=5)
    count = sum("live" in path for path in server.asked())
    channel.first, channel.shown = 0, 4

    fetched = hurried.fetch(f"{server.url}/live.m3u8", within_s=600)

    assert without_bridges(hurried.target)[: len(channel.bytes(film, range(count)))] == channel.bytes(film, range(count))
    assert "its numbers began anew: what came behind that is not recorded" in fetched.warnings


@pytest.mark.parametrize("dead", [4, 19])
def test_a_segment_that_never_comes_is_lost_and_the_others_are_not(dead: int, server: Streams, hurried: Bench, film: Path) -> None:
    channel = Channel(server, film, window=20, length=20)
    channel.shown = 3
    server.odd = {f"/live{dead:03d}.ts": ["404"] * 99}

    fetched = hurried.fetch(f"{server.url}/live.m3u8")

    assert fetched.warnings == (LOST,)
    assert {count for path, count in server.asked().items() if f"{dead:03d}" not in path and "live" in path} == {1}
    assert len(packets(hurried.target, "v")) == pytest.approx(19 * 12, abs=14)
    assert len(channel.names) == 20


def test_another_variant_of_a_live_playlist_is_a_new_stretch(server: Streams, hurried: Bench, film: Path) -> None:
    Channel(server, film, window=4, length=20)
    server.files["/master.m3u8"] = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlive.m3u8\n"
    with pytest.raises(OutOfTime):
        hurried.fetch(f"{server.url}/master.m3u8", within_s=5)
    server.files["/master.m3u8"] = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=2\nlive.m3u8\n"

    hurried.fetch(f"{server.url}/master.m3u8")

    marks = (hurried.folder / "kept/joined/main.journal").read_text().split()
    assert (len(marks), sum("media+" in mark for mark in marks)) == (20, 1)


def test_a_master_that_has_another_variant_meanwhile_goes_on_as_a_new_stretch(server: Streams, hurried: Bench, film: Path) -> None:
    channel = Channel(server, film, window=6, length=20)

    def master() -> bytes:
        return f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH={1 if channel.polls() < 5 else 2}\nlive.m3u8\n".encode()

    server.files["/master.m3u8"] = master
    _while(server, channel, Reply(404), first=5, last=5)

    fetched = hurried.fetch(f"{server.url}/master.m3u8")

    marks = (hurried.folder / "kept/joined/main.journal").read_text().split()
    assert (len(marks), sum("media+" in mark for mark in marks)) == (20, 1)
    assert fetched.warnings == ()


def test_sound_that_is_apart_no_more_ends_a_recording(server: Streams, hurried: Bench, film: Path) -> None:
    Channel(server, film, window=4, length=500)
    Channel(server, film, window=4, length=500, name="sound")
    apart = b'#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="g",NAME="en",URI="sound.m3u8"\n#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="g"\n'
    server.files["/master.m3u8"] = apart + b"live.m3u8\n"
    with pytest.raises(OutOfTime):
        hurried.fetch(f"{server.url}/master.m3u8", within_s=5)
    server.files["/master.m3u8"] = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlive.m3u8\n"

    fetched = hurried.fetch(f"{server.url}/master.m3u8")

    assert "its playlist is another by now: what was recorded before is kept" in fetched.warnings
    assert hurried.target.stat().st_size > 0


def test_a_loss_on_one_side_only_is_told(server: Streams, hurried: Bench, film: Path) -> None:
    pictures, sound = Channel(server, film, window=20, length=20), Channel(server, film, window=20, length=20, name="sound")
    pictures.shown = sound.shown = 3
    apart = '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="g",NAME="en",URI="sound.m3u8"\n#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="g"\nlive.m3u8\n'
    server.files["/master.m3u8"] = f"#EXTM3U\n{apart}".encode()
    server.odd = {"/sound004.ts": ["404"] * 99}

    fetched = hurried.fetch(f"{server.url}/master.m3u8")

    assert "its sound may be out of step with its pictures: not the same segments of both were lost" in fetched.warnings
