"""What AWS denied, to whom and why, and what the user can do about it.

Source for AWS's texts: IAM User Guide, "Troubleshoot access denied error messages".
"""

import json
import re
from typing import Final

from hyperpod_ebs.driver.aws.operations import OPERATIONS
from hyperpod_ebs.driver.model.tags import MANAGED

UNKNOWN_CALLER: Final = frozenset(
    {"AuthFailure", "InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException"}
)
"""The codes of denials that no IAM policy fixes: AWS does not recognise the credentials."""

ASSUME_ROLE: Final = frozenset({"AssumeRole", "AssumeRoleWithWebIdentity"})
"""The operations that the SDK calls for credentials. The role's own trust policy decides who may call them."""

_TEXT: Final = re.compile(
    r"(?:User: (?P<caller>\S+) is )?not authorized to perform:? (?P<action>[\w-]+:\w+)"
    r"(?: on resource:? (?P<resource>\S+))?(?: (?:because|with) (?P<reason>.+))?"
)
_ENCODED: Final = re.compile(r"\.?\s*Encoded authorization failure message:\s*(?P<message>\S*).*", re.DOTALL)
_CALLER: Final = re.compile(r"arn:[\w-]+:(?:sts|iam)::\d+:(?:assumed-)?(?P<kind>role|user)/(?P<path>\S+)")
_LACKING: Final = re.compile(r"\bno (?P<policy>[\w-]+(?: [\w-]+)*) allows\b")
_IDENTITY_POLICY: Final = "identity-based policy"
_RESOURCE: Final = re.compile(r"(?P<all>arn:[\w-]+:ec2:\S*:(?P<kind>volume|snapshot|instance)/)\w+-\w+")

_TAGS: Final = {"volume": f"{MANAGED}=true", "snapshot": f"{MANAGED}=true", "instance": "eks:cluster-name"}
"""The tags that AWS's managed policies for the driver require of existing resources."""


def explain(code: str, message: str, operation: str) -> str:
    """What AWS denied, with its code, and what the user can do about it.

    Args:
        code: AWS's code.
        message: AWS's text.
        operation: The operation that the driver called.
    """
    text = _ENCODED.sub("", message).rstrip(". ")
    service = next((name for name, operations in OPERATIONS.items() if operation in operations), "ec2")
    action, resource, reason, caller = f"{service}:{operation}", "*", text, ""
    if match := _TEXT.search(text):
        action, resource = match["action"], match["resource"] or "*"
        reason, caller = match["reason"] or "AWS gives no reason", match["caller"] or ""
    if code in UNKNOWN_CALLER:
        return (
            f"{action} is refused: {text} ({code}); give the driver a role or access keys that AWS recognises, and "
            "check the machine's clock"
        )
    if operation in ASSUME_ROLE:
        return (
            f"{action} is denied: {text} ({code}); name the cluster's OIDC provider and the driver's service account "
            "in the role's trust policy, and the role's ARN in the service account's annotation"
        )
    denial = f"{action} on {resource} is denied to {_name(caller)}: {reason} ({code})"
    return f"{denial}; {_next_step(action, resource, reason)}"


def encoded_message(message: str) -> str:
    """EC2's encoded message, which sts:DecodeAuthorizationMessage opens; empty if the text has none."""
    return match["message"] if (match := _ENCODED.search(message)) else ""


def _name(caller: str) -> str:
    """The role or user, without the name of the session: it changes with each session, and an event must not."""
    if (match := _CALLER.fullmatch(caller)) is None:
        return caller or "the driver's IAM role"
    parts = match["path"].split("/")
    is_session = ":assumed-role/" in caller
    return f"IAM {match['kind']} {parts[0] if is_session else parts[-1]}"


def _next_step(action: str, resource: str, reason: str) -> str:
    if "explicit deny" in reason:
        return "change the policy that denies it"
    one = _RESOURCE.fullmatch(resource)
    statement = json.dumps({"Effect": "Allow", "Action": action, "Resource": f"{one['all']}*" if one else resource})
    lacking = match["policy"] if (match := _LACKING.search(reason)) else _IDENTITY_POLICY
    if lacking != _IDENTITY_POLICY:
        return f"allow it in that {lacking}: {statement}"
    step = f"allow it in the role's policy: {statement}"
    if one is None:
        return step
    return f"{step}, or give the {one['kind']} the tag that the policy requires, such as {_TAGS[one['kind']]}"
