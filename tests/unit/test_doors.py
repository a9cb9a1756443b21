"""Only one door per world: who may start programs, talk git or HTTP, read the environment or open media; and a light `--help`."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import ROOT, variables

PACKAGE = ROOT / "scripts" / "dailies"
CLIENTS = ("s3fs", "aiobotocore", "botocore", "gcsfs", "google", "adlfs", "azure", "aiohttp", "webdav4", "httpx", "paramiko")
HEAVY = ("av", "numpy", "git", "requests", "urllib3", "fsspec", *CLIENTS)
CHILD = {path.relative_to(PACKAGE).as_posix() for path in (PACKAGE / "media/child").glob("*.py")}
# door -> the modules that may use it
DOORS = {
    "subprocess": {"process.py"},
    "git": {"git_door.py", "repository.py"},
    "requests": {"arriving.py", "http.py", "request.py", "wire.py"},
    "urllib3": {"http.py", "wire.py"},
    "importlib.import_module": {"hosts/places/place.py", "plugins.py"},
    "os.environ": {"config.py"},
    "av": CHILD,
    "numpy": {"similar.py", *CHILD},
}
STARTERS = {"os.system", "os.popen", "os.fork", "os.execv", "os.execvp", "os.posix_spawn", "os.spawnv", "pty.spawn"}
ENVIRONMENT = {"os.environ", "os.environb", "os.getenv", "os.putenv", "os.unsetenv"}


def used_by(tree: ast.AST) -> Iterator[str]:
    """Top-level names of the imports, and `module.attribute` of what is taken from `os` and `pty`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            module = node.module or ""
            yield module.partition(".")[0]
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


def users_of(*wanted: str) -> set[str]:
    """The modules of the package that use any of these names."""
    return {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if set(wanted) & set(used_by(ast.parse(path.read_text("utf-8"))))
    }


@pytest.mark.parametrize("door", sorted(DOORS))
def test_only_the_door_itself_uses_what_is_behind_it(door: str) -> None:
    names = ENVIRONMENT if door == "os.environ" else {door}

    assert users_of(*names) <= DOORS[door]


@pytest.mark.parametrize("door", ["subprocess", "git", "os.environ", "requests", "urllib3"])
def test_the_doors_are_in_use(door: str) -> None:
    assert users_of(door) == DOORS[door], "a door that nobody uses is looked for in the wrong way"


def test_the_child_that_opens_media_is_a_door_in_use() -> None:
    assert "media/child/packets.py" in users_of("av")
    assert users_of("numpy") - CHILD == {"similar.py"}


def test_the_clients_of_places_are_taken_only_when_they_are_needed() -> None:
    assert users_of("fsspec", *CLIENTS) == set()
    takers = users_of("dailies.hosts.places.place.library")
    assert "hosts/places/s3.py" in takers
    assert {Path(name).parent.as_posix() for name in takers} == {"hosts/places"}


def test_no_program_is_started_past_the_door() -> None:
    assert users_of(*STARTERS) == set()


def test_a_door_is_seen_however_it_is_used() -> None:
    tree = ast.parse("def f():\n    from os import environ\n    import git.exc\n    os.system('x')\n")

    assert {"os.environ", "git", "os.system"} <= set(used_by(tree))


def imported_by(*arguments: str, cwd: Path) -> set[str]:
    """Top-level modules that a `dailies` command has imported when it ends."""
    script = (
        "import json, sys\nfrom dailies.cli import main\n"
        f"code = main({list(arguments)!r})\n"
        "sys.stderr.write(json.dumps([code, sorted({name.partition('.')[0] for name in sys.modules})]))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=cwd, env=variables(), capture_output=True, text=True, check=True)
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stdout
    return set(modules)


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("--version",)])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert imported_by(*arguments, cwd=tmp_path) & set(HEAVY) == set()


def test_the_runs_own_process_never_opens_media(tmp_path: Path) -> None:
    script = "import sys, dailies.pipeline, dailies.demo, dailies.doctor\nprint({'av', 'numpy'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=variables(), capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"
