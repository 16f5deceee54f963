"""AWS Signature Version 4: the claim in a request, and the signature that the request should have.

The claim is in the Authorization header or, for a presigned URL, in the query. The signature
covers the request as it was sent, byte for byte (IAM User Guide, "Create a signed AWS API
request").
"""

import functools
import hashlib
import hmac
import re
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Self
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from hyperpod_ebs.emulator.wire.messages import Request

ALGORITHM: Final = "AWS4-HMAC-SHA256"
TIME_FORMAT: Final = "%Y%m%dT%H%M%SZ"
MAX_CREDENTIAL: Final = 256
"""Characters of a key id and a scope; signing keys are kept by scope."""

_TIME: Final = re.compile("[0-9]{8}T[0-9]{6}Z")
_HEADER: Final = re.compile(
    ALGORITHM + r"\s+Credential=(?P<credential>[^,\s]+)\s*,\s*"
    r"SignedHeaders=(?P<headers>[^,\s]+)\s*,\s*Signature=(?P<signature>[0-9a-f]{64})\s*"
)


class Malformed(Exception):  # noqa: N818 - named for what is wrong
    """The request has a signature that cannot be parsed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The signer, time and scope that a request claims."""

    key_id: str
    day: str
    region: str
    service: str
    at: datetime
    time: str
    """The time as the caller wrote it: 20260102T030405Z."""

    headers: tuple[str, ...]
    """The names of the signed headers, in lower case."""

    signature: str
    presigned: bool
    token: str = field(default="", repr=False)
    """The session token; empty without one."""

    @property
    def scope(self) -> str:
        """The scope of the signing key."""
        return f"{self.day}/{self.region}/{self.service}/aws4_request"

    @classmethod
    def parse(cls, request: Request) -> Self | None:
        """Parse the request's claim; None if the request is not signed.

        Raises:
            Malformed: The claim cannot be parsed.
        """
        if header := request.headers.get("authorization"):
            return cls._parse_header(header, request)
        query = dict(parse_qsl(request.query, keep_blank_values=True))
        return cls._parse_query(query) if "X-Amz-Signature" in query else None

    @classmethod
    def _parse_header(cls, header: str, request: Request) -> Self:
        if (match := _HEADER.fullmatch(header.strip())) is None:
            raise Malformed("authorization header is not in the form of Signature Version 4")
        return cls._parse_fields(
            credential=match["credential"],
            time=request.headers.get("x-amz-date", ""),
            headers=match["headers"],
            signature=match["signature"],
            presigned=False,
            token=request.headers.get("x-amz-security-token", ""),
        )

    @classmethod
    def _parse_query(cls, query: dict[str, str]) -> Self:
        if query.get("X-Amz-Algorithm") != ALGORITHM:
            raise Malformed(f"algorithm is {query.get('X-Amz-Algorithm')}, not {ALGORITHM}")
        return cls._parse_fields(
            credential=query.get("X-Amz-Credential", ""),
            time=query.get("X-Amz-Date", ""),
            headers=query.get("X-Amz-SignedHeaders", ""),
            signature=query["X-Amz-Signature"],
            presigned=True,
            token=query.get("X-Amz-Security-Token", ""),
        )

    @classmethod
    def _parse_fields(  # noqa: PLR0913 - the fields of a claim
        cls, *, credential: str, time: str, headers: str, signature: str, presigned: bool, token: str
    ) -> Self:
        if len(credential) > MAX_CREDENTIAL:
            raise Malformed(f"credential has more than {MAX_CREDENTIAL} characters")
        parts = credential.split("/")
        if len(parts) != len(("key", "day", "region", "service", "end")) or parts[-1] != "aws4_request":
            raise Malformed("credential is not key/day/region/service/aws4_request")
        return cls(
            key_id=parts[0],
            day=parts[1],
            region=parts[2],
            service=parts[3],
            at=_moment(time),
            time=time,
            headers=tuple(headers.lower().split(";")),
            signature=signature,
            presigned=presigned,
            token=token,
        )


def expected_signature(claim: Claim, secret: str, request: Request) -> str:
    """The signature of `request` if it was signed with `secret`."""
    canonical = hashlib.sha256(sent_bytes(_canonical(claim, request))).hexdigest()
    to_sign = f"{ALGORITHM}\n{claim.time}\n{claim.scope}\n{canonical}"
    return hmac.digest(_signing_key(secret, claim.scope), sent_bytes(to_sign), "sha256").hex()


@functools.lru_cache(maxsize=256)
def _signing_key(secret: str, scope: str) -> bytes:
    """The key that signs all requests of a day, a region and a service."""
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, sent_bytes(part), "sha256")
    return key


def _moment(text: str) -> datetime:
    """The time in the form of Signature Version 4.

    Raises:
        Malformed: The text has another form.
    """
    if _TIME.fullmatch(text):
        with suppress(ValueError):  # such as February 30
            return datetime.fromisoformat(text)
    raise Malformed(f"date {text!r} is not in the form of 20260102T030405Z")


def sent_bytes(text: str) -> bytes:
    """The bytes that were sent as `text`: aiohttp represents bytes that are not UTF-8 as lone surrogates."""
    return text.encode(errors="surrogateescape")


def _canonical(claim: Claim, request: Request) -> str:
    return "\n".join(
        (
            request.method,
            _canonical_path(request.path),
            _canonical_query(request.query),
            *(f"{name}:{' '.join(request.headers.get(name, '').split())}" for name in claim.headers),
            "",
            ";".join(claim.headers),
            # The digest of the received body: x-amz-content-sha256 could state the digest of another body.
            hashlib.sha256(request.body).hexdigest(),
        )
    )


def _canonical_path(path: str) -> str:
    """The path without dot segments and double slashes, escaped a second time."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    end = "/" if parts and path.endswith("/") else ""
    return quote(sent_bytes("/" + "/".join(parts) + end), safe="/~")


def _canonical_query(query: str) -> str:
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    escaped = ((_canonical_part(name), _canonical_part(value)) for name, _, value in pairs)
    return "&".join(f"{name}={value}" for name, value in sorted(escaped) if name != "X-Amz-Signature")


def _canonical_part(part: str) -> str:
    """A name or value of the query in its canonical escaping."""
    return quote(unquote_to_bytes(sent_bytes(part)), safe="~")
