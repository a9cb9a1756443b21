"""Sets up and runs: `python3 scripts/bootstrap.py demo | test | any dailies command`. Standard library only.

Makes `.venv` from the pinned requirements.txt (no root, nothing outside this folder) and hands over to it.
A stamp over the requirements and the interpreter makes a second start free.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
REQUIREMENTS = ROOT / "requirements.txt"
STAMP = VENV / "dailies-stamp"
PYTHON = VENV / "bin" / "python"
OLDEST = (3, 11)

# What `test` runs, in this order: what CI runs and what a person runs are one thing.
CHECKS = (
    ("format", ["-m", "ruff", "format", "--check", "--quiet", "."]),
    ("lint", ["-m", "ruff", "check", "--quiet", "."]),
    ("types", ["-m", "mypy", "--no-error-summary"]),
    ("layers", ["-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]),
    ("tests", ["-m", "pytest", "-q", "-n", "auto", "--dist", "worksteal"]),
)


def wanted_stamp() -> str:
    digest = hashlib.sha256(REQUIREMENTS.read_bytes())
    digest.update(f"{sys.version_info[:3]}{sys.prefix}{ROOT}".encode())
    return digest.hexdigest()


def set_up() -> None:
    """Raises CalledProcessError with pip's own words on the terminal."""
    stamp = wanted_stamp()
    if STAMP.is_file() and STAMP.read_text() == stamp and PYTHON.exists():
        return
    print("dailies: setting up .venv (once)", file=sys.stderr, flush=True)
    shutil.rmtree(VENV, ignore_errors=True)
    venv.create(VENV, with_pip=True, symlinks=True)
    pip = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input", "--require-hashes"]
    subprocess.run([*pip, "--requirement", str(REQUIREMENTS)], check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    purelib = subprocess.run(
        [str(PYTHON), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], check=True, capture_output=True, text=True
    ).stdout.strip()
    Path(purelib, "dailies.pth").write_text(f"{ROOT / 'scripts'}\n")
    STAMP.write_text(stamp)


def test(arguments: list[str]) -> int:
    """All checks, each run even when one before it failed; with arguments only pytest, which gets them.

    `test -n auto --cov` tells what the tests reach, in twice the time.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # the tests start a thousand interpreters
    if arguments:
        return subprocess.run([str(PYTHON), "-m", "pytest", *arguments], cwd=ROOT, check=False).returncode
    failed = []
    for name, command in CHECKS:
        print(f"== {name}", flush=True)
        if subprocess.run([str(PYTHON), *command], cwd=ROOT, check=False).returncode != 0:
            failed.append(name)
    print(f"dailies: {'failed: ' + ', '.join(failed) if failed else 'all checks passed'}", flush=True)
    return 1 if failed else 0


def main() -> int:
    if sys.version_info < OLDEST:
        print(f"dailies: Python {sys.version.split()[0]}: too old; install Python 3.11 or newer", file=sys.stderr)
        return 2
    if shutil.which("git") is None:
        print("dailies: git: not found; install git", file=sys.stderr)
        return 2
    try:
        set_up()
    except (subprocess.CalledProcessError, OSError) as error:
        remedy = "check the network and the disk (Debian: install python3-venv), then run this again"
        print(f"dailies: setting up .venv failed: {error}; {remedy}", file=sys.stderr)
        return 2
    arguments = sys.argv[1:]
    if arguments[:1] == ["test"]:
        return test(arguments[1:])
    # exec, so that signals reach the command itself
    return os.execv(PYTHON, [str(PYTHON), "-m", "dailies", *arguments])


if __name__ == "__main__":
    raise SystemExit(main())
