"""Makes `dailies run` stand still at its first act of a step, until somebody lets it go on: for tests that must meet it there.

Imported by every interpreter of a harness's `.venv`; does something in that of `dailies run` only. `HARNESS_PAUSE` is
JSON: `{"phase": "convert", "folder": "…"}`; `paused` is made in the folder, then `go` is waited for, at most 30 s.
"""

import json
import os
import sys
import time
from pathlib import Path


def pause(folder: Path) -> None:
    (folder / "paused").touch()
    deadline = time.monotonic() + 30
    while not (folder / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def begin() -> None:
    from integration.kill_driver import Hook

    plan = json.loads(os.environ["HARNESS_PAUSE"])
    sys.addaudithook(Hook(Path.cwd().resolve(), plan["phase"], 1, lambda: pause(Path(plan["folder"]))))


if "HARNESS_PAUSE" in os.environ and sys.orig_argv[-2:] == ["dailies", "run"]:
    begin()
