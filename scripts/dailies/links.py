"""Links: which two are the same, what may be shown of one, what is a secret in it."""

import hashlib
import posixpath
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from dailies.errors import ConfigError
from dailies.redact import MASK, Redactor, plain

SCHEMES: Final = ("https", "http")
_PORTS: Final = {"http": (None, 80, 443), "https": (None, 443)}  # of the web; http to 443 is a slip of the pen
_LONGEST: Final = 8192
_NAMELESS: Final = frozenset({"index", "master", "playlist", "main", "stream", "prog_index", "chunklist", "media", "video", "hls"})


def is_link(text: str) -> bool:
    """Whether a person means a link by this: else it is a path."""
    scheme, found, rest = text.partition("://")
    return bool(found and rest) and scheme.replace("+", "").isalnum() and scheme.isascii()


def parse(url: str) -> SplitResult:
    """Raises ConfigError, in words that show nothing of it, for what is no link that can be asked."""
    try:
        parts = urlsplit(url)
        _ = parts.port
        (parts.hostname or "").encode("idna")
        url.encode()  # a lone surrogate is no text, and no record could hold it
    except ValueError:
        raise ConfigError("the link cannot be read; write it like https://example.org/film.mp4") from None
    host = parts.hostname or ""
    if not host.strip(".") or any(character <= " " or character == "\x7f" for character in url):
        raise ConfigError("the link cannot be read; write it like https://example.org/film.mp4")
    if len(url) > _LONGEST:
        raise ConfigError(f"{host[:80]}: the link has {len(url)} characters; {_LONGEST} are read")
    return parts


def normalised(url: str, *, keeps_query: bool = False) -> str:
    """What `add` compares: two links that differ only in this are one video.

    Lower-case scheme and host, https for http, no `www.`, no default port, no slash at the end, no query (`keeps_query`: it is
    part of it), no fragment, no credentials; the path keeps its case. Raises ConfigError as `parse` does.
    """
    parts = parse(url)
    host = (parts.hostname or "").lower().rstrip(".")
    while host.startswith("www.") and "." in host[4:]:  # www.com is a name of its own
        host = host[4:]
    host = f"[{host}]" if ":" in host else host
    scheme = parts.scheme.lower()
    is_default = parts.port in _PORTS.get(scheme, (None,))
    scheme = "https" if scheme in _PORTS else scheme
    place = host if is_default else f"{host}:{parts.port}"
    return urlunsplit((scheme, place, parts.path.rstrip("/"), parts.query if keeps_query else "", ""))


def identity(url: str, *, keeps_query: bool = False) -> str:
    """The sha256 over the normalised link."""
    return hashlib.sha256(normalised(url, keeps_query=keeps_query).encode()).hexdigest()


def public(url: str) -> str:
    """The link without what may be a secret: credentials, query and fragment."""
    parts = parse(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def host_of(url: str) -> str:
    return parse(url).hostname or ""


def origin(url: str) -> str:
    """What may be shown of a link whose path is a secret too."""
    parts = parse(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], "", "", ""))


def without_fragment(url: str) -> str:
    return urlunsplit(parse(url)._replace(fragment=""))


def shown(url: str) -> str:
    """For people and logs, never empty: as `public`, with `?…` where more follows."""
    try:
        parts = parse(url)
    except ConfigError:
        return MASK
    return plain(public(url)) + ("?…" if parts.query else "")


def holds_secrets(url: str) -> bool:
    """Whether it looks as if whoever reads it may do what only some may."""
    return Redactor()(url) != url


def name_of(url: str) -> str:
    """The last part of its path, decoded, as data: `video` where there is none."""
    return plain(unquote(posixpath.basename(parse(url).path.rstrip("/")), errors="replace")).replace("/", "_") or "video"


def title_of(url: str) -> str:
    """Its name without the suffix; where that says nothing (`index.m3u8`) the folder's, or the host's."""
    parts = [part for part in unquote(parse(url).path, errors="replace").split("/") if part]
    stems = [posixpath.splitext(part)[0] if part is parts[-1] else part for part in reversed(parts)]
    telling = (stem for stem in stems if stem.lower() not in _NAMELESS)
    return plain(next(telling, parse(url).hostname or "video"))
