"""The errors with which each AWS service denies an operation that no policy allows.

The messages follow the IAM User Guide, "Troubleshoot access denied error messages". EC2
puts a sentence before the message, and after it an encoded message that
sts:DecodeAuthorizationMessage can decode.
"""

import secrets
from collections.abc import Mapping
from typing import Final

from hyperpod_ebs.emulator.wire.operations import AwsFault, Call, Parameters

_ENCODED_SIZE: Final = 300
"""Random bytes of the encoded message; EC2's is several hundred bytes long."""

_EC2_RESOURCES: Final[Mapping[str, str]] = {
    "VolumeId": "volume",
    "SnapshotId": "snapshot",
    "InstanceId": "instance",
}
"""The types of the resources that request members name; the first member that is present decides."""

_NEW_RESOURCES: Final[Mapping[str, str]] = {
    "CreateVolume": "volume/*",
    "RunInstances": "instance/*",
    "CreateTags": "*/*",
    "DeleteTags": "*/*",
}
"""The resource of an operation that creates resources or changes their tags."""


def access_denied(call: Call, parameters: Parameters) -> AwsFault:
    """The error of a call that no identity-based policy allows."""
    action = f"{call.service}:{call.operation}"
    resource = _resource(call, parameters)
    where = f" on resource: {resource}" if resource else ""
    reason = f"User: {call.arn} is not authorized to perform: {action}{where} "
    reason += f"because no identity-based policy allows the {action} action"
    match call.service:
        case "ec2":
            encoded = (
                f". Encoded authorization failure message: {secrets.token_urlsafe(_ENCODED_SIZE)}" if resource else ""
            )
            text = f"You are not authorized to perform this operation. {reason}{encoded}"
            return AwsFault("UnauthorizedOperation", text, 403)
        case "sagemaker":
            return AwsFault("AccessDeniedException", reason, 400)
        case "sts":
            return AwsFault("AccessDenied", reason, 403)
        case _:
            return AwsFault("AccessDeniedException", reason, 403)


def _resource(call: Call, parameters: Parameters) -> str:
    """The ARN of the call's resource; empty for STS and for EC2's Describe calls, which name no resource."""
    scope = f"arn:{call.arn.split(':')[1]}:{call.service}:{call.region}:{call.account}"
    if call.service == "ec2":
        if call.operation.startswith("Describe"):
            return ""
        resources = (
            f"{kind}/{parameters[member]}" for member, kind in _EC2_RESOURCES.items() if parameters.get(member)
        )
        return f"{scope}:{_NEW_RESOURCES.get(call.operation) or next(resources, '*')}"
    if call.service == "sts":
        return ""
    cluster: str = parameters.get("ClusterArn") or parameters.get("ClusterName") or parameters.get("name") or "*"
    return cluster if cluster.startswith("arn:") else f"{scope}:cluster/{cluster}"
