"""CreateCluster, DeleteCluster and DescribeCluster: HyperPod clusters with their nodes."""

import secrets
import string
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any, Final

from hyperpod_ebs.emulator.eks.arns import cluster_arn
from hyperpod_ebs.emulator.nodes.machines import MAX_MACHINES, Machines
from hyperpod_ebs.emulator.records import Cluster, Instance, InstanceGroup
from hyperpod_ebs.emulator.sagemaker.event_log import forget_events, record_cluster_event, record_node_event
from hyperpod_ebs.emulator.sagemaker.node_storage import NodeStorage, check_storage
from hyperpod_ebs.emulator.sagemaker.settings import (
    cluster_settings,
    group_settings,
    render_cluster_settings,
    render_group_settings,
)
from hyperpod_ebs.emulator.state.world import World, new_id, now, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

_ALPHABET: Final = string.ascii_lowercase + string.digits

HOP_LIMIT: Final = 1
"""How many hops a session token of a node's metadata travels: pods on the node cannot get one."""

DEFAULT_TYPE: Final = "ml.m5.large"


class Clusters:
    """The HyperPod clusters of the account."""

    operations = Operations["Clusters"]()

    def __init__(self, world: World, machines: Machines, storage: NodeStorage) -> None:
        self._world = world
        self.storage = storage
        self._store = world.store
        self._machines = machines
        world.clock.register("cluster in service", self._finish_change)
        world.clock.register("cluster gone", self._remove)

    @operations("CreateCluster")
    async def create(self, parameters: Parameters, call: Call) -> Answer:
        """Create a cluster in status Creating, and start the nodes of its instance groups."""
        cluster = self._new_cluster(parameters)
        check_storage(cluster)
        self.require_room(sum(group.count for group in cluster.instance_groups()))
        zones = {group.name: self.zones(cluster, group) for group in cluster.instance_groups()}
        self.storage.require_keys(call, cluster.instance_groups())
        self._store.clusters.put(cluster)
        record_cluster_event(self._world, cluster, "The cluster is being created.")
        groups = [group for group in cluster.instance_groups() for _ in range(group.count)]
        for number, group in enumerate(groups):
            self.add_node(cluster, group, zones[group.name][number % len(zones[group.name])])
        self._world.clock.schedule(cluster.id, "cluster in service")
        return await self._world.acknowledge({"ClusterArn": self.arn(cluster)})

    @operations("DeleteCluster")
    async def delete(self, parameters: Parameters, _: Call) -> Answer:
        """Start to delete a cluster and to terminate its nodes; it is in status Deleting."""
        cluster = self.find(parameters["ClusterName"])
        if cluster.state != "Deleting":
            self._store.clusters.put(replace(cluster, state="Deleting"))
            record_cluster_event(self._world, cluster, "The cluster is being deleted.")
            for node in self._store.instances.where("cluster", cluster.id):
                self._machines.terminate(node)
            self._world.clock.schedule(cluster.id, "cluster gone")
        return await self._world.acknowledge({"ClusterArn": self.arn(cluster)})

    @operations("DescribeCluster")
    async def describe(self, parameters: Parameters, _: Call) -> Answer:
        """Return the cluster with this name or ARN."""
        return await self._world.acknowledge(self._render(self.find(parameters["ClusterName"])))

    def arn(self, cluster: Cluster) -> str:
        """The cluster's ARN."""
        return self._world.region.arn("sagemaker", f"cluster/{cluster.id}")

    def find(self, name_or_arn: str) -> Cluster:
        """The cluster with this name or ARN.

        Raises:
            AwsFault: ResourceNotFound.
        """
        for cluster in self._store.clusters.values():
            if name_or_arn in {cluster.name, self.arn(cluster)}:
                return cluster
        raise AwsFault("ResourceNotFound", f"Cluster with name or ARN {name_or_arn} not found.")

    def _new_cluster(self, parameters: Parameters) -> Cluster:
        """The requested cluster.

        Raises:
            AwsFault: The request is invalid.
        """
        if any(cluster.name == parameters["ClusterName"] for cluster in self._store.clusters.values()):
            raise AwsFault("ResourceInUse", f"Cluster with name {parameters['ClusterName']} already exists.")
        vpc = parameters.get("VpcConfig", {})
        return Cluster(
            id="".join(secrets.choice(_ALPHABET) for _ in range(12)),
            name=parameters["ClusterName"],
            created=now(),
            eks=self._orchestrator(parameters.get("Orchestrator", {})),
            groups=tuple(asdict(group) for group in requested_groups(parameters)),
            subnets=tuple(vpc.get("Subnets", ())),
            security_groups=tuple(vpc.get("SecurityGroupIds", ())),
            node_recovery=parameters.get("NodeRecovery", "Automatic"),
            node_provisioning=parameters.get("NodeProvisioningMode"),
            settings=cluster_settings(parameters),
            tags={tag["Key"]: tag["Value"] for tag in parameters.get("Tags", [])},
        )

    def _orchestrator(self, parameters: Mapping[str, Any]) -> str | None:  # the members of ClusterOrchestrator
        """The ARN of the EKS cluster; None for Slurm.

        Raises:
            AwsFault: The EKS cluster does not exist or is not active.
        """
        if "Eks" not in parameters:
            return None
        arn: str = parameters["Eks"]["ClusterArn"]
        name = next((name for name in self._store.eks_clusters if cluster_arn(self._world.region, name) == arn), None)
        if name is None:
            raise AwsFault("ValidationException", f"EKS cluster {arn} does not exist: create it first")
        if (state := self._store.eks_clusters[name].state) != "ACTIVE":
            raise AwsFault("ValidationException", f"EKS cluster {arn} is {state}, not ACTIVE")
        return arn

    def zones(self, cluster: Cluster, group: InstanceGroup) -> list[str]:
        """The zones of the group's own subnets or the cluster's, over which nodes are spread; else the first zone.

        Raises:
            AwsFault: A subnet does not exist.
        """
        region, own = self._world.region, group.settings.get("OverrideVpcConfig")
        subnets = own["Subnets"] if isinstance(own, Mapping) else cluster.subnets or [region.zones[0].subnet]
        zones = {zone.subnet: zone.name for zone in region.zones}
        if unknown := [subnet for subnet in subnets if subnet not in zones]:
            raise AwsFault("ValidationException", f"The subnet ID '{unknown[0]}' does not exist")
        return [zones[subnet] for subnet in subnets]

    def require_room(self, count: int) -> None:
        """Refuse more nodes than the account can have.

        Raises:
            AwsFault: ResourceLimitExceeded.
        """
        if not self._machines.has_room(count):
            text = f"The account-level limit of {MAX_MACHINES} instances does not allow {count} more nodes."
            raise AwsFault("ResourceLimitExceeded", text)

    def add_node(self, cluster: Cluster, group: InstanceGroup, zone: str) -> Instance:
        """Start a node of the group in a zone, with its secondary volume."""
        kind = group.kind.removeprefix("ml.")
        node = Instance(
            id=new_id("i"), kind=kind, zone=zone, cluster=cluster.id, group=group.name, metadata_hop_limit=HOP_LIMIT
        )
        record_node_event(self._world, node, "The node is being added.")
        started = self._machines.start(node)
        self.storage.add_volume(started, group)
        return started

    def mark_updating(self, id_: str) -> None:
        """Make the cluster Updating until its nodes have started or terminated, unless they change continuously."""
        cluster = self._store.clusters[id_]
        if cluster.node_provisioning != "Continuous" and cluster.state != "Creating":
            self._store.clusters.put(replace(cluster, state="Updating"))
            self._world.clock.schedule(cluster.id, "cluster in service")

    def _render(self, cluster: Cluster) -> dict[str, Any]:  # the members of DescribeClusterResponse
        groups = cluster.instance_groups()
        vpc = {"SecurityGroupIds": list(cluster.security_groups), "Subnets": list(cluster.subnets)}
        restricted = [self._render_group(cluster, group) for group in groups if group.restricted]
        return {
            "ClusterArn": self.arn(cluster),
            "ClusterName": cluster.name,
            "ClusterStatus": cluster.state,
            "CreationTime": to_datetime(cluster.created),
            "InstanceGroups": [self._render_group(cluster, group) for group in groups if not group.restricted],
            "RestrictedInstanceGroups": restricted or None,
            "VpcConfig": vpc if cluster.subnets else None,
            "Orchestrator": _render_orchestrator(cluster),
            "NodeRecovery": cluster.node_recovery,
            "NodeProvisioningMode": cluster.node_provisioning,
            **render_cluster_settings(cluster),
        }

    def _render_group(self, cluster: Cluster, group: InstanceGroup) -> dict[str, Any]:  # the members of its shape
        nodes = [node for node in self._store.instances.where("cluster", cluster.id) if node.group == group.name]
        return {
            "InstanceGroupName": group.name,
            "InstanceType": group.kind,
            "ExecutionRole": group.role,
            "TargetCount": group.count,
            "CurrentCount": sum(node.state == "running" for node in nodes),
            "Status": cluster.state,
            **render_group_settings(group),
        }

    async def _finish_change(self, id_: str) -> None:
        """Make the cluster InService, unless nodes are still starting or terminating."""
        changing = [node for node in self._store.instances.where("cluster", id_) if node.state != "running"]
        if not self._postpone(id_, "cluster in service", changing):
            cluster = self._store.clusters.put(replace(self._store.clusters[id_], state="InService"))
            record_cluster_event(self._world, cluster, "The cluster is in service.")
            self._store.record_state(id_, "InService")

    async def _remove(self, id_: str) -> None:
        """Remove the cluster, unless it still has nodes."""
        if not self._postpone(id_, "cluster gone", self._store.instances.where("cluster", id_)):
            self._store.clusters.drop(id_)
            forget_events(self._world, id_)

    def _postpone(self, id_: str, step: str, nodes: list[Instance]) -> bool:
        """Repeat `step` after the pending steps of `nodes`; return False if there are none."""
        dues = [self._store.dues[node.id].at for node in nodes if node.id in self._store.dues]
        if dues:
            self._world.clock.schedule_at(id_, step, max(dues))
        return bool(dues)


def _render_orchestrator(cluster: Cluster) -> dict[str, Any] | None:  # the members of ClusterOrchestrator
    if cluster.eks:
        return {"Eks": {"ClusterArn": cluster.eks}}
    return {"Slurm": cluster.settings["Slurm"]} if "Slurm" in cluster.settings else None


def requested_groups(parameters: Parameters) -> Iterable[InstanceGroup]:
    """The instance groups of a request.

    Raises:
        AwsFault: A group has a setting that the emulator does not support.
    """
    for member, restricted in (("InstanceGroups", False), ("RestrictedInstanceGroups", True)):
        for group in parameters.get(member, []):
            yield InstanceGroup(
                name=group["InstanceGroupName"],
                kind=group.get("InstanceType", DEFAULT_TYPE),
                count=group["InstanceCount"],
                role=group["ExecutionRole"],
                restricted=restricted,
                settings=group_settings(group),
            )
