"""S3 and what speaks like it: parts of 8 MiB, put together only once the hash is right."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

from dailies.clock import Deadline
from dailies.errors import DailiesError, Denied, HostRefused, RateLimited, Transient
from dailies.hosts.host import Asset, Ground, Transfer
from dailies.hosts.places.address import Address
from dailies.hosts.places.coroutines import BLOCK_BYTES, OPTIONS, Caller, content_type, known_hash
from dailies.hosts.places.place import Blocks, Found, answered, library, silent, tidying

MAX_BYTES: Final = 10_000 * BLOCK_BYTES  # parts of an upload (AWS, "Amazon S3 multipart upload limits")
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
        blocks = Blocks(path, asset, transfer, self.ground.http.throttle, BLOCK_BYTES)
        about = {"Metadata": {"sha256": asset.sha256}, "ContentType": content_type(key)}
        if asset.size_bytes <= BLOCK_BYTES:
            for block in blocks:
                self._call("put_object", key, transfer.deadline, Body=block, **about)
            return
        self._forget_others(key, transfer.deadline)
        upload = self._begin(key, about, transfer.deadline)
        is_whole = False
        try:
            parts = []
            for number, block in enumerate(blocks, start=1):
                part = self._call("upload_part", key, transfer.deadline, UploadId=upload, PartNumber=number, Body=block)
                parts.append({"PartNumber": number, "ETag": _text(part, "ETag")})
            self._call("complete_multipart_upload", key, transfer.deadline, UploadId=upload, MultipartUpload={"Parts": parts})
            is_whole = True
        finally:
            if not is_whole:
                with tidying(transfer.deadline) as deadline:
                    self._abort(upload, key, deadline)

    def look(self, key: str, deadline: Deadline) -> Found | None:
        try:
            head = self._caller.call("call_s3", deadline, "head_object", **self._names(key))
        except FileNotFoundError:
            return None
        return Found(int(head["ContentLength"]), known_hash(head.get("Metadata")))

    def read(self, key: str, size_bytes: int, deadline: Deadline) -> Iterator[bytes]:
        try:
            yield from self._caller.read(f"{self.address.host}/{self.address.path(key)}", size_bytes, deadline)
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
        try:
            return self._caller.call("call_s3", deadline, method, **self._names(key), **options)
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
