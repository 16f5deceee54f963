"""ListClusters, ListClusterNodes and DescribeClusterNode."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from hyperpod_ebs.emulator.nodes.machines import private_dns_name
from hyperpod_ebs.emulator.records import Cluster, Instance
from hyperpod_ebs.emulator.sagemaker.clusters import Clusters
from hyperpod_ebs.emulator.sagemaker.settings import NODE
from hyperpod_ebs.emulator.state.world import World, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

R = TypeVar("R")

PAGE_SIZE: Final = 100
"""The largest page, and the default."""

_POSITION: Final = re.compile(r"[0-9]{1,9}")

_STATES: Final = {"pending": "Pending", "running": "Running", "shutting-down": "ShuttingDown"}


@dataclass(frozen=True, slots=True)
class ClusterLists:
    """The operations that list HyperPod clusters and nodes, or describe a node."""

    world: World
    clusters: Clusters

    operations = Operations["ClusterLists"]()

    @operations("ListClusters")
    async def list_clusters(self, parameters: Parameters, _: Call) -> Answer:
        """List clusters by name and creation time."""
        part = parameters.get("NameContains", "").lower()
        matching = [
            cluster
            for cluster in self.world.store.clusters.values()
            if part in cluster.name.lower() and _is_in_time_range(cluster.created, parameters)
        ]
        orders: Mapping[str, Callable[[Cluster], Any]] = {  # sort keys
            "NAME": lambda cluster: cluster.name,
            "CREATION_TIME": lambda cluster: (cluster.created, cluster.id),
        }
        this_page, token = page(_sort(matching, parameters, orders), parameters)
        summaries = [
            {
                "ClusterArn": self.clusters.arn(cluster),
                "ClusterName": cluster.name,
                "CreationTime": to_datetime(cluster.created),
                "ClusterStatus": cluster.state,
            }
            for cluster in this_page
        ]
        return await self.world.acknowledge({"ClusterSummaries": summaries, "NextToken": token})

    @operations("ListClusterNodes")
    async def list_nodes(self, parameters: Parameters, _: Call) -> Answer:
        """List the nodes of a cluster by instance group and creation time."""
        cluster = self.clusters.find(parameters["ClusterName"])
        part = parameters.get("InstanceGroupNameContains", "").lower()
        matching = [
            node
            for node in self.world.shown.instances.where("cluster", cluster.id)
            if part in node.group.lower() and _is_in_time_range(node.launched, parameters)
        ]
        orders: Mapping[str, Callable[[Instance], Any]] = {  # sort keys
            "NAME": lambda node: (node.group, node.id),
            "CREATION_TIME": lambda node: (node.launched, node.id),
        }
        this_page, token = page(_sort(matching, parameters, orders), parameters)
        has_logical_ids = parameters.get("IncludeNodeLogicalIds", False)
        summaries = [
            {**self._summary(cluster, node), "NodeLogicalId": _logical_id(cluster, node) if has_logical_ids else None}
            for node in this_page
        ]
        return await self.world.acknowledge({"ClusterNodeSummaries": summaries, "NextToken": token})

    @operations("DescribeClusterNode")
    async def describe_node(self, parameters: Parameters, _: Call) -> Answer:
        """Return one node of a cluster, with its availability zone."""
        cluster = self.clusters.find(parameters["ClusterName"])
        if (id_ := parameters.get("NodeId") or parameters.get("NodeLogicalId")) is None:
            raise AwsFault("ValidationException", "NodeId or NodeLogicalId must be given")
        node = self.world.shown.instances.get(id_)
        if node is None or node.cluster != cluster.id:
            raise AwsFault("ResourceNotFound", f"Node {id_} not found in cluster {parameters['ClusterName']}.")
        zone = {"AvailabilityZone": node.zone, "AvailabilityZoneId": self.world.region.zone_id(node.zone)}
        groups = {group.name: group.settings for group in cluster.instance_groups()}
        settings = groups.get(node.group, {})
        details = {
            **self._summary(cluster, node),
            "NodeLogicalId": _logical_id(cluster, node),
            "PrivatePrimaryIp": node.address,
            "Placement": zone,
            **{name: settings[name] for name in NODE if name in settings},
        }
        return await self.world.acknowledge({"NodeDetails": details})

    def _summary(self, cluster: Cluster, node: Instance) -> dict[str, Any]:  # the members of ClusterNodeSummary
        kinds = {group.name: group.kind for group in cluster.instance_groups()}
        return {
            "InstanceGroupName": node.group,
            "InstanceId": node.id,
            "InstanceType": kinds.get(node.group, f"ml.{node.kind}"),  # a deleted group's nodes end later
            "LaunchTime": to_datetime(node.launched),
            "InstanceStatus": {"Status": _STATES[node.state]},
            "PrivateDnsHostname": private_dns_name(self.world, node),
        }


def _logical_id(cluster: Cluster, node: Instance) -> str | None:
    """The node's logical id, which is its own id here; only nodes that are provisioned continuously have one."""
    return node.id if cluster.node_provisioning == "Continuous" else None


def _is_in_time_range(created: float, parameters: Parameters) -> bool:
    after, before = parameters.get("CreationTimeAfter"), parameters.get("CreationTimeBefore")
    return (after is None or created > after.timestamp()) and (before is None or created < before.timestamp())


def _sort(records: Sequence[R], parameters: Parameters, orders: Mapping[str, Callable[[R], Any]]) -> list[R]:
    descending = parameters.get("SortOrder", "Ascending") == "Descending"
    return sorted(records, key=orders[parameters.get("SortBy", "CREATION_TIME")], reverse=descending)


def page(records: Sequence[R], parameters: Parameters) -> tuple[Sequence[R], str | None]:
    """The requested page, and the token of the next one; a token is a position in the list."""
    token = parameters.get("NextToken", "0")
    if not _POSITION.fullmatch(token):
        raise AwsFault("ValidationException", f"NextToken {token} is not valid")
    start = int(token)
    end = start + parameters.get("MaxResults", PAGE_SIZE)
    return records[start:end], str(end) if end < len(records) else None
