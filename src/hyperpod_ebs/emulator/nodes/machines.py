"""Machines: what EC2 instances and HyperPod nodes have in common."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from hyperpod_ebs.emulator.nodes.attachments import Attachments
from hyperpod_ebs.emulator.records import Attachment, Instance, Volume
from hyperpod_ebs.emulator.state.world import World, new_id, now
from hyperpod_ebs.kit import files

ROOT: Final = "/dev/xvda"

ROOT_GIB: Final = 8

REMEMBERED: Final = 3600.0
"""Seconds for which a terminated instance is still described."""


class Machines:
    """All machines of the account, whoever owns them."""

    def __init__(self, world: World, attachments: Attachments) -> None:
        self._world = world
        self._store = world.store
        self._attachments = attachments
        world.clock.register("instance running", self._running)
        world.clock.register("instance terminated", self._terminated)
        world.clock.register("instance forgotten", self._forgotten)

    def start(self, instance: Instance) -> Instance:
        """A machine of this description, with an address; running, with a device directory, when the clock has it."""
        number = self._free_number()
        started = self._store.instances.put(
            replace(instance, address=_address(number), mac=_mac(number), launched=now())
        )
        self._world.clock.schedule(instance.id, "instance running")
        return started

    def give_root(self, instance: Instance) -> None:
        """Put a root volume on `instance`, which goes with it; it has no device in the node's directory."""
        volume = Volume(id=new_id("vol"), zone=instance.zone, size_gib=ROOT_GIB, kind="gp3", iops=3000,
                        throughput_mib=125, created=now())  # fmt: skip
        self._store.volumes.put(volume)
        self._store.attachments.put(
            Attachment(
                volume=volume.id,
                instance=instance.id,
                device=ROOT,
                unit=0,
                state="attached",
                since=now(),
                delete_on_termination=True,
            )
        )

    def stop(self, instance: Instance) -> Instance:
        """Terminate `instance`; done when the clock has it."""
        stopped = self._store.instances.put(replace(instance, state="shutting-down"))
        self._world.clock.schedule(instance.id, "instance terminated")
        return stopped

    async def _running(self, id_: str) -> None:
        await files.off_loop(self._world.directories.make, id_)
        for root in [one for one in self._store.attachments.where("instance", id_) if not one.unit]:
            await self._world.images.make(root.volume, size_gib=ROOT_GIB, snapshot=None)
            self._store.volumes.put(replace(self._store.volumes[root.volume], state="available"))
        self._store.instances.put(replace(self._store.instances[id_], state="running"))

    async def _terminated(self, id_: str) -> None:
        for attachment in self._store.attachments.where("instance", id_):
            await self._attachments.cut(attachment)
            if attachment.delete_on_termination:
                # Before the next await, so that it is committed with the end of the attachment.
                self._world.delete_volume(attachment.volume)
                await self._world.images.drop(attachment.volume)
        await files.off_loop(self._world.directories.drop, id_)
        instance = self._store.instances[id_]
        if instance.cluster:
            self._store.instances.drop(id_)
            return
        self._store.instances.put(replace(instance, state="terminated"))
        self._world.clock.schedule_at(id_, "instance forgotten", now() + REMEMBERED)

    async def _forgotten(self, id_: str) -> None:
        self._store.instances.drop(id_)

    def _free_number(self) -> int:
        """A number whose address no machine has."""
        numbers = itertools.count(1 + len(self._store.instances))
        return next(number for number in numbers if not self._store.instances.where("address", _address(number)))


def _address(number: int) -> str:
    return f"172.31.{number // 256 % 256}.{number % 256}"


def _mac(number: int) -> str:
    return f"0a:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}:eb:01"


def own_instances(world: World) -> Mapping[str, Instance]:
    """The instances that EC2 shows: HyperPod's belong to the service."""
    return {one.id: one for one in world.store.instances.where("cluster", "")}
