"""Listing sources against a real server: what is queued, what is asked again and when, what a run remembers and tells."""

import json
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from dailies import config, derived, intake, listings, pipeline, planning
from dailies.clock import Deadline, parse_timestamp
from dailies.config import Listing
from dailies.errors import ConfigError, Exit, Interrupted
from dailies.library import Library
from dailies.listings import Listings, Taken
from dailies.pipeline import Wanted
from dailies.progress import LogWatcher
from fileserver import FileServer
from loopback import Call, Loopback, Reply, silent
from support import ClipMaker, FakeClock, Shelf

CHANNEL = '<rss version="2.0"><channel>{}</channel></rss>'


def feed(*urls: str, more: str = "") -> bytes:
    items = (f'<item><title>Film {url}</title><enclosure url="{url}" type="video/mp4"/>{more}</item>' for url in urls)
    return CHANNEL.format("".join(items)).encode()


class FeedServer(Loopback):
    """Serves one feed at any path, with an ETag and a date; `status` says what it answers instead."""

    def __init__(self) -> None:
        super().__init__()
        self.content = feed()
        self.status: list[Reply] = []  # of the next calls
        self.answers: list[int] = []

    def reply(self, call: Call) -> Reply:
        tag = f'"{hash(self.content):x}"'
        headers = {"ETag": tag, "Last-Modified": "Fri, 02 Jan 2026 03:04:05 GMT", "Content-Type": "application/rss+xml"}
        made = self.status.pop(0) if self.status else None
        if made is None:
            made = Reply(304, b"", headers) if call.headers.get("if-none-match") == tag else Reply(200, self.content, headers)
        self.answers.append(made.status)
        return made


@pytest.fixture
def server() -> Iterator[FeedServer]:
    with FeedServer() as running:
        yield running


@dataclass
class Desk:
    """A library whose clock stands still, and what one look at its sources comes to."""

    library: Library
    clock: FakeClock

    @classmethod
    def of(cls, shelf: Shelf, clock: FakeClock, **sections: Any) -> "Desk":
        settings = shelf.open().settings
        listings = {name: Listing.model_validate(section) for name, section in sections.items()}
        sources = config.Sources(allow_private=True)
        return cls(Library(shelf.root, settings.model_copy(update={"listings": listings, "sources": sources}), clock), clock)

    @property
    def listings(self) -> Listings:
        return replace(self.library.listings)  # nothing is remembered but what is on disk

    def look(self, *, is_new_run: bool = False) -> Taken:
        found = self.listings.ask({}, self.at(3600), renews=is_new_run)
        return self.listings.take(found, self.at(3600))

    def at(self, seconds: float, stop: threading.Event | None = None) -> intake.Desk:
        return self.library.desk(Deadline.after(self.clock, seconds, stop))

    def sources(self) -> set[str]:
        return {video.source.uri for video in self.library.database.videos()}


def test_what_a_feed_names_is_queued_once_with_what_it_says(shelf: Shelf, clock: FakeClock, server: FeedServer) -> None:
    more = "<description>About &lt;b&gt;it&lt;/b&gt;</description><pubDate>Sat, 31 Jan 2026 08:00:00 GMT</pubDate>"
    server.content = feed("https://example.org/films/a.mp4", more=f"{more}<category>talk</category>")
    desk = Desk.of(shelf, clock, news={"feed": f"{server.url}/feed", "tags": ["mine"], "hosts": ["published"]})

    first, second = desk.look(), desk.look()

    (video,) = desk.library.database.videos()
    assert (video.title, video.hosts, video.edited_at) == ("Film https://example.org/films/a.mp4", ("published",), {})
    assert (video.metadata.description, video.metadata.release_date, video.metadata.tags) == (
        "About it",
        "2026-01-31",
        ("mine", "talk"),
    )
    assert video.metadata.provenance["description"] == "listing:news"
    assert (first.reports["news"].found, first.reports["news"].added, second.reports["news"].added) == (1, 1, 0)
    assert (first.problems, second.problems, server.answers) == ((), (), [200, 304])


def test_links_beside_the_feed_and_lists_of_every_kind_are_followed(shelf: Shelf, clock: FakeClock, server: FeedServer) -> None:
    desk = Desk.of(shelf, clock, news={"feed": f"{server.url}/lists/list.any"})
    for content in (
        feed("../b.mp4"),
        b"c.mp4\n",
        b"url,title\nd.mp4,D\n",
        b'["e.mp4"]',
        b'<opml><body><outline url="f.mp4"/></body></opml>',
    ):
        server.content = content
        assert desk.look().problems == ()

    assert {uri.removeprefix(server.url) for uri in desk.sources()} == {"/b.mp4", *(f"/lists/{name}.mp4" for name in "cdef")}


def test_the_newest_are_taken_and_a_list_that_is_cut_says_so(shelf: Shelf, clock: FakeClock, server: FeedServer) -> None:
    days = (3, 31, 15)
    server.content = CHANNEL.format(
        "".join(f'<item><enclosure url="/{day}.mp4"/><pubDate>{day} Jan 2026 08:00:00 GMT</pubDate></item>' for day in days)
    ).encode()
    desk = Desk.of(shelf, clock, news={"feed": f"{server.url}/feed", "limit": 2})
    assert desk.look().problems == ()
    assert desk.sources() == {f"{server.url}/31.mp4", f"{server.url}/15.mp4"}

    server.content = b"x.mp4\ny.mp4\nz.mp4\n"
    assert desk.look().problems == ("news: has 3 entries and the last 2 are looked at; see limit",)


def test_other_settings_ask_for_everything_again(shelf: Shelf, clock: FakeClock, server: FeedServer) -> None:
    server.content = feed(*(f"https://example.org/{name}.mp4" for name in "abc"))
    Desk.of(shelf, clock, news={"feed": f"{server.url}/feed", "limit": 1}).look()

    taken = Desk.of(shelf, clock, news={"feed": f"{server.url}/feed"}).look()

    assert (server.answers, taken.reports["news"].added) == ([200, 200], 2)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "/etc/passwd\0", "ftp://example.org/a.mp4", "data:video/mp4;base64,AAAA", "http://[::1"]
)
def test_a_feed_can_name_nothing_but_links(shelf: Shelf, clock: FakeClock, server: FeedServer, url: str) -> None:
    server.content = json.dumps([{"url": url}, "https://example.org/ok.mp4"]).encode()
    desk = Desk.of(shelf, clock, news={"feed": f"{server.url}/feed"})

    (problem,) = desk.look().problems

    assert problem.startswith("news:1: ")
    assert desk.sources() == {"https://example.org/ok.mp4"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'<!DOCTYPE x [<!ENTITY a "ha">]><rss>&a;</rss>', "document type, which is refused"),
        (b"<html><body>Sign in</body></html>", "is a web page"),
        (b"x" * 16_000_000, "sends more than 16 MB"),
    ],
)
def test_what_is_no_feed_is_a_failure_of_the_source_and_not_of_the_run(
    shelf: Shelf, clock: FakeClock, server: FeedServer, content: bytes, why: str
) -> None:
    server.content = content
    taken = Desk.of(shelf, clock, news={"feed": f"{server.url}/feed"}).look()

    assert (taken.reports["news"].failures, taken.reports["inbox"].failures) == (1, 0)
    assert why in (taken.reports["news"].error or "")
    assert [problem for problem in taken.problems if why in problem]


def test_private_addresses_are_refused_unless_allowed(shelf: Shelf, clock: FakeClock, server: FeedServer) -> None:
    desk = Desk.of(shelf, clock, news={"feed": f"{server.url}/feed"})
    settings = desk.library.settings.model_copy(update={"sources": config.Sources()})

    taken = replace(desk, library=Library(shelf.root, settings, clock)).look()

    assert "leads to this machine or its network" in (taken.reports["news"].error or "")
    assert server.answers == []


def test_failures_in_a_row_wait_as_the_schedule_says_and_one_success_resets(
    shelf: Shelf, clock: FakeClock, server: FeedServer
) -> None:
    server.status = [Reply(500)] * 9
    desk = Desk.of(shelf, clock, news={"feed": f"{server.url}/feed"})
    waits = []
    while server.status:
        before, began = len(server.answers), clock.elapsed
        while len(server.answers) == before:
            desk.look()
            clock.advance(5)
        waits.append(clock.elapsed - began - 5)

    assert waits == [0, 0, 0, 55, 55, 295, 295, 895, 895]  # each look is followed by 5 s
    clock.advance(900)
    report = desk.look().reports["news"]
    assert (report.failures, report.next_try_at, report.error, server.answers[-1]) == (0, None, None, 200)


def test_ten_failures_end_it_for_the_run_and_the_next_run_tries_once(shelf: Shelf, clock: FakeClock, server: FeedServer) -> None:
    server.status = [Reply(404)] * 11
    desk = Desk.of(shelf, clock, news={"feed": f"{server.url}/feed"})
    for _ in range(30):
        desk.look()
        clock.advance(900)
    assert len(server.answers) == 10

    renewed, later = desk.look(is_new_run=True), desk.look()
    assert (len(server.answers), renewed.reports["news"].failures) == (11, 11)
    assert (later.problems, later.reports["news"].next_try_at) == ((), None)
    assert desk.look(is_new_run=True).reports["news"].failures == 0


def test_a_server_that_wants_to_be_left_alone_longer_is(shelf: Shelf, clock: FakeClock, server: FeedServer) -> None:
    server.status = [Reply(429, b"", {"Retry-After": "120"})]
    desk = Desk.of(shelf, clock, news={"feed": f"{server.url}/feed"})

    report = desk.look().reports["news"]

    assert (parse_timestamp(str(report.next_try_at)) - clock.now()).total_seconds() == 120


def test_the_inbox_has_the_same_patience_and_does_not_stop_the_others(shelf: Shelf, clock: FakeClock, server: FeedServer) -> None:
    inbox = shelf.root / "media/inbox"
    shutil.rmtree(inbox)
    desk = Desk.of(shelf, clock, news={"feed": f"{server.url}/feed"})
    assert desk.look().reports["inbox"].failures == 0  # not there is empty
    inbox.write_bytes(b"a file in its place")

    failures = [desk.look().reports["inbox"].failures for _ in range(4)]

    assert failures == [1, 2, 3, 3]
    inbox.unlink()
    inbox.mkdir()
    clock.advance(60)
    assert (desk.look().reports["inbox"].failures, server.answers) == (0, [200, *[304] * 5])


def test_a_stop_ends_a_look_and_nothing_is_counted(shelf: Shelf, clock: FakeClock, server: FeedServer) -> None:
    desk = Desk.of(shelf, clock, news={"feed": f"{server.url}/feed"})
    stop = threading.Event()
    stop.set()

    with pytest.raises(Interrupted):
        desk.listings.ask({}, desk.at(60, stop))

    assert not (shelf.root / "work/listings.json").exists()


def test_a_feed_that_says_nothing_is_cut_and_the_others_are_read(
    shelf: Shelf, server: FeedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "LOOK_S", 0.5)
    server.content = feed("https://example.org/a.mp4")
    with silent() as url:
        desk = Desk.of(shelf, FakeClock(), slow={"feed": f"{url}/feed"}, news={"feed": f"{server.url}/feed"})
        real = replace(desk, library=Library(shelf.root, desk.library.settings))

        reports = replace(real, clock=real.library.clock).look().reports  # type: ignore[arg-type]

    assert (reports["news"].added, reports["slow"].failures) == (1, 1)
    assert "nothing came in" in str(reports["slow"].error)


def test_a_secret_feeds_own_path_comes_into_no_record(
    shelf: Shelf, clock: FakeClock, server: FeedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_FEED", f"{server.url}/abcdefghijklmnop/feed")
    server.content = feed("a.mp4", "https://example.org/b.mp4")
    desk = Desk.of(shelf, clock, news={"secret_env": "MY_FEED"})

    (problem,) = desk.look().problems

    assert "no link of https or http" in problem
    assert desk.sources() == {"https://example.org/b.mp4"}


def test_a_host_that_nobody_configured_ends_the_run_before_anything(shelf: Shelf, clock: FakeClock) -> None:
    desk = Desk.of(shelf, clock, news={"feed": "https://example.org/feed", "hosts": ["nowhere"]})

    with pytest.raises(ConfigError, match="no section"):
        planning.make(desk.library, "", limit=None, dry_run=False, force=False)


def test_what_was_not_queued_before_a_kill_is_asked_for_again(shelf: Shelf, clock: FakeClock, server: FeedServer) -> None:
    server.content = feed("https://example.org/a.mp4")
    desk = Desk.of(shelf, clock, news={"feed": f"{server.url}/feed"})
    desk.listings.ask({}, desk.at(60))  # and the machine is lost

    assert desk.look().reports["news"].added == 1


def section(shelf: Shelf, name: str, **values: str) -> None:
    """`[listings.NAME]` in dailies.toml, and links to this machine allowed."""
    shelf.set("sources", allow_private=True)
    with (shelf.root / "dailies.toml").open("a") as file:
        file.write(f"[listings.{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))


def run(desk: Desk, **wanted: Any) -> pipeline.Result:
    return pipeline.run(desk.library, Wanted(**wanted), LogWatcher(), threading.Event())


def test_a_failing_source_is_a_problem_in_the_report_and_the_next_run_begins_there(
    shelf: Shelf, clock: FakeClock, server: FeedServer
) -> None:
    server.status = [Reply(500)] * 3
    desk = Desk.of(shelf, clock, news={"feed": f"{server.url}/feed"})

    results = [run(desk) for _ in range(4)]

    assert {result.code for result in results} == {Exit.DONE}
    assert [result.report.listings["news"].failures for result in results] == [1, 2, 3, 3]
    assert ["HTTP 500" in "".join(result.report.problems) for result in results] == [True, True, True, False]
    assert results[-1].report.listings["news"].next_try_at == "2026-01-02T03:05:05Z"


def test_status_carries_the_state_to_a_machine_without_a_work_folder(shelf: Shelf, clock: FakeClock, server: FeedServer) -> None:
    server.status = [Reply(500)] * 3
    desk = Desk.of(shelf, clock, news={"feed": f"{server.url}/feed"})
    shelf.put(Path(os.devnull), "empty.mp4")  # so that there is something to commit
    for _ in range(3):
        report = run(desk).report
    derived.rebuild(desk.library.database, clock.now(), report)
    shutil.rmtree(shelf.root / "work")

    status = json.loads((shelf.root / "database/status.json").read_text())
    assert status["listings"]["news"] == report.listings["news"].model_dump(mode="json")
    assert run(desk).report.listings["news"].failures == 3
    clock.advance(60)
    assert run(desk).report.listings["news"].failures == 0


def test_a_plan_asks_nobody_and_starts_a_run_where_a_source_is_due(shelf: Shelf, clock: FakeClock, server: FeedServer) -> None:
    desk = Desk.of(shelf, clock, news={"feed": f"{server.url}/feed"})
    plan = planning.make(desk.library, "", limit=None, dry_run=False, force=False)
    assert (plan.should_run, plan.reason, server.answers) == (True, "1 listings to look at", [])

    server.status = [Reply(500)] * 3
    for _ in range(3):
        desk.look()
    plan = planning.make(desk.library, "", limit=None, dry_run=False, force=False)
    assert (plan.should_run, plan.reason) == (False, "nothing to do")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[listings.a]\nlimit = 3\n", "must have one of feed, folder and secret_env"),
        ('[listings.a]\nfeed = "https://a/b"\nfolder = "s3://a/b"\n', "must have one of feed, folder and secret_env"),
        ('[listings.a]\nfeed = "https://a/b"\nlimt = 3\n', "limt: means nothing to a feed"),
        ('[listings.a]\nfeed = "feed.xml"\n', "must be a link of https or http"),
        ('[listings.inbox]\nfeed = "https://a/b"\n', "inbox: is the name of the folder"),
    ],
)
def test_settings_that_say_nothing_are_refused(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=r"dailies\.toml: listings") as refused:
        config.parse(text, "dailies.toml")
    assert why in str(refused.value)


def test_a_typo_in_a_section_by_name_is_told_with_the_nearest_key() -> None:
    with pytest.raises(ConfigError, match="authorisation_env: unknown key; the nearest known one is authorization_env"):
        config.parse('[sources.sites."a.b"]\nauthorisation_env = "X"\n', "dailies.toml")


def test_a_secret_link_stands_nowhere(shelf: Shelf, server: FeedServer) -> None:
    server.status = [Reply(500)]
    section(shelf, "news", secret_env="MY_FEED")
    link = f"{server.url}/private/abcdefghijklmnop?key=qrstuvwxyz123"
    empty = shelf.put(Path(os.devnull), "empty.mp4")

    done = [shelf.cli("run", "--json", "--verbose", MY_FEED=link) for _ in range(2)]

    assert [one.json()["listings"]["news"]["failures"] for one in done] == [1, 0], done[0].err
    everything = "".join(path.read_text("utf-8", "replace") for path in shelf.root.rglob("*.json")) + "".join(
        f"{one.out}{one.err}" for one in done
    )
    assert empty.exists()
    assert "abcdefghijklmnop" not in everything
    assert "qrstuvwxyz123" not in everything


def test_an_enclosure_is_queued_fetched_and_published(shelf: Shelf, make_clip: ClipMaker) -> None:
    clip = make_clip("talk.mp4", seconds=0.5)
    with FileServer(clip.read_bytes()) as server:
        server.beside["/feed.xml"] = feed(server.url)
        section(shelf, "news", feed=f"http://{server.host}/feed.xml")
        done = shelf.cli("run", "--json")

    (record,) = shelf.records().values()
    assert (done.code, record["state"], record["title"]) == (0, "done", f"Film {server.url}"), done.err
    assert done.json()["listings"]["news"]["added"] == 1


def test_a_round_of_which_nothing_was_queued_is_told_again(shelf: Shelf, clock: FakeClock, server: FeedServer) -> None:
    server.content = feed("https://example.org/a.mp4")
    desk = Desk.of(shelf, clock, news={"feed": f"{server.url}/feed"})
    desk.listings.remember(desk.listings.ask({}, desk.at(60)), desk.at(60))

    assert (desk.look().reports["news"].added, server.answers) == (1, [200, 200])


def test_a_forced_look_asks_for_everything(shelf: Shelf, clock: FakeClock, server: FeedServer) -> None:
    desk = Desk.of(shelf, clock, news={"feed": f"{server.url}/feed"})
    desk.look()
    desk.listings.ask({}, desk.at(60), is_forced=True)

    assert server.answers == [200, 200]


def test_where_records_have_gone_what_they_came_from_is_queued_again(shelf: Shelf, clock: FakeClock, server: FeedServer) -> None:
    server.content = feed("https://example.org/a.mp4")
    desk = Desk.of(shelf, clock, news={"feed": f"{server.url}/feed"})
    desk.look()
    shutil.rmtree(shelf.root / "database/videos")

    assert (desk.look().reports["news"].added, server.answers) == (1, [200, 200])


def test_entries_that_differ_only_behind_the_query_are_told(shelf: Shelf, clock: FakeClock, server: FeedServer) -> None:
    server.content = feed(*(f"https://example.org/get?id={number}" for number in (1, 2, 3, 3)), "https://example.org/a.mp4?x=1")
    keeping = {"feed": f"{server.url}/feed", "keep_query": True}

    told = Desk.of(shelf, clock, news={"feed": f"{server.url}/feed"}).look().problems

    assert told == ("news: 3 entries differ only behind the ?, which makes them one video; set keep_query = true",)
    assert Desk.of(shelf, clock, news=keeping).look().problems == ()


def test_the_key_of_a_secret_feed_comes_into_no_record(
    shelf: Shelf, clock: FakeClock, server: FeedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_FEED", f"{server.url}/feed?format=rss&token=q1w2")
    urls = [f"https://example.org/{path}" for path in ("a.mp4?token=q1w2", "q1w2/b.mp4", "c.mp4?format=rss", "d.mp4?token=other")]
    server.content = feed(*urls)
    desk = Desk.of(shelf, clock, news={"secret_env": "MY_FEED", "keep_query": True})

    problems = desk.look().problems

    assert desk.sources() == set(urls[2:])
    assert [problem.partition("; ")[0] for problem in problems] == [
        "news:1: its link holds the key of the feed, which is kept out of records",
        "news:1: its link holds the key of the feed, which is kept out of records",
        "news: 1 links hold what looks like a key, and stand in database/",
    ]


def test_no_more_than_ten_lines_are_told_of_a_source(shelf: Shelf, clock: FakeClock, server: FeedServer) -> None:
    server.content = b"https://example.org/a.mp4\n" + b"not a link\n" * 15

    problems = Desk.of(shelf, clock, news={"feed": f"{server.url}/feed"}).look().problems

    assert (len(problems), problems[-1]) == (11, "news: and 5 more")


@pytest.mark.parametrize("content", [b"Please sign in\nto go on\n" * 20, feed("ftp://example.org/a.mp4"), b"file:x\n" * 3])
def test_a_list_in_which_nothing_is_a_link_is_one_error(shelf: Shelf, clock: FakeClock, server: FeedServer, content: bytes) -> None:
    server.content = content

    taken = Desk.of(shelf, clock, news={"feed": f"{server.url}/feed"}).look()

    assert (len(taken.problems), taken.reports["news"].failures) == (1, 1)
    assert taken.problems[0].startswith("news: has nothing that can be queued; news:1: ")


def test_of_a_list_the_last_are_taken(shelf: Shelf, clock: FakeClock, server: FeedServer) -> None:
    server.content = b"x.mp4\ny.mp4\nz.mp4\n"
    desk = Desk.of(shelf, clock, news={"feed": f"{server.url}/feed", "limit": 2})

    found = desk.listings.ask({}, desk.at(60))

    assert [str(item.name).removeprefix(server.url) for item in found.items()] == ["/y.mp4", "/z.mp4"]


def test_failures_are_committed_where_nothing_else_is_until_the_source_is_given_up(
    shelf: Shelf, clock: FakeClock, server: FeedServer
) -> None:
    server.status = [Reply(500)] * 13
    desk = Desk.of(shelf, clock, news={"feed": f"{server.url}/feed"})
    failures = []
    for _ in range(13):
        failures.append(run(desk).report.listings["news"].failures)
        shutil.rmtree(shelf.root / "work")
        clock.advance(900)

    assert failures == [*range(1, 11), 11, 11, 11]
    assert shelf.git("rev-list", "--count", "HEAD") == "11"  # init, and ten failures
    assert run(desk).report.listings["news"].failures == 0


def test_status_knows_of_failures_that_are_remembered_here_only(shelf: Shelf, clock: FakeClock, server: FeedServer) -> None:
    server.status = [Reply(500)]
    desk = Desk.of(shelf, clock, news={"feed": f"{server.url}/feed"})
    desk.look()

    assert derived.fresh_status(desk.library.database, clock.now())["listings"]["news"]["failures"] == 1
    assert "failed 1 times" in shelf.cli("status").out
