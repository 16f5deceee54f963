"""Where concrete classes meet, and nowhere else.

Each process imports what it needs when it starts: the node process loads neither
the AWS SDK nor an HTTP client, and `--help` loads nothing of the driver at all.
"""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from hyperpod_ebs import __version__, acceptance
from hyperpod_ebs.model import errors
from hyperpod_ebs.observe import lean
from hyperpod_ebs.options import (
    CONTROLLER,
    HOOK,
    NODE,
    SERVING,
    ControllerOptions,
    HookOptions,
    NodeOptions,
    ServingOptions,
)

if TYPE_CHECKING:
    from pathlib import Path

    from hyperpod_ebs.csi.controller import Controller
    from hyperpod_ebs.nodeapp import NodeProcess
    from hyperpod_ebs.observe.condition import Condition
    from hyperpod_ebs.observe.metrics import Metrics


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


def run_pre_stop_hook(*, hook: HookOptions = HOOK) -> None:
    """Wait, where this node is leaving its cluster, until no volume of ours is attached to it."""
    lean.load()
    asyncio.run(_depart(hook))


def run_metadata_labeler(*_: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> None:
    """Refuse: nobody has to label nodes here.

    Raises:
        InvalidRequest: Always.
    """
    raise errors.InvalidRequest(
        "metadata-labeler is not offered, and not needed: the node process reads its own labels and interfaces anew "
        "each time that kubelet asks; leave the sidecar out (sidecars.metadataLabeler.enabled=false)"
    )


async def _depart(options: HookOptions) -> None:
    from hyperpod_ebs.kubernetes.cluster import Kubernetes  # noqa: PLC0415 - after lean.load
    from hyperpod_ebs.node.departure import Departure  # noqa: PLC0415 - after lean.load
    from hyperpod_ebs.observe import log  # noqa: PLC0415 - after lean.load

    log.set_up(options.v, options.logging_format)
    async with Kubernetes.connected(options.node_name, options.kubeconfig) as cluster:
        await Departure(cluster).wait(options.wait_seconds)


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
        process = await stack.enter_async_context(_node(node, serving.kubeconfig, condition)) if node else None
        services = server.Services(
            controller=await stack.enter_async_context(_controller(controller, condition, metrics))
            if controller
            else None,
            node=process.service if process else None,
        )
        path = await stack.enter_async_context(
            server.serving(
                serving.endpoint, services, drain=serving.drain_seconds, condition=condition, measure=metrics
            )
        )
        await stack.enter_async_context(monitoring.shown(serving, condition, metrics))
        structlog.get_logger().info("serving", socket=str(path), services=services.names, version=__version__)
        if process:
            await stack.enter_async_context(process.standing())
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
    import structlog  # noqa: PLC0415 - after lean.load

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
        policy = acceptance.policy(options, lambda why: structlog.get_logger().warning("tag left out", why=why))
        # The generated base answers what a servicer leaves out; only its stubs call it abstract.
        yield Controller(cloud, watcher, operations, policy)  # type: ignore[abstract] # as said


def _node(
    options: NodeOptions, kubeconfig: "Path | None", condition: "Condition"
) -> AbstractAsyncContextManager["NodeProcess"]:
    """The node service, on this machine, and its standing in the cluster."""
    from hyperpod_ebs import nodeapp  # noqa: PLC0415 - not in a controller process

    return nodeapp.node_process(options, kubeconfig, condition)
