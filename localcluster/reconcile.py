"""Makes the cluster's nodes match the emulator's instances: starts the nodes of new ones, stops those of deleted ones.

So a node that is replaced on HyperPod is replaced here, too. The Node object of a deleted instance stays. On EKS a
controller outside of the cluster deletes it; here the user does. As long as the EKS cluster has the add-on for it, each
node runs a Pod Identity agent.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError

from hyperpod_ebs.kit import command, files
from hyperpod_ebs.sandbox.failures import Failure, explanation
from localcluster.cloud import Cloud, Instance
from localcluster.kubernetes import pod_identity_agent
from localcluster.kubernetes.infrastructure import Infrastructure
from localcluster.kubernetes.node import Node
from localcluster.machines.daemon import Daemon

AGENT_ADDON: Final = "eks-pod-identity-agent"

_INTERVAL: Final = 1.0
"""Seconds between two reads of the emulator's instances."""

_CLOUD_ERRORS: Final = (aiohttp.ClientError, BotoCoreError, ClientError, TimeoutError)
"""Errors of an emulator that is down or fails."""


class NodeReconciler:
    """The current nodes, HyperPod nodes first."""

    def __init__(
        self, infrastructure: Infrastructure, cloud: Cloud, nodes: Sequence[Node], images: Sequence[Path]
    ) -> None:
        """`images` are the image archives that a new node imports, the same as those of the existing `nodes`."""
        self.nodes = tuple(nodes)
        self._infrastructure = infrastructure
        self._cloud = cloud
        self._images = images
        self._failed: set[str] = set()
        self._agents = dict[str, Daemon]()
        """The Pod Identity agents, by the instances of their nodes."""

    async def run(self, on_change: Callable[[], None]) -> None:
        """Reconcile until cancelled, and call `on_change` whenever the nodes have changed."""
        while True:
            await asyncio.sleep(_INTERVAL)
            before = self.nodes
            with suppress(*_CLOUD_ERRORS):  # retried at the next interval
                state = await self._cloud.state()
                await self._reconcile(state.instances)
                await self._reconcile_agents(is_installed=AGENT_ADDON in state.addons)
            if self.nodes != before:
                on_change()

    async def _reconcile(self, running: Mapping[str, bool]) -> None:
        """Stop the nodes without a running instance, and start those of new HyperPod instances."""
        deleted = [node for node in self.nodes if node.instance.id not in running]
        known = {node.instance.id for node in self.nodes} | self._failed
        new = [instance for instance, is_hyperpod in running.items() if is_hyperpod and instance not in known]
        for node in deleted:
            node.machine.stop()
        self.nodes = tuple(node for node in self.nodes if node not in deleted)
        for instance in new:
            started = await self._start_node(await self._cloud.describe_hyperpod_instance(instance))
            if started:
                self.nodes = (started, *self.nodes)

    async def _reconcile_agents(self, *, is_installed: bool) -> None:
        """Run a Pod Identity agent on each node if the EKS cluster has the add-on, otherwise none."""
        wanted = {node.instance.id: node for node in self.nodes if is_installed}
        for id_ in self._agents.keys() - wanted.keys():
            with suppress(ProcessLookupError):  # it ended with its node
                self._agents.pop(id_).process.terminate()
        for id_ in wanted.keys() - self._agents.keys():
            self._agents[id_] = await pod_identity_agent.start(wanted[id_], self._cloud.client.environment)

    async def _start_node(self, instance: Instance) -> Node | None:
        """Start the node of a new instance; None if it fails, which is logged and not retried."""
        try:
            return await Node.start(self._infrastructure, instance, self._images)
        except (OSError, command.CommandFailed, Failure) as error:
            self._failed.add(instance.id)
            text = f"node {instance.name} did not start: {explanation(error)}\n"
            await files.off_loop((self._infrastructure.sandbox.path / "reconcile.log").write_text, text)
            return None
