"""YouTube: what a video is told, how it is found again, what errors mean."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dailies.clock import Deadline
from dailies.errors import ConfigError, Denied, HostRefused, HostSilent, RateLimited, Transient
from dailies.hosts.host import Asset, Details, Session, Standing, State, Transfer
from dailies.hosts.youtube import YouTube, until_reset_s
from dailies.model import Kind
from hosts_resumable import Video, YoutubeServer, film, youtube
from loopback import Call, Fault, Reply
from support import FakeClock


@pytest.fixture
def server() -> Iterator[YoutubeServer]:
    with YoutubeServer() as found:
        yield found


@pytest.fixture
def deadline(clock: FakeClock) -> Deadline:
    return Deadline.after(clock, 3600)


@pytest.fixture
def asset(tmp_path: Path) -> Asset:
    return film(tmp_path / "film.mp4", b"a film " * 100_000)


@pytest.fixture
def host(server: YoutubeServer, tmp_path: Path, clock: FakeClock) -> YouTube:
    return youtube(server, tmp_path, clock)


def send(host: YouTube, asset: Asset, deadline: Deadline, session: Session | None = None) -> str:
    path = host.ground.root / "film.mp4"
    return host.upload(path, asset, Transfer(deadline, session or Session())).remote_id


def others(server: YoutubeServer, count: int) -> None:
    """Videos that are not ours."""
    for number in range(len(server.videos) + 1, len(server.videos) + 1 + count):
        name = f"other-{number:04d}"
        server.videos[name] = Video(
            name, number, "holiday.mp4", 7, "", {"snippet": {"tags": ["dailies"]}}, {"uploadStatus": "processed"}
        )


def test_a_video_is_told_what_is_known_of_it(server: YoutubeServer, host: YouTube, asset: Asset, deadline: Deadline) -> None:
    send(host, asset, deadline)

    (video,) = server.videos.values()
    assert video.told["snippet"] == {
        "title": "A film",
        "description": "What it shows",
        "tags": [f"dailies-0123456789ab-{asset.token}", "sea", "summer evening"],
        "categoryId": "22",
    }
    assert video.told["status"] == {"privacyStatus": "private", "selfDeclaredMadeForKids": False}


def test_what_is_too_long_or_not_taken_is_cut(server: YoutubeServer, host: YouTube, asset: Asset, deadline: Deadline) -> None:
    details = Details("<b>" + "ü" * 200, "é" * 4000 + "<", tuple(f'a tag, {n} "of" many' for n in range(60)))

    send(host, replace(asset, details=details), deadline)

    (video,) = server.videos.values()  # the server refuses what is longer than the documentation says
    snippet = video.told["snippet"]
    assert snippet["title"] == "b" + "ü" * 99
    assert len(snippet["description"].encode()) == 5000
    assert len(snippet["tags"]) > 15
    assert snippet["tags"][0] == f"dailies-0123456789ab-{asset.token}"


def test_a_video_without_a_title_has_its_id(server: YoutubeServer, host: YouTube, asset: Asset, deadline: Deadline) -> None:
    send(host, replace(asset, details=Details(title="<>")), deadline)

    (video,) = server.videos.values()
    assert video.told["snippet"]["title"] == asset.video_id


def test_settings_say_how_it_is_published(
    server: YoutubeServer, tmp_path: Path, clock: FakeClock, asset: Asset, deadline: Deadline
) -> None:
    template = "{title} of {release_date}\n{description}"
    host = youtube(server, tmp_path, clock, privacy="unlisted", category_id="27", made_for_kids=True, description=template)
    details = replace(asset.details, description="by {title}", release_date="2026-01-02")

    send(host, replace(asset, details=details), deadline)

    (video,) = server.videos.values()
    assert video.told["snippet"]["description"] == "A film of 2026-01-02\nby {title}"
    assert video.told["snippet"]["categoryId"] == "27"
    assert video.told["status"] == {"privacyStatus": "unlisted", "selfDeclaredMadeForKids": True}


def test_a_channel_that_has_none_of_these_bytes_says_so(
    server: YoutubeServer, host: YouTube, asset: Asset, deadline: Deadline
) -> None:
    assert host.find(asset, Transfer(deadline)) is None

    others(server, 130)

    assert host.find(asset, Transfer(deadline)) is None
    assert server.units == 2 + 1 + 3 * 2  # a list for the empty channel; then three pages and their videos


def test_a_video_is_found_behind_many_others(server: YoutubeServer, host: YouTube, asset: Asset, deadline: Deadline) -> None:
    remote_id = send(host, asset, deadline)
    others(server, 130)

    found = host.find(asset, Transfer(deadline))

    assert found is not None
    assert found.remote_id == remote_id
    assert host.find(replace(asset, sha256="0" * 64), Transfer(deadline)) is None


@pytest.mark.parametrize("lost", ["tags", "file name"])
def test_a_video_is_found_by_its_tag_or_by_its_file(
    server: YoutubeServer, host: YouTube, asset: Asset, deadline: Deadline, lost: str
) -> None:
    server.drops_slug = lost == "file name"
    remote_id = send(host, asset, deadline)
    if lost == "tags":
        server.videos[remote_id].told["snippet"]["tags"] = ["edited"]

    found = host.find(asset, Transfer(deadline))

    assert found is not None
    assert found.remote_id == remote_id


def test_a_file_of_the_same_name_and_another_size_is_not_it(
    server: YoutubeServer, host: YouTube, asset: Asset, deadline: Deadline
) -> None:
    remote_id = send(host, asset, deadline)
    server.videos[remote_id].told["snippet"]["tags"] = []
    server.videos[remote_id].size += 1

    assert host.find(asset, Transfer(deadline)) is None


def test_a_video_that_was_deleted_is_not_found(server: YoutubeServer, host: YouTube, asset: Asset, deadline: Deadline) -> None:
    server.videos[send(host, asset, deadline)].status["uploadStatus"] = "deleted"

    assert host.find(asset, Transfer(deadline)) is None


def test_a_channel_larger_than_is_looked_through_cannot_be_known(
    server: YoutubeServer, tmp_path: Path, clock: FakeClock, asset: Asset, deadline: Deadline
) -> None:
    others(server, 120)

    with pytest.raises(HostSilent, match="search_pages"):
        youtube(server, tmp_path, clock, search_pages=2).find(asset, Transfer(deadline))


def test_a_token_for_uploads_only_sends_but_cannot_tell(
    server: YoutubeServer, host: YouTube, asset: Asset, deadline: Deadline
) -> None:
    server.scopes = {"upload"}
    session = Session()

    assert "lost answers cannot be settled" in host.preflight(deadline)
    assert send(host, asset, deadline, session)
    assert host.find(asset, Transfer(deadline, session)) is not None  # the session itself may be asked
    with pytest.raises(HostSilent, match="force-ssl"):
        host.find(asset, Transfer(deadline))


@pytest.mark.parametrize("content", ["[]", "{}", '{"kind": "x", "items": 7}', '{"items": ["a"]}', "null"])
@pytest.mark.parametrize("path", ["channels", "playlistItems", "videos"])
def test_a_list_that_is_none_is_not_taken_for_an_empty_one(
    server: YoutubeServer, host: YouTube, asset: Asset, deadline: Deadline, path: str, content: str
) -> None:
    send(host, asset, deadline)
    real = server.reply

    def reply(call: Call) -> Reply:
        is_it = call.method == "GET" and call.path.endswith(f"v3/{path}")
        return Reply(200, content.encode()) if is_it else real(call)

    server.reply = reply  # type: ignore[method-assign]
    with pytest.raises(Transient):
        host.find(asset, Transfer(deadline))


@pytest.mark.parametrize("content", [b"[]", b'{"id": 7}', b'{"id": ""}', b"null"])
def test_an_end_that_names_no_video_is_asked_again(
    server: YoutubeServer, host: YouTube, asset: Asset, deadline: Deadline, content: bytes
) -> None:
    strange = [content]
    server.complete = lambda video: Reply(201, strange.pop()) if strange else YoutubeServer.complete(server, video)  # type: ignore[method-assign]

    assert send(host, asset, deadline) == "video-0001"
    assert len(server.videos) == 1


@pytest.mark.parametrize(
    ("status", "standing"),
    [
        ({"uploadStatus": "uploaded"}, Standing(State.PROCESSING)),
        ({"uploadStatus": "processed"}, Standing(State.READY)),
        ({"uploadStatus": "failed", "failureReason": "codec"}, Standing(State.FAILED, "codec")),
        ({"uploadStatus": "rejected", "rejectionReason": "duplicate"}, Standing(State.FAILED, "duplicate")),
        ({"uploadStatus": "deleted"}, Standing(State.MISSING)),
    ],
)
def test_how_an_upload_is(
    server: YoutubeServer, host: YouTube, asset: Asset, deadline: Deadline, status: dict[str, Any], standing: Standing
) -> None:
    remote_id = send(host, asset, deadline)
    server.videos[remote_id].status = status

    assert host.check(asset, remote_id, deadline) == standing
    assert host.check(asset, "no-such-id", deadline) == Standing(State.MISSING)


@pytest.mark.parametrize("status", [{}, {"uploadStatus": 7}, {"uploadStatus": "dreaming"}])
def test_a_state_that_nobody_knows_is_asked_again(
    server: YoutubeServer, host: YouTube, asset: Asset, deadline: Deadline, status: dict[str, Any]
) -> None:
    remote_id = send(host, asset, deadline)
    server.videos[remote_id].status = status

    with pytest.raises(Transient):
        host.check(asset, remote_id, deadline)


def test_what_is_deleted_is_gone_and_may_be_deleted_again(
    server: YoutubeServer, host: YouTube, asset: Asset, deadline: Deadline
) -> None:
    remote_id = send(host, asset, deadline)

    host.delete(remote_id, deadline)
    host.delete(remote_id, deadline)

    assert server.videos == {}
    with pytest.raises(ConfigError):
        host.fetch(asset, remote_id, Path("x"), deadline)


@pytest.mark.parametrize(
    ("status", "reason"),
    [(403, "quotaExceeded"), (400, "uploadLimitExceeded"), (403, "rateLimitExceeded"), (429, "rateLimitExceeded")],
)
def test_a_quota_is_waited_for_until_midnight_in_california(
    server: YoutubeServer, host: YouTube, asset: Asset, deadline: Deadline, status: int, reason: str
) -> None:
    server.refuses = (status, reason)

    with pytest.raises(RateLimited, match=reason) as raised:
        send(host, asset, deadline)

    assert raised.value.wait_s == until_reset_s(host.ground.http.clock)
    assert server.begun == 0


@pytest.mark.parametrize(
    ("now", "hours"),
    [
        (datetime(2026, 1, 2, 3, 0, tzinfo=UTC), 5),
        (datetime(2026, 7, 2, 3, 0, tzinfo=UTC), 4),
        (datetime(2026, 3, 8, 9, 0, tzinfo=UTC), 22),  # summer time begins: a day of 23 hours
    ],
)
def test_midnight_in_california_knows_summer_time(now: datetime, hours: int) -> None:
    assert until_reset_s(FakeClock(moment=now)) == hours * 3600 + 60


@pytest.mark.parametrize(
    ("status", "reason", "error"),
    [
        (400, "invalidTitle", HostRefused),
        (400, "invalidCategoryId", HostRefused),
        (401, "youtubeSignupRequired", Denied),
        (403, "forbidden", Denied),
        (403, "accessNotConfigured", Denied),
        (500, "backendError", Transient),
    ],
)
def test_a_refused_upload_is_classed_by_its_reason(
    server: YoutubeServer, host: YouTube, asset: Asset, deadline: Deadline, status: int, reason: str, error: type[Exception]
) -> None:
    server.refuses = (status, reason)

    with pytest.raises(error, match=reason):
        send(host, asset, deadline)


def test_a_dead_refresh_token_is_denied_and_says_what_to_do(
    server: YoutubeServer, host: YouTube, asset: Asset, deadline: Deadline
) -> None:
    server.is_revoked = True

    with pytest.raises(Denied, match=r"invalid_grant.*in production.*YT_REFRESH"):
        host.preflight(deadline)
    assert not [call for call in server.calls if call.path != "/token"]


def test_a_secret_that_is_not_set_is_denied_by_its_name(
    server: YoutubeServer, tmp_path: Path, clock: FakeClock, deadline: Deadline
) -> None:
    with pytest.raises(Denied, match="NO_SUCH"):
        youtube(server, tmp_path, clock, refresh_token_env="NO_SUCH").preflight(deadline)


def test_an_access_token_serves_until_it_ends(server: YoutubeServer, host: YouTube, clock: FakeClock) -> None:
    for seconds in (0, 3000, 500):
        clock.advance(seconds)
        host.preflight(Deadline.after(clock, 60))

    assert server.tokens_given == 2


def test_an_access_token_that_is_taken_no_more_is_renewed_once(server: YoutubeServer, host: YouTube, deadline: Deadline) -> None:
    host.preflight(deadline)
    server.token_ends = 1

    assert host.preflight(deadline) == "youtube: uploads to the channel My films"
    server.token_ends = 40
    with pytest.raises(Denied):
        host.preflight(deadline)


def test_a_token_page_that_is_none_is_asked_for_later(server: YoutubeServer, host: YouTube, deadline: Deadline) -> None:
    server.breaks("POST /token", Fault.HTML, 9)

    with pytest.raises(Transient):
        host.preflight(deadline)


def test_a_channel_must_be_there(server: YoutubeServer, host: YouTube, deadline: Deadline) -> None:
    real = server.reply

    def none(call: Call) -> Reply:
        is_list = call.path.endswith("channels")  # Google leaves `items` out of an empty list of channels
        return Reply.json({"kind": "youtube#channelListResponse", "pageInfo": {"totalResults": 0}}) if is_list else real(call)

    server.reply = none  # type: ignore[method-assign]
    with pytest.raises(Denied, match="no channel"):
        host.preflight(deadline)


def test_secrets_stand_in_no_message_and_no_repr(server: YoutubeServer, host: YouTube, asset: Asset, deadline: Deadline) -> None:
    send(host, asset, deadline)
    server.refuses = (403, "forbidden")
    with pytest.raises(Denied) as raised:
        send(host, asset, deadline)

    told = " ".join([str(raised.value), repr(raised.value), repr(host), str(host.model_dump()), repr(host._token)])
    assert not [secret for secret in (*server.CLIENT, "access-token-1") if secret in told]


def test_it_takes_videos_only_and_says_what_it_can(host: YouTube) -> None:
    able = host.capabilities

    assert (able.kinds, able.overwrites, able.is_resumable, able.max_bytes) == (frozenset({Kind.VIDEO}), False, True, 256 * 10**9)
    assert host.sweep_folders() == ()
