"""Ids, capabilities, topology and the error tree."""

import contextlib
import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import botocore.session
import pytest
from botocore.model import StringShape
from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.model import capability, errors, topology, volume
from hyperpod_ebs.driver.model.capability import AccessMode, Block, Capability, Mount

WRITER: Final = AccessMode.SINGLE_NODE_WRITER


@pytest.mark.requirement("errors.every-error-has-a-code")
def test_the_error_tree_in_the_docstring_is_that_of_the_classes() -> None:
    """The drawing is documentation that cannot become outdated."""
    drawn: dict[str, str] = {}
    parents = {0: "Error"}
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"((?:│   |    )*)(?:├──|└──) (\w+)", line):
            depth = len(match[1]) // 4 + 1
            drawn[match[2]] = parents[depth - 1]
            parents[depth] = match[2]

    defined = {
        name: cls.__mro__[1].__name__
        for name, cls in vars(errors).items()
        if isinstance(cls, type) and issubclass(cls, errors.Error) and cls is not errors.Error
    }
    assert drawn == defined


def test_a_rate_limit_error_says_when_it_ends() -> None:
    error = errors.RateLimited("vol-1 was modified four times", earliest=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))

    assert str(error) == "vol-1 was modified four times; try again after 2026-01-02T03:04:05Z"


def test_a_cloud_error_has_the_code() -> None:
    """AWS Support asks for it."""
    assert str(errors.CloudError("OddError", "cannot attach vol-1")) == "cannot attach vol-1 (OddError)"


@pytest.mark.parametrize(
    ("service", "shape", "states"),
    [
        ("ec2", "VolumeState", volume.VolumeState),
        ("ec2", "VolumeAttachmentState", volume.AttachState),
        ("sagemaker", "VolumeAttachmentStatus", volume.AttachState),
        ("ec2", "VolumeModificationState", volume.ModificationState),
        ("ec2", "SnapshotState", volume.SnapshotState),
    ],
    ids=lambda case: getattr(case, "__name__", str(case)),
)
def test_the_states_are_those_of_awss_own_models(service: str, shape: str, states: type[StrEnum]) -> None:
    """The driver cannot read a description that has another state."""
    model = botocore.session.get_session().get_service_model(service).shape_for(shape)

    assert isinstance(model, StringShape)
    assert {state.value for state in states} == set(model.enum)


@pytest.mark.parametrize("text", ["vol-12345678", "vol-0123456789abcdef0"])
def test_ids_of_both_lengths_are_accepted(text: str) -> None:
    """EC2 User Guide, "Resource IDs": 17 hex digits, formerly 8."""
    assert volume.parse_volume_id(text) == text
    assert volume.parse_snapshot_id(text.replace("vol", "snap")) == text.replace("vol", "snap")


@given(st.text(min_size=1))
def test_a_malformed_id_is_not_found(text: str) -> None:
    """csi-sanity uses malformed ids for volumes that do not exist, and expects NOT_FOUND."""
    with contextlib.suppress(errors.VolumeNotFound):
        assert re.fullmatch(r"vol-[0-9a-f]+", volume.parse_volume_id(text))
    with contextlib.suppress(errors.SnapshotNotFound):
        assert re.fullmatch(r"snap-[0-9a-f]+", volume.parse_snapshot_id(text))


@pytest.mark.requirement("csi.missing-field")
def test_an_empty_id_is_an_invalid_request() -> None:
    """csi-sanity, "should fail when no volume id is provided": INVALID_ARGUMENT."""
    with pytest.raises(errors.InvalidRequest):
        volume.parse_volume_id("")
    with pytest.raises(errors.InvalidRequest):
        volume.parse_snapshot_id("")


def test_the_device_link_has_the_volumes_nvme_serial_number() -> None:
    """EBS User Guide, "Amazon EBS volumes and NVMe": the serial number is the volume id without the dash."""
    assert volume.nvme_serial("vol-0123456789abcdef0") == "vol0123456789abcdef0"
    assert volume.udev_link("vol-12345678") == "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol12345678"


@pytest.mark.requirement("csi.create-volume.capabilities", "csi.single-writer-accepted")
@pytest.mark.parametrize("mode", AccessMode, ids=str)
def test_only_access_modes_of_a_single_node_are_supported(mode: AccessMode) -> None:
    """An EBS volume is attached to one node at a time."""
    supported = capability.unsupported_reason(Capability(Block(), mode)) is None

    assert supported == mode.value.startswith("SINGLE_NODE_")


@pytest.mark.parametrize("filesystem", ["ext4", "xfs", "ext3", "btrfs", "ntfs", "EXT4"])
def test_only_ext4_and_xfs_are_supported(filesystem: str) -> None:
    supported = capability.unsupported_reason(Capability(Mount(filesystem), WRITER)) is None

    assert supported == (filesystem in {"ext4", "xfs"})


@pytest.mark.requirement("csi.create-volume.capabilities")
def test_the_error_for_an_unsupported_filesystem_names_the_supported_ones() -> None:
    with pytest.raises(errors.InvalidRequest, match="'ntfs' is not supported; use ext4 or xfs"):
        capability.check_capability(Capability(Mount("ntfs"), WRITER))


def test_the_reader_only_access_mode_is_read_only() -> None:
    """CSI spec, CreateVolume, VolumeCapability.AccessMode."""
    assert Capability(Block(), AccessMode.SINGLE_NODE_READER_ONLY).read_only
    assert not Capability(Block(), WRITER).read_only


@pytest.mark.requirement("csi.node-info.topology")
def test_a_node_reports_the_topology_keys_of_old_and_new_volumes() -> None:
    """The same keys as upstream's NodeGetInfo, pkg/driver/node.go."""
    assert topology.node_segments("z") == {
        "topology.kubernetes.io/zone": "z",
        "topology.ebs.csi.aws.com/zone": "z",
        "kubernetes.io/os": "linux",
    }
    assert topology.volume_segments("z") == {"topology.kubernetes.io/zone": "z"}


@pytest.mark.requirement("csi.create-volume.topology")
@pytest.mark.parametrize(
    ("requisite", "preferred", "zone"),
    [
        ([], [], None),
        ([{topology.ZONE: "a"}], [], "a"),
        ([{topology.ZONE: "a"}], [{topology.ZONE: "b"}], "b"),
        ([{topology.OLD_ZONE: "a"}], [], "a"),
        ([{topology.OS: "linux"}, {topology.ZONE: "c", topology.OS: "linux"}], [], "c"),
    ],
    ids=["nothing asked", "required", "preferred first", "the old key", "the first that names a zone"],
)
def test_the_zone_is_the_first_preferred_or_else_the_first_required(
    requisite: list[dict[str, str]], preferred: list[dict[str, str]], zone: str | None
) -> None:
    """CSI spec, CreateVolume, TopologyRequirement."""
    assert topology.requested_zone(requisite, preferred) == zone


@pytest.mark.requirement("csi.create-volume.topology")
def test_topology_requirements_without_a_zone_are_refused() -> None:
    """The volume would be in an arbitrary zone, where no pod may reach it."""
    with pytest.raises(errors.InvalidRequest, match="their keys are rack;"):
        topology.requested_zone([{"rack": "1"}], [])
    with pytest.raises(errors.InvalidRequest, match="their keys are nothing;"):
        topology.requested_zone([{}], [])


@pytest.mark.requirement("csi.create-volume.topology")
def test_a_volume_on_an_outpost_is_refused() -> None:
    """aws-ebs-csi-driver, docs/parameters.md: its nodes on an Outpost report the key outpost-id."""
    on_outpost = {topology.ZONE: "a", "topology.ebs.csi.aws.com/outpost-id": "op-0123456789abcdef0"}

    with pytest.raises(errors.InvalidRequest, match="Outpost op-0123456789abcdef0"):
        topology.requested_zone([on_outpost], [])
    assert topology.requested_zone([on_outpost], [{topology.ZONE: "b"}]) == "b"
    assert topology.allowed_zones([on_outpost, {topology.OLD_ZONE: "c"}], [{topology.ZONE: "b"}]) == {"b", "c"}
