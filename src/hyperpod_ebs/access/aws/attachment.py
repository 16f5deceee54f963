"""Attach a volume to a HyperPod node (SageMaker: AttachClusterNodeVolume) or an instance (EC2: AttachVolume)."""

from collections.abc import Collection, Generator
from contextlib import contextmanager
from typing import Final

from hyperpod_ebs.access.aws.instances import list_instances
from hyperpod_ebs.access.aws.session import Aws
from hyperpod_ebs.driver.aws.calls import translate_sdk_errors
from hyperpod_ebs.driver.aws.device_names import NAMES
from hyperpod_ebs.driver.model import errors

_DRY_RUN: Final = "DryRunOperation"
_NAME_TAKEN: Final = "is already in use"
_ATTEMPTS: Final = 5
"""Device names to try; each failure means that another client took the name a moment ago."""


async def attach_to_node(aws: Aws, volume_id: str, cluster_arn: str, instance: str) -> str:
    """Ask SageMaker to attach the volume; AWS finishes it later. The state that it answers.

    Raises:
        Error: AWS refuses to attach it.
    """
    sagemaker = await aws.sagemaker()
    with translate_sdk_errors(f"attach volume {volume_id} to node {instance} of {cluster_arn}"):
        answer = await sagemaker.attach_cluster_node_volume(ClusterArn=cluster_arn, NodeId=instance, VolumeId=volume_id)
        return str(answer["Status"])


async def attach_to_instance(aws: Aws, volume_id: str, instance: str) -> str:
    """Ask EC2 to attach the volume under a free device name; AWS finishes it later. The state that it answers.

    Raises:
        NodeFull: All device names of the instance are in use.
        Error: AWS refuses to attach it.
    """
    ec2, refused = await aws.ec2(), set[str]()
    for _ in range(_ATTEMPTS):
        device = await _free_device_name(aws, instance, refused)
        try:
            with translate_sdk_errors(f"attach volume {volume_id} to instance {instance} as {device}"):
                return str((await ec2.attach_volume(VolumeId=volume_id, InstanceId=instance, Device=device))["State"])
        except errors.InvalidRequest as error:
            if _NAME_TAKEN not in str(error):
                raise
            refused.add(device)
    raise errors.Unavailable(
        f"cannot attach volume {volume_id} to instance {instance}: other clients took {_ATTEMPTS} device names; "
        "try again"
    )


async def attach_denial(aws: Aws, volume_id: str, instance: str) -> str:
    """Why EC2 would not let the caller attach the volume, found by a dry run; empty if EC2 would.

    Raises:
        Error: The dry run says nothing about permissions.
    """
    ec2 = await aws.ec2()
    device = await _free_device_name(aws, instance, ())
    with _dry_run(f"attach volume {volume_id} to instance {instance}") as denial:
        await ec2.attach_volume(VolumeId=volume_id, InstanceId=instance, Device=device, DryRun=True)
    return "".join(denial)


async def detach_denial(aws: Aws, volume_id: str, instance: str) -> str:
    """Why EC2 would not let the caller detach the volume, found by a dry run; empty if EC2 would.

    Raises:
        Error: The dry run says nothing about permissions.
    """
    ec2 = await aws.ec2()
    with _dry_run(f"detach volume {volume_id} from instance {instance}") as denial:
        await ec2.detach_volume(VolumeId=volume_id, InstanceId=instance, DryRun=True)
    return "".join(denial)


@contextmanager
def _dry_run(action: str) -> Generator[list[str]]:
    """Make a dry run in the block; the list gets the reason if EC2 denies it."""
    denial: list[str] = []
    try:
        with translate_sdk_errors(f"{action} (dry run)"):
            yield denial
    except errors.Denied as error:
        denial.append(error.why)
    except errors.CloudError as error:
        if error.code != _DRY_RUN:
            raise


async def _free_device_name(aws: Aws, instance: str, refused: Collection[str]) -> str:
    used = {name for each in await list_instances(aws, [instance]) for name in each.devices} | set(refused)
    if (name := next((name for name in NAMES if name not in used), None)) is None:
        raise errors.NodeFull(f"instance {instance} has no free device name: all {len(NAMES)} are in use")
    return name
