"""What another machine may have done or may have: asked before sending, not waited for, and told apart."""

import shutil
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from dailies import hosts, pipeline, repository
from dailies.hosts import Asset, Capabilities, Receipt, Transfer
from dailies.hosts.storage import Storage
from dailies.progress import LogWatcher
from support import PUBLISHED, Shelf

sent: list[str] = []


class Shop(Storage):
    """A host that makes a second copy of what is sent twice."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, overwrites=False)

    def upload(self, path: Path, asset: Asset, transfer: Transfer) -> Receipt:
        sent.append(asset.suffix)
        return super().upload(path, asset, transfer)


def test_what_a_machine_lost_without_a_trace_has_sent_is_not_sent_again(
    shelf: Shelf, clip: Path, stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(hosts.HOSTS, "shop", Shop)
    settings = shelf.root / "dailies.toml"
    settings.write_text(settings.read_text().replace('adapter = "storage"', 'adapter = "shop"'))
    shelf.put(clip)
    lost = shelf.root.with_name("lost")
    shutil.copytree(shelf.root, lost)
    pipeline.run(Shelf(lost, shelf.remote).open(), pipeline.Wanted(commit=False), LogWatcher(), stop)
    shutil.copytree(lost / "media/published", shelf.root / "media/published")  # the host lives on, the record does not
    assert sorted(sent) == [*PUBLISHED]

    result = pipeline.run(shelf.open(), pipeline.Wanted(), LogWatcher(), stop)

    assert (result.report.summary.done, sorted(sent)) == (1, [*PUBLISHED])
    assert shelf.records()[clip.name]["uploads"]["published"]["video"]["status"] == "SUCCESS"


def test_a_file_that_is_elsewhere_takes_no_place_of_a_limit(shelf: Shelf, clip: Path, tmp_path: Path) -> None:
    away = tmp_path / "away.mp4"
    shutil.copyfile(clip, away)
    shelf.cli("add", away)
    away.rename(tmp_path / "gone.mp4")
    shelf.put(clip, "here.mp4")

    done = shelf.cli("run", "--limit", "1", "--json")

    assert (done.json()["summary"]["done"], shelf.records()["here.mp4"]["state"]) == (1, "done")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("git@github.com:someone/dailies.git", "https://github.com/someone/dailies.git"),
        ("ssh://git@github.com/someone/dailies", "https://github.com/someone/dailies"),
        ("https://user:secret@github.com/someone/dailies.git", "https://github.com/someone/dailies.git"),
    ],
)
def test_where_this_program_comes_from_is_an_address_that_pip_can_use(tmp_path: Path, url: str, address: str) -> None:
    repository.create(tmp_path)
    (tmp_path / "scripts/dailies").mkdir(parents=True)
    identity = ["-c", "user.name=x", "-c", "user.email=x@localhost"]
    subprocess.run(["git", *identity, "commit", "-q", "--allow-empty", "-m", "x"], cwd=tmp_path, check=True)
    subprocess.run(["git", "remote", "add", "origin", url], cwd=tmp_path, check=True)

    found = repository.origin_of((tmp_path / "scripts/dailies").resolve(), "scripts/dailies")

    assert found is not None
    assert found[0] == address
    assert repository.origin_of(tmp_path.resolve(), "scripts/dailies") is None
