"""AWS Signature Version 4: what a request claims, and the signature it should bear.

The claim stands in the Authorization header or, for a presigned URL, in the query.
Both are computed over what was sent, byte for byte (AWS General Reference,
"Create a signed AWS API request").
"""

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from hyperpod_ebs.emulator.wire.messages import Request

ALGORITHM: Final = "AWS4-HMAC-SHA256"
TIME_FORMAT: Final = "%Y%m%dT%H%M%SZ"
_HEADER: Final = re.compile(
    ALGORITHM + r"\s+Credential=(?P<credential>[^,\s]+)\s*,\s*"
    r"SignedHeaders=(?P<headers>[^,\s]+)\s*,\s*Signature=(?P<signature>[0-9a-f]{64})\s*"
)


class Malformed(Exception):  # noqa: N818 - reads as what is wrong with it
    """There is a signature, but it cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who a request says signed it, when and for what."""

    key_id: str
    day: str
    region: str
    service: str
    at: datetime
    headers: tuple[str, ...]
    """The headers that are signed, names in small letters."""
    signature: str
    presigned: bool

    @property
    def scope(self) -> str:
        """What the signing key is good for."""
        return f"{self.day}/{self.region}/{self.service}/aws4_request"

    @classmethod
    def of(cls, request: Request) -> Self | None:
        """The claim `request` makes, None if it makes none.

        Raises:
            Malformed: It makes one that cannot be read.
        """
        if header := request.headers.get("authorization"):
            return cls._in_header(header, request)
        query = dict(parse_qsl(request.query, keep_blank_values=True))
        return cls._in_query(query) if "X-Amz-Signature" in query else None

    @classmethod
    def _in_header(cls, header: str, request: Request) -> Self:
        if (match := _HEADER.fullmatch(header.strip())) is None:
            raise Malformed("authorization header is not in the form of Signature Version 4")
        return cls._read(
            credential=match["credential"],
            time=request.headers.get("x-amz-date", ""),
            headers=match["headers"],
            signature=match["signature"],
            presigned=False,
        )

    @classmethod
    def _in_query(cls, query: dict[str, str]) -> Self:
        if query.get("X-Amz-Algorithm") != ALGORITHM:
            raise Malformed(f"algorithm is {query.get('X-Amz-Algorithm')}, not {ALGORITHM}")
        return cls._read(
            credential=query.get("X-Amz-Credential", ""),
            time=query.get("X-Amz-Date", ""),
            headers=query.get("X-Amz-SignedHeaders", ""),
            signature=query["X-Amz-Signature"],
            presigned=True,
        )

    @classmethod
    def _read(cls, *, credential: str, time: str, headers: str, signature: str, presigned: bool) -> Self:
        parts = credential.split("/")
        if len(parts) != len(("key", "day", "region", "service", "end")) or parts[-1] != "aws4_request":
            raise Malformed("credential is not key/day/region/service/aws4_request")
        try:
            at = datetime.strptime(time, TIME_FORMAT).replace(tzinfo=UTC)
        except ValueError as error:
            raise Malformed(f"date {time!r} is not in the form of 20260102T030405Z") from error
        return cls(
            key_id=parts[0],
            day=parts[1],
            region=parts[2],
            service=parts[3],
            at=at,
            headers=tuple(headers.lower().split(";")),
            signature=signature,
            presigned=presigned,
        )


def expected(claim: Claim, secret: str, request: Request) -> str:
    """The signature that `request` bears if the holder of `secret` made `claim`."""
    canonical = hashlib.sha256(_bytes(_canonical(claim, request))).hexdigest()
    to_sign = f"{ALGORITHM}\n{claim.at:{TIME_FORMAT}}\n{claim.scope}\n{canonical}"
    key = f"AWS4{secret}".encode()
    for part in claim.scope.split("/"):
        key = hmac.digest(key, _bytes(part), "sha256")
    return hmac.digest(key, _bytes(to_sign), "sha256").hex()


def _bytes(text: str) -> bytes:
    """`text` as it was sent: aiohttp keeps what is no UTF-8 as lone surrogates."""
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
            # Always what came in: a header that states another digest is a signature over something else.
            hashlib.sha256(request.body).hexdigest(),
        )
    )


def _canonical_path(path: str) -> str:
    """`path` without dots and doubled slashes, escaped once more than it was sent."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    end = "/" if parts and path.endswith("/") else ""
    return quote(_bytes("/" + "/".join(parts) + end), safe="/~")


def _canonical_query(query: str) -> str:
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    escaped = ((_escaped(name), _escaped(value)) for name, _, value in pairs)
    return "&".join(f"{name}={value}" for name, value in sorted(escaped) if name != "X-Amz-Signature")


def _escaped(part: str) -> str:
    """A part of the query, escaped the one way that counts."""
    return quote(unquote_to_bytes(_bytes(part)), safe="~")
