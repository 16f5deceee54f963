"""`volume grow`: a larger volume, and what to do about its filesystem."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.access import exit_codes
from hyperpod_ebs.access.aws.modifications import latest_modification, request_growth
from hyperpod_ebs.access.aws.session import Aws, AwsOptions, open_aws
from hyperpod_ebs.access.aws.volumes import EbsVolume, describe_volume
from hyperpod_ebs.access.console import Output, note, print_json, print_sentence
from hyperpod_ebs.access.kubernetes.reader import KubernetesOptions
from hyperpod_ebs.access.volume.claims import read_persistent_volumes
from hyperpod_ebs.access.volume.reading import manager
from hyperpod_ebs.driver.model import errors

_PAUSE: Final = 1.0
_REPEAT: Final = 5.0
"""Seconds between two lines about the same progress."""

_GROWN: Final = frozenset({"optimizing", "completed"})
"""The states of a modification in which the volume has its new size (EBS User Guide)."""

_RATE: Final = "AWS allows 4 modifications of a volume in 24 hours, and in some Regions one every 6 hours"


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """What the user asked for."""

    volume_id: str
    gib: int
    managed_is_fine: bool
    is_dry_run: bool
    timeout: float
    output: Output
    options: AwsOptions
    kubernetes: KubernetesOptions


async def grow(growth: Growth) -> int:
    """Grow the volume, unless Kubernetes manages it; the exit code.

    Raises:
        VolumeNotFound: There is no such volume.
        InvalidRequest: The size is not larger than the volume.
        TimedOut: The volume has not grown in time.
        Error: AWS refuses.
    """
    async with open_aws(growth.options) as aws:
        volume = await describe_volume(aws, growth.volume_id)
        if growth.gib <= volume.gib:
            raise errors.InvalidRequest(
                f"volume {volume.id} has {volume.gib} GiB, and {growth.gib} GiB is not more: EBS volumes only grow; "
                "for a smaller one, copy the files to a new volume"
            )
        if not growth.managed_is_fine and (refusal := await _refusal_for_claim(growth, volume)):
            note(f"fails: kubernetes: {refusal}; nothing was changed")
            return exit_codes.FAILS
        await _request(aws, growth)
        if growth.is_dry_run:
            _print(growth, volume, "", f"EC2 would grow volume {volume.id} from {volume.gib} to {growth.gib} GiB")
            return exit_codes.OK
        state = await _wait(aws, growth)
    _print(growth, volume, state, f"volume {volume.id} has {growth.gib} GiB, {volume.gib} GiB before")
    for line in _filesystem_steps(volume):
        note(line)
    return exit_codes.OK


async def _refusal_for_claim(growth: Growth, volume: EbsVolume) -> str:
    persistent = await read_persistent_volumes(growth.kubernetes)
    managed_by = manager(volume, volume.id, persistent)
    if not managed_by:
        return ""
    namespace, _, claim = persistent.claim(volume.id, volume.tags).partition("/")
    patch = f'{{"spec": {{"resources": {{"requests": {{"storage": "{growth.gib}Gi"}}}}}}}}'
    step = (
        f"grow the claim, and the driver grows volume and filesystem: `kubectl -n {namespace} patch pvc {claim} "
        f"--patch '{patch}'`"
        if claim
        else "grow its claim"
    )
    return (
        f"Kubernetes manages volume {volume.id} ({managed_by}), and would not know of its new size: {step}; or repeat "
        "the command with --even-though-kubernetes-manages-it"
    )


async def _request(aws: Aws, growth: Growth) -> None:
    try:
        await request_growth(aws, growth.volume_id, growth.gib, is_dry_run=growth.is_dry_run)
    except errors.RateLimited as error:
        raise errors.RateLimited(f"{error}; {_RATE}: try again then") from error
    except errors.Busy as error:
        running = await latest_modification(aws, growth.volume_id)
        how_far = f" (the one to {running.gib} GiB is {running.state}, {running.progress}%)" if running else ""
        raise errors.Busy(
            f"{error}; wait until the running modification is completed{how_far}, then try again"
        ) from error
    except asyncio.CancelledError:
        note(f"interrupted: AWS may have got the request already, and volume {growth.volume_id} may grow")
        note(f"  follow it: {_describe(growth.volume_id)}")
        raise


async def _wait(aws: Aws, growth: Growth) -> str:
    """Wait until the volume has its new size; the state of the modification."""
    begin, reported, at = time.monotonic(), "", 0.0
    state = "requested"
    try:
        while (elapsed := time.monotonic() - begin) < growth.timeout:
            try:
                found = await latest_modification(aws, growth.volume_id)
            except errors.Denied as denial:
                note(f"AWS is growing the volume, but the caller may not see it finish: {denial.why}")
                return state
            except errors.Unavailable as error:
                found = None
                note(f"volume {growth.volume_id}: AWS does not answer ({error})")
            if found and found.gib == growth.gib:
                state = found.state
                if state in _GROWN:
                    return state
                if state == "failed":
                    reason = found.message or "AWS gives no reason"
                    raise errors.Refused(f"volume {growth.volume_id} did not grow to {growth.gib} GiB: {reason}")
            if state != reported or time.monotonic() - at >= _REPEAT:
                note(f"volume {growth.volume_id}: {state}, {elapsed:.0f} s; usually a few seconds")
                reported, at = state, time.monotonic()
            await asyncio.sleep(min(_PAUSE, max(growth.timeout - elapsed, 0)))
    except asyncio.CancelledError:
        note(f"interrupted: AWS continues to grow volume {growth.volume_id}; growth cannot be undone")
        note(f"  follow it: {_describe(growth.volume_id)}")
        raise
    raise errors.TimedOut(
        f"volume {growth.volume_id} is {state} after {growth.timeout:g} s; AWS continues with it; follow it with "
        f"`{_describe(growth.volume_id)}`"
    )


def _filesystem_steps(volume: EbsVolume) -> list[str]:
    """What is left to do for the filesystem."""
    device = f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{volume.id.replace('-', '')}"
    first = "on the node" if volume.holders else "once it is attached to a node"
    return [
        f"the filesystem still has its former size; {first}, as root:",
        "  xfs:  xfs_growfs DIRECTORY          (the directory where it is mounted)",
        f"  ext4: resize2fs {device}",
    ]


def _describe(volume_id: str) -> str:
    return f"aws ec2 describe-volumes-modifications --volume-ids {volume_id}"


def _print(growth: Growth, volume: EbsVolume, state: str, sentence: str) -> None:
    if growth.output == "json":
        sizes = {"fromGiB": volume.gib, "toGiB": growth.gib}
        print_json({"volume": volume.id, **sizes, "changed": not growth.is_dry_run, "modification": state})
    else:
        print_sentence(sentence)
