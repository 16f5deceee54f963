"""The driver turns requests into values, or refuses them with the right kind of error."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from hyperpod_ebs.driver.csi import node_requests, parse
from hyperpod_ebs.driver.model import errors, parameters
from hyperpod_ebs.driver.model.capability import AccessMode, Block, Capability, Mount
from hyperpod_ebs.driver.model.mount_options import MountOptions
from hyperpod_ebs.driver.model.nodes import Ec2Node
from hyperpod_ebs.driver.model.sizes import GiB, SizeRange
from hyperpod_ebs.driver.model.tags import TagChanges
from hyperpod_ebs.driver.model.volume import Change, SnapshotSpec, VolumeSpec
from hyperpod_ebs.driver.mounts.publish import Publishing
from hyperpod_ebs.driver.mounts.stage import Staging
from hyperpod_ebs.pb import csi_pb2

GIB: Final = 2**30
VOLUME: Final = "vol-0123456789abcdef0"
MODES: Final = csi_pb2.VolumeCapability.AccessMode.Mode
ZONE: Final = "topology.kubernetes.io/zone"


def mount(filesystem: str = "", *flags: str, mode: Any = MODES.SINGLE_NODE_WRITER) -> csi_pb2.VolumeCapability:
    """The capability of a filesystem, by default for a single writer."""
    return csi_pb2.VolumeCapability(
        mount=csi_pb2.VolumeCapability.MountVolume(fs_type=filesystem, mount_flags=flags),
        access_mode=csi_pb2.VolumeCapability.AccessMode(mode=mode),
    )


def create(**changes: Any) -> csi_pb2.CreateVolumeRequest:
    """A CreateVolume request with these fields, and the required ones."""
    return csi_pb2.CreateVolumeRequest(**{"name": "pvc-1", "volume_capabilities": [mount()], **changes})


def test_every_field_of_a_create_request_becomes_part_of_the_spec() -> None:
    request = create(
        capacity_range=csi_pb2.CapacityRange(required_bytes=5 * GIB - 1, limit_bytes=6 * GIB),
        parameters={
            "type": "io2",
            "IOPS": "4000",
            "encrypted": "true",
            "csi.storage.k8s.io/pvc/name": "claim",
            "tagSpecification_1": "team={{ .PVCName }}",
        },
        mutable_parameters={"iops": "5000"},
        volume_content_source=csi_pb2.VolumeContentSource(
            snapshot=csi_pb2.VolumeContentSource.SnapshotSource(snapshot_id="snap-0123456789abcdef0")
        ),
        accessibility_requirements=csi_pb2.TopologyRequirement(
            requisite=[csi_pb2.Topology(segments={ZONE: "a"}), csi_pb2.Topology(segments={ZONE: "b"})],
            preferred=[csi_pb2.Topology(segments={ZONE: "b"})],
        ),
        secrets={"a": "b"},
    )

    spec = parse.volume_spec(request)

    assert spec == VolumeSpec(
        name="pvc-1",
        size=SizeRange(GiB(5), 6 * GIB),
        zone="b",
        other_zones=frozenset({"a"}),
        type="io2",
        iops=5000,
        encrypted=True,
        snapshot_id="snap-0123456789abcdef0",
        tags={
            "CSIVolumeName": "pvc-1",
            "ebs.csi.aws.com/cluster": "true",
            "kubernetes.io/created-for/pvc/name": "claim",
            "team": "claim",
        },
    )


def test_a_minimal_create_request_gets_the_defaults() -> None:
    """The defaults of the upstream driver, aws-ebs-csi-driver: gp3, 100 GiB, any zone."""
    spec = parse.volume_spec(create())

    assert (spec.type, spec.size, spec.zone, spec.snapshot_id) == ("gp3", SizeRange(GiB(100)), "", None)


class Refusal(NamedTuple):
    """A wrong request, and the error with which the driver refuses it."""

    id: str
    parse: Callable[[], object]
    error: type[errors.Error]
    says: str


SOURCE: Final = csi_pb2.VolumeContentSource
REFUSALS: Final = [
    Refusal("no name", lambda: parse.volume_spec(create(name="")), errors.InvalidRequest, "name"),
    Refusal(
        "no capability",
        lambda: parse.volume_spec(create(volume_capabilities=[])),
        errors.InvalidRequest,
        "capabilities",
    ),
    Refusal(
        "a wrong value in a VolumeAttributesClass",
        lambda: parse.volume_spec(create(mutable_parameters={"iops": "many"})),
        errors.Refused,
        "iops is 'many'.*recreate the claim with another class",
    ),
    Refusal(
        "a capability without an access type",
        lambda: parse.volume_spec(create(volume_capabilities=[csi_pb2.VolumeCapability()])),
        errors.InvalidRequest,
        "access type",
    ),
    Refusal(
        "many writers",
        lambda: parse.volume_spec(create(volume_capabilities=[mount(mode=MODES.MULTI_NODE_MULTI_WRITER)])),
        errors.InvalidRequest,
        "access mode ReadWriteMany is not supported",
    ),
    Refusal(
        "an access mode that this version of CSI does not have",
        lambda: parse.volume_spec(create(volume_capabilities=[mount(mode=99)])),
        errors.InvalidRequest,
        "access mode 99 is not supported",
    ),
    Refusal(
        "a key for a volume that shall not be encrypted",
        lambda: parse.volume_spec(create(parameters={"encrypted": "false", "kmsKeyId": "alias/mine"})),
        errors.InvalidRequest,
        "encrypted is false, but kmsKeyId is 'alias/mine'",
    ),
    Refusal(
        "a filesystem that is not supported",
        lambda: parse.volume_spec(create(volume_capabilities=[mount("ntfs")])),
        errors.InvalidRequest,
        "use ext4 or xfs",
    ),
    Refusal(
        "a parameter with a filesystem that is not supported",
        lambda: parse.volume_spec(create(parameters={"csi.storage.k8s.io/fstype": "ntfs"})),
        errors.InvalidRequest,
        "use ext4 or xfs",
    ),
    Refusal(
        "an unknown parameter",
        lambda: parse.volume_spec(create(parameters={"speed": "high"})),
        errors.InvalidRequest,
        "'speed'",
    ),
    Refusal(
        "a range without a whole GiB",
        lambda: parse.volume_spec(
            create(capacity_range=csi_pb2.CapacityRange(required_bytes=GIB + 1, limit_bytes=GIB + 2))
        ),
        errors.OutOfRange,
        "no whole number of GiB is between",
    ),
    Refusal(
        "another volume as the source",
        lambda: parse.volume_spec(create(volume_content_source=SOURCE(volume=SOURCE.VolumeSource(volume_id=VOLUME)))),
        errors.InvalidRequest,
        "take a snapshot",
    ),
    Refusal(
        "a source with an id that no snapshot can have",
        lambda: parse.volume_spec(
            create(volume_content_source=SOURCE(snapshot=SOURCE.SnapshotSource(snapshot_id="non-existing")))
        ),
        errors.SnapshotNotFound,
        "'non-existing'",
    ),
    Refusal(
        "topology without a zone",
        lambda: parse.volume_spec(
            create(
                accessibility_requirements=csi_pb2.TopologyRequirement(
                    requisite=[csi_pb2.Topology(segments={"rack": "1"})]
                )
            )
        ),
        errors.InvalidRequest,
        "rack",
    ),
    Refusal(
        "an expansion to no size",
        lambda: parse.expansion_size(csi_pb2.ControllerExpandVolumeRequest(volume_id=VOLUME)),
        errors.InvalidRequest,
        "capacity range",
    ),
    Refusal("no node id", lambda: parse.node(""), errors.InvalidRequest, "node id"),
    Refusal("an odd node id", lambda: parse.node("some-fake-node-id"), errors.NodeNotFound, "some-fake-node-id"),
    Refusal(
        "a publish without a capability",
        lambda: parse.supported_capability(csi_pb2.ControllerPublishVolumeRequest(volume_id=VOLUME)),
        errors.InvalidRequest,
        "capability",
    ),
    Refusal(
        "a snapshot without a name",
        lambda: parse.snapshot_spec(csi_pb2.CreateSnapshotRequest(source_volume_id=VOLUME)),
        errors.InvalidRequest,
        "name",
    ),
    Refusal(
        "a snapshot without a source",
        lambda: parse.snapshot_spec(csi_pb2.CreateSnapshotRequest(name="s")),
        errors.InvalidRequest,
        "volume id",
    ),
    Refusal(
        "a snapshot parameter",
        lambda: parse.snapshot_spec(
            csi_pb2.CreateSnapshotRequest(name="s", source_volume_id=VOLUME, parameters={"lockMode": "governance"})
        ),
        errors.InvalidRequest,
        "'lockMode'",
    ),
    Refusal(
        "a mount option of a StorageClass, which can be edited",
        lambda: parse.volume_spec(create(volume_capabilities=[mount("ext4", "noatime,loop")])),
        errors.Refused,
        "mount option 'loop'",
    ),
    Refusal(
        "a mount option",
        lambda: parse.supported_capability(
            csi_pb2.ControllerPublishVolumeRequest(volume_capability=mount("xfs", "noatime", "X-mount.subdir=a"))
        ),
        errors.InvalidRequest,
        "mount option 'X-mount.subdir=a'",
    ),
    Refusal(
        "a stage without a path",
        lambda: node_requests.staging(csi_pb2.NodeStageVolumeRequest(volume_id=VOLUME, volume_capability=mount())),
        errors.InvalidRequest,
        "staging target path",
    ),
    Refusal(
        "a stage of a partition",
        lambda: node_requests.staging(
            csi_pb2.NodeStageVolumeRequest(
                volume_id=VOLUME,
                staging_target_path="/s",
                volume_capability=mount(),
                volume_context={"partition": "1"},
            )
        ),
        errors.InvalidRequest,
        "partition 1 of the volume",
    ),
    Refusal(
        "a publish without a target",
        lambda: node_requests.publishing(
            csi_pb2.NodePublishVolumeRequest(volume_id=VOLUME, staging_target_path="/s", volume_capability=mount())
        ),
        errors.InvalidRequest,
        "target path",
    ),
]


@pytest.mark.requirement(
    "csi.missing-field",
    "csi.unsupported-field",
    "csi.create-volume.capabilities",
    "csi.create-volume.source-unsupported",
)
@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.id)
def test_a_wrong_request_is_refused_with_the_cause(refusal: Refusal) -> None:
    """CSI spec, the error table of each RPC."""
    with pytest.raises(refusal.error, match=refusal.says) as caught:
        refusal.parse()

    assert type(caught.value) is refusal.error


def test_every_access_mode_of_the_spec_is_known() -> None:
    """CSI spec, CreateVolume: an unknown access mode would raise ValueError, which the caller sees as a bug."""
    assert {mode.value for mode in AccessMode} == set(MODES.keys())


def test_the_access_type_and_mode_of_a_capability_are_read() -> None:
    writer = AccessMode.SINGLE_NODE_WRITER

    assert parse.capability(mount("xfs", "noatime")) == Capability(
        Mount("xfs", MountOptions(flags=frozenset({"noatime"}))), writer
    )
    assert parse.capability(mount()) == Capability(Mount("ext4"), writer)
    block = mount()
    block.block.SetInParent()
    assert parse.capability(block) == Capability(Block(), writer)


def test_the_fields_of_a_stage_request_are_read() -> None:
    request = csi_pb2.NodeStageVolumeRequest(
        volume_id=VOLUME,
        staging_target_path="/stage",
        volume_capability=mount(),
        publish_context={"devicePath": "/dev/xvdaa"},
        volume_context={"partition": "0"},
    )

    assert node_requests.staging(request) == Staging(
        volume_id=VOLUME, target=Path("/stage"), capability=parse.capability(mount()), device="/dev/xvdaa"
    )


@pytest.mark.requirement("csi.node-publish.read-only")
@pytest.mark.parametrize(
    ("readonly", "mode"),
    [(True, MODES.SINGLE_NODE_WRITER), (False, MODES.SINGLE_NODE_READER_ONLY)],
    ids=["asked for", "by its access mode"],
)
def test_a_publish_is_read_only_when_either_says_so(readonly: bool, mode: Any) -> None:  # noqa: FBT001 - a case
    """CSI spec, NodePublishVolume."""
    request = csi_pb2.NodePublishVolumeRequest(
        volume_id=VOLUME,
        staging_target_path="/stage",
        target_path="/target",
        volume_capability=mount(mode=mode),
        readonly=readonly,
    )

    assert node_requests.publishing(request) == Publishing(
        volume_id=VOLUME,
        staging=Path("/stage"),
        target=Path("/target"),
        capability=parse.capability(mount(mode=mode)),
        read_only=True,
    )


def test_the_metadata_of_a_snapshot_is_accepted_and_fills_in_templates() -> None:
    """external-snapshotter, --extra-create-metadata; upstream's docs/tagging.md."""
    metadata = {
        "csi.storage.k8s.io/volumesnapshot/name": "s",
        "csi.storage.k8s.io/volumesnapshot/namespace": "team",
        "csi.storage.k8s.io/volumesnapshotcontent/name": "content",
    }
    template = "{{ .VolumeSnapshotNamespace }}/{{ .VolumeSnapshotName }}/{{ .VolumeSnapshotContentName }}"
    wanted = csi_pb2.CreateSnapshotRequest(
        name="s", source_volume_id=VOLUME, parameters=metadata | {"tagSpecification_1": f"of={template}"}
    )

    assert parse.snapshot_spec(wanted).tags["of"] == "team/s/content"


def test_node_ids_changes_and_snapshot_requests_are_read() -> None:
    metadata = {"csi.storage.k8s.io/volumesnapshot/name": "s"}
    wanted = csi_pb2.CreateSnapshotRequest(name="s", source_volume_id=VOLUME, parameters=metadata)

    assert parse.node("i-0123456789abcdef0") == Ec2Node("i-0123456789abcdef0")
    modification = csi_pb2.ControllerModifyVolumeRequest(mutable_parameters={"type": "io2", "iops": "9"})
    assert parameters.parse_change(modification.mutable_parameters) == (Change(type="io2", iops=9), TagChanges())
    assert parse.snapshot_spec(wanted) == SnapshotSpec(
        name="s",
        volume_id=VOLUME,
        tags={"CSIVolumeSnapshotName": "s", "ebs.csi.aws.com/cluster": "true"},
    )
