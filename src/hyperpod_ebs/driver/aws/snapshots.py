"""Snapshots, at EC2."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hyperpod_ebs.driver.aws import codec
from hyperpod_ebs.driver.aws.calls import answer, pages
from hyperpod_ebs.driver.model.tags import SNAPSHOT_NAME
from hyperpod_ebs.driver.model.volume import Snapshot, SnapshotSpec
from hyperpod_ebs.driver.volumes.cloud import Page

if TYPE_CHECKING:
    from types_aiobotocore_ec2 import EC2Client
    from types_aiobotocore_ec2.type_defs import DescribeSnapshotsRequestTypeDef


@dataclass(kw_only=True)
class Ec2Snapshots:
    """Makes, finds and removes snapshots: see `Snapshots` in `volumes.cloud`."""

    ec2: "EC2Client"

    async def create_snapshot(self, spec: SnapshotSpec) -> Snapshot:
        """The snapshot as EC2 acknowledges it."""
        given = [codec.snapshot_tags(spec.tags)]
        # There is no client token: a second try could make a second snapshot.
        return await answer(
            f"create snapshot {spec.name} of {spec.volume_id}",
            lambda: self.ec2.create_snapshot(VolumeId=spec.volume_id, TagSpecifications=given),
            codec.snapshot,
            creates=True,
            repeatable=False,
        )

    async def delete_snapshot(self, snapshot_id: str) -> None:
        """Removes it."""
        doing = f"delete snapshot {snapshot_id}"
        await answer(doing, lambda: self.ec2.delete_snapshot(SnapshotId=snapshot_id), codec.nothing)

    async def snapshot(self, snapshot_id: str) -> Snapshot | None:
        """The one with this id, whoever's it is."""
        filters = codec.one_of("snapshot-id", [snapshot_id])
        doing = f"describe snapshot {snapshot_id}"
        found = await pages(doing, lambda after: self.ec2.describe_snapshots(Filters=filters, **after), codec.snapshots)
        return next(iter(found), None)

    async def snapshots_named(self, name: str) -> tuple[Snapshot, ...]:
        """Ours that carry the name."""
        filters = codec.one_of(f"tag:{SNAPSHOT_NAME}", [name])
        return await pages(
            f"look for snapshot {name}",
            lambda after: self.ec2.describe_snapshots(OwnerIds=["self"], Filters=filters, **after),
            codec.snapshots,
        )

    async def snapshot_page(self, size: int, token: str | None, *, volume_id: str | None) -> Page[Snapshot]:
        """One page of the account's own."""
        asked: DescribeSnapshotsRequestTypeDef = {"OwnerIds": ["self"], "MaxResults": size}
        if token:
            asked["NextToken"] = token
        if volume_id:
            asked["Filters"] = codec.one_of("volume-id", [volume_id])
        return await answer(
            "list snapshots",
            lambda: self.ec2.describe_snapshots(**asked),
            lambda said: Page(codec.snapshots(said), said.get("NextToken") or None),
        )
