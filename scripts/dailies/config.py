"""Settings: `dailies.toml` and the environment, read once into frozen values (docs/settings.md is made from here)."""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from dailies.clock import parse_duration
from dailies.errors import ConfigError

FILE_NAME: Final = "dailies.toml"
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)I?B?", re.IGNORECASE)
_POWERS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(text: object) -> int:
    """Bytes of `1000`, `"500MB"` (powers of 1000), `"2GiB"` (powers of 1024); raises ValueError."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    found = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None or not isinstance(text, str):
        raise ValueError(f"{text!r} is not a size; write it like 500MB or 2GiB")
    base = 1024 if "i" in text.lower() else 1000
    return int(float(found[1]) * base ** _POWERS[found[2].upper()])


Duration = Annotated[float, BeforeValidator(parse_duration), Field(ge=0)]
Size = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]


class Section(BaseModel):
    """Part of the settings; a key that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Library(Section):
    inbox: str = Field("media/inbox", description="folder that is scanned at each run's start")
    accept_audio: bool = Field(False, description="true: publish files without pictures; else they fail with category `no_video`")
    accept_damaged: bool = Field(False, description="true: salvage what can be read of a damaged file, with a warning")
    remove_source: Literal["never", "after_publish"] = Field(
        "never", description="`after_publish`: delete the source file once a host has confirmed the upload, as the very last step"
    )


class Run(Section):
    time_limit: Duration = Field(parse_duration("315m"), description="a run stops by then", json_schema_extra={"unit": "duration"})
    min_remaining: Duration = Field(
        parse_duration("30m"), description="no video is started with less time left", json_schema_extra={"unit": "duration"}
    )
    jobs: int = Field(0, ge=0, description="ffmpeg processes at once; 0 = as many as cores")
    transfers: int = Field(4, ge=1, description="copies and uploads at once, beside the ffmpeg work")
    child_videos: int = Field(5, ge=1, description="videos after which a process that opens media is replaced by a new one")
    child_memory: Size = Field(
        parse_size("2GB"), description="memory that such a process may take for one video", json_schema_extra={"unit": "size"}
    )
    step_timeout: Duration = Field(
        parse_duration("10m"),
        description="a step of a video may take this long plus 4 times the media's duration, then it fails with category `timeout`",
        json_schema_extra={"unit": "duration"},
    )


class Publish(Section):
    hosts: tuple[str, ...] = Field(("published",), description="hosts for the video, in this order")
    strategy: Literal["fallback", "all"] = Field("fallback", description="`fallback`: the first that succeeds; `all`: every one")
    preview_hosts: tuple[str, ...] = Field(("published",), description="hosts for the preview and the pictures, each of them")
    max_retries: int = Field(3, ge=0, description="failed attempts that are queued again; the next failure is final")
    retry_cap: Duration = Field(
        parse_duration("6h"), description="longest wait between attempts (2, 4, 8… minutes)", json_schema_extra={"unit": "duration"}
    )
    verify: Literal["streams", "decode"] = Field(
        "streams", description="`streams`: every packet compared; `decode`: the whole output decoded too"
    )
    breaker: int = Field(5, ge=1, description="failures in a row after which a host is skipped for the rest of a run")
    bandwidth: Size = Field(
        0,
        description="bytes a second that all uploads together may take, like 5MB; 0 = no limit",
        json_schema_extra={"unit": "size"},
    )


class PreviewSettings(Section):
    clips: int = Field(10, ge=1, le=50, description="clips in a preview")
    clip_length: float = Field(3.0, gt=0, le=60, description="seconds a clip")
    height: int = Field(480, ge=64, le=2160, description="lines of the preview; never scaled up")
    profile: Literal["balanced", "action", "talk"] = Field(
        "balanced", description="what makes a moment worth showing (docs/media.md): `balanced`, `action`, `talk`"
    )
    weights: Mapping[Literal["people", "motion", "audio", "complexity", "colour"], float] = Field(
        {}, description="numbers of your own instead of the profile's, such as `{ motion = 0.7, audio = 0.3 }`"
    )
    exclude_start: Duration = Field(0.0, description="nothing is shown from before this", json_schema_extra={"unit": "duration"})
    exclude_end: Duration = Field(0.0, description="nothing is shown from the last of it", json_schema_extra={"unit": "duration"})
    encoder_preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower"] = Field(
        "veryfast", description="x264's: slower makes the preview smaller"
    )
    crf: int = Field(23, ge=0, le=51, description="x264's quality: less is better and larger")
    animation: bool = Field(False, description="true: also an animated WebP, for a README or a mail")
    cover: Literal["jpg", "webp"] = Field("jpg", description="format of the cover picture")

    @field_validator("weights")
    @classmethod
    def _are_weights(cls, weights: Mapping[str, float]) -> Mapping[str, float]:
        if weights and (min(weights.values()) < 0 or sum(weights.values()) <= 0):
            raise ValueError("weights must not be negative, and one must be above 0")
        return weights


class Similar(Section):
    distance: int = Field(
        12, ge=0, le=24, description="bits of 64 in which the fingerprints of videos that look alike may differ (docs/media.md)"
    )
    tolerance: Duration = Field(3.0, description="by which their durations may differ", json_schema_extra={"unit": "duration"})
    action: Literal["warn", "duplicate", "ignore"] = Field(
        "warn", description="`warn`: published, with a warning; `duplicate`: not published, like a file with the same bytes"
    )


class Space(Section):
    floor: Size = Field(
        parse_size("1GB"), description="free disk that is never promised to a video", json_schema_extra={"unit": "size"}
    )
    keep_work: Duration = Field(
        parse_duration("30d"),
        description="bytes kept for a video that is not finished go after this",
        json_schema_extra={"unit": "duration"},
    )


class Git(Section):
    remote: str = Field("origin", description="remote to push to")
    branch: str = Field("", description="branch to commit to; empty = the checked-out one")
    commit: bool = Field(True, description="commit `database/` at the end of a run")
    push: bool = Field(True, description="push after the commit, where the remote exists")
    push_retries: int = Field(3, ge=0, description="tries after a failure of the network; being overtaken is not counted")
    checkpoint: Duration = Field(
        parse_duration("10m"),
        description="a long run publishes its records this often; 0s = only at its end",
        json_schema_extra={"unit": "duration"},
    )
    checkpoint_videos: int = Field(20, ge=1, description="… and after this many finished videos")
    heartbeat: Duration = Field(
        parse_duration("1d"),
        description="a run that changed nothing still commits status.json when the last commit is older; 0s = never",
        json_schema_extra={"unit": "duration"},
    )
    author_name: str = Field("", description="author of commits; empty = git's own, else the bot of GitHub Actions")
    author_email: str = Field("", description="their address; empty = git's own, else that of the bot")
    add_limit: Duration = Field(10.0, description="limit of one `git add`", json_schema_extra={"unit": "duration"})
    diff_limit: Duration = Field(5.0, description="limit of one `git diff`", json_schema_extra={"unit": "duration"})
    commit_limit: Duration = Field(10.0, description="limit of one `git commit`", json_schema_extra={"unit": "duration"})
    fetch_limit: Duration = Field(60.0, description="limit of one `git fetch`", json_schema_extra={"unit": "duration"})
    push_limit: Duration = Field(120.0, description="limit of one `git push`", json_schema_extra={"unit": "duration"})


class Actions(Section):
    keepalive: bool = Field(
        False, description="true: keep GitHub from switching the schedule off after 60 days without a commit (docs/actions.md)"
    )
    issues: bool = Field(False, description="true: an issue for each kind of failure, opened and closed by itself")


class Enrich(Section):
    sidecars: bool = Field(
        True, description="read what lies beside a source file: .nfo, .info.json, .json, .toml, and its own tags"
    )
    catalogues: tuple[str, ...] = Field(
        (), description="catalogues to ask, in this order: `tmdb`, `tvmaze`, `wikidata`, `musicbrainz`; none are asked by default"
    )
    language: str = Field("en", pattern=r"^[a-z]{2,3}(-[A-Z]{2})?$", description="language of what catalogues answer")
    contact: str = Field("", description="your address or web page, told to `wikidata` and `musicbrainz`, which demand one")
    tmdb_token_env: str = Field("TMDB_TOKEN", description="environment variable that holds TMDB's API read access token")
    min_score: float = Field(0.8, ge=0, le=1, description="how alike title, year and duration must be (docs/enrichment.md)")
    cache: Duration = Field(
        parse_duration("30d"), description="answers of catalogues are kept this long", json_schema_extra={"unit": "duration"}
    )
    tmdb_url: str = Field("https://api.themoviedb.org/3", description="address of TMDB")
    tmdb_image_url: str = Field("https://image.tmdb.org/t/p/w500", description="address of TMDB's pictures")
    tvmaze_url: str = Field("https://api.tvmaze.com", description="address of TVmaze")
    wikidata_url: str = Field("https://www.wikidata.org", description="address of Wikidata")
    musicbrainz_url: str = Field("https://musicbrainz.org/ws/2", description="address of MusicBrainz")


class Site(Section):
    """How one web site is asked, by its host name."""

    authorization_env: str = Field("", description="environment variable with the `Authorization` header that this site is sent")
    refresh_url: str = Field(
        "",
        description="asked for a fresh link where one has expired: its answer's first line; `{link}`, `{path}`: the old one's",
    )
    refresh_command: tuple[str, ...] = Field(
        (), description="the same by a program: a list, whose program finds the old link in `DAILIES_LINK` and prints the fresh one"
    )


class Sources(Section):
    allow_private: bool = Field(False, description="true lets links lead to this machine and its network")
    connections: int = Field(32, ge=1, le=256, description="connections that all fetches of a run have at once")
    max_size: Size = Field(
        parse_size("100GB"), description="bytes of one video; a link to more is refused", json_schema_extra={"unit": "size"}
    )
    max_duration: Duration = Field(
        parse_duration("12h"),
        description="a live playlist is recorded until its end or for this long; other playlists that are longer are refused",
        json_schema_extra={"unit": "duration"},
    )
    max_segments: int = Field(100_000, ge=1, description="a playlist with more segments is refused")
    max_height: int = Field(0, ge=0, description="of a playlist's variants the best with at most so many lines; 0 = the best")
    stall: Duration = Field(
        60.0,
        gt=0,
        description="a connection that brings fewer than 1,000 bytes a second for this long is cut",
        json_schema_extra={"unit": "duration"},
    )
    sites: Mapping[str, Site] = Field({}, description='`[sources.sites."media.example.org"]`: how one site is asked')


HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$")]


class Listing(BaseModel):
    """One `[listings.NAME]`: new things are looked for there; what it takes to enter a folder is checked by who opens it."""

    model_config = ConfigDict(frozen=True, extra="allow")
    feed: str = Field("", description="link of an RSS, Atom or podcast feed, or of a list as `dailies add --from` takes it")
    folder: str = Field(
        "",
        description="in place of `feed`: files of storage, like `s3://bucket/films/*.mp4`, `webdavs://server/films`, "
        "`sftp://user@server/films/**/*.mkv`, `gs://bucket/films`, `az://container/films`",
    )
    secret_env: str = Field("", description="in place of `feed`: environment variable that holds the link, where that is a secret")
    limit: int = Field(100, ge=0, description="the newest so many entries are looked at; 0 = all")
    tags: tuple[str, ...] = Field((), description="tags of what is found there")
    hosts: tuple[str, ...] = Field((), description="published to these hosts instead of those of `[publish]`")
    keep_query: bool = Field(False, description="true: links that differ behind the ? are different videos")

    @model_validator(mode="after")
    def _is_one(self) -> "Listing":
        if sum(map(bool, (self.feed, self.folder, self.secret_env))) != 1:
            raise ValueError("must have one of feed, folder and secret_env, and no other of them")
        if not self.folder and self.model_extra:
            raise ValueError(f"{next(iter(self.model_extra))}: means nothing to a feed; see docs/settings.md")
        if self.feed and not self.feed.lower().startswith(("https://", "http://")):
            raise ValueError("feed: must be a link of https or http; a list on this machine is read by `dailies add --from`")
        return self

    def fields(self) -> Mapping[str, Any]:
        return self.model_extra or {}

    def secret_names(self) -> frozenset[str]:
        named = (text for key, text in self.fields().items() if key.endswith("_env") and isinstance(text, str))
        return frozenset(filter(None, (self.secret_env, *named)))


class HostSettings(BaseModel):
    """One `[hosts.NAME]`: the adapter's own fields are checked by the adapter."""

    model_config = ConfigDict(frozen=True, extra="allow")
    adapter: str = Field(description="the kind of host")
    max_per_day: int = Field(0, ge=0, description="uploads in any 24 hours, over all machines; 0 = no limit of our own")
    min_interval: Duration = Field(
        0.0, description="from the start of one upload to the next", json_schema_extra={"unit": "duration"}
    )

    def fields(self) -> Mapping[str, Any]:
        return self.model_extra or {}


class Settings(Section):
    library: Library = Library()
    run: Run = Run()
    publish: Publish = Publish()
    preview: PreviewSettings = PreviewSettings()
    similar: Similar = Similar()
    space: Space = Space()
    git: Git = Git()
    actions: Actions = Actions()
    enrich: Enrich = Enrich()
    sources: Sources = Sources()
    listings: Mapping[HostName, Listing] = {}
    hosts: Mapping[HostName, HostSettings] = {
        "published": HostSettings.model_validate({"adapter": "storage", "path": "media/published"})
    }

    @field_validator("listings")
    @classmethod
    def _leave_the_inbox(cls, listings: Mapping[str, Listing]) -> Mapping[str, Listing]:
        if "inbox" in listings:
            raise ValueError("inbox: is the name of the folder in [library]; choose another")
        return listings


def explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """The first fault of a validation as one line: which key, what is wrong, the nearest known key."""
    faults = error.errors(include_url=False)
    fault = next((one for one in faults if one["type"] == "extra_forbidden"), faults[0])  # a typo explains a missing key
    path = [str(part) for part in fault["loc"]]
    name = ".".join(path) or "the file"
    if fault["type"] != "extra_forbidden":
        return f"{where}: {name}: {fault['msg'].removeprefix('Value error, ')}"
    for part in path[:-1]:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        inside = (one for one in (annotation, *get_args(annotation)) if isinstance(one, type) and issubclass(one, BaseModel))
        model = next(inside, model)
    told = [key for key, field in model.model_fields.items() if field.description]
    known = told or list(model.model_fields)
    return f"{where}: {name}: unknown key; the nearest known one is {nearest(path[-1], known)}"


def nearest(key: str, known: Iterable[str]) -> str:
    return difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]


def parse(text: str, where: str) -> Settings:
    """Settings of a TOML text. Raises ConfigError with one line."""
    try:
        return Settings.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: not valid TOML: {error}; correct that line") from error
    except ValidationError as error:
        raise ConfigError(explain(error, Settings, where)) from error


def load(root: Path) -> Settings:
    path = root / FILE_NAME
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; write it as UTF-8 text or run `dailies init`") from error
    return parse(text, str(path))


def find_root(start: Path) -> Path:
    """The nearest folder upwards that holds `dailies.toml`. Raises ConfigError."""
    for folder in (start, *start.parents):
        if (folder / FILE_NAME).is_file():
            return folder
    raise ConfigError(f"{start}: no {FILE_NAME} here or above; run `dailies init` to start a library, or name one with --root DIR")


def environment() -> Mapping[str, str]:
    """The one place that reads the environment."""
    return dict(os.environ)


def ffmpeg_override() -> str | None:
    return os.environ.get("DAILIES_FFMPEG") or None


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
