"""What all commands share: the application, its global options, opening the library, speaking and complaining."""

import json
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from dailies import __version__
from dailies.errors import Exit

if TYPE_CHECKING:
    from dailies.library import Library
    from dailies.progress import Watcher

app = typer.Typer(
    name="dailies",
    help="Queue your own videos; a run checks them, makes an MP4 and a preview, publishes them and commits what happened.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Outcome = TypeVar("Outcome")
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, everything else on stderr.")]


class Globals:
    """What stands before or after any command."""

    root: Path | None = None
    level: int = logging.INFO
    mask: "Callable[[str], str] | None" = None  # the opened library's redactor


@app.callback(invoke_without_command=True)
def _globals(
    context: typer.Context,
    root: Annotated[Path | None, typer.Option(help="The library; else the nearest dailies.toml upwards from here.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Errors only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Every program that is run, and more.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    Globals.root = root
    Globals.level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO
    if version:
        typer.echo(f"dailies {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def open_library(change: "Callable[[Library], Library] | None" = None) -> "Library":
    """The library of this command, with logging that masks its secrets; GitHub's runner is told to mask them too."""
    from dailies import actions, config
    from dailies.library import Library
    from dailies.terminal import set_up_logging

    library = Library.open(root=Globals.root)
    if actions.is_on():
        tell(*actions.masks(filter(None, map(config.environment().get, library.secret_names()))))
    library = change(library) if change else library
    set_up_logging(Globals.level, library.redactor)
    Globals.mask = library.redactor
    return library


def tell_blocked(library: "Library") -> None:
    """Records that could not be shown: a line each, and exit 2."""
    blocked = library.database.blocked()
    for message in blocked:
        complain(message)
    if blocked:
        raise typer.Exit(Exit.USAGE)


def print_json(content: Any) -> None:
    typer.echo(json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True))


def say(text: str) -> None:
    from dailies.redact import loggable

    typer.echo(loggable(text))


def tell(*commands: str) -> None:
    """To GitHub's runner, which reads both streams."""
    for command in commands:
        typer.echo(command, err=True)


def complain(text: str, *, is_fatal: bool = False) -> None:
    """A line on stderr; the last word of a command is an annotation where GitHub's runner reads it."""
    from dailies import actions
    from dailies.config import environment
    from dailies.redact import Redactor, loggable, secrets_of

    mask = Globals.mask or Redactor(secrets_of(environment()))
    said = f"dailies: {mask(text)}"
    if is_fatal and actions.is_on():
        tell(actions.annotation("error", said, "dailies"))
    else:
        typer.echo(loggable(said), err=True)


@contextmanager
def stoppable() -> Iterator[threading.Event]:
    """SIGINT, SIGTERM and SIGHUP set a flag; whoever works sees it within a fraction of a second and ends cleanly."""
    stop = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watched(work: "Callable[[Watcher], Outcome]") -> Outcome:
    """Bars on a terminal, a group for each video in GitHub's log, lines elsewhere."""
    from dailies import actions
    from dailies.progress import LogWatcher
    from dailies.terminal import BarWatcher, GroupWatcher, bars, is_interactive

    if actions.is_on():
        return work(GroupWatcher())
    if not is_interactive() or Globals.level >= logging.ERROR:
        return work(LogWatcher())
    with bars() as progress:
        return work(BarWatcher(progress))
