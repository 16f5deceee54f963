"""BatchDeleteClusterNodes, BatchReplaceClusterNodes and BatchRebootClusterNodes.

Each operation takes a list of nodes and returns at once: `Successful` lists the nodes that
will change, and `Failed` lists the other nodes, each with an error. A deleted node's own
volumes are deleted with it; volumes that were attached later are detached, as for any
terminated machine.

Sources: the API reference for the errors and limits of the three operations; the scaling
guide for the status Updating, which a cluster has until its nodes have changed, unless its
nodes are provisioned continuously.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

from hyperpod_ebs.emulator.nodes.machines import Machines
from hyperpod_ebs.emulator.records import Cluster, Instance
from hyperpod_ebs.emulator.sagemaker.clusters import Clusters
from hyperpod_ebs.emulator.sagemaker.event_log import record_node_event
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

MAX_DELETED: Final = 99
"""Nodes that one call can delete; for more, AWS asks to contact Support. The SDK's model has the other limits."""


@dataclass(frozen=True, slots=True)
class _ErrorCodes:
    """An operation's error codes for a node that it does not change, and the member that has them."""

    member: str
    unknown: str
    not_running: str
    in_use: str


_DELETE_CODES: Final = _ErrorCodes("Code", "NodeIdNotFound", "InvalidNodeStatus", "NodeIdInUse")
_OTHER_CODES: Final = _ErrorCodes("ErrorCode", "InstanceIdNotFound", "InvalidInstanceStatus", "InstanceIdInUse")


@dataclass(frozen=True, slots=True)
class _Batch:
    """The nodes of a request: those that can be changed, and the errors of the others."""

    cluster: Cluster
    ready: Sequence[Instance]
    failed: Sequence[Mapping[str, str]]

    def answer(self) -> Answer:
        """The response; empty lists are omitted."""
        return {"Successful": [node.id for node in self.ready] or None, "Failed": self.failed or None}


@dataclass(frozen=True, slots=True)
class NodeBatches:
    """Operations on several nodes of a cluster at once."""

    world: World
    clusters: Clusters
    machines: Machines

    operations = Operations["NodeBatches"]()

    @operations("BatchDeleteClusterNodes")
    async def delete(self, parameters: Parameters, _: Call) -> Answer:
        """Terminate nodes and reduce the size of their instance groups."""
        if (count := len(parameters.get("NodeIds", []))) > MAX_DELETED:
            text = f"{count} nodes cannot be deleted in one request: give at most {MAX_DELETED}"
            raise AwsFault("ValidationException", text)
        batch = self._batch(parameters, _DELETE_CODES)
        for node in batch.ready:
            self.machines.terminate(node)
        self._shrink_groups(batch)
        self._finish(batch, "terminated")
        return await self.world.acknowledge(batch.answer())

    @operations("BatchReplaceClusterNodes")
    async def replace(self, parameters: Parameters, call: Call) -> Answer:
        """Terminate nodes and start a new node, with a new id, for each in the same instance group."""
        batch = self._batch(parameters, _OTHER_CODES)
        self.clusters.require_room(len(batch.ready))
        groups = {group.name: group for group in batch.cluster.instance_groups()}
        self.clusters.storage.require_keys(call, [groups[name] for name in {node.group for node in batch.ready}])
        for node in batch.ready:
            self.machines.terminate(node)
            self.clusters.add_node(batch.cluster, groups[node.group], node.zone)
        self._finish(batch, "replaced")
        return await self.world.acknowledge(batch.answer())

    @operations("BatchRebootClusterNodes")
    async def reboot(self, parameters: Parameters, _: Call) -> Answer:
        """Reboot nodes; they keep their ids and their volumes."""
        batch = self._batch(parameters, _OTHER_CODES)
        for node in batch.ready:
            self.world.store.record_state(node.id, "rebooted")
            record_node_event(self.world, node, "The node is rebooted.")
        return await self.world.acknowledge(batch.answer())

    def _batch(self, parameters: Parameters, codes: _ErrorCodes) -> _Batch:
        """The nodes that the request names, without repeats.

        Raises:
            AwsFault: The cluster does not exist, or the request names no node by its id.
        """
        cluster = self.clusters.find(parameters["ClusterName"])
        if parameters.get("NodeLogicalIds"):
            raise AwsFault("ValidationException", "NodeLogicalIds cannot be given: emulated nodes have no logical ids")
        if not (ids := list(dict.fromkeys(parameters.get("NodeIds", [])))):
            raise AwsFault("ValidationException", "NodeIds or NodeLogicalIds must be given")
        errors = {id_: self._error(id_, cluster, codes) for id_ in ids}
        return _Batch(
            cluster=cluster,
            ready=[self.world.store.instances[id_] for id_ in ids if errors[id_] is None],
            failed=[
                {"NodeId": id_, codes.member: error[0], "Message": error[1]} for id_, error in errors.items() if error
            ],
        )

    def _error(self, id_: str, cluster: Cluster, codes: _ErrorCodes) -> tuple[str, str] | None:
        """The code and the text of the error for this node; None if the node can be changed."""
        node = self.world.store.instances.get(id_)
        if node is None or node.cluster != cluster.id:
            return codes.unknown, f"Node {id_} is not in cluster {cluster.name}."
        if node.state == "shutting-down":
            return codes.in_use, f"Node {id_} is being deleted or replaced already."
        if node.state != "running":
            return codes.not_running, f"Node {id_} is {node.state}: wait until it is running."
        return None

    def _shrink_groups(self, batch: _Batch) -> None:
        """Reduce the target counts of the groups by the deleted nodes."""
        deleted = [node.group for node in batch.ready]
        cluster = self.world.store.clusters[batch.cluster.id]
        groups = [replace(group, count=group.count - deleted.count(group.name)) for group in cluster.instance_groups()]
        self.world.store.clusters.put(replace(cluster, groups=tuple(asdict(group) for group in groups)))

    def _finish(self, batch: _Batch, change: str) -> None:
        """Record what happens to the nodes, and make the cluster Updating until it has happened."""
        for node in batch.ready:
            record_node_event(self.world, node, f"The node is being {change}.")
        if batch.ready:
            self.clusters.mark_updating(batch.cluster.id)
