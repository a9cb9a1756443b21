"""GitHub's expressions, as far as workflows of this repository use them: contexts, literals, `== != ! && ||`, functions.

Meaning from the documentation ("Evaluate expressions in workflows and actions"): missing properties are null, null is '' as
text, `&&` and `||` give one of their operands, comparison ignores case.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>-?\d+(?:\.\d+)?)|(?P<operator>==|!=|&&|\|\||[!().,\[\]])|(?P<name>[A-Za-z_][\w-]*))"
)
_INSERT = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_WORDS = {"true": True, "false": False, "null": None}

Functions = Mapping[str, Callable[..., Any]]


def interpolate(text: str, contexts: Mapping[str, Any], functions: Functions) -> str:
    """A value of `env` or `with`: each `${{ … }}` replaced by its text."""
    return _INSERT.sub(lambda found: as_text(evaluate(found[1], contexts, functions)), text)


def condition(text: str | bool | None, contexts: Mapping[str, Any], functions: Functions) -> bool:
    """An `if`: without a status function it means `success() && (…)`."""
    said = "success()" if text is None else str(text).strip()
    inner = _INSERT.fullmatch(said)
    said = inner[1] if inner else said
    if not re.search(r"\b(success|failure|cancelled|always)\s*\(", said):
        said = f"success() && ({said})"
    return bool(evaluate(said, contexts, functions))


def evaluate(text: str, contexts: Mapping[str, Any], functions: Functions) -> Any:
    parser = _Parser(_tokens(text), contexts, functions)
    value = parser.either()
    assert parser.next() is None, f"not understood: {text}"
    return value


def as_text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _tokens(text: str) -> list[tuple[str, str]]:
    found, place = [], 0
    while text[place:].strip():
        token = _TOKEN.match(text, place)
        assert token, f"not understood: {text[place:]}"
        kind = str(token.lastgroup)
        found.append((kind, token[kind]))
        place = token.end()
    return found


@dataclass
class _Parser:
    tokens: list[tuple[str, str]]
    contexts: Mapping[str, Any]
    functions: Functions
    place: int = 0

    def next(self) -> tuple[str, str] | None:
        return self.tokens[self.place] if self.place < len(self.tokens) else None

    def take(self, *words: str) -> bool:
        token = self.next()
        if token is None or token[0] != "operator" or token[1] not in words:
            return False
        self.place += 1
        return True

    def either(self) -> Any:
        value = self.both()
        while self.take("||"):
            other = self.both()
            value = value or other
        return value

    def both(self) -> Any:
        value = self.compared()
        while self.take("&&"):
            other = self.compared()
            value = value and other
        return value

    def compared(self) -> Any:
        value = self.single()
        while self.next() in {("operator", "=="), ("operator", "!=")}:
            is_equal = self.take("==") or not self.take("!=")
            same = as_text(value).lower() == as_text(self.single()).lower()
            value = same if is_equal else not same
        return value

    def single(self) -> Any:
        if self.take("!"):
            return not self.single()
        if self.take("("):
            value = self.either()
            assert self.take(")"), "a bracket is missing"
            return value
        token = self.next()
        assert token is not None, "an operand is missing"
        self.place += 1
        kind, word = token
        if kind == "text":
            return word[1:-1].replace("''", "'")
        if kind == "number":
            return float(word)
        if word in _WORDS:
            return _WORDS[word]
        return self.call(word) if self.take("(") else self.looked_up(word)

    def call(self, name: str) -> Any:
        arguments = []
        while not self.take(")"):
            arguments.append(self.either())
            self.take(",")
        return self.functions[name](*arguments)

    def looked_up(self, name: str) -> Any:
        value: Any = self.contexts[name]
        while self.take("."):
            token = self.next()
            assert token is not None, "a property is missing"
            assert token[0] == "name", "a property is missing"
            self.place += 1
            value = value.get(token[1]) if isinstance(value, Mapping) else None
        return value
