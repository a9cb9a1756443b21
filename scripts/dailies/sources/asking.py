"""How a link is asked: by which address and with which headers, how it is made fresh, what an answer means for the video."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from dailies import links
from dailies.answer import Answer, fault
from dailies.clock import Clock, Deadline
from dailies.config import Site
from dailies.errors import (
    Category,
    ConfigError,
    DailiesError,
    Denied,
    HostRefused,
    Postponed,
    RateLimited,
    SourceGone,
    Transient,
    VideoError,
    Waiting,
)
from dailies.model import Source
from dailies.process import run
from dailies.redact import plain
from dailies.request import is_loopback
from dailies.sources.source import Ground

_REFRESH_S: Final = 60.0


@dataclass(frozen=True)
class Way:
    """An address without credentials, and the headers that carry them: for this origin only."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False, default_factory=dict)

    def to(self, url: str) -> "Way":
        """To what it names beside it: with its headers where that is the same origin."""
        is_same = urlsplit(url)[:2] == urlsplit(self.url)[:2]
        return Way(url, self.headers if is_same else {})


def way(url: str, ground: Ground) -> Way:
    """With what the link itself or its site's settings say. Raises VideoError, Waiting."""
    try:
        parts = links.parse(url)
    except ConfigError as error:
        raise VideoError(str(error), Category.UNSUPPORTED) from None
    if parts.scheme.lower() not in links.SCHEMES:
        raise VideoError(f"{links.shown(url)}: only https and http are fetched; give another link", Category.UNSUPPORTED)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
    site = _site(url, ground)
    if site.authorization_env:
        said = ground.variables.get(site.authorization_env, "")
        if not said:
            raise Waiting(f"{site.authorization_env}: not set or empty; set it to what {parts.hostname} wants to be sent")
        if parts.scheme.lower() != "https" and not is_loopback(url):
            raise VideoError(f"{parts.hostname}: its authorization is sent by https only; give such a link", Category.UNSUPPORTED)
        return Way(bare, {"Authorization": said})
    if parts.username is None:
        return Way(bare)
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return Way(bare, {"Authorization": f"Basic {base64.b64encode(pair).decode()}"})


def refreshed(source: Source, ground: Ground, deadline: Deadline) -> str:
    """A fresh link in the place of one that has expired, as its site's settings say; the same one where they say nothing.

    Raises Transient where none was got, Waiting, ConfigError where there is no such program, and the deadline's error.
    """
    link = ground.link(source)
    site, limit = _site(link, ground), deadline.within(_REFRESH_S, lambda: _not_refreshed(source, "nothing came in time"))
    if site.refresh_command:
        done = run(site.refresh_command, limit, work=ground.root / "work", variables={"DAILIES_LINK": link})  # argv is seen by all
        if done.died or done.code != 0:
            raise _not_refreshed(source, f"the command ended with {done.code}")  # its words may hold the link
        return _first_link(done.stdout, source)
    if site.refresh_url:
        filled = site.refresh_url.replace("{link}", quote(link, safe="")).replace("{path}", quote(urlsplit(link).path))
        asked = way(filled, ground)
        return _first_link(ground.http.call("GET", asked.url, limit, headers=asked.headers).content, source)
    return link


def _first_link(said: bytes, source: Source) -> str:
    line = said.decode("utf-8", "replace").strip().partition("\n")[0].strip()
    try:
        links.parse(line)
    except ConfigError:
        raise _not_refreshed(source, "its first line is no link") from None
    return line


def _not_refreshed(source: Source, why: str) -> Transient:
    return Transient(
        f"{source.original_name}: no fresh link: {plain(why)}; see [sources.sites] in docs/settings.md", Category.UNREACHABLE
    )


def _site(url: str, ground: Ground) -> Site:
    """Another port of the same host is another site."""
    parts = links.parse(url)
    host = (parts.hostname or "").lower()
    key = host if parts.port in {None, 443} or is_loopback(url) else f"{host}:{parts.port}"
    return ground.settings.sites.get(key, Site())


def verdict(source: Source, answer: Answer, clock: Clock) -> DailiesError:
    """What an answer without the bytes means for the video: SourceGone, Denied (a fresh link may help), Postponed, VideoError
    or Transient."""
    name = source.original_name
    if answer.status in {404, 410}:
        return SourceGone(
            f"{name}: {answer.host} has it no more (HTTP {answer.status}); put it back or add another link, then `dailies retry` it"
        )
    error = fault(answer, clock)
    if isinstance(error, Denied):
        return Denied(
            f"{name}: {answer.host} lets nobody in with this link (HTTP {answer.status}); give a fresh one, or set"
            " authorization_env or refresh_url in [sources.sites]",
            Category.UNREACHABLE,
        )
    if isinstance(error, RateLimited):
        until = clock.now() + timedelta(seconds=error.wait_s)
        return Postponed(f"{name}: {answer.host} wants to be asked later (HTTP {answer.status})", until)
    if isinstance(error, HostRefused):
        return VideoError(f"{name}: {error}; check the link", Category.UNREACHABLE)
    return Transient(f"{name}: {error}", Category.UNREACHABLE)
