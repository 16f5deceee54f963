"""Pods that come to run on another node, with their data: moved, drained, or sent on by a full node."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest

from localcluster.kubernetes.node import TAINT
from tests.support.cluster_namespace import XFS, Space
from tests.support.live_cluster import DRIVER, SYSTEM, Live, eventually
from tests.support.pod_manifests import CORDONED, GO_ON, stateful

HOST: Final = "kubernetes.io/hostname"

ROOM: Final = 7
"""Volumes that a HyperPod node here takes: its type's nine, less the disk and the interface that its labels tell of."""


async def test_a_stateful_sets_pod_moves_from_a_hyperpod_node_to_an_ec2_node_and_back_with_its_data(
    space: Space, live: Live
) -> None:
    """Guide: mixed clusters; each node's volumes go through the API that its kind has."""
    hyperpod, ec2 = live.record.nodes[0], live.record.nodes[-1]
    class_ = await space.storage_class(**XFS)
    await space.apply(_job(class_, on=[hyperpod.name]))
    await eventually(lambda: _runs_on(space, [hyperpod.name]))
    claim = await space.bound("data-job-0")
    assert await _holders(live, claim) == {hyperpod.instance}
    written = await _written(space)

    await space.apply(_job(class_, on=[ec2.name]))
    await eventually(lambda: _runs_on(space, [ec2.name]))
    assert await _kept(space) == written
    assert await _holders(live, claim) == {ec2.instance}
    await space.apply(_job(class_, on=[hyperpod.name]))
    await eventually(lambda: _runs_on(space, [hyperpod.name]))

    assert await _kept(space) == written
    assert await _holders(live, claim) == {hyperpod.instance}
    volume = claim["spec"]["volumeName"]
    await space.says("job-0", f'^SuccessfulAttachVolume: AttachVolume.Attach succeeded for volume "{volume}"')


@pytest.mark.exclusive
async def test_a_drained_node_gives_its_pod_and_its_data_to_another(space: Space, live: Live) -> None:
    """The issue: node drained. The driver's own pods are evicted with the rest, but for the node's."""
    nodes = [node.name for node in live.record.nodes[:2]]
    await space.apply(_job(await space.storage_class(**XFS), on=nodes))
    drained = await eventually(lambda: _runs_on(space, nodes))
    written = await _written(space)

    try:
        await live.kubectl("drain", drained, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s")
        await eventually(lambda: _runs_on(space, [node for node in nodes if node != drained]))
    finally:
        await live.kubectl("uncordon", drained)

    assert await _kept(space) == written
    claim = await space.bound("data-job-0")
    assert await _holders(live, claim) == {node.instance for node in live.record.nodes[:2] if node.name != drained}


@pytest.mark.exclusive
async def test_a_node_with_all_the_volumes_that_it_can_have_sends_the_next_pod_elsewhere(
    space: Space, live: Live
) -> None:
    """Kubernetes: the scheduler keeps to the limit that the driver names for the node's type."""
    full, class_ = live.record.nodes[0].name, await space.storage_class()
    assert await _limit(live, full) == ROOM
    claims = [f"data-{number}" for number in range(ROOM)]
    for claim in (*claims, "one-more", "too-much"):
        await space.claim(claim, of=class_)
    volumes = [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims]
    mounts = [{"name": claim, "mountPath": f"/{claim}"} for claim in claims]
    await space.pod("hoarder", "", on=full, volumes=volumes, container={"volumeMounts": mounts})
    await space.running("hoarder", seconds=240)

    await space.pod("choosy", "too-much", on=full)
    await space.pod("easy", "one-more", affinity=_rather(full))
    easy = await space.running("easy")

    assert easy["spec"]["nodeName"] != full
    await space.says("choosy", r"^FailedScheduling: .*1 node\(s\) exceed max volume count")


@pytest.mark.exclusive
async def test_the_start_up_taint_goes_when_the_driver_runs_on_the_node(live: Live) -> None:
    """Upstream's agent-not-ready; each kubelet here registers its node with it."""
    node = live.record.nodes[1]
    kubelet = await live.on_node(node.name, "cat", f"{live.record.directory}/nodes/{node.instance}/kubelet.json")
    assert TAINT["key"] in kubelet
    assert not await _tainted(live, node.name)
    await live.kubectl("taint", "node", node.name, f"{TAINT['key']}={TAINT['value']}:{TAINT['effect']}")

    where = (f"--namespace={SYSTEM}", "--selector=app=ebs-csi-node", f"--field-selector=spec.nodeName={node.name}")
    try:
        await live.kubectl("delete", "pod", *where, "--wait")
        await live.kubectl("rollout", "status", "daemonset/ebs-csi-node", f"--namespace={SYSTEM}", "--timeout=120s")

        await eventually(lambda: _untainted(live, node.name))
    finally:
        await live.kubectl("taint", "node", node.name, f"{TAINT['key']}-", ok=(0, 1))


def _job(class_: str, *, on: Sequence[str]) -> Mapping[str, Any]:
    """A set of one pod, on one of these nodes; it does not mind that they take no others, but for one to be drained."""
    one_of = {"key": HOST, "operator": "In", "values": list(on)}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [one_of]}]}
    only = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    return stateful("job", class_, script=GO_ON, affinity=only, tolerations=[CORDONED] if len(on) == 1 else [])


async def _written(space: Space) -> str:
    """The digest of a mebibyte of noise that the set's pod has just written, beside the numbers that it writes."""
    await space.shell("job-0", "dd if=/dev/urandom of=/data/noise bs=1M count=1 conv=fsync")
    await space.counts_on("job-0")
    return await space.shell("job-0", "sha256sum /data/noise")


async def _kept(space: Space) -> str:
    """The digest of what is there now of it; the numbers go on where they were stopped, and none is missing."""
    await space.counts_on("job-0")
    return await space.shell("job-0", "sha256sum /data/noise")


def _rather(node: str) -> Mapping[str, Any]:
    """An affinity for a node, where there is room."""
    there = {"matchExpressions": [{"key": HOST, "operator": "In", "values": [node]}]}
    return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": there}]}}


async def _runs_on(space: Space, nodes: Sequence[str]) -> str | None:
    """Which of these nodes the set's pod is ready on, if it is on any."""
    for one in (await space.get("pods", "--selector=app=job"))["items"]:
        ready = any(
            each["type"] == "Ready" and each["status"] == "True" for each in one["status"].get("conditions", [])
        )
        going = "deletionTimestamp" in one["metadata"]
        if ready and not going and one["spec"].get("nodeName") in nodes:
            name: str = one["spec"]["nodeName"]
            return name
    return None


async def _holders(live: Live, claim: Mapping[str, Any]) -> set[str]:
    """The instances that the cloud has the claim's volume attached to."""
    volume = await live.volume(claim)
    return {one["instance"] for one in await live.cloud("attachments") if one["volume"] == volume["id"]}


async def _limit(live: Live, node: str) -> int:
    """How many volumes the driver says that the node can have."""
    drivers = (await live.kubectl.get("csinode", node))["spec"]["drivers"]
    return next(int(one["allocatable"]["count"]) for one in drivers if one["name"] == DRIVER)


async def _tainted(live: Live, node: str) -> bool:
    taints = (await live.kubectl.get("node", node))["spec"].get("taints", [])
    return TAINT["key"] in {one["key"] for one in taints}


async def _untainted(live: Live, node: str) -> bool:
    return not await _tainted(live, node)
