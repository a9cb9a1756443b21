"""TMDB: films and episodes (docs/enrichment.md#tmdb). https://developer.themoviedb.org/reference"""

from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Final

from pydantic import Field

from dailies.config import Enrich
from dailies.enrich.catalogue import Answered, Ask
from dailies.enrich.clues import Clues
from dailies.enrich.facts import Facts, year
from dailies.enrich.matching import Candidate

_MOST_ACTORS: Final = 20
_JOBS: Final = {"Director": "director", "Writer": "writer", "Screenplay": "writer"}


class _Named(Answered):
    name: str = ""


class _Member(Answered):
    name: str = ""
    job: str = ""
    profile_path: str = ""


class _Credits(Answered):
    cast: tuple[_Member, ...] = ()
    crew: tuple[_Member, ...] = ()
    guest_stars: tuple[_Member, ...] = ()


class _Keywords(Answered):
    keywords: tuple[_Named, ...] = ()  # of films
    results: tuple[_Named, ...] = ()  # of shows


class _Ids(Answered):
    imdb_id: str = ""
    tvdb_id: str = ""
    wikidata_id: str = ""


class _Film(Answered):
    title: str
    original_title: str = ""
    overview: str = ""
    release_date: str = ""
    runtime: float = 0
    genres: tuple[_Named, ...] = ()
    production_companies: tuple[_Named, ...] = ()
    belongs_to_collection: _Named = _Named()
    credits: _Credits = _Credits()
    keywords: _Keywords = _Keywords()
    external_ids: _Ids = _Ids()


class _Show(Answered):
    name: str
    genres: tuple[_Named, ...] = ()
    networks: tuple[_Named, ...] = ()
    keywords: _Keywords = _Keywords()
    external_ids: _Ids = _Ids()


class _Episode(Answered):
    name: str = ""
    overview: str = ""
    air_date: str = ""
    runtime: float = 0
    credits: _Credits = _Credits()


class _Entry(Answered):
    id: int = Field(ge=1)
    show_id: int = 0
    title: str = ""
    original_title: str = ""
    release_date: str = ""
    name: str = ""
    original_name: str = ""
    first_air_date: str = ""


class _Page(Answered):
    results: tuple[_Entry, ...]


class _Found(Answered):
    movie_results: tuple[_Entry, ...] = ()
    tv_results: tuple[_Entry, ...] = ()
    tv_episode_results: tuple[_Entry, ...] = ()


class Tmdb:
    """Keys: `603` of a film, `tv/1399` of a show."""

    name: ClassVar[str] = "tmdb"
    attribution: ClassVar[str] = (
        "This product uses the TMDB API but is not endorsed or certified by TMDB. https://www.themoviedb.org"
    )
    interval_s: ClassVar[float] = 0.025  # about 40 requests a second are borne
    needs_contact: ClassVar[bool] = False
    fields: ClassVar[frozenset[str]] = frozenset(
        {"title", "description", "release_date", "categories", "people", "studio", "series"}
    )

    def __init__(self, settings: Enrich) -> None:
        self._url = settings.tmdb_url.rstrip("/")
        self._images = settings.tmdb_image_url.rstrip("/")
        self._language = settings.language
        self._token_env = settings.tmdb_token_env

    def headers(self, secret: Callable[[str], str]) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {secret(self._token_env)}"}

    def reads(self, clues: Clues) -> bool:
        return bool(clues.searched or clues.ids.keys() & {"tmdb", "tmdb_tv", "imdb"})

    def lookup(self, clues: Clues, ask: Ask) -> str | None:
        if clues.is_episode and "tmdb_tv" in clues.ids:
            return f"tv/{clues.ids['tmdb_tv']}"
        if not clues.is_episode and "tmdb" in clues.ids:
            return clues.ids["tmdb"]
        return self._by_imdb(clues, ask) if "imdb" in clues.ids else None

    def _by_imdb(self, clues: Clues, ask: Ask) -> str | None:
        params = {"external_source": "imdb_id", "language": self._language}
        found = ask(f"{self._url}/find/{clues.ids['imdb']}", params, _Found)
        if found is None:
            return None
        if not clues.is_episode:
            return next((str(one.id) for one in found.movie_results), None)
        shows = [one.id for one in found.tv_results] + [one.show_id for one in found.tv_episode_results if one.show_id]
        return next((f"tv/{show}" for show in shows), None)

    def search(self, clues: Clues, ask: Ask) -> tuple[Candidate, ...]:
        kind, year_key = ("tv", "first_air_date_year") if clues.is_episode else ("movie", "year")
        params = {"query": clues.searched, "language": self._language, "include_adult": "false"}
        if clues.year is not None:
            params[year_key] = str(clues.year)
        page = ask(f"{self._url}/search/{kind}", params, _Page)
        if clues.is_episode:
            return tuple(
                Candidate(f"tv/{one.id}", _titles(one.name, one.original_name), year(one.first_air_date))
                for one in (page.results if page else ())
            )
        return tuple(
            Candidate(str(one.id), _titles(one.title, one.original_title), year(one.release_date))
            for one in (page.results if page else ())
        )

    def details(self, key: str, clues: Clues, ask: Ask) -> Facts | None:
        if key.startswith("tv/"):
            return self._episode(key, clues, ask)
        params = {"append_to_response": "credits,external_ids,keywords", "language": self._language}
        film = ask(f"{self._url}/movie/{key}", params, _Film)
        return None if film is None else self._of_film(film)

    def _of_film(self, film: _Film) -> Facts:
        return Facts(
            title=film.title,
            description=film.overview,
            release_date=film.release_date,
            categories=[one.name for one in film.genres],
            people=self._people(film.credits.cast, film.credits.crew),
            tags=[one.name for one in film.keywords.keywords],
            studio=next((one.name for one in film.production_companies), None),
            series=film.belongs_to_collection.name,
            year=film.release_date,
            ids={"imdb": film.external_ids.imdb_id, "wikidata": film.external_ids.wikidata_id},
            duration_s=film.runtime * 60,
        )

    def _episode(self, key: str, clues: Clues, ask: Ask) -> Facts | None:
        """The show gives what the episode has not."""
        params = {"append_to_response": "external_ids,keywords", "language": self._language}
        show = ask(f"{self._url}/{key}", params, _Show)
        path = f"{self._url}/{key}/season/{clues.season}/episode/{clues.episode}"
        episode = ask(path, {"append_to_response": "credits", "language": self._language}, _Episode)
        if show is None or episode is None:
            return None
        return Facts(
            title=episode.name,
            description=episode.overview,
            release_date=episode.air_date,
            categories=[one.name for one in show.genres],
            people=self._people((*episode.credits.cast, *episode.credits.guest_stars), episode.credits.crew),
            tags=[one.name for one in show.keywords.results],
            studio=next((one.name for one in show.networks), None),
            series=show.name,
            ids={"imdb": show.external_ids.imdb_id, "tvdb": show.external_ids.tvdb_id},
            duration_s=episode.runtime * 60,
        )

    def _people(self, cast: Iterable[_Member], crew: Iterable[_Member]) -> list[dict[str, str | None]]:
        actors = [(one, "actor") for one in cast][:_MOST_ACTORS]
        makers = [(one, _JOBS[one.job]) for one in crew if one.job in _JOBS]
        return [
            {"name": one.name, "role": role, "image": f"{self._images}{one.profile_path}" if one.profile_path else None}
            for one, role in [*actors, *makers]
        ]


def _titles(*titles: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(title for title in titles if title))
