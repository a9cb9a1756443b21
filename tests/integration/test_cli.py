"""The command line contract (design, "Command line contract" and "Exit codes"; issue, "The command")."""

import json
import os
import pty
import re
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dailies import repository, scaffold
from dailies.cli import main
from dailies.locks import Single
from support import PUBLISHED, ClipMaker, Finished, Shelf, command, run_cli, variables

Command = Callable[..., Finished]


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in this process, in the current folder."""

    def run(*arguments: str | Path) -> Finished:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Finished(int(code), *capsys.readouterr())

    return run


@pytest.fixture
def dailies(shelf: Shelf, here: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The same, in a library."""
    monkeypatch.chdir(shelf.root)
    return here


def tree(root: Path) -> dict[str, bytes]:
    """All files but git's and the work folder's."""
    kept = (path for path in sorted(root.rglob("*")) if path.is_file() and not {".git", "work"} & set(path.parts))
    return {str(path.relative_to(root)): path.read_bytes() for path in kept}


def empty(shelf: Shelf, name: str) -> Path:
    """A file that fails at once: the quickest way to a video that is not done."""
    path = shelf.put(Path(os.devnull), name)
    assert path.stat().st_size == 0
    return path


def the_complaint(done: Finished) -> str:
    """All of stderr is one line of `dailies: what: which: remedy`."""
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    assert re.match(r"dailies: .+", lines[0]), lines
    return lines[0]


def on_terminal(arguments: list[str], cwd: Path, **environment: str) -> str:
    """What a person at a terminal sees of a command."""
    leader, follower = pty.openpty()
    surroundings = variables(TERM="xterm-256color", COLUMNS="100", **environment)
    child = subprocess.Popen(command(*arguments), cwd=cwd, env=surroundings, stdin=follower, stdout=follower, stderr=follower)
    os.close(follower)
    seen = b""
    try:
        while chunk := os.read(leader, 65536):
            seen += chunk
    except OSError:  # Linux's way to say that the other end is closed
        pass
    finally:
        os.close(leader)
        child.wait(timeout=60)
    return seen.decode()


# init


def test_init_makes_a_library_that_works_and_says_what_is_next(tmp_path: Path, here: Command) -> None:
    done = here("init", tmp_path / "films")

    made = {name for name in scaffold.files("films") if (tmp_path / "films" / name).is_file()}
    assert (done.code, done.err) == (0, "")
    dots = {".gitignore", ".gitattributes", "media/inbox/.gitkeep", ".github/workflows/batch.yml"}
    schemas = {"database/schema/video.json", "database/schema/run.json"}
    assert made == {"dailies.toml", "README.md", "requirements-dailies.txt", *schemas, *dots}
    assert "dailies run" in done.out
    assert here("status", "--root", tmp_path / "films").code == 0


def test_init_never_overwrites(tmp_path: Path, here: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dailies.toml").write_text("[run]\njobs = 1\n")
    (tmp_path / ".gitignore").write_text("/mine/\n")

    done = here("init")

    assert done.code == 0
    assert (tmp_path / "dailies.toml").read_text() == "[run]\njobs = 1\n"
    assert (tmp_path / ".gitignore").read_text() == "/mine/\n"
    assert "kept dailies.toml" in done.out
    assert "/work/" in next(line for line in done.out.splitlines() if ".gitignore lacks" in line)


def test_init_where_a_file_stands_is_one_line(tmp_path: Path, here: Command) -> None:
    (tmp_path / "taken").write_text("mine")

    done = here("init", tmp_path / "taken")

    assert (done.code, done.out) == (2, "")
    assert "choose a folder" in the_complaint(done)
    assert (tmp_path / "taken").read_text() == "mine"


# add


def test_add_works_as_the_very_first_command(shelf: Shelf, dailies: Command, clip: Path) -> None:
    assert not (shelf.root / "work").exists()

    done = dailies("add", clip)

    assert done.code == 0, done.err
    assert re.fullmatch(r"clip-[0-9a-f]{12}\n", done.out)


@pytest.mark.parametrize(
    "arguments", [("status",), ("list",), ("show", "x"), ("retry", "--failed"), ("cleanup",), ("run", "--dry-run")]
)
def test_every_command_works_in_a_fresh_clone(arguments: tuple[str, ...], dailies: Command) -> None:
    done = dailies(*arguments)

    assert done.code == (2 if "show" in arguments else 0), done.err


def test_add_takes_the_media_of_a_folder_and_prints_one_id_a_line(tmp_path: Path, dailies: Command, clip: Path) -> None:
    for name in ("one.mp4", "deep/er/two.MKV", "notes.txt", ".hidden.mp4"):
        (tmp_path / "films" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, tmp_path / "films" / name)

    done = dailies("add", tmp_path / "films")

    assert (done.code, done.err) == (0, "")
    assert sorted(line.rpartition("-")[0] for line in done.out.splitlines()) == ["one", "two"]


def test_add_takes_any_file_that_is_named_outright(tmp_path: Path, dailies: Command) -> None:
    (tmp_path / "notes.txt").write_text("no film")

    done = dailies("add", tmp_path / "notes.txt", "--json")

    assert done.code == 0
    assert done.json()[0]["code"] == "notes"


def test_add_json_is_the_contract_and_the_same_file_twice_is_one_video(dailies: Command, clip: Path) -> None:
    first, second = dailies("add", "--json", clip), dailies("add", clip, "--json")

    (one,), (two,) = first.json(), second.json()
    assert (first.code, second.code) == (0, 0)
    assert one == {"id": one["id"], "code": "clip", "state": "queued", "new": True}
    assert two == one | {"new": False}
    assert len(dailies("list", "--json").json()) == 1


def test_add_says_that_a_file_is_there_already_on_stderr(dailies: Command, clip: Path) -> None:
    first = dailies("add", clip)

    again = dailies("add", clip)

    assert (again.code, again.out) == (0, first.out)
    assert "in the library already, queued" in the_complaint(again)


def test_add_keeps_what_the_person_said(shelf: Shelf, dailies: Command, clip: Path) -> None:
    done = dailies(
        "add", clip, "--title", "Day one", "--tag", "sea", "--tag", "boat", "--code", "D1", "--move", "--allow-duplicate"
    )

    (record,) = shelf.records().values()
    assert done.out.startswith("d1-")
    assert (record["title"], record["metadata"]["tags"], record["code"]) == ("Day one", ["sea", "boat"], "d1")
    assert (record["source"]["remove_after_publish"], record["duplicate_allowed"]) == (True, True)
    assert set(record["edited_at"]) == {"title", "tags", "code"}


def test_a_missing_path_is_exit_2_and_the_others_are_added(tmp_path: Path, dailies: Command, clip: Path) -> None:
    done = dailies("add", tmp_path / "gone.mp4", clip, "--json")

    assert done.code == 2
    assert [one["new"] for one in done.json()] == [True]
    assert re.search(r"gone\.mp4: no such file or folder; check the path$", the_complaint(done))


def test_add_leaves_an_unfinished_download(tmp_path: Path, dailies: Command, clip: Path) -> None:
    shutil.copy(clip, tmp_path / "film.mp4")
    (tmp_path / "film.mp4.part").touch()

    done = dailies("add", tmp_path / "film.mp4")

    assert (done.out, dailies("list").out) == ("", "")
    assert "add it again when it is complete" in the_complaint(done)


def test_names_that_begin_with_a_dash_can_be_added(
    tmp_path: Path, dailies: Command, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(dailies_root := Path.cwd())
    shutil.copy(clip, dailies_root / "--quiet")

    done = dailies("add", "--", "--quiet")

    assert (done.code, done.out[:6]) == (0, "quiet-")


def test_allow_duplicate_publishes_the_same_bytes_twice(shelf: Shelf, dailies: Command, clip: Path) -> None:
    dailies("add", shelf.put(clip, "one.mp4"))
    dailies("run", "--no-commit")
    dailies("add", shelf.put(clip, "two.mp4"), "--allow-duplicate")

    done = dailies("run", "--no-commit", "--json")

    assert done.json()["summary"] | {"bytes_in": 0} == {
        "done": 1, "failed": 0, "duplicate": 0, "skipped": 0, "remaining": 0, "bytes_in": 0
    }  # fmt: skip
    assert len(list((shelf.root / "media/published").glob("two-*"))) == len(PUBLISHED)


# run

REPORT = {"run_id", "status", "started_at", "finished_at", "time_limit_s", "videos", "summary", "errors_by_category", "retries"}
REPORT |= {"mean_recovery_s", "seconds_saved_by_overlap"}
STEPS = ["fetch", "inspect", "convert", "analyse", "enrich", "publish", "preview", "publish_preview", "clean"]


def test_run_json_is_the_report_of_the_issue_and_alone_on_stdout(shelf: Shelf, dailies: Command, clip: Path) -> None:
    path = shelf.put(clip)

    done = dailies("run", "--json")

    report = done.json()
    (video,) = report["videos"]
    assert done.code == 0
    assert set(report) - {"schema_version", "problems", "put_back", "push", "slot", "listings"} == REPORT
    assert (report["status"], report["time_limit_s"], report["mean_recovery_s"]) == ("completed", 315 * 60, None)
    assert report["summary"] == {
        "done": 1, "failed": 0, "duplicate": 0, "skipped": 0, "remaining": 0, "bytes_in": path.stat().st_size
    }  # fmt: skip
    assert (report["errors_by_category"], report["retries"]) == ({}, {"attempted": 0, "succeeded": 0})
    assert report["seconds_saved_by_overlap"] == 0.0  # the steps of one video follow one another
    assert set(video) == {"id", "code", "state", "steps", "bytes"}
    assert sorted(video["steps"]) == sorted(STEPS)
    assert all(set(step) == {"status", "duration_s", "error"} for step in video["steps"].values())


def test_the_committed_report_is_the_printed_one(shelf: Shelf, dailies: Command) -> None:
    empty(shelf, "bad.mp4")

    report = dailies("run", "--json").json()

    (path,) = shelf.root.glob("database/runs/*/*.json")
    assert (path.stem, path.parent.name) == (report["run_id"], report["started_at"][:7])
    assert json.loads(path.read_text()) == report
    assert str(path.relative_to(shelf.root)) in shelf.git("ls-files")


def test_a_run_without_work_is_0_and_reports_to_the_work_folder_only(shelf: Shelf, dailies: Command) -> None:
    before = (tree(shelf.root), shelf.git("rev-parse", "HEAD"))

    done = dailies("run", "--json")

    assert (done.code, done.json()["status"], done.json()["videos"]) == (0, "completed", [])
    assert (tree(shelf.root), shelf.git("rev-parse", "HEAD")) == before
    assert json.loads((shelf.root / "work/last-run.json").read_text()) == done.json()


def test_a_run_with_a_failed_video_is_1_and_never_completed(shelf: Shelf, dailies: Command) -> None:
    empty(shelf, "bad.mp4")

    done = dailies("run")

    assert done.code == 1
    assert re.search(r"^bad-\w{12}\tfailed\tbad\.mp4: is empty", done.out, re.MULTILINE)
    assert re.search(r"^completed_with_errors: 1 failed; 0 left in the queue", done.out, re.MULTILINE)


def test_limit_takes_the_oldest_and_leaves_the_rest(shelf: Shelf, dailies: Command) -> None:
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        empty(shelf, name)

    done = dailies("run", "--limit", "2", "--json")

    summary = done.json()["summary"]
    assert (summary["failed"], summary["skipped"], summary["remaining"]) == (2, 1, 1)
    assert len(done.json()["videos"]) == 2


def test_limit_0_and_too_little_time_start_nothing(shelf: Shelf, dailies: Command) -> None:
    # a video's own estimate reckons with 5 MB a second: 2,000 s for these 10 GB, of which the disk holds nothing
    with empty(shelf, "big.mp4").open("r+b") as big:
        big.truncate(10_000_000_000)

    none = dailies("run", "--limit", "0", "--json")
    short = dailies("run", "--time-limit", "31m", "--json")

    for done in (none, short):
        assert (done.code, done.json()["videos"], done.json()["summary"]["remaining"]) == (0, [], 1)


def test_dry_run_says_what_would_be_done_and_touches_nothing(shelf: Shelf, dailies: Command) -> None:
    dailies("add", empty(shelf, "queued.mp4"))
    empty(shelf, "new.mp4")
    before = (tree(shelf.root), shelf.git("rev-parse", "HEAD"), shelf.git("status", "--porcelain"))

    shown, listed = dailies("run", "--dry-run"), dailies("run", "--dry-run", "--json").json()

    assert shown.code == 0
    assert "1 videos would be taken, 1 files queued; nothing was touched" in shown.out
    assert [(one["code"], one["steps"]) for one in listed["videos"]] == [("queued", STEPS)]
    assert listed["inbox"] == ["media/inbox/new.mp4"]
    assert (tree(shelf.root), shelf.git("rev-parse", "HEAD"), shelf.git("status", "--porcelain")) == before
    assert list(shelf.root.glob("work/*/")) == []


def test_no_commit_leaves_the_records_to_the_next_run(shelf: Shelf, dailies: Command) -> None:
    empty(shelf, "bad.mp4")
    before = shelf.git("rev-parse", "HEAD")

    dailies("run", "--no-commit")

    assert shelf.git("rev-parse", "HEAD") == before
    assert shelf.records()["bad.mp4"]["state"] == "failed"
    assert dailies("run").code == 0
    assert shelf.git("show", "--name-only", "--format=").count("database/videos/") == 1


@pytest.mark.parametrize("limits", [("10m", "10m"), ("10m", "30m"), ("0s", "0s")])
def test_a_time_limit_not_above_what_must_remain_is_2(limits: tuple[str, str], shelf: Shelf, dailies: Command) -> None:
    empty(shelf, "bad.mp4")

    done = dailies("run", "--time-limit", limits[0], "--min-remaining", limits[1])

    assert (done.code, shelf.records()) == (2, {})
    assert "raise --time-limit or lower --min-remaining" in the_complaint(done)


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--time-limit", "soon"),
        ("run", "--jobs", "0"),
        ("run", "--limit", "-1"),
        ("run", "--no-such-option"),
        ("no-such-command",),
        ("add",),
        ("show",),
        ("retry",),
        ("list", "--state", "lost"),
        ("show", "nobody"),
        ("show", "../../etc/passwd"),
        ("retry", "nobody"),
        ("retry", "nobody-0123456789ab"),
    ],
    ids=" ".join,
)
def test_wrong_usage_and_unknown_ids_are_2_with_one_line(arguments: tuple[str, ...], dailies: Command) -> None:
    done = dailies(*arguments)

    assert (done.code, done.out) == (2, "")
    assert ";" in the_complaint(done) or "is none of" in done.err, done.err


def test_a_second_run_is_0_and_names_the_holder(shelf: Shelf, dailies: Command) -> None:
    empty(shelf, "bad.mp4")

    with Single(shelf.root / "work/run.lock").held():
        done = dailies("run", "--json")
        assert dailies("status").code == 0
        assert dailies("add", shelf.root / "media/inbox/bad.mp4").code == 0

    assert (done.code, done.json()["videos"]) == (0, [])
    assert f"held by process {os.getpid()}" in the_complaint(done)


def test_a_hosted_runner_with_only_a_folder_is_2_before_anything_is_taken(
    shelf: Shelf, dailies: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("RUNNER_ENVIRONMENT", "github-hosted")
    empty(shelf, "bad.mp4")

    done, examined = dailies("run"), dailies("doctor")

    assert (done.code, examined.code, shelf.records()) == (2, 2, {})
    (said,) = done.err.splitlines()  # for GitHub's runner, which shows it on the page of the run
    assert said.startswith("::error title=dailies::dailies: publish.hosts: ")
    assert said.endswith("add a host that is elsewhere")


# status, show, list, retry, cleanup, doctor


def test_status_json_is_fresh(shelf: Shelf, dailies: Command) -> None:
    empty(shelf, "bad.mp4")
    dailies("run")
    dailies("add", empty(shelf, "next.mp4"))

    done = dailies("status", "--json")

    committed = json.loads((shelf.root / "database/status.json").read_text())
    status = done.json()
    assert (done.code, done.err) == (0, "")
    assert set(status) == set(committed)
    assert (status["queue_depth"], committed["queue_depth"]) == (1, 0)
    assert (status["failures_by_category"], status["last_run"]) == ({"empty": 1}, committed["last_run"])
    assert {"failed\t1", "queued\t1", "failed: empty\t1"} <= set(dailies("status").out.splitlines())


def test_show_takes_an_id_and_a_code(shelf: Shelf, dailies: Command, clip: Path) -> None:
    video_id = dailies("add", clip).out.strip()

    by_id, by_code = dailies("show", video_id, "--json"), dailies("show", "clip", "--json")

    (record,) = shelf.records().values()
    assert by_id.json() == by_code.json() == record
    assert f"id\t{video_id}" in dailies("show", "clip").out


def test_a_code_of_several_videos_is_2_and_names_them(shelf: Shelf, dailies: Command) -> None:
    ids = [dailies("add", empty(shelf, f"{day}/meeting.mp4")).out.strip() for day in ("monday", "tuesday")]

    for name in ("show", "retry"):
        done = dailies(name, "meeting")

        assert (done.code, done.out) == (2, "")
        assert all(video_id in the_complaint(done) for video_id in ids)
        assert "give the id" in done.err


def test_list_takes_states_and_is_oldest_first(shelf: Shelf, dailies: Command) -> None:
    dailies("add", empty(shelf, "z.mp4"))
    dailies("run")
    dailies("add", empty(shelf, "a.mp4"))

    everything, failed = dailies("list", "--json").json(), dailies("list", "--state", "failed", "--json").json()
    both = dailies("list", "--state", "failed", "--state", "queued").out.splitlines()

    assert [record["code"] for record in failed] == ["z"]
    assert [(record["created_at"], record["id"]) for record in everything] == sorted(
        (record["created_at"], record["id"]) for record in shelf.records().values()
    )
    assert sorted(line.split("\t")[1:] for line in both) == [["failed", "z"], ["queued", "a"]]
    assert dailies("list", "--state", "done", "--json").json() == []


def test_retry_queues_one_by_hand_and_raises_its_epoch(shelf: Shelf, dailies: Command) -> None:
    video_id = dailies("add", empty(shelf, "bad.mp4")).out.strip()
    dailies("run")

    done = dailies("retry", "bad")

    record = shelf.records()["bad.mp4"]
    assert (done.code, done.out.strip()) == (0, video_id)
    assert (record["state"], record["epoch"], record["retry_count"], record["last_error"]) == ("queued", 1, 0, None)
    assert dailies("run").code == 1


def test_retry_failed_takes_all_that_failed_and_no_other(shelf: Shelf, dailies: Command) -> None:
    for name in ("a.mp4", "b.mp4"):
        empty(shelf, name)
    dailies("run")
    dailies("add", empty(shelf, "fresh.mp4"))

    done = dailies("retry", "--failed")

    assert sorted(line.rpartition("-")[0] for line in done.out.splitlines()) == ["a", "b"]
    assert {name: record["epoch"] for name, record in shelf.records().items()} == {"a.mp4": 1, "b.mp4": 1, "fresh.mp4": 0}


def test_retry_of_a_video_that_is_done_is_2_and_changes_nothing(shelf: Shelf, dailies: Command, clip: Path) -> None:
    shelf.put(clip)
    dailies("run")
    before = tree(shelf.root)

    done = dailies("retry", "clip")

    assert (done.code, done.out, tree(shelf.root)) == (2, "", before)
    assert "nothing to retry" in the_complaint(done)


def test_cleanup_says_what_it_removed_and_refuses_beside_a_run(shelf: Shelf, dailies: Command) -> None:
    (shelf.root / "work/nobody-0123456789ab/tmp").mkdir(parents=True)

    with Single(shelf.root / "work/run.lock").held():
        beside = dailies("cleanup")
    done = dailies("cleanup")

    assert (beside.code != 0, "run.lock: held by" in the_complaint(beside)) == (True, True)
    assert (done.code, done.out) == (0, "cleanup: 1 work folders removed\n")
    assert list(shelf.root.glob("work/*/")) == []


def test_doctor_finds_nothing_wrong_with_a_new_library(dailies: Command) -> None:
    done = dailies("doctor", "--json")

    checks = {check["name"]: check["verdict"] for check in done.json()}
    wrong = {name for name, verdict in checks.items() if verdict != "ok"}
    assert (done.code, wrong <= {"workflow"}) == (0, True)  # whether it is known where this program comes from
    assert {"python", "ffmpeg", "pyav", "git", "host published", "disk", "records"} <= set(checks)
    assert re.search(r"^git\tok\tremotes: origin; \d+ MB of history$", dailies("doctor").out, re.MULTILINE)


def test_doctor_is_2_where_a_required_check_fails(shelf: Shelf) -> None:
    (shelf.root / "database/videos/00").mkdir(parents=True)
    (shelf.root / "database/videos/00/x-001122334455.json").write_text("{")

    done = shelf.cli("doctor", "--json", DAILIES_FFMPEG="/no/such/ffmpeg")

    wrong = {check["name"] for check in done.json() if check["verdict"] == "error"}
    assert (done.code, wrong) == (2, {"ffmpeg", "records"})


def test_without_the_named_ffmpeg_a_run_is_2(shelf: Shelf, clip: Path) -> None:
    shelf.put(clip)

    done = shelf.cli("run", DAILIES_FFMPEG="/no/such/ffmpeg")

    assert done.code == 2
    assert "/no/such/ffmpeg: cannot be started" in done.err.splitlines()[-1]
    assert shelf.records()["clip.mp4"]["state"] == "queued"


# demo


def test_the_demo_ends_as_expected_and_is_pushed(tmp_path: Path) -> None:
    done = run_cli("demo", cwd=tmp_path)

    rows = {line.split("\t")[0]: line.split("\t")[1:3] for line in done.out.splitlines() if "\t" in line}
    library = tmp_path / "demo/library"
    heads = [
        subprocess.run(["git", "-C", where, "rev-parse", "main"], capture_output=True, check=True).stdout
        for where in (library, tmp_path / "demo/remote.git")
    ]
    assert done.code == 0, done.err
    assert sorted(state for state, _ in rows.values()) == ["done", "done", "done", "duplicate", "failed"]
    assert {verdict for _, verdict in rows.values()} == {"as expected"}
    assert heads[0] == heads[1]
    assert f"pushed to {tmp_path / 'demo/remote.git'}" in done.out
    assert len(list((library / "media/published").iterdir())) == 3 * len(PUBLISHED)


def test_the_demo_leaves_a_folder_that_is_not_its_own(tmp_path: Path, here: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/mine.txt").write_text("mine")

    done = here("demo")

    assert (done.code, done.out) == (2, "")
    assert "move it away" in the_complaint(done)
    assert (tmp_path / "demo/mine.txt").read_text() == "mine"


# Options that every command has


@pytest.mark.parametrize("place", [lambda root: ("--root", root, "status"), lambda root: ("status", f"--root={root}")])
def test_the_library_is_named_before_or_after_the_command(
    place: Callable[[Path], tuple[str | Path, ...]], shelf: Shelf, here: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert here(*place(shelf.root)).code == 0


def test_the_library_is_found_upwards(shelf: Shelf, here: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shelf.root / "media/inbox")

    assert here("status").code == 0


@pytest.mark.parametrize("name", ["run", "status", "list", "cleanup", "doctor"])
def test_without_a_library_the_way_to_one_is_named(
    name: str, here: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    done = here(name)

    assert (done.code, done.out, list(tmp_path.iterdir())) == (2, "", [])
    assert "dailies init" in the_complaint(done)


@pytest.mark.parametrize("arguments", [("--quiet", "run"), ("run", "--quiet"), ("run", "-q"), ("-q", "run")], ids=" ".join)
def test_quiet_works_before_and_after_the_command(arguments: tuple[str, ...], shelf: Shelf, dailies: Command) -> None:
    empty(shelf, "bad.mp4")

    done = dailies(*arguments)

    assert (done.code, done.err) == (1, "")


@pytest.mark.parametrize("arguments", [("--verbose", "run"), ("run", "-v")], ids=" ".join)
def test_verbose_shows_every_program_that_is_run(arguments: tuple[str, ...], shelf: Shelf, dailies: Command) -> None:
    empty(shelf, "bad.mp4")

    done = dailies(*arguments)

    assert re.search(r"^DEBUG dailies\.process: start .*dailies\.media\.child", done.err, re.MULTILINE)


def test_no_color_and_pipes_get_no_colours(shelf: Shelf, dailies: Command) -> None:
    path = empty(shelf, "x.mp4")
    dailies("add", path, "--title", "[red]not markup[/red]")
    dailies("run")

    coloured, plain = on_terminal(["list"], shelf.root), on_terminal(["list"], shelf.root, NO_COLOR="1")

    assert "\x1b[31mfailed" in coloured
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", plain)
    assert "[red]not markup[/red]" in coloured
    assert "[red]not markup[/red]" in plain
    assert "\x1b" not in dailies("list").out


def test_help_and_version_are_0(here: Command) -> None:
    assert here("--version").out.startswith("dailies ")
    for arguments in ((), ("--help",), ("run", "--help")):
        done = here(*arguments)
        assert (done.code, done.err) == (0, ""), done.err
        assert "Usage" in done.out


# --move


def hosts_in(shelf: Shelf, place: str) -> None:
    """Another folder for the only host."""
    path = shelf.root / "dailies.toml"
    path.write_text(path.read_text().replace('path = "media/published"', f'path = "{place}"'))


def test_move_deletes_the_source_as_the_very_last_step(shelf: Shelf, dailies: Command, clip: Path, tmp_path: Path) -> None:
    original = Path(shutil.copy(clip, tmp_path / "film.mp4"))
    dailies("add", original, "--move")

    done = dailies("run")

    (record,) = shelf.records().values()
    order = re.findall(r"step=(\w+) took", done.err)
    assert (done.code, record["state"], original.exists()) == (0, "done", False)
    assert order == STEPS
    assert (shelf.root / "media/published" / f"{record['id']}.mp4").exists()


def test_without_move_the_source_stays(shelf: Shelf, dailies: Command, clip: Path, tmp_path: Path) -> None:
    original = Path(shutil.copy(clip, tmp_path / "film.mp4"))
    dailies("add", original)

    assert dailies("run").code == 0

    assert original.read_bytes() == clip.read_bytes()


def test_move_keeps_the_source_until_a_host_has_it(shelf: Shelf, dailies: Command, clip: Path, tmp_path: Path) -> None:
    original = Path(shutil.copy(clip, tmp_path / "film.mp4"))
    (shelf.root / "media/blocked").write_text("a file where the host wants a folder")
    hosts_in(shelf, "media/blocked/published")
    dailies("add", original, "--move")

    failed = dailies("run", "--json")

    assert (failed.code, failed.json()["errors_by_category"], original.exists()) == (1, {"host": 1}, True)
    (shelf.root / "media/blocked").unlink()
    dailies("retry", "film")
    assert dailies("run").code == 0
    assert not original.exists()


def test_move_keeps_the_source_of_a_failed_and_of_a_duplicate_video(
    shelf: Shelf, dailies: Command, clip: Path, tmp_path: Path
) -> None:
    shelf.put(clip, "first.mp4")
    dailies("run")
    twin, broken = Path(shutil.copy(clip, tmp_path / "twin.mp4")), tmp_path / "broken.mp4"
    broken.write_bytes(b"")
    dailies("add", "--move", twin, broken)

    dailies("run")

    assert {record["state"] for record in shelf.records().values()} == {"done", "duplicate", "failed"}
    assert (twin.exists(), broken.exists()) == (True, True)


def test_the_setting_moves_what_the_option_moves(shelf: Shelf, dailies: Command, clip: Path) -> None:
    shelf.set("library", remove_source="after_publish")
    path = shelf.put(clip)

    assert dailies("run").code == 0

    assert not path.exists()


def test_a_source_that_cannot_be_deleted_is_a_warning(shelf: Shelf, dailies: Command, clip: Path, tmp_path: Path) -> None:
    original = Path(shutil.copy(clip, tmp_path / "film.mp4"))
    dailies("add", original, "--move")
    if subprocess.run(["chattr", "+i", original], capture_output=True, check=False).returncode != 0:
        pytest.skip("this user or file system has no files that cannot be deleted")

    try:
        done = dailies("run")
    finally:
        subprocess.run(["chattr", "-i", original], check=True)

    (record,) = shelf.records().values()
    assert (done.code, record["state"], original.exists()) == (0, "done", True)
    assert "film.mp4" in record["warnings"][-1]


# git


def test_a_commit_holds_the_database_and_leaves_all_else_as_it_was(shelf: Shelf, dailies: Command, clip: Path) -> None:
    (shelf.root / "staged.txt").write_text("staged")
    shelf.git("add", "staged.txt")
    (shelf.root / ".gitignore").write_text("changed\n*.mp4\n/media/published/\n/work/\n/logs/\n")
    (shelf.root / "untracked.txt").write_text("untracked")
    shelf.put(clip)

    done = dailies("run")

    names = shelf.git("show", "--name-only", "--format=").splitlines()
    assert done.code == 0, done.err
    assert names
    assert all(name.startswith("database/") or name == "README.md" for name in names)
    assert shelf.git("status", "--porcelain").splitlines() == ["M .gitignore", "A  staged.txt", "?? untracked.txt"]
    assert (shelf.git("log", "--format=%an <%ae>", "-1"), shelf.git("rev-list", "--count", "HEAD")) == (
        "github-actions[bot] <41898282+github-actions[bot]@users.noreply.github.com>",
        "3",
    )


def test_without_a_remote_the_commit_stays_here(shelf: Shelf, dailies: Command) -> None:
    shelf.git("remote", "remove", "origin")
    empty(shelf, "bad.mp4")

    done = dailies("run")

    assert done.code == 1
    assert "not pushed: no remote origin" in done.err
    assert shelf.records()["bad.mp4"]["state"] == "failed"


def refuse_pushes(shelf: Shelf) -> Path:
    hook = shelf.remote / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'the branch is closed' >&2\nexit 1\n")
    hook.chmod(hook.stat().st_mode | stat.S_IXUSR)
    return hook


def test_a_refused_push_is_4_with_one_line_and_keeps_the_records(shelf: Shelf, dailies: Command) -> None:
    refuse_pushes(shelf)
    empty(shelf, "bad.mp4")

    done = dailies("run", "--json")

    lines = [line for line in done.err.splitlines() if line.startswith("dailies: git push")]
    assert (done.code, done.json()["summary"]["failed"]) == (4, 1)
    assert len(lines) == 1, done.err
    assert "the branch is closed" in lines[0]
    assert "the records are safe on this disk" in lines[0]
    assert shelf.records()["bad.mp4"]["state"] == "failed"
    assert [path.suffix for path in sorted((shelf.root / "work/rescue").iterdir())] == [".bundle", ".json"]


def test_what_a_refused_push_left_is_pushed_by_the_next_run(shelf: Shelf, dailies: Command) -> None:
    hook = refuse_pushes(shelf)
    empty(shelf, "bad.mp4")
    dailies("run")
    hook.unlink()

    done = dailies("run")

    assert done.code == 0
    assert shelf.git("ls-remote", "origin", "refs/heads/main").split()[:1] == [shelf.git("rev-parse", "HEAD")]


def test_outside_a_git_repository_records_are_kept_and_that_is_said(
    tmp_path: Path, here: Command, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "plain"
    scaffold.init(root)
    shelf = Shelf(root, tmp_path)
    monkeypatch.chdir(root)
    shelf.put(clip)

    done, examined = here("run"), here("doctor")

    assert (done.code, examined.code) == (0, 0)
    assert [line for line in done.err.splitlines() if "git" in line] == [f"not committed: {root} is not in a git repository"]
    assert shelf.records()["clip.mp4"]["state"] == "done"


def test_a_library_in_a_folder_of_a_repository_commits_its_own_database(
    tmp_path: Path, here: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.create(tmp_path / "repository")
    root = tmp_path / "repository/films"
    scaffold.init(root)
    monkeypatch.chdir(root)
    shelf = Shelf(root, tmp_path)
    empty(shelf, "bad.mp4")

    done = here("run")

    names: Any = shelf.git("show", "--name-only", "--format=").splitlines()
    assert done.code == 1
    assert names
    assert all(name.startswith("films/database/") for name in names)


def test_the_time_of_day_of_a_report_is_utc(shelf: Shelf, make_clip: ClipMaker) -> None:
    empty(shelf, "bad.mp4")

    report = shelf.cli("run", "--json", TZ="Asia/Tokyo").json()

    record = shelf.records()["bad.mp4"]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", report[key]) for key in ("started_at", "finished_at"))
    assert record["created_at"][:13] == report["started_at"][:13]
