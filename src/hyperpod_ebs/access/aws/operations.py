"""The AWS operations that the access tools call; `hatch_build.py` cuts the SDK's models down to them.

`hatch_build.py` runs this file on its own when the package is built, so it must not import from the package.
"""

from collections.abc import Mapping
from typing import Final

OPERATIONS: Final[Mapping[str, frozenset[str]]] = {
    "ec2": frozenset(
        {
            "AttachVolume",
            "CreateSnapshot",
            "CreateTags",
            "CreateVolume",
            "DeleteSnapshot",
            "DeleteVolume",
            "DescribeAvailabilityZones",
            "DescribeInstanceTypes",
            "DescribeInstances",
            "DescribeSnapshots",
            "DescribeVolumes",
            "DescribeVolumesModifications",
            "DetachVolume",
            "GetEbsDefaultKmsKeyId",
            "GetEbsEncryptionByDefault",
            "ModifyVolume",
        }
    ),
    "eks": frozenset(
        {
            "DescribeAddon",
            "DescribeCluster",
            "DescribePodIdentityAssociation",
            "ListClusters",
            "ListPodIdentityAssociations",
        }
    ),
    "iam": frozenset(
        {
            "GetOpenIDConnectProvider",
            "GetPolicy",
            "GetPolicyVersion",
            "GetRole",
            "GetRolePolicy",
            "ListAttachedRolePolicies",
            "ListRolePolicies",
            "SimulatePrincipalPolicy",
        }
    ),
    "kms": frozenset({"DescribeKey", "GetKeyPolicy", "ListGrants"}),
    "sagemaker": frozenset(
        {
            "AttachClusterNodeVolume",
            "DescribeCluster",
            "DescribeClusterNode",
            "DetachClusterNodeVolume",
            "ListClusterNodes",
            "ListClusters",
        }
    ),
    "service-quotas": frozenset({"ListServiceQuotas"}),
    # The SDK itself calls the first two, for roles in profiles and roles of service accounts.
    "sts": frozenset({"AssumeRole", "AssumeRoleWithWebIdentity", "GetCallerIdentity"}),
}
"""Operations by the name of their botocore service."""
