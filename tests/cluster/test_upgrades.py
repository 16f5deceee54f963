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
from tests.support.live_cluster import DRIVER, SYSTEM, Live, eventually
from tests.support.pod_manifests import COUNT, NOTICED

pytestmark = [pytest.mark.exclusive, pytest.mark.usefixtures("relieved")]

SOCKET: Final = f"/var/lib/kubelet/plugins_registry/{DRIVER}-reg.sock"
"""By which the node process makes itself known to kubelet."""

_IN: Final = f"--namespace={SYSTEM}"


async def test_a_node_process_that_is_killed_under_a_running_pod_disturbs_no_mount(space: Space, live: Live) -> None:
    """And makes itself known to kubelet anew, so that the next pod there gets its volume."""
    node = live.record.nodes[0]
    name = await _counting(space, node)
    mounts, socket = await _mounts(space, node), await _socket(live, node)
    assert mounts

    killed = await _node_pod(live, node)
    await driver_pods.kill(live, killed)

    async def anew() -> bool:
        found = driver_pods.container(await driver_pods.pod(live, killed))
        return bool(found["restartCount"] and found["ready"] and await _socket(live, node) not in {socket, ""})

    await eventually(anew)
    await space.counts_on("counter")
    assert await space.longest_pause("counter") < NOTICED
    assert await _mounts(space, node) == mounts
    await space.claim("next", of=name)
    await space.pod("next", "next", on=node.name)
    await space.running("next")


async def test_node_processes_are_upgraded_under_a_running_pod_and_disturb_no_mount(space: Space, live: Live) -> None:
    """There and back: the new ones know of the volumes by what is mounted, and by nothing else."""
    node = live.record.nodes[0]
    await _counting(space, node)
    mounts, before = await _mounts(space, node), await _node_pod(live, node)
    assert mounts

    await live.kubectl("rollout", _IN, "restart", NODE)
    await _rolled_out(live, NODE)
    assert await _node_pod(live, node) != before
    await space.counts_on("counter")
    assert await _mounts(space, node) == mounts

    await live.kubectl("rollout", _IN, "undo", NODE)
    await _rolled_out(live, NODE)
    await space.counts_on("counter")
    assert await space.longest_pause("counter") < NOTICED
    assert await _mounts(space, node) == mounts
    await space.gone("pod", "counter")
    assert await _mounts(space, node) == {}


async def test_during_a_rollout_node_processes_that_are_older_work_with_a_newer_controller(
    space: Space, live: Live
) -> None:
    """The controllers are replaced first, and the node processes only when somebody deletes their pods."""
    node = live.record.nodes[0]
    older = await _node_pod(live, node)
    name = await space.storage_class(type="gp3")
    async with _pinned(live, NODE), _another(live, CONTROLLER):
        await space.claim("data", of=name)
        await space.pod("user", "data", on=node.name)
        await space.running("user")
        await space.shell("user", "echo kept > /data/file && sync")
        await space.gone("pod", "user")
        await space.pod("user", "data", on=node.name)
        await space.running("user")

        assert await space.shell("user", "cat /data/file") == "kept"
        assert await _node_pod(live, node) == older


async def test_a_node_process_that_cannot_learn_who_it_is_does_without_and_is_known_to_kubelet_when_it_can(
    space: Space, live: Live
) -> None:
    """Without Kubernetes' API no socket comes, by which kubelet would ask who it is; what is mounted can be unmounted.

    The socket of the process before it stays meanwhile: with it kubelet would forget the driver, which still serves.
    """
    node = live.record.nodes[0]
    await _counting(space, node)
    name, before = await _node_pod(live, node), await _socket(live, node)
    async with _cut_off(live, node):
        await driver_pods.kill(live, name)
        await driver_pods.unhealthy(live, name, because="--node-id")
        await space.gone("pod", "counter")
        assert await _mounts(space, node) == {}
        assert await _socket(live, node) == before

    async def known() -> bool:
        return await _socket(live, node) not in {before, ""}

    await eventually(known)
    await live.kubectl("wait", _IN, "--for=condition=Ready", f"pod/{name}", "--timeout=120s")


async def _counting(space: Space, node: NodeRecord) -> str:
    """The StorageClass of the volume of a pod `counter` on the node, which writes number after number."""
    name = await space.storage_class(type="gp3")
    await space.claim("data", of=name)
    await space.pod("counter", "data", on=node.name, script=COUNT)
    await space.running("counter")
    await space.counts_on("counter")
    return name


async def _mounts(space: Space, node: NodeRecord) -> dict[Path, int]:
    """The id of each mount of the volume of the claim `data` on a node."""
    name = (await space.bound("data"))["spec"]["volumeName"]
    table = mountinfo.parse(await files.off_loop(Path(f"/proc/{node.holder}/mountinfo").read_bytes))
    devices = {mount.number for mount in table if name in mount.point.parts}
    return {mount.point: mount.id for mount in table if mount.number in devices}


async def _socket(live: Live, node: NodeRecord) -> str:
    """What tells the registration socket of a node from every other; nothing where there is none."""
    look = f"stat -c '%i %y' {SOCKET} 2>/dev/null || true"
    return (await live.on_node(node.name, "sh", "-c", look)).strip()


async def _node_pod(live: Live, node: NodeRecord) -> str:
    """The name of the driver's pod on a node."""
    pods = await driver_pods.pods(live, NODE)
    (name,) = [one["metadata"]["name"] for one in pods if one["spec"].get("nodeName") == node.name]
    return str(name)


@asynccontextmanager
async def _pinned(live: Live, workload: str) -> AsyncGenerator[None]:
    """Pods of a DaemonSet stay as they are, whatever its template becomes."""
    strategy = (await live.kubectl.get(_IN, workload))["spec"]["updateStrategy"]
    await _patch(live, workload, {"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}}})
    try:
        async with _another(live, workload, wait=False):
            yield
    finally:
        await _patch(live, workload, {"spec": {"updateStrategy": strategy}})


@asynccontextmanager
async def _another(live: Live, workload: str, *, wait: bool = True) -> AsyncGenerator[None]:
    """A workload of another template, which differs as one of another version would: all its pods are new."""

    async def put(version: str | None) -> None:
        await _patch(live, workload, {"spec": {"template": {"metadata": {"annotations": {"another": version}}}}})
        if wait:
            await _rolled_out(live, workload)

    await put("version")
    try:
        yield
    finally:
        await put(None)


async def _rolled_out(live: Live, workload: str) -> None:
    await live.kubectl("rollout", _IN, "status", workload, "--timeout=170s")


async def _patch(live: Live, workload: str, patch: dict[str, Any]) -> None:
    await live.kubectl("patch", _IN, workload, "--patch", json.dumps(patch))


@asynccontextmanager
async def _cut_off(live: Live, node: NodeRecord) -> AsyncGenerator[None]:
    """No way leads from the node's pods to Kubernetes' API; kubelet has another."""
    rule = ("from", network.PODS, "to", network.API_SERVICE, "unreachable")
    await live.on_node(node.name, "ip", "rule", "add", *rule)
    try:
        yield
    finally:
        await live.on_node(node.name, "ip", "rule", "delete", *rule)
