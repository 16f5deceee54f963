"""The AWS operations that the driver calls, and so all that its processes know of the SDK's models.

`hatch_build.py` reads this file by itself when the package is built: it imports nothing of ours.
"""

from collections.abc import Mapping
from typing import Final

CALLED: Final[Mapping[str, frozenset[str]]] = {
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
            "DescribeInstances",
            "DescribeSnapshots",
            "DescribeVolumes",
            "DescribeVolumesModifications",
            "DetachVolume",
            "ModifyVolume",
        },
    ),
    "sagemaker": frozenset({"AttachClusterNodeVolume", "DetachClusterNodeVolume"}),
    # The first two are called by the SDK itself: a role given to a service account, a role in a profile.
    "sts": frozenset({"AssumeRole", "AssumeRoleWithWebIdentity", "GetCallerIdentity"}),
}
"""Operations by the name of their botocore service."""
