"""Commands about one file, without a queue or a library: preview, analyse, frames."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dailies.cli.app import Globals, Json, app, print_json, say, stoppable

if TYPE_CHECKING:
    from dailies.media.analysis import Analysis
    from dailies.studio import Studio

File = Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="A video; no library is needed.")]
Profile = Annotated[
    Literal["balanced", "action", "talk"] | None,
    typer.Option(help="What makes a moment worth showing; else the settings' profile."),
]
Clips = Annotated[int | None, typer.Option(min=1, max=50, help="Clips; else the settings' number (10).")]
Length = Annotated[float | None, typer.Option("--clip-length", min=0.1, max=60, help="Seconds a clip; else the settings' (3).")]


@contextmanager
def _studio(file: Path, **changes: Any) -> "Iterator[Studio]":
    """With the settings of the library that stands around, if one does; `changes` are of [preview]."""
    from dailies import config, studio
    from dailies.redact import Redactor, secrets_of
    from dailies.terminal import set_up_logging

    set_up_logging(Globals.level, Redactor(secrets_of(config.environment())))
    root = Globals.root or next(
        (folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / config.FILE_NAME).is_file()), None
    )
    settings = config.load(root) if root else config.Settings()
    given = {key: value for key, value in changes.items() if value is not None}
    weights: dict[str, Any] = {"weights": {}} if "profile" in given else {}
    settings = settings.model_copy(update={"preview": settings.preview.model_copy(update={**weights, **given})})
    with stoppable() as stop, studio.opened(file, settings, stop) as opened:
        yield opened


@app.command()
def preview(
    file: File,
    out: Annotated[Path, typer.Option("--out", "-o", help="The preview: .mp4, or .webp for an animated picture.")],
    profile: Profile = None,
    clips: Clips = None,
    clip_length: Length = None,
    height: Annotated[int | None, typer.Option(min=64, max=2160, help="Lines at most; else the settings' (480).")] = None,
    encoder_preset: Annotated[
        Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower"] | None,
        typer.Option(help="x264's preset; else the settings' (veryfast)."),
    ] = None,
    crf: Annotated[int | None, typer.Option(min=0, max=51, help="x264's quality; else the settings' (23).")] = None,
    frames: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also cover, sprite sheet and contact sheet, from the same look.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say why each moment was chosen; draw it beside OUT as .svg.")] = False,
) -> None:
    """Make a preview of the best moments of one file."""
    options = {"clips": clips, "clip_length": clip_length, "height": height, "encoder_preset": encoder_preset, "crf": crf}
    with _studio(file, profile=profile, **options) as studio:
        found = studio.preview(out, frames)
    say(f"{out}: {len(found.clips)} clips of {found.duration_s:.1f} s")
    if explain:
        _explain(found, file, out.with_suffix(".svg"))


def _explain(found: "Analysis", file: Path, drawing: Path) -> None:
    from dailies import explain, studio

    for line in explain.lines(found):
        say(line)
    studio.write(drawing, explain.svg(found, file.name).encode())
    say(f"{drawing}: the time line of the scores")


@app.command()
def analyse(
    file: File,
    profile: Profile = None,
    clips: Clips = None,
    clip_length: Length = None,
    shots: Annotated[bool, typer.Option("--shots", help="All shots of the file: every picture is decoded.")] = False,
    explain: Annotated[Path | None, typer.Option(metavar="SVG", help="Draw the time line of the scores into this file.")] = None,
    as_json: Json = False,
) -> None:
    """What of one file is worth showing, and why: moments, shots, cover, fingerprint."""
    with _studio(file, profile=profile, clips=clips, clip_length=clip_length) as studio:
        found = studio.analyse(all_shots=shots)
    if as_json:
        print_json(found.model_dump(mode="json", exclude={"pictures", "pace"}))
    else:
        _show(found)
    if explain:
        from dailies import explain as drawing
        from dailies import studio as place

        place.write(explain, drawing.svg(found, file.name).encode())


def _show(found: "Analysis") -> None:
    from dailies import explain
    from dailies.terminal import table

    rows: list[tuple[str, object]] = [("duration", f"{found.duration_s:.1f} s"), ("tags", ", ".join(found.tags))]
    rows += [("cover", f"at {found.cover_t_s} s"), ("fingerprint", found.phash or "none: too plain")]
    rows += [("clip", line) for line in explain.lines(found)] or [("clips", "none: nothing stands out")]
    rows += [("shot", f"{shot.start_s:.2f} to {shot.end_s:.2f} s") for shot in found.shots]
    table("", ("what", "found"), rows)


@app.command()
def frames(
    file: File,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder; made if need be.")],
    cover: Annotated[Literal["jpg", "webp"] | None, typer.Option(help="Format of the cover; else the settings' (jpg).")] = None,
) -> None:
    """Make the pictures of one file: cover, sprite sheet with WebVTT, contact sheet."""
    with _studio(file, cover=cover) as studio:
        made = studio.frames(out)
    for path in made.values():
        say(str(path))
