"""Renders the clips that `dailies analyse --json` chose: FILE FOUND.json TARGET. Used by bench/media.py, which measures it."""

import json
import sys
import tempfile
from pathlib import Path

from dailies import config
from dailies.clock import Deadline, SystemClock
from dailies.media import render
from dailies.media.children import Children
from dailies.media.probe import probe
from dailies.media.recipes import Look
from dailies.model import Clip

if __name__ == "__main__":
    file, found, target = map(Path, sys.argv[1:])
    clips = tuple(Clip.model_validate(clip) for clip in json.loads(found.read_bytes())["clips"])
    deadline = Deadline.after(SystemClock(), 600)
    with tempfile.TemporaryDirectory() as name, Children(Path(name)) as children:
        rules = render.Rules(work=Path(name), threads=config.cores(), children=children)
        media = probe(file.name, file, deadline, children=children, header_only=True)
        render.preview(file.name, file, target, clips, media, Look(), rules, deadline)
