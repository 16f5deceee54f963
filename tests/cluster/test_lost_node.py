"""A HyperPod node that is lost with everything that ran on it, and that the cloud replaces."""

import os
import signal
from collections.abc import AsyncGenerator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from hyperpod_ebs.kit import files
from localcluster import cloud
from localcluster.record import NodeRecord, Record
from tests.support import driver_pods
from tests.support.cluster_namespace import ClusterNamespace
from tests.support.live_cluster import LiveCluster
from tests.support.pod_manifests import stateful_set_manifest
from tests.support.waiting import wait_for_cluster

pytestmark = pytest.mark.exclusive

SIX_MINUTES: Final = timedelta(minutes=6)
"""How long Kubernetes' attach-detach controller waits for a node to unmount (maxWaitForUnmountDuration)."""

OUT_OF_SERVICE: Final = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
"""The taint by which an administrator declares that nothing runs on a node any more."""


@pytest.fixture(autouse=True)
async def nodes(live: LiveCluster, namespace: ClusterNamespace) -> AsyncGenerator[None]:
    """Wait until all nodes run the driver again before the namespace is deleted."""
    del namespace
    yield
    await _replace_lost_nodes(live)
    await driver_pods.restore_driver(live)


@pytest.mark.requirement("data.lost-node")
async def test_a_pod_of_a_lost_node_moves_with_its_data_after_the_out_of_service_taint_and_a_replacement_node_works(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """Kubernetes, non-graceful node shutdown."""
    await _create_stateful_set(namespace)
    lost = await _kill_node(namespace, live)

    await live.kubectl("taint", "node", lost.name, OUT_OF_SERVICE)
    moved = await _wait_until_moved(namespace, live, lost, seconds=240)

    took = _ready_since(moved) - await _unready_since(live, lost)
    assert took < SIX_MINUTES / 2, f"the pod was ready {took} after its node was not"
    assert await namespace.run_script("user-0", "cat /data/file") == "kept"
    before = live.record.nodes
    await _replace_lost_nodes(live)
    fresh = next(node for node in live.record.nodes if node not in before)
    await namespace.create_claim("more", of=await namespace.create_storage_class(type="gp3"))
    await namespace.create_pod("more", "more", on=fresh.name)
    await namespace.wait_for_pod("more")


@pytest.mark.requirement("data.lost-node")
@pytest.mark.six_minutes
@pytest.mark.timeout(1200, func_only=True)
async def test_a_pod_of_a_lost_node_moves_with_its_data_after_six_minutes_without_the_taint(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """The pod still has to be deleted by force: Kubernetes cannot know that it no longer runs."""
    await _create_stateful_set(namespace)
    lost = await _kill_node(namespace, live)

    await namespace("delete", "pod", "user-0", "--force", "--grace-period=0")
    deleted = datetime.now().astimezone()
    await namespace.wait_for_event("user-0", "Multi-Attach error for volume")
    moved = await _wait_until_moved(namespace, live, lost, seconds=600)

    took = _ready_since(moved) - deleted
    assert SIX_MINUTES - timedelta(seconds=5) < took < SIX_MINUTES + timedelta(minutes=2)
    assert await namespace.run_script("user-0", "cat /data/file") == "kept"


async def _create_stateful_set(namespace: ClusterNamespace) -> None:
    """Create a StatefulSet whose only pod runs on a HyperPod node, and write to its volume."""
    of_hyperpod = {"sagemaker.amazonaws.com/cluster-name": cloud.NAME}
    await namespace.apply(
        stateful_set_manifest("user", await namespace.create_storage_class(type="gp3"), nodeSelector=of_hyperpod)
    )
    await namespace("rollout", "status", "statefulset/user", "--timeout=120s")
    await namespace.run_script("user-0", "echo kept > /data/file && sync")


async def _kill_node(namespace: ClusterNamespace, live: LiveCluster) -> NodeRecord:
    """Kill everything on the node of the StatefulSet's pod, let HyperPod replace it, and return it."""
    name = (await namespace.get("pod", "user-0"))["spec"]["nodeName"]
    lost = next(node for node in live.record.nodes if node.name == name)
    os.kill(lost.pid, signal.SIGKILL)
    async with live.client("sagemaker") as sagemaker:
        answer = await sagemaker.batch_replace_cluster_nodes(ClusterName=cloud.NAME, NodeIds=[lost.instance])
    assert answer["Successful"] == [lost.instance]
    await live.kubectl("wait", "--for=condition=Ready=Unknown", f"node/{name}", "--timeout=90s")
    return lost


async def _wait_until_moved(
    namespace: ClusterNamespace, live: LiveCluster, lost: NodeRecord, *, seconds: float
) -> dict[str, Any]:
    """Wait until the StatefulSet's pod is ready on another node, check where its volume is, and return the pod."""

    async def elsewhere() -> dict[str, Any] | None:
        listed = await namespace.get("pods", "--selector=app=user")
        found = (one for one in listed["items"] if one["spec"].get("nodeName", lost.name) != lost.name)
        return next((one for one in found if _condition(one, "Ready")["status"] == "True"), None)

    moved: dict[str, Any] = await wait_for_cluster(elsewhere, seconds=seconds)
    volume = (await live.volume(await namespace.wait_until_bound("data-user-0")))["id"]
    attached = [one["instance"] for one in await live.cloud("attachments") if one["volume"] == volume]
    assert [moved["spec"]["nodeName"]] == [f"hyperpod-{instance}" for instance in attached]
    return moved


async def _replace_lost_nodes(live: LiveCluster) -> None:
    """Delete the Node objects of machines that are gone, as EKS does, and wait until the new nodes accept pods.

    The pods of a deleted node are deleted, too: Kubernetes' garbage collector would do it a minute later.
    """

    async def current_record() -> Record | None:
        running = {one["id"] for one in await live.cloud("instances") if one["state"] == "running"}
        record = await files.off_loop(lambda: Record.read(Path(live.record.directory)))
        return record if {node.instance for node in record.nodes} == running else None

    live.record = await wait_for_cluster(current_record)
    names = {node.name for node in live.record.nodes}

    async def all_ready() -> bool:
        nodes = (await live.kubectl.get("nodes"))["items"]
        if gone := [name for node in nodes if (name := node["metadata"]["name"]) not in names]:
            await live.kubectl("delete", "node", *gone)
            for name in gone:
                theirs = ("--all-namespaces", f"--field-selector=spec.nodeName={name}")
                await live.kubectl("delete", "pods", *theirs, "--force", "--grace-period=0")
        well = [
            node for node in nodes if _condition(node, "Ready")["status"] == "True" and "taints" not in node["spec"]
        ]
        return {node["metadata"]["name"] for node in well} == names

    await wait_for_cluster(all_ready)


def _condition(of: Mapping[str, Any], kind: str) -> Mapping[str, str]:
    conditions = of["status"].get("conditions", ())
    return next((one for one in conditions if one["type"] == kind), {"status": "Unknown"})


def _ready_since(of: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(_condition(of, "Ready")["lastTransitionTime"])


async def _unready_since(live: LiveCluster, node: NodeRecord) -> datetime:
    return _ready_since(await live.kubectl.get("node", node.name))
