"""GitHub's API by its own program `gh`: what it would say is welcome and never needed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from dailies.clock import Deadline, parse_timestamp
from dailies.config import environment
from dailies.errors import ConfigError, DailiesError, OutOfTime, Transient
from dailies.process import run

LIMIT_S: Final = 30.0  # of one call


class Unavailable(DailiesError):
    """No `gh`, no token, no permission, no answer."""


@dataclass(frozen=True)
class Firing:
    """When GitHub fired the schedule for this run, and the time before (None: never, or too long ago)."""

    at: datetime
    before: datetime | None


def api(
    path: str, work: Path, deadline: Deadline, *, method: str = "GET", fields: Mapping[str, str | Sequence[str]] | None = None
) -> Any:
    """The answer's JSON of `repos/OWNER/NAME/<path>`; a list is a field with several values. Raises Unavailable, Interrupted."""
    repository = environment().get("GITHUB_REPOSITORY")
    if not repository:
        raise Unavailable("github: GITHUB_REPOSITORY is not set; this works within GitHub Actions only")
    argv = ["gh", "api", "--method", method, f"repos/{repository}/{path}"]
    for name, value in (fields or {}).items():
        values = [(name, value)] if isinstance(value, str) else [(f"{name}[]", one) for one in value]
        argv += [word for key, one in values for word in ("--raw-field", f"{key}={one}")]
    token = {name: secret for name, secret in environment().items() if name in {"GH_TOKEN", "GITHUB_TOKEN"}}
    limited = deadline.within(LIMIT_S, lambda: Unavailable(f"github: {path}: no answer in {LIMIT_S:.0f} s"))
    try:
        said = run(argv, limited, work=work, variables=token)
    except (ConfigError, Transient, OutOfTime) as error:
        raise Unavailable(f"github: {path}: {error}") from error
    if said.code != 0:
        raise Unavailable(f"github: {method} {path}: {said.last_words()}; give the job that permission and GH_TOKEN")
    try:
        return json.loads(said.stdout or b"null")
    except ValueError as error:
        raise Unavailable(f"github: {method} {path}: the answer is no JSON: {error}") from error


def workflow_file() -> str:
    """The name of the workflow that runs, from `OWNER/NAME/.github/workflows/batch.yml@REF`."""
    return environment().get("GITHUB_WORKFLOW_REF", "").partition("@")[0].rpartition("/")[2]


def firing(work: Path, deadline: Deadline) -> Firing:
    """Raises Unavailable."""
    own = environment().get("GITHUB_RUN_ID", "")
    answer = api(f"actions/workflows/{workflow_file()}/runs?event=schedule&per_page=50", work, deadline)
    try:
        runs = {str(one["id"]): parse_timestamp(one["created_at"]) for one in answer["workflow_runs"]}
        return Firing(runs[own], max((at for at in runs.values() if at < runs[own]), default=None))
    except (KeyError, TypeError, ValueError) as error:
        raise Unavailable(f"github: the list of runs does not have this one: {error!r}") from error


def enable_workflow(work: Path, deadline: Deadline) -> None:
    """GitHub counts its 60 days anew. Raises Unavailable."""
    api(f"actions/workflows/{workflow_file()}/enable", work, deadline, method="PUT")
