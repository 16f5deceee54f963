"""Keep the node process of a leaving node running until the node's volumes are detached.

When a node is drained, its pods end, this process unmounts their volumes, and the volumes are detached. If this process
stopped before, each volume would stay attached to a node that no longer exists, and the volume's next pod would wait
for six minutes, Kubernetes' limit. If the node stays, for example during an upgrade of the driver, there is nothing to
wait for.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, Protocol

import structlog

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.kubernetes_node import KubernetesNode

_PAUSE: Final = 0.5
"""Seconds until the next request to an API server that does not answer."""

_NAMED: Final = 5
"""Number of volumes that a message names; the rest are counted."""

log = structlog.get_logger()


class Cluster(Protocol):
    """The requests to the API server that a drain needs."""

    async def read_node(self) -> KubernetesNode:
        """Read this node's object.

        Raises:
            NodeNotFound: It no longer exists.
        """
        ...

    def watch_attachments(self) -> AsyncGenerator[frozenset[str]]:
        """Yield the driver's volumes that are attached to this node, now and after each change."""
        ...


class NodeDrain:
    """The wait of one node process before it stops."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._attached: frozenset[str] = frozenset()
        self._failure = ""

    async def wait_until_detached(self, seconds: float) -> None:
        """Return when the process may stop: at once if the node stays.

        Raises:
            TimedOut: Volumes are still attached after `seconds`; the text names them.
            Denied: The node is leaving, and the process may not read its attachments.
            Refused: The options do not lead to an API server.
        """
        try:
            async with asyncio.timeout(seconds):
                if await self._is_leaving():
                    await self._watch_until_detached()
        except TimeoutError as error:
            raise errors.TimedOut(self._timeout_message(seconds)) from error

    async def _is_leaving(self) -> bool:
        """Whether the node is being drained or no longer exists."""
        while True:
            try:
                node = await self._cluster.read_node()
            except errors.NodeNotFound:
                log.info("node no longer exists; waiting for its volumes to be detached")
                return True
            except errors.Denied as error:
                # During an uninstallation the rights and the service account are deleted while this hook starts, and
                # a failure event would only alarm. If the right is missing for good, the node process reports that:
                # it reads its node too.
                log.warning("cannot read the node; not waiting for its volumes", why=str(error))
                return False
            except errors.Unavailable as error:
                await self._log_and_pause(error)
            else:
                if node.is_leaving:
                    log.info("node is leaving; waiting for its volumes to be detached", node=node.name)
                else:
                    log.info("node is not leaving; not waiting for its volumes", node=node.name)
                return node.is_leaving

    async def _watch_until_detached(self) -> None:
        while True:
            try:
                async with aclosing(self._cluster.watch_attachments()) as attachments:
                    async for self._attached in attachments:
                        if not self._attached:
                            log.info("all volumes are detached")
                            return
                        log.info(
                            "volumes still attached",
                            volumes=sorted(self._attached)[:_NAMED],
                            count=len(self._attached),
                        )
            except errors.Unavailable as error:
                await self._log_and_pause(error)

    async def _log_and_pause(self, error: errors.Unavailable) -> None:
        if str(error) != self._failure:
            self._failure = str(error)
            log.warning("API server does not answer", why=self._failure)
        await asyncio.sleep(_PAUSE)

    def _timeout_message(self, seconds: float) -> str:
        if not self._attached:
            failure = self._failure or "no answer from the API server"
            return f"cannot find out within {seconds:g} s whether volumes are still attached: {failure}"
        names = sorted(self._attached)
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return (
            f"still attached after {seconds:g} s: {', '.join(names[:_NAMED])}{more}; their pods have not ended, or the "
            "detach takes long: to wait longer, raise terminationGracePeriodSeconds and --wait-seconds"
        )
