"""Commands that work: run, plan, report, commit, cleanup, doctor, demo."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dailies.cli.app import Globals, Json, app, complain, open_library, print_json, say, stoppable, tell, watched
from dailies.errors import ConfigError, Exit

if TYPE_CHECKING:
    from dailies.library import Library
    from dailies.pipeline import Result, Wanted

_PLAN: Final = "DAILIES_PLAN"  # what `dailies plan` printed in another job
Limit = Annotated[int | None, typer.Option(min=0, envvar="DAILIES_LIMIT", help="Take at most this many videos.")]
TimeLimit = Annotated[
    str | None, typer.Option(envvar="DAILIES_TIME_LIMIT", help="Stop cleanly by then, like 315m.", metavar="DURATION")
]
Hosts = Annotated[
    str | None, typer.Option(envvar="DAILIES_HOSTS", help="Publish to these instead, like `archive,vault`.", metavar="NAMES")
]
Force = Annotated[bool, typer.Option("--force", envvar="DAILIES_FORCE", help="Also what waits for a later attempt.")]
DryRun = Annotated[bool, typer.Option("--dry-run", envvar="DAILIES_DRY_RUN", help="Say what would be done; touch nothing.")]


@app.command()
def run(
    time_limit: TimeLimit = None,
    min_remaining: Annotated[str | None, typer.Option(help="Start no video with less left.", metavar="DURATION")] = None,
    limit: Limit = None,
    hosts: Hosts = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="ffmpeg processes at once; else from the cores.")] = None,
    force: Force = False,
    dry_run: DryRun = False,
    no_commit: Annotated[bool, typer.Option("--no-commit", help="Leave the records uncommitted.")] = False,
    as_json: Json = False,
) -> None:
    """The main job: take the queue, convert, publish, preview, record, commit."""
    with stoppable() as stop:  # from the first moment, as importing starts programs too, to the last word
        from dailies import config, pipeline, planning

        names = names_of(hosts)
        try:
            plan = planning.parse(text) if (text := config.environment().get(_PLAN)) else None
            changes = {"time_limit": seconds(time_limit), "min_remaining": seconds(min_remaining), "jobs": jobs}
            if plan is not None:  # what is said here goes before what was planned elsewhere
                changes["time_limit"] = plan.time_limit_s if changes["time_limit"] is None else changes["time_limit"]
                limit, names = plan.limit if limit is None else limit, names or plan.hosts
                force, dry_run = force or plan.force, dry_run or plan.dry_run
            library = open_library(lambda opened: with_settings(opened, changes, names))
            wanted = pipeline.Wanted(limit, commit=not no_commit, force=force, slot=plan.slot() if plan else None)
            if dry_run:
                _show_dry_run(library, wanted, as_json=as_json)
                return
            result = watched(lambda watcher: pipeline.run(library, wanted, watcher, stop))
        except ConfigError as error:
            if as_json and not dry_run:  # a report whatever the exit code
                print_json(pipeline.not_started(error).model_dump(mode="json"))
            raise
        _tell_actions(library, result)
        if as_json:
            print_json(result.report.model_dump(mode="json"))
        else:
            show_result(result)
        if result.error:
            complain(result.error, is_fatal=True)
        raise typer.Exit(result.code)


@app.command()
def plan(
    limit: Limit = None,
    time_limit: TimeLimit = None,
    hosts: Hosts = None,
    force: Force = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", envvar="DAILIES_DRY_RUN", help="The run is to touch nothing.")] = False,
    schedule: Annotated[str, typer.Option(envvar="DAILIES_SCHEDULE", help="The cron line that fired.", metavar="CRON")] = "",
    as_json: Json = False,
) -> None:
    """Should a run start now, with what, and how late is it? Its inputs can come from the environment."""
    from dailies import actions, planning

    changes = {"time_limit": seconds(time_limit)}
    library = open_library(lambda opened: with_settings(opened, changes, names_of(hosts)))
    made = planning.make(library, schedule, limit=limit, dry_run=dry_run, force=force)
    actions.outputs({"should_run": str(made.should_run).lower(), "reason": made.reason, "plan": made.model_dump_json()})
    said = f"{'run' if made.should_run else 'no run'}: {made.reason}"
    if not made.should_run:
        actions.summary(f"Dailies: {said}")
    if as_json:
        print_json(made.model_dump(mode="json"))
    else:
        say(said)


@app.command("report")
def report_(
    plan_result: Annotated[str, typer.Option(envvar="DAILIES_PLAN_RESULT", help="How the job `plan` ended.")] = "success",
    run_result: Annotated[str, typer.Option(envvar="DAILIES_RUN_RESULT", help="How the job `run` ended.")] = "success",
    run_id: Annotated[str, typer.Option(envvar="DAILIES_RUN_ID", help="The run that it told of, if it came so far.")] = "",
) -> None:
    """How the library stands and what became of the last run, as Markdown; in a workflow also what [actions] asks for."""
    from dailies import actions, aftermath

    library = open_library()
    markdown = aftermath.page(library, plan_result, run_result, run_id)
    actions.summary(markdown)
    typer.echo(markdown)
    for warning in aftermath.settle(library, plan_result, run_result, run_id):
        if actions.is_on():
            tell(actions.annotation("warning", warning, "dailies"))
        else:
            complain(warning)


def _tell_actions(library: "Library", result: "Result") -> None:
    """Annotations, outputs and the summary of a run, where a workflow asks for them."""
    from dailies import actions, aftermath

    if not actions.is_on():
        return
    tell(*actions.failures(result.report))
    counts = result.report.summary
    actions.outputs(
        {
            "run_id": result.report.run_id,
            "status": result.report.status,
            "done": counts.done,
            "failed": counts.failed,
            "remaining": counts.remaining,
        }
    )
    actions.summary(aftermath.of_run(library, result.report))


def names_of(text: str | None) -> tuple[str, ...]:
    return tuple((text or "").replace(",", " ").split())


def seconds(text: str | None) -> float | None:
    from dailies.clock import parse_duration

    try:
        return parse_duration(text) if text else None
    except ValueError as error:
        raise ConfigError(str(error)) from error


def with_settings(library: "Library", changes: dict[str, Any], hosts: tuple[str, ...] = ()) -> "Library":
    from dailies.library import Library

    given = {key: value for key, value in changes.items() if value is not None}
    publish = library.settings.publish.model_copy(update={"hosts": hosts} if hosts else {})
    settings = library.settings.model_copy(update={"run": library.settings.run.model_copy(update=given), "publish": publish})
    return Library(library.root, settings, library.clock)


def show_result(result: "Result") -> None:
    from dailies.report import sentence
    from dailies.terminal import table

    if result.report.videos:
        table(
            "", ("video", "state", "error"), [(video.id, video.state.value, video.last_error()) for video in result.report.videos]
        )
    say(sentence(result.report))


def _show_dry_run(library: "Library", wanted: "Wanted", *, as_json: bool) -> None:
    from dailies import pipeline
    from dailies.model import readable
    from dailies.terminal import table

    planned, fresh = pipeline.dry_run(library, wanted)
    names = [readable(os.path.relpath(path, library.root)) for path in fresh]
    if as_json:
        videos = [{"id": one.video.id, "code": one.video.code, "steps": list(one.steps), "note": one.note} for one in planned]
        print_json({"videos": videos, "inbox": names})
        return
    rows = [(one.video.id, " ".join(one.steps) or one.note) for one in planned]
    taken = len([one for one in planned if one.steps])
    table("would do", ("video", "steps"), rows + [(name, "would be queued from the inbox") for name in names])
    say(f"dry run: {taken} videos would be taken, {len(names)} files queued; nothing was touched")


@app.command()
def commit(
    time_limit: Annotated[
        str | None, typer.Option(help="Give up by then, and save what is unpublished.", metavar="DURATION")
    ] = None,
) -> None:
    """Publish the records as they are: merge with the remote, commit, push."""
    from dailies import sharing

    limit_s = seconds(time_limit)
    library = open_library()
    with stoppable() as stop:
        say(sharing.commit(library, stop, sharing.COMMIT_LIMIT_S if limit_s is None else limit_s).message)


@app.command("merge-driver", hidden=True)
def merge_driver(base: Path, ours: Path, theirs: Path, name: str) -> None:
    """For git: merge the records of three files into the second (%O %A %B %P); exit 1 leaves the conflict to a person."""
    from dailies.merge import merge_files

    if "videos/" not in name:
        return
    try:
        ours.write_bytes(merge_files(base.read_bytes(), ours.read_bytes(), theirs.read_bytes()))
    except (OSError, ValueError) as error:
        complain(f"{name}: cannot be merged: {error}; resolve it by hand")
        raise typer.Exit(Exit.VIDEOS_FAILED) from error


@app.command()
def cleanup(
    emergency: Annotated[bool, typer.Option("--emergency", help="First end a run that is still at work.")] = False,
) -> None:
    """Put right what a run that died left: programs, reservations, temporary files, work folders."""
    from dailies import pipeline
    from dailies.locks import Single

    library = open_library()
    if emergency:
        say(f"cleanup: {pipeline.end_living_run(library)}")
    with Single(library.work / "run.lock").held():
        say(f"cleanup: {pipeline.recover_library(library)}")


@app.command()
def doctor(
    live: Annotated[bool, typer.Option("--live", help="Also ask each host whether it takes the credentials.")] = False,
    as_json: Json = False,
) -> None:
    """Is everything there that a run needs?"""
    from dataclasses import asdict

    from dailies import actions
    from dailies.doctor import examine
    from dailies.terminal import table

    checks = list(examine(open_library(), is_live=live))
    if actions.is_on():
        faults = [check for check in checks if check.verdict != "ok"]
        tell(*(actions.annotation(check.verdict, check.message, f"doctor: {check.name}") for check in faults))
    if as_json:
        print_json([asdict(check) for check in checks])
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

    set_up_logging(Globals.level, Redactor(secrets_of(config.environment())))
    try:
        parent = Globals.root or config.find_root(Path.cwd())
    except ConfigError:
        parent = Path.cwd()
    with stoppable() as stop:
        played = watched(lambda watcher: play(parent.resolve(), watcher, stop))
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
    say(f"look at {root / 'media/published'} (videos), {root / 'database'} (records), `git -C {root} log --stat` (commits)")
    say(f"pushed to {played.remote}" if played.is_pushed else f"NOT pushed to {played.remote}")
    raise typer.Exit(Exit.DONE if played.is_expected else Exit.VIDEOS_FAILED)
