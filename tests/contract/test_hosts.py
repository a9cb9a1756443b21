"""What every host adapter must do: the same tests over each entry of HOSTS, as far as its capabilities go."""

import hashlib
import re
import stat
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit

import pytest
from pydantic import BaseModel

from dailies.clock import Clock, Deadline, SystemClock
from dailies.config import HostSettings, Settings
from dailies.errors import (
    ConfigError,
    DailiesError,
    Denied,
    HostRefused,
    Interrupted,
    OutcomeUnknown,
    OutOfTime,
    RateLimited,
    Transient,
)
from dailies.hosts import HOSTS, Asset, Capabilities, Details, Ground, Host, Receipt, Session, Transfer, build, secret_names
from dailies.hosts.host import ALL_KINDS, State
from dailies.hosts.storage import Storage
from dailies.http import Http
from dailies.model import Kind
from dailies.redact import SHORTEST_SECRET
from hosted import PLACES, SECRETS, Place, stored
from loopback import Call, Fault, Reply
from support import ROOT, FakeClock

VIDEO_ID = "film-0123456789ab"
SECOND_ID = "other-ba9876543210"
PICTURES = (".cover.jpg", ".cover.webp", ".sprite.jpg", ".sprite.vtt", ".contact.jpg", ".preview.webp")
CONTENT = b"a film " * 1_300_000  # 9.1 MB: several chunks, and more than sockets hold
SMALL = b"a clip " * 50_000  # two blocks
MANUALS = {name: f"hosts/{'storage' if name == 'folder' else name}.md" for name in HOSTS}


@dataclass(frozen=True)
class Case:
    """One adapter with a place of its own; `break_` makes it refuse.

    `knows_missing`: what is not there is told
    from what is worked on.
    """

    host: Host
    place: Place
    root: Path
    break_: Callable[[], object]
    knows_missing: bool = True

    @property
    def stored(self) -> list[str]:
        """The sha256 of everything there, with any leftovers."""
        return list(self.place.copies().values())

    def find(self, asset: Asset, transfer: Transfer) -> Receipt | None:
        """Once the host has done what it does later."""
        self.place.takes_in()
        return self.host.find(asset, transfer)

    def again(self, clock: Clock, secrets: Mapping[str, str]) -> Host:
        """The same host with other secrets."""
        return made(self.place, self.root, clock, secrets)

    def goes_wrong(self, fault: Fault | None) -> None:
        """Every request with a file in it, from now on."""
        assert self.place.server is not None
        self.place.server.chaos = lambda what: fault if re.search(self.place.carries, what) else None


def made(place: Place, root: Path, clock: Clock, secrets: Mapping[str, str] = SECRETS) -> Host:
    """As a run makes it."""
    section = {"adapter": place.adapter, **place.section}
    settings = Settings.model_validate({"hosts": {"place": section}, "publish": {"hosts": ["place"], "preview_hosts": []}})
    return build(settings, root, clock, secrets)["place"]


@contextmanager
def _folder(adapter: str, root: Path, clock: Clock) -> Iterator[Case]:
    folder = root / "published"
    place = Place(adapter, {"path": "published"}, lambda: stored(folder), None)
    yield Case(made(place, root, clock), place, root, lambda: folder.write_text("a file where a folder is wanted"))


@contextmanager
def _served(name: str, root: Path, clock: Clock, **knowledge: bool) -> Iterator[Case]:
    with PLACES[name]() as place:
        server = place.server
        assert server is not None
        vars(server)["echoes"] = True  # those that can repeat in errors what they were sent do

        def break_() -> None:
            server.chaos = lambda _what: Fault.SERVER_ERROR

        yield Case(made(place, root, clock), place, root, break_, **knowledge)


CASES: dict[str, Callable[[Path, Clock], AbstractContextManager[Case]]] = {
    "folder": partial(_folder, "folder"),
    "storage": partial(_folder, "storage"),
    "internet_archive": partial(_served, "internet_archive", knows_missing=False),
    "xvideosharing": partial(_served, "xvideosharing"),
    "streamtape": partial(_served, "streamtape"),
    "youtube": partial(_served, "youtube"),
    "peertube": partial(_served, "peertube"),
}


def storage(root: Path, **settings: str) -> Storage:
    return Storage(ground=Ground(root, Http(SystemClock())), **settings)


@dataclass
class TickingClock(FakeClock):
    """Each look takes a second: a deadline of n seconds ends at the n-th look, wherever that is. Looks of other threads are free,
    so that the n-th look is at the same place each time."""

    owner: threading.Thread = field(default_factory=threading.current_thread)

    def monotonic(self) -> float:
        self.elapsed += threading.current_thread() is self.owner
        return self.elapsed


@pytest.fixture(params=sorted(HOSTS))
def case(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Case]:
    if request.param not in CASES:
        pytest.skip("has no case, which is an error of its own")
    with CASES[request.param](tmp_path, clock) as opened:
        yield opened


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.mp4"
    path.write_bytes(SMALL)
    return path


@pytest.fixture
def transfer(clock: FakeClock) -> Transfer:
    return Transfer(Deadline.after(clock, 3600))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def video(path: Path, video_id: str = VIDEO_ID) -> Asset:
    content = path.read_bytes()
    return Asset(video_id, Kind.VIDEO, ".mp4", digest(content), len(content), duration_s=60.0)


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


def needs_server(case: Case) -> None:
    needs(not case.host.capabilities.is_local, "is on this machine: nothing comes between")


def is_same(found: Receipt | None, receipt: Receipt) -> bool:
    """Whether it is settled may have changed since."""
    return found is not None and replace(found, is_settled=receipt.is_settled) == receipt


# What is declared


def test_every_adapter_has_a_case_and_no_case_lacks_its_adapter() -> None:
    assert set(CASES) == set(HOSTS)


@pytest.mark.parametrize("name", sorted(HOSTS))
def test_every_adapter_is_in_the_settings_guide(name: str) -> None:
    text = (ROOT / "docs/settings.md").read_text("utf-8")

    (section,) = re.findall(rf"^### {re.escape(name)}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    assert all(f"| `{key}` |" in section for key in setting_keys(name))


def setting_keys(name: str) -> list[str]:
    adapter = HOSTS[name]
    assert isinstance(adapter, type)
    assert issubclass(adapter, BaseModel)
    return [key for key, one in adapter.model_fields.items() if one.description]


@pytest.mark.parametrize("name", sorted(HOSTS))
def test_every_adapter_has_a_manual_that_names_its_settings_and_is_linked(name: str) -> None:
    manual = (ROOT / "docs" / MANUALS[name]).read_text("utf-8")

    assert f"]({MANUALS[name]})" in (ROOT / "docs/hosts.md").read_text("utf-8")
    assert [key for key in setting_keys(name) if not re.search(rf"(`|^){key}\b", manual, re.MULTILINE)] == []


def test_the_table_of_hosts_says_what_each_can_do(case: Case) -> None:
    row = _row(case.place.adapter, case.host.capabilities)

    assert row in (ROOT / "docs/hosts.md").read_text("utf-8").splitlines()


def _row(name: str, able: Capabilities) -> str:
    kinds = "all" if able.kinds == ALL_KINDS else ", ".join(kind for kind in Kind if kind in able.kinds)
    limit = f"{able.max_bytes / 1e9:,.0f} GB" if able.max_bytes else "–"
    truths = (able.is_resumable, able.verifies_hash, able.deletes, able.gives_back)
    cells = [f"[{name}]({MANUALS[name]})", _yes(able.overwrites), kinds, limit, *map(_yes, truths)]
    return f"| {' | '.join(cells)} |"


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"


def test_what_a_host_can_do_is_declared_without_asking_it_and_makes_sense(case: Case) -> None:
    able = case.host.capabilities

    assert Kind.VIDEO in able.kinds <= ALL_KINDS
    assert able.max_bytes is None or able.max_bytes >= 1e9
    assert 0 <= able.settle_s <= 600
    assert not (able.overwrites and able.settle_s)  # what is overwritten in place is not waited for
    assert not (able.is_local and (able.needs_public_url or able.is_resumable))
    assert case.place.server is None or not case.place.server.points


@pytest.mark.parametrize("name", sorted(CASES))
def test_an_unknown_setting_of_an_adapter_names_the_nearest(name: str, tmp_path: Path, clock: FakeClock) -> None:
    with CASES[name](tmp_path, clock) as case:
        place = replace(case.place, section={**case.place.section, "pathh": "typing error"})

        with pytest.raises(ConfigError, match=r"^hosts\.place: pathh: unknown key; the nearest known one is \w+$"):
            made(place, tmp_path, clock)


# Being let in


def test_a_host_that_would_take_it_says_so_in_a_line_and_nothing_is_left_there(case: Case, transfer: Transfer) -> None:
    said = case.host.preflight(transfer.deadline)

    assert said.strip()
    assert said.isprintable()
    assert secrets_in(said, case) == []
    assert case.stored == []


def test_a_wrong_or_missing_key_is_denied_and_nothing_is_sent(
    case: Case, small: Path, clock: FakeClock, transfer: Transfer
) -> None:
    names = secret_names(HostSettings.model_validate({"adapter": case.place.adapter, **case.place.section}))
    needs(bool(names), "has no keys")
    for name in names:
        for value in ("wrong-0123456789", ""):
            secrets = {**SECRETS, name: value}
            host = case.again(clock, secrets)
            said = [
                trouble(partial(host.preflight, transfer.deadline), Denied),
                trouble(partial(host.upload, small, video(small), transfer), Denied),
            ]
            assert all(value or name in text for text in said)  # the variable that is not set is named
            assert secrets_in("".join(said), case, secrets) == []
    assert case.stored == []


def trouble(action: Callable[[], object], kind: type[DailiesError] = DailiesError) -> str:
    """All that is told of an error: its trace with every cause, its words, its repr."""
    with pytest.raises(kind) as caught:
        action()
    return all_of(caught.value)


def all_of(error: BaseException) -> str:
    return "".join([*traceback.format_exception(error), str(error), repr(error), repr(vars(error))])


def secrets_in(text: str, case: Case, secrets: Mapping[str, str] = SECRETS, session: Session | None = None) -> list[str]:
    """Which there are, in any spelling; those too that the host has given away since."""
    address = str((session or Session()).load().get("address", ""))
    given = [str(getattr(case.place.server, "token", "")), address, *(value for _, value in parse_qsl(urlsplit(address).query))]
    known = {value for value in [*secrets.values(), *given] if len(value) >= SHORTEST_SECRET and value != "resumable"}
    return [value for value in known if any(one in text for one in (value, quote(value), quote(value, safe=""), quote_plus(value)))]


# Uploads


def test_what_was_uploaded_is_there_and_is_found(case: Case, film: Path, transfer: Transfer) -> None:
    receipt = case.host.upload(film, video(film), transfer)

    assert case.stored == [digest(CONTENT)]
    assert is_same(case.find(video(film), transfer), receipt)
    assert receipt.remote_id in case.place.copies()
    assert receipt.watch_url or receipt.direct_url or receipt.embed_url


def test_the_same_upload_twice_is_one_file(case: Case, small: Path, transfer: Transfer) -> None:
    needs(case.host.capabilities.overwrites, "makes a second file of it")
    first = case.host.upload(small, video(small), transfer)

    assert case.host.upload(small, video(small), transfer) == first
    assert case.stored == [digest(SMALL)]


def test_a_better_version_replaces_the_old_one(case: Case, small: Path, transfer: Transfer) -> None:
    needs(case.host.capabilities.overwrites, "keeps both")
    old = video(small)
    case.host.upload(small, old, transfer)
    small.write_bytes(b"better")

    case.host.upload(small, video(small), transfer)

    assert case.stored == [digest(b"better")]
    assert case.find(old, transfer) is None


def test_only_these_bytes_of_this_file_of_this_video_are_found(case: Case, small: Path, transfer: Transfer) -> None:
    assert case.find(video(small), transfer) is None

    case.host.upload(small, video(small), transfer)

    assert case.find(replace(video(small), sha256="0" * 64), transfer) is None
    others = [asset for asset in assets(small, case) if asset != video(small)]
    assert [case.host.find(asset, transfer) for asset in others] == [None] * len(others)


def test_files_videos_and_kinds_do_not_get_into_each_others_way(case: Case, small: Path, transfer: Transfer) -> None:
    wanted = assets(small, case)

    receipts = {case.host.upload(small, asset, replace(transfer, session=Session())).remote_id for asset in wanted}

    assert len(receipts) == len(wanted)
    assert case.stored == [digest(SMALL)] * len(wanted)


def test_what_is_there_is_ready_and_what_was_deleted_is_not(case: Case, small: Path, transfer: Transfer) -> None:
    receipt = case.host.upload(small, video(small), transfer)
    assert case.host.check(video(small), receipt.remote_id, transfer.deadline).state in {State.READY, State.PROCESSING}
    case.place.takes_in()
    assert case.host.check(video(small), receipt.remote_id, transfer.deadline).state in {State.READY, State.PROCESSING}
    needs(case.host.capabilities.deletes, "deletes nothing")

    for _ in range(2):  # what is not there any more is no error
        case.host.delete(receipt.remote_id, transfer.deadline)
        case.place.takes_in()

    gone = State.MISSING if case.knows_missing else State.PROCESSING
    assert case.host.check(video(small), receipt.remote_id, transfer.deadline).state is gone
    assert case.find(video(small), replace(transfer, session=Session())) is None
    assert case.stored == []


def test_what_a_host_gives_back_are_the_very_bytes(case: Case, small: Path, transfer: Transfer, tmp_path: Path) -> None:
    receipt, target = case.host.upload(small, video(small), transfer), tmp_path / "back"
    case.place.takes_in()
    if not case.host.capabilities.gives_back:
        with pytest.raises(ConfigError, match=r".+: .+; .+"):
            case.host.fetch(video(small), receipt.remote_id, target, transfer.deadline)
        assert not target.exists()
        return

    case.host.fetch(video(small), receipt.remote_id, target, transfer.deadline)

    assert target.read_bytes() == SMALL


def test_progress_never_falls_and_ends_with_the_whole_file(case: Case, film: Path, transfer: Transfer) -> None:
    told: list[int] = []

    case.host.upload(film, video(film), replace(transfer, progress=told.append))

    assert told == sorted(told)
    assert told[-1] == len(CONTENT)


def test_other_bytes_than_were_promised_are_refused_and_not_kept(case: Case, small: Path, transfer: Transfer) -> None:
    needs(case.host.capabilities.verifies_hash, "knows no hash")
    with pytest.raises(Transient, match="differs"):
        case.host.upload(small, replace(video(small), sha256="0" * 64), transfer)

    assert case.stored == []


def test_bytes_that_are_refused_leave_the_old_version_whole(case: Case, small: Path, transfer: Transfer) -> None:
    needs(case.host.capabilities.verifies_hash, "knows no hash")
    case.host.upload(small, video(small), transfer)
    (other := small.with_name("other.mp4")).write_bytes(b"other")

    with pytest.raises(Transient):
        case.host.upload(other, replace(video(other), sha256="0" * 64), transfer)

    assert case.stored == [digest(SMALL)]


def test_an_upload_whose_time_is_over_anywhere_leaves_nothing(case: Case, small: Path) -> None:
    asset, ended = video(small), list[int]()
    for looks in range(1, 100):
        try:
            case.host.upload(small, asset, Transfer(Deadline.after(TickingClock(), looks)))
            break
        except OutOfTime:
            ended.append(looks)
            assert case.stored == []

    assert ended[:2] == [1, 2]  # it was ended at several places
    assert case.stored == [digest(SMALL)]  # and with time enough it is there


def test_an_upload_that_is_interrupted_leaves_nothing(case: Case, small: Path, transfer: Transfer) -> None:
    transfer.deadline.stop.set()

    with pytest.raises(Interrupted):
        case.host.upload(small, video(small), transfer)

    assert case.stored == []


def test_a_host_that_cannot_take_it_is_tried_later_and_says_what_to_do(case: Case, small: Path, transfer: Transfer) -> None:
    case.break_()
    before = case.stored

    with pytest.raises(Transient, match=r".+: .+; .+"):
        case.host.upload(small, video(small), transfer)

    assert case.stored == before


def test_the_file_that_is_sent_stays_as_it_is(case: Case, small: Path, transfer: Transfer) -> None:
    case.host.upload(small, video(small), transfer)

    assert small.read_bytes() == SMALL


def test_a_receipt_says_nothing_about_this_machine_and_no_secret(
    case: Case, small: Path, transfer: Transfer, tmp_path: Path
) -> None:
    receipt = case.host.upload(small, video(small), transfer)

    assert str(tmp_path) not in repr(receipt)
    assert secrets_in(f"{receipt!r} {case.host!r} {transfer!r}", case, session=transfer.session) == []


def test_names_and_texts_from_outside_do_no_harm(case: Case, small: Path, transfer: Transfer, tmp_path: Path) -> None:
    odd = """../../"it's"\r\nX-Evil: 1\n::error::gone \x1b[31m 🎬 \u202e {id} %s <b>"""
    asset = replace(video(small), details=Details(odd, odd, (odd, "sea"), (odd,), (odd,), release_date=odd))

    receipt = case.host.upload(small, asset, transfer)

    assert case.stored == [digest(SMALL)]
    assert is_same(case.find(asset, transfer), receipt)
    assert repr(receipt).isprintable()
    assert "::error::" not in repr(receipt)
    assert {path.name for path in tmp_path.rglob("*")} <= {"small.mp4", "published", f"{VIDEO_ID}.mp4"}
    server = case.place.server
    assert server is None or not any("x-evil" in call.headers for call in server.calls)


# Trouble on the way


@pytest.mark.parametrize("fault", [Fault.LOST_ANSWER, Fault.GARBLED])
def test_a_lost_answer_is_unknown_or_settled_and_the_only_copy_is_found(
    case: Case, fault: Fault, small: Path, transfer: Transfer
) -> None:
    needs_server(case)
    assert case.place.server is not None
    case.place.server.breaks(case.place.carries, fault)

    receipt = one_of(lambda: case.host.upload(small, video(small), transfer), OutcomeUnknown)

    assert case.stored == [digest(SMALL)]
    (only,) = case.place.copies()
    found = case.find(video(small), transfer)
    assert found is not None
    assert found.remote_id == only
    assert receipt is None or is_same(found, receipt)


def one_of(action: Callable[[], Receipt], kind: type[DailiesError]) -> Receipt | None:
    """A receipt, or None where this error came instead."""
    try:
        return action()
    except kind:
        return None


LEAVES_NOTHING: dict[Fault, type[DailiesError]] = {
    Fault.RESET: Transient,
    Fault.EARLY_413: HostRefused,
    Fault.LIMITED: RateLimited,
    Fault.LIMITED_DATE: RateLimited,
    Fault.SLOW_DOWN: Transient,
    Fault.HTML: Transient,
    Fault.SERVER_ERROR: Transient,
}


@pytest.mark.parametrize("fault", LEAVES_NOTHING)
def test_an_upload_that_fails_leaves_no_copy_and_the_next_makes_one(
    case: Case, fault: Fault, film: Path, small: Path, transfer: Transfer
) -> None:
    needs_server(case)
    path = film if fault is Fault.RESET else small
    unknown = (OutcomeUnknown,) if case.host.capabilities.is_resumable else ()  # a session that may not be asked may be done
    case.goes_wrong(fault)

    with pytest.raises((LEAVES_NOTHING[fault], *unknown)):
        case.host.upload(path, video(path), transfer)

    assert case.stored == []
    case.goes_wrong(None)
    assert case.find(video(path), transfer) is None
    receipt = case.host.upload(path, video(path), transfer)
    assert case.stored == [digest(path.read_bytes())]
    assert is_same(case.find(video(path), transfer), receipt)


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.SLOW_READER])
def test_no_error_tells_a_secret(case: Case, fault: Fault, small: Path, transfer: Transfer, tmp_path: Path) -> None:
    needs_server(case)
    server, host, deadline, asset = case.place.server, case.host, transfer.deadline, video(small)
    assert server is not None
    receipt = host.upload(small, replace(asset, video_id=SECOND_ID), replace(transfer, session=Session()))
    actions: list[Callable[[], Any]] = [
        lambda: host.preflight(deadline),
        lambda: host.upload(small, asset, transfer),
        lambda: host.find(asset, transfer),
        lambda: host.check(asset, receipt.remote_id, deadline),
        lambda: host.delete(receipt.remote_id, deadline),
        lambda: host.fetch(asset, receipt.remote_id, tmp_path / "back", deadline),
    ]

    for wrong in (".", case.place.carries):  # whatever is asked; the upload itself, behind a session that was begun
        server.chaos = lambda what, wrong=wrong: fault if re.search(wrong, what) else None  # type: ignore[misc]
        said = "".join(filter(None, (told_by(action) for action in actions)))
        assert said
        assert secrets_in(said, case, session=transfer.session) == []


@pytest.mark.parametrize("status", [400, 403, 500])
def test_a_host_that_repeats_what_it_was_sent_brings_no_secret_into_an_error(
    case: Case, status: int, small: Path, transfer: Transfer
) -> None:
    needs_server(case)
    server = case.place.server
    assert server is not None
    protocol = server.reply

    def reply(call: Call) -> Reply:
        is_meant = re.search(case.place.carries, f"{call.method} {call.path}")
        return Reply(status, f"{call.query} {call.headers}".encode()) if is_meant else protocol(call)

    vars(server)["reply"] = reply
    said = told_by(lambda: case.host.upload(small, video(small), transfer))

    assert said
    assert secrets_in(said, case, session=transfer.session) == []


def told_by(action: Callable[[], Any]) -> str:
    """All that is told of an error, if there is one."""
    try:
        action()
    except DailiesError as error:
        return all_of(error)
    return ""


# What is known after a crash


def test_what_must_be_known_after_a_crash_is_for_this_user_only_and_of_use(
    case: Case, film: Path, transfer: Transfer, tmp_path: Path
) -> None:
    needs_server(case)
    path, told = tmp_path / "work/session.json", list[int]()
    case.goes_wrong(Fault.RESET)
    with pytest.raises(Transient):
        case.host.upload(film, video(film), replace(transfer, session=Session(path)))
    assert path.exists() == case.host.capabilities.is_resumable
    assert not path.exists() or stat.S_IMODE(path.stat().st_mode) == 0o600

    case.goes_wrong(None)
    after = replace(transfer, session=Session(path), progress=told.append)
    assert case.find(video(film), after) is None
    receipt = case.host.upload(film, video(film), after)

    assert case.stored == [digest(CONTENT)]
    assert is_same(case.find(video(film), after), receipt)
    assert (told[0] > 0) == case.host.capabilities.is_resumable  # what had arrived is not sent again


def test_a_crash_behind_the_last_byte_makes_no_second_copy(case: Case, small: Path, transfer: Transfer, tmp_path: Path) -> None:
    needs_server(case)
    path = tmp_path / "work/session.json"
    case.goes_wrong(Fault.LOST_ANSWER)
    one_of(lambda: case.host.upload(small, video(small), replace(transfer, session=Session(path))), OutcomeUnknown)

    case.goes_wrong(None)
    found = case.find(video(small), replace(transfer, session=Session(path)))

    assert case.stored == [digest(SMALL)]
    assert found is not None
    assert [found.remote_id] == list(case.place.copies())
    needs(case.host.capabilities.overwrites or case.host.capabilities.is_resumable, "is asked by the registry, not by itself")
    assert case.host.upload(small, video(small), replace(transfer, session=Session(path))).remote_id == found.remote_id
    assert case.stored == [digest(SMALL)]


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
