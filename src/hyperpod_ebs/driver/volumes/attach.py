"""Puts volumes on nodes and takes them off: ask first, and look only where the answer is a refusal.

What a look shows is decided by the table in `model.attachment`; here it is carried out.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.attachment import (
    Attach,
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
from hyperpod_ebs.driver.model.volume import AttachState, Volume
from hyperpod_ebs.driver.volumes.cloud import Cloud
from hyperpod_ebs.driver.volumes.pace import Transition
from hyperpod_ebs.driver.volumes.watch import Watcher

PATIENCE: Final = 180.0
"""Seconds that an attachment may be on its way before the caller is told to ask again."""

ROUNDS: Final = 3
"""Times that an attach is asked for: the volume may come free first, or AWS may give the attachment up."""

LAG: Final = 1.0
"""Seconds after which a replica of EC2's that lags shows a volume again, with a margin."""

SHOWN: Final = 15.0
"""Seconds in which EC2 shows an attachment that it has acknowledged; what it shows before may be old."""


async def publish(cloud: Cloud, watcher: Watcher, volume_id: str, node: Node) -> None:
    """Have the volume attached to `node`; that it is already is no error.

    Raises:
        VolumeNotFound, NodeNotFound: There is no such thing.
        InUse: Another node has it, by name.
        NotReady: The volume or the node is in a state that forbids it, or AWS gives the attachment up.
        NodeFull: The node's attachment limit.
        Unavailable: It is still on its way.
    """
    for _ in range(ROUNDS):
        way = _Way(node, asyncio.get_running_loop().time())
        try:
            answer = await cloud.attach(volume_id, node)
            way.step = next_step_to_attach(view_from(node, [answer]))
        except (errors.InUse, errors.NotReady):
            way.acknowledged = False
            way.step = next_step_to_attach(view_from(node, (await _found(cloud, volume_id)).attachments))
            if isinstance(way.step, Attach):  # nobody has it, and still it is refused
                raise
        if isinstance(way.step, Wait):
            await _arrived(watcher, volume_id, way)
        match way.step:
            case Done():
                return
            case Refuse(why):
                raise errors.InUse(f"volume {volume_id} cannot be attached to {node}: {why}")
            case Attach() | Detach() | Wait():
                continue  # free now
    raise errors.NotReady(
        f"volume {volume_id} is not attached to {node}: asked {ROUNDS} times, and AWS gave it up each time; "
        "look at the volume's key and at the node"
    )


async def unpublish(cloud: Cloud, watcher: Watcher, volume_id: str, node: Node | None) -> None:
    """Have the volume off `node`, or off whatever node has it; that it is already is no error.

    Raises:
        InUse: The node still has it mounted.
        NotReady: AWS does not take it off, and it is there.
        Unavailable: It is still on its way.
    """
    holders = [node] if node is not None else await _holders(cloud, volume_id)
    for holder in holders:
        await _detach(cloud, watcher, volume_id, holder)


async def _detach(cloud: Cloud, watcher: Watcher, volume_id: str, node: Node) -> None:
    leaving = _Leaving(node)
    try:
        answer = await cloud.detach(volume_id, node)
        leaving.step = next_step_to_detach(view_from(node, [answer]))
    except (errors.NotFound, errors.NotReady) as refusal:
        # "Not found" may only mean that the node's name, and so the cluster's ARN, is wrong: a success then would
        # free a live volume for another node. So nothing but what EC2 shows is believed.
        volume = await _still_there(cloud, volume_id, refusal)
        leaving.see(volume)
        if volume is not None and not isinstance(leaving.step, Wait) and _holds(node, volume):
            raise errors.NotReady(
                f"volume {volume_id} is not taken off {node}, and EC2 shows it attached to "
                f"{', '.join(a.holder for a in volume.attachments)}: {refusal}"
            ) from refusal
    if not isinstance(leaving.step, Done):
        await _left(watcher, volume_id, leaving)


@dataclass(slots=True)
class _Way:
    """What has been seen of an attachment to `node`, and what is next."""

    node: Node
    since: float
    acknowledged: bool = True
    """Whether AWS has taken our attach."""
    shown: bool = False
    """Whether EC2 shows ours by now."""
    step: Step = Wait()  # noqa: RUF009 - frozen

    def settled(self, volume: Volume | None) -> bool:
        """Whether there is something to do but wait."""
        fresh = asyncio.get_running_loop().time() - self.since < SHOWN
        seen = view_from(self.node, volume.attachments if volume is not None else ())
        self.shown = self.shown or seen.here
        if self.acknowledged and not self.shown and fresh:
            return False
        if volume is None:
            return not fresh
        self.step = next_step_to_attach(seen)
        return not isinstance(self.step, Wait)


@dataclass(slots=True)
class _Leaving:
    """What has been seen of a detachment from `node`, and what is next."""

    node: Node
    step: Step = Wait()  # noqa: RUF009 - frozen
    busy: bool = False

    def see(self, volume: Volume | None) -> bool:
        """Whether it is off the node."""
        seen = view_from(self.node, volume.attachments if volume is not None else ())
        self.step = next_step_to_detach(seen)
        self.busy = seen.here and seen.state is AttachState.BUSY
        return isinstance(self.step, Done)


async def _arrived(watcher: Watcher, volume_id: str, way: _Way) -> None:
    """Wait until there is something to do but wait."""
    transition = Transition.ATTACH if way.acknowledged else Transition.DETACH
    try:
        volume = await watcher.volume(volume_id, transition, way.settled, patience=PATIENCE)
    except TimeoutError as late:
        raise errors.Unavailable(
            f"volume {volume_id} is still on its way to {way.node} after {PATIENCE:g} s; ask again"
        ) from late
    if volume is None:
        raise _no(volume_id)


async def _left(watcher: Watcher, volume_id: str, leaving: _Leaving) -> None:
    """Wait until it is off the node."""
    try:
        await watcher.volume(volume_id, Transition.DETACH, leaving.see, patience=PATIENCE)
    except TimeoutError as late:
        if leaving.busy:
            raise errors.InUse(
                f"volume {volume_id} is not off {leaving.node} after {PATIENCE:g} s: it is still mounted there; "
                "unmount it and ask again"
            ) from late
        raise errors.Unavailable(
            f"volume {volume_id} is still on its way off {leaving.node} after {PATIENCE:g} s; ask again"
        ) from late


async def _found(cloud: Cloud, volume_id: str) -> Volume:
    volume = (await cloud.volumes([volume_id])).get(volume_id)
    if volume is None:
        raise _no(volume_id)
    return volume


async def _still_there(cloud: Cloud, volume_id: str, refusal: errors.Error) -> Volume | None:
    """The volume; that EC2 does not show it is believed at once only where AWS has said that it is gone."""
    shown = await cloud.volumes([volume_id])
    if volume_id not in shown and not isinstance(refusal, errors.VolumeNotFound):
        await asyncio.sleep(LAG)
        shown = await cloud.volumes([volume_id])
    return shown.get(volume_id)


async def _holders(cloud: Cloud, volume_id: str) -> list[Node]:
    """The nodes that have the volume; none where it is gone."""
    volume = (await cloud.volumes([volume_id])).get(volume_id)
    held = [a for a in volume.attachments if a.state is not AttachState.DETACHED] if volume is not None else []
    if others := [a.holder for a in held if a.node is None]:
        raise errors.NotReady(
            f"volume {volume_id} is held by {', '.join(others)}, which is neither an EC2 instance nor a HyperPod node: "
            "detach it there"
        )
    return [a.node for a in held if a.node is not None]


def _holds(node: Node, volume: Volume) -> bool:
    """Whether the instance has the volume, under whatever name of a node."""
    return any(a.state is not AttachState.DETACHED and node.instance in a.holder for a in volume.attachments)


def _no(volume_id: str) -> errors.VolumeNotFound:
    return errors.VolumeNotFound(f"volume {volume_id} does not exist")
