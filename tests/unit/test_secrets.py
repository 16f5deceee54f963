"""Secrets are taken out by what the proto says of them."""

import pytest
from google.protobuf.descriptor import Descriptor

from hyperpod_ebs.driver.csi import secrets
from hyperpod_ebs.pb import csi_pb2

WITH_SECRETS = [
    message for message in csi_pb2.DESCRIPTOR.message_types_by_name.values() if "secrets" in message.fields_by_name
]


@pytest.mark.requirement("secrets.not-logged")
@pytest.mark.parametrize("descriptor", WITH_SECRETS, ids=lambda descriptor: descriptor.name)
def test_no_request_keeps_its_secrets(descriptor: Descriptor) -> None:
    """CSI spec, "Secrets Requirements"."""
    request = getattr(csi_pb2, descriptor.name)(secrets={"password": "hunter2"})

    assert b"hunter2" not in secrets.stripped(request).SerializeToString()
    assert request.secrets["password"] == "hunter2"


def test_everything_else_is_kept() -> None:
    """Ours."""
    request = csi_pb2.NodeStageVolumeRequest(
        volume_id="vol-1",
        publish_context={"devicePath": "/dev/x"},
        volume_capability=csi_pb2.VolumeCapability(mount=csi_pb2.VolumeCapability.MountVolume(mount_flags=["ro"])),
    )

    assert secrets.stripped(request) == request


def test_terms_do_not_depend_on_the_order_of_a_map() -> None:
    """Ours: a repeat may serialise its maps in any order."""
    one = csi_pb2.CreateVolumeRequest(name="a", parameters={"type": "gp3", "iops": "3000"})
    other = csi_pb2.CreateVolumeRequest(name="a", parameters={"iops": "3000", "type": "gp3"})

    assert secrets.terms(one) == secrets.terms(other)


def test_terms_differ_where_the_request_does() -> None:
    """Ours."""
    one = csi_pb2.CreateVolumeRequest(name="a", parameters={"type": "gp3"})
    other = csi_pb2.CreateVolumeRequest(name="a", parameters={"type": "io2"})

    assert secrets.terms(one) != secrets.terms(other)
