"""Folders of storage as listing sources, against real servers: what is found, fetched, gone on from, and refused."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from dailies import config
from dailies.clock import Deadline, SystemClock
from dailies.config import Listing
from dailies.errors import Category, ConfigError, SourceGone, VideoError, Waiting
from dailies.listings.folder import Folder
from dailies.model import Source
from dailies.sources import Ground, Place, fetch, is_here, storage
from hosts_storage import BUCKET, SECRETS, Server, serving
from integration.test_listings import Desk
from support import ClipMaker, FakeClock, Shelf

CONTENT = b"a film " * 3_000_000  # 21 MB


@dataclass(frozen=True)
class Site:
    """A server; each test has a folder of its own there, which a listing names."""

    server: Server
    name: str
    root: Path

    @property
    def folder(self) -> Path:
        return self.server.folder / BUCKET / self.name

    def put(self, name: str, content: bytes = CONTENT, age_s: int = 3600) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        moment = int(self.root.stat().st_mtime) - age_s
        os.utime(path, (moment, moment))
        return path

    def section(self, pattern: str = "", **changes: Any) -> dict[str, Any]:
        settings = self.server.settings(self.name)
        return {"folder": settings.pop("path") + pattern, **settings, **changes}

    def ground(self, pattern: str = "", variables: dict[str, str] = SECRETS, **sources: Any) -> Ground:
        listings = {"films": Listing.model_validate(self.section(pattern))}
        return Ground.of(config.Sources(**sources), self.root, SystemClock(), variables, listings)

    def look(self, pattern: str = "", **changes: Any) -> list[Source]:
        section = Listing.model_validate(self.section(pattern, **changes))
        found = Folder("films", section, self.ground(pattern)).look({}, soon())
        return [item.source for item in found.items if item.source is not None]


def soon() -> Deadline:
    return Deadline.after(SystemClock(), 60)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    running: dict[str, Server] = {}
    with ExitStack() as stack:

        def get(protocol: str) -> Server:
            if protocol not in running:
                running[protocol] = stack.enter_context(serving(protocol, tmp_path_factory.mktemp(protocol)))
            return running[protocol]

        yield get


@pytest.fixture(params=["s3", "webdav", "sftp"])
def site(request: pytest.FixtureRequest, servers: Callable[[str], Server], tmp_path: Path) -> Site:
    return Site(servers(request.param), tmp_path.name, tmp_path)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "work/kept").mkdir(parents=True)
    (tmp_path / "work/tmp").mkdir()
    return Place(tmp_path / "work/kept/source", tmp_path / "work/kept", tmp_path / "work/tmp")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", ["a.mp4", "b [1] ü.mkv", "more/c.mp4"]),
        ("/*.mp4", ["a.mp4"]),
        ("/**/*.mp4", ["a.mp4", "more/c.mp4"]),
        ("/more/*", ["more/c.mp4"]),
        ("/none/*", []),
    ],
)
def test_media_files_are_found_by_a_pattern(site: Site, pattern: str, expected: list[str]) -> None:
    for name in ("a.mp4", "b [1] ü.mkv", "more/c.mp4", "notes.txt", ".tmp-a.mp4"):
        site.put(name, b"x")

    found = site.look(pattern)

    assert sorted(source.original_name for source in found) == sorted(Path(name).name for name in expected)
    assert {source.kind for source in found} <= {"storage"}


def test_the_newest_are_found_and_come_last(site: Site) -> None:
    for age_s, name in ((300, "old.mp4"), (200, "new.mp4"), (100, "newest.mp4")):
        site.put(name, b"x", age_s)

    assert [source.original_name for source in site.look(limit=2)] == ["new.mp4", "newest.mp4"]


def test_a_file_that_is_fetched_is_whole_and_one_that_was_is_not_fetched_again(site: Site, place: Place) -> None:
    path = site.put("b [1] ü.mkv")
    (source,) = site.look()
    ground = site.ground()
    assert is_here(source, ground)

    fetched = fetch(source, ground, place, soon())
    path_before = place.target.stat().st_ino
    fetch(source, ground, place, soon())

    assert place.target.read_bytes() == CONTENT == path.read_bytes()
    assert (fetched.source, place.target.stat().st_ino) == (source, path_before)


def test_what_an_earlier_fetch_brought_is_gone_on_from(site: Site, place: Place) -> None:
    site.put("a.mp4")
    (source,) = site.look()

    class Killed(Exception):
        pass

    def kill(got: int, _of: int | None) -> None:
        if got > 9_000_000:
            raise Killed

    with pytest.raises(Killed):
        fetch(source, site.ground(), replace(place, progress=kill), soon())
    told: list[int] = []
    fetch(source, site.ground(), replace(place, progress=lambda got, _of: told.append(got)), soon())

    assert place.target.read_bytes() == CONTENT
    assert told[0] > 8_000_000


def test_a_file_that_changed_is_another_video_and_the_old_one_says_so(site: Site, place: Place) -> None:
    site.put("a.mp4")
    (before,) = site.look()
    site.put("a.mp4", CONTENT[:-1] + b"!", age_s=60)

    (after,) = site.look()

    assert before.identity != after.identity
    with pytest.raises(VideoError, match="has changed since it was queued; add it again") as refused:
        fetch(before, site.ground(), place, soon())
    assert refused.value.category is Category.CHANGED


def test_what_has_gone_or_cannot_be_entered_says_so(site: Site, place: Place) -> None:
    path = site.put("a.mp4", b"x")
    (source,) = site.look()
    assert not is_here(source, site.ground(variables={}))
    other = Ground.of(config.Sources(), site.root, SystemClock(), SECRETS)
    assert not is_here(source, other)
    with pytest.raises(Waiting, match="put the section back"):
        fetch(source, other, place, soon())
    with pytest.raises(VideoError, match=r"raise \[sources\] max_size"):
        fetch(source, site.ground(max_size=0), place, soon())
    path.unlink()
    with pytest.raises(SourceGone):
        fetch(source, site.ground(), place, soon())


def test_wrong_keys_are_a_failure_of_the_source(
    shelf: Shelf, clock: FakeClock, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "wrong-wrong-wrong")

    report = Desk.of(shelf, clock, films=site.section()).look().reports["films"]

    assert (report.failures, "wrong-wrong" in str(report.error)) == (1, False), report


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ({"folder": "media/films/*.mp4"}, "is one of this machine"),
        ({"folder": "s3://films", "acces_key_env": "X"}, "acces_key_env: unknown key; the nearest known one is access_key_env"),
        ({"folder": "s3://films", "user_env": "X"}, "user_env: means nothing to s3"),
        ({"folder": "ftp://films"}, "ftp:// is not known"),
        ({"folder": "sftp://me:hunter2hunter2@films/x"}, "holds credentials"),
    ],
)
def test_a_folder_that_is_none_is_one_line(tmp_path: Path, section: dict[str, str], why: str) -> None:
    listing = Listing.model_validate(section)
    ground = Ground.of(config.Sources(), tmp_path, SystemClock(), {}, {"films": listing})

    with pytest.raises(ConfigError) as refused:
        Folder("films", listing, ground).look({}, soon())

    assert why in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_names_that_addresses_write_otherwise_come_back_as_they_are() -> None:
    folder = storage.Folder.of("sftp://me@films:2222/srv/a b/**/*.mp4")

    uri = folder.uri("more/ü %20#?.mp4")

    assert "me@" not in uri
    assert (folder.key(uri), folder.key("sftp://films:2222/srv/other/x.mp4")) == ("more/ü %20#?.mp4", None)


def test_what_lies_in_a_folder_is_published(
    shelf: Shelf, make_clip: ClipMaker, servers: Callable[[str], Server], tmp_path: Path
) -> None:
    site = Site(servers("webdav"), tmp_path.name, tmp_path)
    site.put("talk.mp4", make_clip(seconds=0.3).read_bytes())
    with (shelf.root / "dailies.toml").open("a") as file:
        file.write("[listings.films]\n" + "".join(f'{key} = "{value}"\n' for key, value in site.section("/*.mp4").items()))

    done = [shelf.cli("run", "--json", **SECRETS) for _ in range(2)]

    (record,) = shelf.records().values()
    assert [one.code for one in done] == [0, 0], done[0].err
    assert (record["state"], record["source"]["kind"]) == ("done", "storage")
    assert [one.json()["listings"]["films"]["added"] for one in done] == [1, 0]


def test_a_file_that_was_changed_a_moment_ago_waits(site: Site) -> None:
    for age_s, name in ((0, "growing.mp4"), (3600, "old.mp4"), (-(10**8), "of another clock.mp4")):
        site.put(name, b"x", age_s)
    section = Listing.model_validate(site.section())

    found = Folder("films", section, site.ground()).look({}, soon())

    assert {item.source.original_name for item in found.items if item.source} == {"old.mp4", "of another clock.mp4"}
    assert found.notes == ("1 files were changed less than 60 s ago; they wait for a later look",)
