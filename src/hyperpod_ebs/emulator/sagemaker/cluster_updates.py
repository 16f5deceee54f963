"""UpdateCluster and BatchAddClusterNodes: other settings, groups and numbers of nodes.

Sources: SageMaker API reference; SageMaker Developer Guide, "Scaling a SageMaker HyperPod
cluster" and "Continuous provisioning". The emulator terminates the newest nodes first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from hyperpod_ebs.emulator.ec2.client_tokens import ClientTokens
from hyperpod_ebs.emulator.nodes.machines import Machines
from hyperpod_ebs.emulator.records import Cluster, Instance, InstanceGroup
from hyperpod_ebs.emulator.sagemaker.clusters import Clusters, requested_groups
from hyperpod_ebs.emulator.sagemaker.event_log import record_cluster_event, record_node_event
from hyperpod_ebs.emulator.sagemaker.node_storage import check_storage, key_names
from hyperpod_ebs.emulator.sagemaker.settings import cluster_settings
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters


@dataclass(frozen=True, slots=True)
class ClusterUpdates:
    """Changes of existing HyperPod clusters."""

    world: World
    clusters: Clusters
    machines: Machines

    operations = Operations["ClusterUpdates"]()

    @operations("UpdateCluster")
    async def update(self, parameters: Parameters, call: Call) -> Answer:
        """Change settings and instance groups; nodes start and terminate until each group has its new size."""
        cluster = self.clusters.find(parameters["ClusterName"])
        continuous = cluster.node_provisioning == "Continuous" and cluster.state != "Deleting"
        if cluster.state != "InService" and not continuous:
            text = f"Cluster {cluster.name} is {cluster.state}: wait until it is InService"
            raise AwsFault("ConflictException", text)
        groups = _updated_groups(cluster, parameters)
        changed = replace(
            cluster,
            groups=tuple(asdict(group) for group in groups),
            node_recovery=parameters.get("NodeRecovery", cluster.node_recovery),
            node_provisioning=parameters.get("NodeProvisioningMode", cluster.node_provisioning),
            settings={**cluster.settings, **cluster_settings(parameters)},
        )
        check_storage(changed)
        zones = {group.name: self.clusters.zones(changed, group) for group in groups}
        self.clusters.require_room(sum(max(0, group.count - len(self._nodes(cluster, group.name))) for group in groups))
        growing = [group for group in groups if group.count > len(self._nodes(cluster, group.name))]
        self.clusters.storage.require_keys(call, growing)
        self.world.store.clusters.put(changed)
        record_cluster_event(self.world, changed, "The cluster is being updated.")
        for group in groups:
            self._resize(changed, group, zones[group.name])
        for name in parameters.get("InstanceGroupsToDelete", []):
            self._terminate(self._nodes(changed, name))
        self.clusters.mark_updating(changed.id)
        return await self.world.acknowledge({"ClusterArn": self.clusters.arn(changed)})

    @operations("BatchAddClusterNodes")
    async def add_nodes(self, parameters: Parameters, call: Call) -> Answer:
        """Add nodes to instance groups of a cluster whose nodes are provisioned continuously."""
        cluster = self.clusters.find(parameters["ClusterName"])
        if cluster.node_provisioning != "Continuous":
            text = f"Cluster {cluster.name} has no NodeProvisioningMode Continuous: use UpdateCluster to add nodes"
            raise AwsFault("ValidationException", text)
        if cluster.state == "Deleting":
            raise AwsFault("ValidationException", f"Cluster {cluster.name} is being deleted")
        tokens = ClientTokens(self.world.store, "BatchAddClusterNodes")
        if earlier := tokens.earlier_ids(parameters, cluster.id):
            nodes = [self.world.store.instances[id_] for id_ in earlier if id_ in self.world.store.instances]
            return {"Successful": [_render(node) for node in nodes], "Failed": []}
        self.clusters.require_room(sum(wanted["IncrementTargetCountBy"] for wanted in parameters["NodesToAdd"]))
        wanted_groups = {wanted["InstanceGroupName"] for wanted in parameters["NodesToAdd"]}
        groups_to_grow = [group for group in cluster.instance_groups() if group.name in wanted_groups]
        self.clusters.storage.require_keys(call, groups_to_grow)
        added: list[Instance] = []
        failed: list[Mapping[str, Any]] = []  # Any: the members of BatchAddClusterNodesError
        for wanted in parameters["NodesToAdd"]:
            groups = {group.name: group for group in self.world.store.clusters[cluster.id].instance_groups()}
            group = groups.get(wanted["InstanceGroupName"])
            if (error := self._error(cluster, group, wanted)) or group is None:
                failed.append(error)
                continue
            zones = self._zones(cluster, group, wanted)
            count = wanted["IncrementTargetCountBy"]
            added += [self.clusters.add_node(cluster, group, zones[number % len(zones)]) for number in range(count)]
            self._put_groups(cluster.id, {**groups, group.name: replace(group, count=group.count + count)})
        tokens.remember(parameters, cluster.id, [node.id for node in added])
        return await self.world.acknowledge({"Successful": [_render(node) for node in added], "Failed": failed})

    def _error(
        self, cluster: Cluster, group: InstanceGroup | None, wanted: Mapping[str, Any]
    ) -> dict[str, Any]:  # the members of NodeAdditionResult and BatchAddClusterNodesError
        """The reason why no nodes can be added; empty if they can."""
        name, count = wanted["InstanceGroupName"], wanted["IncrementTargetCountBy"]
        if group is None:
            code, text = "InstanceGroupNotFound", f"Cluster {cluster.name} has no instance group {name}."
        elif not self._zones(cluster, group, wanted):
            code, text = "IncompatibleAvailabilityZones", f"Instance group {name} has no subnet in these zones."
        elif group.kind not in wanted.get("InstanceTypes", [group.kind]):
            code, text = "IncompatibleInstanceTypes", f"Instance group {name} has instances of type {group.kind}."
        else:
            return {}
        return {"InstanceGroupName": name, "ErrorCode": code, "FailedCount": count, "Message": text}

    def _zones(self, cluster: Cluster, group: InstanceGroup, wanted: Mapping[str, Any]) -> list[str]:
        """The zones of the group among the wanted ones, which are names or ids."""
        zones = self.clusters.zones(cluster, group)
        chosen = wanted.get("AvailabilityZones") or zones
        return [zone for zone in zones if {zone, self.world.region.zone_id(zone)} & set(chosen)]

    def _resize(self, cluster: Cluster, group: InstanceGroup, zones: Sequence[str]) -> None:
        nodes = self._nodes(cluster, group.name)
        for number in range(len(nodes), group.count):
            self.clusters.add_node(cluster, group, zones[number % len(zones)])
        self._terminate(nodes[group.count :])

    def _nodes(self, cluster: Cluster, group: str) -> list[Instance]:
        """The nodes of a group that run or start, the oldest first."""
        nodes = self.world.store.instances.where("cluster", cluster.id)
        live = [node for node in nodes if node.group == group and node.state in {"pending", "running"}]
        return sorted(live, key=lambda node: node.launched)

    def _terminate(self, nodes: Sequence[Instance]) -> None:
        for node in nodes:
            self.machines.terminate(node)
            record_node_event(self.world, node, "The node is being terminated.")

    def _put_groups(self, cluster: str, groups: Mapping[str, InstanceGroup]) -> None:
        current = self.world.store.clusters[cluster]
        self.world.store.clusters.put(replace(current, groups=tuple(asdict(group) for group in groups.values())))


def _updated_groups(cluster: Cluster, parameters: Parameters) -> list[InstanceGroup]:
    """The groups of the cluster after the request, which keep the settings that it does not name.

    Raises:
        AwsFault: The request changes a group's type or keys, or deletes a group that does not exist.
    """
    groups = {group.name: group for group in cluster.instance_groups()}
    for new in requested_groups(parameters):
        old = groups.get(new.name)
        if old is not None and (old.kind, old.restricted) != (new.kind, new.restricted):
            raise AwsFault("ValidationException", f"The instance type of group {new.name} cannot be changed")
        changed = replace(new, settings={**old.settings, **new.settings}) if old else new
        if old is not None and key_names(old) != key_names(changed):
            raise AwsFault("ValidationException", f"The KMS keys of group {new.name} cannot be changed")
        groups[new.name] = changed
    for name in parameters.get("InstanceGroupsToDelete", []):
        if groups.pop(name, None) is None:
            raise AwsFault("ValidationException", f"Cluster {cluster.name} has no instance group {name}")
    return list(groups.values())


def _render(node: Instance) -> dict[str, Any]:  # the members of NodeAdditionResult
    """A node that is being added; the emulator's logical ids are the nodes' own ids."""
    return {"NodeLogicalId": node.id, "InstanceGroupName": node.group, "Status": "Pending"}
