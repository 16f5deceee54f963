"""What calls of STS need.

GetCallerIdentity and GetSessionToken need nothing, even where a policy denies them. For
AssumeRoleWithWebIdentity the caller is known only by its token, so the operation itself asks
the trust policy. Source: Service Authorization Reference, "Actions, resources, and condition
keys for AWS Security Token Service".
"""

import re
from collections.abc import Sequence
from typing import Final

from hyperpod_ebs.emulator.identity.authorizer import Need
from hyperpod_ebs.emulator.identity.identities import Identities
from hyperpod_ebs.emulator.identity.trust import Assumption
from hyperpod_ebs.emulator.wire.operations import AwsFault, Parameters

_ROLE: Final = re.compile(r"arn:[a-z-]+:iam::[0-9]{12}:role/.+", re.ASCII)

FREE: Final = frozenset({"GetCallerIdentity", "GetSessionToken", "AssumeRoleWithWebIdentity"})
"""The operations that no policy decides about, or not before they have started."""


class StsNeeds:
    """Lists what calls of STS need."""

    def __init__(self, identities: Identities) -> None:
        self._identities = identities

    def needs(self, operation: str, parameters: Parameters) -> Sequence[Need]:
        """What a call needs."""
        if operation in FREE:
            return []
        if operation == "AssumeRole":
            return assumption_of(parameters).needs(self._identities)
        return [Need(action=f"sts:{operation}")]


def assumption_of(parameters: Parameters) -> Assumption:
    """The assumption that a request of AssumeRole asks for.

    Raises:
        AwsFault: The request does not have a role's ARN.
    """
    external = parameters.get("ExternalId")
    return Assumption(
        role=role_arn_of(parameters),
        session_name=parameters["RoleSessionName"],
        tags={tag["Key"]: tag["Value"] for tag in parameters.get("Tags", [])},
        transitive=parameters.get("TransitiveTagKeys", []),
        source_identity=parameters.get("SourceIdentity", ""),
        context={"sts:ExternalId": external} if external else {},
    )


def role_arn_of(parameters: Parameters) -> str:
    """The ARN of the role in a request.

    Raises:
        AwsFault: It is not a role's ARN.
    """
    arn: str = parameters["RoleArn"]
    if not _ROLE.fullmatch(arn):
        raise AwsFault("ValidationError", "Request ARN is invalid")
    return arn
