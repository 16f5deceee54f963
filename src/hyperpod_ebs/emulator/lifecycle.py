"""A state directory while an emulator lives in it: taken over at the start, left tidy at the end."""

import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from hyperpod_ebs.emulator.disks import loop_devices, pool
from hyperpod_ebs.emulator.disks.backing_files import BackingFiles
from hyperpod_ebs.emulator.disks.bindings import Bindings
from hyperpod_ebs.emulator.disks.device_directories import DeviceDirectories
from hyperpod_ebs.emulator.disks.pool import CopyMethod, Pool
from hyperpod_ebs.emulator.ec2 import client_tokens
from hyperpod_ebs.emulator.records import Attachment
from hyperpod_ebs.emulator.state.clock import Clock, Profile
from hyperpod_ebs.emulator.state.region import Region
from hyperpod_ebs.emulator.state.store import RESTORE, StateRefused, Store
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.kit import files

log = logging.getLogger(__name__)


@asynccontextmanager
async def lived_in(state: Path, region: Region, *, profile: Profile, seed: int, keep: bool) -> AsyncGenerator[World]:
    """The world that the locked directory `state` holds, with its disks and devices as the store says.

    Whatever a dead process left is finished, taken over or freed. At the end what nobody
    uses is released; what a node still has mounted stays, and is said. Without `keep` it is
    marked to go with its last user, since nobody is going to take it over.
    """
    async with AsyncExitStack() as stack:
        store = await files.off_loop(Store.open, state / "state.db")
        stack.push_async_callback(files.off_loop, store.close)
        stack.push_async_callback(_close_pool, state)
        disks = await Pool.open(state)
        world = await _world(disks, store, Clock(store, profile=profile, seed=seed), region, state)
        stack.push_async_callback(_release, world, keep=keep)
        await _recover(world, disks)
        yield world


async def _world(disks: Pool, store: Store, clock: Clock, region: Region, state: Path) -> World:
    """The parts put together; what this machine cannot do is said."""
    if disks.copy_method is CopyMethod.COPY:
        log.warning("snapshots in %s are %s", state, disks.copy_method.value)
    backing_files, directories = BackingFiles(disks), DeviceDirectories(state / "nodes")
    await files.off_loop(directories.reconcile, store.instances)
    usable = await files.off_loop(lambda: loop_devices.usable() and directories.usable())
    if not usable:
        log.warning("attachments have states, but no devices: that takes root, loop devices, and no nodev mount")
    bindings = Bindings(backing_files, directories, usable=usable)
    return World(
        region=region, store=store, clock=clock, backing_files=backing_files, directories=directories, bindings=bindings
    )


async def _recover(world: World, disks: Pool) -> None:
    store = world.store
    client_tokens.forget_expired(store)
    made = [*store.snapshots, *(volume.id for volume in store.volumes.values() if volume.state == "available")]
    if missing := await world.backing_files.missing(made):
        raise StateRefused(f"{disks.path} has no bytes of {', '.join(sorted(missing))}: {RESTORE}")
    await world.bindings.take_over(_with_devices(store), disks.path)
    await world.backing_files.delete_unknown({*store.volumes, *store.snapshots})


async def _release(world: World, *, keep: bool) -> None:
    for attachment in await world.bindings.release_all(_with_devices(world.store), force=not keep):
        log.warning("%s is still in use on %s: left for the next start", attachment.volume, attachment.instance)


async def _close_pool(state: Path) -> None:
    if not await pool.close(state):
        log.warning("%s stays mounted: something in it is in use", state / "disks")


def _with_devices(store: Store) -> list[Attachment]:
    """The attachments that a node can have a device of."""
    return [one for one in store.attachments.values() if one.unit]
