"""Requests become values here, or are refused: nothing behind this module knows protobuf.

What the node alone is asked is read in `csi.mounting`.
"""

from collections.abc import Iterable, Mapping

from hyperpod_ebs.driver.model import errors, iops, nodes, parameters, tags, topology, volume
from hyperpod_ebs.driver.model.capability import (
    DEFAULT_FILESYSTEM,
    FILESYSTEMS,
    AccessMode,
    Block,
    Capability,
    Mount,
    check,
)
from hyperpod_ebs.driver.model.formatting import Formatting
from hyperpod_ebs.driver.model.nodes import Node
from hyperpod_ebs.driver.model.sizes import GiB, SizeRange
from hyperpod_ebs.driver.model.volume import Change, SnapshotSpec, VolumeSpec
from hyperpod_ebs.pb import csi_pb2

_WithCapability = (
    csi_pb2.ControllerPublishVolumeRequest | csi_pb2.NodeStageVolumeRequest | csi_pb2.NodePublishVolumeRequest
)


def volume_spec(request: csi_pb2.CreateVolumeRequest, policy: tags.TagPolicy = tags.DEFAULT_POLICY) -> VolumeSpec:
    """The volume that is asked for; its zone is empty where any will do.

    Raises:
        InvalidRequest: The request is wrong.
        OutOfRange: No size fits its capacity range.
        Refused: Its VolumeAttributesClass has a value that cannot be read.
        SnapshotNotFound: No snapshot can have the id of its source.
    """
    name = required(request.name, "name")
    for capability in capabilities(request.volume_capabilities):
        check(capability)
    given = parameters_of(request.parameters, request.mutable_parameters)
    requirements = request.accessibility_requirements
    zone = topology.requested_zone(
        [dict(term.segments) for term in requirements.requisite],
        [dict(term.segments) for term in requirements.preferred],
    )
    size, type_ = size_range(request.capacity_range), given.type or parameters.DEFAULT_TYPE
    return VolumeSpec(
        name=name,
        size=size,
        zone=zone or "",
        type=type_,
        iops=iops_of(given, type_, size.wanted),
        throughput=given.throughput,
        encrypted=given.encrypted,
        kms_key_id=given.kms_key_id,
        snapshot_id=source(request),
        tags={
            **policy.volume_tags(name, given.metadata, given.tag_specifications, given.tag_deletions),
            **({iops.PER_GIB: str(given.iops_per_gib)} if given.iops_per_gib else {}),
            **({iops.GROWS: "true"} if given.grows else {}),
        },
    )


def formatting(request: csi_pb2.CreateVolumeRequest) -> Formatting:
    """How the filesystem of a new volume is to be made.

    Raises:
        InvalidRequest: Not every way in which the volume will be used allows it.
    """
    wanted = Formatting.parse(request.parameters)
    for one in capabilities(request.volume_capabilities):
        wanted.check(one.access.filesystem if isinstance(one.access, Mount) else None)
    return wanted


def ignored(request: csi_pb2.CreateVolumeRequest) -> Mapping[str, str]:
    """The parameters that are taken and mean nothing, and why."""
    known = parameters.IGNORED
    return {key: known[key.lower()] for key in sorted(request.parameters) if key.lower() in known}


def iops_of(given: parameters.Parameters, type_: str, size: GiB) -> int | None:
    """The IOPS that a class asks for, by number or in proportion to the size.

    Raises:
        InvalidRequest: In proportion, for a type that has none to ask for.
    """
    if given.iops_per_gib is None:
        return given.iops
    return iops.for_size(type_, given.iops_per_gib, size, at_least=given.at_least)


def parameters_of(given: Mapping[str, str], mutable: Mapping[str, str]) -> parameters.Parameters:
    """What a StorageClass and a VolumeAttributesClass say together.

    The provisioner waits half an hour after INVALID_ARGUMENT, unless the StorageClass is made anew. It is not
    that class which is wrong when a value of the VolumeAttributesClass is, so that is no InvalidRequest; an
    unknown key is one (csi-sanity: "should not create volume with an invalid volume attribute class").
    Kubernetes lets only a bound claim name another class, and a class's parameters do not change: what heals
    is another claim.

    Raises:
        InvalidRequest: A key is unknown, or a value of the StorageClass cannot be read.
        Refused: A value of the VolumeAttributesClass cannot be read.
    """
    try:
        parameters.parse_change(mutable)
    except errors.InvalidRequest as error:
        if parameters.has_only_known_keys(mutable):
            raise errors.Refused(
                f"the VolumeAttributesClass is wrong: {error}; make the claim anew with another"
            ) from error
        raise
    read = parameters.parse_classes(given, mutable)
    if read.filesystem not in {None, *FILESYSTEMS}:
        raise errors.InvalidRequest(
            f"filesystem {read.filesystem!r} is not offered; take one of {', '.join(sorted(FILESYSTEMS))}"
        )
    return read


def source(request: csi_pb2.CreateVolumeRequest) -> str | None:
    """The snapshot that the volume is made of, if any.

    Raises:
        InvalidRequest: The source is another volume, or nothing.
        SnapshotNotFound: No snapshot can have the id.
    """
    if not request.HasField("volume_content_source"):
        return None
    content = request.volume_content_source
    if not content.HasField("snapshot"):
        raise errors.InvalidRequest("a volume can be made of a snapshot, not of a volume: take a snapshot of it first")
    return volume.parse_snapshot_id(content.snapshot.snapshot_id)


def size_range(asked: csi_pb2.CapacityRange) -> SizeRange:
    """The size that is asked for.

    Raises:
        OutOfRange: No whole number of GiB lies in it.
    """
    return SizeRange.from_capacity_range(asked.required_bytes, asked.limit_bytes)


def larger_size(request: csi_pb2.ControllerExpandVolumeRequest) -> SizeRange:
    """The size that a volume is to grow to.

    Raises:
        InvalidRequest: None is given.
        OutOfRange: No whole number of GiB lies in it.
    """
    if not request.capacity_range.required_bytes:
        raise errors.InvalidRequest("an expansion needs a capacity range with required bytes, but has none")
    return size_range(request.capacity_range)


def change(
    request: csi_pb2.ControllerModifyVolumeRequest, policy: tags.TagPolicy = tags.DEFAULT_POLICY
) -> tuple[Change, tags.TagChanges]:
    """What a VolumeAttributesClass asks to change, of the volume and of its tags.

    Raises:
        InvalidRequest: A key is unknown, or a value cannot be read.
    """
    return parameters.parse_change(request.mutable_parameters, policy)


def snapshot_spec(request: csi_pb2.CreateSnapshotRequest, policy: tags.TagPolicy = tags.DEFAULT_POLICY) -> SnapshotSpec:
    """The snapshot that is asked for.

    Raises:
        InvalidRequest: A name or source is missing, or a parameter is unknown.
        VolumeNotFound: No volume can have the id of its source.
    """
    name = required(request.name, "name")
    given = request.parameters
    specifications = sorted(key for key in given if key.startswith(parameters.TAG_PREFIX))
    metadata = {key: given[key] for key in given if key in tags.SNAPSHOT_METADATA}
    if unknown := sorted(given.keys() - metadata.keys() - set(specifications)):
        raise errors.InvalidRequest(f"snapshot parameter {unknown[0]!r} is not offered; remove it from the class")
    return SnapshotSpec(
        name=name,
        volume_id=volume.parse_volume_id(request.source_volume_id),
        tags=policy.snapshot_tags(name, metadata, [given[key] for key in specifications]),
    )


def node(node_id: str) -> Node:
    """The node that an id names.

    Raises:
        InvalidRequest: It is empty.
        NodeNotFound: No node can have it.
    """
    return nodes.parse(required(node_id, "node id"))


def capabilities(asked: Iterable[csi_pb2.VolumeCapability]) -> tuple[Capability, ...]:
    """Every capability of a list that may not be empty.

    Raises:
        InvalidRequest: There is none, or one says nothing.
    """
    found = tuple(capability(one) for one in asked)
    if not found:
        raise errors.InvalidRequest("volume capabilities are needed, but there are none")
    return found


def offered(request: _WithCapability) -> Capability:
    """The one capability of a request, which is one that we offer.

    Raises:
        InvalidRequest: It is missing or not offered.
    """
    if not request.HasField("volume_capability"):
        raise errors.InvalidRequest("a volume capability is needed, but there is none")
    wanted = capability(request.volume_capability)
    check(wanted)
    return wanted


def capability(asked: csi_pb2.VolumeCapability) -> Capability:
    """One way in which a volume will be used.

    Raises:
        InvalidRequest: It names neither block nor mount.
    """
    mode = AccessMode(csi_pb2.VolumeCapability.AccessMode.Mode.Name(asked.access_mode.mode))
    match asked.WhichOneof("access_type"):
        case "block":
            return Capability(Block(), mode)
        case "mount":
            mount = asked.mount
            return Capability(Mount(mount.fs_type or DEFAULT_FILESYSTEM, tuple(mount.mount_flags)), mode)
        case _:
            raise errors.InvalidRequest("a volume capability needs an access type, block or mount, but has none")


def required(text: str, what: str) -> str:
    """`text`, which is not empty.

    Raises:
        InvalidRequest: It is.
    """
    if not text:
        raise errors.InvalidRequest(f"a {what} is needed, but is empty")
    return text
