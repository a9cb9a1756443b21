"""What others may have published, and what may fail in between: nothing of theirs is lost, reverted or made false by it."""

import dataclasses
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dailies import pipeline, sharing
from dailies.clock import Deadline, SystemClock
from dailies.errors import Interrupted
from dailies.journal import Event
from dailies.library import Library
from dailies.locks import Single
from dailies.model import Kind
from dailies.progress import LogWatcher
from integration.test_publication import add, clone, on_remote, publish, publish_start
from support import FakeClock, Shelf


def soon() -> Deadline:
    return Deadline.after(SystemClock(), 60)


def remote(shelf: Shelf, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=shelf.remote, capture_output=True, check=True)
    return done.stdout.decode().strip()


def record_of(shelf: Shelf, video_id: str) -> Path:
    return next(shelf.root.glob(f"database/videos/*/{video_id}.json"))


def push_as_it_is(shelf: Shelf, message: str = "by hand") -> None:
    """By plain git, as a person or another version may."""
    shelf.git("add", "--all", "--force", "database")
    shelf.git("-c", "user.name=x", "-c", "user.email=x@localhost", "commit", "-q", "-m", message)
    shelf.git("push", "-q", "origin", "HEAD:refs/heads/main")


def rescues(shelf: Shelf) -> list[str]:
    return [line for line in remote(shelf, "for-each-ref", "--format=%(refname)").splitlines() if "rescue/" in line]


def refuse(shelf: Shelf) -> Path:
    """A remote that takes anything but its main branch."""
    hook = shelf.remote / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    refusal = 'echo "GH006: closed" >&2; exit 1'
    hook.write_text(f'#!/bin/sh\nwhile read old new ref; do [ "$ref" != refs/heads/main ] || {{ {refusal}; }}; done\n')
    hook.chmod(0o755)
    return hook


@pytest.fixture
def other(shelf: Shelf, tmp_path: Path) -> Shelf:
    """Another machine, with one published video."""
    add(shelf, "talk")
    publish(shelf)
    return clone(shelf, tmp_path / "other")


# -- records that this version cannot read


@pytest.mark.parametrize("content", ['{"state": "paused"}', "<<<<<<< ours\n{}\n"], ids=["of a later version", "with a conflict"])
@pytest.mark.parametrize("is_fresh", [True, False])
def test_a_record_that_cannot_be_read_is_published_as_it_was(
    shelf: Shelf, other: Shelf, tmp_path: Path, content: str, is_fresh: bool
) -> None:
    [video_id] = on_remote(shelf)
    path = record_of(other, video_id)
    path.write_text(json.dumps(json.loads(path.read_text()) | json.loads(content)) if content[0] == "{" else content)
    push_as_it_is(other)
    before = remote(shelf, "rev-parse", f"main:database/videos/{path.parent.name}/{path.name}")
    here = clone(shelf, tmp_path / "fresh", "--depth", "1") if is_fresh else shelf
    added = add(here, "second")

    publish(here)

    assert remote(shelf, "rev-parse", f"main:database/videos/{path.parent.name}/{path.name}") == before
    assert remote(shelf, "ls-tree", "-r", "--name-only", "main").count(added) == 1


def test_a_broken_record_of_ours_is_never_published(shelf: Shelf, other: Shelf) -> None:
    [video_id] = on_remote(shelf)
    record_of(shelf, video_id).write_text("<<<<<<< ours")
    added = add(shelf, "second")

    publish(shelf)

    assert on_remote(shelf).keys() == {video_id, added}


def test_a_base_that_cannot_be_read_does_not_keep_a_repair_out(shelf: Shelf, other: Shelf) -> None:
    [video_id] = on_remote(shelf)
    path = record_of(other, video_id)
    good = path.read_text()
    path.write_text("broken")
    push_as_it_is(other)
    shelf.git("pull", "-q", "--ff-only", "origin", "main")
    path.write_text(good.replace('"title": "talk"', '"title": "Repaired"'))
    push_as_it_is(other)

    publish(shelf)

    assert json.loads(record_of(shelf, video_id).read_text())["title"] == "Repaired"


def test_a_file_that_is_no_record_stops_nothing(shelf: Shelf, other: Shelf) -> None:
    for name in ("database/videos/notes.json", "database/videos/zz/README.json"):
        (other.root / name).parent.mkdir(exist_ok=True)
        (other.root / name).write_text("notes")
    push_as_it_is(other)
    added = add(shelf, "second")

    publish(shelf)

    assert remote(shelf, "ls-tree", "-r", "--name-only", "main").count(added) == 1


# -- what else others have published


def test_reports_of_other_machines_stay_and_the_last_run_is_the_last_of_all(shelf: Shelf, other: Shelf) -> None:
    assert other.cli("run").code == 1  # the text is no video
    report = next(other.root.glob("database/runs/*/*.json"))
    add(shelf, "second")

    publish(shelf)

    assert (shelf.root / report.relative_to(other.root)).read_bytes() == report.read_bytes()
    assert remote(shelf, "show", f"main:{report.relative_to(other.root)}")
    status = json.loads(remote(shelf, "show", "main:database/status.json"))
    assert status["last_run"]["run_id"] == report.stem


def test_a_report_is_published_although_a_checkpoint_had_every_record(shelf: Shelf, clip: Path) -> None:
    shelf.set("git", checkpoint_videos=1)
    shelf.put(clip)

    assert shelf.cli("run").code == 0

    assert json.loads(remote(shelf, "show", "main:database/status.json"))["last_run"]["status"] == "completed"
    assert "database/runs/" in remote(shelf, "ls-tree", "-r", "--name-only", "main")


def test_a_persons_own_commits_are_not_pushed_alone(shelf: Shelf, other: Shelf) -> None:
    (shelf.root / "notes.txt").write_text("unfinished")
    shelf.git("add", "notes.txt")
    shelf.git("-c", "user.name=x", "-c", "user.email=x@localhost", "commit", "-q", "-m", "mine")

    publish(shelf)

    assert "notes.txt" not in remote(shelf, "ls-tree", "-r", "--name-only", "main")


def test_hooks_of_a_person_are_not_run_for_the_databases_commits(shelf: Shelf, other: Shelf) -> None:
    hook = shelf.root / ".git/hooks/pre-push"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    add(shelf, "second")

    assert publish(shelf).is_pushed


# -- trouble in between


def test_what_was_fetched_but_not_merged_is_not_reverted(shelf: Shelf, other: Shelf) -> None:
    [video_id] = on_remote(shelf)
    other.cli("edit", video_id, "--title", "Theirs")
    publish(other)
    publisher = shelf.open().publisher
    whole = publisher.repository
    publisher.repository = dataclasses.replace(whole, settings=whole.settings.model_copy(update={"diff_limit": 0.0}))
    publisher.refresh(soon())
    publisher.repository = whole
    shelf.cli("edit", video_id, "--tag", "mine")

    publisher.publish(sharing.order(shelf.open(), "now", "20260101T000000Z-000000"), soon())

    record = on_remote(shelf)[video_id]
    assert (record["title"], record["metadata"]["tags"]) == ("Theirs", ["mine"])


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/library.git"


def test_a_remote_that_never_answers_costs_the_limit_and_loses_nothing(shelf: Shelf, silent_server: str) -> None:
    add(shelf, "talk")
    shelf.git("remote", "set-url", "origin", silent_server)

    done = shelf.cli("commit", "--time-limit", "8s")

    assert done.code == 4, done.err
    assert [path.suffix for path in sorted((shelf.root / "work/rescue").iterdir())] == [".bundle", ".json"]


def test_events_are_saved_with_what_could_not_be_pushed(shelf: Shelf, silent_server: str) -> None:
    """They are lines of JSON, not one document: the copy for people beside the bundle is of records."""
    video_id, library = add(shelf, "talk"), shelf.open()
    video = library.database.load(video_id)
    for moment in ("2026-01-02T03:04:05Z", "2026-01-02T03:04:06Z"):
        library.journal.write(Event.of(video, "published", Kind.VIDEO, moment))
    shelf.git("remote", "set-url", "origin", silent_server)

    done = shelf.cli("commit", "--time-limit", "8s")

    assert done.code == 4, done.err
    bundle, copy = sorted((shelf.root / "work/rescue").iterdir())
    assert [record["id"] for record in json.loads(copy.read_bytes()) if "id" in record] == [video_id]
    assert shelf.git("bundle", "verify", "--quiet", str(bundle)) == ""
    shelf.git("remote", "set-url", "origin", str(shelf.remote))
    assert shelf.cli("commit").code == 0
    assert len(shelf.git("show", "HEAD:database/events/2026-01.jsonl").splitlines()) == 2


def test_without_a_branch_nothing_is_begun(shelf: Shelf, clip: Path) -> None:
    shelf.put(clip)
    shelf.git("checkout", "-q", "--detach")

    done, planned = shelf.cli("run"), shelf.cli("plan")

    assert (done.code, planned.code) == (2, 2)
    assert "no branch is checked out" in done.err
    assert shelf.records() == {}


# -- rescues


def test_of_several_rescues_the_last_is_left_and_it_holds_them_all(shelf: Shelf, other: Shelf, tmp_path: Path) -> None:
    hook = refuse(shelf)
    for name in ("one", "two", "three"):
        add(shelf, name)
        assert shelf.cli("commit").code == 4

    assert len(rescues(shelf)) == 1
    hook.unlink()
    fresh = clone(shelf, tmp_path / "fresh", "--depth", "1")
    assert fresh.cli("commit").code == 0
    assert {record["code"] for record in on_remote(shelf).values()} == {"talk", "one", "two", "three"}
    assert rescues(shelf) == []


def test_a_rescue_that_cannot_be_read_keeps_its_place_and_the_others_are_taken_in(shelf: Shelf, other: Shelf) -> None:
    hook = refuse(shelf)
    add(shelf, "saved")
    shelf.cli("commit")
    hook.unlink()
    blob = remote(shelf, "hash-object", "-w", str(shelf.root / "README.md"))
    remote(shelf, "update-index", "--add", "--cacheinfo", f"100644,{blob},lost.md")
    tree = remote(shelf, "write-tree")
    broken = remote(shelf, "-c", "user.name=x", "-c", "user.email=x@y", "commit-tree", "-m", "broken", tree)
    remote(shelf, "update-ref", "refs/heads/rescue/zzz", broken)
    (shelf.remote / "objects" / tree[:2] / tree[2:]).unlink()

    done = other.cli("commit")

    assert "saved" in {record["code"] for record in on_remote(shelf).values()}, done.err
    assert rescues(shelf) == ["refs/heads/rescue/zzz"]


def test_a_rescue_is_merged_from_where_it_began_also_in_a_shallow_clone(shelf: Shelf, other: Shelf, tmp_path: Path) -> None:
    """A tag that a person removed meanwhile does not come back with it."""
    [video_id] = on_remote(shelf)
    shelf.cli("edit", video_id, "--tag", "old")
    publish(shelf)
    hook = refuse(shelf)
    shelf.cli("edit", video_id, "--tag", "new")
    shelf.cli("commit")
    hook.unlink()
    other.git("pull", "-q", "--ff-only", "origin", "main")
    other.cli("edit", video_id, "--no-tag", "old")
    rescued = rescues(shelf)[0]
    commit = remote(shelf, "rev-parse", rescued)
    remote(shelf, "update-ref", "-d", rescued)
    publish(other)
    remote(shelf, "update-ref", rescued, commit)

    assert clone(shelf, tmp_path / "fresh", "--depth", "1").cli("commit").code == 0

    assert on_remote(shelf)[video_id]["metadata"]["tags"] == ["new"]


def test_a_bundle_is_taken_in_by_a_shallow_clone_too(shelf: Shelf, other: Shelf, tmp_path: Path, silent_server: str) -> None:
    add(shelf, "saved")
    shelf.git("remote", "set-url", "origin", silent_server)
    shelf.cli("commit", "--time-limit", "6s")
    other.cli("edit", next(iter(on_remote(other))), "--tag", "later")
    publish(other)
    fresh = clone(shelf, tmp_path / "fresh", "--depth", "1")
    (fresh.root / "work").mkdir()
    (shelf.root / "work/rescue").rename(fresh.root / "work/rescue")

    assert fresh.cli("commit").code == 0

    assert {record["code"] for record in on_remote(shelf).values()} == {"talk", "saved"}
    assert list((fresh.root / "work/rescue").iterdir()) == []


# -- stops


def test_a_stop_ends_the_wait_for_another_publication(tmp_path: Path) -> None:
    stop = threading.Event()
    deadline = Deadline.after(SystemClock(), 60, stop)
    threading.Timer(0.2, stop.set).start()

    with Single(tmp_path / "publish.lock").held(), pytest.raises(Interrupted), Single(tmp_path / "publish.lock").held(30, deadline):
        pytest.fail("the lock was had twice")


def test_a_run_that_is_stopped_before_it_began_leaves_a_true_report(shelf: Shelf, stop: threading.Event) -> None:
    publish_start(shelf)
    stop.set()

    result = pipeline.run(shelf.open(), pipeline.Wanted(), LogWatcher(), stop)

    told: Any = json.loads((shelf.root / "work/last-run.json").read_text())
    assert (result.code, told["status"], told["run_id"]) == (130, "cancelled", result.report.run_id)


# -- heartbeat


@pytest.mark.parametrize(("heartbeat", "is_made"), [("1d", True), ("0s", False), ("2d", False)])
def test_a_run_that_changes_nothing_commits_a_heartbeat_when_the_last_commit_is_old(
    shelf: Shelf, stop: threading.Event, clock: FakeClock, heartbeat: str, is_made: bool
) -> None:
    shelf.set("git", heartbeat=heartbeat)
    add(shelf, "talk")

    def run() -> pipeline.Result:
        return pipeline.run(Library(shelf.root, shelf.open().settings, clock), pipeline.Wanted(), LogWatcher(), stop)

    first = run()  # the text is no video
    commits = remote(shelf, "rev-list", "--count", "main")

    clock.advance(86_400 - 60)
    run()
    assert remote(shelf, "rev-list", "--count", "main") == commits
    clock.advance(120)
    run()

    assert first.report.summary.failed == 1
    subject = remote(shelf, "log", "-1", "--format=%s", "main")
    assert subject.startswith("database: heartbeat (run ") is is_made
    assert int(remote(shelf, "rev-list", "--count", "main")) == int(commits) + is_made
