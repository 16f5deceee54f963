"""Policy documents as values, and the names and ARNs that differ from one account and cluster to the next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

EVERY: Final = "*"
"""The name and id that stand for every cluster of the account in the region."""

MANAGED_POLICY: Final = "AmazonEBSCSIDriverPolicyV2"

Conditions = Mapping[str, Mapping[str, str | tuple[str, ...]]]
"""The values by operator and condition key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The values that differ from one account and cluster to the next."""

    partition: str
    region: str
    account: str
    eks_cluster: str = EVERY
    """The name of the EKS cluster that orchestrates the HyperPod cluster."""

    hyperpod_cluster: str = EVERY
    """The 12 characters at the end of the HyperPod cluster's ARN."""

    @property
    def for_account(self) -> "Setting":
        """The same for every cluster of the account in the region."""
        return replace(self, eks_cluster=EVERY, hyperpod_cluster=EVERY)

    @property
    def hyperpod_cluster_arn(self) -> str:
        """The ARN of the HyperPod cluster."""
        return f"arn:{self.partition}:sagemaker:{self.region}:{self.account}:cluster/{self.hyperpod_cluster}"

    @property
    def eks_cluster_arn(self) -> str:
        """The ARN of the EKS cluster."""
        return f"arn:{self.partition}:eks:{self.region}:{self.account}:cluster/{self.eks_cluster}"

    @property
    def managed_policy_arn(self) -> str:
        """The ARN of AWS's policy for the driver."""
        return f"arn:{self.partition}:iam::aws:policy/{MANAGED_POLICY}"

    def iam_arn(self, resource: str) -> str:
        """The ARN of something in IAM, such as `role/driver`."""
        return f"arn:{self.partition}:iam::{self.account}:{resource}"

    def ec2_arn(self, kind: str) -> str:
        """The ARN of all resources of this kind; that of a snapshot has no account (EC2 User Guide)."""
        account = EVERY if kind == "snapshot" else self.account
        return f"arn:{self.partition}:ec2:{self.region}:{account}:{kind}/*"

    def via(self, service: str) -> str | tuple[str, ...]:
        """The values of kms:ViaService for a service; for China, AWS does not document which of the two it uses."""
        name = f"{service}.{self.region}.amazonaws.com"
        return (name, f"{name}.cn") if self.partition == "aws-cn" else name


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A statement that allows actions."""

    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...] = ()
    """Empty in trust policies."""

    principals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By type, such as AWS or Service; empty in identity-based policies."""

    conditions: Conditions = field(default_factory=dict)

    @property
    def json(self) -> dict[str, object]:
        """The statement as IAM's JSON; a list of one is written as text."""
        written: dict[str, object] = {"Sid": self.sid, "Effect": "Allow"}
        if self.principals:
            written["Principal"] = {kind: _text_or_list(names) for kind, names in self.principals.items()}
        written["Action"] = _text_or_list(self.actions)
        if self.resources:
            written["Resource"] = _text_or_list(self.resources)
        if self.conditions:
            written["Condition"] = {
                operator: {key: _text_or_list(value) for key, value in keys.items()}
                for operator, keys in self.conditions.items()
            }
        return written


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A policy document."""

    statements: tuple[Statement, ...]
    id: str = ""

    @property
    def json(self) -> dict[str, object]:
        """The document as IAM's JSON."""
        return {
            "Version": "2012-10-17",
            **({"Id": self.id} if self.id else {}),
            "Statement": [statement.json for statement in self.statements],
        }


def _text_or_list(value: str | Sequence[str]) -> str | list[str]:
    if isinstance(value, str):
        return value
    return value[0] if len(value) == 1 else list(value)
