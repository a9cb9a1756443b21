"""The command that stays: watch."""

from typing import TYPE_CHECKING, Annotated

import typer

from dailies.cli.app import app, complain, open_library, stoppable, watched
from dailies.cli.work import Hosts, names_of, seconds, show_result, with_settings
from dailies.errors import ConfigError

if TYPE_CHECKING:
    from dailies.library import Library
    from dailies.pipeline import Result, Wanted


@app.command()
def watch(
    interval: Annotated[str, typer.Option(help="Look this often.", metavar="DURATION")] = "60s",
    once: Annotated[bool, typer.Option("--once", help="Look once, run if need be, end.")] = False,
    time_limit: Annotated[
        str | None, typer.Option(envvar="DAILIES_TIME_LIMIT", help="Each run stops cleanly by then, like 315m.", metavar="DURATION")
    ] = None,
    min_remaining: Annotated[str | None, typer.Option(help="Start no video with less left.", metavar="DURATION")] = None,
    hosts: Hosts = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="ffmpeg processes at once; else from the cores.")] = None,
    no_commit: Annotated[bool, typer.Option("--no-commit", help="Leave the records uncommitted.")] = False,
) -> None:
    """Stay, and run whenever something new lies in the inbox or stands in a feed. Ended by Ctrl-C or SIGTERM."""
    with stoppable() as stop:
        from dailies import pipeline
        from dailies.library import Library
        from dailies.watching import Watch

        interval_s = seconds(interval)
        if interval_s is None or interval_s < 1:
            raise ConfigError(f"--interval: {interval} is too short; 1s is the least")
        changes = {"time_limit": seconds(time_limit), "min_remaining": seconds(min_remaining), "jobs": jobs}
        library = open_library(lambda opened: with_settings(opened, changes, names_of(hosts)))

        def run(opened: "Library", wanted: "Wanted") -> "Result":
            result = watched(lambda watcher: pipeline.run(opened, wanted, watcher, stop))
            show_result(result)
            if result.error:
                complain(result.error)
            return result

        def opened() -> "Library":
            return Library(library.root, library.settings, library.clock)

        watch = Watch(opened, run, pipeline.Wanted(commit=not no_commit), interval_s, stop, library.clock)
        raise typer.Exit(watch.once() if once else watch.until_stopped())
