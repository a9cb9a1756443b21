"""Every adapter with the server that speaks its protocol on loopback: for the contract, the crash matrix, faults and benchmarks."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import hosts_internet_archive as archive
import hosts_storage as storage
import hosts_streamtape as streamtape
import hosts_xvideosharing as xvideosharing
from hosts_resumable import PeertubeServer, YoutubeServer
from loopback import Loopback

SECRETS: Final[Mapping[str, str]] = {
    "IA_ACCESS_KEY_ID": archive.ACCESS,
    "IA_SECRET_ACCESS_KEY": archive.SECRET,
    "XVS_KEY": xvideosharing.KEY,
    "TAPE_LOGIN": streamtape.LOGIN,
    "TAPE_KEY": streamtape.KEY,
    **dict(zip(("YT_ID", "YT_SECRET", "YT_REFRESH"), YoutubeServer.CLIENT, strict=True)),
    **dict(zip(("PT_NAME", "PT_PASSWORD"), PeertubeServer.ACCOUNT, strict=True)),
    **storage.SECRETS,
}


@dataclass(frozen=True)
class Place:
    """A host that runs. `section` is its part of dailies.toml, `copies` the sha256 (by the host's own id) of every file it has."""

    adapter: str
    section: Mapping[str, Any]
    copies: Callable[[], Mapping[str, str]]
    server: Loopback | None  # None for other people's, which cannot misbehave
    carries: str = "^PUT "  # the requests (`METHOD /path`) with a file's bytes in them
    takes_in: Callable[[], object] = lambda: None  # what the host would do with new files later


@contextmanager
def internet_archive() -> Iterator[Place]:
    with archive.ArchiveServer() as server:
        section = {"s3_url": server.url, "front_url": server.url}
        copies = lambda: {key: put.stored.sha256 for key, put in server.files.items()}  # noqa: E731
        yield Place("internet_archive", section, copies, server, takes_in=server.ingest)


@contextmanager
def xvs() -> Iterator[Place]:
    with xvideosharing.XvsServer() as server:
        section = {"api_url": f"{server.url}/api", "player_url": "https://player.example", "key_env": "XVS_KEY", "settle": "50ms"}
        copies = lambda: {code: file.stored.sha256 for code, file in server.files.items()}  # noqa: E731
        yield Place("xvideosharing", section, copies, server, carries="^POST /upload/")


@contextmanager
def tape() -> Iterator[Place]:
    with streamtape.StreamtapeServer() as server:
        section = {"api_url": server.url, "login_env": "TAPE_LOGIN", "key_env": "TAPE_KEY", "settle": "50ms"}
        copies = lambda: {code: file.stored.sha256 for code, file in server.files.items()}  # noqa: E731
        yield Place("streamtape", section, copies, server, carries="^POST /ul/")


@contextmanager
def youtube() -> Iterator[Place]:
    with YoutubeServer() as server:
        names = {"client_id_env": "YT_ID", "client_secret_env": "YT_SECRET", "refresh_token_env": "YT_REFRESH"}
        section = {"api_url": server.url, "token_url": server.token_url, "settle": "50ms", **names}
        yield Place("youtube", section, lambda: {code: video.sha256 for code, video in server.videos.items()}, server)


@contextmanager
def peertube() -> Iterator[Place]:
    with PeertubeServer() as server:
        server.duration = 0  # as of one that is not looked at yet
        section = {"url": server.url, "username_env": "PT_NAME", "password_env": "PT_PASSWORD", "settle": "50ms"}
        yield Place("peertube", section, lambda: {code: video.sha256 for code, video in server.videos.items()}, server)


PLACES: Final = {
    "internet_archive": internet_archive,
    "xvideosharing": xvs,
    "streamtape": tape,
    "youtube": youtube,
    "peertube": peertube,
}


def toml(name: str, place: Place) -> str:
    """Its section of dailies.toml by this name."""
    fields = {"adapter": place.adapter, **place.section}
    return f"[hosts.{name}]\n" + "".join(f'{key} = "{value}"\n' for key, value in fields.items())


def stored(folder: Path) -> dict[str, str]:
    """The sha256 of every file below a folder, by its path there."""
    import hashlib

    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
