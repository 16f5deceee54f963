"""The controller's code on an emulator, in the process of the test."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

import aiohttp
import pytest

from hyperpod_ebs.driver.aws import connection
from hyperpod_ebs.driver.aws.clients import Settings
from hyperpod_ebs.driver.model import tags
from hyperpod_ebs.driver.model.nodes import Ec2Node, HyperPodNode
from hyperpod_ebs.driver.model.volume import SnapshotSpec, Volume
from hyperpod_ebs.driver.volumes.cloud import Cloud
from hyperpod_ebs.driver.volumes.modify import Modifier
from hyperpod_ebs.driver.volumes.pace import Belief, Transition
from hyperpod_ebs.driver.volumes.provision import provision_volume
from hyperpod_ebs.driver.volumes.watch import Watcher
from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.wire.operations import AwsFault
from hyperpod_ebs.kit.operations import Operations
from tests.support.emulator_clients import GROUP, ZONE, Aws, cloud
from tests.support.volume_specs import a_spec

AT_ONCE: Final = dict.fromkeys(Transition, Belief.from_quantiles(median=0.01, p95=0.1))
"""How long transitions take in an emulator whose states change at once."""


def a_snapshot(volume: Volume, name: str = "snapshot-1") -> SnapshotSpec:
    """A snapshot as external-snapshotter requests it."""
    return SnapshotSpec(name=name, volume_id=volume.id, tags=tags.TagPolicy().snapshot_tags(name))


@dataclass(frozen=True, slots=True)
class Controller:
    """The controller's code on an emulator, and AWS clients that are not the driver's."""

    emulator: Emulator
    aws: Aws
    cloud: Cloud
    watcher: Watcher
    modifier: Modifier

    @classmethod
    @asynccontextmanager
    async def open(cls, environment: pytest.MonkeyPatch, **options: Any) -> AsyncGenerator[Self]:
        """Start an emulator and connect to it through environment variables, as the driver connects to AWS."""
        async with cloud(**options) as (emulator, aws):
            for name, value in emulator.env.items():
                environment.setenv(name, value)
            environment.setattr(connection, "FIRST_CHECK_TIMEOUT", 60.0)  # a busy machine connects late
            async with (
                connection.connect(Settings()) as driver,
                Watcher(driver, AT_ONCE) as watcher,
                Operations[str]() as operations,
            ):
                yield cls(emulator, aws, driver, watcher, Modifier(driver, watcher, operations, window=0.0))

    async def provision(self, name: str = "pvc-1", **terms: Any) -> Volume:
        """Provision the volume with this name."""
        return await provision_volume(self.cloud, self.watcher, a_spec(name, **terms))

    async def create_nodes(self, count: int = 2) -> list[HyperPodNode]:
        """Create a HyperPod cluster; its nodes."""
        arn, ids = await self.aws.create_cluster(InstanceGroups=[GROUP | {"InstanceCount": count}])
        return [HyperPodNode(arn.rpartition("/")[2], id_) for id_ in ids]

    async def run_instance(self) -> Ec2Node:
        """Run an EC2 instance in the zone of the volumes."""
        return Ec2Node(await self.aws.run_instance(Placement={"AvailabilityZone": ZONE}))

    async def holders(self, volume: Volume) -> list[str]:
        """What the volume is attached to, as the driver shows it."""
        shown = (await self.cloud.describe_volumes([volume.id]))[volume.id]
        return [attachment.holder for attachment in shown.attachments]

    async def volume_count(self) -> int:
        """The number of volumes in the cloud."""
        return len((await self.aws.ec2("describe_volumes"))["Volumes"])

    async def call_count(self, operation: str) -> int:
        """How often the emulator has been called with this `service:Operation`."""
        async with aiohttp.ClientSession(self.emulator.url) as http, http.get("/_emulator/calls") as answer:
            counts: dict[str, int] = await answer.json()
            return counts.get(operation, 0)

    def lose_answers(self, operation: str, times: int = 1) -> None:
        """Let the emulator complete the operation and drop its answer."""
        self.emulator.faults.plan(operation, drop=True, when="after", times=times)

    def refuse(self, operation: str, code: str, message: str = "planned") -> None:
        """Let the emulator refuse the operation once."""
        self.emulator.faults.plan(operation, AwsFault(code, message))
