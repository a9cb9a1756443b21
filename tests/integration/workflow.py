"""Runs a real workflow file on this machine by the rules of GitHub's runner (its ProcessInvoker.cs and StepsRunner.cs).

Jobs in the order of `needs`; every `run:` is a file for `bash -e` with fresh GITHUB_OUTPUT, GITHUB_ENV and
GITHUB_STEP_SUMMARY; a cancel or a step's timeout sends SIGINT, 7.5 s later SIGTERM, 2.5 s later SIGKILL to the step's top
process only; what it leaves behind lives on until the job is complete. A step that timed out has failed, a cancelled job
is cancelled. `uses:` steps have stand-ins.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
import yaml

from integration.expressions import as_text, condition, interpolate

SIGINT_S: Final = 7.5
SIGTERM_S: Final = 2.5
PIPES_S: Final = 5.0  # the runner waits that long for an orphan to close the step's output
_COMMAND: Final = re.compile(r"^\s*::(?P<name>[a-z-]+)(?: (?P<properties>[^:]*))?::(?P<data>.*)$")


def load(path: Path) -> dict[str, Any]:
    """YAML 1.1 takes the key `on` for true."""
    content: dict[Any, Any] = yaml.safe_load(path.read_text("utf-8"))
    return {"on" if key is True else str(key): value for key, value in content.items()}


@dataclass
class StepResult:
    name: str
    outcome: str  # success | failure | cancelled | skipped
    code: int | None = None
    seconds: float = 0.0
    log: str = ""
    cancelled_s: float | None = None  # from the first signal to its end
    summary: str = ""
    annotations: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class JobResult:
    result: str  # success | failure | cancelled | skipped
    steps: list[StepResult]
    outputs: dict[str, str]
    workspace: Path
    left: list[int] = field(default_factory=list)  # processes that lived on after the last step

    def step(self, name: str) -> StepResult:
        return next(step for step in self.steps if step.name == name)

    @property
    def log(self) -> str:
        return "".join(step.log for step in self.steps)


@dataclass
class Runner:
    """One run of a workflow. `while_running(step name, workspace)` is asked all the time: true cancels the run."""

    workflow: Path
    remote: Path
    folder: Path
    event: str = "schedule"
    payload: Mapping[str, Any] = field(default_factory=dict)  # github.event
    inputs: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)  # vars
    environment: Mapping[str, str] = field(default_factory=dict)  # of the machine
    limits_s: Mapping[str, float] = field(default_factory=dict)  # of steps by name, instead of their timeout-minutes
    should_cancel: Callable[[str, Path], bool] = lambda _step, _workspace: False
    after: Mapping[str, Callable[[], object]] = field(default_factory=dict)  # done when the step of that name has ended
    masks: list[str] = field(default_factory=list)
    artifacts: dict[str, Path] = field(default_factory=dict)
    is_cancelled: bool = False

    def go(self) -> dict[str, JobResult]:
        content = load(self.workflow)
        assert self.event in content["on"], f"the workflow is not triggered by {self.event}"
        done: dict[str, JobResult] = {}
        for name, job in content["jobs"].items():
            done[name] = _Job(self, name, job, done, content.get("env") or {}).go()
        return done

    def contexts(self) -> dict[str, Any]:
        github = {"ref_name": "main", "run_attempt": "1", "token": "the-job-token-0123456789", "event": self.payload}
        return {"github": github, "inputs": self.inputs, "secrets": self.secrets, "vars": self.variables}


class _Job:
    def __init__(
        self, runner: Runner, name: str, job: Mapping[str, Any], done: Mapping[str, JobResult], env: Mapping[str, Any]
    ) -> None:
        self._runner = runner
        self._job = job
        self._workspace = runner.folder / name / "workspace"
        self._temporary = runner.folder / name / "temp"
        self._steps: dict[str, Any] = {}
        wanted = job.get("needs", [])
        needs = {one: done[one] for one in ([wanted] if isinstance(wanted, str) else wanted)}
        self._needs = needs
        known = {one: {"result": result.result, "outputs": result.outputs} for one, result in needs.items()}
        self._contexts = runner.contexts() | {"needs": known, "steps": self._steps, "env": {}}
        self._status = "success"
        self._env = self._values({**env, **(job.get("env") or {})})
        self._exported: dict[str, str] = {}

    def go(self) -> JobResult:
        if not self._may_start():
            return JobResult("skipped", [], {}, self._workspace)
        self._workspace.mkdir(parents=True)
        self._temporary.mkdir()
        results = [self._step(step) for step in self._job["steps"]]
        left = living(self._workspace)
        for pid in left:  # "Complete job" kills what still carries the job's tracking id, only now
            os.kill(pid, signal.SIGKILL)
        outputs = {key: self._text(value) for key, value in (self._job.get("outputs") or {}).items()}
        # an output that holds a secret is dropped
        outputs = {key: "" if any(mask in value for mask in self._runner.masks) else value for key, value in outputs.items()}
        return JobResult(self._status, results, outputs, self._workspace, left)

    def _may_start(self) -> bool:
        results = [need.result for need in self._needs.values()]
        is_cancelled = self._runner.is_cancelled
        functions = {
            "success": lambda: not is_cancelled and all(result == "success" for result in results),
            "failure": lambda: "failure" in results,
            "cancelled": lambda: is_cancelled,
            "always": lambda: True,
        }
        return condition(self._job.get("if"), self._contexts, functions)

    def _functions(self) -> dict[str, Callable[..., Any]]:
        return {
            "success": lambda: self._status == "success",
            "failure": lambda: self._status == "failure",
            "cancelled": lambda: self._status == "cancelled",
            "always": lambda: True,
            "hashFiles": lambda pattern: "".join(self._found(pattern)),
        }

    def _found(self, pattern: str) -> list[str]:
        folder, _, rest = pattern.partition("**")
        assert rest == "", "only a whole folder can be asked for"
        return sorted(str(path) for path in (self._workspace / folder).rglob("*") if path.is_file())

    def _text(self, value: Any) -> str:
        return interpolate(as_text(value), self._contexts, self._functions())

    def _values(self, values: Mapping[str, Any]) -> dict[str, str]:
        return {key: self._text(value) for key, value in values.items()}

    def _step(self, step: Mapping[str, Any]) -> StepResult:
        name = step["name"]
        result = StepResult(name, "skipped")
        if condition(step.get("if"), self._contexts, self._functions()):
            began = time.monotonic()
            try:
                self._use(step, result) if "uses" in step else self._run(step, result)
            finally:
                result.seconds = time.monotonic() - began
            if result.outcome == "cancelled":
                self._status = "cancelled"
            elif result.outcome == "failure" and self._status == "success":
                self._status = "failure"
            self._runner.after.get(name, lambda: None)()
        if "id" in step:
            self._steps.setdefault(step["id"], {"outputs": {}})["outcome"] = result.outcome
        return result

    # -- stand-ins

    def _use(self, step: Mapping[str, Any], result: StepResult) -> None:
        action, commit = step["uses"].split("@")
        assert re.fullmatch(r"[0-9a-f]{40}", commit), f"{action} is not pinned"
        options = self._values(step.get("with") or {})
        {"actions/checkout": self._check_out, "actions/setup-python": self._python, "actions/upload-artifact": self._keep}[action](
            options
        )
        result.outcome = "success"

    def _check_out(self, options: Mapping[str, str]) -> None:
        assert options["persist-credentials"] == "false"
        source = f"file://{self._runner.remote}"
        subprocess.run(["git", "clone", "-q", "--depth", "1", "--branch", options["ref"], source, str(self._workspace)], check=True)

    def _python(self, options: Mapping[str, str]) -> None:
        """An environment that `Set up` finds complete: that of these tests, by links, so that nothing has to be downloaded."""
        assert (self._workspace / options["cache-dependency-path"]).is_file()
        place = self._workspace / ".venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
        library = next(place.glob("lib/python*/site-packages"))
        packages = next(path for path in map(Path, sys.path) if path.name == "site-packages")
        lines = [str(self._workspace / "scripts"), str(packages), *self._runner.environment.get("HARNESS_PTH", "").split("\n")]
        (library / "harness.pth").write_text("\n".join(lines) + "\n")
        code = "import bootstrap, sys; bootstrap.STAMP.write_text(bootstrap.wanted_stamp())"
        subprocess.run(["python3", "-c", code], check=True, cwd=self._workspace / "scripts")

    def _keep(self, options: Mapping[str, str]) -> None:
        target = self._runner.folder / "artifacts" / options["name"]
        shutil.copytree(self._workspace / options["path"], target)
        self._runner.artifacts[options["name"]] = target

    # -- `run:`

    def _run(self, step: Mapping[str, Any], result: StepResult) -> None:
        number = len(list(self._temporary.glob("*.sh")))
        script = self._temporary / f"{number}.sh"
        script.write_text(step["run"])
        files = {
            key: self._temporary / f"{number}.{key}"
            for key in ("GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_STEP_SUMMARY", "GITHUB_PATH")
        }
        for path in files.values():
            path.touch()
        env = self._machine() | self._env | self._exported | self._values(step.get("env") or {})
        env |= {key: str(path) for key, path in files.items()}
        log = self._temporary / f"{number}.log"
        with log.open("wb") as out:
            argv, both = ["bash", "-e", str(script)], subprocess.STDOUT
            child = subprocess.Popen(
                argv, cwd=self._workspace, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=both, start_new_session=True
            )
            limit_s = self._runner.limits_s.get(step["name"], 60 * step.get("timeout-minutes", 360))
            result.outcome = self._watched(child, result, limit_s)
        result.code = child.returncode
        self._read_log(log.read_text("utf-8", "replace"), result)
        result.summary = files["GITHUB_STEP_SUMMARY"].read_text("utf-8")
        if "id" in step:
            self._steps.setdefault(step["id"], {"outputs": {}})["outputs"] = _file_command(files["GITHUB_OUTPUT"])
        self._exported |= _file_command(files["GITHUB_ENV"])

    def _machine(self) -> dict[str, str]:
        kept = {"PATH", "HOME", "LANG", "TMPDIR", "GIT_CONFIG_NOSYSTEM"}
        wanted = {key: value for key, value in os.environ.items() if key in kept}
        github = {
            "GITHUB_ACTIONS": "true",
            "GITHUB_REPOSITORY": "someone/library",
            "GITHUB_EVENT_NAME": self._runner.event,
            "GITHUB_RUN_ID": "1",
            "GITHUB_WORKSPACE": str(self._workspace),
            "GITHUB_WORKFLOW_REF": "someone/library/.github/workflows/batch.yml@refs/heads/main",
            "GITHUB_SERVER_URL": "https://github.invalid",
            "RUNNER_ENVIRONMENT": "self-hosted",
            "RUNNER_TEMP": str(self._temporary),
            "RUNNER_TRACKING_ID": str(self._workspace),
        }
        return {**wanted, "CI": "true", "PIP_NO_INDEX": "1", **github, **self._runner.environment}

    def _watched(self, child: "subprocess.Popen[bytes]", result: StepResult, limit_s: float) -> str:
        began = time.monotonic()
        while child.poll() is None:
            if not self._runner.is_cancelled and self._runner.should_cancel(result.name, self._workspace):
                self._runner.is_cancelled = True
                result.cancelled_s = _cancel(child)
                return "cancelled"
            if time.monotonic() - began > limit_s:
                result.cancelled_s = _cancel(child)
                return "failure"
            time.sleep(0.01)
        return "success" if child.returncode == 0 else "failure"

    def _read_log(self, text: str, result: StepResult) -> None:
        """What the runner does with each line: commands are obeyed and not shown, masked values are replaced."""
        stop_word = None
        for line in text.splitlines():
            command = _COMMAND.match(line)
            if stop_word is not None:
                stop_word = None if command and command["name"] == stop_word else stop_word
            elif command and command["name"] == "stop-commands":
                stop_word = command["data"]
            elif command and command["name"] == "add-mask":
                self._runner.masks.append(_unescaped(command["data"]))
            elif command and command["name"] in {"error", "warning", "notice"}:
                result.annotations.append((command["name"], _unescaped(command["data"])))
            result.log += f"{self._masked(line)}\n"

    def _masked(self, line: str) -> str:
        for mask in [*self._runner.masks, *filter(None, self._runner.secrets.values())]:
            line = line.replace(mask, "***")
        return line


def _cancel(child: "subprocess.Popen[bytes]") -> float:
    began = time.monotonic()
    for number, wait_s in ((signal.SIGINT, SIGINT_S), (signal.SIGTERM, SIGTERM_S), (signal.SIGKILL, PIPES_S)):
        child.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(wait_s)
            return time.monotonic() - began
    raise AssertionError("the step cannot be killed")


def _unescaped(data: str) -> str:
    return data.replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%")


def _file_command(path: Path) -> dict[str, str]:
    """`name=value` lines and `name<<END` blocks."""
    values: dict[str, str] = {}
    lines = iter(path.read_text("utf-8").split("\n"))
    for line in lines:
        name, _, end = line.partition("<<")
        if end:
            block = []
            for inner in lines:
                if inner == end:
                    break
                block.append(inner)
            values[name] = "\n".join(block)
        elif line:
            name, _, value = line.partition("=")
            values[name] = value
    return values


def living(workspace: Path) -> list[int]:
    """Processes that a job has left."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            found += [process.pid] if process.environ().get("RUNNER_TRACKING_ID") == str(workspace) else []
    return found
