"""What every host adapter must do: the same tests over each entry of HOSTS."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from pydantic import BaseModel

from dailies.clock import Deadline
from dailies.config import Settings
from dailies.errors import ConfigError, Interrupted, OutOfTime, Transient
from dailies.hosts import HOSTS, Asset, Host, build
from dailies.hosts.folder import FolderHost
from dailies.model import Kind
from support import ROOT, FakeClock

VIDEO_ID = "film-0123456789ab"
SECOND_ID = "other-ba9876543210"
PICTURES = (".cover.jpg", ".cover.webp", ".sprite.jpg", ".sprite.vtt", ".contact.jpg", ".preview.webp")
CONTENT = b"a film " * 1_300_000  # 9.1 MB: several chunks


@dataclass(frozen=True)
class Case:
    """One adapter with a place of its own. `stored` are the whole contents there, with any leftovers; `break_` makes it refuse."""

    host: Host
    settings: dict[str, object]
    stored: Callable[[], list[bytes]]
    break_: Callable[[], object]


def _folder(place: Path) -> Case:
    folder = place / "published"

    def break_() -> None:
        folder.write_text("a file where a folder is wanted")

    def stored() -> list[bytes]:
        return [path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()]

    return Case(FolderHost(root=place, path="published"), {"path": "published"}, stored, break_)


CASES: dict[str, Callable[[Path], Case]] = {"folder": _folder}


@dataclass
class TickingClock(FakeClock):
    """Each look takes a second: a deadline of n seconds ends at the n-th look, wherever that is."""

    looks: int = field(default=0)

    def monotonic(self) -> float:
        self.looks += 1
        self.elapsed += 1
        return self.elapsed


@pytest.fixture(params=sorted(HOSTS))
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    if request.param not in CASES:
        pytest.skip("has no case, which is an error of its own")
    return CASES[request.param](tmp_path)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def deadline(clock: FakeClock) -> Deadline:
    return Deadline.after(clock, 60)


def video(path: Path, video_id: str = VIDEO_ID) -> Asset:
    return Asset(video_id, Kind.VIDEO, ".mp4", hashlib.sha256(path.read_bytes()).hexdigest())


def assets(path: Path) -> list[Asset]:
    """Every file that a host is given of two videos, the pictures each by a name of their own."""
    names = [(Kind.VIDEO, ".mp4"), (Kind.PREVIEW, ".preview.mp4"), *((Kind.IMAGE, suffix) for suffix in PICTURES)]
    return [
        replace(video(path, video_id), kind=kind, suffix=suffix) for video_id in (VIDEO_ID, SECOND_ID) for kind, suffix in names
    ]


def test_every_adapter_has_a_case_and_no_case_lacks_its_adapter() -> None:
    assert set(CASES) == set(HOSTS)


@pytest.mark.parametrize("name", sorted(HOSTS))
def test_every_adapter_is_in_the_settings_guide(name: str) -> None:
    text = (ROOT / "docs/settings.md").read_text("utf-8")

    (section,) = re.findall(rf"^### {re.escape(name)}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    adapter = HOSTS[name]
    assert isinstance(adapter, type)
    assert issubclass(adapter, BaseModel)
    assert all(f"| `{key}` |" in section for key, one in adapter.model_fields.items() if key != "root" and one.description)


@pytest.mark.parametrize("name", sorted(HOSTS))
def test_an_unknown_setting_of_an_adapter_names_the_nearest(name: str, tmp_path: Path) -> None:
    section = {"adapter": name, **CASES[name](tmp_path).settings, "pathh": "typing error"}

    with pytest.raises(ConfigError, match=r"^hosts\.place: pathh: unknown key; the nearest known one is \w+$"):
        build(
            Settings.model_validate({"hosts": {"place": section}, "publish": {"hosts": ["place"], "preview_hosts": []}}), tmp_path
        )


def test_what_was_uploaded_is_there_and_is_found(case: Case, film: Path, deadline: Deadline) -> None:
    receipt = case.host.upload(film, video(film), deadline)

    assert case.stored() == [CONTENT]
    assert case.host.find(video(film), deadline) == receipt
    assert receipt.remote_id
    assert receipt.watch_url or receipt.direct_url or receipt.embed_url


def test_the_same_upload_twice_is_one_file(case: Case, film: Path, deadline: Deadline) -> None:
    first = case.host.upload(film, video(film), deadline)

    assert case.host.upload(film, video(film), deadline) == first
    assert case.stored() == [CONTENT]


def test_a_better_version_replaces_the_old_one(case: Case, film: Path, deadline: Deadline) -> None:
    old = video(film)
    case.host.upload(film, old, deadline)
    film.write_bytes(b"better")

    case.host.upload(film, video(film), deadline)

    assert case.stored() == [b"better"]
    assert case.host.find(old, deadline) is None


def test_only_these_bytes_of_this_file_of_this_video_are_found(case: Case, film: Path, deadline: Deadline) -> None:
    assert case.host.find(video(film), deadline) is None

    case.host.upload(film, video(film), deadline)

    assert case.host.find(replace(video(film), sha256="0" * 64), deadline) is None
    assert [case.host.find(asset, deadline) for asset in assets(film) if asset != video(film)] == [None] * (len(assets(film)) - 1)


def test_files_videos_and_kinds_do_not_get_into_each_others_way(case: Case, film: Path, deadline: Deadline) -> None:
    wanted = assets(film)

    receipts = {case.host.upload(film, asset, deadline).remote_id for asset in wanted}

    assert len(receipts) == len(wanted)
    assert case.stored() == [CONTENT] * len(wanted)


def test_other_bytes_than_were_promised_are_refused_and_not_kept(case: Case, film: Path, deadline: Deadline) -> None:
    with pytest.raises(Transient, match="differs"):
        case.host.upload(film, replace(video(film), sha256="0" * 64), deadline)

    assert case.stored() == []


def test_bytes_that_are_refused_leave_the_old_version_whole(case: Case, film: Path, deadline: Deadline) -> None:
    case.host.upload(film, video(film), deadline)
    (other := film.with_name("other.mp4")).write_bytes(b"other")

    with pytest.raises(Transient):
        case.host.upload(other, replace(video(film), sha256="0" * 64), deadline)

    assert case.stored() == [CONTENT]


def test_an_upload_whose_time_is_over_anywhere_leaves_nothing(case: Case, film: Path) -> None:
    asset, ended = video(film), list[int]()
    for looks in range(1, 20):
        before = case.stored()
        try:
            case.host.upload(film, asset, Deadline.after(TickingClock(), looks))
        except OutOfTime:
            ended.append(looks)
            assert case.stored() == before == []

    assert ended[:2] == [1, 2]  # it was ended at several places
    assert case.stored() == [CONTENT]  # and with time enough it is there


def test_an_upload_that_is_interrupted_leaves_nothing(case: Case, film: Path, deadline: Deadline) -> None:
    deadline.stop.set()

    with pytest.raises(Interrupted):
        case.host.upload(film, video(film), deadline)

    assert case.stored() == []


def test_a_host_that_cannot_take_it_is_tried_later_and_says_what_to_do(case: Case, film: Path, deadline: Deadline) -> None:
    case.break_()
    before = case.stored()

    with pytest.raises(Transient, match=r".+: .+; .+"):
        case.host.upload(film, video(film), deadline)

    assert case.stored() == before


def test_the_file_that_is_sent_stays_as_it_is(case: Case, film: Path, deadline: Deadline) -> None:
    case.host.upload(film, video(film), deadline)

    assert film.read_bytes() == CONTENT


def test_a_receipt_says_nothing_about_this_machine(case: Case, film: Path, deadline: Deadline, tmp_path: Path) -> None:
    receipt = case.host.upload(film, video(film), deadline)

    assert str(tmp_path) not in repr(receipt)


# What only the folder has


def test_a_folder_outside_the_library_is_named_only_by_its_file(tmp_path: Path, film: Path, deadline: Deadline) -> None:
    host = FolderHost(root=tmp_path / "library", path=str(tmp_path / "disk"))

    receipt = host.upload(film, video(film), deadline)

    assert (tmp_path / "disk" / f"{VIDEO_ID}.mp4").read_bytes() == CONTENT
    assert (receipt.remote_id, receipt.direct_url) == (f"{VIDEO_ID}.mp4", f"{VIDEO_ID}.mp4")


def test_a_served_folder_makes_links(tmp_path: Path, film: Path, deadline: Deadline) -> None:
    host = FolderHost(root=tmp_path, path="public", public_url="https://films.example/all/")

    receipts = [host.upload(film, asset, deadline) for asset in assets(film)[1:3]]

    made = [f"{VIDEO_ID}.preview.mp4", f"{VIDEO_ID}.cover.jpg"]
    assert [receipt.direct_url for receipt in receipts] == [f"https://films.example/all/{name}" for name in made]


def test_everyone_may_read_what_a_folder_publishes(tmp_path: Path, film: Path, deadline: Deadline) -> None:
    film.chmod(0o600)

    FolderHost(root=tmp_path, path="public").upload(film, video(film), deadline)

    (reference := tmp_path / "reference").touch()
    assert (tmp_path / "public" / f"{VIDEO_ID}.mp4").stat().st_mode == reference.stat().st_mode
