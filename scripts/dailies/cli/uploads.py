"""Commands about uploads: upload, uploads, allow-duplicates."""

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dailies.cli.app import Json, app, complain, open_library, print_json, say, stoppable, watched
from dailies.errors import ConfigError, Exit

if TYPE_CHECKING:
    from dailies.library import Library
    from dailies.model import Kind, Upload, Video

_SHOWN: Final = ("status", "retry_count", "remote_id", "watch_url", "embed_url", "direct_url", "at", "until", "error", "attempt_id")


@app.command()
def upload(
    name: Annotated[str | None, typer.Argument(metavar="ID|CODE", help="The video.")] = None,
    hosts: Annotated[list[str] | None, typer.Argument(metavar="HOST…", help="Hosts from dailies.toml.")] = None,
    all_pending: Annotated[bool, typer.Option("--all-pending", help="Every MP4 that is not yet where it should be.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also what was given up or refused as a duplicate, or is there already.")
    ] = False,
    is_there: Annotated[
        str | None, typer.Option(metavar="REMOTE_ID", help="You have looked, the host has it under this id: send nothing.")
    ] = None,
) -> None:
    """Send finished MP4s to hosts without the steps before; the records say what came of it."""
    from dailies import stage
    from dailies.clock import Deadline
    from dailies.model import Kind
    from dailies.redact import loggable

    if all_pending == bool(name) or (name and not hosts) or (is_there is not None and len(hosts or ()) != 1):
        raise ConfigError("upload: names what to send by ID and HOST, or by --all-pending; --is-there goes with one host")
    with stoppable() as stop:
        library = open_library()
        if name and is_there is not None:
            video = stage.record_as_sent(library, library.database.resolve(name), (hosts or [""])[0], is_there, is_forced=force)
            say(f"{video.id}: recorded as {is_there}")
            _tell_unpublished(library)
            return
        limit = Deadline.after(library.clock, library.settings.run.time_limit, stop)
        video_id = library.database.resolve(name) if name else ""
        sent = watched(
            lambda watcher: (
                stage.upload(library, video_id, hosts or [], limit, is_forced=force, meter=watcher.uploading)
                if video_id
                else stage.upload_pending(library, limit, watcher.uploading)
            )
        )
    for one in sent:
        if one.error is not None:
            complain(f"{one.video.id}: {one.error}")
        else:
            there = one.video.upload(one.host, Kind.VIDEO)
            link = loggable(there.watch_url or there.direct_url or there.remote_id or "")
            typer.echo(f"{one.video.id}\t{one.host}\t{link}")
    if not sent:
        say("nothing is pending")
    _tell_unpublished(library)
    raise typer.Exit(Exit.VIDEOS_FAILED if any(one.error for one in sent) else Exit.DONE)


def _tell_unpublished(library: "Library") -> None:
    if library.database.saves and library.repository.exists():
        complain("the records here have changed; `dailies commit` publishes them")


@app.command("uploads")
def uploads_(
    host: Annotated[list[str] | None, typer.Option(help="Only these hosts; may be given several times.")] = None,
    status: Annotated[list[str] | None, typer.Option(help="Only these statuses; may be given several times.")] = None,
    as_json: Json = False,
) -> None:
    """All uploads, oldest video first."""
    from dailies import policy
    from dailies.model import UploadStatus
    from dailies.terminal import table

    wanted = [name.upper() for name in status or ()]
    unknown = [name for name in wanted if name not in {known.value for known in UploadStatus}]
    if unknown:
        raise ConfigError(f"--status: {unknown[0]!r} is none of {', '.join(known.value for known in UploadStatus)}")
    library = open_library()
    videos = policy.in_order(library.database.videos())
    known = {*library.settings.hosts, *(name for video in videos for name in video.uploads)}
    for name in host or ():
        if name not in known:
            raise ConfigError(f"--host: {name!r}: neither the settings nor a record knows it; known: {', '.join(sorted(known))}")
    rows = [
        _row(video, name, kind, upload)
        for video in videos
        for name, kinds in sorted(video.uploads.items())
        for kind, upload in sorted(kinds.items())
        if (not host or name in host) and (not wanted or upload.status.value in wanted)
    ]
    if as_json:
        print_json(rows)
        return
    shown = [
        (row["id"], row["host"], row["kind"], row["status"], row["error"] or row["watch_url"] or row["direct_url"] or "")
        for row in rows
    ]
    table("", ("video", "host", "kind", "status", "where, or why"), shown)


def _row(video: "Video", host: str, kind: "Kind", upload: "Upload") -> dict[str, Any]:
    content = upload.model_dump(mode="json")
    return {"id": video.id, "host": host, "kind": kind.value, **{key: content[key] for key in _SHOWN}}


@app.command("allow-duplicates")
def allow_duplicates(
    name: Annotated[str, typer.Argument(metavar="ID|CODE")],
    switch: Annotated[str, typer.Argument(metavar="on|off")],
) -> None:
    """Whether a video may go to a host that has the same bytes already."""
    from dailies.stage import VideoRegistry

    if switch not in {"on", "off"}:
        raise ConfigError(f"allow-duplicates: {switch!r} is neither on nor off")
    video = VideoRegistry(open_library()).set_duplicate_allowed(name, switch == "on")
    typer.echo(video.id)
