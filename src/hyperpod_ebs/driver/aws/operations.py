"""The AWS operations that the driver calls. The driver loads only the parts of the SDK's models that describe these.

The SDK's list of endpoints is cut down to their services, too.
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
            "DeleteTags",
            "DeleteVolume",
            "DescribeAvailabilityZones",
            "DescribeInstanceTypes",
            "DescribeInstances",
            "DescribeSnapshots",
            "DescribeVolumes",
            "DescribeVolumesModifications",
            "DetachVolume",
            "ModifyVolume",
        },
    ),
    "sagemaker": frozenset({"AttachClusterNodeVolume", "DetachClusterNodeVolume"}),
    # The SDK itself calls the first two, for the role of a service account and for a role in a profile.
    "sts": frozenset({"AssumeRole", "AssumeRoleWithWebIdentity", "GetCallerIdentity"}),
}
"""Operations by the name of their botocore service."""
