"""Laws of the registry: whatever hosts do, and wherever runs die, nothing is on a host twice and nothing that is there is lost."""

import contextlib
from collections.abc import Sequence
from typing import Any, cast

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dailies import policy, settling, steps
from dailies.delivery import twin_of
from dailies.enrich import Enricher
from dailies.errors import ConfigError, DailiesError, OutOfTime
from dailies.media.render import Rules
from dailies.model import Kind, State, StepName, Upload, UploadStatus, Video
from dailies.steps import Job, Kit, WorkFolder
from shops import Depot, Killed, depots

UPLOADS = ("ok", "lose", "cut", "fail", "refuse", "deny", "limit 60", "limit 7200", "die", "die early", "slow 30", "slow 4000")
FINDS = ("ok", "ok", "ok", "fail", "silent", "deny", "limit 60", "die")
MAX_RETRIES = 2

acts = st.fixed_dictionaries(
    {"upload": st.lists(st.sampled_from(UPLOADS), max_size=3), "find": st.lists(st.sampled_from(FINDS), max_size=3)}
)
runs = st.lists(st.fixed_dictionaries({"a": acts, "b": acts, "wait_s": st.sampled_from((1, 300, 8000))}), min_size=1, max_size=6)
shops_ = st.sampled_from(("", "replaces = true", "lag = 20.0", "returns = false", "max_per_day = 1", "min_interval = '1h'"))
_settings = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def publish(depot: Depot, video: Video) -> None:
    """What a run does about the video and its uploads, without what is around it; it may die."""
    library = depot.library
    dispatch = library.dispatch()
    deadline = depot.deadline(3600)
    with contextlib.suppress(OutOfTime):
        settling.settle(library, dispatch, deadline)
    before = library.database.load(video.id)
    if not policy.is_open(before):
        return
    save = library.saver(before)

    def intend(one: Video, host: str) -> str | None:
        twin = None if one.duplicate_allowed else twin_of(one, host, library.database.index(), depot.clock)
        if twin is None:
            save(one)
        return twin

    rules, enricher = cast("Rules", None), cast("Enricher", None)
    kit = Kit(depot.root, library.work, library.settings, library.hosts, depot.clock, rules, dispatch, enricher, library.sources)
    job = Job(kit, WorkFolder(library.work / video.id), deadline, save, lambda _: None, lambda _: None, intend)
    try:
        after = steps.publish(before, job) if steps.needs_publishing(before, kit) else before
    except ConfigError:
        raise
    except DailiesError as error:
        now = library.database.load(video.id)
        save(policy.after_error(now, StepName.PUBLISH, error, str(error), library.settings, depot.clock.now()))
    else:
        save(policy.finished(after))


def live(depot: Depot, videos: Sequence[Video], run: Any) -> None:
    for name in "ab":
        depot.plan(name, **run[name])
    depot.clock.advance(run["wait_s"])
    for video in videos:
        with contextlib.suppress(Killed):
            publish(depot, video)


def copies(depot: Depot, video: Video, name: str) -> int:
    return depot.stock(name).count(f"{video.id}.mp4")


def uploads_of(depot: Depot, video: Video) -> dict[str, Upload]:
    return {name: kinds[Kind.VIDEO] for name, kinds in depot.now(video).uploads.items()}


def check_journal(depot: Depot, video: Video) -> None:
    """The last line of each upload says what the record says, but where a run died in the middle of it, or it only waits."""
    last = {line["host"]: line for line in depot.lines() if line["video_id"] == video.id}
    for name, upload in uploads_of(depot, video).items():
        if upload.status not in {UploadStatus.IN_PROGRESS, UploadStatus.RATE_LIMITED}:
            assert (last[name]["status"], last[name]["retry_count"]) == (upload.status, upload.retry_count)
            assert (last[name]["upload_id"], last[name]["error_message"]) == (upload.remote_id, upload.error)


@given(strategy=st.sampled_from(("fallback", "all")), one=shops_, two=shops_, lives=runs)
@_settings
def test_whatever_hosts_do_nothing_is_there_twice_and_nothing_that_is_there_is_lost(
    strategy: str, one: str, two: str, lives: list[Any]
) -> None:
    with depots() as depot:
        depot.set(f"strategy = '{strategy}'\nmax_retries = {MAX_RETRIES}", a=one, b=two)
        video = depot.put()
        there: dict[str, str | None] = {}

        for run in lives:
            live(depot, [video], run)

            found = {name: copies(depot, video, name) for name in "ab"}
            assert max(found.values()) <= 1
            if strategy == "fallback":
                assert sum(found.values()) <= 1, "a further host is no place for what may be on the first"
            for name, upload in uploads_of(depot, video).items():
                assert upload.retry_count <= MAX_RETRIES + 1
                assert (upload.status == "FAILED_FINAL") or upload.retry_count <= MAX_RETRIES
                if upload.status == "SUCCESS":
                    assert found[name] == 1
                    there.setdefault(name, upload.remote_id)
            for name, remote_id in there.items():
                assert (depot.upload(video, name).status, depot.upload(video, name).remote_id) == ("SUCCESS", remote_id)
            check_journal(depot, video)
            assert depot.now(video).state is not State.DONE or depot.now(video).is_published()


@given(lives=runs, one=shops_)
@_settings
def test_of_two_videos_with_the_same_bytes_a_host_gets_one(lives: list[Any], one: str) -> None:
    with depots() as depot:
        depot.set(f"max_retries = {MAX_RETRIES}", a=one, b="")
        videos = [depot.put(), depot.put(code="twin")]

        for run in lives:
            live(depot, videos, run)
            for name in "ab":
                assert len(depot.stock(name)) <= 1


@given(lives=runs, one=st.sampled_from(("", "replaces = true", "lag = 20.0")), lost=st.lists(st.booleans(), min_size=6, max_size=6))
@_settings
def test_machines_lost_without_a_trace_make_no_second_copy_where_a_host_can_be_asked(
    lives: list[Any], one: str, lost: list[bool]
) -> None:
    with depots() as depot:
        depot.set("strategy = 'all'", a=one, b="")
        video = depot.put()

        for run, is_lost in zip(lives, lost, strict=False):
            before = depot.now(video)
            for name in "ab":
                run[name]["find"] = [act for act in run[name]["find"] if act != "silent"]
            live(depot, [video], run)
            assert max(copies(depot, video, name) for name in "ab") <= 1
            if is_lost:  # what it recorded went with it; what it sent is there
                after = depot.now(video)
                depot.library.database.save(before.with_(updated_at=after.updated_at))
                depot.clock.advance(60)


@given(lives=runs)
@_settings
def test_once_hosts_are_well_again_everything_that_may_be_is_there(lives: list[Any]) -> None:
    with depots() as depot:
        depot.set("strategy = 'all'\nmax_retries = 9", a="", b="lag = 20.0")
        video = depot.put()
        for run in lives:
            live(depot, [video], run)

        well: dict[str, list[str]] = {"upload": [], "find": []}
        for _ in range(2):
            live(depot, [video], {"a": well, "b": well, "wait_s": 90000})

        for name in "ab":
            is_refused = depot.upload(video, name).status == "FAILED_FINAL"
            assert is_refused or (depot.upload(video, name).status, copies(depot, video, name)) == ("SUCCESS", 1)
