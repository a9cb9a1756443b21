"""Why these moments: the drawing is valid XML whatever a file is called, and says what the analysis says."""

from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dailies import explain
from dailies.media.analysis import Analysis, Candidate, Factor, Gate
from dailies.model import Clip

SVG = "{http://www.w3.org/2000/svg}"
SHARES = st.floats(0, 1)
CANDIDATES = st.builds(
    Candidate,
    t_s=st.floats(0, 7200),
    gate=st.none() | st.sampled_from(Gate),
    **dict.fromkeys(("motion", "audio", "complexity", "people", "colour", "score"), SHARES),
)
CLIPS = st.builds(
    Clip, start_s=st.floats(0, 7200), length_s=st.floats(0.1, 60), score=st.none() | SHARES, why=st.sampled_from(["even", *Factor])
)
ANALYSES = st.builds(
    Analysis,
    duration_s=st.floats(0, 7200),
    shots=st.just(()),
    candidates=st.lists(CANDIDATES, max_size=6).map(tuple),
    clips=st.lists(CLIPS, max_size=4).map(tuple),
    cover_t_s=st.none(),
    phash=st.none(),
    tags=st.just(()),
)
# what a file of Linux may be called: anything without a slash and a zero byte
FILE_NAMES = st.binary(min_size=1, max_size=30).map(
    lambda name: name.replace(b"\0", b"-").replace(b"/", b"-").decode("utf-8", "surrogateescape")
)


def drawing(analysis: Analysis, name: str) -> ET.Element:
    return ET.fromstring(explain.svg(analysis, name).encode())


def plain(**more: object) -> Analysis:
    ranks = {"motion": 0.9, "audio": 0.2, "complexity": 0.5, "people": 0.1, "colour": 0.5}
    one = Candidate(t_s=10.0, score=0.6, gate=None, **ranks)
    other = Candidate(t_s=50.0, score=0.3, gate=Gate.BLACK, **ranks)
    clips = (Clip(start_s=10.3, length_s=3.0, score=0.6, why="motion"),)
    known: dict[str, object] = {"duration_s": 100.0, "shots": (), "candidates": (one, other), "clips": clips}
    return Analysis.model_validate({**known, "cover_t_s": None, "phash": None, "tags": (), **more})


@pytest.mark.parametrize(
    "name", ["a<b>&\"c'.mp4", "]]>.mp4", "</text><script>alert(1)</script>", "&amp;.mp4", "Ünïcode 映画 🎬.mp4"]
)
def test_a_hostile_file_name_is_text_and_nothing_else(name: str) -> None:
    root = drawing(plain(), name)

    assert root.tag == f"{SVG}svg"
    assert {one.tag for one in root.iter()} == {f"{SVG}{tag}" for tag in ("svg", "rect", "text", "title")}
    assert any((one.text or "").startswith(f"{name}: ") for one in root.iter(f"{SVG}text"))


@given(FILE_NAMES)
@example("tab\tline\nend.mp4")
@example("bell\x07.mp4")
@example("caf\udce9.mp4")  # Latin-1 bytes on a UTF-8 system, as os.fsdecode gives them
@example("\ufffe.mp4")
def test_any_name_that_a_file_can_have_gives_valid_xml(name: str) -> None:
    assert drawing(plain(), name).tag == f"{SVG}svg"


@given(ANALYSES)
def test_any_analysis_can_be_drawn_and_told(analysis: Analysis) -> None:
    bars = drawing(analysis, "film.mp4").findall(f"{SVG}rect")

    assert len(bars) == 1 + len(analysis.clips) + (1 + len(Factor)) * len(analysis.candidates)
    assert all(float(bar.get("width", "-1")) >= 0 and float(bar.get("height", "-1")) >= 0 for bar in bars)
    assert len(explain.lines(analysis)) == len(analysis.clips)


def test_what_was_refused_is_grey_and_says_why() -> None:
    bars = drawing(plain(), "film.mp4").findall(f"{SVG}rect")
    said = {(bar.findtext(f"{SVG}title") or ""): bar.get("fill") for bar in bars}

    assert said["0:50.0 score 0.30, black"] == "#c8c8c8"
    assert said["0:10.0 motion 0.90"] != "#c8c8c8"
    assert "0:10.3 motion" in said


def test_a_line_names_the_time_the_score_and_all_factors() -> None:
    [line] = explain.lines(plain())

    assert line.startswith("0:10.3 for 3 s: score 0.60 because of motion (")
    assert all(f"{factor} " in line for factor in Factor)


def test_a_clip_without_a_score_says_only_why() -> None:
    assert explain.lines(plain(clips=(Clip(start_s=0.0, length_s=3.0, why="even"),))) == ["0:00.0 for 3 s: because of even"]


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0:00.0"), (59.94, "0:59.9"), (59.96, "1:00.0"), (3599.99, "1:00:00.0"), (3723.44, "1:02:03.4")]
)
def test_a_clock_carries_what_it_rounds(seconds: float, said: str) -> None:
    assert explain.clock(seconds) == said
