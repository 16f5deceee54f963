"""The ARNs of EC2's resources, and the condition keys that describe them in policies.

Source: Service Authorization Reference, "Condition keys for Amazon EC2".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from hyperpod_ebs.emulator.identity.tag_values import resource_tags
from hyperpod_ebs.emulator.records import Instance, Snapshot, Volume
from hyperpod_ebs.emulator.state.region import VPC, Zone
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Parameters

Values = dict[str, str | Sequence[str]]

_WITHOUT_ACCOUNT: Final = frozenset({"snapshot", "image"})
"""Types of resources whose ARNs have no account."""


@dataclass(frozen=True, slots=True)
class ConditionValues:
    """Describes the resources of one account in a region."""

    world: World

    def arn(self, kind: str, id_: str) -> str:
        """The ARN of a resource; a resource that does not exist yet has an asterisk for its id."""
        region = self.world.region
        account = "" if kind in _WITHOUT_ACCOUNT else region.account
        return f"arn:{region.partition}:ec2:{region.name}:{account}:{kind}/{id_}"

    @property
    def region(self) -> Values:
        """The condition key that every action has."""
        return {"ec2:Region": self.world.region.name}

    def volume(self, volume: Volume) -> Values:
        """The condition keys of a volume."""
        return {
            **self.zone(volume.zone),
            "ec2:Encrypted": boolean(volume.encrypted),
            "ec2:VolumeID": volume.id,
            "ec2:VolumeType": volume.kind,
            **numbers(
                {
                    "ec2:VolumeInitializationRate": volume.initialization_rate_mib,
                    "ec2:VolumeIops": volume.iops,
                    "ec2:VolumeSize": volume.size_gib,
                    "ec2:VolumeThroughput": volume.throughput_mib,
                }
            ),
            **({"ec2:ParentSnapshot": self.arn("snapshot", volume.snapshot)} if volume.snapshot else {}),
            **resource_tags(volume.tags, "ec2"),
        }

    def snapshot(self, snapshot: Snapshot) -> Values:
        """The condition keys of a snapshot."""
        return {
            "ec2:Encrypted": boolean(snapshot.encrypted),
            "ec2:Owner": self.world.region.account,
            "ec2:ParentVolume": self.arn("volume", snapshot.volume),
            "ec2:SnapshotID": snapshot.id,
            "ec2:SnapshotTime": f"{datetime.fromtimestamp(snapshot.started, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "ec2:VolumeSize": str(snapshot.size_gib),
            **resource_tags(snapshot.tags, "ec2"),
        }

    def instance(self, instance: Instance) -> Values:
        """The condition keys of an instance."""
        return {
            **self.zone(instance.zone),
            "ec2:EbsOptimized": boolean(instance.ebs_optimized),
            "ec2:InstanceID": instance.id,
            "ec2:InstanceMarketType": "on-demand",
            "ec2:InstanceType": instance.kind,
            "ec2:MetadataHttpEndpoint": instance.metadata_endpoint,
            "ec2:MetadataHttpPutResponseHopLimit": str(instance.metadata_hop_limit),
            "ec2:MetadataHttpTokens": instance.metadata_tokens,
            "ec2:RootDeviceType": "ebs",
            "ec2:Tenancy": "default",
            **({"ec2:InstanceProfile": instance.profile} if instance.profile else {}),
            **resource_tags(instance.tags, "ec2"),
        }

    def is_encrypted(self, parameters: Parameters, source: str | None) -> bool:
        """Whether a new volume or copy is encrypted by request, by the snapshot with this id, or by default."""
        settings, snapshot = (
            self.world.store.ebs_encryption.get("account"),
            self.world.store.snapshots.get(source or ""),
        )
        by_default = settings is not None and settings.is_default
        return by_default or bool(parameters.get("Encrypted")) or (snapshot is not None and snapshot.encrypted)

    def subnet(self, zone: Zone) -> Values:
        """The condition keys of a zone's subnet."""
        return {**self.zone(zone.name), "ec2:SubnetID": zone.subnet, "ec2:Vpc": self.arn("vpc", VPC)}

    def zone(self, name: str) -> Values:
        """The condition keys of a zone by its name or id; none for an unknown zone."""
        if (zone := self.world.region.zone(name)) is None:
            return {}
        return {"ec2:AvailabilityZone": zone.name, "ec2:AvailabilityZoneId": zone.id}


def boolean(value: object) -> str:
    """A boolean as a value of a condition key."""
    return "true" if value else "false"


def numbers(values: Mapping[str, int | None]) -> Values:
    """Numbers as values of condition keys, without those that are None."""
    return {key: str(value) for key, value in values.items() if value is not None}


def new_tags(parameters: Parameters, kind: str) -> Mapping[str, str]:
    """The tags of TagSpecifications for resources of this type."""
    specifications: Sequence[Mapping[str, Any]] = parameters.get("TagSpecifications", [])  # Any: EC2's TagList
    return {
        tag.get("Key", ""): tag.get("Value", "")
        for specification in specifications
        if specification.get("ResourceType") == kind
        for tag in specification.get("Tags", [])
    }
