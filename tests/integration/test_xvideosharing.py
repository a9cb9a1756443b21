"""The adapter `xvideosharing` against a host of that script on loopback."""

import hashlib
import math
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dailies.clock import Deadline
from dailies.errors import ConfigError, DailiesError, Denied, HostRefused, HostSilent, OutcomeUnknown, RateLimited, Transient
from dailies.hosts.answers import upload_address
from dailies.hosts.host import Asset, Details, Ground, State, Transfer
from dailies.hosts.xvideosharing import XVideoSharingHost
from dailies.http import Http
from dailies.model import Kind
from hosts_xvideosharing import KEY, NODE, XvsServer
from loopback import Fault
from support import FakeClock

CONTENT = b"a film " * 300_000  # 2.1 MB: over what a server reads before an early answer
PLAYER = "https://player.example"


@pytest.fixture
def server() -> Iterator[XvsServer]:
    with XvsServer() as found:
        yield found


@pytest.fixture
def deadline(clock: FakeClock) -> Deadline:
    return Deadline.after(clock, 3600)


@pytest.fixture
def transfer(deadline: Deadline) -> Transfer:
    return Transfer(deadline)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def asset() -> Asset:
    details = Details(title="A film_about.things", description="One\nTwo\x07", tags=("slow, calm", "sea"))
    return Asset("film-0123456789ab", Kind.VIDEO, ".mp4", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), 52.2, details)


def ground(clock: FakeClock, tmp_path: Path, key: str = KEY) -> Ground:
    return Ground(tmp_path, Http(clock), {"WISH_KEY": key})


@pytest.fixture
def host(server: XvsServer, clock: FakeClock, tmp_path: Path) -> XVideoSharingHost:
    return made(server, ground(clock, tmp_path))


def made(server: XvsServer, there: Ground, **settings: Any) -> XVideoSharingHost:
    settings = {"api_url": server.api_url, "player_url": PLAYER, "key_env": "WISH_KEY", **settings}
    return XVideoSharingHost(ground=there, **settings)


# Settings


def test_a_preset_fills_both_addresses_and_what_is_given_wins(clock: FakeClock, tmp_path: Path) -> None:
    there = ground(clock, tmp_path)

    host = XVideoSharingHost(ground=there, preset="lulustream", key_env="WISH_KEY", player_url="https://other.example/")

    assert (host.api_url, host.player_url) == ("https://api.lulustream.com/api", "https://other.example")


@pytest.mark.parametrize("url", ["", "host.example/api", "ftp://host.example", "https://name:word@host.example", "https://[x"])
def test_without_a_preset_a_whole_address_is_needed(url: str, clock: FakeClock, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"needed where no preset|is no address"):
        XVideoSharingHost(ground=ground(clock, tmp_path), api_url=url, player_url=PLAYER, key_env="WISH_KEY")


def test_what_it_can_do_follows_its_settings(server: XvsServer, clock: FakeClock, tmp_path: Path) -> None:
    found = made(server, ground(clock, tmp_path), max_size="5GB", settle="2m").capabilities

    assert (found.max_bytes, found.settle_s, found.overwrites) == (5_000_000_000, 120.0, False)
    assert found.kinds == {Kind.VIDEO, Kind.PREVIEW}


# Upload


def test_a_film_is_sent_whole_with_all_that_the_form_takes(
    server: XvsServer, clock: FakeClock, film: Path, asset: Asset, deadline: Deadline, tmp_path: Path
) -> None:
    host = made(server, ground(clock, tmp_path), folder=25, category=7, adult=True, public=False)
    told: list[int] = []

    receipt = host.upload(film, asset, Transfer(deadline, progress=told.append))

    (file,) = server.files.values()
    assert file.stored.sha256 == asset.sha256
    assert file.stored.filename == asset.marked_name
    assert file.fields == {
        "key": KEY,
        "file_title": f"A film_about.things [0123456789ab {asset.token}]",
        "file_descr": "One\nTwo\\x07",
        "tags": "slow calm, sea",
        "fld_id": "25",
        "cat_id": "7",
        "file_public": "0",
        "file_adult": "1",
    }
    assert (receipt.remote_id, receipt.watch_url, receipt.embed_url) == (
        file.code,
        f"{PLAYER}/{file.code}",
        f"{PLAYER}/e/{file.code}",
    )
    assert not receipt.is_settled
    assert told[-1] == len(CONTENT)


def test_a_server_is_asked_for_before_each_file(
    host: XVideoSharingHost, server: XvsServer, film: Path, asset: Asset, transfer: Transfer
) -> None:
    host.upload(film, asset, transfer)
    host.upload(film, asset, transfer)

    assert [call.path for call in server.calls] == ["/api/upload/server", NODE] * 2


@pytest.mark.parametrize(
    ("words", "trouble"),
    [
        ("video is too long", HostRefused),
        ("unallowed video extension", HostRefused),
        ("not enough disk space on your account", Denied),
        ("too many files on your account", Denied),
        ("too many files uploaded last 24h", RateLimited),
    ],
)
def test_a_refusal_inside_of_http_200_is_no_success(
    words: str,
    trouble: type[DailiesError],
    host: XVideoSharingHost,
    server: XvsServer,
    film: Path,
    asset: Asset,
    transfer: Transfer,
) -> None:
    server.refuses = words

    with pytest.raises(DailiesError, match=words) as caught:
        host.upload(film, asset, transfer)

    assert type(caught.value) is trouble


@pytest.mark.parametrize(
    ("said", "trouble"),
    [
        ({"status": 400, "msg": "bad request"}, HostRefused),
        ({"status": "400", "msg": "Invalid key"}, Denied),
        ({"status": 403, "msg": "Wrong auth"}, Denied),
        ({"status": "429", "msg": "Too Many Requests"}, RateLimited),
        ({"status": 451, "msg": "for legal reasons"}, HostRefused),
        ({"status": 500, "msg": "oops"}, OutcomeUnknown),
        ({"status": 200, "msg": "OK", "files": []}, OutcomeUnknown),
        ({"status": 200, "msg": "OK", "files": None}, OutcomeUnknown),
        ({"status": 200, "msg": "OK", "files": ["x"]}, OutcomeUnknown),
        ({"status": 200, "msg": "OK", "files": [{"status": "OK", "filecode": ""}]}, OutcomeUnknown),
        ({"status": 200, "msg": "OK", "files": [{"status": "OK", "filecode": "../x"}]}, OutcomeUnknown),
        ({"status": 200, "msg": "OK", "files": [{"status": "OK"}]}, OutcomeUnknown),
        ({"status": 200, "msg": "OK", "files": [{"filecode": "abc123"}]}, OutcomeUnknown),
        ({"msg": "OK"}, OutcomeUnknown),
        (["OK"], OutcomeUnknown),
    ],
)
def test_only_a_confirmed_upload_is_one(
    said: Any, trouble: type[DailiesError], host: XVideoSharingHost, server: XvsServer, film: Path, asset: Asset, transfer: Transfer
) -> None:
    server.says["upload"] = said

    with pytest.raises(DailiesError) as caught:
        host.upload(film, asset, transfer)

    assert type(caught.value) is trouble


@pytest.mark.parametrize("fault", [Fault.LOST_ANSWER, Fault.GARBLED])
def test_an_answer_that_was_lost_behind_the_last_byte_is_unknown_and_what_was_sent_is_found(
    fault: Fault, host: XVideoSharingHost, server: XvsServer, film: Path, asset: Asset, transfer: Transfer
) -> None:
    server.breaks(f"POST {NODE}", fault)

    with pytest.raises(OutcomeUnknown):
        host.upload(film, asset, transfer)

    (code,) = server.files
    found = host.find(asset, transfer)
    assert found is not None
    assert found.remote_id == code
    assert len(server.uploads) == 1


@pytest.mark.parametrize(
    ("fault", "trouble"), [(Fault.EARLY_413, HostRefused), (Fault.RESET, Transient), (Fault.LIMITED, RateLimited)]
)
def test_what_did_not_arrive_is_told_from_what_is_unknown(
    fault: Fault,
    trouble: type[DailiesError],
    host: XVideoSharingHost,
    server: XvsServer,
    film: Path,
    asset: Asset,
    transfer: Transfer,
) -> None:
    film.write_bytes(CONTENT * 16)  # more than fits into buffers on the way
    server.breaks(f"POST {NODE}", fault)

    with pytest.raises(DailiesError) as caught:
        host.upload(film, asset, transfer)

    assert type(caught.value) is trouble
    assert server.files == {}


def test_a_node_that_is_not_there_is_tried_again_later(
    host: XVideoSharingHost, server: XvsServer, film: Path, asset: Asset, transfer: Transfer
) -> None:
    server.says["upload/server"] = {"status": 200, "result": f"{server.url}/elsewhere"}

    with pytest.raises(Transient, match="takes no uploads"):
        host.upload(film, asset, transfer)


def test_a_limit_by_the_day_is_waited_for_longer(
    host: XVideoSharingHost, server: XvsServer, film: Path, asset: Asset, transfer: Transfer
) -> None:
    waits = []
    for words in ("too many files uploaded last 24h", "Too Many Requests"):
        server.refuses = words
        with pytest.raises(RateLimited) as caught:
            host.upload(film, asset, transfer)
        waits.append(caught.value.wait_s)

    assert waits == [3600, 60]


def test_no_host_elsewhere_sends_the_key_to_this_machine() -> None:
    with pytest.raises(Transient, match="named no server"):
        upload_address("http://127.0.0.1:8080/upload/01", "https://host.example/api", "host.example")


@pytest.mark.parametrize(
    ("told", "url"),
    [
        ("http://s1.host.example:80/upload/01", "https://s1.host.example/upload/01"),
        ("http://s1.host.example/upload/01", "https://s1.host.example/upload/01"),
        ("//s1.host.example/upload/01?x=1", "https://s1.host.example/upload/01?x=1"),
        ("https://s1.host.example:8443/u", "https://s1.host.example:8443/u"),
    ],
)
def test_the_key_leaves_by_https_only(told: str, url: str, host: XVideoSharingHost, server: XvsServer, deadline: Deadline) -> None:
    server.says["upload/server"] = {"status": 200, "result": told}

    assert host._server(deadline) == url


@pytest.mark.parametrize(
    "told", [None, "", 7, {"url": "x"}, "/upload/01", "ftp://s1.host.example/", "https://a:b@s1.host.example/", "https://"]
)
def test_a_server_that_is_no_address_gets_nothing(
    told: Any, host: XVideoSharingHost, server: XvsServer, film: Path, asset: Asset, transfer: Transfer
) -> None:
    server.says["upload/server"] = {"status": 200, "result": told}

    with pytest.raises(Transient, match="named no server"):
        host.upload(film, asset, transfer)


@pytest.mark.parametrize("title", ["", "t" * 500, "é" * 500, "two\nlines\x1b[0m \ud800", '"quoted" <b>'])
def test_any_title_keeps_the_mark(
    title: str, host: XVideoSharingHost, server: XvsServer, film: Path, asset: Asset, transfer: Transfer
) -> None:
    asset = replace(asset, details=Details(title=title))

    receipt = host.upload(film, asset, transfer)

    assert host.find(asset, transfer) == receipt
    assert len(server.files[receipt.remote_id].title.encode()) < 200


# Find


def test_only_these_bytes_of_this_file_of_this_video_are_found(
    host: XVideoSharingHost, film: Path, asset: Asset, transfer: Transfer
) -> None:
    assert host.find(asset, transfer) is None

    receipt = host.upload(film, asset, transfer)

    assert host.find(asset, transfer) == receipt
    assert host.find(replace(asset, sha256="0" * 64), transfer) is None
    assert host.find(replace(asset, video_id="other-ba9876543210"), transfer) is None
    assert host.find(replace(asset, kind=Kind.PREVIEW, suffix=".preview.mp4"), transfer) is None


def test_a_preview_is_found_too(host: XVideoSharingHost, film: Path, asset: Asset, transfer: Transfer) -> None:
    preview = replace(asset, kind=Kind.PREVIEW, suffix=".preview.mp4")

    assert host.find(preview, transfer) is None

    receipt = host.upload(film, preview, transfer)

    assert host.find(preview, transfer) == receipt
    assert host.find(asset, transfer) is None


def test_a_title_is_found_whatever_an_install_makes_of_it(
    host: XVideoSharingHost, server: XvsServer, film: Path, asset: Asset, transfer: Transfer
) -> None:
    server.sanitizes = True

    receipt = host.upload(film, asset, transfer)

    assert " " not in server.files[receipt.remote_id].title
    assert host.find(asset, transfer) == receipt


def test_an_install_that_searches_whole_titles_only_is_looked_through(
    host: XVideoSharingHost, server: XvsServer, film: Path, asset: Asset, transfer: Transfer
) -> None:
    server.by_whole_title = True

    receipt = host.upload(film, asset, transfer)

    assert host.find(asset, transfer) == receipt


def test_of_several_copies_the_oldest_is_ours_on_whichever_page(
    host: XVideoSharingHost, server: XvsServer, film: Path, asset: Asset, transfer: Transfer
) -> None:
    server.per_page = 2
    first, *_ = [host.upload(film, asset, transfer) for _ in range(5)]

    assert host.find(asset, transfer) == first
    assert [call.query["page"] for call in server.calls if "title" in call.query] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("length", "is_found"), [("52", True), ("00:00:54", True), ("0:57", False), ("12", False), ("0", True), ("", True)]
)
def test_a_file_of_another_length_is_not_ours(
    length: str, is_found: bool, host: XVideoSharingHost, server: XvsServer, film: Path, asset: Asset, transfer: Transfer
) -> None:
    server.length = length
    host.upload(film, asset, transfer)

    assert (host.find(asset, transfer) is not None) is is_found


def test_files_of_other_folders_are_not_looked_at(
    host: XVideoSharingHost, server: XvsServer, clock: FakeClock, film: Path, asset: Asset, transfer: Transfer, tmp_path: Path
) -> None:
    inside = made(server, ground(clock, tmp_path), folder=25)
    receipt = inside.upload(film, asset, transfer)

    assert inside.find(asset, transfer) == receipt
    assert made(server, ground(clock, tmp_path), folder=26).find(asset, transfer) is None


def test_a_listing_that_lags_shows_the_file_later(
    host: XVideoSharingHost, server: XvsServer, film: Path, asset: Asset, transfer: Transfer
) -> None:
    server.lag_s = math.inf
    receipt = host.upload(film, asset, transfer)

    assert host.find(asset, transfer) is None
    assert host.capabilities.settle_s == 60
    server.catch_up()
    assert host.find(asset, transfer) == receipt


def test_an_install_without_a_listing_cannot_be_asked(
    host: XVideoSharingHost, server: XvsServer, asset: Asset, transfer: Transfer
) -> None:
    server.without = {"file/list"}

    with pytest.raises(HostSilent, match="look there"):
        host.find(asset, transfer)


def test_a_search_that_never_ends_is_no_answer(
    host: XVideoSharingHost, server: XvsServer, asset: Asset, transfer: Transfer
) -> None:
    numbers = iter(range(10**6))

    class Endless(dict[str, Any]):
        def __getitem__(self, _key: str) -> Any:
            return {"status": 200, "result": {"files": [{"file_code": f"c{next(numbers)}", "title": "x"}]}}

    server.says = Endless({"file/list": 1})

    with pytest.raises(HostSilent, match="more than 5000"):
        host.find(asset, transfer)


@pytest.mark.parametrize(
    "result", [None, [], {}, {"files": None}, {"files": [{}]}, {"files": [{"file_code": "a b"}]}, {"files": [], "pages": "many"}]
)
def test_a_listing_of_another_shape_does_not_say_that_there_is_nothing(
    result: Any, host: XVideoSharingHost, server: XvsServer, asset: Asset, transfer: Transfer
) -> None:
    server.says["file/list"] = {"status": 200, "msg": "OK", "result": result}

    with pytest.raises(Transient, match="shape"):
        host.find(asset, transfer)


def test_a_page_of_a_proxy_is_no_listing(host: XVideoSharingHost, server: XvsServer, asset: Asset, transfer: Transfer) -> None:
    server.breaks("GET /api/file/list", Fault.HTML, times=3)

    with pytest.raises(Transient, match="no JSON"):
        host.find(asset, transfer)


# Check and delete


def test_a_file_is_ready_once_it_can_be_played(
    host: XVideoSharingHost, server: XvsServer, film: Path, asset: Asset, transfer: Transfer
) -> None:
    server.works_on_new = True
    code = host.upload(film, asset, transfer).remote_id
    states = [host.check(asset, code, transfer.deadline).state]
    server.files[code].is_worked_on = False
    states.append(host.check(asset, code, transfer.deadline).state)
    server.files[code].can_play = True
    states.append(host.check(asset, code, transfer.deadline).state)
    server.files[code].length = "12"
    standing = host.check(asset, code, transfer.deadline)
    del server.files[code]
    states.append(host.check(asset, code, transfer.deadline).state)

    assert states == [State.PROCESSING, State.PROCESSING, State.READY, State.MISSING]
    assert (standing.state, standing.reason) == (State.FAILED, "lasts 12 s at 127.0.0.1, here 52.2 s")


def test_without_a_listing_what_is_not_seen_may_be_worked_on(
    host: XVideoSharingHost, server: XvsServer, asset: Asset, deadline: Deadline
) -> None:
    server.without = {"file/list"}

    assert host.check(asset, "code7", deadline).state is State.PROCESSING


def test_a_file_that_was_taken_down_has_failed(
    host: XVideoSharingHost, server: XvsServer, asset: Asset, deadline: Deadline
) -> None:
    server.says["file/info"] = {"status": 200, "result": [{"status": "451", "filecode": "code7"}]}

    standing = host.check(asset, "code7", deadline)

    assert (standing.state, standing.reason) == (State.FAILED, "127.0.0.1 has it as 451")


def test_what_is_deleted_is_gone_and_may_be_deleted_again(
    host: XVideoSharingHost, server: XvsServer, film: Path, asset: Asset, transfer: Transfer
) -> None:
    code = host.upload(film, asset, transfer).remote_id

    host.delete(code, transfer.deadline)
    host.delete(code, transfer.deadline)

    assert server.files == {}


def test_an_install_that_cannot_delete_says_so(
    host: XVideoSharingHost, server: XvsServer, film: Path, asset: Asset, transfer: Transfer
) -> None:
    server.without = {"file/delete"}
    code = host.upload(film, asset, transfer).remote_id

    with pytest.raises(ConfigError, match="on its website"):
        host.delete(code, transfer.deadline)


@pytest.mark.parametrize(("status", "msg"), [(400, "Unknown method file/delete"), (405, "no")])
def test_a_call_that_an_install_does_not_know_is_no_deletion(
    status: int, msg: str, host: XVideoSharingHost, server: XvsServer, deadline: Deadline
) -> None:
    server.says["file/delete"] = {"status": status, "msg": msg}

    with pytest.raises(DailiesError) as caught:
        host.delete("code7", deadline)

    assert type(caught.value) is (ConfigError if status == 400 else Transient)


# The account and its key


@pytest.mark.parametrize(
    ("left", "line"),
    [
        (1288483337, "uploader: 1.3 GB left"),
        ("5000000000000", "uploader: 5000.0 GB left"),
        ("inf", "uploader: no limit of storage told"),
        (-1, "uploader: no limit of storage told"),
        (None, "uploader: no limit of storage told"),
        ("lots", "uploader: no limit of storage told"),
    ],
)
def test_an_account_is_told_with_what_is_left(
    left: Any, line: str, host: XVideoSharingHost, server: XvsServer, deadline: Deadline
) -> None:
    server.says["account/info"] = {"status": "200", "msg": "OK", "result": {"login": "uploader", "storage_left": left}}

    assert host.preflight(deadline) == line


def test_the_account_of_the_manual_is_understood(host: XVideoSharingHost, deadline: Deadline) -> None:
    assert host.preflight(deadline) == "uploader: 1.3 GB left"


def test_an_address_without_the_api_is_a_matter_of_settings(
    server: XvsServer, clock: FakeClock, deadline: Deadline, tmp_path: Path
) -> None:
    host = made(server, ground(clock, tmp_path), api_url=f"{server.url}/api/v9")

    with pytest.raises(ConfigError, match="check api_url"):
        host.preflight(deadline)


def test_a_key_that_is_not_set_is_named(server: XvsServer, clock: FakeClock, deadline: Deadline, tmp_path: Path) -> None:
    with pytest.raises(Denied, match="WISH_KEY: not set"):
        made(server, ground(clock, tmp_path, key="")).preflight(deadline)


def test_a_wrong_key_stops_the_host(
    server: XvsServer, clock: FakeClock, film: Path, asset: Asset, transfer: Transfer, tmp_path: Path
) -> None:
    with pytest.raises(Denied, match="Wrong auth; check the account"):
        made(server, ground(clock, tmp_path, key="another")).upload(film, asset, transfer)


def test_the_key_is_in_no_error_and_no_repr(
    server: XvsServer, clock: FakeClock, film: Path, asset: Asset, transfer: Transfer, tmp_path: Path
) -> None:
    server.echoes = True
    key = "wrong/key 0123456789"
    host = made(server, ground(clock, tmp_path, key=key))
    spellings = (key, "wrong%2Fkey%200123456789", "wrong%2Fkey+0123456789")
    server.says["upload/server"] = {"status": 200, "result": f"{server.url}{NODE}"}
    server.says["file/info"] = {"status": 500, "msg": f"bad: http://host.example/api?key={spellings[1]}&x={spellings[2]}"}
    deadline = transfer.deadline

    texts = [repr(host), str(host)]
    for act in (
        lambda: host.preflight(deadline),
        lambda: host.upload(film, asset, transfer),
        lambda: host.find(asset, transfer),
        lambda: host.check(asset, "code7", deadline),
    ):
        with pytest.raises(DailiesError) as caught:
            act()
        texts += [repr(caught.value), *traceback.format_exception(caught.value)]

    assert sum("TOKEN" in text for text in texts) >= 4  # it was echoed
    assert not [text for text in texts if any(spelling in text for spelling in spellings)]


def test_an_account_by_the_name_of_its_key_is_not_told(host: XVideoSharingHost, server: XvsServer, deadline: Deadline) -> None:
    server.says["account/info"] = {"status": 200, "result": {"login": KEY}}

    assert KEY not in host.preflight(deadline)


def test_nothing_can_be_fetched_back(host: XVideoSharingHost, asset: Asset, deadline: Deadline, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gives no file back"):
        host.fetch(asset, "code7", tmp_path / "back.mp4", deadline)

    assert host.sweep_folders() == ()
