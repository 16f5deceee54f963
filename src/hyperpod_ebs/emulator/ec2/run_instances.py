"""RunInstances: instances with their volumes and tags. What the emulator cannot give an instance, it refuses."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from hyperpod_ebs.emulator.ec2 import request_checks, resource_ids, tagging
from hyperpod_ebs.emulator.ec2.client_tokens import ClientTokens
from hyperpod_ebs.emulator.ec2.describe_instances import DEFAULT_GROUP, render_reservation
from hyperpod_ebs.emulator.ec2.launch_keys import LaunchKeys
from hyperpod_ebs.emulator.ec2.launch_volumes import LaunchVolumes
from hyperpod_ebs.emulator.ec2.metadata_options import requested_options
from hyperpod_ebs.emulator.ec2.run_instances_needs import DEFAULT_TYPE
from hyperpod_ebs.emulator.kms.volume_keys import VolumeKeys
from hyperpod_ebs.emulator.nodes.attach_slots import ATTACH_SLOTS
from hyperpod_ebs.emulator.nodes.machines import MAX_MACHINES, ROOT_DEVICE, LaunchVolume, Machines, customer_instances
from hyperpod_ebs.emulator.records import Instance
from hyperpod_ebs.emulator.state.region import SECURITY_GROUP
from hyperpod_ebs.emulator.state.world import World, new_id
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

_SUPPORTED: Final = frozenset(
    {
        *("BlockDeviceMappings", "ClientToken", "DryRun", "EbsOptimized", "IamInstanceProfile", "ImageId"),
        *("InstanceType", "KeyName", "MaxCount", "MetadataOptions", "MinCount", "Placement", "SecurityGroupIds"),
        *("SecurityGroups", "SubnetId", "TagSpecifications"),
    }
)

_DEFAULTS: Final[Mapping[str, Any]] = {  # Any: each member's own type
    "DisableApiTermination": False,
    "InstanceInitiatedShutdownBehavior": "stop",
    "Monitoring": {"Enabled": False},
}
"""Parameters that may have only the value that EC2 gives them anyway."""

_PLACEMENT: Final = frozenset({"AvailabilityZone", "AvailabilityZoneId", "Tenancy"})

_IMAGE: Final = re.compile(r"ami-[0-9a-f]+|resolve:ssm:.+")


class RunInstances:
    """The operation RunInstances."""

    operations = Operations["RunInstances"]()

    def __init__(self, world: World, machines: Machines, keys: VolumeKeys) -> None:
        self._world = world
        self._keys = keys
        self._machines = machines
        self._tokens = ClientTokens(world.store, "RunInstances")

    @operations("RunInstances")
    async def run(self, parameters: Parameters, call: Call) -> Answer:
        """Start instances in state pending, each with a root volume and the volumes of the request.

        EC2 uses the volumes' keys only later: an instance that cannot decrypt its volumes is terminated.
        """
        least, most = request_checks.require(parameters, "MinCount", "MaxCount")
        if not 1 <= least <= most:
            raise AwsFault("InvalidParameterValue", f"MinCount {least} is not between 1 and MaxCount {most}")
        zone = self._zone(parameters)
        if earlier_ids := self._tokens.earlier_ids(parameters, zone):
            request_checks.refuse_dry_run(parameters)
            own = customer_instances(self._world.store.instances)
            instances = resource_ids.find_all(own, earlier_ids, resource_ids.INSTANCE)
            return await self._world.acknowledge(render_reservation(self._world, instances))
        _refuse_unsupported(parameters)
        self._refuse_many(parameters, most)
        launch = {**parameters, "InstanceType": parameters.get("InstanceType", DEFAULT_TYPE)}
        template = self._instance(launch, zone)
        volumes = LaunchVolumes(world=self._world, keys=self._keys, zone=zone, tags=_tags(parameters, "volume"))
        wanted = [(self._copy(template, index), volumes.volumes(launch)) for index in range(most)]
        request_checks.refuse_dry_run(parameters)
        self._tokens.remember(parameters, zone, [instance.id for instance, _volumes in wanted])
        instances = [self._start(instance, new, call) for instance, new in wanted]
        return await self._world.acknowledge(render_reservation(self._world, instances))

    def _start(self, instance: Instance, volumes: Sequence[LaunchVolume], call: Call) -> Instance:
        opened, failure = LaunchKeys(self._world, self._keys).open_new_volumes(call, instance, volumes)
        started = self._machines.start(instance, failure=failure)
        self._machines.add_volumes(instance, opened)
        return started

    def _refuse_many(self, parameters: Parameters, count: int) -> None:
        """Refuse more instances than the account can have, and more volumes than a request may create.

        Raises:
            AwsFault: InstanceLimitExceeded or VolumeLimitExceeded.
        """
        if not self._machines.has_room(count):
            text = f"You have requested more instances ({count}) than your limit of {MAX_MACHINES} allows"
            raise AwsFault("InstanceLimitExceeded", text)
        mappings = parameters.get("BlockDeviceMappings", [])
        volumes = count * len({ROOT_DEVICE, *(mapping.get("DeviceName") for mapping in mappings)})
        if volumes > request_checks.MAX_RESOURCES:
            text = f"The request creates {volumes} volumes, but the maximum is {request_checks.MAX_RESOURCES}."
            raise AwsFault("VolumeLimitExceeded", text)

    def _zone(self, parameters: Parameters) -> str:
        region, placement = self._world.region, parameters.get("Placement", {})
        if subnet := parameters.get("SubnetId"):
            zone = next((zone for zone in region.zones if zone.subnet == subnet), None)
            if zone is None:
                raise AwsFault("InvalidSubnetID.NotFound", f"The subnet ID '{subnet}' does not exist")
            return zone.name
        given = placement.get("AvailabilityZone") or placement.get("AvailabilityZoneId") or region.zones[0].name
        if (zone := region.zone(given)) is None:
            raise AwsFault("InvalidParameterValue", f"Invalid availability zone: [{given}]")
        return zone.name

    def _instance(self, parameters: Parameters, zone: str) -> Instance:
        """The requested instance.

        Raises:
            AwsFault: The request is invalid.
        """
        request_checks.require(parameters, "ImageId")
        if not _IMAGE.fullmatch(image := parameters["ImageId"]):
            raise AwsFault("InvalidAMIID.Malformed", f'Invalid id: "{image}" (expecting "ami-...")')
        if (kind := parameters["InstanceType"]) not in ATTACH_SLOTS:
            raise AwsFault("InvalidParameterValue", f"Invalid value '{kind}' for InstanceType.")
        return Instance(
            id="",
            kind=kind,
            zone=zone,
            image=image,
            tags=_tags(parameters, "instance"),
            reservation=new_id("r"),
            key=parameters.get("KeyName", ""),
            security_groups=_security_groups(parameters),
            profile=self._profile(parameters),
            token=parameters.get("ClientToken", ""),
            ebs_optimized=parameters.get("EbsOptimized", False),
            **requested_options(parameters.get("MetadataOptions", {})),
        )

    def _copy(self, template: Instance, index: int) -> Instance:
        return replace(template, id=new_id("i"), launch_index=index)

    def _profile(self, parameters: Parameters) -> str:
        """The ARN of the instance profile; empty without one."""
        given: Mapping[str, str] = parameters.get("IamInstanceProfile", {})
        if not given:
            return ""
        member = "name" if given.get("Name") else "arn"
        value = given.get("Name") or given.get("Arn", "")
        region, profile = self._world.region, self._world.store.instance_profiles.get(value.rpartition("/")[2])
        if profile is not None:
            arn = f"arn:{region.partition}:iam::{region.account}:instance-profile{profile.path}{profile.id}"
            if value in {profile.id, arn}:
                return arn
        text = f"Value ({value}) for parameter iamInstanceProfile.{member} is invalid."
        raise AwsFault("InvalidParameterValue", f"{text} Invalid IAM Instance Profile {member}")


def _refuse_unsupported(parameters: Parameters) -> None:
    given = [
        name for name, value in parameters.items() if value and name not in _SUPPORTED and value != _DEFAULTS.get(name)
    ]
    placement = parameters.get("Placement", {})
    given += [f"Placement.{name}" for name, value in placement.items() if value and name not in _PLACEMENT]
    if placement.get("Tenancy", "default") != "default":
        given.append("Placement.Tenancy")
    if given:
        raise AwsFault("UnsupportedOperation", f"The emulator does not support the parameter {given[0]}.")


def _tags(parameters: Parameters, kind: str) -> dict[str, str]:
    """The tags for the new resources of this type.

    Raises:
        AwsFault: A specification is for a type of resource that the emulator does not create, or is invalid.
    """
    specifications = parameters.get("TagSpecifications", [])
    if others := [each for each in specifications if each.get("ResourceType") not in {"instance", "volume"}]:
        text = f"'{others[0].get('ResourceType')}' is not a valid taggable resource type for this operation."
        raise AwsFault("InvalidParameterValue", text)
    own = [each for each in specifications if each["ResourceType"] == kind]
    return tagging.requested_tags({"TagSpecifications": own}, kind)


def _security_groups(parameters: Parameters) -> tuple[str, ...]:
    """The ids of the security groups; the account has only that of its default VPC."""
    for id_ in parameters.get("SecurityGroupIds", []):
        if id_ != SECURITY_GROUP:
            raise AwsFault("InvalidGroup.NotFound", f"The security group '{id_}' does not exist")
    for name in parameters.get("SecurityGroups", []):
        if name != DEFAULT_GROUP:
            raise AwsFault("InvalidGroup.NotFound", f"The security group '{name}' does not exist in default VPC")
    return (SECURITY_GROUP,)
