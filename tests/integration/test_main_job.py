"""The main job end to end: real git, real ffmpeg, generated clips."""

from pathlib import Path

from support import PUBLISHED, ClipMaker, Shelf


def test_a_clip_in_the_inbox_is_converted_published_previewed_recorded_and_pushed(shelf: Shelf, clip: Path) -> None:
    shelf.put(clip, "first day.mp4")

    done = shelf.cli("run", "--json")

    record = shelf.records()["first day.mp4"]
    assert done.code == 0, done.err
    assert done.json()["summary"]["done"] == 1
    assert record["state"] == "done"
    published = {path.name: path.stat().st_size for path in (shelf.root / "media/published").iterdir()}
    assert sorted(published) == [f"{record['id']}{suffix}" for suffix in PUBLISHED]
    assert published[f"{record['id']}.mp4"] == record["file"]["size_bytes"]
    assert published[f"{record['id']}.preview.mp4"] == record["preview"]["size_bytes"]
    assert shelf.git("rev-parse", "HEAD") == shelf.git("ls-remote", "origin", "refs/heads/main").split()[0]
    assert shelf.temporary_files() == []


def test_a_second_run_changes_nothing(shelf: Shelf, clip: Path) -> None:
    shelf.put(clip)
    shelf.cli("run")
    before = (shelf.records(), shelf.git("rev-parse", "HEAD"))

    again = shelf.cli("run", "--json")

    assert again.code == 0
    assert again.json()["videos"] == []
    assert (shelf.records(), shelf.git("rev-parse", "HEAD")) == before


def test_equal_bytes_under_another_name_are_a_duplicate_and_not_stored_again(shelf: Shelf, clip: Path) -> None:
    shelf.put(clip, "one.mp4")
    shelf.cli("run")
    shelf.put(clip, "two.mp4")

    shelf.cli("run")

    records = shelf.records()
    assert records["two.mp4"]["state"] == "duplicate"
    assert records["two.mp4"]["duplicate_of"] == records["one.mp4"]["id"]
    assert len(list((shelf.root / "media/published").iterdir())) == len(PUBLISHED)


def test_what_mp4_cannot_hold_is_made_anew(shelf: Shelf, make_clip: ClipMaker) -> None:
    shelf.put(make_clip("old.mpg", video="mpeg2video", audio="mp2"))

    done = shelf.cli("run", "--json")

    assert done.code == 0, done.err
    assert shelf.records()["old.mpg"]["media"]["video_codec"] == "mpeg2video"
    probe = shelf.cli("show", "old", "--json").json()
    assert probe["state"] == "done"
