"""The embedded cloud, running: on the caller's event loop, over real HTTP, with real block devices."""

import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyperpod_ebs.emulator import cloud, lifecycle, lock
from hyperpod_ebs.emulator.disks import loop_devices, mountinfo
from hyperpod_ebs.emulator.ec2.modifications import Rate
from hyperpod_ebs.emulator.http.auth import Keys
from hyperpod_ebs.emulator.http.faults import Faults
from hyperpod_ebs.emulator.http.metadata import Metadata
from hyperpod_ebs.emulator.http.routes import routes
from hyperpod_ebs.emulator.http.server import Server
from hyperpod_ebs.emulator.identity import Identity
from hyperpod_ebs.emulator.state.clock import Profile
from hyperpod_ebs.emulator.state.region import ZONES, Region
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.kit import files

LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulator:
    """A running emulator."""

    url: str
    state: Path
    env: dict[str, str]
    """What an AWS CLI or SDK needs in its environment."""

    faults: Faults
    """What is planned to go wrong."""

    world: World

    @classmethod
    @asynccontextmanager
    async def running(  # noqa: PLR0913 - each has a default and is named
        cls,
        state: Path | None = None,
        *,
        profile: Profile = "instant",
        seed: int = 0,
        host: str = LOOPBACK,
        port: int = 0,
        region: str = "us-west-2",
        account: str = "123456789012",
        zones: int = ZONES,
        rate: Rate = "four-a-day",
    ) -> AsyncGenerator["Emulator"]:
        """An emulator until the block is left.

        Args:
            state: Where everything is kept; None for a directory that goes with the emulator.
            profile: How fast states change: `instant`, `aws` or `chaos`.
            seed: What the times are drawn from.
            host: The address to listen at. Clients elsewhere than on this machine get the services and the
                machines' metadata, no control routes.
            port: The port to listen at; 0 for any that is free.
            region: The region that it is.
            account: The account that everything belongs to.
            zones: How many availability zones the region has, up to three.
            rate: How often a volume may be modified.

        Raises:
            StateRefused: The directory is in use, is damaged, or is of another region, account, number of zones
                or version; or it is no state directory.
            CommandFailed: Its disks cannot be made or mounted.
            OSError: It cannot be written to, or the port cannot be had.
        """
        async with AsyncExitStack() as stack:
            home = await files.off_loop(_home, state)
            if state is None:
                stack.push_async_callback(_remove, home)
            await files.off_loop(lambda: stack.enter_context(lock.held(home)))
            identity = await files.off_loop(lambda: Identity.of(home, Region(region, account, zones)))
            world = await stack.enter_async_context(
                lifecycle.lived_in(home, identity.emulated_region, profile=profile, seed=seed, keep=state is not None)
            )
            keys, faults = Keys(), Faults()
            keys.add(identity.access_key_id, identity.key)
            server = Server(
                services=cloud.services(world, rate=rate),
                keys=keys,
                faults=faults,
                control=routes(world),
                open_to_all=Metadata(world).routes(),
            )
            await stack.enter_async_context(world.clock.start_ticker())
            url = await stack.enter_async_context(server.serving(host, port))
            await files.off_loop(lambda: stack.enter_context(lock.published(home, url)))
            yield cls(url=url, state=home, env=identity.environment(url), faults=faults, world=world)

    def device_directory(self, instance: str) -> Path:
        """The device directory of an instance or HyperPod node."""
        return self.world.directories.path(instance)

    def metadata_url(self, instance: str) -> str:
        """The metadata endpoint of an instance or HyperPod node."""
        return f"{self.url}/_metadata/{instance}"


def _home(state: Path | None) -> Path:
    return Path(tempfile.mkdtemp(prefix="hyperpod-ebs-")).resolve() if state is None else state.resolve()


async def _remove(home: Path) -> None:
    """Remove a directory that was only for this run, unless something in it is in use."""
    if not await files.off_loop(mountinfo.mount_points, home):
        # Another mount namespace may still use a device; the kernel frees that one when the namespace ends.
        await files.off_loop(loop_devices.free_all, home)
        await files.off_loop(shutil.rmtree, home)
