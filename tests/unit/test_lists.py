"""Lists of things to queue: each kind told by its content, each bad entry told by its line, hostile ones refused at once."""

import json
import time
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dailies import feeds, lists
from dailies.errors import ConfigError
from dailies.lists import Entry, Parsed, parse

A, B = "https://example.org/a.mp4", "https://example.org/b.mp4"


def parsed(text: str | bytes, where: str = "list") -> Parsed:
    return parse(text.encode() if isinstance(text, str) else text, where)


def names(text: str | bytes, where: str = "list") -> list[str]:
    return [entry.name for entry in parsed(text, where).entries]


def refused(text: str | bytes, where: str = "list") -> str:
    with pytest.raises(ConfigError) as failure:
        parsed(text, where)
    assert "\n" not in str(failure.value)
    return str(failure.value)


def rss(*items: str, channel: str = "") -> str:
    spaces = 'xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd" xmlns:media="http://search.yahoo.com/mrss/"'
    return f'<?xml version="1.0"?>\n<rss version="2.0" {spaces}><channel>{channel}{"".join(items)}</channel></rss>'


def item(url: str = A, more: str = "", kind: str = "video/mp4") -> str:
    return f'\n<item><enclosure url="{url}" length="5" type="{kind}"/>{more}</item>'


# Text


def test_a_text_has_a_name_a_line_and_knows_where_each_stands() -> None:
    assert parsed(f"# films\n\n  {A}  \nfilms/a #1.mp4\n", "x.txt").entries == (
        Entry("x.txt:3", A),
        Entry("x.txt:4", "films/a #1.mp4"),
    )


@pytest.mark.parametrize("name", ["file:///etc/passwd", "FILE:a.mp4", "file://server/a.mp4"])
def test_file_links_are_refused_and_the_others_taken(name: str) -> None:
    found = parsed(f"{A}\n{name}\n{B}")

    assert found.refused == ("list:2: file: links are not taken; write the path itself",)
    assert len(found.entries) == 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_editors_write_are_read(encoding: str) -> None:
    assert names("Käse.mp4\r\nzwölf.mp4\r\n".encode(encoding)) == ["Käse.mp4", "zwölf.mp4"]


def test_another_encoding_says_in_which_line_and_what_to_do() -> None:
    assert refused("a.mp4\nKäse.mp4".encode("latin-1")) == "list:2: is not valid UTF-8; save the list as UTF-8"


def test_what_is_no_list_is_said_to_be_none() -> None:
    assert "is no text" in refused(b"\0\0\0\x20ftypisom")
    assert "add its link" in refused("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\na.ts\n")
    assert "is XML of another kind (svg)" in refused("<svg/>")


def test_an_empty_list_is_a_list() -> None:
    assert parsed("") == parsed("\n\n# nothing\n") == Parsed()


# CSV


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("where", ["films.csv", "films.txt"])
def test_a_table_is_told_by_its_header_whatever_stands_between(delimiter: str, where: str) -> None:
    rows = [["Title", "URL", "tags", "release_date"], ["A film", A, "x" if delimiter == ";" else "x;y", "2026-01-31"]]
    text = "\n".join(delimiter.join(row) for row in rows)

    (entry,) = parsed(text, where).entries

    tags = ("x",) if delimiter == ";" else ("x", "y")
    assert entry == Entry(f"{where}:2", A, title="A film", tags=tags, release_date="2026-01-31")


def test_every_column_that_is_known_is_read_and_others_are_told_once() -> None:
    text = f'path,code,description,hosts,sha256,size,owner\n{A},c1,"two\nlines",a;b,{"a" * 64},5,me\n{B},,,,,,\n'

    found = parsed(text)

    assert found.entries[0] == Entry("list:2", A, code="c1", description="two\nlines", hosts=("a", "b"), sha256="a" * 64)
    assert found.entries[1] == Entry("list:4", B)
    assert found.notes == ("list: columns that mean nothing here: size, owner",)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (",T", "names nothing to queue; give a url, link or path"),
        (f"{A},T,{'g' * 64}", "sha256: must be 64 hexadecimal digits; copy it as sha256sum prints it"),
        (f"{A},T,,31.1.2026", "release_date: '31.1.2026' is no date; write it like 2026-01-31"),
        (f"{A},T,,,more", "has 5 cells under 4 columns; put texts that hold ',' in quotes"),
    ],
)
def test_a_bad_row_is_one_line_and_the_others_are_taken(row: str, why: str) -> None:
    found = parsed(f"url,title,sha256,release_date\n{A}\n{row}\n{B},B\n", "x.csv")

    assert found.refused == (f"x.csv:3: {why}",)
    assert [entry.where for entry in found.entries] == ["x.csv:2", "x.csv:4"]


def test_broken_quotes_are_told_with_their_line() -> None:
    found = parsed(f'url,title\n{A},x\n{B},"y" z\n', "x.csv")

    assert (len(found.entries), len(found.refused)) == (1, 1)
    assert found.refused[0].startswith("x.csv:3: cannot be read from here on")


def test_a_csv_without_a_column_to_queue_from_says_so() -> None:
    assert refused("title,size\na,5\n", "x.csv") == "x.csv: its first line names no column url, link or path; write one there"


# JSON


def test_json_may_hold_names_and_objects() -> None:
    text = json.dumps([A, {"link": B, "Title": "B", "tags": ["x", "y"], "hosts": "a, b"}], indent=1)

    assert parsed(text).entries == (
        Entry("list:2", A),
        Entry("list:3", B, title="B", tags=("x", "y"), hosts=("a", "b")),
    )


def test_json_lines_are_read_and_a_bad_one_is_told() -> None:
    found = parsed(f'{{"url": "{A}"}}\n{{"url": oops}}\n{{"url": "{B}"}}\n', "x.jsonl")

    assert [entry.where for entry in found.entries] == ["x.jsonl:1", "x.jsonl:3"]
    assert found.refused == ("x.jsonl:2: is no valid JSON; correct this line",)


@pytest.mark.parametrize("text", [f'["{A}", nope]', f'["{A}"', f'["{A}"] x', f'["{A}", {"[" * 100_000}'])
def test_json_that_breaks_off_keeps_what_came_before(text: str) -> None:
    found = parsed(text)

    assert ([entry.name for entry in found.entries], len(found.refused)) == ([A], 1)
    assert found.refused[0].startswith("list:1: ")


def test_a_text_that_begins_with_a_bracket_is_a_text() -> None:
    assert names("[group] film.mp4\nother.mp4\n") == ["[group] film.mp4", "other.mp4"]


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(), st.text(), st.dictionaries(st.text(), st.text()))))
def test_any_json_list_has_an_entry_or_a_line_for_each(content: list[Any]) -> None:
    found = parsed(json.dumps(["a.mp4", *content]))

    assert len(found.entries) + len(found.refused) == len(content) + 1


def test_texts_of_json_a_line_are_read_and_a_quoted_header_is_a_table() -> None:
    assert names(f'"{A}"\n"{B}"\n') == [A, B]
    assert names(f'"url"\n"{A}"\n') == [A]
    assert names('"a" film.mp4\n') == ['"a" film.mp4']


@pytest.mark.parametrize("text", ['{"path": "\\ud800.mp4"}', '["\\udcff.mp4"]'])
def test_a_lone_surrogate_is_no_name(text: str) -> None:
    assert parsed(text).refused == ("list:1: holds a character that no path has; correct it",)


# Feeds


@pytest.mark.parametrize("before", ["\n ", "\ufeff\n", "\ufeff"])
def test_blanks_before_a_feed_do_not_matter(before: str) -> None:
    assert names(before + rss(item())) == [A]


def test_the_namespace_of_older_feeds_is_known() -> None:
    assert names(rss(item()).replace("<rss ", '<rss xmlns="http://backend.userland.com/rss2" ')) == [A]


@pytest.mark.parametrize("text", ["<!DOCTYPE html><html>", "\n<HTML lang='en'>", '<?xml version="1.0"?><!doctype html>'])
def test_a_web_page_is_said_to_be_one(text: str) -> None:
    assert refused(text) == "list: is a web page; give the link of a feed or a list"


def test_a_podcast_gives_what_it_says_of_each_file() -> None:
    about = (
        "<title>One &amp;amp; two</title><description>&lt;p&gt;First.&lt;/p&gt;&lt;p&gt;More &amp;amp; more&lt;/p&gt;</description>"
        "<pubDate>Sat, 31 Jan 2026 23:30:00 -0800</pubDate><category>News</category><category>Art &amp; life</category>"
        "<itunes:keywords>talk, news</itunes:keywords><guid>abc</guid>"
    )

    (entry,) = parsed(rss(item(A, about)), "feed.xml").entries

    tags = ("News", "Art & life", "talk")
    known = Entry("feed.xml:3", A, title="One & two", tags=tags, release_date="2026-02-01", is_of_feed=True)
    assert entry == replace(known, description="First.\nMore & more")


def test_atom_and_media_rss_are_read() -> None:
    atom = (
        '<feed xmlns="http://www.w3.org/2005/Atom"><entry><title type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml">A <b>b</b>'
        f'</div></title><link rel="alternate" href="https://example.org/page"/><link rel="enclosure" type="video/mp4" href="{A}"/>'
        '<category term="x"/><published>2026-01-31T10:00:00Z</published></entry></feed>'
    )
    media = f'<item><media:group><media:content url="{B}" medium="video"/></media:group><media:title>M</media:title></item>'

    (first,), (second,) = parsed(atom).entries, parsed(rss(media)).entries

    assert (first.name, first.title, first.tags, first.release_date) == (A, "A b", ("x",), "2026-01-31")
    assert (second.name, second.title) == (B, "M")


def test_the_film_is_taken_among_several_files_and_pages_are_left_out() -> None:
    both = f'<item><enclosure url="https://example.org/a.jpg" type="image/jpeg"/><enclosure url="{A}" type="video/mp4"/></item>'

    found = parsed(rss(both, item("https://example.org/a.pdf", kind="application/pdf"), "<item><title>x</title></item>"))

    assert [entry.name for entry in found.entries] == [A]
    assert found.notes == ("list: 2 entries have no media file; they were left out",)


def test_opml_names_feeds_and_links_of_media() -> None:
    text = (
        '<opml version="2.0"><body><outline text="Talks"><outline type="rss" text="F" xmlUrl="https://example.org/feed"/>'
        f'<outline type="link" text="A" url="{A}"/></outline></body></opml>'
    )

    found = parsed(text)

    assert found.feeds == ("https://example.org/feed",)
    assert [(entry.name, entry.title) for entry in found.entries] == [(A, "A")]


LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    "head",
    [LAUGHS, '<!DOCTYPE rss SYSTEM "file:///etc/passwd">', '<!DOCTYPE rss [<!ENTITY x SYSTEM "file:///etc/passwd">]>'],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_document_type_is_refused_before_anything_of_it_is_read(head: str, encoding: str) -> None:
    text = f'<?xml version="1.0"?>{head}<rss><channel><item><title>&a;&b;&x;</title></item></channel></rss>'

    assert "has a document type, which is refused" in refused(text.encode(encoding))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<rss><channel><item>", "is no valid XML"),
        ("<rss><channel>&nbsp;</channel></rss>", "is no valid XML: undefined entity"),
        ('<?xml version="1.0" encoding="klingon"?><rss/>', "is no valid XML"),
        (f"<rss>{'<a>' * 200}", "is nested more than 100 deep"),
    ],
)
def test_what_is_no_feed_is_one_line(text: str, why: str) -> None:
    assert why in refused(text)


def test_a_feed_that_never_ends_takes_neither_memory_nor_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "_MOST_ELEMENTS", 50_000)
    texts, elements = rss(item(A, f"<title>{'x' * 3_000_000}</title>")), rss(item(A, "<a/>" * 60_000))
    tracemalloc.start()

    (entry,) = parsed(texts).entries
    assert "has more than 50000 elements" in refused(elements)

    assert len(entry.title or "") <= 500
    assert tracemalloc.get_traced_memory()[1] < 12_000_000
    tracemalloc.stop()


def test_markup_goes_and_what_only_looks_like_it_stays() -> None:
    said = "a < b<br/>c<!-- x --> <style>p {}</style><i class='x'>d</i> &amp; <script>1 < 2</script>e"

    assert feeds.unmarked(said) == "a < b\nc d & e"


def test_texts_that_open_and_never_close_take_no_time() -> None:
    began = time.process_time()

    for opened in ("<!--", "<script ", "<a ", "&", "<"):
        feeds.unmarked(opened * 100_000)

    assert time.process_time() - began < 5


def test_limits_of_bytes_and_entries_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "are read: split it" in refused(b"x" * (lists.MOST_BYTES + 1))
    monkeypatch.setattr(lists, "MOST_ENTRIES", 2)
    for text in (f"{A}\n{A}\n{A}\n", rss(item(), item(), item()), json.dumps([A] * 3)):
        found = parsed(text)
        assert len(found.entries) == 2
        assert "more than 2 entries" in found.refused[-1]


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_entries_or_one_line(content: bytes) -> None:
    for start in (b"", b"<rss>", b'["', b"url,title\n"):
        said: tuple[str, ...] = ()
        try:
            said = parse(start + content, "list").refused
        except ConfigError as error:
            said = (str(error),)
        assert all(len(line.splitlines()) == 1 for line in said)
