"""PeerTube: what a video is told, how it is found again, what errors mean."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dailies.clock import Deadline
from dailies.errors import ConfigError, Denied, HostRefused, HostSilent, RateLimited, Transient
from dailies.hosts.host import Asset, Details, Receipt, Session, Standing, State, Transfer
from dailies.hosts.peertube import PeerTube
from dailies.model import Kind
from hosts_resumable import UNIT, PeertubeServer, Video, film, peertube
from loopback import Call, Fault, Reply
from support import FakeClock


@pytest.fixture
def server() -> Iterator[PeertubeServer]:
    with PeertubeServer() as found:
        yield found


@pytest.fixture
def deadline(clock: FakeClock) -> Deadline:
    return Deadline.after(clock, 7200)


@pytest.fixture
def asset(tmp_path: Path) -> Asset:
    return film(tmp_path / "film.mp4", b"a film " * 200_000)


@pytest.fixture
def host(server: PeertubeServer, tmp_path: Path, clock: FakeClock) -> PeerTube:
    return peertube(server, tmp_path, clock)


def send(host: PeerTube, asset: Asset, deadline: Deadline, session: Session | None = None) -> Receipt:
    return host.upload(host.ground.root / "film.mp4", asset, Transfer(deadline, session or Session()))


def others(server: PeertubeServer, count: int) -> None:
    """Videos that are not ours, as long as ours."""
    for number in range(len(server.videos) + 1, len(server.videos) + 1 + count):
        name = f"video-{number + 5000:04d}"
        server.videos[name] = Video(name, number, "holiday.mp4", 7, "", {"name": "Holiday"}, {"uploadStatus": "processed"})


def test_a_video_is_told_what_is_known_of_it(server: PeertubeServer, host: PeerTube, asset: Asset, deadline: Deadline) -> None:
    details = replace(asset.details, tags=("sea", "SEA", "x", "y" * 31, "a", "b1", "c1", "d1", "e1"), release_date="2026-01-02")

    receipt = send(host, replace(asset, details=details), deadline)

    (video,) = server.videos.values()
    assert receipt == Receipt(
        remote_id=video.id,
        watch_url=f"{server.url}/w/short1",
        embed_url=f"{server.url}/videos/embed/short1",
        is_settled=False,
    )
    assert {key: video.told[key] for key in ("name", "description", "tags", "channelId", "privacy", "waitTranscoding")} == {
        "name": "A film",
        "description": "What it shows",
        "tags": ["sea", "b1", "c1", "d1", "e1"],
        "channelId": 7,
        "privacy": 2,
        "waitTranscoding": True,
    }
    assert video.told["originallyPublishedAt"] == "2026-01-02"
    assert "category" not in video.told


@pytest.mark.parametrize(("title", "name"), [("Hi", "Hi film-0123456789ab"), ("", "film-0123456789ab"), ("ü" * 200, "ü" * 120)])
def test_a_name_is_as_long_as_it_may_be(
    server: PeertubeServer, host: PeerTube, asset: Asset, deadline: Deadline, title: str, name: str
) -> None:
    send(host, replace(asset, details=Details(title=title, description="x", release_date="soon")), deadline)

    (video,) = server.videos.values()
    assert video.told["name"] == name
    assert "description" not in video.told
    assert "originallyPublishedAt" not in video.told


@pytest.mark.parametrize("channel", ["talks", "8"])
def test_settings_say_where_and_how_it_is_published(
    server: PeertubeServer, tmp_path: Path, clock: FakeClock, asset: Asset, deadline: Deadline, channel: str
) -> None:
    host = peertube(server, tmp_path, clock, channel=channel, privacy="internal", category=15, language="de", nsfw=True)

    send(host, asset, deadline)

    (video,) = server.videos.values()
    assert {key: video.told[key] for key in ("channelId", "privacy", "category", "language", "nsfw")} == {
        "channelId": 8,
        "privacy": 4,
        "category": 15,
        "language": "de",
        "nsfw": True,
    }
    assert host.preflight(deadline) == f"{server.url}: uploads to the channel talks"


def test_a_channel_of_somebody_else_is_named(server: PeertubeServer, tmp_path: Path, clock: FakeClock, deadline: Deadline) -> None:
    with pytest.raises(ConfigError, match=r"'films'.*ada_channel, talks"):
        peertube(server, tmp_path, clock, channel="films").preflight(deadline)


def test_a_session_that_this_machine_forgot_is_met_again(
    server: PeertubeServer, tmp_path: Path, clock: FakeClock, asset: Asset, deadline: Deadline
) -> None:
    server.breaks("PUT", Fault.RESET, 40)
    with pytest.raises(Transient):
        send(peertube(server, tmp_path, clock), asset, deadline)
    server._faults.clear()
    (upload,) = server.uploads.values()
    arrived = upload.received

    send(peertube(server, tmp_path, clock), asset, deadline)

    assert server.begun == 2
    assert server.sent == [(arrived, asset.size_bytes - arrived)]
    assert len(server.videos) == 1


def test_a_file_that_is_being_looked_at_is_waited_for(
    server: PeertubeServer, host: PeerTube, asset: Asset, deadline: Deadline, clock: FakeClock
) -> None:
    server.busy = 2

    receipt = send(host, asset, deadline)

    assert list(server.videos) == [receipt.remote_id]
    assert sum(clock.slept) >= 600
    assert server.sent == [(0, asset.size_bytes)]


def test_a_lost_last_answer_is_settled_by_the_listing(
    server: PeertubeServer, host: PeerTube, asset: Asset, deadline: Deadline
) -> None:
    server.breaks("PUT", Fault.LOST_ANSWER)
    session = Session()

    receipt = send(host, asset, deadline, session)

    assert list(server.videos) == [receipt.remote_id]
    assert host.find(asset, Transfer(deadline, session)) == receipt  # whose session the instance has cleaned up
    assert server.begun == 1


def test_other_bytes_at_the_same_place_are_asked_about(
    server: PeertubeServer, host: PeerTube, asset: Asset, deadline: Deadline
) -> None:
    real, seen = server.reply, list[int]()

    def reply(call: Call) -> Reply:
        if call.method == "PUT" and call.body.size and not seen:
            seen.append(1)
            return server.other_place(next(iter(server.uploads.values())))
        return real(call)

    server.reply = reply  # type: ignore[method-assign]
    send(host, asset, deadline)

    assert len(server.videos) == 1


def test_an_account_that_has_none_of_these_bytes_says_so(
    server: PeertubeServer, host: PeerTube, asset: Asset, deadline: Deadline
) -> None:
    assert host.find(asset, Transfer(deadline)) is None
    others(server, 3)
    assert host.find(asset, Transfer(deadline)) is None


def test_a_video_is_found_behind_pages_of_others(server: PeertubeServer, host: PeerTube, asset: Asset, deadline: Deadline) -> None:
    receipt = send(host, asset, deadline)
    others(server, 230)
    server.durations = {name: 5 for name in server.videos if name != receipt.remote_id}
    before = len(server.calls)

    assert host.find(asset, Transfer(deadline)) == receipt
    assert len(server.calls) - before == 3 + 1  # pages, and the source of the only one as long as ours
    assert host.find(replace(asset, sha256="0" * 64), Transfer(deadline)) is None


def test_a_video_of_unknown_length_is_compared_with_all(
    server: PeertubeServer, host: PeerTube, asset: Asset, deadline: Deadline, clock: FakeClock
) -> None:
    receipt = send(host, asset, deadline)
    others(server, 20)
    server.calls_left = 12  # behind which the instance wants a pause

    assert host.find(replace(asset, duration_s=None), Transfer(deadline)) == receipt
    assert 9 < sum(clock.slept) < 60


def test_an_older_instance_tells_the_name_and_no_size(
    server: PeertubeServer, host: PeerTube, asset: Asset, deadline: Deadline
) -> None:
    receipt = send(host, asset, deadline)
    real = server.reply
    server.reply = lambda call: Reply.json({"filename": asset.marked_name}) if call.path.endswith("/source") else real(call)  # type: ignore[method-assign]

    assert host.find(asset, Transfer(deadline)) == receipt


def test_a_video_as_long_as_ours_whose_file_is_not_told_is_a_doubt(
    server: PeertubeServer, host: PeerTube, asset: Asset, deadline: Deadline
) -> None:
    receipt = send(host, asset, deadline)
    server.tells_source = False

    with pytest.raises(HostSilent, match="/w/short1"):
        host.find(asset, Transfer(deadline))
    with pytest.raises(HostSilent):
        host.find(replace(asset, duration_s=None), Transfer(deadline))  # of the same name
    server.durations = {receipt.remote_id: 5}
    assert host.find(asset, Transfer(deadline)) is None


@pytest.mark.parametrize("content", ["[]", "{}", '{"data": [], "total": "many"}', '{"data": [7], "total": 1}', '{"total": 1}'])
def test_a_listing_that_is_none_is_not_taken_for_an_empty_one(
    server: PeertubeServer, host: PeerTube, asset: Asset, deadline: Deadline, content: str
) -> None:
    real = server.reply
    server.reply = lambda call: Reply(200, content.encode()) if call.path.endswith("/me/videos") else real(call)  # type: ignore[method-assign]

    with pytest.raises(Transient):
        host.find(asset, Transfer(deadline))


@pytest.mark.parametrize(
    ("status", "standing"),
    [
        ("uploaded", Standing(State.PROCESSING)),
        ("processed", Standing(State.READY)),
        ("failed", Standing(State.FAILED, "Transcoding failed")),
    ],
)
def test_how_an_upload_is(
    server: PeertubeServer, host: PeerTube, asset: Asset, deadline: Deadline, status: str, standing: Standing
) -> None:
    remote_id = send(host, asset, deadline).remote_id
    server.videos[remote_id].status["uploadStatus"] = status

    assert host.check(asset, remote_id, deadline) == standing
    assert host.check(asset, "video-9999", deadline) == Standing(State.MISSING)


def test_what_is_deleted_is_gone_and_may_be_deleted_again(
    server: PeertubeServer, host: PeerTube, asset: Asset, deadline: Deadline
) -> None:
    remote_id = send(host, asset, deadline).remote_id

    host.delete(remote_id, deadline)
    host.delete(remote_id, deadline)

    assert server.videos == {}
    with pytest.raises(ConfigError):
        host.fetch(asset, remote_id, Path("x"), deadline)


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (413, "max_file_size_reached", HostRefused),
        (413, "quota_reached", HostRefused),
        (415, "unsupported", HostRefused),
        (422, "invalid", HostRefused),
        (403, "forbidden", Denied),
        (500, "internal", Transient),
    ],
)
def test_a_refused_upload_is_classed_by_its_code(
    server: PeertubeServer, host: PeerTube, asset: Asset, deadline: Deadline, status: int, code: str, error: type[Exception]
) -> None:
    server.refuses = (status, code)

    with pytest.raises(error, match=code):
        send(host, asset, deadline)


def test_a_proxy_that_takes_no_request_so_large_names_the_setting(
    server: PeertubeServer, host: PeerTube, asset: Asset, deadline: Deadline
) -> None:
    server.breaks("PUT", Fault.EARLY_413)

    with pytest.raises(HostRefused, match="chunk_size"):
        send(host, asset, deadline)


def test_a_filter_that_lets_a_file_not_in_refuses_this_file(
    server: PeertubeServer, host: PeerTube, asset: Asset, deadline: Deadline
) -> None:
    server._state_of = lambda upload: server.error(403, "filtered", "no")  # type: ignore[method-assign]

    with pytest.raises(HostRefused, match="filter"):
        send(host, asset, deadline)


def test_a_long_limit_is_for_later(
    server: PeertubeServer, host: PeerTube, asset: Asset, deadline: Deadline, clock: FakeClock
) -> None:
    real = server.reply
    server.reply = lambda call: Reply(429, b"{}", {"Retry-After": "900"}) if call.path.endswith("/me") else real(call)  # type: ignore[method-assign]

    with pytest.raises(RateLimited) as raised:
        host.preflight(deadline)

    assert raised.value.wait_s == 900
    assert clock.slept == []


def test_a_wrong_password_is_denied_without_being_said(server: PeertubeServer, host: PeerTube, deadline: Deadline) -> None:
    server.ACCOUNT = ("ada", "another password")  # type: ignore[misc]

    with pytest.raises(Denied, match="invalid_grant; check PT_NAME and PT_PASSWORD") as raised:
        host.preflight(deadline)

    assert "password of ada" not in f"{raised.value!r} {host!r} {host.model_dump()}"


def test_a_second_factor_is_named(server: PeertubeServer, host: PeerTube, deadline: Deadline) -> None:
    server.asks_otp = True

    with pytest.raises(Denied, match="second factor"):
        host.preflight(deadline)


def test_a_page_instead_of_an_answer_is_asked_for_later(server: PeertubeServer, host: PeerTube, deadline: Deadline) -> None:
    for path in ("oauth-clients", "users/token", "users/me"):
        server.breaks(path, Fault.HTML, 3)
        with pytest.raises(Transient):
            host.preflight(deadline)
        server._faults.clear()


def test_it_takes_videos_only_and_sends_in_parts_that_every_storage_takes(host: PeerTube) -> None:
    able = host.capabilities

    assert (able.kinds, able.overwrites, able.is_resumable) == (frozenset({Kind.VIDEO}), False, True)
    assert host.chunk_size == 256 * UNIT
    assert host.sweep_folders() == ()
