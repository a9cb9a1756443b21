"""The command line: argv -> settings -> wiring -> exit code. Heavy modules are imported by the command that needs them."""

import json
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from dailies import __version__
from dailies.errors import ConfigError, DailiesError, Exit, Interrupted, NotPublished

if TYPE_CHECKING:
    from dailies.library import Library
    from dailies.model import Video
    from dailies.pipeline import Result, Wanted
    from dailies.progress import Watcher

app = typer.Typer(
    name="dailies",
    help="Queue your own videos; a run checks them, makes an MP4 and a preview, publishes them and commits what happened.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_GLOBAL_FLAGS: Final = frozenset({"--quiet", "-q", "--verbose", "-v"})

Outcome = TypeVar("Outcome")
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, everything else on stderr.")]


class _Globals:
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
    _Globals.root = root
    _Globals.level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO
    if version:
        typer.echo(f"dailies {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _open(change: "Callable[[Library], Library] | None" = None) -> "Library":
    """The library of this command, with logging that masks its secrets."""
    from dailies.library import Library
    from dailies.terminal import set_up_logging

    library = Library.open(root=_Globals.root)
    library = change(library) if change else library
    set_up_logging(_Globals.level, library.redactor)
    _Globals.mask = library.redactor
    return library


def _tell_blocked(library: "Library") -> None:
    """Records that could not be shown: a line each, and exit 2."""
    blocked = library.database.blocked()
    for message in blocked:
        _complain(message)
    if blocked:
        raise typer.Exit(Exit.USAGE)


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True))


def _dumped(video: "Video") -> Any:
    return video.model_dump(mode="json", by_alias=True)


def _say(text: str) -> None:
    from dailies.redact import loggable

    typer.echo(loggable(text))


def _complain(text: str) -> None:
    from dailies.config import environment
    from dailies.redact import Redactor, loggable, secrets_of

    mask = _Globals.mask or Redactor(secrets_of(environment()))
    typer.echo(loggable(f"dailies: {mask(text)}"), err=True)


@app.command()
def init(folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="The folder; made if need be.")] = Path()) -> None:
    """Start a library: dailies.toml, database/, media/inbox/, .gitignore. Never overwrites."""
    from dailies import scaffold

    written = scaffold.init(folder)
    for name in written.new:
        _say(f"wrote {name}")
    for name in written.kept:
        _say(f"kept {name}")
    if written.missing_ignores:
        _say(f".gitignore lacks: {' '.join(written.missing_ignores)}")
    _say(f"to merge records with `git merge` and `git pull` as well: {scaffold.MERGE_DRIVER}")
    _say(f"next: put videos into {folder / 'media/inbox'}, then `dailies run`")


@app.command()
def add(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH…", readable=False, help="Files; a folder means the media files in it.")
    ],
    title: Annotated[str | None, typer.Option(help="Title; else the file's name.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag; may be given several times.")] = None,
    code: Annotated[str | None, typer.Option(help="Short name, part of the id; else the file's name.")] = None,
    move: Annotated[
        bool, typer.Option("--move", help="Delete the file at the very end, once a host has confirmed the upload.")
    ] = False,
    allow_duplicate: Annotated[
        bool, typer.Option("--allow-duplicate", help="Publish it even if another video has the same bytes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Queue files. Prints one id a line; the same file twice is one video."""
    from dailies import intake
    from dailies.clock import Deadline

    library = _open()
    wishes = intake.Wishes(title=title, tags=tuple(tag or ()), code=code, remove_source=move, allow_duplicate=allow_duplicate)
    taken = intake.add(paths, wishes, library.desk(Deadline.after(library.clock, library.settings.run.time_limit)))
    if as_json:
        _print_json(
            [{"id": one.video.id, "code": one.video.code, "state": one.video.state, "new": one.is_new} for one in taken.added]
        )
    else:
        for one in taken.added:
            typer.echo(one.video.id)
            if not one.is_new:
                unheard = "; the options given were not applied" if wishes != intake.Wishes() else ""
                known = f"is in the library already, {one.video.state}: {one.video.id}{unheard}"
                _complain(f"{one.video.source.original_name}: {known}")
    for refused in taken.refused:
        _complain(refused)
    raise typer.Exit(Exit.USAGE if taken.refused else Exit.DONE)


@app.command()
def run(
    time_limit: Annotated[str | None, typer.Option(help="Stop cleanly by then, like 315m.", metavar="DURATION")] = None,
    min_remaining: Annotated[str | None, typer.Option(help="Start no video with less left.", metavar="DURATION")] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Take at most this many videos.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="ffmpeg processes at once; else from the cores.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; touch nothing.")] = False,
    no_commit: Annotated[bool, typer.Option("--no-commit", help="Leave the records uncommitted.")] = False,
    as_json: Json = False,
) -> None:
    """The main job: take the queue, convert, publish, preview, record, commit."""
    from dailies import pipeline

    try:
        changes = {"time_limit": _seconds(time_limit), "min_remaining": _seconds(min_remaining), "jobs": jobs}
        library = _open(lambda opened: _with_run_settings(opened, changes))
        wanted = pipeline.Wanted(limit=limit, commit=not no_commit)
        if dry_run:
            _show_dry_run(library, wanted, as_json=as_json)
            return
        result = _watched(lambda watcher, stop: pipeline.run(library, wanted, watcher, stop))
    except ConfigError as error:
        if as_json and not dry_run:  # a report whatever the exit code
            _print_json(pipeline.not_started(error).model_dump(mode="json"))
        raise
    if as_json:
        _print_json(result.report.model_dump(mode="json"))
    else:
        _show_result(result)
    if result.error:
        _complain(result.error)
    raise typer.Exit(result.code)


def _seconds(text: str | None) -> float | None:
    from dailies.clock import parse_duration

    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _with_run_settings(library: "Library", changes: dict[str, Any]) -> "Library":
    from dailies.library import Library

    given = {key: value for key, value in changes.items() if value is not None}
    settings = library.settings.model_copy(update={"run": library.settings.run.model_copy(update=given)})
    return Library(library.root, settings, library.clock)


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """SIGINT, SIGTERM and SIGHUP set a flag; whoever works sees it within a fraction of a second and ends cleanly."""
    stop = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watched(work: "Callable[[Watcher, threading.Event], Outcome]") -> Outcome:
    """Bars on a terminal, lines elsewhere."""
    from dailies.progress import LogWatcher
    from dailies.terminal import BarWatcher, bars, is_interactive

    with _stoppable() as stop:
        if not is_interactive() or _Globals.level >= logging.ERROR:
            return work(LogWatcher(), stop)
        with bars() as progress:
            return work(BarWatcher(progress), stop)


def _show_result(result: "Result") -> None:
    from dailies.report import sentence
    from dailies.terminal import table

    if result.report.videos:
        rows = [(video.id, video.state.value, _last_error(video.steps)) for video in result.report.videos]
        table("", ("video", "state", "error"), rows)
    _say(sentence(result.report))


def _last_error(steps: Any) -> str:
    return next((step.error for step in reversed(list(steps.values())) if step.error), "")


def _show_dry_run(library: "Library", wanted: "Wanted", *, as_json: bool) -> None:
    from dailies import pipeline
    from dailies.model import readable
    from dailies.terminal import table

    planned, fresh = pipeline.dry_run(library, wanted)
    names = [readable(str(path.relative_to(library.root))) for path in fresh]
    if as_json:
        videos = [{"id": one.video.id, "code": one.video.code, "steps": list(one.steps), "note": one.note} for one in planned]
        _print_json({"videos": videos, "inbox": names})
        return
    rows = [(one.video.id, " ".join(one.steps) or one.note) for one in planned]
    taken = len([one for one in planned if one.steps])
    table("would do", ("video", "steps"), rows + [(name, "would be queued from the inbox") for name in names])
    _say(f"dry run: {taken} videos would be taken, {len(names)} files queued; nothing was touched")


@app.command()
def status(as_json: Json = False) -> None:
    """The queue, the last run, failures by reason."""
    from dailies import derived

    library = _open()
    content = derived.fresh_status(library.database, library.clock.now())
    if as_json:
        _print_json(content)
    else:
        _show_status(content)
    _tell_blocked(library)


def _show_status(content: Any) -> None:
    from dailies.terminal import table

    rows: list[tuple[str, object]] = [(state, count) for state, count in content["videos"].items() if count]
    rows += [(f"failed: {category}", count) for category, count in content["failures_by_category"].items()]
    if content["next_due_at"]:
        rows.append(("next attempt due", content["next_due_at"]))
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

    library = _open()
    video = library.database.load(library.database.resolve(name))
    if as_json:
        _print_json(_dumped(video))
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
    library = _open()
    videos = policy.in_order(video for video in library.database.videos() if not state or video.state in state)
    if as_json:
        _print_json([_dumped(video) for video in videos])
    else:
        table("", ("id", "state", "title"), [(video.id, video.state.value, video.title) for video in videos])
    _tell_blocked(library)


@app.command()
def retry(
    names: Annotated[list[str] | None, typer.Argument(metavar="ID…", help="Ids or codes.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Every video that failed or was unavailable.")] = False,
) -> None:
    """Queue failed videos again: counts are reset, what was completed stays."""
    from dailies import policy

    if not names and not failed:
        raise ConfigError("retry: names no video; give ids or codes, or --failed")
    library = _open()
    database = library.database
    chosen = [database.load(database.resolve(name)) for name in names or ()]
    chosen += [video for video in database.videos() if failed and policy.needs_retry(video)]
    code = Exit.DONE
    for video in {video.id: video for video in chosen}.values():
        if not policy.is_retryable(video):
            _complain(f"{video.id}: is {video.state}; there is nothing to retry")
            code = Exit.USAGE
            continue
        database.save(policy.retried(video), video)
        typer.echo(video.id)
    raise typer.Exit(code)


@app.command()
def commit() -> None:
    """Publish the records as they are: merge with the remote, commit, push."""
    from dailies import pipeline

    library = _open()
    with _stoppable() as stop:
        _say(pipeline.commit(library, stop).message)


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

    library = _open()
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

    library = _open()
    for video_id in [library.database.resolve(name) for name in names]:
        video = library.database.load(video_id)
        library.database.save(video.with_(deleted_at=video.deleted_at or timestamp(library.clock.now())), video)
        typer.echo(video_id)


@app.command("merge-driver", hidden=True)
def merge_driver(base: Path, ours: Path, theirs: Path, name: str) -> None:
    """For git: merge the records of three files into the second (%O %A %B %P); exit 1 leaves the conflict to a person."""
    from dailies.merge import merge_files

    if "videos/" not in name:
        return
    try:
        ours.write_bytes(merge_files(base.read_bytes(), ours.read_bytes(), theirs.read_bytes()))
    except (OSError, ValueError) as error:
        _complain(f"{name}: cannot be merged: {error}; resolve it by hand")
        raise typer.Exit(Exit.VIDEOS_FAILED) from error


@app.command()
def cleanup(
    emergency: Annotated[bool, typer.Option("--emergency", help="First end a run that is still at work.")] = False,
) -> None:
    """Put right what a run that died left: programs, reservations, temporary files, work folders."""
    from dailies import pipeline
    from dailies.locks import Single

    library = _open()
    if emergency:
        _say(f"cleanup: {pipeline.end_living_run(library)}")
    with Single(library.work / "run.lock").held():
        _say(f"cleanup: {pipeline.recover_library(library)}")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Is everything there that a run needs?"""
    from dataclasses import asdict

    from dailies.doctor import examine
    from dailies.terminal import table

    checks = list(examine(_open()))
    if as_json:
        _print_json([asdict(check) for check in checks])
    else:
        table("", ("check", "verdict", "finding"), [(check.name, check.verdict, check.message) for check in checks])
    raise typer.Exit(Exit.USAGE if any(check.verdict == "error" for check in checks) else Exit.DONE)


@app.command()
def demo() -> None:
    """The whole pipeline on generated clips, in a folder demo/ of its own with a remote of its own."""
    from dailies import config
    from dailies.demo import play
    from dailies.redact import Redactor, secrets_of
    from dailies.terminal import set_up_logging, table

    set_up_logging(_Globals.level, Redactor(secrets_of(config.environment())))
    try:
        parent = _Globals.root or config.find_root(Path.cwd())
    except ConfigError:
        parent = Path.cwd()
    played = _watched(lambda watcher, stop: play(parent.resolve(), watcher, stop))
    rows = []
    for outcome in played.outcomes:
        video = outcome.video
        why = video.duplicate_of or (video.last_error.message if video.last_error else "")
        where = ", ".join(filter(None, (upload.direct_url for kinds in video.uploads.values() for upload in kinds.values())))
        rows.append(
            (video.source.original_name, video.state.value, "as expected" if outcome.is_expected else "NOT EXPECTED", where or why)
        )
    table("what became of each", ("file", "state", "verdict", "where, or why"), rows)
    root = played.library.root
    _say(f"look at {root / 'media/published'} (videos), {root / 'database'} (records), `git -C {root} log --stat` (commits)")
    _say(f"pushed to {played.remote}" if played.is_pushed else f"NOT pushed to {played.remote}")
    raise typer.Exit(Exit.DONE if played.is_expected else Exit.VIDEOS_FAILED)


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
        _complain(f"{error.format_message()}; see `dailies --help`")
        return _code_of(error)
    except DailiesError as error:
        _complain(str(error))
        return _code_of(error)
    except BrokenPipeError:  # `dailies list | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE
    except Exception:  # noqa: BLE001 -- the one place: a bug says where it is
        _complain("unexpected: a bug: please report it with the lines below")
        for line in traceback.format_exc().splitlines():
            _complain(line)
        return Exit.UNEXPECTED
