"""The audit: nothing that was written is lost, by threads, processes, dying machines or merges."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dailies import journal
from dailies.errors import ConfigError
from dailies.journal import Event, Journal, union
from dailies.model import Kind, UploadStatus
from support import ROOT, variables

WRITER = """
import sys
from pathlib import Path
from dailies.journal import Event, Journal
root, who = Path(sys.argv[1]), sys.argv[2]
ours = Journal(root, root / "work")
for number in range(30):
    ours.write(Event(timestamp="2026-01-02T03:04:05Z", video_id=f"{who}-{number}", host="a", kind="video", status="SUCCESS"))
"""


def _event(number: int = 0, **changes: Any) -> Event:
    fields: dict[str, Any] = {
        "timestamp": f"2026-01-02T03:04:{number % 60:02}Z",
        "video_id": f"talk-{number}",
        "host": "a",
        "kind": Kind.VIDEO,
        "status": UploadStatus.SUCCESS,
    }
    return Event.model_validate(fields | changes)


def _files(root: Path) -> list[str]:
    return [line for path in sorted((root / journal.FOLDER).iterdir()) for line in path.read_text().splitlines()]


def test_an_event_is_one_line_with_all_fields_in_both_files(tmp_path: Path) -> None:
    event = _event(
        attempt_id="aa", upload_id="7", retry_count=2, error_message="down", metadata={"title": "Ä"}, bytes=9, seconds=1.5
    )

    Journal(tmp_path, tmp_path / "work").write(event)

    (line,) = (tmp_path / "database/events/2026-01.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line) == {
        "timestamp": "2026-01-02T03:04:00Z",
        "video_id": "talk-0",
        "host": "a",
        "kind": "video",
        "status": "SUCCESS",
        "attempt_id": "aa",
        "upload_id": "7",
        "retry_count": 2,
        "error_message": "down",
        "metadata": {"title": "Ä"},
        "bytes": 9,
        "seconds": 1.5,
    }
    assert (tmp_path / "logs/uploads.log").read_text("utf-8").splitlines() == [line]


def test_each_month_has_a_file_of_its_own(tmp_path: Path) -> None:
    ours = Journal(tmp_path, tmp_path / "work")

    ours.write(_event(timestamp="2026-02-01T00:00:00Z"))
    ours.write(_event(timestamp="2026-01-31T23:59:59Z"))

    assert [path.name for path in sorted((tmp_path / "database/events").iterdir())] == ["2026-01.jsonl", "2026-02.jsonl"]
    assert [event.timestamp[:7] for event in ours.events()] == ["2026-01", "2026-02"]


@pytest.mark.parametrize("title", ["a\u2028b", "a\x85b", "a\nb\rc", "a\x1cb"])
def test_no_character_of_a_title_breaks_a_line(tmp_path: Path, title: str) -> None:
    ours = Journal(tmp_path, tmp_path / "work")

    ours.write(_event(metadata={"title": title}))

    assert [event.metadata["title"] for event in ours.events()] == [title]


def test_a_line_behind_one_that_a_dying_machine_left_unfinished_is_whole(tmp_path: Path) -> None:
    ours = Journal(tmp_path, tmp_path / "work")
    ours.write(_event(1))
    with (tmp_path / "database/events/2026-01.jsonl").open("a") as file:
        file.write('{"timestamp": "2026-01-02T0')

    ours.write(_event(2))

    assert [event.video_id for event in ours.events()] == ["talk-1", "talk-2"]


def test_the_log_is_rotated_and_the_committed_file_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "LOG_BYTES", 500)
    ours = Journal(tmp_path, tmp_path / "work")

    for number in range(30):
        ours.write(_event(number))

    logs = sorted(path.name for path in (tmp_path / "logs").glob("uploads*"))
    assert logs == ["uploads.log", *(f"uploads.log.{number}" for number in range(1, journal.LOG_COUNT + 1))]
    assert all(path.stat().st_size <= 500 for path in (tmp_path / "logs").iterdir())
    assert len(_files(tmp_path)) == 30


def test_threads_lose_no_line(tmp_path: Path) -> None:
    ours = Journal(tmp_path, tmp_path / "work")

    def write(who: int) -> None:
        for number in range(25):
            ours.write(_event(number, video_id=f"{who}-{number}"))

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({event.video_id for event in ours.events()}) == 100
    assert len((tmp_path / "logs/uploads.log").read_text().splitlines()) == 100


def test_two_processes_and_a_merge_at_the_same_time_lose_no_line(tmp_path: Path) -> None:
    ours, path = Journal(tmp_path, tmp_path / "work"), tmp_path / "database/events/2026-01.jsonl"
    path.parent.mkdir(parents=True)
    argv = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*argv, who], env=variables(), cwd=ROOT) for who in ("one", "two")]

    taken = 0
    while any(writer.poll() is None for writer in writers):
        theirs = json.dumps(_event(taken, video_id=f"theirs-{taken}").model_dump(mode="json")).encode() + b"\n"
        ours.take_in(path, theirs)
        taken += 1
        time.sleep(0.01)  # else nobody else ever gets the lock

    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert len({event.video_id for event in ours.events()}) == 60 + taken


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "database").write_text("in the way")

    with pytest.raises(ConfigError, match="free the disk or make it writable"):
        Journal(tmp_path, tmp_path / "work").write(_event())


def test_only_files_of_events_are_joined_by_lines() -> None:
    assert journal.is_events("database/events/2026-01.jsonl")
    assert not journal.is_events("database/events/2026-01.json")
    assert not journal.is_events("database/videos/aa/x.jsonl")


# -- union, as a law

_lines = st.builds(
    lambda moment, who: json.dumps({"timestamp": f"2026-01-0{moment}T00:00:00Z", "video_id": who}).encode(),
    st.integers(1, 5),
    st.sampled_from("abcd"),
) | st.binary(max_size=6).map(lambda some: some.replace(b"\n", b"").replace(b"\r", b""))
_sides = st.lists(_lines, max_size=8, unique=True).map(lambda lines: b"".join(line + b"\n" for line in lines))


def _set(side: bytes) -> set[bytes]:
    return {line for line in side.splitlines() if line.strip()}


@given(_sides, _sides)
def test_the_union_of_two_is_the_same_from_both_sides_and_keeps_every_line(one: bytes, two: bytes) -> None:
    joined = union(one, two)

    assert _set(joined) == _set(one) | _set(two)
    assert joined == union(two, one)
    assert union(joined, two) == joined == union(joined, one)
    assert len([line for line in joined.splitlines() if line.strip()]) == len(_set(joined))


@given(_sides, _sides, _sides)
def test_the_union_of_three_is_the_same_in_any_order(one: bytes, two: bytes, three: bytes) -> None:
    assert _set(union(union(one, two), three)) == _set(union(one, union(two, three)))


@given(_sides)
def test_the_union_with_itself_changes_nothing(one: bytes) -> None:
    assert union(one, one) == one
