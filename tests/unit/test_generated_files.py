"""What is made from the models is current, and what the program saves is what the schemas promise."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from dailies.generate import generated
from support import ROOT, Shelf


@pytest.mark.parametrize("name", sorted(generated()))
def test_a_generated_file_is_current(name: str) -> None:
    remedy = "run `python -m dailies.generate` and commit"

    assert (ROOT / name).read_bytes() == generated()[name], f"{name} is out of date; {remedy}"


def test_schemas_settings_and_their_documentation_are_generated() -> None:
    schemas = {"database/schema/video.json", "database/schema/run.json"}
    assert set(generated()) == {*schemas, "docs/settings.md", "dailies.toml", ".github/workflows/batch.yml"}


def schema(name: str) -> Draft202012Validator:
    content = json.loads((ROOT / "database/schema" / name).read_text("utf-8"))
    Draft202012Validator.check_schema(content)
    return Draft202012Validator(content)


@pytest.fixture
def saved(shelf: Shelf, clip: Path) -> Shelf:
    """A library after a run with one finished, one failed and one duplicate video."""
    shelf.put(clip, "good.mp4")
    shelf.put(clip, "again.mp4")
    (shelf.put(clip, "bad.mp4")).write_bytes(b"<html>no video</html>")
    shelf.cli("run")
    return shelf


def test_saved_records_and_reports_are_what_the_schemas_promise(saved: Shelf) -> None:
    records = saved.records()
    reports = [json.loads(path.read_text("utf-8")) for path in saved.root.glob("database/runs/*/*.json")]

    assert sorted(record["state"] for record in records.values()) == ["done", "duplicate", "failed"]
    assert len(reports) == 1
    for record in records.values():
        schema("video.json").validate(record)
    schema("run.json").validate(reports[0])


def test_the_schemas_refuse_what_is_no_record(shelf: Shelf, clip: Path) -> None:
    shelf.cli("add", clip)
    [record] = shelf.records().values()

    for wrong in ({"state": "finished"}, {"id": "../x"}, {"created_at": "yesterday"}, {"schema": 0}, {"source": None}):
        with pytest.raises(ValidationError):
            schema("video.json").validate({**record, **wrong})


def test_the_schemas_allow_fields_of_a_later_version(shelf: Shelf, clip: Path) -> None:
    shelf.cli("add", clip)
    [record] = shelf.records().values()
    later: dict[str, Any] = {**record, "mood": "sunny", "source": {**record["source"], "mirror": "x"}}

    schema("video.json").validate(later)
