"""S3 and what speaks like it: parts of 8 MiB, put together only once the hash is right."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, Literal

from dailies.clock import Deadline
from dailies.errors import DailiesError, Denied, HostRefused, RateLimited, Transient
from dailies.hosts.host import Asset, Ground, Transfer
from dailies.hosts.places.address import Address
from dailies.hosts.places.coroutines import BLOCK_BYTES, OPTIONS, Caller, content_type, known_hash
from dailies.hosts.places.place import Blocks, Found, Stored, answered, library, silent, tidying

_PARTS: Final = 10_000  # of an upload (AWS, "Amazon S3 multipart upload limits")
_PART_BYTES: Final = 5 << 20  # the least that is taken: two are on their way and a third is made ready
_AT_ONCE: Final = 2
MAX_BYTES: Final = _PARTS * BLOCK_BYTES
# Codes that say more than their HTTP status (AWS, "Error responses")
_LATER: Final = frozenset(
    {
        "BadDigest",
        "IncompleteBody",
        "InvalidPart",
        "NoSuchUpload",
        "OperationAborted",
        "RequestTimeout",
        "XAmzContentSHA256Mismatch",
    }
)
_SLOWLY: Final = frozenset({"SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "RequestLimitExceeded"})
_KEYS: Final = frozenset({"AuthorizationHeaderMalformed", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"})
_NO_KEYS: Final = frozenset({"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"})


@dataclass(frozen=True)
class S3:
    """A bucket, or what is below a prefix of it. Without names of variables the machine's own way to credentials is taken."""

    address: Address
    ground: Ground = field(repr=False)
    endpoint: str
    region: str
    access_key_env: str
    secret_key_env: str
    checksum: Literal["when_supported", "when_required"]

    def probe(self, deadline: Deadline) -> None:
        """An upload that is begun and given up."""
        self._abort(self._begin(".dailies-check", {}, deadline), ".dailies-check", deadline)

    def put(self, key: str, path: Path, asset: Asset, transfer: Transfer) -> None:
        size_bytes = _PART_BYTES if asset.size_bytes <= _PARTS * _PART_BYTES else BLOCK_BYTES
        blocks = Blocks(path, asset, transfer, self.ground.http.throttle, size_bytes)
        about = {"Metadata": {"sha256": asset.sha256}, "ContentType": content_type(key)}
        if asset.size_bytes <= size_bytes:
            for block in blocks:
                self._call("put_object", key, transfer.deadline, Body=block, **about)
            return
        self._forget_others(key, transfer.deadline)
        upload = self._begin(key, about, transfer.deadline)
        is_whole = False
        try:
            parts = self._send_parts(key, upload, blocks, transfer.deadline)
            self._call("complete_multipart_upload", key, transfer.deadline, UploadId=upload, MultipartUpload={"Parts": parts})
            is_whole = True
        finally:
            if not is_whole:
                with tidying(transfer.deadline) as deadline:
                    self._abort(upload, key, deadline)

    def _send_parts(self, key: str, upload: str, blocks: Iterable[bytes], deadline: Deadline) -> list[dict[str, Any]]:
        """Two at a time: the next one is read, hashed and signed while one is on its way."""
        sent: list[dict[str, Any]] = []
        waiting: deque[futures.Future[Any]] = deque()
        try:
            for number, block in enumerate(blocks, start=1):
                if len(waiting) == _AT_ONCE:
                    sent.append(self._part(waiting.popleft(), len(sent) + 1, deadline))
                options = {**self._names(key), "UploadId": upload, "PartNumber": number, "Body": block}
                waiting.append(self._caller.begin(partial(self._caller.system._call_s3, "upload_part", **options), deadline))  # noqa: SLF001 -- how fsspec names its coroutines
            while waiting:
                sent.append(self._part(waiting.popleft(), len(sent) + 1, deadline))
        finally:
            for future in waiting:
                future.cancel()
        return sent

    def _part(self, future: "futures.Future[Any]", number: int, deadline: Deadline) -> dict[str, Any]:
        answer = self._told(lambda: self._caller.finish(future, deadline))
        return {"PartNumber": number, "ETag": _text(answer, "ETag")}

    def look(self, key: str, deadline: Deadline) -> Found | None:
        try:
            head = self._caller.call("call_s3", deadline, "head_object", **self._names(key))
        except FileNotFoundError:
            return None
        return Found(int(head["ContentLength"]), known_hash(head.get("Metadata")))

    def browse(self, pattern: str, deadline: Deadline) -> list[Stored]:
        try:
            return self._caller.browse(self.address, pattern, deadline)
        except FileNotFoundError:
            return []

    def read(self, key: str, size_bytes: int, deadline: Deadline, start: int = 0) -> Iterator[bytes]:
        try:
            yield from self._caller.read(f"{self.address.host}/{self.address.path(key)}", size_bytes, deadline, start)
        except FileNotFoundError:
            raise answered(self.address.where, 404, self.ground.http.clock, said=key) from None

    def remove(self, key: str, deadline: Deadline) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._caller.call("call_s3", deadline, "delete_object", **self._names(key))

    def _names(self, key: str) -> dict[str, str]:
        return {"Bucket": self.address.host, "Key": self.address.path(key)}

    def _begin(self, key: str, about: dict[str, Any], deadline: Deadline) -> str:
        return _text(self._call("create_multipart_upload", key, deadline, **about), "UploadId")

    def _abort(self, upload: str, key: str, deadline: Deadline) -> None:
        self._call("abort_multipart_upload", key, deadline, UploadId=upload)

    def _forget_others(self, key: str, deadline: Deadline) -> None:
        """What a process that was killed had begun for this key takes room until it is given up; not every key may list it."""
        names = self._names(key)
        with contextlib.suppress(Denied, HostRefused, Transient, FileNotFoundError):
            wanted = {"Bucket": names["Bucket"], "Prefix": names["Key"]}
            listed = self._caller.call("call_s3", deadline, "list_multipart_uploads", **wanted)
            for upload in listed.get("Uploads") or ():
                if upload.get("Key") == names["Key"]:
                    self._abort(_text(upload, "UploadId"), key, deadline)

    def _call(self, method: str, key: str, deadline: Deadline, **options: Any) -> Any:
        return self._told(lambda: self._caller.call("call_s3", deadline, method, **self._names(key), **options))

    def _told(self, ask: Callable[[], Any]) -> Any:
        """s3fs takes every 404 for a missing file."""
        try:
            return ask()
        except FileNotFoundError as error:
            code = _response(error).get("Error", {}).get("Code", "")
            if code in _LATER:
                raise self._classed(error) or error from None
            raise answered(self.address.where, 404, self.ground.http.clock, said=code) from None

    @cached_property
    def _caller(self) -> Caller:
        s3fs = library("s3fs", "s3")
        config = {
            "connect_timeout": 15,
            "read_timeout": 300,
            "retries": {"mode": "standard", "max_attempts": 2},
            "request_checksum_calculation": self.checksum,
            "response_checksum_validation": self.checksum,
        }
        system = s3fs.S3FileSystem(
            key=self.ground.secret(self.access_key_env) if self.access_key_env else None,
            secret=self.ground.secret(self.secret_key_env) if self.secret_key_env else None,
            endpoint_url=self.endpoint or None,
            client_kwargs={"region_name": self.region} if self.region else {},
            config_kwargs=config,
            **OPTIONS,
        )
        return Caller(system, self._classed)

    def _classed(self, error: BaseException) -> DailiesError | None:
        where, response = self.address.where, _response(error)
        if response:
            code = str(response.get("Error", {}).get("Code", ""))
            about = response.get("ResponseMetadata", {})
            status, headers = int(about.get("HTTPStatusCode") or 500), about.get("HTTPHeaders") or {}
            if code in _SLOWLY:
                told = answered(where, 429, self.ground.http.clock, headers=headers)
                return RateLimited(f"{where}: {code}; it is tried again when the host allows", getattr(told, "wait_s", 60.0))
            if code in _KEYS:
                return Denied(f"{where}: {code}; check the account and its keys")
            if code in _LATER or status < 400:
                return Transient(f"{where}: {code}; it is tried again later, see docs/hosts/storage.md if it stays")
            return answered(where, status, self.ground.http.clock, said=code, headers=headers)
        if type(error).__name__ in _NO_KEYS:
            return Denied(f"{where}: no credentials; set access_key_env and secret_key_env")
        errors = (OSError, library("botocore.exceptions", "s3").BotoCoreError, library("aiohttp", "s3").ClientError)
        return silent(where, error) if isinstance(error, errors) else None


def _response(error: BaseException | None) -> dict[str, Any]:
    """What the server answered, from botocore's error behind the one that s3fs raises."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return response
        error = error.__cause__
    return {}


def _text(answer: Any, name: str) -> str:
    """Raises Transient where the answer lacks it."""
    text = answer.get(name)
    if not isinstance(text, str) or not text:
        raise Transient(f"s3: an answer without {name}; it is tried again later")
    return text
