"""The child process that opens media: a task a line on stdin, an answer a line on stdout (media/children.py), until stdin ends.

Whatever happens to it, the run lives on.
"""

import sys
from pathlib import Path

import av
from pydantic import BaseModel

from dailies.errors import Category
from dailies.media.child import packets
from dailies.media.child.film import NoPictures
from dailies.media.child.survey import survey
from dailies.media.children import Answer, ProbeTask, Question, Refusal


def main() -> int:
    for line in sys.stdin.buffer:
        print(_answer(Question.model_validate_json(line)).model_dump_json(), flush=True)
    return 0


def _answer(question: Question) -> Answer:
    path = Path(question.task.path)
    try:
        return Answer(done=_done(question, path).model_dump_json())
    except av.error.FFmpegError as error:
        category, words = packets.reason(path, error)
        return Answer(refused=Refusal(category=category, words=words))
    except NoPictures:
        return Answer(refused=Refusal(category=Category.NO_VIDEO, words="has no pictures; give a video"))


def _done(question: Question, path: Path) -> BaseModel:
    task = question.task
    if isinstance(task, ProbeTask):
        return packets.read(path, header_only=task.header_only, filters=task.filters)
    return survey(path, task.wanted)


if __name__ == "__main__":
    raise SystemExit(main())
