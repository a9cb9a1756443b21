"""Which slot of the schedule a run serves, whether a run is worth starting, and what `dailies plan` makes of its inputs."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dailies import planning
from dailies.clock import parse_timestamp, timestamp
from dailies.errors import ConfigError
from dailies.library import Library
from dailies.model import Claim
from dailies.planning import Plan
from dailies.report import Slot
from dailies.schedule import Facts, decide, next_due, slot
from support import FakeClock, Shelf

START = datetime(2026, 1, 1, tzinfo=UTC)
HOURS, MINUTES = st.integers(0, 23), st.integers(0, 59)
WIDTHS = st.sampled_from(["{}", "{:02d}"])  # `8` and `08`
MOMENTS = st.integers(0, 4 * 366 * 86_400).map(lambda seconds: START + timedelta(seconds=seconds))
FINE_MOMENTS = st.builds(lambda moment, fraction: moment + timedelta(microseconds=fraction), MOMENTS, st.integers(0, 999_999))
LINES = (
    "*/5 * * * *",
    "23 */6 * * *",
    "08 09 * * *",
    "0 0 1 * *",
    "30 4 * * 1",
    "59 23 31 * *",
    "0 0 29 2 *",
    "15,45 8-18 * * MON-FRI",
)
PLAN = "DAILIES_PLAN"
NO_MOMENT = "2026-99-99T99:99:99Z"
NO_LINE = {"cron": "daily", "due_at": "2026-01-01T00:00:00Z", "late_s": 0, "missed": 0, "started_at": "2026-01-01T00:00:00Z"}


def due(found: Slot) -> datetime:
    return parse_timestamp(found.due_at)


def daily(hour: int, minute: int, after: datetime, until: datetime) -> list[datetime]:
    """Every HH:MM after one moment up to another, by counting days."""
    first = datetime(after.year, after.month, after.day, hour, minute, tzinfo=UTC)
    days = (until - after).days + 3
    return [moment for moment in (first + timedelta(days=day) for day in range(days)) if after < moment <= until]


@settings(deadline=None, max_examples=300)
@given(HOURS, MINUTES, WIDTHS, WIDTHS, MOMENTS)
@example(hour=0, minute=0, hour_as="{:02d}", minute_as="{:02d}", fired=START)
@example(hour=9, minute=8, hour_as="{:02d}", minute_as="{:02d}", fired=START)
@example(hour=8, minute=9, hour_as="{:02d}", minute_as="{}", fired=START + timedelta(hours=8, minutes=9))
def test_the_time_of_a_cron_line_is_read_whatever_its_leading_zeros(
    hour: int, minute: int, hour_as: str, minute_as: str, fired: datetime
) -> None:
    """Feature: github-workflow-bug-fixes, Property 2: time extraction: the slot is due at exactly the line's hour and minute."""
    cron = f"{minute_as.format(minute)} {hour_as.format(hour)} * * *"

    found = slot(cron, fired, None)

    assert due(found) == daily(hour, minute, fired - timedelta(days=1), fired)[-1]
    assert found.late_s == (fired - due(found)).total_seconds() < 86_400
    assert (found.cron, found.missed) == (cron, 0)


def test_every_minute_of_a_day_is_read() -> None:
    """Feature: github-workflow-bug-fixes, Property 2: time extraction: all 1440, with leading zeros."""
    for number in range(1440):
        hour, minute = divmod(number, 60)

        found = slot(f"{minute:02d} {hour:02d} * * *", START + timedelta(days=1, minutes=number, seconds=5), None)

        assert (due(found), found.late_s) == (START + timedelta(days=1, minutes=number), 5.0)


@settings(deadline=None, max_examples=200)
@given(HOURS, MINUTES, MOMENTS, st.integers(0, 34 * 86_400))
def test_of_the_slots_since_the_firing_before_the_first_is_served_and_the_others_are_missed(
    hour: int, minute: int, previous: datetime, later_s: int
) -> None:
    fired = previous + timedelta(seconds=later_s)
    passed = daily(hour, minute, previous, fired)

    found = slot(f"{minute} {hour} * * *", fired, previous)

    assert found.missed == max(0, len(passed) - 1)
    assert due(found) == (passed[0] if passed else daily(hour, minute, fired - timedelta(days=1), fired)[-1])
    assert found.late_s == (fired - due(found)).total_seconds()


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(LINES), FINE_MOMENTS, st.none() | FINE_MOMENTS)
def test_no_slot_is_due_after_the_run_that_serves_it_was_fired(cron: str, fired: datetime, previous: datetime | None) -> None:
    found = slot(cron, fired, previous)

    assert due(found) <= fired
    assert found.late_s >= 0
    assert found.missed >= 0


def test_a_slot_that_comes_within_the_next_second_is_not_served_yet() -> None:
    fired = START + timedelta(hours=11, minutes=59, seconds=59.5)

    found = slot("0 12 * * *", fired, None)

    assert due(found) == START - timedelta(hours=12)


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(LINES[:3]), MOMENTS, st.lists(st.integers(1, 3 * 86_400), min_size=2, max_size=5))
def test_no_slot_is_counted_twice_by_the_runs_that_follow_each_other(cron: str, before: datetime, pauses_s: list[int]) -> None:
    """Runs that had no slot of their own serve the last one again, and count nothing."""
    served: set[datetime] = set()
    counted = 0
    first = before
    for pause_s in pauses_s:
        fired = before + timedelta(seconds=pause_s)
        found = slot(cron, fired, before)
        if due(found) > before:
            assert due(found) not in served
            served.add(due(found))
            counted += 1 + found.missed
        else:
            assert found.missed == 0
        before = fired

    assert counted == len(every(cron, first, before))


def every(cron: str, after: datetime, until: datetime) -> list[str]:
    """All slots between, one by one."""
    found: list[str] = []
    moment: str | None = timestamp(after)
    while (moment := next_due(cron, parse_timestamp(moment or ""))) and parse_timestamp(moment) <= until:
        found.append(moment)
    return found


def test_a_pause_of_months_is_counted_for_35_days_only() -> None:
    found = slot("0 0 * * *", START + timedelta(days=365, hours=1), START)

    assert due(found) == START + timedelta(days=331)
    assert found.missed == 34


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(LINES), MOMENTS)
def test_the_next_slot_is_in_the_future_and_is_the_one_then_served(cron: str, now: datetime) -> None:
    coming = next_due(cron, now)

    assert coming is not None
    assert parse_timestamp(coming) > now
    assert slot(cron, parse_timestamp(coming), now).due_at == coming
    assert slot(cron, parse_timestamp(coming), None).late_s == 0


@pytest.mark.parametrize(
    "cron",
    ["", "daily", "@hourly", "* * * *", "60 * * * *", "* 24 * * *", "* * * * 9", "*/0 * * * *", "5-1 * * * *", "a\nb c d e f"],
)
def test_what_is_no_cron_line_is_refused_in_one_line_that_shows_it(cron: str) -> None:
    for ask in (lambda: slot(cron, START, None), lambda: slot(cron, START, START), lambda: next_due(cron, START)):
        with pytest.raises(ConfigError) as caught:
            ask()

        assert len(str(caught.value).splitlines()) == 1
        assert repr(cron) in str(caught.value)


@settings(deadline=None)
@given(st.text(max_size=20) | st.lists(st.text("0123456789*/-,LW#? ", max_size=4), min_size=5, max_size=5).map(" ".join))
def test_any_text_is_a_schedule_or_is_refused(cron: str) -> None:
    found = answer(cron)

    assert found is None or due(found) <= START


def answer(cron: str) -> Slot | None:
    """None for what is refused, in one line."""
    try:
        return slot(cron, START, None)
    except ConfigError as error:
        return None if len(str(error).splitlines()) == 1 else pytest.fail(f"{error} is not one line")


COUNTS = st.integers(0, 5)


FACTS = st.builds(
    Facts,
    due=COUNTS,
    elsewhere=COUNTS,
    absent=COUNTS,
    waiting=COUNTS,
    next_attempt_at=st.just("2026-01-02T00:00:00Z"),
    inbox=COUNTS,
    rescues=COUNTS,
    is_forced=st.booleans(),
    lacks_heartbeat=st.booleans(),
)


@given(FACTS)
def test_a_run_is_worth_starting_where_there_is_something_to_do(facts: Facts) -> None:
    should_run, reason = decide(facts)

    work = {"queued": facts.due, "in the inbox": facts.inbox, "rescued pushes": facts.rescues}
    assert should_run == bool(any(work.values()) or facts.is_forced or facts.lacks_heartbeat)
    assert all((f"{count} {what}" in reason) == (count > 0) for what, count in work.items())
    assert ("nothing to do" in reason) != should_run
    if not should_run:
        assert (f"{facts.elsewhere} in the hands of another run" in reason) == (facts.elsewhere > 0)
        assert (f"{facts.absent} whose files are not on this machine" in reason) == (facts.absent > 0)
        assert (f"{facts.waiting} wait, the first until 2026-01-02T00:00:00Z" in reason) == (facts.waiting > 0)


@pytest.mark.parametrize(
    ("facts", "answer"),
    [
        (Facts(due=2, inbox=1, is_forced=True), (True, "2 queued, 1 in the inbox")),
        (Facts(rescues=1), (True, "1 rescued pushes to take in")),
        (Facts(is_forced=True, lacks_heartbeat=True), (True, "forced")),
        (Facts(lacks_heartbeat=True, waiting=1), (True, "keepalive: the last commit is a day old")),
        (Facts(), (False, "nothing to do")),
    ],
)
def test_the_reason_names_what_there_is_to_do(facts: Facts, answer: tuple[bool, str]) -> None:
    assert decide(facts) == answer


# -- the command


def made(shelf: Shelf, clock: FakeClock, cron: str = "", **more: Any) -> Plan:
    library = Library(shelf.root, shelf.open().settings, clock)
    return planning.make(library, cron, **{"limit": None, "dry_run": False, "force": False, **more})


def tell(shelf: Shelf, **more: Any) -> None:
    """A status.json that says this."""
    known = {"at": "2026-01-02T03:04:05Z", "videos": {}, "queue_depth": 0, "failures_by_category": {}}
    (shelf.root / "database/status.json").write_text(json.dumps(known | more))


def queue(shelf: Shelf, **changes: Any) -> str:
    """A queued video, changed as a run or a person would; its id."""
    path = shelf.root / "media" / "talk.mp4"
    path.write_bytes(b"talk")
    os.utime(path, (1e9, 1e9))
    video_id = shelf.cli("add", path).out.strip()
    database = shelf.open().database
    database.save(database.load(video_id).with_(**changes))
    return video_id


def test_plan_says_which_slot_a_run_serves(shelf: Shelf) -> None:
    done = shelf.cli("plan", "--json", DAILIES_SCHEDULE="08 09 * * *")

    plan = done.json()
    assert (done.code, plan["cron"]) == (0, "08 09 * * *")
    assert parse_timestamp(plan["due_at"]).strftime("%H:%M:%S") == "09:08:00"
    assert 0 <= plan["late_s"] < 86_400
    assert "reckoned from the last recorded run" in done.err
    assert Plan.model_validate(plan).slot() == Slot(
        cron="08 09 * * *", due_at=plan["due_at"], late_s=plan["late_s"], missed=plan["missed"]
    )


def test_inputs_come_from_the_environment_with_or_without_leading_zeros(shelf: Shelf) -> None:
    given = {"LIMIT": "08", "TIME_LIMIT": "090m", "HOSTS": "published", "DRY_RUN": "true", "FORCE": "true"}

    plan = shelf.cli("plan", "--json", **{f"DAILIES_{name}": value for name, value in given.items()}).json()

    assert (plan["limit"], plan["time_limit_s"], plan["hosts"]) == (8, 5400, ["published"])
    assert (plan["dry_run"], plan["force"], plan["cron"]) == (True, True, None)


def test_empty_inputs_are_as_if_they_were_not_given(shelf: Shelf) -> None:
    names = ("LIMIT", "TIME_LIMIT", "HOSTS", "DRY_RUN", "FORCE", "SCHEDULE")

    empty = shelf.cli("plan", "--json", **{f"DAILIES_{name}": "" for name in names})

    plan = empty.json()
    assert empty.code == 0
    assert plan == shelf.cli("plan", "--json").json()
    assert (plan["limit"], plan["time_limit_s"], plan["hosts"], plan["cron"]) == (None, 315 * 60, ["published"], None)
    assert (plan["dry_run"], plan["force"]) == (False, False)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("LIMIT", "ten", "DAILIES_LIMIT"),
        ("LIMIT", "-1", "DAILIES_LIMIT"),
        ("TIME_LIMIT", "soon", "'soon'"),
        ("TIME_LIMIT", "08m", "480 s"),
        ("HOSTS", "published,nowhere", "nowhere"),
        ("FORCE", "perhaps", "DAILIES_FORCE"),
        ("SCHEDULE", "61 09 * * *", "'61 09 * * *'"),
    ],
)
def test_a_bad_input_is_one_line_and_exit_2(shelf: Shelf, name: str, value: str, shown: str) -> None:
    done = shelf.cli("plan", "--json", **{f"DAILIES_{name}": value})

    said = [line for line in done.err.splitlines() if not line.startswith("schedule: github:")]
    assert (done.code, done.out, len(said)) == (2, "", 1)
    assert said[0].startswith("dailies: ")
    assert shown in said[0]


def test_a_queued_video_a_file_in_the_inbox_and_nothing_are_told_apart(shelf: Shelf, clock: FakeClock) -> None:
    assert (made(shelf, clock).should_run, made(shelf, clock).reason) == (False, "nothing to do")

    (shelf.root / "media/inbox/new.mp4").write_bytes(b"new")
    assert (made(shelf, clock).should_run, made(shelf, clock).reason) == (True, "1 in the inbox")

    queue(shelf)
    assert made(shelf, clock).reason == "1 queued, 1 in the inbox"


def test_a_video_that_waits_for_its_next_attempt_is_no_reason_unless_forced(shelf: Shelf, clock: FakeClock) -> None:
    queue(shelf, next_attempt_at=timestamp(clock.now() + timedelta(minutes=2)))

    assert (made(shelf, clock).should_run, made(shelf, clock, force=True).reason) == (False, "1 queued")
    assert made(shelf, clock).reason == "nothing to do; 1 wait, the first until 2026-01-02T03:06:05Z"
    clock.advance(120)
    assert made(shelf, clock).reason == "1 queued"


def test_a_video_that_another_run_has_is_no_reason_until_its_claim_is_over(shelf: Shelf, clock: FakeClock) -> None:
    queue(shelf, claim=Claim(run_id="stranger", until=timestamp(clock.now() + timedelta(minutes=2))))

    plans = [made(shelf, clock), made(shelf, clock, force=True)]

    assert [plan.reason for plan in plans] == ["nothing to do; 1 in the hands of another run", "forced"]
    clock.advance(120)
    assert made(shelf, clock).reason == "1 queued"


def test_a_file_on_another_machine_is_no_reason_but_one_in_git_lfs_is(shelf: Shelf, clock: FakeClock, tmp_path: Path) -> None:
    outside = tmp_path / "film.mp4"
    outside.write_bytes(b"film")
    os.utime(outside, (1e9, 1e9))
    shelf.cli("add", outside)
    outside.unlink()
    assert made(shelf, clock).reason == "nothing to do; 1 whose files are not on this machine"

    queue(shelf)
    (shelf.root / "media/talk.mp4").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")

    assert made(shelf, clock).reason == "1 queued"


def test_a_rescued_push_on_the_remote_is_a_reason(shelf: Shelf, clock: FakeClock) -> None:
    shelf.git("push", "-q", "origin", "HEAD:refs/heads/rescue/20260101T000000Z-000000")

    assert (made(shelf, clock).should_run, made(shelf, clock).reason) == (True, "1 rescued pushes to take in")


def test_a_remote_that_is_gone_does_not_keep_a_run_from_starting(shelf: Shelf, clock: FakeClock) -> None:
    shelf.remote.rename(shelf.remote.with_name("gone"))
    queue(shelf)

    assert made(shelf, clock).should_run


@pytest.mark.parametrize(
    ("keepalive", "written", "should_run"),
    [
        (True, "2026-01-01T03:04:04Z", True),
        (True, None, False),
        (True, "2026-01-01T03:04:06Z", False),
        (False, "2026-01-01T03:04:04Z", False),
    ],
)
def test_a_silent_library_is_kept_alive_where_that_is_asked_for(
    shelf: Shelf, clock: FakeClock, keepalive: bool, written: str | None, should_run: bool
) -> None:
    shelf.set("actions", keepalive=keepalive)
    if written:
        tell(shelf, at=written)

    assert made(shelf, clock).should_run is should_run


def test_without_github_the_last_recorded_run_says_what_was_missed(shelf: Shelf, clock: FakeClock) -> None:
    last = Slot(cron="30 */6 * * *", due_at="2026-01-01T06:30:00Z", late_s=19_800, missed=0).model_dump()
    tell(shelf, schedule=last | {"started_at": "2026-01-01T12:00:00Z"})  # it is 03:04:05 on the next day

    plan = made(shelf, clock, "30 */6 * * *")

    assert (plan.due_at, plan.late_s, plan.missed) == ("2026-01-01T12:30:00Z", 52_445.0, 2)


@pytest.mark.parametrize(
    "told",
    [
        {"schedule": "daily"},
        {"schedule": {"started_at": "yesterday"}},
        {"at": 5},
        {"at": "2020"},
        {"at": NO_MOMENT},
        {"schedule": NO_LINE},
    ],
)
def test_a_status_of_another_shape_does_not_keep_a_run_from_starting(shelf: Shelf, clock: FakeClock, told: Any) -> None:
    shelf.set("actions", keepalive=True)
    queue(shelf)
    tell(shelf, **told)

    assert made(shelf, clock, "30 */6 * * *").reason == "1 queued"
    assert shelf.cli("status").code == 0


@pytest.mark.parametrize(("force", "told"), [("true", "run: forced"), ("", "no run: nothing to do")])
def test_later_jobs_are_told_the_plan_and_people_why_nothing_runs(shelf: Shelf, tmp_path: Path, force: str, told: str) -> None:
    files = {name: tmp_path / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}

    done = shelf.cli("plan", DAILIES_FORCE=force, **{name: str(path) for name, path in files.items()})

    said = files["GITHUB_OUTPUT"].read_text().splitlines()
    assert said[1:8:3] == ["true" if force else "false", told.partition(": ")[2], said[7]]
    assert Plan.model_validate_json(said[7]).force is bool(force)
    assert done.out.strip() == told
    shown = files["GITHUB_STEP_SUMMARY"]
    assert (shown.read_text() if shown.exists() else "") == ("" if force else f"Dailies: {told}\n")


def test_a_run_obeys_its_plan_and_what_is_said_here_goes_before_it(shelf: Shelf) -> None:
    queue(shelf)
    plan = shelf.cli("plan", "--json", DAILIES_SCHEDULE="08 09 * * *", DAILIES_LIMIT="0", DAILIES_TIME_LIMIT="60m").out

    obeyed = shelf.cli("run", "--json", **{PLAN: plan}).json()
    here = shelf.cli("run", "--json", "--limit", "1", "--time-limit", "50m", **{PLAN: plan}).json()

    assert (obeyed["videos"], obeyed["time_limit_s"], obeyed["slot"]["cron"]) == ([], 3600, "08 09 * * *")
    assert (len(here["videos"]), here["time_limit_s"]) == (1, 3000)
    told = json.loads((shelf.root / "database/status.json").read_text())["schedule"]
    assert {name: told[name] for name in here["slot"]} == here["slot"]


def test_a_time_limit_of_nothing_is_refused_beside_a_plan_too(shelf: Shelf) -> None:
    plan = shelf.cli("plan", "--json").out

    assert shelf.cli("run", "--time-limit", "0s").code == 2
    assert shelf.cli("run", "--time-limit", "0s", **{PLAN: plan}).code == 2


@pytest.mark.parametrize("plan", ["{", "[]", '{"should_run": true}', '{"limits": 3}'])
def test_a_plan_that_is_none_is_one_line_and_exit_2(shelf: Shelf, plan: str) -> None:
    done = shelf.cli("run", **{PLAN: plan})

    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert done.err.startswith("dailies: DAILIES_PLAN: ")
