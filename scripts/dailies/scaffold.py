"""`dailies init`: a new library, without ever overwriting anything."""

import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from dailies import __version__, repository, summary
from dailies.errors import ConfigError
from dailies.generate import schemas, settings_toml, workflow

IGNORED: Final = (
    "/work/",
    "/logs/",
    "/demo/",
    "/.venv/",
    "/media/published/",
    "/media/inbox/*",
    "!/media/inbox/.gitkeep",
    ".tmp-*",
    "*.json.corrupt-*",
)


# Records are merged by `dailies merge-driver`, once `git config merge.dailies.driver` names it; what is derived stays as it is
# here and is rebuilt when it is published next
ATTRIBUTES: Final = """database/videos/** merge=dailies
database/*.json merge=dailies
database/combined/** merge=dailies
database/events/*.jsonl merge=union
"""
MERGE_DRIVER: Final = 'git config merge.dailies.driver "dailies merge-driver %O %A %B %P"'


@dataclass(frozen=True)
class Written:
    """What was made, and what stood there already."""

    new: tuple[str, ...]
    kept: tuple[str, ...]
    missing_ignores: tuple[str, ...]


REQUIREMENTS: Final = "requirements-dailies.txt"
UNKNOWN: Final = "git+https://dailies.invalid@COMMIT"
SET_UP: Final = f"python3 -m venv .venv && .venv/bin/pip install --quiet --requirement {REQUIREMENTS}"
README: Final = f"""# {{}}

A library of Dailies: queued videos are checked, converted, published and recorded as JSON below `database/`.

{summary.BEGIN}
{summary.END}
"""


def _installed_from() -> tuple[str, str] | None:
    """(address, commit) as pip has recorded it (PEP 610); None where it was not installed from git."""
    try:
        said = json.loads(metadata.distribution("dailies").read_text("direct_url.json") or "{}")
        return said["url"], said["vcs_info"]["commit_id"]
    except (metadata.PackageNotFoundError, KeyError, ValueError):
        return None


def requirement() -> str:
    """Where this very program came from, for pip on another machine: the commit that it was installed or is run from."""
    found = _installed_from() or repository.origin_of(Path(__file__).resolve().parent, "scripts/dailies")
    if found is None or not found[0].startswith("https://"):
        return f"dailies @ {UNKNOWN}  # put the address and the commit of Dailies {__version__} here"
    return f"dailies @ git+{found[0]}@{found[1]}"


def files(name: str) -> dict[str, bytes]:
    """What a new library called `name` holds."""
    ignore = (
        "# what dailies keeps on this machine only; take out the media lines to commit media with Git LFS\n"
        + "\n".join(IGNORED)
        + "\n"
    )
    schema = {f"database/schema/{name}": content for name, content in schemas().items()}
    return {
        "dailies.toml": settings_toml().encode(),
        ".gitignore": ignore.encode(),
        ".gitattributes": ATTRIBUTES.encode(),
        ".github/workflows/batch.yml": workflow(REQUIREMENTS, SET_UP).encode(),
        REQUIREMENTS: f"# what .github/workflows/batch.yml installs\n{requirement()}\n".encode(),
        "README.md": README.format(name).encode(),
        "media/inbox/.gitkeep": b"",
        **schema,
    }


def init(folder: Path) -> Written:
    """Raises ConfigError when the folder cannot be written."""
    new: list[str] = []
    kept: list[str] = []
    try:
        for name, content in files(folder.resolve().name).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with path.open("xb") as file:
                    file.write(content)
                new.append(name)
            except FileExistsError:
                kept.append(name)
        (folder / "database" / "videos").mkdir(exist_ok=True)
        present = (folder / ".gitignore").read_text("utf-8", "replace").splitlines()
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made a library: {error.strerror}; choose a folder that you may write") from error
    return Written(tuple(new), tuple(kept), tuple(line for line in IGNORED if line not in present))
