"""The pre-stop hook of the node's container: it keeps the node process alive until the volumes are detached."""

import asyncio

from hyperpod_ebs.driver.app.options import HOOK, HookOptions
from hyperpod_ebs.driver.kubernetes.api import open_api
from hyperpod_ebs.driver.kubernetes.cluster import Kubernetes
from hyperpod_ebs.driver.node.drain import NodeDrain
from hyperpod_ebs.driver.observe import log


def run_pre_stop_hook(*, hook: HookOptions = HOOK) -> None:
    """Wait until no volume is attached to this node, if the node is being drained or removed."""
    asyncio.run(_wait(hook))


async def _wait(options: HookOptions) -> None:
    log.configure(options.v, options.logging_format)
    async with open_api(options.kubeconfig) as api:
        await NodeDrain(Kubernetes(api, options.node_name or "")).wait_until_detached(options.wait_seconds)
