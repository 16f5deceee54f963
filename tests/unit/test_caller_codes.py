"""The code that each caller needs, row by row, as the sources of the sidecars and of kubelet handle it.

The versions of the sidecars are those in scripts/kubernetes/sidecars/go.mod.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

import pytest
from grpc import StatusCode

from hyperpod_ebs.driver.csi import controller, node, parse, status
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.kit import operations
from hyperpod_ebs.pb import csi_pb2

IN_PROGRESS: Final = {StatusCode.UNAVAILABLE, StatusCode.ABORTED, StatusCode.DEADLINE_EXCEEDED}
"""The codes after which the provisioner and the snapshotter retry; after others they may forget what exists."""


class Row(NamedTuple):
    """An error in a call, and the code that the caller needs."""

    id: str
    call: str
    error: Exception
    code: StatusCode


ROWS: Final = [
    Row(
        "provisioner: after the create request, no final code",
        "CreateVolume",
        errors.OutcomeUnknown("x"),
        StatusCode.UNAVAILABLE,
    ),
    Row(
        "provisioner: after an unknown AWS code, the volume may exist",
        "CreateVolume",
        errors.CloudError("Odd", "x"),
        StatusCode.UNAVAILABLE,
    ),
    Row("provisioner: a throttle", "CreateVolume", errors.Throttled("x"), StatusCode.UNAVAILABLE),
    Row(
        "provisioner: a bug may come after the create request",
        "CreateVolume",
        RuntimeError("x"),
        StatusCode.UNAVAILABLE,
    ),
    Row("provisioner: another call is running", "CreateVolume", operations.Busy("x"), StatusCode.ABORTED),
    Row("provisioner: the deadline passed", "CreateVolume", errors.TimedOut("x"), StatusCode.DEADLINE_EXCEEDED),
    Row(
        "provisioner: without capacity in the zone, the pod is scheduled elsewhere",
        "CreateVolume",
        errors.ZoneFull("x"),
        StatusCode.RESOURCE_EXHAUSTED,
    ),
    Row(
        "provisioner: at the quota of the account it must not be, or it loops without backoff",
        "CreateVolume",
        errors.QuotaReached("x"),
        StatusCode.FAILED_PRECONDITION,
    ),
    Row(
        "provisioner: a key can be fixed without a new StorageClass",
        "CreateVolume",
        errors.KeyUnusable("x"),
        StatusCode.FAILED_PRECONDITION,
    ),
    Row(
        "provisioner: a snapshot can become complete without a new StorageClass",
        "CreateVolume",
        errors.NotReady("x"),
        StatusCode.FAILED_PRECONDITION,
    ),
    Row(
        "snapshotter: at a quota, RESOURCE_EXHAUSTED would block the deletion",
        "CreateSnapshot",
        errors.QuotaReached("x"),
        StatusCode.FAILED_PRECONDITION,
    ),
    Row("snapshotter: without room, too", "CreateSnapshot", errors.NoRoom("x"), StatusCode.FAILED_PRECONDITION),
    Row("snapshotter: a bug may come after the snapshot", "CreateSnapshot", RuntimeError("x"), StatusCode.UNAVAILABLE),
    Row(
        "attacher: the volume is attached to another node",
        "ControllerPublishVolume",
        errors.InUse("x"),
        StatusCode.FAILED_PRECONDITION,
    ),
    Row(
        "kubelet: at the attach limit of the node it refuses the pod",
        "ControllerPublishVolume",
        errors.NodeFull("x"),
        StatusCode.RESOURCE_EXHAUSTED,
    ),
    Row(
        "resizer: a quota must not pin the size",
        "ControllerExpandVolume",
        errors.QuotaReached("x"),
        StatusCode.OUT_OF_RANGE,
    ),
    Row("resizer: a modification is running", "ControllerExpandVolume", errors.Busy("x"), StatusCode.ABORTED),
    Row(
        "resizer: too many modifications",
        "ControllerExpandVolume",
        errors.RateLimited("x", earliest=datetime(2026, 1, 2, tzinfo=UTC)),
        StatusCode.UNAVAILABLE,
    ),
    Row(
        "resizer: the state of the volume can change",
        "ControllerExpandVolume",
        errors.NotReady("x"),
        StatusCode.UNAVAILABLE,
    ),
    Row(
        "resizer: only INVALID_ARGUMENT makes a class infeasible",
        "ControllerModifyVolume",
        errors.InvalidRequest("x"),
        StatusCode.INVALID_ARGUMENT,
    ),
    Row(
        "resizer: after OUT_OF_RANGE a class stays in progress for ever",
        "ControllerModifyVolume",
        errors.OutOfRange("x"),
        StatusCode.INVALID_ARGUMENT,
    ),
    Row(
        "resizer: at the quota, a modification can succeed later",
        "ControllerModifyVolume",
        errors.QuotaReached("x"),
        StatusCode.FAILED_PRECONDITION,
    ),
    Row(
        "kubelet: the device or its size can come later",
        "NodeExpandVolume",
        errors.DeviceNotReady("x"),
        StatusCode.UNAVAILABLE,
    ),
    Row(
        "kubelet: after FAILED_PRECONDITION it does not retry while the volume is mounted",
        "NodeExpandVolume",
        errors.NotReady("x"),
        StatusCode.UNAVAILABLE,
    ),
    Row(
        "kubelet: a bug may come after the mount at the staging path",
        "NodeStageVolume",
        RuntimeError("x"),
        StatusCode.UNAVAILABLE,
    ),
    Row(
        "kubelet: a bug may come after the mount at the target path",
        "NodePublishVolume",
        RuntimeError("x"),
        StatusCode.UNAVAILABLE,
    ),
    Row("a bug in a call that changes nothing", "ListVolumes", RuntimeError("x"), StatusCode.INTERNAL),
]


@pytest.mark.requirement("create.outcome-unknown", "errors.every-error-has-a-code", "csi.create-volume.zone-full")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_each_error_has_the_code_that_its_caller_needs(row: Row) -> None:
    assert status.code_for(row.error, row.call) is row.code


def every_error(root: type[errors.Error] = errors.Error) -> Iterator[type[errors.Error]]:
    """All classes of the tree below `root`."""
    for cls in root.__subclasses__():
        yield cls
        yield from every_error(cls)


def an_error(cls: type[errors.Error]) -> errors.Error:
    """An instance of the class."""
    return cls("Code", "x") if issubclass(cls, errors.CloudError) else cls("x")


@pytest.mark.requirement("errors.every-error-has-a-code", "csi.status-code")
@pytest.mark.parametrize("cls", [*every_error()], ids=lambda cls: cls.__name__)
def test_every_error_has_a_code_of_its_own_or_of_an_ancestor(cls: type[errors.Error]) -> None:
    """A new class must not become INTERNAL by oversight."""
    assert status.is_expected(an_error(cls))
    assert status.code_for(an_error(cls)) is not StatusCode.INTERNAL


@pytest.mark.parametrize("cls", [*every_error()], ids=lambda cls: cls.__name__)
def test_no_expansion_ends_with_a_code_after_which_its_caller_stops(cls: type[errors.Error]) -> None:
    """After FAILED_PRECONDITION the resizer and kubelet stop while a pod uses the volume.

    After RESOURCE_EXHAUSTED the resizer never tries another size.
    """
    frozen = {StatusCode.FAILED_PRECONDITION, StatusCode.RESOURCE_EXHAUSTED}

    assert status.code_for(an_error(cls), "ControllerExpandVolume") not in frozen
    if not issubclass(cls, errors.NoRoom):  # a node never raises it
        assert status.code_for(an_error(cls), "NodeExpandVolume") not in frozen


@pytest.mark.parametrize("cls", [*every_error()], ids=lambda cls: cls.__name__)
def test_no_modification_ends_with_a_code_after_which_the_class_is_stuck(cls: type[errors.Error]) -> None:
    """After RESOURCE_EXHAUSTED the resizer never tries another class; after OUT_OF_RANGE it never ends."""
    pinned = {StatusCode.RESOURCE_EXHAUSTED, StatusCode.OUT_OF_RANGE}

    assert status.code_for(an_error(cls), "ControllerModifyVolume") not in pinned


@pytest.mark.requirement("create.outcome-unknown")
@pytest.mark.parametrize("cls", [*every_error(errors.Unavailable)], ids=lambda cls: cls.__name__)
def test_the_provisioner_retries_after_an_error_with_an_unknown_outcome(cls: type[errors.Error]) -> None:
    """After any other code the provisioner forgets the claim, and the volume with it."""
    assert status.code_for(an_error(cls), "CreateVolume") in IN_PROGRESS


def test_out_of_range_is_only_the_code_of_a_capacity() -> None:
    """The resizer reads OUT_OF_RANGE as a capacity that it may not ask for."""
    codes = {cls for cls in every_error() if status.code_for(an_error(cls)) is StatusCode.OUT_OF_RANGE}

    assert codes == {errors.OutOfRange}


@pytest.mark.requirement("denied.names-the-statement")
def test_a_message_fits_into_a_volume_attachment() -> None:
    """Kubernetes refuses a VolumeAttachment whose error message has more than 1,024 bytes."""
    text = "volume vol-1 " + "ü" * 2000 + ": take another"

    message = status.short_message(text)

    assert len(message.encode()) <= 900
    assert message.startswith("volume vol-1 ")
    assert message.endswith(": take another")


@pytest.mark.requirement("csi.status-code")
def test_a_message_is_a_single_line() -> None:
    """Events and log lines are single lines."""
    assert status.short_message("mkfs said\n  no\n") == "mkfs said no"


def request_with_attributes_class(**mutable: str) -> csi_pb2.CreateVolumeRequest:
    """A CreateVolume request with the parameters of a VolumeAttributesClass."""
    mode = csi_pb2.VolumeCapability.AccessMode.Mode.SINGLE_NODE_WRITER
    capability = csi_pb2.VolumeCapability(
        block=csi_pb2.VolumeCapability.BlockVolume(), access_mode=csi_pb2.VolumeCapability.AccessMode(mode=mode)
    )
    return csi_pb2.CreateVolumeRequest(name="pvc-1", volume_capabilities=[capability], mutable_parameters=mutable)


@pytest.mark.requirement("csi.unsupported-field")
def test_a_wrong_value_in_an_attributes_class_does_not_make_the_provisioner_wait_for_a_storage_class() -> None:
    """After INVALID_ARGUMENT the provisioner waits for a new StorageClass, which would fix nothing here."""
    with pytest.raises(errors.Refused) as caught:
        parse.volume_spec(request_with_attributes_class(iops="many"))

    assert status.code_for(caught.value, "CreateVolume") is StatusCode.FAILED_PRECONDITION


@pytest.mark.requirement("csi.unsupported-field", "csi.modify-volume.unsupported")
def test_an_unknown_key_in_an_attributes_class_is_an_invalid_argument() -> None:
    """csi-sanity: "should not create volume with an invalid volume attribute class"."""
    with pytest.raises(errors.InvalidRequest):
        parse.volume_spec(request_with_attributes_class(XXX_FakeKey="XXX_FakeValue"))


@pytest.mark.requirement("csi.publish-volume.read-only")
def test_read_only_publishing_is_not_advertised() -> None:
    """With PUBLISH_READONLY, csi-sanity demands ALREADY_EXISTS for another `readonly`; EC2 has no such attachment."""
    assert csi_pb2.ControllerServiceCapability.RPC.Type.PUBLISH_READONLY not in controller.CAPABILITIES


def test_mount_groups_are_not_advertised() -> None:
    """Kubelet would leave fsGroup to the driver, and neither ext4 nor xfs has a mount option for a group."""
    assert csi_pb2.NodeServiceCapability.RPC.Type.VOLUME_MOUNT_GROUP not in node.CAPABILITIES
