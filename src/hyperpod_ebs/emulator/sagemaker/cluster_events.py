"""ListClusterEvents and DescribeClusterEvent."""

from dataclasses import dataclass
from typing import Any

from hyperpod_ebs.emulator.records import Cluster, ClusterEvent
from hyperpod_ebs.emulator.sagemaker.cluster_lists import page
from hyperpod_ebs.emulator.sagemaker.clusters import Clusters
from hyperpod_ebs.emulator.state.world import World, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters


@dataclass(frozen=True, slots=True)
class ClusterEvents:
    """The events of HyperPod clusters."""

    world: World
    clusters: Clusters

    operations = Operations["ClusterEvents"]()

    @operations("ListClusterEvents")
    async def list_events(self, parameters: Parameters, _: Call) -> Answer:
        """List the events of a cluster by group, node, time and type; the newest first, unless asked otherwise."""
        cluster = self._find_cluster(parameters)
        events = self.world.store.cluster_events.where("cluster", cluster.id)
        matching = [event for event in events if _is_wanted(event, parameters)]
        ordered = sorted(matching, key=lambda event: event.at)
        if parameters.get("SortOrder", "Descending") == "Descending":
            ordered.reverse()
        this_page, token = page(ordered, parameters)
        members = [self._render(cluster, event) for event in this_page]
        return await self.world.acknowledge({"Events": members, "NextToken": token})

    @operations("DescribeClusterEvent")
    async def describe_event(self, parameters: Parameters, _: Call) -> Answer:
        """Return one event of a cluster; the details of a node's event have the node's logical id."""
        cluster = self._find_cluster(parameters)
        id_ = parameters["EventId"]
        event = self.world.store.cluster_events.get(id_)
        if event is None or event.cluster != cluster.id:
            raise AwsFault("ResourceNotFound", f"Event {id_} not found in cluster {parameters['ClusterName']}.")
        details = {"EventMetadata": {"Instance": {"NodeLogicalId": event.node}}} if event.node else None
        return await self.world.acknowledge({"EventDetails": {**self._render(cluster, event), "EventDetails": details}})

    def _find_cluster(self, parameters: Parameters) -> Cluster:
        """The cluster with the requested name or ARN.

        Raises:
            AwsFault: The cluster does not exist, or its nodes are not provisioned continuously.
        """
        cluster = self.clusters.find(parameters["ClusterName"])
        if cluster.node_provisioning != "Continuous":
            text = f"Cluster {cluster.name} has no NodeProvisioningMode Continuous, which events need"
            raise AwsFault("ValidationException", text)
        return cluster

    def _render(self, cluster: Cluster, event: ClusterEvent) -> dict[str, Any]:  # the members of ClusterEventSummary
        return {
            "EventId": event.id,
            "ClusterArn": self.clusters.arn(cluster),
            "ClusterName": cluster.name,
            "InstanceGroupName": event.group or None,
            "InstanceId": event.node or None,
            "ResourceType": _resource_type(event),
            "EventTime": to_datetime(event.at),
            "Description": event.description,
            "EventLevel": "Info",
        }


def _is_wanted(event: ClusterEvent, parameters: Parameters) -> bool:
    after, before = parameters.get("EventTimeAfter"), parameters.get("EventTimeBefore")
    return (
        parameters.get("InstanceGroupName") in {None, event.group}
        and parameters.get("NodeId") in {None, event.node}
        and parameters.get("ResourceType") in {None, _resource_type(event)}
        and (after is None or event.at > after.timestamp())
        and (before is None or event.at < before.timestamp())
    )


def _resource_type(event: ClusterEvent) -> str:
    if event.node:
        return "Instance"
    return "InstanceGroup" if event.group else "Cluster"
