"""What the sidecars and kubelet do with our codes, row by row: read in their sources, of the versions that we run."""

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
"""After these alone the provisioner and the snapshotter keep the claim; after others they may forget a volume."""


class Row(NamedTuple):
    """In a call, an error, and the code that its caller needs."""

    id: str
    call: str
    error: Exception
    code: StatusCode


ROWS: Final = [
    Row(
        "provisioner: after a create was sent, nothing final leaves",
        "CreateVolume",
        errors.OutcomeUnknown("x"),
        StatusCode.UNAVAILABLE,
    ),
    Row(
        "provisioner: an AWS code that we do not know may have made a volume",
        "CreateVolume",
        errors.CloudError("Odd", "x"),
        StatusCode.UNAVAILABLE,
    ),
    Row("provisioner: a throttle", "CreateVolume", errors.Throttled("x"), StatusCode.UNAVAILABLE),
    Row(
        "provisioner: a bug may have struck after the create",
        "CreateVolume",
        RuntimeError("x"),
        StatusCode.UNAVAILABLE,
    ),
    Row("provisioner: another call runs", "CreateVolume", operations.Busy("x"), StatusCode.ABORTED),
    Row("provisioner: the deadline passed", "CreateVolume", errors.TimedOut("x"), StatusCode.DEADLINE_EXCEEDED),
    Row(
        "provisioner: no capacity in the zone sends the pod elsewhere",
        "CreateVolume",
        errors.ZoneFull("x"),
        StatusCode.RESOURCE_EXHAUSTED,
    ),
    Row(
        "provisioner: the account's quota must not, it would loop without back-off",
        "CreateVolume",
        errors.QuotaReached("x"),
        StatusCode.FAILED_PRECONDITION,
    ),
    Row(
        "provisioner: a key heals without a new StorageClass",
        "CreateVolume",
        errors.KeyUnusable("x"),
        StatusCode.FAILED_PRECONDITION,
    ),
    Row(
        "provisioner: so does a snapshot that is not complete",
        "CreateVolume",
        errors.NotReady("x"),
        StatusCode.FAILED_PRECONDITION,
    ),
    Row(
        "snapshotter: RESOURCE_EXHAUSTED would block deletion",
        "CreateSnapshot",
        errors.QuotaReached("x"),
        StatusCode.FAILED_PRECONDITION,
    ),
    Row("snapshotter: no room, too", "CreateSnapshot", errors.NoRoom("x"), StatusCode.FAILED_PRECONDITION),
    Row("snapshotter: a bug may have taken it", "CreateSnapshot", RuntimeError("x"), StatusCode.UNAVAILABLE),
    Row(
        "attacher: attached elsewhere",
        "ControllerPublishVolume",
        errors.InUse("x"),
        StatusCode.FAILED_PRECONDITION,
    ),
    Row(
        "kubelet: this node's attach limit makes it refuse the pod",
        "ControllerPublishVolume",
        errors.NodeFull("x"),
        StatusCode.RESOURCE_EXHAUSTED,
    ),
    Row(
        "resizer: quota pins no size",
        "ControllerExpandVolume",
        errors.QuotaReached("x"),
        StatusCode.OUT_OF_RANGE,
    ),
    Row("resizer: a running modification", "ControllerExpandVolume", errors.Busy("x"), StatusCode.ABORTED),
    Row(
        "resizer: the rate limit",
        "ControllerExpandVolume",
        errors.RateLimited("x", earliest=datetime(2026, 1, 2, tzinfo=UTC)),
        StatusCode.UNAVAILABLE,
    ),
    Row("resizer: a bad state is no end", "ControllerExpandVolume", errors.NotReady("x"), StatusCode.UNAVAILABLE),
    Row(
        "resizer: only INVALID_ARGUMENT makes a class infeasible",
        "ControllerModifyVolume",
        errors.InvalidRequest("x"),
        StatusCode.INVALID_ARGUMENT,
    ),
    Row(
        "resizer: OUT_OF_RANGE would stay in progress for ever",
        "ControllerModifyVolume",
        errors.OutOfRange("x"),
        StatusCode.INVALID_ARGUMENT,
    ),
    Row(
        "resizer: quota of a modification",
        "ControllerModifyVolume",
        errors.QuotaReached("x"),
        StatusCode.FAILED_PRECONDITION,
    ),
    Row(
        "kubelet: a late device or size is asked for again",
        "NodeExpandVolume",
        errors.DeviceNotReady("x"),
        StatusCode.UNAVAILABLE,
    ),
    Row(
        "kubelet: FAILED_PRECONDITION is not tried again while mounted",
        "NodeExpandVolume",
        errors.NotReady("x"),
        StatusCode.UNAVAILABLE,
    ),
    Row(
        "kubelet: a bug in staging may have mounted something",
        "NodeStageVolume",
        RuntimeError("x"),
        StatusCode.UNAVAILABLE,
    ),
    Row("kubelet: and in publishing", "NodePublishVolume", RuntimeError("x"), StatusCode.UNAVAILABLE),
    Row("a bug with nothing begun", "ListVolumes", RuntimeError("x"), StatusCode.INTERNAL),
]


@pytest.mark.requirement("create.outcome-unknown", "errors.every-error-has-a-code", "csi.create-volume.zone-full")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_the_caller_hears_the_code_that_makes_it_do_the_right_thing(row: Row) -> None:
    """Demanded by the callers' own sources."""
    assert status.code_for(row.error, row.call) is row.code


def every_error(root: type[errors.Error] = errors.Error) -> Iterator[type[errors.Error]]:
    """All classes of the tree, but for the root."""
    for cls in root.__subclasses__():
        yield cls
        yield from every_error(cls)


def made(cls: type[errors.Error]) -> errors.Error:
    """One of them."""
    return cls("Code", "x") if issubclass(cls, errors.CloudError) else cls("x")


@pytest.mark.requirement("errors.every-error-has-a-code", "csi.status-code")
@pytest.mark.parametrize("cls", [*every_error()], ids=lambda cls: cls.__name__)
def test_every_error_has_a_code_of_its_own_or_its_ancestors(cls: type[errors.Error]) -> None:
    """Ours: a new class cannot leave as INTERNAL by oversight."""
    assert status.known(made(cls))
    assert status.code_for(made(cls)) is not StatusCode.INTERNAL


@pytest.mark.parametrize("cls", [*every_error()], ids=lambda cls: cls.__name__)
def test_no_expansion_ends_in_a_code_that_freezes_or_pins_the_claim(cls: type[errors.Error]) -> None:
    """The resizer's and kubelet's sources: FAILED_PRECONDITION freezes, RESOURCE_EXHAUSTED pins the size."""
    frozen = {StatusCode.FAILED_PRECONDITION, StatusCode.RESOURCE_EXHAUSTED}

    assert status.code_for(made(cls), "ControllerExpandVolume") not in frozen
    if not issubclass(cls, errors.NoRoom):  # a node has no use for that
        assert status.code_for(made(cls), "NodeExpandVolume") not in frozen


@pytest.mark.parametrize("cls", [*every_error()], ids=lambda cls: cls.__name__)
def test_no_modification_ends_in_a_code_that_pins_the_class(cls: type[errors.Error]) -> None:
    """The resizer's sources: RESOURCE_EXHAUSTED pins the class, OUT_OF_RANGE never ends."""
    pinned = {StatusCode.RESOURCE_EXHAUSTED, StatusCode.OUT_OF_RANGE}

    assert status.code_for(made(cls), "ControllerModifyVolume") not in pinned


@pytest.mark.requirement("create.outcome-unknown")
@pytest.mark.parametrize("cls", [*every_error(errors.Unavailable)], ids=lambda cls: cls.__name__)
def test_what_may_have_been_done_keeps_the_provisioner_at_it(cls: type[errors.Error]) -> None:
    """The provisioner's sources: any other code and it forgets the claim, and the volume with it."""
    assert status.code_for(made(cls), "CreateVolume") in IN_PROGRESS


def test_out_of_range_is_only_ever_about_a_capacity() -> None:
    """The resizer's sources; in the tree it is `OutOfRange`, or an expansion's quota."""
    codes = {cls for cls in every_error() if status.code_for(made(cls)) is StatusCode.OUT_OF_RANGE}

    assert codes == {errors.OutOfRange}


@pytest.mark.requirement("denied.names-the-statement")
def test_a_message_fits_into_a_volume_attachment() -> None:
    """Kubernetes' validation: more than 1,024 bytes are refused, and then nothing is shown."""
    text = "volume vol-1 " + "ü" * 2000 + ": take another"

    message = status.cut(text)

    assert len(message.encode()) <= 900
    assert message.startswith("volume vol-1 ")
    assert message.endswith(": take another")


@pytest.mark.requirement("csi.status-code")
def test_a_message_is_one_line() -> None:
    """Ours: events and logs are."""
    assert status.cut("mkfs said\n  no\n") == "mkfs said no"


def vac_request(**mutable: str) -> csi_pb2.CreateVolumeRequest:
    """A create with a VolumeAttributesClass."""
    mode = csi_pb2.VolumeCapability.AccessMode.Mode.SINGLE_NODE_WRITER
    capability = csi_pb2.VolumeCapability(
        block=csi_pb2.VolumeCapability.BlockVolume(), access_mode=csi_pb2.VolumeCapability.AccessMode(mode=mode)
    )
    return csi_pb2.CreateVolumeRequest(name="pvc-1", volume_capabilities=[capability], mutable_parameters=mutable)


@pytest.mark.requirement("csi.unsupported-field")
def test_a_wrong_value_in_an_attributes_class_does_not_put_the_provisioner_to_sleep() -> None:
    """The provisioner's sources: after INVALID_ARGUMENT it waits for a new StorageClass, which heals nothing here."""
    with pytest.raises(errors.Refused) as caught:
        parse.volume_spec(vac_request(iops="many"))

    assert status.code_for(caught.value, "CreateVolume") is StatusCode.FAILED_PRECONDITION


@pytest.mark.requirement("csi.unsupported-field", "csi.modify-volume.unsupported")
def test_an_unknown_key_in_an_attributes_class_is_an_invalid_argument() -> None:
    """csi-sanity: "should not create volume with an invalid volume attribute class"."""
    with pytest.raises(errors.InvalidRequest):
        parse.volume_spec(vac_request(XXX_FakeKey="XXX_FakeValue"))


@pytest.mark.requirement("csi.publish-volume.read-only")
def test_read_only_publishing_is_not_advertised() -> None:
    """csi-sanity: with PUBLISH_READONLY a changed `readonly` must be ALREADY_EXISTS; we enforce it on the node."""
    assert csi_pb2.ControllerServiceCapability.RPC.Type.PUBLISH_READONLY not in controller.CAPABILITIES


def test_mount_groups_are_not_advertised() -> None:
    """The sources of kubelet: it would leave fsGroup to us, and neither ext4 nor xfs can be mounted with a group."""
    assert csi_pb2.NodeServiceCapability.RPC.Type.VOLUME_MOUNT_GROUP not in node.CAPABILITIES
