"""Playlists over the network: the best variant behind a link, its sound, and what they hold by now."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from dailies import links
from dailies.answer import Answer, full_jitter
from dailies.arriving import Incoming
from dailies.clock import Deadline
from dailies.errors import Category, ConfigError, Postponed, Transient, VideoError
from dailies.model import Source
from dailies.sources.asking import Way, verdict, way
from dailies.sources.hls.playlist import BEGINNING, Limits, Master, MediaList, read
from dailies.sources.hls.segments import steady
from dailies.sources.slots import slot
from dailies.sources.source import Ground
from dailies.sources.turned import Turned

MOST_BYTES: Final = 16_000_000  # of a playlist
LONGEST_WAIT_S: Final = 60.0
_TRIES: Final = 3
_BLANK: Final = "\ufeff \t\r\n"
_PACKED: Final = frozenset({"gzip", "x-gzip", "deflate"})
_MEDIA_TYPES: Final = ("video/", "audio/", "application/octet-stream", "application/mp4", "image/")


@dataclass(frozen=True)
class Listed:
    """A media playlist and where it is asked for again."""

    url: str
    media: MediaList
    variant: str = ""  # the print of what it is of a master


@dataclass(frozen=True)
class Found:
    """By the name of its track what is behind a link; `bits_per_s` is 0 where no master says it."""

    way: Way
    lists: Mapping[str, Listed]
    bits_per_s: int = 0

    @property
    def is_live(self) -> bool:
        return not all(listed.media.is_ended for listed in self.lists.values())

    @property
    def variants(self) -> Mapping[str, str]:
        return {name: listed.variant for name, listed in self.lists.items()}


@dataclass(frozen=True)
class Reader:
    """`begun`: by track the print of the variant that is taken again where it is still there."""

    source: Source
    ground: Ground
    deadline: Deadline
    begun: Mapping[str, str] = field(default_factory=dict)

    def look(self, link: str) -> Found:
        """Raises Turned for media, SourceGone, Denied, Postponed, VideoError, Transient."""
        asked = way(link, self.ground)
        url, text = self._document(asked, may_turn=True)
        first = read(text, url, self._limits)
        if isinstance(first, MediaList):
            return Found(asked, {"main": Listed(asked.url, self._checked(first))})
        best = first.best(self.ground.settings.max_height, self.begun.get("main", ""))
        sound = first.sound_of(best, self.begun.get("sound", ""))
        chosen = {"main": (best.url, best.print)}
        if sound is not None and sound.url is not None:
            chosen["sound"] = sound.url, sound.print
        lists = {name: Listed(url, self.again(asked.to(url)), variant) for name, (url, variant) in chosen.items()}
        return Found(asked, lists, best.bandwidth)

    def again(self, asked: Way) -> MediaList:
        """A media playlist as it is by now. Raises as `look`."""
        url, text = self._document(asked, may_turn=False)
        found = read(text, url, self._limits)
        if isinstance(found, Master):
            raise self._limits.refused("a variant of it is no list of segments but has variants of its own; give another link")
        return self._checked(found)

    @property
    def _limits(self) -> Limits:
        return Limits(self.source.original_name, self.ground.settings.max_segments)

    def _checked(self, media: MediaList) -> MediaList:
        most_s = self.ground.settings.max_duration
        if media.is_ended and media.duration_s > most_s:
            raise self._limits.refused(
                f"lasts {media.duration_s / 3600:.1f} h, longer than {most_s / 3600:.1f} h; raise [sources] max_duration"
            )
        return media

    def _document(self, asked: Way, *, may_turn: bool) -> tuple[str, str]:
        """(where it came from, its text). Trouble is waited out a few times."""
        for attempt in range(1, _TRIES + 1):
            try:
                answer, said = self._ask(asked, may_turn=may_turn)
                if said is not None:
                    return said
                error = verdict(self.source, answer, self.ground.clock)
                wait_s = answer.retry_after_s(self.ground.clock) or LONGEST_WAIT_S
            except Transient as trouble:
                error = Transient(f"{self.source.original_name}: {trouble}", Category.UNREACHABLE)
            may_wait = type(error) is Transient or (isinstance(error, Postponed) and wait_s <= LONGEST_WAIT_S)
            if attempt == _TRIES or not may_wait:
                raise error
            self.deadline.pause(wait_s if isinstance(error, Postponed) else full_jitter(attempt, self.ground.http.draw))
        raise AssertionError("the last try returns or raises")

    def _ask(self, asked: Way, *, may_turn: bool) -> tuple[Answer, tuple[str, str] | None]:
        said: list[tuple[str, str]] = []

        def take(incoming: Incoming) -> None:
            said[:] = [(incoming.url, self._text(incoming, may_turn=may_turn))]

        with slot(self.ground, self.deadline):
            try:
                answer = self.ground.http.receive(
                    asked.url, self.deadline, take, headers=asked.headers, read_s=self.ground.settings.stall or LONGEST_WAIT_S
                )
            except ConfigError as error:  # an address that somebody else wrote
                raise VideoError(f"{self.source.original_name}: {error}", Category.UNSUPPORTED) from error
        return answer, said[0] if said else None

    def _text(self, incoming: Incoming, *, may_turn: bool) -> str:
        found, unpack = bytearray(), _unpacker(incoming)
        is_known = False
        for block in steady(incoming, self.ground):
            found += unpack(block)
            if len(found) > MOST_BYTES:
                raise self._limits.refused(f"the playlist has more than {MOST_BYTES // 10**6} MB; give another link")
            if not is_known and len(found) >= len(BEGINNING) + 3:
                self._check(bytes(found[:1024]), incoming, may_turn=may_turn)
                is_known = True
        if not is_known:
            self._check(bytes(found), incoming, may_turn=may_turn)
        return found.decode("utf-8", "replace").lstrip(_BLANK)

    def _check(self, head: bytes, incoming: Incoming, *, may_turn: bool) -> None:
        text = head.decode("utf-8", "replace").lstrip(_BLANK)
        if text.startswith(BEGINNING):
            return
        kind = incoming.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "text/html" or text.startswith("<"):
            raise self._limits.refused(f"{links.shown(incoming.url)} is a page; give the link of its playlist or its file")
        is_media = kind.startswith(_MEDIA_TYPES) or b"\0" in head or "\ufffd" in text[:256]
        if may_turn and is_media:
            raise Turned(f"{self.source.original_name}: is media and no playlist; give the link of a playlist", "http")
        raise self._limits.refused(f"is no playlist: it does not begin with {BEGINNING}; check the link")


def _unpacker(incoming: Incoming) -> Callable[[bytes], bytes]:
    """Some servers pack what was to come as it is."""
    if incoming.headers.get("content-encoding", "").strip().lower() not in _PACKED:
        return lambda block: block
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def unpack(block: bytes) -> bytes:
        try:
            return inflate.decompress(block, MOST_BYTES + 1)
        except zlib.error:
            raise Transient("what came cannot be unpacked", Category.UNREACHABLE) from None

    return unpack
