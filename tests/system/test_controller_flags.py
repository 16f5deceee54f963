"""The effect at AWS of flags and classes: the test calls a controller process as the sidecars do."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from grpc import StatusCode

from hyperpod_ebs.demo.orchestrator import block_capability
from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.wire.operations import AwsFault
from hyperpod_ebs.pb import csi_pb2
from tests.support.controller_process import ControllerProcess, environment, start_controller
from tests.support.driver_process import start_driver
from tests.support.emulator_clients import GROUP, ZONE, Aws

BLOCK: Final = block_capability()
CLAIM: Final = {
    "csi.storage.k8s.io/pvc/name": "claim",
    "csi.storage.k8s.io/pvc/namespace": "team",
    "csi.storage.k8s.io/pv/name": "pvc-1",
}
"""The metadata that external-provisioner and external-resizer add, because the chart sets their flags for it."""


def create_request(
    parameters: Mapping[str, str], mutable: Mapping[str, str] | None = None
) -> csi_pb2.CreateVolumeRequest:
    """A request like external-provisioner's."""
    return csi_pb2.CreateVolumeRequest(
        name="pvc-1",
        capacity_range=csi_pb2.CapacityRange(required_bytes=100 * 2**30),
        volume_capabilities=[BLOCK],
        parameters=parameters,
        mutable_parameters=mutable or {},
        accessibility_requirements=csi_pb2.TopologyRequirement(
            requisite=[csi_pb2.Topology(segments={"topology.kubernetes.io/zone": ZONE})]
        ),
    )


def user_tags(description: Any) -> dict[str, str]:
    """The tags in the description of a volume or snapshot, except the driver's own."""
    tags = {tag["Key"]: tag["Value"] for tag in description["Tags"]}
    return {key: value for key, value in tags.items() if not key.startswith(("CSI", "ebs.csi.aws.com/cluster"))}


async def refusal_of(call: Any) -> tuple[StatusCode, str]:
    """Await a call that fails, and return its code and message."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


async def test_volumes_and_snapshots_carry_the_clusters_and_the_users_tags(
    emulator: Emulator, aws: Aws, short_path: Path
) -> None:
    """Upstream's --extra-tags, --k8s-tag-cluster-id, tagSpecification and the sidecars' metadata, combined."""
    flags = ("--extra-tags=team={{ .PVCNamespace }},cost=1", "--k8s-tag-cluster-id=mine")
    snapshot_class = {"csi.storage.k8s.io/volumesnapshot/name": "s", "tagSpecification_1": "of={{.VolumeSnapshotName}}"}

    async with start_controller(short_path, environment(emulator), *flags) as controller:
        volume = (await controller.csi.CreateVolume(create_request({**CLAIM, "tagSpecification_1": "cost=2"}))).volume
        request = csi_pb2.CreateSnapshotRequest(
            name="snapshot-1", source_volume_id=volume.volume_id, parameters=snapshot_class
        )
        await controller.csi.CreateSnapshot(request)

    cluster = {"kubernetes.io/cluster/mine": "owned"}
    assert user_tags(await aws.describe_volume(volume.volume_id)) == {
        **cluster,
        "Name": "mine-dynamic-pvc-1",
        "KubernetesCluster": "mine",
        "kubernetes.io/created-for/pvc/name": "claim",
        "kubernetes.io/created-for/pvc/namespace": "team",
        "kubernetes.io/created-for/pv/name": "pvc-1",
        "team": "team",
        "cost": "2",
    }
    (snapshot,) = (await aws.ec2("describe_snapshots", OwnerIds=["self"]))["Snapshots"]
    assert user_tags(snapshot) == {**cluster, "Name": "mine-dynamic-snapshot-1", "cost": "1", "of": "s"}


@pytest.mark.requirement("csi.modify-volume.idempotent")
async def test_an_attributes_class_changes_a_volume_and_its_tags(
    emulator: Emulator, aws: Aws, short_path: Path
) -> None:
    """CSI spec, ControllerModifyVolume, with the resizer's --extra-modify-metadata; a repeat makes no AWS call."""
    async with start_controller(short_path, environment(emulator)) as controller:
        volume = (await controller.csi.CreateVolume(create_request({"tagSpecification_1": "old=1"}))).volume
        request = csi_pb2.ControllerModifyVolumeRequest(
            volume_id=volume.volume_id,
            mutable_parameters={
                **CLAIM,
                "iops": "4000",
                "tagSpecification_1": "of={{ .PVCName }}",
                "tagDeletion_1": "old",
            },
        )
        await controller.csi.ControllerModifyVolume(request)
        emulator.faults.plan("CreateTags", AwsFault("UnauthorizedOperation", "no"))
        emulator.faults.plan("DeleteTags", AwsFault("UnauthorizedOperation", "no"))
        await controller.csi.ControllerModifyVolume(request)
        remaining = emulator.faults.remaining()
        emulator.faults.clear()

    shown = await aws.describe_volume(volume.volume_id)
    assert (user_tags(shown), shown["Iops"], remaining) == ({"of": "claim"}, 4000, 2)


async def test_iops_per_gib_follow_the_size_and_its_growth(emulator: Emulator, aws: Aws, short_path: Path) -> None:
    """Upstream's iopsPerGB and allowAutoIOPSIncreaseOnModify; deprecated keys are accepted."""
    parameters = {"type": "io2", "iopsPerGB": "10", "allowAutoIOPSIncreaseOnModify": "true", "blockExpress": "true"}

    async with start_controller(short_path, environment(emulator)) as controller:
        volume = (await controller.csi.CreateVolume(create_request(parameters))).volume
        before = (await aws.describe_volume(volume.volume_id))["Iops"]
        await controller.csi.ControllerExpandVolume(
            csi_pb2.ControllerExpandVolumeRequest(
                volume_id=volume.volume_id,
                capacity_range=csi_pb2.CapacityRange(required_bytes=200 * 2**30),
                volume_capability=BLOCK,
            )
        )

    assert (before, (await aws.describe_volume(volume.volume_id))["Iops"]) == (1000, 2000)


async def test_filesystem_parameters_reach_the_node_in_the_volume_context(
    emulator: Emulator, aws: Aws, short_path: Path
) -> None:
    """Upstream's blockSize and similar parameters; a repeat answers the same, and invalid ones create no volume."""
    request = create_request({"blockSize": "4096", "ext4BigAlloc": "true"})

    async with start_controller(short_path, environment(emulator)) as controller:
        refusal = await refusal_of(controller.csi.CreateVolume(request))
        del request.volume_capabilities[:]
        request.volume_capabilities.add(
            mount=csi_pb2.VolumeCapability.MountVolume(fs_type="ext4"), access_mode=BLOCK.access_mode
        )
        volumes = [(await controller.csi.CreateVolume(request)).volume for _ in range(2)]

    assert refusal == (
        StatusCode.INVALID_ARGUMENT,
        "parameter 'blockSize' is for ext4 and xfs, not for a raw block volume; remove it",
    )
    assert volumes[0] == volumes[1]
    assert dict(volumes[0].volume_context) == {"blocksize": "4096", "ext4bigalloc": "true"}
    assert len((await aws.ec2("describe_volumes"))["Volumes"]) == 1


@pytest.mark.requirement("denied.names-the-statement")
@pytest.mark.parametrize(
    ("operation", "fault", "action"),
    [
        ("CreateVolume", "UnauthorizedOperation", "ec2:CreateVolume"),
        ("AttachClusterNodeVolume", "AccessDeniedException", "sagemaker:AttachClusterNodeVolume"),
        ("CreateSnapshot", "UnauthorizedOperation", "ec2:CreateSnapshot"),
        ("ModifyVolume", "UnauthorizedOperation", "ec2:ModifyVolume"),
        ("DeleteVolume", "UnauthorizedOperation", "ec2:DeleteVolume"),
    ],
)
async def test_a_missing_permission_is_named_with_the_statement_that_grants_it(
    emulator_and_aws: tuple[Emulator, Aws], short_path: Path, operation: str, fault: str, action: str
) -> None:
    """A VolumeAttachment refuses messages of more than 1024 bytes, so the whole message has at most 900."""
    emulator, aws = emulator_and_aws
    arn, (instance,) = await aws.create_cluster(InstanceGroups=[GROUP])
    node = f"hyperpod-{arn.rpartition('/')[2]}-{instance}"
    resource = "arn:aws:ec2:us-west-2:123456789012:volume/*"
    message = (
        f"User: arn:aws:sts::123456789012:assumed-role/driver/{'x' * 400} is not authorized to perform: {action} on "
        f"resource: {resource} because no identity-based policy allows the {action} action. "
        f"Encoded authorization failure message: {'y' * 900}"
    )

    async with start_controller(short_path, environment(emulator)) as controller:
        id_ = (
            (await controller.csi.CreateVolume(create_request({}))).volume.volume_id
            if operation != "CreateVolume"
            else ""
        )
        emulator.faults.plan(operation, AwsFault(fault, message))
        code, text = await refusal_of(start_call_that_needs(controller, operation, id_, node))

    assert code is StatusCode.PERMISSION_DENIED
    assert f"{action} on {resource} is denied to IAM role driver: no identity-based policy allows" in text
    assert (
        f'allow it in the role\'s policy: {{"Effect": "Allow", "Action": "{action}", "Resource": "{resource}"}}' in text
    )
    assert len(text.encode()) <= 900


def start_call_that_needs(controller: ControllerProcess, operation: str, volume: str, node: str) -> Any:
    """Start a CSI call for which the driver calls the AWS operation."""
    match operation:
        case "CreateVolume":
            return controller.csi.CreateVolume(create_request({}))
        case "AttachClusterNodeVolume":
            return controller.csi.ControllerPublishVolume(
                csi_pb2.ControllerPublishVolumeRequest(volume_id=volume, node_id=node, volume_capability=BLOCK)
            )
        case "CreateSnapshot":
            return controller.csi.CreateSnapshot(csi_pb2.CreateSnapshotRequest(name="s", source_volume_id=volume))
        case "ModifyVolume":
            return controller.csi.ControllerModifyVolume(
                csi_pb2.ControllerModifyVolumeRequest(volume_id=volume, mutable_parameters={"iops": "4000"})
            )
        case _:
            return controller.csi.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volume))


async def test_an_invalid_tag_stops_the_start_unless_invalid_tags_are_left_out(
    emulator: Emulator, aws: Aws, short_path: Path
) -> None:
    """Upstream's --warn-on-invalid-tag. An error at the start is easier to find than one on each claim."""
    flag = "--extra-tags=kubernetes.io/x=y,good=1"

    async with start_driver("controller", f"--endpoint={short_path / 'csi.sock'}", flag) as ended:
        code = await ended.wait()
    long = f"--k8s-tag-cluster-id={'c' * 120}"
    async with start_driver("controller", f"--endpoint={short_path / 'csi.sock'}", long) as refused:
        assert await refused.wait() == 2
    async with start_controller(short_path, environment(emulator), flag, "--warn-on-invalid-tag=true") as controller:
        volume = (await controller.csi.CreateVolume(create_request({}))).volume

    assert "--k8s-tag-cluster-id has 120 characters" in refused.log[-1]
    assert (code, "tag key 'kubernetes.io/x' is reserved" in ended.log[-1]) == (2, True)
    assert user_tags(await aws.describe_volume(volume.volume_id)) == {"good": "1"}
