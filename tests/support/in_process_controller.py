"""The controller's own code on an emulator, without the processes around it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

import pytest

from hyperpod_ebs.driver.aws import connection
from hyperpod_ebs.driver.aws.clients import Settings
from hyperpod_ebs.driver.model import tags
from hyperpod_ebs.driver.model.nodes import Ec2Node, HyperPodNode
from hyperpod_ebs.driver.model.sizes import GiB, SizeRange
from hyperpod_ebs.driver.model.volume import SnapshotSpec, Volume, VolumeSpec
from hyperpod_ebs.driver.volumes.cloud import Cloud
from hyperpod_ebs.driver.volumes.pace import Belief, Transition
from hyperpod_ebs.driver.volumes.provision import provision_volume
from hyperpod_ebs.driver.volumes.watch import Watcher
from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.wire.operations import AwsFault
from tests.support.emulator_clients import GROUP, ZONE, Aws, cloud

AT_ONCE: Final = dict.fromkeys(Transition, Belief.from_quantiles(median=0.01, p95=0.1))
"""How long transitions take where the clock is instant."""


def a_spec(name: str = "pvc-1", *, gib: int = 1, **more: Any) -> VolumeSpec:
    """A volume as the provisioner asks for it."""
    asked: dict[str, Any] = {"zone": ZONE, "type": "gp3", "tags": tags.TagPolicy().volume_tags(name, {}, ())} | more
    return VolumeSpec(name=name, size=SizeRange(GiB(gib)), **asked)


def a_snapshot(volume: Volume, name: str = "snapshot-1") -> SnapshotSpec:
    """A snapshot as the snapshotter asks for it."""
    return SnapshotSpec(name=name, volume_id=volume.id, tags=tags.TagPolicy().snapshot_tags(name))


@dataclass(frozen=True, slots=True)
class Steered:
    """An emulator, somebody else's clients of it, and the controller's way to it."""

    emulator: Emulator
    aws: Aws
    cloud: Cloud
    watcher: Watcher

    @classmethod
    @asynccontextmanager
    async def running(cls, environment: pytest.MonkeyPatch, **options: Any) -> AsyncGenerator[Self]:
        """All of it; the driver finds the emulator in its environment, as it would find AWS."""
        async with cloud(**options) as (emulator, aws):
            for name, value in emulator.env.items():
                environment.setenv(name, value)
            environment.setattr(connection, "FIRST_CHECK_TIMEOUT", 60.0)  # a busy machine connects late
            async with connection.connect(Settings()) as driver, Watcher(driver, AT_ONCE) as watcher:
                yield cls(emulator, aws, driver, watcher)

    async def volume(self, name: str = "pvc-1", **terms: Any) -> Volume:
        """The volume of this name."""
        return await provision_volume(self.cloud, self.watcher, a_spec(name, **terms))

    async def nodes(self, count: int = 2) -> list[HyperPodNode]:
        """The nodes of a new cluster."""
        arn, ids = await self.aws.create_cluster(InstanceGroups=[GROUP | {"InstanceCount": count}])
        return [HyperPodNode(arn.rpartition("/")[2], one) for one in ids]

    async def instance(self) -> Ec2Node:
        """A new EC2 node in the zone of the volumes."""
        return Ec2Node(await self.aws.run_instance(Placement={"AvailabilityZone": ZONE}))

    async def holders(self, volume: Volume) -> list[str]:
        """Who has the volume, in the driver's words."""
        shown = (await self.cloud.volumes([volume.id]))[volume.id]
        return [attachment.holder for attachment in shown.attachments]

    async def volume_count(self) -> int:
        """How many volumes there are of all."""
        return len((await self.aws.ec2("describe_volumes"))["Volumes"])

    def lose_answers(self, operation: str, times: int = 1) -> None:
        """Let the operation be done, and its answer be lost."""
        self.emulator.faults.plan(operation, drop=True, when="after", times=times)

    def refuse(self, operation: str, code: str, message: str = "planned") -> None:
        """Let the operation be refused once."""
        self.emulator.faults.plan(operation, AwsFault(code, message))
