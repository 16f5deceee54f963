"""Pods that run on another node with their data: moved, drained, or scheduled away from a full node."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest

from localcluster.kubernetes.node import TAINT
from tests.support.cluster_namespace import XFS, ClusterNamespace
from tests.support.live_cluster import DRIVER, SYSTEM, LiveCluster
from tests.support.pod_manifests import CONTINUE_COUNT, TOLERATE_CORDON, stateful_set_manifest
from tests.support.waiting import wait_for_cluster

HOST: Final = "kubernetes.io/hostname"

ATTACH_LIMIT: Final = 7
"""The attach limit of a HyperPod node: the nine slots of its type, less the disk and the interface in its labels."""


@pytest.mark.requirement("data.moves")
async def test_a_stateful_sets_pod_moves_from_a_hyperpod_node_to_an_ec2_node_and_back_with_its_data(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """A cluster can have both kinds of node; each kind's volumes are attached through its own API."""
    hyperpod, ec2 = live.record.nodes[0], live.record.nodes[-1]
    class_ = await namespace.create_storage_class(**XFS)
    await namespace.apply(_job(class_, on=[hyperpod.name]))
    await wait_for_cluster(lambda: _runs_on(namespace, [hyperpod.name]))
    claim = await namespace.wait_until_bound("data-job-0")
    assert await _holders(live, claim) == {hyperpod.instance}
    written = await _write_noise(namespace)

    await namespace.apply(_job(class_, on=[ec2.name]))
    await wait_for_cluster(lambda: _runs_on(namespace, [ec2.name]))
    assert await _noise_digest(namespace) == written
    assert await _holders(live, claim) == {ec2.instance}
    await namespace.apply(_job(class_, on=[hyperpod.name]))
    await wait_for_cluster(lambda: _runs_on(namespace, [hyperpod.name]))

    assert await _noise_digest(namespace) == written
    assert await _holders(live, claim) == {hyperpod.instance}
    volume = claim["spec"]["volumeName"]
    await namespace.wait_for_event(
        "job-0", f'^SuccessfulAttachVolume: AttachVolume.Attach succeeded for volume "{volume}"'
    )


@pytest.mark.requirement("data.moves")
@pytest.mark.exclusive
async def test_a_pod_of_a_drained_node_moves_with_its_data(namespace: ClusterNamespace, live: LiveCluster) -> None:
    """The drain evicts the driver's controller pods as well; only the node pods stay."""
    nodes = [node.name for node in live.record.nodes[:2]]
    await namespace.apply(_job(await namespace.create_storage_class(**XFS), on=nodes))
    drained = await wait_for_cluster(lambda: _runs_on(namespace, nodes))
    written = await _write_noise(namespace)

    try:
        await live.kubectl("drain", drained, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s")
        await wait_for_cluster(lambda: _runs_on(namespace, [node for node in nodes if node != drained]))
    finally:
        await live.kubectl("uncordon", drained)

    assert await _noise_digest(namespace) == written
    claim = await namespace.wait_until_bound("data-job-0")
    assert await _holders(live, claim) == {node.instance for node in live.record.nodes[:2] if node.name != drained}


@pytest.mark.requirement("data.moves")
@pytest.mark.exclusive
async def test_a_pod_is_not_scheduled_on_a_node_at_its_attach_limit(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """CSI spec, NodeGetInfo: max_volumes_per_node."""
    full, class_ = live.record.nodes[0].name, await namespace.create_storage_class()
    assert await _limit(live, full) == ATTACH_LIMIT
    claims = [f"data-{number}" for number in range(ATTACH_LIMIT)]
    for claim in (*claims, "one-more", "too-much"):
        await namespace.create_claim(claim, of=class_)
    volumes = [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims]
    mounts = [{"name": claim, "mountPath": f"/{claim}"} for claim in claims]
    await namespace.create_pod("hoarder", "", on=full, volumes=volumes, container={"volumeMounts": mounts})
    await namespace.wait_for_pod("hoarder", seconds=240)

    await namespace.create_pod("choosy", "too-much", on=full)
    await namespace.create_pod("easy", "one-more", affinity=_prefer(full))
    easy = await namespace.wait_for_pod("easy")

    assert easy["spec"]["nodeName"] != full
    await namespace.wait_for_event("choosy", r"^FailedScheduling: .*1 node\(s\) exceed max volume count")


@pytest.mark.requirement("node.startup-taint")
@pytest.mark.exclusive
async def test_the_start_up_taint_is_removed_when_the_driver_runs_on_the_node(live: LiveCluster) -> None:
    """The taint is ebs.csi.aws.com/agent-not-ready; each kubelet of this cluster registers its node with it."""
    node = live.record.nodes[1]
    kubelet = await live.run_on_node(node.name, "cat", f"{live.record.directory}/nodes/{node.instance}/kubelet.json")
    assert TAINT["key"] in kubelet
    assert not await _has_taint(live, node.name)
    await live.kubectl("taint", "node", node.name, f"{TAINT['key']}={TAINT['value']}:{TAINT['effect']}")

    where = (f"--namespace={SYSTEM}", "--selector=app=ebs-csi-node", f"--field-selector=spec.nodeName={node.name}")
    try:
        await live.kubectl("delete", "pod", *where, "--wait")
        await live.kubectl("rollout", "status", "daemonset/ebs-csi-node", f"--namespace={SYSTEM}", "--timeout=120s")

        await wait_for_cluster(lambda: _has_no_taint(live, node.name))
    finally:
        await live.kubectl("taint", "node", node.name, f"{TAINT['key']}-", ok=(0, 1))


def _job(class_: str, *, on: Sequence[str]) -> Mapping[str, Any]:
    """A StatefulSet of one pod on one of these nodes; a pod for a single node tolerates a cordon."""
    one_of = {"key": HOST, "operator": "In", "values": list(on)}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [one_of]}]}
    only = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    return stateful_set_manifest(
        "job", class_, script=CONTINUE_COUNT, affinity=only, tolerations=[TOLERATE_CORDON] if len(on) == 1 else []
    )


async def _write_noise(namespace: ClusterNamespace) -> str:
    """Let the pod write a mebibyte of noise next to the numbers that it counts, and return the noise's digest."""
    await namespace.run_script("job-0", "dd if=/dev/urandom of=/data/noise bs=1M count=1 conv=fsync")
    await namespace.wait_for_more_numbers("job-0")
    return await namespace.run_script("job-0", "sha256sum /data/noise")


async def _noise_digest(namespace: ClusterNamespace) -> str:
    """The digest of the noise as it is now, after a check that the pod's numbers continue without a gap."""
    await namespace.wait_for_more_numbers("job-0")
    return await namespace.run_script("job-0", "sha256sum /data/noise")


def _prefer(node: str) -> Mapping[str, Any]:
    """An affinity that prefers a node."""
    there = {"matchExpressions": [{"key": HOST, "operator": "In", "values": [node]}]}
    return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": there}]}}


async def _runs_on(namespace: ClusterNamespace, nodes: Sequence[str]) -> str | None:
    """The one of these nodes on which the StatefulSet's pod is ready, if any."""
    for one in (await namespace.get("pods", "--selector=app=job"))["items"]:
        ready = any(
            each["type"] == "Ready" and each["status"] == "True" for each in one["status"].get("conditions", [])
        )
        going = "deletionTimestamp" in one["metadata"]
        if ready and not going and one["spec"].get("nodeName") in nodes:
            name: str = one["spec"]["nodeName"]
            return name
    return None


async def _holders(live: LiveCluster, claim: Mapping[str, Any]) -> set[str]:
    """The instances to which the claim's volume is attached, according to the cloud."""
    volume = await live.volume(claim)
    return {one["instance"] for one in await live.cloud("attachments") if one["volume"] == volume["id"]}


async def _limit(live: LiveCluster, node: str) -> int:
    """The attach limit that the driver reported for the node."""
    drivers = (await live.kubectl.get("csinode", node))["spec"]["drivers"]
    return next(int(one["allocatable"]["count"]) for one in drivers if one["name"] == DRIVER)


async def _has_taint(live: LiveCluster, node: str) -> bool:
    taints = (await live.kubectl.get("node", node))["spec"].get("taints", [])
    return TAINT["key"] in {one["key"] for one in taints}


async def _has_no_taint(live: LiveCluster, node: str) -> bool:
    return not await _has_taint(live, node)
