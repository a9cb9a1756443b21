"""What leaves the program as text: secrets masked, control characters shown, one line a message."""

import logging
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

MASK: Final = "***TOKEN***"
SHORTEST_SECRET: Final = 9  # a value of 8 characters or fewer would mask ordinary words
_SECRET_NAME: Final = re.compile(r"TOKEN|KEY|SECRET|PASSWORD", re.IGNORECASE)
_USERINFO: Final = re.compile(r"(?<=://)[^/\s?#]+(?=@)")
_QUERY_SECRET: Final = re.compile(
    r"(?<=[?&])([\w.-]*(?:token|key|secret|password|passwd|signature|sig|credential|auth)[\w.-]*=)[^&\s\"'<>#]+",
    re.IGNORECASE,
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def secrets_of(environment: Mapping[str, str], names: Iterable[str] = ()) -> frozenset[str]:
    """Values to mask: of variables whose name says secret, and of those that the settings name."""
    named = frozenset(names)
    values = (value for name, value in environment.items() if name in named or _SECRET_NAME.search(name))
    return frozenset(value for value in values if len(value) >= SHORTEST_SECRET)


def says_secret(name: str) -> bool:
    """Whether a variable of this name is masked everywhere and given to no child."""
    return _SECRET_NAME.search(name) is not None


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables whose name does not say secret."""
    return {name: value for name, value in environment.items() if not _SECRET_NAME.search(name)}


def _spellings(secret: str) -> str:
    """A pattern of every way in which an encoder may write it: each character as it is or as %XX of its bytes, a blank as +."""
    return "".join(f"(?:{'|'.join(_character(character))})" for character in secret)


def _character(character: str) -> Iterator[str]:
    yield "".join(f"(?i:%{byte:02x})" for byte in character.encode("utf-8", "surrogateescape"))
    yield re.escape(character)
    if character == " ":
        yield r"\+"


class Redactor:
    """Masks secrets in any text; longest first, so that a secret inside another leaves no rest."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        longest_first = sorted(set(secrets), key=lambda secret: (-len(secret), secret))
        self._pattern = re.compile("|".join(map(_spellings, longest_first))) if longest_first else None

    def __call__(self, text: str) -> str:
        if self._pattern is not None:
            text = self._pattern.sub(MASK, text)
        return _QUERY_SECRET.sub(rf"\g<1>{MASK}", _USERINFO.sub(MASK, text))


def plain(text: str) -> str:
    """One printable line: control characters, bidi overrides and lone surrogates as escapes (design, rule 7)."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def loggable(text: str) -> str:
    """`plain`, and never what GitHub's runner takes for a command: `::name` behind any blanks, `##[name]` anywhere."""
    line = plain(text).replace("##[", "# #[")
    return f"| {line}" if line.lstrip().startswith("::") else line


class RedactingFormatter(logging.Formatter):
    """Each record one line; a traceback keeps its lines."""

    def __init__(self, redactor: Redactor, layout: str) -> None:
        super().__init__(layout)
        self._redactor = redactor
        self._lock = threading.Lock()

    def format(self, record: logging.LogRecord) -> str:
        with self._lock:
            message = loggable(self._redactor(record.getMessage()))
            record = logging.makeLogRecord({**record.__dict__, "msg": message, "args": ()})
            record.exc_text = None
            return "\n".join([loggable(line) for line in self._redactor(super().format(record)).splitlines()])
