"""The session policies and session tags of a request, checked.

Sources: STS API Reference, AssumeRole; IAM User Guide, "Pass session tags in AWS STS" and
"IAM and AWS STS quotas".
"""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from hyperpod_ebs.emulator.identity.identities import Identities
from hyperpod_ebs.emulator.identity_records import Session
from hyperpod_ebs.emulator.wire.operations import AwsFault, Parameters
from hyperpod_ebs.iam import documents
from hyperpod_ebs.iam.documents import Kind

MAX_PLAIN: Final = 2048
"""Characters of an inline session policy and the ARNs of managed ones together."""

MAX_POLICIES: Final = 10
"""Managed session policies."""

PACKED_SPACE: Final = 4096
"""Bytes of compressed session policies and tags that are 100 percent; AWS does not say how many it allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionTags:
    """Tags of a session."""

    tags: Mapping[str, str] = field(default_factory=dict)
    transitive: tuple[str, ...] = ()
    """Keys of tags that sessions chained from this one keep."""

    def inherit(self, caller: Session | None) -> "SessionTags":
        """These tags, and the transitive ones of the session of the caller.

        Raises:
            AwsFault: A tag has the key of a transitive tag of the caller's session.
        """
        if caller is None:
            return self
        inherited = {key: caller.tags[key] for key in caller.transitive}
        if {key.casefold() for key in self.tags} & {key.casefold() for key in inherited}:
            raise AwsFault(
                "InvalidParameterValue",
                "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key "
                "from the calling session.",
            )
        return SessionTags(tags={**inherited, **self.tags}, transitive=(*inherited, *self.transitive))


def tags_of(parameters: Parameters) -> SessionTags:
    """The session tags of a request.

    Raises:
        AwsFault: Two tags have the same key, a key is reserved, or a transitive key has no tag.
    """
    given = parameters.get("Tags", [])
    tags = {tag["Key"]: tag["Value"] for tag in given}
    if len({key.casefold() for key in tags}) < len(given):
        raise AwsFault(
            "InvalidParameterValue", "Duplicate tag keys found. Please note that Tag keys are case insensitive."
        )
    if reserved := [key for key in tags if key.casefold().startswith("aws:")]:
        raise AwsFault("InvalidParameterValue", f"Tag key {reserved[0]} starts with aws:, which is reserved for AWS")
    keys = {key.casefold(): key for key in tags}
    transitive = [keys.get(key.casefold()) for key in parameters.get("TransitiveTagKeys", [])]
    if None in transitive:
        raise AwsFault(
            "InvalidParameterValue", "The specified transitive tag key must be included in the requested tags."
        )
    return SessionTags(tags=tags, transitive=tuple(dict.fromkeys(key for key in transitive if key)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPolicies:
    """Policies that limit a session."""

    inline: tuple[str, ...] = ()
    """Documents; AWS takes one at most."""

    managed: tuple[str, ...] = ()
    """ARNs."""


def policies_of(parameters: Parameters, identities: Identities) -> SessionPolicies:
    """The session policies of a request.

    Raises:
        AwsFault: The policies are too long or too many, one does not exist, or the inline one is malformed.
    """
    inline, arns = parameters.get("Policy", ""), [each.get("arn", "") for each in parameters.get("PolicyArns", [])]
    if len(inline) + sum(map(len, arns)) > MAX_PLAIN:
        raise _violation("policy", f"Member must have length less than or equal to {MAX_PLAIN}")
    if len(arns) > MAX_POLICIES:
        raise _violation("policyArns", f"Member must have length less than or equal to {MAX_POLICIES}")
    if unknown := [arn for arn in arns if identities.document(arn) is None]:
        raise AwsFault("InvalidParameterValue", f"Policy {unknown[0]} does not exist or is not attachable.")
    if inline:
        try:
            documents.parse(inline, kind=Kind.IDENTITY)
        except documents.MalformedPolicy as error:
            raise AwsFault("MalformedPolicyDocument", str(error)) from error
    return SessionPolicies(inline=(inline,) if inline else (), managed=tuple(dict.fromkeys(arns)))


def packed_percent(parameters: Parameters, tags: SessionTags) -> int | None:
    """How much of the space for session policies and tags a request takes; None without policies and tags.

    Raises:
        AwsFault: The request takes more than all.
    """
    arns = [each.get("arn", "") for each in parameters.get("PolicyArns", [])]
    texts = [parameters.get("Policy", ""), *arns, *(f"{key}={value}" for key, value in tags.tags.items())]
    if not any(texts):
        return None
    percent = math.ceil(100 * len(zlib.compress("\n".join(texts).encode())) / PACKED_SPACE)
    if percent > 100:  # noqa: PLR2004 - of a hundred
        raise AwsFault(
            "PackedPolicyTooLarge",
            f"Packed policy consumes {percent}% of allotted space, please use smaller policy.",
        )
    return percent


def _violation(member: str, text: str) -> AwsFault:
    return AwsFault(
        "ValidationError", f"1 validation error detected: Value at '{member}' failed to satisfy constraint: {text}"
    )


def source_identity_of(requested: str, caller: Session | None) -> str:
    """The source identity of a new session: that of the caller's session, which nothing changes, or the requested one.

    Raises:
        AwsFault: The caller's session has another source identity.
    """
    inherited = caller.source_identity if caller else ""
    if requested and inherited and requested != inherited:
        raise AwsFault("AccessDenied", "The source identity of a role session cannot be changed", 403)
    return inherited or requested
