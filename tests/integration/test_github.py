"""GitHub's API by a `gh` that writes down what it was asked: firings, issues, the schedule kept alive, `dailies report`."""

import json
import os
import re
import shutil
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dailies import aftermath, github, issues, planning
from dailies.clock import Deadline, SystemClock
from dailies.errors import Interrupted
from dailies.github import Firing, Unavailable
from dailies.issues import LABEL, SHOWN, Issue, changes, failing
from dailies.library import Library
from dailies.model import LastError, Source, State, Video
from integration.kill_driver import wait_until
from support import FakeClock, Shelf

AT = "2026-01-02T03:04:05Z"
REPOSITORY = "someone/films"
RUNS = "actions/workflows/batch.yml/runs?event=schedule&per_page=50"
LIST = f"issues?labels={LABEL}&state=open&per_page=100"
ENABLE = "actions/workflows/batch.yml/enable"
TOKEN = "ghs_0123456789abcdef"
# answers.json: "METHOD path" to [exit code, stdout]; what it does not know is an empty answer
_GH = """#!{python} -IS
import json, os, sys
with open({folder!r} + "/calls", "a") as log:
    log.write(json.dumps([sys.argv[1:], os.environ.get("GH_TOKEN")]) + "\\n")
method, path = sys.argv[3], sys.argv[4].removeprefix("repos/{repository}/")
code, said = json.load(open({folder!r} + "/answers.json")).get(method + " " + path, [0, ""])
sys.stdout.write(said)
if code:
    print("gh: HTTP", code, file=sys.stderr)
sys.exit(code % 256)
"""


@dataclass(frozen=True)
class Call:
    """One call of `gh api`; `fields` in their order."""

    what: str
    fields: list[tuple[str, str]]


@dataclass(frozen=True)
class Gh:
    folder: Path

    def answers(self, answers: Mapping[str, Any]) -> None:
        """JSON, or a pair of exit code and text."""
        said = {what: [0, json.dumps(one)] if not isinstance(one, tuple) else one for what, one in answers.items()}
        (self.folder / "answers.json").write_text(json.dumps(said))

    def logged(self) -> list[tuple[list[str], str]]:
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def calls(self) -> list[Call]:
        found = []
        for argv, _ in self.logged():
            assert argv[:2] == ["api", "--method"]
            assert argv[3].startswith(f"repos/{REPOSITORY}/")
            fields = [tuple(word.split("=", 1)) for word in argv[5::2]]
            assert argv[4::2] == ["--raw-field"] * len(fields)
            found.append(Call(f"{argv[2]} {argv[3].removeprefix(f'repos/{REPOSITORY}/')}", [(name, one) for name, one in fields]))
        return found


@pytest.fixture
def gh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gh:
    """In a step of a workflow, with nothing but this `gh` and git to be found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "gh"
    program.write_text(_GH.format(python=sys.executable, folder=str(folder), repository=REPOSITORY))
    program.chmod(0o755)
    (folder / "git").symlink_to(shutil.which("git") or "git")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("GITHUB_REPOSITORY", REPOSITORY)
    monkeypatch.setenv("GITHUB_WORKFLOW_REF", f"{REPOSITORY}/.github/workflows/batch.yml@refs/heads/main")
    monkeypatch.setenv("GITHUB_RUN_ID", "30")
    monkeypatch.setenv("GH_TOKEN", TOKEN)
    made = Gh(folder)
    made.answers({})
    return made


def soon(seconds: float = 60, stop: threading.Event | None = None) -> Deadline:
    return Deadline.after(SystemClock(), seconds, stop)


def fired(*runs: tuple[int, str]) -> dict[str, Any]:
    return {"workflow_runs": [{"id": number, "created_at": at, "event": "schedule"} for number, at in runs]}


def video(number: int, category: str = "host", message: str = "closed", **more: Any) -> Video:
    identity = f"{number:012x}".ljust(64, "0")
    source = Source(kind="file", uri=f"{number}.mp4", original_name=f"{number}.mp4", size_bytes=1, identity=identity)
    error = LastError(step=None, attempt=1, category=category, message=message, action="given up", at=AT)
    known = {"id": f"talk-{number:012x}", "code": "talk", "title": "Talk", "source": source, "created_at": AT, "updated_at": AT}
    return Video.model_validate({**known, "state": State.FAILED, "last_error": error, **more})


def issue(number: int, body: str | None, **more: Any) -> dict[str, Any]:
    return {"number": number, "title": "t", "body": body, "state": "open", **more}


def body_of(*videos: Video) -> str:
    [change] = changes(failing(videos), [])
    return str(change.fields["body"])


def synchronise(gh: Gh, tmp_path: Path, videos: list[Video], open_: list[dict[str, Any]]) -> list[Call]:
    """The calls that change something."""
    gh.answers({f"GET {LIST}": open_})
    count = issues.synchronise(videos, tmp_path, soon())
    first, *others = gh.calls()
    assert first == Call(f"GET {LIST}", [])
    assert count == len([call for call in others if not call.what.endswith("/comments")])
    return others


# -- when GitHub fired


def test_a_firing_is_that_of_this_run_and_the_one_before_it(gh: Gh, tmp_path: Path) -> None:
    gh.answers(
        {f"GET {RUNS}": fired((40, "2026-01-02T18:30:00Z"), (20, "2026-01-02T06:10:00Z"), (30, "2026-01-02T12:20:00Z"), (10, AT))}
    )

    found = github.firing(tmp_path, soon())

    assert found == Firing(datetime(2026, 1, 2, 12, 20, tzinfo=UTC), datetime(2026, 1, 2, 6, 10, tzinfo=UTC))


def test_the_first_firing_has_none_before_it(gh: Gh, tmp_path: Path) -> None:
    gh.answers({f"GET {RUNS}": fired((30, AT), (31, "2026-01-03T00:00:00Z"))})

    assert github.firing(tmp_path, soon()).before is None


def test_a_plan_knows_from_github_when_it_was_due_and_what_was_missed(gh: Gh, shelf: Shelf) -> None:
    gh.answers({f"GET {RUNS}": fired((30, "2026-01-02T12:20:30Z"), (20, "2026-01-01T20:10:00Z"))})

    plan = shelf.cli("plan", "--json", DAILIES_SCHEDULE="23 */6 * * *").json()

    assert (plan["due_at"], plan["late_s"], plan["missed"]) == ("2026-01-02T00:23:00Z", 43_050.0, 1)


def test_a_run_by_hand_asks_nothing(gh: Gh, shelf: Shelf) -> None:
    assert shelf.cli("plan").code == 0
    assert gh.calls() == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((4, "no token"), "give the job that permission and GH_TOKEN"),
        ((0, "<html>"), "the answer is no JSON"),
        ({"message": "moved"}, "does not have this one"),
        ([], "does not have this one"),
        (fired((29, AT)), "does not have this one"),
        (fired((30, "yesterday")), "does not have this one"),
    ],
)
def test_what_github_does_not_tell_is_a_warning_and_a_plan_all_the_same(
    gh: Gh, shelf: Shelf, caplog: pytest.LogCaptureFixture, answer: Any, said: str
) -> None:
    gh.answers({f"GET {RUNS}": answer})

    plan = planning.make(shelf.open(), "08 09 * * *", limit=None, dry_run=False, force=True)

    [warning] = caplog.messages
    assert (plan.should_run, plan.cron) == (True, "08 09 * * *")
    assert warning.startswith("schedule: github: ")
    assert said in warning
    assert "reckoned from the last recorded run" in warning


def test_without_gh_there_is_a_warning_and_a_plan_all_the_same(gh: Gh, shelf: Shelf) -> None:
    (gh.folder / "gh").unlink()

    done = shelf.cli("plan", "--json", "--force", DAILIES_SCHEDULE="08 09 * * *")

    assert (done.code, done.json()["should_run"]) == (0, True)
    assert "gh: cannot be started: " in done.err.splitlines()[0]


def test_outside_github_nothing_is_asked(gh: Gh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_REPOSITORY")

    with pytest.raises(Unavailable, match="GITHUB_REPOSITORY is not set"):
        github.firing(tmp_path, soon())
    assert gh.calls() == []


def test_a_stop_ends_a_gh_that_hangs(gh: Gh, tmp_path: Path) -> None:
    (gh.folder / "gh").write_text("#!/bin/sh\n: > $0.hangs\nexec /bin/sleep 600\n")
    stop = threading.Event()

    def person() -> None:
        wait_until((gh.folder / "gh.hangs").exists)
        stop.set()

    thread = threading.Thread(target=person)
    thread.start()
    with pytest.raises(Interrupted):
        github.firing(tmp_path, soon(stop=stop))
    thread.join()


def test_a_gh_that_hangs_is_no_answer(gh: Gh, tmp_path: Path) -> None:
    (gh.folder / "gh").write_text("#!/bin/sh\nexec /bin/sleep 600\n")

    with pytest.raises(Unavailable):
        github.firing(tmp_path, soon(0.2))


class Hasty(SystemClock):
    """Ten seconds pass from one look to the next."""

    looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return 10.0 * self.looks


def test_one_call_takes_no_more_of_the_time_than_it_may(gh: Gh, tmp_path: Path) -> None:
    (gh.folder / "gh").write_text("#!/bin/sh\nexec /bin/sleep 600\n")
    clock = Hasty()

    with pytest.raises(Unavailable, match="no answer in 30 s"):
        github.firing(tmp_path, Deadline.after(clock, 100_000))
    assert clock.looks < 20


def test_a_gh_that_is_no_program_is_no_answer(gh: Gh, tmp_path: Path) -> None:
    (gh.folder / "gh").write_bytes(b"\x7fELF of another machine")

    with pytest.raises(Unavailable):
        github.firing(tmp_path, soon())


# -- issues


def test_each_kind_of_failure_has_an_issue_of_its_own(gh: Gh, tmp_path: Path) -> None:
    videos = [video(1), video(2, "damaged"), video(3), video(4, "gone", state=State.UNAVAILABLE)]

    made = synchronise(gh, tmp_path, videos, [])

    assert [call.what for call in made] == ["POST issues"] * 3
    assert [dict(call.fields)["title"] for call in made] == [f"Videos that fail: {name}" for name in ("damaged", "gone", "host")]
    assert all(call.fields[-1] == ("labels[]", LABEL) for call in made)
    body = dict(made[2].fields)["body"]
    assert body.startswith("<!-- dailies:failure=host -->\n2 videos failed with ")
    assert f"| <code>{videos[0].id}</code> | {AT} | <code>closed</code> |" in body


def test_nothing_is_called_when_nothing_changed(gh: Gh, tmp_path: Path) -> None:
    videos = [video(1), video(2)]

    assert synchronise(gh, tmp_path, videos[::-1], [issue(7, body_of(*videos))]) == []


def test_an_issue_is_kept_current_when_its_list_changed(gh: Gh, tmp_path: Path) -> None:
    [made] = synchronise(gh, tmp_path, [video(1), video(2)], [issue(7, body_of(video(1)))])

    assert made == Call("PATCH issues/7", [("body", body_of(video(1), video(2)))])


def test_an_issue_is_closed_with_a_word_when_nothing_fails_like_that_any_more(gh: Gh, tmp_path: Path) -> None:
    made = synchronise(gh, tmp_path, [video(2)], [issue(7, body_of(video(1, "damaged"))), issue(8, body_of(video(2)))])

    assert made == [
        Call("POST issues/7/comments", [("body", "No video fails with this any more.")]),
        Call("PATCH issues/7", [("state", "closed")]),
    ]


@pytest.mark.parametrize("state", [State.QUEUED, State.WORKING, State.DONE, State.DUPLICATE])
def test_only_what_waits_for_a_person_has_an_issue(state: State) -> None:
    assert failing([video(1, state=state), video(2, last_error=None)]) == {}


def test_issues_and_pull_requests_of_others_are_left_alone(gh: Gh, tmp_path: Path) -> None:
    ours = body_of(video(1, "damaged"))
    others = [issue(1, "my film"), issue(2, None), issue(3, ""), issue(4, ours, pull_request={"url": "u"}), issue(5, "<!-- -->")]

    assert synchronise(gh, tmp_path, [], others) == []


@pytest.mark.parametrize("hostile", ["@everyone", "x --> y", "</code>", "a|b", "a\nb", "<!-- dailies:failure=gone -->", "`#1`"])
def test_a_hostile_message_stays_text(hostile: str) -> None:
    body = body_of(video(1, message=hostile))

    [row] = [line for line in body.splitlines() if line.startswith("| <code>")]
    why = re.fullmatch(r"\| <code>\S+</code> \| \S+ \| <code>(.*)</code> \|", row)
    assert why
    assert not set("@|<>`\n") & set(why[1])
    assert body.count("<!--") == body.count("-->") == 1
    assert changes(failing([video(1, message=hostile)]), [Issue(number=7, body=body)]) == []


@pytest.mark.parametrize("category", ["x --> @everyone", "a\nb --> c"])
def test_a_hostile_category_has_one_issue_too(category: str) -> None:
    videos = [video(1, category)]

    assert changes(failing(videos), [Issue(number=7, body=body_of(*videos))]) == []


def test_a_long_list_is_cut_and_says_how_many_more() -> None:
    body = body_of(*(video(number) for number in range(SHOWN + 7)))

    assert body.count("<code>talk-") == SHOWN
    assert "| … and 7 more | | |\n" in body
    assert "57 videos failed" in body


def test_the_body_of_an_issue_is_no_longer_than_github_takes() -> None:
    assert len(body_of(*(video(number, message="/" * 1000) for number in range(SHOWN)))) <= 65_536


def test_long_messages_do_not_keep_issues_from_being_made(gh: Gh, tmp_path: Path) -> None:
    [made] = synchronise(gh, tmp_path, [video(number, message="/" * 1000) for number in range(SHOWN)], [])

    assert made.what == "POST issues"


@pytest.mark.parametrize("answer", [(0, ""), {"message": "moved"}])
def test_a_list_of_issues_that_is_none_is_no_answer(gh: Gh, tmp_path: Path, answer: Any) -> None:
    gh.answers({f"GET {LIST}": answer})

    with pytest.raises(Unavailable):
        issues.synchronise([], tmp_path, soon())


# -- afterwards


def opened(shelf: Shelf, **wanted: bool) -> Library:
    shelf.set("actions", **wanted)
    return Library(shelf.root, shelf.open().settings, FakeClock())


def fail(shelf: Shelf, message: str = "closed") -> Video:
    """A failed video in the library."""
    path = shelf.root / "media/talk.mp4"
    path.write_bytes(b"talk")
    os.utime(path, (1e9, 1e9))
    database = shelf.open().database
    added = database.load(shelf.cli("add", path).out.strip())
    return database.save(added.with_(state=State.FAILED, last_error=video(1, message=message).last_error), added)


def settled(library: Library) -> list[str]:
    return list(aftermath.settle(library, "success", "success", "run-1"))


@pytest.mark.parametrize(
    ("wanted", "called"),
    [
        ({}, []),
        ({"issues": True}, [f"GET {LIST}", "POST issues"]),
        ({"keepalive": True}, [f"PUT {ENABLE}"]),
        ({"issues": True, "keepalive": True}, [f"GET {LIST}", "POST issues", f"PUT {ENABLE}"]),
    ],
)
def test_only_what_the_settings_ask_for_is_done(gh: Gh, shelf: Shelf, wanted: dict[str, bool], called: list[str]) -> None:
    fail(shelf)
    gh.answers({f"GET {LIST}": []})

    assert settled(opened(shelf, **wanted)) == []
    assert [call.what for call in gh.calls()] == called


def test_what_github_refuses_is_a_line_for_people(gh: Gh, shelf: Shelf) -> None:
    gh.answers({f"PUT {ENABLE}": (403, "")})

    [line] = settled(opened(shelf, keepalive=True))

    assert line.startswith(f"github: PUT {ENABLE}: ")
    assert "HTTP 403" in line


def test_the_schedule_is_kept_alive_also_where_issues_are_refused(gh: Gh, shelf: Shelf) -> None:
    gh.answers({f"GET {LIST}": (410, "")})

    assert len(settled(opened(shelf, issues=True, keepalive=True))) == 1
    assert [call.what for call in gh.calls()] == [f"GET {LIST}", f"PUT {ENABLE}"]


def test_a_removed_video_has_no_issue(gh: Gh, shelf: Shelf) -> None:
    shelf.cli("remove", fail(shelf).id)
    gh.answers({f"GET {LIST}": []})

    assert settled(opened(shelf, issues=True)) == []
    assert [call.what for call in gh.calls()] == [f"GET {LIST}"]


def test_no_secret_is_among_the_words_that_start_gh(gh: Gh, shelf: Shelf) -> None:
    fail(shelf)
    gh.answers({f"GET {LIST}": []})
    shelf.set("actions", issues=True, keepalive=True)
    shelf.set("hosts.published", key_env="VAULT_KEY")

    done = shelf.cli("report", GITHUB_ACTIONS="true", VAULT_KEY="a secret of the vault")

    assert done.code == 0, done.err
    assert len(gh.calls()) == 3
    for argv, token in gh.logged():
        assert token == TOKEN
        assert not [word for word in argv if TOKEN in word or "secret of" in word]


@pytest.mark.parametrize(
    ("plan", "run", "run_id", "said"),
    [
        ("success", "success", "run-1", ""),
        ("success", "skipped", "", ""),
        ("success", "failure", "run-1", ""),
        ("success", "cancelled", "run-1", ""),
        ("success", "failure", "", "the job Run ended with failure"),
        ("success", "cancelled", "", "the job Run ended with cancelled"),
        ("failure", "skipped", "", "the plan ended with failure"),
        ("cancelled", "skipped", "", "the plan ended with cancelled"),
    ],
)
def test_what_nobody_else_has_told_is_told(shelf: Shelf, plan: str, run: str, run_id: str, said: str) -> None:
    library = shelf.open()

    markdown = aftermath.page(library, plan, run, run_id)
    warnings = list(aftermath.settle(library, plan, run, run_id))

    assert "## Library\n" in markdown
    assert (f"**Attention**: {said}" in markdown, "Attention" in markdown) == (bool(said), bool(said))
    assert [warning.startswith(said) for warning in warnings] == [True] * bool(said)


def test_report_of_a_lost_run_is_a_summary_and_a_warning(shelf: Shelf, tmp_path: Path) -> None:
    results = {"DAILIES_PLAN_RESULT": "success", "DAILIES_RUN_RESULT": "cancelled", "DAILIES_RUN_ID": ""}

    done = shelf.cli("report", GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(tmp_path / "summary"), **results)

    assert (done.code, done.out) == (0, (tmp_path / "summary").read_text())
    assert done.out.startswith("**Attention**: the job Run ended with cancelled")
    assert done.err.startswith("::warning title=dailies::the job Run ended with cancelled")


def test_report_by_hand_shows_the_library_and_the_last_run(shelf: Shelf) -> None:
    path = shelf.put(Path(__file__), "broken.mp4")
    shelf.cli("run", "--no-commit")
    path.write_bytes(b"another")

    done = shelf.cli("report")

    assert (done.code, done.err) == (0, "")
    assert "| failed | 1 |" in done.out
    assert "## Dailies: completed with errors" in done.out
    assert "| broken | failed |" in done.out


def test_report_says_what_github_refused_and_succeeds(gh: Gh, shelf: Shelf) -> None:
    shelf.set("actions", issues=True)
    gh.answers({f"GET {LIST}": (403, "")})

    in_workflow = shelf.cli("report", GITHUB_ACTIONS="true", DAILIES_RUN_ID="run-1")
    by_hand = shelf.cli("report")

    assert (in_workflow.code, by_hand.code) == (0, 0)
    assert in_workflow.err.startswith("::warning title=dailies::github: GET issues")
    assert by_hand.err.startswith("dailies: github: GET issues")
