"""Our csi.proto says on the wire what the CSI specification says."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from hyperpod_ebs.pb import csi_pb2

METHODS: Final = {
    "Identity": ["GetPluginInfo", "GetPluginCapabilities", "Probe"],
    "Controller": [
        "CreateVolume",
        "DeleteVolume",
        "ControllerPublishVolume",
        "ControllerUnpublishVolume",
        "ValidateVolumeCapabilities",
        "ListVolumes",
        "ControllerListVolumeHealth",
        "ControllerGetVolumeHealth",
        "GetCapacity",
        "ControllerGetCapabilities",
        "CreateSnapshot",
        "DeleteSnapshot",
        "ListSnapshots",
        "GetSnapshot",
        "ControllerExpandVolume",
        "ControllerGetVolume",
        "ControllerModifyVolume",
    ],
    "GroupController": [
        "GroupControllerGetCapabilities",
        "CreateVolumeGroupSnapshot",
        "DeleteVolumeGroupSnapshot",
        "GetVolumeGroupSnapshot",
    ],
    "SnapshotMetadata": ["GetMetadataAllocated", "GetMetadataDelta"],
    "Node": [
        "NodeStageVolume",
        "NodeUnstageVolume",
        "NodePublishVolume",
        "NodeUnpublishVolume",
        "NodeGetVolumeStats",
        "NodeGetVolumeHealth",
        "NodeGetStorageHealth",
        "NodeExpandVolume",
        "NodeGetCapabilities",
        "NodeGetInfo",
    ],
}

WITHOUT_SECRETS: Final = {
    "ControllerGetVolumeRequest",
    "GetCapacityRequest",
    "ListVolumesRequest",
    "NodeGetVolumeHealthRequest",
    "NodeGetVolumeStatsRequest",
    "NodeUnpublishVolumeRequest",
    "NodeUnstageVolumeRequest",
}
"""Requests with fields of which none is secret; the specification names no other."""


class Kept(NamedTuple):
    """A field of 1.12 that 1.13 took out."""

    id: str
    message: Descriptor
    field: str
    number: int


KEPT: Final = [
    Kept("listed volume", csi_pb2.ListVolumesResponse.VolumeStatus.DESCRIPTOR, "volume_condition", 2),
    Kept("looked-up volume", csi_pb2.ControllerGetVolumeResponse.VolumeStatus.DESCRIPTOR, "volume_condition", 2),
    Kept("volume on a node", csi_pb2.NodeGetVolumeStatsResponse.DESCRIPTOR, "volume_condition", 2),
    Kept("what is wrong", csi_pb2.VolumeCondition.DESCRIPTOR, "abnormal", 1),
    Kept("in words", csi_pb2.VolumeCondition.DESCRIPTOR, "message", 2),
]


def requests() -> Iterator[Descriptor]:
    """The messages that a caller sends."""
    for name, message in csi_pb2.DESCRIPTOR.message_types_by_name.items():
        if name.endswith("Request"):
            yield message


def secret(field: FieldDescriptor) -> bool:
    """Whether the field carries the option csi_secret."""
    return field.GetOptions().Extensions[csi_pb2.csi_secret]


def test_the_wire_knows_every_method_by_the_specifications_path() -> None:
    """CSI spec: the package is csi.v1, whatever the file is called."""
    services = csi_pb2.DESCRIPTOR.services_by_name

    paths = {f"/{service.full_name}/{method.name}" for service in services.values() for method in service.methods}

    assert paths == {f"/csi.v1.{service}/{method}" for service, methods in METHODS.items() for method in methods}


@pytest.mark.requirement("secrets.not-logged", "csi.secrets-marked")
def test_every_field_of_secrets_is_marked_and_no_other() -> None:
    """CSI spec §Secrets: what is marked csi_secret must not be logged."""
    fields = [field for message in requests() for field in message.fields]

    marked = {field.full_name for field in fields if secret(field)}

    assert marked == {field.full_name for field in fields if field.name == "secrets"}


def test_every_request_with_fields_has_secrets_but_those_that_the_specification_leaves_out() -> None:
    """A forgotten mark would put a secret into the log."""
    unmarked = {m.name for m in requests() if m.fields and not any(secret(field) for field in m.fields)}

    assert unmarked == WITHOUT_SECRETS


@pytest.mark.requirement("csi.secrets-marked")
def test_the_option_for_secrets_has_the_specifications_number() -> None:
    """CSI spec: FieldOptions 1059; a CO that reflects on us reads the number, not the name."""
    assert csi_pb2.csi_secret.number == 1059


@pytest.mark.parametrize("kept", KEPT, ids=[kept.id for kept in KEPT])
def test_a_field_of_1_12_keeps_its_number(kept: Kept) -> None:
    """1.13 reserves these numbers; the COs of today read them."""
    assert kept.message.fields_by_name[kept.field].number == kept.number


def test_the_capabilities_of_1_12_keep_their_numbers() -> None:
    """1.13 leaves both numbers free."""
    assert csi_pb2.ControllerServiceCapability.RPC.VOLUME_CONDITION == 11
    assert csi_pb2.NodeServiceCapability.RPC.VOLUME_CONDITION == 4
