"""The embedded cloud, running on the caller's event loop, with HTTP endpoints and block devices."""

import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from hyperpod_ebs.emulator import lifecycle, services, state_directory
from hyperpod_ebs.emulator.call_log import CallLog
from hyperpod_ebs.emulator.credentials import Credentials
from hyperpod_ebs.emulator.disks import loop_devices, mountinfo
from hyperpod_ebs.emulator.http import account_limits, oidc_issuers, status
from hyperpod_ebs.emulator.http.faults import Faults
from hyperpod_ebs.emulator.http.instance_metadata import InstanceMetadata
from hyperpod_ebs.emulator.http.latency import latency_of
from hyperpod_ebs.emulator.http.metadata_listeners import MetadataListeners
from hyperpod_ebs.emulator.http.server import Server
from hyperpod_ebs.emulator.http.throttle import Throttle
from hyperpod_ebs.emulator.identity import administrator, aws_managed
from hyperpod_ebs.emulator.settings import EmulatorSettings
from hyperpod_ebs.emulator.state import partitions
from hyperpod_ebs.emulator.state.region import Region
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.kit import files


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulator:
    """A running emulator."""

    url: str
    state: Path
    """The state directory."""

    env: dict[str, str]
    """The environment variables with which an AWS CLI or SDK calls this emulator."""

    is_first_start: bool
    """Whether this start has created the account's administrator."""

    faults: Faults
    """The planned faults."""

    world: World
    metadata_listeners: MetadataListeners

    @classmethod
    @asynccontextmanager
    async def start(cls, settings: EmulatorSettings) -> AsyncGenerator["Emulator"]:
        """Run an emulator until the block ends.

        Without `settings.state`, its state is in a temporary directory. That directory is deleted at the end, unless
        something in it is still mounted. Clients on other machines can use the AWS services, but neither the control
        routes nor the instance metadata.

        Raises:
            BadLimits: The file with the limits on the rate of calls cannot be read, or is malformed.
            StateRefused: The state directory is in use, is damaged, contains other files, or was created for
                another region, account, number of zones or version.
            CommandFailed: The disks cannot be created or mounted.
            OSError: The directory cannot be written to, or the port is taken.
        """
        limits = await files.off_loop(account_limits.load_limits, settings.throttle, settings.profile)
        async with AsyncExitStack() as stack:
            state = await files.off_loop(_resolve_or_create, settings.state)
            if settings.state is None:
                stack.push_async_callback(_delete_unless_mounted, state)
            await files.off_loop(stack.enter_context, state_directory.lock(state))
            await files.off_loop(partitions.load)
            region = Region(settings.region, settings.account, settings.zones)
            credentials = await files.off_loop(Credentials.load_or_create, state, region)
            await files.off_loop(aws_managed.all_policies)  # reads a file, and keeps the policies
            world = await stack.enter_async_context(
                lifecycle.open_world(
                    state,
                    region,
                    profile=settings.profile,
                    consistency=settings.consistency,
                    seed=settings.seed,
                    temporary=settings.state is None,
                )
            )
            is_first_start = administrator.create_administrator(
                world.store, region, key_id=credentials.access_key_id, secret=credentials.secret_access_key
            )
            faults, call_log = Faults(), CallLog()
            has_network = settings.link_local_metadata == "on"
            listeners = MetadataListeners(world.store.instances, has_link_local=has_network)
            aws = services.create_services(
                world,
                rate=settings.rate,
                snapshot_rate=settings.snapshot_rate,
                enforces=settings.iam == "on",
                pod_seconds=settings.pod_seconds,
                call_log=call_log,
            )
            server = Server(
                services=aws.objects,
                access=aws.access,
                faults=faults,
                throttle=Throttle(limits),
                latency=latency_of(settings.latency, profile=settings.profile, seed=settings.seed),
                local_routes=status.routes(world, listeners, call_log),
                public_routes=oidc_issuers.routes(world),
                metadata=InstanceMetadata(world, listeners, aws.instance_credentials),
                call_log=call_log,
                pause=world.clock.pause,
            )
            await stack.enter_async_context(world.clock.start_ticker())
            url = await stack.enter_async_context(server.serve(settings.host, settings.port))
            world.endpoint.publish(url)
            await files.off_loop(stack.enter_context, state_directory.publish_url(state, url))
            yield cls(
                url=url,
                state=state,
                env=credentials.environment(url),
                is_first_start=is_first_start,
                faults=faults,
                world=world,
                metadata_listeners=listeners,
            )

    def device_directory(self, instance: str) -> Path:
        """The device directory of an instance or HyperPod node."""
        return self.world.directories.path(instance)

    def metadata_url(self, instance: str) -> str:
        """The URL of the metadata of an instance or HyperPod node; only clients on this machine can use it."""
        return self.metadata_listeners.url(self.world.store.instances[instance])


def _resolve_or_create(state: Path | None) -> Path:
    """Return the absolute path of the state directory; without one, create a temporary directory."""
    return (Path(tempfile.mkdtemp(prefix="hyperpod-ebs-")) if state is None else state).resolve()


async def _delete_unless_mounted(state: Path) -> None:
    """Delete a temporary state directory, unless something in it is mounted."""
    if not await files.off_loop(mountinfo.mount_points, state):
        # A mount in another mount namespace may still use a loop device; the kernel frees it at the last close.
        await files.off_loop(loop_devices.free_all, state)
        await files.off_loop(shutil.rmtree, state)
