"""Sidecars: what people and programs write beside a file, whole, broken and hostile."""

import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dailies.enrich import sidecars
from dailies.enrich.facts import Facts, Said
from dailies.enrich.sidecars import embedded, info_json, nfo, own
from dailies.model import Source, Video, path_to_uri
from support import ROOT

MOVIE = """<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<movie>
  <title>The Matrix</title><originaltitle>Matrix</originaltitle><year>1999</year><premiered>1999-03-30</premiered>
  <plot>A hacker
learns the truth.</plot><runtime>136</runtime>
  <genre>Action</genre><genre>Science Fiction</genre><tag>dystopia</tag><studio>Warner</studio><director>Lana Wachowski</director>
  <credits>Lilly Wachowski</credits><set><name>The Matrix Collection</name></set>
  <uniqueid type="imdb" default="true">tt0133093</uniqueid><uniqueid type="tmdb">603</uniqueid>
  <actor><name>Keanu Reeves</name><role>Neo</role><order>0</order><thumb>https://example.org/k.jpg</thumb></actor>
  <fileinfo><streamdetails><video><codec>h264</codec></video></streamdetails></fileinfo>
</movie>"""
EPISODE = "<episodedetails><title>{}</title><showtitle>Show</showtitle><season>1</season><episode>{}</episode></episodedetails>"


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "media/film.mp4"
    path.parent.mkdir()
    return path


def video(path: Path, root: Path) -> Video:
    uri = path_to_uri(path.relative_to(root).as_posix())
    source = Source(kind="file", uri=uri, original_name="film.mp4", size_bytes=1, identity="a" * 64)
    now = "2026-01-01T00:00:00Z"
    return Video(id="film-0123456789ab", code="film", title="film", source=source, created_at=now, updated_at=now)


def read(path: Path, root: Path) -> tuple[tuple[Said, ...], tuple[str, ...]]:
    return sidecars.read(video(path, root), root, {})


def test_an_nfo_of_kodi_tells_all_it_has() -> None:
    facts = nfo.read(MOVIE.encode()).facts

    assert (facts.title, facts.year, facts.release_date, facts.duration_s) == ("The Matrix", 1999, "1999-03-30", 8160)
    assert facts.description == "A hacker\nlearns the truth."
    assert (facts.categories, facts.tags, facts.studio) == (("Action", "Science Fiction"), ("dystopia",), "Warner")
    assert facts.series == "The Matrix Collection"
    assert facts.ids == {"imdb": "tt0133093", "tmdb": "603"}
    assert [(one.name, one.role, one.image) for one in facts.people] == [
        ("Keanu Reeves", "actor", "https://example.org/k.jpg"),
        ("Lana Wachowski", "director", None),
        ("Lilly Wachowski", "writer", None),
    ]


@pytest.mark.parametrize(
    "content",
    [
        MOVIE.encode() + b"\nhttps://www.themoviedb.org/movie/603?a=1&b=2\n",
        b"\xef\xbb\xbf" + MOVIE.encode(),
        MOVIE.encode("utf-16"),
        "Ripped by ░▒▓ someone ▓▒░ & friends <3\n".encode() + MOVIE.encode(),
    ],
)
def test_an_nfo_may_have_an_address_a_mark_or_pictures_of_letters_around_its_xml(content: bytes) -> None:
    reading = nfo.read(content)

    assert (reading.facts.title, reading.ignored) == ("The Matrix", ())


def test_an_nfo_may_be_an_address_alone_or_old_art() -> None:
    assert nfo.read(b"https://www.imdb.com/title/tt0133093/\n").facts == Facts(ids={"imdb": "tt0133093"})
    assert nfo.read(b"\xdb\xdb\xdb A GROUP \xdb\xdb\xdb\r\n imdb.com/title/tt0133093").facts.ids == {"imdb": "tt0133093"}
    assert nfo.read(b"\xb0\xb1\xb2 greetings <3 \xb2\xb1\xb0") == sidecars.Reading(Facts())


def test_an_nfo_of_several_episodes_is_one_video_that_no_catalogue_is_searched_for() -> None:
    facts = nfo.read((EPISODE.format("One", 1) + "\n" + EPISODE.format("Two", 2)).encode()).facts

    assert (facts.title, facts.series, facts.season, facts.episode, facts.is_one) == ("One / Two", "Show", None, None, False)


def test_the_number_of_an_episode_is_not_the_number_of_its_show() -> None:
    said = EPISODE.format("One", 1).replace(
        "</title>", '</title><uniqueid type="tmdb">63056</uniqueid><uniqueid type="imdb">tt1480055</uniqueid>'
    )

    assert nfo.read(said.encode()).facts.ids == {"imdb": "tt1480055"}


@pytest.mark.parametrize(
    "content",
    [
        b'<!DOCTYPE m [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><movie><title>&b;</title></movie>',
        b'<!DoCtYpE m SYSTEM "file:///etc/passwd"><movie/>',
        '<!DOCTYPE m [<!ENTITY x SYSTEM "file:///etc/passwd">]><movie><title>&x;</title></movie>'.encode("utf-16"),
        b"<movie><title>half",
        b"<movie><title>a & b</title></movie>",
        b"<movie>" * 100_000,
        b"<movie><title>&undefined;</title></movie>",
    ],
)
def test_an_nfo_with_a_document_type_or_broken_xml_is_one_warning(content: bytes, film: Path, tmp_path: Path) -> None:
    film.with_suffix(".nfo").write_bytes(content)

    said, warnings = read(film, tmp_path)

    assert said == ()
    assert len(warnings) == 1
    assert warnings[0].startswith("film.nfo: ")
    assert "etc/passwd" not in warnings[0]


def test_what_is_whole_of_a_broken_nfo_is_taken() -> None:
    reading = nfo.read((EPISODE.format("One", 1) + EPISODE.format("A & B", 2)).encode())

    assert (reading.facts.title, reading.ignored) == ("One", ("1 of 2 parts are no valid XML",))


INFO = {
    "id": "abc",
    "title": "A talk",
    "description": "About\nfilms",
    "upload_date": "20240503",
    "view_count": 12,
    "like_count": "3",
    "categories": ["Education"],
    "tags": ["talk", "Talk", "film"],
    "channel": "The channel",
    "artist": "Anna Lind, Ben",
    "duration": 61.5,
    "webpage_url": "https://example.org/watch?v=abc",
    "url": "https://cdn.example.org/v?signature=SECRET",
    "http_headers": {"Cookie": "session=SECRET"},
    "cookies": "session=SECRET",
    "formats": [{"url": "https://cdn.example.org/v?sig=SECRET"}],
    "thumbnail": "https://cdn.example.org/t?sig=SECRET",
    "automatic_captions": {"en": [{"url": "https://example.org/SECRET"}]},
    "_type": "video",
}


def test_an_info_json_tells_what_it_knows_and_keeps_its_secrets() -> None:
    facts = info_json.read(json.dumps(INFO).encode()).facts

    assert (facts.title, facts.description, facts.release_date) == ("A talk", "About\nfilms", "2024-05-03")
    assert (facts.views, facts.likes, facts.studio, facts.duration_s) == (12, 3, "The channel", 61.5)
    assert (facts.categories, facts.tags) == (("Education",), ("talk", "film"))
    assert [(one.name, one.role) for one in facts.people] == [("Anna Lind", "artist"), ("Ben", "artist")]
    assert "SECRET" not in repr(facts)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe{", b'{"_type": "playlist"}', b"[" * 200_000, b'{"a":' * 200_000]
)
def test_a_broken_info_json_is_one_warning(content: bytes, film: Path, tmp_path: Path) -> None:
    film.with_name("film.info.json").write_bytes(content)

    said, warnings = read(film, tmp_path)

    assert (said, len(warnings)) == ((), 1)


OWN = {
    "title": "My film",
    "description": "Of mine",
    "release_date": "2024-05-03",
    "views": 1,
    "likes": 0,
    "categories": ["a"],
    "people": ["Me", {"name": "You", "role": "presenter", "image": "https://example.org/y.jpg"}],
    "tags": ["x"],
    "studio": "We",
    "series": "S",
    "ids": {"imdb": "tt0133093"},
}


def test_our_own_sidecar_is_json_or_toml() -> None:
    toml = 'title = "My film"\nrelease_date = 2024-05-03\npeople = ["Me", { name = "You", role = "presenter" }]\ntags = ["x"]\n'
    first, second = own.read_json(json.dumps(OWN).encode()), own.read_toml(toml.encode())

    assert (first.ignored, second.ignored) == ((), ())
    assert (first.facts.likes, first.facts.ids) == (0, {"imdb": "tt0133093"})
    assert [(one.name, one.role) for one in first.facts.people] == [("Me", None), ("You", "presenter")]
    assert (second.facts.release_date, second.facts.tags) == ("2024-05-03", ("x",))


def test_an_unknown_key_is_a_warning_that_names_the_nearest_and_the_rest_is_taken(film: Path, tmp_path: Path) -> None:
    film.with_suffix(".toml").write_text('titel = "x"\nstudio = "We"\nviews = "many"\n')

    ((said,), warnings) = read(film, tmp_path)

    assert said.facts.studio == "We"
    assert warnings == (
        "film.toml: views: cannot be read; see docs/enrichment.md; titel: unknown key; the nearest known one is title",
    )


def test_the_guide_names_every_key_of_our_own_sidecars() -> None:
    text = (ROOT / "docs/enrichment.md").read_text("utf-8")

    assert [key for key in own.KEYS if f"| `{key}` | {Facts.model_fields[key].description} |" not in text] == []


def test_all_sidecars_of_a_video_are_read_the_best_first(film: Path, tmp_path: Path) -> None:
    film.with_suffix(".nfo").write_text(MOVIE)
    film.with_name("film.info.json").write_text(json.dumps(INFO))
    film.with_suffix(".json").write_text('{"title": "ours", "tags": ["a"]}')
    film.with_suffix(".toml").write_text('title = "second"\nstudio = "We"\ntags = ["b"]\n')

    said, warnings = sidecars.read(video(film, tmp_path), tmp_path, {"TITLE": "Lavf", "genre": "Drama; Crime"})

    assert [one.where for one in said] == ["sidecar:dailies", "sidecar:nfo", "sidecar:info.json", "embedded"]
    assert (said[0].facts.title, said[0].facts.studio, said[0].facts.tags) == ("ours", "We", ("a", "b"))
    assert [one.is_sure for one in said] == [True, True, True, False]
    assert warnings == ()


def test_tags_in_the_file_have_many_spellings() -> None:
    facts = embedded.read(
        {"TITLE": "T", "Comment": "c", "date": "2024-05-03", "genre": "Drama/Crime", "ARTIST": "A; B", "show": "S"}
    )

    assert (facts.title, facts.description, facts.release_date, facts.year) == ("T", "c", "2024-05-03", 2024)
    assert (facts.categories, facts.series, [one.name for one in facts.people]) == (("Drama", "Crime"), "S", ["A", "B"])


def test_a_sidecar_that_is_too_large_no_file_or_not_readable_is_one_warning(film: Path, tmp_path: Path) -> None:
    film.with_suffix(".nfo").write_bytes(b" " * 1_000_001)
    film.with_suffix(".json").mkdir()
    os.mkfifo(film.with_suffix(".toml"))

    said, warnings = read(film, tmp_path)

    assert said == ()
    assert [warning.partition(":")[0] for warning in warnings] == ["film.json", "film.toml", "film.nfo"]


def test_names_at_the_limit_of_the_file_system_have_no_sidecars(tmp_path: Path) -> None:
    assert read(tmp_path / ("x" * 251 + ".mp4"), tmp_path) == ((), ())


def test_the_queued_file_is_no_sidecar_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "film.json"
    path.write_text("no json at all")

    assert read(path, tmp_path) == ((), ())


def test_a_video_from_elsewhere_has_no_sidecars(film: Path, tmp_path: Path) -> None:
    film.with_suffix(".json").write_text('{"title": "ours"}')
    one = video(film, tmp_path)

    assert sidecars.read(one.with_(source=one.source.model_copy(update={"kind": "http"})), tmp_path, {}) == ((), ())


@pytest.mark.parametrize("title", ["a\x00b\x1b[31m", "\ud800x", "  a \n b  ", "\u202eabc", "x" * 10_000])
def test_text_from_outside_is_one_clean_line_that_utf8_can_hold(title: str) -> None:
    cleaned = own.read_json(json.dumps({"title": title}).encode()).facts.title or ""

    cleaned.encode()
    assert cleaned.isprintable()
    assert 0 < len(cleaned) <= 500


@pytest.mark.parametrize(
    "image", ["file:///etc/passwd", "/home/me/k.jpg", "https://user:pass@example.org/x.jpg", "javascript:alert(1)", 3]
)
def test_a_picture_is_a_web_address_without_credentials(image: object) -> None:
    (person,) = Facts(people=[{"name": "A", "image": image}]).people

    assert person.image is None


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_no_bytes_break_a_reader(content: bytes) -> None:
    for reader in (nfo.read, info_json.read, own.read_json, own.read_toml):
        with suppress(sidecars.Unreadable):
            reader(content).facts.model_dump_json()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*own.KEYS, *INFO, "cast", "artists", "genre"]), JSON, max_size=6))
@settings(deadline=None)
def test_no_value_of_a_known_key_breaks_a_reader(said: dict[str, object]) -> None:
    content = json.dumps(said).encode()

    for reader in (info_json.read, own.read_json):
        with suppress(sidecars.Unreadable):
            reader(content).facts.model_dump_json()
