"""Holds a node process that is to stop until its node's volumes are gone, where the node itself is leaving.

A drained node's pods end, their volumes are unmounted by this very process, and then
detached. If it stopped before them, each volume would stay attached to a node that is no
more, and its next pod would wait for Kubernetes' six minutes. Where the node stays (an
upgrade of the driver) there is nothing to wait for.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, Protocol

import structlog

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.kubernetes_node import KubernetesNode

_PAUSE: Final = 0.5
"""Seconds between two attempts at an API server that does not answer."""

_NAMED: Final = 5
"""Volumes that a sentence names; of more it says how many."""

log = structlog.get_logger()


class Cluster(Protocol):
    """This node's cluster, as far as leaving it goes."""

    async def read_node(self) -> KubernetesNode:
        """This node.

        Raises:
            NodeNotFound: It is gone.
        """
        ...

    def watch_attachments(self) -> AsyncGenerator[frozenset[str]]:
        """The volumes that are attached to this node for us, now and after each change, until the watch ends."""
        ...


class NodeDrain:
    """The end of one node process."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._left: frozenset[str] = frozenset()
        self._why = ""

    async def wait_until_detached(self, seconds: float) -> None:
        """Come back when the process may stop.

        Raises:
            TimedOut: It may not yet, after so many seconds; the text says what is left.
            Denied: The node leaves, and we may not see its attachments.
            Refused: There is no way to it.
        """
        try:
            async with asyncio.timeout(seconds):
                if await self._leaving():
                    await self._emptied()
        except TimeoutError as error:
            raise errors.TimedOut(self._sentence(seconds)) from error

    async def _leaving(self) -> bool:
        """Whether the node is on its way out, or gone already."""
        while True:
            try:
                node = await self._cluster.read_node()
            except errors.NodeNotFound:
                log.info("node is gone; waiting for its volumes to be detached")
                return True
            except errors.Denied as error:
                # At an uninstallation our rights and our account go while this hook begins; an event about it would
                # only alarm. Where the right is missing for good, the node process says so: it reads its node too.
                log.warning("cluster does not tell whether the node leaves; not waiting", why=str(error))
                return False
            except errors.Unavailable as error:
                await self._again(error)
            else:
                log.info("node leaves; waiting for its volumes" if node.leaving else "node stays", node=node.name)
                return node.leaving

    async def _emptied(self) -> None:
        """Come back when nothing is attached any more."""
        while True:
            try:
                async with aclosing(self._cluster.watch_attachments()) as looks:
                    async for self._left in looks:
                        if not self._left:
                            log.info("no volume is attached any more")
                            return
                        log.info("volumes still attached", volumes=sorted(self._left)[:_NAMED], count=len(self._left))
            except errors.Unavailable as error:
                await self._again(error)

    async def _again(self, error: errors.Unavailable) -> None:
        if str(error) != self._why:
            self._why = str(error)
            log.warning("cluster cannot be asked", why=self._why)
        await asyncio.sleep(_PAUSE)

    def _sentence(self, seconds: float) -> str:
        if not self._left:
            return f"whether volumes are still attached is not known after {seconds:g} s: {self._why or 'no answer'}"
        names = sorted(self._left)
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return (
            f"still attached after {seconds:g} s: {', '.join(names[:_NAMED])}{more}; their pods have not ended, or the "
            "detach takes long: a longer terminationGracePeriodSeconds with a larger --wait-seconds waits for it"
        )
