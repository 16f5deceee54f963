"""The controller process: where the CSI controller service meets AWS."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass

import structlog
import uvloop

from hyperpod_ebs.driver.app.options import CONTROLLER, SERVING, ControllerOptions, ServingOptions
from hyperpod_ebs.driver.app.process import Process
from hyperpod_ebs.driver.aws.call_observer import CallObserver
from hyperpod_ebs.driver.aws.clients import Settings
from hyperpod_ebs.driver.aws.connection import connect
from hyperpod_ebs.driver.csi.controller import Controller
from hyperpod_ebs.driver.csi.server import Services
from hyperpod_ebs.driver.kubernetes.api import open_api
from hyperpod_ebs.driver.kubernetes.attach_limits_configmap import AttachLimitsConfigMap
from hyperpod_ebs.driver.volumes.attach_limits import AttachLimits
from hyperpod_ebs.driver.volumes.governor import Governor
from hyperpod_ebs.driver.volumes.watch import Watcher
from hyperpod_ebs.kit.operations import Operations


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerProcess:
    """The controller service, the calls to AWS that it makes, and what it publishes for the node processes."""

    service: Controller
    governor: Governor
    attach_limits: AttachLimits | None

    def state(self) -> Mapping[str, object]:
        """What /debug/state shows of this process besides the running operations."""
        return {"aws_calls": self.governor.states()}

    def publish_attach_limits(self) -> AbstractAsyncContextManager[None]:
        """Publish the attach limits of new instance types while the block runs."""
        return self.attach_limits.publish() if self.attach_limits else nullcontext()


def run_controller(*, serving: ServingOptions = SERVING, controller: ControllerOptions = CONTROLLER) -> None:
    """Serve the CSI identity and controller services until SIGTERM or SIGINT."""
    uvloop.run(_serve(serving, controller))


async def _serve(serving: ServingOptions, options: ControllerOptions) -> None:
    process = Process.prepare(serving, options)
    async with open_controller(options, process) as controller:
        services, publishing = Services(controller=controller.service), controller.publish_attach_limits()
        await process.serve(services, publishing, state=controller.state)


@asynccontextmanager
async def open_controller(options: ControllerOptions, process: Process) -> AsyncGenerator[ControllerProcess]:
    """Yield the controller service, connected to AWS while the block runs.

    Raises:
        InvalidRequest: An option has an invalid value.
    """
    settings = Settings(
        scope=options.aws_scope(),
        ec2_endpoint=options.ec2_endpoint,
        sagemaker_endpoint=options.sagemaker_endpoint,
        user_agent_extra=options.user_agent_extra,
        observer=CallObserver(counter=process.metrics, logs_bodies=options.aws_sdk_debug_log),
    )
    governor = Governor(process.metrics)
    if process.metrics:
        process.metrics.show_lines(governor.states)
    async with (
        connect(settings, process.condition, governor) as cloud,
        Watcher(cloud, rate=governor.rate, delay=governor.longest_delay) as watcher,
        Operations[str]() as operations,
        open_api(process.options.kubeconfig) as api,
    ):
        policy = options.tag_policy(lambda reason: structlog.get_logger().warning("tag left out", why=reason))
        configmap = process.options.attach_limits_configmap
        yield ControllerProcess(
            # The generated base class implements every method (UNIMPLEMENTED); its type stubs declare them abstract.
            service=Controller(  # type: ignore[abstract] # as said
                cloud, watcher, operations, policy, modification_window=options.modification_window()
            ),
            governor=governor,
            attach_limits=AttachLimits(AttachLimitsConfigMap(api, configmap), cloud) if configmap else None,
        )
