"""Storage against real servers: what is whole, what is left, what a person is told."""

import hashlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import ValidationError

from dailies.body import Throttle
from dailies.clock import Deadline, SystemClock
from dailies.errors import ConfigError, Denied, HostRefused, Interrupted, OutOfTime, RateLimited, Transient
from dailies.hosts import Asset, Ground, Receipt, Transfer
from dailies.hosts.host import State
from dailies.hosts.places.disk import Disk
from dailies.hosts.storage import Storage
from dailies.http import Http
from dailies.model import Kind
from hosts_storage import BUCKET, PASSWORD, SECRETS, AzureServer, GoogleServer, Server, serving
from loopback import Call, Fault, Loopback, Reply, full, silent
from support import FakeClock, variables

CONTENT = b"a film " * 3_000_000  # 21 MB: three parts
NAME = "film-0123456789ab.mp4"
REAL = ("s3", "webdav", "sftp")
ALL = (*REAL, "gs", "az")


@dataclass(frozen=True)
class Site:
    """A server and how one speaks to it; each test has a folder of its own there."""

    protocol: str
    settings: dict[str, str]
    secrets: dict[str, str]
    stored: Callable[[], list[bytes]]
    root: Path
    server: Any

    def host(self, **changes: str) -> Storage:
        return Storage(ground=self.ground(), **{**self.settings, **changes})

    def ground(self, throttle: Throttle | None = None, secrets: Mapping[str, str] = MappingProxyType({})) -> Ground:
        return Ground(self.root, Http(SystemClock(), throttle), {**self.secrets, **secrets})


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """Each is started when it is first asked for."""
    running: dict[str, Any] = {}
    with ExitStack() as stack:

        def get(protocol: str) -> Any:
            if protocol not in running:
                made = {"gs": GoogleServer, "az": AzureServer}.get(protocol)
                context: Any = made() if made else serving(protocol, tmp_path_factory.mktemp(protocol))
                running[protocol] = stack.enter_context(context)
            return running[protocol]

        yield get


def site_of(protocol: str, servers: Callable[[str], Any], root: Path) -> Site:
    server, place = servers(protocol), root.name
    if isinstance(server, Server):
        return Site(protocol, server.settings(place), SECRETS, lambda: server.stored(place), root, server)
    secrets = {"STORE_ACCOUNT": server.account() if protocol == "gs" else server.connection_string()}
    settings = {"path": f"{protocol}://{BUCKET}/{place}"}
    if protocol == "gs":
        settings |= {"endpoint": server.url, "token_env": "STORE_ACCOUNT"}
    else:
        settings["connection_string_env"] = "STORE_ACCOUNT"

    def stored() -> list[bytes]:
        return [content for name, (content, _) in server.objects.items() if name.startswith(f"{place}/")]

    return Site(protocol, settings, secrets, stored, root, server)


@pytest.fixture(params=ALL)
def site(request: pytest.FixtureRequest, servers: Callable[[str], Any], tmp_path: Path) -> Site:
    return site_of(request.param, servers, tmp_path)


@pytest.fixture(params=REAL)
def real(request: pytest.FixtureRequest, servers: Callable[[str], Any], tmp_path: Path) -> Site:
    return site_of(request.param, servers, tmp_path)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def transfer(stop: threading.Event) -> Transfer:
    return Transfer(Deadline.after(SystemClock(), 60, stop))


def asset_of(path: Path, **changes: Any) -> Asset:
    content = path.read_bytes()
    asset = Asset("film-0123456789ab", Kind.VIDEO, ".mp4", hashlib.sha256(content).hexdigest(), len(content))
    return replace(asset, **changes)


def test_what_is_sent_is_whole_found_given_back_and_taken_away(site: Site, film: Path, transfer: Transfer) -> None:
    host, asset, told = site.host(), asset_of(film), list[int]()
    assert host.preflight(transfer.deadline)
    assert (host.find(asset, transfer), site.stored()) == (None, [])

    receipt = host.upload(film, asset, replace(transfer, progress=told.append))

    assert (site.stored(), receipt.remote_id, told[-1], told == sorted(told)) == ([CONTENT], NAME, len(CONTENT), True)
    assert host.find(asset, transfer) == receipt
    assert host.find(replace(asset, sha256="0" * 64), transfer) is None
    assert host.check(asset, NAME, transfer.deadline).state is State.READY
    host.fetch(asset, NAME, site.root / "back", transfer.deadline)
    assert (site.root / "back").read_bytes() == CONTENT
    for _ in range(2):
        host.delete(NAME, transfer.deadline)
    assert (site.stored(), host.check(asset, NAME, transfer.deadline).state) == ([], State.MISSING)


@pytest.mark.parametrize("content", [b"", b"small"])
def test_small_and_empty_files_too(site: Site, film: Path, transfer: Transfer, content: bytes) -> None:
    film.write_bytes(content)

    receipt = site.host().upload(film, asset_of(film), transfer)

    assert (site.stored(), site.host().find(asset_of(film), transfer)) == ([content], receipt)


def test_other_bytes_than_were_promised_leave_the_old_version_whole(site: Site, film: Path, transfer: Transfer) -> None:
    (old := site.root / "old.mp4").write_bytes(b"the old version")
    site.host().upload(old, asset_of(old), transfer)

    with pytest.raises(Transient, match="differs"):
        site.host().upload(film, asset_of(film, sha256="0" * 64), transfer)

    assert site.stored() == [b"the old version"]


def test_a_stop_in_the_middle_leaves_nothing_under_its_name(site: Site, film: Path, transfer: Transfer) -> None:
    with pytest.raises(Interrupted):
        site.host().upload(film, asset_of(film), replace(transfer, progress=lambda _: transfer.deadline.stop.set()))

    if site.protocol in {"webdav", "sftp"}:  # where tidying up took too long the next upload overwrites it
        left = [path.name for path in (site.server.folder / BUCKET / site.root.name).rglob("*")]
        assert left in ([], [f".tmp-{NAME}"])
    else:
        assert site.stored() == []


@pytest.mark.parametrize("protocol", REAL)
@pytest.mark.parametrize("ending", ["stop", "deadline"])
def test_a_server_that_says_nothing_holds_nobody_up(
    protocol: str, ending: str, servers: Callable[[str], Any], tmp_path: Path, film: Path, stop: threading.Event
) -> None:
    good = site_of(protocol, servers, tmp_path)
    with silent() as url:
        changed = {"endpoint": url} if protocol == "s3" else {"path": f"{protocol}://{url.removeprefix('http://')}/films"}
        deadline = Deadline.after(SystemClock(), 60 if ending == "stop" else 0.3, stop)
        timer = threading.Timer(0.3 if ending == "stop" else 60, stop.set)
        timer.start()
        began = time.monotonic()
        with pytest.raises(Interrupted if ending == "stop" else OutOfTime):
            good.host(**changed).upload(film, asset_of(film), Transfer(deadline))
        timer.cancel()

    assert time.monotonic() - began < 6  # about one second where the machine is idle; a minute where nobody looks


@pytest.mark.parametrize(("scheme", "server"), [("webdav", full), ("sftp", full), ("webdavs", full), ("webdavs", silent)])
@pytest.mark.parametrize("ending", ["stop", "deadline"])
def test_a_connection_that_is_not_made_is_given_up_at_once_and_nothing_is_tidied(
    scheme: str, server: Callable[[], Any], ending: str, servers: Callable[[str], Any], film: Path, stop: threading.Event
) -> None:
    good = site_of(scheme.rstrip("s"), servers, film.parent)
    with server() as url:
        host = good.host(path=f"{scheme}://{url.removeprefix('http://')}/films")
        deadline = Deadline.after(SystemClock(), 60 if ending == "stop" else 0.2, stop)
        timer = threading.Timer(0.2 if ending == "stop" else 60, stop.set)
        timer.start()
        began = time.monotonic()
        with pytest.raises(Interrupted if ending == "stop" else OutOfTime):
            host.upload(film, asset_of(film), Transfer(deadline))
        took = time.monotonic() - began
        timer.cancel()

    assert took < 0.95  # tidying up alone would take 0.8 s more


@pytest.mark.parametrize("scheme", ["webdavs", "sftp"])
def test_a_server_that_takes_no_connections_is_tried_later(scheme: str, servers: Callable[[str], Any], film: Path) -> None:
    with silent() as url:
        address = url.removeprefix("http://")
    good = site_of(scheme.rstrip("s"), servers, film.parent)

    with pytest.raises(Transient, match=f"{address}/films: no answer: .+; it is tried again later"):
        good.host(path=f"{scheme}://{address}/films").upload(film, asset_of(film), Transfer(Deadline.after(SystemClock(), 60)))


def test_a_stored_file_that_goes_while_it_is_given_back_is_told_as_it_is(film: Path) -> None:
    class Thief(SystemClock):
        def monotonic(self) -> float:
            (film.parent / "shelf" / NAME).unlink(missing_ok=True)
            return super().monotonic()

    host = Storage(ground=Ground(film.parent, Http(SystemClock())), path="shelf")
    host.upload(film, asset_of(film), Transfer(Deadline.after(SystemClock(), 60)))

    with pytest.raises(Transient, match=f"{NAME}: is not there any more; upload it again"):
        host.fetch(asset_of(film), NAME, film.parent / "back", Deadline(Thief(), time.monotonic() + 60))


def test_what_is_no_file_on_the_shelf_is_neither_read_nor_deleted(film: Path) -> None:
    (film.parent / "shelf" / NAME).mkdir(parents=True)
    place, deadline = Disk(film.parent / "shelf"), Deadline.after(SystemClock(), 60)

    with pytest.raises(Transient, match=f"{NAME}: cannot be read: Is a directory; check the disk"):
        list(place.read(NAME, 1, deadline))
    with pytest.raises(Transient, match=f"{NAME}: cannot be deleted: Is a directory; make its folder"):
        place.remove(NAME, deadline)


def test_wrong_keys_are_refused_and_shown_to_nobody(real: Site, film: Path, transfer: Transfer) -> None:
    wrong = dict.fromkeys(SECRETS, "wrong-wrong-wrong")
    host = Storage(ground=real.ground(secrets=wrong), **real.settings)

    calls: tuple[Callable[[], object], ...] = (
        lambda: host.upload(film, asset_of(film), transfer),
        lambda: host.find(asset_of(film), transfer),
        lambda: host.preflight(transfer.deadline),
    )
    for call in calls:
        with pytest.raises(Denied, match=r".+: .+; check .+") as error:
            call()
        assert "wrong-wrong" not in str(error.value) + repr(host)
        assert error.value.__cause__ is None


def test_a_variable_that_is_not_set_is_named(site: Site, film: Path, transfer: Transfer) -> None:
    host = Storage(ground=Ground(site.root, Http(SystemClock())), **site.settings)

    with pytest.raises(Denied, match="STORE_"):
        host.upload(film, asset_of(film), transfer)


def test_what_has_no_hash_beside_it_is_read_back(real: Site, film: Path, transfer: Transfer) -> None:
    folder = real.server.folder / BUCKET / real.root.name
    folder.mkdir()
    (folder / NAME).write_bytes(CONTENT)

    assert isinstance(real.host().find(asset_of(film), transfer), Receipt)
    assert real.host().find(asset_of(film, sha256="0" * 64), transfer) is None


def test_what_a_dead_run_had_begun_is_gone_after_the_next_upload(real: Site, film: Path, transfer: Transfer) -> None:
    host = real.host()
    if real.protocol == "s3":
        place: Any = host._place
        place._begin(NAME, {}, transfer.deadline)
        names = {"Bucket": BUCKET, "Prefix": place._names(NAME)["Key"]}
        assert len(place._caller.call("call_s3", transfer.deadline, "list_multipart_uploads", **names)["Uploads"]) == 1
    else:
        folder = real.server.folder / BUCKET / real.root.name
        folder.mkdir()
        (folder / f".tmp-{NAME}").write_bytes(b"half of it")

    host.upload(film, asset_of(film), transfer)

    assert real.stored() == [CONTENT]
    if real.protocol == "s3":
        assert not place._caller.call("call_s3", transfer.deadline, "list_multipart_uploads", **names).get("Uploads")


def test_the_common_limit_of_speed_is_kept(real: Site, film: Path, clock: FakeClock) -> None:
    host = Storage(ground=real.ground(Throttle(clock, 1e6)), **real.settings)

    host.upload(film, asset_of(film), Transfer(Deadline.after(clock, 60)))

    assert 12 < sum(clock.slept) <= 21  # seconds for 21 MB; the last block leaves at once when its turn has come


def test_names_and_links_come_from_templates(real: Site, film: Path, transfer: Transfer) -> None:
    host = real.host(key="{kind}/{id}-{sha256}{suffix}", public_url="https://cdn.example/f/{key}?v=1")
    asset = asset_of(film)

    receipt = host.upload(film, asset, transfer)

    assert receipt.remote_id == f"video/{asset.video_id}-{asset.sha256}.mp4"
    assert receipt.direct_url == f"https://cdn.example/f/{receipt.remote_id}?v=1"
    assert (real.server.folder / BUCKET / real.root.name / receipt.remote_id).read_bytes() == CONTENT


def test_a_bucket_that_is_not_there_waits_for_a_person(servers: Callable[[str], Any], film: Path, transfer: Transfer) -> None:
    host = site_of("s3", servers, film.parent).host(path="s3://no-such-bucket/films")

    with pytest.raises(Denied, match="make it, or correct path"):
        host.upload(film, asset_of(film), transfer)


class Answers(Loopback):
    """Says the same to everything."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.said = reply

    def reply(self, call: Call) -> Reply:
        return self.said


@pytest.mark.parametrize(
    ("status", "headers", "kind"),
    [
        (429, {"Retry-After": "7"}, RateLimited),
        (403, {}, Denied),
        (413, {}, HostRefused),
        (507, {}, Transient),
        (200, {}, Transient),
    ],
)
def test_what_a_server_answers_decides_what_comes_next(
    status: int, headers: dict[str, str], kind: type[Exception], film: Path, transfer: Transfer
) -> None:
    with Answers(Reply(status, b"<html>", headers)) as server:
        host = Storage(ground=Ground(film.parent, Http(SystemClock())), path=server.url.replace("http", "webdav"))

        with pytest.raises(kind) as error:
            host.upload(film, asset_of(film), transfer)

    assert type(error.value) is kind
    assert getattr(error.value, "wait_s", 7.0) == 7.0


def test_a_bucket_that_is_asked_too_often_is_left_alone_for_a_while(
    servers: Callable[[str], Any], film: Path, transfer: Transfer
) -> None:
    film.write_bytes(b"small")
    with Answers(Reply()) as server:
        server.breaks("PUT", Fault.SLOW_DOWN, times=100)  # the libraries try again before they give up

        with pytest.raises(RateLimited, match="SlowDown"):
            site_of("s3", servers, film.parent).host(endpoint=server.url).upload(film, asset_of(film), transfer)


# Servers of SFTP show who they are


def test_a_server_nobody_knows_is_not_spoken_to(servers: Callable[[str], Any], film: Path, transfer: Transfer) -> None:
    site, known = site_of("sftp", servers, film.parent), film.parent / "known"
    known.touch()

    with pytest.raises(Denied, match="its key is not in known_hosts"):
        site.host(known_hosts=str(known)).upload(film, asset_of(film), transfer)


def test_a_server_that_shows_another_key_is_not_spoken_to(servers: Callable[[str], Any], film: Path, transfer: Transfer) -> None:
    import paramiko

    site, known = site_of("sftp", servers, film.parent), film.parent / "known"
    known.write_text(f"[127.0.0.1]:{site.server.port} ssh-rsa {paramiko.RSAKey.generate(2048).get_base64()}\n")

    with pytest.raises(Denied, match="another key"):
        site.host(known_hosts=str(known)).upload(film, asset_of(film), transfer)


def test_without_keys_of_servers_one_is_told_how_to_get_them(servers: Callable[[str], Any], film: Path, transfer: Transfer) -> None:
    with pytest.raises(ConfigError, match="ssh-keyscan -p"):
        site_of("sftp", servers, film.parent).host(known_hosts="nowhere").preflight(transfer.deadline)


# … and answer each write, which paramiko does not look at for the last hundred


def forgetful(root: Path) -> Any:
    """What paramiko's own server serves: it keeps what it is sent but answers the first write of each file with a failure."""
    import paramiko

    class Kept(paramiko.SFTPHandle):  # type: ignore[misc]
        def write(self, offset: int, data: bytes) -> int:
            self.writefile.seek(offset)
            self.writefile.write(data)
            return int(paramiko.SFTP_OK if offset else paramiko.SFTP_FAILURE)

    class Folder(paramiko.SFTPServerInterface):  # type: ignore[misc]
        def open(self, path: str, _flags: int, _attr: object) -> Any:
            kept = Kept()
            kept.writefile = (root / Path(path).name).open("wb", buffering=0)
            return kept

        def stat(self, path: str) -> Any:
            held = root / Path(path).name
            return paramiko.SFTPAttributes.from_stat(held.stat()) if held.exists() else paramiko.SFTP_NO_SUCH_FILE

        def rename(self, oldpath: str, newpath: str) -> int:
            (root / Path(oldpath).name).rename(root / Path(newpath).name)
            return int(paramiko.SFTP_OK)

        posix_rename = rename

        def remove(self, path: str) -> int:
            (root / Path(path).name).unlink()
            return int(paramiko.SFTP_OK)

        def mkdir(self, _path: str, _attr: object) -> int:
            return int(paramiko.SFTP_OK)

    return Folder


@contextmanager
def refusing(root: Path) -> Iterator[str]:
    """Its address; the key it shows is in `known` beside the folder."""
    import paramiko

    class Open(paramiko.ServerInterface):  # type: ignore[misc]
        def check_auth_password(self, _username: str, _password: str) -> int:
            return int(paramiko.AUTH_SUCCESSFUL)

        def check_channel_request(self, _kind: str, _chanid: int) -> int:
            return int(paramiko.OPEN_SUCCEEDED)

    key: Any = paramiko.RSAKey.generate(2048)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        (root.parent / "known").write_text(f"[{host}]:{port} ssh-rsa {key.get_base64()}\n")
        running: list[Any] = []

        def serve() -> None:
            with suppress(OSError):
                while True:
                    running.append(transport := paramiko.Transport(listener.accept()[0]))
                    transport.add_server_key(key)
                    transport.set_subsystem_handler("sftp", paramiko.SFTPServer, forgetful(root))
                    transport.start_server(threading.Event(), Open())

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"sftp://{host}:{port}/served"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for transport in running:
                transport.close()


def test_a_write_that_is_refused_is_not_taken_for_done(servers: Callable[[str], Any], film: Path, transfer: Transfer) -> None:
    film.write_bytes(CONTENT[:100_000])
    (root := film.parent / "served").mkdir()
    with refusing(root) as path:
        host = site_of("sftp", servers, film.parent).host(path=path, known_hosts=str(film.parent / "known"))

        with pytest.raises(Transient, match="no answer"):
            host.upload(film, asset_of(film), transfer)

    assert list(root.iterdir()) == []


# What the settings say


@pytest.mark.parametrize(
    ("path", "package", "extra"),
    [
        ("s3://b/f", "s3fs", "s3"),
        ("gs://b/f", "gcsfs.core", "gcs"),
        ("az://b/f", "adlfs", "azure"),
        ("webdavs://h/f", "webdav4.fsspec", "webdav"),
        ("sftp://h/f", "paramiko", "sftp"),
    ],
)
def test_a_package_that_is_missing_is_named_by_its_extra(
    path: str, package: str, extra: str, tmp_path: Path, transfer: Transfer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(ConfigError, match=rf"install dailies\[{extra}\]$"):
        Storage(ground=Ground(tmp_path, Http(SystemClock())), path=path).preflight(transfer.deadline)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"path": f"sftp://me:{PASSWORD}@h/f"}, "user_env and password_env"),
        ({"path": f"webdavs://me:{PASSWORD}@h/f"}, "user_env and password_env"),
        ({"path": f"s3://me:{PASSWORD}@bucket"}, "access_key_env and secret_key_env"),
        ({"path": "webdav://somewhere.example/f"}, "write webdavs://"),
        ({"path": "ftp://h/f"}, "ftp:// is not known"),
        ({"path": "s3:///f"}, "names no bucket"),
        ({"path": "s3://b/f/../g"}, "no plain path"),
        ({"path": "s3://b/f?x=1"}, "leave out what is behind it"),
        ({"path": "sftp://h:port/f"}, "is no address"),
        ({"path": "p", "region": "eu"}, "region: means nothing to a folder"),
        ({"path": "s3://b", "endpoint": "http://somewhere.example"}, "only https"),
        ({"path": "p", "key": "{id}"}, "must hold {name}"),
        ({"path": "p", "key": "../{name}"}, "no plain path"),
        ({"path": "p", "key": "/{name}"}, "no plain path"),
        ({"path": "p", "key": "{title}"}, "{title} is not known"),
        ({"path": "p", "key": "{name!r}"}, "is not known"),
        ({"path": "p", "key": "{name"}, "a brace without its other"),
    ],
)
def test_settings_that_cannot_be_meant_are_told_at_once(settings: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError) as error:
        Storage(ground=Ground(tmp_path, Http(SystemClock())), **settings)

    (fault,) = error.value.errors()
    assert told in fault["msg"]
    assert PASSWORD not in fault["msg"]


@pytest.mark.parametrize("remote_id", ["", "../film.mp4", "/etc/passwd", "a//b"])
def test_a_record_leads_nowhere_else(remote_id: str, tmp_path: Path, transfer: Transfer) -> None:
    host = Storage(ground=Ground(tmp_path, Http(SystemClock())), path="published")

    with pytest.raises(ConfigError, match="no plain path"):
        host.delete(remote_id, transfer.deadline)


def test_no_back_end_is_loaded_before_it_is_spoken_to() -> None:
    heavy = "fsspec", "s3fs", "gcsfs", "adlfs", "paramiko", "httpx", "aiohttp", "botocore"
    code = f"import sys, dailies.hosts; print([name for name in {heavy} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], env=variables(), capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
