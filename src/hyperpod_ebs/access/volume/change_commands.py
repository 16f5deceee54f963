"""`hyperpod-ebs volume attach`, `detach`, `move`, `wait`, `snapshot` and `grow`."""

import asyncio
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from hyperpod_ebs.access.aws.session import ANY_CALLER, AwsOptions, open_aws
from hyperpod_ebs.access.console import Output, confirm, confirm_by_typing
from hyperpod_ebs.access.kubernetes.reader import CURRENT_CONTEXT, KubernetesOptions
from hyperpod_ebs.access.volume import changing, growth, snapshots
from hyperpod_ebs.access.volume.change_requests import Request
from hyperpod_ebs.access.volume.changing import Plan
from hyperpod_ebs.access.volume.facts import Unread
from hyperpod_ebs.access.volume.outcome import print_end
from hyperpod_ebs.access.volume.targets import find_target
from hyperpod_ebs.access.volume.volume_ids import check_volume_id
from hyperpod_ebs.access.volume.waiting import TIMEOUT, Until, wait
from hyperpod_ebs.driver.model import errors

_SNAPSHOT_TIMEOUT = 3600.0


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeOptions:
    """How a volume is attached or detached."""

    cluster: str | None = None
    """The HyperPod cluster of the node: its name, id or ARN. By default the clusters of the region are searched."""

    dry_run: Annotated[bool, Parameter(negative=())] = False
    """Check all preconditions, print what was found, and stop."""

    even_though_kubernetes_manages_it: Annotated[bool, Parameter(negative=())] = False
    """Continue although the driver's tags or a persistent volume show that Kubernetes manages the volume."""

    timeout: float = TIMEOUT
    """Seconds to wait for AWS. When they have passed, the change continues at AWS."""

    output: Output = "table"
    """Format of the result: text, or one JSON object."""


DEFAULTS = ChangeOptions()


def attach_volume(
    volume: str,
    node: str,
    /,
    *,
    change: ChangeOptions = DEFAULTS,
    aws: AwsOptions = ANY_CALLER,
    kubernetes: KubernetesOptions = CURRENT_CONTEXT,
) -> int:
    """Attach a volume to a HyperPod node or an EC2 instance, after checking every precondition.

    Args:
        volume: The volume's id.
        node: The node: i-..., hyperpod-i-..., hyperpod-CLUSTER-i-..., or its private DNS name on EC2.
        change: As above.
        aws: The caller and the region.
        kubernetes: The API server.
    """
    return asyncio.run(changing.attach(_request(volume, node, change, aws, kubernetes)))


def detach_volume(  # noqa: PLR0913 - the flags of the command
    volume: str,
    node: str | None = None,
    /,
    *,
    yes: Annotated[bool, Parameter(negative=())] = False,
    force: Annotated[bool, Parameter(negative=())] = False,
    change: ChangeOptions = DEFAULTS,
    aws: AwsOptions = ANY_CALLER,
    kubernetes: KubernetesOptions = CURRENT_CONTEXT,
) -> int:
    """Detach a volume from the node that holds it, after checking every precondition. Asks first.

    Args:
        volume: The volume's id.
        node: The node; by default the only one that holds the volume.
        yes: Do not ask.
        force: Detach from an EC2 instance that does not let go of the volume. Data may be lost; asks for the volume's
            id.
        change: As above.
        aws: The caller and the region.
        kubernetes: The API server.
    """
    request = _request(volume, node, change, aws, kubernetes)
    plan = asyncio.run(changing.plan_detach(request, force=force))
    if isinstance(plan, int):
        return plan
    if force:
        confirm_by_typing(
            f"A forced detachment takes volume {volume} away from {plan.leaving.node} while its operating system still "
            "uses it. What the instance holds in memory is lost, the filesystem may be damaged, and the instance may "
            "have to be restarted before the device name can be used again (EC2 API reference, DetachVolume).",
            volume,
        )
    else:
        confirm(f"Detach {_description(plan, volume)} from {plan.leaving.node}?", yes=yes)
    return asyncio.run(changing.detach(request, plan, force=force))


def move_volume(  # noqa: PLR0913 - the flags of the command
    volume: str,
    node: str,
    /,
    *,
    yes: Annotated[bool, Parameter(negative=())] = False,
    change: ChangeOptions = DEFAULTS,
    aws: AwsOptions = ANY_CALLER,
    kubernetes: KubernetesOptions = CURRENT_CONTEXT,
) -> int:
    """Detach a volume from the node that holds it, wait, and attach it to another node. Asks first.

    Args:
        volume: The volume's id.
        node: The node to attach it to.
        yes: Do not ask.
        change: As above.
        aws: The caller and the region.
        kubernetes: The API server.
    """
    request = _request(volume, node, change, aws, kubernetes)
    plan = asyncio.run(changing.plan_move(request))
    if isinstance(plan, int):
        return plan
    end = plan.end
    confirm(f"Move {_description(end, volume)} from {end.leaving.node} to {plan.joining.node}?", yes=yes)
    return asyncio.run(changing.move(request, plan))


def wait_for_volume(  # noqa: PLR0913 - the flags of the command
    volume: str,
    /,
    *,
    until: Until = "attached",
    node: str | None = None,
    cluster: str | None = None,
    timeout: float = TIMEOUT,
    output: Output = "table",
    aws: AwsOptions = ANY_CALLER,
) -> int:
    """Follow a volume that AWS is attaching or detaching.

    Args:
        volume: The volume's id.
        until: What to wait for.
        node: The node to which it is attached or from which it is detached; by default any.
        cluster: The HyperPod cluster of the node.
        timeout: Seconds to wait for AWS.
        output: Format of the result: text, or one JSON object.
        aws: The caller and the region.
    """
    check_volume_id(volume)
    empty = ChangeOptions(cluster=cluster, timeout=timeout, output=output)
    return asyncio.run(_wait(_request(volume, node, empty, aws, CURRENT_CONTEXT), until))


def take_snapshot(  # noqa: PLR0913 - the flags of the command
    volume: str,
    /,
    *,
    name: str = "",
    wait: Annotated[bool, Parameter(negative=())] = False,
    timeout: float = _SNAPSHOT_TIMEOUT,
    output: Output = "table",
    aws: AwsOptions = ANY_CALLER,
) -> None:
    """Take a snapshot of a volume as it is now.

    Args:
        volume: The volume's id.
        name: The snapshot's tag Name; by default the time and the volume's name.
        wait: Wait until the snapshot is completed. It can be used only then.
        timeout: Seconds to wait with --wait.
        output: Format of the result: text, or one JSON object.
        aws: The caller and the region.
    """
    check_volume_id(volume)
    _check_timeout(timeout)
    request = snapshots.SnapshotRequest(
        volume_id=volume, name=name, is_waiting=wait, timeout=timeout, output=output, options=aws
    )
    asyncio.run(snapshots.take_snapshot(request))


def grow_volume(  # noqa: PLR0913 - the flags of the command
    volume: str,
    gib: int,
    /,
    *,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    even_though_kubernetes_manages_it: Annotated[bool, Parameter(negative=())] = False,
    timeout: float = TIMEOUT,
    output: Output = "table",
    aws: AwsOptions = ANY_CALLER,
    kubernetes: KubernetesOptions = CURRENT_CONTEXT,
) -> int:
    """Give a volume more capacity, and say what is left to do for its filesystem.

    Args:
        volume: The volume's id.
        gib: The new size in GiB.
        dry_run: Check whether EC2 would do it, and stop.
        even_though_kubernetes_manages_it: Continue although Kubernetes manages the volume.
        timeout: Seconds to wait for AWS. When they have passed, the volume continues to grow.
        output: Format of the result: text, or one JSON object.
        aws: The caller and the region.
        kubernetes: The API server.
    """
    check_volume_id(volume)
    _check_timeout(timeout)
    return asyncio.run(
        growth.grow(
            growth.Growth(
                volume_id=volume,
                gib=gib,
                managed_is_fine=even_though_kubernetes_manages_it,
                is_dry_run=dry_run,
                timeout=timeout,
                output=output,
                options=aws,
                kubernetes=kubernetes,
            )
        )
    )


async def _wait(request: Request, until: Until) -> int:
    async with open_aws(request.options) as aws:
        node = (await find_target(aws, request.node, request.cluster)).node if request.node else None
        goal = request.goal(until, node, was_requested=False)
        volume = await wait(aws, goal)
        print_end(volume, str(goal), node=node, checks=[], output=request.output, changed=False)
    return 0


def _request(
    volume: str, node: str | None, change: ChangeOptions, aws: AwsOptions, kubernetes: KubernetesOptions
) -> Request:
    check_volume_id(volume)
    _check_timeout(change.timeout)
    return Request(
        volume_id=volume,
        node=node,
        cluster=change.cluster,
        managed_is_fine=change.even_though_kubernetes_manages_it,
        is_dry_run=change.dry_run,
        timeout=change.timeout,
        output=change.output,
        options=aws,
        kubernetes=kubernetes,
    )


def _check_timeout(timeout: float) -> None:
    if not timeout > 0:  # true for NaN
        raise errors.InvalidRequest(f"a timeout of {timeout:g} s is not possible: give a number of seconds above 0")


def _description(plan: Plan, volume_id: str) -> str:
    if isinstance(plan.volume, Unread):
        return f"volume {volume_id}"
    name = plan.volume.tags.get("Name")
    return f"volume {volume_id} ({f'{name}, ' if name else ''}{plan.volume.gib} GiB)"
