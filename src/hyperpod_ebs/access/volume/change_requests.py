"""Request an attachment or a detachment, and say after Ctrl-C that AWS may have got the request."""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from hyperpod_ebs.access.aws import attachment
from hyperpod_ebs.access.aws.detachment import request_detach
from hyperpod_ebs.access.aws.session import Aws, AwsOptions
from hyperpod_ebs.access.aws.volumes import Holder, describe_volume
from hyperpod_ebs.access.console import Output, note
from hyperpod_ebs.access.kubernetes.reader import KubernetesOptions
from hyperpod_ebs.access.volume.facts import Target
from hyperpod_ebs.access.volume.follow_up import command_line
from hyperpod_ebs.access.volume.waiting import Goal, Until
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.nodes import Ec2Node, HyperPodNode, Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for."""

    volume_id: str
    node: str | None
    cluster: str | None
    managed_is_fine: bool
    is_dry_run: bool
    timeout: float
    output: Output
    options: AwsOptions
    kubernetes: KubernetesOptions

    @property
    def command(self) -> Callable[..., str]:
        """The command line of these words, for messages."""
        return partial(command_line, self.options)

    def goal(self, until: Until, node: Node | None, *, was_requested: bool = True) -> Goal:
        """What to wait for."""
        return Goal(
            volume_id=self.volume_id,
            until=until,
            node=node,
            timeout=self.timeout,
            command=self.command,
            was_requested=was_requested,
        )


async def request_attachment(aws: Aws, request: Request, target: Target) -> None:
    """Request the attachment; an answer that was lost does not matter if the volume is attaching.

    Raises:
        Error: AWS refuses.
    """
    with _explain_interruption(request, "attached", target.node):
        try:
            match target.node:
                case HyperPodNode(_, instance):
                    await attachment.attach_to_node(aws, request.volume_id, target.cluster_arn, instance)
                case Ec2Node(instance):
                    await attachment.attach_to_instance(aws, request.volume_id, instance)
        except (errors.Refused, errors.Unavailable):
            if not await _is_held(aws, request.volume_id, target.node):
                raise
    note(f"attach requested: volume {request.volume_id} to {target.node}")


async def request_detachment(
    aws: Aws, request: Request, target: Target, known: Holder | None, *, force: bool = False
) -> Node:
    """Request the detachment, unless AWS works on it already; the node.

    Args:
        aws: The caller.
        request: What the user asked for.
        target: The node that holds the volume.
        known: The attachment; None if the caller may not see it.
        force: Whether the instance's operating system is not asked.

    Raises:
        Error: AWS refuses.
    """
    node = target.node
    resource = f"{target.cluster_arn}-{node.instance}" if target.cluster_arn else node.instance
    holder = known or Holder(node=node, resource=resource, state="", device="", since=None)
    if holder.state in {"detaching", "busy"} and not force:
        note(f"volume {request.volume_id} is already {holder.state} at {node}")
        return node
    with _explain_interruption(request, "detached", node):
        try:
            await request_detach(aws, request.volume_id, holder, force=force)
        except (errors.Refused, errors.Unavailable):
            if await _is_held(aws, request.volume_id, node) is not False:
                raise
    note(f"detach requested: volume {request.volume_id} from {node}")
    return node


async def _is_held(aws: Aws, volume_id: str, node: Node) -> bool | None:
    """Whether the volume is attached or attaching to the node; None if the caller may not see it."""
    try:
        volume = await describe_volume(aws, volume_id)
    except (errors.Denied, errors.Unavailable):
        return None
    return any(each.node == node and each.state in {"attaching", "attached"} for each in volume.holders)


@contextmanager
def _explain_interruption(request: Request, until: Until, node: Node) -> Generator[None]:
    """Say after Ctrl-C that the request may have reached AWS."""
    try:
        yield
    except asyncio.CancelledError:
        note(f"interrupted: AWS may have got the request already, and volume {request.volume_id} may soon be {until}")
        note(f"  look:      {request.command('list', '--node', node)}")
        note(f"  follow it: {request.goal(until, node).wait_command}")
        raise
