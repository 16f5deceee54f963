"""DescribeSnapshots, and a snapshot as EC2 shows it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hyperpod_ebs.emulator.ec2 import listing, naming
from hyperpod_ebs.emulator.records import Snapshot
from hyperpod_ebs.emulator.state.world import World, tag_list, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, Asked, Call, Operations

PAGES: Final = (5, 1000)


def snapshot_shown(world: World, snapshot: Snapshot) -> dict[str, Any]:  # the members of EC2's Snapshot
    """`snapshot`, with how far it is."""
    return {
        "SnapshotId": snapshot.id,
        "VolumeId": snapshot.volume,
        "VolumeSize": snapshot.size_gib,
        "OwnerId": world.region.account,
        "State": snapshot.state,
        "Progress": _progress(snapshot),
        "StartTime": to_datetime(snapshot.started),
        "CompletionTime": to_datetime(snapshot.completed),
        "Description": snapshot.description,
        "Encrypted": snapshot.encrypted,
        "KmsKeyId": snapshot.key,
        "StorageTier": "standard",
        "FullSnapshotSizeInBytes": snapshot.stored_bytes,
        "Tags": tag_list(snapshot.tags),
    }


def _progress(snapshot: Snapshot) -> str:
    if snapshot.state == "completed":
        return "100%"
    done = (time.time() - snapshot.started) / max(0.001, snapshot.ripe - snapshot.started)
    return f"{max(0, min(99, int(done * 100)))}%"


@dataclass(frozen=True, slots=True)
class SnapshotListing:
    """DescribeSnapshots."""

    world: World

    name = "ec2"
    operations = Operations["SnapshotListing"]()

    @operations("DescribeSnapshots")
    async def describe(self, asked: Asked, _: Call) -> Answer:
        """Snapshots by ids, of which an unknown one fails the call, or by filters; all are the account's own."""
        await self.world.clock.run_due_steps()
        naming.dry_run(asked)
        listing.not_both(asked, "SnapshotIds")
        chosen = listing.selected(self._asked_for(asked), asked, self._fields(), by_id="snapshot-id", tags=_tags)
        this, token = listing.page(chosen, asked, PAGES, key=lambda snapshot: snapshot.id)
        answer = {"Snapshots": [snapshot_shown(self.world, snapshot) for snapshot in this], "NextToken": token}
        return await self.world.acknowledge(answer)

    def _asked_for(self, asked: Asked) -> Mapping[str, Snapshot]:
        snapshots = self.world.store.snapshots
        if ids := asked.get("SnapshotIds"):
            return {snapshot.id: snapshot for snapshot in naming.all_found(snapshots, ids, naming.SNAPSHOT)}
        own = {"self", self.world.region.account}
        for member in ("OwnerIds", "RestorableByUserIds"):
            if (owners := asked.get(member)) and not own & set(owners):
                return {}
        return snapshots

    def _fields(self) -> dict[str, listing.Field[Snapshot]]:
        return {
            "description": lambda snapshot: [snapshot.description],
            "encrypted": lambda snapshot: [listing.yes_or_no(snapshot.encrypted)],
            "owner-alias": lambda _: [],
            "owner-id": lambda _: [self.world.region.account],
            "progress": lambda snapshot: [_progress(snapshot)],
            "snapshot-id": lambda snapshot: [snapshot.id],
            "start-time": lambda snapshot: [listing.instant(snapshot.started)],
            "status": lambda snapshot: [snapshot.state],
            "storage-tier": lambda _: ["standard"],
            "volume-id": lambda snapshot: [snapshot.volume],
            "volume-size": lambda snapshot: [str(snapshot.size_gib)],
        }


def _tags(snapshot: Snapshot) -> list[str]:
    return [f"{key}={value}" for key, value in snapshot.tags.items()]
