"""What every source must do: the same tests over each entry of SOURCES."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from dailies import config, links
from dailies.clock import Deadline, SystemClock
from dailies.errors import Category, DailiesError, Interrupted, SourceGone, VideoError, Waiting
from dailies.listings.folder import Folder
from dailies.model import IDENTITY_BYTES, Source, file_identity
from dailies.sources import SOURCES, Fetcher, Ground, Place, fetcher
from dailies.sources.file import uri_of
from fileserver import FileServer
from hls import Streams, entries, listing
from hosts_storage import BUCKET, SECRETS, serving
from support import ROOT, FakeClock

MIDDLE = IDENTITY_BYTES + 1000  # where the identity of a large file does not look
CONTENT = b"\0\0\0\x0cftypisom" + b"a film " * 30_000  # 210 kB: more than both ends; begins as media does


@dataclass(frozen=True)
class Case:
    """A queued source and the ways in which the world around it changes; `held` is what is there now, None for nothing.

    `content` is what a fetch of it brings as long as nothing was replaced.
    """

    source: Source
    fetcher: Fetcher
    held: Callable[[], bytes | None]
    replace: Callable[[bytes], object]
    lose: Callable[[], object]
    gone: type[DailiesError]
    content: bytes = CONTENT


def _file(path: Path, root: Path, gone: type[DailiesError]) -> Case:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(CONTENT)
    uri = uri_of(path, root)
    identity, size = file_identity(path, uri)
    source = Source(kind="file", uri=uri, original_name=path.name, size_bytes=size, identity=identity)
    ground = Ground.of(config.Sources(allow_private=True), root, SystemClock(), {})
    return Case(
        source, fetcher(source, ground), lambda: path.read_bytes() if path.exists() else None, path.write_bytes, path.unlink, gone
    )


@contextmanager
def _http(place: Path) -> Iterator[Case]:
    with FileServer(CONTENT) as server:
        link = server.url
        source = Source(kind="http", uri=link, original_name="film.mp4", size_bytes=0, identity=links.identity(link))
        ground = Ground.of(config.Sources(allow_private=True), place / "library", SystemClock(), {})
        yield Case(source, fetcher(source, ground), server.held, server.replace, server.lose, SourceGone)


def _served(server: Streams, path: str) -> bytes | None:
    content = server.files.get(path)
    return content if isinstance(content, bytes) else None


@contextmanager
def _hls(place: Path) -> Iterator[Case]:
    playlist, segment = "/index.m3u8", "/film.mp4"
    with Streams({playlist: listing(*entries(["film.mp4"])), segment: CONTENT}) as server:
        link = server.url + playlist
        source = Source(kind="hls", uri=link, original_name="index.m3u8", size_bytes=0, identity=links.identity(link))
        ground = Ground.of(config.Sources(allow_private=True), place / "library", SystemClock(), {})
        replace = lambda other: server.files.update({segment: other})  # noqa: E731
        yield Case(
            source,
            fetcher(source, ground),
            lambda: _served(server, segment),
            replace,
            lambda: server.files.pop(playlist),
            SourceGone,
        )


@contextmanager
def _storage(place: Path) -> Iterator[Case]:
    with serving("webdav", place) as server:
        path = server.folder / BUCKET / "films/film.mp4"
        path.parent.mkdir()
        path.write_bytes(CONTENT)
        os.utime(path, (1e9, 1e9))  # else it may be on its way still
        settings = server.settings("films")
        listing = config.Listing.model_validate({"folder": settings.pop("path"), **settings})
        ground = Ground.of(config.Sources(), place / "library", SystemClock(), SECRETS, {"films": listing})
        (item,) = Folder("films", listing, ground).look({}, Deadline.after(SystemClock(), 60)).items
        assert item.source is not None
        held = lambda: path.read_bytes() if path.exists() else None  # noqa: E731
        yield Case(item.source, fetcher(item.source, ground), held, path.write_bytes, path.unlink, SourceGone)


# Several cases of one source have its name and a dash in front.
CASES: dict[str, Callable[[Path], AbstractContextManager[Case]]] = {
    "file-inside": lambda place: nullcontext(_file(place / "library/media/inbox/film.mp4", place / "library", SourceGone)),
    "file-elsewhere": lambda place: nullcontext(_file(place / "disk/film.mp4", place / "library", Waiting)),
    "file-odd name": lambda place: nullcontext(_file(place / os.fsdecode(b"library/-\xe9\n.mp4"), place / "library", SourceGone)),
    "http": _http,
    "hls": _hls,
    "storage": _storage,
}
FILES = [name for name in CASES if name.partition("-")[0] == "file"]
LINKS = [name for name in CASES if name not in FILES]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    (tmp_path / "library").mkdir()
    with CASES[request.param](tmp_path) as found:
        yield found


a_file = pytest.mark.parametrize("case", FILES, indirect=True)
a_link = pytest.mark.parametrize("case", LINKS, indirect=True)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "work/kept").mkdir(parents=True)
    (tmp_path / "work/tmp").mkdir()
    return Place(tmp_path / "work/kept/source", tmp_path / "work/kept", tmp_path / "work/tmp")


@pytest.fixture
def deadline(clock: FakeClock) -> Deadline:
    return Deadline.after(clock, 60)


def test_every_source_has_a_case_and_no_case_lacks_its_source() -> None:
    assert {name.partition("-")[0] for name in CASES} == set(SOURCES)


@pytest.mark.parametrize("kind", sorted(SOURCES))
def test_every_source_is_in_the_docs(kind: str) -> None:
    docs = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("*.md")))

    assert re.search(rf"\b{re.escape(kind)}\b", docs, re.IGNORECASE)


def test_the_bytes_arrive_and_the_original_stays(case: Case, place: Place, deadline: Deadline) -> None:
    case.fetcher.fetch(case.source, place, deadline)

    assert place.target.read_bytes() == case.content
    assert case.held() == CONTENT


def test_fetching_twice_is_fetching_once(case: Case, place: Place, deadline: Deadline) -> None:
    place.target.write_bytes(b"what an interrupted fetch left, and it is longer than the film" * 10_000)

    case.fetcher.fetch(case.source, place, deadline)

    assert place.target.read_bytes() == case.content


def test_a_fetch_that_was_done_changes_nothing_when_it_is_asked_again(case: Case, place: Place, deadline: Deadline) -> None:
    first = case.fetcher.fetch(case.source, place, deadline)

    again = case.fetcher.fetch(case.source, place, deadline)

    assert again == first
    assert place.target.read_bytes() == case.content


def test_the_record_says_how_many_bytes_came(case: Case, place: Place, deadline: Deadline) -> None:
    fetched = case.fetcher.fetch(case.source, place, deadline)

    assert fetched.source.size_bytes == place.target.stat().st_size
    assert fetched.source.identity == case.source.identity


def test_a_copy_is_no_second_name_of_the_original(case: Case, place: Place, deadline: Deadline) -> None:
    case.fetcher.fetch(case.source, place, deadline)

    place.target.write_bytes(b"changed")

    assert case.held() == CONTENT


@a_file
@pytest.mark.parametrize("other", [b"", CONTENT + b".", CONTENT[:-1], b"b" + CONTENT[1:], CONTENT[:-1] + b"b"])
def test_what_has_changed_since_it_was_queued_is_refused(other: bytes, case: Case, place: Place, deadline: Deadline) -> None:
    case.replace(other)

    with pytest.raises(VideoError, match="has changed since it was queued; add it again") as refused:
        case.fetcher.fetch(case.source, place, deadline)

    assert refused.value.category is Category.CHANGED


def test_what_has_gone_says_so_and_what_to_do(case: Case, place: Place, deadline: Deadline) -> None:
    case.lose()

    with pytest.raises(case.gone, match=r".+: .+(;|,) .+"):
        case.fetcher.fetch(case.source, place, deadline)

    assert not place.target.exists()


def test_an_interrupted_fetch_ends_at_once_and_leaves_the_original(case: Case, place: Place, deadline: Deadline) -> None:
    place.target.write_bytes(CONTENT)
    reflink = ["cp", "--reflink=always", str(place.target), f"{place.target}2"]
    if case.source.kind == "file" and subprocess.run(reflink, capture_output=True, check=False).returncode == 0:
        pytest.skip("this file system copies in no time, so that nothing can be interrupted")
    deadline.stop.set()

    with pytest.raises(Interrupted):
        case.fetcher.fetch(case.source, place, deadline)

    assert case.held() == CONTENT


@a_file
def test_remove_deletes_the_very_file(case: Case) -> None:
    case.fetcher.remove(case.source)

    assert case.held() is None


def test_remove_of_what_has_gone_is_done_already(case: Case) -> None:
    case.lose()

    case.fetcher.remove(case.source)


@a_link
def test_remove_deletes_nothing_on_a_server(case: Case) -> None:
    case.fetcher.remove(case.source)

    assert case.held() == CONTENT


@a_file
@pytest.mark.parametrize("other", [b"", CONTENT + b".", b"b" + CONTENT[1:], CONTENT[:-1] + b"b"])
def test_remove_leaves_another_file_in_its_place(other: bytes, case: Case) -> None:
    case.replace(other)

    case.fetcher.remove(case.source)

    assert case.held() == other


@a_file
def test_remove_leaves_a_file_that_was_changed_in_its_middle_after_it_was_published(case: Case) -> None:
    published = case.source.model_copy(update={"sha256": sha256(CONTENT).hexdigest()})
    other = CONTENT[:MIDDLE] + b"B" + CONTENT[MIDDLE + 1 :]
    case.replace(other)

    case.fetcher.remove(published)

    assert case.held() == other


# What only files have


def test_a_folder_in_the_place_of_a_file_is_refused_and_never_removed(tmp_path: Path, place: Place, deadline: Deadline) -> None:
    path = tmp_path / "library/film.mp4"
    case = _file(path, tmp_path / "library", SourceGone)
    path.unlink()
    path.mkdir()

    with pytest.raises(VideoError, match="is no longer a file; queue the file itself"):
        case.fetcher.fetch(case.source, place, deadline)
    case.fetcher.remove(case.source)

    assert path.is_dir()


def test_remove_takes_the_link_and_leaves_what_it_points_to(tmp_path: Path) -> None:
    original = tmp_path / "disk/film.mp4"
    original.parent.mkdir()
    original.write_bytes(CONTENT)
    link = tmp_path / "library/film.mp4"
    link.parent.mkdir()
    link.symlink_to(original)
    uri = uri_of(link, tmp_path / "library")
    identity, size = file_identity(link, uri)

    source = Source(kind="file", uri=uri, original_name="film.mp4", size_bytes=size, identity=identity)
    ground = Ground.of(config.Sources(), tmp_path / "library", SystemClock(), {})
    fetcher(source, ground).remove(source)

    assert (os.path.lexists(link), original.read_bytes()) == (False, CONTENT)


def test_a_file_in_the_library_has_the_same_identity_in_every_clone(tmp_path: Path) -> None:
    cases = [_file(tmp_path / name / "media/inbox/film.mp4", tmp_path / name, SourceGone) for name in ("one", "two")]

    assert len({case.source.identity for case in cases}) == 1
    assert cases[0].source.uri == "media/inbox/film.mp4"


def test_the_same_bytes_in_another_place_are_another_source(tmp_path: Path) -> None:
    cases = [_file(tmp_path / "library" / name / "film.mp4", tmp_path / "library", SourceGone) for name in ("one", "two")]

    assert len({case.source.identity for case in cases}) == 2
