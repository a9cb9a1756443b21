"""YouTube by its Data API v3 (docs/hosts/youtube.md)."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from dailies.answer import Answer, fault
from dailies.clock import Clock, Deadline
from dailies.config import Duration, Size
from dailies.errors import ConfigError, DailiesError, Denied, HostRefused, HostSilent, RateLimited, Transient
from dailies.hosts import youtube_video as video
from dailies.hosts.host import Asset, Capabilities, Ground, Receipt, Standing, State, Transfer
from dailies.hosts.resumable import CHUNK_UNIT, AccessToken, Held, Protocol, finished, upload
from dailies.model import Kind
from dailies.redact import plain

_MAX_BYTES: Final = 256 * 10**9
_PAGE: Final = 50
_UNTIL_RESET: Final = frozenset(
    {"quotaExceeded", "dailyLimitExceeded", "uploadLimitExceeded", "rateLimitExceeded", "userRateLimitExceeded"}
)
_NARROW: Final = frozenset({"insufficientPermissions", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"})


class _TooNarrow(Denied):
    """The refresh token was given for uploads only."""


class YouTube(BaseModel):
    """A channel of the person's own; videos are told apart by a tag and by the name of the file sent."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    ground: Ground = Field(exclude=True, repr=False)
    client_id_env: str = Field(description="variable with the OAuth client's id")
    client_secret_env: str = Field(description="variable with the OAuth client's secret")
    refresh_token_env: str = Field(description="variable with the refresh token of the channel's owner")
    privacy: Literal["private", "unlisted", "public"] = Field("private", description="who may watch")
    category_id: str = Field("22", pattern=r"^\d+$", description="YouTube's number of a category; 22 is People & Blogs")
    made_for_kids: bool = Field(False, description="what is declared of every video")
    notify_subscribers: bool = Field(False, description="tell subscribers of each new video")
    description: str = Field("{description}", description="{title}, {description} and {release_date} are filled in")
    search_pages: int = Field(100, ge=1, description="pages of 50 uploads that are looked through for a video, newest first")
    settle: Duration = Field(
        60.0, description="so long after an upload its listing may lack it", json_schema_extra={"unit": "duration"}
    )
    chunk_size: Size = Field(
        0, ge=0, multiple_of=CHUNK_UNIT, description="bytes of one request, a multiple of 256 KiB; 0 = all that is left in one"
    )
    api_url: str = Field("https://www.googleapis.com", description="address of the API")
    token_url: str = Field("https://oauth2.googleapis.com/token", description="address that gives access tokens")
    _token: AccessToken = PrivateAttr()

    def model_post_init(self, _context: Any) -> None:
        self._token = AccessToken(self._access)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            overwrites=False, kinds=frozenset({Kind.VIDEO}), max_bytes=_MAX_BYTES, is_resumable=True, settle_s=self.settle
        )

    def preflight(self, deadline: Deadline) -> str:
        try:
            channel = video.items(self._get("channels", deadline, part="snippet", mine="true"))
        except _TooNarrow:
            return "youtube: may upload, but not look: lost answers cannot be settled; give the token the scope youtube.force-ssl"
        if not channel:
            raise Denied("youtube: this account has no channel; create one")
        return f"youtube: uploads to the channel {plain(str(video.part(channel[0], 'snippet').get('title', '?')))}"

    def upload(self, path: Path, asset: Asset, transfer: Transfer) -> Receipt:
        return upload(self._protocol(asset), path, asset, transfer)

    def find(self, asset: Asset, transfer: Transfer) -> Receipt | None:
        said = finished(self._protocol(asset), asset, transfer)
        if isinstance(said, Held):
            return None  # before this session was begun there was none, and it is not done
        return said or self._listed(asset, transfer.deadline)

    def check(self, asset: Asset, remote_id: str, deadline: Deadline) -> Standing:  # noqa: ARG002 -- the id says all
        videos = video.items(self._get("videos", deadline, part="status,processingDetails", id=remote_id))
        if not videos:
            return Standing(State.MISSING)
        return video.standing(videos[0])

    def delete(self, remote_id: str, deadline: Deadline) -> None:
        self._ask("DELETE", "/youtube/v3/videos", deadline, {"id": remote_id}, also=(404,))

    def fetch(self, asset: Asset, remote_id: str, target: Path, deadline: Deadline) -> None:  # noqa: ARG002
        raise ConfigError(f"youtube: {remote_id}: gives no files back; keep the file elsewhere too")

    def sweep_folders(self) -> tuple[Path, ...]:
        return ()

    # Conversations

    def _protocol(self, asset: Asset) -> Protocol:
        return Protocol(
            name="youtube",
            http=self.ground.http,
            base_url=self.api_url,
            token=self._token,
            create=lambda deadline: self._create(asset, deadline),
            read=video.receipt,
            refusal=self._refusal,
            find=lambda deadline: self._listed(asset, deadline),
            trusts=lambda host: host.endswith(".googleapis.com"),
            new_status=200,
            chunk_bytes=self.chunk_size,
            settle_s=self.settle,
        )

    def _create(self, asset: Asset, deadline: Deadline) -> Answer:
        """A session that never gets its bytes becomes no video, so this may be repeated."""
        headers = {
            "X-Upload-Content-Length": str(asset.size_bytes),
            "X-Upload-Content-Type": "video/mp4",
            # undocumented; becomes fileDetails.fileName (github.com/porjo/youtubeuploader/pull/139)
            "Slug": quote(asset.marked_name, safe=" []"),
        }
        params = {
            "uploadType": "resumable",
            "part": "snippet,status",
            "notifySubscribers": str(self.notify_subscribers).lower(),
        }
        content = {
            "snippet": video.snippet(asset, self.description, self.category_id),
            "status": {"privacyStatus": self.privacy, "selfDeclaredMadeForKids": self.made_for_kids},
        }
        return self._ask("POST", "/upload/youtube/v3/videos", deadline, params, headers=headers, content=content)

    def _listed(self, asset: Asset, deadline: Deadline) -> Receipt | None:
        """Through the channel's uploads: 2 units of quota for 50 videos. Raises HostSilent where it may not look, or not so far."""
        try:
            for videos in self._uploads(deadline):
                for one in videos:
                    if video.is_of(one, asset):
                        return video.receipt_of(one)
        except _TooNarrow as error:
            raise HostSilent(
                f"youtube: {asset.video_id}: whether it is there cannot be known: the token is for uploads only; "
                "look at the channel, and give the token the scope youtube.force-ssl"
            ) from error
        return None

    def _uploads(self, deadline: Deadline) -> Iterator[list[Mapping[str, Any]]]:
        """The channel's videos, page by page, newest first."""
        channels = video.items(self._get("channels", deadline, part="contentDetails", mine="true"))
        if not channels:
            raise Denied("youtube: this account has no channel; create one")
        playlist = video.part(video.part(channels[0], "contentDetails"), "relatedPlaylists").get("uploads")
        if not isinstance(playlist, str) or not playlist:
            raise Transient("youtube: names no list of this channel's uploads; it is asked again later")
        page: dict[str, str] = {}
        for _ in range(self.search_pages):
            found = self._get(
                "playlistItems", deadline, part="contentDetails", playlistId=playlist, maxResults=str(_PAGE), also=(404,), **page
            )
            if found is None:
                return  # a channel without any upload has no such list yet
            ids = [str(video.part(item, "contentDetails").get("videoId", "")) for item in video.items(found)]
            if ids:
                yield video.items(self._get("videos", deadline, part="snippet,fileDetails,status", id=",".join(ids)))
            after = found.get("nextPageToken")
            if not after:
                return
            page = {"pageToken": str(after)}
        raise HostSilent(
            f"youtube: this channel has more than {self.search_pages * _PAGE} uploads, of which no more were looked at; "
            "set search_pages higher, or look yourself"
        )

    def _get(self, what: str, deadline: Deadline, also: tuple[int, ...] = (), **params: str) -> Any:
        """A JSON object; None for a status in `also`."""
        answer = self._ask("GET", f"/youtube/v3/{what}", deadline, params, also=also)
        content = None if answer.status in also else answer.json()
        if answer.status not in also and not isinstance(content, dict):
            raise Transient(f"youtube: {what}: answered no object; it is asked again later")
        return content

    def _ask(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        params: Mapping[str, str],
        *,
        headers: Mapping[str, str] | None = None,
        content: Any = None,
        also: tuple[int, ...] = (),
    ) -> Answer:
        """With an access token, and once more with a new one where it is taken no more."""
        for _ in range(2):
            answer = self.ground.http.call(
                method,
                f"{self.api_url.rstrip('/')}{path}",
                deadline,
                params=params,
                headers={**self._token.headers(deadline), **(headers or {})},
                content=content,
                accept=range(400, 500),
                repeats=True,
            )
            if answer.status != 401:
                break
            self._token.drop()
        if answer.status < 300 or answer.status in also:
            return answer
        raise self._refusal(answer)

    def _access(self, deadline: Deadline) -> tuple[str, float]:
        """(access token, seconds). Raises Denied where the refresh token is dead."""
        form = {
            "grant_type": "refresh_token",
            "client_id": self.ground.secret(self.client_id_env),
            "client_secret": self.ground.secret(self.client_secret_env),
            "refresh_token": self.ground.secret(self.refresh_token_env),
        }
        answer = self.ground.http.call("POST", self.token_url, deadline, form=form, accept={400, 401, 403}, repeats=True)
        told = answer.json()
        content: Mapping[str, Any] = told if isinstance(told, dict) else {}
        if answer.status >= 400:
            why = plain(str(content.get("error", "no reason")))[:80]
            raise Denied(
                f"youtube: HTTP {answer.status}: {why}: no access token; make a new refresh token of an app that is "
                f"in production, set {self.refresh_token_env}, and check {self.client_id_env} and {self.client_secret_env}"
            )
        token, good_s = content.get("access_token"), content.get("expires_in")
        if not isinstance(token, str) or not token or not str(good_s).isdigit():
            raise Transient("youtube: answered no access token; it is asked again later")
        return token, float(str(good_s))

    def _refusal(self, answer: Answer) -> DailiesError:
        """Google's errors by their reason."""
        reason, message = video.why(answer)
        said = f"youtube: HTTP {answer.status}{f' {reason}' if reason else ''}{f': {message}' if message else ''}"
        clock = self.ground.http.clock
        if reason in _UNTIL_RESET:
            wait = 60.0 if "per minute" in message else until_reset_s(clock)
            return RateLimited(f"{said}; it goes on when the quota is reset", answer.retry_after_s(clock) or wait)
        if reason in _NARROW:
            return _TooNarrow(f"{said}; give the token the scope youtube.force-ssl")
        if answer.status in {401, 403} or reason in {"youtubeSignupRequired", "accessNotConfigured"}:
            return Denied(f"{said}; check the account, the project and the token's scopes")
        if reason and answer.status in {400, 413, 415, 422}:
            return HostRefused(f"{said}; change what is sent")
        return fault(answer, clock)


def until_reset_s(clock: Clock) -> float:
    """Seconds until the quota is reset at midnight, Pacific time; a day where this machine does not know that zone."""
    try:
        pacific = ZoneInfo("America/Los_Angeles")
    except ZoneInfoNotFoundError:
        return 86_400.0
    now = clock.now()
    midnight = datetime.combine(now.astimezone(pacific).date() + timedelta(days=1), time(), pacific)
    return (midnight.astimezone(UTC) - now).total_seconds() + 60
