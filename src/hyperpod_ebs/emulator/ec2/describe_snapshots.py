"""DescribeSnapshots, and a snapshot as EC2 returns it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hyperpod_ebs.emulator.ec2 import filters, pages, request_checks, resource_ids
from hyperpod_ebs.emulator.records import Snapshot
from hyperpod_ebs.emulator.state.world import World, tag_list, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, Call, Operations, Parameters

PAGE_SIZES: Final = (5, 1000)

_DESCRIBED_ONLY: Final = frozenset({"StorageTier", "TransferType", "FullSnapshotSizeInBytes", "CompletionTime"})
"""Members of a snapshot that only DescribeSnapshots returns."""


def render_snapshot(world: World, snapshot: Snapshot) -> dict[str, Any]:  # the members of EC2's Snapshot
    """The snapshot with its progress."""
    return {
        "SnapshotId": snapshot.id,
        "VolumeId": snapshot.volume,
        "VolumeSize": snapshot.size_gib,
        "OwnerId": world.region.account,
        "State": snapshot.state,
        "StateMessage": snapshot.state_message or None,
        "Progress": _progress(snapshot),
        "StartTime": to_datetime(snapshot.started),
        "CompletionTime": to_datetime(snapshot.completed),
        "Description": snapshot.description,
        "Encrypted": snapshot.encrypted,
        "KmsKeyId": snapshot.key,
        "DataEncryptionKeyId": snapshot.data_key_id or None,
        "StorageTier": "standard",
        "TransferType": _transfer_type(snapshot),
        "CompletionDurationMinutes": snapshot.completion_minutes,
        "FullSnapshotSizeInBytes": snapshot.stored_bytes,
        "Tags": tag_list(snapshot.tags),
    }


def render_new_snapshot(world: World, snapshot: Snapshot) -> dict[str, Any]:  # the members of EC2's Snapshot
    """The snapshot as the operations that create it return it: without progress, size and storage tier."""
    members = {name: value for name, value in render_snapshot(world, snapshot).items() if name not in _DESCRIBED_ONLY}
    return {**members, "Progress": "", "Tags": members["Tags"] or []}


def _transfer_type(snapshot: Snapshot) -> str:
    return "time-based" if snapshot.completion_minutes else "standard"


def _progress(snapshot: Snapshot) -> str:
    if snapshot.state == "completed":
        return "100%"
    if snapshot.state == "error":
        return "0%"
    fraction = (time.time() - snapshot.started) / max(0.001, snapshot.ripe - snapshot.started)
    return f"{max(0, min(99, int(fraction * 100)))}%"


@dataclass(frozen=True, slots=True)
class DescribeSnapshots:
    """The operation DescribeSnapshots."""

    world: World

    operations = Operations["DescribeSnapshots"]()

    @operations("DescribeSnapshots")
    async def describe(self, parameters: Parameters, _: Call) -> Answer:
        """List snapshots by id or by filter; an unknown id fails the call. No other account has snapshots."""
        request_checks.refuse_dry_run(parameters)
        pages.refuse_pages_of_ids(parameters, "SnapshotIds", shown="snapshotSet")
        fields = self._fields()
        matching = filters.matching(
            self._candidates(parameters), parameters, fields, by_id="snapshot-id", tags=lambda snapshot: snapshot.tags
        )
        this_page, token = pages.page(matching, parameters, PAGE_SIZES, key=lambda snapshot: snapshot.id)
        answer = {"Snapshots": [render_snapshot(self.world, snapshot) for snapshot in this_page], "NextToken": token}
        return await self.world.acknowledge(answer)

    def _candidates(self, parameters: Parameters) -> Mapping[str, Snapshot]:
        snapshots = self.world.shown.snapshots
        if ids := parameters.get("SnapshotIds"):
            return resource_ids.named_or_all(snapshots, ids, resource_ids.SNAPSHOT)
        own = {"self", self.world.region.account}
        if (owners := parameters.get("OwnerIds")) and not own & set(owners):
            return {}
        if not (users := set(parameters.get("RestorableByUserIds", []))) or own & users:
            return snapshots
        return {id_: snapshot for id_, snapshot in snapshots.items() if users & set(snapshot.shared_with)}

    def _fields(self) -> dict[str, filters.Field[Snapshot]]:
        return {
            "description": lambda snapshot: [snapshot.description],
            "encrypted": lambda snapshot: [filters.boolean(snapshot.encrypted)],
            "owner-alias": lambda _: [],
            "owner-id": lambda _: [self.world.region.account],
            "progress": lambda snapshot: [_progress(snapshot)],
            "snapshot-id": lambda snapshot: [snapshot.id],
            "start-time": lambda snapshot: [filters.timestamp(snapshot.started)],
            "status": lambda snapshot: [snapshot.state],
            "storage-tier": lambda _: ["standard"],
            "transfer-type": lambda snapshot: [_transfer_type(snapshot)],
            "volume-id": lambda snapshot: [snapshot.volume],
            "volume-size": lambda snapshot: [str(snapshot.size_gib)],
        }
