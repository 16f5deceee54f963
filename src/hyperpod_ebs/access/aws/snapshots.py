"""EBS snapshots of the caller's account (EC2 API reference, DescribeSnapshots, CreateSnapshot)."""
# botocore marks every member of an answer as optional. A missing one is a KeyError, which `calls` reports:
# pyright: reportTypedDictNotRequiredAccess=false

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from hyperpod_ebs.access.aws.session import Aws
from hyperpod_ebs.driver.aws.calls import translate_sdk_errors

if TYPE_CHECKING:
    from types_aiobotocore_ec2.type_defs import FilterTypeDef, SnapshotTypeDef, TagSpecificationTypeDef

_PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class EbsSnapshot:
    """An EBS snapshot."""

    id: str
    state: str
    progress: str
    """In percent, such as `42%`."""

    message: str
    """Why it failed, in state error."""

    volume: str
    gib: int
    """The size of its volume."""

    full_gib: float
    """The size of its blocks, which is the most that it occupies: it shares blocks with other snapshots."""

    key: str
    """The ARN of its KMS key; empty if it is not encrypted."""

    archived: bool
    created: datetime
    tags: dict[str, str]


async def list_snapshots(
    aws: Aws, *, ids: Sequence[str] = (), filters: Sequence["FilterTypeDef"] = ()
) -> list[EbsSnapshot]:
    """The account's own snapshots in the region: all, those with these ids, or those that pass the filters.

    Raises:
        SnapshotNotFound: One of the ids does not exist.
        Error: AWS refuses to describe them.
    """
    ec2, snapshots = await aws.ec2(), list[EbsSnapshot]()
    what = f"snapshot {', '.join(ids)}" if ids else "snapshots"
    with translate_sdk_errors(f"describe {what}"):
        pages = ec2.get_paginator("describe_snapshots").paginate(
            OwnerIds=["self"],
            SnapshotIds=list(ids),
            Filters=list(filters),
            PaginationConfig={} if ids else {"PageSize": _PAGE},
        )
        async for page in pages:
            snapshots += [_snapshot(snapshot) for snapshot in page["Snapshots"]]
    return snapshots


async def create_snapshot(aws: Aws, volume_id: str, *, description: str, tags: Mapping[str, str]) -> str:
    """Ask EC2 for a snapshot of the volume as it is now; its id. EC2 completes it later.

    Raises:
        OutcomeUnknown: EC2 did not answer, and may have created it; repeating the call may create a second one.
        Error: AWS refuses to create it.
    """
    ec2 = await aws.ec2_without_retries()
    tagged: list[TagSpecificationTypeDef] = [
        {"ResourceType": "snapshot", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
    ]
    with translate_sdk_errors(f"create a snapshot of volume {volume_id}", creates=True):
        answer = await ec2.create_snapshot(
            VolumeId=volume_id, Description=description, TagSpecifications=tagged if tags else []
        )
        return answer["SnapshotId"]


async def delete_snapshot(aws: Aws, snapshot_id: str) -> None:
    """Delete a snapshot.

    Raises:
        SnapshotNotFound: It does not exist.
        Error: AWS refuses to delete it, for instance because an image uses it.
    """
    ec2 = await aws.ec2()
    with translate_sdk_errors(f"delete snapshot {snapshot_id}"):
        await ec2.delete_snapshot(SnapshotId=snapshot_id)


def _snapshot(snapshot: "SnapshotTypeDef") -> EbsSnapshot:
    return EbsSnapshot(
        id=snapshot["SnapshotId"],
        state=snapshot["State"],
        progress=snapshot.get("Progress") or "0%",
        message=snapshot.get("StateMessage") or "",
        volume=snapshot.get("VolumeId", ""),
        gib=snapshot["VolumeSize"],
        key=snapshot.get("KmsKeyId", ""),
        full_gib=snapshot.get("FullSnapshotSizeInBytes", snapshot["VolumeSize"] << 30) / (1 << 30),
        archived=snapshot.get("StorageTier") == "archive",
        created=snapshot["StartTime"],
        tags={tag["Key"]: tag["Value"] for tag in snapshot.get("Tags", ())},
    )
