"""The policies that AWS manages and the guides name; the documents are in `aws_managed.json`.

Source: AWS Managed Policy Reference Guide. The ARN of an AWS-managed policy has no account:
arn:aws:iam::aws:policy/AmazonEBSCSIDriverPolicyV2.
"""

import base64
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import resources

_FILE = "aws_managed.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsManagedPolicy:
    """A policy that AWS manages, in its default version."""

    name: str
    path: str
    version: int
    """The number of the default version, the only one kept here."""

    created: datetime
    updated: datetime
    """When the default version was created."""

    document: str

    @property
    def is_attachable(self) -> bool:
        """Whether users, groups and roles can have the policy; those of service-linked roles are for the services."""
        return self.path != "/aws-service-role/"

    @property
    def unique_id(self) -> str:
        """The id that starts with ANPA; AWS does not document its own, so it is derived from the name."""
        return "ANPA" + base64.b32encode(hashlib.sha256(self.name.encode()).digest())[:16].decode()

    @property
    def resource(self) -> str:
        """The end of the ARN, which is the same in all partitions: policy/service-role/AmazonEBSCSIDriverPolicy."""
        return f"policy{self.path}{self.name}"


@functools.cache
def all_policies() -> Mapping[str, AwsManagedPolicy]:
    """The policies by the end of their ARNs."""
    entries = json.loads((resources.files("hyperpod_ebs.emulator.identity") / _FILE).read_text())
    policies = [
        AwsManagedPolicy(
            name=entry["name"],
            path=entry["path"],
            version=entry["version"],
            created=datetime.fromisoformat(entry["created"]),
            updated=datetime.fromisoformat(entry["updated"]),
            document=json.dumps(entry["document"], indent=4),
        )
        for entry in entries
    ]
    return {policy.resource: policy for policy in policies}


def find(arn: str, partition: str) -> AwsManagedPolicy | None:
    """The policy with this ARN in the partition, such as aws; None if it is not kept here."""
    scope, _, resource = arn.rpartition(":")
    return all_policies().get(resource) if scope == f"arn:{partition}:iam::aws" else None
