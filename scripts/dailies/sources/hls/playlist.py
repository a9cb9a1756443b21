"""What an HLS playlist says (RFC 8216), as values: variants, segments, the order of what is to be fetched. Pure."""

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import urljoin, urlsplit

import m3u8

from dailies.errors import Category, VideoError
from dailies.links import SCHEMES
from dailies.redact import plain

BEGINNING: Final = "#EXTM3U"
_READ: Final = frozenset(
    f"#{name}"
    for name in (
        "EXTINF",
        "EXT-X-BYTERANGE",
        "EXT-X-DISCONTINUITY",
        "EXT-X-ENDLIST",
        "EXT-X-GAP",
        "EXT-X-MEDIA",
        "EXT-X-SESSION-KEY",
        "EXT-X-STREAM-INF",
    )
)
_ATTRIBUTE: Final = re.compile(r'(?<![A-Z0-9-])([A-Z0-9-]++)\s*+=\s*+("[^"]*"|[^",]*)')  # in linear time, whatever stands there
_SPAN: Final = re.compile(r"(\d{1,18})(?:@(\d{1,18}))?")
_IV: Final = re.compile(r"0[xX]([0-9A-Fa-f]{1,32})")
_SOUND: Final = ("mp4a", "ac-3", "ec-3", "opus", "flac", "mp3")
_DRM: Final = {
    "urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed": "Widevine",
    "com.widevine": "Widevine",
    "com.microsoft.playready": "PlayReady",
    "com.apple.streamingkeydelivery": "FairPlay",
}
_Tag = Mapping[str, str]
_LARGEST: Final = 2**62
_LONGEST_S: Final = 86_400.0  # a segment
_LINE_CHARACTERS: Final = 1 << 16
_MOST_VARIANTS: Final = 1000
_MOST_KEYS: Final = 20  # that one segment may be opened with
_PACE_S: Final = (1.0, 60.0)  # a live playlist is asked no more often and no more seldom
PieceKind = Literal["init", "media", "gap", "lost"]


@dataclass(frozen=True)
class Span:
    """A part of a resource, in bytes."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        return self.offset + self.length


@dataclass(frozen=True)
class Key:
    """AES-128 in CBC; without `iv` it is the media sequence number."""

    url: str = field(repr=False)
    iv: bytes | None

    def vector(self, number: int) -> bytes:
        return self.iv or number.to_bytes(16)


@dataclass(frozen=True)
class Init:
    """What stands before the segments of fragmented MP4 (EXT-X-MAP)."""

    url: str = field(repr=False)
    span: Span | None
    key: Key | None


@dataclass(frozen=True, slots=True)  # there may be 100,000 of them
class Segment:
    number: int  # media sequence number
    url: str = field(repr=False)
    duration_s: float
    span: Span | None = None
    key: Key | None = None
    init: Init | None = None
    is_discontinuous: bool = False
    is_gap: bool = False


@dataclass(frozen=True)
class MediaList:
    """`target_s`: how often it is asked for again."""

    segments: tuple[Segment, ...]
    target_s: float
    is_ended: bool

    @property
    def duration_s(self) -> float:
        return math.fsum(segment.duration_s for segment in self.segments)


@dataclass(frozen=True)
class Rendition:
    group: str
    url: str | None = field(repr=False)
    is_default: bool
    name: str = ""

    @property
    def print(self) -> str:
        return _digest(f"{self.group}\n{self.name}")


@dataclass(frozen=True)
class Variant:
    url: str = field(repr=False)
    bandwidth: int
    height: int  # 0: not said
    audio: str | None
    is_sound_only: bool = False
    codecs: str = ""

    @property
    def print(self) -> str:
        return _digest(f"{self.bandwidth}\n{self.height}\n{self.codecs}")


def _digest(text: str) -> str:
    """What stays the same of a variant whose link is made fresh; a playlist may write anything."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Master:
    variants: tuple[Variant, ...]
    renditions: tuple[Rendition, ...]

    def best(self, max_height: int, begun: str = "") -> Variant:
        """By bandwidth, then lines, among those of at most `max_height` lines (0: any); the smallest where there are none.

        The one with the print `begun` where it is among them.
        """
        pictured = [one for one in self.variants if not one.is_sound_only] or list(self.variants)
        pictured = [one for one in pictured if one.height] or pictured
        fitting = [one for one in pictured if not max_height or one.height <= max_height]
        if fitting:
            return max(fitting, key=lambda one: (one.print == begun, one.bandwidth, one.height))
        return min(pictured, key=lambda one: (one.height, -one.bandwidth))

    def sound_of(self, variant: Variant, begun: str = "") -> Rendition | None:
        """The sound that is kept apart from this variant's pictures: of the print `begun`, else the default, else the first."""
        group = [one for one in self.renditions if one.group == variant.audio]
        chosen = max(group, key=lambda one: (one.print == begun, one.is_default), default=None)
        return None if chosen is None or chosen.url in {None, variant.url} else chosen


@dataclass(frozen=True, slots=True)  # there may be 100,000 of them
class Piece:
    """One thing to fetch and to put behind what came before; `begins`: it does not continue that (a discontinuity, an init)."""

    number: int
    kind: PieceKind
    begins: bool
    duration_ms: int = 0
    url: str = field(default="", repr=False)
    span: Span | None = None
    key: Key | None = None

    @property
    def place(self) -> tuple[int, bool]:
        """By this they are put in order: an init stands before the segment of its number."""
        return self.number, self.kind != "init"

    @property
    def is_empty(self) -> bool:
        """Nothing is fetched of it."""
        return self.kind in {"gap", "lost"}


def pieces(segments: Iterable[Segment], *, last: int | None = None, init: Init | None = None) -> Iterator[Piece]:
    """What is to be fetched of these segments behind the one with the number `last`, which had this `init`.

    Where segments were lost between, what comes begins anew.
    """
    for segment in segments:
        is_lost = last is not None and segment.number != last + 1
        begins = segment.is_discontinuous or is_lost or segment.init != init
        if begins and segment.init is not None:
            key = segment.init.key and Key(segment.init.key.url, segment.init.key.vector(segment.number))
            yield Piece(segment.number, "init", True, 0, segment.init.url, segment.init.span, key)
            begins = False
        kind: PieceKind = "gap" if segment.is_gap else "media"
        key = segment.key and Key(segment.key.url, segment.key.vector(segment.number))
        yield Piece(segment.number, kind, begins, round(segment.duration_s * 1000), segment.url, segment.span, key)
        last, init = segment.number, segment.init


def fingerprint(pieces: Iterable[Piece], variant: str = "") -> str:
    """What stays the same of a playlist whose links are made fresh; `variant`: the print of the one of a master that it is."""
    digest = hashlib.sha256(variant.encode())
    for one in pieces:
        digest.update(f"{one.number} {one.kind} {one.begins} {one.duration_ms} {one.span} {one.key is None}\n".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Limits:
    """What of a playlist is read at most; `name` is what messages call it."""

    name: str
    max_segments: int

    def refused(self, why: str) -> VideoError:
        return VideoError(f"{self.name}: {why}", Category.UNSUPPORTED)


def read(text: str, base: str, limits: Limits) -> Master | MediaList:
    """The playlist that came from the address `base`. Raises VideoError with one line."""
    if max(map(len, text.splitlines()), default=0) > _LINE_CHARACTERS:
        raise limits.refused(f"has a line of more than {_LINE_CHARACTERS} characters; check the link")
    try:
        said = m3u8.parse(text.removeprefix("\ufeff"), custom_tags_parser=_Tags(limits))
        resolve = _resolver(base, limits)
        for tag in said["session_keys"]:
            _clear_key([{name.upper(): value for name, value in tag.items()}], resolve, limits)
        if said["is_variant"]:
            return _master(said, resolve)
        return _media(said, resolve, limits)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError) as error:
        raise limits.refused(f"the playlist cannot be read ({plain(str(error))[:100]}); check the link") from None


class _Tags:
    """Reads keys and maps in place of m3u8, which keeps but one key of several and no key of a map, and drops what nobody needs."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def __call__(self, line: str, _number: int, said: dict[str, Any], state: dict[str, Any]) -> bool:
        """Whether m3u8 is to leave this line alone."""
        name, _, rest = line.partition(":")
        if len(said["segments"]) > self._limits.max_segments:
            raise self._limits.refused(f"has more than {self._limits.max_segments} segments; raise [sources] max_segments")
        if max(len(said["playlists"]), len(said["media"]), len(said["session_keys"])) > _MOST_VARIANTS:
            raise self._limits.refused(f"has more than {_MOST_VARIANTS} variants or renditions; give the link of one of them")
        if name == "#EXT-X-KEY":
            self._takes_key(_attributes(rest), state)
        elif name == "#EXT-X-MAP":
            state["current_segment_map"] = {"tag": _attributes(rest), "keys": state["current_key"]}
        elif name == "#EXT-X-TARGETDURATION":
            said["target_s"] = float(rest)  # whole seconds by the RFC, and fractions in the wild
        elif name == "#EXT-X-MEDIA-SEQUENCE":
            said["media_sequence"] = int(rest)
            if not 0 <= said["media_sequence"] < _LARGEST:
                raise ValueError("its first number is none")
        elif name == "#EXT-X-DEFINE":
            raise self._limits.refused("uses variables (EXT-X-DEFINE), which are not read; give another link")
        elif name == "#EXT-X-PLAYLIST-TYPE":
            said["is_endlist"] |= rest.strip() == "VOD"  # some leave the end out
        return name not in _READ

    @staticmethod
    def _takes_key(tag: _Tag, state: dict[str, Any]) -> None:
        """Several with different formats may stand before a segment: any of them opens it (RFC 8216, 4.3.2.4)."""
        others = [one for one in state["current_key"] or () if one.get("KEYFORMAT") != tag.get("KEYFORMAT")]
        if len(others) >= _MOST_KEYS:
            raise ValueError("one segment has too many keys")
        state["current_key"] = () if tag.get("METHOD") == "NONE" else (*others, tag)


def _attributes(text: str) -> _Tag:
    return {name: value.strip().strip('"') for name, value in _ATTRIBUTE.findall(text)}


def _resolver(base: str, limits: Limits) -> Callable[[str], str]:
    def resolve(uri: str) -> str:
        url = urljoin(base, uri)
        parts = urlsplit(url)
        if parts.scheme.lower() not in SCHEMES or not parts.hostname:
            raise limits.refused(f"names {plain(parts.scheme)[:20] or 'no scheme'}: as a source; only https and http are fetched")
        return url

    return resolve


def _clear_key(tags: Sequence[_Tag], resolve: Callable[[str], str], limits: Limits) -> Key | None:
    """Raises VideoError for what is protected by more than a plain key."""
    if all(tag.get("METHOD") == "NONE" for tag in tags):
        return None
    for tag in tags:
        if tag.get("METHOD") == "AES-128" and tag.get("KEYFORMAT", "identity").lower() == "identity":
            found = _IV.fullmatch(tag["IV"]) if "IV" in tag else None
            if "IV" in tag and found is None:
                raise ValueError("an IV is no hexadecimal number")
            return Key(resolve(tag["URI"]), bytes.fromhex(found[1].zfill(32)) if found else None)
    tag = next(tag for tag in tags if tag.get("METHOD") != "NONE")
    kind = _DRM.get(tag.get("KEYFORMAT", "").lower()) or tag.get("METHOD") or "an unknown method"
    raise limits.refused(f"is protected ({plain(kind)[:40]}); only what is free of DRM can be fetched")


def _master(said: Mapping[str, Any], resolve: Callable[[str], str]) -> Master:
    if not said["playlists"]:
        raise ValueError("it names no variant")
    return Master(
        tuple(_variant(one["uri"], one["stream_info"], resolve) for one in said["playlists"]),
        tuple(
            Rendition(
                one.get("group_id", ""),
                resolve(one["uri"]) if one.get("uri") else None,
                one.get("default") == "YES",
                one.get("name", ""),
            )
            for one in said["media"]
            if one.get("type") == "AUDIO"
        ),
    )


def _variant(uri: str, tag: Mapping[str, Any], resolve: Callable[[str], str]) -> Variant:
    _, _, height = str(tag.get("resolution", "")).lower().partition("x")
    codecs = [one.strip().lower() for one in str(tag.get("codecs", "")).split(",") if one.strip()]
    return Variant(
        resolve(uri),
        min(max(0, int(tag.get("bandwidth", 0))), _LARGEST),
        int(height) if height.isdigit() else 0,
        tag.get("audio"),
        is_sound_only=bool(codecs) and all(one.startswith(_SOUND) for one in codecs),
        codecs=",".join(codecs),
    )


def _media(said: Mapping[str, Any], resolve: Callable[[str], str], limits: Limits) -> MediaList:
    number, found, read_keys = int(said["media_sequence"] or 0), _Spans(), _Keys(resolve, limits)
    segments: list[Segment] = []
    inits: dict[int, Init] = {}
    for one in said["segments"]:
        if "uri" not in one:  # cut off while it was written
            continue
        url, length = resolve(one["uri"]), float(one.get("duration", 0.0))
        if not 0 <= length <= _LONGEST_S:
            raise ValueError("a segment has no length in time, or more than a day")
        segments.append(
            Segment(
                number + len(segments),
                url,
                length,
                found.next(url, one.get("byterange")),
                read_keys(one.get("key") or ()),
                _init(one.get("init_section"), inits, resolve, read_keys),
                is_discontinuous=bool(one.get("discontinuity")),
                is_gap=bool(one.get("gap_tag")),
            )
        )
    if len(segments) > limits.max_segments:
        raise limits.refused(f"has more than {limits.max_segments} segments; raise [sources] max_segments")
    longest = max((segment.duration_s for segment in segments), default=0.0)
    said_s = said.get("target_s", 0.0)
    target_s = said_s if math.isfinite(said_s) and said_s > 0 else longest or 6.0
    return MediaList(tuple(segments), min(max(target_s, _PACE_S[0]), _PACE_S[1]), bool(said["is_endlist"]))


def _init(
    section: Mapping[str, Any] | None, known: dict[int, Init], resolve: Callable[[str], str], read_keys: "_Keys"
) -> Init | None:
    """The same value for all segments behind one tag: there may be many of them."""
    if section is None:
        return None
    if id(section) not in known:
        tag, url = section["tag"], resolve(section["tag"]["URI"])
        known[id(section)] = Init(url, _Spans().next(url, tag.get("BYTERANGE"), start=0), read_keys(section["keys"] or ()))
    return known[id(section)]


class _Keys:
    """The tags of a group of segments are read once."""

    def __init__(self, resolve: Callable[[str], str], limits: Limits) -> None:
        self._resolve, self._limits = resolve, limits
        self._known: dict[int, Key | None] = {}

    def __call__(self, tags: Sequence[_Tag]) -> Key | None:
        if not tags:
            return None
        if id(tags) not in self._known:
            self._known[id(tags)] = _clear_key(tags, self._resolve, self._limits)
        return self._known[id(tags)]


class _Spans:
    """A range without an offset begins where the range before it ended, in the same resource (RFC 8216, 4.3.2.2)."""

    def __init__(self) -> None:
        self._url: str | None = None
        self._end = 0

    def next(self, url: str, text: str | None, start: int | None = None) -> Span | None:
        if text is None:
            self._url = None
            return None
        found = _SPAN.fullmatch(text.strip().strip('"'))
        follows = self._end if self._url == url else start
        if found is None or int(found[1]) == 0 or (found[2] is None and follows is None):
            raise ValueError("a byte range has no length or no beginning")
        span = Span(int(found[2]) if found[2] is not None else follows or 0, int(found[1]))
        self._url, self._end = url, span.end
        return span
