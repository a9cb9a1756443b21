"""Publishing the database: real git, a bare remote, other writers, a remote that refuses or is gone."""

import base64
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dailies import repository, scaffold
from dailies.checkpoint import Checkpoints
from dailies.clock import Deadline, SystemClock
from dailies.git_door import GitError, Trouble, trouble_of
from dailies.library import Library
from dailies.publication import Order, PushFailed
from dailies.sharing import commit
from integration.kill_driver import ended, hanging, hung, is_alive, program, running, wait_until
from support import IS_LONG, ROOT, FakeClock, Shelf, variables

WRITERS = 16 if IS_LONG else 8
COMMITS = 10 if IS_LONG else 4
VICTIMS = (3, 7)  # killed at a moment that differs from run to run


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
from dailies.sharing import commit
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


def test_a_long_run_publishes_what_is_finished_before_it_ends(shelf: Shelf, clip: Path, tmp_path: Path) -> None:
    publish_start(shelf)
    shelf.set("git", checkpoint_videos=1)
    shelf.set("run", jobs=1, transfers=1)
    shelf.put(clip, "first.mp4")
    shelf.cli("add", shelf.root / "media/inbox/first.mp4")
    shelf.put(clip, "second.mp4")
    (shelf.root / "media/inbox/second.mp4").write_bytes(clip.read_bytes() + b"another")
    # the second film's preview hangs: two conversions and the first preview go through
    wrapper = program(tmp_path / "ffmpeg", f"echo x >> {tmp_path}/calls; test $(wc -l < {tmp_path}/calls) -ge 4 && sleep 600")

    with running(shelf, "run", DAILIES_FFMPEG=wrapper) as run:
        wait_until(lambda: any(record["state"] == "done" for record in on_remote(shelf).values()))
        assert run.poll() is None
        run.send_signal(signal.SIGTERM)
        assert ended(run).code == 130
    assert publish(shelf).is_pushed


def test_checkpoints_come_by_time_or_by_number_and_one_at_a_time(clock: FakeClock) -> None:
    finished, published = [0], threading.Semaphore(0)

    def publish() -> str:
        published.release()
        return "done"

    made = Checkpoints(clock, 600, 20, lambda: finished[0], publish)

    made.tick()
    clock.advance(599)
    made.tick()
    assert not published.acquire(blocking=False)
    clock.advance(1)
    made.tick()
    assert published.acquire(timeout=5)
    made.wait()
    finished[0] = 20
    made.tick()
    assert published.acquire(timeout=5)
    made.wait()
    made.tick()
    assert not published.acquire(blocking=False)


def test_git_itself_merges_records_with_the_driver(shelf: Shelf, tmp_path: Path) -> None:
    video_id = add(shelf, "talk")
    publish(shelf)
    other = clone(shelf, tmp_path / "other")
    for one, tag in ((shelf, "mine"), (other, "theirs")):
        one.cli("edit", video_id, "--tag", tag)
        one.git("config", "user.name", "x")
        one.git("config", "user.email", "x@localhost")
        one.git("commit", "-q", "-a", "-m", tag)
    publish_start(shelf)
    driver = f"PYTHONPATH={ROOT}/scripts {sys.executable} -m dailies merge-driver %O %A %B %P"
    other.git("config", "merge.dailies.driver", driver)

    other.git("pull", "-q", "--no-rebase", "--no-edit")

    assert other.records()["talk"]["metadata"]["tags"] == ["mine", "theirs"]
    assert other.git("status", "--porcelain", "database") == ""


def test_an_emergency_cleanup_ends_the_run_that_is_still_at_work(shelf: Shelf, clip: Path, tmp_path: Path) -> None:
    publish_start(shelf)
    shelf.put(clip)
    with running(shelf, "run", DAILIES_FFMPEG=hanging(tmp_path)) as run:
        children = hung(tmp_path)

        done = shelf.cli("cleanup", "--emergency")

        assert (done.code, ended(run).code) == (0, 130)
    assert "ended 1 run" in done.out
    assert not any(map(is_alive, children))
    assert shelf.cli("commit").code == 0
    assert [record["state"] for record in on_remote(shelf).values()] == ["queued"]


def test_a_library_in_a_subfolder_of_a_repository_publishes_only_its_database(shelf: Shelf, tmp_path: Path) -> None:
    (shelf.root / "code.py").write_text("person")
    inner = Shelf(shelf.root / "films", shelf.remote)
    assert shelf.cli("init", inner.root).code == 0
    publish_start(shelf)
    video_id = add(inner, "talk")

    assert publish(inner).is_pushed

    names = shelf.git("ls-tree", "-r", "--name-only", "origin/main").split()
    assert f"films/database/videos/{video_id[-12:-10]}/{video_id}.json" in names
    assert "code.py" not in names
    assert shelf.git("status", "--porcelain", "films/database") == ""


def test_a_repository_without_a_commit_and_a_remote_without_a_branch_begin_with_the_records(tmp_path: Path) -> None:
    remote, root = tmp_path / "remote.git", tmp_path / "library"
    repository.create(remote, bare=True)
    repository.create(root)
    scaffold.init(root)
    shelf = Shelf(root, remote)
    shelf.git("remote", "add", "origin", str(remote))
    video_id = add(shelf, "talk")

    assert publish(shelf).is_pushed

    assert on_remote(shelf).keys() == {video_id}
    assert shelf.git("rev-parse", "HEAD") == shelf.git("rev-parse", "origin/main")


def test_a_merge_of_a_person_that_is_not_finished_is_left_as_it_is(shelf: Shelf) -> None:
    for branch, text in (("side", "one"), ("main", "two")):
        shelf.git("checkout", "-q", *(["-b"] if branch == "side" else []), branch)
        (shelf.root / "notes.txt").write_text(text)
        shelf.git("add", "notes.txt")
        shelf.git("-c", "user.name=x", "-c", "user.email=x@y", "commit", "-q", "-m", text)
    publish_start(shelf)
    subprocess.run(
        ["git", "-c", "user.name=x", "-c", "user.email=x@y", "merge", "-q", "side"],
        cwd=shelf.root,
        capture_output=True,
        check=False,
    )
    before = shelf.git("status", "--porcelain", "notes.txt")
    add(shelf, "talk")

    assert publish(shelf).is_pushed

    assert (before, shelf.git("status", "--porcelain", "notes.txt")) == ("AA notes.txt", "AA notes.txt")


def test_what_has_arrived_is_published_even_where_the_branch_here_cannot_follow(shelf: Shelf) -> None:
    publish_start(shelf)
    video_id = add(shelf, "talk")
    (shelf.root / ".git/index.lock").touch()  # a person's git is at work

    published = publish(shelf)

    assert published.is_pushed
    assert video_id in on_remote(shelf)
    assert not (shelf.root / "work/rescue").exists()
    (shelf.root / ".git/index.lock").unlink()
    add(shelf, "another")
    assert publish(shelf).is_pushed
    assert shelf.git("status", "--porcelain", "database") == ""


def test_a_record_whose_file_was_deleted_here_by_hand_comes_back(shelf: Shelf) -> None:
    video_id = add(shelf, "talk")
    publish(shelf)
    next(shelf.root.glob(f"database/videos/*/{video_id}.json")).unlink()
    add(shelf, "second")

    publish(shelf)

    assert video_id in on_remote(shelf)
    assert shelf.records().keys() == {"talk", "second"}


def test_a_record_that_changed_on_the_remote_after_the_run_began_is_merged_at_its_end(shelf: Shelf, tmp_path: Path) -> None:
    video_id = add(shelf, "talk")
    publish(shelf)
    other = clone(shelf, tmp_path / "other")
    shelf.cli("edit", video_id, "--tag", "mine")
    other.cli("edit", video_id, "--tag", "theirs")
    publish(other)

    # without the refresh that a run begins with
    order = Order("end of a run", "20260101T000000Z-000000", lambda: None, {})
    shelf.open().publisher.publish(order, Deadline.after(SystemClock(), 60))

    assert on_remote(shelf)[video_id]["metadata"]["tags"] == ["mine", "theirs"]


class _Server(BaseHTTPRequestHandler):
    """Notes who asks with which credentials, and has nothing."""

    asked: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        self.asked.append(self.headers.get("Authorization"))
        self.send_error(404)

    def log_message(self, *_arguments: object) -> None:
        """Not on stderr."""


def test_a_workflows_token_goes_to_its_own_server_only_and_is_in_no_message(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here, there = (f"http://{name}:{server.server_port}" for name in ("127.0.0.1", "localhost"))
        monkeypatch.setenv("DAILIES_GIT_TOKEN", "a-token-of-the-job")
        monkeypatch.setenv("GITHUB_SERVER_URL", here)
        for address in (here, there):
            shelf.git("remote", "set-url", "origin", f"{address}/someone/library.git")
            with pytest.raises(GitError) as caught:
                shelf.open().repository.remote_branches("main", Deadline.after(SystemClock(), 30))
            assert "a-token-of-the-job" not in str(caught.value)
        server.shutdown()

    expected = base64.b64encode(b"x-access-token:a-token-of-the-job").decode()
    assert _Server.asked == [f"basic {expected}", None]
    assert "a-token" not in (shelf.root / ".git/config").read_text()
