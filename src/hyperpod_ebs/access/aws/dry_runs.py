"""Calls of EC2 with DryRun, which only say whether the caller is allowed to make them (EC2 API reference, DryRun)."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal

from hyperpod_ebs.access.aws.session import Aws
from hyperpod_ebs.driver.aws.calls import translate_sdk_errors
from hyperpod_ebs.driver.model import errors

_WOULD_SUCCEED: Final = "DryRunOperation"
_SIZE_GIB: Final = 1

Outcome = Literal["allowed", "denied", "unknown"]


async def try_action(aws: Aws, action: str, *, zone: str, tags: Mapping[str, str], volume: str) -> tuple[Outcome, str]:
    """Whether the caller is allowed an action of EC2, such as `ec2:CreateVolume`, and why not.

    Args:
        aws: The caller.
        action: The action.
        zone: The zone of a new volume.
        tags: The tags of a new volume.
        volume: A volume of the driver; empty if there is none, and then some actions stay unknown.
    """
    ec2 = await aws.ec2()
    call = _calls(ec2, zone, tags, volume).get(action)
    if call is None:
        return "unknown", f"AWS has no dry run of {action}, or there is no volume to try it on"
    try:
        with translate_sdk_errors(f"try {action} (dry run)"):
            await call()
    except errors.Denied as denial:
        return "denied", str(denial)
    except errors.CloudError as error:
        return ("allowed", "") if error.code == _WOULD_SUCCEED else ("unknown", str(error))
    except errors.Error as error:
        return "unknown", str(error)
    return "unknown", f"AWS has answered the dry run of {action} without a verdict"


def _calls(
    ec2: Any, zone: str, tags: Mapping[str, str], volume: str
) -> Mapping[str, Callable[[], Awaitable[object]]]:  # Any: the client, by the names of its methods
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    new_volume = {"ResourceType": "volume", "Tags": listed}
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "ec2:DescribeAvailabilityZones": lambda: ec2.describe_availability_zones(DryRun=True),
        "ec2:DescribeInstances": lambda: ec2.describe_instances(DryRun=True),
        "ec2:DescribeInstanceTypes": lambda: ec2.describe_instance_types(DryRun=True),
        "ec2:DescribeSnapshots": lambda: ec2.describe_snapshots(DryRun=True, OwnerIds=["self"]),
        "ec2:DescribeVolumes": lambda: ec2.describe_volumes(DryRun=True),
        "ec2:DescribeVolumesModifications": lambda: ec2.describe_volumes_modifications(DryRun=True),
        "ec2:CreateVolume": lambda: ec2.create_volume(
            DryRun=True, AvailabilityZone=zone, Size=_SIZE_GIB, TagSpecifications=[new_volume]
        ),
    }
    if volume:
        calls |= {
            "ec2:ModifyVolume": lambda: ec2.modify_volume(DryRun=True, VolumeId=volume, Size=_SIZE_GIB),
            "ec2:DeleteVolume": lambda: ec2.delete_volume(DryRun=True, VolumeId=volume),
            "ec2:DetachVolume": lambda: ec2.detach_volume(DryRun=True, VolumeId=volume),
            "ec2:CreateSnapshot": lambda: ec2.create_snapshot(
                DryRun=True, VolumeId=volume, TagSpecifications=[{"ResourceType": "snapshot", "Tags": listed}]
            ),
        }
    return calls
