"""`dailies doctor --live`: secrets, hosts and media that a run would miss are named before it starts; Git LFS pointers wait."""

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from dailies import hosts, planning
from dailies.clock import Deadline
from dailies.doctor import WORKFLOW, Check, examine
from dailies.errors import ConfigError, Transient
from dailies.hosts import Asset, Capabilities, Ground, Receipt, Standing, Transfer
from dailies.model import State
from dailies.planning import Plan
from dailies.sources.lfs import is_pointer
from support import Shelf

OID = "4d7a" * 16
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{OID}\nsize 12345\n"
KEY = "FILM_VAULT_KEY"


class Vault(BaseModel):
    """A host that wants a secret. `says`: what it answers when it is asked; "closed" and "later" are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    ground: Ground = Field(exclude=True, repr=False)
    key_env: str
    says: str = "let in"

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(overwrites=True)

    def upload(self, path: Path, asset: Asset, transfer: Transfer) -> Receipt:
        raise AssertionError("doctor sends nothing")

    def find(self, asset: Asset, transfer: Transfer) -> Receipt | None:
        raise AssertionError("doctor looks for nothing")

    def check(self, asset: Asset, remote_id: str, deadline: Deadline) -> Standing:
        raise AssertionError("doctor asks for no upload")

    def delete(self, remote_id: str, deadline: Deadline) -> None:
        raise AssertionError("doctor takes nothing away")

    def fetch(self, asset: Asset, remote_id: str, target: Path, deadline: Deadline) -> None:
        raise AssertionError("doctor gets nothing")

    def preflight(self, deadline: Deadline) -> str:
        if self.says == "never asked":
            raise AssertionError("doctor asks a host whose secret is missing")
        if self.says == "closed":
            raise ConfigError("the vault is closed")
        if self.says == "later":
            raise Transient("the vault is busy")
        return self.says

    def sweep_folders(self) -> tuple[Path, ...]:
        return ()


@pytest.fixture(autouse=True)
def _vault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(hosts.HOSTS, "vault", Vault)
    monkeypatch.setenv(KEY, "a key")


def add_vault(shelf: Shelf, says: str = "let in", **publish: Any) -> None:
    shelf.set("publish", **{"hosts": ["vault"], **publish})
    with (shelf.root / "dailies.toml").open("a") as file:
        file.write(f'[hosts.vault]\nadapter = "vault"\nkey_env = "{KEY}"\nsays = "{says}"\n')


def found(shelf: Shelf, name: str, *, is_live: bool = True) -> list[Check]:
    """What doctor says of this subject."""
    return [check for check in examine(shelf.open(), is_live=is_live) if check.name == name]


def put(shelf: Shelf, name: str, content: str = "a talk") -> Path:
    path = shelf.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    os.utime(path, (1e9, 1e9))
    return path


# -- secrets and hosts


@pytest.mark.parametrize("value", [None, ""])
def test_a_secret_that_is_missing_or_empty_is_named_and_its_host_is_not_asked(
    shelf: Shelf, value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_vault(shelf, "never asked")
    monkeypatch.delenv(KEY) if value is None else monkeypatch.setenv(KEY, value)

    [check] = found(shelf, "host vault")

    assert check.verdict == "error"
    assert check.message.startswith(f"{KEY}: not set or empty; ")
    assert "batch.yml" in check.message


@pytest.mark.parametrize(
    ("says", "verdict", "message"),
    [("let in", "ok", "let in"), ("closed", "error", "the vault is closed"), ("later", "error", "the vault is busy")],
)
def test_a_host_is_asked_whether_it_would_let_an_upload_in(shelf: Shelf, says: str, verdict: Any, message: str) -> None:
    add_vault(shelf, says)

    assert found(shelf, "host vault") == [Check("host vault", verdict, message)]


def test_without_live_no_host_is_asked(shelf: Shelf) -> None:
    add_vault(shelf, "never asked")

    assert found(shelf, "host vault", is_live=False) == [Check("host vault", "ok", "vault")]


@pytest.mark.parametrize(
    ("strategy", "names", "verdict"),
    [
        ("fallback", ["published", "vault"], "warning"),
        ("fallback", ["vault", "published"], "warning"),
        ("fallback", ["vault"], "error"),
        ("all", ["published", "vault"], "error"),
        ("all", ["published"], "warning"),
    ],
)
def test_a_host_that_fails_is_only_a_warning_where_another_is_enough(
    shelf: Shelf, strategy: str, names: list[str], verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_vault(shelf, hosts=names, strategy=strategy)
    monkeypatch.delenv(KEY)

    assert [check.verdict for check in found(shelf, "host vault")] == [verdict]


def test_a_host_of_previews_alone_is_only_a_warning(shelf: Shelf) -> None:
    add_vault(shelf, "closed", hosts=["published"], preview_hosts=["vault"], strategy="all")

    assert found(shelf, "host vault") == [Check("host vault", "warning", "the vault is closed")]


def test_two_hosts_that_both_fail_are_errors(shelf: Shelf) -> None:
    add_vault(shelf, "closed", hosts=["published", "vault"])
    shelf.set("hosts.published", path="README.md")
    settings = shelf.root / "dailies.toml"
    settings.write_text(settings.read_text().replace('path = "media/published"\n', ""))

    checks = [check for check in examine(shelf.open(), is_live=True) if check.name.startswith("host ")]

    assert [check.verdict for check in checks] == ["error", "error"]
    assert "README.md: cannot be written" in checks[0].message


def test_a_host_that_no_list_names_is_a_warning(shelf: Shelf) -> None:
    add_vault(shelf, hosts=["published"])

    assert found(shelf, "host vault") == [Check("host vault", "warning", "let in; no list in [publish] names it")]


@pytest.mark.parametrize(("strategy", "code"), [("fallback", 0), ("all", 2)])
def test_exit_2_means_that_a_run_would_lack_something(shelf: Shelf, strategy: str, code: int) -> None:
    shelf.set("publish", hosts=["published", "broken"], strategy=strategy)
    with (shelf.root / "dailies.toml").open("a") as file:
        file.write('[hosts.broken]\nadapter = "folder"\npath = "README.md"\n')

    done = shelf.cli("doctor", "--live", "--json", GITHUB_ACTIONS="true")

    verdicts = {check["name"]: check["verdict"] for check in done.json()}
    assert (done.code, verdicts["host broken"]) == (code, "warning" if code == 0 else "error")
    assert verdicts["host published"] == "ok"
    level = verdicts["host broken"]
    assert [line for line in done.err.splitlines() if line.startswith(f"::{level} title=doctor%3A host broken::")]
    assert shelf.cli("doctor").code == 0


def test_a_host_that_cannot_be_made_is_an_error_beside_the_secret_that_is_missing(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_vault(shelf)
    monkeypatch.delitem(hosts.HOSTS, "vault")
    monkeypatch.delenv(KEY)

    checks = {check.name: check for check in examine(shelf.open(), is_live=True)}

    assert (checks["hosts"].verdict, checks["host vault"].verdict) == ("error", "error")
    assert "unknown adapter 'vault'" in checks["hosts"].message
    assert KEY in checks["host vault"].message


def test_on_a_hosted_machine_a_folder_alone_is_refused(shelf: Shelf) -> None:
    hosted = {"GITHUB_ACTIONS": "true", "RUNNER_ENVIRONMENT": "github-hosted"}

    doctor, run = shelf.cli("doctor", "--live", **hosted), shelf.cli("run", **hosted)

    assert (doctor.code, run.code) == (2, 2)
    for said in (doctor.err, run.err):
        assert "only a folder on this hosted runner, which vanishes with it" in said


# -- the workflow


def not_handed_over(shelf: Shelf) -> list[str]:
    """What doctor says of secrets and the workflow."""
    checks = [check for check in found(shelf, "workflow") if "hand over" in check.message]
    assert [check.verdict for check in checks] == ["warning"] * len(checks)
    return [check.message for check in checks]


def hand_over(shelf: Shelf, name: str) -> None:
    path = shelf.root / WORKFLOW
    before = path.read_text()
    path.write_text(before.replace("env: {}", f"env: {{{name}: ${{{{ secrets.{name} }}}}}}"))
    assert path.read_text() != before


def test_a_secret_that_the_workflow_does_not_hand_over_is_named(shelf: Shelf) -> None:
    add_vault(shelf)

    [message] = not_handed_over(shelf)

    assert f"does not hand over {KEY}; add `{KEY}: ${{{{ secrets.{KEY} }}}}`" in message


def test_a_secret_that_the_workflow_hands_over_is_well(shelf: Shelf) -> None:
    add_vault(shelf)
    hand_over(shelf, KEY)

    assert not_handed_over(shelf) == []


def test_a_longer_name_that_the_workflow_hands_over_is_another_one(shelf: Shelf) -> None:
    add_vault(shelf)
    hand_over(shelf, f"{KEY}_OLD")

    assert len(not_handed_over(shelf)) == 1


def test_without_a_workflow_there_is_nothing_to_hand_over(shelf: Shelf) -> None:
    add_vault(shelf)
    (shelf.root / WORKFLOW).unlink()

    assert not_handed_over(shelf) == []


def test_a_secret_that_stands_in_a_comment_only_is_not_handed_over(shelf: Shelf) -> None:
    add_vault(shelf)
    settings = shelf.root / "dailies.toml"
    settings.write_text(settings.read_text().replace(KEY, "VAULT_KEY"))

    assert "# " in (shelf.root / WORKFLOW).read_text().split("VAULT_KEY")[0].splitlines()[-1]
    assert len(not_handed_over(shelf)) == 1


# -- where the media are


def listed(shelf: Shelf, text: str) -> dict[str, tuple[str, str]]:
    """What doctor says with these sections, by the check's name."""
    with (shelf.root / "dailies.toml").open("a") as file:
        file.write(text)
    return {check.name: (check.verdict, check.message) for check in examine(shelf.open())}


@pytest.mark.parametrize(
    ("section", "verdict", "message"),
    [
        ('feed = "https://example.org/feed"', "ok", "a feed"),
        ('folder = "webdavs://example.org/films"', "ok", "a folder of storage"),
        ('feed = "https://example.org/feed"\nhosts = ["nowhere"]', "error", "no section [hosts.nowhere]"),
        ('secret_env = "NO_SUCH_KEY"', "warning", "NO_SUCH_KEY: not set or empty"),
        ('folder = "s3://films"\nacces_key_env = "PATH"', "warning", "the nearest known one is access_key_env"),
        ('folder = "media/films"', "warning", "is one of this machine"),
    ],
)
def test_a_listing_that_could_not_be_looked_at_is_told(shelf: Shelf, section: str, verdict: str, message: str) -> None:
    found = listed(shelf, f"[listings.news]\n{section}\n")["listing news"]

    assert (found[0], message in found[1]) == (verdict, True), found


def test_what_sites_and_queued_links_lack_is_told(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALK_SECRET", "https://example.org/private/talk.mp4")
    shelf.cli("add", "--secret-env", "TALK_SECRET")
    monkeypatch.delenv("TALK_SECRET")

    checks = listed(
        shelf, '[sources.sites."a.example"]\nauthorization_env = "NO_SUCH_KEY"\nrefresh_command = ["no-such-program"]\n'
    )

    assert checks["links"][0] == "warning"
    assert checks["links"][1].startswith("TALK_SECRET: not set or empty")
    assert checks["site a.example"][1].startswith("no-such-program: no such program")


def test_queued_files_that_are_not_in_git_are_told_where_hosted_runs_need_them(shelf: Shelf) -> None:
    for name in ("media/one.mp4", "media/two.mp4"):
        shelf.cli("add", put(shelf, name, name))
    shelf.git("add", "media/one.mp4")

    [check] = found(shelf, "media")

    assert check.verdict == "warning"
    assert check.message.startswith("1 queued files are not in git, the first media/two.mp4: no hosted runner sees them")


@pytest.mark.parametrize("way", ["tracked", "no workflow", "in a workflow", "finished"])
def test_files_that_no_other_machine_needs_are_no_matter(shelf: Shelf, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.cli("add", put(shelf, "media/one.mp4"))
    if way == "tracked":
        shelf.git("add", "media/one.mp4")
    if way == "no workflow":
        (shelf.root / WORKFLOW).unlink()
    if way == "in a workflow":
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
    if way == "finished":
        shelf.cli("run")

    assert found(shelf, "media") == []


def test_queued_files_outside_that_are_not_on_this_machine_are_told(shelf: Shelf, tmp_path: Path) -> None:
    for name in ("here.mp4", "there.mp4"):
        shelf.cli("add", put(shelf, f"../disk/{name}", name).resolve())
    (tmp_path / "disk/there.mp4").unlink()

    [check] = found(shelf, "media")

    assert check.message.startswith(f"1 queued files are not on this machine, the first {tmp_path}/disk/there.mp4; ")


# -- Git LFS


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (POINTER, True),
        (POINTER + "x" * (1023 - len(POINTER)), True),
        (POINTER + "x" * (1024 - len(POINTER)), False),
        (POINTER.partition("oid")[0], True),
        (POINTER.partition("\n")[0], False),
        (f"x{POINTER}", False),
        ("", False),
    ],
)
def test_a_pointer_is_a_small_file_that_begins_as_the_specification_says(tmp_path: Path, content: str, expected: bool) -> None:
    path = tmp_path / "x.mp4"
    path.write_text(content)

    assert is_pointer(path) is expected


def test_what_cannot_be_read_is_no_pointer(tmp_path: Path) -> None:
    assert not is_pointer(tmp_path)
    assert not is_pointer(tmp_path / "gone")


def test_a_queued_file_that_is_a_pointer_here_is_told(shelf: Shelf) -> None:
    path = put(shelf, "media/one.mp4")
    shelf.cli("add", path)
    shelf.git("add", "media/one.mp4")
    path.write_text(POINTER)

    [check] = found(shelf, "media")

    assert check.verdict == "warning"
    assert check.message.startswith("media/one.mp4: is a Git LFS pointer")


def test_pointers_are_not_added(shelf: Shelf) -> None:
    pointer, film = put(shelf, "media/pointer.mp4", POINTER), put(shelf, "media/film.mp4")

    by_name, by_folder = shelf.cli("add", pointer), shelf.cli("add", shelf.root / "media")

    assert (by_name.code, by_name.out) == (2, "")
    assert (by_folder.code, len(by_folder.out.split())) == (2, 1)
    for said in (by_name.err, by_folder.err):
        assert f"{pointer}: is a Git LFS pointer, not the file itself; check out with LFS" in said
    assert shelf.records().keys() == {film.name}


def test_a_pointer_in_the_inbox_is_left_and_told(shelf: Shelf) -> None:
    pointer = put(shelf, "media/inbox/talk.mp4", POINTER)

    done = shelf.cli("run", "--json")

    assert (done.code, shelf.records()) == (0, {})
    assert [problem.partition(": is a")[0] for problem in done.json()["problems"]] == [f"inbox: {pointer}"]


def test_a_plan_reckons_with_the_file_behind_a_pointer_until_a_record_has_its_bytes(shelf: Shelf) -> None:
    put(shelf, "media/inbox/talk.mp4", POINTER)
    unknown = made_plan(shelf)
    shelf.cli("add", put(shelf, "media/copy.mp4"))
    database = shelf.open().database
    [video] = database.videos()
    source = video.source.model_copy(update={"sha256": OID})
    database.save(video.with_(source=source, state=State.DONE), video)

    assert (unknown.should_run, unknown.reason) == (True, "1 in the inbox")
    assert made_plan(shelf).should_run is False


def made_plan(shelf: Shelf) -> Plan:
    return planning.make(shelf.open(), "", limit=None, dry_run=False, force=False)


def test_a_queued_file_that_has_become_a_pointer_waits_and_costs_no_attempt(shelf: Shelf, clip: Path) -> None:
    path = shelf.put(clip, "talk.mp4")
    shelf.cli("add", path)
    content = path.read_bytes()
    path.write_text(POINTER)
    before = shelf.records()["talk.mp4"]

    waiting = shelf.cli("run", "--json")
    record = shelf.records()["talk.mp4"]
    path.write_bytes(content)
    done = shelf.cli("run", "--json")

    assert (waiting.code, waiting.json()["summary"]["skipped"], waiting.json()["errors_by_category"]) == (0, 1, {})
    assert "is a Git LFS pointer" in waiting.err
    assert record | {"updated_at": ""} == before | {"updated_at": ""}
    assert (record["state"], record["retry_count"], record["last_error"]) == ("queued", 0, None)
    assert (done.code, done.json()["summary"]["done"]) == (0, 1)
