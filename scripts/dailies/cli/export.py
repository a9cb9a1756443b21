"""Commands that hand the records to other programs: export sqlite, export csv, export json."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dailies.cli.app import app, open_library, say, tell_blocked

if TYPE_CHECKING:
    from dailies.export import Contents, Counts
    from dailies.library import Library

_STDOUT: Final = Path("-")
exports = typer.Typer(help="Write the records as tables for other programs.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(exports, name="export")
Force = Annotated[bool, typer.Option("--force", help="Also over a file that is no export of Dailies.")]


def _contents(library: "Library") -> "Contents":
    from dailies.export import Contents

    return Contents(library.database, library.journal, library.clock)


def _default(library: "Library", name: str) -> Path:
    return library.work / "export" / name


def _say_written(library: "Library", path: Path, counts: "Counts") -> None:
    say(f"wrote {path}: {', '.join(f'{count} {table}' for table, count in counts.items())}")
    tell_blocked(library)


@exports.command("sqlite")
def sqlite_(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="The database; else work/export/dailies.sqlite of the library.")
    ] = None,
    force: Force = False,
) -> None:
    """A SQLite database, for sqlite3, datasette and the like."""
    from dailies import export

    library = open_library()
    path = file or _default(library, "dailies.sqlite")
    _say_written(library, path, export.write_sqlite(_contents(library), path, force=force))


@exports.command("csv")
def csv_(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER]", help="For one file a table; else work/export/csv of the library.")
    ] = None,
    force: Force = False,
) -> None:
    """One CSV file a table, safe to open in a spreadsheet."""
    from dailies import export

    library = open_library()
    path = folder or _default(library, "csv")
    _say_written(library, path, export.write_csv(_contents(library), path, force=force))


@exports.command("json")
def json_(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="- is stdout; else work/export/dailies.json of the library.")
    ] = None,
    force: Force = False,
) -> None:
    """One JSON document with a list for each table."""
    from dailies import export

    library = open_library()
    if file == _STDOUT:
        export.print_json(_contents(library), sys.stdout.buffer)
        tell_blocked(library)
        return
    path = file or _default(library, "dailies.json")
    _say_written(library, path, export.write_json(_contents(library), path, force=force))
