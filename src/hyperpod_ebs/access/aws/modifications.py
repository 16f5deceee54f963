"""Growing volumes (EC2 API reference, ModifyVolume and DescribeVolumesModifications)."""
# botocore marks every member of an answer as optional. A missing one is a KeyError, which `calls` reports:
# pyright: reportTypedDictNotRequiredAccess=false

from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.access.aws.session import Aws
from hyperpod_ebs.driver.aws.calls import translate_sdk_errors
from hyperpod_ebs.driver.model import errors

_DRY_RUN: Final = "DryRunOperation"
_NEVER_MODIFIED: Final = "InvalidVolumeModification.NotFound"


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeModification:
    """The latest modification of a volume."""

    state: str
    progress: int
    """In percent."""

    gib: int
    message: str


async def request_growth(aws: Aws, volume_id: str, gib: int, *, is_dry_run: bool) -> None:
    """Ask EC2 to give the volume this size, or with `is_dry_run` only whether it would.

    Raises:
        RateLimited: The volume was modified too often.
        Busy: A modification of the volume is running.
        Error: AWS refuses.
    """
    ec2 = await aws.ec2()
    try:
        with translate_sdk_errors(f"grow volume {volume_id} to {gib} GiB"):
            await ec2.modify_volume(VolumeId=volume_id, Size=gib, DryRun=is_dry_run)
    except errors.CloudError as error:
        if error.code != _DRY_RUN:
            raise


async def latest_modification(aws: Aws, volume_id: str) -> VolumeModification | None:
    """The latest modification of the volume; None if EC2 shows none.

    Raises:
        Error: AWS refuses to describe it.
    """
    ec2 = await aws.ec2()
    try:
        with translate_sdk_errors(f"describe the modification of volume {volume_id}"):
            found = (await ec2.describe_volumes_modifications(VolumeIds=[volume_id]))["VolumesModifications"]
            return next(
                (
                    VolumeModification(
                        state=each["ModificationState"],
                        progress=each.get("Progress", 0),
                        gib=each.get("TargetSize", 0),
                        message=each.get("StatusMessage") or "",
                    )
                    for each in found
                ),
                None,
            )
    except errors.CloudError as error:
        if error.code == _NEVER_MODIFIED:
            return None
        raise
