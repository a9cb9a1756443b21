"""Fetching a file from a web server, over real sockets: cuts, kills, other bytes, other answers, and what is never said."""

import base64
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dailies import config, links
from dailies.clock import Deadline, SystemClock
from dailies.disk import written
from dailies.errors import Category, DailiesError, Denied, Interrupted, Postponed, SourceGone, Transient, VideoError, Waiting
from dailies.model import Source
from dailies.sources import Fetched, Ground, Place, asking, fetch, fetcher
from dailies.sources.ranges import SPAN_BYTES
from dailies.sources.turned import Turned
from dailies.sources.web import TRIES
from dailies.sources.web.transfer import CONNECTIONS, SEVERAL_BYTES
from fileserver import PATH, FileServer, Trouble
from integration.kill_driver import wait_until
from support import FakeClock, variables

MB = 1 << 20
FILM = random.Random(1).randbytes(3 * MB + 12_345)
LARGE = random.Random(2).randbytes(SEVERAL_BYTES + 10 * MB + 1)
CUT = Trouble(cut_after=MB + 500_001)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer(FILM) as found:
        yield found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return _place(tmp_path)


def _place(folder: Path) -> Place:
    for name in ("kept", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    return Place(folder / "kept/source", folder / "kept", folder / "tmp")


def _source(url: str, **changes: Any) -> Source:
    found = Source(kind="http", uri=url, original_name=links.name_of(url), size_bytes=0, identity=links.identity(url))
    return found.model_copy(update=changes)


def _ground(clock: FakeClock | None = None, variables: dict[str, str] | None = None, **changes: Any) -> Ground:
    settings = config.Sources.model_validate({"allow_private": True, **changes})
    return Ground.of(settings, Path.cwd(), clock or FakeClock(), variables or {})


def _fetch(source: Source | str, place: Place, ground: Ground | None = None, limit_s: float = 600) -> Fetched:
    source, ground = _source(source) if isinstance(source, str) else source, ground or _ground()
    return fetcher(source, ground).fetch(source, place, Deadline.after(ground.clock, limit_s))


def _interrupted(server: FileServer, place: Place, *before: None) -> None:
    """A fetch that broke off, as by the end of a run."""
    server.troubles = [*before, CUT, *[Trouble(500)] * TRIES]
    with pytest.raises(Transient):
        _fetch(server.url, place)
    server.troubles, server.asked = [], []


# What comes and what is said of it


def test_the_file_arrives_and_the_record_says_what_it_is(server: FileServer, place: Place) -> None:
    fetched = _fetch(server.url, place)

    assert place.target.read_bytes() == FILM
    assert (fetched.source.kind, fetched.source.size_bytes, fetched.source.original_name) == ("http", len(FILM), "film.mp4")


def test_a_small_file_is_one_request(server: FileServer, place: Place) -> None:
    _fetch(server.url, place)

    assert len(server.asked) == 1


@pytest.mark.parametrize("size", [0, 1, 511, 512, SPAN_BYTES, 8 * MB, 8 * MB + 1])
@pytest.mark.parametrize("changes", [{}, {"has_ranges": False}, {"has_length": False, "has_ranges": False}, {"etag": 'W/"a"'}])
def test_files_of_every_size_come_as_they_are_from_servers_of_every_kind(
    size: int, changes: dict[str, Any], place: Place, server: FileServer
) -> None:
    server.content = LARGE[:size]
    vars(server).update(changes)

    assert _fetch(server.url, place).source.size_bytes == size
    assert place.target.read_bytes() == LARGE[:size]


def test_asked_again_after_it_was_put_in_place_no_server_is_asked(server: FileServer, place: Place) -> None:
    first = _fetch(server.url, place)
    server.asked = []

    again = _fetch(server.url, place)

    assert (again, server.asked) == (first, [])


@pytest.mark.parametrize("at", [0, MB, len(FILM) - 1])
def test_a_damaged_file_in_its_place_is_fetched_again(at: int, server: FileServer, place: Place) -> None:
    _fetch(server.url, place)
    place.target.write_bytes(FILM[:at] + bytes([FILM[at] ^ 1]) + FILM[at + 1 :])

    _fetch(server.url, place)

    assert place.target.read_bytes() == FILM


def test_progress_is_told_to_its_end_and_room_is_promised_once(server: FileServer, place: Place) -> None:
    told: list[tuple[int, int | None]] = []
    rooms: list[int] = []

    _fetch(server.url, replace(place, progress=lambda got, of: told.append((got, of)), reserve=rooms.append))

    assert (told[-1], rooms) == ((len(FILM), len(FILM)), [len(FILM)])
    assert told == sorted(told)


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ('attachment; filename="the film.mp4"', "the film.mp4"),
        ("attachment; filename*=UTF-8''f%C3%BCr%20alle.mkv", "für alle.mkv"),
        ('attachment; filename="../../etc/passwd.mp4"', "passwd.mp4"),
        ('attachment; filename="C:\\\\films\\\\a.mp4"', "a.mp4"),
        ('attachment; filename=".."', "download"),
        ("inline", "download"),
    ],
)
def test_a_link_whose_name_says_nothing_takes_the_name_that_the_server_gives(
    said: str, name: str, server: FileServer, place: Place
) -> None:
    server.headers["Content-Disposition"] = said

    named = _fetch(_source(server.url, original_name="download"), place).source.original_name
    kept = _fetch(_source(server.url, original_name="a.mp4"), place).source.original_name

    assert (named, kept) == (name, "a.mp4")


# Cuts, kills, restarts


def test_what_was_cut_goes_on_where_it_broke_off(server: FileServer, place: Place) -> None:
    server.troubles = [CUT]

    _fetch(server.url, place)

    assert place.target.read_bytes() == FILM
    assert server.sent == len(FILM)
    assert server.asked[1].headers["range"] == f"bytes={CUT.cut_after}-{len(FILM) - 1}"
    assert server.asked[1].headers["if-range"] == '"one"'


def test_the_next_run_goes_on_where_the_last_one_broke_off(server: FileServer, place: Place) -> None:
    _interrupted(server, place)

    _fetch(server.url, place)

    assert place.target.read_bytes() == FILM
    assert server.sent == len(FILM) - (CUT.cut_after or 0)


def test_a_file_without_etag_goes_on_by_its_date(server: FileServer, place: Place) -> None:
    server.etag = ""
    _interrupted(server, place)

    _fetch(server.url, place)

    assert server.asked[0].headers["if-range"] == server.modified
    assert place.target.read_bytes() == FILM


@pytest.mark.parametrize("changes", [{"etag": 'W/"one"'}, {"etag": "", "modified": ""}, {"etag": "", "modified": "now"}])
def test_what_has_no_strong_validator_is_fetched_anew(changes: dict[str, str], server: FileServer, place: Place) -> None:
    vars(server).update(changes)
    if server.modified == "now":
        server.modified = format_datetime(SystemClock().now(), usegmt=True)
    _interrupted(server, place)

    _fetch(server.url, place)

    assert all("if-range" not in one.headers for one in server.asked)
    assert server.asked[0].first == 0
    assert place.target.read_bytes() == FILM


@pytest.mark.parametrize("changes", [{"etag": '"two"'}, {"etag": "", "modified": "Tue, 03 Jan 2023 03:04:05 GMT"}])
@pytest.mark.parametrize("size", [len(FILM), len(FILM) - 5, MB, 0])
def test_a_file_that_changed_meanwhile_is_fetched_anew(
    size: int, changes: dict[str, str], server: FileServer, place: Place
) -> None:
    _interrupted(server, place)
    vars(server).update(changes)
    server.content = other = LARGE[:size]

    assert _fetch(server.url, place).source.size_bytes == size
    assert place.target.read_bytes() == other


def test_a_server_that_heeds_no_condition_is_found_out(server: FileServer, place: Place) -> None:
    _interrupted(server, place)
    server.heeds_if_range = False
    server.replace(LARGE[: len(FILM)])

    _fetch(server.url, place)

    assert place.target.read_bytes() == server.content


def test_a_server_that_takes_no_ranges_any_more_is_fetched_from_the_start(server: FileServer, place: Place) -> None:
    _interrupted(server, place)
    server.has_ranges = False

    _fetch(server.url, place)

    assert place.target.read_bytes() == FILM


@pytest.mark.parametrize("harm", ["bytes", "journal", "line", "twice", "half", "state"])
def test_what_a_power_cut_left_is_looked_at_before_it_is_trusted(harm: str, server: FileServer, place: Place) -> None:
    _interrupted(server, place)
    part, journal, state = (place.kept / f"http.{what}" for what in ("part", "spans", "json"))
    spoiled: dict[str, tuple[Path, bytes]] = {
        "bytes": (part, bytes(MB) + part.read_bytes()[MB:]),
        "journal": (journal, b""),
        "line": (journal, journal.read_bytes() + b"1500000 3000000 77\n1048576 9999999999 1\n5 4 0\n"),
        "twice": (journal, journal.read_bytes() + b"\n".join(journal.read_bytes().split(b"\n")[1:])),
        "half": (journal, journal.read_bytes()[:-3]),
        "state": (state, b"{"),
    }
    path, content = spoiled[harm]
    path.write_bytes(content)

    _fetch(server.url, place)

    assert place.target.read_bytes() == FILM


def test_bytes_that_outlived_the_state_of_their_fetch_are_not_those_of_the_next(server: FileServer, place: Place) -> None:
    _interrupted(server, place)
    spans, part = ((place.kept / f"http.{what}").read_bytes() for what in ("spans", "part"))
    server.replace(LARGE[: len(FILM)])
    _interrupted(server, place, None)
    (place.kept / "http.spans").write_bytes(spans)  # a disk may keep an older file and a newer one
    (place.kept / "http.part").write_bytes(part)

    _fetch(server.url, place)

    assert place.target.read_bytes() == server.content


def test_what_was_kept_of_another_link_is_not_gone_on_from(server: FileServer, place: Place) -> None:
    _interrupted(server, place)
    server.content = other = LARGE[: len(FILM)]

    _fetch(_source(server.url, identity="0" * 64), place)

    assert place.target.read_bytes() == other


# A process of its own. With `acts` it is a child of that which fetches and ends itself just before the first time that it opens,
# moves or removes a file of the work folder, then one that does so before the second, until one comes to its end.
_DRIVER = """
import os, signal, sys
from pathlib import Path
from dailies import config, links
from dailies.clock import Deadline, SystemClock
from dailies.model import Source
from dailies.sources import Ground, Place, fetcher

url, folder = sys.argv[1], Path(sys.argv[2])

def fetch():
    source = Source(kind="http", uri=url, original_name="film.mp4", size_bytes=0, identity=links.identity(url))
    ground = Ground.of(config.Sources(allow_private=True), folder, SystemClock(), {})
    ground.http.draw = lambda _ceiling: 0.0
    place = Place(folder / "kept/source", folder / "kept", folder / "tmp")
    fetcher(source, ground).fetch(source, place, Deadline.after(ground.clock, 60))

def fetch_and_die(at):
    acts = iter(range(1, 1_000_000))
    def hook(event, arguments):
        if event in {"open", "os.rename", "os.remove", "os.truncate"} and str(arguments[0]).startswith(str(folder)):
            if next(acts) == at:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    fetch()

if sys.argv[3:] != ["acts"]:
    sys.exit(fetch())
for at in range(1, 100):
    child = os.fork()
    if not child:
        fetch_and_die(at)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        print(at)
        break
"""


def _child(server: FileServer, place: Place, *how: str) -> "subprocess.Popen[bytes]":
    argv = [sys.executable, "-c", _DRIVER, server.url, str(place.kept.parent), *how]
    return subprocess.Popen(argv, env=variables(), stdout=subprocess.PIPE)


def test_a_fetch_that_is_killed_again_and_again_brings_the_same_bytes_and_repeats_little(place: Place) -> None:
    kills, draw = 4, random.Random(3)
    with FileServer(LARGE, delay_s=0.004) as server:
        for _ in range(kills):
            goal = server.sent + draw.randrange(3 * MB, 8 * MB)
            with _child(server, place) as child:
                while server.sent < goal and child.poll() is None:
                    time.sleep(0.005)
                child.send_signal(signal.SIGKILL)
        with _child(server, place) as child:
            child.wait()

        assert child.returncode == 0
        assert place.target.read_bytes() == LARGE
        on_the_way = CONNECTIONS * 5 * MB  # a span of each connection, and what waited in its socket
        assert server.sent <= len(LARGE) + kills * on_the_way


def test_a_fetch_may_be_killed_before_any_of_its_acts_and_is_finished_by_the_next(server: FileServer, place: Place) -> None:
    server.troubles = [Trouble(cut_after=300_000)] * 100

    with _child(server, place, "acts") as child:
        said = child.communicate()[0]

    assert int(said) > 8
    assert place.target.read_bytes() == FILM


# Several connections


def test_a_large_file_comes_over_several_connections_at_once(place: Place) -> None:
    with FileServer(LARGE, delay_s=0.001) as server:
        _fetch(server.url, place)

        assert 2 <= server.most_at_once <= CONNECTIONS
        assert server.sent == len(LARGE)
    assert place.target.read_bytes() == LARGE


def test_fewer_connections_are_used_than_all_fetches_may_have(place: Place) -> None:
    with FileServer(LARGE, delay_s=0.001) as server:
        _fetch(server.url, place, _ground(connections=3))

        assert server.most_at_once == 2
    assert place.target.read_bytes() == LARGE


def test_a_server_that_allows_one_connection_is_fetched_from_all_the_same(place: Place) -> None:
    with FileServer(LARGE) as server:
        server.troubles = [None, Trouble(503), None, Trouble(429), Trouble(403)]
        _fetch(server.url, place)

        assert server.sent == len(LARGE)
    assert place.target.read_bytes() == LARGE


def test_several_connections_that_are_cut_fetch_nothing_twice(place: Place) -> None:
    with FileServer(LARGE) as server:
        server.troubles = [Trouble(cut_after=count) for count in (5 * MB, 3 * MB, 0, 1, 2 * MB + 1, 70_000)]
        _fetch(server.url, place)

        assert server.sent == len(LARGE)
    assert place.target.read_bytes() == LARGE


def test_a_file_that_changes_between_two_ranges_is_fetched_anew(place: Place) -> None:
    other = LARGE[::-1]
    with FileServer(LARGE) as server:

        def changes(got: int, _of: int | None) -> None:
            if got > 20 * MB:
                server.content, server.etag = other, '"two"'

        _fetch(server.url, replace(place, progress=changes))
    assert place.target.read_bytes() == other


def test_trouble_with_the_file_ends_all_its_connections_at_once(place: Place) -> None:
    began = time.monotonic()
    with FileServer(LARGE, troubles=[None, Trouble(404), *[Trouble(silent_s=8)] * 3]) as server, pytest.raises(SourceGone):
        _fetch(server.url, place)

    assert time.monotonic() - began < 5


# What servers do wrong


@pytest.mark.parametrize("off", [-5, 5, 100_000])
def test_a_length_that_is_not_true_is_tried_again(off: int, server: FileServer, place: Place) -> None:
    server.troubles = [Trouble(length_off=off)]

    _fetch(server.url, place)

    assert place.target.read_bytes() == FILM


def test_a_server_that_always_promises_more_than_it_has_is_given_up_for_now(server: FileServer, place: Place) -> None:
    server.has_ranges, server.troubles = False, [Trouble(length_off=9)] * 20

    with pytest.raises(Transient, match=r"127\.0\.0\.1: .+ended early.*; it is tried again later"):
        _fetch(server.url, place)

    assert not place.target.exists()


_LIES = [f"bytes 5-999/{len(FILM)}", "bytes 0-9/10", f"bytes {CUT.cut_after}-2000000/2000001", "bytes 9-5/10", "nonsense"]
_LIES += [f"bytes {CUT.cut_after}-2000000/{len(FILM)}", f"bytes 0-9/{len(FILM)}", f"bytes 0-{len(FILM)}/{len(FILM) + 1}"]


@pytest.mark.parametrize("lie", _LIES)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_part_that_is_not_what_was_asked_for_is_not_taken(lie: str, *, is_first: bool, server: FileServer, place: Place) -> None:
    server.troubles = [*([] if is_first else [CUT]), Trouble(headers={"Content-Range": lie})]

    _fetch(server.url, place)

    assert place.target.read_bytes() == FILM


@pytest.mark.parametrize("before", [[], [CUT]], ids=["first", "resumed"])
def test_a_part_from_another_place_is_not_taken(before: list[Trouble], server: FileServer, place: Place) -> None:
    server.troubles = [*before, Trouble(shift=100)]

    _fetch(server.url, place)

    assert place.target.read_bytes() == FILM


def test_a_server_that_sends_nothing_is_given_up_for_now(server: FileServer, place: Place) -> None:
    server.troubles = [Trouble(length_off=-len(FILM))] * 20

    with pytest.raises(Transient, match=r"127\.0\.0\.1: .+; it is tried again later"):
        _fetch(server.url, place)

    wait_until(lambda: len(server.asked) == TRIES)


def test_a_slow_drip_is_cut_and_tried_again(server: FileServer, place: Place) -> None:
    server.troubles = [Trouble(drip_s=0.05)]
    ground, began = _ground(SystemClock(), stall=0.4), time.monotonic()  # type: ignore[arg-type]
    ground.http.draw = lambda _ceiling: 0.0

    _fetch(server.url, place, ground)

    assert place.target.read_bytes() == FILM
    assert time.monotonic() - began < 5


def test_a_server_that_falls_silent_is_cut_and_tried_again(server: FileServer, place: Place) -> None:
    server.troubles = [Trouble(silent_s=3)]
    ground, began = _ground(SystemClock(), stall=0.3), time.monotonic()  # type: ignore[arg-type]
    ground.http.draw = lambda _ceiling: 0.0

    _fetch(server.url, place, ground)

    assert time.monotonic() - began < 2.5


def test_trouble_that_does_not_end_is_given_up_after_five_tries_in_a_row(server: FileServer, place: Place) -> None:
    server.troubles = [*[Trouble(500)] * 3, Trouble(cut_after=100_000), *[Trouble(500)] * 20]

    with pytest.raises(Transient):
        _fetch(server.url, place)

    assert len(server.asked) == 4 + TRIES


@pytest.mark.parametrize("status", [404, 410])
def test_what_the_server_has_no_more_is_gone(status: int, server: FileServer, place: Place) -> None:
    server.troubles = [Trouble(status)]

    with pytest.raises(SourceGone, match=rf"film\.mp4: 127\.0\.0\.1 has it no more \(HTTP {status}\); .+"):
        _fetch(server.url, place)


def test_an_expired_link_is_made_fresh_and_goes_on(server: FileServer, place: Place) -> None:
    server.troubles = [CUT, Trouble(403)]
    server.beside["/fresh"] = f"{server.url}?signature=fresh\n".encode()
    site = {"127.0.0.1": {"refresh_url": f"http://{server.host}/fresh?of={{link}}"}}

    _fetch(f"{server.url}?signature=old", place, _ground(sites=site))

    assert [one.path.partition("=")[2] for one in server.asked] == ["old", "old", "fresh"]
    assert (place.target.read_bytes(), server.sent) == (FILM, len(FILM))


@pytest.mark.parametrize("status", [401, 403])
def test_a_link_that_stays_expired_is_an_error_after_one_fresh_one(status: int, server: FileServer, place: Place) -> None:
    server.troubles = [Trouble(status)] * 9

    with pytest.raises(Denied, match=r"film\.mp4: .+; give a fresh one, or set .+"):
        _fetch(server.url, place)

    assert len(server.asked) == 2


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("is_date", [False, True])
def test_a_server_that_asks_for_a_moment_gets_it(
    status: int, is_date: bool, server: FileServer, place: Place, clock: FakeClock
) -> None:
    later = format_datetime(clock.now() + timedelta(seconds=20), usegmt=True) if is_date else "20"
    server.troubles = [Trouble(status, {"Retry-After": later})]

    _fetch(server.url, place, _ground(clock))

    assert sum(clock.slept) == pytest.approx(20, abs=1)
    assert place.target.read_bytes() == FILM


@pytest.mark.parametrize(("waits", "later_s"), [(["31"], 31), (["20", "20"], 600), (["1"] * 40, 600)])
def test_a_server_that_asks_for_more_postpones_the_video_and_one_that_was_obeyed_for_longer(
    waits: list[str], later_s: int, server: FileServer, place: Place, clock: FakeClock
) -> None:
    server.troubles = [Trouble(429, {"Retry-After": wait}) for wait in waits]

    with pytest.raises(Postponed) as postponed:
        _fetch(server.url, place, _ground(clock))

    assert postponed.value.until == clock.now() + timedelta(seconds=later_s)
    assert sum(clock.slept) < 30.1


# What is promised of the bytes


def _digests(content: bytes) -> dict[str, str]:
    sha, md5 = (base64.b64encode(hashlib.new(name, content).digest()).decode() for name in ("sha256", "md5"))
    return {
        "Digest": f"SHA-256={sha}",
        "Repr-Digest": f"sha-512=:AAAA:, sha-256=:{sha}:",
        "digest": f"unixsum=30637, MD5={md5}",
        "Content-Digest": f"md5=:{md5}:",
    }


@pytest.mark.parametrize("name", _digests(b""))
def test_what_the_server_promises_is_checked(name: str, server: FileServer, place: Place) -> None:
    server.has_ranges = False
    server.headers[name] = _digests(FILM[:-1])[name]
    with pytest.raises(Transient, match="was promised"):
        _fetch(server.url, place)
    assert [*place.kept.iterdir()] == []
    server.headers[name] = _digests(FILM)[name]

    _fetch(server.url, place)

    assert place.target.read_bytes() == FILM


def test_the_digest_of_a_part_says_nothing_of_the_whole(server: FileServer, place: Place) -> None:
    server.headers["Content-Digest"] = _digests(FILM[:1000])["Content-Digest"]

    _fetch(server.url, place)

    assert place.target.read_bytes() == FILM


def test_what_a_person_expects_is_checked_and_comes_before_all_else(server: FileServer, place: Place) -> None:
    server.headers |= _digests(b"other")
    server.beside[f"{PATH}.sha256"] = b"0" * 64

    _fetch(_source(server.url, expected_sha256=hashlib.sha256(FILM).hexdigest()), place)
    assert place.target.read_bytes() == FILM
    place.target.unlink()

    with pytest.raises(Transient, match=r"film\.mp4: its sha256 is [0-9a-f]{64}, and 1{64} was promised; "):
        _fetch(_source(server.url, expected_sha256="1" * 64, identity="2" * 64), place)
    assert not place.target.exists()


@pytest.mark.parametrize("style", ["{}", "{}  film.mp4\n", "\\{} *film.mp4\n"])
def test_the_sha256_beside_a_link_is_checked(style: str, server: FileServer, place: Place) -> None:
    server.beside[f"{PATH}.sha256"] = style.format(hashlib.sha256(LARGE).hexdigest()).encode()
    with pytest.raises(Transient, match="was promised"):
        _fetch(server.url, place)
    server.beside[f"{PATH}.sha256"] = style.format(hashlib.sha256(FILM).hexdigest().upper()).encode()

    _fetch(server.url, place)

    assert place.target.read_bytes() == FILM


@pytest.mark.parametrize("said", [b"", b"<html>not found</html>", b"0" * 63, b"0" * 65])
def test_what_is_no_sha256_beside_a_link_promises_nothing(said: bytes, server: FileServer, place: Place) -> None:
    server.beside[f"{PATH}.sha256"] = said

    _fetch(server.url, place)

    assert place.target.read_bytes() == FILM


def test_of_what_lies_beside_a_link_only_the_beginning_is_read(server: FileServer, place: Place) -> None:
    server.beside[f"{PATH}.sha256"] = hashlib.sha256(FILM).hexdigest().encode() + b"\n" * 40 * MB

    _fetch(server.url, place)

    assert server.beside_sent == []


# Limits and kinds


def test_a_disk_without_room_is_waited_for_before_anything_is_fetched(server: FileServer, place: Place) -> None:
    def refuse(size_bytes: int) -> None:
        raise Waiting(f"no room for {size_bytes}", Category.NO_SPACE)

    with pytest.raises(Waiting, match=f"no room for {len(FILM)}"):
        _fetch(server.url, replace(place, reserve=refuse))

    assert [*place.kept.iterdir()] == []


def test_a_full_disk_is_waited_for_and_other_trouble_with_it_comes_again() -> None:
    full = Path("/dev/full")

    with pytest.raises(Waiting, match=r"/dev: its disk is full; free some space") as waiting, written(full):
        os.write(os.open(full, os.O_WRONLY), b"a film")
    with pytest.raises(Transient, match=r"/dev/full: cannot be written: Is a directory; make its folder writable"), written(full):
        full.parent.write_bytes(b"a film")

    assert waiting.value.category is Category.NO_SPACE


@pytest.mark.parametrize("has_length", [True, False])
def test_a_file_larger_than_allowed_is_refused(has_length: bool, server: FileServer, place: Place) -> None:
    server.has_length = server.has_ranges = has_length

    with pytest.raises(VideoError, match=r"film\.mp4: has \d+ bytes or more, and 1048576 are fetched; raise .+") as refused:
        _fetch(server.url, place, _ground(max_size=MB))

    assert refused.value.category is Category.UNSUPPORTED
    assert not place.target.exists()


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><p>Login</p>", b"\xef\xbb\xbf\n <html></html>"])
def test_a_web_page_is_no_media_file(page: bytes, server: FileServer, place: Place) -> None:
    server.content, server.headers["Content-Type"] = page, "text/html; charset=utf-8"

    with pytest.raises(VideoError, match=r"film\.mp4: is a web page, not a media file; give the link of the file itself"):
        _fetch(server.url, place)

    assert [*place.kept.iterdir()] == []


def test_a_media_file_that_is_served_as_a_page_is_fetched(server: FileServer, place: Place) -> None:
    server.headers["Content-Type"] = "text/html"

    _fetch(server.url, place)

    assert place.target.read_bytes() == FILM


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_a_playlist_is_fetched_by_another_source(bom: bytes, server: FileServer, place: Place) -> None:
    server.content = bom + b"#EXTM3U\n#EXT-X-VERSION:3\n"

    with pytest.raises(Turned) as turned:
        _fetch(server.url, place)

    assert turned.value.kind == "hls"


def test_what_is_packed_is_refused_and_never_unpacked(server: FileServer, place: Place) -> None:
    server.headers["Content-Encoding"] = "gzip"

    with pytest.raises(VideoError, match=r"film\.mp4: 127\.0\.0\.1 sends it packed \(gzip\) .+; give .+"):
        _fetch(server.url, place)

    assert server.asked[0].headers["accept-encoding"] == "identity"


# Whom nobody asks, and what nobody is told


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]", "169.254.169.254", "10.0.0.1", "localhost"]
)
def test_no_address_of_this_machine_or_its_network_is_asked(host: str, server: FileServer, place: Place) -> None:
    port = server.host.rpartition(":")[2]

    with pytest.raises(VideoError, match=r"leads to this machine or its network; give a public link, or set .+"):
        _fetch(f"http://{host}:{port}{PATH}", place, _ground(allow_private=False))

    assert server.asked == []


def test_credentials_of_a_link_are_sent_as_a_header_and_stand_nowhere(server: FileServer, place: Place) -> None:
    secret = "s3cr3t-0123456789"
    server.authorization = f"Basic {base64.b64encode(f'me:{secret}'.encode()).decode()}"
    link = f"http://me:{secret}@{server.host}{PATH}?signature=sig-0123456789"
    source = _source(server.url, secret_env="LINK")

    server.troubles = [CUT, *[Trouble(500, content=link.encode())] * TRIES]
    with pytest.raises(Transient) as failed:
        _fetch(source, place, _ground(variables={"LINK": link}))
    kept = b"".join(path.read_bytes() for path in (place.kept / "http.json", place.kept / "http.spans"))
    _fetch(source, place, _ground(variables={"LINK": link}))

    assert place.target.read_bytes() == FILM
    assert not any(part in str(failed.value) or part.encode() in kept for part in (secret, "sig-0123456789"))


def test_a_link_that_only_the_environment_knows_is_waited_for(server: FileServer, place: Place) -> None:
    source, ground = _source(server.url, secret_env="LINK"), _ground()

    assert not fetcher(source, ground).is_here(source)
    with pytest.raises(Waiting, match=r"film\.mp4: LINK is not set or empty; set it to the link"):
        _fetch(source, place, ground)


@pytest.mark.parametrize("content", [FILM, LARGE], ids=["one connection", "several"])
def test_a_stop_ends_a_read_that_blocks_within_a_second_and_the_rest_comes_later(content: bytes, place: Place) -> None:
    ground, stop = _ground(SystemClock()), threading.Event()  # type: ignore[arg-type]
    with FileServer(
        content, troubles=[None, *[Trouble(silent_s=20)] * 4] if content is LARGE else [Trouble(silent_s=20)]
    ) as server:
        source = _source(server.url)
        threading.Timer(0.5, stop.set).start()
        began = time.monotonic()
        with pytest.raises(Interrupted):
            fetcher(source, ground).fetch(source, place, Deadline.after(ground.clock, 60, stop))
        assert time.monotonic() - began < 1.5
        server.troubles = []

        _fetch(source, place)
    assert place.target.read_bytes() == content


# Whatever happens

_TROUBLES = st.one_of(
    st.none(),
    st.builds(Trouble, cut_after=st.integers(0, 200_000)),
    st.builds(Trouble, length_off=st.sampled_from([-1, 1, 50])),
    st.builds(Trouble, status=st.sampled_from([206, 400, 403, 404, 416, 429, 500, 502, 503])),
    st.builds(Trouble, headers=st.sampled_from([{"ETag": '"x"'}, {"ETag": ""}, {"Content-Range": "bytes 7-9/10"}])),
)


@settings(max_examples=40, deadline=None)
@given(
    troubles=st.lists(_TROUBLES, max_size=8),
    size=st.integers(0, 200_000),
    changes=st.fixed_dictionaries(
        {}, optional={"has_ranges": st.booleans(), "has_length": st.booleans(), "etag": st.sampled_from(["", 'W/"a"', '"b"'])}
    ),
)
def test_whatever_goes_wrong_the_bytes_are_those_of_the_server_or_there_are_none(
    troubles: list[Trouble | None], size: int, changes: dict[str, Any]
) -> None:
    content = FILM[:size]
    with tempfile.TemporaryDirectory() as folder, FileServer(content, **changes) as server:
        place = _place(Path(folder))
        server.troubles = [one for one in troubles if one is None or server.has_ranges or one.length_off >= 0]
        try:
            _fetch(server.url, place)
        except DailiesError:
            assert not place.target.exists()
        else:
            assert place.target.read_bytes() == content
        server.troubles = []

        _fetch(server.url, place)

        assert place.target.read_bytes() == content
        assert json.loads((place.kept / "http.json").read_text())["is_checked"]


def test_what_ends_in_no_answer_costs_the_stall_and_no_more(place: Place) -> None:
    with dripping(b"HTTP/1.1 500 Not Now\r\nContent-Length: 1000000\r\n\r\n") as url:
        ground = Ground.of(config.Sources(allow_private=True, stall=0.4), place.kept, SystemClock(), {})
        began = time.monotonic()

        with pytest.raises(Transient, match="no answer within"):
            ground.http.receive(f"{url}/film.mp4", Deadline.after(SystemClock(), 30), lambda _: None, read_s=0.4)

        assert time.monotonic() - began < 5


@contextmanager
def dripping(head: bytes) -> Iterator[str]:
    """A server whose body never ends, a byte at a time."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            with suppress(OSError), listener.accept()[0] as client:
                client.sendall(head)
                while not over.wait(0.05):
                    client.sendall(b".")

        thread = threading.Thread(target=drip)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        over.set()
        thread.join()


@pytest.mark.parametrize(
    "link", ["https://a..b/film.mp4", "https://example.org:99999/", f"https://{'a' * 64}.example/", "https://[bad/"]
)
def test_a_link_that_cannot_be_asked_is_its_own_videos_trouble(link: str, place: Place) -> None:
    source = Source(kind="http", uri=link, original_name="film.mp4", size_bytes=0, identity="0" * 64)

    with pytest.raises(VideoError):
        fetch(source, _ground(), place, Deadline.after(SystemClock(), 10))


def test_a_variable_that_is_not_set_is_waited_for(place: Place) -> None:
    source = Source(kind="http", uri="https://example.org/a.mp4", original_name="a.mp4", size_bytes=0, identity="0" * 64)
    settings = config.Sources.model_validate({"sites": {"example.org": {"authorization_env": "NOT_SET"}}})

    with pytest.raises(Waiting, match="NOT_SET: not set or empty"):
        fetch(source, Ground.of(settings, place.kept, SystemClock(), {}), place, Deadline.after(SystemClock(), 10))


def test_a_sites_authorization_leaves_by_tls_to_its_own_port_only() -> None:
    settings = config.Sources.model_validate({"sites": {"example.org": {"authorization_env": "KEY"}}})
    ground = Ground.of(settings, Path(), SystemClock(), {"KEY": "Bearer 0123456789"})

    assert asking.way("https://example.org/a.mp4", ground).headers == {"Authorization": "Bearer 0123456789"}
    assert asking.way("https://example.org:8443/a.mp4", ground).headers == {}
    with pytest.raises(VideoError, match="by https only"):
        asking.way("http://example.org/a.mp4", ground)
