"""A volume's whole life: what a training job and its orchestrator do with it, step by step."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyperpod_ebs.demo import checkpoint
from hyperpod_ebs.demo.checkpoint import Journal
from hyperpod_ebs.demo.fleet import Fleet
from hyperpod_ebs.demo.orchestrator import Claim, Node, mounted, raw
from hyperpod_ebs.demo.steps import Steps
from hyperpod_ebs.kit import files
from hyperpod_ebs.pb import csi_pb2
from hyperpod_ebs.sandbox.failures import DataMismatch

_GIB: Final = 2**30
_LONG: Final = 60.0
"""Seconds that reading or writing a checkpoint may take."""

_LOOK: Final = 0.25
"""Seconds between two questions whether a snapshot is ready, as the snapshotter asks."""

_SNAPSHOT_READY: Final = 120.0
_BLOCK: Final = 2**20
_LINES: Final = 64
"""Lines that the journal has before the snapshot, so that a comparison with it means something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """A snapshot, and how far the journal was when it was asked for and when it was answered."""

    snapshot: csi_pb2.Snapshot
    before: int
    after: int


class Story:
    """Tells the story on a fleet, step by step."""

    def __init__(self, fleet: Fleet, steps: Steps) -> None:
        """Nothing has happened yet."""
        self._fleet = fleet
        self._co = fleet.orchestrator
        self._steps = steps

    async def tell(self) -> tuple[list[str], list[str]]:
        """All of it; the ids of volumes and snapshots that the cloud still has at the end: none.

        Raises:
            DataMismatch: What was read is not what was written.
            StepFailed: A step could not be done.
        """
        first, second = self._co.nodes.values()
        beforehand = await self._beforehand()
        claim = await self._created()
        target = await self._used(claim, first)
        digests = await self._checkpoint(target)
        taken, lines = await self._while_writing(claim, first, target)
        target = await self._moved(claim, first, second)
        await self._compared(target, digests, lines)
        restored = await self._restored(taken, second, digests)
        static = await self._static(beforehand, first)
        block = await self._block(first)
        return await self._deleted(
            [(claim, second), (restored, second), (static, first), (block, first)], taken.snapshot
        )

    async def _created(self) -> Claim:
        async with self._steps.step("create a volume") as result:
            claim = await self._co.create("training-data", gib=2, capability=mounted("xfs"))
            result(f"{claim.id}, 2 GiB")
        return claim

    async def _used(self, claim: Claim, node: Node) -> Path:
        async with self._steps.step(f"attach to {node.name}") as result:
            context = await self._co.attach(claim, node)
            result(f"by SageMaker, to {node.id}")
        async with self._steps.step(f"stage and publish on {node.name}") as result:
            target = await self._co.mount(claim, node, context)
            result("blank device formatted as xfs and mounted")
        return target

    async def _checkpoint(self, target: Path) -> dict[str, str]:
        async with self._steps.step("write a checkpoint") as result:
            digests = await files.off_loop(checkpoint.write, target / "checkpoint", deadline=_LONG)
            result(f"{len(digests)} files, {len(digests) * checkpoint.FILE_SIZE >> 20} MiB on the disk, digests kept")
        return digests

    async def _while_writing(self, claim: Claim, node: Node, target: Path) -> tuple[_Taken, int]:
        """The snapshot, and how many lines the journal had when all was done."""
        async with Journal.writing(target / "journal") as journal:
            async with self._steps.step("snapshot while writing goes on") as result:
                await _until(lambda: journal.written >= _LINES)
                before = journal.written
                snapshot = await self._co.snapshot(claim, "training-data-1")
                taken = _Taken(snapshot=snapshot, before=before, after=journal.written + 1)
                await _until(lambda: journal.written > taken.after)
                result(f"{snapshot.snapshot_id}, while the journal went from line {before} to {taken.after}")
            async with self._steps.step("grow 2 to 4 GiB, the mount in use") as result:
                before = journal.written
                size = await self._co.grow(claim, node, gib=4)
                room = await files.off_loop(os.statvfs, target)
                grown = journal.written
                await _until(lambda: journal.written > grown)
                result(f"{size / _GIB:g} GiB, filesystem of {room.f_blocks * room.f_frsize / _GIB:.2f} GiB")
                result(f"the journal went from line {before} to {journal.written}")
        if journal.error:
            raise DataMismatch(f"the journal on {claim.id} stopped while the volume grew: {journal.error}")
        return taken, journal.written

    async def _moved(self, claim: Claim, first: Node, second: Node) -> Path:
        async with self._steps.step(f"leave {first.name}") as result:
            await self._co.unmount(claim, first)
            await self._co.detach(claim, first)
            result("unpublished, unstaged, detached")
        async with self._steps.step(f"move to {second.name}") as result:
            target = await self._co.mount(claim, second, await self._co.attach(claim, second))
            result("attached, staged, published; nothing formatted")
        return target

    async def _compared(self, target: Path, digests: dict[str, str], lines: int) -> None:
        async with self._steps.step("compare with what was written") as result:
            await _compare(target, digests)
            count = await files.off_loop(checkpoint.lines, target / "journal", deadline=_LONG)
            if count < lines:
                raise DataMismatch(f"the journal at {target} has {count} lines; {lines} were on the disk")
            result(f"all {len(digests)} digests, all {count} lines of the journal")

    async def _restored(self, taken: _Taken, node: Node, digests: dict[str, str]) -> Claim:
        async with self._steps.step("wait until the snapshot is ready") as result:
            async with asyncio.timeout(_SNAPSHOT_READY):
                snapshot = taken.snapshot
                while not snapshot.ready_to_use:
                    await asyncio.sleep(_LOOK)
                    source = Claim(id=snapshot.source_volume_id, capability=mounted("xfs"), context={})
                    snapshot = await self._co.snapshot(source, "training-data-1")
            result("ready to use")
        async with self._steps.step("restore it into a new volume") as result:
            claim = await self._co.create(
                "restored", gib=2, capability=mounted("xfs"), snapshot_id=taken.snapshot.snapshot_id
            )
            target = await self._co.mount(claim, node, await self._co.attach(claim, node))
            await _compare(target, digests)
            count = await files.off_loop(checkpoint.lines, target / "journal", deadline=_LONG)
            if not taken.before <= count <= taken.after:
                raise DataMismatch(
                    f"{claim.id} holds {count} lines of the journal; the snapshot was taken between "
                    f"lines {taken.before} and {taken.after}"
                )
            result(f"{claim.id}: digests as written, journal ends at line {count}: the moment of the snapshot")
        return claim

    async def _beforehand(self) -> str:
        async with self._steps.step("make a volume beforehand") as result, self._fleet.emulated.client("ec2") as ec2:
            made = await ec2.create_volume(AvailabilityZone=self._fleet.zone, Size=1, VolumeType="gp3")
            id_: str = made["VolumeId"]
            result(f"{id_}, 1 GiB, asked of EC2 by hand; its use comes later")
        return id_

    async def _static(self, id_: str, node: Node) -> Claim:
        async with self._steps.step("use the volume made beforehand") as result:
            claim = Claim(id=id_, capability=mounted("ext4"), context={})
            target = await self._co.mount(claim, node, await self._co.attach(claim, node))
            digests = await files.off_loop(checkpoint.write, target / "checkpoint", deadline=_LONG)
            await _compare(target, digests)
            result(f"{claim.id}, formatted as ext4, written and read")
        return claim

    async def _block(self, node: Node) -> Claim:
        async with self._steps.step("use a raw block volume") as result:
            claim = await self._co.create("raw", gib=1, capability=raw())
            device = await self._co.mount(claim, node, await self._co.attach(claim, node))
            await files.off_loop(_block_round_trip, device, deadline=_LONG)
            result(f"{claim.id}, {_BLOCK >> 20} MiB written to the device and read back")
        return claim

    async def _deleted(self, used: list[tuple[Claim, Node]], snapshot: csi_pb2.Snapshot) -> tuple[list[str], list[str]]:
        async with self._steps.step("delete everything") as result:
            async with asyncio.TaskGroup() as group:
                for claim, node in used:
                    group.create_task(self._gone(claim, node))
            await self._co.delete_snapshot(snapshot.snapshot_id)
            volumes, snapshots = await self._let_go()
            result(f"{len(used)} volumes and 1 snapshot; the cloud has {len(volumes) + len(snapshots) or 'none'} left")
        return volumes, snapshots

    async def _let_go(self) -> tuple[list[str], list[str]]:
        """What remains at the cloud once it has had its time to let go: a deleted volume takes some."""
        volumes, snapshots = await self._co.remaining()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LONG):
                while volumes or snapshots:
                    await asyncio.sleep(_LOOK)
                    volumes, snapshots = await self._co.remaining()
        return volumes, snapshots

    async def _gone(self, claim: Claim, node: Node) -> None:
        await self._co.unmount(claim, node)
        await self._co.detach(claim, node)
        await self._co.delete(claim)


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(_LONG):
        while not true():  # noqa: ASYNC110 - a thread writes, and knows no event loop
            await asyncio.sleep(0.005)


async def _compare(target: Path, digests: dict[str, str]) -> None:
    found = await files.off_loop(checkpoint.digests, target / "checkpoint", deadline=_LONG)
    if found != digests:
        wrong = sorted(name for name in digests | found if digests.get(name) != found.get(name))
        raise DataMismatch(f"the checkpoint at {target} is not what was written: {', '.join(wrong)} differ")


def _block_round_trip(device: Path) -> None:
    written = os.urandom(_BLOCK)
    handle = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.pwrite(handle, written, _BLOCK)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        if os.pread(handle, _BLOCK, _BLOCK) != written:
            raise DataMismatch(f"the block volume at {device} gave back other bytes than were written")
    finally:
        os.close(handle)
