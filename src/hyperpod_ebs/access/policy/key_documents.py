"""The policy of a customer-managed KMS key, for the principals that use the key.

Sources: SageMaker Developer Guide, "Using the Amazon EBS CSI driver on SageMaker HyperPod EKS clusters" and "Customer
managed AWS KMS key encryption for SageMaker HyperPod"; Amazon EBS User Guide, "How Amazon EBS encryption works".
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hyperpod_ebs.access.policy.statements import EVERY, Document, Setting, Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUsers:
    """Who uses a customer-managed key; each is an ARN of a role or a user."""

    driver: str = ""
    """The driver's role."""

    callers: tuple[str, ...] = ()
    """Callers of AttachClusterNodeVolume by hand."""

    execution_roles: tuple[str, ...] = ()
    """The execution roles of instance groups whose own volumes are encrypted with the key."""


def key_policy(setting: Setting, users: KeyUsers) -> Document:
    """The whole policy of a key: the default statement for the account's administrators, and those of the users."""
    administrators = Statement(
        sid="EnableIAMUserPermissions",
        principals={"AWS": (setting.iam_arn("root"),)},
        actions=("kms:*",),
        resources=(EVERY,),
    )
    return Document(id="key-default-1", statements=(administrators, *key_statements(setting, users)))


def key_statements(setting: Setting, users: KeyUsers) -> tuple[Statement, ...]:
    """The statements of a key's policy that its users need, in the same account."""
    statements = list[Statement]()
    if attaching := tuple(dict.fromkeys(filter(None, (users.driver, *users.callers)))):
        statements += _attaching(setting, attaching)
    if users.driver:
        statements.append(
            Statement(
                sid="CreateVolumesAndRestoreSnapshots",
                principals={"AWS": (users.driver,)},
                actions=(
                    "kms:Decrypt",
                    "kms:GenerateDataKeyWithoutPlaintext",
                    "kms:ReEncryptFrom",
                    "kms:ReEncryptTo",
                ),
                resources=(EVERY,),
                conditions={"StringEquals": _through(setting, "ec2")},
            )
        )
    if users.execution_roles:
        statements += _cluster_volumes(setting, users.execution_roles)
    return tuple(statements)


def _attaching(setting: Setting, principals: tuple[str, ...]) -> Iterator[Statement]:
    """The two statements of SageMaker's guide, for the principals that attach volumes to HyperPod nodes."""
    yield Statement(sid="DescribeKey", principals={"AWS": principals}, actions=("kms:DescribeKey",), resources=(EVERY,))
    yield Statement(
        sid="AttachVolumes",
        principals={"AWS": principals},
        actions=("kms:CreateGrant",),
        resources=(EVERY,),
        conditions={
            "StringEquals": {"kms:CallerAccount": setting.account, **_through(setting, "ec2")},
            "ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "aws:ebs:id"},
            "Bool": {"kms:GrantIsForAWSResource": "true"},
            "ForAllValues:StringEquals": {"kms:GrantOperations": ("Decrypt",)},
        },
    )


def _cluster_volumes(setting: Setting, roles: tuple[str, ...]) -> Iterator[Statement]:
    """What SageMaker needs as the execution role, for the root and secondary volumes of the cluster's own nodes."""
    through = _through(setting, "sagemaker")
    yield Statement(
        sid="DescribeKeyForClusterVolumes",
        principals={"AWS": roles},
        actions=("kms:DescribeKey",),
        resources=(EVERY,),
        conditions={"StringEquals": through},
    )
    yield Statement(
        sid="CreateClusterVolumes",
        principals={"AWS": roles},
        actions=("kms:CreateGrant",),
        resources=(EVERY,),
        conditions={"StringEquals": through, "Bool": {"kms:GrantIsForAWSResource": "true"}},
    )


def _through(setting: Setting, service: str) -> Mapping[str, str | tuple[str, ...]]:
    return {"kms:ViaService": setting.via(service)}
