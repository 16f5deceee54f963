"""The driver's own pods on a cluster: who leads, killed, and whole again."""

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
from tests.support.live_cluster import DRIVER, SYSTEM, Live
from tests.support.waiting import wait_for_cluster

CONTROLLER: Final = "deployment/ebs-csi-controller"
NODE: Final = "daemonset/ebs-csi-node"
PLUGIN: Final = "ebs-plugin"
"""The container of the driver, in both."""

_IN: Final = f"--namespace={SYSTEM}"

_TO_BE_READY: Final = timedelta(seconds=30)
_ANSWERS: Final = 30
"""Seconds after which the cloud answers a call whose caller is to be killed before."""
_KILLED: Final = 128 + signal.SIGKILL


class Sidecar(StrEnum):
    """A sidecar of the controller's, by the lease that its leader holds."""

    PROVISIONER = "ebs-csi-aws-com"
    ATTACHER = "external-attacher-leader-ebs-csi-aws-com"
    RESIZER = "external-resizer-ebs-csi-aws-com"
    SNAPSHOTTER = "external-snapshotter-leader-ebs-csi-aws-com"


async def pods(live: Live, of: str) -> list[dict[str, Any]]:
    """The pods of a workload that are not on their way out."""
    listed = await live.kubectl.get(_IN, "pods", f"--selector=app={of.partition('/')[2]}")
    return [one for one in listed["items"] if _is_staying(one)]


async def pod(live: Live, name: str) -> dict[str, Any]:
    """One of them."""
    found: dict[str, Any] = await live.kubectl.get(_IN, "pod", name)
    return found


def container(of: dict[str, Any], name: str = PLUGIN) -> dict[str, Any]:
    """The state of a container of a pod."""
    return next(one for one in of["status"]["containerStatuses"] if one["name"] == name)


async def leader(live: Live, sidecar: Sidecar) -> str:
    """The controller pod whose sidecar does the work: one that is there and ready."""

    async def leads() -> str | None:
        items = (await live.kubectl.get(_IN, "pods,leases"))["items"]
        holders = {one["spec"].get("holderIdentity") for one in items if _is(one, "Lease", sidecar)}
        staying = (one for one in items if _is_ours(one) and _is_staying(one) and _is_ready(one))
        return next((one["metadata"]["name"] for one in staying if one["metadata"]["name"] in holders), None)

    found: str = await wait_for_cluster(leads)
    return found


async def page(live: Live, of: dict[str, Any], path: str) -> str:
    """What a driver pod answers at its health port, status line and all; asked from its node."""
    asked = f"printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 5 {of['status']['podIP']} 9808 || true"
    return await live.on_node(of["spec"]["nodeName"], "busybox", "sh", "-c", asked)


async def unhealthy(live: Live, name: str, because: str) -> None:
    """Come back when the page of a driver pod says that this is wrong with it; at its start it may not know yet.

    Raises:
        AssertionError: It does not come to say so; the message has what it said last.
    """
    said = ""

    async def told() -> bool:
        nonlocal said
        said = await page(live, await pod(live, name), "/healthz")
        return " 503 " in said.partition("\n")[0] and because in said

    try:
        await wait_for_cluster(told)
    except TimeoutError:
        pytest.fail(f"{name} does not say {because!r}, but: {said}", pytrace=False)


async def kill(live: Live, name: str) -> None:
    """Kill the driver's container in a pod, as the kernel does it when there is no more memory: with no warning."""
    found = await pod(live, name)
    id_ = container(found)["containerID"].rpartition("/")[2]
    await run_ctr(live.namespaces(found["spec"]["nodeName"]), "tasks", "kill", "--signal=SIGKILL", id_)


async def whole(live: Live) -> None:
    """Come back when all of the driver is ready; pods that are hurt give way first."""
    await relieved(live)
    await settled(live)


async def settled(live: Live) -> None:
    """Come back when all of the driver is ready."""

    async def ready() -> bool:
        items = (await live.kubectl.get(_IN, "pods,deployments,daemonsets,csinodes"))["items"]
        return _is_whole(items, {node.name for node in live.record.nodes})

    await wait_for_cluster(ready, seconds=240)


async def relieved(live: Live) -> None:
    """Let pods that had to restart, or are not well, give way to new ones; those that go already may be gone meanwhile.

    Kubelet lets a container wait longer after each time that it has ended: a later test has not to wait for that.
    """
    items = (await live.kubectl.get(_IN, "pods"))["items"]
    staying = [one for one in items if _is_ours(one) and _is_staying(one)]
    if hurt := [one["metadata"]["name"] for one in staying if _is_hurt(one)]:
        await live.kubectl("delete", _IN, "pod", *hurt, "--wait=false", "--ignore-not-found")


def _is_whole(items: Sequence[Mapping[str, Any]], nodes: AbstractSet[str]) -> bool:
    """Whether these objects show the driver as it is asked for on the nodes, with no pod on its way out."""
    named = {(one["kind"], one["metadata"]["name"]): one for one in items}
    controller, node = named["Deployment", "ebs-csi-controller"], named["DaemonSet", "ebs-csi-node"]
    replicas = controller["spec"]["replicas"]
    counts = [controller["status"].get(count) for count in ("replicas", "updatedReplicas", "readyReplicas")]
    counts += [node["status"].get(count) for count in ("updatedNumberScheduled", "numberReady")]
    # Counts may be of before, and hold pods that are going: so the pods themselves are looked at as well.
    pods_ = [one for one in items if _is_ours(one) and one["spec"].get("nodeName") in nodes]
    knowing = {one["metadata"]["name"] for one in items if one["kind"] == "CSINode" and _knows_the_driver(one)}
    return (
        all(one["status"].get("observedGeneration") == one["metadata"]["generation"] for one in (controller, node))
        and counts == [*[replicas] * 3, *[len(nodes)] * 2]
        and len(pods_) == replicas + len(nodes)
        and all(_is_staying(one) and _is_ready(one) for one in pods_)
        and knowing >= nodes  # kubelet registers a driver some time after its pod is ready
        and bool(named["Deployment", "snapshot-controller"]["status"].get("readyReplicas"))
    )


def _knows_the_driver(csinode: Mapping[str, Any]) -> bool:
    return any(driver["name"] == DRIVER for driver in csinode["spec"].get("drivers") or ())


def _is_ours(one: Mapping[str, Any]) -> bool:
    app = one["metadata"].get("labels", {}).get("app")
    return one["kind"] == "Pod" and app in {"ebs-csi-controller", "ebs-csi-node"}


def _is(one: Mapping[str, Any], kind: str, name: str) -> bool:
    return (one["kind"], one["metadata"]["name"]) == (kind, name)


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _is_staying(one: Mapping[str, Any]) -> bool:
    return "deletionTimestamp" not in one["metadata"]


def _is_hurt(of: Mapping[str, Any]) -> bool:
    age = datetime.now().astimezone() - datetime.fromisoformat(of["metadata"]["creationTimestamp"])
    containers = of["status"].get("containerStatuses", ())
    return any(one["restartCount"] or (not one["ready"] and age > _TO_BE_READY) for one in containers)


@asynccontextmanager
async def killed_in_the_middle(live: Live, sidecar: Sidecar, operation: str) -> AsyncGenerator[None]:
    """Kill the controller that works for a sidecar, once what the block begins has come as far as `operation`.

    The cloud has then done it, and has not answered yet.
    """
    name = await leader(live, sidecar)
    before = container(await pod(live, name))["restartCount"]
    await live.plan(operation, when="after", delay=_ANSWERS)
    yield
    async with asyncio.timeout(120):
        while await live.faults():  # noqa: ASYNC110 - a poll
            await asyncio.sleep(0.1)
    async with asyncio.timeout(_ANSWERS / 2):
        assert await leader(live, sidecar) == name
        await kill(live, name)

    async def killed() -> bool:
        found = container(await pod(live, name))
        ended = found["lastState"].get("terminated", {})
        return bool(found["restartCount"] == before + 1 and ended.get("exitCode") == _KILLED)

    await wait_for_cluster(killed)
