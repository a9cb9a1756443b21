"""The command that queues: add."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dailies.cli.app import Json, app, complain, open_library, print_json
from dailies.errors import ConfigError, Exit

if TYPE_CHECKING:
    from dailies.intake import Added, Item, Wishes
    from dailies.library import Library
    from dailies.lists import Entry, Parsed

_STDIN: Final = "-"


@app.command()
def add(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH|URL]…", help="Files and links; a folder means the media files in it.")
    ] = None,
    lists: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Queue what a list names: .txt, .csv, .json, OPML or a feed; - is standard input. May be given several times.",
        ),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title; else the file's name.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag; may be given several times.")] = None,
    code: Annotated[str | None, typer.Option(help="Short name, part of the id; else the file's name.")] = None,
    move: Annotated[
        bool, typer.Option("--move", help="Delete the file at the very end, once a host has confirmed the upload.")
    ] = False,
    allow_duplicate: Annotated[
        bool, typer.Option("--allow-duplicate", help="Publish it even if another video has the same bytes.")
    ] = False,
    host: Annotated[list[str] | None, typer.Option(help="Publish to this host instead; may be given several times.")] = None,
    keep_query: Annotated[bool, typer.Option("--keep-query", help="Links that differ behind the ? are different videos.")] = False,
    secret_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="Take the link from this environment variable; the record names only that.")
    ] = None,
    sha256: Annotated[str | None, typer.Option(metavar="HEX", help="What the file must be; else it is refused.")] = None,
    as_json: Json = False,
) -> None:
    """Queue files and links. Prints one id a line; the same file or link twice is one video."""
    from dailies import intake
    from dailies.clock import Deadline
    from dailies.model import readable

    library = open_library()
    given = [*(names or ()), *_secret_links(secret_env)]
    _check(given, lists or [], is_about_one=bool(secret_env or sha256), names_one=bool(title or code))
    for name in host or ():
        library.check_host(name)
    wishes = intake.Wishes(
        title=readable(title) if title else None,
        tags=tuple(map(readable, tag or ())),
        code=code,
        remove_source=move,
        allow_duplicate=allow_duplicate,
        hosts=tuple(dict.fromkeys(host or ())),
        keep_query=keep_query,
        secret_env=secret_env,
        sha256=_digits(sha256),
    )
    read = _Reader(library, wishes)
    items = [intake.Item(name, wishes) for name in given] + [item for name in lists or () for item in read.items(name)]
    taken = intake.add_all(items, library.desk(Deadline.after(library.clock, library.settings.run.time_limit)))
    _show(taken.added, as_json=as_json)
    for refused in (*read.refused, *taken.refused):
        complain(refused)
    raise typer.Exit(Exit.USAGE if read.refused or taken.refused else Exit.DONE)


def _check(given: list[str], lists: list[str], *, is_about_one: bool, names_one: bool) -> None:
    if not given and not lists:
        raise ConfigError("add: names nothing; give files, folders or links, or a list of them with --from")
    if is_about_one and (len(given) != 1 or lists):
        raise ConfigError("add: --secret-env and --sha256 are about one; give files, folders or links of their own")
    if names_one and lists:
        raise ConfigError("add: --title and --code are about one; write them into the list")


def _digits(sha256: str | None) -> str | None:
    if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256.lower()):
        raise ConfigError("--sha256: must be 64 hexadecimal digits; copy it as sha256sum prints it")
    return sha256.lower() if sha256 else None


def _secret_links(name: str | None) -> Iterator[str]:
    from dailies import config, links, redact

    if name:
        if not redact.says_secret(name):
            names = "TOKEN, KEY, SECRET or PASSWORD"
            raise ConfigError(f"--secret-env: {name}: only names with {names} in them are masked everywhere; call it {name}_SECRET")
        link = config.environment().get(name, "")
        if not links.is_link(link):
            raise ConfigError(f"{name}: holds no link; set it to one, like https://example.org/film.mp4")
        yield link


@dataclass
class _Reader:
    """Reads lists; `wishes` are those of the command line, for all entries. What is wrong is gathered in `refused`."""

    library: "Library"
    wishes: "Wishes"

    def __post_init__(self) -> None:
        self.refused: list[str] = []

    def items(self, name: str) -> "Iterator[Item]":
        """Relative paths are relative to the list."""
        if (belongs := _listed_as(name)) is not None:
            self.refused.append(belongs)
            return
        parsed = self._parsed(name)
        if parsed is None:
            return
        for note in parsed.notes:
            complain(note)
        for feed in parsed.feeds:
            complain(_told_feed(name, feed))
        self.refused += parsed.refused
        folder = Path() if name == _STDIN else Path(name).parent
        for entry in parsed.entries:
            try:
                yield self._item(entry, folder)
            except ConfigError as error:
                self.refused.append(f"{entry.where}: {error}")

    def _parsed(self, name: str) -> "Parsed | None":
        from dailies import lists
        from dailies.model import readable

        shown = readable(name) if name != _STDIN else "standard input"
        try:
            content = _read(name, lists.MOST_BYTES + 1)
            return lists.parse(content, shown)
        except OSError as error:
            self.refused.append(f"{shown}: cannot be read: {error.strerror}; check the path")
        except ConfigError as error:
            self.refused.append(str(error))
        return None

    def _item(self, entry: "Entry", folder: Path) -> "Item":
        """Raises ConfigError."""
        from dailies import links, lists
        from dailies.intake import Item

        for host in entry.hosts:
            self.library.check_host(host)
        name = lists.link_of(entry) if entry.is_of_feed else entry.name
        wishes = replace(
            self.wishes,
            title=entry.title,
            tags=tuple(dict.fromkeys((*self.wishes.tags, *entry.tags))),
            code=entry.code,
            hosts=entry.hosts or self.wishes.hosts,
            sha256=entry.sha256,
            description=entry.description,
            release_date=entry.release_date,
        )
        return Item(name if links.is_link(name) else folder / name, wishes, entry.where)


def _read(name: str, most: int) -> bytes:
    """Raises OSError."""
    if name == _STDIN:
        return sys.stdin.buffer.read(most)
    with Path(name).open("rb") as file:
        return file.read(most)


def _listed_as(name: str) -> str | None:
    """Of what is no file: where it belongs."""
    from dailies import links
    from dailies.hosts.places import address

    scheme = name.partition("://")[0].lower() if links.is_link(name) else ""
    key = "feed" if scheme in links.SCHEMES else "folder" if scheme in address.SCHEMES else None
    told = f'{links.shown(name)}: is read by runs, not here; put it into dailies.toml as [listings.NAME] {key} = "…"'
    return told if key else None


def _told_feed(name: str, feed: str) -> str:
    from dailies import links

    return f'{name}: {links.shown(feed)} is a feed, which is not read now; put it into dailies.toml as [listings.NAME] feed = "…"'


def _told_known(one: "Added") -> str:
    if one.video.deleted_at is not None:  # a tombstone wins every merge: what is taken back here would vanish again
        other = "its link with a query of its own and --keep-query" if one.video.source.kind != "file" else "a copy by another name"
        return f"was removed from the library and stays removed: {one.video.id}; to have it anew add {other}"
    unheard = "; what was said of it now was not applied" if one.is_unheard else ""
    query = "; its link differs behind the ?: with --keep-query it is another video" if one.is_other_query else ""
    return f"is in the library already, {one.video.state}: {one.video.id}{unheard}{query}"


def _show(added: "tuple[Added, ...]", *, as_json: bool) -> None:
    from dailies import links

    if as_json:
        print_json([{"id": one.video.id, "code": one.video.code, "state": one.video.state, "new": one.is_new} for one in added])
    for one in added:
        name, uri = one.video.source.original_name, one.video.source.uri
        if not as_json:
            typer.echo(one.video.id)
        if not one.is_new:
            known = f"{name}: {_told_known(one)}"
            complain(f"{one.where}: {known}" if one.where else known)
        elif links.is_link(uri) and links.holds_secrets(uri):
            complain(f"{one.video.id}: its link holds what looks like a key, and stands in database/; see --secret-env")
