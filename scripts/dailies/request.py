"""One exchange that is to be made: which address may be asked, what goes to which host, what of it may be a secret."""

import contextlib
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, urljoin, urlsplit

import requests

from dailies.answer import Answer
from dailies.arriving import kept
from dailies.body import Body
from dailies.errors import ConfigError
from dailies.redact import SHORTEST_SECRET, plain

CALL_S: Final = 60.0  # of any other call
_KEEPS_METHOD: Final = frozenset({307, 308})
_PORTS: Final = {"http": 80, "https": 443}
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_TEXT: Final = re.compile(r"(?:[!-~\x80-\xff][\t -~\x80-\xff]*)?")  # RFC 9110, 5.5
_NO_CREDENTIALS: Final = frozenset(
    {"accept", "accept-encoding", "accept-language", "content-type", "if-range", "range", "user-agent"}
)
_LONGEST_SECRET: Final = 4096


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


@dataclass(frozen=True)
class Request:
    """One exchange that is to be made."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    options: Mapping[str, Any] = field(repr=False)  # params, json, data
    body: Body | None = None
    read_s: float = CALL_S
    take: Callable[[requests.Response], bytes] = field(default=kept, repr=False)
    told_before: tuple[str, ...] = field(default=(), repr=False)
    is_plain: bool = False  # one of many GETs for what anybody may see: its body may take any time, its head may not

    def moved(self, answer: Answer, trusts: Callable[[str], bool], *, plainly: bool) -> "Request":
        """To another address, without credentials where that is another origin.

        Raises Transient; OutcomeUnknown behind a whole body: it may be in, as where a form leads on to a page that says so.
        """
        host, location = urlsplit(self.url).hostname, answer.headers["location"]
        url = urljoin(self.url, location) if _parts(location) else location
        there = _parts(url)
        if there is None or not there.hostname:
            raise answer.trouble(f"{host}: sends this on to what is no address; check the host's address")
        if not _is_spoken(there, plainly=plainly) or (there.scheme == "http" and urlsplit(self.url).scheme == "https"):
            raise answer.trouble(
                f"{host}: sends this on to {there.hostname} without TLS, which is given nothing; check the host's address"
            )
        is_same = _origin(there) == _origin(urlsplit(self.url)) or trusts(there.hostname)
        keeps = answer.status in _KEEPS_METHOD or self.method in {"GET", "HEAD"}
        carries = self.body is not None or self.options.get("json") is not None or self.options.get("data") is not None
        if not keeps or (carries and not is_same):
            raise answer.trouble(f"{host}: sends this on to {there.hostname}, which is given nothing; check the host's address")
        headers = {key: text for key, text in self.headers.items() if is_same or key.lower() in _NO_CREDENTIALS}
        return replace(self, url=url, headers=headers, options={**self.options, "params": None}, told_before=self.told)

    @property
    def told(self) -> tuple[str, ...]:
        """What may be a secret among all that is sent."""
        found = [*self.told_before, *(self.body.fields if self.body else ()), *_texts(self.options.get("json"))]
        found += [text for _, text in parse_qsl(urlsplit(self.url).query)]
        found += [str(text) for name in ("params", "data") for text in (self.options.get(name) or {}).values()]
        for name, text in self.headers.items():
            if name.lower() not in _NO_CREDENTIALS:
                found += [text, *re.split(r"[\s:,;=]+", text)]
        return tuple({text for text in found if SHORTEST_SECRET <= len(text) <= _LONGEST_SECRET})


def _parts(url: str) -> SplitResult | None:
    """None for what is no address."""
    try:
        parts = urlsplit(url)
        _ = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError:
        return None
    return parts


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _is_spoken(parts: SplitResult, *, plainly: bool) -> bool:
    may_be_plain = parts.scheme == "http" and (plainly or is_loopback(parts.geturl()))
    return parts.hostname is not None and (parts.scheme == "https" or may_be_plain)


def checked(request: Request, *, plainly: bool) -> str:
    """The name of its host. Raises ConfigError for what must not leave."""
    parts = _parts(request.url)
    if parts is None or not parts.hostname:
        raise ConfigError("the address of a host cannot be read; write it like https://example.org in the settings")
    host = parts.hostname
    if not _is_spoken(parts, plainly=plainly):
        raise ConfigError(f"{host}: {parts.scheme or 'no scheme'}: only https is spoken, but to this very machine; write https://")
    for name, text in request.headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_TEXT.fullmatch(text):
            raise ConfigError(
                f"{host}: header {plain(name)}: starts with a blank, or holds a line break or another character that HTTP"
                " cannot carry; check the setting or the secret behind it"
            )
    return host


def encodable(fields: Mapping[str, str] | None) -> dict[str, str] | None:
    """What is no character (a lone surrogate) goes out as `?`."""
    if fields is None:
        return None
    return {key.encode(errors="replace").decode(): str(text).encode(errors="replace").decode() for key, text in fields.items()}


def _texts(content: Any) -> Iterator[str]:
    """Every text in a JSON document, but the names of its fields."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from _texts(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _texts(value)
