"""The events of HyperPod clusters, in the order in which they happen."""

import time
import uuid
from typing import Final

from hyperpod_ebs.emulator.records import Cluster, ClusterEvent, Instance
from hyperpod_ebs.emulator.state.world import World

MAX_EVENTS: Final = 1_000
"""The number of events that are kept for a cluster."""


def record_cluster_event(world: World, cluster: Cluster, description: str) -> None:
    """Record an event of a whole cluster."""
    _record(world, ClusterEvent(id=str(uuid.uuid4()), cluster=cluster.id, description=description, at=time.time()))


def record_node_event(world: World, node: Instance, description: str) -> None:
    """Record an event of a node."""
    event = ClusterEvent(
        id=str(uuid.uuid4()),
        cluster=node.cluster,
        group=node.group,
        node=node.id,
        description=description,
        at=time.time(),
    )
    _record(world, event)


def forget_events(world: World, cluster: str) -> None:
    """Delete the events of a cluster that is gone."""
    for event in world.store.cluster_events.where("cluster", cluster):
        world.store.cluster_events.drop(event.id)


def _record(world: World, event: ClusterEvent) -> None:
    """Store the event, and drop the oldest one of a cluster with very many."""
    events = world.store.cluster_events
    if len(known := events.where("cluster", event.cluster)) >= MAX_EVENTS:
        events.drop(min(known, key=lambda each: each.at).id)
    events.put(event)
