"""RunInstances, TerminateInstances and DescribeInstances, reduced to what Kubernetes nodes need."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

from hyperpod_ebs.emulator.ec2 import filters, pages, request_checks, resource_ids, tagging
from hyperpod_ebs.emulator.ec2.client_tokens import ClientTokens
from hyperpod_ebs.emulator.ec2.run_instances_needs import DEFAULT_TYPE
from hyperpod_ebs.emulator.nodes.machines import ROOT_DEVICE, Machines, customer_instances, private_dns_name
from hyperpod_ebs.emulator.records import Attachment, Instance
from hyperpod_ebs.emulator.state.region import VPC
from hyperpod_ebs.emulator.state.world import World, new_id, tag_list, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

PAGE_SIZES: Final = (5, 1000)

_CODES: Final = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48}


class Instances:
    """The customer's own instances."""

    name = "ec2"
    operations = Operations["Instances"]()

    def __init__(self, world: World, machines: Machines) -> None:
        self._world = world
        self._machines = machines
        self._tokens = ClientTokens(world.store, "RunInstances")

    @operations("RunInstances")
    async def run(self, parameters: Parameters, _: Call) -> Answer:
        """Start instances in state pending, each with a root volume."""
        least, most = request_checks.require(parameters, "MinCount", "MaxCount")
        await self._world.clock.run_due_steps()
        if not 1 <= least <= most:
            raise AwsFault("InvalidParameterValue", f"MinCount {least} is not between 1 and MaxCount {most}")
        zone = self._zone(parameters)
        specifications = [
            item for item in parameters.get("TagSpecifications", []) if item.get("ResourceType") == "instance"
        ]
        tags = tagging.requested_tags({"TagSpecifications": specifications}, "instance")
        reservation, earlier_ids = new_id("r"), self._tokens.earlier_ids(parameters, zone)
        request_checks.refuse_dry_run(parameters)
        if earlier_ids:
            own = customer_instances(self._world.store.instances)
            instances = resource_ids.find_all(own, earlier_ids, resource_ids.INSTANCE)
        else:
            new = [self._new_instance(parameters, zone, tags, reservation) for _ in range(most)]
            self._tokens.remember(parameters, zone, [instance.id for instance in new])
            instances = [self._machines.start(instance) for instance in new]
            for instance in instances:
                self._machines.add_root_volume(instance)
        return await self._world.acknowledge(self._render_reservation(instances))

    @operations("TerminateInstances")
    async def terminate(self, parameters: Parameters, _: Call) -> Answer:
        """Terminate instances and delete their root volumes; other volumes are force-detached."""
        if not parameters.get("InstanceIds"):
            raise AwsFault("InvalidParameterCombination", "No instances specified")
        await self._world.clock.run_due_steps()
        instances = resource_ids.find_instances(self._world, parameters["InstanceIds"])
        request_checks.refuse_dry_run(parameters)
        changes = []
        for instance in instances:
            ending = instance.state in {"shutting-down", "terminated"}
            after = instance if ending else self._machines.terminate(instance)
            change = {
                "InstanceId": instance.id,
                "PreviousState": _render_state(instance),
                "CurrentState": _render_state(after),
            }
            changes.append(change)
        return await self._world.acknowledge({"TerminatingInstances": changes})

    @operations("DescribeInstances")
    async def describe(self, parameters: Parameters, _: Call) -> Answer:
        """List instances, grouped by reservation, by id or by filter; an unknown id fails the call."""
        await self._world.clock.run_due_steps()
        request_checks.refuse_dry_run(parameters)
        pages.refuse_pages_of_ids(parameters, "InstanceIds", shown="instancesSet")
        known = customer_instances(self._world.shown.instances)
        if ids := parameters.get("InstanceIds"):
            known = {instance.id: instance for instance in resource_ids.find_all(known, ids, resource_ids.INSTANCE)}
        matching = filters.matching(
            known, parameters, self._fields(), by_id="instance-id", tags=lambda instance: instance.tags
        )
        this_page, token = pages.page(matching, parameters, PAGE_SIZES, key=lambda instance: instance.id)
        ordered = sorted(this_page, key=lambda instance: instance.reservation)
        by_reservation = groupby(ordered, key=lambda instance: instance.reservation)
        reservations = [self._render_reservation(list(group)) for _, group in by_reservation]
        return await self._world.acknowledge({"Reservations": reservations, "NextToken": token})

    def _zone(self, parameters: Parameters) -> str:
        region = self._world.region
        if subnet := parameters.get("SubnetId"):
            zone = next((zone for zone in region.zones if zone.subnet == subnet), None)
            if zone is None:
                raise AwsFault("InvalidSubnetID.NotFound", f"The subnet ID '{subnet}' does not exist")
            return zone.name
        name = parameters.get("Placement", {}).get("AvailabilityZone") or region.zones[0].name
        if name not in {zone.name for zone in region.zones}:
            raise AwsFault("InvalidParameterValue", f"Invalid availability zone: [{name}]")
        return str(name)

    def _new_instance(self, parameters: Parameters, zone: str, tags: dict[str, str], reservation: str) -> Instance:
        return Instance(
            id=new_id("i"),
            kind=parameters.get("InstanceType", DEFAULT_TYPE),
            zone=zone,
            image=parameters.get("ImageId", ""),
            tags=tags,
            reservation=reservation,
        )

    def _render_reservation(self, instances: Sequence[Instance]) -> dict[str, Any]:  # the members of EC2's Reservation
        return {
            "ReservationId": instances[0].reservation,
            "OwnerId": self._world.region.account,
            "Instances": [self._render(instance) for instance in instances],
        }

    def _render(self, instance: Instance) -> dict[str, Any]:  # the members of EC2's Instance
        region = self._world.region
        zone = region.zone(instance.zone)
        alive = instance.state in {"pending", "running"}
        return {
            "InstanceId": instance.id,
            "ImageId": instance.image,
            "InstanceType": instance.kind,
            "LaunchTime": to_datetime(instance.launched),
            "State": _render_state(instance),
            "Placement": {
                "AvailabilityZone": instance.zone,
                "AvailabilityZoneId": zone.id if zone else None,
                "Tenancy": "default",
            },
            "PrivateDnsName": private_dns_name(self._world, instance) if alive else "",
            "PrivateIpAddress": instance.address if alive else None,
            "SubnetId": zone.subnet if zone and alive else None,
            "VpcId": VPC if alive else None,
            "RootDeviceName": ROOT_DEVICE,
            "RootDeviceType": "ebs",
            "BlockDeviceMappings": [_render_mapping(attachment) for attachment in self._attachments(instance)],
            "Architecture": "x86_64",
            "Hypervisor": "nitro",
            "VirtualizationType": "hvm",
            "Tags": tag_list(instance.tags),
        }

    def _attachments(self, instance: Instance) -> list[Attachment]:
        return self._world.shown.attachments.where("instance", instance.id)

    def _fields(self) -> dict[str, filters.Field[Instance]]:
        region, attachments = self._world.region, self._attachments
        return {
            "availability-zone": lambda instance: [instance.zone],
            "availability-zone-id": lambda instance: [region.zone_id(instance.zone) or ""],
            "block-device-mapping.device-name": lambda instance: [mapping.device for mapping in attachments(instance)],
            "block-device-mapping.status": lambda instance: [mapping.state for mapping in attachments(instance)],
            "block-device-mapping.volume-id": lambda instance: [mapping.volume for mapping in attachments(instance)],
            "image-id": lambda instance: [instance.image],
            "instance-id": lambda instance: [instance.id],
            "instance-state-code": lambda instance: [str(_CODES[instance.state])],
            "instance-state-name": lambda instance: [instance.state],
            "instance-type": lambda instance: [instance.kind],
            "private-dns-name": lambda instance: [private_dns_name(self._world, instance)],
            "private-ip-address": lambda instance: [instance.address],
            "reservation-id": lambda instance: [instance.reservation],
            "vpc-id": lambda _: [VPC],
        }


def _render_state(instance: Instance) -> dict[str, Any]:  # the members of EC2's InstanceState
    return {"Code": _CODES[instance.state], "Name": instance.state}


def _render_mapping(attachment: Attachment) -> dict[str, Any]:  # the members of EC2's InstanceBlockDeviceMapping
    return {
        "DeviceName": attachment.device,
        "Ebs": {
            "VolumeId": attachment.volume,
            "Status": attachment.state,
            "AttachTime": to_datetime(attachment.since),
            "DeleteOnTermination": attachment.delete_on_termination,
        },
    }
