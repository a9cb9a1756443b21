"""What people read of a run: outside text stays text, what failed stands first, the page keeps within its limit."""

import html
import re
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dailies.model import Kind, Source, State, StepName, StepStatus, Upload, UploadStatus, Video
from dailies.redact import plain
from dailies.report import PushState, Retries, RunReport, RunStatus, Slot, StepReport, Summary, VideoReport
from dailies.summary import BEGIN, END, badge, link, of_library, of_run, text, with_status

AT = "2026-01-02T03:04:05Z"
MIB = 1024 * 1024
# a hyphen is markup at a line's beginning only, where no outside text stands
MARKUP = set(string.punctuation) - {"-"}
ANYTHING = st.text(st.characters(codec=None), max_size=60) | st.text(
    st.sampled_from(string.punctuation + "\n\r\ud800 ax"), max_size=60
)


def report(*videos: VideoReport, **more: Any) -> RunReport:
    known = {"run_id": "run-1", "status": RunStatus.COMPLETED, "started_at": AT, "finished_at": AT, "time_limit_s": 60.0}
    counts = {"summary": Summary(), "errors_by_category": {}, "retries": Retries(), "mean_recovery_s": None}
    return RunReport.model_validate({**known, **counts, "videos": videos, **more})


def taken(number: int, state: State, error: str | None = None, **seconds: float) -> VideoReport:
    """A video in a report; `seconds` by step, the last of which may have failed."""
    times = {StepName(name): spent for name, spent in (seconds or {"fetch": 1.0}).items()}
    steps = {name: StepReport(status=StepStatus.COMPLETED, duration_s=spent) for name, spent in times.items()}
    if error is not None:
        last = list(times)[-1]
        steps[last] = StepReport(status=StepStatus.FAILED, duration_s=times[last], error=error)
    return VideoReport(id=f"v{number}-{number:012x}", code=f"v{number}", state=state, steps=steps, bytes=1)


def published(number: int, **uploads: Upload) -> Video:
    identity = f"{number:012x}".ljust(64, "0")
    source = Source(kind="file", uri="x.mp4", original_name="x.mp4", size_bytes=1, identity=identity)
    video = Video(id=f"v{number}-{number:012x}", code="v", title="V", source=source, created_at=AT, updated_at=AT)
    for host, upload in uploads.items():
        video = video.with_upload(host, Kind.VIDEO, upload)
    return video


def table(markdown: str, first_column: str) -> list[list[str]]:
    """The rows of the table whose first column has this name."""
    lines = markdown.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first_column} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([html.unescape(cell.strip()) for cell in line.strip("|").split("|")])
    return rows


@given(ANYTHING)
def test_any_text_is_shown_as_itself_and_holds_no_markup(outside: str) -> None:
    shown = text(outside)

    assert not MARKUP & set(re.sub(r"&#\d+;", "", shown))
    assert html.unescape(shown) == plain(outside)


@pytest.mark.parametrize("outside", ["a\nb", "a|b", "<script>", "@user", "`code`", "**x**", "[x](y)", "&amp;", "#1", "\\|", "~~~"])
def test_what_markdown_would_read_is_written_as_character_references(outside: str) -> None:
    shown = text(outside)

    assert len(shown.splitlines()) == 1
    assert not set("|<>@`*[]()\\~") & set(shown)
    assert "&" not in shown.replace("&#", "")
    assert html.unescape(shown) == plain(outside)


@given(ANYTHING, st.sampled_from(["https", "http", "HTTPS"]), ANYTHING)
def test_an_address_cannot_break_out_of_its_link(name: str, scheme: str, rest: str) -> None:
    made = link(name, f"{scheme}://host/{rest}")

    found = re.fullmatch(r"\[(.*)\]\(<(.*)>\)", made)
    assert found, made
    assert found[1] == text(name)
    assert re.fullmatch(rf"{scheme}://host/[A-Za-z0-9/:?&=%#~+,;@!$_.-]*", found[2]), made


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "javascript:x//https://host",
        " https://host",
        "data:text/html,x",
        "file:///etc/passwd",
        "media/published/x.mp4",
        "/x",
        "//host/x",
        "",
        None,
        "ftp://h",
    ],
)
def test_only_addresses_of_the_web_become_links(url: str | None) -> None:
    assert link("my|vault", url) == "my&#124;vault"


@pytest.mark.parametrize("hostile", [")", ">", " ", "\n", "|", "<", "`", '"', "](javascript:x)"])
def test_a_hostile_character_in_an_address_is_encoded(hostile: str) -> None:
    made = link("vault", f"https://host/a{hostile}b")

    assert made.startswith("[vault](<https://host/a")
    assert made.endswith("b>)")
    assert hostile not in made.removeprefix("[vault](<").removesuffix(">)")


@pytest.mark.parametrize(
    ("url", "shown"), [("http://[", "http://%5B"), ("https://", "https://"), ("http://\u2100", "http://%E2%84%80")]
)
def test_an_address_that_nobody_can_open_is_as_harmless(url: str, shown: str) -> None:
    assert link("vault", url) == f"[vault](<{shown}>)"


def test_videos_that_failed_come_before_those_that_are_done() -> None:
    made = of_run(
        report(taken(1, State.DONE), taken(2, State.FAILED, "broken"), taken(3, State.DONE), taken(4, State.QUEUED, "later")), {}
    )

    assert [row[:2] for row in table(made, "video")] == [["v2", "failed"], ["v4", "queued"], ["v1", "done"], ["v3", "done"]]
    assert table(made, "video")[0][4] == "broken"


def test_a_duplicate_does_not_stand_before_what_failed() -> None:
    made = of_run(report(taken(1, State.DUPLICATE), taken(2, State.FAILED, "broken")), {})

    assert [row[0] for row in table(made, "video")] == ["v2", "v1"]


def test_failures_are_counted_by_reason() -> None:
    made = of_run(report(errors_by_category={"damaged": 2, "ho|st": 1}), {})

    assert table(made, "failure") == [["damaged", "2"], ["ho|st", "1"]]


def test_the_time_of_each_step_is_told_in_all_and_at_its_longest() -> None:
    made = of_run(report(taken(1, State.DONE, fetch=1, convert=100), taken(2, State.DONE, fetch=2, convert=20)), {})

    assert table(made, "step") == [["fetch", "2", "3.0s", "2.0s"], ["convert", "2", "2m00s", "1m40s"]]
    assert [row[3] for row in table(made, "video")] == ["1m41s", "22.0s"]


def test_a_video_is_linked_where_it_was_published_and_its_record_is_known() -> None:
    there = UploadStatus.SUCCESS
    page = Upload(status=there, watch_url="https://vault.example/1", direct_url="https://vault.example/1.mp4")
    file = Upload(status=there, direct_url="https://archive.example/1.mp4")
    refused = Upload(status=UploadStatus.FAILED, watch_url="https://other.example/1")
    local = Upload(status=there, watch_url="media/published/2.mp4")
    videos = {video.id: video for video in (published(1, vault=page, other=refused, archive=file), published(2, folder=local))}

    made = of_run(report(*(taken(number, State.DONE) for number in (1, 2, 3))), videos)

    both = "[vault](<https://vault.example/1>) [archive](<https://archive.example/1.mp4>)"
    assert [row[2] for row in table(made, "video")] == [both, "folder", ""]


def test_a_hostile_name_and_a_hostile_error_stay_in_their_cells() -> None:
    video = taken(1, State.FAILED, "a | b\n| c").model_copy(update={"code": "x|<y>"})

    [row] = table(of_run(report(video), {}), "video")

    assert (row[0], row[4], len(row)) == ("x|<y>", "a | b\\n| c", 5)


@pytest.mark.parametrize(("missed", "said"), [(0, "2h00m late"), (3, "2h00m late, 3 more slots missed")])
def test_the_lateness_of_the_schedule_is_told(missed: int, said: str) -> None:
    slot = Slot(cron="23 */6 * * *", due_at=AT, late_s=7200, missed=missed)

    assert f"\nSchedule 23 &#42;&#47;6 &#42; &#42; &#42;: due {AT}, started {said}\n" in of_run(report(slot=slot), {})
    assert "Schedule" not in of_run(report(), {})


def test_problems_and_a_push_that_failed_are_told_as_text() -> None:
    push = PushState(attempts=4, last_error="closed <b>", backup="branch rescue/x")

    made = of_run(report(problems=("inbox: a|b", "@all"), push=push), {})

    assert "\n- inbox&#58; a&#124;b\n- &#64;all\n**Not pushed**: closed &#60;b&#62;; saved as branch rescue&#47;x\n" in made
    assert "Not pushed" not in of_run(report(push=PushState(attempts=1)), {})


def test_a_run_without_videos_has_no_empty_tables() -> None:
    made = of_run(report(status=RunStatus.COMPLETED_WITH_ERRORS), {})

    assert made.startswith("## Dailies: completed with errors\n")
    assert "|" not in made


@pytest.mark.parametrize("character", ["x", "*", "\N{GRINNING FACE}", "\n"])
def test_a_page_of_20_000_videos_with_long_errors_stays_below_1_mib_and_says_how_many_more(character: str) -> None:
    videos = [taken(number, State.FAILED, character * 1000) for number in range(20_000)]

    made = of_run(report(*videos), {})

    *shown, last = table(made, "video")
    assert len(made.encode()) < MIB
    assert len(shown) > 50
    assert last[0] == f"… and {20_000 - len(shown)} more"
    assert table(made, "step")[0][1] == "20000"


def test_a_page_just_small_enough_shows_all() -> None:
    made = of_run(report(*(taken(number, State.FAILED, "x" * 100) for number in range(1000))), {})

    assert len(table(made, "video")) == 1000


def status(**more: Any) -> dict[str, Any]:
    counts = {state.value: 0 for state in State} | {"done": 5, "queued": 2}
    return {"videos": counts, "queue_depth": 2, "failures_by_category": {}, "next_due_at": None, "last_run": None, **more}


def test_the_library_is_told_as_a_table() -> None:
    last = {"status": "completed_with_errors", "finished_at": AT}
    schedule = {"due_at": AT, "late_s": 60, "missed": 2, "next_due_at": "2026-01-03T00:00:00Z"}

    made = of_library(status(failures_by_category={"ho|st": 3}, next_due_at=AT, last_run=last, schedule=schedule))

    assert dict(table(made, "what")) == {
        "done": "5",
        "queued": "2",
        "failed: ho|st": "3",
        "next attempt": AT,
        "last run": f"completed with errors, {AT}",
        "schedule": f"due {AT}, 1m00s late, 2 slots missed",
        "next run due": "2026-01-03T00:00:00Z",
    }


def test_an_empty_library_and_a_schedule_without_a_next_slot_are_told() -> None:
    never = {"due_at": AT, "late_s": 0, "missed": 0, "next_due_at": None}

    assert table(of_library(status(videos={})), "what") == [["videos", "none yet"]]
    assert dict(table(of_library(status(schedule=never)), "what"))["schedule"] == f"due {AT}, 0.0s late"
    assert dict(table(of_library(status(schedule=never)), "what"))["next run due"] == "never"


@given(st.binary(max_size=50), st.binary(max_size=50), st.binary(max_size=50))
def test_only_what_stands_between_the_markers_of_a_readme_changes_and_only_once(before: bytes, old: bytes, after: bytes) -> None:
    readme = before + BEGIN.encode() + old + END.encode() + after

    made = with_status(readme, status())

    assert made.startswith(before + BEGIN.encode() + b"\n| what | now |")
    assert made.endswith(END.encode() + after)
    assert with_status(made, status()) == made


@given(st.binary(max_size=80), st.sampled_from([b"", BEGIN.encode(), END.encode(), END.encode() + BEGIN.encode()]))
def test_a_readme_without_both_markers_is_left_as_it_is_byte_for_byte(around: bytes, half: bytes) -> None:
    readme = around + half + around

    assert with_status(readme, status()) == readme


def test_backslashes_in_what_is_shown_survive() -> None:
    made = with_status(f"{BEGIN}{END}".encode(), status(next_due_at=r"\1 \g<0> \n", failures_by_category={r"\2": 1}))

    assert dict(table(made.decode(), "what"))["next attempt"] == r"\1 \g<0> \n"
    assert dict(table(made.decode(), "what"))[r"failed: \2"] == "1"


def test_a_second_pair_of_markers_and_a_readme_of_an_unknown_library_stay() -> None:
    pair = f"{BEGIN}\nold\n{END}\n".encode()

    assert with_status(pair * 2, status()).endswith(pair)
    assert with_status(pair, {}) == pair


@pytest.mark.parametrize(
    ("counts", "last", "colour", "message"),
    [
        ({}, None, "brightgreen", "5 done, 2 queued"),
        ({"failed": 1, "unavailable": 2}, "completed_with_errors", "orange", "5 done, 2 queued, 3 failed"),
        ({}, "failed", "red", "5 done, 2 queued"),
        ({"failed": 1}, "failed", "red", "5 done, 2 queued, 1 failed"),
        ({}, "completed", "brightgreen", "5 done, 2 queued"),
    ],
)
def test_the_badge_says_in_its_colour_how_things_stand(counts: dict[str, int], last: str | None, colour: str, message: str) -> None:
    now = status(last_run=last and {"status": last})
    now["videos"] |= counts

    assert badge(now) == {"schemaVersion": 1, "label": "dailies", "message": message, "color": colour}


def test_a_badge_without_a_queue_does_not_mention_it() -> None:
    assert badge(status(queue_depth=0))["message"] == "5 done"
