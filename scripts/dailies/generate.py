"""What is written from the models, so that it is never out of date: schemas, docs/settings.md, dailies.toml.

`python -m dailies.generate` writes them into the repository; a test compares.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dailies import atomic
from dailies.config import Listing, Settings, Site
from dailies.hosts import HOSTS
from dailies.model import Video
from dailies.report import RunReport
from dailies.sources.inbox import MEDIA_SUFFIXES, UNFINISHED_SUFFIXES

_SCHEMAS: Final[dict[str, type[BaseModel]]] = {"video": Video, "run": RunReport}
_HEAD: Final = ("| key | default | meaning |", "| --- | --- | --- |")


def schemas() -> dict[str, bytes]:
    """File name to content, for `database/schema/`."""
    return {f"{name}.json": _json(model.model_json_schema(by_alias=True)) for name, model in _SCHEMAS.items()}


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _sections() -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield name, field.annotation


def _literal(field: FieldInfo) -> str:
    """The default as TOML."""
    unit = field.json_schema_extra.get("unit") if isinstance(field.json_schema_extra, dict) else None
    if unit == "duration":
        return f'"{_duration(field.default)}"'
    if unit == "size":
        return f'"{field.default // 10**9}GB"' if field.default else "0"
    return json.dumps(list(field.default) if isinstance(field.default, tuple) else field.default, ensure_ascii=False)


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length and seconds % length == 0:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:g}s"


def settings_toml() -> str:
    """A `dailies.toml` that says every default in a comment."""
    lines = [
        "# Settings of this library. Every key is optional; what is commented out is its default.",
        "# All keys are explained in docs/settings.md.",
    ]
    for name, model in _sections():
        lines += ["", f"[{name}]"]
        for key, field in model.model_fields.items():
            lines += [f"# {field.description}", f"# {key} = {_literal(field)}"]
    lines += [
        "",
        "# Feeds and folders in which new things are looked for are sections [listings.NAME] (docs/sources.md).",
        "",
        "# A host by the name `published`; add others beside it and name them in [publish] hosts.",
        "# Secrets are never written here: name the environment variable that holds one (docs/settings.md).",
        "[hosts.published]",
        'adapter = "storage"',
        'path = "media/published"',
    ]
    return "\n".join(lines) + "\n"


def settings_markdown() -> str:
    """docs/settings.md: every key with its default."""
    lines = [
        "# Settings",
        "",
        "`dailies.toml` in the root of the library. Every key has a default but those of a host. Durations are written like",
        "`45s`, `30m`, `1h30m`, `2d`; sizes like `500MB` or `2GiB`. An unknown key is an error that names the nearest known one.",
        "<!-- made from scripts/dailies/config.py by `python -m dailies.generate` -->",
    ]
    for name, model in _sections():
        lines += ["", f"## `[{name}]`", "", *_rows(model)]
    lines += [
        "",
        "## `[hosts.NAME]`",
        "",
        "A place to upload to; `NAME` is what `[publish] hosts` lists, `adapter` the kind of it.",
    ]
    for name, adapter in HOSTS.items():
        lines += ["", f"### {name}", "", *_adapter_lines(adapter)]
    lines += [
        "",
        "## `[listings.NAME]`",
        "",
        "A feed or a folder in which every run, and `dailies watch`, looks for new things ([sources.md](sources.md#listings)).",
        "",
        *_rows(Listing),
        "",
        "What lets one into a folder has the names that it has for the host [storage](#storage): `endpoint`, `region`,",
        "`access_key_env`, `secret_key_env`, `checksum`, `token_env`, `connection_string_env`, `user_env`, `password_env`,",
        "`key_file`, `known_hosts`.",
        "",
        '## `[sources.sites."HOST"]`',
        "",
        "How the web site of this host name is asked ([sources.md](sources.md)).",
        "",
        *_rows(Site),
        "",
        "## Environment variables",
        "",
        "| variable | meaning |",
        "| --- | --- |",
        "| `DAILIES_FFMPEG` | the ffmpeg to use instead of the one in the `imageio-ffmpeg` wheel |",
        "| `NO_COLOR` | no colours on a terminal |",
        "| `DAILIES_LIMIT`, `DAILIES_TIME_LIMIT`, `DAILIES_HOSTS`, `DAILIES_DRY_RUN`, `DAILIES_FORCE` | the options of `plan` and "
        "`run` by these names, for a workflow's inputs; empty means not given |",
        "| `DAILIES_PLAN` | what `plan --json` printed elsewhere: `run` obeys it |",
        "| `DAILIES_GIT_TOKEN` | a workflow's token for its own server: fetches and pushes the database |",
        "",
        "Values of variables whose name has TOKEN, KEY, SECRET or PASSWORD in it, and of those that a `*_env` key names, are",
        "masked in every log line, message and report when they are longer than 8 characters.",
        "",
        "## Which files count",
        "",
        "`dailies add FILE` takes any file. From a folder, and from the inbox, these are taken:",
        f"{', '.join(f'`{suffix}`' for suffix in sorted(MEDIA_SUFFIXES))}.",
        f"Names that end in {', '.join(f'`{suffix}`' for suffix in sorted(UNFINISHED_SUFFIXES))}, files that still grow and files",
        "that a program has open for writing wait for the next run. What is inside decides, not the name: MP4/MOV, Matroska/WebM,",
        "MPEG-TS and -PS, AVI, FLV, ASF/WMV, Ogg, MXF, NUT, IVF, DV, WTV, and the audio containers WAV, MP3, AAC, FLAC, AC-3,",
        "AIFF, CAF.",
    ]
    return "\n".join(lines) + "\n"


def _rows(model: type[BaseModel]) -> list[str]:
    """The table of a section."""
    rows = (f"| `{key}` | `{_literal(field)}` | {field.description} |" for key, field in model.model_fields.items())
    return [*_HEAD, *rows]


def workflow(requirements: str, set_up: str) -> str:
    """`.github/workflows/batch.yml`: how `.venv` is made there is all that differs between libraries."""
    template = Path(__file__).with_name("batch.yml").read_text("utf-8")
    return template.replace("@REQUIREMENTS@", requirements).replace("@SET_UP@", set_up)


def _adapter_lines(adapter: Any) -> list[str]:
    doc = (adapter.__doc__ or "").strip().splitlines()[0]
    rows = [
        f"| `{key}` | {'required' if field.is_required() else f'`{_literal(field)}`'} | {field.description} |"
        for key, field in adapter.model_fields.items()
        if field.description
    ]
    return [doc, "", *_HEAD, *rows]


def generated() -> dict[str, bytes]:
    """Path in the repository to content."""
    files = {f"database/schema/{name}": content for name, content in schemas().items()}
    batch = workflow("requirements.txt", "python3 scripts/bootstrap.py --version")
    files |= {"docs/settings.md": settings_markdown().encode(), "dailies.toml": settings_toml().encode()}
    return files | {".github/workflows/batch.yml": batch.encode()}


def main() -> None:
    if sys.argv[1:]:
        raise SystemExit("usage: python -m dailies.generate (it takes no arguments and writes into the repository)")
    root = Path(__file__).resolve().parent.parent.parent
    for name, content in generated().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        atomic.write(root / name, content)


if __name__ == "__main__":
    main()
