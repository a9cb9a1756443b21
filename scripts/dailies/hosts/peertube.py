"""A PeerTube instance (docs/hosts/peertube.md)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from dailies.answer import Answer, fault
from dailies.clock import Deadline
from dailies.config import Duration, Size
from dailies.errors import ConfigError, DailiesError, Denied, HostRefused, HostSilent, OutcomeUnknown, Transient
from dailies.hosts import peertube_video as video
from dailies.hosts.answers import words
from dailies.hosts.host import Asset, Capabilities, Ground, Receipt, Standing, State, Transfer
from dailies.hosts.resumable import CHUNK_UNIT, AccessToken, Held, Protocol, finished, upload
from dailies.model import Kind

_PRIVACY: Final = {"public": 1, "unlisted": 2, "private": 3, "internal": 4}
_FAILED: Final = frozenset({7, 8, 11})  # of transcoding, of moving to other storage and back
_PUBLISHED: Final = 1
_PAGE: Final = 100
_PAGES: Final = 100
_PATIENCE_S: Final = 60.0


class PeerTube(BaseModel):
    """An account on one instance; videos are told apart by the name of the file sent."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    ground: Ground = Field(exclude=True, repr=False)
    url: str = Field(description="address of the instance, like https://tube.example")
    username_env: str = Field(description="variable with the account's name")
    password_env: str = Field(description="variable with the account's password")
    channel: str = Field("", description="name or number of the channel; empty = the account's first")
    privacy: Literal["public", "unlisted", "private", "internal"] = Field("unlisted", description="who may watch")
    category: int | None = Field(None, description="number of a category of the instance")
    licence: int | None = Field(None, description="number of a licence of the instance")
    language: str | None = Field(None, description="language of the videos, like en")
    nsfw: bool = Field(False, description="sensitive content")
    wait_transcoding: bool = Field(True, description="publish only once the instance has made its own files")
    download: bool = Field(True, description="let people download the videos")
    settle: Duration = Field(
        30.0, description="so long after an upload its listing may lack it", json_schema_extra={"unit": "duration"}
    )
    chunk_size: Size = Field(
        64 * 1024 * 1024, multiple_of=CHUNK_UNIT, description="bytes of one request, a multiple of 256 KiB; 0 = all in one"
    )
    _token: AccessToken = PrivateAttr()

    def model_post_init(self, _context: Any) -> None:
        self._token = AccessToken(self._access)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(overwrites=False, kinds=frozenset({Kind.VIDEO}), is_resumable=True, settle_s=self.settle)

    def preflight(self, deadline: Deadline) -> str:
        return f"{self._base}: uploads to the channel {self._channel(deadline)[1]}"

    def upload(self, path: Path, asset: Asset, transfer: Transfer) -> Receipt:
        return upload(self._protocol(asset), path, asset, transfer)

    def find(self, asset: Asset, transfer: Transfer) -> Receipt | None:
        said = finished(self._protocol(asset), asset, transfer)
        if isinstance(said, Held):
            return None  # before this session was begun there was none, and it is not done
        return said or self._listed(asset, transfer.deadline)

    def check(self, asset: Asset, remote_id: str, deadline: Deadline) -> Standing:  # noqa: ARG002 -- the id says all
        answer = self._ask("GET", f"/videos/{quote(remote_id, safe='')}", deadline, also=(404,))
        if answer.status == 404:
            return Standing(State.MISSING)
        state = video.part(video.json_object(answer), "state")
        number = state.get("id")
        if not isinstance(number, int):
            raise Transient(f"peertube: {remote_id}: says nothing of its state; it is asked again later")
        if number in _FAILED:
            return Standing(State.FAILED, words(str(state.get("label") or f"state {number}")))
        return Standing(State.READY if number == _PUBLISHED else State.PROCESSING)

    def delete(self, remote_id: str, deadline: Deadline) -> None:
        self._ask("DELETE", f"/videos/{quote(remote_id, safe='')}", deadline, also=(404,))

    def fetch(self, asset: Asset, remote_id: str, target: Path, deadline: Deadline) -> None:  # noqa: ARG002
        raise ConfigError(f"peertube: {remote_id}: gives back what it made, not what it was sent; keep the file elsewhere too")

    def sweep_folders(self) -> tuple[Path, ...]:
        return ()

    # Conversations

    @property
    def _base(self) -> str:
        return self.url.rstrip("/")

    def _protocol(self, asset: Asset) -> Protocol:
        return Protocol(
            name="peertube",
            http=self.ground.http,
            base_url=self.url,
            token=self._token,
            create=lambda deadline: self._create(asset, deadline),
            read=self._receipt,
            refusal=lambda answer: self._refusal(answer, is_of_session=True),
            find=lambda deadline: self._listed(asset, deadline),
            chunk_bytes=self.chunk_size,
            settle_s=self.settle,
        )

    def _create(self, asset: Asset, deadline: Deadline) -> Answer:
        """201, or 200 for one that has bytes already: the instance names sessions by user, name, size and lastModified."""
        content = {
            **video.described(asset),
            "channelId": self._channel(deadline)[0],
            "filename": asset.marked_name,
            "lastModified": int(asset.sha256[:12], 16),  # of these bytes, so that a session that we forgot is met again
            "privacy": _PRIVACY[self.privacy],
            "nsfw": self.nsfw,
            "waitTranscoding": self.wait_transcoding,
            "downloadEnabled": self.download,
            **{key: value for key in ("category", "licence", "language") if (value := getattr(self, key)) is not None},
        }
        headers = {"X-Upload-Content-Length": str(asset.size_bytes), "X-Upload-Content-Type": "video/mp4"}
        return self._ask("POST", "/videos/upload-resumable", deadline, headers=headers, content=content)

    def _channel(self, deadline: Deadline) -> tuple[int, str]:
        """(number, name). Raises ConfigError for one that the account has not got."""
        channels = video.objects(video.json_object(self._ask("GET", "/users/me", deadline)), "videoChannels")
        named = [(one["id"], str(one.get("name", ""))) for one in channels if isinstance(one.get("id"), int)]
        found = [one for one in named if not self.channel or self.channel in {str(one[0]), one[1]}]
        if not found:
            known = words(", ".join(name for _, name in named)) if named else "none"
            raise ConfigError(f"peertube: channel {self.channel!r} is not this account's; known: {known}")
        return found[0]

    def _listed(self, asset: Asset, deadline: Deadline) -> Receipt | None:
        """Through the account's videos, newest first; of those as long as this one the name of the file sent is asked."""
        for one in self._videos(deadline):
            if not video.is_as_long(one, asset):
                continue
            answer = self._ask("GET", f"/videos/{quote(str(one.get('uuid')), safe='')}/source", deadline, also=(404,))
            source = {} if answer.status == 404 else video.json_object(answer)
            if not video.file_name(source):
                self._doubt(one, asset)
            elif video.is_source_of(source, asset):
                return self._receipt_of(one)
        return None

    def _doubt(self, one: Mapping[str, Any], asset: Asset) -> None:
        """Instances before 6.1, lives and imports tell no file name. Raises HostSilent where the rest speaks for this video."""
        if asset.duration_s is not None or one.get("name") == video.described(asset)["name"]:
            url = self._receipt_of(one).watch_url
            raise HostSilent(f"peertube: {asset.video_id}: may be {url}, whose file name the instance does not tell; look there")

    def _videos(self, deadline: Deadline) -> Iterator[Mapping[str, Any]]:
        """All of the account. Raises HostSilent where there are more than are looked through."""
        for page in range(_PAGES):
            params = {"start": str(page * _PAGE), "count": str(_PAGE), "sort": "-createdAt"}
            listing = video.json_object(self._ask("GET", "/users/me/videos", deadline, params=params))
            videos, total = video.objects(listing, "data"), listing.get("total")
            if not isinstance(total, int):
                raise Transient("peertube: says not how many videos there are; it is asked again later")
            yield from videos
            if not videos or (page + 1) * _PAGE >= total:
                return
        raise HostSilent(
            f"peertube: this account has more than {_PAGES * _PAGE} videos, of which no more were looked at; look yourself"
        )

    def _ask(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content: Any = None,
        also: tuple[int, ...] = (),
    ) -> Answer:
        """Once more with a new access token where the old one is taken no more, and behind its limit of calls (50 in 10 s)."""
        clock = self.ground.http.clock
        for _ in range(3):
            answer = self.ground.http.call(
                method,
                f"{self._base}/api/v1{path}",
                deadline,
                params=params,
                headers={**self._token.headers(deadline), **(headers or {})},
                content=content,
                accept=range(400, 500),
                repeats=True,
            )
            wait = answer.retry_after_s(clock) or 0.0
            if answer.status == 401:
                self._token.drop()
            elif answer.status == 429 and wait <= min(_PATIENCE_S, deadline.remaining()):
                deadline.pause(wait)
            else:
                break
        if answer.status < 300 or answer.status in also:
            return answer
        raise self._refusal(answer)

    def _access(self, deadline: Deadline) -> tuple[str, float]:
        """(access token, seconds) by name and password. Raises Denied where they are not taken, or not enough."""
        client = video.json_object(self.ground.http.call("GET", f"{self._base}/api/v1/oauth-clients/local", deadline))
        form = {
            "client_id": str(client.get("client_id", "")),
            "client_secret": str(client.get("client_secret", "")),
            "grant_type": "password",
            "username": self.ground.secret(self.username_env),
            "password": self.ground.secret(self.password_env),
        }
        url = f"{self._base}/api/v1/users/token"
        answer = self.ground.http.call("POST", url, deadline, form=form, accept={400, 401, 403}, repeats=True)
        told = video.json_object(answer) if answer.status < 300 else video.error(answer)
        if answer.status >= 400:
            if told.get("code") == "missing_two_factor":
                raise Denied("peertube: the account asks for a second factor, which nobody is there to type; use one without")
            why = words(str(told.get("code") or told.get("detail") or ""))
            raise Denied(f"peertube: HTTP {answer.status}: {why}; check {self.username_env} and {self.password_env}")
        token, good_s = told.get("access_token"), told.get("expires_in")
        if not isinstance(token, str) or not token or not str(good_s).isdigit():
            raise Transient("peertube: answered no access token; it is asked again later")
        return token, float(str(good_s))

    def _refusal(self, answer: Answer, *, is_of_session: bool = False) -> DailiesError:
        """RFC 7807: `code` and `detail`."""
        told = video.error(answer)
        code, detail = told.get("code"), told.get("detail") or told.get("error")
        said = (
            f"peertube: HTTP {answer.status}{f' {words(str(code))}' if code else ''}{f': {words(str(detail))}' if detail else ''}"
        )
        if answer.status == 413 and not told:
            return HostRefused(f"{said}: a server before the instance takes no request so large; set chunk_size lower")
        if answer.status == 403 and is_of_session:
            return HostRefused(f"{said}; the instance's filter does not let it in")
        if told and answer.status in {400, 413, 415, 422}:
            return HostRefused(f"{said}; the instance will not take this")
        return fault(answer, self.ground.http.clock)

    def _receipt(self, answer: Answer) -> Receipt:
        """Of what ends a session. Raises OutcomeUnknown or Transient for what is none."""
        one = video.part(video.json_object(answer), "video")
        if not isinstance(one.get("uuid"), str) or not one["uuid"]:
            trouble = OutcomeUnknown if answer.is_of_body else Transient
            raise trouble(f"peertube: HTTP {answer.status} names no video; it is asked again")
        return self._receipt_of(one)

    def _receipt_of(self, one: Mapping[str, Any]) -> Receipt:
        uuid = str(one.get("uuid"))
        short = quote(str(one.get("shortUUID") or uuid), safe="")
        watch, embed = f"{self._base}/w/{short}", f"{self._base}/videos/embed/{short}"
        return Receipt(remote_id=uuid, watch_url=watch, embed_url=embed, is_settled=False)
