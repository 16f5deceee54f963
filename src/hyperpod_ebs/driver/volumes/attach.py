"""Attach volumes to nodes and detach them.

The driver sends the request first, and describes the volume only if AWS refuses or has not finished. The table in
`model.attachment` decides what follows from the attachments that EC2 shows.
"""

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.attachment import (
    Attach,
    AttachmentView,
    Detach,
    Done,
    Refuse,
    Step,
    Wait,
    next_step_to_attach,
    next_step_to_detach,
    view_from,
)
from hyperpod_ebs.driver.model.nodes import Node
from hyperpod_ebs.driver.model.volume import Attachment, AttachState, Volume
from hyperpod_ebs.driver.volumes.absence import find_attachments, find_volume, get_volume, look_repeatedly
from hyperpod_ebs.driver.volumes.cloud import Cloud
from hyperpod_ebs.driver.volumes.pace import Transition
from hyperpod_ebs.driver.volumes.watch import Watcher
from hyperpod_ebs.kit.operations import Interruption

PATIENCE: Final = 180.0
"""Seconds that an attachment or detachment may take before the caller has to retry."""

MAX_REQUESTS: Final = 3
"""Attach requests in one call: another node may have to release the volume first, or AWS may drop the attachment."""

APPEARS_WITHIN: Final = 15.0
"""Seconds within which EC2 shows an attachment that it has acknowledged; what it shows before may be out of date."""

CONTRADICTION_PAUSE: Final = 1.0
"""Seconds until the next look while EC2 shows a volume free and AWS says that it is attached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachSighting:
    """What EC2 has shown of a volume since the driver requested its attachment to `node`."""

    node: Node
    acknowledged: bool = True
    """Whether AWS accepted the request."""
    age: float = 0.0
    """Seconds from AWS's answer to the request to this sighting."""
    volume: Volume | None = None
    """The volume at this sighting; None if EC2 did not show it."""
    has_appeared: bool = False
    """Whether EC2 has shown, now or at an earlier sighting, the attachment that AWS's answer implies.

    It is the attachment to `node` if AWS accepted the request, and any attachment if AWS said that the volume is used.
    """


def sighting_after(previous: AttachSighting, volume: Volume | None, age: float) -> AttachSighting:
    """The sighting that follows when EC2 shows `volume`, `age` seconds after AWS answered the request."""
    view = view_from(previous.node, volume.attachments if volume is not None else ())
    is_it = view.here if previous.acknowledged else view.state is not AttachState.DETACHED
    return replace(previous, volume=volume, age=age, has_appeared=previous.has_appeared or is_it)


def step_after(sighting: AttachSighting) -> Step:
    """The step that a sighting calls for: wait while EC2 may show what was true before the request."""
    volume = sighting.volume
    may_be_old = volume is None or not sighting.has_appeared
    if may_be_old and sighting.age < APPEARS_WITHIN:
        return Wait()
    return next_step_to_attach(view_from(sighting.node, volume.attachments if volume is not None else ()))


async def attach_volume(
    cloud: Cloud, watcher: Watcher, volume_id: str, node: Node, interruption: Interruption | None = None
) -> str:
    """Attach the volume to `node` and wait until it is attached; succeed if it is attached there already.

    Returns the device name on an EC2 instance; an empty string on a HyperPod node, for which AWS shows none.
    `interruption` may end the wait, but no request: an attachment that AWS makes after a detachment would stay.

    Raises:
        Busy: The operation has to give way.
        VolumeNotFound, NodeNotFound: The volume or the node does not exist.
        InUse: The volume is attached to another node, which the message names.
        NotReady: The state of the volume or the node forbids it, or AWS dropped the attachment.
        NodeFull: The node has reached its attachment limit.
        Unavailable: AWS has not finished in time.
    """
    refusal: errors.Error | None = None
    for _ in range(MAX_REQUESTS):
        sighting, refusal = AttachSighting(node=node), None
        try:
            answer = await _request_attachment(cloud, volume_id, node)
            step = next_step_to_attach(view_from(node, [answer]))
        except (errors.InUse, errors.NotReady) as error:
            refusal = error
            volume = await get_volume(cloud, volume_id)
            step = next_step_to_attach(view_from(node, volume.attachments))
            is_free = isinstance(step, Attach)
            if is_free and isinstance(refusal, errors.NotReady):
                raise  # AWS refuses for another reason
            sighting = AttachSighting(node=node, acknowledged=False, has_appeared=not is_free)
            if is_free:
                step = Wait()  # AWS says that the volume is in use, so the description is out of date
        if isinstance(step, Wait):
            with (interruption or Interruption()).allow():
                step = await _wait_for_step(cloud, watcher, volume_id, sighting)
        match step:
            case Done(device):
                return device
            case Refuse(why):
                raise errors.InUse(f"cannot attach volume {volume_id} to node {node}: {why}")
            case Attach() | Detach() | Wait():
                continue  # the volume is free now
    if refusal is not None:
        raise refusal
    raise errors.NotReady(
        f"cannot attach volume {volume_id} to node {node}: AWS dropped the attachment after each of {MAX_REQUESTS} "
        "requests; check the volume's KMS key and the node"
    )


async def _request_attachment(cloud: Cloud, volume_id: str, node: Node) -> Attachment:
    """Request the attachment; once more if AWS does not know the volume yet."""
    try:
        return await cloud.attach(volume_id, node)
    except errors.VolumeNotFound:
        if await find_volume(cloud, volume_id) is None:
            raise
    try:
        return await cloud.attach(volume_id, node)
    except errors.VolumeNotFound as refusal:
        raise errors.Unavailable(f"EC2 shows volume {volume_id}: {refusal}; try again") from refusal


async def detach_volume(cloud: Cloud, watcher: Watcher, volume_id: str, node: Node | None) -> None:
    """Detach the volume from `node`, or from all nodes if `node` is None; succeed if it is not attached.

    Raises:
        InUse: The node still has the volume mounted.
        NotReady: AWS refuses although the volume is attached to the node.
        Unavailable: AWS has not finished in time.
    """
    nodes = [node] if node is not None else await _find_nodes(cloud, volume_id)
    for each in nodes:
        await _detach_from_node(cloud, watcher, volume_id, each)


async def _wait_for_step(cloud: Cloud, watcher: Watcher, volume_id: str, sighting: AttachSighting) -> Step:
    """Wait until EC2 shows something that calls for another step than waiting; return that step."""
    loop = asyncio.get_running_loop()
    answered_at = loop.time()

    def observe(volume: Volume | None) -> bool:
        nonlocal sighting
        sighting = sighting_after(sighting, volume, loop.time() - answered_at)
        return not isinstance(step_after(sighting), Wait)

    # An attach that AWS refused waits for the volume to leave another node.
    transition = Transition.ATTACH if sighting.acknowledged else Transition.DETACH
    try:
        volume = await watcher.wait_for_volume(volume_id, transition, observe, patience=PATIENCE)
    except TimeoutError as late:
        seen = view_from(sighting.node, sighting.volume.attachments if sighting.volume is not None else ())
        raise errors.Unavailable(
            f"volume {volume_id} is not attached to node {sighting.node} after {PATIENCE:g} s: AWS has not finished, "
            f"EC2 shows {seen}; try again"
        ) from late
    if volume is None:
        await get_volume(cloud, volume_id)
        raise errors.Unavailable(
            f"cannot attach volume {volume_id} to node {sighting.node}: EC2 does not list the volume, "
            "although it exists; try again"
        )
    return step_after(sighting)


async def _detach_from_node(cloud: Cloud, watcher: Watcher, volume_id: str, node: Node) -> None:
    try:
        answer = await cloud.detach(volume_id, node)
    except (errors.NotFound, errors.NotReady) as refusal:
        if not await _is_detached_despite(refusal, cloud, volume_id, node):
            await _wait_until_detached(cloud, watcher, volume_id, node, is_new=False)
    else:
        if not isinstance(next_step_to_detach(view_from(node, [answer])), Done):
            is_new = answer.since is not None and datetime.now(UTC) - answer.since < timedelta(seconds=APPEARS_WITHIN)
            await _wait_until_detached(cloud, watcher, volume_id, node, is_new=is_new)


async def _is_detached_despite(refusal: errors.Error, cloud: Cloud, volume_id: str, node: Node) -> bool:
    """Whether the volume is detached although AWS refuses to detach it; False if AWS is detaching it already.

    AWS also answers "not found" if the node's name, and with it the cluster's ARN, is wrong. A success would then let
    another node attach a volume that is in use. So what EC2 shows counts, after it had the time to show the latest.

    Raises:
        NotReady: The volume is attached to the node's instance.
    """
    holders = ""
    async for volume in look_repeatedly(cloud, volume_id):
        attachments = volume.attachments if volume is not None else ()
        if isinstance(next_step_to_detach(view_from(node, attachments)), Wait):
            return False
        holders = ", ".join(each.holder for each in attachments if _is_on_instance(each, node))
        if isinstance(refusal, errors.NotAttached) and volume is not None and not holders:
            return True
    if holders:
        raise errors.NotReady(
            f"cannot detach volume {volume_id} from node {node}: EC2 shows it attached to {holders}, "
            f"but AWS refuses: {refusal}"
        ) from refusal
    return True


async def _wait_until_detached(cloud: Cloud, watcher: Watcher, volume_id: str, node: Node, *, is_new: bool) -> None:
    """Wait until the volume is not attached to `node`.

    If the attachment `is_new`, EC2 may still show the volume as it was before the attachment. It then counts as
    detached when EC2 has shown the attachment before, or when AWS refuses a second detachment for that reason.
    """
    seen: AttachmentView | None = None
    is_proved = not is_new

    def observe(volume: Volume | None) -> bool:
        nonlocal seen, is_proved
        if volume is None:
            return True  # the loop below asks for the volume's id
        seen = view_from(node, volume.attachments)
        is_proved = is_proved or seen.here
        return isinstance(next_step_to_detach(seen), Done)

    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                volume = await watcher.wait_for_volume(volume_id, Transition.DETACH, observe, patience=PATIENCE)
                if volume is None:
                    volume = await find_volume(cloud, volume_id)
                if volume is None or (observe(volume) and (is_proved or await _is_refused(cloud, volume_id, node))):
                    return
                await asyncio.sleep(CONTRADICTION_PAUSE)
    except TimeoutError as late:
        if seen is not None and seen.here and seen.state is AttachState.BUSY:
            raise errors.InUse(
                f"volume {volume_id} is not detached from node {node} after {PATIENCE:g} s: it is still mounted there; "
                "unmount it, then try again"
            ) from late
        raise errors.Unavailable(
            f"volume {volume_id} is not detached from node {node} after {PATIENCE:g} s: AWS has not finished, "
            f"EC2 shows {seen or 'no answer'}; try again"
        ) from late


async def _is_refused(cloud: Cloud, volume_id: str, node: Node) -> bool:
    """Whether AWS refuses to detach the volume because it is not attached."""
    try:
        await cloud.detach(volume_id, node)
    except errors.NotAttached:
        return True
    except (errors.NotFound, errors.NotReady):
        return False
    return False


async def _find_nodes(cloud: Cloud, volume_id: str) -> list[Node]:
    """Find the nodes that the volume is attached to; empty if the volume is gone.

    Raises:
        NotReady: The volume is attached to something that is not a node.
    """
    current = await find_attachments(cloud, volume_id)
    if others := [a.holder for a in current if a.node is None]:
        raise errors.NotReady(
            f"cannot detach volume {volume_id}: it is attached to {', '.join(others)}, which is neither an EC2 "
            "instance nor a HyperPod node; detach it there"
        )
    return [a.node for a in current if a.node is not None]


def _is_on_instance(attachment: Attachment, node: Node) -> bool:
    """Whether the volume is attached to the node's instance, under any name of the node."""
    return attachment.state is not AttachState.DETACHED and node.instance in attachment.holder
