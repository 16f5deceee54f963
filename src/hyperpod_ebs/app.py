"""Where concrete classes meet, and nowhere else.

Each process imports what it needs when it starts: the node process loads neither
the AWS SDK nor an HTTP client, and `--help` loads nothing of the driver at all.
"""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

from hyperpod_ebs import __version__, acceptance
from hyperpod_ebs.model import errors, limits, nodes
from hyperpod_ebs.observe import lean
from hyperpod_ebs.options import CONTROLLER, NODE, SERVING, ControllerOptions, NodeOptions, ServingOptions

if TYPE_CHECKING:
    from hyperpod_ebs.aws.imds import Instance
    from hyperpod_ebs.csi.controller import Controller
    from hyperpod_ebs.csi.node import Myself, Node
    from hyperpod_ebs.observe.condition import Condition
    from hyperpod_ebs.observe.metrics import Metrics

_HYPERPOD: Final = "hyperpod-"
_SAGEMAKER_TYPE: Final = "ml."
_IDENTITY: Final = (
    "--node-id, --zone and --instance-type (HYPERPOD_EBS_NODE_ID, HYPERPOD_EBS_ZONE, HYPERPOD_EBS_INSTANCE_TYPE)"
)
_TELL: Final = f"{_IDENTITY} say who it is"


def run_controller(*, serving: ServingOptions = SERVING, controller: ControllerOptions = CONTROLLER) -> None:
    """Serve the CSI identity and controller services until told to stop."""
    lean.load()
    import uvloop  # noqa: PLC0415 - no other process needs it

    uvloop.run(_run(serving, controller, None))


def run_node(*, serving: ServingOptions = SERVING, node: NodeOptions = NODE) -> None:
    """Serve the CSI identity and node services until told to stop."""
    lean.load()
    asyncio.run(_run(serving, None, node))


def run_all(
    *,
    serving: ServingOptions = SERVING,
    controller: ControllerOptions = CONTROLLER,
    node: NodeOptions = NODE,
) -> None:
    """Serve all three CSI services on one socket until told to stop."""
    lean.load()
    import uvloop  # noqa: PLC0415 - no other process needs it

    uvloop.run(_run(serving, controller, node))


async def _run(serving: ServingOptions, controller: ControllerOptions | None, node: NodeOptions | None) -> None:
    import structlog  # noqa: PLC0415 - after lean.load

    from hyperpod_ebs import monitoring  # noqa: PLC0415 - after lean.load
    from hyperpod_ebs.csi import endpoint, server  # noqa: PLC0415 - after lean.load
    from hyperpod_ebs.observe import log  # noqa: PLC0415 - after lean.load
    from hyperpod_ebs.observe.condition import Condition  # noqa: PLC0415 - after lean.load

    log.set_up(serving.v, serving.logging_format)
    endpoint.parse(serving.endpoint)  # before anybody is asked who we are, which may take its time
    monitoring.check(serving)
    if controller:
        acceptance.check(controller)
    for notice in acceptance.notices(serving, controller):
        structlog.get_logger().warning("flag taken", why=notice)
    condition, told = Condition(), _told_to_stop()
    metrics = monitoring.metrics(serving, condition, deprecated=bool(controller and controller.deprecated_metrics))
    async with AsyncExitStack() as stack:
        services = server.Services(
            controller=await stack.enter_async_context(_controller(controller, condition, metrics))
            if controller
            else None,
            node=await stack.enter_async_context(_node(node)) if node else None,
        )
        path = await stack.enter_async_context(
            server.serving(
                serving.endpoint, services, drain=serving.drain_seconds, condition=condition, measure=metrics
            )
        )
        await stack.enter_async_context(monitoring.shown(serving, condition, metrics))
        structlog.get_logger().info("serving", socket=str(path), services=services.names, version=__version__)
        await told.wait()
        structlog.get_logger().info("stopping", within=serving.drain_seconds)


def _told_to_stop() -> asyncio.Event:
    """Set when SIGTERM or SIGINT comes."""
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    return told


@asynccontextmanager
async def _controller(
    options: ControllerOptions, condition: "Condition", metrics: "Metrics | None"
) -> AsyncGenerator["Controller"]:
    """The controller service, on AWS."""
    from hyperpod_ebs.aws.connection import connected  # noqa: PLC0415 - the SDK
    from hyperpod_ebs.aws.observed import Observer  # noqa: PLC0415 - the SDK
    from hyperpod_ebs.aws.session import Settings  # noqa: PLC0415 - the SDK
    from hyperpod_ebs.csi.controller import Controller  # noqa: PLC0415 - not in a node process
    from hyperpod_ebs.kit.operations import Operations  # noqa: PLC0415 - with it
    from hyperpod_ebs.volumes.watch import Watcher  # noqa: PLC0415 - not in a node process

    settings = Settings(
        where=acceptance.whereabouts(options),
        ec2_endpoint=options.ec2_endpoint,
        sagemaker_endpoint=options.sagemaker_endpoint,
        user_agent_extra=options.user_agent_extra,
        observer=Observer(measure=metrics, aloud=options.aws_sdk_debug_log),
    )
    async with connected(settings, condition) as cloud, Watcher(cloud) as watcher, Operations[str]() as operations:
        # The generated base answers what a servicer leaves out; only its stubs call it abstract.
        yield Controller(cloud, watcher, operations)  # type: ignore[abstract] # as said


@asynccontextmanager
async def _node(options: NodeOptions) -> AsyncGenerator["Node"]:
    """The node service, on this machine."""
    from hyperpod_ebs.csi.node import Node  # noqa: PLC0415 - not in a controller process
    from hyperpod_ebs.kit.operations import Operations  # noqa: PLC0415 - with it
    from hyperpod_ebs.linux.host import LinuxHost  # noqa: PLC0415 - not in a controller process

    host = LinuxHost(devices=options.device_directory, root=options.kubelet_root)
    async with Operations[str]() as operations:
        yield Node(host, await myself(options), operations)  # type: ignore[abstract] # as for the controller


async def myself(options: NodeOptions) -> "Myself":
    """Who this node is: as it is told, else as its instance metadata has it.

    Raises:
        Refused: It is a HyperPod node, and not told which; metadata does not know a node's cluster.
        InvalidRequest: What it is told is no node's id.
        Unavailable: It is not told, and metadata does not answer.
    """
    from hyperpod_ebs.csi.node import Myself  # noqa: PLC0415 - not in a controller process

    node_id, zone, instance_type = options.node_id, options.zone, options.instance_type
    if node_id:
        try:
            nodes.parse(node_id)
        except errors.NodeNotFound as error:
            raise errors.InvalidRequest(f"--node-id is wrong: {error}") from error
    if not (node_id and zone):
        found = await _found(options)
        node_id, zone = node_id or found.id, zone or found.zone
        instance_type = instance_type or found.type
    # A HyperPod node comes with a root and a secondary volume, a plain instance with a root.
    taken = 2 if isinstance(nodes.parse(node_id), nodes.HyperPodNode) else 1
    limit = options.volume_attach_limit
    return Myself(
        id=node_id,
        zone=zone,
        volumes=limit if limit >= 0 else limits.attachable(instance_type or "", taken=taken),
    )


async def _found(options: NodeOptions) -> "Instance":
    """This machine by its metadata, which serves for a plain instance."""
    from hyperpod_ebs.aws import imds  # noqa: PLC0415 - a node that was told who it is needs none of it

    if (options.node_name or "").startswith(_HYPERPOD):
        raise errors.Refused(f"{options.node_name} is a HyperPod node, of which metadata does not tell: {_TELL}")
    try:
        found = await imds.instance(options.metadata_endpoint)
    except errors.Unavailable as error:
        raise errors.Unavailable(f"{error}: {_IDENTITY}") from error
    if not options.node_id and found.type.startswith(_SAGEMAKER_TYPE):
        raise errors.Refused(f"this {found.type} is a HyperPod node, of which metadata does not tell: {_TELL}")
    return found
