"""What small video hosts answer, read as data from outside: lenient values, classed errors, addresses to send to, keys kept in."""

import contextlib
from collections.abc import Iterator
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, BeforeValidator, ValidationError

from dailies.errors import DailiesError, Transient
from dailies.redact import Redactor, plain
from dailies.request import is_loopback

Text = Annotated[str, BeforeValidator(lambda told: "" if told is None else str(told))]  # numbers come as strings, strings as null
Model = TypeVar("Model", bound=BaseModel)


def read(model: type[Model], told: Any, name: str, trouble: type[Transient] = Transient) -> Model:
    """Raises `trouble`, which names where the shape is wrong and none of what was said."""
    try:
        return model.model_validate(told)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = plain(".".join(map(str, fault["loc"]))) or "all of it"
        raise trouble(f"{name}: answered in a shape that is not its protocol's ({where}); it is tried again later") from None


def words(said: str) -> str:
    """A host's words as the part of a message."""
    return " ".join(plain(said).split())[:200] or "nothing said"


@contextlib.contextmanager
def discreet(*secrets: str) -> Iterator[Redactor]:
    """Keys that go out in addresses come back in the words of hosts: no error leaves with one."""
    redacted = Redactor(secrets)
    try:
        yield redacted
    except DailiesError as error:
        error.args = tuple(redacted(str(one)) for one in error.args)
        raise


def is_address(url: str) -> bool:
    """Absolute, of a host, without a name or password in it."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc and url == plain(url)


def upload_address(told: object, api_url: str, name: str) -> str:
    """The server that a host names for one upload, by https; this machine's only where the API is. Raises Transient."""
    url = f"https:{told}" if isinstance(told, str) and told.startswith("//") else told
    if not isinstance(url, str) or not is_address(url) or (is_loopback(url) and not is_loopback(api_url)):
        raise Transient(f"{name}: named no server to upload to; it is tried again later")
    parts = urlsplit(url)
    return url if is_loopback(url) else urlunsplit(parts._replace(scheme="https", netloc=parts.netloc.removesuffix(":80")))
