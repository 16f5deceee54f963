"""`volume snapshot`: a snapshot of a volume, with a name, followed until it is completed if the user wants that."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.access.aws.session import Aws, AwsOptions, open_aws
from hyperpod_ebs.access.aws.snapshots import EbsSnapshot, create_snapshot, list_snapshots
from hyperpod_ebs.access.aws.volumes import describe_volume
from hyperpod_ebs.access.console import Output, note, print_json, print_sentence
from hyperpod_ebs.driver.model import errors

_PAUSE: Final = 2.0
_REPEAT: Final = 5.0
"""Seconds between two lines about the same progress."""

_LONGEST_NAME: Final = 256
"""Characters of a tag's value (EC2 User Guide, tag restrictions)."""

_SHOWN_WITHIN: Final = 20.0
"""Seconds within which DescribeSnapshots shows a new snapshot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRequest:
    """What the user asked for."""

    volume_id: str
    name: str
    """Empty for a name made of the volume's and the time."""

    is_waiting: bool
    timeout: float
    output: Output
    options: AwsOptions


async def take_snapshot(request: SnapshotRequest) -> None:
    """Take a snapshot of the volume.

    Raises:
        VolumeNotFound: There is no such volume.
        TimedOut: The snapshot is not completed in time.
        Error: AWS refuses, or the snapshot fails.
    """
    volume_id = request.volume_id
    async with open_aws(request.options) as aws:
        volume = await describe_volume(aws, volume_id)
        default = f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} {volume.tags.get('Name', volume_id)}"
        name = request.name or default[:_LONGEST_NAME]
        try:
            snapshot_id = await create_snapshot(
                aws, volume_id, description=f"{volume_id} by hyperpod-ebs", tags={"Name": name}
            )
        except asyncio.CancelledError:
            note("interrupted: AWS may have got the request already, and a snapshot may be in progress")
            note(f"  look: {_describe(f'--filters Name=volume-id,Values={volume_id}')}")
            raise
        except errors.OutcomeUnknown as error:
            look = _describe(f"--filters Name=volume-id,Values={volume_id}")
            raise errors.OutcomeUnknown(f"{error}; before that, look with `{look}` whether it exists") from error
        if volume.holders:
            note("the snapshot has what the volume had now; writes that the node still holds in memory are missing")
        state = "pending"
        if request.is_waiting:
            state = (await _wait(aws, snapshot_id, request.timeout)).state
    if request.output == "json":
        print_json({"snapshot": snapshot_id, "volume": volume_id, "name": name, "state": state})
    else:
        print_sentence(f"snapshot {snapshot_id} of volume {volume_id}, named {name!r}, is {state}")


async def _wait(aws: Aws, snapshot_id: str, timeout: float) -> EbsSnapshot:  # noqa: ASYNC109 - an option of the command
    begin, reported, at = time.monotonic(), "", 0.0
    state = "pending"
    try:
        while (elapsed := time.monotonic() - begin) < timeout:
            try:
                (snapshot,) = await list_snapshots(aws, ids=[snapshot_id])
            except errors.SnapshotNotFound:
                if elapsed > _SHOWN_WITHIN:
                    raise
            except errors.Unavailable as error:
                note(f"snapshot {snapshot_id}: AWS does not answer ({error})")
            else:
                state = f"{snapshot.state}, {snapshot.progress}"
                if state != reported or time.monotonic() - at >= _REPEAT:
                    note(f"snapshot {snapshot_id}: {state}, {elapsed:.0f} s; usually a minute for each changed 10 GiB")
                    reported, at = state, time.monotonic()
                if snapshot.state == "completed":
                    return snapshot
                if snapshot.state == "error":
                    raise errors.Refused(f"snapshot {snapshot_id} failed: {snapshot.message or 'AWS gives no reason'}")
            await asyncio.sleep(min(_PAUSE, max(timeout - elapsed, 0)))
    except asyncio.CancelledError:
        note(f"interrupted: snapshot {snapshot_id} is {state}, and AWS continues with it")
        note(f"  follow it: {_describe(f'--snapshot-ids {snapshot_id}')}")
        note(f"  undo it:   aws ec2 delete-snapshot --snapshot-id {snapshot_id}")
        raise
    raise errors.TimedOut(
        f"snapshot {snapshot_id} is {state} after {timeout:g} s; AWS continues with it; follow it with "
        f"`{_describe(f'--snapshot-ids {snapshot_id}')}`"
    )


def _describe(which: str) -> str:
    return f"aws ec2 describe-snapshots {which}"
