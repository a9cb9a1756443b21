"""Our own sidecars, `<name>.json` and `<name>.toml`: the fields of Facts (docs/enrichment.md, "A sidecar of your own")."""

import difflib
import tomllib
from typing import Any, Final

from dailies.enrich.facts import Facts
from dailies.enrich.sidecars.reading import Reading, Unreadable, decoded, parsed_json

KEYS: Final = tuple(name for name, field in Facts.model_fields.items() if field.description)


def read_json(content: bytes) -> Reading:
    return _read(parsed_json(content))


def read_toml(content: bytes) -> Reading:
    try:
        return _read(tomllib.loads(decoded(content)))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise Unreadable(f"is no valid TOML ({str(error)[:100]}); correct or delete it") from error


def _read(said: dict[str, Any]) -> Reading:
    known = {key: value for key, value in said.items() if key in KEYS}
    facts = Facts.model_validate(known)
    unknown = [f"{key[:40]}: unknown key; the nearest known one is {_nearest(key)}" for key in said if key not in KEYS]
    odd = [f"{key}: cannot be read; see docs/enrichment.md" for key, value in known.items() if _is_lost(value, getattr(facts, key))]
    return Reading(facts, tuple([*odd, *unknown][:5]))


def _nearest(key: str) -> str:
    return difflib.get_close_matches(key[:40].lower(), KEYS, n=1, cutoff=0.0)[0]


def _is_lost(given: object, taken: object) -> bool:
    is_given = given is not None and given not in ("", [], {})
    if isinstance(given, dict) and isinstance(taken, dict):
        return len(taken) < len(given)
    return is_given and (taken is None or taken in ((), {}))
