"""Laws of records: what is saved is what is loaded, whole at any moment, and names from outside survive the way."""

import contextlib
import errno
import json
import os
import re
import signal
import string
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from dailies.database import Database, Index, parse_video, to_json
from dailies.errors import ConfigError, DailiesError
from dailies.model import (
    ID_PATTERN,
    Claim,
    Clip,
    Kind,
    LastError,
    Media,
    MediaFile,
    Metadata,
    Preview,
    Record,
    Source,
    State,
    StepName,
    StepRecord,
    StepStatus,
    Upload,
    UploadStatus,
    Video,
    path_to_uri,
    readable,
    slug,
    uri_to_path,
    video_id,
)
from support import FakeClock, variables

# --- generated videos -------------------------------------------------------------------------------------------------------

MOMENTS = st.datetimes().map(lambda moment: f"{moment:%m-%dT%H:%M:%SZ}").map(lambda rest: f"2026-{rest}")
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
TEXTS = st.text(max_size=12)
NUMBERS = st.floats(0, 1e12)
COUNTS = st.integers(0, 2**63)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=4,
)
UNKNOWN = st.sampled_from([{}, {}, {"from_the_future": [1.5, None, {"a": "ß"}]}]) | st.dictionaries(TEXTS, JSON, max_size=1)
WORDS = st.lists(TEXTS, max_size=3).map(tuple)


def _maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


@st.composite
def _records(draw: st.DrawFn, model: type[Record], fields: dict[str, st.SearchStrategy[Any]]) -> Any:
    """A record of this model, sometimes with a field that this version does not know."""
    known = {name for field, described in model.model_fields.items() for name in (field, described.alias)}
    unknown = draw(UNKNOWN.filter(lambda found: not known & set(found)))
    return model.model_validate({**unknown, **{name: draw(strategy) for name, strategy in fields.items()}})


SOURCES = _records(
    Source,
    {
        "kind": st.sampled_from(["file", "http"]),
        "uri": TEXTS,
        "original_name": TEXTS,
        "size_bytes": COUNTS,
        "identity": DIGESTS,
        "sha256": _maybe(DIGESTS),
        "remove_after_publish": st.booleans(),
    },
)
STEPS = _records(StepRecord, {"status": st.sampled_from(StepStatus), "duration_s": NUMBERS, "at": MOMENTS, "error": _maybe(TEXTS)})
ERRORS = _records(
    LastError,
    {
        "step": _maybe(st.sampled_from(StepName)),
        "attempt": COUNTS,
        "category": TEXTS,
        "message": TEXTS,
        "action": TEXTS,
        "at": MOMENTS,
    },
)
FILES = _records(MediaFile, {"name": TEXTS, "size_bytes": COUNTS, "sha256": DIGESTS, "phash": _maybe(TEXTS)})
MEDIA = _records(
    Media,
    {
        **dict.fromkeys(("duration_s", "fps"), NUMBERS),
        **dict.fromkeys(("width", "height", "audio_channels", "bit_rate"), COUNTS),
        **dict.fromkeys(("resolution", "aspect_ratio"), TEXTS),
        **dict.fromkeys(("video_codec", "audio_codec"), _maybe(TEXTS)),
        "rotation": st.integers(-360, 360),
    },
)
METADATA = _records(
    Metadata,
    {
        "description": TEXTS,
        **dict.fromkeys(("release_date", "studio", "series"), _maybe(TEXTS)),
        **dict.fromkeys(("views", "likes"), _maybe(COUNTS)),
        **dict.fromkeys(("categories", "tags"), WORDS),
        "people": st.lists(st.dictionaries(TEXTS, JSON, max_size=2), max_size=2),
        "provenance": st.dictionaries(TEXTS, TEXTS, max_size=2),
    },
)
CLIPS = _records(Clip, {"start_s": NUMBERS, "length_s": NUMBERS, "score": _maybe(NUMBERS), "why": _maybe(TEXTS)})
PREVIEWS = _records(
    Preview,
    {"name": TEXTS, "size_bytes": COUNTS, "duration_s": NUMBERS, "sha256": DIGESTS, "clips": st.lists(CLIPS, max_size=2)},
)
UPLOADS = _records(
    Upload,
    {
        "status": st.sampled_from(UploadStatus),
        "retry_count": COUNTS,
        **dict.fromkeys(("remote_id", "watch_url", "embed_url", "direct_url", "attempt_id", "error"), _maybe(TEXTS)),
        "sha256": _maybe(DIGESTS),
        "at": _maybe(MOMENTS),
        "previous": st.lists(st.dictionaries(TEXTS, JSON, max_size=2), max_size=1),
    },
)
CLAIMS = _records(Claim, {"run_id": TEXTS, "until": MOMENTS})
FEW_UPLOADS = st.dictionaries(TEXTS, st.dictionaries(st.sampled_from(Kind), UPLOADS, max_size=2), max_size=2)


@st.composite
def videos(draw: st.DrawFn, source: st.SearchStrategy[Source] = SOURCES) -> Video:
    """Any record that a database may hold; its parts that may be missing sometimes are."""
    taken_from, code = draw(source), draw(TEXTS)
    fields = {
        "id": st.just(video_id(code, taken_from.identity)),
        "code": st.just(code),
        "title": TEXTS,
        "source": st.just(taken_from),
        "source_type": TEXTS,
        "state": st.sampled_from(State),
        "duplicate_of": _maybe(TEXTS),
        "duplicate_allowed": st.booleans(),
        **dict.fromkeys(("epoch", "interruptions", "retry_count"), COUNTS),
        "interrupted_step": _maybe(st.sampled_from(StepName)),
        "claim": _maybe(CLAIMS),
        **dict.fromkeys(("deleted_at", "next_attempt_at"), _maybe(MOMENTS)),
        "warnings": WORDS,
        "last_error": _maybe(ERRORS),
        "steps": st.dictionaries(st.sampled_from(StepName), STEPS, max_size=2),
        "file": _maybe(FILES),
        "media": _maybe(MEDIA),
        "metadata": METADATA,
        "edited_at": st.dictionaries(TEXTS, MOMENTS, max_size=2),
        "preview": _maybe(PREVIEWS),
        "images": st.dictionaries(TEXTS, TEXTS, max_size=2),
        "uploads": FEW_UPLOADS,
        **dict.fromkeys(("created_at", "updated_at"), MOMENTS),
    }
    found: Video = draw(_records(Video, fields))
    return found


FEW_IDENTITIES = st.sampled_from([f"{number:02d}" * 32 for number in range(5)])
FEW_DIGESTS = st.sampled_from(["a" * 64, "b" * 64])


@st.composite
def _known_videos(draw: st.DrawFn) -> Video:
    """Few sources, few bytes, one code for two of them: they meet often."""
    identity = draw(FEW_IDENTITIES)
    return Video(
        id=video_id("clip", identity),
        code=draw(st.sampled_from(["clip", "clop"])),
        title="",
        source=Source(
            kind="file",
            uri="",
            original_name="",
            size_bytes=0,
            identity=identity,
            sha256=draw(st.sampled_from([None, "a" * 64, "a" * 64, "b" * 64])),
        ),
        state=draw(st.sampled_from([*State, State.DONE, State.QUEUED, State.QUEUED])),
        deleted_at=draw(st.sampled_from([None, None, None, "2026-01-02T03:04:05Z"])),
        created_at="2026-01-02T03:04:05Z",
        updated_at="2025-12-31T00:00:00Z",
    )


SCRATCH: Final = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # hundreds of examples sync their files
MANY: Final = settings(max_examples=100, deadline=None)


@contextlib.contextmanager
def _library() -> Iterator[tuple[Database, FakeClock]]:
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        clock = FakeClock()
        (Path(folder) / "work").mkdir()
        yield Database(Path(folder), Path(folder) / "work", clock), clock


def _reopened(database: Database, restore: Callable[[Path], bytes | None] = lambda _: None) -> Database:
    """The same records for another process, which remembers nothing."""
    root = database.folder.parent
    return Database(root, root / "work", FakeClock(), restore)


def _shape(value: Any) -> Any:
    """JSON values with the order of keys and the kind of number: what == does not tell apart."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)


# --- load, save -------------------------------------------------------------------------------------------------------------


@MANY
@given(videos())
def test_what_is_saved_is_what_is_loaded(video: Video) -> None:
    with _library() as (database, clock):
        saved = database.save(video)
        loaded = _reopened(database).load(video.id)

        assert loaded == saved
        assert loaded == video.with_(updated_at=f"{clock.now():%Y-%m-%dT%H:%M:%SZ}")
        assert list(_reopened(database).scan()) == [saved]
        assert parse_video(to_json(video)) == video


@MANY
@given(videos(), JSON)
def test_fields_that_this_version_does_not_know_survive_a_change(video: Video, value: Any) -> None:
    content = json.loads(to_json(video))
    content["from the future"] = content["source"]["from the future"] = value
    with _library() as (database, _):
        path = database.path_of(video.id)
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))

        database.save(database.load(video.id).with_(title="changed").with_warning("changed"))

        after = json.loads(path.read_bytes())
        assert _shape([after["from the future"], after["source"]["from the future"]]) == _shape([value, value])
        changed = {"title": "changed", "warnings": after["warnings"], "updated_at": after["updated_at"]}
        assert _shape(after) == _shape({**content, **changed})


@MANY
@given(_known_videos(), st.integers(1, 10**6))
def test_saving_the_same_again_touches_no_file(video: Video, later: int) -> None:
    with _library() as (database, clock):
        saved = database.save(video)
        before = database.path_of(video.id).stat()
        clock.advance(later)

        again = database.save(database.load(video.id))

        assert again == saved
        after = database.path_of(video.id).stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        assert database.saves == 1


@settings(max_examples=100, deadline=None)
@given(_known_videos())
def test_the_time_of_a_change_is_no_change(video: Video) -> None:
    """`updated_at` says when something else changed: a value that differs in nothing but that is the same value."""
    with _library() as (database, clock):
        saved = database.save(video)
        clock.advance(60)

        assert database.save(video) == saved
        assert database.saves == 1


@MANY
@given(videos())
def test_a_record_is_written_sorted_indented_as_utf_8_with_a_line_end(video: Video) -> None:
    with _library() as (database, _):
        path = database.path_of(database.save(video).id)
        text = path.read_bytes().decode("utf-8")

    assert text == _shape(json.loads(text)) + "\n"
    assert "schema_version" not in json.loads(text)
    assert re.fullmatch(r"database/videos/[0-9a-f]{2}", path.parent.relative_to(path.parents[3]).as_posix())
    assert path.parent.name == video.source.identity[:2]


# --- at any moment ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _ended_at(call: int, error: BaseException) -> Iterator[list[str]]:
    """The n-th call to the operating system that makes a file durable or puts it in place ends in this error."""
    calls: list[str] = []

    def ending(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any, **named: Any) -> Any:
            calls.append(name)
            if len(calls) == call:
                raise error
            return real(*arguments, **named)

        return act

    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "replace"):
            patch.setattr(os, name, ending(name, getattr(os, name)))
        yield calls


ENDS = st.sampled_from(
    [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()]
)


@MANY
@given(old=_maybe(_known_videos()), new=_known_videos(), call=st.integers(1, 4), error=ENDS)
def test_wherever_a_save_ends_the_record_is_the_old_or_the_new_one(
    old: Video | None, new: Video, call: int, error: BaseException
) -> None:
    with _library() as (database, _):
        before = old and database.save(Video.model_validate({**json.loads(to_json(old)), "id": new.id}))
        with contextlib.suppress(ConfigError, KeyboardInterrupt), _ended_at(call, error) as calls:
            database.save(new)

        found = list(_reopened(database).scan())
        is_put = "replace" in calls[: call - 1]
        assert [video.with_(updated_at="") for video in found] == [
            one.with_(updated_at="") for one in (new if is_put else before,) if one
        ]
        assert [path for path in database.folder.rglob("*") if path.is_file()] == [database.path_of(video.id) for video in found]
        assert len(list(database.folder.glob("videos/*/*.corrupt-*"))) == 0


DYING: Final = """
import os, signal, sys
from pathlib import Path
from dailies.clock import SystemClock
from dailies.database import Database

root, video_id, name, when = Path(sys.argv[1]), *sys.argv[2:]
real = getattr(os, name)

def die(*arguments):
    if when == "after":
        real(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)

database = Database(root, root / "work", SystemClock())
video = database.load(video_id)
setattr(os, name, die)
database.save(video.with_(title="new"))
"""


@pytest.mark.parametrize(
    ("name", "when", "title"),
    [("fsync", "before", "old"), ("fsync", "after", "old"), ("replace", "before", "old"), ("replace", "after", "new")],
)
def test_a_kill_in_the_middle_of_a_save_leaves_a_valid_record(name: str, when: str, title: str) -> None:
    with _library() as (database, _):
        identity = "0" * 64
        source = Source(kind="file", uri="a.mp4", original_name="a.mp4", size_bytes=1, identity=identity)
        moment = "2026-01-02T03:04:05Z"
        database.save(Video(id=video_id("a", identity), code="a", title="old", source=source, created_at=moment, updated_at=moment))
        argv = [sys.executable, "-c", DYING, str(database.folder.parent), video_id("a", identity), name, when]

        dead = subprocess.run(argv, env=variables(), check=False, timeout=60)

        assert dead.returncode == -signal.SIGKILL
        assert [video.title for video in _reopened(database).scan()] == [title]
        assert _reopened(database).save(database.load(video_id("a", identity)).with_(title="newer")).title == "newer"


# --- records that cannot be read ----------------------------------------------------------------------------------------------

BROKEN = st.one_of(st.binary(max_size=30), st.sampled_from([b"", b"{", b"[]", b"<<<<<<< HEAD\n", b'{"id": "other-000000000000"}']))
MEETINGS: Final[Mapping[str, Callable[[Database, Video], Any]]] = {
    "load": lambda database, video: database.load(video.id),
    "scan": lambda database, _: list(database.scan()),
    "save": lambda database, video: database.save(video),
}


@settings(max_examples=100, deadline=None)
@given(video=_known_videos(), broken=BROKEN, is_committed=st.booleans(), meeting=st.sampled_from(sorted(MEETINGS)))
def test_a_broken_record_is_set_aside_and_never_overwritten_or_deleted(
    video: Video, broken: bytes, is_committed: bool, meeting: str
) -> None:
    with _library() as (database, _):
        saved = database.save(video)
        path = database.path_of(video.id)
        path.write_bytes(broken)
        other = _reopened(database, lambda _: to_json(saved) if is_committed else None)

        with contextlib.suppress(DailiesError):
            MEETINGS[meeting](other, saved)

        assert [aside.read_bytes() for aside in path.parent.glob(f"{path.name}.corrupt-*")] == [broken]
        if is_committed or meeting == "save":
            assert parse_video(path.read_bytes()).with_(updated_at=saved.updated_at) == saved
        else:
            assert [f"{video.id}.json" in line for line in other.blocked()] == [True]
            with pytest.raises(ConfigError):
                other.add(video)


@settings(max_examples=100, deadline=None)
@given(first=_known_videos(), second=_known_videos())
def test_what_somebody_has_put_right_meanwhile_is_not_taken_back(first: Video, second: Video) -> None:
    """One process looks at a broken record, another restores it and goes on with it: the first must not undo that."""
    assume(first.id != second.id)
    with _library() as (database, _):
        for video in (first, second):
            database.save(video)
        early, late = list(database.scan())
        database.path_of(late.id).write_bytes(b"{")
        looking = _reopened(database, lambda _: to_json(late)).scan()
        assert next(looking) == early  # all files have been read

        other = _reopened(database, lambda _: to_json(late))
        published = other.save(other.load(late.id).with_upload("published", Kind.VIDEO, Upload(status=UploadStatus.SUCCESS)))

        assert list(looking) == [published]
        assert _reopened(database).load(late.id) == published


# --- names ------------------------------------------------------------------------------------------------------------------

PATHS = st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name).map(os.fsdecode)


@settings(max_examples=300, deadline=None)
@given(PATHS | st.text("file:%/2F\ufffd\udcff", min_size=1, max_size=20))
@example("file:a%20b")
@example("\udcff")
@example("\ufffd")
def test_any_file_name_survives_the_way_through_a_record(path: str) -> None:
    uri = path_to_uri(path)

    assert uri_to_path(uri) == path
    assert readable(uri) == uri  # UTF-8 can hold it
    assert uri == path or uri.startswith("file:")


@settings(max_examples=100, deadline=None)
@given(PATHS, PATHS)
def test_two_files_never_have_the_same_address(one: str, other: str) -> None:
    assert (path_to_uri(one) == path_to_uri(other)) == (one == other)


# around the 60 characters at which a slug is cut
LONG_NAMES = st.builds(lambda length, rest: "a" * length + rest, st.integers(55, 61), st.text("ab- ", min_size=1, max_size=8))


@settings(max_examples=200, deadline=None)
@given(st.text() | st.text(string.ascii_letters + "- _.äß", max_size=100) | LONG_NAMES, DIGESTS)
def test_a_slug_is_short_plain_and_its_own_slug(text: str, identity: str) -> None:
    found = slug(text)

    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", found)
    assert len(found) <= 60
    assert slug(found) == found
    assert re.fullmatch(ID_PATTERN, video_id(text, identity))
    assert video_id(text, identity) == f"{found}-{identity[:12]}"


@settings(max_examples=200, deadline=None)
@given(st.text() | st.text("ab-/.\n0123456789", max_size=30) | st.from_regex(ID_PATTERN, fullmatch=True))
@example("../../etc/passwd-0123456789ab")
@example("a-0123456789ab\n")
def test_what_is_no_id_never_becomes_a_path(name: str) -> None:
    with _library() as (database, _):
        if re.fullmatch(ID_PATTERN, name):
            assert database.path_of(name) == database.folder / "videos" / name[-12:][:2] / f"{name}.json"
        else:
            with pytest.raises(ConfigError, match="not a video id"):
                database.path_of(name)


# --- the index --------------------------------------------------------------------------------------------------------------

HISTORIES = st.lists(_known_videos(), max_size=12)  # few sources and digests: they meet often


def _expected_holder(last: dict[str, Video], sha256: str, besides: str) -> str | None:
    """As the rule says it: whoever is done, else whoever is on the way; the smallest id where several are."""
    known = [video for video in last.values() if video.source.sha256 == sha256 and video.id != besides and not video.deleted_at]
    done = sorted(video.id for video in known if video.state is State.DONE)
    under_way = sorted(video.id for video in known if video.state in {State.QUEUED, State.WORKING})
    return next(iter(done + under_way), None)


@settings(max_examples=500, deadline=None)
@given(history=HISTORIES, besides=FEW_IDENTITIES.map(lambda identity: video_id("clip", identity)), sha256=FEW_DIGESTS)
def test_bytes_belong_to_whoever_is_done_else_on_the_way(history: list[Video], besides: str, sha256: str) -> None:
    index = Index()
    for video in history:
        index.put(video)
    last = {video.id: video for video in history}

    assert index.holder_of(sha256, besides) == _expected_holder(last, sha256, besides)
    assert index.holder_of("", besides) is None
    assert {code: ids for code, ids in index.by_code.items() if ids} == {
        code: {video.id for video in last.values() if video.code == code and not video.deleted_at}
        for code in {video.code for video in last.values() if not video.deleted_at}
    }


@settings(max_examples=100, deadline=None)
@given(history=HISTORIES)
def test_an_index_kept_current_by_saves_is_the_one_that_a_fresh_pass_makes(history: list[Video]) -> None:
    with _library() as (database, _):
        kept = database.index()
        for video in history:
            database.save(video)
        fresh = _reopened(database).index()

        assert kept.states == fresh.states
        for digest in ("a" * 64, "b" * 64):
            assert kept.holder_of(digest, "") == fresh.holder_of(digest, "")
        for code in ("clip", "clop"):
            assert kept.by_code.get(code, set()) == fresh.by_code.get(code, set())


@settings(max_examples=100, deadline=None)
@given(st.lists(_known_videos(), min_size=1, max_size=8))
def test_the_same_source_is_one_record_whatever_its_code(added: list[Video]) -> None:
    with _library() as (database, _):
        known: dict[str, Video] = {}
        for video in added:
            named = video.with_(id=video_id(video.code, video.source.identity))
            stored, is_new = database.add(named)
            assert is_new == (video.source.identity not in known)
            assert stored == known.setdefault(video.source.identity, stored)
            assert database.ids_by_identity()[video.source.identity[:12]] == stored.id
        assert list(database.scan()) == sorted(known.values(), key=lambda one: database.path_of(one.id))
