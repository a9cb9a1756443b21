"""After a run, whatever happened: the page that people see, the issues, the schedule kept alive (`dailies report`)."""

from collections.abc import Callable, Iterator
from typing import Final

from dailies import derived, github, issues, report, summary
from dailies.clock import Deadline
from dailies.errors import ConfigError
from dailies.github import Unavailable
from dailies.library import Library
from dailies.report import RunReport

LIMIT_S: Final = 120.0
_SILENT: Final = (
    "the job Run ended with {} and no run told of itself: its set-up or a check failed, or it was killed; see its log. What was "
    "published at its last checkpoint is in the database; the next run goes on from there"
)


def of_run(library: Library, run: RunReport) -> str:
    """The page of a run, with the links that its videos have by now."""
    videos = {}
    for one in run.videos:
        try:
            videos[one.id] = library.database.load(one.id)
        except ConfigError:  # blocked: the report says so
            continue
    return summary.of_run(run, videos)


def page(library: Library, plan_result: str, run_result: str, run_id: str) -> str:
    """How the library stands; by hand also the last run, which in a workflow has told of itself."""
    parts = ["## Library", summary.of_library(derived.fresh_status(library.database, library.clock.now()))]
    fault = _fault(plan_result, run_result, run_id)
    if fault:
        parts.insert(0, f"**Attention**: {summary.text(fault)}\n")
    last = _last_report(library) if not run_id and not fault else None
    if last is not None:
        parts.append(of_run(library, last))
    return "\n".join(parts)


def settle(library: Library, plan_result: str, run_result: str, run_id: str) -> Iterator[str]:
    """Do what the settings ask for afterwards; yields a line for each thing that a person should know."""
    deadline = Deadline.after(library.clock, LIMIT_S)
    wanted = library.settings.actions
    fault = _fault(plan_result, run_result, run_id)
    if fault:
        yield fault
    duties: list[Callable[[], object]] = []
    if wanted.issues:
        duties.append(lambda: issues.synchronise(library.database.videos(), library.work, deadline))
    if wanted.keepalive:
        duties.append(lambda: github.enable_workflow(library.work, deadline))
    for duty in duties:  # one that is refused does not keep the next from being done
        try:
            duty()
        except Unavailable as error:
            yield str(error)


def _fault(plan_result: str, run_result: str, run_id: str) -> str:
    """What nobody else has told."""
    if plan_result in {"failure", "cancelled"}:
        return f"the plan ended with {plan_result}; see its log"
    return _SILENT.format(run_result) if run_result in {"failure", "cancelled"} and not run_id else ""


def _last_report(library: Library) -> RunReport | None:
    """The newest that is on this disk."""
    recorded = report.recent(library.database.folder.glob("runs/*/*.json"))
    unrecorded = report.recent(library.work.glob("last-run.json"))
    return max([*recorded, *unrecorded], key=lambda one: one.started_at, default=None)
