"""The controller and the node service in one process, as the upstream driver runs them without a command."""

import uvloop

from hyperpod_ebs.driver.app.controller import open_controller
from hyperpod_ebs.driver.app.node import open_node
from hyperpod_ebs.driver.app.options import CONTROLLER, NODE, SERVING, ControllerOptions, NodeOptions, ServingOptions
from hyperpod_ebs.driver.app.process import Process
from hyperpod_ebs.driver.csi.server import Services


def run_all(
    *,
    serving: ServingOptions = SERVING,
    controller: ControllerOptions = CONTROLLER,
    node: NodeOptions = NODE,
) -> None:
    """Serve the CSI identity, controller and node services on one socket until SIGTERM or SIGINT."""
    uvloop.run(_serve(serving, controller, node))


async def _serve(serving: ServingOptions, controller: ControllerOptions, node: NodeOptions) -> None:
    process = Process.prepare(serving, controller)
    async with (
        open_node(node, serving, process.condition) as node_process,
        open_controller(controller, process) as controller_process,
    ):
        services = Services(controller=controller_process.service, node=node_process.service)
        alongside = (node_process.stay_registered(), controller_process.publish_attach_limits())
        await process.serve(services, *alongside, state=controller_process.state)
