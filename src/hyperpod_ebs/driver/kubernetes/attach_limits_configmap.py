"""The ConfigMap in which the controller publishes attach limits, and the instance types of the cluster's nodes.

Its data has an entry for each type: the key is EC2's name of the type, the value is for example `64 dedicated`.
"""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import structlog

from hyperpod_ebs.driver.kubernetes.api import ANY_VERSION, METADATA_ONLY, Api
from hyperpod_ebs.driver.kubernetes.cluster import NODES, changed_object
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.kubernetes_node import INSTANCE_TYPE
from hyperpod_ebs.driver.model.limits import AttachSlots, PublishedSlots

_NAME: Final = re.compile(r"(?P<namespace>[a-z0-9-]+)/(?P<name>[a-z0-9.-]+)")

log = structlog.get_logger()


class AttachLimitsConfigMap:
    """Implements `volumes.attach_limits.Cluster`, and `node.published_limits.Source`."""

    def __init__(self, api: Api, name: str) -> None:
        """`name` has the form namespace/name.

        Raises:
            InvalidRequest: It has another form.
        """
        found = _NAME.fullmatch(name)
        if not found:
            raise errors.InvalidRequest(
                f"--attach-limits-configmap is wrong: {name!r} is not the namespace and the name of a ConfigMap; "
                "set it to namespace/name"
            )
        self._api = api
        self._unreadable: list[str] = []
        self._path = f"/api/v1/namespaces/{found['namespace']}/configmaps/{found['name']}"

    async def watch_instance_types(self) -> AsyncGenerator[str]:
        """Yield the instance type of each node that has one, now and after each change, until the watch ends."""
        async with aclosing(self._api.watch(NODES, accept=METADATA_ONLY, resourceVersion=ANY_VERSION)) as events:
            async for event in events:
                labels = changed_object(event).get("metadata", {}).get("labels") or {}
                if instance_type := labels.get(INSTANCE_TYPE):
                    yield instance_type

    async def read_attach_slots(self) -> PublishedSlots:
        """Read the entries, without those that cannot be read."""
        published: dict[str, AttachSlots] = {}
        unreadable: list[str] = []
        for name, text in ((await self._api.get(self._path)).get("data") or {}).items():
            try:
                published[name] = AttachSlots.parse(text)
            except ValueError:
                unreadable.append(name)
        if unreadable not in ([], self._unreadable):
            log.warning("entries of the published attach limits ignored", configmap=self._path, types=unreadable)
        self._unreadable = unreadable
        return published

    async def publish_attach_slots(self, learned: PublishedSlots) -> None:
        """Add these entries, or replace the entries of these types. A merge keeps those of other replicas."""
        await self._api.merge(self._path, {"data": {name: str(slots) for name, slots in learned.items()}})
