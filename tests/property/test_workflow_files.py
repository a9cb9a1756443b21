"""Property 1: every workflow is valid YAML of GitHub's schema, every `run:` block parses and is clean; no finding of an auditor."""

import re
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dailies import scaffold
from integration.workflow import load
from support import ROOT

SCRIPTS = Path(sysconfig.get_path("scripts"))
KINDS = ("batch", "test", "written by init")


@pytest.fixture(params=KINDS)
def workflow(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Those of this repository, and what `dailies init` writes into a person's own."""
    if request.param != "written by init":
        return ROOT / f".github/workflows/{request.param}.yml"
    scaffold.init(tmp_path)
    return tmp_path / ".github/workflows/batch.yml"


def steps(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for job in content["jobs"].values():
        yield from job["steps"]


def checked(*argv: str | Path, text: str = "") -> None:
    done = subprocess.run([str(SCRIPTS / argv[0]), *map(str, argv[1:])], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_is_what_githubs_schema_wants(workflow: Path) -> None:
    checked("check-jsonschema", "--builtin-schema", "vendor.github-workflows", workflow)


def test_an_auditor_finds_nothing(workflow: Path) -> None:
    checked("zizmor", "--offline", "--quiet", "--persona", "auditor", workflow)


def test_every_run_block_parses_and_is_clean(workflow: Path) -> None:
    blocks = [step["run"] for step in steps(load(workflow)) if "run" in step]

    assert blocks
    for block in blocks:
        assert "${{" not in block, "expressions reach a shell by env only"
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)
        checked("shellcheck", "--shell", "bash", "--enable", "all", "-", text=block)


def test_what_stands_in_a_run_block_decides_nothing(workflow: Path) -> None:
    """No logic in YAML: a block is commands one after the other, and what must get signals is exec'd."""
    for step in steps(load(workflow)):
        words = re.findall(r"\b(if|for|while|case|until)\b|[|&;]{2}|\$\(", step.get("run", ""))
        assert not words or step["name"] == "Set up", step
        if step["name"] in {"Plan", "Check", "Run", "Report"}:
            assert step["run"].startswith("exec .venv/bin/python -m dailies "), step


def test_actions_are_pinned_and_few(workflow: Path) -> None:
    uses = [step["uses"] for step in steps(load(workflow)) if "uses" in step]

    assert {use.partition("@")[0] for use in uses} <= {"actions/checkout", "actions/setup-python", "actions/upload-artifact"}
    assert all(re.fullmatch(r"[0-9a-f]{40}", use.partition("@")[2]) for use in uses)


def test_the_limits_are_nested() -> None:
    """The run's own < its step's < its job's < GitHub's, in minutes."""
    from dailies.config import Settings

    job = load(ROOT / ".github/workflows/batch.yml")["jobs"]["run"]
    (step,) = (step for step in job["steps"] if step["name"] == "Run")

    assert Settings().run.time_limit / 60 < step["timeout-minutes"] < job["timeout-minutes"] < 360


def test_nothing_long_is_always_run_and_the_rescue_follows_everything() -> None:
    job = load(ROOT / ".github/workflows/batch.yml")["jobs"]["run"]
    conditions = {step["name"]: str(step.get("if", "")) for step in job["steps"]}

    assert "always" not in conditions["Run"]
    assert conditions["Rescue"] == "${{ !success() }}"
    assert list(conditions).index("Rescue") > list(conditions).index("Run")


def test_a_waiting_dispatch_is_never_thrown_out_and_permissions_are_least() -> None:
    content = load(ROOT / ".github/workflows/batch.yml")

    assert content["concurrency"] == {"group": "dailies-batch", "queue": "max", "cancel-in-progress": False}
    assert content["permissions"] == {}
    assert [job for job, one in content["jobs"].items() if "write" in one["permissions"].values()] == ["run"]
    (cron,) = content["on"]["schedule"]
    assert cron["cron"].split()[0] not in {"0", "00", "30", "*"}
