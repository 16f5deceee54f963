"""What each operation of EC2 needs: actions, resources and condition keys.

Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon
EC2". Describe operations have no resource. A resource that does not exist yet is `volume/*`.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from hyperpod_ebs.emulator.identity.authorizer import Need
from hyperpod_ebs.emulator.identity.identities import ContextValues
from hyperpod_ebs.emulator.records import Instance, Snapshot, Volume
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Parameters

Values = dict[str, str | Sequence[str]]


class Ec2Needs:
    """Lists what calls of EC2 need."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._region: Final[ContextValues] = {"ec2:Region": world.region.name}
        self._by_operation: Final[Mapping[str, Callable[[Parameters], Sequence[Need]]]] = {
            "CreateVolume": self._create_volume,
            "DeleteVolume": lambda parameters: [self.on_volume("DeleteVolume", parameters.get("VolumeId"))],
            "AttachVolume": lambda parameters: self._on_attachment("AttachVolume", parameters),
            "DetachVolume": lambda parameters: self._on_attachment("DetachVolume", parameters),
            "ModifyVolume": lambda parameters: [self.on_volume("ModifyVolume", parameters.get("VolumeId"))],
            "CreateSnapshot": self._create_snapshot,
            "DeleteSnapshot": lambda parameters: [self._on_snapshot("DeleteSnapshot", parameters.get("SnapshotId"))],
            "CreateTags": lambda parameters: self._on_tags("CreateTags", parameters),
            "DeleteTags": lambda parameters: self._on_tags("DeleteTags", parameters),
            "RunInstances": self._run_instances,
            "TerminateInstances": self._terminate_instances,
        }

    def needs(self, operation: str, parameters: Parameters) -> Sequence[Need]:
        """What a call needs; an operation without an entry has no resource."""
        if (needs := self._by_operation.get(operation)) is not None:
            return needs(parameters)
        return [Need(action=f"ec2:{operation}", context=self._region)]

    def _create_volume(self, parameters: Parameters) -> Sequence[Need]:
        tags, snapshot = _new_tags(parameters, "volume"), parameters.get("SnapshotId")
        context: Values = {**self._region, **_tag_values(tags)}
        context["ec2:Encrypted"] = "true" if parameters.get("Encrypted") else "false"
        context["ec2:VolumeType"] = parameters.get("VolumeType", "gp2")
        for key, member in _VOLUME_MEMBERS.items():
            if parameters.get(member) is not None:
                context[key] = str(parameters[member])
        if snapshot:
            context["ec2:ParentSnapshot"] = self._arn("snapshot", snapshot)
        needs = [Need(action="ec2:CreateVolume", resource=self._arn("volume", "*"), context=context)]
        if snapshot:
            needs.append(self._on_snapshot("CreateVolume", snapshot))
        return [*needs, *self._tag_at_creation("CreateVolume", "volume", tags, context)]

    def _create_snapshot(self, parameters: Parameters) -> Sequence[Need]:
        tags, volume = _new_tags(parameters, "snapshot"), parameters.get("VolumeId", "*")
        context = {**self._region, **_tag_values(tags), "ec2:ParentVolume": self._arn("volume", volume)}
        if (record := self._world.store.volumes.get(volume)) is not None:
            context["ec2:VolumeSize"] = str(record.size_gib)
        return [
            self.on_volume("CreateSnapshot", volume),
            Need(action="ec2:CreateSnapshot", resource=self._arn("snapshot", "*"), context=context),
            *self._tag_at_creation("CreateSnapshot", "snapshot", tags, context),
        ]

    def _run_instances(self, parameters: Parameters) -> Sequence[Need]:
        tags = _new_tags(parameters, "instance")
        context: Values = {**self._region, **_tag_values(tags)}
        context["ec2:InstanceType"] = parameters.get("InstanceType", "m1.small")
        return [
            Need(action="ec2:RunInstances", resource=self._arn(kind, "*"), context=context)
            for kind in ("instance", "image", "network-interface", "security-group", "subnet", "volume")
        ] + list(self._tag_at_creation("RunInstances", "instance", tags, context))

    def _terminate_instances(self, parameters: Parameters) -> Sequence[Need]:
        return [self._on_instance("TerminateInstances", id_) for id_ in parameters.get("InstanceIds", [])]

    def _on_attachment(self, action: str, parameters: Parameters) -> Sequence[Need]:
        volume, instance = parameters.get("VolumeId"), parameters.get("InstanceId")
        if not instance and action == "DetachVolume":
            attachments = self._world.store.attachments.where("volume", volume or "")
            instance = attachments[0].instance if attachments else None
        needs = [self.on_volume(action, volume)]
        return [*needs, self._on_instance(action, instance)] if instance else needs

    def _on_tags(self, action: str, parameters: Parameters) -> Sequence[Need]:
        tags = {tag.get("Key", ""): tag.get("Value", "") for tag in parameters.get("Tags", [])}
        kinds = {"vol": self.on_volume, "snap": self._on_snapshot, "i": self._on_instance}
        return [
            kinds.get(id_.partition("-")[0], self.on_volume)(action, id_, _tag_values(tags))
            for id_ in parameters.get("Resources", [])
        ]

    def _tag_at_creation(self, operation: str, kind: str, tags: Mapping[str, str], context: Values) -> Sequence[Need]:
        """The permission to tag a resource that the operation creates (EC2 User Guide, "Tagging on creation")."""
        if not tags:
            return []
        resource, context = self._arn(kind, "*"), {**context, "ec2:CreateAction": operation}
        return [Need(action="ec2:CreateTags", resource=resource, context=context)]

    def on_volume(self, action: str, id_: str | None, context: ContextValues | None = None) -> Need:
        """An action on a volume, with the condition keys that describe the volume if it exists."""
        volume = self._world.store.volumes.get(id_ or "")
        known = self._volume_values(volume) if volume else {}
        return Need(
            action=f"ec2:{action}",
            resource=self._arn("volume", id_ or "*"),
            context={**self._region, **known, **(context or {})},
        )

    def _on_snapshot(self, action: str, id_: str | None, context: ContextValues | None = None) -> Need:
        snapshot = self._world.store.snapshots.get(id_ or "")
        known = self._snapshot_values(snapshot) if snapshot else {}
        return Need(
            action=f"ec2:{action}",
            resource=self._arn("snapshot", id_ or "*"),
            context={**self._region, **known, **(context or {})},
        )

    def _on_instance(self, action: str, id_: str | None, context: ContextValues | None = None) -> Need:
        instance = self._world.store.instances.get(id_ or "")
        known = self._instance_values(instance) if instance else {}
        return Need(
            action=f"ec2:{action}",
            resource=self._arn("instance", id_ or "*"),
            context={**self._region, **known, **(context or {})},
        )

    def _volume_values(self, volume: Volume) -> Values:
        zone_id = self._world.region.zone_id(volume.zone)
        optional = {
            "ec2:VolumeIops": volume.iops,
            "ec2:VolumeThroughput": volume.throughput_mib,
            "ec2:VolumeInitializationRate": volume.initialization_rate_mib,
            "ec2:ParentSnapshot": self._arn("snapshot", volume.snapshot) if volume.snapshot else None,
        }
        return {
            "ec2:AvailabilityZone": volume.zone,
            "ec2:AvailabilityZoneId": zone_id or "",
            "ec2:Encrypted": "true" if volume.encrypted else "false",
            "ec2:VolumeID": volume.id,
            "ec2:VolumeSize": str(volume.size_gib),
            "ec2:VolumeType": volume.kind,
            **{key: str(value) for key, value in optional.items() if value is not None},
            **_resource_tags(volume.tags),
        }

    def _snapshot_values(self, snapshot: Snapshot) -> Values:
        return {
            "ec2:Encrypted": "true" if snapshot.encrypted else "false",
            "ec2:Owner": self._world.region.account,
            "ec2:ParentVolume": self._arn("volume", snapshot.volume),
            "ec2:SnapshotID": snapshot.id,
            "ec2:SnapshotTime": f"{datetime.fromtimestamp(snapshot.started, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "ec2:VolumeSize": str(snapshot.size_gib),
            **_resource_tags(snapshot.tags),
        }

    def _instance_values(self, instance: Instance) -> Values:
        return {
            "ec2:AvailabilityZone": instance.zone,
            "ec2:InstanceID": instance.id,
            "ec2:InstanceType": instance.kind,
            **_resource_tags(instance.tags),
        }

    def _arn(self, kind: str, id_: str) -> str:
        """The ARN of a resource; those of snapshots and images have no account."""
        region = self._world.region
        account = "" if kind in {"snapshot", "image"} else region.account
        return f"arn:{region.partition}:ec2:{region.name}:{account}:{kind}/{id_}"


_VOLUME_MEMBERS: Final = {
    "ec2:AvailabilityZone": "AvailabilityZone",
    "ec2:AvailabilityZoneId": "AvailabilityZoneId",
    "ec2:KmsKeyId": "KmsKeyId",
    "ec2:VolumeInitializationRate": "VolumeInitializationRate",
    "ec2:VolumeIops": "Iops",
    "ec2:VolumeSize": "Size",
    "ec2:VolumeThroughput": "Throughput",
}
"""The parameters of CreateVolume by condition key."""


def _new_tags(parameters: Parameters, kind: str) -> Mapping[str, str]:
    """The tags of TagSpecifications for resources of this type."""
    specifications: Sequence[Mapping[str, Any]] = parameters.get("TagSpecifications", [])  # Any: EC2's TagList
    return {
        tag.get("Key", ""): tag.get("Value", "")
        for specification in specifications
        if specification.get("ResourceType") == kind
        for tag in specification.get("Tags", [])
    }


def _tag_values(tags: Mapping[str, str]) -> Values:
    """The condition keys of the tags in a request."""
    values: Values = {f"aws:RequestTag/{key}": value for key, value in tags.items()}
    return {**values, "aws:TagKeys": list(tags)} if tags else values


def _resource_tags(tags: Mapping[str, str]) -> Values:
    """The condition keys of the tags on a resource."""
    return {f"{prefix}:ResourceTag/{key}": value for key, value in tags.items() for prefix in ("aws", "ec2")}
