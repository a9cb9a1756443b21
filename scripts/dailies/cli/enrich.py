"""The command that fills what sidecars and catalogues know of videos: enrich."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dailies.cli.app import Json, app, complain, open_library, print_json, say, stoppable, tell_blocked
from dailies.errors import ConfigError

if TYPE_CHECKING:
    from dailies.library import Library
    from dailies.model import Video


@app.command()
def enrich(
    names: Annotated[list[str] | None, typer.Argument(metavar="ID…", help="Ids or codes.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every video of the library.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no catalogue: sidecars, and answers that are known.")] = False,
    as_json: Json = False,
) -> None:
    """Fill in people, categories, tags and more from sidecars and catalogues; what a person wrote stays."""
    from dailies.clock import Deadline
    from dailies.config import environment
    from dailies.enrich import Enricher, filled
    from dailies.http import Http

    if bool(names) == every:
        raise ConfigError("enrich: names no video, or both names and --all; give ids or codes, or --all")
    library = open_library()
    settings = library.settings
    secrets = {settings.enrich.tmdb_token_env: environment().get(settings.enrich.tmdb_token_env, "")}
    enricher = Enricher(
        settings.enrich, library.root, library.work, Http(library.clock), library.clock, secrets, is_offline=offline
    )
    told: list[dict[str, Any]] = []
    with stoppable() as stop:
        deadline = Deadline.after(library.clock, settings.run.time_limit, stop)
        for video in _chosen(library, names or []):
            changed = enricher.enrich(video, deadline)
            if changed is not video:
                library.database.save(changed, video)
            told.append({"id": video.id, "filled": filled(video, changed), "warnings": _warnings(changed)})
            if not as_json:
                _tell(told[-1])
    if as_json:
        print_json(told)
    for notice in enricher.attributions():
        complain(notice)
    tell_blocked(library)


def _chosen(library: "Library", names: list[str]) -> "Iterable[Video]":
    """Those that are named, in order and once; else all."""
    database = library.database
    if not names:
        return database.videos()
    return [database.load(video_id) for video_id in dict.fromkeys(database.resolve(name) for name in names)]


def _warnings(video: "Video") -> list[str]:
    from dailies.enrich.filling import WARNING_PREFIX

    return [text.removeprefix(WARNING_PREFIX) for text in video.warnings if text.startswith(WARNING_PREFIX)]


def _tell(told: dict[str, Any]) -> None:
    by_source: dict[str, list[str]] = {}
    for field, where in told["filled"].items():
        by_source.setdefault(where, []).append(field)
    said = "; ".join(f"{', '.join(fields)} from {where}" for where, fields in by_source.items())
    say(f"{told['id']}: {said or 'nothing new'}")
    for warning in told["warnings"]:
        complain(f"{told['id']}: {warning}")
