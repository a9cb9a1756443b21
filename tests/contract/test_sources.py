"""What every source must do: the same tests over each entry of SOURCES."""

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from dailies.clock import Deadline
from dailies.errors import Category, DailiesError, Interrupted, SourceGone, VideoError, Waiting
from dailies.model import IDENTITY_BYTES, Source, file_identity
from dailies.sources import SOURCES, Fetcher, fetcher
from dailies.sources.file import uri_of
from support import ROOT, FakeClock

MIDDLE = IDENTITY_BYTES + 1000  # where the identity of a large file does not look
CONTENT = b"a film " * 30_000  # 210 kB: more than both ends


@dataclass(frozen=True)
class Case:
    """A queued source and the ways in which the world around it changes; `held` is what is there now, None for nothing."""

    source: Source
    fetcher: Fetcher
    held: Callable[[], bytes | None]
    replace: Callable[[bytes], object]
    lose: Callable[[], object]
    gone: type[DailiesError]


def _file(path: Path, root: Path, gone: type[DailiesError]) -> Case:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(CONTENT)
    uri = uri_of(path, root)
    identity, size = file_identity(path, uri)
    source = Source(kind="file", uri=uri, original_name=path.name, size_bytes=size, identity=identity)
    return Case(
        source, fetcher("file", root), lambda: path.read_bytes() if path.exists() else None, path.write_bytes, path.unlink, gone
    )


# Several cases of one source have its name and a dash in front.
CASES: dict[str, Callable[[Path], Case]] = {
    "file-inside": lambda place: _file(place / "library/media/inbox/film.mp4", place / "library", SourceGone),
    "file-elsewhere": lambda place: _file(place / "disk/film.mp4", place / "library", Waiting),
    "file-odd name": lambda place: _file(place / os.fsdecode(b"library/-\xe9\n.mp4"), place / "library", SourceGone),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    (tmp_path / "library").mkdir()
    return CASES[request.param](tmp_path)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


@pytest.fixture
def deadline(clock: FakeClock) -> Deadline:
    return Deadline.after(clock, 60)


def test_every_source_has_a_case_and_no_case_lacks_its_source() -> None:
    assert {name.partition("-")[0] for name in CASES} == set(SOURCES)


@pytest.mark.parametrize("kind", sorted(SOURCES))
def test_every_source_is_in_the_docs(kind: str) -> None:
    docs = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("*.md")))

    assert re.search(rf"\b{re.escape(kind)}\b", docs, re.IGNORECASE)


def test_the_bytes_arrive_and_the_original_stays(case: Case, target: Path, deadline: Deadline) -> None:
    case.fetcher.fetch(case.source, target, deadline)

    assert target.read_bytes() == CONTENT
    assert case.held() == CONTENT


def test_fetching_twice_is_fetching_once(case: Case, target: Path, deadline: Deadline) -> None:
    target.write_bytes(b"what an interrupted fetch left, and it is longer than the film" * 10_000)

    case.fetcher.fetch(case.source, target, deadline)

    assert target.read_bytes() == CONTENT


def test_a_copy_is_no_second_name_of_the_original(case: Case, target: Path, deadline: Deadline) -> None:
    case.fetcher.fetch(case.source, target, deadline)

    target.write_bytes(b"changed")

    assert case.held() == CONTENT


@pytest.mark.parametrize("other", [b"", CONTENT + b".", CONTENT[:-1], b"b" + CONTENT[1:], CONTENT[:-1] + b"b"])
def test_what_has_changed_since_it_was_queued_is_refused(other: bytes, case: Case, target: Path, deadline: Deadline) -> None:
    case.replace(other)

    with pytest.raises(VideoError, match="has changed since it was queued; add it again") as refused:
        case.fetcher.fetch(case.source, target, deadline)

    assert refused.value.category is Category.CHANGED


def test_what_has_gone_says_so_and_what_to_do(case: Case, target: Path, deadline: Deadline) -> None:
    case.lose()

    with pytest.raises(case.gone, match=r".+: .+(;|,) .+"):
        case.fetcher.fetch(case.source, target, deadline)

    assert not target.exists()


def test_an_interrupted_fetch_ends_at_once_and_leaves_the_original(case: Case, target: Path, deadline: Deadline) -> None:
    target.write_bytes(CONTENT)
    if subprocess.run(["cp", "--reflink=always", target, f"{target}2"], capture_output=True, check=False).returncode == 0:
        pytest.skip("this file system copies in no time, so that nothing can be interrupted")
    deadline.stop.set()

    with pytest.raises(Interrupted):
        case.fetcher.fetch(case.source, target, deadline)

    assert case.held() == CONTENT


def test_remove_deletes_the_very_file(case: Case) -> None:
    case.fetcher.remove(case.source)

    assert case.held() is None


def test_remove_of_what_has_gone_is_done_already(case: Case) -> None:
    case.lose()

    case.fetcher.remove(case.source)


@pytest.mark.parametrize("other", [b"", CONTENT + b".", b"b" + CONTENT[1:], CONTENT[:-1] + b"b"])
def test_remove_leaves_another_file_in_its_place(other: bytes, case: Case) -> None:
    case.replace(other)

    case.fetcher.remove(case.source)

    assert case.held() == other


def test_remove_leaves_a_file_that_was_changed_in_its_middle_after_it_was_published(case: Case) -> None:
    published = case.source.model_copy(update={"sha256": sha256(CONTENT).hexdigest()})
    other = CONTENT[:MIDDLE] + b"B" + CONTENT[MIDDLE + 1 :]
    case.replace(other)

    case.fetcher.remove(published)

    assert case.held() == other


# What only files have


def test_a_folder_in_the_place_of_a_file_is_refused_and_never_removed(tmp_path: Path, target: Path, deadline: Deadline) -> None:
    path = tmp_path / "library/film.mp4"
    case = _file(path, tmp_path / "library", SourceGone)
    path.unlink()
    path.mkdir()

    with pytest.raises(VideoError, match="is no longer a file; queue the file itself"):
        case.fetcher.fetch(case.source, target, deadline)
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

    files = fetcher("file", tmp_path / "library")
    files.remove(Source(kind="file", uri=uri, original_name="film.mp4", size_bytes=size, identity=identity))

    assert (os.path.lexists(link), original.read_bytes()) == (False, CONTENT)


def test_a_file_in_the_library_has_the_same_identity_in_every_clone(tmp_path: Path) -> None:
    cases = [_file(tmp_path / name / "media/inbox/film.mp4", tmp_path / name, SourceGone) for name in ("one", "two")]

    assert len({case.source.identity for case in cases}) == 1
    assert cases[0].source.uri == "media/inbox/film.mp4"


def test_the_same_bytes_in_another_place_are_another_source(tmp_path: Path) -> None:
    cases = [_file(tmp_path / "library" / name / "film.mp4", tmp_path / "library", SourceGone) for name in ("one", "two")]

    assert len({case.source.identity for case in cases}) == 2
