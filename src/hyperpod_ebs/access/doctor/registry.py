"""All checks, in the order in which things depend on each other: a finding of an earlier one is to be fixed first."""

from collections.abc import Sequence
from typing import Final

from hyperpod_ebs.access.doctor.aws_checks import (
    clusters,
    identity,
    keys,
    leftovers,
    limits,
    permissions,
    service_account,
    volumes,
)
from hyperpod_ebs.access.doctor.checks import Check
from hyperpod_ebs.access.doctor.kubernetes_checks import registry as kubernetes
from hyperpod_ebs.access.doctor.node_checks.registry import checks_of

AWS_CHECKS: Final[Sequence[Check]] = (
    *identity.CHECKS,
    *clusters.CHECKS,
    *service_account.CHECKS,
    *permissions.CHECKS,
    *keys.CHECKS,
    *volumes.CHECKS,
    *limits.CHECKS,
    *leftovers.CHECKS,
)
"""What AWS says, with what Kubernetes says about the same objects."""

CALLER_ACTIONS: Final[Sequence[str]] = (
    "ec2:DescribeAvailabilityZones",
    "ec2:DescribeInstances",
    "ec2:DescribeSnapshots",
    "ec2:DescribeVolumes",
    "ec2:GetEbsDefaultKmsKeyId",
    "ec2:GetEbsEncryptionByDefault",
    "eks:DescribeAddon",
    "eks:DescribeCluster",
    "eks:DescribePodIdentityAssociation",
    "eks:ListClusters",
    "eks:ListPodIdentityAssociations",
    "iam:GetOpenIDConnectProvider",
    "iam:GetRole",
    "iam:ListAttachedRolePolicies",
    "iam:SimulatePrincipalPolicy",
    "kms:DescribeKey",
    "kms:GetKeyPolicy",
    "kms:ListGrants",
    "sagemaker:DescribeCluster",
    "sagemaker:ListClusterNodes",
    "sagemaker:ListClusters",
    "servicequotas:ListServiceQuotas",
)
"""What the doctor's caller needs to be allowed, so that everything at AWS can be checked."""

ALL_CHECKS: Final[Sequence[Check]] = (*AWS_CHECKS, *kubernetes.CHECKS, *checks_of())
