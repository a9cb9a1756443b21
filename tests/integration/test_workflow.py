"""`.github/workflows/batch.yml` as it is, run by the runner's own rules against a bare remote."""

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from dailies.generate import settings_toml
from dailies.media import ffmpeg
from integration.kill_driver import hanging
from integration.test_publication import on_remote
from integration.workflow import JobResult, Runner
from support import IS_LONG, ROOT, Shelf

CRON = "23 */6 * * *"
TESTS = ROOT / "tests"
RIGHT = "the-right-key-of-the-vault"


@dataclass(frozen=True)
class Home:
    """A repository like this one on a bare remote, its media and its published folder on a disk beside it."""

    shelf: Shelf
    folder: Path

    @property
    def inbox(self) -> Path:
        return self.folder / "inbox"

    @property
    def published(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "published").glob("*.mp4") if ".preview." not in path.name)

    def put(self, clip: Path, name: str) -> None:
        target = self.inbox / name
        shutil.copyfile(clip, target)
        os.utime(target, (1e9, 1e9))

    def runner(self, name: str = "first", **changes: Any) -> Runner:
        workflow = self.shelf.root / ".github/workflows/batch.yml"
        plain = Runner(workflow, self.shelf.remote, self.folder / name, payload={"schedule": CRON})
        return replace(plain, **{"masks": [], "artifacts": {}, **changes})

    def push(self, message: str) -> None:
        self.shelf.git("add", "--all")
        self.shelf.git("-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-q", "-m", message)
        self.shelf.git("push", "-q", "origin", "HEAD:refs/heads/main")

    def records(self) -> dict[str, Any]:
        """What the remote's branch says, by original name."""
        return {record["source"]["original_name"]: record for record in on_remote(self.shelf).values()}

    def file(self, path: str) -> Any:
        shown = subprocess.run(["git", "show", f"main:{path}"], cwd=self.shelf.remote, capture_output=True, check=True)
        return json.loads(shown.stdout)

    def hook(self, text: str) -> None:
        """A hook of the remote that looks at each push."""
        path = self.shelf.remote / "hooks/pre-receive"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)


@pytest.fixture
def home(shelf: Shelf, tmp_path: Path) -> Home:
    found = Home(shelf, tmp_path / "machine")
    for name in ("inbox", "published"):
        (found.folder / name).mkdir(parents=True)
    for name in ("scripts", "requirements.txt", ".github"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, shelf.root / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, shelf.root / name)
    settings = settings_toml().replace("[library]", f'[library]\ninbox = "{found.inbox}"', 1)
    settings = settings.replace('path = "media/published"', f'path = "{found.folder / "published"}"')
    (shelf.root / "dailies.toml").write_text(settings)
    found.push("a library")
    return found


def stuck(home: Home) -> dict[str, str]:
    """An ffmpeg that hangs once it has something to convert."""
    real = f"exec '{ffmpeg.executable()}' \"$@\""
    return {"DAILIES_FFMPEG": hanging(home.folder, f'case "$*" in *-encoders*|-version) {real};; esac')}


def finished(jobs: dict[str, JobResult]) -> JobResult:
    """The job `run`, after which nothing may be left on the machine."""
    job = jobs["run"]
    assert job.left == [], job.log
    assert [path for path in job.workspace.rglob(".tmp-*") if ".venv" not in path.parts] == []
    assert list(job.workspace.glob("work/*/tmp/*")) == []
    return job


def test_a_scheduled_run_publishes_what_lies_in_the_inbox(home: Home, clip: Path) -> None:
    home.put(clip, "talk.mp4")
    runner = home.runner()

    jobs = runner.go()

    job = finished(jobs)
    assert {name: one.result for name, one in jobs.items()} == {"plan": "success", "run": "success", "report": "success"}, job.log
    assert home.records()["talk.mp4"]["state"] == "done"
    assert home.records()["talk.mp4"]["claim"] is None
    assert len(home.published) == 1
    assert {key: job.outputs[key] for key in ("done", "failed", "remaining")} == {"done": "1", "failed": "0", "remaining": "0"}
    assert "## Dailies: completed" in job.step("Run").summary
    assert "::group::talk: done" in job.step("Run").log
    assert [step.name for step in job.steps if step.outcome == "skipped"] == [
        "Free the disk",
        "End what lives on",
        "Rescue",
        "Keep what could not be pushed",
    ]
    schedule = home.file("database/status.json")["schedule"]
    assert schedule["cron"] == CRON
    assert schedule.keys() >= {"due_at", "started_at", "late_s", "missed", "next_due_at"}
    assert home.file("database/badge.json")["message"] == "1 done"
    assert (
        "| done | 1 |"
        in subprocess.run(
            ["git", "show", "main:README.md"], cwd=home.shelf.remote, capture_output=True, text=True, check=True
        ).stdout
    )
    author = subprocess.run(
        ["git", "log", "-1", "--format=%an <%ae>", "main"], cwd=home.shelf.remote, capture_output=True, text=True, check=True
    ).stdout
    assert author.strip() == "github-actions[bot] <41898282+github-actions[bot]@users.noreply.github.com>"


def test_with_nothing_to_do_only_the_plan_runs(home: Home) -> None:
    before = home.shelf.git("ls-remote", "origin", "main")

    jobs = home.runner().go()

    assert {name: job.result for name, job in jobs.items()} == {"plan": "success", "run": "skipped", "report": "skipped"}
    assert "nothing to do" in jobs["plan"].step("Plan").summary
    assert home.shelf.git("ls-remote", "origin", "main") == before


def test_a_dispatch_hands_its_inputs_to_the_run(home: Home, clip: Path, make_clip: Callable[..., Path]) -> None:
    for number in range(3):
        home.put(make_clip(hertz=300 + number), f"talk{number}.mp4")
    inputs = {"limit": "1", "time_limit": "08h09m", "hosts": "published", "dry_run": False, "force": True}

    jobs = home.runner(event="workflow_dispatch", payload={}, inputs=inputs).go()

    job = finished(jobs)
    plan = json.loads(jobs["plan"].outputs["plan"])
    assert (plan["limit"], plan["time_limit_s"], plan["hosts"], plan["force"]) == (1, 29340.0, ["published"], True)
    assert (job.outputs["done"], job.outputs["remaining"]) == ("1", "2")


def test_a_dispatch_by_the_api_and_a_dry_run_touch_nothing(home: Home, clip: Path) -> None:
    home.put(clip, "talk.mp4")
    before = home.shelf.git("ls-remote", "origin", "main")

    jobs = home.runner(event="repository_dispatch", payload={"client_payload": {"dry_run": True}}).go()

    job = finished(jobs)
    assert "nothing was touched" in job.step("Run").log
    assert home.shelf.git("ls-remote", "origin", "main") == before
    assert home.published == []


def test_a_wrong_input_ends_the_plan_with_one_clear_annotation(home: Home) -> None:
    jobs = home.runner(event="workflow_dispatch", payload={}, inputs={"time_limit": "$(touch /tmp/x); soon"}).go()

    assert {name: job.result for name, job in jobs.items()} == {"plan": "failure", "run": "skipped", "report": "success"}
    [(level, said)] = jobs["plan"].step("Plan").annotations
    assert (level, jobs["plan"].step("Plan").code) == ("error", 2)
    assert "is not a duration; write it like" in said
    assert "the plan ended with failure" in jobs["report"].step("Report").summary


GOES_ON = frozenset({"start", "convert", "publish", "commit"})  # others are met by the tests of kill points
PHASES = ("start", "fetch", "inspect", "convert", "analyse", "publish", "preview", "publish_preview", "clean", "commit")


@pytest.mark.parametrize("phase", PHASES if IS_LONG else ["start", "publish", "commit"])
def test_a_run_cancelled_anywhere_leaves_a_true_record_and_the_next_one_goes_on(home: Home, clip: Path, phase: str) -> None:
    home.put(clip, "talk.mp4")
    folder = home.folder
    environment = {
        "HARNESS_PTH": f"{TESTS}\nimport integration.pause",
        "HARNESS_PAUSE": json.dumps({"phase": phase, "folder": str(folder)}),
    }

    def met(step: str, _workspace: Path) -> bool:
        if step != "Run" or not (folder / "paused").exists():
            return False
        threading.Timer(0.2, (folder / "go").touch).start()  # after the signal
        return True

    jobs = home.runner(environment=environment, should_cancel=met).go()

    job = finished(jobs)
    step = job.step("Run")
    assert (job.result, step.outcome, step.code) == ("cancelled", "cancelled", 130), job.log
    assert job.step("Rescue").outcome == "success", job.log
    assert step.cancelled_s is not None
    assert step.cancelled_s < 10
    assert job.step("End what lives on").seconds + job.step("Rescue").seconds < 30
    print(f"cancelled in {phase}: ended after {step.cancelled_s:.1f} s, rescued in {job.step('Rescue').seconds:.1f} s")
    assert jobs["report"].result == "success"
    record = home.records().get("talk.mp4")
    if record is not None:  # it may have been cancelled before the inbox was scanned
        assert record["state"] in {"queued", "done"}
        assert (record["claim"], record["retry_count"], record["interruptions"]) == (None, 0, 0)

    if phase not in GOES_ON:
        return
    again = home.runner("second").go()

    if record is None or record["state"] != "done":
        assert finished(again).result == "success"
    assert home.records()["talk.mp4"]["state"] == "done"
    assert len(home.published) == 1


def test_a_step_that_times_out_has_failed_and_is_rescued(home: Home, clip: Path) -> None:
    home.put(clip, "talk.mp4")
    jobs = home.runner(environment=stuck(home), limits_s={"Run": 6}).go()

    job = finished(jobs)
    assert (job.result, job.step("Run").outcome, job.step("Run").code) == ("failure", "failure", 130), job.log
    assert job.step("Rescue").outcome == "success"
    assert home.records()["talk.mp4"]["state"] == "queued"


def test_a_worker_that_is_killed_counts_one_interruption_and_is_done_by_the_next_run(home: Home, clip: Path) -> None:
    home.put(clip, "talk.mp4")
    killed: list[int] = []

    def kill(step: str, workspace: Path) -> bool:
        if step == "Run" and not killed and list(home.folder.glob("hung-*")):
            (owner,) = workspace.glob("work/run.lock.holder-*.json")
            killed.append(json.loads(owner.read_text())["pid"])
            os.kill(killed[0], signal.SIGKILL)
        return False

    jobs = home.runner(environment=stuck(home), should_cancel=kill).go()

    job = finished(jobs)
    assert (job.result, job.step("Run").code) == ("failure", -signal.SIGKILL)
    assert "orphaned programs ended" in job.step("End what lives on").log
    assert "no run told of itself" in jobs["report"].step("Report").summary
    record = home.records()["talk.mp4"]
    assert (record["state"], record["interruptions"], record["claim"]) == ("queued", 1, None)

    assert finished(home.runner("second").go()).result == "success"
    assert home.records()["talk.mp4"]["state"] == "done"
    assert len(home.published) == 1


def test_a_worker_behind_a_shell_is_ended_by_the_rescue_step(home: Home, clip: Path) -> None:
    """Without `exec` the runner's signals reach the shell only, and the worker lives on beside the rescue step."""
    home.put(clip, "talk.mp4")
    path = home.shelf.root / ".github/workflows/batch.yml"
    path.write_text(
        path.read_text().replace(
            "run: exec .venv/bin/python -m dailies run", "run: |\n          .venv/bin/python -m dailies run\n          true"
        )
    )
    hung = home.folder / "hung-*"

    def met(step: str, _workspace: Path) -> bool:
        return step == "Run" and bool(list(home.folder.glob(hung.name)))

    jobs = home.runner(environment=stuck(home), should_cancel=met).go()

    job = finished(jobs)
    assert job.result == "cancelled"
    assert "ended 1 run that was still at work" in job.step("End what lives on").log
    assert job.step("End what lives on").seconds + job.step("Rescue").seconds < 30
    assert home.records()["talk.mp4"]["state"] == "queued"


def test_pushes_that_are_overtaken_are_made_again(home: Home, clip: Path) -> None:
    home.put(clip, "talk.mp4")
    count = home.folder / "count"
    refuse = 'echo "cannot lock ref" >&2; exit 1'
    home.hook(f'n=$(cat {count} 2>/dev/null || echo 0); echo $((n + 1)) > {count}; [ "$n" -ge 4 ] || {{ {refuse}; }}')

    jobs = home.runner().go()

    assert finished(jobs).result == "success", jobs["run"].log
    assert home.records()["talk.mp4"]["state"] == "done"
    assert int(count.read_text()) > 4


def test_a_remote_that_is_down_costs_nothing_but_time(home: Home, clip: Path) -> None:
    home.put(clip, "talk.mp4")
    gone = home.shelf.remote.with_name("gone.git")

    def cut(step: str, _workspace: Path) -> bool:
        if step == "Run" and home.shelf.remote.exists():
            home.shelf.remote.rename(gone)
        return False

    runner = home.runner(should_cancel=cut, after={"Rescue": lambda: gone.rename(home.shelf.remote)})

    jobs = runner.go()

    job = finished(jobs)
    assert (job.result, job.step("Run").code) == ("failure", 4), job.log
    assert [level for level, _ in job.step("Run").annotations] == ["error"]
    (kept,) = runner.artifacts.values()
    assert {path.suffix for path in kept.iterdir()} == {".bundle", ".json"}
    assert home.records() == {}

    shutil.copytree(kept, home.shelf.root / "work/rescue")  # a person brings the artifact back
    home.shelf.cli("commit")
    assert home.records()["talk.mp4"]["state"] == "done"


def test_a_refused_push_is_rescued_on_a_branch_and_the_next_run_takes_it_in(home: Home, clip: Path) -> None:
    home.put(clip, "talk.mp4")
    refuse = 'echo "GH006: Protected branch update failed" >&2; exit 1'
    home.hook(f'while read old new ref; do case "$ref" in refs/heads/main) {refuse};; esac; done')

    jobs = home.runner().go()

    job = finished(jobs)
    assert (job.result, job.step("Run").code) == ("failure", 4)
    [(_, said)] = job.step("Run").annotations
    assert "give this user or token write access to the branch" in said
    assert "saved as branch rescue/" in said
    assert home.records() == {}

    (home.shelf.remote / "hooks/pre-receive").unlink()
    again = home.runner("second").go()

    assert json.loads(again["plan"].outputs["plan"])["reason"].endswith("rescued pushes to take in")
    assert finished(again).result == "success", again["run"].log
    assert home.records()["talk.mp4"]["state"] == "done"
    assert len(home.published) == 1
    assert "rescue" not in home.shelf.git("ls-remote", "origin")


def with_vault(home: Home, key: str) -> Runner:
    path = home.shelf.root / "dailies.toml"
    text = path.read_text().replace("[publish]", '[publish]\nhosts = ["vault"]', 1)
    path.write_text(f'{text}\n[hosts.vault]\nadapter = "vault"\npath = "{home.folder / "published"}"\nkey_env = "VAULT_KEY"\n')
    home.push("a vault")
    plugin = {"HARNESS_PTH": f"{TESTS}\nimport integration.vault", "HARNESS_RIGHT_KEY": RIGHT}
    return home.runner(environment={**plugin, "VAULT_KEY": key})


@pytest.mark.parametrize(("key", "said"), [("", "VAULT_KEY: not set or empty"), ("a-wrong-key-of-old", "in VAULT_KEY is refused")])
def test_a_required_host_without_its_secret_ends_the_job_before_any_work(home: Home, clip: Path, key: str, said: str) -> None:
    home.put(clip, "talk.mp4")
    runner = with_vault(home, key)

    job = runner.go()["run"]

    assert (job.step("Check").code, job.step("Run").outcome) == (2, "skipped")
    assert any(said in text for level, text in job.step("Check").annotations if level == "error"), job.log
    assert "a-wrong-key-of-old" not in job.log
    assert set(runner.masks) == ({key} if key else set())
    assert home.published == []


def test_with_its_secret_the_host_is_published_to(home: Home, clip: Path) -> None:
    home.put(clip, "talk.mp4")
    runner = with_vault(home, RIGHT)

    job = finished(runner.go())

    assert list(home.records()["talk.mp4"]["uploads"]) == ["published", "vault"]
    assert "the key is taken" in job.step("Check").log
    assert RIGHT not in job.log


HOSTILE = (
    "::add-mask::done.mp4",
    "a\n::error::b.mp4",
    "$(touch owned).mp4",
    "-rf.mp4",
    "##[error]x.mp4",
    "`id`|<b>@x.mp4",
    "::stop-commands::x.mp4",
)


def test_hostile_file_names_are_only_names(home: Home, make_clip: Callable[..., Path]) -> None:
    for number, name in enumerate(HOSTILE):
        home.put(make_clip(hertz=500 + number), name)
    home.put(make_clip(hertz=499), "bad.mp4")
    (home.inbox / "bad.mp4").rename(home.inbox / "x\n::error::bad.mp4")
    (home.inbox / "x\n::error::bad.mp4").write_bytes(b"no video")
    os.utime(home.inbox / "x\n::error::bad.mp4", (1e9, 1e9))
    runner = home.runner()

    job = finished(runner.go())

    records = home.records()
    assert sorted(record["state"] for record in records.values()) == ["done"] * len(HOSTILE) + ["failed"], job.log
    assert runner.masks == []
    assert [level for level, _ in job.step("Run").annotations] == ["error"]  # ours, for the one that failed
    assert "<b>" not in job.step("Run").summary
    assert list(home.folder.rglob("owned")) == []


def test_two_workflows_at_once_do_each_video_once(home: Home, make_clip: Callable[..., Path]) -> None:
    for number in range(6):
        home.put(make_clip(hertz=600 + number), f"talk{number}.mp4")
    results: dict[str, dict[str, JobResult]] = {}

    def go(name: str) -> None:
        results[name] = home.runner(name).go()

    threads = [threading.Thread(target=go, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    jobs = [finished(results[name]) for name in results]
    assert all(job.result == "success" for job in jobs), [job.log for job in jobs]
    assert sum(int(job.outputs["done"]) for job in jobs) == 6
    assert {record["state"] for record in home.records().values()} == {"done"}
    assert len(home.published) == 6


def test_the_github_api_says_how_late_the_schedule_was(home: Home, clip: Path) -> None:
    """Fired at 16:40, the time before at 06:30: of the slots 08:23, 12:23, 16:23 the first is served late, two are missed."""
    home.put(clip, "talk.mp4")
    runs = [{"id": 1, "created_at": "2026-11-20T16:40:00Z"}, {"id": 7, "created_at": "2026-11-20T06:30:00Z"}]
    gh = home.folder / "bin/gh"
    gh.parent.mkdir()
    gh.write_text(f"#!/bin/sh\necho \"$@\" >> {home.folder}/gh.log\ncat <<'END'\n{json.dumps({'workflow_runs': runs})}\nEND\n")
    gh.chmod(0o755)
    environment = {"PATH": f"{gh.parent}:{os.environ['PATH']}"}

    jobs = home.runner(payload={"schedule": "23 */4 * * *"}, environment=environment).go()

    schedule = home.file("database/status.json")["schedule"]
    assert (schedule["due_at"], schedule["late_s"], schedule["missed"]) == ("2026-11-20T08:23:00Z", 29820.0, 2)
    assert "2 more slots missed" in jobs["run"].step("Run").summary
    assert "workflows/batch.yml/runs?event=schedule" in (home.folder / "gh.log").read_text()
