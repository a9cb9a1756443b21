"""`dailies init`: a new library, without ever overwriting anything."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dailies.errors import ConfigError
from dailies.generate import schemas, settings_toml

IGNORED: Final = (
    "/work/",
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
ATTRIBUTES: Final = "database/videos/** merge=dailies\ndatabase/*.json merge=dailies\ndatabase/combined/** merge=dailies\n"
MERGE_DRIVER: Final = 'git config merge.dailies.driver "dailies merge-driver %O %A %B %P"'


@dataclass(frozen=True)
class Written:
    """What was made, and what stood there already."""

    new: tuple[str, ...]
    kept: tuple[str, ...]
    missing_ignores: tuple[str, ...]


def files() -> dict[str, bytes]:
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
        "media/inbox/.gitkeep": b"",
        **schema,
    }


def init(folder: Path) -> Written:
    """Raises ConfigError when the folder cannot be written."""
    new: list[str] = []
    kept: list[str] = []
    try:
        for name, content in files().items():
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
