"""What AWS says to a caller whom no policy allows an operation, service by service.

The forms are IAM's, "Troubleshoot access denied error messages"; EC2 puts a sentence
before it and a message after it that only sts:DecodeAuthorizationMessage reads.
"""

import secrets
from collections.abc import Mapping
from typing import Final

from hyperpod_ebs.emulator.wire.operations import Asked, AwsFault, Call

_BLOB: Final = 300
"""Bytes of the encoded message; EC2's is some hundreds long."""

_EC2: Final[Mapping[str, str]] = {
    "VolumeId": "volume",
    "SnapshotId": "snapshot",
    "InstanceId": "instance",
}
"""Members with an id, and the kind of resource that it is one of; the first that there is counts."""

_NEW: Final[Mapping[str, str]] = {
    "CreateVolume": "volume/*",
    "RunInstances": "instance/*",
    "CreateTags": "*/*",
    "DeleteTags": "*/*",
}
"""What an operation is about that makes or marks something."""


def denied(call: Call, asked: Asked) -> AwsFault:
    """The refusal of `call`, which no identity-based policy allows."""
    action = f"{call.service}:{call.operation}"
    resource = _resource(call, asked)
    where = f" on resource: {resource}" if resource else ""
    said = f"User: {call.arn} is not authorized to perform: {action}{where} "
    said += f"because no identity-based policy allows the {action} action"
    match call.service:
        case "ec2":
            blob = f". Encoded authorization failure message: {secrets.token_urlsafe(_BLOB)}" if resource else ""
            text = f"You are not authorized to perform this operation. {said}{blob}"
            return AwsFault("UnauthorizedOperation", text, 403)
        case "sagemaker":
            return AwsFault("AccessDeniedException", said, 400)
        case "sts":
            return AwsFault("AccessDenied", said, 403)
        case _:
            return AwsFault("AccessDeniedException", said, 403)


def _resource(call: Call, asked: Asked) -> str:
    """The ARN of what the call is about; empty for EC2's Describe calls, which know no resources."""
    scope = f"arn:{call.arn.split(':')[1]}:{call.service}:{call.region}:{call.account}"
    if call.service == "ec2":
        if call.operation.startswith("Describe"):
            return ""
        named = (f"{kind}/{asked[member]}" for member, kind in _EC2.items() if asked.get(member))
        return f"{scope}:{_NEW.get(call.operation) or next(named, '*')}"
    if call.service == "sts":
        return ""
    cluster: str = asked.get("ClusterArn") or asked.get("ClusterName") or asked.get("name") or "*"
    return cluster if cluster.startswith("arn:") else f"{scope}:cluster/{cluster}"
