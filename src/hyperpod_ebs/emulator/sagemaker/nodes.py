"""HyperPod clusters and nodes, listed."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from hyperpod_ebs.emulator.records import Cluster, Instance
from hyperpod_ebs.emulator.sagemaker.clusters import Clusters
from hyperpod_ebs.emulator.state.world import World, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, Asked, AwsFault, Call, Operations

R = TypeVar("R")

PAGE: Final = 100
"""The most that a page holds, and what it holds unasked."""

_PLACE: Final = re.compile(r"[0-9]{1,9}")

_STATES: Final = {"pending": "Pending", "running": "Running", "shutting-down": "ShuttingDown"}


@dataclass(frozen=True, slots=True)
class Nodes:
    """ListClusters, ListClusterNodes and DescribeClusterNode."""

    world: World
    clusters: Clusters

    name = "sagemaker"
    operations = Operations["Nodes"]()

    @operations("ListClusters")
    async def list_clusters(self, asked: Asked, _: Call) -> Answer:
        """Clusters by name and age, in pages."""
        await self.world.clock.run_due_steps()
        part = asked.get("NameContains", "").lower()
        wanted = [
            one
            for one in self.world.store.clusters.values()
            if part in one.name.lower() and _made_between(one.created, asked)
        ]
        orders: Mapping[str, Callable[[Cluster], Any]] = {  # a name or an instant
            "NAME": lambda one: one.name,
            "CREATION_TIME": lambda one: (one.created, one.id),
        }
        this, token = _page(_sorted(wanted, asked, orders), asked)
        summaries = [
            {
                "ClusterArn": self.clusters.arn(one),
                "ClusterName": one.name,
                "CreationTime": to_datetime(one.created),
                "ClusterStatus": one.state,
            }
            for one in this
        ]
        return await self.world.acknowledge({"ClusterSummaries": summaries, "NextToken": token})

    @operations("ListClusterNodes")
    async def list_nodes(self, asked: Asked, _: Call) -> Answer:
        """The nodes of a cluster by group and age, in pages."""
        await self.world.clock.run_due_steps()
        cluster = self.clusters.found(asked["ClusterName"])
        part = asked.get("InstanceGroupNameContains", "").lower()
        wanted = [
            one
            for one in self.world.store.instances.where("cluster", cluster.id)
            if part in one.group.lower() and _made_between(one.launched, asked)
        ]
        orders: Mapping[str, Callable[[Instance], Any]] = {  # a name or an instant
            "NAME": lambda one: (one.group, one.id),
            "CREATION_TIME": lambda one: (one.launched, one.id),
        }
        this, token = _page(_sorted(wanted, asked, orders), asked)
        summaries = [self._summary(cluster, one) for one in this]
        return await self.world.acknowledge({"ClusterNodeSummaries": summaries, "NextToken": token})

    @operations("DescribeClusterNode")
    async def describe_node(self, asked: Asked, _: Call) -> Answer:
        """One node of a cluster, with its place."""
        await self.world.clock.run_due_steps()
        cluster = self.clusters.found(asked["ClusterName"])
        if (id_ := asked.get("NodeId")) is None:
            raise AwsFault("ValidationException", "NodeId must be given: nodes here have no logical ids")
        node = self.world.store.instances.get(id_)
        if node is None or node.cluster != cluster.id:
            raise AwsFault("ResourceNotFound", f"Node {id_} not found in cluster {asked['ClusterName']}.")
        zone = {"AvailabilityZone": node.zone, "AvailabilityZoneId": self.world.region.zone_id(node.zone)}
        details = {**self._summary(cluster, node), "PrivatePrimaryIp": node.address, "Placement": zone}
        return await self.world.acknowledge({"NodeDetails": details})

    def _summary(self, cluster: Cluster, node: Instance) -> dict[str, Any]:  # the members of ClusterNodeSummary
        kinds = {group.name: group.kind for group in cluster.instance_groups()}
        return {
            "InstanceGroupName": node.group,
            "InstanceId": node.id,
            "InstanceType": kinds[node.group],
            "LaunchTime": to_datetime(node.launched),
            "InstanceStatus": {"Status": _STATES[node.state]},
            "PrivateDnsHostname": f"ip-{node.address.replace('.', '-')}.{self.world.region.name}.compute.internal",
        }


def _made_between(instant: float, asked: Asked) -> bool:
    after, before = asked.get("CreationTimeAfter"), asked.get("CreationTimeBefore")
    return (after is None or instant > after.timestamp()) and (before is None or instant < before.timestamp())


def _sorted(records: Sequence[R], asked: Asked, orders: Mapping[str, Callable[[R], Any]]) -> list[R]:
    backwards = asked.get("SortOrder", "Ascending") == "Descending"
    return sorted(records, key=orders[asked.get("SortBy", "CREATION_TIME")], reverse=backwards)


def _page(records: Sequence[R], asked: Asked) -> tuple[Sequence[R], str | None]:
    """The page asked for; a token is the place in the list."""
    token = asked.get("NextToken", "0")
    if not _PLACE.fullmatch(token):
        raise AwsFault("ValidationException", f"NextToken {token} is not valid")
    start = int(token)
    end = start + asked.get("MaxResults", PAGE)
    return records[start:end], str(end) if end < len(records) else None
