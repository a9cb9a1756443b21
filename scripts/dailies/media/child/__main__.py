"""The child process that opens media: a task a line on stdin, an answer a line on stdout (media/children.py), until stdin ends.

Whatever happens to it, the run lives on; and when the run has died it does not outlive it, whatever it is doing.
"""

import os
import queue
import sys
import threading
from pathlib import Path

import av
from pydantic import BaseModel

from dailies.errors import Category
from dailies.media.child import packets
from dailies.media.child.nothing import NoPictures
from dailies.media.children import Answer, ProbeTask, Question, Refusal


def main() -> None:
    tasks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    is_busy = threading.Event()
    threading.Thread(target=_listen, args=(tasks, is_busy), daemon=True).start()
    while line := tasks.get():
        print(_answer(Question.model_validate_json(line)).model_dump_json(), flush=True)
        is_busy.clear()


def _listen(tasks: "queue.SimpleQueue[bytes]", is_busy: threading.Event) -> None:
    for line in sys.stdin.buffer:
        is_busy.set()
        tasks.put(line)
    if is_busy.is_set():
        os._exit(0)  # nobody is there to be answered
    tasks.put(b"")


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
    from dailies.media.child.survey import survey  # numpy costs a probe nothing

    return survey(path, task.wanted)


if __name__ == "__main__":
    main()
