"""The life of a volume: what a training job and its orchestrator do with it, step by step."""

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
from hyperpod_ebs.demo.orchestrator import Claim, Node, block_capability, filesystem_capability
from hyperpod_ebs.demo.steps import Steps
from hyperpod_ebs.kit import files
from hyperpod_ebs.pb import csi_pb2
from hyperpod_ebs.sandbox.failures import DataMismatch

_GIB: Final = 2**30
_DATA_TIMEOUT: Final = 60.0
"""Seconds that reading or writing a checkpoint may take."""

_POLL: Final = 0.25
"""Seconds between two polls of the state of a snapshot or of the remaining volumes."""

_SNAPSHOT_TIMEOUT: Final = 120.0
_BLOCK: Final = 2**20
_MIN_LINES: Final = 64
"""Lines that the journal has before the snapshot is taken, so that a comparison proves something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _JournalSnapshot:
    """A snapshot, with the journal's number of lines before the request and after the response."""

    snapshot: csi_pb2.Snapshot
    before: int
    after: int


class Story:
    """Plays the life of a volume on a fleet."""

    def __init__(self, fleet: Fleet, steps: Steps) -> None:
        """`steps` records each step."""
        self._fleet = fleet
        self._orchestrator = fleet.orchestrator
        self._steps = steps

    async def run(self) -> tuple[list[str], list[str]]:
        """Run all steps; the ids of volumes and snapshots that are left at the end, if any.

        Raises:
            DataMismatch: The data read differs from the data written.
            StepFailed: A step failed.
        """
        first, second = self._orchestrator.nodes.values()
        static_volume = await self._create_static_volume()
        claim = await self._create_volume()
        target = await self._attach_and_mount(claim, first)
        digests = await self._write_checkpoint(target)
        snapshot, lines = await self._snapshot_and_grow(claim, first, target)
        target = await self._move(claim, first, second)
        await self._verify(target, digests, lines)
        restored = await self._restore(snapshot, second, digests)
        static = await self._use_static_volume(static_volume, first)
        block = await self._use_block_volume(first)
        return await self._delete_everything(
            [(claim, second), (restored, second), (static, first), (block, first)], snapshot.snapshot
        )

    async def _create_static_volume(self) -> str:
        async with self._steps.step("create a volume in advance") as result:
            volume = await self._fleet.emulator.create_volume(self._fleet.zone, gib=1)
            result(f"{volume}, 1 GiB, created with EC2's API and used later")
        return volume

    async def _create_volume(self) -> Claim:
        async with self._steps.step("create a volume") as result:
            claim = await self._orchestrator.create("training-data", gib=2, capability=filesystem_capability("xfs"))
            result(f"{claim.id}, 2 GiB")
        return claim

    async def _attach_and_mount(self, claim: Claim, node: Node) -> Path:
        async with self._steps.step(f"attach to {node.name}") as result:
            context = await self._orchestrator.attach(claim, node)
            result(f"SageMaker attached it to {node.id}")
        async with self._steps.step(f"stage and publish on {node.name}") as result:
            target = await self._orchestrator.mount(claim, node, context)
            result("blank device formatted as xfs and mounted")
        return target

    async def _write_checkpoint(self, target: Path) -> dict[str, str]:
        async with self._steps.step("write a checkpoint") as result:
            digests = await files.off_loop(checkpoint.write, target / "checkpoint", deadline=_DATA_TIMEOUT)
            result(f"{len(digests)} files, {len(digests) * checkpoint.FILE_SIZE >> 20} MiB on disk, digests recorded")
        return digests

    async def _snapshot_and_grow(self, claim: Claim, node: Node, target: Path) -> tuple[_JournalSnapshot, int]:
        """Take a snapshot and grow the volume while the journal is written; the snapshot, and the journal's lines."""
        async with Journal.start(target / "journal") as journal:
            async with self._steps.step("take a snapshot during writes") as result:
                await _wait_until(lambda: journal.written >= _MIN_LINES)
                before = journal.written
                taken = await self._orchestrator.snapshot(claim, "training-data-1")
                snapshot = _JournalSnapshot(snapshot=taken, before=before, after=journal.written + 1)
                await _wait_until(lambda: journal.written > snapshot.after)
                result(f"{taken.snapshot_id}, while the journal grew from line {before} to {snapshot.after}")
            async with self._steps.step("grow from 2 to 4 GiB while mounted") as result:
                before = journal.written
                size = await self._orchestrator.grow(claim, node, gib=4)
                filesystem = await files.off_loop(os.statvfs, target)
                after_growth = journal.written
                await _wait_until(lambda: journal.written > after_growth)
                filesystem_size = filesystem.f_blocks * filesystem.f_frsize
                result(f"{size / _GIB:g} GiB, filesystem of {filesystem_size / _GIB:.2f} GiB")
                result(f"the journal grew from line {before} to {journal.written}")
        if journal.error:
            raise DataMismatch(f"writing the journal on {claim.id} failed while the volume grew: {journal.error}")
        return snapshot, journal.written

    async def _move(self, claim: Claim, first: Node, second: Node) -> Path:
        async with self._steps.step(f"unmount and detach from {first.name}") as result:
            await self._orchestrator.unmount(claim, first)
            await self._orchestrator.detach(claim, first)
            result("unpublished, unstaged, detached")
        async with self._steps.step(f"attach and mount on {second.name}") as result:
            target = await self._orchestrator.mount(claim, second, await self._orchestrator.attach(claim, second))
            result("attached, staged, published; not formatted again")
        return target

    async def _verify(self, target: Path, digests: dict[str, str], lines: int) -> None:
        async with self._steps.step("verify the data") as result:
            await _verify_checkpoint(target, digests)
            count = await files.off_loop(checkpoint.count_lines, target / "journal", deadline=_DATA_TIMEOUT)
            if count < lines:
                raise DataMismatch(f"the journal at {target} has {count} lines, but {lines} were on disk")
            result(f"all {len(digests)} digests and all {count} lines of the journal are correct")

    async def _restore(self, taken: _JournalSnapshot, node: Node, digests: dict[str, str]) -> Claim:
        async with self._steps.step("wait until the snapshot is ready") as result:
            async with asyncio.timeout(_SNAPSHOT_TIMEOUT):
                snapshot = taken.snapshot
                while not snapshot.ready_to_use:
                    await asyncio.sleep(_POLL)
                    source = Claim(id=snapshot.source_volume_id, capability=filesystem_capability("xfs"), context={})
                    snapshot = await self._orchestrator.snapshot(source, "training-data-1")
            result("ready to use")
        async with self._steps.step("restore the snapshot") as result:
            claim = await self._orchestrator.create(
                "restored", gib=2, capability=filesystem_capability("xfs"), snapshot_id=taken.snapshot.snapshot_id
            )
            target = await self._orchestrator.mount(claim, node, await self._orchestrator.attach(claim, node))
            await _verify_checkpoint(target, digests)
            count = await files.off_loop(checkpoint.count_lines, target / "journal", deadline=_DATA_TIMEOUT)
            if not taken.before <= count <= taken.after:
                raise DataMismatch(
                    f"the journal on {claim.id} has {count} lines, but the snapshot was taken between "
                    f"lines {taken.before} and {taken.after}"
                )
            result(f"{claim.id}: digests are correct, the journal ends at line {count}, written during the snapshot")
        return claim

    async def _use_static_volume(self, volume: str, node: Node) -> Claim:
        async with self._steps.step("use the volume created in advance") as result:
            claim = Claim(id=volume, capability=filesystem_capability("ext4"), context={})
            target = await self._orchestrator.mount(claim, node, await self._orchestrator.attach(claim, node))
            digests = await files.off_loop(checkpoint.write, target / "checkpoint", deadline=_DATA_TIMEOUT)
            await _verify_checkpoint(target, digests)
            result(f"{claim.id}, formatted as ext4, written and read")
        return claim

    async def _use_block_volume(self, node: Node) -> Claim:
        async with self._steps.step("use a raw block volume") as result:
            claim = await self._orchestrator.create("raw", gib=1, capability=block_capability())
            device = await self._orchestrator.mount(claim, node, await self._orchestrator.attach(claim, node))
            await files.off_loop(_write_and_read_block, device, deadline=_DATA_TIMEOUT)
            result(f"{claim.id}, {_BLOCK >> 20} MiB written to the device and read back")
        return claim

    async def _delete_everything(
        self, used: list[tuple[Claim, Node]], snapshot: csi_pb2.Snapshot
    ) -> tuple[list[str], list[str]]:
        """Delete the volumes and the snapshot; the ids of those that remain."""
        async with self._steps.step("delete everything") as result:
            async with asyncio.TaskGroup() as group:
                for claim, node in used:
                    group.create_task(self._delete(claim, node))
            await self._orchestrator.delete_snapshot(snapshot.snapshot_id)
            volumes, snapshots = await self._orchestrator.remaining()
            with suppress(TimeoutError):  # what remains then is reported
                async with asyncio.timeout(_DATA_TIMEOUT):
                    while volumes or snapshots:
                        await asyncio.sleep(_POLL)
                        volumes, snapshots = await self._orchestrator.remaining()
            result(f"{len(used)} volumes and 1 snapshot; {len(volumes) + len(snapshots) or 'none'} left in the cloud")
        return volumes, snapshots

    async def _delete(self, claim: Claim, node: Node) -> None:
        await self._orchestrator.unmount(claim, node)
        await self._orchestrator.detach(claim, node)
        await self._orchestrator.delete(claim)


async def _wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(_DATA_TIMEOUT):
        while not condition():  # noqa: ASYNC110 - polls a thread, which cannot set an asyncio event
            await asyncio.sleep(0.005)


async def _verify_checkpoint(target: Path, digests: dict[str, str]) -> None:
    found = await files.off_loop(checkpoint.digests, target / "checkpoint", deadline=_DATA_TIMEOUT)
    if found != digests:
        wrong = sorted(name for name in digests | found if digests.get(name) != found.get(name))
        raise DataMismatch(f"files of the checkpoint at {target} differ from those written: {', '.join(wrong)}")


def _write_and_read_block(device: Path) -> None:
    written = os.urandom(_BLOCK)
    handle = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.pwrite(handle, written, _BLOCK)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        if os.pread(handle, _BLOCK, _BLOCK) != written:
            raise DataMismatch(f"the bytes read from the block volume at {device} differ from those written")
    finally:
        os.close(handle)
