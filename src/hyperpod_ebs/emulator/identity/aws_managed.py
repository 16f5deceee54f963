"""The policies that AWS manages and the guides name; the documents are in `aws_managed.json`.

Source: AWS Managed Policy Reference Guide. The ARN of an AWS-managed policy has no account:
arn:aws:iam::aws:policy/AmazonEBSCSIDriverPolicyV2.
"""

import functools
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
    document: str

    @property
    def resource(self) -> str:
        """The end of the ARN, which is the same in all partitions: policy/service-role/AmazonEBSCSIDriverPolicy."""
        return f"policy{self.path}{self.name}"


@functools.cache
def all_policies() -> Mapping[str, AwsManagedPolicy]:
    """The policies by the end of their ARNs."""
    entries = json.loads((resources.files(__package__) / _FILE).read_text())
    policies = [
        AwsManagedPolicy(
            name=entry["name"],
            path=entry["path"],
            version=entry["version"],
            created=datetime.fromisoformat(entry["created"]),
            document=json.dumps(entry["document"], indent=4),
        )
        for entry in entries
    ]
    return {policy.resource: policy for policy in policies}


def find(arn: str) -> AwsManagedPolicy | None:
    """The policy with this ARN, of any partition; None if it is not kept here."""
    scope, _, resource = arn.rpartition(":")
    return all_policies().get(resource) if scope.endswith(":iam::aws") else None
