"""BatchDeleteClusterNodes, BatchReplaceClusterNodes and BatchRebootClusterNodes.

Each takes a list of nodes and answers at once which of them it began with, and which not
and why. A node that goes takes its own volumes with it; those attached to it since are
detached, as when any machine ends, and are available from then on.

SageMaker's model has the errors, limits and the conditions of the three. How the cluster
stands meanwhile is the scaling guide's: only one of continuous provisioning stays in service.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

from hyperpod_ebs.emulator.nodes.machines import Machines
from hyperpod_ebs.emulator.records import Cluster, Instance
from hyperpod_ebs.emulator.sagemaker.clusters import Clusters
from hyperpod_ebs.emulator.state.world import World, new_id
from hyperpod_ebs.emulator.wire.operations import Answer, Asked, AwsFault, Call, Operations

DELETED_AT_ONCE: Final = 99
"""Nodes that one call deletes; AWS wants to be asked for more. Of the others the model has the bounds."""


@dataclass(frozen=True, slots=True)
class _Codes:
    """What a batch calls each reason to leave a node alone."""

    member: str
    unknown: str
    unready: str
    busy: str


_DELETING: Final = _Codes("Code", "NodeIdNotFound", "InvalidNodeStatus", "NodeIdInUse")
_OTHERS: Final = _Codes("ErrorCode", "InstanceIdNotFound", "InvalidInstanceStatus", "InstanceIdInUse")


@dataclass(frozen=True, slots=True)
class _Batch:
    """The nodes of a request: those that can be begun with, and what is wrong with each other."""

    cluster: Cluster
    ready: Sequence[Instance]
    failed: Sequence[Mapping[str, str]]

    def answer(self) -> Answer:
        """What the call answers; a list with nothing in it is left out."""
        return {"Successful": [node.id for node in self.ready] or None, "Failed": self.failed or None}


@dataclass(frozen=True, slots=True)
class NodeBatches:
    """Nodes of clusters, several at once."""

    world: World
    clusters: Clusters
    machines: Machines

    name = "sagemaker"
    operations = Operations["NodeBatches"]()

    @operations("BatchDeleteClusterNodes")
    async def delete(self, asked: Asked, _: Call) -> Answer:
        """The nodes that begin to go; their groups are smaller from now on."""
        await self.world.clock.run_due_steps()
        if (count := len(asked.get("NodeIds", []))) > DELETED_AT_ONCE:
            text = f"{count} nodes cannot be deleted in one request: give at most {DELETED_AT_ONCE}"
            raise AwsFault("ValidationException", text)
        batch = self._batch(asked, _DELETING)
        for node in batch.ready:
            self.machines.stop(node)
        self._shrink(batch)
        self._update(batch)
        return await self.world.acknowledge(batch.answer())

    @operations("BatchReplaceClusterNodes")
    async def replace(self, asked: Asked, _: Call) -> Answer:
        """The nodes that begin to go; for each a new one, of another id, begins to come in its group."""
        await self.world.clock.run_due_steps()
        batch = self._batch(asked, _OTHERS)
        for node in batch.ready:
            self.machines.stop(node)
            fresh = Instance(
                id=new_id("i"), kind=node.kind, zone=node.zone, cluster=node.cluster, group=node.group, image=node.image
            )
            self.machines.start(fresh)
        self._update(batch)
        return await self.world.acknowledge(batch.answer())

    @operations("BatchRebootClusterNodes")
    async def reboot(self, asked: Asked, _: Call) -> Answer:
        """The nodes that begin to start again; they keep their ids and their volumes."""
        await self.world.clock.run_due_steps()
        batch = self._batch(asked, _OTHERS)
        for node in batch.ready:
            self.world.store.record_state(node.id, "rebooted")
        return await self.world.acknowledge(batch.answer())

    def _batch(self, asked: Asked, codes: _Codes) -> _Batch:
        """The nodes that the request names, each once.

        Raises:
            AwsFault: There is no such cluster, or no node is named by its id.
        """
        cluster = self.clusters.found(asked["ClusterName"])
        if asked.get("NodeLogicalIds"):
            raise AwsFault("ValidationException", "NodeLogicalIds cannot be given: nodes here have no logical ids")
        if not (ids := list(dict.fromkeys(asked.get("NodeIds", [])))):
            raise AwsFault("ValidationException", "NodeIds or NodeLogicalIds must be given")
        wrong = {id_: self._wrong(id_, cluster, codes) for id_ in ids}
        return _Batch(
            cluster=cluster,
            ready=[self.world.store.instances[id_] for id_ in ids if wrong[id_] is None],
            failed=[
                {"NodeId": id_, codes.member: reason[0], "Message": reason[1]}
                for id_, reason in wrong.items()
                if reason
            ],
        )

    def _wrong(self, id_: str, cluster: Cluster, codes: _Codes) -> tuple[str, str] | None:
        """Why this node cannot be begun with, as a code and in words."""
        node = self.world.store.instances.get(id_)
        if node is None or node.cluster != cluster.id:
            return codes.unknown, f"Node {id_} is not in cluster {cluster.name}."
        if node.state == "shutting-down":
            return codes.busy, f"Node {id_} is being deleted or replaced already."
        if node.state != "running":
            return codes.unready, f"Node {id_} is {node.state}: wait until it is running."
        return None

    def _shrink(self, batch: _Batch) -> None:
        """Let the groups want fewer nodes by those that go."""
        going = [node.group for node in batch.ready]
        cluster = self.world.store.clusters[batch.cluster.id]
        groups = [replace(group, count=group.count - going.count(group.name)) for group in cluster.instance_groups()]
        self.world.store.clusters.put(replace(cluster, groups=tuple(asdict(group) for group in groups)))

    def _update(self, batch: _Batch) -> None:
        """Let the cluster be updating until its nodes have come and gone."""
        cluster = self.world.store.clusters[batch.cluster.id]
        if batch.ready and cluster.node_provisioning != "Continuous" and cluster.state != "Creating":
            self.world.store.clusters.put(replace(cluster, state="Updating"))
            self.world.clock.schedule(cluster.id, "cluster in service")
