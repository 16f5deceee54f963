"""Remove the start-up taint from this node once kubelet has registered the driver.

The program that creates nodes puts the taint `ebs.csi.aws.com/agent-not-ready` on a new node, so that no pod with a
volume is scheduled there too early. The watch on this single node costs next to nothing and lasts as long as the
process, so a taint that is added late and a registration that takes half an hour need no special handling.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Final, Protocol

import structlog

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.kubernetes_node import STARTUP_TAINT, CsiNodeEntry, KubernetesNode, Taint

PART: Final = "start-up taint"

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0
_LONGEST_OUTAGE_PAUSE: Final = 30.0
"""Longest pause between requests to an API server that is down: thousands of nodes wait for it to come back."""
_SLOWER: Final = 1.5
_DENIED_PAUSE: Final = 300.0
"""Seconds until the next attempt after the API server has denied one."""

log = structlog.get_logger()


class Cluster(Protocol):
    """The requests to the API server that the start-up taint needs."""

    async def read_node(self) -> KubernetesNode:
        """Read this node's object.

        Raises:
            NodeNotFound: It no longer exists.
        """
        ...

    def watch_node(self) -> AsyncGenerator[KubernetesNode]:
        """Yield this node's object, now and after each change, until the watch ends."""
        ...

    async def read_csinode_entry(self) -> CsiNodeEntry | None:
        """Read the driver's entry in this node's CSINode; None if kubelet has not registered the driver."""
        ...

    async def remove_taints(self, node: KubernetesNode, taints: Iterable[Taint]) -> None:
        """Remove taints from the node; `node` is its object as last read.

        Raises:
            Conflict: The node's taints have changed since.
        """


class StartUpTaint:
    """The start-up taint of one node."""

    def __init__(self, cluster: Cluster, registered: asyncio.Event, *, has_limit: Callable[[], bool]) -> None:
        """`registered` is set when kubelet registers the driver; `has_limit` says if the node has an attach limit."""
        self._cluster = cluster
        self._registered = registered
        self._has_limit = has_limit
        self._failure = ""

    async def watch_and_remove(self) -> None:
        """Remove the taint whenever the node has it and the driver is ready, until cancelled."""
        pause = _FIRST_PAUSE
        while True:
            try:
                async with aclosing(self._cluster.watch_node()) as nodes:
                    async for node in nodes:
                        pause = _FIRST_PAUSE
                        if node.has_startup_taint:
                            await self._remove(node)
                self._log_failure("")
            except errors.Denied as error:
                self._log_failure(f"{error}; the driver does not remove the taint {STARTUP_TAINT} from this node")
                pause = _DENIED_PAUSE
            except errors.Error as error:
                self._log_failure(str(error))
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - spreads load, keeps no secret
            pause = min(pause * _SLOWER, _LONGEST_OUTAGE_PAUSE)

    async def _remove(self, node: KubernetesNode) -> None:
        """Remove the taint as soon as the driver is ready.

        Raises:
            Error: The API server refuses, or does not answer.
        """
        await self._wait_until_ready()
        while taints := [taint for taint in node.taints if taint.key == STARTUP_TAINT]:
            try:
                await self._cluster.remove_taints(node, taints)
            except errors.Conflict:
                await asyncio.sleep(_FIRST_PAUSE)
            else:
                log.info("start-up taint removed", node=node.name, taint=STARTUP_TAINT)
                return
            node = await self._cluster.read_node()

    async def _wait_until_ready(self) -> None:
        """Wait until the scheduler knows how many volumes the node takes; before that no pod may come."""
        pause = _FIRST_PAUSE
        while True:
            self._registered.clear()
            entry = await self._cluster.read_csinode_entry()
            if entry and (entry.attach_limit is not None or not self._has_limit()):
                return
            try:
                async with asyncio.timeout(pause):
                    await self._registered.wait()
            except TimeoutError:
                pause = min(pause * _SLOWER, _LONGEST_PAUSE)

    def _log_failure(self, why: str) -> None:
        """Log why the taint cannot be watched or removed, if that has changed; `why` is empty if it can."""
        if why and why != self._failure:
            log.warning("cannot watch or remove the start-up taint", why=why)
        self._failure = why
