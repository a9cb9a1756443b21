"""The adapter `streamtape` against a host of that protocol on loopback."""

import hashlib
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dailies.clock import Deadline
from dailies.errors import ConfigError, DailiesError, Denied, HostRefused, OutcomeUnknown, RateLimited, Transient
from dailies.hosts.host import Asset, Ground, State, Transfer
from dailies.hosts.streamtape import StreamtapeHost
from dailies.http import Http
from dailies.model import Kind
from hosts_streamtape import FOLDER, KEY, LOGIN, StreamtapeServer
from loopback import Fault
from support import FakeClock

CONTENT = b"a film " * 300_000  # 2.1 MB: over what a server reads before an early answer
SITE = "https://tape.example"


@pytest.fixture
def server() -> Iterator[StreamtapeServer]:
    with StreamtapeServer() as found:
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
    return Asset("film-0123456789ab", Kind.VIDEO, ".mp4", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), 52.2)


def ground(clock: FakeClock, tmp_path: Path, key: str = KEY, login: str = LOGIN) -> Ground:
    return Ground(tmp_path, Http(clock), {"TAPE_LOGIN": login, "TAPE_KEY": key})


def made(server: StreamtapeServer, there: Ground, **settings: Any) -> StreamtapeHost:
    settings = {"api_url": server.url, "site_url": SITE, **settings}
    return StreamtapeHost(ground=there, login_env="TAPE_LOGIN", key_env="TAPE_KEY", **settings)


@pytest.fixture
def host(server: StreamtapeServer, clock: FakeClock, tmp_path: Path) -> StreamtapeHost:
    return made(server, ground(clock, tmp_path))


def test_its_own_addresses_and_limits_are_the_defaults(clock: FakeClock, tmp_path: Path) -> None:
    host = StreamtapeHost(ground=ground(clock, tmp_path), login_env="A", key_env="B")

    assert (host.api_url, host.site_url) == ("https://api.streamtape.com", "https://streamtape.com")
    assert (host.capabilities.max_bytes, host.capabilities.settle_s) == (15_000_000_000, 10.0)
    assert (host.capabilities.verifies_hash, host.capabilities.overwrites) == (True, False)
    assert host.capabilities.kinds == {Kind.VIDEO, Kind.PREVIEW}


def test_an_address_must_be_whole(clock: FakeClock, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="is no address"):
        StreamtapeHost(ground=ground(clock, tmp_path), login_env="A", key_env="B", api_url="api.streamtape.com")


# Upload


def test_a_film_is_sent_whole_under_its_marked_name(
    server: StreamtapeServer, clock: FakeClock, film: Path, asset: Asset, deadline: Deadline, tmp_path: Path
) -> None:
    told: list[int] = []

    receipt = made(server, ground(clock, tmp_path), folder=FOLDER).upload(film, asset, Transfer(deadline, progress=told.append))

    (file,) = server.files.values()
    assert (file.stored.sha256, file.name, file.folder) == (asset.sha256, asset.marked_name, FOLDER)
    assert (receipt.remote_id, receipt.watch_url, receipt.embed_url) == (file.id, f"{SITE}/v/{file.id}", f"{SITE}/e/{file.id}")
    assert not receipt.is_settled
    assert told[-1] == len(CONTENT)


def test_the_host_is_told_which_bytes_to_expect(
    host: StreamtapeHost, server: StreamtapeServer, film: Path, asset: Asset, transfer: Transfer
) -> None:
    with pytest.raises(Transient, match="differs"):
        host.upload(film, replace(asset, sha256="0" * 64), transfer)

    assert server.files == {}
    assert [call.path for call in server.calls] == ["/file/ul", "/ul/1"]  # it refused them by itself


def test_bytes_that_differ_there_are_taken_back(
    host: StreamtapeHost, server: StreamtapeServer, film: Path, asset: Asset, transfer: Transfer
) -> None:
    server.alters = True

    with pytest.raises(Transient, match="differs"):
        host.upload(film, asset, transfer)

    assert len(server.uploads) == 1
    assert server.files == {}


def test_bytes_that_differ_and_cannot_be_taken_back_are_no_success_either(
    host: StreamtapeHost, server: StreamtapeServer, film: Path, asset: Asset, transfer: Transfer
) -> None:
    server.alters = True
    server.says["file/delete"] = {"status": 403, "msg": "not yours"}

    with pytest.raises(Transient, match="differs"):
        host.upload(film, asset, transfer)


def test_an_answer_without_an_id_is_unknown_and_what_was_sent_is_found(
    host: StreamtapeHost, server: StreamtapeServer, film: Path, asset: Asset, transfer: Transfer
) -> None:
    server.tells_no_id = True

    with pytest.raises(OutcomeUnknown, match="told no id"):
        host.upload(film, asset, transfer)

    found = host.find(asset, transfer)
    assert found is not None
    assert [found.remote_id] == list(server.files)


def test_an_id_may_stand_in_the_link_alone(
    host: StreamtapeHost, server: StreamtapeServer, film: Path, asset: Asset, transfer: Transfer
) -> None:
    server.says["upload"] = {"status": "200", "result": {"url": "https://streamtape.com/v/ab_C-9/film.mp4"}}

    assert host.upload(film, asset, transfer).remote_id == "ab_C-9"


@pytest.mark.parametrize(
    ("said", "trouble"),
    [
        ({"status": 400, "msg": "OK", "result": {"id": "abc"}}, Transient),
        ({"status": 403, "msg": "OK"}, Denied),
        ({"status": 404, "msg": "OK"}, Transient),
        ({"status": 451, "msg": "OK"}, HostRefused),
        ({"status": "509", "msg": "OK"}, RateLimited),
        ({"status": 500, "msg": "OK"}, OutcomeUnknown),
        ({"status": 200, "msg": "OK", "result": None}, OutcomeUnknown),
        ({"status": 200, "msg": "OK", "result": []}, OutcomeUnknown),
        ({"status": 200, "msg": "OK", "result": {"id": "../x"}}, OutcomeUnknown),
        ({"status": 200, "msg": "OK", "result": {"id": "abc", "size": 7}}, Transient),
        ({"msg": "OK"}, OutcomeUnknown),
        ("OK", OutcomeUnknown),
    ],
)
def test_only_a_confirmed_upload_is_one_whatever_msg_says(
    said: Any,
    trouble: type[DailiesError],
    host: StreamtapeHost,
    server: StreamtapeServer,
    film: Path,
    asset: Asset,
    transfer: Transfer,
) -> None:
    server.says["upload"] = said

    with pytest.raises(DailiesError) as caught:
        host.upload(film, asset, transfer)

    assert type(caught.value) is trouble


@pytest.mark.parametrize("fault", [Fault.LOST_ANSWER, Fault.GARBLED])
def test_an_answer_that_was_lost_behind_the_last_byte_is_unknown_and_what_was_sent_is_found(
    fault: Fault, host: StreamtapeHost, server: StreamtapeServer, film: Path, asset: Asset, transfer: Transfer
) -> None:
    server.breaks("POST /ul/", fault)

    with pytest.raises(OutcomeUnknown):
        host.upload(film, asset, transfer)

    found = host.find(asset, transfer)
    assert found is not None
    assert [found.remote_id] == list(server.files)
    assert len(server.uploads) == 1


@pytest.mark.parametrize(
    ("fault", "trouble"), [(Fault.EARLY_413, HostRefused), (Fault.RESET, Transient), (Fault.LIMITED, RateLimited)]
)
def test_what_did_not_arrive_is_told_from_what_is_unknown(
    fault: Fault,
    trouble: type[DailiesError],
    host: StreamtapeHost,
    server: StreamtapeServer,
    film: Path,
    asset: Asset,
    transfer: Transfer,
) -> None:
    film.write_bytes(CONTENT * 16)  # more than fits into buffers on the way
    server.breaks("POST /ul/", fault)

    with pytest.raises(DailiesError) as caught:
        host.upload(film, asset, transfer)

    assert type(caught.value) is trouble
    assert server.files == {}


@pytest.mark.parametrize("told", [None, {}, {"url": None}, {"url": "/ul/1"}, {"url": "ftp://x.example/"}, "https://x.example/"])
def test_a_server_that_is_no_address_gets_nothing(
    told: Any, host: StreamtapeHost, server: StreamtapeServer, film: Path, asset: Asset, transfer: Transfer
) -> None:
    server.says["file/ul"] = {"status": 200, "msg": "OK", "result": told}

    with pytest.raises(Transient, match=r"named no server|shape"):
        host.upload(film, asset, transfer)


# Find


def test_only_these_bytes_of_this_file_of_this_video_are_found(
    host: StreamtapeHost, film: Path, asset: Asset, transfer: Transfer
) -> None:
    preview = replace(asset, kind=Kind.PREVIEW, suffix=".preview.mp4")
    assert host.find(asset, transfer) is None

    receipt = host.upload(film, asset, transfer)

    assert host.find(asset, transfer) == receipt
    assert host.find(replace(asset, sha256="0" * 64), transfer) is None
    assert host.find(replace(asset, size_bytes=7), transfer) is None
    assert host.find(replace(asset, video_id="other-ba9876543210"), transfer) is None
    assert host.find(preview, transfer) is None
    assert host.upload(film, preview, transfer) == host.find(preview, transfer) != receipt


def test_a_name_is_known_again_whatever_became_of_its_brackets(
    host: StreamtapeHost, server: StreamtapeServer, film: Path, asset: Asset, transfer: Transfer
) -> None:
    server.renames = True

    receipt = host.upload(film, asset, transfer)

    assert server.files[receipt.remote_id].name != asset.marked_name
    assert host.find(asset, transfer) == receipt


def test_of_several_copies_the_oldest_is_ours(host: StreamtapeHost, film: Path, asset: Asset, transfer: Transfer) -> None:
    first, *_ = [host.upload(film, asset, transfer) for _ in range(3)]

    assert host.find(asset, transfer) == first


def test_a_listing_that_lags_shows_the_file_later(
    host: StreamtapeHost, server: StreamtapeServer, film: Path, asset: Asset, transfer: Transfer
) -> None:
    server.lags = True
    receipt = host.upload(film, asset, transfer)

    assert host.find(asset, transfer) is None
    server.catch_up()
    assert host.find(asset, transfer) == receipt


@pytest.mark.parametrize("linkid", ["", None, "../x"])
def test_a_listing_may_have_the_id_in_the_link_alone(
    linkid: Any, host: StreamtapeHost, server: StreamtapeServer, asset: Asset, transfer: Transfer
) -> None:
    file = {
        "name": asset.marked_name,
        "size": str(asset.size_bytes),
        "link": "https://streamtape.com/v/ab_C-9/x.mp4",
        "linkid": linkid,
    }
    server.says["file/listfolder"] = {"status": 200, "result": {"folders": [], "files": [file]}}

    found = host.find(asset, transfer)

    assert found is not None
    assert found.remote_id == "ab_C-9"


def test_a_file_that_is_listed_without_an_id_is_not_called_absent(
    host: StreamtapeHost, server: StreamtapeServer, asset: Asset, transfer: Transfer
) -> None:
    file = {"name": asset.marked_name, "size": asset.size_bytes}
    server.says["file/listfolder"] = {"status": 200, "result": {"files": [file]}}

    with pytest.raises(Transient, match="without its id"):
        host.find(asset, transfer)


@pytest.mark.parametrize("result", [None, [], {}, {"files": None}, {"files": ["x"]}])
def test_a_listing_of_another_shape_does_not_say_that_there_is_nothing(
    result: Any, host: StreamtapeHost, server: StreamtapeServer, asset: Asset, transfer: Transfer
) -> None:
    server.says["file/listfolder"] = {"status": 200, "msg": "OK", "result": result}

    with pytest.raises(Transient, match="shape"):
        host.find(asset, transfer)


def test_a_folder_that_is_not_there_is_a_matter_of_settings(
    server: StreamtapeServer, clock: FakeClock, film: Path, asset: Asset, transfer: Transfer, tmp_path: Path
) -> None:
    host = made(server, ground(clock, tmp_path), folder="gone")

    for act in (
        lambda: host.preflight(transfer.deadline),
        lambda: host.find(asset, transfer),
        lambda: host.upload(film, asset, transfer),
    ):
        with pytest.raises(ConfigError, match="no folder gone"):
            act()


# Check and delete


def test_a_file_is_ready_once_it_is_converted(
    host: StreamtapeHost, server: StreamtapeServer, film: Path, asset: Asset, transfer: Transfer
) -> None:
    server.works_on_new = True
    code = host.upload(film, asset, transfer).remote_id
    states = [host.check(asset, code, transfer.deadline).state]
    server.files[code].is_converted = True
    states.append(host.check(asset, code, transfer.deadline).state)
    states.append(host.check(replace(asset, size_bytes=7), code, transfer.deadline).state)
    del server.files[code]
    states.append(host.check(asset, code, transfer.deadline).state)

    assert states == [State.PROCESSING, State.READY, State.FAILED, State.MISSING]


@pytest.mark.parametrize(
    ("said", "state"),
    [({"status": 404}, State.MISSING), ({"status": 200, "result": {"abc": {"status": "451"}}}, State.FAILED)],
)
def test_what_is_gone_is_told_from_what_was_taken_down(
    said: Any, state: State, host: StreamtapeHost, server: StreamtapeServer, asset: Asset, deadline: Deadline
) -> None:
    server.says["file/info"] = said

    assert host.check(asset, "abc", deadline).state is state


@pytest.mark.parametrize("result", [None, [], {"other": {"status": 200}}, {"abc": {}}])
def test_a_standing_of_another_shape_is_none(
    result: Any, host: StreamtapeHost, server: StreamtapeServer, asset: Asset, deadline: Deadline
) -> None:
    server.says["file/info"] = {"status": 200, "result": result}

    with pytest.raises(Transient, match="shape"):
        host.check(asset, "abc", deadline)


def test_what_is_deleted_is_gone_and_may_be_deleted_again(
    host: StreamtapeHost, server: StreamtapeServer, film: Path, asset: Asset, transfer: Transfer
) -> None:
    code = host.upload(film, asset, transfer).remote_id

    host.delete(code, transfer.deadline)
    host.delete(code, transfer.deadline)

    assert server.files == {}


# The account and its key


def test_an_account_is_asked_for(host: StreamtapeHost, deadline: Deadline) -> None:
    line = host.preflight(deadline)

    assert line == "127.0.0.1 knows the login and its key"
    assert "@" not in line


def test_an_address_without_the_api_is_a_matter_of_settings(
    server: StreamtapeServer, clock: FakeClock, deadline: Deadline, tmp_path: Path
) -> None:
    host = made(server, ground(clock, tmp_path), api_url=f"{server.url}/v9")

    for act in (lambda: host.preflight(deadline), lambda: host.delete("abc", deadline)):
        with pytest.raises(ConfigError, match="check api_url"):
            act()


@pytest.mark.parametrize(("login", "key", "name"), [("", KEY, "TAPE_LOGIN"), (LOGIN, "", "TAPE_KEY")])
def test_a_secret_that_is_not_set_is_named(
    login: str, key: str, name: str, server: StreamtapeServer, clock: FakeClock, deadline: Deadline, tmp_path: Path
) -> None:
    with pytest.raises(Denied, match=f"{name}: not set"):
        made(server, ground(clock, tmp_path, key, login)).preflight(deadline)


def test_bandwidth_that_is_used_up_is_waited_for(
    host: StreamtapeHost, server: StreamtapeServer, asset: Asset, transfer: Transfer
) -> None:
    server.says["file/listfolder"] = {"status": 509, "msg": "Bandwidth usage too high"}

    with pytest.raises(RateLimited) as caught:
        host.find(asset, transfer)

    assert caught.value.wait_s == 600


def test_login_and_key_are_in_no_error_and_no_repr(
    server: StreamtapeServer, clock: FakeClock, film: Path, asset: Asset, transfer: Transfer, tmp_path: Path
) -> None:
    server.echoes = True
    login, key = "wrong login 0123456789", "wrong/key 0123456789"
    host = made(server, ground(clock, tmp_path, key, login))
    spellings = (login, key, "wrong%2Fkey%200123456789", "wrong+login+0123456789")
    server.says["file/info"] = {"status": 500, "msg": f"bad: http://host.example/file?login={spellings[3]}&x={spellings[2]}"}
    deadline = transfer.deadline

    texts = [repr(host), str(host)]
    for act in (
        lambda: host.preflight(deadline),
        lambda: host.upload(film, asset, transfer),
        lambda: host.find(asset, transfer),
        lambda: host.check(asset, "abc", deadline),
        lambda: host.delete("abc", deadline),
    ):
        with pytest.raises(DailiesError) as caught:
            act()
        texts += [repr(caught.value), *traceback.format_exception(caught.value)]

    assert sum("TOKEN" in text for text in texts) >= 5  # they were echoed
    assert not [text for text in texts if any(spelling in text for spelling in spellings)]


def test_nothing_can_be_fetched_back(host: StreamtapeHost, asset: Asset, deadline: Deadline, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name another host"):
        host.fetch(asset, "abc", tmp_path / "back.mp4", deadline)

    assert host.sweep_folders() == ()
