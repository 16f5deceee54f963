"""DescribeInstances, and an instance as EC2 returns it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from hyperpod_ebs.emulator.ec2 import filters, filters_without_data, pages, request_checks, resource_ids
from hyperpod_ebs.emulator.ec2.metadata_options import render_options
from hyperpod_ebs.emulator.nodes import state_reasons
from hyperpod_ebs.emulator.nodes.machines import ROOT_DEVICE, customer_instances, private_dns_name
from hyperpod_ebs.emulator.records import Attachment, Instance
from hyperpod_ebs.emulator.state.region import VPC
from hyperpod_ebs.emulator.state.world import World, tag_list, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, Call, Operations, Parameters

PAGE_SIZES: Final = (5, 1000)

CODES: Final = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
"""EC2's numbers of the states; clients may see other numbers in the high byte."""

DEFAULT_GROUP: Final = "default"
"""The name of the security group of the default VPC."""


def render_state(instance: Instance) -> dict[str, Any]:  # the members of EC2's InstanceState
    """The instance's state, as a number and as a word."""
    return {"Code": CODES[instance.state], "Name": instance.state}


def render_reservation(
    world: World, instances: Sequence[Instance]
) -> dict[str, Any]:  # the members of EC2's Reservation
    """Instances that one request started."""
    return {
        "ReservationId": instances[0].reservation,
        "OwnerId": world.region.account,
        "Groups": [],
        "Instances": [_render(world, instance) for instance in instances],
    }


def _render(world: World, instance: Instance) -> dict[str, Any]:  # the members of EC2's Instance
    zone, ended = world.region.zone(instance.zone), instance.state in {"shutting-down", "terminated"}
    mappings = [_render_mapping(attachment) for attachment in _attachments(world, instance)]
    return {
        "InstanceId": instance.id,
        "ImageId": instance.image,
        "InstanceType": instance.kind,
        "AmiLaunchIndex": instance.launch_index,
        "KeyName": instance.key or None,
        "ClientToken": instance.token or None,
        "LaunchTime": to_datetime(instance.launched),
        "State": render_state(instance),
        "StateReason": _render_reason(instance),
        "Placement": {
            "AvailabilityZone": instance.zone,
            "AvailabilityZoneId": zone.id if zone else None,
            "Tenancy": "default",
        },
        "PrivateDnsName": "" if ended else private_dns_name(world, instance),
        "PrivateIpAddress": None if ended else instance.address,
        "SubnetId": zone.subnet if zone and not ended else None,
        "VpcId": None if ended else VPC,
        "SecurityGroups": [{"GroupId": group, "GroupName": DEFAULT_GROUP} for group in instance.security_groups],
        "IamInstanceProfile": _render_profile(world, instance),
        "EbsOptimized": instance.ebs_optimized,
        "MetadataOptions": render_options(instance),
        "RootDeviceName": ROOT_DEVICE,
        "RootDeviceType": "ebs",
        "BlockDeviceMappings": mappings,
        "Architecture": "x86_64",
        "Hypervisor": "nitro",
        "VirtualizationType": "hvm",
        "Tags": tag_list(instance.tags),
    }


def _render_reason(instance: Instance) -> dict[str, str] | None:
    """The members of EC2's StateReason."""
    code = _reason_code(instance)
    return {"Code": code, "Message": state_reasons.message(code)} if code else None


def _reason_code(instance: Instance) -> str:
    """The code of the state's reason; empty for a state without one."""
    return "" if instance.state in {"pending", "running"} else instance.state_reason


def _render_profile(world: World, instance: Instance) -> dict[str, Any] | None:  # the members of IamInstanceProfile
    if not instance.profile:
        return None
    profile = world.store.instance_profiles.get(instance.profile.rpartition("/")[2])
    return {"Arn": instance.profile, "Id": profile.unique_id if profile else None}


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


def _attachments(world: World, instance: Instance) -> list[Attachment]:
    return world.shown.attachments.where("instance", instance.id)


@dataclass(frozen=True, slots=True)
class DescribeInstances:
    """The operation DescribeInstances."""

    world: World

    operations = Operations["DescribeInstances"]()

    @operations("DescribeInstances")
    async def describe(self, parameters: Parameters, _: Call) -> Answer:
        """List instances, grouped by reservation, by id or by filter; an unknown id fails the call."""
        request_checks.refuse_dry_run(parameters)
        pages.refuse_pages_of_ids(parameters, "InstanceIds", shown="instancesSet")
        own = customer_instances(self.world.shown.instances)
        known = resource_ids.named_or_all(own, parameters.get("InstanceIds"), resource_ids.INSTANCE)
        matching = filters.matching(
            known, parameters, self._fields(), by_id="instance-id", tags=lambda instance: instance.tags
        )
        this_page, token = pages.page(matching, parameters, PAGE_SIZES, key=lambda instance: instance.id)
        ordered = sorted(this_page, key=lambda instance: instance.reservation)
        by_reservation = groupby(ordered, key=lambda instance: instance.reservation)
        reservations = [render_reservation(self.world, list(group)) for _, group in by_reservation]
        return await self.world.acknowledge({"Reservations": reservations, "NextToken": token})

    def _fields(self) -> dict[str, filters.Field[Instance]]:
        world, region = self.world, self.world.region
        fields: dict[str, filters.Field[Instance]] = {
            "architecture": lambda _: ["x86_64"],
            "availability-zone": lambda instance: [instance.zone],
            "availability-zone-id": lambda instance: [region.zone_id(instance.zone) or ""],
            "client-token": lambda instance: [instance.token],
            "ebs-optimized": lambda instance: [filters.boolean(instance.ebs_optimized)],
            "hypervisor": lambda _: ["nitro"],
            "iam-instance-profile.arn": lambda instance: [instance.profile],
            "image-id": lambda instance: [instance.image],
            "instance-id": lambda instance: [instance.id],
            "instance-state-code": lambda instance: [str(CODES[instance.state])],
            "instance-state-name": lambda instance: [instance.state],
            "instance-type": lambda instance: [instance.kind],
            "instance.group-id": lambda instance: instance.security_groups,
            "key-name": lambda instance: [instance.key],
            "launch-index": lambda instance: [str(instance.launch_index)],
            "launch-time": lambda instance: [filters.timestamp(instance.launched)],
            "metadata-options.http-endpoint": lambda instance: [instance.metadata_endpoint],
            "metadata-options.http-protocol-ipv4": lambda instance: [instance.metadata_endpoint],
            "metadata-options.http-protocol-ipv6": lambda _: ["disabled"],
            "metadata-options.http-put-response-hop-limit": lambda instance: [str(instance.metadata_hop_limit)],
            "metadata-options.http-tokens": lambda instance: [instance.metadata_tokens],
            "metadata-options.instance-metadata-tags": lambda _: ["disabled"],
            "metadata-options.state": lambda _: ["applied"],
            "operator.managed": lambda _: [filters.boolean(value=False)],
            "owner-id": lambda _: [region.account],
            "private-dns-name": lambda instance: [private_dns_name(world, instance)],
            "private-ip-address": lambda instance: [instance.address],
            "reservation-id": lambda instance: [instance.reservation],
            "root-device-name": lambda _: [ROOT_DEVICE],
            "root-device-type": lambda _: ["ebs"],
            "state-reason-code": lambda instance: [_reason_code(instance)],
            "state-reason-message": lambda instance: [(_render_reason(instance) or {}).get("Message", "")],
            "subnet-id": lambda instance: [self._subnet(instance)],
            "tenancy": lambda _: ["default"],
            "virtualization-type": lambda _: ["hvm"],
            "vpc-id": lambda _: [VPC],
        }
        return {**filters_without_data.INSTANCES, **fields, **self._mapping_fields(), **self._interface_fields()}

    def _mapping_fields(self) -> dict[str, filters.Field[Instance]]:
        def field(value: filters.Field[Attachment]) -> filters.Field[Instance]:
            return lambda instance: [text for each in _attachments(self.world, instance) for text in value(each)]

        return {
            "block-device-mapping.attach-time": field(lambda each: [filters.timestamp(each.since)]),
            "block-device-mapping.delete-on-termination": field(
                lambda each: [filters.boolean(each.delete_on_termination)]
            ),
            "block-device-mapping.device-name": field(lambda each: [each.device]),
            "block-device-mapping.status": field(lambda each: [each.state]),
            "block-device-mapping.volume-id": field(lambda each: [each.volume]),
        }

    def _interface_fields(self) -> dict[str, filters.Field[Instance]]:
        """The filters of the primary network interface, which the descriptions do not show."""
        return {
            "network-interface.addresses.private-ip-address": lambda instance: [instance.address],
            "network-interface.availability-zone": lambda instance: [instance.zone],
            "network-interface.group-id": lambda instance: instance.security_groups,
            "network-interface.mac-address": lambda instance: [instance.mac],
            "network-interface.owner-id": lambda _: [self.world.region.account],
            "network-interface.private-ip-address": lambda instance: [instance.address],
            "network-interface.subnet-id": lambda instance: [self._subnet(instance)],
            "network-interface.vpc-id": lambda _: [VPC],
        }

    def _subnet(self, instance: Instance) -> str:
        zone = self.world.region.zone(instance.zone)
        return zone.subnet if zone else ""
