"""Publishing the database: real git, a bare remote, other writers, a remote that refuses or is gone."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from dailies.library import Library
from dailies.pipeline import commit
from dailies.publication import PushFailed
from dailies.repository import Trouble, trouble_of
from support import Shelf, variables

WRITERS = 16
COMMITS = 10
VICTIMS = (3, 11)  # killed at a moment that differs from run to run


def clone(shelf: Shelf, folder: Path, *options: str) -> Shelf:
    subprocess.run(["git", "clone", "-q", *options, f"file://{shelf.remote}", str(folder)], check=True)
    return Shelf(folder, shelf.remote)


def publish_start(shelf: Shelf) -> None:
    shelf.git("push", "-q", "origin", "HEAD:refs/heads/main")


def add(shelf: Shelf, name: str) -> str:
    """A queued video; its id."""
    path = shelf.root / "media" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(name.encode())
    os.utime(path, (1e9, 1e9))
    return shelf.cli("add", path, "--code", name).out.split()[0]


def on_remote(shelf: Shelf) -> dict[str, Any]:
    """Every record of the remote's branch by id."""
    listed = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", "main", "database/videos"], cwd=shelf.remote, capture_output=True, check=True
    )
    names = listed.stdout.decode().split()
    shown = [subprocess.run(["git", "show", f"main:{name}"], cwd=shelf.remote, capture_output=True, check=True) for name in names]
    return {Path(name).stem: json.loads(done.stdout) for name, done in zip(names, shown, strict=True)}


def publish(shelf: Shelf) -> Any:
    return commit(Library.open(root=shelf.root), threading.Event())


@pytest.mark.parametrize(
    ("said", "trouble"),
    [
        ("! [rejected] main -> main (fetch first)", Trouble.RACE),
        ("! [remote rejected] main -> main (cannot lock ref 'refs/heads/main': is at 1 but expected 2)", Trouble.RACE),
        ("remote: error: GH006: Protected branch update failed", Trouble.REFUSED),
        ("! [remote rejected] main -> main (pre-receive hook declined)", Trouble.REFUSED),
        ("fatal: unable to access 'https://h/': The requested URL returned error: 403", Trouble.REFUSED),
        ("fatal: unable to access 'https://h/': The requested URL returned error: 502", Trouble.NETWORK),
        ("fatal: the remote end hung up unexpectedly", Trouble.NETWORK),
        ("fatal: bad object HEAD", Trouble.LOCAL),
    ],
)
def test_troubles_are_told_apart_by_what_to_do_next(said: str, trouble: Trouble) -> None:
    assert trouble_of(said) is trouble


def test_commit_says_when_nothing_changed_and_makes_no_commit(shelf: Shelf) -> None:
    publish_start(shelf)
    before = shelf.git("rev-parse", "HEAD")

    done = shelf.cli("commit")

    assert (done.code, done.out.strip()) == (0, "nothing changed, no commit")
    assert shelf.git("rev-parse", "HEAD") == before


def test_two_writers_of_different_records_both_arrive(shelf: Shelf, tmp_path: Path) -> None:
    publish_start(shelf)
    other = clone(shelf, tmp_path / "other")
    one, two = add(shelf, "one"), add(other, "two")

    publish(shelf)
    publish(other)

    assert on_remote(shelf).keys() == {one, two}
    assert {record["code"] for record in other.records().values()} == {"one", "two"}
    assert other.git("status", "--porcelain", "database") == ""


def test_two_writers_of_one_record_are_merged_field_by_field(shelf: Shelf, tmp_path: Path) -> None:
    video_id = add(shelf, "talk")
    publish(shelf)
    other = clone(shelf, tmp_path / "other")
    shelf.cli("edit", video_id, "--tag", "mine")
    other.cli("edit", video_id, "--title", "Their title", "--tag", "theirs")

    publish(other)
    publish(shelf)

    record = on_remote(shelf)[video_id]
    assert (record["title"], record["metadata"]["tags"]) == ("Their title", ["mine", "theirs"])
    assert record["conflicts"] == []


def test_an_edit_beside_a_run_is_not_lost(shelf: Shelf) -> None:
    video_id = add(shelf, "talk")
    library = shelf.open()
    held = library.database.load(video_id)
    shelf.cli("edit", video_id, "--title", "Edited meanwhile")

    stored = library.database.save(held.with_(retry_count=1), held)

    assert (stored.title, stored.retry_count) == ("Edited meanwhile", 1)


def test_a_removed_video_is_a_tombstone_and_stays_removed(shelf: Shelf, tmp_path: Path) -> None:
    video_id = add(shelf, "talk")
    publish(shelf)
    other = clone(shelf, tmp_path / "other")
    shelf.cli("remove", video_id)
    other.cli("edit", video_id, "--tag", "late")

    publish(shelf)
    publish(other)

    assert on_remote(shelf)[video_id]["deleted_at"] is not None
    assert shelf.cli("list").out == ""


def test_a_record_that_somebody_deleted_by_hand_comes_back(shelf: Shelf, tmp_path: Path) -> None:
    video_id = add(shelf, "talk")
    publish(shelf)
    other = clone(shelf, tmp_path / "other")
    other.git("rm", "-q", "-r", "database/videos")
    other.git("-c", "user.name=x", "-c", "user.email=x@y", "commit", "-q", "-m", "clean up")
    other.git("push", "-q")
    add(shelf, "second")

    publish(shelf)

    assert video_id in on_remote(shelf)


def test_other_files_stay_as_they_are(shelf: Shelf, tmp_path: Path) -> None:
    (shelf.root / "notes.txt").write_text("first")
    shelf.git("add", "notes.txt")
    shelf.git("-c", "user.name=x", "-c", "user.email=x@y", "commit", "-q", "-m", "notes")
    publish_start(shelf)
    other = clone(shelf, tmp_path / "other")
    add(other, "theirs")
    publish(other)
    (shelf.root / "notes.txt").write_text("being written")
    (shelf.root / "staged.txt").write_text("staged")
    shelf.git("add", "staged.txt")
    (shelf.root / "new.txt").write_text("untracked")
    add(shelf, "ours")

    publish(shelf)

    assert shelf.git("status", "--porcelain").splitlines() == ["M notes.txt", "A  staged.txt", "?? media/ours", "?? new.txt"]
    assert (shelf.root / "notes.txt").read_text() == "being written"
    names = shelf.git("log", "--name-only", "--format=", "origin/main", "--", ".", ":(exclude)database").split()
    assert "staged.txt" not in names


def test_a_shallow_clone_publishes(shelf: Shelf, tmp_path: Path) -> None:
    for name in ("one", "two"):
        add(shelf, name)
        publish(shelf)
    shallow = clone(shelf, tmp_path / "shallow", "--depth", "1")
    add(shelf, "three")
    publish(shelf)
    add(shallow, "four")

    publish(shallow)

    assert {record["code"] for record in on_remote(shelf).values()} == {"one", "two", "three", "four"}


def test_a_refused_push_is_rescued_on_a_branch_and_taken_in_by_the_next_run(shelf: Shelf, tmp_path: Path) -> None:
    publish_start(shelf)
    hook = shelf.remote / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\nwhile read old new ref; do case $ref in refs/heads/main) echo closed >&2; exit 1;; esac; done\n")
    hook.chmod(0o755)
    video_id = add(shelf, "talk")

    with pytest.raises(PushFailed, match=r"hook declined.*saved as branch rescue/"):
        publish(shelf)
    hook.unlink()
    fresh = clone(shelf, tmp_path / "fresh")
    publish(fresh)

    assert video_id in on_remote(shelf)
    assert "rescue" not in subprocess.run(["git", "branch"], cwd=shelf.remote, capture_output=True, check=True).stdout.decode()


def test_a_remote_that_is_gone_is_tried_again_then_saved_as_a_bundle(shelf: Shelf, clock: Any) -> None:
    publish_start(shelf)
    library = Library(shelf.root, shelf.open().settings, clock)
    add(shelf, "talk")
    commit_here = shelf.git("rev-parse", "HEAD")
    library.publisher.jitter = lambda ceiling: ceiling
    hook = shelf.remote / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho 'fatal: the remote end hung up unexpectedly' >&2; sleep 0; kill -9 $PPID\n")
    hook.chmod(0o755)

    with pytest.raises(PushFailed) as caught:
        commit(library, threading.Event())

    assert caught.value.state.waits_s == (2.0, 4.0, 8.0)
    assert caught.value.state.attempts == 4
    assert (caught.value.state.backup or "").endswith(".bundle")
    assert shelf.git("rev-parse", "HEAD") == commit_here
    hook.unlink()
    assert publish(shelf).is_pushed
    assert list((shelf.root / "work/rescue").iterdir()) == []


def test_a_push_whose_answer_was_lost_is_not_made_again(shelf: Shelf) -> None:
    publish_start(shelf)
    hook = shelf.remote / "hooks/post-receive"
    hook.write_text("#!/bin/sh\nkill -9 $PPID\n")
    hook.chmod(0o755)
    video_id = add(shelf, "talk")

    published = publish(shelf)

    assert published.is_pushed
    assert published.state.attempts == 1
    assert video_id in on_remote(shelf)


_WRITER = """
import os, sys, threading
from pathlib import Path
from dailies.library import Library
from dailies.pipeline import commit
from dailies import intake
from dailies.clock import Deadline, SystemClock

root, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for number in range(count):
    library = Library.open(root=root)
    path = root / f"{name}-{number}.mp4"
    path.write_bytes(path.name.encode())
    os.utime(path, (1e9, 1e9))
    taken = intake.add([path], intake.Wishes(), library.desk(Deadline.after(SystemClock(), 60)))
    published = commit(library, threading.Event())
    print("ack", taken.added[0].video.id, published.state.attempts, flush=True)
"""


def test_a_storm_of_writers_loses_nothing_that_was_acknowledged(shelf: Shelf, tmp_path: Path) -> None:
    publish_start(shelf)
    shelves = [clone(shelf, tmp_path / f"writer{number}") for number in range(WRITERS)]
    argvs = [[sys.executable, "-c", _WRITER, str(one.root), f"w{number}", str(COMMITS)] for number, one in enumerate(shelves)]
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(subprocess.Popen(argv, stdout=subprocess.PIPE, env=variables())) for argv in argvs]
        said = [iter(process.stdout or ()) for process in running]
        first = [next(said[number]) for number in VICTIMS]  # they are at work
        for number in VICTIMS:
            running[number].send_signal(signal.SIGKILL)
        lines = [line.split() for line in [*first, *itertools.chain.from_iterable(said)]]

    records = on_remote(shelf)
    acknowledged = {line[1].decode() for line in lines}
    assert acknowledged <= records.keys()
    assert len(lines) >= (WRITERS - len(VICTIMS)) * COMMITS
    assert len({record["source"]["identity"] for record in records.values()}) == len(records)
    shown = subprocess.run(["git", "show", "main:database/status.json"], cwd=shelf.remote, capture_output=True, check=True)
    assert json.loads(shown.stdout)["queue_depth"] == len(records)
    pushes = sorted(int(line[2]) for line in lines)
    assert pushes[len(pushes) // 2] <= 3, pushes
    print(f"{len(lines)} acknowledged, pushes a commit: median {pushes[len(pushes) // 2]}, most {pushes[-1]}")
