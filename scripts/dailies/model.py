"""Records: what the database holds about a video, as frozen values (docs/database.md)."""

import hashlib
import os
import re
import unicodedata
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Self
from urllib.parse import quote_from_bytes, unquote_to_bytes

from pydantic import BaseModel, ConfigDict, Field

SCHEMA: Final = 1
IDENTITY_BYTES: Final = 64 * 1024
FILE_SCHEME: Final = "file:"
ID_PATTERN: Final = r"[a-z0-9][a-z0-9-]{0,59}-[0-9a-f]{12}"

Timestamp = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Record(BaseModel):
    """Frozen; fields that this version does not know survive a load and a save."""

    model_config = ConfigDict(frozen=True, extra="allow")


class State(StrEnum):
    QUEUED = "queued"
    WORKING = "working"
    DONE = "done"
    FAILED = "failed"
    DUPLICATE = "duplicate"
    UNAVAILABLE = "unavailable"


class StepName(StrEnum):
    FETCH = "fetch"
    INSPECT = "inspect"
    CONVERT = "convert"
    ANALYSE = "analyse"
    PUBLISH = "publish"
    PREVIEW = "preview"
    PUBLISH_PREVIEW = "publish_preview"
    ENRICH = "enrich"
    CLEAN = "clean"


class StepStatus(StrEnum):
    COMPLETED = "completed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class Kind(StrEnum):
    """What of a video an upload holds."""

    VIDEO = "video"
    PREVIEW = "preview"
    IMAGE = "image"


class UploadStatus(StrEnum):
    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    FAILED_FINAL = "FAILED_FINAL"
    BLOCKED = "BLOCKED"
    RATE_LIMITED = "RATE_LIMITED"
    UNKNOWN = "UNKNOWN"


class Source(Record):
    """Where the bytes come from. `identity` is what `add` compares, `sha256` is of the source's own bytes.

    Of links `size_bytes` is 0 until they are fetched. `secret_env` names the environment variable that holds the link itself;
    `uri` is what may be shown of it then. `expected_sha256` is what a person or a listing promised.
    """

    kind: str
    uri: str
    original_name: str
    size_bytes: int = Field(ge=0)
    identity: Sha256
    sha256: Sha256 | None = None
    expected_sha256: Sha256 | None = None
    secret_env: str | None = None
    remove_after_publish: bool = False


class Claim(Record):
    """The run that owns the video, and until when (design, rule 9)."""

    run_id: str
    until: Timestamp


class LastError(Record):
    step: StepName | None
    attempt: int
    category: str
    message: str
    action: str
    at: Timestamp


class StepRecord(Record):
    status: StepStatus
    duration_s: float = Field(ge=0)
    at: Timestamp
    error: str | None = None


class MediaFile(Record):
    """The verified MP4 that hosts are given."""

    name: str
    size_bytes: int = Field(ge=0)
    sha256: Sha256
    md5: str | None = Field(default=None, pattern=r"^[0-9a-f]{32}$")  # some hosts compare what they got with it
    phash: str | None = None


class Media(Record):
    """What a player shows: `width` and `height` are after rotation."""

    duration_s: float = Field(ge=0)
    width: int
    height: int
    resolution: str
    aspect_ratio: str
    fps: float
    video_codec: str | None
    audio_codec: str | None
    audio_channels: int
    bit_rate: int
    rotation: int
    tags: tuple[str, ...] = ()  # technical ones, such as `4k`, `hdr`, `portrait`, `silent`, `vfr`


class Metadata(Record):
    description: str = ""
    release_date: str | None = None
    views: int | None = None
    likes: int | None = None
    categories: tuple[str, ...] = ()
    people: tuple[Mapping[str, Any], ...] = ()
    tags: tuple[str, ...] = ()
    studio: str | None = None
    series: str | None = None
    provenance: Mapping[str, str] = {}


class Clip(Record):
    """`why` is the factor that speaks most for it; `even` and `whole` were not chosen by a score."""

    start_s: float
    length_s: float
    score: float | None = None
    why: str | None = None


class Shot(Record):
    """From one cut to the next, in seconds; where none was found, as far as was looked at."""

    start_s: float
    end_s: float


class Preview(Record):
    name: str
    size_bytes: int
    duration_s: float
    sha256: Sha256
    clips: tuple[Clip, ...]


class Part(Record):
    """One file of an upload that has several."""

    name: str
    sha256: Sha256
    size_bytes: int = 0
    remote_id: str
    direct_url: str | None = None


class Upload(Record):
    """The state of one (video, host, kind), docs/registry.md; `parts` are the files of pictures, the links those of the cover then.

    `until`: not sent again before (RATE_LIMITED); `is_settling`: the host has it and works on it still.
    """

    status: UploadStatus = UploadStatus.PENDING
    epoch: int = 0  # raised where a SUCCESS is given up; the larger wins a merge
    adapter: str | None = None
    retry_count: int = 0
    remote_id: str | None = None
    watch_url: str | None = None
    embed_url: str | None = None
    direct_url: str | None = None
    sha256: Sha256 | None = None  # of what was sent
    size_bytes: int | None = None
    attempt_id: str | None = None
    at: Timestamp | None = None
    until: Timestamp | None = None
    is_settling: bool = False
    error: str | None = None
    parts: Mapping[str, Part] = {}
    previous: tuple[Mapping[str, Any], ...] = ()


class Video(Record):
    """One thing to publish. A change is a new value: see the `with_` methods."""

    schema_version: int = Field(default=SCHEMA, alias="schema", ge=1)
    id: str = Field(pattern=f"^{ID_PATTERN}$")
    code: str
    title: str
    source: Source
    source_type: str = "uploaded"
    state: State = State.QUEUED
    duplicate_of: str | None = None
    duplicate_allowed: bool = False
    similar_to: str | None = None  # the video that looks most like this one, where one is near enough
    epoch: int = 0
    interruptions: int = 0
    interrupted_step: StepName | None = None
    claim: Claim | None = None
    deleted_at: Timestamp | None = None
    warnings: tuple[str, ...] = ()
    retry_count: int = 0
    next_attempt_at: Timestamp | None = None
    last_error: LastError | None = None
    steps: Mapping[StepName, StepRecord] = {}
    file: MediaFile | None = None
    media: Media | None = None
    metadata: Metadata = Metadata()
    edited_at: Mapping[str, Timestamp] = {}
    conflicts: tuple[Mapping[str, Any], ...] = ()
    preview: Preview | None = None
    images: Mapping[str, str] = {}  # file names of cover, sprite, sprite_vtt, contact, animation
    markers: tuple[Shot, ...] = ()  # the shots around the preview's clips
    hosts: tuple[str, ...] = ()  # that a person named for this video; else those of the settings
    uploads: Mapping[str, Mapping[Kind, Upload]] = {}
    created_at: Timestamp
    updated_at: Timestamp

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)

    def with_(self, **changes: Any) -> Self:
        """A copy with these fields changed; the values are trusted, as they come from our own code."""
        return self.model_copy(update=changes)

    def with_step(self, name: StepName, step: StepRecord) -> Self:
        return self.with_(steps={**self.steps, name: step})

    def with_upload(self, host: str, kind: Kind, upload: Upload) -> Self:
        kinds = {**self.uploads.get(host, {}), kind: upload}
        return self.with_(uploads={**self.uploads, host: kinds})

    def with_warning(self, text: str) -> Self:
        return self if text in self.warnings else self.with_(warnings=(*self.warnings, text))

    def upload(self, host: str, kind: Kind) -> Upload:
        return self.uploads.get(host, {}).get(kind, Upload())

    def is_on(self, host: str, kind: Kind = Kind.VIDEO) -> bool:
        return self.upload(host, kind).status is UploadStatus.SUCCESS

    def is_published(self) -> bool:
        return any(self.is_on(host) for host in self.uploads)

    def is_settled_anywhere(self) -> bool:
        """Whether a host has it for certain: it has confirmed the upload and does not work on it any more."""
        return any(self.is_on(host) and not self.upload(host, Kind.VIDEO).is_settling for host in self.uploads)

    def has_completed(self, step: StepName) -> bool:
        record = self.steps.get(step)
        return record is not None and record.status is StepStatus.COMPLETED


def slug(text: str) -> str:
    """At most 60 of a-z, 0-9 and single dashes; `video` where nothing is left."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    words = re.sub(r"[^a-z0-9]+", "-", ascii_text.lower()).strip("-")
    return words[:60].strip("-") or "video"


def readable(text: str) -> str:
    """Text that UTF-8 can hold: bytes of a file name that are no UTF-8 become U+FFFD."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def path_to_uri(path: str) -> str:
    """The path itself, or `file:` with percent-encoding where it is not valid UTF-8 or could be taken for a URI."""
    is_plain = path == readable(path) and not path.startswith(FILE_SCHEME)
    return path if is_plain else FILE_SCHEME + quote_from_bytes(os.fsencode(path))


def uri_to_path(uri: str) -> str:
    if not uri.startswith(FILE_SCHEME):
        return uri
    return os.fsdecode(unquote_to_bytes(uri.removeprefix(FILE_SCHEME)))


def file_identity(path: Path, uri: str) -> tuple[str, int]:
    """(sha256 over normalised path, size, first and last 64 KiB; size in bytes). Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        digest.update(f"file\0{uri}\0{size}\0".encode())
        file.seek(0)
        digest.update(file.read(IDENTITY_BYTES))
        file.seek(max(0, size - IDENTITY_BYTES))
        digest.update(file.read(IDENTITY_BYTES))
    return digest.hexdigest(), size


def video_id(code: str, identity: str) -> str:
    return f"{slug(code)}-{identity[:12]}"
