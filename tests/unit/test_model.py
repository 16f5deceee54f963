"""The smaller values of the model: ids, capabilities, topology, the error tree."""

import contextlib
import re
from datetime import UTC, datetime
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.model import capability, errors, topology, volume
from hyperpod_ebs.driver.model.capability import AccessMode, Block, Capability, Mount

WRITER: Final = AccessMode.SINGLE_NODE_WRITER


@pytest.mark.requirement("errors.every-error-has-a-code")
def test_the_drawing_of_the_error_tree_is_the_tree() -> None:
    """Ours: the picture cannot rot."""
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


def test_a_rate_limit_tells_when_it_ends() -> None:
    """Ours: an operator can wait for a time, not for a state."""
    error = errors.RateLimited("vol-1 was modified four times", earliest=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))

    assert str(error) == "vol-1 was modified four times; earliest at 2026-01-02T03:04:05Z"


def test_a_cloud_error_carries_what_aws_support_asks_for() -> None:
    """Ours."""
    error = errors.CloudError("OddError", "attaching vol-1", request_id="abc")

    assert str(error) == "attaching vol-1 (OddError, request abc)"


@pytest.mark.parametrize("text", ["vol-12345678", "vol-0123456789abcdef0"])
def test_an_id_of_either_length_is_taken(text: str) -> None:
    """EC2's ids: 8 hex digits of old, 17 now."""
    assert volume.parse_volume_id(text) == text
    assert volume.parse_snapshot_id(text.replace("vol", "snap")) == text.replace("vol", "snap")


@given(st.text(min_size=1))
def test_any_other_text_is_not_found(text: str) -> None:
    """csi-sanity: an odd id is NOT_FOUND."""
    with contextlib.suppress(errors.VolumeNotFound):
        assert re.fullmatch(r"vol-[0-9a-f]+", volume.parse_volume_id(text))
    with contextlib.suppress(errors.SnapshotNotFound):
        assert re.fullmatch(r"snap-[0-9a-f]+", volume.parse_snapshot_id(text))


@pytest.mark.requirement("csi.missing-field")
def test_an_empty_id_is_an_invalid_request() -> None:
    """csi-sanity: INVALID_ARGUMENT."""
    with pytest.raises(errors.InvalidRequest):
        volume.parse_volume_id("")
    with pytest.raises(errors.InvalidRequest):
        volume.parse_snapshot_id("")


def test_a_device_is_named_by_its_volumes_serial() -> None:
    """EC2: a Nitro volume's NVMe serial is its id without the dash."""
    assert volume.nvme_serial("vol-0123456789abcdef0") == "vol0123456789abcdef0"
    assert volume.udev_link("vol-12345678") == "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol12345678"


@pytest.mark.requirement("csi.create-volume.capabilities", "csi.single-writer-accepted")
@pytest.mark.parametrize("mode", AccessMode, ids=str)
def test_only_modes_of_a_single_node_are_offered(mode: AccessMode) -> None:
    """An EBS volume is attached to one node at a time."""
    offered = capability.unsupported_reason(Capability(Block(), mode)) is None

    assert offered == mode.value.startswith("SINGLE_NODE_")


@pytest.mark.parametrize("filesystem", ["ext4", "xfs", "ext3", "btrfs", "ntfs", "EXT4"])
def test_only_filesystems_that_are_made_here_are_offered(filesystem: str) -> None:
    """Ours."""
    offered = capability.unsupported_reason(Capability(Mount(filesystem), WRITER)) is None

    assert offered == (filesystem in {"ext4", "xfs"})


@pytest.mark.requirement("csi.create-volume.capabilities")
def test_what_is_not_offered_is_refused_with_what_is() -> None:
    """Ours."""
    with pytest.raises(errors.InvalidRequest, match="take one of ext4, xfs"):
        capability.check(Capability(Mount("ntfs"), WRITER))


def test_a_reader_only_mode_is_read_only() -> None:
    """CSI spec §VolumeCapability."""
    assert Capability(Block(), AccessMode.SINGLE_NODE_READER_ONLY).read_only
    assert not Capability(Block(), WRITER).read_only


@pytest.mark.requirement("csi.node-info.topology")
def test_a_node_reports_the_keys_that_volumes_of_any_age_carry() -> None:
    """Upstream's node topology."""
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
def test_the_zone_is_the_first_preferred_else_the_first_required(
    requisite: list[dict[str, str]], preferred: list[dict[str, str]], zone: str | None
) -> None:
    """CSI spec §TopologyRequirement."""
    assert topology.requested_zone(requisite, preferred) == zone


@pytest.mark.requirement("csi.create-volume.topology")
def test_requirements_without_a_zone_are_refused() -> None:
    """Ours: a volume anywhere would be one that no pod can reach."""
    with pytest.raises(errors.InvalidRequest, match="they name rack"):
        topology.requested_zone([{"rack": "1"}], [])
