"""Who calls: every request's signature verified, refused in its service's own words."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from hyperpod_ebs.emulator.http import signature
from hyperpod_ebs.emulator.http.signature import Claim
from hyperpod_ebs.emulator.wire.messages import Request
from hyperpod_ebs.emulator.wire.operations import AwsFault

SKEW: Final = timedelta(minutes=5)
"""How far a caller's clock may be off."""

PRESIGNED: Final = timedelta(minutes=15)
"""How long STS takes a presigned URL, whatever its X-Amz-Expires says (aws-iam-authenticator, token.go)."""

_VALIDATE: Final = "AWS was not able to validate the provided access credentials"
_INVALID_TOKEN: Final = "The security token included in the request is invalid."  # noqa: S105 - a message
_MISMATCH: Final = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An access key's other half, and whose it is."""

    secret: str = field(repr=False)
    account: str
    arn: str
    user_id: str
    region: str | None = None
    """The region in which there is anything of the account's; None for each."""


class Keys:
    """The access keys that exist, by their ids."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}

    def add(self, key_id: str, key: Key) -> None:
        """Let `key_id` sign from now on; a second time replaces the first."""
        self._keys[key_id] = key

    def remove(self, key_id: str) -> None:
        """Let `key_id` sign no more.

        Raises:
            KeyError: There is no such key.
        """
        del self._keys[key_id]

    def get(self, key_id: str) -> Key | None:
        """The key of this id, None if there is none."""
        return self._keys.get(key_id)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A code and status with which a service turns a caller away; `text` where it has its own."""

    code: str
    status: int
    text: str | None = None

    def fault(self, text: str) -> AwsFault:
        """The refusal, saying `text` unless the service has a text of its own."""
        return AwsFault(self.code, self.text or text, self.status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """How a service says each of the things that can be wrong with a signature."""

    none: Refusal
    malformed: Refusal
    unknown: Refusal
    wrong: Refusal
    skewed: Refusal
    elsewhere: Refusal


def _json_words(status: int) -> Words:
    return Words(
        none=Refusal("MissingAuthenticationTokenException", status, "Missing Authentication Token"),
        malformed=Refusal("IncompleteSignatureException", status),
        unknown=Refusal("UnrecognizedClientException", status, _INVALID_TOKEN),
        wrong=Refusal("InvalidSignatureException", status, _MISMATCH),
        skewed=Refusal("InvalidSignatureException", status),
        elsewhere=Refusal("InvalidSignatureException", status),
    )


_WORDS: Final[Mapping[str, Words]] = {
    "ec2": Words(
        none=Refusal("MissingParameter", 400, "The request must contain the parameter AWSAccessKeyId"),
        malformed=Refusal("AuthFailure", 401, _VALIDATE),
        unknown=Refusal("AuthFailure", 401, _VALIDATE),
        wrong=Refusal("SignatureDoesNotMatch", 403, _MISMATCH),
        skewed=Refusal("RequestExpired", 400, "Request has expired."),
        elsewhere=Refusal("AuthFailure", 401),
    ),
    "sts": Words(
        none=Refusal("MissingAuthenticationToken", 403, "Request is missing Authentication Token"),
        malformed=Refusal("IncompleteSignature", 400),
        unknown=Refusal("InvalidClientTokenId", 403, _INVALID_TOKEN),
        wrong=Refusal("SignatureDoesNotMatch", 403, _MISMATCH),
        skewed=Refusal("SignatureDoesNotMatch", 403),
        elsewhere=Refusal("SignatureDoesNotMatch", 403),
    ),
    "eks": _json_words(403),
}
_OTHERS: Final = _json_words(400)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who signed a request, and for what."""

    key: Key
    service: str
    region: str


def service_of(request: Request) -> str | None:
    """The service that `request` is signed for, None if it does not say."""
    try:
        claim = Claim.of(request)
    except signature.Malformed:
        return None
    return claim.service if claim else None


def authenticate(request: Request, *, service: str, keys: Keys, now: datetime) -> Caller:
    """Who signed `request`; `service` words the refusal of one that does not say what it is for.

    Raises:
        AwsFault: Nobody did, nobody that is known, wrongly, too long ago, or for another region.
    """
    try:
        claim = Claim.of(request)
    except signature.Malformed as error:
        raise _words(service).malformed.fault(str(error)) from error
    if claim is None:
        raise _words(service).none.fault("")
    return _verify(claim, request, keys=keys, now=now)


def _verify(claim: Claim, request: Request, *, keys: Keys, now: datetime) -> Caller:
    words = _words(claim.service)
    if (key := keys.get(claim.key_id)) is None:
        raise words.unknown.fault("")
    if late := _out_of_time(claim, now):
        raise words.skewed.fault(late)
    if not _covers_what_it_must(claim) or not _matches(claim, key, request):
        raise words.wrong.fault("")
    if key.region not in {None, claim.region}:
        # As the endpoint of one region answers who signed for another.
        raise words.elsewhere.fault(f"Credential should be scoped to a valid region, not '{claim.region}'.")
    return Caller(key=key, service=claim.service, region=claim.region)


def _words(service: str) -> Words:
    return _WORDS.get(service, _OTHERS)


def _out_of_time(claim: Claim, now: datetime) -> str | None:
    """What is wrong with the time of the claim, None when it is near enough to `now`."""
    patience = PRESIGNED if claim.presigned else SKEW
    at, present = f"{claim.at:{signature.TIME_FORMAT}}", f"{now:{signature.TIME_FORMAT}}"
    if claim.at < now - patience:
        edge = f"{now - patience:{signature.TIME_FORMAT}}"
        minutes = patience // timedelta(minutes=1)
        return f"Signature expired: {at} is now earlier than {edge} ({present} - {minutes} min.)"
    if claim.at > now + SKEW:
        edge = f"{now + SKEW:{signature.TIME_FORMAT}}"
        return f"Signature not yet current: {at} is still later than {edge} ({present} + 5 min.)"
    return None


def _covers_what_it_must(claim: Claim) -> bool:
    """Whether the host and, outside a query, the time are under the signature, and the key is of that day."""
    wanted = {"host"} if claim.presigned else {"host", "x-amz-date"}
    return wanted <= set(claim.headers) and claim.day == f"{claim.at:%Y%m%d}"


def _matches(claim: Claim, key: Key, request: Request) -> bool:
    return hmac.compare_digest(signature.expected(claim, key.secret, request).encode(), claim.signature.encode())
