"""The project's csi.proto is compatible on the wire with the CSI specification."""

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
"""The requests that have fields in the specification, but no field with secrets."""


class Kept(NamedTuple):
    """A field of CSI 1.12 that CSI 1.13 removed."""

    id: str
    message: Descriptor
    field: str
    number: int


KEPT: Final = [
    Kept("listed volume", csi_pb2.ListVolumesResponse.VolumeStatus.DESCRIPTOR, "volume_condition", 2),
    Kept("looked-up volume", csi_pb2.ControllerGetVolumeResponse.VolumeStatus.DESCRIPTOR, "volume_condition", 2),
    Kept("volume on a node", csi_pb2.NodeGetVolumeStatsResponse.DESCRIPTOR, "volume_condition", 2),
    Kept("the condition", csi_pb2.VolumeCondition.DESCRIPTOR, "abnormal", 1),
    Kept("the condition's message", csi_pb2.VolumeCondition.DESCRIPTOR, "message", 2),
]


def requests() -> Iterator[Descriptor]:
    """The request messages."""
    for name, message in csi_pb2.DESCRIPTOR.message_types_by_name.items():
        if name.endswith("Request"):
            yield message


def is_secret(field: FieldDescriptor) -> bool:
    """Whether the field has the option csi_secret."""
    return field.GetOptions().Extensions[csi_pb2.csi_secret]


def test_every_method_has_the_path_of_the_specification() -> None:
    """CSI spec, "RPC Interface": the package is csi.v1."""
    services = csi_pb2.DESCRIPTOR.services_by_name

    paths = {f"/{service.full_name}/{method.name}" for service in services.values() for method in service.methods}

    assert paths == {f"/csi.v1.{service}/{method}" for service, methods in METHODS.items() for method in methods}


@pytest.mark.requirement("secrets.not-logged", "csi.secrets-marked")
def test_exactly_the_fields_named_secrets_have_the_option_csi_secret() -> None:
    """CSI spec, "Secrets Requirements": a field with csi_secret must not be logged."""
    fields = [field for message in requests() for field in message.fields]

    marked = {field.full_name for field in fields if is_secret(field)}

    assert marked == {field.full_name for field in fields if field.name == "secrets"}


def test_only_the_requests_without_secrets_in_the_specification_have_no_secret_field() -> None:
    """The driver logs each field without the option csi_secret, so a missing option would reveal a secret."""
    unmarked = {m.name for m in requests() if m.fields and not any(is_secret(field) for field in m.fields)}

    assert unmarked == WITHOUT_SECRETS


@pytest.mark.requirement("csi.secrets-marked")
def test_the_option_csi_secret_has_the_number_of_the_specification() -> None:
    """CSI spec, csi.proto: FieldOptions 1059. A CO that uses reflection reads the number, not the name."""
    assert csi_pb2.csi_secret.number == 1059


@pytest.mark.parametrize("kept", KEPT, ids=[kept.id for kept in KEPT])
def test_a_field_of_1_12_keeps_its_number(kept: Kept) -> None:
    """CSI spec 1.13 reserves these numbers; current COs still read the fields."""
    assert kept.message.fields_by_name[kept.field].number == kept.number


def test_the_capabilities_of_1_12_keep_their_numbers() -> None:
    """CSI spec 1.13 does not use these numbers."""
    assert csi_pb2.ControllerServiceCapability.RPC.VOLUME_CONDITION == 11
    assert csi_pb2.NodeServiceCapability.RPC.VOLUME_CONDITION == 4
