"""`dailies add` with links and lists: what is queued, what is said, what is refused."""

import json
import sys
import time
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from dailies import links
from dailies.clock import Deadline, SystemClock
from dailies.intake import Item, Wishes, add_all
from support import ClipMaker, Command, Shelf

A, B = "https://example.org/films/a.mp4", "https://example.org/films/b.mp4"


def listed(folder: Path, text: str, name: str = "films.txt") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_a_link_is_queued_once_however_it_is_written_and_named_the_next_time(dailies: Command, shelf: Shelf) -> None:
    first = dailies("add", A, "--tag", "x")

    again = dailies("add", "http://www.example.org:80/films/a.mp4/?from=mail#t=3")

    assert (first.code, again.code, first.out) == (0, 0, again.out)
    (record,) = shelf.records().values()
    assert (record["source"]["kind"], record["source"]["uri"], record["metadata"]["tags"]) == ("http", A, ["x"])
    assert again.err.startswith(
        f"dailies: a.mp4: is in the library already, queued: {first.out.strip()}; its link differs behind the ?"
    )


def test_keep_query_tells_links_apart_by_it(dailies: Command, shelf: Shelf) -> None:
    for query in ("v=1", "v=2", "v=2"):
        assert dailies("add", "--keep-query", f"https://example.org/watch.m3u8?{query}").code == 0

    assert len(list(shelf.open().database.videos())) == 2


def test_a_secret_link_is_in_the_environment_only(dailies: Command, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", "https://user:hunter2hunter2@example.org/a.mp4?signature=abcdefghijkl")

    done = dailies("add", "--secret-env", "MY_SECRET")

    (record,) = shelf.records().values()
    assert (record["source"]["uri"], record["source"]["secret_env"]) == ("https://example.org", "MY_SECRET")
    assert not any(secret in done.out + done.err + json.dumps(record) for secret in ("hunter2", "abcdefghijkl", "a.mp4"))


def test_a_secret_link_in_a_variable_that_nobody_masks_is_refused(dailies: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_LINK", "https://example.org/private/9f8e7d6c/a.mp4")

    done = dailies("add", "--secret-env", "MY_LINK")

    assert (done.code, "call it MY_LINK_SECRET" in done.err) == (2, True)


@pytest.mark.parametrize(
    "link", ["file:///etc/passwd", "ftp://example.org/a.mp4", "https://", "https://exa mple.org/a", "https://[::1"]
)
def test_what_is_no_link_that_is_fetched_is_one_line(dailies: Command, shelf: Shelf, link: str) -> None:
    done = dailies("add", A, link)

    assert (done.code, len(done.err.splitlines()), len(shelf.records())) == (2, 1, 1)


def test_a_list_queues_what_it_names_as_it_says(dailies: Command, shelf: Shelf) -> None:
    path = listed(
        shelf.root, f"url,title,tags,code,description,release_date,hosts\n{A},Film A,x;y,aa,About,2026-01-31,published\n{B}\n"
    )

    done = dailies("add", "--from", path, "--tag", "all", "--json")

    records = shelf.records()
    assert [set(one) for one in done.json()] == [{"id", "code", "state", "new"}] * 2
    assert (done.code, done.err) == (0, "")
    record, other = records["a.mp4"], records["b.mp4"]
    assert (record["title"], record["code"], record["hosts"]) == ("Film A", "aa", ["published"])
    assert (record["metadata"]["description"], record["metadata"]["release_date"]) == ("About", "2026-01-31")
    assert (record["metadata"]["tags"], other["metadata"]["tags"], other["title"]) == (["all", "x", "y"], ["all"], "b")
    assert set(record["edited_at"]) == {"title", "tags", "code", "description", "release_date"}


def test_paths_of_a_list_are_relative_to_it_and_folders_are_searched(
    dailies: Command, tmp_path: Path, make_clip: ClipMaker
) -> None:
    clip = make_clip(seconds=0.2)
    for place in ("disk/a.mp4", "disk/more/b.mp4"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(clip.read_bytes())
    path = listed(tmp_path / "disk", f"a.mp4\nmore\n{A}\nnone.mp4\n")

    done = dailies("add", "--from", path)

    assert (done.code, len(done.out.splitlines())) == (2, 3)
    assert done.err == f"dailies: {path}:4: {tmp_path}/disk/none.mp4: no such file or folder; check the path\n"


def test_each_bad_entry_is_a_line_and_the_others_are_queued(dailies: Command, shelf: Shelf) -> None:
    rows = (A, "file:///etc/passwd", "ftp://example.org/x.mp4", "https://", "x.mp4;;;nowhere", B)
    path = listed(shelf.root, "url;tags;code;hosts\n" + "\n".join(rows) + "\n", "films.csv")

    done = dailies("add", "--from", path)

    assert (done.code, len(shelf.records())) == (2, 2)
    assert sorted(line.split(": ")[1] for line in done.err.splitlines()) == [f"{path}:{number}" for number in (3, 4, 5, 6)]
    assert "no section [hosts.nowhere]" in done.err


def test_what_a_list_names_that_is_known_is_told_with_its_line(dailies: Command, shelf: Shelf) -> None:
    video = dailies("add", A).out.strip()
    path = listed(shelf.root, f"# films\n{B}\n{A}\n{B}\n")

    done = dailies("add", "--from", path)

    known = [line for line in done.err.splitlines() if "already" in line]
    assert (done.code, len(done.out.splitlines())) == (0, 3)
    assert [line.split(": ")[1] for line in known] == [f"{path}:3", f"{path}:4"]
    assert known[0].endswith(f"is in the library already, queued: {video}")


def test_several_lists_and_standard_input_are_taken_together(
    dailies: Command, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(f"{A}\nfile:x\n".encode())))
    path = listed(shelf.root, json.dumps([B]), "list")

    done = dailies("add", "--from", "-", "--from", path, "https://example.org/c.mp4")

    assert (done.code, len(shelf.records())) == (2, 3)
    assert done.err == "dailies: standard input:2: file: links are not taken; write the path itself\n"


def test_feeds_of_opml_are_told_and_not_asked(dailies: Command, shelf: Shelf) -> None:
    text = f'<opml><body><outline xmlUrl="https://example.org/feed?key=abc"/><outline url="{A}"/></body></opml>'

    done = dailies("add", "--from", listed(shelf.root, text, "feeds.opml"))

    assert (done.code, len(shelf.records())) == (0, 1)
    assert "https://example.org/feed?… is a feed, which is not read now; put it into dailies.toml as [listings.NAME]" in done.err


def test_a_feed_that_somebody_else_wrote_names_no_file_of_this_machine(dailies: Command, shelf: Shelf, clip: Path) -> None:
    text = f'<rss><channel><item><enclosure url="{clip}"/></item></channel></rss>'

    done = dailies("add", "--from", listed(shelf.root, text, "feed.xml"))

    assert (done.code, shelf.records()) == (2, {})
    assert "its file has no link of https or http" in done.err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "names nothing"),
        (("--from", "none.txt"), "none.txt: cannot be read: No such file"),
        (("--from", "list.txt", "--title", "x"), "--title and --code are about one"),
        (("--from", "list.txt", "--sha256", "0" * 64), "--sha256 are about one"),
        ((A, "--sha256", "abc"), "must be 64 hexadecimal digits"),
    ],
)
def test_what_makes_no_sense_is_refused(dailies: Command, shelf: Shelf, arguments: tuple[str, ...], why: str) -> None:
    listed(shelf.root, f"{A}\n", "list.txt")

    done = dailies("add", *arguments)

    assert (done.code, why in done.err, shelf.records()) == (2, True, {})


def test_a_link_that_looks_like_a_key_is_told(dailies: Command) -> None:
    assert "its link holds what looks like a key" in dailies("add", f"{A}?token=abcdefghijkl").err


def test_many_are_queued_side_by_side_and_in_their_order(shelf: Shelf) -> None:
    library = shelf.open()
    urls = [f"https://example.org/{number}.mp4" for number in range(1000)]
    library.database.index()
    began = time.process_time()

    taken = add_all([Item(url, Wishes()) for url in (*urls, urls[0])], library.desk(Deadline.after(SystemClock(), 600)))

    assert [one.video.source.uri for one in taken.added] == [*urls, urls[0]]
    assert [one.is_new for one in taken.added] == [True] * 1000 + [False]
    assert library.database.resolve("7") == taken.added[7].video.id  # the index knows them too
    assert {video.source.identity for video in library.database.videos()} == {links.identity(url) for url in urls}
    assert time.process_time() - began < 10


def test_a_lone_surrogate_is_refused_wherever_it_comes_from(dailies: Command, shelf: Shelf) -> None:
    path = listed(shelf.root, '{"path": "\\ud800.mp4"}\n{"url": "https://h.example/\\udcff.mp4"}\n', "films.json")

    done = dailies("add", "https://h.example/\udcff.mp4", "--from", path)

    assert (done.code, len(done.err.splitlines()), shelf.records()) == (2, 3, {})


def test_what_is_said_in_bytes_that_are_no_text_is_shown_as_such(dailies: Command, shelf: Shelf) -> None:
    assert dailies("add", A, "--title", "x\udcff", "--tag", "y\udcff").code == 0

    (record,) = shelf.records().values()
    assert (record["title"][0], record["metadata"]["tags"][0][0]) == ("x", "y")


def test_another_query_of_a_known_link_is_told(dailies: Command) -> None:
    dailies("add", f"{A}?v=1")

    assert "with --keep-query it is another video" in dailies("add", f"{A}?v=2").err
    assert "--keep-query" not in dailies("add", f"{A}?v=1").err


@pytest.mark.parametrize("option", [["--keep-query"], ["--secret-env", "MY_SECRET"]])
def test_how_a_link_is_told_apart_is_nothing_that_is_said_of_it(
    dailies: Command, option: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SECRET", A)
    link = [] if option[1:] else [A]
    dailies("add", *option, *link)

    assert "not applied" not in dailies("add", *option, *link).err
    assert "not applied" in dailies("add", *option, *link, "--tag", "x").err


def test_what_was_removed_is_said_to_stay_removed(dailies: Command, shelf: Shelf, make_clip: ClipMaker) -> None:
    path = shelf.put(make_clip(seconds=0.2))
    for name, remedy in ((A, "--keep-query"), (path, "a copy by another name")):
        video = dailies("add", name).out.strip()
        dailies("remove", video)

        done = dailies("add", name)

        assert f"was removed from the library and stays removed: {video}; " in done.err
        assert remedy in done.err
        assert "queued" not in done.err


@pytest.mark.parametrize(
    ("arguments", "key"),
    [(["--from", "https://example.org/list.txt"], "feed"), (["--from", "s3://films/x"], "folder"), (["s3://films/x"], "folder")],
)
def test_what_only_runs_look_at_is_told_where_it_belongs(dailies: Command, arguments: list[str], key: str) -> None:
    done = dailies("add", *arguments)

    assert (done.code, f'[listings.NAME] {key} = "…"' in done.err) == (2, True)
