"""Why these moments: the time line of an analysis as an SVG picture, and a line for each clip."""

import re
from collections.abc import Iterator, Sequence
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from dailies.media.analysis import Analysis, Candidate, Factor
from dailies.model import Clip

_WIDTH: Final = 1200
_LEFT: Final = 110
_ROW: Final = 34
_TOP: Final = 46
_COLOURS: Final = {"score": "#2b5c8a", Factor.PEOPLE: "#c2703d", Factor.MOTION: "#3d8a5c", Factor.AUDIO: "#7a4f9a"} | {
    Factor.COMPLEXITY: "#8a7a2b",
    Factor.COLOUR: "#b03a6b",
}
_REFUSED: Final = "#c8c8c8"
_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2


def clock(seconds: float) -> str:
    """`1:02:03.4`, `2:03.4`."""
    tenths = round(seconds * 10)
    hours, minutes, rest = tenths // 36000, tenths // 600 % 60, tenths % 600 / 10
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


def nearest(analysis: Analysis, clip: Clip) -> Candidate | None:
    """The candidate that a clip was made from: the last that is not behind its start."""
    before = [one for one in analysis.candidates if one.t_s <= clip.start_s + 0.01]
    return max(before, key=lambda one: (one.score == clip.score, one.t_s), default=None)


def lines(analysis: Analysis) -> list[str]:
    """A line for each clip, in words."""
    said = []
    for clip in analysis.clips:
        one = nearest(analysis, clip)
        ranks = (
            ", ".join(f"{factor} {getattr(one, factor.value):.2f}" for factor in Factor) if one and clip.score is not None else ""
        )
        score = f" score {clip.score:.2f}" if clip.score is not None else ""
        said.append(
            f"{clock(clip.start_s)} for {clip.length_s:g} s:{score} because of {clip.why}" + (f" ({ranks})" if ranks else "")
        )
    return said


def _text(text: str) -> str:
    """Any file name as text of XML, which has no control characters, surrogates nor U+FFFE."""
    return escape(_NO_XML.sub("\ufffd", text))


def svg(analysis: Analysis, name: str) -> str:
    """Rows of bars, one a factor and the score on top; chosen clips stand behind them, what was refused is grey."""
    rows: Sequence[str] = ["score", *(factor.value for factor in Factor)]
    height = _TOP + _ROW * len(rows) + 40
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12">',
            f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
            f'<text x="8" y="18" font-size="14">{_text(name)}: {clock(analysis.duration_s)}, {len(analysis.clips)} clips</text>',
            *_clips(analysis, height),
            *(part for number, row in enumerate(rows) for part in _row(analysis, row, _TOP + _ROW * number)),
            *_axis(analysis, height),
            "</svg>",
            "",
        ]
    )


def _x(analysis: Analysis, t_s: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - 10) * min(1.0, t_s / max(analysis.duration_s, 0.001))


def _clips(analysis: Analysis, height: int) -> Iterator[str]:
    for clip in analysis.clips:
        left, right = _x(analysis, clip.start_s), _x(analysis, clip.start_s + clip.length_s)
        title = escape(f"{clock(clip.start_s)} {clip.why}")
        box = f'x="{left:.1f}" y="{_TOP - 12}" width="{max(3.0, right - left):.1f}" height="{height - _TOP - 16}"'
        yield f'<rect {box} fill="#ffe08a"><title>{title}</title></rect>'


def _row(analysis: Analysis, row: str, top: int) -> Iterator[str]:
    yield f'<text x="8" y="{top + _ROW - 10}">{row}</text>'
    bar = max(1.0, min(8.0, (_WIDTH - _LEFT) / max(1, len(analysis.candidates)) - 1))
    for one in analysis.candidates:
        tall = (_ROW - 8) * getattr(one, row)
        colour = _REFUSED if one.gate else _COLOURS[row]
        title = escape(f"{clock(one.t_s)} {row} {getattr(one, row):.2f}{f', {one.gate}' if one.gate else ''}")
        box = f'x="{_x(analysis, one.t_s):.1f}" y="{top + _ROW - 6 - tall:.1f}" width="{bar:.1f}" height="{tall:.1f}"'
        yield f"<rect {box} fill={quoteattr(colour)}><title>{title}</title></rect>"


def _axis(analysis: Analysis, height: int) -> Iterator[str]:
    for tenth in range(11):
        t_s = analysis.duration_s * tenth / 10
        x, anchor = _x(analysis, t_s), "end" if tenth == 10 else "middle"
        yield f'<text x="{x:.1f}" y="{height - 10}" text-anchor="{anchor}" fill="#555">{clock(t_s)}</text>'
