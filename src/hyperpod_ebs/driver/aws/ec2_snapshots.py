"""Snapshots: create, describe, list and delete them at EC2."""
# botocore marks every member of an answer as optional. A missing one is a KeyError, which `calls` reports:
# pyright: reportTypedDictNotRequiredAccess=false

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

from hyperpod_ebs.driver.aws.calls import AwsCaller, translate_sdk_errors
from hyperpod_ebs.driver.aws.ec2_shapes import filters, parse_tags, tag_list, tag_value
from hyperpod_ebs.driver.aws.recent_requests import FOUND_WITHIN, LISTED_AFTER_DELETION, RecentRequests, search
from hyperpod_ebs.driver.aws.shared_looks import SharedLooks, TakeKeys
from hyperpod_ebs.driver.model.aws_request import Request
from hyperpod_ebs.driver.model.sizes import GiB
from hyperpod_ebs.driver.model.tags import SNAPSHOT_NAME
from hyperpod_ebs.driver.model.volume import Snapshot, SnapshotSpec, SnapshotState
from hyperpod_ebs.driver.volumes.cloud import Page

if TYPE_CHECKING:
    from types_aiobotocore_ec2.type_defs import (
        DescribeSnapshotsRequestTypeDef,
        DescribeSnapshotsResultTypeDef,
        SnapshotResponseTypeDef,
        SnapshotTypeDef,
        TagSpecificationTypeDef,
    )

_DESCRIBE_SEVERAL: Final = "describe snapshots"
_LOOK_UP_SEVERAL: Final = "look up snapshots"


@dataclass(kw_only=True)
class Ec2Snapshots(AwsCaller):
    """Implements `volumes.cloud.Snapshots`."""

    requested_snapshots: RecentRequests = field(default_factory=lambda: RecentRequests(FOUND_WITHIN))
    """By name."""
    deleted_snapshots: RecentRequests = field(default_factory=lambda: RecentRequests(LISTED_AFTER_DELETION))
    """By id."""

    async def create_snapshot(self, spec: SnapshotSpec) -> Snapshot:
        """Request the snapshot and return it as EC2 acknowledges it."""
        tags: TagSpecificationTypeDef = {"ResourceType": "snapshot", "Tags": tag_list(spec.tags)}
        # CreateSnapshot takes no client token: a second attempt could create a second snapshot.
        with self.requested_snapshots.note_if_carried_out(spec.name):
            return await self.call(
                Request(
                    "CreateSnapshot",
                    spec.volume_id,
                    f"create snapshot {spec.name} of volume {spec.volume_id}",
                    creates=True,
                    repeatable=False,
                ),
                lambda aws: aws.ec2.create_snapshot(VolumeId=spec.volume_id, TagSpecifications=[tags]),
                _parse_snapshot,
            )

    async def delete_snapshot(self, snapshot_id: str) -> None:
        """Delete the snapshot, unless AWS has acknowledged its deletion a moment ago."""
        if snapshot_id in self.deleted_snapshots:
            return
        await self.call(
            Request("DeleteSnapshot", snapshot_id, f"delete snapshot {snapshot_id}"),
            lambda aws: aws.ec2.delete_snapshot(SnapshotId=snapshot_id),
            lambda _: None,
        )
        self.deleted_snapshots.note(snapshot_id)

    async def describe_snapshot(self, snapshot_id: str) -> Snapshot:
        """Describe the snapshot by its id; it may belong to another account."""
        if snapshot_id not in self.deleted_snapshots and (shown := await self.find_new_snapshot(snapshot_id)):
            return shown
        # Only EC2's answer to the id itself proves that there is no such snapshot (decision 0036).
        return await self.call(
            Request("DescribeSnapshots", snapshot_id, f"describe snapshot {snapshot_id}"),
            lambda aws: aws.ec2.describe_snapshots(SnapshotIds=[snapshot_id]),
            lambda answer: _parse_snapshot(answer["Snapshots"][0]),
        )

    async def find_new_snapshot(self, snapshot_id: str) -> Snapshot | None:
        """Find a snapshot of the account by its id, if EC2 shows it already."""
        action = f"describe snapshot {snapshot_id}"
        shown = await self._snapshots_by_id.look(snapshot_id, action)
        with translate_sdk_errors(action):
            return _parse_snapshot(shown[0]) if shown else None

    @cached_property
    def _snapshots_by_id(self) -> "SharedLooks[SnapshotTypeDef]":
        return SharedLooks(_DESCRIBE_SEVERAL, self._show_own_snapshots)

    async def _show_own_snapshots(self, take_ids: TakeKeys) -> "tuple[tuple[str, SnapshotTypeDef], ...]":
        """Show snapshots of the account: without an owner, EC2 would search the public snapshots of all accounts."""
        return await self.call_pages(
            Request("DescribeSnapshots", "snapshots by id", _DESCRIBE_SEVERAL),
            lambda aws, page: aws.ec2.describe_snapshots(
                OwnerIds=["self"], Filters=filters("snapshot-id", take_ids()), **page
            ),
            lambda answer: tuple((shape["SnapshotId"], shape) for shape in answer["Snapshots"]),
        )

    async def find_snapshots_named(self, name: str) -> tuple[Snapshot, ...]:
        """Find the account's snapshots that carry `name` as the name of their CreateSnapshot request.

        EC2 has no client token for snapshots, so only this search prevents a second snapshot after a killed process.
        """
        action = f"look up snapshot {name}"

        async def find() -> tuple[Snapshot, ...]:
            shown = await self._snapshots_by_name.look(name, action)
            with translate_sdk_errors(action):
                return tuple(map(_parse_snapshot, shown))

        return tuple(await search(self.requested_snapshots.ends_at(name), find))

    @cached_property
    def _snapshots_by_name(self) -> "SharedLooks[SnapshotTypeDef]":
        return SharedLooks(_LOOK_UP_SEVERAL, self._show_snapshots_named, lambda: self.governor.delay("CreateSnapshot"))

    async def _show_snapshots_named(self, take_names: TakeKeys) -> "tuple[tuple[str, SnapshotTypeDef], ...]":
        return await self.call_pages(
            Request("DescribeSnapshots", "snapshots by name", _LOOK_UP_SEVERAL),
            lambda aws, page: aws.ec2.describe_snapshots(
                OwnerIds=["self"], Filters=filters(f"tag:{SNAPSHOT_NAME}", take_names()), **page
            ),
            lambda answer: ((tag_value(SNAPSHOT_NAME, shape.get("Tags", ())), shape) for shape in answer["Snapshots"]),
        )

    async def list_snapshots(self, size: int, token: str | None, *, volume_id: str | None) -> Page[Snapshot]:
        """List one page of the account's snapshots, of one volume or of all, without those deleted a moment ago."""
        request: DescribeSnapshotsRequestTypeDef = {"OwnerIds": ["self"], "MaxResults": size}
        if token:
            request["NextToken"] = token
        if volume_id:
            request["Filters"] = filters("volume-id", [volume_id])
        found, next_token = await self.call(
            Request("DescribeSnapshots", "list of snapshots", "list snapshots"),
            lambda aws: aws.ec2.describe_snapshots(**request),
            lambda answer: (_parse_snapshots(answer), answer.get("NextToken") or None),
        )
        return Page(tuple(snapshot for snapshot in found if snapshot.id not in self.deleted_snapshots), next_token)


def _parse_snapshots(answer: "DescribeSnapshotsResultTypeDef") -> tuple[Snapshot, ...]:
    return tuple(_parse_snapshot(shape) for shape in answer["Snapshots"])


def _parse_snapshot(shape: "SnapshotTypeDef | SnapshotResponseTypeDef") -> Snapshot:
    """Parse a snapshot from the answer of CreateSnapshot or DescribeSnapshots."""
    return Snapshot(
        id=shape["SnapshotId"],
        volume_id=shape["VolumeId"],
        size=GiB(shape["VolumeSize"]),
        state=SnapshotState(shape["State"]),
        started=shape["StartTime"],
        message=shape.get("StateMessage", ""),
        tags=parse_tags(shape.get("Tags", ())),
    )
