"""Answers have all fields that the CSI specification requires, and are the same for a repeated call."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import pytest

from hyperpod_ebs.driver.csi import capability_validation, identity, render
from hyperpod_ebs.driver.model import nodes, topology
from hyperpod_ebs.driver.model.disk import Amount, Usage
from hyperpod_ebs.driver.model.formatting import KEYS, Formatting
from hyperpod_ebs.driver.model.health import HEALTHY, Health, HealthStatus, Statistics
from hyperpod_ebs.driver.model.sizes import GiB
from hyperpod_ebs.driver.model.volume import Attachment, AttachState, Snapshot, SnapshotState, Volume, VolumeState
from hyperpod_ebs.driver.volumes.cloud import Page
from hyperpod_ebs.pb import csi_pb2

GIB: Final = 2**30
NODE: Final = "hyperpod-abcdefghijkl-i-0123456789abcdef0"
VOLUME: Final = Volume(
    id="vol-0123456789abcdef0", size=GiB(5), zone="us-west-2a", state=VolumeState.IN_USE, type="gp3", iops=3000
)
BLOCK: Final = csi_pb2.VolumeCapability(
    block=csi_pb2.VolumeCapability.BlockVolume(),
    access_mode=csi_pb2.VolumeCapability.AccessMode(mode=csi_pb2.VolumeCapability.AccessMode.Mode.SINGLE_NODE_WRITER),
)
LOOP: Final = csi_pb2.VolumeCapability(
    mount=csi_pb2.VolumeCapability.MountVolume(mount_flags=["loop"]), access_mode=BLOCK.access_mode
)
ROX: Final = csi_pb2.VolumeCapability(
    block=csi_pb2.VolumeCapability.BlockVolume(),
    access_mode=csi_pb2.VolumeCapability.AccessMode(
        mode=csi_pb2.VolumeCapability.AccessMode.Mode.MULTI_NODE_READER_ONLY
    ),
)


def an_attachment(state: AttachState, node: str | None = NODE) -> Attachment:
    """An attachment to a node, or to another service without one."""
    return Attachment(state=state, node=nodes.parse(node) if node else None, holder=node or "a service")


@pytest.mark.requirement("csi.create-volume.answer")
def test_a_volume_is_rendered_with_its_actual_size_and_zone() -> None:
    """CSI spec, CreateVolumeResponse: the actual capacity, and from where the volume is accessible."""
    assert render.volume(VOLUME) == csi_pb2.Volume(
        volume_id="vol-0123456789abcdef0",
        capacity_bytes=5 * GIB,
        accessible_topology=[csi_pb2.Topology(segments={"topology.kubernetes.io/zone": "us-west-2a"})],
    )


@pytest.mark.requirement("csi.create-volume.answer")
def test_a_restored_volume_names_its_source() -> None:
    """CSI spec, CreateVolumeResponse: content_source is required if the request had a source."""
    rendered = render.volume(replace(VOLUME, snapshot_id="snap-0123456789abcdef0"))

    assert rendered.content_source.snapshot.snapshot_id == "snap-0123456789abcdef0"


@pytest.mark.requirement("csi.list-volumes.nodes")
def test_a_volume_is_listed_only_on_nodes_that_can_use_it() -> None:
    """The external-attacher attaches a volume again if it is not listed on its node."""
    volume = replace(
        VOLUME,
        attachments=(
            an_attachment(AttachState.ATTACHED),
            an_attachment(AttachState.BUSY, "i-11111111"),
            an_attachment(AttachState.ATTACHING, "i-22222222"),
            an_attachment(AttachState.DETACHING, "i-33333333"),
            an_attachment(AttachState.ATTACHED, None),
        ),
    )

    listed = render.volume_page(Page((volume,), "more"))
    shown = render.volume_status(volume)

    assert list(listed.entries[0].status.published_node_ids) == [NODE, "i-11111111"]
    assert shown.status.published_node_ids == listed.entries[0].status.published_node_ids
    assert (listed.next_token, shown.volume) == ("more", listed.entries[0].volume)


@pytest.mark.requirement("csi.publish-volume.idempotent")
def test_the_publish_context_has_ec2s_device_name_or_the_link_by_volume_id() -> None:
    """CSI spec, ControllerPublishVolume: a repeated call answers the same. HyperPod nodes have no name in EC2."""
    assert render.publish_context("vol-0123456789abcdef0", "/dev/xvdba") == {"devicePath": "/dev/xvdba"}
    assert render.publish_context("vol-0123456789abcdef0", "") == {
        "devicePath": "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0"
    }


@pytest.mark.requirement("csi.create-snapshot.answer")
def test_a_snapshot_is_rendered() -> None:
    """CSI spec, CreateSnapshotResponse."""
    started = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    snapshot = Snapshot(id="snap-1", volume_id="vol-1", size=GiB(2), state=SnapshotState.PENDING, started=started)

    pending = render.snapshot(snapshot)
    page = render.snapshot_page(Page((replace(snapshot, state=SnapshotState.COMPLETED),)))

    assert (pending.snapshot_id, pending.source_volume_id, pending.size_bytes) == ("snap-1", "vol-1", 2 * GIB)
    assert pending.creation_time.ToDatetime(tzinfo=UTC) == started
    assert (pending.ready_to_use, page.entries[0].snapshot.ready_to_use) == (False, True)
    assert page.next_token == ""


@pytest.mark.requirement("csi.volume-stats.usage")
def test_usage_of_a_filesystem_is_in_bytes_and_inodes() -> None:
    """CSI spec, NodeGetVolumeStatsResponse."""
    usage = Usage(Amount(total=10, used=4, available=6), Amount(total=3, used=1, available=2))

    rendered = render.stats(Statistics(usage, HEALTHY)).usage

    units = csi_pb2.VolumeUsage.Unit
    assert [(usage.unit, usage.total, usage.used, usage.available) for usage in rendered] == [
        (units.BYTES, 10, 4, 6),
        (units.INODES, 3, 1, 2),
    ]


@pytest.mark.requirement("csi.volume-stats.usage")
def test_usage_of_a_block_volume_is_its_size_alone() -> None:
    """CSI spec, NodeGetVolumeStatsResponse: used and available are optional."""
    rendered = render.stats(Statistics(Usage(Amount(total=10)), HEALTHY)).usage

    assert [(usage.total, usage.used, usage.available) for usage in rendered] == [(10, 0, 0)]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (HealthStatus.HEALTHY, None),
        (HealthStatus.DEGRADED, csi_pb2.DEGRADED),
        (HealthStatus.INACCESSIBLE, csi_pb2.INACCESSIBLE),
    ],
)
def test_one_judgement_is_rendered_as_condition_and_as_health(status: HealthStatus, error: int | None) -> None:
    """CSI spec 1.12, VolumeCondition; CSI spec 1.13, VolumeHealth: a healthy volume has no entry."""
    found = Health(status, "WritesRefused", "refuses writes")

    condition = render.stats(Statistics(None, found)).volume_condition
    health = render.health(VOLUME.id, found)

    assert (condition.abnormal, condition.message) == (error is not None, "refuses writes")
    assert health.volume_id == VOLUME.id
    assert [(entry.status, entry.reason, entry.message) for entry in health.health_statuses] == (
        [] if error is None else [(error, "WritesRefused", "refuses writes")]
    )


def validate(**changes: object) -> csi_pb2.ValidateVolumeCapabilitiesResponse:
    """The answer of ValidateVolumeCapabilities for `VOLUME`."""
    fields = {"volume_id": VOLUME.id, "volume_capabilities": [BLOCK], **changes}
    request = csi_pb2.ValidateVolumeCapabilitiesRequest(**fields)  # type: ignore[arg-type] # each test passes the right types
    return capability_validation.response(request, VOLUME)


@pytest.mark.requirement("csi.validate-capabilities.all")
def test_a_matching_request_is_confirmed_with_everything_that_it_asked_about() -> None:
    """CSI spec, ValidateVolumeCapabilitiesResponse: `confirmed` has what was validated."""
    answer = validate(parameters={"type": "gp3"}, mutable_parameters={"iops": "3000"})

    assert answer == csi_pb2.ValidateVolumeCapabilitiesResponse(
        confirmed=csi_pb2.ValidateVolumeCapabilitiesResponse.Confirmed(
            volume_capabilities=[BLOCK], parameters={"type": "gp3"}, mutable_parameters={"iops": "3000"}
        )
    )


@pytest.mark.requirement("csi.validate-capabilities.all")
def test_a_single_difference_prevents_the_confirmation() -> None:
    """CSI spec, ValidateVolumeCapabilities: confirmed only if all of it is supported, otherwise a message."""
    answers = {
        "access mode ReadOnlyMany": validate(volume_capabilities=[BLOCK, ROX]),
        "type gp3, not io2": validate(parameters={"type": "io2"}),
        "iops 3000, not 4000": validate(mutable_parameters={"iops": "4000"}),
        "'speed'": validate(parameters={"speed": "high"}),
        "partition": validate(volume_context={"partition": "1"}),
        "mount option 'loop'": validate(volume_capabilities=[LOOP]),
    }

    for reason, answer in answers.items():
        assert not answer.HasField("confirmed")
        assert reason in answer.message


@pytest.mark.requirement("csi.validate-capabilities.all")
def test_the_provisioners_own_key_in_the_volume_context_is_no_difference() -> None:
    """external-provisioner, controller.go: storage.kubernetes.io/csiProvisionerIdentity, in each persistent volume."""
    context = {"storage.kubernetes.io/csiProvisionerIdentity": "1764455000000-1234-ebs.csi.aws.com"}

    assert validate(volume_context=context).confirmed.volume_context == context


@pytest.mark.requirement("csi.get-plugin-capabilities.same-everywhere")
def test_every_process_names_the_capabilities_of_all_processes() -> None:
    """CSI spec, GetPluginCapabilities: all instances of the plugin answer the same."""
    kinds = csi_pb2.PluginCapability.Service.Type
    named = [
        capability.service.type or capability.volume_expansion.type + 100  # the two enums share numbers
        for capability in identity.CAPABILITIES
    ]

    assert named == [
        kinds.CONTROLLER_SERVICE,
        kinds.VOLUME_ACCESSIBILITY_CONSTRAINTS,
        csi_pb2.PluginCapability.VolumeExpansion.Type.ONLINE + 100,
    ]


@pytest.mark.requirement("csi.size-limits")
def test_the_longest_ids_and_maps_keep_to_the_size_limits() -> None:
    """CSI spec, "Size Limits": 128 bytes for a string, 4 KiB for a map."""
    longest = f"vol-{'f' * 17}"
    node = nodes.HyperPodNode("f" * 12, f"i-{'f' * 17}")
    zone = "ap-southeast-1-wl1-abc-wlz-1a"  # among the longest: a Wavelength zone
    formatted = Formatting(tuple((key, "4294967296k") for key in KEYS.values()))
    answer = render.volume(replace(VOLUME, id=longest, zone=zone, snapshot_id=f"snap-{'f' * 17}"), formatted)

    maps = [dict(answer.volume_context), render.publish_context(longest, ""), topology.node_segments(zone)]
    strings = [answer.volume_id, answer.content_source.snapshot.snapshot_id, str(node)]
    strings += [text for map_ in maps for text in (*map_, *map_.values())]

    assert max(len(text.encode()) for text in strings) <= 128
    assert max(sum(len((key + value).encode()) for key, value in map_.items()) for map_ in maps) <= 4096
