"""Enrichment with several places at once: who wins, what is left alone, bad disks and keys, many threads, the command."""

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from catalogues import CONTACT, TOKEN, TmdbServer, TvMazeServer, WikidataServer
from catalogues import media as media_of
from dailies.clock import Deadline
from dailies.config import Enrich
from dailies.enrich import Enricher
from dailies.http import Http
from dailies.model import Source, Video
from loopback import Fault, Reply
from support import FakeClock, Shelf

AT = "2026-01-01T00:00:00Z"
NFO = "<movie><title>{}</title><year>1999</year><studio>Of the nfo</studio><tag>nfo</tag></movie>"


@dataclass
class Desk:
    root: Path
    clock: FakeClock
    tmdb: TmdbServer
    tvmaze: TvMazeServer
    wikidata: WikidataServer

    def enricher(self, *catalogues: str, token: str = TOKEN, **changes: Any) -> Enricher:
        urls = {"tmdb_url": self.tmdb.url, "tvmaze_url": self.tvmaze.url, "wikidata_url": self.wikidata.url}
        chosen = Enrich.model_validate({"catalogues": catalogues, "contact": CONTACT, **urls, **changes})
        return Enricher(chosen, self.root, self.root / "work", Http(self.clock), self.clock, {"TMDB_TOKEN": token})

    def enrich(self, video: Video, *catalogues: str, **changes: Any) -> Video:
        return self.enricher(*catalogues, **changes).enrich(video, self.deadline())

    def deadline(self, seconds: float = 3600) -> Deadline:
        return Deadline.after(self.clock, seconds)

    def video(self, name: str = "The Matrix (1999).mp4", duration_s: float = 8160, **sidecars: str) -> Video:
        path = self.root / "media" / name
        path.parent.mkdir(exist_ok=True)
        for ending, content in sidecars.items():
            path.with_suffix(f".{ending}").write_text(content)
        source = Source(kind="file", uri=f"media/{name}", original_name=name, size_bytes=1, identity="a" * 64)
        media = media_of(duration_s)
        return Video(id="film-0123456789ab", code="film", title=path.stem, source=source, media=media, created_at=AT, updated_at=AT)


@pytest.fixture
def desk(tmp_path: Path, clock: FakeClock) -> Iterator[Desk]:
    with TmdbServer() as tmdb, TvMazeServer() as tvmaze, WikidataServer() as wikidata:
        yield Desk(tmp_path, clock, tmdb, tvmaze, wikidata)
        assert [*tmdb.complaints, *tvmaze.complaints, *wikidata.complaints] == []


def test_nothing_is_asked_unless_the_settings_name_a_catalogue(desk: Desk) -> None:
    video = desk.video()

    assert desk.enrich(video) is video
    assert Enrich().catalogues == ()
    assert not (desk.root / "work").exists()


def test_a_sidecar_wins_over_a_catalogue_which_fills_the_rest(desk: Desk) -> None:
    found = desk.enrich(desk.video(nfo=NFO.format("Matrix")), "tmdb")

    assert (found.title, found.metadata.studio, found.metadata.series) == ("Matrix", "Of the nfo", "The Matrix Collection")
    assert found.metadata.tags == ("nfo", "saving the world")
    assert {key: found.metadata.provenance[key] for key in ("title", "studio", "series", "tags")} == {
        "title": "sidecar:nfo",
        "studio": "sidecar:nfo",
        "series": "tmdb:603",
        "tags": "sidecar:nfo, tmdb:603",
    }


def test_a_sidecar_that_comes_later_replaces_what_a_catalogue_said_but_not_the_other_way(desk: Desk) -> None:
    first = desk.enrich(desk.video(), "tmdb")
    desk.video(nfo=NFO.format("Matrix"))

    second = desk.enrich(first, "tmdb")
    (desk.root / "media/The Matrix (1999).nfo").unlink()
    third = desk.enrich(second, "tmdb")

    assert [one.metadata.studio for one in (first, second, third)] == ["Village Roadshow Pictures", "Of the nfo", "Of the nfo"]


def test_a_sidecar_that_was_corrected_is_read_again(desk: Desk) -> None:
    first = desk.enrich(desk.video(nfo=NFO.format("Wrong")))
    desk.video(nfo=NFO.format("Right"))

    assert (first.title, desk.enrich(first).title) == ("Wrong", "Right")


def test_sidecars_can_be_switched_off(desk: Desk) -> None:
    video = desk.video(nfo=NFO.format("Matrix"))

    assert desk.enrich(video, sidecars=False) is video


def test_tags_in_the_file_count_least_of_what_is_local_and_give_no_title(desk: Desk) -> None:
    video = desk.video(toml='description = "ours"')

    found = desk.enricher().enrich(video, desk.deadline(), {"title": "Lavf60", "comment": "theirs", "genre": "Drama"})

    assert (found.title, found.metadata.description, found.metadata.categories) == (video.title, "ours", ("Drama",))
    assert found.metadata.provenance == {"description": "sidecar:dailies", "categories": "embedded"}


def test_a_tag_that_a_person_took_away_does_not_come_back(desk: Desk) -> None:
    found = desk.enrich(desk.video(nfo=NFO.format("Matrix")), "tmdb")
    without = found.with_(metadata=found.metadata.model_copy(update={"tags": ("saving the world",)}))

    assert desk.enrich(without, "tmdb").metadata.tags == ("saving the world",)


def test_a_warning_goes_when_the_sidecar_is_mended_and_others_stay(desk: Desk) -> None:
    video = desk.video(json="{").with_warning("of the converter")
    first = desk.enrich(video)
    desk.video(json="{}")

    assert first.warnings[1].startswith("enrich: The Matrix (1999).json: is no valid JSON")
    assert desk.enrich(first).warnings == ("of the converter",)


def test_the_ids_of_one_catalogue_help_the_next_and_the_first_wins(desk: Desk) -> None:
    found = desk.enrich(desk.video("Night Watch S01E02.mp4", 3360, toml='ids = { tmdb_tv = "1399" }'), "tmdb", "tvmaze")

    assert found.title == "The Bridge"
    assert [call.path for call in desk.tvmaze.calls] == []  # nothing was left to fill
    desk.enrich(desk.video("Night Watch S01E02.mp4", 3360), "tvmaze", "tmdb")
    assert desk.tvmaze.calls[0].path == "/search/shows"


def test_an_imdb_id_that_tmdb_tells_finds_the_item_of_wikidata(desk: Desk) -> None:
    desk.tmdb.films["603"]["belongs_to_collection"] = None  # so that something is left to fill
    try:
        desk.enrich(desk.video("x [tmdbid-603].mp4"), "tmdb", "wikidata")
    finally:
        del desk.tmdb.films["603"]["belongs_to_collection"]

    assert [call.query["srsearch"] for call in desk.wikidata.calls if "srsearch" in call.query] == ["haswbstatement:P345=tt0133093"]


def test_a_missing_token_is_told_and_nothing_is_sent(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    video = desk.video()

    with caplog.at_level(logging.WARNING):
        assert desk.enrich(video, "tmdb", token="") is video

    assert "TMDB_TOKEN: not set or empty; set it to the catalogue's key" in caplog.text
    assert desk.tmdb.calls == []


def test_a_wrong_token_is_not_tried_twice_and_not_told(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        desk.enrich(desk.video(), "tmdb", token="wrong-" + TOKEN)

    assert caplog.text.count("HTTP 401") == 1
    assert TOKEN not in caplog.text
    assert desk.clock.slept == []


def test_when_one_catalogue_is_down_the_others_still_fill(desk: Desk) -> None:
    desk.tmdb.breaks("GET", Fault.SERVER_ERROR, times=99)

    found = desk.enrich(desk.video("Sintel (2010).mp4", 888), "tmdb", "wikidata")

    assert found.metadata.studio == "Blender Foundation"


def test_a_better_catalogue_replaces_the_second_best_once_it_answers(desk: Desk) -> None:
    desk.tmdb.films["9"] = {"title": "Sintel", "original_title": "Sintel", "release_date": "2010-09-30", "runtime": 15}
    try:
        desk.tmdb.breaks("GET", Fault.SERVER_ERROR, times=3)
        first = desk.enrich(desk.video("Sintel (2010).mp4", 888), "tmdb", "wikidata")
        second = desk.enrich(first, "tmdb", "wikidata")
    finally:
        del desk.tmdb.films["9"]

    assert [one.metadata.provenance["release_date"] for one in (first, second)] == ["wikidata:Q1", "tmdb:9"]


def test_one_catalogue_cannot_hold_a_video_for_longer_than_two_minutes(desk: Desk) -> None:
    desk.tmdb.instead = lambda _call: Reply(429, b"", {"Retry-After": "100"})

    desk.enrich(desk.video(), "tmdb")

    assert (len(desk.tmdb.calls), round(sum(desk.clock.slept))) == (2, 100)


def test_answers_from_the_cache_are_no_sign_that_a_catalogue_is_back(desk: Desk) -> None:
    cached = desk.video()
    desk.enrich(cached, "tmdb")
    desk.tmdb.instead = lambda _call: Reply(400, b"{}")
    for number in range(4):
        desk.enrich(desk.video(f"[tmdbid-{number + 10}].mp4"), "tmdb")
        desk.enrich(cached, "tmdb")

    state = json.loads((desk.root / "work/catalogues.json").read_text())

    assert state == {"tmdb": {"failures": 4}}


def test_a_catalogue_that_is_unavailable_still_gives_what_is_cached(desk: Desk) -> None:
    known = desk.enrich(desk.video(), "tmdb")
    (desk.root / "work/catalogues.json").write_text('{"tmdb": {"failures": 5}}')
    asked = len(desk.tmdb.calls)

    assert desk.enrich(desk.video(), "tmdb") == known
    assert len(desk.tmdb.calls) == asked


@pytest.mark.parametrize("place", ["cache", "cache/catalogues/tmdb", "catalogues.json"])
def test_a_disk_that_takes_nothing_costs_nothing_but_requests(place: str, desk: Desk) -> None:
    path = desk.root / "work" / place
    path.parent.mkdir(parents=True)
    path.mkdir() if place.endswith(".json") else path.write_text("in the way")
    desk.tmdb.breaks("GET /find", Fault.SERVER_ERROR, times=99)

    assert desk.enrich(desk.video("x {imdb-tt0133093}.mp4"), "tmdb").metadata.studio is None
    assert desk.enrich(desk.video(), "tmdb").metadata.studio == "Village Roadshow Pictures"


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"at": 3}', '{"at": "2026-01-02T03:04:05Z", "answer": [3]}', '{"tmdb": {"failures": "x"}}']
)
def test_spoiled_files_in_the_work_folder_are_as_if_they_were_not_there(content: str, desk: Desk) -> None:
    first = desk.enrich(desk.video(), "tmdb")
    asked = len(desk.tmdb.calls)
    for path in [*(desk.root / "work").rglob("*.json"), desk.root / "work/catalogues.json"]:
        path.write_text(content)

    assert desk.enrich(desk.video(), "tmdb") == first
    assert len(desk.tmdb.calls) == 2 * asked


def test_of_many_videos_at_once_only_one_is_the_probe(desk: Desk) -> None:
    (desk.root / "work").mkdir()
    (desk.root / "work/catalogues.json").write_text('{"tmdb": {"failures": 5}}')
    videos = [desk.video(f"[tmdbid-{number + 10}].mp4") for number in range(8)]
    meeting = Barrier(8, timeout=10)
    desk.tmdb.instead = lambda _call: Reply(400, b"{}")
    enricher = desk.enricher("tmdb")

    def together(video: Video) -> Video:
        meeting.wait()
        return enricher.enrich(video, desk.deadline())

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(together, videos)) == videos

    assert len(desk.tmdb.calls) == 1


def test_many_videos_at_once_keep_the_pace_and_lose_nothing(desk: Desk) -> None:
    videos = [desk.video("The Matrix (1999).mp4").with_(id=f"film-{number:012x}") for number in range(24)]
    desk.tmdb.breaks("GET", Fault.SERVER_ERROR, times=5)
    enricher = desk.enricher("tmdb")

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda one: enricher.enrich(one, desk.deadline(100_000)), videos))

    assert sum(one.metadata.studio == "Village Roadshow Pictures" for one in found) >= 22
    assert [one.id for one in found] == [one.id for one in videos]


def test_the_command_fills_saves_and_says_where_from(shelf: Shelf, clip: Path) -> None:
    inbox = shelf.root / "media/inbox"
    (inbox / "The Matrix (1999).mp4").write_bytes(clip.read_bytes())
    (inbox / "The Matrix (1999).nfo").write_text(NFO.format("Matrix"))
    video_id = shelf.cli("add", "media/inbox/The Matrix (1999).mp4").out.strip()
    with TmdbServer() as server:
        shelf.set("enrich", catalogues=["tmdb"], tmdb_url=server.url)
        first = shelf.cli("enrich", video_id, TMDB_TOKEN=TOKEN)
        again = shelf.cli("enrich", "--all", "--json", TMDB_TOKEN=TOKEN)
        offline = shelf.cli("enrich", "--all", "--offline", "--json")
        asked = len(server.calls)

    (record,) = shelf.records().values()
    assert (first.code, again.code, offline.code) == (0, 0, 0)
    assert f"{video_id}: title, studio from sidecar:nfo; " in first.out
    assert "from tmdb:603" in first.out
    assert "This product uses the TMDB API but is not endorsed or certified by TMDB." in first.err
    assert again.json() == offline.json() == [{"id": video_id, "filled": {}, "warnings": []}]
    assert (record["title"], record["metadata"]["series"]) == ("Matrix", "The Matrix Collection")
    assert TOKEN not in json.dumps(record) + first.out + first.err
    assert asked == 2


def test_the_command_without_a_video_or_with_both_is_a_usage_error(shelf: Shelf) -> None:
    for arguments in ([], ["x", "--all"]):
        done = shelf.cli("enrich", *arguments)
        assert (done.code, done.out) == (2, "")
        assert "enrich: names no video, or both names and --all; give ids or codes, or --all" in done.err


def test_the_command_names_a_setting_that_is_wrong(shelf: Shelf) -> None:
    shelf.set("enrich", catalogues=["imdb"])

    done = shelf.cli("enrich", "--all")

    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "enrich.catalogues: unknown catalogue 'imdb'; known: tmdb, tvmaze, wikidata, musicbrainz" in done.err
