"""What each operation of EC2 needs: actions, resources and condition keys.

Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon
EC2". Describe operations have no resource, except for those of one attribute. A resource
that does not exist yet is `volume/*`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from hyperpod_ebs.emulator.ec2 import request_checks, tagging
from hyperpod_ebs.emulator.ec2.condition_values import (
    ConditionValues,
    Values,
    boolean,
    new_tags,
    numbers,
)
from hyperpod_ebs.emulator.ec2.metadata_options import FIELDS
from hyperpod_ebs.emulator.ec2.run_instances_needs import RunInstancesNeeds
from hyperpod_ebs.emulator.identity.authorizer import Need
from hyperpod_ebs.emulator.identity.identities import ContextValues
from hyperpod_ebs.emulator.identity.tag_values import request_tags
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Parameters

_Lister = Callable[[str, Parameters], Sequence[Need]]
"""Lists what a call of an action needs."""


class Ec2Needs:
    """Lists what calls of EC2 need."""

    def __init__(self, world: World) -> None:
        self._store = world.store
        self._values: Final = ConditionValues(world)
        self._run_instances: Final = RunInstancesNeeds(world)
        self._by_operation: Final[Mapping[str, _Lister]] = {
            "CreateVolume": self._create_volume,
            "DeleteVolume": self._on_named_volume,
            "AttachVolume": self._on_attachment,
            "DetachVolume": self._on_attachment,
            "ModifyVolume": self._modify_volume,
            "ModifyInstanceMetadataOptions": self._modify_metadata_options,
            "DescribeVolumeAttribute": self._on_named_volume,
            "CreateSnapshot": self._create_snapshot,
            "CopySnapshot": self._copy_snapshot,
            "DeleteSnapshot": self._on_named_snapshot,
            "DescribeSnapshotAttribute": self._on_named_snapshot,
            "ModifySnapshotAttribute": self._change_snapshot_attribute,
            "ResetSnapshotAttribute": self._change_snapshot_attribute,
            "CreateTags": self._on_tags,
            "DeleteTags": self._on_tags,
            "RunInstances": lambda _, parameters: self._run_instances.needs(parameters),
            "StartInstances": self._on_instances,
            "StopInstances": self._on_instances,
            "TerminateInstances": self._on_instances,
        }

    def needs(self, operation: str, parameters: Parameters) -> Sequence[Need]:
        """What a call needs; an operation without an entry has no resource."""
        if (lister := self._by_operation.get(operation)) is not None:
            return lister(operation, parameters)
        return [self._without_resource(operation)]

    def _create_volume(self, action: str, parameters: Parameters) -> Sequence[Need]:
        tags, snapshot = new_tags(parameters, "volume"), parameters.get("SnapshotId")
        source = self._store.snapshots.get(snapshot or "")
        zone = parameters.get("AvailabilityZone") or parameters.get("AvailabilityZoneId") or ""
        context: Values = {
            **self._values.region,
            **request_tags(tags),
            **self._values.zone(zone),
            "ec2:Encrypted": boolean(self._values.is_encrypted(parameters, snapshot)),
            "ec2:VolumeType": parameters.get("VolumeType", "gp2"),
            **numbers(
                {
                    "ec2:VolumeInitializationRate": parameters.get("VolumeInitializationRate"),
                    "ec2:VolumeIops": parameters.get("Iops"),
                    "ec2:VolumeSize": parameters.get("Size", source.size_gib if source else None),
                    "ec2:VolumeThroughput": parameters.get("Throughput"),
                }
            ),
        }
        if key := parameters.get("KmsKeyId"):
            context["ec2:KmsKeyId"] = key
        if snapshot:
            context["ec2:ParentSnapshot"] = self._values.arn("snapshot", snapshot)
        needs = [Need(action=f"ec2:{action}", resource=self._values.arn("volume", "*"), context=context)]
        if snapshot:
            needs.append(self._on_snapshot(action, snapshot))
        return [*needs, *self._tag_at_creation(action, "volume", tags, context)]

    def _modify_volume(self, action: str, parameters: Parameters) -> Sequence[Need]:
        return [self.on_volume(action, parameters.get("VolumeId"), _changed_attributes(parameters, _ATTRIBUTES))]

    def _modify_metadata_options(self, action: str, parameters: Parameters) -> Sequence[Need]:
        return [self._on_instance(action, parameters.get("InstanceId"), _changed_attributes(parameters, FIELDS))]

    def _create_snapshot(self, action: str, parameters: Parameters) -> Sequence[Need]:
        tags, id_ = new_tags(parameters, "snapshot"), parameters.get("VolumeId", "*")
        volume = self._store.volumes.get(id_)
        context: Values = {
            **self._values.region,
            **request_tags(tags),
            "ec2:ParentVolume": self._values.arn("volume", id_),
            **numbers({"ec2:VolumeSize": volume.size_gib if volume else None}),
        }
        if volume:
            context["ec2:SourceAvailabilityZone"] = volume.zone
        return [
            self.on_volume(action, id_),
            Need(action=f"ec2:{action}", resource=self._values.arn("snapshot", "*"), context=context),
            *self._tag_at_creation(action, "snapshot", tags, context),
        ]

    def _copy_snapshot(self, action: str, parameters: Parameters) -> Sequence[Need]:
        tags, id_ = new_tags(parameters, "snapshot"), parameters.get("SourceSnapshotId", "*")
        source = self._store.snapshots.get(id_)
        context: Values = {
            **self._values.region,
            **request_tags(tags),
            "ec2:Encrypted": boolean(self._values.is_encrypted(parameters, id_)),
            "ec2:ParentSnapshot": self._values.arn("snapshot", id_),
            **numbers({"ec2:VolumeSize": source.size_gib if source else None}),
        }
        return [
            self._on_snapshot(action, id_),
            Need(action=f"ec2:{action}", resource=self._values.arn("snapshot", "*"), context=context),
            *self._tag_at_creation(action, "snapshot", tags, context),
        ]

    def _change_snapshot_attribute(self, action: str, parameters: Parameters) -> Sequence[Need]:
        permission = parameters.get("CreateVolumePermission", {})
        context: Values = {"ec2:Attribute": parameters.get("Attribute", "createVolumePermission")}
        for list_name in ("Add", "Remove"):
            for member, key in (("UserId", "userId"), ("Group", "group")):
                if values := [entry[member] for entry in permission.get(list_name, []) if member in entry]:
                    context[f"ec2:{list_name}/{key}"] = values
        return [self._on_snapshot(action, parameters.get("SnapshotId"), context)]

    def _on_named_volume(self, action: str, parameters: Parameters) -> Sequence[Need]:
        return [self.on_volume(action, parameters.get("VolumeId"))]

    def _on_named_snapshot(self, action: str, parameters: Parameters) -> Sequence[Need]:
        return [self._on_snapshot(action, parameters.get("SnapshotId"))]

    def _on_instances(self, action: str, parameters: Parameters) -> Sequence[Need]:
        ids = parameters.get("InstanceIds") or ["*"]
        request_checks.refuse_many_ids(ids)
        return [self._on_instance(action, id_) for id_ in ids]

    def _on_attachment(self, action: str, parameters: Parameters) -> Sequence[Need]:
        """The volume and the instance; a HyperPod node is not the customer's instance."""
        volume, instance = parameters.get("VolumeId"), parameters.get("InstanceId")
        if not instance and action == "DetachVolume":
            attached = [each.instance for each in self._store.attachments.where("volume", volume or "")]
            own = [id_ for id_ in attached if not self._store.instances[id_].cluster]
            instance = own[0] if own else None
        needs = [self.on_volume(action, volume)]
        return [*needs, self._on_instance(action, instance)] if instance else needs

    def _on_tags(self, action: str, parameters: Parameters) -> Sequence[Need]:
        tagging.check_size(parameters)
        tags = {tag.get("Key", ""): tag.get("Value", self._omitted_value(action)) for tag in parameters.get("Tags", [])}
        context = request_tags(tags)
        kinds = {"vol": self.on_volume, "snap": self._on_snapshot, "i": self._on_instance}
        needs = [
            kinds.get(id_.partition("-")[0], self.on_volume)(action, id_, context)
            for id_ in parameters.get("Resources", [])
        ]
        return needs or [self._without_resource(action)]

    def _omitted_value(self, action: str) -> str | None:
        """The value of a tag without one: an empty value to create, any value to delete."""
        return "" if action == "CreateTags" else None

    def _tag_at_creation(self, operation: str, kind: str, tags: Mapping[str, str], context: Values) -> Sequence[Need]:
        """The permission to tag a resource that the operation creates (EC2 User Guide, "Tagging on creation")."""
        if not tags:
            return []
        resource, context = self._values.arn(kind, "*"), {**context, "ec2:CreateAction": operation}
        return [Need(action="ec2:CreateTags", resource=resource, context=context)]

    def on_volume(self, action: str, id_: str | None, context: ContextValues | None = None) -> Need:
        """An action on a volume, with the condition keys that describe the volume if it exists."""
        volume = self._store.volumes.get(id_ or "")
        return self._on_resource(action, "volume", id_, self._values.volume(volume) if volume else None, context)

    def _on_snapshot(self, action: str, id_: str | None, context: ContextValues | None = None) -> Need:
        snapshot = self._store.snapshots.get(id_ or "")
        known = self._values.snapshot(snapshot) if snapshot else None
        return self._on_resource(action, "snapshot", id_, known, context)

    def _on_instance(self, action: str, id_: str | None, context: ContextValues | None = None) -> Need:
        instance = self._store.instances.get(id_ or "")
        known = self._values.instance(instance) if instance else None
        return self._on_resource(action, "instance", id_, known, context)

    def _on_resource(
        self, action: str, kind: str, id_: str | None, known: Values | None, context: ContextValues | None
    ) -> Need:
        listed = {key: value for key, value in (known or {}).items() if _is_listed(action, kind, key)}
        return Need(
            action=f"ec2:{action}",
            resource=self._values.arn(kind, id_ or "*"),
            context={**self._values.region, **listed, **(context or {})},
            exists=known is not None,
        )

    def _without_resource(self, operation: str) -> Need:
        return Need(action=f"ec2:{operation}", context=self._values.region)


_UNLISTED: Final[Mapping[tuple[str, str], str]] = {
    ("CreateSnapshot", "volume"): "ec2:ParentSnapshot",
    ("CreateVolume", "snapshot"): "ec2:SnapshotID",
    ("DeleteSnapshot", "snapshot"): "ec2:Encrypted",
    ("ModifySnapshotAttribute", "snapshot"): "ec2:Encrypted",
    ("ResetSnapshotAttribute", "snapshot"): "ec2:Encrypted",
}
"""A condition key of a type of resource that the reference does not list for an action on it."""


def _is_listed(action: str, kind: str, key: str) -> bool:
    """Whether the reference lists the condition key for an action on a resource; DeleteTags has only keys of tags."""
    if action == "DeleteTags":
        return key.startswith(("aws:ResourceTag/", "ec2:ResourceTag/"))
    return _UNLISTED.get((action, kind)) != key


_ATTRIBUTES: Final = ("Iops", "MultiAttachEnabled", "Size", "Throughput", "VolumeType")
"""What ModifyVolume changes; the reference does not list the names that ec2:Attribute has."""


def _changed_attributes(parameters: Parameters, names: Iterable[str]) -> Values:
    """The condition keys of the attributes that a call changes."""
    changed = {name: str(parameters[name]) for name in names if name in parameters}
    context: Values = {f"ec2:Attribute/{name}": value for name, value in changed.items()}
    if changed:
        context["ec2:Attribute"] = list(changed)
    return context
