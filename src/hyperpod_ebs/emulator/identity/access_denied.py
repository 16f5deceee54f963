"""The errors with which each AWS service denies a call, and EC2's encoded messages.

The messages follow the IAM User Guide, "Troubleshoot access denied error messages". EC2
puts a sentence before the message, and after it an encoded message, which
sts:DecodeAuthorizationMessage opens.
"""

import json
import secrets
import zlib
from collections.abc import Mapping
from typing import Any, Final, assert_never

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hyperpod_ebs.emulator.wire.operations import AwsFault
from hyperpod_ebs.iam.decision import Allowed, Decision, DeniedExplicitly, DeniedImplicitly
from hyperpod_ebs.iam.request import Request
from hyperpod_ebs.iam.statements import Statement
from hyperpod_ebs.kit import base64url

_NONCE: Final = 12
_CIPHER: Final = AESGCM(AESGCM.generate_key(256))
"""Encrypts messages, which show more than every denied caller may know; they cannot be opened after a restart."""


class NotEncodedHere(ValueError):  # noqa: N818 - named for what is wrong
    """The text is not an encoded message of this emulator."""


def access_denied(service: str, request: Request, decision: Decision) -> AwsFault:
    """The error with which a service refuses a request that the decision denies."""
    where = "" if request.resource == "*" else f" on resource: {request.resource}"
    who = f"User: {request.principal.arn} is not authorized to perform: {request.action}"
    reason = f"{who}{where} {_reason(request, decision)}"
    match service:
        case "ec2":
            encoded = f". Encoded authorization failure message: {encode(request, decision)}" if where else ""
            text = f"You are not authorized to perform this operation. {reason}{encoded}"
            return AwsFault("UnauthorizedOperation", text, 403)
        case "sagemaker" | "kms" | "cloudtrail":
            return AwsFault("AccessDeniedException", reason, 400)
        case "sts" | "iam":
            return AwsFault("AccessDenied", reason, 403)
        case _:
            return AwsFault("AccessDeniedException", reason, 403)


def encode(request: Request, decision: Decision) -> str:
    """The decision as an encoded message."""
    document = json.dumps(_document(request, decision), separators=(",", ":"))
    nonce = secrets.token_bytes(_NONCE)
    return base64url.encode(nonce + _CIPHER.encrypt(nonce, zlib.compress(document.encode()), None))


def decode(message: str) -> str:
    """The JSON document in an encoded message.

    Raises:
        NotEncodedHere: The message has another origin.
    """
    try:
        content = base64url.decode(message)
        return zlib.decompress(_CIPHER.decrypt(content[:_NONCE], content[_NONCE:], None)).decode()
    except (ValueError, InvalidTag) as error:
        raise NotEncodedHere from error


def _reason(request: Request, decision: Decision) -> str:
    match decision:
        case DeniedExplicitly(rule=rule):
            return f"with an explicit deny in {_article(rule.source.value)}"
        case DeniedImplicitly(source=source):
            return f"because no {source.value} allows the {request.action} action"
        case Allowed():
            raise ValueError("the request is allowed")
        case _:
            assert_never(decision)


def _article(source: str) -> str:
    return f"an {source}" if source[0] in "aeiou" else f"a {source}"


def _document(request: Request, decision: Decision) -> Mapping[str, Any]:  # Any: JSON
    """The document that DecodeAuthorizationMessage returns (STS API reference)."""
    is_explicit = isinstance(decision, DeniedExplicitly)
    matched = [_statement(decision.rule.statement)] if isinstance(decision, DeniedExplicitly) else []
    conditions = [
        {"key": key, "values": {"items": [{"value": value} for value in values]}}
        for key, values in request.context.items()
    ]
    return {
        "allowed": False,
        "explicitDeny": is_explicit,
        "matchedStatements": {"items": matched},
        "failures": {"items": []},
        "context": {
            "principal": {"id": request.principal.unique_id, "arn": request.principal.arn},
            "action": request.action,
            "resource": request.resource,
            "conditions": {"items": conditions},
        },
    }


def _statement(statement: Statement) -> Mapping[str, Any]:  # Any: JSON
    return {"statementId": statement.sid, "effect": statement.effect.value.upper(), "statementIndex": statement.index}
