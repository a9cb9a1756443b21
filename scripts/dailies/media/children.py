"""The processes in which media is opened: asked one task at a time, replaced after a few videos, never missed when they die."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from dailies.clock import Deadline
from dailies.errors import Category, Transient, VideoError
from dailies.media.analysis import Wanted
from dailies.process import Completed, Conversation, converse

MODULE: Final = "dailies.media.child"
VIDEOS: Final = 5  # that a child serves: what decoders leak stays bounded
_TASKS_A_VIDEO: Final = 8
MEMORY_BYTES: Final = 2_000_000_000

Found = TypeVar("Found", bound=BaseModel)


class ProbeTask(BaseModel):
    model_config = ConfigDict(frozen=True)
    do: Literal["probe"] = "probe"
    path: str
    header_only: bool = False
    filters: Mapping[int, str] | None = None


class SurveyTask(BaseModel):
    model_config = ConfigDict(frozen=True)
    do: Literal["survey"] = "survey"
    path: str
    wanted: Wanted


class Question(BaseModel):
    task: Annotated[ProbeTask | SurveyTask, Field(discriminator="do")]


class Refusal(BaseModel):
    category: Category
    words: str


class Answer(BaseModel):
    """One of both: the JSON of what was found, or why the file is refused."""

    done: str | None = None
    refused: Refusal | None = None


class _Child:
    """One process and whom it has served."""

    def __init__(self, work: Path) -> None:
        self.talk: Conversation = converse(MODULE, work=work)
        self.names: set[str] = set()
        self.tasks = 0

    def may_serve(self, name: str, videos: int) -> bool:
        is_known = name in self.names
        return self.tasks < videos * _TASKS_A_VIDEO and (is_known or len(self.names) < videos)


class Children:
    """Any number of threads may ask; each has a child to itself meanwhile. `work` is the library's work folder."""

    def __init__(self, work: Path, *, videos: int = VIDEOS, memory_bytes: int = MEMORY_BYTES) -> None:
        self._work = work
        self._videos = videos
        self._memory_bytes = memory_bytes
        self._idle: list[_Child] = []
        self._lock = threading.Lock()
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, name: str, task: ProbeTask | SurveyTask, found: type[Found], deadline: Deadline) -> Found:
        """What a child found out about a file that messages call `name`.

        Raises VideoError (the file is refused), Transient `crashed` (the child died, or took too much memory), the deadline's own
        error or Interrupted; after any of the last three the child has ended.
        """
        deadline.check()
        line = Question(task=task).model_dump_json().encode()
        child = self._take(name)
        answered = child.talk.ask(line, deadline, memory_bytes=self._memory_bytes)
        if isinstance(answered, Completed):
            raise died(name, answered)
        self._give_back(child)
        answer = Answer.model_validate_json(answered)
        if answer.refused:
            raise VideoError(f"{name}: {answer.refused.words}", answer.refused.category)
        return found.model_validate_json(answer.done or "")

    def close(self) -> None:
        """End the children that are idle; one that is at work ends with its work."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for child in idle:
            child.talk.end()

    def _take(self, name: str) -> _Child:
        spent: list[_Child] = []
        with self._lock:
            dead, self._idle = _parted(self._idle, lambda one: one.talk.has_ended)
            able = [child for child in self._idle if child.may_serve(name, self._videos)]
            child = max(able, key=lambda one: name in one.names, default=None)
            if child is not None:
                self._idle.remove(child)
            else:
                spent, self._idle = [one for one in self._idle if one not in able], able
        for one in [*dead, *spent]:
            one.talk.end()
        child = child or _Child(self._work)
        child.names.add(name)
        child.tasks += 1
        return child

    def _give_back(self, child: _Child) -> None:
        with self._lock:
            if not self._is_closed:
                self._idle.append(child)
                return
        child.talk.end()


def _parted(children: list[_Child], is_first: Callable[[_Child], bool]) -> tuple[list[_Child], list[_Child]]:
    return [one for one in children if is_first(one)], [one for one in children if not is_first(one)]


def died(name: str, child: Completed) -> Transient:
    """A native decoder that crashed, or was killed for its memory: that file's trouble and nobody else's."""
    if not child.died:
        return Transient(
            f"{name}: could not be looked at, which is a bug; please report it ({child.last_words()})", Category.CRASHED
        )
    return Transient(
        f"{name}: its decoder died ({child.last_words()}); if it does so again, export the file again", Category.CRASHED
    )
