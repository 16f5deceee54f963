"""botocore's dicts to the driver's values, and back: the only place that knows AWS's names.

What AWS leaves out, or calls by a word that is new, is a LookupError or ValueError here;
`errors.translated` makes a `CloudError` of it.
"""
# as just said:
# pyright: reportTypedDictNotRequiredAccess=false

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from hyperpod_ebs.driver.model import nodes
from hyperpod_ebs.driver.model.nodes import HyperPodNode, Node
from hyperpod_ebs.driver.model.sizes import GiB
from hyperpod_ebs.driver.model.volume import (
    Attachment,
    AttachState,
    Change,
    Modification,
    ModificationState,
    Snapshot,
    SnapshotState,
    Volume,
    VolumeSpec,
    VolumeState,
)

if TYPE_CHECKING:
    from types_aiobotocore_ec2.type_defs import (
        CreateVolumeRequestTypeDef,
        DescribeAvailabilityZonesResultTypeDef,
        DescribeInstancesResultTypeDef,
        DescribeSnapshotsResultTypeDef,
        DescribeVolumesModificationsResultTypeDef,
        DescribeVolumesResultTypeDef,
        FilterTypeDef,
        ModifyVolumeRequestTypeDef,
        SnapshotResponseTypeDef,
        SnapshotTypeDef,
        TagSpecificationTypeDef,
        TagTypeDef,
        VolumeAttachmentResponseTypeDef,
        VolumeAttachmentTypeDef,
        VolumeModificationTypeDef,
        VolumeResponseTypeDef,
        VolumeTypeDef,
    )
    from types_aiobotocore_sagemaker.type_defs import (
        AttachClusterNodeVolumeResponseTypeDef,
        DetachClusterNodeVolumeResponseTypeDef,
    )

_OPTED_IN: Final = frozenset({"opt-in-not-required", "opted-in"})


def volume(said: "VolumeTypeDef | VolumeResponseTypeDef") -> Volume:
    """A volume as CreateVolume and DescribeVolumes answer it."""
    return Volume(
        id=said["VolumeId"],
        size=GiB(said["Size"]),
        zone=said["AvailabilityZone"],
        state=VolumeState(said["State"]),
        type=said["VolumeType"],
        iops=said.get("Iops"),
        throughput=said.get("Throughput"),
        encrypted=said.get("Encrypted", False),
        kms_key_id=said.get("KmsKeyId"),
        snapshot_id=said.get("SnapshotId") or None,
        attachments=tuple(attachment(one) for one in said.get("Attachments", ())),
        tags=tags(said.get("Tags", ())),
    )


def volumes(said: "DescribeVolumesResultTypeDef", *, of: str) -> tuple[Volume, ...]:
    """The volumes of an answer that the account `of` owns."""
    return tuple(volume(one) for _, one in shown_volumes(said, of=of))


def shown_volumes(
    said: "DescribeVolumesResultTypeDef", *, of: str | None = None
) -> "tuple[tuple[str, VolumeTypeDef], ...]":
    """The ids of an answer's volumes, and each as it stands there; those of `of` alone: volumes can be shared."""
    return tuple((one["VolumeId"], one) for one in said["Volumes"] if of is None or one.get("OwnerId", of) == of)


def attachment(said: "VolumeAttachmentTypeDef | VolumeAttachmentResponseTypeDef") -> Attachment:
    """An attachment as EC2 shows it; that of a HyperPod node has no instance, but a resource."""
    resource = said.get("AssociatedResource")
    node: Node | None = HyperPodNode.from_resource(resource) if resource else None
    if instance := said.get("InstanceId"):
        node = nodes.parse(instance)
    return Attachment(
        state=AttachState(said["State"]),
        node=node,
        holder=str(node or resource or "a resource that EC2 does not name"),
        since=said.get("AttachTime"),
    )


def node_attachment(
    node: HyperPodNode, said: "AttachClusterNodeVolumeResponseTypeDef | DetachClusterNodeVolumeResponseTypeDef"
) -> Attachment:
    """An attachment as SageMaker answers it."""
    return Attachment(state=AttachState(said["Status"]), node=node, holder=str(node), since=said["AttachTime"])


def modification(said: "VolumeModificationTypeDef") -> Modification:
    """A modification as ModifyVolume and DescribeVolumesModifications answer it."""
    size = said.get("TargetSize")
    return Modification(
        volume_id=said["VolumeId"],
        state=ModificationState(said["ModificationState"]),
        target=Change(
            size=None if size is None else GiB(size),
            type=said.get("TargetVolumeType"),
            iops=said.get("TargetIops"),
            throughput=said.get("TargetThroughput"),
        ),
        message=said.get("StatusMessage", ""),
        started=said.get("StartTime"),
    )


def shown_modifications(
    said: "DescribeVolumesModificationsResultTypeDef",
) -> "tuple[tuple[str, VolumeModificationTypeDef], ...]":
    """The volumes' ids of an answer's modifications, and each as it stands there."""
    return tuple((one["VolumeId"], one) for one in said["VolumesModifications"])


def snapshot(said: "SnapshotTypeDef | SnapshotResponseTypeDef") -> Snapshot:
    """A snapshot as CreateSnapshot and DescribeSnapshots answer it."""
    return Snapshot(
        id=said["SnapshotId"],
        volume_id=said["VolumeId"],
        size=GiB(said["VolumeSize"]),
        state=SnapshotState(said["State"]),
        started=said["StartTime"],
        tags=tags(said.get("Tags", ())),
    )


def snapshots(said: "DescribeSnapshotsResultTypeDef") -> tuple[Snapshot, ...]:
    """The snapshots of an answer."""
    return tuple(snapshot(one) for one in said["Snapshots"])


def zones(said: "DescribeAvailabilityZonesResultTypeDef") -> tuple[str, ...]:
    """The names of the usable zones, in order; neither local zones nor those that nobody opted in to."""
    return tuple(
        sorted(
            zone["ZoneName"]
            for zone in said["AvailabilityZones"]
            if zone.get("ZoneType", "availability-zone") == "availability-zone"
            and zone.get("State", "available") == "available"
            and zone.get("OptInStatus", "opt-in-not-required") in _OPTED_IN
        )
    )


def device_names(said: "DescribeInstancesResultTypeDef") -> set[str]:
    """The device names in use on the instances of an answer, their roots' among them."""
    return {
        mapping["DeviceName"]
        for reservation in said["Reservations"]
        for instance in reservation["Instances"]
        for mapping in instance.get("BlockDeviceMappings", ())
    }


def nothing(_: object) -> None:
    """Of an answer that tells no more than that it was done."""


def tags(said: "Iterable[TagTypeDef]") -> dict[str, str]:
    """Tags as a mapping."""
    return {tag["Key"]: tag["Value"] for tag in said}


def creation(spec: VolumeSpec, token: str) -> "CreateVolumeRequestTypeDef":
    """The request for a volume: the same words each time, as a client token demands."""
    asked: CreateVolumeRequestTypeDef = {
        "AvailabilityZone": spec.zone,
        "Size": spec.size.wanted,
        "VolumeType": spec.type,  # type: ignore[typeddict-item] # EC2 itself says which types there are
        "ClientToken": token,
        "TagSpecifications": [{"ResourceType": "volume", "Tags": tag_list(spec.tags)}],
    }
    if spec.iops is not None:
        asked["Iops"] = spec.iops
    if spec.throughput is not None:
        asked["Throughput"] = spec.throughput
    if spec.encrypted:
        asked["Encrypted"] = True
    if spec.kms_key_id is not None:
        asked["KmsKeyId"] = spec.kms_key_id
    if spec.snapshot_id is not None:
        asked["SnapshotId"] = spec.snapshot_id
    return asked


def change(volume_id: str, wanted: Change) -> "ModifyVolumeRequestTypeDef":
    """The request for a modification."""
    asked: ModifyVolumeRequestTypeDef = {"VolumeId": volume_id}
    if wanted.size is not None:
        asked["Size"] = wanted.size
    if wanted.type is not None:
        asked["VolumeType"] = wanted.type  # type: ignore[typeddict-item] # as above
    if wanted.iops is not None:
        asked["Iops"] = wanted.iops
    if wanted.throughput is not None:
        asked["Throughput"] = wanted.throughput
    return asked


def snapshot_tags(given: Mapping[str, str]) -> "TagSpecificationTypeDef":
    """The tags of a new snapshot."""
    return {"ResourceType": "snapshot", "Tags": tag_list(given)}


def tag_list(given: Mapping[str, str]) -> "list[TagTypeDef]":
    """Tags as EC2 takes them, in an order that is always the same."""
    return [{"Key": key, "Value": given[key]} for key in sorted(given)]


def tag_keys(keys: Collection[str]) -> "list[TagTypeDef]":
    """Keys as EC2 takes them where values do not matter."""
    return [{"Key": key} for key in sorted(keys)]


def one_of(name: str, values: Collection[str]) -> "list[FilterTypeDef]":
    """The filter that lets these values through; EC2 takes 200 of them."""
    return [{"Name": name, "Values": sorted(values)}]
