"""What every catalogue must do: the same tests over each entry of CATALOGUES."""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from catalogues import CONTACT, TOKEN, CatalogueServer, MusicBrainzServer, TmdbServer, TvMazeServer, WikidataServer
from catalogues import media as media_of
from dailies.clock import Deadline
from dailies.config import Enrich
from dailies.enrich import CATALOGUES, Enricher
from dailies.errors import ConfigError, Interrupted, OutOfTime, Transient
from dailies.http import Http
from dailies.model import Metadata, Source, Video
from loopback import Fault, Reply
from support import ROOT, FakeClock

Nfo = str
MUSIC = "<musicvideo><title>{}</title><artist>Anna Lind</artist><year>{}</year></musicvideo>"


@dataclass(frozen=True)
class Case:
    """File names (and a .nfo) of a video that is known by title, by id, that fits several, and that nobody knows."""

    server: Callable[[], CatalogueServer]
    by_title: tuple[str, Nfo]
    by_id: tuple[str, Nfo]
    several: tuple[str, Nfo]
    unknown: tuple[str, Nfo]
    duration_s: float
    provenance: str
    filled: Mapping[str, Any] = field(default_factory=dict)


CASES: dict[str, Case] = {
    "tmdb": Case(
        TmdbServer,
        ("The.Matrix.1999.1080p.mp4", ""),
        ("whatever [tmdbid-603].mp4", ""),
        ("Twins (1988).mp4", ""),
        ("Nobody Knows This (2004).mp4", ""),
        8160,
        "tmdb:603",
        {
            "description": "A hacker learns the truth.",
            "release_date": "1999-03-30",
            "categories": ("Action", "Science Fiction"),
            "studio": "Village Roadshow Pictures",
            "series": "The Matrix Collection",
            "tags": ("saving the world",),
            "people": (
                {"name": "Keanu Reeves", "role": "actor", "image": "https://image.tmdb.org/t/p/w500/keanu.jpg"},
                {"name": "Carrie-Anne Moss", "role": "actor", "image": None},
                {"name": "Lana Wachowski", "role": "director", "image": None},
            ),
        },
    ),
    "tvmaze": Case(
        TvMazeServer,
        ("Under the Dome S01E01.mp4", ""),
        ("ep S01E01 {tvdb-264492}.mp4", ""),
        ("The Office S01E01.mp4", ""),
        ("No Such Show S01E01.mp4", ""),
        3600,
        "tvmaze:1",
        {
            "description": "Chester's Mill.\nA dome.",
            "release_date": "2013-06-24",
            "categories": ("Drama", "Science-Fiction"),
            "studio": "CBS",
            "series": "Under the Dome",
            "people": (
                {"name": "Mike Vogel", "role": "actor", "image": "https://static.tvmaze.com/vogel.jpg"},
                {"name": "Rachelle Lefevre", "role": "actor", "image": None},
            ),
        },
    ),
    "wikidata": Case(
        WikidataServer,
        ("Sintel (2010).mp4", ""),
        ("x {imdb-tt1727587}.mp4", ""),
        ("Home (2009).mp4", ""),
        ("Nobody Knows This (2004).mp4", ""),
        888,
        "wikidata:Q1",
        {
            "description": "2010 animated short film",
            "release_date": "2010-09-27",
            "categories": ("fantasy film",),
            "studio": "Blender Foundation",
            "people": (
                {"name": "Halina Reijn", "role": "actor", "image": None},
                {"name": "Colin Levy", "role": "director", "image": None},
            ),
        },
    ),
    "musicbrainz": Case(
        MusicBrainzServer,
        ("clip.mp4", MUSIC.format("Rivers", "2015")),
        (f"clip [musicbrainz-{MusicBrainzServer.RIVERS}].mp4", ""),
        ("clip.mp4", MUSIC.format("Echo", "2015")),
        ("clip.mp4", MUSIC.format("Silence", "2015")),
        215,
        f"musicbrainz:{MusicBrainzServer.RIVERS}",
        {"release_date": "2015-06-01", "tags": ("folk",)},
    ),
}


@dataclass
class Desk:
    """A library with one catalogue; each `enricher()` is a run of its own."""

    name: str
    case: Case
    root: Path
    clock: FakeClock
    server: CatalogueServer

    def enricher(self, *, is_offline: bool = False, **changes: Any) -> Enricher:
        given = {"catalogues": (self.name,), f"{self.name}_url": self.server.url, "contact": CONTACT, **changes}
        secrets = {"TMDB_TOKEN": TOKEN}
        settings = Enrich.model_validate(given)
        http = Http(self.clock)
        return Enricher(settings, self.root, self.root / "work", http, self.clock, secrets, is_offline=is_offline)

    def video(self, named: tuple[str, Nfo]) -> Video:
        name, nfo = named
        path = self.root / "media" / name
        path.parent.mkdir(exist_ok=True)
        if nfo:
            path.with_suffix(".nfo").write_text(nfo)
        source = Source(kind="file", uri=f"media/{name}", original_name=name, size_bytes=1, identity="a" * 64)
        media = media_of(self.case.duration_s)
        now = "2026-01-01T00:00:00Z"
        return Video(
            id="film-0123456789ab", code="film", title=path.stem, source=source, media=media, created_at=now, updated_at=now
        )

    def deadline(self, seconds: float = 3600) -> Deadline:
        return Deadline.after(self.clock, seconds)


@pytest.fixture(params=sorted(CATALOGUES))
def desk(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Desk]:
    if request.param not in CASES:
        pytest.skip("has no case, which is an error of its own")
    with CASES[request.param].server() as server:
        yield Desk(request.param, CASES[request.param], tmp_path, clock, server)
        assert server.complaints == []


def test_every_catalogue_has_a_case_and_no_case_lacks_its_catalogue() -> None:
    assert set(CASES) == set(CATALOGUES)


@pytest.mark.parametrize("name", sorted(CATALOGUES))
def test_every_catalogue_has_a_section_of_the_guide_that_holds_its_attribution(name: str) -> None:
    text = (ROOT / "docs/enrichment.md").read_text("utf-8")

    (section,) = re.findall(rf"^### {re.escape(name)}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)

    words = " ".join(section.split())
    assert CATALOGUES[name].attribution in words
    assert CATALOGUES[name].name == name


def test_a_video_is_found_by_title_and_year_and_what_is_said_of_it_is_taken(desk: Desk) -> None:
    found = desk.enricher().enrich(desk.video(desk.case.by_title), desk.deadline())

    taken = {key: getattr(found.metadata, key) for key in desk.case.filled}
    assert taken == desk.case.filled
    assert {found.metadata.provenance[key] for key in desk.case.filled} == {desk.case.provenance}


def test_a_video_with_an_id_is_found_without_a_search_and_gets_its_title(desk: Desk) -> None:
    video = desk.video(desk.case.by_id)

    found = desk.enricher().enrich(video, desk.deadline())

    assert found.metadata.provenance["title"] == desk.case.provenance
    assert found.title != video.title
    assert [one for one in desk.server.searches if "haswbstatement" not in one] == []


def test_enriching_twice_changes_nothing_and_asks_nothing(desk: Desk) -> None:
    once = desk.enricher().enrich(desk.video(desk.case.by_title), desk.deadline())
    asked = len(desk.server.calls)

    twice = desk.enricher().enrich(once, desk.deadline())

    assert twice is once
    assert (asked > 0, len(desk.server.calls)) == (True, asked)


def test_what_nobody_knows_stays_as_it_is_and_is_not_asked_again(desk: Desk) -> None:
    video = desk.video(desk.case.unknown)

    once = desk.enricher().enrich(video, desk.deadline())
    asked = len(desk.server.calls)
    desk.enricher().enrich(once, desk.deadline())

    assert not any(where.startswith(desk.name) for where in once.metadata.provenance.values())
    assert once.warnings == ()
    assert (asked > 0, len(desk.server.calls)) == (True, asked)


def test_that_there_is_no_such_thing_is_not_asked_again(desk: Desk) -> None:
    desk.server.instead = lambda _call: Reply(404, b"{}")
    video = desk.video(desk.case.by_id)

    assert desk.enricher().enrich(video, desk.deadline()) is video
    asked = len(desk.server.calls)
    assert desk.enricher().enrich(video, desk.deadline()) is video

    assert (asked > 0, len(desk.server.calls)) == (True, asked)


def test_answers_are_asked_for_again_when_they_are_old(desk: Desk) -> None:
    desk.enricher().enrich(desk.video(desk.case.by_title), desk.deadline())
    asked = len(desk.server.calls)
    desk.clock.advance(31 * 86400)

    desk.enricher().enrich(desk.video(desk.case.by_title), desk.deadline())

    assert len(desk.server.calls) == 2 * asked


def test_of_several_that_fit_none_is_taken_and_a_warning_says_so(desk: Desk) -> None:
    found = desk.enricher().enrich(desk.video(desk.case.several), desk.deadline())

    assert not any(where.startswith(desk.name) for where in found.metadata.provenance.values())
    assert [re.sub(r": .*", "", warning.removeprefix("enrich: ")) for warning in found.warnings] == [desk.name]


def test_what_a_person_wrote_stays(desk: Desk) -> None:
    at = "2026-01-01T00:00:00Z"
    video = desk.video(desk.case.by_title)
    words = {
        "description": "mine",
        "release_date": "2020-02-02",
        "studio": "mine",
        "people": ({"name": "me"},),
        "categories": ("mine",),
    }
    video = video.with_(title="mine", metadata=Metadata(**words, tags=("mine",)), edited_at=dict.fromkeys([*words, "title"], at))

    found = desk.enricher().enrich(video, desk.deadline())

    assert found.title == "mine"
    assert {key: getattr(found.metadata, key) for key in words} == words
    assert "mine" in found.metadata.tags


def test_offline_nothing_is_asked_and_what_is_cached_is_used(desk: Desk) -> None:
    video = desk.video(desk.case.by_title)
    nothing = desk.enricher(is_offline=True).enrich(video, desk.deadline())
    calls = len(desk.server.calls)
    known = desk.enricher().enrich(video, desk.deadline())
    asked = len(desk.server.calls)

    again = desk.enricher(is_offline=True).enrich(video, desk.deadline())

    assert (calls, len(desk.server.calls)) == (0, asked)
    assert desk.case.provenance not in nothing.metadata.provenance.values()
    assert again == known


@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.HTML, Fault.GARBLED, Fault.LOST_ANSWER, Fault.RESET, Fault.SLOW_DOWN])
def test_trouble_that_passes_costs_only_time(fault: Fault, desk: Desk) -> None:
    desk.server.breaks("GET", fault, times=2)

    found = desk.enricher().enrich(desk.video(desk.case.by_title), desk.deadline())

    assert desk.case.provenance in found.metadata.provenance.values()


@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.HTML, Fault.GARBLED, Fault.LIMITED, Fault.LIMITED_DATE])
def test_trouble_that_stays_costs_nothing_else(fault: Fault, desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.server.breaks("GET", fault, times=100)
    video = desk.video(desk.case.by_id)

    with caplog.at_level(logging.WARNING):
        found = desk.enricher().enrich(video, desk.deadline())

    assert found is video
    assert f"catalogue={desk.name}" in caplog.text


@pytest.mark.parametrize(
    "content", [None, [], {}, "text", 7, {"results": [None]}, {"entities": {"Q1": 3}}, [{"show": {"id": -1}}], [[[]]]]
)
def test_answers_of_any_other_shape_are_trouble_and_no_crash(content: Any, desk: Desk) -> None:
    desk.server.instead = lambda _call: Reply.json(content)

    for named in (desk.case.by_title, desk.case.by_id):
        video = desk.video(named)
        found = desk.enricher().enrich(video, desk.deadline())
        assert not any(where.startswith(desk.name) for where in found.metadata.provenance.values())


def test_numbers_may_be_text_and_parts_may_be_missing_or_null(desk: Desk) -> None:
    with type(desk.server)() as honest:
        desk.server.instead = lambda call: Reply.json(_odd(json.loads(honest.reply(call).content)))

        found = desk.enricher().enrich(desk.video(desk.case.by_id), desk.deadline())

    assert found.metadata.provenance["title"] == desk.case.provenance


def _odd(content: Any) -> Any:
    """Numbers as text; in every object a null more."""
    if isinstance(content, dict):
        return {**{key: _odd(one) for key, one in content.items()}, "popularity": None, "overview": None, "summary": None}
    if isinstance(content, list):
        return [_odd(one) for one in content]
    return str(content) if isinstance(content, int) and not isinstance(content, bool) else content


def test_no_secret_is_in_the_cache_the_log_the_state_or_the_record(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    enricher = desk.enricher()
    with caplog.at_level(logging.DEBUG):
        known = enricher.enrich(desk.video(desk.case.by_title), desk.deadline())
        desk.server.breaks("GET", Fault.SERVER_ERROR, times=100)
        enricher.enrich(desk.video(desk.case.unknown), desk.deadline())

    written = "".join(path.read_text() for path in (desk.root / "work").rglob("*.json"))
    assert written
    assert all(TOKEN not in text for text in (written, caplog.text, known.model_dump_json(), repr(vars(enricher)["_lines"])))


def test_requests_keep_the_distance_that_the_catalogue_wants(desk: Desk) -> None:
    moments: list[float] = []
    desk.server.on_point = lambda point, _what: moments.append(desk.clock.elapsed) if point.name == "BEGUN" else None

    desk.enricher().enrich(desk.video(desk.case.by_title), desk.deadline())
    desk.enricher().enrich(desk.video(desk.case.unknown), desk.deadline())

    first_run = moments[: len(moments) - 1]
    apart = [later - sooner for sooner, later in pairwise(first_run)]
    assert apart
    assert min(apart) >= CATALOGUES[desk.name].interval_s - 1e-6


def test_the_end_of_the_run_passes_and_is_no_fault_of_the_catalogue(desk: Desk) -> None:
    desk.server.breaks("GET", Fault.SERVER_ERROR, times=100)
    over = desk.deadline(5)
    stopped = desk.deadline()
    stopped.stop.set()

    with pytest.raises(Interrupted):
        desk.enricher().enrich(desk.video(desk.case.by_title), stopped)
    desk.clock.advance(6)
    with pytest.raises(OutOfTime):
        desk.enricher().enrich(desk.video(desk.case.by_title), over)

    assert not (desk.root / "work/catalogues.json").exists()


def test_the_end_of_a_steps_own_time_is_told_from_trouble_of_the_catalogue(desk: Desk) -> None:
    over = desk.deadline().within(1, lambda: Transient("the step took too long"))
    desk.clock.advance(2)

    with pytest.raises(Transient, match="the step took too long"):
        desk.enricher().enrich(desk.video(desk.case.by_title), over)

    assert not (desk.root / "work/catalogues.json").exists()


def test_a_catalogue_that_wants_a_contact_is_not_asked_without_one(desk: Desk) -> None:
    if not CATALOGUES[desk.name].needs_contact:
        desk.enricher(contact="")
        return
    with pytest.raises(ConfigError, match=r"^enrich\.contact: \w+ wants to know whom to write to; set it"):
        desk.enricher(contact="")


def test_an_unknown_catalogue_is_an_error_of_the_settings(desk: Desk) -> None:
    with pytest.raises(ConfigError, match=r"^enrich\.catalogues: unknown catalogue 'omdb'; known: tmdb, "):
        desk.enricher(catalogues=("omdb",))
