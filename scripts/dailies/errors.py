"""Errors, classed by what to do next (design, rule 2)."""

from datetime import datetime
from enum import IntEnum, StrEnum


class Category(StrEnum):
    """What went wrong, as it stands in records, reports and `errors_by_category`."""

    EMPTY = "empty"
    DAMAGED = "damaged"
    UNSUPPORTED = "unsupported"
    NO_VIDEO = "no_video"
    CHANGED = "changed"
    UNREADABLE = "unreadable"
    GONE = "gone"
    UNREACHABLE = "unreachable"
    NO_SPACE = "no_space"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    CONVERSION = "conversion"
    HOST = "host"
    BUSY = "busy"
    SETTINGS = "settings"
    DATABASE = "database"
    GIT = "git"
    TIME_OVER = "time_over"
    INTERRUPTED = "interrupted"


class Exit(IntEnum):
    """Exit codes of the command line contract; when several apply the order is UNEXPECTED first, DONE last."""

    DONE = 0
    VIDEOS_FAILED = 1
    USAGE = 2
    UNEXPECTED = 3
    NOT_PUBLISHED = 4
    INTERRUPTED = 130


class DailiesError(Exception):
    """Base of all: `str(error)` is one line that names what, which and the remedy."""

    category: Category = Category.SETTINGS

    def __init__(self, message: str, category: Category | None = None) -> None:
        super().__init__(message)
        if category is not None:
            self.category = category


class ConfigError(DailiesError):
    """A person must act before anything can go on (exit 2)."""


class Blocked(ConfigError):
    """A record that can neither be read nor restored keeps its id; other videos go on (design, rule 12)."""

    category = Category.DATABASE


class VideoError(DailiesError):
    """This video cannot be done; it is recorded as failed and the run goes on."""

    category = Category.DAMAGED


class Transient(DailiesError):
    """It may work later: counted, queued again with a backoff."""

    category = Category.HOST


class Denied(Transient):
    """A host takes nothing from us until a person acts (credentials, an unpaid account): no other file is tried in this run."""


class RateLimited(Transient):
    """A host wants us to wait: no attempt is counted. `wait_s` from now."""

    def __init__(self, message: str, wait_s: float) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class OutcomeUnknown(Transient):
    """The last byte had left when the answer was lost: the host must be asked before anything is sent again."""


class HostRefused(VideoError):
    """This host will never take this file (its size, its kind, its content); another may."""

    category = Category.HOST


class HostSilent(VideoError):
    """A host has no way to tell whether it has a file: only a person can look."""

    category = Category.HOST


class Waiting(DailiesError):
    """Nothing is wrong with the video, something is missing around it: no attempt is counted."""

    category = Category.UNREACHABLE


class Postponed(Waiting):
    """Not before `until` (UTC): a host's limit or one of our own. No attempt is counted."""

    category = Category.BUSY

    def __init__(self, message: str, until: datetime) -> None:
        super().__init__(message)
        self.until = until


class SourceGone(DailiesError):
    """The source has gone from under the library's root for good: the video is `unavailable`."""

    category = Category.GONE


class OutOfTime(DailiesError):
    """The run's time is over: stop cleanly, nothing is counted."""

    category = Category.TIME_OVER


class Interrupted(DailiesError):
    """A signal asked the run to end; an interruption is not a failure (design, rule 10)."""

    category = Category.INTERRUPTED


class NotPublished(DailiesError):
    """The database could not be committed or pushed (exit 4)."""

    category = Category.GIT
