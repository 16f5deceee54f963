"""The driver's processes replaced while volumes are in use."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from hyperpod_ebs.driver.linux import mountinfo
from hyperpod_ebs.kit import files
from localcluster.machines import network
from localcluster.record import NodeRecord
from tests.support import driver_pods
from tests.support.cluster_namespace import ClusterNamespace
from tests.support.driver_pods import CONTROLLER, NODE
from tests.support.live_cluster import DRIVER, SYSTEM, LiveCluster
from tests.support.pod_manifests import COUNT, INTERRUPTION
from tests.support.waiting import wait_for_cluster

pytestmark = [pytest.mark.exclusive, pytest.mark.usefixtures("pod_replacement")]

SOCKET: Final = f"/var/lib/kubelet/plugins_registry/{DRIVER}-reg.sock"
"""The socket through which the node process registers with kubelet."""

_IN: Final = f"--namespace={SYSTEM}"


@pytest.mark.requirement("kills.node-process")
async def test_a_killed_node_process_disturbs_no_mount_and_registers_with_kubelet_again(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    node = live.record.nodes[0]
    name = await _start_counter(namespace, node)
    mounts, socket = await _mounts(namespace, node), await _socket(live, node)
    assert mounts

    killed = await _node_pod(live, node)
    await driver_pods.kill_driver(live, killed)

    async def is_registered_again() -> bool:
        found = driver_pods.container_status(await driver_pods.get_pod(live, killed))
        return bool(found["restartCount"] and found["ready"] and await _socket(live, node) not in {socket, ""})

    await wait_for_cluster(is_registered_again)
    await namespace.wait_for_more_numbers("counter")
    assert await namespace.longest_pause("counter") < INTERRUPTION
    assert await _mounts(namespace, node) == mounts
    await namespace.create_claim("next", of=name)
    await namespace.create_pod("next", "next", on=node.name)
    await namespace.wait_for_pod("next")


@pytest.mark.requirement("kills.node-process")
async def test_an_upgrade_and_downgrade_of_node_processes_disturb_no_mount(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """A node process keeps no state: it finds the volumes in the mount table."""
    node = live.record.nodes[0]
    await _start_counter(namespace, node)
    mounts, before = await _mounts(namespace, node), await _node_pod(live, node)
    assert mounts

    await live.kubectl("rollout", _IN, "restart", NODE)
    await _wait_for_rollout(live, NODE)
    assert await _node_pod(live, node) != before
    await namespace.wait_for_more_numbers("counter")
    assert await _mounts(namespace, node) == mounts

    await live.kubectl("rollout", _IN, "undo", NODE)
    await _wait_for_rollout(live, NODE)
    await namespace.wait_for_more_numbers("counter")
    assert await namespace.longest_pause("counter") < INTERRUPTION
    assert await _mounts(namespace, node) == mounts
    await namespace.delete("pod", "counter")
    assert await _mounts(namespace, node) == {}


async def test_older_node_processes_work_with_a_newer_controller_during_a_rollout(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """The controllers are replaced first; the update strategy OnDelete keeps the node pods."""
    node = live.record.nodes[0]
    older = await _node_pod(live, node)
    name = await namespace.create_storage_class(type="gp3")
    async with _keep_pods(live, NODE), _change_template(live, CONTROLLER):
        await namespace.create_claim("data", of=name)
        await namespace.create_pod("user", "data", on=node.name)
        await namespace.wait_for_pod("user")
        await namespace.run_script("user", "echo kept > /data/file && sync")
        await namespace.delete("pod", "user")
        await namespace.create_pod("user", "data", on=node.name)
        await namespace.wait_for_pod("user")

        assert await namespace.run_script("user", "cat /data/file") == "kept"
        assert await _node_pod(live, node) == older


@pytest.mark.requirement("node.starts-unidentified")
async def test_a_node_process_without_an_identity_unmounts_volumes_and_registers_once_it_has_one(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """Without the Kubernetes API the process has no identity to report, so it creates no registration socket.

    The socket of its predecessor stays: if it disappeared, kubelet would forget a driver that still serves.
    """
    node = live.record.nodes[0]
    await _start_counter(namespace, node)
    name, before = await _node_pod(live, node), await _socket(live, node)
    async with _without_route_to_kubernetes(live, node):
        await driver_pods.kill_driver(live, name)
        await driver_pods.wait_until_unhealthy(live, name, because="--node-id")
        await namespace.delete("pod", "counter")
        assert await _mounts(namespace, node) == {}
        assert await _socket(live, node) == before

    async def is_registered() -> bool:
        return await _socket(live, node) not in {before, ""}

    await wait_for_cluster(is_registered)
    await live.kubectl("wait", _IN, "--for=condition=Ready", f"pod/{name}", "--timeout=120s")


async def _start_counter(namespace: ClusterNamespace, node: NodeRecord) -> str:
    """Run a pod `counter` on the node that writes number after number; return the StorageClass of its volume."""
    name = await namespace.create_storage_class(type="gp3")
    await namespace.create_claim("data", of=name)
    await namespace.create_pod("counter", "data", on=node.name, script=COUNT)
    await namespace.wait_for_pod("counter")
    await namespace.wait_for_more_numbers("counter")
    return name


async def _mounts(namespace: ClusterNamespace, node: NodeRecord) -> dict[Path, int]:
    """The mount points of the volume of the claim `data` on a node, with their mount ids."""
    name = (await namespace.wait_until_bound("data"))["spec"]["volumeName"]
    table = mountinfo.parse(await files.off_loop(Path(f"/proc/{node.pid}/mountinfo").read_bytes))
    devices = {mount.number for mount in table if name in mount.mount_point.parts}
    return {mount.mount_point: mount.id for mount in table if mount.number in devices}


async def _socket(live: LiveCluster, node: NodeRecord) -> str:
    """Inode and time of a node's registration socket; empty if there is no socket."""
    look = f"stat -c '%i %y' {SOCKET} 2>/dev/null || true"
    return (await live.run_on_node(node.name, "sh", "-c", look)).strip()


async def _node_pod(live: LiveCluster, node: NodeRecord) -> str:
    """The name of the driver's pod on a node."""
    pods = await driver_pods.list_pods(live, NODE)
    (name,) = [one["metadata"]["name"] for one in pods if one["spec"].get("nodeName") == node.name]
    return str(name)


@asynccontextmanager
async def _keep_pods(live: LiveCluster, workload: str) -> AsyncGenerator[None]:
    """Keep the pods of a DaemonSet as they are while its template changes."""
    strategy = (await live.kubectl.get(_IN, workload))["spec"]["updateStrategy"]
    await _patch(live, workload, {"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}}})
    try:
        async with _change_template(live, workload, wait=False):
            yield
    finally:
        await _patch(live, workload, {"spec": {"updateStrategy": strategy}})


@asynccontextmanager
async def _change_template(live: LiveCluster, workload: str, *, wait: bool = True) -> AsyncGenerator[None]:
    """Change a workload's template like a new version would, so that all its pods are replaced."""

    async def put(version: str | None) -> None:
        await _patch(live, workload, {"spec": {"template": {"metadata": {"annotations": {"another": version}}}}})
        if wait:
            await _wait_for_rollout(live, workload)

    await put("version")
    try:
        yield
    finally:
        await put(None)


async def _wait_for_rollout(live: LiveCluster, workload: str) -> None:
    await live.kubectl("rollout", _IN, "status", workload, "--timeout=170s")


async def _patch(live: LiveCluster, workload: str, patch: dict[str, Any]) -> None:
    await live.kubectl("patch", _IN, workload, "--patch", json.dumps(patch))


@asynccontextmanager
async def _without_route_to_kubernetes(live: LiveCluster, node: NodeRecord) -> AsyncGenerator[None]:
    """Block the route from the node's pods to the Kubernetes API; kubelet uses another route."""
    rule = ("from", network.PODS, "to", network.API_SERVICE, "unreachable")
    await live.run_on_node(node.name, "ip", "rule", "add", *rule)
    try:
        yield
    finally:
        await live.run_on_node(node.name, "ip", "rule", "delete", *rule)
