"""Bad input: each gives one clear line, the right category and exit code, and loses nothing (issue, "Bad input")."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dailies.clock import Deadline
from dailies.errors import Category, VideoError
from dailies.media import ffmpeg, recipes
from dailies.media.children import Children
from dailies.media.probe import probe
from dailies.model import readable
from dailies.process import run
from support import PUBLISHED, ClipMaker, Command, FakeClock, Finished, Shelf, command, variables

Content = Callable[[bytes, bytes], bytes]

# Without CAP_DAC_OVERRIDE (1) and CAP_DAC_READ_SEARCH (2) mode bits bind root too; PR_CAPBSET_DROP is 24 (linux/prctl.h).
_ORDINARY = """
import ctypes, os, sys
for capability in (1, 2):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def _finished(argv: list[str], shelf: Shelf) -> Finished:
    done = subprocess.run(argv, cwd=shelf.root, env=variables(), capture_output=True, timeout=120, check=False)
    return Finished(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


@pytest.fixture
def ordinary(shelf: Shelf, tmp_path: Path) -> Command:
    """The command as a process whom mode bits bind, also where the tests run as root."""
    locked = tmp_path / "locked"
    locked.touch(mode=0)
    launcher = [sys.executable, "-c", _ORDINARY]
    tried = subprocess.run([*launcher, sys.executable, "-c", f"open({str(locked)!r})"], capture_output=True, check=False)
    if tried.returncode == 0:
        pytest.skip("this user reads files of mode 0, and the capability for it cannot be dropped here")
    return lambda *arguments: _finished([*launcher, *command(*arguments)], shelf)


def the_line(done: Finished, *words: str) -> str:
    """The only line on stderr with all these words; nowhere a trace, a control character or a command to GitHub's runner."""
    assert "Traceback" not in done.err, done.err
    assert not _UNSEEN.search(done.out + done.err), repr(done.out + done.err)
    assert not [line for line in (done.out + done.err).splitlines() if line.startswith(("::", "##["))]
    found = [line for line in done.err.split("\n") if all(word in line for word in words)]
    assert len(found) == 1, f"{len(found)} lines with {words} in:\n{done.err}"
    return found[0]


def the_complaint(done: Finished) -> str:
    """All of stderr is one line of `dailies: what: which: remedy`."""
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    assert re.match(r"dailies: .+: .+", lines[0]), lines
    return lines[0]


def write(path: Path, content: bytes) -> Path:
    """A file that nobody is writing any more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    _age(path)
    return path


def _age(path: Path) -> None:
    old = datetime.now(UTC).timestamp() - 3600
    os.utime(path, (old, old))


def padded(content: bytes, number: int) -> bytes:
    """The same film as other bytes: a `free` box at the end (ISO/IEC 14496-12) that players pass over."""
    return content + (12).to_bytes(4, "big") + b"free" + number.to_bytes(4, "big")


def tree(root: Path) -> dict[str, bytes]:
    """All files but git's and the work folder's."""
    kept = (path for path in sorted(root.rglob("*")) if path.is_file() and not {".git", "work"} & set(path.parts))
    return {str(path.relative_to(root)): path.read_bytes() for path in kept}


def published(shelf: Shelf) -> list[str]:
    return sorted(path.name for path in (shelf.root / "media/published").glob("*"))


# What is inside


def _noise(_plain: bytes, _indexed: bytes) -> bytes:
    return random.Random(1).randbytes(60_000)


CONTENTS: dict[str, tuple[Content, str, str]] = {
    "empty": (lambda plain, indexed: b"", "empty", "copy or export it again"),
    "web page": (lambda plain, indexed: b"<html><body>403 Forbidden</body></html>", "unsupported", "docs/settings.md"),
    "noise": (_noise, "unsupported", "docs/settings.md"),
    "cut, no index": (lambda plain, indexed: plain[: len(plain) * 6 // 10], "damaged", "copy it again"),
    "cut, index first": (lambda plain, indexed: indexed[: len(indexed) * 6 // 10], "damaged", "copy it again"),
    "index only": (lambda plain, indexed: indexed[: indexed.index(b"mdat") + 4], "damaged", "copy"),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_what_is_no_whole_video_fails_once_with_its_reason_and_stays_where_it_is(
    kind: str, shelf: Shelf, dailies: Command, clip: Path, make_clip: ClipMaker
) -> None:
    make, category, remedy = CONTENTS[kind]
    indexed = make_clip("indexed.mp4", options=("-movflags", "+faststart"))
    content = make(clip.read_bytes(), indexed.read_bytes())
    path = write(shelf.root / "media/inbox/bad film.mp4", content)

    done = dailies("run", "--json")

    record = shelf.records()["bad film.mp4"]
    assert (done.code, done.json()["status"], done.json()["errors_by_category"]) == (1, "completed_with_errors", {category: 1})
    assert (record["state"], record["last_error"]["category"]) == ("failed", category)
    assert record["last_error"]["message"].startswith("bad film.mp4: ")
    assert remedy in the_line(done, "bad film.mp4")
    assert path.read_bytes() == content
    assert (published(shelf), shelf.temporary_files(), list(shelf.root.glob("work/*/"))) == ([], [], [])


def test_a_failed_video_is_not_tried_again_by_the_next_run(shelf: Shelf, dailies: Command) -> None:
    write(shelf.root / "media/inbox/empty.mp4", b"")
    dailies("run")
    before = tree(shelf.root)

    again = dailies("run", "--json")

    assert (again.code, again.json()["videos"], tree(shelf.root)) == (0, [], before)


def test_fuzzed_files_end_no_run_and_cost_their_neighbour_nothing(shelf: Shelf, dailies: Command, clip: Path) -> None:
    whole = clip.read_bytes()
    for seed in range(6):
        dice, content = random.Random(seed), bytearray(whole)
        for _ in range(len(whole) // 100):
            content[dice.randrange(8, len(whole))] = dice.randrange(256)
        write(shelf.root / f"media/inbox/fuzzed {seed}.mp4", bytes(content))
    shelf.put(clip, "whole.mp4")

    done = dailies("run", "--json")

    records = shelf.records()
    assert records.pop("whole.mp4")["state"] == "done"
    assert "Traceback" not in done.err
    assert len(records) == 6
    for record in records.values():
        category = (record["last_error"] or {}).get("category")
        assert (record["state"], category) in {("done", None), ("failed", "damaged"), ("failed", "unsupported")}, record[
            "last_error"
        ]


@pytest.mark.parametrize("target", ["/etc/passwd", "bait"])
@pytest.mark.parametrize(
    "script",
    [
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile 'file://{}'\n",
    ],
    ids=["hls", "ffconcat"],
)
def test_a_script_dressed_as_a_video_is_refused_and_what_it_names_is_never_read(
    script: str, target: str, shelf: Shelf, dailies: Command, make_clip: ClipMaker, tmp_path: Path
) -> None:
    bait = write(tmp_path / "bait.ts", make_clip("bait.ts").read_bytes())
    last_read = bait.stat().st_atime
    write(shelf.root / "media/inbox/film.mp4", script.format(bait if target == "bait" else target).encode())

    done = dailies("run", "--json")

    record = shelf.records()["film.mp4"]
    assert (done.code, record["state"], record["last_error"]["category"]) == (1, "failed", "unsupported")
    assert "docs/settings.md" in the_line(done, "film.mp4")
    assert bait.stat().st_atime == last_read
    assert published(shelf) == []
    assert "root:" not in done.out + done.err + json.dumps(record)


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("film.m3u8", "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nbait.ts\n#EXT-X-ENDLIST\n"),
        ("film.ffconcat", "ffconcat version 1.0\nfile bait.ts\n"),
    ],
)
def test_neither_pyav_nor_ffmpeg_follows_a_script_whatever_it_is_called(
    name: str, script: str, make_clip: ClipMaker, tmp_path: Path, clock: FakeClock, children: Children
) -> None:
    write(tmp_path / "bait.ts", make_clip("bait.ts").read_bytes())
    path, deadline = write(tmp_path / name, script.encode()), Deadline.after(clock, 60)

    with pytest.raises(VideoError) as refused:
        probe(name, path, deadline, children=children)
    played = run(recipes.decode(ffmpeg.executable(), path, [0], threads=1), deadline, work=tmp_path)

    assert refused.value.category is Category.UNSUPPORTED
    assert played.code != 0, played.messages


# Where it is


def test_a_file_that_vanished_from_the_library_is_unavailable_until_it_is_put_back(
    shelf: Shelf, dailies: Command, clip: Path
) -> None:
    path = shelf.put(clip, "gone.mp4")
    video_id = dailies("add", path).out.strip()
    path.unlink()

    done = dailies("run", "--json")

    record = shelf.records()["gone.mp4"]
    assert (done.code, done.json()["errors_by_category"]) == (1, {"gone": 1})
    assert (record["state"], record["last_error"]["category"]) == ("unavailable", "gone")
    assert "put it back" in the_line(done, "gone.mp4")
    shelf.put(clip, "gone.mp4")
    dailies("retry", video_id)
    assert dailies("run").code == 0
    assert shelf.records()["gone.mp4"]["state"] == "done"


def test_a_file_that_vanished_elsewhere_waits_without_an_attempt_and_without_a_change(
    shelf: Shelf, dailies: Command, clip: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "disk/away.mp4", clip.read_bytes())
    dailies("add", path)
    path.unlink()

    done = dailies("run", "--json")

    record = shelf.records()["away.mp4"]
    assert (done.code, done.json()["status"], done.json()["summary"]["skipped"]) == (0, "completed", 1)
    assert (record["state"], record["retry_count"], record["next_attempt_at"]) == ("queued", 0, None)
    assert "run where it is" in the_line(done, "away.mp4: ")
    before = (tree(shelf.root), shelf.git("rev-parse", "HEAD"))
    assert dailies("run").code == 0
    assert (tree(shelf.root), shelf.git("rev-parse", "HEAD")) == before
    write(path, clip.read_bytes())
    assert dailies("run").code == 0
    assert shelf.records()["away.mp4"]["state"] == "done"


def test_an_unreadable_file_in_the_inbox_is_named_and_its_neighbour_is_done(shelf: Shelf, ordinary: Command, clip: Path) -> None:
    shelf.put(clip, "locked.mp4").chmod(0)
    shelf.put(clip, "open.mp4")

    done = ordinary("run", "--json")

    assert {name: record["state"] for name, record in shelf.records().items()} == {"open.mp4": "done"}
    assert "make it readable" in the_line(done, "locked.mp4")
    assert any("locked.mp4" in problem for problem in done.json()["problems"])


def test_a_queued_file_that_became_unreadable_is_tried_again_later(
    shelf: Shelf, ordinary: Command, clip: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "disk/locked.mp4", clip.read_bytes())
    ordinary("add", path)
    path.chmod(0)

    done = ordinary("run", "--json")

    record = shelf.records()["locked.mp4"]
    assert (done.code, done.json()["errors_by_category"]) == (1, {"unreadable": 1})
    assert (record["state"], record["retry_count"]) == ("queued", 1)
    assert record["next_attempt_at"]
    assert "make it readable" in the_line(done, "locked.mp4: ")


def test_a_queued_file_in_a_folder_that_became_unreadable_crashes_nothing(
    shelf: Shelf, ordinary: Command, clip: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "disk/inner.mp4", clip.read_bytes())
    ordinary("add", path)
    path.parent.chmod(0)

    done = ordinary("run")
    path.parent.chmod(0o755)

    assert the_line(done, "inner.mp4: ")
    assert done.code in {0, 1}
    assert shelf.records()["inner.mp4"]["state"] == "queued"


@pytest.mark.parametrize("mode", [0o000, 0o644])
def test_an_unreadable_folder_is_named(mode: int, shelf: Shelf, ordinary: Command, clip: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "films/one.mp4", clip.read_bytes()).parent
    folder.chmod(mode)

    done = ordinary("add", folder)
    folder.chmod(0o755)

    assert (done.code, done.out) == (2, "")
    assert str(folder) in the_complaint(done)


def test_an_unreadable_path_does_not_keep_add_from_the_others(shelf: Shelf, ordinary: Command, clip: Path, tmp_path: Path) -> None:
    locked, other = write(tmp_path / "locked.mp4", clip.read_bytes()), write(tmp_path / "other.mp4", clip.read_bytes())
    locked.chmod(0)

    done = ordinary("add", locked, other)

    assert (done.code, list(shelf.records())) == (2, ["other.mp4"])
    assert "make it readable" in the_complaint(done)


def test_a_queued_file_that_became_a_folder_fails_as_changed(shelf: Shelf, dailies: Command, clip: Path) -> None:
    path = shelf.put(clip, "film.mp4")
    dailies("add", path)
    path.unlink()
    path.mkdir()

    done = dailies("run")

    record = shelf.records()["film.mp4"]
    assert (done.code, record["state"], record["last_error"]["category"]) == (1, "failed", "changed")
    assert "queue the file itself" in the_line(done, "film.mp4: ")


def test_a_file_changed_since_it_was_queued_fails_as_changed(shelf: Shelf, dailies: Command, clip: Path) -> None:
    path = shelf.put(clip, "film.mp4")
    dailies("add", path)
    write(path, padded(clip.read_bytes(), 1))

    done = dailies("run", "--json")

    first = next(record for record in dailies("list", "--json").json() if record["state"] == "failed")
    assert (done.code, first["last_error"]["category"]) == (1, "changed")
    assert "add it again" in the_line(done, "has changed")
    assert done.json()["summary"]["done"] == 1  # the inbox gave it its own record


def test_a_folder_with_the_name_of_a_video_is_looked_into(shelf: Shelf, dailies: Command, clip: Path) -> None:
    shelf.put(clip, "day.mp4/one.mp4")

    done = dailies("run")

    assert (done.code, list(shelf.records())) == (0, ["one.mp4"])


def test_a_pipe_is_never_opened(shelf: Shelf, dailies: Command) -> None:
    pipe = shelf.root / "media/inbox/pipe.mp4"
    os.mkfifo(pipe)

    assert dailies("run", "--json").json()["videos"] == []
    done = dailies("add", pipe)

    assert done.code == 2
    assert "is no regular file" in the_complaint(done)


def test_a_link_out_of_the_inbox_is_left_alone_and_named(shelf: Shelf, dailies: Command, clip: Path, tmp_path: Path) -> None:
    secret = write(tmp_path / "private/secret.mp4", clip.read_bytes())
    (shelf.root / "media/inbox/link.mp4").symlink_to(secret)

    done = dailies("run", "--json")

    assert (shelf.records(), published(shelf)) == ({}, [])
    assert "copy the file here or add it by its own path" in the_line(done, "link.mp4")
    assert secret.read_bytes() == clip.read_bytes()
    assert dailies("add", secret).code == 0


def test_a_linked_folder_in_the_inbox_is_left_alone_and_named(shelf: Shelf, dailies: Command, clip: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "private/secret.mp4", clip.read_bytes()).parent
    (shelf.root / "media/inbox/films").symlink_to(folder)

    done = dailies("run")

    assert shelf.records() == {}
    assert the_line(done, "media/inbox/films", "is a link")


def test_a_link_to_itself_ends_no_run(shelf: Shelf, dailies: Command, clip: Path) -> None:
    (shelf.root / "media/inbox/loop.mp4").symlink_to("loop.mp4")
    shelf.put(clip, "whole.mp4")

    done = dailies("run")

    assert "Traceback" not in done.err
    assert shelf.records()["whole.mp4"]["state"] == "done"


# What it is called

NAMES = {
    "newline": "one\ntwo.mp4",
    "command to GitHub": "::error::three.mp4",
    "command after a newline": "x\n::error file=a::four.mp4",
    "leading dash": "-rf.mp4",
    "terminal escape": "\x1b]0;owned\x07\x1b[31mred.mp4",
    "markup": "[red]five[bold] [link=x].mp4",
    "no UTF-8": os.fsdecode(b"caf\xe9.mp4"),
    "bidi override": "six\u202e4pm.mp4",
    "format": "%s {id} $(touch x) `y` ; 'seven' \"eight\".mp4",
    "longest": "n" * 251 + ".mp4",
}


@pytest.mark.parametrize("kind", NAMES)
def test_a_hostile_name_is_shown_as_text_on_one_line(kind: str, shelf: Shelf, dailies: Command) -> None:
    write(shelf.root / "media/inbox" / NAMES[kind], b"")

    done = dailies("run")

    (record,) = shelf.records().values()
    assert (done.code, record["state"], record["last_error"]["category"]) == (1, "failed", "empty")
    assert record["source"]["original_name"] == readable(NAMES[kind])
    assert the_line(done, "is empty")
    for shown in (dailies("show", record["id"]), dailies("list"), dailies("status")):
        assert shown.code == 0
        assert not _UNSEEN.search(shown.out), repr(shown.out)


def test_videos_with_hostile_names_are_published_under_safe_ones(shelf: Shelf, dailies: Command, make_clip: ClipMaker) -> None:
    kinds = ("newline", "command to GitHub", "leading dash", "no UTF-8")
    for number, kind in enumerate(kinds):
        write(shelf.root / "media/inbox" / NAMES[kind], make_clip(hertz=300 + number).read_bytes())

    done = dailies("run")

    records = shelf.records()
    assert done.code == 0, done.err
    assert len(records) == len(kinds)
    assert {record["state"] for record in records.values()} == {"done"}
    assert all(re.fullmatch(r"[a-z0-9-]+(\.[a-z]+)?\.[a-z0-9]{3}", name) for name in published(shelf))
    assert len(published(shelf)) == len(PUBLISHED) * len(records)


def test_a_name_of_255_bytes_is_done(shelf: Shelf, dailies: Command, clip: Path) -> None:
    shelf.put(clip, NAMES["longest"])

    done = dailies("run")

    assert done.code == 0, done.err
    assert shelf.records()[NAMES["longest"]]["state"] == "done"


def test_a_name_of_300_characters_is_refused_in_one_line(shelf: Shelf, dailies: Command) -> None:
    done = dailies("add", "n" * 300 + ".mp4")

    assert (done.code, done.out) == (2, "")
    assert "check the path" in the_complaint(done)


def test_two_files_of_one_name_in_two_folders_are_two_videos(shelf: Shelf, dailies: Command, make_clip: ClipMaker) -> None:
    for number, day in enumerate(("monday", "tuesday")):
        write(shelf.root / "media/inbox" / day / "meeting.mp4", make_clip(hertz=300 + number).read_bytes())

    done = dailies("run", "--json")

    videos = done.json()["videos"]
    assert done.code == 0
    assert [(video["code"], video["state"]) for video in videos] == [("meeting", "done")] * 2
    assert len(published(shelf)) == 2 * len(PUBLISHED)


# Where it goes


def test_without_room_a_video_waits_without_an_attempt_and_without_a_change(shelf: Shelf, dailies: Command, clip: Path) -> None:
    shelf.put(clip, "big.mp4")
    shelf.set("space", floor="900TB")

    done = dailies("run", "--json")

    record = shelf.records()["big.mp4"]
    assert (done.code, done.json()["summary"]["skipped"], done.json()["summary"]["remaining"]) == (0, 1, 1)
    assert (record["state"], record["retry_count"], record["next_attempt_at"]) == ("queued", 0, None)
    assert "free some space" in the_line(done, record["id"], "MB of disk")
    before = (tree(shelf.root), shelf.git("rev-parse", "HEAD"))
    dailies("run")
    assert (tree(shelf.root), shelf.git("rev-parse", "HEAD")) == before


def _with_tiny_disk(shelf: Shelf, at: str, *arguments: str, size: int = 8192, used: int = 8192) -> Finished:
    """The command where the folder `at` is a disk of its own, in a mount namespace that goes with the process."""
    folder = shelf.root / at
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.which("unshare") is None:
        pytest.skip("a disk of its own needs `unshare`")
    private = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    mounted = [
        *private,
        "sh",
        "-c",
        f'mount -t tmpfs -o size={size} none "$0" && head -c {used} /dev/zero > "$0/.used" && exec "$@"',
        str(folder),
    ]
    if subprocess.run([*mounted, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may not mount a disk of its own")
    return _finished([*mounted, *command(*arguments)], shelf)


def test_a_host_whose_disk_is_full_makes_the_video_wait_and_then_takes_it(shelf: Shelf, clip: Path) -> None:
    shelf.put(clip, "big.mp4")

    done = _with_tiny_disk(shelf, "media/published", "run", "--json", used=0)

    record = shelf.records()["big.mp4"]
    assert (done.code, record["state"], record["retry_count"]) == (0, "queued", 0)
    line = the_line(done, record["id"], "media/published", "full")
    assert ("free some space" in line, ".tmp-" in line, shelf.temporary_files()) == (True, False, [])
    assert shelf.cli("run").code == 0
    assert shelf.records()["big.mp4"]["state"] == "done"


def test_a_full_disk_under_the_records_is_one_line_and_loses_nothing(shelf: Shelf, clip: Path) -> None:
    path = shelf.put(clip, "big.mp4")

    done = _with_tiny_disk(shelf, "database/videos", "add", "media/inbox/big.mp4")

    assert (done.code, done.out) == (2, "")
    assert "No space left on device; free the disk" in the_complaint(done)
    assert path.read_bytes() == clip.read_bytes()
    assert shelf.cli("run").code == 0


# The records


def _read_only(folder: Path) -> Callable[[], None]:
    """Makes all folders below read-only; the answer makes them writable again."""
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]

    def set_modes(mode: int) -> None:
        for path in folders:
            path.chmod(mode)

    set_modes(0o555)
    return lambda: set_modes(0o755)


def test_a_read_only_database_stops_the_run_and_the_inbox_is_kept(shelf: Shelf, ordinary: Command, clip: Path) -> None:
    path = shelf.put(clip, "film.mp4")
    unlock = _read_only(shelf.root / "database")

    done = ordinary("run", "--json")
    unlock()

    assert done.code == 2, done.err
    assert done.json()["status"] == "failed"
    assert "make database/ writable" in done.err
    assert "Traceback" not in done.err
    assert path.read_bytes() == clip.read_bytes()
    assert ordinary("run").code == 0
    assert shelf.records()["film.mp4"]["state"] == "done"


def test_a_read_only_database_with_a_queue_stops_the_run_in_one_line(shelf: Shelf, ordinary: Command, clip: Path) -> None:
    ordinary("add", shelf.put(clip, "film.mp4"))
    unlock = _read_only(shelf.root / "database")

    done = ordinary("run")
    unlock()

    assert done.code == 2, done.err
    assert "make database/ writable" in the_line(done, "dailies: ")
    assert shelf.temporary_files() == []
    assert ordinary("run").code == 0
    assert shelf.records()["film.mp4"]["state"] == "done"


def test_add_to_a_read_only_database_is_one_line(shelf: Shelf, ordinary: Command, clip: Path) -> None:
    unlock = _read_only(shelf.root / "database")

    done = ordinary("add", shelf.put(clip, "film.mp4"))
    unlock()

    assert (done.code, done.out) == (2, "")
    assert "make database/ writable" in the_complaint(done)


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "conflict": lambda good: b"<<<<<<< HEAD\n" + good,
    "cut": lambda good: good[: len(good) // 2],
    "empty": lambda good: b"",
    "wrong type": lambda good: re.sub(rb'"state": "\w+"', b'"state": 5', good),
    "another video's": lambda good: re.sub(rb'"id": "[^"]+"', b'"id": "other-0123456789ab"', good),
    "no UTF-8": lambda good: good.replace(b'"title": "', b'"title": "\xff'),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_corrupt_record_is_taken_back_from_the_last_commit(how: str, shelf: Shelf, dailies: Command) -> None:
    write(shelf.root / "media/inbox/empty.mp4", b"")
    dailies("run")
    (path,) = shelf.root.glob("database/videos/*/*.json")
    good = path.read_bytes()
    broken = BROKEN[how](good)
    path.write_bytes(broken)

    done = dailies("run", "--json")

    (aside,) = path.parent.glob(f"{path.name}.corrupt-*")
    assert (done.code, done.json()["videos"]) == (0, [])
    assert (path.read_bytes(), aside.read_bytes()) == (good, broken)
    assert the_line(done, path.stem, "taken back from the last commit")


@pytest.mark.parametrize("how", ["conflict", "no UTF-8"])
def test_a_corrupt_record_without_a_commit_blocks_its_id_and_nothing_else(
    how: str, shelf: Shelf, dailies: Command, clip: Path
) -> None:
    bad = shelf.put(clip, "bad.mp4")
    dailies("add", bad)
    (path,) = shelf.root.glob("database/videos/*/*.json")
    good = path.read_bytes()
    path.write_bytes(BROKEN[how](good))
    write(shelf.root / "media/inbox/other.mp4", b"")

    for _ in range(2):  # blocked it stays: it may know of a finished upload
        done = dailies("run", "--json")
        assert (done.code, done.json()["status"] in {"completed_with_errors", "failed"}) == (2, True), done.err
        assert path.stem in the_line(done, "dailies: ")

    (aside,) = path.parent.glob(f"{path.name}.corrupt-*")
    assert aside.read_bytes() == BROKEN[how](good)
    assert {name: record["state"] for name, record in shelf.records().items()} == {"other.mp4": "failed"}
    assert dailies("add", bad).code == 2
    aside.unlink()
    path.write_bytes(good)
    assert dailies("run").code == 0
    assert shelf.records()["bad.mp4"]["state"] == "done"


def test_a_corrupt_record_does_not_keep_add_from_the_other_paths(shelf: Shelf, dailies: Command, clip: Path) -> None:
    bad, other = shelf.put(clip, "bad.mp4"), shelf.put(clip, "other.mp4")
    dailies("add", bad)
    (path,) = shelf.root.glob("database/videos/*/*.json")
    path.write_bytes(b"{")

    done = dailies("add", bad, other)

    assert (done.code, done.out.count("\n")) == (2, 1)
    assert list(shelf.records()) == ["other.mp4"]
    assert path.stem in the_line(done, "dailies: ")


# The settings

SETTINGS: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "no TOML": (b"[run\n", ("dailies.toml", "not valid TOML", "line 1", "correct that line")),
    "no UTF-8": (b'[library]\ninbox = "caf\xe9"\n', ("dailies.toml", "UTF-8")),
    "unknown key": (b'[run]\ntime_limt = "5m"\n', ("dailies.toml", "run.time_limt", "nearest known one is time_limit")),
    "unknown section": (b"[pubish]\n", ("dailies.toml", "pubish", "nearest known one is publish")),
    "unknown key of a host": (
        b'[hosts.published]\nadapter = "folder"\npath = "p"\npubic_url = ""\n',
        ("hosts.published", "pubic_url", "nearest known one is public_url"),
    ),
    "unknown adapter": (b'[hosts.published]\nadapter = "foldr"\n', ("hosts.published", "foldr", "known: folder")),
    "missing key of a host": (b'[hosts.published]\nadapter = "folder"\n', ("hosts.published", "path")),
    "undefined host": (b'[publish]\nhosts = ["nowhere"]\n', ("publish.hosts", "nowhere", "known: published")),
    "wrong type": (b'[run]\njobs = "many"\n', ("dailies.toml", "run.jobs", "integer")),
    "bad duration": (b'[run]\ntime_limit = "5 parsecs"\n', ("dailies.toml", "run.time_limit", "write it like")),
    "bad size": (b'[space]\nfloor = "much"\n', ("dailies.toml", "space.floor", "write it like")),
    "bad choice": (b'[publish]\nverify = "maybe"\n', ("dailies.toml", "publish.verify", "streams", "decode")),
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_wrong_settings_are_one_line_and_nothing_is_touched(kind: str, shelf: Shelf, dailies: Command, clip: Path) -> None:
    text, words = SETTINGS[kind]
    shelf.put(clip, "film.mp4")
    (shelf.root / "dailies.toml").write_bytes(text)
    before = tree(shelf.root)

    done = dailies("run")

    assert (done.code, done.out) == (2, "")
    assert all(word in the_complaint(done) for word in words), done.err
    assert tree(shelf.root) == before


def test_what_a_person_types_that_is_no_utf8_is_shown_so_and_kept(shelf: Shelf, clip: Path, dailies: Command) -> None:
    [added] = json.loads(dailies("add", "--json", shelf.put(clip)).out)

    done = dailies("edit", added["id"], "--title", "a\udcff", "--tag", "b\udcff", "--description", "c\udcff")

    [record] = shelf.records().values()
    assert done.code == 0, done.err
    assert (record["title"], record["metadata"]["tags"], record["metadata"]["description"]) == ("a�", ["b�"], "c�")
