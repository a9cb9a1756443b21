"""Catalogues on loopback: they know a few things, and complain of any path, parameter or header that their protocol has not."""

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from dailies.model import Media
from loopback import Call, Loopback, Reply

TOKEN: Final = "eyJhbGciOi.very-secret-token"
CONTACT: Final = "archive@example.org"


def media(duration_s: float) -> Media:
    """Of a video whose duration is all that matters."""
    return Media(
        duration_s=duration_s,
        width=160,
        height=120,
        resolution="160x120",
        aspect_ratio="4:3",
        fps=25.0,
        video_codec="h264",
        audio_codec=None,
        audio_channels=0,
        bit_rate=0,
        rotation=0,
    )


class CatalogueServer(Loopback):
    """`complaints` are what a client did wrong: tests end with none. `instead` answers in place of everything."""

    needs_contact: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.complaints: list[str] = []
        self.instead: Callable[[Call], Reply] | None = None

    def reply(self, call: Call) -> Reply:
        self._check(call)
        if self.instead is not None:
            return self.instead(call)
        for pattern, (params, answer) in self.routes().items():
            found = re.fullmatch(pattern, call.path)
            if found is not None:
                missing, extra = params - call.query.keys(), call.query.keys() - params - self.optional()
                if missing or extra:
                    self.complaints.append(f"{call.path}: missing {sorted(missing)}, unknown {sorted(extra)}")
                    return Reply.json({"error": "bad parameters"}, 400)
                content = answer(call, *found.groups())
                return self.not_found() if content is None else Reply.json(content)
        self.complaints.append(f"{call.path}: no such path")
        return self.not_found()

    def _check(self, call: Call) -> None:
        agent = call.headers.get("user-agent", "")
        if call.method != "GET" or call.body.size:
            self.complaints.append(f"{call.method} with {call.body.size} bytes")
        if not re.fullmatch(r"dailies/[\w.+-]+( \( \S+ \))?", agent):
            self.complaints.append(f"User-Agent: {agent}")
        if self.needs_contact and CONTACT not in agent:
            self.complaints.append(f"User-Agent without a contact: {agent}")
        if call.headers.get("accept") != "application/json":
            self.complaints.append(f"Accept: {call.headers.get('accept')}")

    def routes(self) -> Mapping[str, tuple[set[str], Callable[..., Any]]]:
        """Pattern of a path to (its parameters, what answers)."""
        raise NotImplementedError

    def optional(self) -> set[str]:
        return set()

    def not_found(self) -> Reply:
        return Reply.json({"code": 0, "status": 404}, 404)

    @property
    def searches(self) -> list[str]:
        """Requests that searched by title."""
        return [
            f"{call.path}?{call.query}" for call in self.calls if "search" in f"{call.path}{call.query}" or "query" in call.query
        ]


def _credits() -> dict[str, Any]:
    cast = [
        {"id": 6384, "name": "Keanu Reeves", "character": "Neo", "order": 0, "profile_path": "/keanu.jpg"},
        {"id": 530, "name": "Carrie-Anne Moss", "character": "Trinity", "order": 1, "profile_path": None},
    ]
    return {"cast": cast, "crew": [{"name": "Lana Wachowski", "job": "Director"}, {"name": "Bill Pope", "job": "Grip"}]}


class TmdbServer(CatalogueServer):
    """Films: The Matrix (603), two called Twins; a show: Night Watch (1399)."""

    films: ClassVar[dict[str, dict[str, Any]]] = {
        "603": {"title": "The Matrix", "original_title": "The Matrix", "release_date": "1999-03-30", "runtime": 136},
        "604": {
            "title": "The Matrix Reloaded",
            "original_title": "The Matrix Reloaded",
            "release_date": "2003-05-15",
            "runtime": 138,
        },
        "71": {"title": "Twins", "original_title": "Twins", "release_date": "1988-12-09", "runtime": 135},
        "72": {"title": "Twins", "original_title": "Gemelli", "release_date": "1988-03-01", "runtime": 137},
    }

    def refuse(self, method: str, path: str, headers: Mapping[str, str]) -> Reply | None:
        if headers.get("authorization") == f"Bearer {TOKEN}":
            return None
        return Reply.json({"success": False, "status_code": 7, "status_message": "Invalid API key"}, 401)

    def not_found(self) -> Reply:
        return Reply.json({"success": False, "status_code": 34, "status_message": "The resource could not be found."}, 404)

    def optional(self) -> set[str]:
        return {"year", "first_air_date_year"}

    def routes(self) -> Mapping[str, tuple[set[str], Callable[..., Any]]]:
        found = {"query", "language", "include_adult"}
        page = {"append_to_response", "language"}
        return {
            "/search/movie": (found, self._search),
            "/search/tv": (found, lambda call: {"results": [self._show()] if "night" in call.query["query"].lower() else []}),
            r"/find/(tt\d+)": ({"external_source", "language"}, self._find),
            r"/movie/(\d+)": (page, self._film),
            "/tv/1399": (page, lambda call: self._show()),
            r"/tv/1399/season/(\d+)/episode/(\d+)": (page, self._episode),
        }

    def _search(self, call: Call) -> Any:
        words = call.query["query"].lower()
        hits = [{"id": int(key), **film} for key, film in self.films.items() if words in film["title"].lower()]
        hits = [hit for hit in hits if hit["release_date"].startswith(call.query.get("year", ""))]
        return {"page": 1, "results": hits, "total_pages": 1}

    def _find(self, call: Call, imdb: str) -> Any:
        films = [{"id": 603, "title": "The Matrix"}] if imdb == "tt0133093" else []
        return {"movie_results": films, "person_results": [], "tv_results": [], "tv_episode_results": []}

    def _film(self, call: Call, key: str) -> Any:
        if key not in self.films:
            return None
        return {
            "id": int(key),
            "imdb_id": "tt0133093",
            "overview": "A hacker learns the truth.",
            "genres": [{"id": 28, "name": "Action"}, {"id": 878, "name": "Science Fiction"}],
            "production_companies": [{"id": 79, "name": "Village Roadshow Pictures"}],
            "belongs_to_collection": {"id": 2344, "name": "The Matrix Collection"},
            "credits": _credits(),
            "keywords": {"keywords": [{"id": 1, "name": "saving the world"}]},
            "external_ids": {"imdb_id": "tt0133093", "wikidata_id": None},
            **self.films[key],
        }

    def _show(self) -> Any:
        return {
            "id": 1399,
            "name": "Night Watch",
            "original_name": "Night Watch",
            "first_air_date": "2011-04-17",
            "genres": [{"id": 18, "name": "Drama"}],
            "networks": [{"id": 49, "name": "Channel 9"}],
            "keywords": {"results": [{"id": 2, "name": "police"}]},
            "external_ids": {"imdb_id": "tt0944947", "tvdb_id": 121361},
        }

    def _episode(self, call: Call, season: str, episode: str) -> Any:
        if (season, episode) != ("1", "2"):
            return None
        return {"name": "The Bridge", "overview": "Rain.", "air_date": "2011-04-24", "runtime": 56, "credits": _credits()}


class TvMazeServer(CatalogueServer):
    """Shows: Under the Dome (1), two called The Office (2, 3)."""

    def routes(self) -> Mapping[str, tuple[set[str], Callable[..., Any]]]:
        return {
            "/search/shows": ({"q"}, self._search),
            r"/lookup/shows": (set(), self._lookup),
            r"/shows/(\d+)": ({"embed"}, self._page),
            r"/shows/(\d+)/episodebynumber": ({"season", "number"}, self._episode),
        }

    def optional(self) -> set[str]:
        return {"imdb", "thetvdb"}

    def _search(self, call: Call) -> Any:
        words = call.query["q"].lower()
        shows = [self._show(key) for key in ("1", "2", "3")]
        return [{"score": 0.9, "show": show} for show in shows if words in show["name"].lower()]

    def _lookup(self, call: Call) -> Any:
        return self._show("1") if call.query in ({"imdb": "tt1553656"}, {"thetvdb": "264492"}) else None

    @staticmethod
    def _show(key: str) -> Any:
        name = {"1": "Under the Dome", "2": "The Office", "3": "The Office"}[key]
        return {
            "id": int(key),
            "url": f"https://www.tvmaze.com/shows/{key}",
            "name": name,
            "genres": ["Drama", "Science-Fiction"],
            "premiered": "2013-06-24",
            "averageRuntime": 60,
            "network": {"id": 2, "name": "CBS"},
            "webChannel": None,
            "externals": {"tvrage": 25988, "thetvdb": 264492, "imdb": "tt1553656"},
            "summary": "<p><b>Under the Dome</b> is a story.</p>",
        }

    def _page(self, call: Call, key: str) -> Any:
        if key not in {"1", "2", "3"}:
            return None
        person = {"id": 1, "name": "Mike Vogel", "image": {"medium": "https://static.tvmaze.com/vogel.jpg", "original": "x"}}
        cast = [{"person": person, "character": {"name": "Barbie"}}, {"person": {"name": "Rachelle Lefevre", "image": None}}]
        return {**self._show(key), "_embedded": {"cast": cast}}

    def _episode(self, call: Call, key: str) -> Any:
        if (call.query["season"], call.query["number"]) != ("1", "1"):
            return None
        summary = "<p>Chester&#39;s Mill.</p><p>A dome.</p>"
        return {"id": 1, "name": "Pilot", "season": 1, "number": 1, "airdate": "2013-06-24", "runtime": 60, "summary": summary}


def _claim(value: Any, kind: str, rank: str = "normal") -> dict[str, Any]:
    return {"mainsnak": {"snaktype": "value", "datavalue": {"value": value, "type": kind}}, "rank": rank, "type": "statement"}


def _items(*keys: str) -> list[dict[str, Any]]:
    return [_claim({"entity-type": "item", "id": key, "numeric-id": int(key[1:])}, "wikibase-entityid") for key in keys]


class WikidataServer(CatalogueServer):
    """Works: Sintel (Q1), a river of that name (Q2), two called Home of one year (Q3, Q4)."""

    needs_contact = True
    labels: ClassVar[dict[str, str]] = {
        "Q1": "Sintel",
        "Q2": "Sintel",
        "Q3": "Home",
        "Q4": "Home",
        "Q10": "Halina Reijn",
        "Q11": "Colin Levy",
        "Q12": "fantasy film",
        "Q13": "Blender Foundation",
    }

    def routes(self) -> Mapping[str, tuple[set[str], Callable[..., Any]]]:
        return {"/w/api.php": ({"action", "format"}, self._api)}

    def optional(self) -> set[str]:
        return {"search", "language", "type", "limit", "ids", "props", "languages", "list", "srsearch", "srlimit"}

    def _api(self, call: Call) -> Any:
        query = call.query
        if query["format"] != "json":
            self.complaints.append("not JSON")
        if query["action"] == "wbsearchentities":
            hits = [
                key for key, label in self.labels.items() if label.lower() == query["search"].lower() and query["type"] == "item"
            ]
            return {"search": [{"id": key, "label": self.labels[key], "match": {}} for key in hits], "success": 1}
        if query["action"] == "query" and query["list"] == "search":
            hits = ["Q1"] if query["srsearch"] == "haswbstatement:P345=tt1727587" else []
            return {"batchcomplete": "", "query": {"search": [{"ns": 0, "title": key} for key in hits]}}
        if query["action"] == "wbgetentities":
            keys = query["ids"].split("|")
            if len(keys) > 50 or len(set(keys)) < len(keys):
                self.complaints.append(f"ids: {keys}")
            return {"entities": {key: self._entity(key, query["props"].split("|")) for key in keys}, "success": 1}
        return {"error": {"code": "badvalue", "info": "Unrecognized value for parameter action"}}

    def _entity(self, key: str, props: list[str]) -> Any:
        if key not in self.labels:
            return {"id": key, "missing": ""}
        whole: dict[str, Any] = {
            "labels": {"en": {"language": "en", "value": self.labels[key]}},
            "descriptions": {"en": {"language": "en", "value": "2010 animated short film"}},
            "claims": self._claims(key) or [],  # PHP's empty object
        }
        return {"type": "item", "id": key, **{prop: whole[prop] for prop in props}}

    @staticmethod
    def _claims(key: str) -> dict[str, Any]:
        def time(text: str, precision: int) -> dict[str, Any]:
            return _claim({"time": f"+{text}T00:00:00Z", "precision": precision}, "time")

        minutes = {"amount": "+14.8", "unit": "http://www.wikidata.org/entity/Q7727"}
        if key == "Q1":
            return {
                "P577": [time("2010-09-27", 11), time("2010-00-00", 9)],
                "P345": [_claim("tt1727587", "string")],
                "P161": _items("Q10"),
                "P57": _items("Q11"),
                "P136": _items("Q12"),
                "P272": _items("Q13"),
                "P2047": [_claim(minutes, "quantity")],
                "P18": [{"mainsnak": {"snaktype": "somevalue"}, "rank": "normal"}],
            }
        return {"P577": [time("2009-00-00", 9)]} if key in {"Q3", "Q4"} else {}


class MusicBrainzServer(CatalogueServer):
    """Recordings: Rivers by Anna Lind; Echo twice, and once by somebody else."""

    needs_contact = True
    RIVERS: ClassVar[str] = "b1a9c0e9-d987-4042-ae91-78d6a3267d69"

    def routes(self) -> Mapping[str, tuple[set[str], Callable[..., Any]]]:
        return {
            "/recording": ({"query", "limit", "fmt"}, self._search),
            r"/recording/([0-9a-f-]{36})": ({"inc", "fmt"}, self._recording),
        }

    def _all(self) -> list[dict[str, Any]]:
        def one(key: str, title: str, artist: str) -> dict[str, Any]:
            return {
                "id": key,
                "score": 100,
                "title": title,
                "length": 215000,
                "first-release-date": "2015-06-01",
                "artist-credit": [{"name": artist, "artist": {"id": "x", "name": artist}}],
            }

        return [
            one(self.RIVERS, "Rivers", "Anna Lind"),
            one("00000000-0000-4000-8000-000000000001", "Echo", "Anna Lind"),
            one("00000000-0000-4000-8000-000000000002", "Echo", "Anna Lind"),
            one("00000000-0000-4000-8000-000000000003", "Rivers", "Somebody Else"),
        ]

    def _search(self, call: Call) -> Any:
        found = re.fullmatch(r'recording:"((?:[^"\\]|\\.)*)" AND artist:"((?:[^"\\]|\\.)*)"', call.query["query"])
        if found is None:
            self.complaints.append(call.query["query"])
            return {"recordings": []}
        return {"count": 4, "recordings": [one for one in self._all() if one["title"].lower() == found[1].lower()]}

    def _recording(self, call: Call, key: str) -> Any:
        if set(call.query["inc"].split()) - {"artist-credits", "releases", "tags", "isrcs"}:
            self.complaints.append(call.query["inc"])
        tags = [{"name": "folk", "count": 3}, {"name": "voted down", "count": -1}]
        return next(({**one, "tags": tags} for one in self._all() if one["id"] == key), None)
