"""Authentication: verifies every request's signature, and rejects a bad one with the error of its service."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from hyperpod_ebs.emulator.http import signature
from hyperpod_ebs.emulator.http.signature import Claim, Malformed
from hyperpod_ebs.emulator.identity.identities import SigningKey
from hyperpod_ebs.emulator.wire.messages import Request
from hyperpod_ebs.emulator.wire.operations import AwsFault

SKEW: Final = timedelta(minutes=5)
"""Maximum difference between the caller's clock and this machine's."""

PRESIGNED: Final = timedelta(minutes=15)
"""How long STS accepts a presigned URL, regardless of its X-Amz-Expires (aws-iam-authenticator, token.go)."""

_AMZ: Final = "x-amz-"
"""The beginning of the names of headers that must be signed."""

_VALIDATE: Final = "AWS was not able to validate the provided access credentials"
_INVALID_TOKEN: Final = "The security token included in the request is invalid."  # noqa: S105 - a message
_EXPIRED_TOKEN: Final = "The security token included in the request is expired"  # noqa: S105 - a message
_MISMATCH: Final = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)


class SigningKeys(Protocol):
    """The access keys that exist."""

    def signing_key(self, key_id: str) -> SigningKey | None:
        """The key with this id; None if there is none or it is inactive."""
        ...

    def accepts_region(self, service: str, region: str) -> bool:
        """Whether requests to the service may be signed for the region."""
        ...


@dataclass(frozen=True, slots=True)
class ServiceError:
    """A service's error for one kind of bad signature: code, status, and a fixed message if it has one."""

    code: str
    status: int
    text: str | None = None

    def fault(self, text: str) -> AwsFault:
        """The error; its message is `text` unless the service has a fixed one."""
        return AwsFault(self.code, self.text or text, self.status)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureErrors:
    """A service's errors for bad signatures."""

    unsigned: ServiceError
    malformed: ServiceError
    unknown_key: ServiceError
    wrong_signature: ServiceError
    wrong_time: ServiceError
    wrong_region: ServiceError
    expired: ServiceError
    """The session token has expired."""


def _json_errors(status: int) -> SignatureErrors:
    return SignatureErrors(
        unsigned=ServiceError("MissingAuthenticationTokenException", status, "Missing Authentication Token"),
        malformed=ServiceError("IncompleteSignatureException", status),
        unknown_key=ServiceError("UnrecognizedClientException", status, _INVALID_TOKEN),
        wrong_signature=ServiceError("InvalidSignatureException", status, _MISMATCH),
        wrong_time=ServiceError("InvalidSignatureException", status),
        wrong_region=ServiceError("InvalidSignatureException", status),
        expired=ServiceError("ExpiredTokenException", status, _EXPIRED_TOKEN),
    )


_QUERY_ERRORS: Final = SignatureErrors(
    unsigned=ServiceError("MissingAuthenticationToken", 403, "Request is missing Authentication Token"),
    malformed=ServiceError("IncompleteSignature", 400),
    unknown_key=ServiceError("InvalidClientTokenId", 403, _INVALID_TOKEN),
    wrong_signature=ServiceError("SignatureDoesNotMatch", 403, _MISMATCH),
    wrong_time=ServiceError("SignatureDoesNotMatch", 403),
    wrong_region=ServiceError("SignatureDoesNotMatch", 403),
    expired=ServiceError("ExpiredToken", 403, _EXPIRED_TOKEN),
)
_ERRORS: Final[Mapping[str, SignatureErrors]] = {
    "ec2": SignatureErrors(
        unsigned=ServiceError("MissingParameter", 400, "The request must contain the parameter AWSAccessKeyId"),
        malformed=ServiceError("AuthFailure", 401, _VALIDATE),
        unknown_key=ServiceError("AuthFailure", 401, _VALIDATE),
        wrong_signature=ServiceError("SignatureDoesNotMatch", 403, _MISMATCH),
        wrong_time=ServiceError("RequestExpired", 400, "Request has expired."),
        wrong_region=ServiceError("AuthFailure", 401),
        expired=ServiceError("RequestExpired", 400, "Request has expired."),
    ),
    "sts": _QUERY_ERRORS,
    "iam": _QUERY_ERRORS,
    "eks": _json_errors(403),
    "eks-auth": _json_errors(403),
}
_OTHERS: Final = _json_errors(400)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The key that signed a request, and the service and region it was signed for."""

    key_id: str
    service: str
    region: str


def read_claim(request: Request) -> Claim | Malformed | None:
    """The claim in the request, or what is wrong with it; None if the request is unsigned."""
    try:
        return Claim.parse(request)
    except Malformed as error:
        return error


def unknown_key(service: str) -> AwsFault:
    """The error of a service for a key that does not exist."""
    return _errors_of(service).unknown_key.fault("")


def authenticate(
    request: Request, claim: Claim | Malformed | None, *, service: str, keys: SigningKeys, now: datetime
) -> Caller:
    """Verify the request's signature and return its caller.

    Args:
        request: The request as it was received.
        claim: What `read_claim` finds in it.
        service: The service whose errors to use for a request that is unsigned or malformed.
        keys: The keys that exist.
        now: The current time.

    Raises:
        AwsFault: The request is unsigned or malformed, its key is unknown or belongs to another region, its signature
            is wrong, or its time is too far off.
    """
    if claim is None:
        raise _errors_of(service).unsigned.fault("")
    if isinstance(claim, Malformed):
        raise _errors_of(service).malformed.fault(str(claim)) from claim
    return _verify(claim, request, keys=keys, now=now)


def _verify(claim: Claim, request: Request, *, keys: SigningKeys, now: datetime) -> Caller:
    errors = _errors_of(claim.service)
    if (key := keys.signing_key(claim.key_id)) is None or not _is_token_right(key, claim):
        raise errors.unknown_key.fault("")
    if message := _time_error(claim, now):
        raise errors.wrong_time.fault(message)
    expected = signature.expected_signature(claim, key.secret, request)
    if not _signs_required_parts(claim, request) or not _is_equal(expected, claim.signature):
        raise errors.wrong_signature.fault("")
    if not keys.accepts_region(claim.service, claim.region):
        # An endpoint of one region rejects a signature for another.
        raise errors.wrong_region.fault(f"Credential should be scoped to a valid region, not '{claim.region}'.")
    if key.expires is not None and key.expires <= now.timestamp():
        raise errors.expired.fault("")
    return Caller(key_id=claim.key_id, service=claim.service, region=claim.region)


def _is_token_right(key: SigningKey, claim: Claim) -> bool:
    """Whether the request has the session token of temporary credentials; long-term ones have none."""
    return _is_equal(key.token or "", claim.token)


def _is_equal(secret: str, received: str) -> bool:
    """Compare in a time that says nothing about the secret."""
    return hmac.compare_digest(secret.encode(), signature.sent_bytes(received))


def _errors_of(service: str) -> SignatureErrors:
    return _ERRORS.get(service, _OTHERS)


def _time_error(claim: Claim, now: datetime) -> str | None:
    """The error message about the claim's time; None if the time is near enough to `now`."""
    max_age = PRESIGNED if claim.presigned else SKEW
    if now - max_age <= claim.at <= now + SKEW:
        return None
    at, current = claim.time, f"{now:{signature.TIME_FORMAT}}"
    if claim.at < now:
        limit = f"{now - max_age:{signature.TIME_FORMAT}}"
        minutes = max_age // timedelta(minutes=1)
        return f"Signature expired: {at} is now earlier than {limit} ({current} - {minutes} min.)"
    limit = f"{now + SKEW:{signature.TIME_FORMAT}}"
    return f"Signature not yet current: {at} is still later than {limit} ({current} + 5 min.)"


def _signs_required_parts(claim: Claim, request: Request) -> bool:
    """Whether the signature covers the required headers, and its scope has the day of the request's time.

    The required headers are the host, all `x-amz-*` headers that were sent, and, unless presigned, the time.
    """
    required = {"host", *(name for name in request.headers if name.startswith(_AMZ))}
    if not claim.presigned:
        required.add("x-amz-date")
    return required <= set(claim.headers) and claim.time.startswith(f"{claim.day}T")
