"""What lies beside a source file and in it: read with patience; what cannot be read is a warning and nothing more."""

import errno
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from dailies.enrich.facts import Facts, Said
from dailies.enrich.sidecars import embedded, info_json, nfo, own
from dailies.enrich.sidecars.reading import Reading, Unreadable
from dailies.model import Video, uri_to_path
from dailies.redact import plain

# (ending behind the file's stem, provenance, reader, largest size in bytes); the best first
_Reader = Callable[[bytes], Reading]
_READERS: Final[tuple[tuple[str, str, _Reader, int], ...]] = (
    (".json", "sidecar:dailies", own.read_json, 1_000_000),
    (".toml", "sidecar:dailies", own.read_toml, 1_000_000),
    (".nfo", "sidecar:nfo", nfo.read, 1_000_000),
    (".info.json", "sidecar:info.json", info_json.read, 16_000_000),  # has every format and subtitle of a site in it
)
__all__ = ["Reading", "Unreadable", "read"]


def read(video: Video, root: Path, tags: Mapping[str, str]) -> tuple[tuple[Said, ...], tuple[str, ...]]:
    """(what was said, best first; warnings). `tags` are those in the file itself. Raises nothing."""
    said: list[Said] = []
    warnings: list[str] = []
    path = root / uri_to_path(video.source.uri) if video.source.kind == "file" else None
    for ending, where, reader, largest in _READERS if path is not None else ():
        beside = path.with_name(path.stem + ending) if path is not None else Path()
        if beside == path:  # a queued file may itself be called so
            continue
        try:
            content = _content(beside, largest)
            if content is None:
                continue
            reading = reader(content)
        except Unreadable as error:
            warnings.append(plain(f"{beside.name}: {error}"))
            continue
        if reading.ignored:
            warnings.append(plain(f"{beside.name}: {'; '.join(reading.ignored)}"))
        said.append(Said(where=where, facts=reading.facts))
    if tags and (facts := embedded.read(tags)) != Facts():
        said.append(Said(where="embedded", facts=facts, is_sure=False))  # programs write their own name into titles
    return _joined(said), tuple(warnings)


def _content(path: Path, largest: int) -> bytes | None:
    """None where there is none. Raises Unreadable."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise Unreadable("is no file; it was left out")
        if found.st_size > largest:
            raise Unreadable(f"has {found.st_size} bytes, more than {largest}; it was left out")
        with path.open("rb") as file:
            return file.read(largest + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:  # so nobody can have made it
            return None
        reason = error.strerror if isinstance(error, OSError) else "its name cannot be used"
        raise Unreadable(f"cannot be read: {reason}; make it readable") from error


def _joined(said: list[Said]) -> tuple[Said, ...]:
    """Two sidecars of ours are one; the first wins."""
    ours = [one for one in said if one.where == "sidecar:dailies"]
    if len(ours) < 2:
        return tuple(said)
    first, second = (one.facts for one in ours)
    changes = {name: getattr(second, name) for name in first.model_fields_set | second.model_fields_set if not getattr(first, name)}
    changes["tags"] = (*first.tags, *(tag for tag in second.tags if tag not in first.tags))
    merged = ours[0].model_copy(update={"facts": first.model_copy(update=changes)})
    return (merged, *(one for one in said if one.where != "sidecar:dailies"))
