"""Laws of links: which two are one video, and what is shown of them."""

import string
from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from dailies import links
from dailies.errors import ConfigError
from dailies.redact import SHORTEST_SECRET

LABELS = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8).filter(lambda label: label != "www")
HOSTS = st.builds(".".join, st.lists(LABELS, min_size=2, max_size=3)) | st.sampled_from(["127.0.0.1", "[::1]", "münchen.example"])
PATH_PARTS = st.text(string.ascii_letters + string.digits + "-_.~%;=:ü", min_size=1, max_size=10)
PATHS = st.lists(PATH_PARTS, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
QUERIES = st.text(string.ascii_letters + string.digits + "&=%+-", min_size=1, max_size=20)
SECRETS = st.text(string.ascii_letters + string.digits + "/+=@: ", min_size=SHORTEST_SECRET, max_size=30)


def _spelled(host: str, path: str, way: "tuple[str, str, str, str, str, str]") -> str:
    scheme, user, www, port, slash, rest = way
    return f"{scheme}://{user}{www}{host}{port}{path}{slash}{rest}"


WAYS = st.tuples(
    st.sampled_from(["http", "https", "HTTP", "hTTps"]),
    st.sampled_from(["", "me@", "me:secret@", "me:p%40ss@"]),
    st.sampled_from(["", "www.", "WWW."]),
    st.sampled_from(["", ":"]),
    st.sampled_from(["", "/", "///"]),
    st.sampled_from(["", "?", "?a=1", "#here", "?a=1&b=2#t=10", "?a=http://other.example/"]),
)


@settings(deadline=None)
@given(HOSTS, PATHS, WAYS, WAYS)
def test_spellings_of_a_link_are_one_video(host: str, path: str, one: tuple[str, ...], two: tuple[str, ...]) -> None:
    """Feature: github-workflow-bug-fixes, Property 10: links that differ in scheme, www, slash, query or fragment are one video."""
    assert links.identity(_spelled(host, path, one)) == links.identity(_spelled(host.upper(), path, two))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("http://a.example:80/x", "http://a.example/x"),
        ("https://a.example:443/x", "http://a.example/x"),
        ("http://a.example:443/x", "https://a.example/x"),
        ("https://a.example./x", "https://a.example/x"),
        ("https://www.www.a.example/x", "https://a.example/x"),
    ],
)
def test_ports_and_names_that_say_nothing_are_left_out(one: str, two: str) -> None:
    assert links.identity(one) == links.identity(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("https://a.example/Film", "https://a.example/film"),
        ("https://a.example/x", "https://b.example/x"),
        ("https://a.example/x", "https://a.example:8443/x"),
        ("https://www.com/x", "https://com/x"),
        ("https://www2.a.example/x", "https://a.example/x"),
        ("https://a.example/x", "https://a.example/x/y"),
        ("https://a.example/x", "ftp://a.example/x"),
    ],
)
def test_other_places_are_other_videos(one: str, two: str) -> None:
    assert links.identity(one) != links.identity(two)


@settings(deadline=None)
@given(HOSTS, PATHS, WAYS, QUERIES, QUERIES)
def test_a_query_tells_two_videos_apart_only_where_it_is_kept(
    host: str, path: str, way: tuple[str, ...], one: str, two: str
) -> None:
    assume(one != two)
    first, second = (_spelled(host, path, (*way[:5], f"?{query}")) for query in (one, two))  # type: ignore[arg-type]

    assert links.identity(first) == links.identity(second)
    assert links.identity(first, keeps_query=True) != links.identity(second, keeps_query=True)
    assert links.identity(first, keeps_query=True) == links.identity(f"{first}#here", keeps_query=True)


@settings(deadline=None)
@given(
    st.text(max_size=60) | st.builds("{}://{}".format, st.sampled_from(["http", "https", "HTTPS"]), st.text(max_size=60)),
    st.booleans(),
)
@example("http://a.example:443/x", False)
@example("https://a.example:80/x", False)
@example("https://./x", False)
@example("https://www./x", False)
@example("https://www.../x", False)
@example("https://a.example//", False)
@example("https://[fe80::1%25eth0]/x", False)
def test_what_was_normalised_stays_as_it_is(text: str, keeps_query: bool) -> None:
    try:
        normalised = links.normalised(text, keeps_query=keeps_query)
    except ConfigError:
        return

    assert links.normalised(normalised, keeps_query=keeps_query) == normalised


@settings(deadline=None)
@given(st.text(max_size=60) | st.builds("https://{}".format, st.text(max_size=60)))
@example("https://[::1")
@example("https://a.example:port/")
@example("https://a.example:99999/")
@example("https://\udcff.example/\udcff")
def test_no_text_breaks_what_looks_at_links(text: str) -> None:
    assert links.shown(text).isprintable() or links.shown(text)
    links.is_link(text)
    links.holds_secrets(text)
    for look in (links.identity, links.name_of, links.title_of, links.public, links.without_fragment):
        with suppress(ConfigError):
            assert look(text) is not None


@settings(deadline=None)
@given(HOSTS, PATHS, SECRETS, SECRETS, SECRETS)
def test_no_secret_of_a_link_is_shown_or_kept(host: str, path: str, user: str, password: str, signature: str) -> None:
    assume(not any(secret in host + path for secret in (user, password, signature)))
    url = f"https://{quote(user, safe='')}:{quote(password, safe='')}@{host}{path}?x={quote(signature, safe='')}#{quote(user)}"

    for text in (links.shown(url), links.public(url), links.normalised(url)):
        assert not any(secret in text or quote(secret, safe="") in text for secret in (user, password, signature))


@settings(deadline=None)
@given(HOSTS, PATHS, WAYS)
def test_a_link_is_shown_so_that_it_can_be_recognised(host: str, path: str, way: tuple[str, ...]) -> None:
    url = _spelled(host, path, way)  # type: ignore[arg-type]

    assert host in links.shown(url)
    assert path in links.shown(url)


@pytest.mark.parametrize(
    ("url", "name", "title"),
    [
        ("https://a.example/films/My%20film.mp4?x=1", "My film.mp4", "My film"),
        ("https://a.example/films/talk/index.m3u8", "index.m3u8", "talk"),
        ("https://a.example/films/", "films", "films"),
        ("https://a.example", "video", "a.example"),
        ("https://a.example/a%2Fb%0A.mp4", "a_b\\n.mp4", "b\\n"),
        ("https://a.example/film.mp4/film.mp4", "film.mp4", "film"),
    ],
)
def test_names_come_from_the_end_of_the_path(url: str, name: str, title: str) -> None:
    assert (links.name_of(url), links.title_of(url)) == (name, title)


@pytest.mark.parametrize(
    "text", ["https://", "https:///x", "https://./x", "https://a b/x", "https://a.example/\n", "https://x:y/", "film.mp4"]
)
def test_what_cannot_be_asked_is_refused_in_words_that_show_nothing_of_it(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^the link cannot be read; write it like https://example\.org/film\.mp4$"):
        links.parse(text)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        *((text, True) for text in ("https://a.example/x", "HTTP://a", "s3://bucket/x", "git+ssh://a/x")),
        *((text, False) for text in ("a/b", "C:\\films", "https:/a", "://a", "a b://c", "https://")),
    ],
)
def test_a_link_is_told_from_a_path(text: str, *, is_one: bool) -> None:
    assert links.is_link(text) is is_one
