"""Documents of key policies: the default one, that of the key aws/ebs, and the parser of a new one.

Sources: KMS Developer Guide, "Key policies in AWS KMS" and "Default key policy".
"""

import json
from typing import Any, Final

from hyperpod_ebs.emulator.identity.known_principals import unknown_principals
from hyperpod_ebs.emulator.state.region import Region
from hyperpod_ebs.emulator.state.store import Store
from hyperpod_ebs.emulator.wire.operations import AwsFault
from hyperpod_ebs.iam import documents
from hyperpod_ebs.iam.documents import Kind, MalformedPolicy, Policy

NAME: Final = "default"
"""The only name of a key policy."""

MAX_BYTES: Final = 32_768
"""The quota "Key policy document size"."""


def default_policy(region: Region) -> str:
    """The policy of a key that was created without one: it lets IAM policies of the account decide."""
    statement = {
        "Sid": "Enable IAM User Permissions",
        "Effect": "Allow",
        "Principal": {"AWS": _root(region)},
        "Action": "kms:*",
        "Resource": "*",
    }
    return _document("key-default-1", [statement])


def ebs_policy(region: Region) -> str:
    """The policy of the key aws/ebs: all of the account may use it, but only through EC2."""
    through_ec2 = {
        "Sid": "Allow access through EBS for all principals in the account that are authorized to use EBS",
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": [
            *("kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:CreateGrant"),
            "kms:DescribeKey",
        ],
        "Resource": "*",
        "Condition": {"StringEquals": {"kms:CallerAccount": region.account, "kms:ViaService": via_ec2(region)}},
    }
    metadata = {
        "Sid": "Allow direct access to key metadata to the account",
        "Effect": "Allow",
        "Principal": {"AWS": _root(region)},
        "Action": ["kms:Describe*", "kms:Get*", "kms:List*", "kms:RevokeGrant"],
        "Resource": "*",
    }
    return _document("auto-ebs-2", [through_ec2, metadata])


def via_ec2(region: Region) -> str:
    """The value of kms:ViaService for a request that EC2 makes for its caller."""
    return f"ec2.{region.name}.amazonaws.com"


def parse(document: str, store: Store, region: Region) -> Policy:
    """Compile a new key policy.

    Raises:
        AwsFault: The document is too long, is not a key policy, or names a principal that does not exist.
    """
    if len(document.encode()) > MAX_BYTES:
        raise AwsFault("LimitExceededException", f"The key policy is longer than {MAX_BYTES} bytes.")
    try:
        policy = documents.parse(document, kind=Kind.RESOURCE)
    except MalformedPolicy as error:
        raise malformed_policy_error(str(error)) from error
    if next(unknown_principals(policy, store, region), None) is not None:
        raise malformed_policy_error("Policy contains a statement with one or more invalid principals.")
    return policy


def malformed_policy_error(text: str) -> AwsFault:
    """The error for a document that is not a key policy."""
    return AwsFault("MalformedPolicyDocumentException", text)


def _root(region: Region) -> str:
    return f"arn:{region.partition}:iam::{region.account}:root"


def _document(id_: str, statements: list[dict[str, Any]]) -> str:  # Any: JSON
    return json.dumps({"Version": "2012-10-17", "Id": id_, "Statement": statements}, indent=2)
