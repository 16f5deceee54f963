"""Which machines the cluster has, as the cloud has them: one that HyperPod brings joins, one that it takes is off.

So a node that is replaced at the cloud is replaced here, as HyperPod does it. The Node object of
one that is gone stays: on EKS another controller deletes it, here whoever looks after the cluster.
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
from localcluster.kubernetes.node import Node
from localcluster.kubernetes.site import Site

_LOOK: Final = 1.0
"""Seconds between two looks at the cloud."""

_NO_ANSWER: Final = (aiohttp.ClientError, BotoCoreError, ClientError, TimeoutError)
"""What comes of asking a cloud that is not well."""


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
            before = self.nodes
            # A cloud that does not answer has not changed either, and is asked again.
            with suppress(*_NO_ANSWER):
                await self._follow(await self._cloud.running_instances())
            if self.nodes != before:
                changed()

    async def _follow(self, running: Mapping[str, bool]) -> None:
        """Let the nodes be those which run at the cloud."""
        gone = [node for node in self.nodes if node.instance.id not in running]
        known = {node.instance.id for node in self.nodes} | self._given_up
        new = [instance for instance, of_hyperpod in running.items() if of_hyperpod and instance not in known]
        for node in gone:
            node.machine.end()
        self.nodes = tuple(node for node in self.nodes if node not in gone)
        for instance in new:
            self.nodes = (*await self._joined(await self._cloud.hyperpod_instance(instance)), *self.nodes)

    async def _joined(self, instance: Instance) -> tuple[Node, ...]:
        """The node that an instance of the HyperPod cluster has become; none if it does not come up, as a log tells."""
        self._number += 1
        try:
            node = await Node.start(self._site, instance, self._number, self._images)
        except (OSError, command.CommandFailed, Failure) as error:
            self._given_up.add(instance.id)
            said = f"{instance.name} did not become a node: {explanation(error)}\n"
            await files.off_loop((self._site.sandbox.path / "roster.log").write_text, said)
            return ()
        else:
            return (node,)
