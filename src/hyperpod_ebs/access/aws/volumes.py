"""EBS volumes and where they are attached, also through HyperPod (EC2 API reference, DescribeVolumes)."""
# botocore marks every member of an answer as optional. A missing one is a KeyError, which `calls` reports:
# pyright: reportTypedDictNotRequiredAccess=false

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from hyperpod_ebs.access.aws.session import Aws
from hyperpod_ebs.driver.aws.calls import translate_sdk_errors
from hyperpod_ebs.driver.model.nodes import Ec2Node, HyperPodNode, Node

if TYPE_CHECKING:
    from types_aiobotocore_ec2.type_defs import FilterTypeDef, VolumeAttachmentTypeDef, VolumeTypeDef

_PAGE: Final = 500
"""Volumes in one answer. Without a page size, EC2 answers all of them at once, or fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """What a volume is attached to."""

    node: Node | None
    """None if another AWS service holds the volume."""

    resource: str
    """An instance id, or the ARN of the associated resource."""

    state: str
    device: str
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EbsVolume:
    """An EBS volume."""

    id: str
    owner: str
    """The account that owns it; others may see it as well, if they share it."""

    state: str
    gib: int
    type: str
    iops: int
    throughput: int
    """MiB per second; 0 if the type has no such setting."""

    zone: str
    zone_id: str
    key: str
    """The ARN of its KMS key; empty if it is not encrypted."""

    snapshot: str
    multi_attach: bool
    created: datetime
    tags: dict[str, str]
    holders: tuple[Holder, ...]


async def list_volumes(
    aws: Aws, *, ids: Sequence[str] = (), filters: Sequence["FilterTypeDef"] = ()
) -> list[EbsVolume]:
    """The account's volumes in the region: all, those with these ids, or those that pass the filters.

    Raises:
        VolumeNotFound: One of the ids does not exist.
        Error: AWS refuses to describe them.
    """
    ec2, volumes = await aws.ec2(), list[EbsVolume]()
    what = f"volume {', '.join(ids)}" if ids else "volumes"
    with translate_sdk_errors(f"describe {what}"):
        pages = ec2.get_paginator("describe_volumes").paginate(
            VolumeIds=list(ids), Filters=list(filters), PaginationConfig={} if ids else {"PageSize": _PAGE}
        )
        async for page in pages:
            volumes += [_volume(volume) for volume in page["Volumes"]]
    return volumes


async def describe_volume(aws: Aws, volume_id: str) -> EbsVolume:
    """Describe a volume.

    Raises:
        VolumeNotFound: It does not exist.
    """
    return (await list_volumes(aws, ids=[volume_id]))[0]


async def delete_volume(aws: Aws, volume_id: str) -> None:
    """Delete a volume.

    Raises:
        VolumeNotFound: It does not exist.
        InUse: It is attached.
        Error: AWS refuses to delete it.
    """
    ec2 = await aws.ec2()
    with translate_sdk_errors(f"delete volume {volume_id}"):
        await ec2.delete_volume(VolumeId=volume_id)


async def add_tags(aws: Aws, volume_id: str, added: Mapping[str, str]) -> None:
    """Add tags to a volume.

    Raises:
        VolumeNotFound: It does not exist.
        Error: AWS refuses to tag it.
    """
    ec2 = await aws.ec2()
    with translate_sdk_errors(f"add tags to volume {volume_id}"):
        await ec2.create_tags(
            Resources=[volume_id], Tags=[{"Key": key, "Value": value} for key, value in added.items()]
        )


def _volume(volume: "VolumeTypeDef") -> EbsVolume:
    return EbsVolume(
        id=volume["VolumeId"],
        owner=volume.get("OwnerId", ""),
        state=volume["State"],
        gib=volume["Size"],
        type=volume["VolumeType"],
        iops=volume.get("Iops") or 0,
        throughput=volume.get("Throughput") or 0,
        zone=volume["AvailabilityZone"],
        zone_id=volume.get("AvailabilityZoneId", ""),
        key=volume.get("KmsKeyId", ""),
        snapshot=volume.get("SnapshotId", ""),
        multi_attach=volume.get("MultiAttachEnabled", False),
        created=volume["CreateTime"],
        tags={tag["Key"]: tag["Value"] for tag in volume.get("Tags", ())},
        holders=tuple(_holder(attachment) for attachment in volume.get("Attachments", ())),
    )


def _holder(attachment: "VolumeAttachmentTypeDef") -> Holder:
    resource = attachment.get("AssociatedResource") or ""
    instance = attachment.get("InstanceId") or ""
    node = Ec2Node(instance) if instance else HyperPodNode.from_resource(resource)
    return Holder(
        node=node,
        resource=instance or resource,
        state=attachment["State"],
        device=attachment.get("Device") or "",
        since=attachment.get("AttachTime"),
    )
