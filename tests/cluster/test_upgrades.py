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
from tests.support.cluster_namespace import Space
from tests.support.driver_pods import CONTROLLER, NODE
from tests.support.live_cluster import DRIVER, SYSTEM, Live
from tests.support.pod_manifests import COUNT, NOTICED
from tests.support.waiting import wait_for_cluster

pytestmark = [pytest.mark.exclusive, pytest.mark.usefixtures("replace_damaged_pods")]

SOCKET: Final = f"/var/lib/kubelet/plugins_registry/{DRIVER}-reg.sock"
"""The socket through which the node process registers with kubelet."""

_IN: Final = f"--namespace={SYSTEM}"


@pytest.mark.requirement("kills.node-process")
async def test_a_killed_node_process_disturbs_no_mount_and_registers_with_kubelet_again(
    space: Space, live: Live
) -> None:
    node = live.record.nodes[0]
    name = await _start_counter(space, node)
    mounts, socket = await _mounts(space, node), await _socket(live, node)
    assert mounts

    killed = await _node_pod(live, node)
    await driver_pods.kill(live, killed)

    async def is_registered_again() -> bool:
        found = driver_pods.container(await driver_pods.pod(live, killed))
        return bool(found["restartCount"] and found["ready"] and await _socket(live, node) not in {socket, ""})

    await wait_for_cluster(is_registered_again)
    await space.counts_on("counter")
    assert await space.longest_pause("counter") < NOTICED
    assert await _mounts(space, node) == mounts
    await space.claim("next", of=name)
    await space.pod("next", "next", on=node.name)
    await space.running("next")


@pytest.mark.requirement("kills.node-process")
async def test_an_upgrade_and_downgrade_of_node_processes_disturb_no_mount(space: Space, live: Live) -> None:
    """A node process keeps no state: it finds the volumes in the mount table."""
    node = live.record.nodes[0]
    await _start_counter(space, node)
    mounts, before = await _mounts(space, node), await _node_pod(live, node)
    assert mounts

    await live.kubectl("rollout", _IN, "restart", NODE)
    await _wait_for_rollout(live, NODE)
    assert await _node_pod(live, node) != before
    await space.counts_on("counter")
    assert await _mounts(space, node) == mounts

    await live.kubectl("rollout", _IN, "undo", NODE)
    await _wait_for_rollout(live, NODE)
    await space.counts_on("counter")
    assert await space.longest_pause("counter") < NOTICED
    assert await _mounts(space, node) == mounts
    await space.gone("pod", "counter")
    assert await _mounts(space, node) == {}


async def test_older_node_processes_work_with_a_newer_controller_during_a_rollout(space: Space, live: Live) -> None:
    """The controllers are replaced first; the update strategy OnDelete keeps the node pods."""
    node = live.record.nodes[0]
    older = await _node_pod(live, node)
    name = await space.storage_class(type="gp3")
    async with _keep_pods(live, NODE), _change_template(live, CONTROLLER):
        await space.claim("data", of=name)
        await space.pod("user", "data", on=node.name)
        await space.running("user")
        await space.shell("user", "echo kept > /data/file && sync")
        await space.gone("pod", "user")
        await space.pod("user", "data", on=node.name)
        await space.running("user")

        assert await space.shell("user", "cat /data/file") == "kept"
        assert await _node_pod(live, node) == older


@pytest.mark.requirement("node.starts-unidentified")
async def test_a_node_process_without_an_identity_unmounts_volumes_and_registers_once_it_has_one(
    space: Space, live: Live
) -> None:
    """Without the Kubernetes API the process has no identity to report, so it creates no registration socket.

    The socket of its predecessor stays: if it disappeared, kubelet would forget a driver that still serves.
    """
    node = live.record.nodes[0]
    await _start_counter(space, node)
    name, before = await _node_pod(live, node), await _socket(live, node)
    async with _without_route_to_kubernetes(live, node):
        await driver_pods.kill(live, name)
        await driver_pods.unhealthy(live, name, because="--node-id")
        await space.gone("pod", "counter")
        assert await _mounts(space, node) == {}
        assert await _socket(live, node) == before

    async def is_registered() -> bool:
        return await _socket(live, node) not in {before, ""}

    await wait_for_cluster(is_registered)
    await live.kubectl("wait", _IN, "--for=condition=Ready", f"pod/{name}", "--timeout=120s")


async def _start_counter(space: Space, node: NodeRecord) -> str:
    """Run a pod `counter` on the node that writes number after number; return the StorageClass of its volume."""
    name = await space.storage_class(type="gp3")
    await space.claim("data", of=name)
    await space.pod("counter", "data", on=node.name, script=COUNT)
    await space.running("counter")
    await space.counts_on("counter")
    return name


async def _mounts(space: Space, node: NodeRecord) -> dict[Path, int]:
    """The mount points of the volume of the claim `data` on a node, with their mount ids."""
    name = (await space.bound("data"))["spec"]["volumeName"]
    table = mountinfo.parse(await files.off_loop(Path(f"/proc/{node.pid}/mountinfo").read_bytes))
    devices = {mount.number for mount in table if name in mount.mount_point.parts}
    return {mount.mount_point: mount.id for mount in table if mount.number in devices}


async def _socket(live: Live, node: NodeRecord) -> str:
    """Inode and time of a node's registration socket; empty if there is no socket."""
    look = f"stat -c '%i %y' {SOCKET} 2>/dev/null || true"
    return (await live.on_node(node.name, "sh", "-c", look)).strip()


async def _node_pod(live: Live, node: NodeRecord) -> str:
    """The name of the driver's pod on a node."""
    pods = await driver_pods.pods(live, NODE)
    (name,) = [one["metadata"]["name"] for one in pods if one["spec"].get("nodeName") == node.name]
    return str(name)


@asynccontextmanager
async def _keep_pods(live: Live, workload: str) -> AsyncGenerator[None]:
    """Keep the pods of a DaemonSet as they are while its template changes."""
    strategy = (await live.kubectl.get(_IN, workload))["spec"]["updateStrategy"]
    await _patch(live, workload, {"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}}})
    try:
        async with _change_template(live, workload, wait=False):
            yield
    finally:
        await _patch(live, workload, {"spec": {"updateStrategy": strategy}})


@asynccontextmanager
async def _change_template(live: Live, workload: str, *, wait: bool = True) -> AsyncGenerator[None]:
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


async def _wait_for_rollout(live: Live, workload: str) -> None:
    await live.kubectl("rollout", _IN, "status", workload, "--timeout=170s")


async def _patch(live: Live, workload: str, patch: dict[str, Any]) -> None:
    await live.kubectl("patch", _IN, workload, "--patch", json.dumps(patch))


@asynccontextmanager
async def _without_route_to_kubernetes(live: Live, node: NodeRecord) -> AsyncGenerator[None]:
    """Block the route from the node's pods to the Kubernetes API; kubelet uses another route."""
    rule = ("from", network.PODS, "to", network.API_SERVICE, "unreachable")
    await live.on_node(node.name, "ip", "rule", "add", *rule)
    try:
        yield
    finally:
        await live.on_node(node.name, "ip", "rule", "delete", *rule)
