"""Enrichment: what sidecars and catalogues know of a video, into its record (docs/enrichment.md)."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dailies import __version__
from dailies.clock import Clock, Deadline
from dailies.config import Enrich
from dailies.enrich import clues as clues_of
from dailies.enrich import filling, sidecars
from dailies.enrich.asking import Asking, Line, Pacer, Unasked
from dailies.enrich.availability import Availability
from dailies.enrich.cache import Cache
from dailies.enrich.catalogue import Catalogue, Match, find
from dailies.enrich.clues import Clues
from dailies.enrich.facts import Facts, Said
from dailies.enrich.filling import filled
from dailies.enrich.matching import Ambiguous
from dailies.errors import ConfigError, Denied, Transient, VideoError
from dailies.http import Http
from dailies.model import Video
from dailies.plugins import Plugins
from dailies.redact import plain

__all__ = ["CATALOGUES", "Catalogue", "Enricher", "Facts", "Said", "filled"]

CATALOGUES: Final[Mapping[str, type[Catalogue]]] = Plugins(
    {
        "tmdb": "dailies.enrich.tmdb:Tmdb",
        "tvmaze": "dailies.enrich.tvmaze:TvMaze",
        "wikidata": "dailies.enrich.wikidata:Wikidata",
        "musicbrainz": "dailies.enrich.musicbrainz:MusicBrainz",
    }
)
PATIENCE_S: Final = 120.0  # with one catalogue for one video
_LOG: Final = logging.getLogger(__name__)


class Enricher:
    """One run's enrichment; several videos at once may be. Raises ConfigError for a catalogue that cannot be asked like this."""

    def __init__(
        self,
        settings: Enrich,
        root: Path,
        work: Path,
        http: Http,
        clock: Clock,
        secrets: Mapping[str, str],
        *,
        is_offline: bool = False,
    ) -> None:
        self._settings = settings
        self._root = root
        self._secrets = secrets
        self._ranks = filling.Ranks(settings.catalogues, CATALOGUES)
        self._catalogues = {name: _known(name, settings)(settings) for name in settings.catalogues}
        availability = Availability(work / "catalogues.json", clock)
        self._lines = {
            name: Line(
                name,
                http,
                Cache(work / "cache" / "catalogues" / name, clock, settings.cache),
                Pacer(clock, catalogue.interval_s),
                availability,
                lambda catalogue=catalogue: self._headers(catalogue),  # type: ignore[misc]
                is_offline,
            )
            for name, catalogue in self._catalogues.items()
        }

    def attributions(self) -> tuple[str, ...]:
        """What the terms of the catalogues in use want people to read."""
        return tuple(catalogue.attribution for catalogue in self._catalogues.values())

    def enrich(self, video: Video, deadline: Deadline, embedded: Mapping[str, str] | None = None) -> Video:
        """With what is known of it; itself where nothing is new. `embedded` are the tags in its file.

        Trouble of a catalogue is logged and costs nothing else. Raises the deadline's error and Interrupted.
        """
        said, warnings = sidecars.read(video, self._root, embedded or {}) if self._settings.sidecars else ((), ())
        clues = clues_of.of(video, said)
        for number, (name, catalogue) in enumerate(self._catalogues.items(), len(filling.LOCAL)):
            known = filling.fill(video, said, self._ranks)
            if not any(filling.is_open(known, field, number, self._ranks) for field in catalogue.fields):
                continue
            found = self._found(video, catalogue, clues, deadline)
            if isinstance(found, Ambiguous):
                warnings = (*warnings, plain(f"{name}: several fit: {', '.join(found.titles)}; name the id in a sidecar"))
            elif found is not None:
                said = (*said, Said(where=f"{name}:{found.key}", facts=found.facts, is_sure=found.is_sure))
                clues = clues.with_ids(found.facts.ids) if found.is_sure else clues
        return filling.warned(filling.fill(video, said, self._ranks), warnings)

    def _found(self, video: Video, catalogue: Catalogue, clues: Clues, deadline: Deadline) -> Match | Ambiguous | None:
        name = catalogue.name
        patience = deadline.within(
            PATIENCE_S, lambda: Transient(f"{name}: took more than {PATIENCE_S:g} s; it is asked again later")
        )
        asking = Asking(self._lines[name], patience)
        try:
            found = find(catalogue, clues, asking, self._settings.min_score)
        except Unasked:
            return None
        except (Transient, VideoError, ConfigError) as error:
            deadline.check()  # the run's end is no fault of the catalogue
            self._lines[name].availability.failed(name)
            _LOG.warning("video=%s catalogue=%s gave nothing: %s", video.id, name, error)
            return None
        if asking.was_asked:
            self._lines[name].availability.succeeded(name)
        return found

    def _headers(self, catalogue: Catalogue) -> Mapping[str, str]:
        """Raises Denied."""
        contact = f" ( {self._settings.contact} )" if catalogue.needs_contact else ""
        said = {"Accept": "application/json", "User-Agent": f"dailies/{__version__}{contact}"}
        return {**said, **catalogue.headers(self._secret)}

    def _secret(self, variable: str) -> str:
        value = self._secrets.get(variable, "")
        if not value:
            raise Denied(f"{variable or 'the name of a variable'}: not set or empty; set it to the catalogue's key")
        return value


def _known(name: str, settings: Enrich) -> type[Catalogue]:
    """Raises ConfigError."""
    if name not in CATALOGUES:
        raise ConfigError(f"enrich.catalogues: unknown catalogue {name!r}; known: {', '.join(CATALOGUES)}")
    contact = settings.contact
    if CATALOGUES[name].needs_contact and not (contact.isascii() and contact.isprintable() and contact.strip()):
        raise ConfigError(f"enrich.contact: {name} wants to know whom to write to; set it to your address or web page")
    return CATALOGUES[name]
