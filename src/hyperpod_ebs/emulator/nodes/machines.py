"""Machines: EC2 instances and HyperPod nodes, from start to termination."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from hyperpod_ebs.emulator.kms.volume_keys import VolumeKeys
from hyperpod_ebs.emulator.nodes.attach_slots import attach_slots
from hyperpod_ebs.emulator.nodes.attachments import Attachments
from hyperpod_ebs.emulator.nodes.state_reasons import INVALID_KEY, USER_SHUTDOWN
from hyperpod_ebs.emulator.records import Attachment, Instance, Volume
from hyperpod_ebs.emulator.state.store import Records
from hyperpod_ebs.emulator.state.world import World, now
from hyperpod_ebs.kit import files

ROOT_DEVICE: Final = "/dev/xvda"

METADATA_NETWORK: Final = "127.31."
"""How the metadata addresses of all machines start."""

_POD_ADDRESS: Final = re.compile(r"10\.([0-9]+\.[0-9]+)\.[0-9]+")

MAX_MACHINES: Final = 5_000
"""Machines of the account, with those that are terminated and still described."""

TERMINATED_VISIBLE: Final = 3600.0
"""Seconds that DescribeInstances still returns a terminated instance."""


@dataclass(frozen=True, slots=True)
class LaunchVolume:
    """A volume that is created and attached when an instance starts for the first time."""

    volume: Volume
    device: str
    delete_on_termination: bool


class Machines:
    """All machines of the account: the customer's own and HyperPod's."""

    def __init__(self, world: World, attachments: Attachments, keys: VolumeKeys) -> None:
        self._world = world
        self._keys = keys
        self._store = world.store
        self._attachments = attachments
        world.clock.register("instance running", self._finish_start)
        world.clock.register("instance stopped", self._finish_stop)
        world.clock.register("instance terminated", self._finish_termination)
        world.clock.register("instance forgotten", self._forget)

    def has_room(self, count: int) -> bool:
        """Whether the account can have so many more machines."""
        return not count or len(self._store.instances) + count <= MAX_MACHINES

    def start(self, instance: Instance, *, failure: str = "") -> Instance:
        """Start a machine with a free address; the clock creates its device directory and makes it running.

        A machine with a `failure`, which is a code of EC2's StateReason, becomes terminated instead.
        """
        number = self._free_number()
        started = self._store.instances.put(
            replace(instance, address=_address(number), mac=_mac(number), launched=now(), state_reason=failure)
        )
        self._world.clock.schedule(instance.id, "instance terminated" if failure else "instance running")
        return started

    def add_volumes(self, instance: Instance, volumes: Sequence[LaunchVolume], *, first_unit: int = 0) -> None:
        """Add volumes to a new instance; unit 0 is the root volume, without an entry in the device directory."""
        for unit, each in enumerate(volumes, first_unit):
            self._store.volumes.put(each.volume)
            self._store.attachments.put(
                Attachment(
                    volume=each.volume.id,
                    instance=instance.id,
                    device=each.device,
                    unit=unit,
                    state="attaching" if unit else "attached",
                    since=now(),
                    delete_on_termination=each.delete_on_termination,
                    is_xen=bool(unit) and attach_slots(instance.kind).hypervisor == "xen",
                )
            )

    def stop(self, instance: Instance) -> Instance:
        """Start to stop `instance`; the clock finishes it."""
        stopping = self._store.instances.put(replace(instance, state="stopping", state_reason=USER_SHUTDOWN))
        self._world.clock.schedule(instance.id, "instance stopped")
        return stopping

    def start_again(self, instance: Instance, *, failure: str = "") -> Instance:
        """Start a stopped `instance`, which keeps its address; the clock finishes it.

        An instance with a `failure`, which is a code of EC2's StateReason, becomes stopped instead.
        """
        started = replace(instance, state="pending", launched=now(), state_reason=failure)
        pending = self._store.instances.put(started)
        self._world.clock.schedule(instance.id, "instance stopped" if failure else "instance running")
        return pending

    def terminate(self, instance: Instance) -> Instance:
        """Start to terminate `instance`; the clock finishes it."""
        terminating = self._store.instances.put(replace(instance, state="shutting-down", state_reason=USER_SHUTDOWN))
        self._world.clock.schedule(instance.id, "instance terminated")
        return terminating

    async def _finish_start(self, id_: str) -> None:
        volumes = [self._store.volumes[each.volume] for each in self._store.attachments.where("instance", id_)]
        if any(self._lacks_key(volume) for volume in volumes):
            self._store.instances.put(replace(self._store.instances[id_], state_reason=INVALID_KEY))
            await self._finish_termination(id_)
            return
        await files.off_loop(self._world.directories.create, id_)
        for attachment in self._store.attachments.where("instance", id_):
            await self._finish_volume(attachment.volume)
            if attachment.id not in self._store.dues:  # else the clock attaches or detaches the volume
                await self._attachments.show_device(attachment)
        self._store.instances.put(replace(self._store.instances[id_], state="running"))

    async def _finish_volume(self, id_: str) -> None:
        """Create the backing file of a volume that a request for its instance described."""
        volume = self._store.volumes[id_]
        if volume.state == "creating":
            await self._world.backing_files.create(id_, size_gib=volume.size_gib, snapshot=volume.snapshot)
            self._store.volumes.put(replace(self._store.volumes[id_], state="available"))

    def _lacks_key(self, volume: Volume) -> bool:
        """Whether the volume cannot be created because its key cannot be used."""
        if volume.state != "creating" or volume.key is None:
            return False
        return not (volume.data_key and self._keys.is_usable(volume.key))

    async def _finish_stop(self, id_: str) -> None:
        for attachment in self._store.attachments.where("instance", id_):
            await self._world.bindings.force_release(attachment)
            self._keys.close_for_instance(attachment.id)
        self._store.instances.put(replace(self._store.instances[id_], state="stopped"))

    async def _finish_termination(self, id_: str) -> None:
        for attachment in self._store.attachments.where("instance", id_):
            await self._attachments.force_detach(attachment)
            if attachment.delete_on_termination or self._lacks_key(self._store.volumes[attachment.volume]):
                # Before the next await, so that both deletions are in one transaction. The file goes last: the next
                # start deletes a file without a volume, but refuses a volume without a file.
                self._world.delete_volume(attachment.volume)
                await self._store.commit()
                await self._world.backing_files.delete(attachment.volume)
            else:
                await self._finish_volume(attachment.volume)
        await files.off_loop(self._world.directories.delete, id_)
        instance = self._store.instances[id_]
        if instance.cluster:
            self._store.instances.drop(id_)
            return
        self._store.instances.put(replace(instance, state="terminated"))
        self._world.clock.schedule_at(id_, "instance forgotten", now() + TERMINATED_VISIBLE)

    async def _forget(self, id_: str) -> None:
        self._store.instances.drop(id_)

    def _free_number(self) -> int:
        """A number whose address is free."""
        numbers = itertools.count(1 + len(self._store.instances))
        return next(number for number in numbers if not self._store.instances.where("address", _address(number)))


def _address(number: int) -> str:
    return f"172.31.{number // 256 % 256}.{number % 256}"


def _mac(number: int) -> str:
    return f"0a:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}:eb:01"


def metadata_address(instance: Instance) -> str:
    """The loopback address of the machine's metadata: 127 and the last three numbers of its private address."""
    return f"127.{instance.address.partition('.')[2]}"


def machine_at(instances: Records[Instance], address: str) -> Instance | None:
    """The live machine with this metadata address; None if there is none."""
    return machine_with(instances, f"172.{address.partition('.')[2]}")


def machine_with(instances: Records[Instance], address: str) -> Instance | None:
    """The live machine that has this address, or one of whose pods has it; None if there is none.

    The pods of the machine 172.31.0.1 have the addresses 10.0.1.0/24.
    """
    if match := _POD_ADDRESS.fullmatch(address):
        address = f"172.31.{match[1]}"
    return next((instance for instance in instances.where("address", address) if instance.is_alive), None)


def private_dns_name(world: World, instance: Instance) -> str:
    """The machine's private DNS name, which contains its address."""
    return f"ip-{instance.address.replace('.', '-')}.{world.region.private_domain}"


def customer_instances(instances: Records[Instance]) -> Mapping[str, Instance]:
    """The instances that EC2 shows to the customer, without HyperPod's nodes."""
    return {instance.id: instance for instance in instances.where("cluster", "")}
