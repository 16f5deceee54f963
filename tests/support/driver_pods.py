"""The driver's pods on a cluster: finding the leader, killing the driver, and waiting until it is ready again."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import pytest

from localcluster.kubernetes.node import run_ctr
from tests.support.live_cluster import DRIVER, SYSTEM, LiveCluster
from tests.support.waiting import wait_for_cluster

CONTROLLER: Final = "deployment/ebs-csi-controller"
NODE: Final = "daemonset/ebs-csi-node"
PLUGIN: Final = "ebs-plugin"
"""The name of the driver's container, in both workloads."""

_NAMESPACE: Final = f"--namespace={SYSTEM}"

_START_TIME: Final = timedelta(seconds=30)
"""The age from which a pod that is not ready counts as damaged."""

_ANSWER_DELAY: Final = 30
"""Seconds by which the emulator delays its response to a caller that is to be killed meanwhile."""

_KILLED: Final = 128 + signal.SIGKILL


class Sidecar(StrEnum):
    """A sidecar of the controller, by the name of its leader's lease."""

    PROVISIONER = "ebs-csi-aws-com"
    ATTACHER = "external-attacher-leader-ebs-csi-aws-com"
    RESIZER = "external-resizer-ebs-csi-aws-com"
    SNAPSHOTTER = "external-snapshotter-leader-ebs-csi-aws-com"


async def list_pods(live: LiveCluster, workload: str) -> list[dict[str, Any]]:
    """The pods of a workload that are not terminating."""
    pods = await live.kubectl.get(_NAMESPACE, "pods", f"--selector=app={workload.partition('/')[2]}")
    return [pod for pod in pods["items"] if not _is_terminating(pod)]


async def get_pod(live: LiveCluster, name: str) -> dict[str, Any]:
    """A pod of the driver."""
    pod: dict[str, Any] = await live.kubectl.get(_NAMESPACE, "pod", name)
    return pod


def container_status(pod: dict[str, Any], name: str = PLUGIN) -> dict[str, Any]:
    """The status of a container of a pod."""
    return next(status for status in pod["status"]["containerStatuses"] if status["name"] == name)


async def find_process(live: LiveCluster, pod: dict[str, Any], name: str = PLUGIN) -> int:
    """The id of the process of a container of a pod, on the pod's node."""
    id_ = container_status(pod, name)["containerID"].rpartition("/")[2]
    tasks = (await run_ctr(live.namespaces(pod["spec"]["nodeName"]), "tasks", "list")).out
    return next(int(line.split()[1]) for line in tasks.splitlines() if line.startswith(id_))


async def process_environment(live: LiveCluster, pod: dict[str, Any]) -> dict[str, str]:
    """The environment variables of the driver's process in a pod."""
    process = await find_process(live, pod)
    content = await live.run_on_node(pod["spec"]["nodeName"], "cat", f"/proc/{process}/environ")
    return dict(entry.split("=", 1) for entry in content.split("\0") if entry)


async def wait_for_leader(live: LiveCluster, sidecar: Sidecar) -> str:
    """Wait until a ready controller pod holds the sidecar's lease; the pod's name."""

    async def ready_leader() -> str | None:
        items = (await live.kubectl.get(_NAMESPACE, "pods,leases"))["items"]
        leases = (item for item in items if (item["kind"], item["metadata"]["name"]) == ("Lease", sidecar))
        holders = {lease["spec"].get("holderIdentity") for lease in leases}
        pods = (item for item in items if _is_driver_pod(item) and not _is_terminating(item) and _is_ready(item))
        return next((pod["metadata"]["name"] for pod in pods if pod["metadata"]["name"] in holders), None)

    return await wait_for_cluster(ready_leader)


async def get_page(live: LiveCluster, pod: dict[str, Any], path: str) -> str:
    """A page of a pod's health endpoint, with the status line, requested from the pod's node."""
    request = f"printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 5 {pod['status']['podIP']} 9808 || true"
    return await live.run_on_node(pod["spec"]["nodeName"], "busybox", "sh", "-c", request)


async def wait_until_unhealthy(live: LiveCluster, name: str, because: str) -> None:
    """Wait until the health page of a pod reports this condition.

    Raises:
        AssertionError: It did not in time; the message has the last page.
    """
    page = ""

    async def is_unhealthy() -> bool:
        nonlocal page
        page = await get_page(live, await get_pod(live, name), "/healthz")
        return " 503 " in page.partition("\n")[0] and because in page

    try:
        await wait_for_cluster(is_unhealthy)
    except TimeoutError:
        pytest.fail(f"{name} does not report {because!r}; its last page is: {page}", pytrace=False)


async def kill_driver(live: LiveCluster, name: str) -> None:
    """Kill the driver's container in a pod without warning, as the kernel does when memory runs out."""
    pod = await get_pod(live, name)
    id_ = container_status(pod)["containerID"].rpartition("/")[2]
    await run_ctr(live.namespaces(pod["spec"]["nodeName"]), "tasks", "kill", "--signal=SIGKILL", id_)


async def restore_driver(live: LiveCluster) -> None:
    """Replace damaged pods, and wait until the driver is ready."""
    await replace_damaged_pods(live)
    await wait_until_ready(live)


async def wait_until_ready(live: LiveCluster) -> None:
    """Wait until all pods of the driver are ready."""

    async def is_ready() -> bool:
        items = (await live.kubectl.get(_NAMESPACE, "pods,deployments,daemonsets,csinodes"))["items"]
        return _is_driver_ready(items, {node.name for node in live.record.nodes})

    await wait_for_cluster(is_ready, seconds=240)


async def replace_damaged_pods(live: LiveCluster) -> None:
    """Delete pods whose containers were restarted or are not ready; terminating pods may be gone meanwhile.

    kubelet's restart backoff grows with each restart of a container, and later tests would have to wait for it.
    """
    items = (await live.kubectl.get(_NAMESPACE, "pods"))["items"]
    pods = [item for item in items if _is_driver_pod(item) and not _is_terminating(item)]
    if damaged := [pod["metadata"]["name"] for pod in pods if _is_damaged(pod)]:
        await live.kubectl("delete", _NAMESPACE, "pod", *damaged, "--wait=false", "--ignore-not-found")


def _is_driver_ready(items: Sequence[Mapping[str, Any]], nodes: AbstractSet[str]) -> bool:
    """Whether these objects show the driver ready on these nodes, and no terminating pod."""
    named = {(item["kind"], item["metadata"]["name"]): item for item in items}
    controller, node = named["Deployment", "ebs-csi-controller"], named["DaemonSet", "ebs-csi-node"]
    replicas = controller["spec"]["replicas"]
    counts = [controller["status"].get(count) for count in ("replicas", "updatedReplicas", "readyReplicas")]
    counts += [node["status"].get(count) for count in ("updatedNumberScheduled", "numberReady")]
    # Counts can be outdated and include terminating pods, so the pods themselves are checked as well.
    pods = [item for item in items if _is_driver_pod(item) and item["spec"].get("nodeName") in nodes]
    registered = {item["metadata"]["name"] for item in items if item["kind"] == "CSINode" and _has_driver(item)}
    return (
        all(item["status"].get("observedGeneration") == item["metadata"]["generation"] for item in (controller, node))
        and counts == [*[replicas] * 3, *[len(nodes)] * 2]
        and len(pods) == replicas + len(nodes)
        and all(not _is_terminating(pod) and _is_ready(pod) for pod in pods)
        and registered >= nodes  # kubelet registers the driver some time after its pod is ready
        and bool(named["Deployment", "snapshot-controller"]["status"].get("readyReplicas"))
    )


def _has_driver(csi_node: Mapping[str, Any]) -> bool:
    return any(driver["name"] == DRIVER for driver in csi_node["spec"].get("drivers") or ())


def _is_driver_pod(item: Mapping[str, Any]) -> bool:
    app = item["metadata"].get("labels", {}).get("app")
    return item["kind"] == "Pod" and app in {"ebs-csi-controller", "ebs-csi-node"}


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _is_terminating(item: Mapping[str, Any]) -> bool:
    return "deletionTimestamp" in item["metadata"]


def _is_damaged(pod: Mapping[str, Any]) -> bool:
    age = datetime.now().astimezone() - datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
    statuses = pod["status"].get("containerStatuses", ())
    return any(status["restartCount"] or (not status["ready"] and age > _START_TIME) for status in statuses)


@asynccontextmanager
async def kill_during_operation(live: LiveCluster, sidecar: Sidecar, operation: str) -> AsyncGenerator[None]:
    """Kill the leading controller of a sidecar during an AWS operation that the block causes.

    The emulator has carried the operation out, and has not responded yet.
    """
    name = await wait_for_leader(live, sidecar)
    restarts = container_status(await get_pod(live, name))["restartCount"]
    await live.plan_fault(operation, when="after", delay=_ANSWER_DELAY)
    yield
    async with asyncio.timeout(120):
        while await live.list_faults():  # noqa: ASYNC110 - the emulator is polled
            await asyncio.sleep(0.1)
    async with asyncio.timeout(_ANSWER_DELAY / 2):
        assert await wait_for_leader(live, sidecar) == name
        await kill_driver(live, name)

    async def was_killed() -> bool:
        status = container_status(await get_pod(live, name))
        terminated = status["lastState"].get("terminated", {})
        return bool(status["restartCount"] == restarts + 1 and terminated.get("exitCode") == _KILLED)

    await wait_for_cluster(was_killed)
