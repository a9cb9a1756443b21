"""Titles, years and durations: which entry of a catalogue fits a video, and what a file name tells."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dailies.enrich.clues import Clues, ids_in, of_name
from dailies.enrich.matching import Ambiguous, Candidate, choose, is_sure, normal, score, shortlist, similarity

MATRIX = Clues(title="The Matrix", year=1999, duration_s=8160)


def candidate(title: str = "The Matrix", year: int | None = 1999, duration_s: float | None = 8160, key: str = "1") -> Candidate:
    return Candidate(key, (title,), year, duration_s)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Matrix", "matrix"),
        ("Amélie", "Amelie"),
        ("Tom & Jerry", "Tom and Jerry"),
        ("Ocean's Eleven", "Oceans Eleven"),
        ("Spider-Man: No Way Home", "spider man no way home"),
        ("千と千尋の神隠し", "千と千尋の神隠し"),
    ],
)
def test_spellings_of_a_title_are_the_same_title(one: str, other: str) -> None:
    assert similarity(one, other) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Rocky 2", "Rocky 3"),
        ("Sintel", "Sintel trailer"),
        ("Home", "Holiday"),
        ("Rocky", "Rocky 2"),
        ("", ""),
        ("…", "…"),
        ("!", "?"),
    ],
)
def test_other_titles_are_not_like_enough(one: str, other: str) -> None:
    assert similarity(one, other) < 0.8


def test_an_article_alone_is_a_title() -> None:
    assert normal("The") == "the"


@given(st.text(max_size=30), st.text(max_size=30))
@settings(deadline=None)
def test_likeness_is_between_none_and_all_and_the_same_both_ways(one: str, other: str) -> None:
    assert 0 <= similarity(one, other) == similarity(other, one) <= 1


@given(st.text(max_size=20), st.none() | st.integers(1870, 2200), st.none() | st.floats(0, 1e6), st.booleans())
@settings(deadline=None)
def test_a_hope_is_never_less_than_what_comes_of_it(title: str, year: int | None, duration_s: float | None, hopeful: bool) -> None:
    found = Candidate("1", (title, "The Matrix"), year, duration_s)

    assert 0 <= score(MATRIX, found) <= score(MATRIX, found, hopeful=True) <= 1


@pytest.mark.parametrize(
    ("found", "fits"),
    [
        (candidate(), True),
        (candidate(year=2000), True),
        (candidate(duration_s=8700), True),
        (candidate(duration_s=None), True),
        (candidate(year=2003), False),
        (candidate(duration_s=150), False),  # its trailer
        (candidate(year=None), True),
        (candidate(year=None, duration_s=None), False),
        (candidate(title="The Matrix Reloaded"), False),
    ],
)
def test_what_fits_by_title_year_and_duration_is_taken(found: Candidate, fits: bool) -> None:
    assert (choose(MATRIX, [found], 0.8) == found) is fits


def test_without_a_year_only_the_duration_can_tell() -> None:
    clues = Clues(title="Holiday", duration_s=5400)

    assert choose(clues, [candidate("Holiday", 1938, 5400)], 0.8) is not None
    assert choose(clues, [candidate("Holiday", 1938, None)], 0.8) is None
    assert choose(Clues(title="Holiday"), [candidate("Holiday", 1938, 5400)], 0.8) is None


def test_two_that_fit_as_well_are_ambiguous_whatever_their_order() -> None:
    both = [candidate(key="1"), candidate(key="2", duration_s=8200)]

    for order in (both, both[::-1]):
        found = choose(MATRIX, order, 0.8)
        assert isinstance(found, Ambiguous)
        assert found.titles == ("The Matrix (1999)", "The Matrix (1999)")


def test_of_two_the_one_that_fits_clearly_better_is_taken() -> None:
    assert choose(MATRIX, [candidate(key="1", year=2000, duration_s=7200), candidate(key="2")], 0.8) == candidate(key="2")


def test_a_rival_below_the_least_score_still_makes_it_ambiguous() -> None:
    close = [candidate(key="1", duration_s=None), candidate(key="2", duration_s=8160 * 0.9)]

    assert isinstance(choose(MATRIX, close, 0.93), Ambiguous)


def test_few_are_looked_at_closely_and_many_alike_are_ambiguous() -> None:
    alike = [candidate("Home", 2009, None, key=str(number)) for number in range(4)]
    clues = Clues(title="Home", year=2009)

    assert len(shortlist(clues, alike[:3], 0.8)) == 3  # type: ignore[arg-type]
    assert isinstance(shortlist(clues, alike, 0.8), Ambiguous)
    assert shortlist(clues, [*alike[:1]] * 9, 0.8) == (alike[0],)
    assert shortlist(clues, [], 0.8) == ()


def test_an_episode_is_looked_for_by_its_show() -> None:
    clues = Clues(title="Pilot", series="Under the Dome", season=1, episode=1)

    assert choose(clues, [candidate("Under the Dome", 2013, None)], 0.8) is not None
    assert choose(clues, [candidate("Pilot", 2013, None)], 0.8) is None


def test_a_title_is_taken_only_from_what_fits_nearly_wholly() -> None:
    assert is_sure(MATRIX, candidate())
    assert not is_sure(MATRIX, candidate(year=2001))
    assert not is_sure(Clues(title="The Matrix", duration_s=8160), candidate())


@pytest.mark.parametrize(
    ("name", "title", "year"),
    [
        ("The.Matrix.1999.1080p.BluRay.x264.mkv", "The Matrix", 1999),
        ("The Matrix (1999).mp4", "The Matrix", 1999),
        ("The_Matrix_[1999].mp4", "The Matrix", 1999),
        ("2001 A Space Odyssey (1968).mkv", "2001 A Space Odyssey", 1968),
        ("Blade Runner 2049.mkv", "Blade Runner 2049", None),
        ("1917.mkv", "1917", None),
        ("Meeting 2024-05-03.mp4", "Meeting 2024-05-03", None),
        ("Holiday 720p web-dl.mp4", "Holiday", None),
        ("[tmdbid-603].mp4", "", None),
        (".mp4", "mp4", None),
    ],
)
def test_a_file_name_tells_title_and_year(name: str, title: str, year: int | None) -> None:
    clues = of_name(name)

    assert (clues.title, clues.year, clues.is_episode) == (title, year, False)


@pytest.mark.parametrize(
    "name", ["The Show S01E02 Pilot 720p.mp4", "the.show.1x02.pilot.mkv", "The Show (2010) - s01.e02 - Pilot.mp4"]
)
def test_a_file_name_tells_an_episode(name: str) -> None:
    clues = of_name(name)

    assert (normal(clues.series or ""), clues.title.lower(), clues.season, clues.episode) == ("show", "pilot", 1, 2)


@pytest.mark.parametrize(
    ("said", "ids"),
    [
        ("Film [tmdbid-603].mp4", {"tmdb": "603"}),
        ("Film {imdb-tt0133093} {tmdb-603}", {"imdb": "tt0133093", "tmdb": "603"}),
        ("https://www.imdb.com/title/tt0133093/?ref_=x", {"imdb": "tt0133093"}),
        ("https://www.themoviedb.org/tv/1399-game", {"tmdb_tv": "1399"}),
        ("https://thetvdb.com/?tab=series&id=121361", {"tvdb": "121361"}),
        ("https://www.wikidata.org/wiki/Q42", {"wikidata": "Q42"}),
        ("[tmdbid-../../etc] {imdb-603}", {}),
        ("[tmdbid-0]", {}),
    ],
)
def test_ids_stand_in_names_and_addresses(said: str, ids: dict[str, str]) -> None:
    assert ids_in(said) == ids


def test_the_id_of_an_episodes_file_is_its_shows() -> None:
    assert of_name("Show S01E02 [tmdbid-1399].mp4").ids == {"tmdb_tv": "1399"}


@given(st.text(max_size=60))
@settings(deadline=None)
def test_any_file_name_can_be_read(name: str) -> None:
    of_name(name)
