"""RunInstances, TerminateInstances and DescribeInstances, as far as nodes need them."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Final

from hyperpod_ebs.emulator.ec2 import listing, naming, tagging
from hyperpod_ebs.emulator.ec2.tokens import Tokens
from hyperpod_ebs.emulator.nodes.machines import ROOT, Machines, own_instances
from hyperpod_ebs.emulator.records import Attachment, Instance
from hyperpod_ebs.emulator.state.region import VPC
from hyperpod_ebs.emulator.state.world import World, new_id, tag_list, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, Asked, AwsFault, Call, Operations

PAGES: Final = (5, 1000)

DEFAULT_TYPE: Final = "m5.large"

_CODES: Final = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48}


class Instances:
    """The customer's own instances."""

    name = "ec2"
    operations = Operations["Instances"]()

    def __init__(self, world: World, machines: Machines) -> None:
        self._world = world
        self._machines = machines
        self._tokens = Tokens(world.store, "RunInstances")

    @operations("RunInstances")
    async def run(self, asked: Asked, _: Call) -> Answer:
        """A reservation of instances, pending, each with a root volume."""
        least, most = naming.needed(asked, "MinCount", "MaxCount")
        await self._world.clock.run_due_steps()
        if not 1 <= least <= most:
            raise AwsFault("InvalidParameterValue", f"MinCount {least} and MaxCount {most} make no number of instances")
        zone, tags = self._zone(asked), self._tags(asked)
        reservation, made = new_id("r"), self._tokens.made(asked, zone)
        naming.dry_run(asked)
        if made:
            instances = naming.all_found(own_instances(self._world), made, naming.INSTANCE)
        else:
            wanted = [self._wanted(asked, zone, tags, reservation) for _ in range(most)]
            self._tokens.remember(asked, zone, [one.id for one in wanted])
            instances = [self._machines.start(one) for one in wanted]
            for one in instances:
                self._machines.give_root(one)
        return await self._world.acknowledge(self._reservation(instances))

    @operations("TerminateInstances")
    async def terminate(self, asked: Asked, _: Call) -> Answer:
        """The instances, shutting down; what is attached is cut off, and root volumes go with them."""
        naming.needed(asked, "InstanceIds")
        await self._world.clock.run_due_steps()
        before = naming.all_found(own_instances(self._world), asked["InstanceIds"], naming.INSTANCE)
        naming.dry_run(asked)
        changes = []
        for instance in before:
            gone = instance.state in {"shutting-down", "terminated"}
            after = instance if gone else self._machines.stop(instance)
            change = {"InstanceId": instance.id, "PreviousState": _state(instance), "CurrentState": _state(after)}
            changes.append(change)
        return await self._world.acknowledge({"TerminatingInstances": changes})

    @operations("DescribeInstances")
    async def describe(self, asked: Asked, _: Call) -> Answer:
        """Reservations of instances by ids, of which an unknown one fails the call, or by filters."""
        await self._world.clock.run_due_steps()
        naming.dry_run(asked)
        listing.not_both(asked, "InstanceIds")
        known = own_instances(self._world)
        if ids := asked.get("InstanceIds"):
            known = {one.id: one for one in naming.all_found(known, ids, naming.INSTANCE)}
        chosen = listing.selected(known, asked, self._fields(), by_id="instance-id", tags=_tags)
        this, token = listing.page(chosen, asked, PAGES, key=lambda one: one.id)
        ordered = sorted(this, key=lambda one: one.reservation)
        reservations = [self._reservation(list(some)) for _, some in groupby(ordered, key=lambda one: one.reservation)]
        return await self._world.acknowledge({"Reservations": reservations, "NextToken": token})

    def _zone(self, asked: Asked) -> str:
        region = self._world.region
        if subnet := asked.get("SubnetId"):
            zone = next((zone for zone in region.zones if zone.subnet == subnet), None)
            if zone is None:
                raise AwsFault("InvalidSubnetID.NotFound", f"The subnet ID '{subnet}' does not exist")
            return zone.name
        name = asked.get("Placement", {}).get("AvailabilityZone") or region.zones[0].name
        if name not in {zone.name for zone in region.zones}:
            raise AwsFault("InvalidParameterValue", f"Invalid availability zone: [{name}]")
        return str(name)

    def _tags(self, asked: Asked) -> dict[str, str]:
        mine = [one for one in asked.get("TagSpecifications", []) if one.get("ResourceType") == "instance"]
        return tagging.of_new({"TagSpecifications": mine}, "instance")

    def _wanted(self, asked: Asked, zone: str, tags: dict[str, str], reservation: str) -> Instance:
        return Instance(
            id=new_id("i"),
            kind=asked.get("InstanceType", DEFAULT_TYPE),
            zone=zone,
            image=asked.get("ImageId", ""),
            tags=tags,
            reservation=reservation,
        )

    def _reservation(self, instances: Sequence[Instance]) -> dict[str, Any]:  # the members of EC2's Reservation
        return {
            "ReservationId": instances[0].reservation,
            "OwnerId": self._world.region.account,
            "Instances": [self._shown(one) for one in instances],
        }

    def _shown(self, instance: Instance) -> dict[str, Any]:  # the members of EC2's Instance
        region = self._world.region
        zone = region.zone(instance.zone)
        live = instance.state in {"pending", "running"}
        return {
            "InstanceId": instance.id,
            "ImageId": instance.image,
            "InstanceType": instance.kind,
            "LaunchTime": to_datetime(instance.launched),
            "State": _state(instance),
            "Placement": {
                "AvailabilityZone": instance.zone,
                "AvailabilityZoneId": zone.id if zone else None,
                "Tenancy": "default",
            },
            "PrivateDnsName": _dns_name(instance, region.name) if live else "",
            "PrivateIpAddress": instance.address if live else None,
            "SubnetId": zone.subnet if zone and live else None,
            "VpcId": VPC if live else None,
            "RootDeviceName": ROOT,
            "RootDeviceType": "ebs",
            "BlockDeviceMappings": [_mapping(one) for one in self._attached(instance)],
            "Architecture": "x86_64",
            "Hypervisor": "nitro",
            "VirtualizationType": "hvm",
            "Tags": tag_list(instance.tags),
        }

    def _attached(self, instance: Instance) -> list[Attachment]:
        return self._world.store.attachments.where("instance", instance.id)

    def _fields(self) -> dict[str, listing.Field[Instance]]:
        region, attached = self._world.region, self._attached
        return {
            "availability-zone": lambda one: [one.zone],
            "availability-zone-id": lambda one: [region.zone_id(one.zone) or ""],
            "block-device-mapping.device-name": lambda one: [mapping.device for mapping in attached(one)],
            "block-device-mapping.status": lambda one: [mapping.state for mapping in attached(one)],
            "block-device-mapping.volume-id": lambda one: [mapping.volume for mapping in attached(one)],
            "image-id": lambda one: [one.image],
            "instance-id": lambda one: [one.id],
            "instance-state-code": lambda one: [str(_CODES[one.state])],
            "instance-state-name": lambda one: [one.state],
            "instance-type": lambda one: [one.kind],
            "private-dns-name": lambda one: [_dns_name(one, region.name)],
            "private-ip-address": lambda one: [one.address],
            "reservation-id": lambda one: [one.reservation],
            "vpc-id": lambda _: [VPC],
        }


def _tags(instance: Instance) -> Iterable[str]:
    return [f"{key}={value}" for key, value in instance.tags.items()]


def _state(instance: Instance) -> dict[str, Any]:  # the members of EC2's InstanceState
    return {"Code": _CODES[instance.state], "Name": instance.state}


def _dns_name(instance: Instance, region: str) -> str:
    return f"ip-{instance.address.replace('.', '-')}.{region}.compute.internal"


def _mapping(attachment: Attachment) -> dict[str, Any]:  # the members of EC2's InstanceBlockDeviceMapping
    return {
        "DeviceName": attachment.device,
        "Ebs": {
            "VolumeId": attachment.volume,
            "Status": attachment.state,
            "AttachTime": to_datetime(attachment.since),
            "DeleteOnTermination": attachment.delete_on_termination,
        },
    }
