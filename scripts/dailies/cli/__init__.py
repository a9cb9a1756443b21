"""The command line: argv -> settings -> wiring -> exit code. Heavy modules are imported by the command that needs them."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Final

import typer

from dailies.cli import add, enrich, export, media, records, uploads, watch, work
from dailies.cli.app import app, complain
from dailies.errors import ConfigError, DailiesError, Exit, Interrupted, NotPublished

__all__ = ["add", "app", "enrich", "export", "main", "media", "records", "uploads", "watch", "work"]

_GLOBAL_FLAGS: Final = frozenset({"--quiet", "-q", "--verbose", "-v"})


def _hoisted(arguments: Sequence[str]) -> list[str]:
    """`dailies run --quiet --root X` means `dailies --root X --quiet run`: global options work everywhere, up to `--`."""
    front: list[str] = []
    rest: list[str] = []
    given = iter(arguments)
    for argument in given:
        if argument == "--":
            rest += [argument, *given]
        elif argument in _GLOBAL_FLAGS or argument.startswith("--root="):
            front.append(argument)
        elif argument == "--root":
            front += [argument, *[value for value in [next(given, None)] if value is not None]]
        else:
            rest.append(argument)
    return front + rest


def _code_of(error: BaseException) -> Exit:
    """The exit code of what ended a command (docs/architecture.md)."""
    if isinstance(error, typer.Abort | KeyboardInterrupt | Interrupted):
        return Exit.INTERRUPTED
    if isinstance(error, NotPublished):
        return Exit.NOT_PUBLISHED
    return Exit.USAGE if isinstance(error, ConfigError | typer.TyperException) else Exit.VIDEOS_FAILED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; what goes wrong is one line on stderr and an exit code, a bug is its whole trace and 3."""
    try:
        return int(app(_hoisted(sys.argv[1:] if arguments is None else arguments), standalone_mode=False) or 0)
    except (typer.Abort, KeyboardInterrupt) as error:
        return _code_of(error)
    except typer.TyperException as error:
        complain(f"{error.format_message()}; see `dailies --help`", is_fatal=True)
        return _code_of(error)
    except DailiesError as error:
        complain(str(error), is_fatal=True)
        return _code_of(error)
    except BrokenPipeError:  # `dailies list | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE
    except Exception:  # noqa: BLE001 -- the one place: a bug says where it is
        complain("unexpected: a bug: please report it with the lines below", is_fatal=True)
        for line in traceback.format_exc().splitlines():
            complain(line)
        return Exit.UNEXPECTED
