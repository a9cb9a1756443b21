"""Laws of the door to HTTP: whatever goes wrong, no words about it hold a secret."""

import contextlib
import logging
import string
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dailies import wire
from dailies.answer import Answer, fault, full_jitter
from dailies.body import multipart
from dailies.clock import Deadline
from dailies.errors import DailiesError
from dailies.http import Http
from loopback import Call, Fault, Loopback, Reply
from support import FakeClock

# what hosts give out as keys, with what encoders write in other ways; shorter ones are words (redact.SHORTEST_SECRET)
SECRETS = st.text(string.ascii_letters + string.digits + "+/=-_.~%&: \"'<>", min_size=12, max_size=60).map(
    lambda text: "k" + text.rstrip() + "#y"
)
PLACES = ("query", "address", "header", "form", "json", "file form")


class Gossip(Loopback):
    """Refuses, and says all that it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.is_moved = False

    def reply(self, call: Call) -> Reply:
        if self.is_moved:
            return Reply(302, b"", {"Location": "http://example.org/" + "".join(map(quote, call.query.values()))})
        told = " ".join(call.query.values()) + str(call.headers) + " " + call.body.read()[:4000].decode()
        return Reply(400, told.encode())


@pytest.fixture(scope="module")
def server() -> Iterator[Gossip]:
    with Gossip() as gossip:
        yield gossip


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    path.write_bytes(b"film")
    return path


class Collected(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextlib.contextmanager
def logged() -> Iterator[list[str]]:
    """What our own logger is told; that of urllib3 has no handler of ours."""
    logger, handler = logging.getLogger("dailies"), Collected()
    logger.addHandler(handler)
    yield handler.lines
    logger.removeHandler(handler)


def _ask(http: Http, url: str, secret: str, place: str, film: Path) -> Any:
    deadline = Deadline.after(http.clock, 60)
    match place:
        case "query":
            return http.call("GET", url, deadline, params={"key": secret}, repeats=False)
        case "address":
            return http.call("GET", f"{url}?upload_id={quote(secret)}", deadline, repeats=False)
        case "header":
            return http.call("GET", url, deadline, headers={"Authorization": f"LOW {secret}"}, repeats=False)
        case "form":
            return http.call("POST", url, deadline, form={"key": secret})
        case "json":
            return http.call("POST", url, deadline, content={"auth": [{"key": secret}]})
        case _:
            body, kind = multipart({"key": secret}, "file", "film.mp4", film)
            return http.send("POST", url, body, deadline, headers={"Content-Type": kind})


@given(
    secret=SECRETS,
    place=st.sampled_from(PLACES),
    trouble=st.sampled_from([*set(Fault) - {Fault.SLOW_READER}, "says all", "moves", "nobody there", "no TLS there", "no address"]),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # real sockets, on a machine that does other things
@example(secret="line\nbreak in a key", place="header", trouble="says all")
def test_whatever_goes_wrong_with_whatever_is_sent_no_secret_is_told(
    server: Gossip, film: Path, secret: str, place: str, trouble: Fault | str
) -> None:
    url = f"{server.url}/upload"
    server.is_moved = trouble == "moves"
    if isinstance(trouble, Fault):
        server.breaks("", trouble)
    elif trouble == "nobody there":
        url = "http://127.0.0.1:9/upload"
    elif trouble == "no TLS there":
        url = url.replace("http:", "https:")
    elif trouble == "no address":
        url = "https://[::1/upload"

    with logged() as lines, pytest.raises(DailiesError) as caught:
        _ask(Http(FakeClock()), url, secret, place, film).json()
    server._faults.clear()

    said = "\n".join([str(caught.value), repr(caught.value), *traceback.format_exception(caught.value), *lines])
    for spelling in {secret, quote(secret), quote_plus(secret), quote(secret, safe="")}:
        assert spelling not in said
    chain: BaseException | None = caught.value
    while chain is not None:
        assert secret not in str(chain)
        chain = chain.__cause__ or chain.__context__


@given(
    status=st.integers(300, 599),
    headers=st.dictionaries(st.just("retry-after"), st.text(max_size=30) | st.integers(0).map(str)),
    content=st.binary(max_size=400),
    is_of_body=st.booleans(),
)
def test_whatever_a_host_answers_is_one_of_our_errors_in_one_line(
    status: int, headers: dict[str, str], content: bytes, is_of_body: bool
) -> None:
    error = fault(Answer(status, headers, content, "host", is_of_body=is_of_body), FakeClock())

    assert isinstance(error, DailiesError)
    assert len(str(error).splitlines()) == 1
    assert str(error).startswith(f"host: HTTP {status}")


@given(attempt=st.integers(1, 1000), share=st.floats(0, 1))
def test_a_wait_is_never_longer_than_its_ceiling(attempt: int, share: float) -> None:
    assert 0 <= full_jitter(attempt, lambda ceiling: ceiling * share) <= min(600.0, 2.0**attempt)


PRIVATE = """
127.0.0.1 10.0.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 224.0.0.1 ::1 :: fe80::1%1 fc00::1 fec0::1
::127.0.0.1 ::ffff:127.0.0.1 ::ffff:0:7f00:1 2002:7f00:1:: 64:ff9b::7f00:1 64:ff9b:1::7f00:1
"""
PUBLIC = "93.184.215.14 2606:2800:21f:cb07:6820:80da:af6b:8b2c 64:ff9b::5db8:d70e ::ffff:8.8.8.8"


@pytest.mark.parametrize("address", PRIVATE.split())
def test_no_address_of_this_machine_or_its_network_is_public(address: str) -> None:
    assert not wire.is_public(address)


@pytest.mark.parametrize("address", PUBLIC.split())
def test_every_other_address_is(address: str) -> None:
    assert wire.is_public(address)
