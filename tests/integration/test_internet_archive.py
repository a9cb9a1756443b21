"""archive.org over real loopback HTTP: what is sent, what each answer means, when a file counts as there; downloads to disk."""

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dailies.clock import Deadline, SystemClock
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
    Waiting,
)
from dailies.hosts.archive_item import header_value, safe_identifier
from dailies.hosts.host import Asset, Details, Ground, Session, Standing, State, Transfer
from dailies.hosts.internet_archive import InternetArchive, _md5
from dailies.http import Http
from dailies.model import Kind
from hosts_internet_archive import ACCESS, SECRET, SPAM, USER, ArchiveServer
from loopback import Call, Fault, Loopback, Point, Reply

VIDEO_ID = "film-0123456789ab"
NAME = f"{VIDEO_ID}.mp4"
PLACE = f"{VIDEO_ID}/{NAME}"
CONTENT = bytes(range(256)) * 4096  # 1 MiB: several blocks
KEYS = {"IA_ACCESS_KEY_ID": ACCESS, "IA_SECRET_ACCESS_KEY": SECRET}
DETAILS = Details(
    title="Übung\tmacht Meister",
    description="First line\nsecond 100%",
    tags=("swim", "long walk"),
    categories=("sport", "swim"),
    people=("Zoë", "Max"),
    release_date="2025-06-07",
)


@dataclass(frozen=True)
class Case:
    """A host that speaks to `server`, and a file for it."""

    server: ArchiveServer
    path: Path

    def host(self, secrets: dict[str, str] | None = None, **settings: Any) -> InternetArchive:
        ground = Ground(
            self.path.parent,
            Http(SystemClock(), draw=lambda ceiling: 30.0 if ceiling == 60 else 0.0),
            KEYS if secrets is None else secrets,
        )
        return InternetArchive.model_validate(
            {"ground": ground, "s3_url": self.server.url, "front_url": self.server.url} | settings
        )

    def asset(self, kind: Kind = Kind.VIDEO, suffix: str = ".mp4", details: Details = DETAILS) -> Asset:
        content = self.path.read_bytes()
        return Asset(VIDEO_ID, kind, suffix, hashlib.sha256(content).hexdigest(), len(content), details=details)

    def upload(self, **settings: Any) -> None:
        self.host(**settings).upload(self.path, self.asset(), transfer())

    def check(self) -> Standing:
        return self.host().check(self.asset(), PLACE, transfer().deadline)


def transfer(seconds: float = 30, stop: threading.Event | None = None, **more: Any) -> Transfer:
    return Transfer(Deadline.after(SystemClock(), seconds, stop), **more)


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    (path := tmp_path / "film.mp4").write_bytes(CONTENT)
    with ArchiveServer() as server:
        yield Case(server, path)


# What is sent


def test_an_upload_is_one_put_with_the_headers_of_the_protocol(case: Case) -> None:
    receipt = case.host().upload(case.path, case.asset(), transfer())

    put = case.server.files[PLACE]
    assert put.stored.read() == CONTENT
    sent = {name: text for name, text in put.headers.items() if not name.startswith("x-archive-meta")}
    assert sent.pop("user-agent").startswith("dailies/")
    assert sent == {
        "accept": "*/*",
        "accept-encoding": "gzip, deflate",
        "authorization": f"LOW {ACCESS}:{SECRET}",
        "connection": "keep-alive",
        "content-length": str(len(CONTENT)),
        "content-md5": hashlib.md5(CONTENT).hexdigest(),
        "host": case.server.url.removeprefix("http://"),
        "x-archive-auto-make-bucket": "1",
        "x-archive-filemeta00-dailies-sha256": hashlib.sha256(CONTENT).hexdigest(),
        "x-archive-keep-old-version": "0",
        "x-archive-queue-derive": "1",
    }
    assert (receipt.remote_id, receipt.is_settled) == (PLACE, False)
    assert receipt.watch_url == f"{case.server.url}/details/{VIDEO_ID}"
    assert receipt.embed_url == f"{case.server.url}/embed/{VIDEO_ID}"
    assert receipt.direct_url == f"{case.server.url}/download/{PLACE}"


def test_a_new_item_says_what_the_record_and_the_settings_say(case: Case) -> None:
    case.upload(
        licence_url="https://example.org/by/4.0/", metadata={"creator": "My Lab", "language": ["deu", "eng"], "my_key": "1"}
    )

    assert case.server.files[PLACE].item == {
        "title": ["Übung\tmacht Meister"],
        "description": ["First line\nsecond 100%"],
        "date": ["2025-06-07"],
        "subject": ["swim", "long walk", "sport"],
        "creator": ["My Lab"],
        "language": ["deu", "eng"],
        "my_key": ["1"],
        "licenseurl": ["https://example.org/by/4.0/"],
        "collection": ["opensource_movies"],
        "mediatype": ["movies"],
    }
    assert case.server.files[PLACE].headers["x-archive-meta00-my--key"] == "1"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Ünï ttl", "uri(%C3%9Cn%C3%AF%20ttl)"),
        ("movies", "movies"),
        ("a/b_c%20d", "a/b_c%20d"),
        ("uri(a)", "uri(uri%28a%29)"),
        ("a\r\nx-archive-meta00-collection: b", "uri(a%0D%0Ax-archive-meta00-collection%3A%20b)"),
        ("\N{NO-BREAK SPACE}", "uri(%C2%A0)"),
    ],
)
def test_texts_become_headers_by_the_uri_rule(text: str, value: str) -> None:
    assert header_value(text) == value


def test_what_no_header_or_xml_holds_is_left_out_or_cut(case: Case) -> None:
    tags = tuple(f"tag {number} " + "é" * 200 for number in range(120))
    details = Details(title="a\x00b\ud800c", description="ß" * 20_000, tags=("", " ", *tags), release_date="next week")

    case.host().upload(case.path, case.asset(details=details), transfer())

    item = case.server.files[PLACE].item
    assert item["title"] == ["abc"]
    assert item["description"][0].startswith("ßßß")
    assert item["description"][0].endswith("ß…")
    assert len(item["description"][0]) > 600
    assert len(item["subject"]) == 40
    assert "date" not in item


def test_previews_and_pictures_are_files_of_the_same_item_and_not_derived(case: Case) -> None:
    wanted = [(Kind.VIDEO, ".mp4"), (Kind.PREVIEW, ".preview.mp4"), (Kind.IMAGE, ".cover.jpg")]

    receipts = [case.host().upload(case.path, case.asset(*one), transfer()) for one in wanted]

    assert [put.headers["x-archive-queue-derive"] for put in case.server.files.values()] == ["1", "0", "0"]
    assert [receipt.remote_id for receipt in receipts] == [f"{VIDEO_ID}/{VIDEO_ID}{suffix}" for _, suffix in wanted]
    assert [receipt.embed_url is None for receipt in receipts] == [False, True, True]


def test_a_file_from_10_gb_on_is_announced_with_its_size(case: Case) -> None:
    host, asset = case.host(), replace(case.asset(), size_bytes=10_000_000_000)

    host.upload(case.path, asset, transfer())

    assert case.server.files[PLACE].headers["x-archive-size-hint"] == "10000000000"


def test_progress_tells_the_bytes_that_left_up_to_the_last(case: Case) -> None:
    told: list[int] = []

    case.host().upload(case.path, case.asset(), transfer(progress=told.append))

    assert told == sorted(told)
    assert told[-1] == len(CONTENT)


# Names


@pytest.mark.parametrize("template", ["{id}", "my-lab_{id}", "{id}.{kind}"])
def test_an_identifier_is_made_from_its_template(case: Case, template: str) -> None:
    case.upload(identifier=template)

    assert set(case.server.files) == {f"{template.replace('{id}', VIDEO_ID).replace('{kind}', 'video')}/{NAME}"}


@pytest.mark.parametrize("name", ["x" * 101, "a b", "-film", "é" * 3, "", "ab", "../../etc"])
def test_a_name_against_the_rule_is_made_safe_and_stays_its_own(name: str) -> None:
    safe = safe_identifier(name)

    assert safe == safe_identifier(name) == safe_identifier(safe)
    assert 3 <= len(safe) <= 100
    assert safe.isascii()
    assert safe[0].isalnum()
    assert safe_identifier(f"{name} other") != safe


@pytest.mark.parametrize("template", ["", "all", "{code}", "my lab {id}", "-{id}", "{{id}}", "a/{id}"])
def test_a_template_that_cannot_make_names_is_refused_at_once(case: Case, template: str) -> None:
    with pytest.raises(ValidationError, match=r"needs \{id\}"):
        case.host(identifier=template)


@pytest.mark.parametrize("key", ["Collection", "a b", "a:b", "collection", "mediatype", ""])
def test_metadata_names_that_the_host_would_not_take_are_refused_at_once(case: Case, key: str) -> None:
    with pytest.raises(ValidationError, match=r"metadata"):
        case.host(metadata={key: "1"})


# What answers mean


def test_nothing_is_sent_while_the_host_is_over_its_limit(case: Case) -> None:
    for answer in (1, "1", None, True):
        case.server.over_limit = answer
        with pytest.raises(RateLimited, match=r"no uploads just now; .+") as raised:
            case.upload()
        assert raised.value.wait_s == 90
    assert {call.method for call in case.server.calls} == {"GET"}

    case.server.over_limit = "0"
    case.upload()


@pytest.mark.parametrize(
    ("fault", "wait_s"),
    [(Fault.HTML, 90), (Fault.SLOW_DOWN, 90), (Fault.SERVER_ERROR, 90), (Fault.GARBLED, 90), (Fault.LIMITED, 1)],
)
def test_an_answer_about_limits_that_is_no_clear_yes_means_wait(case: Case, fault: Fault, wait_s: float) -> None:
    case.server.breaks("GET /$", fault)

    with pytest.raises(RateLimited) as raised:
        case.upload()

    assert raised.value.wait_s == wait_s
    assert case.server.files == {}


@pytest.mark.parametrize(
    ("status", "code", "message", "error", "said"),
    [
        (503, "SlowDown", "Please reduce your request rate.", RateLimited, "SlowDown: Please reduce"),
        (503, "SlowDown", SPAM, HostRefused, "appears to be spam"),
        (503, "ServiceUnavailable", "Oops", OutcomeUnknown, "tried again later"),
        (500, "InternalError", "Oops", OutcomeUnknown, "tried again later"),
        (400, "BadDigest", "The Content-MD5 did not match", Transient, "BadDigest"),
        (400, "InvalidBucketName", "The bucket is not valid", HostRefused, "InvalidBucketName"),
        (404, "NoSuchBucket", "The bucket does not exist", Transient, "NoSuchBucket"),
        (409, "BucketAlreadyExists", "Taken", HostRefused, "set another identifier"),
        (413, "EntityTooLarge", "Too large", HostRefused, "will not take this"),
    ],
)
def test_each_refusal_has_its_own_meaning(
    case: Case, status: int, code: str, message: str, error: type[DailiesError], said: str
) -> None:
    case.server.refuses_as = (status, code, message)

    with pytest.raises(error, match=said) as raised:
        case.upload()

    assert type(raised.value) is error
    assert case.server.files == {}


def test_a_slow_down_waits_a_minute_and_a_drawn_part_of_one(case: Case) -> None:
    case.server.breaks("PUT ", Fault.SLOW_DOWN)

    with pytest.raises(RateLimited) as raised:
        case.upload()

    assert raised.value.wait_s == 90


@pytest.mark.parametrize("later", ["7", "Tue, 01 Jan 2999 00:00:00 GMT"])
def test_a_slow_down_that_names_a_time_is_obeyed(case: Case, later: str) -> None:
    with Slow(later) as server, pytest.raises(RateLimited) as raised:
        case.upload(s3_url=server.url)

    assert raised.value.wait_s == (7 if later == "7" else 86_400)


class Slow(Loopback):
    def __init__(self, later: str) -> None:
        super().__init__()
        self.later = later

    def reply(self, call: Call) -> Reply:
        if call.method == "GET":
            return Reply.json({"over_limit": 0})
        return Reply(503, b"<Error><Code>SlowDown</Code></Error>", {"Retry-After": self.later})


@pytest.mark.parametrize(
    ("fault", "error", "is_there"),
    [
        (Fault.RESET, Transient, False),
        (Fault.EARLY_413, HostRefused, False),
        (Fault.LOST_ANSWER, OutcomeUnknown, True),
        (Fault.LIMITED, RateLimited, False),
        (Fault.HTML, OutcomeUnknown, False),
        (Fault.GARBLED, OutcomeUnknown, True),
        (Fault.SERVER_ERROR, OutcomeUnknown, False),
    ],
)
def test_trouble_on_the_way_is_told_apart_by_what_had_left(
    case: Case, fault: Fault, error: type[DailiesError], is_there: bool
) -> None:
    case.path.write_bytes(CONTENT * 48)  # half of it is more than the buffers of both sockets
    case.server.breaks("PUT ", fault)

    with pytest.raises(error) as raised:
        case.upload()

    assert type(raised.value) is error
    assert bool(case.server.files) == is_there


def test_a_lost_answer_is_settled_by_looking_and_sending_again_leaves_one_file(case: Case) -> None:
    case.server.breaks("PUT ", Fault.LOST_ANSWER)
    with pytest.raises(OutcomeUnknown):
        case.upload()

    assert case.host().find(case.asset(), transfer()) is None  # staged: not to be seen
    case.upload()
    case.server.ingest()

    found = case.host().find(case.asset(), transfer())
    assert found is not None
    assert (found.remote_id, found.is_settled) == (PLACE, True)
    assert set(case.server.files) == {PLACE}


def test_bytes_damaged_on_the_way_are_not_kept(case: Case) -> None:
    def spoil(_sent: int) -> None:
        with case.path.open("r+b") as file:
            file.seek(-1, 2)
            file.write(b"?")

    with pytest.raises(Transient, match="BadDigest"):
        case.host().upload(case.path, case.asset(), transfer(progress=spoil))

    assert case.server.files == {}


def test_a_file_that_is_not_the_one_promised_is_not_sent(case: Case) -> None:
    asset = case.asset()
    case.path.write_bytes(b"other")

    with pytest.raises(Transient, match=r"film\.mp4: differs"):
        case.host().upload(case.path, asset, transfer())
    case.path.unlink()
    with pytest.raises(Transient, match=r"film\.mp4: cannot be read"):
        case.host().upload(case.path, asset, transfer())

    assert {call.method for call in case.server.calls} == {"GET"}


def test_an_empty_file_is_refused_before_anything_is_asked(case: Case) -> None:
    case.path.write_bytes(b"")

    with pytest.raises(HostRefused, match="is empty"):
        case.upload()

    assert case.server.calls == []


def test_a_stop_is_seen_in_the_middle_of_a_file(case: Case) -> None:
    stop, is_over = threading.Event(), threading.Event()
    case.path.write_bytes(CONTENT * 48)  # more than the buffers of both sockets

    def stops(point: Point, what: str) -> None:
        if (point, what[:3]) == (Point.HALF, "PUT"):
            stop.set()
            is_over.wait(30)  # reads no more meanwhile

    case.server.on_point = stops
    with pytest.raises(Interrupted):
        case.host().upload(case.path, case.asset(), transfer(stop=stop))
    is_over.set()

    assert case.server.files == {}


def test_a_stop_is_seen_while_a_file_is_hashed(case: Case) -> None:
    stop = threading.Event()
    stop.set()

    with pytest.raises(Interrupted):
        _md5(case.path, case.asset(), transfer(stop=stop).deadline)


def test_a_time_that_is_over_is_seen_before_a_long_file_is_read(case: Case) -> None:
    asset, deadline = case.asset(), Deadline.after(SystemClock(), 0.2)
    case.server.on_point = lambda point, _what: deadline.pause(0.1) if point is Point.BEGUN else None

    with pytest.raises(OutOfTime):
        case.host().upload(case.path, asset, Transfer(Deadline(deadline.clock, deadline.at - 0.15)))

    assert case.server.files == {}


# Keys


def test_keys_follow_a_redirect_to_the_same_machine_with_the_whole_file(case: Case) -> None:
    case.server.moves_to = f"{case.server.url}/{PLACE}?node=7"

    case.upload()

    (put,) = [call for call in case.server.calls if call.method == "PUT"]
    assert put.query == {"node": "7"}
    assert case.server.files[PLACE].stored.read() == CONTENT


def test_keys_and_files_follow_no_redirect_to_somebody_elses_machine(case: Case) -> None:
    case.server.moves_to = f"{case.server.url.replace('127.0.0.1', 'localhost')}/{PLACE}"

    with pytest.raises(Transient, match="is given nothing"):
        case.upload()

    assert case.server.files == {}


def test_archive_orgs_own_machines_and_no_others_may_see_the_keys(case: Case) -> None:
    trusts = case.host()._http.trusts

    assert [trusts(host) for host in ("s3.us.archive.org", "ia600.us.archive.org", "archive.org")] == [True] * 3
    assert [trusts(host) for host in ("notarchive.org", "archive.org.example", "example.org", "")] == [False] * 4


def test_keys_are_never_sent_in_the_clear(case: Case) -> None:
    with pytest.raises(ConfigError, match="only https"):
        case.upload(s3_url="http://s3.us.archive.org")


def test_good_keys_are_told_by_the_names_of_their_variables_only(case: Case) -> None:
    said = case.host().preflight(transfer().deadline)

    assert said == f"{case.server.url}: takes the keys in IA_ACCESS_KEY_ID and IA_SECRET_ACCESS_KEY"


@pytest.mark.parametrize("secret", ["wrong0123456789", "", "two words", "né0123456789", "a\r\nx: y"])
def test_keys_that_are_wrong_stop_the_host_and_show_in_no_message(case: Case, secret: str) -> None:
    host = case.host(secrets={**KEYS, "IA_SECRET_ACCESS_KEY": secret})

    for act in (lambda: host.preflight(transfer().deadline), lambda: host.upload(case.path, case.asset(), transfer())):
        with pytest.raises(Denied, match="IA_SECRET_ACCESS_KEY") as raised:
            act()
        assert raised.value.__cause__ is None
        for word in filter(None, (ACCESS, SECRET, secret)):
            assert word not in str(raised.value)
    assert case.server.files == {}


def test_a_refusal_that_repeats_the_keys_shows_none_of_them(case: Case) -> None:
    case.server.refuses_as = (400, "InvalidRequest", f"LOW {ACCESS}:{SECRET} asked")

    with pytest.raises(HostRefused, match=r"InvalidRequest: \*\*\*TOKEN\*\*\* asked;") as raised:
        case.upload()

    assert not any(key in f"{raised.value!r} {case.host()!r}" for key in (ACCESS, SECRET))


def test_an_item_of_somebody_else_is_told_from_wrong_keys(case: Case) -> None:
    case.server.foreign.add(VIDEO_ID)

    with pytest.raises(HostRefused, match=f"{VIDEO_ID}: .*keys are good but not for this item: set another") as raised:
        case.upload()

    assert USER not in str(raised.value)


@pytest.mark.parametrize("fault", [Fault.HTML, Fault.GARBLED])
def test_an_answer_about_keys_that_cannot_be_read_is_no_verdict(case: Case, fault: Fault) -> None:
    case.server.breaks("GET /$", fault, times=3)

    with pytest.raises(Transient) as raised:
        case.host().preflight(transfer().deadline)

    assert type(raised.value) is Transient


# What is there


def test_a_file_counts_only_once_it_is_taken_in_with_all_its_bytes(case: Case) -> None:
    assert case.check().state is State.PROCESSING
    case.upload()
    assert case.check() == Standing(State.PROCESSING, f"{VIDEO_ID}: archive.org has not taken {NAME} in yet")

    case.server.ingest()

    assert case.check() == Standing(State.READY)
    case.server.items[VIDEO_ID].entries[NAME] = {"size": "17"}
    assert case.check().state is State.FAILED
    assert case.check().reason == f"{PLACE}: archive.org has 17 bytes of the {len(CONTENT)} sent; upload it again"
    assert case.host().find(case.asset(), transfer()) is None


def test_an_older_version_of_the_same_name_and_size_is_not_taken_for_ours(case: Case) -> None:
    case.upload()
    case.server.ingest()
    case.path.write_bytes(CONTENT[::-1])
    case.upload()

    assert case.check() == Standing(State.PROCESSING, f"{VIDEO_ID}: archive.org still has another version of {NAME}")
    assert case.host().find(case.asset(), transfer()) is None

    case.server.ingest()
    assert case.check() == Standing(State.READY)


@pytest.mark.parametrize("entry", [{"dailies-sha256": None}, {"dailies-sha256": ["a", "b"]}, {"size": None}, {"size": "many"}])
def test_a_file_without_our_mark_or_without_a_size_is_not_ours_yet(case: Case, entry: dict[str, object]) -> None:
    case.upload()
    case.server.ingest()
    case.server.items[VIDEO_ID].entries[NAME] = entry

    assert case.check().state is State.PROCESSING
    assert case.host().find(case.asset(), transfer()) is None


def test_an_item_out_of_view_is_failed_and_nothing_more_is_sent_to_it(case: Case) -> None:
    case.upload()
    case.server.ingest()
    case.server.items[VIDEO_ID].extra = {"is_dark": True, "files": []}

    assert case.check().state is State.FAILED
    assert "out of view" in case.check().reason
    with pytest.raises(HostRefused, match="out of view"):
        case.host().find(case.asset(), transfer())


@pytest.mark.parametrize("extra", [{"files": {"a": 1}}, {"files": "none"}, {"files": None}, {"error": "metadata is asleep"}])
def test_metadata_of_a_wrong_shape_is_tried_again_later(case: Case, extra: dict[str, object]) -> None:
    case.upload()
    case.server.ingest()
    case.server.items[VIDEO_ID].extra = extra

    for act in (case.check, lambda: case.host().find(case.asset(), transfer())):
        with pytest.raises(Transient, match="cannot be understood"):
            act()


def test_odd_entries_among_the_files_do_no_harm(case: Case) -> None:
    case.upload()
    case.server.ingest()
    mine = {"name": NAME, "size": len(CONTENT), "dailies-sha256": case.asset().sha256}
    case.server.items[VIDEO_ID].extra = {"files": [None, 7, {}, {"name": 3}, {"name": "other"}, mine]}

    assert case.check() == Standing(State.READY)


def test_metadata_that_is_no_json_is_asked_for_again_later(case: Case) -> None:
    case.server.breaks("GET /metadata", Fault.HTML)

    with pytest.raises(Transient, match="no JSON"):
        case.check()


# Deleting and getting back


def test_a_file_is_deleted_with_all_that_was_made_of_it_and_a_second_time_is_no_error(case: Case) -> None:
    case.upload()
    case.server.ingest()

    for _ in range(2):
        case.host().delete(PLACE, transfer().deadline)
    case.server.ingest()

    assert case.server.files == {}
    assert case.host().find(case.asset(), transfer()) is None


def test_a_deletion_that_is_refused_is_told(case: Case) -> None:
    case.upload()
    case.server.refuses_as = (503, "SlowDown", "Please reduce your request rate.")

    with pytest.raises(RateLimited):
        case.host().delete(PLACE, transfer().deadline)
    case.server.refuses_as = (400, "InvalidRequest", "No")
    with pytest.raises(HostRefused):
        case.host().delete(PLACE, transfer().deadline)
    for remote_id in ("film", "/film", "film/"):
        with pytest.raises(ConfigError, match="names no file on archive"):
            case.host().delete(remote_id, transfer().deadline)


def test_the_very_bytes_come_back_without_keys(case: Case, tmp_path: Path) -> None:
    case.upload()
    with pytest.raises(Transient, match=r"does not give it \(yet\)"):
        case.host().fetch(case.asset(), PLACE, tmp_path / "back", transfer().deadline)
    case.server.ingest()

    case.host(secrets={}).fetch(case.asset(), PLACE, tmp_path / "back", transfer().deadline)

    assert (tmp_path / "back").read_bytes() == CONTENT
    assert "authorization" not in case.server.calls[-1].headers


def test_nothing_secret_is_kept_for_after_a_crash(case: Case, tmp_path: Path) -> None:
    case.host().upload(case.path, case.asset(), transfer(session=Session(tmp_path / "session")))

    assert not (tmp_path / "session").exists()


# Downloads


class Files(Loopback):
    """Says `headers` beside `content` under any address; `/moved` leads to `moves_to`."""

    def __init__(self) -> None:
        super().__init__()
        self.content = CONTENT
        self.status = 200
        self.moves_to = ""

    def reply(self, call: Call) -> Reply:
        if call.path == "/moved":
            return Reply(302, b"", {"Location": self.moves_to})
        return Reply(self.status, self.content)


@pytest.fixture
def files() -> Iterator[Files]:
    with Files() as server:
        yield server


@pytest.fixture
def http() -> Http:
    return Http(SystemClock())


def test_a_download_is_on_disk_and_not_in_the_answer(files: Files, http: Http, tmp_path: Path) -> None:
    answer = http.download(f"{files.url}/a", tmp_path / "a", transfer().deadline, params={"b": "c"}, headers={"X-D": "e"})

    assert (tmp_path / "a").read_bytes() == CONTENT
    assert (answer.status, answer.content, answer.headers["content-length"]) == (200, b"", str(len(CONTENT)))
    assert files.calls[0].query == {"b": "c"}
    assert (files.calls[0].headers["x-d"], files.calls[0].headers["accept-encoding"]) == ("e", "identity")


@pytest.mark.parametrize("size_bytes", [len(CONTENT) - 1, len(CONTENT) + 1])
def test_a_download_of_another_size_leaves_nothing(files: Files, http: Http, tmp_path: Path, size_bytes: int) -> None:
    with pytest.raises(Transient, match=f"has {size_bytes} bytes"):
        http.download(f"{files.url}/a", tmp_path / "a", transfer().deadline, size_bytes=size_bytes)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("status", "error"), [(404, HostRefused), (403, Denied), (500, Transient), (429, RateLimited)])
def test_a_download_that_is_refused_writes_nothing(
    files: Files, http: Http, tmp_path: Path, status: int, error: type[DailiesError]
) -> None:
    files.status = status
    (tmp_path / "a").write_text("old")

    with pytest.raises(error):
        http.download(f"{files.url}/a", tmp_path / "a", transfer().deadline)

    assert (tmp_path / "a").read_text() == "old"


def cut(said: bytes) -> Callable[[socket.socket], None]:
    """A server that says this and closes."""

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(said)

    return serve


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 60,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n" + b"x" * 30,
    ],
)
def test_a_download_that_is_cut_leaves_nothing(http: Http, tmp_path: Path, said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=cut(said), args=(listener,))
        thread.start()
        with pytest.raises(Transient):
            http.download(f"http://127.0.0.1:{listener.getsockname()[1]}/", tmp_path / "a", transfer().deadline)
        thread.join()

    assert list(tmp_path.iterdir()) == []


def test_a_download_sees_a_stop_while_nothing_comes(http: Http, tmp_path: Path) -> None:
    stop, told = threading.Event(), threading.Event()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx")
            stop.set()
            told.wait(20)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        with pytest.raises(Interrupted):
            http.download(f"http://127.0.0.1:{listener.getsockname()[1]}/", tmp_path / "a", transfer(stop=stop).deadline)
        told.set()
        thread.join()

    assert list(tmp_path.iterdir()) == []


def test_a_download_takes_its_keys_to_no_other_host(files: Files, http: Http, tmp_path: Path) -> None:
    keys = {"Authorization": "LOW a:b"}
    for moves_to in (f"{files.url}/a", f"{files.url.replace('127.0.0.1', 'localhost')}/a"):
        files.moves_to = moves_to
        http.download(f"{files.url}/moved", tmp_path / "a", transfer().deadline, headers=keys)

    assert ["authorization" in call.headers for call in files.calls] == [True, True, True, False]
    files.moves_to = "http://example.org/a"
    with pytest.raises(Transient, match="given nothing"):
        http.download(f"{files.url}/moved", tmp_path / "b", transfer().deadline)


def test_a_download_that_the_disk_does_not_take_blames_the_disk(files: Files, http: Http, tmp_path: Path) -> None:
    with pytest.raises(Transient, match=r"a/b: cannot be written: .+; make its folder writable"):
        http.download(f"{files.url}/a", tmp_path / "a" / "b", transfer().deadline)
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(Waiting, match="disk is full"):
        http.download(f"{files.url}/a", tmp_path / "full", transfer().deadline)
