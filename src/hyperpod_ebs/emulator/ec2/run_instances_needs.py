"""What RunInstances needs: the image, the network, and what it creates.

Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon
EC2"; IAM User Guide, "Grant a user permissions to pass a role to an AWS service".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hyperpod_ebs.emulator.ec2.condition_values import ConditionValues, Values, boolean, new_tags, numbers
from hyperpod_ebs.emulator.ec2.metadata_options import FIELDS
from hyperpod_ebs.emulator.identity.authorizer import Need
from hyperpod_ebs.emulator.identity.pass_role import pass_role_need
from hyperpod_ebs.emulator.identity.tag_values import request_tags
from hyperpod_ebs.emulator.nodes.machines import ROOT_DEVICE
from hyperpod_ebs.emulator.state.region import SECURITY_GROUP, VPC
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Parameters

DEFAULT_TYPE: Final = "m5.large"
"""The emulator's default; EC2's is m1.small."""

_CREATED: Final = ("instance", "network-interface", "volume")
"""The types of resources that the operation creates and that requests can tag."""


@dataclass(frozen=True, slots=True)
class RunInstancesNeeds:
    """Lists what calls of RunInstances need."""

    world: World

    def needs(self, parameters: Parameters) -> Sequence[Need]:
        """What a call needs: one need for each resource, and the tagging of those that it creates."""
        image, tags = parameters.get("ImageId") or "*", {kind: new_tags(parameters, kind) for kind in _CREATED}
        created = [
            ("instance", self._instance(parameters)),
            ("network-interface", self._interface(parameters)),
            *(("volume", self._volume(device, ebs)) for device, ebs in _new_volumes(parameters).items()),
        ]
        zone = self._values.zone(self._zone(parameters))
        created = [(kind, {**zone, **request_tags(tags[kind]), **values}) for kind, values in created]
        needs = [
            self._need("image", image, {"ec2:ImageID": image, "ec2:RootDeviceType": "ebs"}),
            *(self._need(kind, "*", values) for kind, values in created),
            *self._network(parameters),
            *(self._need("snapshot", id_, self._snapshot(id_)) for id_ in _snapshots(parameters)),
        ]
        if key := parameters.get("KeyName"):
            needs.append(self._need("key-pair", key, {"ec2:KeyPairName": key}))
        needs += [
            Need(
                action="ec2:CreateTags",
                resource=self._values.arn(kind, "*"),
                context={**self._values.region, **values, "ec2:CreateAction": "RunInstances"},
            )
            for kind, values in created
            if tags[kind]
        ]
        return [*needs, *self._pass_role(parameters)]

    @property
    def _values(self) -> ConditionValues:
        return ConditionValues(self.world)

    def _need(self, kind: str, id_: str, values: Values) -> Need:
        resource = self._values.arn(kind, id_)
        return Need(action="ec2:RunInstances", resource=resource, context={**self._values.region, **values})

    def _instance(self, parameters: Parameters) -> Values:
        profile, metadata = self._profile(parameters), parameters.get("MetadataOptions", {})
        return {
            "ec2:EbsOptimized": boolean(parameters.get("EbsOptimized")),
            "ec2:InstanceMarketType": "on-demand",
            "ec2:InstanceType": parameters.get("InstanceType", DEFAULT_TYPE),
            "ec2:RootDeviceType": "ebs",
            "ec2:Tenancy": "default",
            **({"ec2:InstanceProfile": profile} if profile else {}),
            **{f"ec2:Metadata{name}": str(metadata[name]) for name in FIELDS if name in metadata},
        }

    def _interface(self, parameters: Parameters) -> Values:
        return {
            "ec2:Subnet": self._values.arn("subnet", self._subnet(parameters)),
            "ec2:Vpc": self._values.arn("vpc", VPC),
        }

    def _volume(self, device: str, ebs: Mapping[str, Any]) -> Values:  # Any: the members of EbsBlockDevice
        snapshot = ebs.get("SnapshotId")
        return {
            "ec2:Encrypted": boolean(self._values.is_encrypted(ebs, snapshot)),
            "ec2:VolumeType": ebs.get("VolumeType", "gp3" if device == ROOT_DEVICE else "gp2"),
            **numbers(
                {
                    "ec2:VolumeIops": ebs.get("Iops"),
                    "ec2:VolumeSize": ebs.get("VolumeSize"),
                    "ec2:VolumeThroughput": ebs.get("Throughput"),
                }
            ),
            **({"ec2:ParentSnapshot": self._values.arn("snapshot", snapshot)} if snapshot else {}),
        }

    def _network(self, parameters: Parameters) -> Sequence[Need]:
        subnet = self._subnet(parameters)
        zone = self.world.region.zone(subnet)
        vpc: Values = {"ec2:Vpc": self._values.arn("vpc", VPC)}
        groups = parameters.get("SecurityGroupIds") or [SECURITY_GROUP]
        return [
            self._need("subnet", subnet, self._values.subnet(zone) if zone else {}),
            *(self._need("security-group", group, {**vpc, "ec2:SecurityGroupID": group}) for group in groups),
        ]

    def _pass_role(self, parameters: Parameters) -> Sequence[Need]:
        """The permission to give the instances the role of their profile."""
        name = self._profile(parameters).rpartition("/")[2]
        profile = self.world.store.instance_profiles.get(name)
        if profile is None or (role := self.world.store.roles.get(profile.role)) is None:
            return []
        region = self.world.region
        arn = f"arn:{region.partition}:iam::{region.account}:role{role.path}{role.id}"
        return [pass_role_need(arn, "ec2.amazonaws.com", role.tags)]

    def _profile(self, parameters: Parameters) -> str:
        """The ARN of the instance profile; empty without one."""
        given: Mapping[str, str] = parameters.get("IamInstanceProfile", {})
        if not (name := given.get("Name")):
            return given.get("Arn", "")
        region, profile = self.world.region, self.world.store.instance_profiles.get(name)
        path = profile.path if profile else "/"
        return f"arn:{region.partition}:iam::{region.account}:instance-profile{path}{name}"

    def _snapshot(self, id_: str) -> Values:
        snapshot = self.world.store.snapshots.get(id_)
        values = self._values.snapshot(snapshot) if snapshot else {"ec2:SnapshotID": id_}
        return {key: value for key, value in values.items() if key != "ec2:Encrypted"}

    def _zone(self, parameters: Parameters) -> str:
        given = parameters.get("SubnetId") or parameters.get("Placement", {}).get("AvailabilityZone")
        return given or self.world.region.zones[0].name

    def _subnet(self, parameters: Parameters) -> str:
        """The requested subnet, or the default subnet of the requested zone."""
        zone = self.world.region.zone(self._zone(parameters))
        return zone.subnet if zone else parameters.get("SubnetId") or "*"


def _mappings(parameters: Parameters) -> Sequence[Mapping[str, Any]]:  # Any: the members of BlockDeviceMapping
    mappings: Sequence[Mapping[str, Any]] = parameters.get("BlockDeviceMappings", [])
    return mappings


def _new_volumes(parameters: Parameters) -> Mapping[str, Mapping[str, Any]]:  # Any: the members of EbsBlockDevice
    """The image's root volume, and those that the block device mappings describe, by device name."""
    wanted = {
        str(mapping.get("DeviceName", "")): mapping.get("Ebs", {})
        for mapping in _mappings(parameters)
        if mapping.get("NoDevice") is None
    }
    return {ROOT_DEVICE: {}, **wanted}


def _snapshots(parameters: Parameters) -> Sequence[str]:
    """The snapshots that the block device mappings name."""
    ids = (mapping.get("Ebs", {}).get("SnapshotId") for mapping in _mappings(parameters))
    return [id_ for id_ in dict.fromkeys(ids) if id_]
