"""The driver's own pods on a cluster: who leads, killed, and whole again."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any, Final

import pytest

from live import DRIVER, SYSTEM, Live, eventually
from localcluster.node import SOCKET

CONTROLLER: Final = "deployment/ebs-csi-controller"
NODE: Final = "daemonset/ebs-csi-node"
PLUGIN: Final = "ebs-plugin"
"""The container of the driver, in both."""

_IN: Final = f"--namespace={SYSTEM}"


class Sidecar(StrEnum):
    """A sidecar of the controller's, by the lease that its leader holds."""

    PROVISIONER = "ebs-csi-aws-com"
    ATTACHER = "external-attacher-leader-ebs-csi-aws-com"
    RESIZER = "external-resizer-ebs-csi-aws-com"
    SNAPSHOTTER = "external-snapshotter-leader-ebs-csi-aws-com"


async def pods(live: Live, of: str) -> list[dict[str, Any]]:
    """The pods of a workload that are not on their way out."""
    workload = await live.kubectl.get(_IN, of)
    labels = workload["spec"]["selector"]["matchLabels"]
    selector = ",".join(f"{name}={value}" for name, value in labels.items())
    listed = await live.kubectl.get(_IN, "pods", f"--selector={selector}")
    return [pod for pod in listed["items"] if "deletionTimestamp" not in pod["metadata"]]


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
        lease = await live.kubectl.get(_IN, "lease", sidecar)
        ready = {one["metadata"]["name"] for one in await pods(live, CONTROLLER) if container(one)["ready"]}
        return next((name for name in ready if name == lease["spec"]["holderIdentity"]), None)

    found: str = await eventually(leads)
    return found


async def page(live: Live, of: dict[str, Any], path: str) -> str:
    """What a driver pod answers at its health port, status line and all; asked from its node."""
    asked = f"printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' | busybox nc {of['status']['podIP']} 9808 || true"
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
        await eventually(told)
    except TimeoutError:
        pytest.fail(f"{name} does not say {because!r}, but: {said}", pytrace=False)


async def kill(live: Live, name: str) -> None:
    """Kill the driver's container in a pod, as the kernel does it when there is no more memory: with no warning."""
    found = await pod(live, name)
    id_ = container(found)["containerID"].rpartition("/")[2]
    ctr = ("ctr", "--namespace=k8s.io", f"--address={SOCKET}")
    await live.on_node(found["spec"]["nodeName"], *ctr, "tasks", "kill", "--signal=SIGKILL", id_)


async def whole(live: Live) -> None:
    """Come back when all of the driver is ready; pods that had to restart, or are not well, give way to new ones.

    Kubelet lets a container wait longer after each time that it has ended: a later test has not to wait for that.
    """
    for workload in (CONTROLLER, NODE):
        hurt = [one["metadata"]["name"] for one in await pods(live, workload) if _hurt(one)]
        if hurt:
            await live.kubectl("delete", _IN, "pod", *hurt, "--wait")
    for workload in (CONTROLLER, NODE):
        await live.kubectl("rollout", _IN, "status", workload, "--timeout=120s")

    async def registered() -> bool:
        nodes = (await live.kubectl.get("csinodes"))["items"]
        knowing = {
            one["metadata"]["name"]
            for one in nodes
            if any(driver["name"] == DRIVER for driver in one["spec"].get("drivers") or ())
        }
        return knowing >= {node.name for node in live.record.nodes}

    await eventually(registered)  # kubelet registers a driver some time after its pod is ready


def _hurt(of: dict[str, Any]) -> bool:
    return any(one["restartCount"] or not one["ready"] for one in of["status"].get("containerStatuses", ()))


@asynccontextmanager
async def killed_in_the_middle(live: Live, sidecar: Sidecar, operation: str) -> AsyncGenerator[None]:
    """Kill the controller that works for a sidecar, once what the block begins has come as far as `operation`.

    The cloud has then done it, and has not answered yet.
    """
    name = await leader(live, sidecar)
    await live.plan(operation, when="after", delay=10)
    yield
    async with asyncio.timeout(60):
        while await live.faults():  # noqa: ASYNC110 - a poll
            await asyncio.sleep(0.1)
    await kill(live, name)
