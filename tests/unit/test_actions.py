"""What GitHub's runner is told: nothing from outside becomes a command, every value arrives as it is, limits are kept."""

import string
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dailies import actions
from dailies.model import State, StepName, StepStatus
from dailies.report import Retries, RunReport, RunStatus, StepReport, Summary, VideoReport
from support import Shelf

AT = "2026-01-02T03:04:05Z"
MIB = 1024 * 1024
TEXTS = st.text(st.characters(codec="utf-8"), max_size=60)
HOSTILE = TEXTS | st.text(st.sampled_from("%:,\r\n=<>EOFx"), max_size=30)
BREAKING = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"  # wherever any program ends a line


def unescaped(text: str) -> str:
    """As the runner reads it: `%` comes last."""
    for character in ":,\n\r%":
        text = text.replace(f"%{ord(character):02X}", character)
    return text


def read_outputs(content: str) -> dict[str, str]:
    """GitHub's own format: `name=value`, or `name<<WORD`, lines, and a line that is WORD."""
    lines = iter(content.split("\n"))
    found: dict[str, str] = {}
    for line in lines:
        if not line:
            continue
        equals, heredoc = line.find("="), line.find("<<")
        if equals >= 0 and (heredoc < 0 or equals < heredoc):
            name, _, found[name] = line.partition("=")
            continue
        assert heredoc > 0, f"the runner takes {line!r} for an error"
        name, _, word = line.partition("<<")
        value: list[str] = []
        while (line := next(lines)) != word:
            value.append(line)
        found[name] = "\n".join(value)
    return found


@contextmanager
def file_of(variable: str) -> Iterator[Path]:
    """A file that the runner names in this variable."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv(variable, str(path := Path(folder, "file")))
        yield path


def failed(number: int, state: State = State.FAILED, error: str | None = "broken") -> VideoReport:
    step = StepReport(status=StepStatus.FAILED if error else StepStatus.COMPLETED, duration_s=1, error=error)
    return VideoReport(id=f"v-{number:012x}", code=f"v{number}", state=state, steps={StepName.FETCH: step}, bytes=1)


def report(*videos: VideoReport) -> RunReport:
    return RunReport(
        run_id="run-1",
        status=RunStatus.COMPLETED,
        started_at=AT,
        finished_at=AT,
        time_limit_s=60,
        videos=videos,
        summary=Summary(),
        errors_by_category={},
        retries=Retries(),
        mean_recovery_s=None,
    )


def test_a_percent_sign_is_escaped_before_what_is_written_with_one() -> None:
    assert actions.escaped("%0A\r\n%25:,") == "%250A%0D%0A%2525:,"
    assert actions.escaped("100%: a,b\n", is_property=True) == "100%25%3A a%2Cb%0A"


@given(HOSTILE, st.booleans())
def test_what_is_escaped_is_one_line_and_is_read_as_it_was(text: str, is_property: bool) -> None:
    made = actions.escaped(text, is_property=is_property)

    assert not set("\r\n" + ":," * is_property) & set(made)
    assert unescaped(made) == text


@given(HOSTILE | st.text(st.sampled_from(BREAKING + "\x1b\u202e:x"), max_size=20), HOSTILE)
def test_an_annotation_is_one_line_whatever_its_message_and_title(message: str, title: str) -> None:
    made = actions.annotation("error", message, title)

    head, _, said = made.removeprefix("::").partition("::")
    assert len(made.splitlines()) == 1
    assert head.startswith("error title=")
    assert not set(":,") & set(head.removeprefix("error title="))
    assert made == f"::{head}::{said}"


def test_an_annotation_has_its_level_its_title_and_its_message() -> None:
    assert actions.annotation("warning", "50% of a: b,\nc", "talk: x,y") == ("::warning title=talk%3A x%2Cy::50%25 of a: b,\\nc")


def test_a_message_is_cut_before_the_runner_cuts_it() -> None:
    made = actions.annotation("error", "%" * 10_000, "t" * 10_000)

    assert len(unescaped(made.rpartition("::")[2])) == actions.MESSAGE_CHARS == 4000
    assert len(made.partition("title=")[2].partition("::")[0]) == 200


@pytest.mark.parametrize(
    "line",
    ["::error::x", " ::add-mask::a", "\t::stop-commands::x", "##[group]x", "a ##[error]x", "\n::endgroup::", "\x0b::set-env::"],
)
def test_a_line_in_a_group_is_never_a_command(line: str) -> None:
    first, *inside, last = actions.group("talk: 100%", ["one", line]).split("\n")

    assert (first, last, len(inside)) == ("::group::talk: 100%25", "::endgroup::", 2)
    assert not any(shown.lstrip().startswith("::") or "##[" in shown for shown in inside)


@given(st.lists(st.text(st.sampled_from(BREAKING + ":# [ax"), max_size=12), max_size=5), st.text(st.sampled_from(BREAKING + ":%a")))
def test_a_group_has_as_many_lines_as_were_given(lines: list[str], title: str) -> None:
    made = actions.group(title, lines).splitlines()

    assert len(made) == len(lines) + 2
    assert [line for line in made if line.lstrip().startswith("::")] == [made[0], "::endgroup::"]


def test_each_line_of_a_secret_is_masked_and_no_empty_one() -> None:
    secrets = {"-----BEGIN\n\nab%cd\r\n  \nEND", "second"}

    assert list(actions.masks(secrets)) == [
        "::add-mask::-----BEGIN",
        "::add-mask::ab%25cd",
        "::add-mask::END",
        "::add-mask::second",
    ]


def test_no_secret_is_no_mask() -> None:
    assert list(actions.masks(["", "\n", " \n"])) == []


@pytest.mark.parametrize(("count", "shown", "more"), [(0, 0, 0), (1, 1, 0), (9, 9, 0), (10, 8, 2), (11, 8, 3), (500, 8, 492)])
def test_there_is_room_for_the_commands_own_last_word_among_ten_annotations(count: int, shown: int, more: int) -> None:
    lines = actions.failures(report(*(failed(number) for number in range(count))))

    assert len(lines) + 1 <= actions.ANNOTATIONS == 10
    assert lines[:shown] == [f"::error title=v{number} failed::broken" for number in range(shown)]
    assert lines[shown:] == ([f"::error title=dailies::{more} more failed: see the summary"] if more else [])


def test_only_what_went_wrong_is_annotated() -> None:
    videos = [failed(1, State.DONE), failed(2, State.DUPLICATE), failed(3, State.FAILED, None), failed(4, State.QUEUED)]

    lines = actions.failures(report(*videos, failed(5, State.UNAVAILABLE)))

    assert lines == ["::error title=v4 queued::broken", "::error title=v5 unavailable::broken"]


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.text(string.ascii_letters + "_", min_size=1, max_size=5), HOSTILE, max_size=3), max_size=3))
def test_outputs_of_several_calls_are_read_back_exactly(calls: list[dict[str, str]]) -> None:
    with file_of("GITHUB_OUTPUT") as path:
        path.write_text("before=1\n")
        for values in calls:
            actions.outputs(values)

        expected = {"before": "1"} | {name: value for values in calls for name, value in values.items()}
        assert read_outputs(path.read_bytes().decode()) == expected


@pytest.mark.parametrize("value", ["EOF", "a\nEOF\nb=1", "x<<EOF\n1\nEOF", "\n\n", "", " a ", "end-\n", "a\r\nb\r", "ghadelimiter"])
def test_a_value_that_looks_like_the_format_is_only_a_value(value: str) -> None:
    with file_of("GITHUB_OUTPUT") as path:
        actions.outputs({"plan": value, "done": 3, "is": True})

        assert read_outputs(path.read_bytes().decode()) == {"plan": value, "done": "3", "is": "True"}


def test_nobody_can_know_the_word_that_ends_a_value() -> None:
    with file_of("GITHUB_OUTPUT") as path:
        actions.outputs({"a": 1})
        actions.outputs({"a": 1})

        words = [line.partition("<<")[2] for line in path.read_text().splitlines() if "<<" in line]
        assert len(set(words)) == 2
        assert min(map(len, words)) >= 32


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.sampled_from(["short", "\N{GRINNING FACE}" * 50, "x" * 3000]), st.integers(1, 400)), max_size=6))
def test_a_summary_never_grows_over_1_mib_and_ends_with_a_whole_line(calls: list[tuple[str, int]]) -> None:
    with file_of("GITHUB_STEP_SUMMARY") as path:
        for line, count in calls:
            actions.summary("\n".join([line] * count))

        lines = path.read_bytes().decode().split("\n") if calls else [""]
        wanted = [line for line, count in calls for _ in range(count)]
        assert sum(len(line.encode()) + 1 for line in lines) - 1 <= MIB
        assert lines[-1] == ""
        assert all(line in {"", *wanted} for line in lines)
        assert len(lines) == len(wanted) + 1 or sum(len(line.encode()) + 1 for line in lines) > MIB - 8192


def test_a_summary_that_is_full_is_cut_at_a_line_and_takes_no_more() -> None:
    row = "\N{GRINNING FACE}" * 20_000
    with file_of("GITHUB_STEP_SUMMARY") as path:
        for _ in range(40):
            actions.summary(f"{row}\n" * 10)

        lines = path.read_bytes().decode().split("\n")
        assert path.stat().st_size <= MIB
        assert {line for line in lines if line} == {row}


def test_a_summary_that_others_have_filled_takes_no_more() -> None:
    with file_of("GITHUB_STEP_SUMMARY") as path:
        path.write_bytes(b"x" * (MIB - 100))

        actions.summary("a line\n" * 5000)

        assert path.read_bytes() == b"x" * (MIB - 100) + b"\n"


def test_outside_a_workflow_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    actions.outputs({"a": 1})
    actions.summary("text")

    assert list(tmp_path.iterdir()) == []
    assert not actions.is_on()


@pytest.mark.parametrize(
    ("github", "machine", "is_on", "is_hosted"),
    [("true", "github-hosted", True, True), ("true", "self-hosted", True, False), ("", "github-hosted", False, False)],
)
def test_a_hosted_machine_is_told_from_ones_own(
    github: str, machine: str, is_on: bool, is_hosted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", github)
    monkeypatch.setenv("RUNNER_ENVIRONMENT", machine)

    assert (actions.is_on(), actions.is_hosted()) == (is_on, is_hosted)


def test_a_run_in_a_workflow_tells_its_failures_its_outputs_and_its_summary(shelf: Shelf, tmp_path: Path) -> None:
    hostile = shelf.root / "media/inbox/x.mp4"
    hostile.write_bytes(b"::error::no video\n" * 100)
    files = {name: str(tmp_path / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    shelf.cli("add", hostile, "--title", "\n::stop-commands::x")

    done = shelf.cli("run", GITHUB_ACTIONS="true", **files)

    commands = [line for line in done.err.splitlines() if line.startswith("::")]
    assert done.code == 1
    assert [line.partition("::")[2].partition("::")[0].split()[0] for line in commands] == ["group", "endgroup", "error"]
    assert commands[-1].startswith("::error title=x failed::")
    said = read_outputs((tmp_path / "GITHUB_OUTPUT").read_text())
    assert {name: said[name] for name in ("status", "done", "failed", "remaining")} == {
        "status": "completed_with_errors",
        "done": "0",
        "failed": "1",
        "remaining": "0",
    }
    assert list(shelf.root.glob(f"database/runs/*/{said['run_id']}.json"))
    assert "| x | failed |" in (tmp_path / "GITHUB_STEP_SUMMARY").read_text()


def test_secrets_are_masked_before_anything_else_is_said(shelf: Shelf) -> None:
    shelf.set("hosts.published", key_env="VAULT_KEY")

    in_workflow = shelf.cli("status", GITHUB_ACTIONS="true", VAULT_KEY="first line\nsecond line")
    elsewhere = shelf.cli("status", VAULT_KEY="first line\nsecond line")

    assert in_workflow.err.splitlines()[:2] == ["::add-mask::first line", "::add-mask::second line"]
    assert elsewhere.err == ""


def test_the_last_word_of_a_command_is_an_annotation(shelf: Shelf) -> None:
    done = shelf.cli("show", "no::such,video", GITHUB_ACTIONS="true")

    assert done.code == 2
    assert done.err.startswith("::error title=dailies::dailies: no::such,video: ")
    assert len(done.err.splitlines()) == 1
