"""Which machines the cluster has, as the cloud has them: one that HyperPod brings joins, one that it takes is off.

So a node that is replaced at the cloud is replaced here, as HyperPod does it. The Node object of
one that is gone stays: on EKS another controller deletes it, here whoever looks after the cluster.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import aiohttp

from hyperpod_ebs.kit import command, files
from localcluster.cloud import Cloud
from localcluster.kubernetes.node import Node
from localcluster.kubernetes.site import Site

_LOOK: Final = 1.0
"""Seconds between two looks at the cloud."""


class Roster:
    """The nodes there are now, those of HyperPod first."""

    def __init__(self, site: Site, cloud: Cloud, nodes: Sequence[Node], images: Sequence[Path]) -> None:
        """`images` are the archives that a new node gets, as those did which are there already."""
        self.nodes = tuple(nodes)
        self._site = site
        self._cloud = cloud
        self._images = images
        self._number = max(node.machine.number for node in nodes)
        self._given_up: set[str] = set()

    async def keep(self, changed: Callable[[], None]) -> None:
        """Follow the cloud for ever; `changed` is called whenever the nodes are others."""
        while True:
            await asyncio.sleep(_LOOK)
            # A cloud that does not answer has not changed either.
            with suppress(aiohttp.ClientError, TimeoutError):
                if await self._follow(await self._cloud.running_instances()):
                    changed()

    async def _follow(self, running: Mapping[str, bool]) -> bool:
        """Whether the nodes are others, now that they are those which run at the cloud."""
        gone = [node for node in self.nodes if node.instance.id not in running]
        known = {node.instance.id for node in self.nodes} | self._given_up
        new = [instance for instance, of_hyperpod in running.items() if of_hyperpod and instance not in known]
        for node in gone:
            with suppress(ProcessLookupError):
                os.kill(node.machine.namespace.holder, signal.SIGKILL)
        self.nodes = tuple(node for node in self.nodes if node not in gone)
        for instance in new:
            self.nodes = (*await self._joined(instance), *self.nodes)
        return bool(gone or new)

    async def _joined(self, instance: str) -> tuple[Node, ...]:
        """The node that a machine of the HyperPod cluster has become; none if it does not come up, as a log tells."""
        self._number += 1
        try:
            found = await self._cloud.hyperpod_instance(instance)
            node = await Node.start(self._site, found, self._number, self._images)
        except (OSError, TimeoutError, command.CommandFailed) as error:
            self._given_up.add(instance)
            said = f"{instance} did not become a node: {error}\n"
            await files.off_loop(lambda: (self._site.sandbox.path / "roster.log").write_text(said))
            return ()
        else:
            return (node,)
