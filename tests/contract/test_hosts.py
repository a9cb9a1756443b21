"""What every host adapter must do: the same tests over each entry of HOSTS, as far as its capabilities go."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from pydantic import BaseModel

from dailies.clock import Deadline, SystemClock
from dailies.config import Settings
from dailies.errors import ConfigError, Interrupted, OutOfTime, Transient
from dailies.hosts import HOSTS, Asset, Ground, Host, Transfer, build
from dailies.hosts.host import State
from dailies.hosts.storage import Storage
from dailies.http import Http
from dailies.model import Kind
from support import ROOT, FakeClock

VIDEO_ID = "film-0123456789ab"
SECOND_ID = "other-ba9876543210"
PICTURES = (".cover.jpg", ".cover.webp", ".sprite.jpg", ".sprite.vtt", ".contact.jpg", ".preview.webp")
CONTENT = b"a film " * 1_300_000  # 9.1 MB: several chunks


@dataclass(frozen=True)
class Case:
    """One adapter with a place of its own. `stored` are the whole contents there, with any leftovers; `break_` makes it refuse.

    `is_exact`: its `find` knows these bytes from others under the same name.
    """

    host: Host
    settings: dict[str, object]
    stored: Callable[[], list[bytes]]
    break_: Callable[[], object]
    is_exact: bool = True


def _folder(place: Path) -> Case:
    folder = place / "published"

    def break_() -> None:
        folder.write_text("a file where a folder is wanted")

    def stored() -> list[bytes]:
        return [path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()]

    return Case(storage(place, path="published"), {"path": "published"}, stored, break_)


def storage(root: Path, **settings: str) -> Storage:
    return Storage(ground=Ground(root, Http(SystemClock())), **settings)


CASES: dict[str, Callable[[Path], Case]] = {"folder": _folder, "storage": _folder}


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
def transfer(clock: FakeClock) -> Transfer:
    return Transfer(Deadline.after(clock, 60))


def video(path: Path, video_id: str = VIDEO_ID) -> Asset:
    content = path.read_bytes()
    return Asset(video_id, Kind.VIDEO, ".mp4", hashlib.sha256(content).hexdigest(), len(content), duration_s=60.0)


def assets(path: Path, case: Case) -> list[Asset]:
    """Every file that this host is given of two videos, the pictures each by a name of their own."""
    names = [(Kind.VIDEO, ".mp4"), (Kind.PREVIEW, ".preview.mp4"), *((Kind.IMAGE, suffix) for suffix in PICTURES)]
    return [
        replace(video(path, video_id), kind=kind, suffix=suffix)
        for video_id in (VIDEO_ID, SECOND_ID)
        for kind, suffix in names
        if kind in case.host.capabilities.kinds
    ]


def needs(is_able: bool, what: str) -> None:
    if not is_able:
        pytest.skip(f"this host {what}")


def test_every_adapter_has_a_case_and_no_case_lacks_its_adapter() -> None:
    assert set(CASES) == set(HOSTS)


@pytest.mark.parametrize("name", sorted(HOSTS))
def test_every_adapter_is_in_the_settings_guide(name: str) -> None:
    text = (ROOT / "docs/settings.md").read_text("utf-8")

    (section,) = re.findall(rf"^### {re.escape(name)}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    adapter = HOSTS[name]
    assert isinstance(adapter, type)
    assert issubclass(adapter, BaseModel)
    assert all(f"| `{key}` |" in section for key, one in adapter.model_fields.items() if one.description)


@pytest.mark.parametrize("name", sorted(CASES))
def test_an_unknown_setting_of_an_adapter_names_the_nearest(name: str, tmp_path: Path) -> None:
    section = {"adapter": name, **CASES[name](tmp_path).settings, "pathh": "typing error"}
    settings = Settings.model_validate({"hosts": {"place": section}, "publish": {"hosts": ["place"], "preview_hosts": []}})

    with pytest.raises(ConfigError, match=r"^hosts\.place: pathh: unknown key; the nearest known one is \w+$"):
        build(settings, tmp_path, SystemClock(), {})


def test_what_was_uploaded_is_there_and_is_found(case: Case, film: Path, transfer: Transfer) -> None:
    receipt = case.host.upload(film, video(film), transfer)

    assert case.stored() == [CONTENT]
    assert case.host.find(video(film), transfer) == receipt
    assert receipt.remote_id
    assert receipt.watch_url or receipt.direct_url or receipt.embed_url


def test_the_same_upload_twice_is_one_file(case: Case, film: Path, transfer: Transfer) -> None:
    needs(case.host.capabilities.overwrites, "makes a second file of it")
    first = case.host.upload(film, video(film), transfer)

    assert case.host.upload(film, video(film), transfer) == first
    assert case.stored() == [CONTENT]


def test_a_better_version_replaces_the_old_one(case: Case, film: Path, transfer: Transfer) -> None:
    needs(case.host.capabilities.overwrites, "keeps both")
    old = video(film)
    case.host.upload(film, old, transfer)
    film.write_bytes(b"better")

    case.host.upload(film, video(film), transfer)

    assert case.stored() == [b"better"]
    assert case.host.find(old, transfer) is None


def test_only_these_bytes_of_this_file_of_this_video_are_found(case: Case, film: Path, transfer: Transfer) -> None:
    assert case.host.find(video(film), transfer) is None

    case.host.upload(film, video(film), transfer)

    if case.is_exact:
        assert case.host.find(replace(video(film), sha256="0" * 64), transfer) is None
    others = [asset for asset in assets(film, case) if asset != video(film)]
    assert [case.host.find(asset, transfer) for asset in others] == [None] * len(others)


def test_files_videos_and_kinds_do_not_get_into_each_others_way(case: Case, film: Path, transfer: Transfer) -> None:
    wanted = assets(film, case)

    receipts = {case.host.upload(film, asset, transfer).remote_id for asset in wanted}

    assert len(receipts) == len(wanted)
    assert case.stored() == [CONTENT] * len(wanted)


def test_what_is_there_is_ready_and_what_was_deleted_is_missing(case: Case, film: Path, transfer: Transfer) -> None:
    receipt = case.host.upload(film, video(film), transfer)
    there = case.host.check(video(film), receipt.remote_id, transfer.deadline).state
    assert there in {State.READY, State.PROCESSING}
    needs(case.host.capabilities.deletes, "deletes nothing")

    for _ in range(2):  # what is not there any more is no error
        case.host.delete(receipt.remote_id, transfer.deadline)

    assert case.host.check(video(film), receipt.remote_id, transfer.deadline).state is State.MISSING
    assert case.stored() == []


def test_what_a_host_gives_back_are_the_very_bytes(case: Case, film: Path, transfer: Transfer, tmp_path: Path) -> None:
    needs(case.host.capabilities.gives_back, "gives nothing back")
    receipt = case.host.upload(film, video(film), transfer)

    case.host.fetch(video(film), receipt.remote_id, tmp_path / "back", transfer.deadline)

    assert (tmp_path / "back").read_bytes() == CONTENT


def test_progress_ends_with_the_whole_file(case: Case, film: Path, transfer: Transfer) -> None:
    told: list[int] = []

    case.host.upload(film, video(film), replace(transfer, progress=told.append))

    assert told == sorted(told)
    assert told[-1] == len(CONTENT)


def test_a_host_that_would_take_it_says_so_and_nothing_is_left_there(case: Case, transfer: Transfer) -> None:
    assert case.host.preflight(transfer.deadline)
    assert case.stored() == []


def test_other_bytes_than_were_promised_are_refused_and_not_kept(case: Case, film: Path, transfer: Transfer) -> None:
    needs(case.host.capabilities.verifies_hash, "knows no hash")
    with pytest.raises(Transient, match="differs"):
        case.host.upload(film, replace(video(film), sha256="0" * 64), transfer)

    assert case.stored() == []


def test_bytes_that_are_refused_leave_the_old_version_whole(case: Case, film: Path, transfer: Transfer) -> None:
    needs(case.host.capabilities.verifies_hash, "knows no hash")
    case.host.upload(film, video(film), transfer)
    (other := film.with_name("other.mp4")).write_bytes(b"other")

    with pytest.raises(Transient):
        case.host.upload(other, replace(video(other), sha256="0" * 64), transfer)

    assert case.stored() == [CONTENT]


def test_an_upload_whose_time_is_over_anywhere_leaves_nothing(case: Case, film: Path) -> None:
    needs(case.host.capabilities.overwrites, "may have it all by then")
    asset, ended = video(film), list[int]()
    for looks in range(1, 20):
        before = case.stored()
        try:
            case.host.upload(film, asset, Transfer(Deadline.after(TickingClock(), looks)))
        except OutOfTime:
            ended.append(looks)
            assert case.stored() == before == []

    assert ended[:2] == [1, 2]  # it was ended at several places
    assert case.stored() == [CONTENT]  # and with time enough it is there


def test_an_upload_that_is_interrupted_leaves_nothing(case: Case, film: Path, transfer: Transfer) -> None:
    transfer.deadline.stop.set()

    with pytest.raises(Interrupted):
        case.host.upload(film, video(film), transfer)

    assert case.stored() == []


def test_a_host_that_cannot_take_it_is_tried_later_and_says_what_to_do(case: Case, film: Path, transfer: Transfer) -> None:
    case.break_()
    before = case.stored()

    with pytest.raises(Transient, match=r".+: .+; .+"):
        case.host.upload(film, video(film), transfer)

    assert case.stored() == before


def test_the_file_that_is_sent_stays_as_it_is(case: Case, film: Path, transfer: Transfer) -> None:
    case.host.upload(film, video(film), transfer)

    assert film.read_bytes() == CONTENT


def test_a_receipt_says_nothing_about_this_machine(case: Case, film: Path, transfer: Transfer, tmp_path: Path) -> None:
    receipt = case.host.upload(film, video(film), transfer)

    assert str(tmp_path) not in repr(receipt)


# What only the folder has


def test_a_folder_outside_the_library_is_named_only_by_its_file(tmp_path: Path, film: Path, transfer: Transfer) -> None:
    host = storage(tmp_path / "library", path=str(tmp_path / "disk"))

    receipt = host.upload(film, video(film), transfer)

    assert (tmp_path / "disk" / f"{VIDEO_ID}.mp4").read_bytes() == CONTENT
    assert (receipt.remote_id, receipt.direct_url) == (f"{VIDEO_ID}.mp4", f"{VIDEO_ID}.mp4")


def test_a_served_folder_makes_links(tmp_path: Path, film: Path, transfer: Transfer) -> None:
    host = storage(tmp_path, path="public", public_url="https://films.example/all/")

    receipts = [host.upload(film, replace(video(film), suffix=suffix), transfer) for suffix in (".preview.mp4", ".cover.jpg")]

    made = [f"{VIDEO_ID}.preview.mp4", f"{VIDEO_ID}.cover.jpg"]
    assert [receipt.direct_url for receipt in receipts] == [f"https://films.example/all/{name}" for name in made]


def test_everyone_may_read_what_a_folder_publishes(tmp_path: Path, film: Path, transfer: Transfer) -> None:
    film.chmod(0o600)

    storage(tmp_path, path="public").upload(film, video(film), transfer)

    (reference := tmp_path / "reference").touch()
    assert (tmp_path / "public" / f"{VIDEO_ID}.mp4").stat().st_mode == reference.stat().st_mode
