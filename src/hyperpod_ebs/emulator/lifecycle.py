"""What an emulator does with a state directory at start and stop: recover the previous run's state, release devices."""

import functools
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from hyperpod_ebs.emulator.disks import loop_devices, pool
from hyperpod_ebs.emulator.disks.backing_files import BackingFiles
from hyperpod_ebs.emulator.disks.bindings import Bindings
from hyperpod_ebs.emulator.disks.device_directories import DeviceDirectories
from hyperpod_ebs.emulator.disks.file_copy import CopyMethod
from hyperpod_ebs.emulator.disks.pool import Pool, PoolUnusable
from hyperpod_ebs.emulator.ec2 import client_tokens
from hyperpod_ebs.emulator.records import Attachment
from hyperpod_ebs.emulator.state import root_key
from hyperpod_ebs.emulator.state.clock import Clock, Profile
from hyperpod_ebs.emulator.state.endpoint import Endpoint
from hyperpod_ebs.emulator.state.region import Region
from hyperpod_ebs.emulator.state.store import RESTORE, StateRefused, Store
from hyperpod_ebs.emulator.state.views import Consistency, view_of
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.kit import files

log = logging.getLogger(__name__)


@asynccontextmanager
async def open_world(  # noqa: PLR0913 - the settings of a world
    state: Path, region: Region, *, profile: Profile, consistency: Consistency, seed: int, temporary: bool
) -> AsyncGenerator[World]:
    """Open the world that the locked state directory contains, and make disks and devices match its records.

    At the start, complete or undo what a killed emulator left half done. At the end, release every idle device. A
    device that a node still has mounted is logged and left; the next start takes it over. A `temporary` directory
    has no next start, so the kernel frees such a device at its last close.
    """
    async with AsyncExitStack() as stack:
        store = await files.off_loop(Store.open, state / "state.db")
        stack.push_async_callback(files.off_loop, store.close)
        load = functools.partial(root_key.load_or_create, state, is_needed=bool(store.kms_keys))
        root = await files.off_loop(load)
        stack.push_async_callback(_close_pool, state)
        try:
            disks = await Pool.open(state)
        except PoolUnusable as reason:
            raise StateRefused(str(reason)) from reason
        if disks.copy_method is CopyMethod.COPY:
            log.warning(
                "snapshots in %s are %s; for clones, use a directory on XFS or Btrfs, or root and mkfs.xfs",
                state,
                disks.copy_method.value,
            )
        clock = Clock(store, profile=profile, seed=seed)
        backing_files, directories = BackingFiles(disks), DeviceDirectories(state / "nodes")
        bindings = await _open_bindings(store, backing_files, directories)
        world = World(
            region=region,
            store=store,
            shown=view_of(store, consistency=consistency, seed=seed),
            clock=clock,
            backing_files=backing_files,
            directories=directories,
            bindings=bindings,
            state=state,
            endpoint=Endpoint(),
            root_key=root,
        )
        stack.push_async_callback(_release_devices, world, temporary=temporary)
        await _recover(world, disks)
        yield world


async def _open_bindings(store: Store, backing_files: BackingFiles, directories: DeviceDirectories) -> Bindings:
    await files.off_loop(directories.reconcile, store.instances)
    usable = await files.off_loop(lambda: loop_devices.usable() and directories.usable())
    if not usable:
        log.warning(
            "attachments change their state, but nodes get no devices: devices need root, loop devices and "
            "a state directory on a filesystem that is not mounted nodev"
        )
    return Bindings(backing_files, directories, usable=usable)


async def _recover(world: World, disks: Pool) -> None:
    store = world.store
    client_tokens.forget_expired(store)
    complete = [*store.snapshots, *(volume.id for volume in store.volumes.values() if volume.state == "available")]
    if missing := await world.backing_files.missing(complete):
        raise StateRefused(f"{disks.path} lacks the data of {', '.join(sorted(missing))}: {RESTORE}")
    await world.bindings.take_over(_attachments_with_devices(store), disks.path)
    await world.backing_files.delete_unknown({*store.volumes, *store.snapshots})


async def _release_devices(world: World, *, temporary: bool) -> None:
    consequence = "the kernel frees its device at the last close" if temporary else "the next start takes it over"
    for attachment in await world.bindings.release_all(_attachments_with_devices(world.store), force=temporary):
        log.warning("%s is still in use on %s; %s", attachment.volume, attachment.instance, consequence)


async def _close_pool(state: Path) -> None:
    for reason in await pool.close(state):
        log.warning("%s", reason)


def _attachments_with_devices(store: Store) -> list[Attachment]:
    """The attachments with a device on their node: not those of stopped nodes, or of root volumes, whose unit is 0."""
    return [
        attachment
        for attachment in store.attachments.values()
        if attachment.unit and store.instances[attachment.instance].state != "stopped"
    ]
