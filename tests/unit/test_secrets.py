"""Requests lose the fields that the CSI proto marks as secret before they are logged or compared."""

import pytest
from google.protobuf.descriptor import Descriptor

from hyperpod_ebs.driver.csi import parse
from hyperpod_ebs.pb import csi_pb2

WITH_SECRETS = [
    message for message in csi_pb2.DESCRIPTOR.message_types_by_name.values() if "secrets" in message.fields_by_name
]


@pytest.mark.requirement("secrets.not-logged")
@pytest.mark.parametrize("descriptor", WITH_SECRETS, ids=lambda descriptor: descriptor.name)
def test_no_request_keeps_its_secrets(descriptor: Descriptor) -> None:
    """CSI spec, "Secrets Requirements"."""
    request = getattr(csi_pb2, descriptor.name)(secrets={"password": "hunter2"})

    assert b"hunter2" not in parse.without_secrets(request).SerializeToString()
    assert request.secrets["password"] == "hunter2"


def test_all_other_fields_are_kept() -> None:
    request = csi_pb2.NodeStageVolumeRequest(
        volume_id="vol-1",
        publish_context={"devicePath": "/dev/x"},
        volume_capability=csi_pb2.VolumeCapability(mount=csi_pb2.VolumeCapability.MountVolume(mount_flags=["ro"])),
    )

    assert parse.without_secrets(request) == request


def test_requests_are_identical_with_their_map_entries_in_another_order() -> None:
    """A client may serialize the entries of a protobuf map in any order."""
    first = csi_pb2.CreateVolumeRequest(name="a", parameters={"type": "gp3", "iops": "3000"})
    other = csi_pb2.CreateVolumeRequest(name="a", parameters={"iops": "3000", "type": "gp3"})

    assert parse.operation(first) == parse.operation(other)


def test_requests_with_different_parameters_are_not_identical() -> None:
    first = csi_pb2.CreateVolumeRequest(name="a", parameters={"type": "gp3"})
    other = csi_pb2.CreateVolumeRequest(name="a", parameters={"type": "io2"})

    assert parse.operation(first) != parse.operation(other)
