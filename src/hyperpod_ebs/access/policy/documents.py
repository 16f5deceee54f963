"""The policies of the driver's role, and of callers of the two HyperPod APIs by hand.

Sources: SageMaker Developer Guide, "Using the Amazon EBS CSI driver on SageMaker HyperPod EKS clusters"; AWS managed
policy reference, AmazonEBSCSIDriverPolicyV2.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from hyperpod_ebs.access.policy.statements import EVERY, Conditions, Document, Setting, Statement

VOLUMES: Final = "hyperpod-ebs-volumes"
"""The name of the policy that replaces AWS's managed policy."""

HYPERPOD: Final = "hyperpod-ebs-hyperpod"
"""The name of the policy with the guide's statements for the driver."""

ATTACH: Final = "hyperpod-ebs-attach"
DETACH: Final = "hyperpod-ebs-detach"

_DRIVER_TAG: Final = "ebs.csi.aws.com/cluster"
_IN_TREE_TAG: Final = "kubernetes.io/created-for/pvc/name"
_FIXED_TAGS: Final = (_DRIVER_TAG, "ebs.csi.aws.com/cluster-name", _IN_TREE_TAG)
"""The tags that decide which volumes the driver may use, so it must not change them."""


def driver_documents(setting: Setting, *, inline: bool) -> Mapping[str, Document]:
    """The policies of the driver's role by name.

    Without `inline`, the role needs AWS's managed policy as well (`Setting.managed_policy_arn`).
    """
    hyperpod = Document(
        statements=(
            Statement(
                sid="AttachAndDetachOnHyperPodNodes",
                actions=("sagemaker:AttachClusterNodeVolume", "sagemaker:DetachClusterNodeVolume"),
                resources=(setting.hyperpod_cluster_arn,),
            ),
            _describe_eks_cluster(setting),
        )
    )
    volumes = Document(statements=tuple(_volume_statements(setting)))
    return {VOLUMES: volumes, HYPERPOD: hyperpod} if inline else {HYPERPOD: hyperpod}


def attach_document(setting: Setting) -> Document:
    """What a caller of AttachClusterNodeVolume needs, and DescribeVolumes to see the volume's state."""
    return _caller_document(setting, "Attach")


def detach_document(setting: Setting) -> Document:
    """What a caller of DetachClusterNodeVolume needs, and DescribeVolumes to see the volume's state."""
    return _caller_document(setting, "Detach")


def _caller_document(setting: Setting, verb: str) -> Document:
    return Document(
        statements=(
            Statement(
                sid=f"{verb}OnHyperPodNodes",
                actions=(f"sagemaker:{verb}ClusterNodeVolume",),
                resources=(setting.hyperpod_cluster_arn,),
            ),
            _describe_eks_cluster(setting),
            Statement(sid=f"{verb}Volumes", actions=(f"ec2:{verb}Volume",), resources=(setting.ec2_arn("volume"),)),
            Statement(sid="DescribeVolumes", actions=("ec2:DescribeVolumes",), resources=(EVERY,)),
        )
    )


def _describe_eks_cluster(setting: Setting) -> Statement:
    return Statement(sid="DescribeEksCluster", actions=("eks:DescribeCluster",), resources=(setting.eks_cluster_arn,))


def _volume_statements(setting: Setting) -> Iterator[Statement]:
    """The statements of AWS's managed policy, in one region and account, without what the driver does not use."""
    volume, snapshot = setting.ec2_arn("volume"), setting.ec2_arn("snapshot")
    on_volumes = ("ec2:AttachVolume", "ec2:DeleteVolume", "ec2:DetachVolume", "ec2:ModifyVolume")
    requested: Conditions = {"StringEquals": {f"aws:RequestTag/{_DRIVER_TAG}": "true"}}
    tagged: Conditions = {"StringEquals": {f"ec2:ResourceTag/{_DRIVER_TAG}": "true"}}
    in_tree: Conditions = {"StringLike": {f"ec2:ResourceTag/{_IN_TREE_TAG}": EVERY}}
    yield Statement(
        sid="Describe",
        actions=(
            "ec2:DescribeAvailabilityZones",
            "ec2:DescribeInstances",
            "ec2:DescribeInstanceTypes",
            "ec2:DescribeSnapshots",
            "ec2:DescribeVolumes",
            "ec2:DescribeVolumesModifications",
        ),
        resources=(EVERY,),
    )
    yield _on("CreateVolumes", ("ec2:CreateVolume",), volume, requested)
    yield _on("CreateVolumesFromSnapshots", ("ec2:CreateVolume",), snapshot, tagged)
    yield _on("CreateSnapshots", ("ec2:CreateSnapshot",), snapshot, requested)
    yield _on("CreateSnapshotsOfVolumes", ("ec2:CreateSnapshot",), volume, tagged)
    yield _on("UseVolumes", on_volumes, volume, tagged)
    yield _on("UseInTreeVolumes", on_volumes, volume, in_tree)
    yield _on("UseInstances", ("ec2:AttachVolume", "ec2:DetachVolume"), setting.ec2_arn("instance"), {})
    yield _on("DeleteSnapshots", ("ec2:DeleteSnapshot",), snapshot, tagged)
    yield Statement(
        sid="TagAtCreation",
        actions=("ec2:CreateTags",),
        resources=(volume, snapshot),
        conditions={"StringEquals": {"ec2:CreateAction": ("CreateVolume", "CreateSnapshot")}},
    )
    yield Statement(
        sid="ChangeTags",
        actions=("ec2:CreateTags", "ec2:DeleteTags"),
        resources=(volume,),
        conditions={
            **tagged,
            "Null": {"aws:TagKeys": "false"},
            "ForAllValues:StringNotEquals": {"aws:TagKeys": _FIXED_TAGS},
        },
    )


def _on(sid: str, actions: tuple[str, ...], resource: str, conditions: Conditions) -> Statement:
    return Statement(sid=sid, actions=actions, resources=(resource,), conditions=conditions)
