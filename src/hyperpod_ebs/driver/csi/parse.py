"""Turn requests into values, or refuse them: no module below this one knows protobuf.

`csi.node_requests` reads the requests that only a node receives.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from google.protobuf.message import Message

from hyperpod_ebs.driver.model import errors, iops, nodes, parameters, tags, topology, volume
from hyperpod_ebs.driver.model.capability import (
    DEFAULT_FILESYSTEM,
    FILESYSTEMS,
    AccessMode,
    Block,
    Capability,
    Mount,
    check_capability,
)
from hyperpod_ebs.driver.model.formatting import Formatting
from hyperpod_ebs.driver.model.mount_options import MountOptions
from hyperpod_ebs.driver.model.nodes import Node
from hyperpod_ebs.driver.model.sizes import SizeRange
from hyperpod_ebs.driver.model.volume import SnapshotSpec, VolumeSpec
from hyperpod_ebs.kit.operations import Operation
from hyperpod_ebs.pb import csi_pb2

M = TypeVar("M", bound=Message)

_WithCapability = (
    csi_pb2.ControllerPublishVolumeRequest | csi_pb2.NodeStageVolumeRequest | csi_pb2.NodePublishVolumeRequest
)


def operation(request: Message) -> Operation:
    """The operation that a request asks for, so that identical requests join.

    Secrets do not count: a request with a rotated secret is the same request.
    """
    terms = without_secrets(request).SerializeToString(deterministic=True)
    return Operation(type(request).__name__.removesuffix("Request"), terms)


def without_secrets(message: M) -> M:
    """A copy of `message` without the fields that the CSI proto marks as `csi_secret`, at any depth."""
    copy = type(message)()
    copy.CopyFrom(message)
    unread: list[Message] = [copy]
    while unread:
        part = unread.pop()
        for field, value in part.ListFields():
            if field.GetOptions().Extensions[csi_pb2.csi_secret]:
                part.ClearField(field.name)
            elif (inner_type := field.message_type) and not inner_type.GetOptions().map_entry:
                unread.extend(value if field.is_repeated else (value,))
    return copy


def volume_spec(request: csi_pb2.CreateVolumeRequest, policy: tags.TagPolicy = tags.DEFAULT_POLICY) -> VolumeSpec:
    """The volume that a request asks for; its zone is empty if the request allows any zone.

    Raises:
        InvalidRequest: The request is wrong.
        OutOfRange: No size fits the capacity range.
        Refused: A mount option, or a value in the VolumeAttributesClass, is wrong.
        SnapshotNotFound: No snapshot can have the id of the source.
    """
    name = required_field(request.name, "name")
    for capability in capabilities(request.volume_capabilities):
        if isinstance(capability.access, Mount) and capability.access.options.refusal:
            # After INVALID_ARGUMENT the provisioner waits half an hour, but the user can edit a class's mountOptions.
            raise errors.Refused(capability.access.options.refusal)
        check_capability(capability)
    given = class_parameters(request.parameters, request.mutable_parameters)
    requisite = [dict(term.segments) for term in request.accessibility_requirements.requisite]
    preferred = [dict(term.segments) for term in request.accessibility_requirements.preferred]
    zone = topology.requested_zone(requisite, preferred) or ""
    size = SizeRange.from_capacity_range(request.capacity_range.required_bytes, request.capacity_range.limit_bytes)
    type_, fixed_iops = given.type or parameters.DEFAULT_TYPE, given.iops
    if given.iops_per_gib is not None:
        fixed_iops = iops.for_size(type_, given.iops_per_gib, size.wanted, raise_to_minimum=given.raise_iops_to_minimum)
    return VolumeSpec(
        name=name,
        size=size,
        zone=zone,
        other_zones=topology.allowed_zones(requisite, preferred) - {zone},
        type=type_,
        iops=fixed_iops,
        throughput=given.throughput,
        encrypted=given.encrypted,
        kms_key_id=given.kms_key_id,
        snapshot_id=source_snapshot(request),
        tags={
            **policy.volume_tags(name, given.metadata, given.tag_specifications, given.tag_deletions),
            **({iops.PER_GIB_TAG: str(given.iops_per_gib)} if given.iops_per_gib else {}),
            **({iops.GROW_TAG: "true"} if given.grow_iops else {}),
        },
    )


def formatting(request: csi_pb2.CreateVolumeRequest) -> Formatting:
    """How to create the filesystem of a new volume.

    Raises:
        InvalidRequest: A capability of the request does not allow the formatting.
    """
    wanted = Formatting.parse(request.parameters)
    for capability in capabilities(request.volume_capabilities):
        wanted.check(capability.access.filesystem if isinstance(capability.access, Mount) else None)
    return wanted


def ignored_parameters(request: csi_pb2.CreateVolumeRequest) -> Mapping[str, str]:
    """The parameters that the driver accepts and ignores, each with the reason."""
    known = parameters.IGNORED
    return {key: known[key.lower()] for key in sorted(request.parameters) if key.lower() in known}


def class_parameters(given: Mapping[str, str], mutable: Mapping[str, str]) -> parameters.Parameters:
    """The parameters of a StorageClass together with those of a VolumeAttributesClass.

    After INVALID_ARGUMENT, the provisioner waits half an hour, or until the StorageClass is recreated. A wrong value in
    the VolumeAttributesClass cannot be fixed there, so it is not an InvalidRequest. An unknown key is one: csi-sanity
    demands it ("should not create volume with an invalid volume attribute class"). Only a bound claim may name another
    VolumeAttributesClass, and a class's parameters cannot change, so the user has to recreate the claim.

    Raises:
        InvalidRequest: A key is unknown, or a value in the StorageClass is wrong.
        Refused: A value in the VolumeAttributesClass is wrong.
    """
    try:
        parameters.parse_change(mutable)
    except errors.InvalidRequest as error:
        if parameters.has_only_known_keys(mutable):
            raise errors.Refused(
                f"the VolumeAttributesClass is wrong: {error}; recreate the claim with another class"
            ) from error
        raise
    parsed = parameters.parse_classes(given, mutable)
    if parsed.filesystem not in {None, *FILESYSTEMS}:
        raise errors.InvalidRequest(
            f"filesystem {parsed.filesystem!r} is not supported; use {' or '.join(sorted(FILESYSTEMS))}"
        )
    return parsed


def source_snapshot(request: csi_pb2.CreateVolumeRequest) -> str | None:
    """The id of the snapshot from which to create the volume; None for a blank volume.

    Raises:
        InvalidRequest: The source is not a snapshot.
        SnapshotNotFound: No snapshot can have the id.
    """
    if not request.HasField("volume_content_source"):
        return None
    content = request.volume_content_source
    if not content.HasField("snapshot"):
        raise errors.InvalidRequest(
            "cannot clone a volume; take a snapshot of it and create the new volume from the snapshot"
        )
    return volume.parse_snapshot_id(content.snapshot.snapshot_id)


def expansion_size(request: csi_pb2.ControllerExpandVolumeRequest) -> SizeRange:
    """The size to which a volume has to grow.

    Raises:
        InvalidRequest: The request has no size.
        OutOfRange: No whole number of GiB fits the capacity range.
    """
    wanted = request.capacity_range
    if not wanted.required_bytes:
        raise errors.InvalidRequest("the request has no capacity range with required bytes")
    return SizeRange.from_capacity_range(wanted.required_bytes, wanted.limit_bytes)


def snapshot_spec(request: csi_pb2.CreateSnapshotRequest, policy: tags.TagPolicy = tags.DEFAULT_POLICY) -> SnapshotSpec:
    """The snapshot that a request asks for.

    Raises:
        InvalidRequest: The name or the source is missing, or a parameter is unknown.
        VolumeNotFound: No volume can have the id of the source.
    """
    name = required_field(request.name, "name")
    given = request.parameters
    specifications = sorted(key for key in given if key.startswith(parameters.TAG_PREFIX))
    metadata = {key: given[key] for key in given if key in tags.SNAPSHOT_METADATA}
    if unknown := sorted(given.keys() - metadata.keys() - set(specifications)):
        raise errors.InvalidRequest(
            f"snapshot parameter {unknown[0]!r} is not supported; remove it from the VolumeSnapshotClass"
        )
    return SnapshotSpec(
        name=name,
        volume_id=volume.parse_volume_id(request.source_volume_id),
        tags=policy.snapshot_tags(name, metadata, [given[key] for key in specifications]),
    )


def node(node_id: str) -> Node:
    """The node with this CSI node id.

    Raises:
        InvalidRequest: The id is empty.
        NodeNotFound: No node can have the id.
    """
    return nodes.parse(required_field(node_id, "node id"))


def capabilities(requested: Iterable[csi_pb2.VolumeCapability]) -> tuple[Capability, ...]:
    """The volume capabilities of a request, of which there is at least one.

    Raises:
        InvalidRequest: There is none, or one has no access type or an unknown access mode.
    """
    found = tuple(capability(each) for each in requested)
    if not found:
        raise errors.InvalidRequest("the request has no volume capabilities")
    return found


def supported_capability(request: _WithCapability) -> Capability:
    """The volume capability of a request, which the driver supports.

    Raises:
        InvalidRequest: It is missing, or the driver does not support it.
    """
    if not request.HasField("volume_capability"):
        raise errors.InvalidRequest("the request has no volume capability")
    wanted = capability(request.volume_capability)
    check_capability(wanted)
    return wanted


def capability(requested: csi_pb2.VolumeCapability) -> Capability:
    """A way in which a workload uses a volume.

    Raises:
        InvalidRequest: It has no access type, or an access mode that no version of CSI up to the driver's has.
    """
    number, names = requested.access_mode.mode, csi_pb2.VolumeCapability.AccessMode.Mode
    if number not in names.values():
        raise errors.InvalidRequest(
            f"access mode {number} is not supported: this driver knows CSI's modes up to {max(names.values())}; "
            "use ReadWriteOnce or ReadWriteOncePod"
        )
    mode = AccessMode(names.Name(requested.access_mode.mode))
    match requested.WhichOneof("access_type"):
        case "block":
            return Capability(Block(), mode)
        case "mount":
            mount = requested.mount
            return Capability(Mount(mount.fs_type or DEFAULT_FILESYSTEM, MountOptions.parse(mount.mount_flags)), mode)
        case _:
            raise errors.InvalidRequest("a volume capability has no access type; it needs block or mount")


def required_field(text: str, what: str) -> str:
    """The value of a field that must not be empty.

    Raises:
        InvalidRequest: It is empty.
    """
    if not text:
        raise errors.InvalidRequest(f"the request has no {what}")
    return text
