"""The controller process: where the CSI controller service meets AWS."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import structlog
import uvloop

from hyperpod_ebs.driver.app.options import CONTROLLER, SERVING, ControllerOptions, ServingOptions
from hyperpod_ebs.driver.app.process import Process
from hyperpod_ebs.driver.aws.call_observer import CallObserver
from hyperpod_ebs.driver.aws.clients import Settings
from hyperpod_ebs.driver.aws.connection import connect
from hyperpod_ebs.driver.csi.controller import Controller
from hyperpod_ebs.driver.csi.server import Services
from hyperpod_ebs.driver.volumes.watch import Watcher
from hyperpod_ebs.kit.operations import Operations


def run_controller(*, serving: ServingOptions = SERVING, controller: ControllerOptions = CONTROLLER) -> None:
    """Serve the CSI identity and controller services until SIGTERM or SIGINT."""
    uvloop.run(_serve(serving, controller))


async def _serve(serving: ServingOptions, options: ControllerOptions) -> None:
    process = Process.prepare(serving, options)
    async with open_controller(options, process) as service:
        await process.serve(Services(controller=service))


@asynccontextmanager
async def open_controller(options: ControllerOptions, process: Process) -> AsyncGenerator[Controller]:
    """Yield the controller service, connected to AWS while the block runs."""
    settings = Settings(
        scope=options.aws_scope(),
        ec2_endpoint=options.ec2_endpoint,
        sagemaker_endpoint=options.sagemaker_endpoint,
        user_agent_extra=options.user_agent_extra,
        observer=CallObserver(counter=process.metrics, logs_bodies=options.aws_sdk_debug_log),
    )
    async with (
        connect(settings, process.condition) as cloud,
        Watcher(cloud) as watcher,
        Operations[str]() as operations,
    ):
        policy = options.tag_policy(lambda reason: structlog.get_logger().warning("tag left out", why=reason))
        # The generated base class implements every method (UNIMPLEMENTED); only its type stubs declare them abstract.
        yield Controller(cloud, watcher, operations, policy)  # type: ignore[abstract]
