"""Commands that read and write the records: init, status, show, list, retry, edit, remove."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dailies.cli.app import Json, app, complain, open_library, print_json, say, tell_blocked
from dailies.errors import ConfigError, Exit

if TYPE_CHECKING:
    from dailies.model import Video


def _dumped(video: "Video") -> Any:
    return video.model_dump(mode="json", by_alias=True)


@app.command()
def init(folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="The folder; made if need be.")] = Path()) -> None:
    """Start a library: dailies.toml, database/, media/inbox/, the workflow that runs it. Never overwrites."""
    from dailies import scaffold

    written = scaffold.init(folder)
    for name in written.new:
        say(f"wrote {name}")
    for name in written.kept:
        say(f"kept {name}")
    if written.missing_ignores:
        say(f".gitignore lacks: {' '.join(written.missing_ignores)}")
    say(f"to merge records with `git merge` and `git pull` as well: {scaffold.MERGE_DRIVER}")
    say(f"next: put videos into {folder / 'media/inbox'}, then `dailies run`")


@app.command()
def status(as_json: Json = False) -> None:
    """The queue, the last run, failures by reason."""
    from dailies import derived

    library = open_library()
    content = derived.fresh_status(library.database, library.clock.now())
    if as_json:
        print_json(content)
    else:
        _show_status(content)
    tell_blocked(library)


def _show_status(content: Any) -> None:
    from dailies.terminal import table

    rows: list[tuple[str, object]] = [(state, count) for state, count in content["videos"].items() if count]
    rows += [(f"failed: {category}", count) for category, count in content["failures_by_category"].items()]
    if content["next_due_at"]:
        rows.append(("next attempt due", content["next_due_at"]))
    for name, listing in content["listings"].items():
        if listing.get("failures"):
            rows.append((f"listing {name}", f"failed {listing['failures']} times: {listing.get('error')}"))
    last = content["last_run"]
    if last:
        rows.append(("last run", f"{last['status']}, {last['finished_at']}"))
    table("", ("what", "now"), rows or [("videos", "none yet; `dailies add PATH`")])


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="ID|CODE")],
    as_json: Json = False,
) -> None:
    """Everything about one video."""
    from dailies.terminal import lines_of, table

    library = open_library()
    video = library.database.load(library.database.resolve(name))
    if as_json:
        print_json(_dumped(video))
    else:
        table("", ("field", "value"), lines_of(video))


@app.command("list")
def list_(
    state: Annotated[list[str] | None, typer.Option(help="Only these states; may be given several times.")] = None,
    as_json: Json = False,
) -> None:
    """All videos, oldest first."""
    from dailies import policy
    from dailies.model import State
    from dailies.terminal import table

    unknown = [name for name in state or () if name not in {known.value for known in State}]
    if unknown:
        raise ConfigError(f"--state: {unknown[0]!r} is none of {', '.join(known.value for known in State)}")
    library = open_library()
    videos = policy.in_order(video for video in library.database.videos() if not state or video.state in state)
    if as_json:
        print_json([_dumped(video) for video in videos])
    else:
        table("", ("id", "state", "title"), [(video.id, video.state.value, video.title) for video in videos])
    tell_blocked(library)


@app.command()
def retry(
    names: Annotated[list[str] | None, typer.Argument(metavar="ID…", help="Ids or codes.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Every video that failed or was unavailable.")] = False,
) -> None:
    """Queue failed videos again: counts are reset, what was completed stays."""
    from dailies import policy

    if not names and not failed:
        raise ConfigError("retry: names no video; give ids or codes, or --failed")
    library = open_library()
    database = library.database
    chosen = [database.load(database.resolve(name)) for name in names or ()]
    chosen += [video for video in database.videos() if failed and policy.needs_retry(video)]
    code = Exit.DONE
    for video in {video.id: video for video in chosen}.values():
        if not policy.is_retryable(video):
            complain(f"{video.id}: is {video.state}; there is nothing to retry")
            code = Exit.USAGE
            continue
        database.save(policy.retried(video), video)
        typer.echo(video.id)
    raise typer.Exit(code)


@app.command()
def edit(
    name: Annotated[str, typer.Argument(metavar="ID|CODE")],
    title: Annotated[str | None, typer.Option(help="New title.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Add a tag; may be given several times.")] = None,
    no_tag: Annotated[list[str] | None, typer.Option(help="Take a tag away; may be given several times.")] = None,
    description: Annotated[str | None, typer.Option(help="New description.")] = None,
) -> None:
    """Change what people say about a video; an edit wins over older ones wherever they were made."""
    from dailies import intake

    library = open_library()
    video = library.database.load(library.database.resolve(name))
    changed = intake.edited(video, library.clock, title=title, description=description, add=tag or (), remove=no_tag or ())
    if changed is video:
        raise ConfigError("edit: changes nothing; give --title, --description, --tag or --no-tag")
    library.database.save(changed, video)
    typer.echo(video.id)


@app.command()
def remove(names: Annotated[list[str], typer.Argument(metavar="ID…", help="Ids or codes.")]) -> None:
    """Take videos out of the library; what hosts have stays there, the source file too."""
    from dailies.clock import timestamp

    library = open_library()
    for video_id in [library.database.resolve(name) for name in names]:
        video = library.database.load(video_id)
        library.database.save(video.with_(deleted_at=video.deleted_at or timestamp(library.clock.now())), video)
        typer.echo(video_id)
