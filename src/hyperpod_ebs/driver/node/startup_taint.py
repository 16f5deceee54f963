"""Takes the start-up taint off this node once kubelet knows the driver, whenever that is.

Whoever makes nodes puts `ebs.csi.aws.com/agent-not-ready` on a new one, so that no pod
with a volume lands on it too early. The watch on the one node costs next to nothing and
lasts as long as the process: a taint that comes late, or a registration that takes half
an hour, is no exception.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Final, Protocol

import structlog

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.kubernetes_node import NOT_READY, CsiNodeEntry, KubernetesNode, Taint

PART: Final = "start-up taint"

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0
_LONGEST_AWAY: Final = 30.0
"""Seconds between attempts at an API server that is away: thousands of nodes wait for it to come back."""
_SLOWER: Final = 1.5
_REST: Final = 300.0
"""Seconds until it is tried again where the API server forbids it."""

log = structlog.get_logger()


class Cluster(Protocol):
    """This node's cluster, as far as taints go."""

    async def read_node(self) -> KubernetesNode:
        """This node.

        Raises:
            NodeNotFound: It is gone.
        """
        ...

    def watch_node(self) -> AsyncGenerator[KubernetesNode]:
        """This node as it is, and after each change, until the watch ends."""
        ...

    async def csinode_entry(self) -> CsiNodeEntry | None:
        """What the CSINode says of our driver; None while kubelet has not taken it."""
        ...

    async def remove_taints(self, node: KubernetesNode, taints: Iterable[Taint]) -> None:
        """Take taints off the node as it was read.

        Raises:
            Conflict: The taints have changed since.
        """


class StartUpTaint:
    """The taint of one node."""

    def __init__(self, cluster: Cluster, taken: asyncio.Event, *, has_limit: Callable[[], bool]) -> None:
        """`taken` is set when kubelet has taken the driver; `has_limit` says whether the node has an attach limit."""
        self._cluster = cluster
        self._taken = taken
        self._has_limit = has_limit
        self._told = ""

    async def watch_and_remove(self) -> None:
        """Take it off whenever it is there and the driver is ready, until cancelled."""
        pause = _FIRST_PAUSE
        while True:
            try:
                async with aclosing(self._cluster.watch_node()) as nodes:
                    async for node in nodes:
                        pause = _FIRST_PAUSE
                        if node.has_startup_taint:
                            await self._take_off(node)
                self._tell("")
            except errors.Denied as error:
                self._tell(f"{error}; the taint {NOT_READY} is left to whoever set it")
                pause = _REST
            except errors.Error as error:
                self._tell(str(error))
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - spreads load, keeps no secret
            pause = min(pause * _SLOWER, _LONGEST_AWAY)

    async def _take_off(self, node: KubernetesNode) -> None:
        """Take it off as soon as the driver is ready.

        Raises:
            Error: The API server does not let us.
        """
        await self._ready()
        while ours := [taint for taint in node.taints if taint.key == NOT_READY]:
            try:
                await self._cluster.remove_taints(node, ours)
            except errors.Conflict:
                await asyncio.sleep(_FIRST_PAUSE)
            else:
                log.info("start-up taint removed", node=node.name, taint=NOT_READY)
                return
            node = await self._cluster.read_node()

    async def _ready(self) -> None:
        """Wait until the scheduler knows how many volumes the node takes: only then may pods come."""
        pause = _FIRST_PAUSE
        while True:
            self._taken.clear()
            enrolled = await self._cluster.csinode_entry()
            if enrolled and (enrolled.volumes is not None or not self._has_limit()):
                return
            try:
                async with asyncio.timeout(pause):
                    await self._taken.wait()
            except TimeoutError:
                pause = min(pause * _SLOWER, _LONGEST_PAUSE)

    def _tell(self, why: str) -> None:
        if why and why != self._told:
            log.warning("start-up taint cannot be watched", why=why)
        self._told = why
