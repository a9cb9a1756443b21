"""Laws of what leaves the program as text: no secret, no control character, no command for GitHub's runner."""

import io
import logging
import os
import string
import unicodedata
from typing import Final
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dailies.config import HostSettings, Settings
from dailies.library import Library
from dailies.redact import MASK, RedactingFormatter, Redactor, loggable, plain, secrets_of
from support import Shelf

SHOWN: Final = string.ascii_letters + string.digits + string.punctuation + " äß€𝄞"
SECRETS = st.text(SHOWN, min_size=9, max_size=40).filter(lambda text: len(text.strip()) > 8 and not set(text) <= set("*TOKEN "))
TEXTS = st.text(max_size=40)
# what an environment variable can hold besides: line ends, escapes, bytes that are no UTF-8
ROUGH = st.text(SHOWN + "\n\r\t\x1b\udc80\udcff", min_size=9, max_size=40).filter(lambda text: len(text.strip()) > 8)
NAMES = st.builds(
    "".join,
    st.tuples(
        st.text(string.ascii_uppercase + "_", max_size=5),
        st.sampled_from(["TOKEN", "KEY", "SECRET", "PASSWORD", "token", "Key"]),
        st.text(string.ascii_uppercase + "_", max_size=5),
    ),
)
HOSTS = st.sampled_from(["example.org", "example.org:8443", "127.0.0.1", "[::1]:80"])


def _is_free_of(text: str, secret: str) -> bool:
    """Neither as it is nor in any spelling that this program makes of it."""
    return not any(spelling in text for spelling in {secret, plain(secret), quote(os.fsencode(secret), safe="")})


@settings(max_examples=200, deadline=None)
@given(name=NAMES, secret=SECRETS, before=TEXTS, after=TEXTS)
def test_no_text_shows_the_value_of_a_secret_variable(name: str, secret: str, before: str, after: str) -> None:
    """Feature: github-workflow-bug-fixes, Property 14: redaction: the value of a variable named like a secret is in no output,
    and what stands around it is unharmed."""
    assume(secret not in before + MASK + after)
    redact = Redactor(secrets_of({name: secret, "HOME": "/home/somebody"}))

    said = redact(before + secret + after)

    assert secret not in said
    assert MASK in said
    assert redact("/home/somebody") == "/home/somebody"


@settings(max_examples=100, deadline=None)
@given(name=NAMES, value=st.text(SHOWN, max_size=12), other=st.sampled_from(["HOME", "CREDENTIAL", "PASSPORT", "LANG"]))
def test_only_long_values_of_secret_names_or_of_names_in_the_settings_are_masked(name: str, value: str, other: str) -> None:
    """Feature: github-workflow-bug-fixes, Property 14: redaction: values longer than 8 characters, of variables that say
    secret or that the settings name."""
    expected = {value} if len(value) > 8 else set()

    assert secrets_of({name: value}) == expected
    assert secrets_of({other: value}) == frozenset()
    assert secrets_of({other: value}, [other]) == expected


@settings(max_examples=200, deadline=None)
@given(secret=SECRETS, safe=st.text("!#$&'()*+,/:;=?@[]~ ", max_size=8), lower=st.booleans(), is_form=st.booleans())
def test_no_encoder_brings_a_secret_past(secret: str, safe: str, lower: bool, is_form: bool) -> None:
    """Feature: github-workflow-bug-fixes, Property 14: redaction: percent-encoded spellings too, whatever characters the
    encoder leaves alone, with capital or small hex digits, and in forms."""
    encoded = quote_plus(secret, safe=safe.replace(" ", "")) if is_form else quote(secret, safe=safe)
    encoded = "".join(part.lower() if lower and len(part) == 2 else part for part in _hex_parts(encoded))

    said = Redactor([secret])(f"GET /upload?name={encoded} failed")

    assert said == f"GET /upload?name={MASK} failed"


def _hex_parts(encoded: str) -> list[str]:
    """`a%2Fb` -> a % 2F b: the hex digits of each byte by themselves."""
    first, *rest = encoded.split("%")
    return [*first, *(part for piece in rest for part in ("%", piece[:2], *piece[2:]))]


@settings(max_examples=100, deadline=None)
@given(secrets=st.lists(SECRETS, min_size=1, max_size=3, unique=True), order=st.randoms(use_true_random=False))
def test_several_secrets_in_one_line_are_all_masked_in_whatever_order_they_are_known(secrets: list[str], order: object) -> None:
    """Feature: github-workflow-bug-fixes, Property 14: redaction: also where one secret is part of another."""
    known = [*secrets, *(secret + "-and-more" for secret in secrets)]
    assume(not any(secret in MASK * 2 for secret in known))

    said = Redactor(reversed(known))(" ".join(known))

    assert said == Redactor(known)(" ".join(known))
    assert not any(secret in said for secret in known)
    assert "-and-more" not in said


# RFC 3986, 3.2.1, and the @ that people leave in passwords
USERINFO = st.text(string.ascii_letters + string.digits + "-._~!$&'()*+,;=:%@", min_size=1, max_size=30)


@settings(max_examples=200, deadline=None)
@given(
    userinfo=USERINFO,
    host=HOSTS,
    scheme=st.sampled_from(["https", "http", "ssh", "git+https"]),
    before=st.sampled_from(["", "to ", "'", "("]),
)
def test_who_logs_in_at_an_address_is_masked(userinfo: str, host: str, scheme: str, before: str) -> None:
    """Feature: github-workflow-bug-fixes, Property 14: redaction: userinfo in URLs, without knowing it to be secret."""
    said = Redactor()(f"fatal: unable to access {before}{scheme}://{userinfo}@{host}/some/path.git: 403")

    assert said == f"fatal: unable to access {before}{scheme}://{MASK}@{host}/some/path.git: 403"


@settings(max_examples=200, deadline=None)
@given(
    key=st.sampled_from(
        ["key", "api_key", "KEY", "access_token", "token", "X-Amz-Signature", "client_secret", "password", "auth", "sig"]
    ),
    value=st.text(string.ascii_letters + string.digits + "-._~!$*+,;:@/?%=", min_size=1, max_size=30),
    others=st.dictionaries(st.sampled_from(["name", "page", "id"]), st.integers(), max_size=2),
    ending=st.sampled_from(["", "&page=2", "#top", " failed", '"', ">"]),
)
def test_secret_parameters_of_an_address_are_masked_and_others_are_not(
    key: str, value: str, others: dict[str, int], ending: str
) -> None:
    """Feature: github-workflow-bug-fixes, Property 14: redaction: `?key=…` and its like, wherever in the query."""
    query = f"{urlencode(others)}&{key}=" if others else f"{key}="

    said = Redactor()(f"https://example.org/api?{query}{value}{ending}")

    assert said == f"https://example.org/api?{query}{MASK}{ending}"


@settings(max_examples=100, deadline=None)
@given(secret=ROUGH)
def test_any_bytes_can_be_a_secret(secret: str) -> None:
    """Feature: github-workflow-bug-fixes, Property 14: redaction: a value with line ends, escapes or bytes that are no UTF-8
    is masked like any other, and stops no command."""
    said = Redactor(secrets_of({"DEPLOY_KEY": secret}))(f"before {secret} after {quote(os.fsencode(secret), safe='')}")

    assert said == f"before {MASK} after {MASK}"


@settings(max_examples=200, deadline=None)
@given(TEXTS | st.text("ab \n\r\x1b\x85\u2028\u202e\u2066\ud800\udcff", max_size=20))
def test_a_plain_text_is_one_printable_line(text: str) -> None:
    """Feature: github-workflow-bug-fixes, Property 14: redaction: control characters, line ends and lone surrogates are shown
    as escapes; nothing else changes, and doing it again changes nothing."""
    said = plain(text)

    assert len(said.splitlines()) <= 1
    assert not any(unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"} for letter in said)
    assert not set(said) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert plain(said) == said
    assert said.encode().decode() == said
    if text.isprintable():
        assert said == text


COMMANDS = st.sampled_from(["::error::", "::set-output name=a::", "::add-mask::", "##[error]", "##[group]", "::stop-commands::x"])
BLANKS = st.text(" \t\n\r\x0b\x0c\x1b\u00a0\u2003\u3000", max_size=4)


def _is_command(line: str) -> bool:
    """As GitHub's runner reads a line (actions/runner, ActionCommand.cs): `::` first after trimming, or `##[` anywhere."""
    return line.lstrip().startswith("::") or "##[" in line


@settings(max_examples=200, deadline=None)
@given(blanks=BLANKS, before=st.sampled_from(["", "x", "video: "]), command=COMMANDS, after=TEXTS)
def test_no_line_is_a_command_for_githubs_runner(blanks: str, before: str, command: str, after: str) -> None:
    """Feature: github-workflow-bug-fixes, Property 14: redaction: a file name or a program's output cannot give orders, not
    even behind blanks, which the runner trims."""
    said = loggable(blanks + before + command + after)

    assert not _is_command(said)
    assert len(said.splitlines()) == 1
    assert "error" not in command or "error" in said  # shown, if not obeyed


def _logged(redactor: Redactor, layout: str, message: str, *arguments: object, error: BaseException | None = None) -> str:
    """What a handler with the formatter writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(RedactingFormatter(redactor, layout))
    info = (type(error), error, error.__traceback__) if error else None
    handler.emit(logging.LogRecord("dailies.test", logging.ERROR, __file__, 1, message, arguments, info))
    return stream.getvalue().removesuffix("\n")


LAYOUTS = st.sampled_from(["%(message)s", "%(levelname)s %(name)s: %(message)s"])


@settings(max_examples=200, deadline=None)
@given(layout=LAYOUTS, secret=SECRETS | ROUGH, before=TEXTS, after=TEXTS, is_argument=st.booleans())
def test_a_log_line_is_one_line_without_secrets_or_commands(
    layout: str, secret: str, before: str, after: str, is_argument: bool
) -> None:
    """Feature: github-workflow-bug-fixes, Property 14: redaction: through the logging formatter, whether the secret is in the
    message or in its arguments, and though it holds line ends itself."""
    assume(secret not in before + MASK + after and plain(secret) not in plain(before + MASK + after))
    text = before + secret + after
    message, arguments = ("%s", (text,)) if is_argument else (text.replace("%", "%%"), ({},))

    said = _logged(Redactor(secrets_of({"A_TOKEN": secret})), layout, message, *arguments)

    assert _is_free_of(said, secret)
    assert len(said.splitlines()) <= 1
    assert not _is_command(said)


def _raised(message: str) -> ValueError:
    try:
        int(message, base=99)
    except ValueError as error:
        return ValueError(message).with_traceback(error.__traceback__)
    raise AssertionError("no number has this base")


@settings(max_examples=100, deadline=None)
@given(layout=LAYOUTS, secret=SECRETS, words=TEXTS, command=COMMANDS)
def test_a_traceback_keeps_its_lines_and_shows_no_secret_and_no_command(layout: str, secret: str, words: str, command: str) -> None:
    """Feature: github-workflow-bug-fixes, Property 14: redaction: through the logging formatter, in tracebacks too."""
    assume(_is_free_of(f"{words}{command}{MASK}", secret))

    said = _logged(Redactor([secret]), layout, "a bug", error=_raised(f"{words}\n{command}{secret}\n{words}"))

    assert "Traceback (most recent call last):" in said.splitlines()[1]
    assert _is_free_of(said, secret)
    assert MASK in said
    assert not any(_is_command(line) for line in said.splitlines())


@settings(max_examples=100, deadline=None)
@given(secret=SECRETS, words=TEXTS)
def test_masking_twice_is_masking_once(secret: str, words: str) -> None:
    assume(secret not in MASK * 2)
    redact = Redactor([secret])

    once = redact(f"{words} https://{words}@host/?key={secret} {secret}")

    assert redact(once) == once


@pytest.mark.parametrize("variable", ["IA_SECRET_ACCESS_KEY", "STREAMWISH_LOGIN"])
def test_what_a_library_says_is_clean(shelf: Shelf, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """Feature: github-workflow-bug-fixes, Property 14: redaction: a variable that only the settings name as secret too."""
    monkeypatch.setenv(variable, "opens every door")
    host = HostSettings.model_validate({"adapter": "folder", "path": "x", "login_env": "STREAMWISH_LOGIN"})
    library = Library(shelf.root, Settings(hosts={"published": host}))

    said = library.clean_text("no: opens every door\n::error::opens%20every%20door " + "x" * 2000)

    assert said.startswith(f"no: {MASK}\\n::error::{MASK} xxx")
    assert len(said) == 1000


def test_a_secret_in_the_environment_is_in_no_output_of_a_command(shelf: Shelf) -> None:
    """Feature: github-workflow-bug-fixes, Property 14: redaction: neither on stdout nor on stderr."""
    secret = "correct horse+battery/staple"

    done = shelf.cli("--verbose", "add", f"no {secret}.mp4", f"{quote(secret, safe='')}.mp4", MY_TOKEN=secret)

    assert done.code == 2
    assert done.err.count(MASK) == 2
    assert _is_free_of(done.out + done.err, secret)
