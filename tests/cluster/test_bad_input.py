"""Bad input and missing permissions: one clear event where the user looks, nothing left behind, and recovery."""

from typing import NamedTuple

import pytest

from localcluster.driver_role import ROLE
from tests.support.cluster_namespace import ClusterNamespace
from tests.support.live_cluster import LiveCluster
from tests.support.waiting import wait_for_cluster


class Wrong(NamedTuple):
    """Invalid parameters, and the event about them."""

    id: str
    parameters: dict[str, str]
    says: str


CLASSES = (
    Wrong("an unknown parameter", {"colour": "red"}, "InvalidArgument desc = parameter 'colour' is not one of "),
    Wrong("an unknown volume type", {"type": "gp9"}, "InvalidArgument desc = type is 'gp9'; it must be one of "),
    Wrong(
        "text instead of a number", {"iops": "many"}, "InvalidArgument desc = iops is 'many'; it must be a whole number"
    ),
    Wrong(
        "more IOPS than the type has", {"type": "gp3", "iops": "100000"}, "InvalidArgument desc = .*100000 is too high"
    ),
)


@pytest.mark.requirement("classes.refusal-reported")
@pytest.mark.parametrize("wrong", [pytest.param(each, id=each.id) for each in CLASSES])
async def test_an_invalid_storage_class_is_reported_once_on_the_claim_and_leaves_nothing_behind(
    namespace: ClusterNamespace, live: LiveCluster, wrong: Wrong
) -> None:
    class_ = await namespace.create_storage_class(**wrong.parameters)

    await namespace.create_claim("data", of=class_)
    await namespace.create_pod("user", "data")
    said = await namespace.wait_for_event("data", f"^ProvisioningFailed: .*{wrong.says}")

    claim = await namespace.get("pvc", "data")
    assert claim["status"]["phase"] == "Pending"
    await namespace.delete("pod", "user")
    await namespace.delete("pvc", "data")
    assert {one for one in await live.events(namespace.name, "data") if one.startswith("ProvisioningFailed")} == {said}
    assert await _volumes_of(live, f"pvc-{claim['metadata']['uid']}") == []


async def test_a_clone_of_a_claim_is_refused_by_the_provisioner(namespace: ClusterNamespace) -> None:
    """The driver reports no capability CLONE_VOLUME (CSI spec, ControllerGetCapabilities), so no call reaches it."""
    class_ = await namespace.create_storage_class(binding="Immediate")
    await namespace.create_claim("source", of=class_)
    await namespace.wait_until_bound("source")

    await namespace.create_claim("clone", of=class_, dataSource={"kind": "PersistentVolumeClaim", "name": "source"})

    await namespace.wait_for_event("clone", "^ProvisioningFailed: .*CSI driver does not support clone operations")


@pytest.mark.requirement("classes.refusal-reported")
async def test_an_invalid_attributes_class_is_reported_on_the_claim_and_a_new_claim_with_another_class_works(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """Kubernetes lets only a bound claim name another class, so the event says what to do instead."""
    class_ = await namespace.create_storage_class()
    await namespace.create_claim(
        "data", of=class_, size="8Gi", volumeAttributesClassName=await namespace.create_attributes_class(iops="many")
    )
    await namespace.create_pod("user", "data")
    said = await namespace.wait_for_event("data", "^ProvisioningFailed: .*FailedPrecondition desc = .*iops is 'many'")
    wrong = await namespace.get("pvc", "data")

    await namespace.delete("pod", "user")
    await namespace.delete("pvc", "data")
    good = await namespace.create_attributes_class(iops="4000")
    await namespace.create_claim("data", of=class_, size="8Gi", volumeAttributesClassName=good)
    await namespace.create_pod("user", "data")
    await namespace.wait_for_pod("user")

    assert said.endswith("recreate the claim with another class")
    volumes = await _volumes_of(live, (await namespace.wait_until_bound("data"))["spec"]["volumeName"])
    assert [one["Iops"] for one in volumes] == [4000]
    assert await _volumes_of(live, f"pvc-{wrong['metadata']['uid']}") == []


@pytest.mark.requirement("classes.refusal-reported")
async def test_a_snapshot_class_with_an_unknown_parameter_is_reported_on_the_snapshot(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """The snapshotter writes its events on the content and its error on the snapshot."""
    await namespace.create_claim("data", of=await namespace.create_storage_class())
    await namespace.create_pod("user", "data")
    await namespace.wait_for_pod("user")
    says = "snapshot parameter 'colour' is not supported; remove it from the VolumeSnapshotClass"

    await namespace.create_snapshot("moment", "data", of=await namespace.create_snapshot_class(colour="red"))

    async def content_name() -> str | None:
        status = (await namespace.get("volumesnapshot", "moment")).get("status", {})
        message = status.get("error", {}).get("message", "")  # retryable errors may come first
        return status.get("boundVolumeSnapshotContentName") if says in message else None

    content: str = await wait_for_cluster(content_name)

    async def is_reported_on_content() -> bool:
        return any(says in one for one in await live.events("default", content))

    await wait_for_cluster(is_reported_on_content)
    volume = (await live.volume(await namespace.wait_until_bound("data")))["id"]
    assert volume not in {one["volume"] for one in await live.cloud("snapshots")}
    await namespace.delete("volumesnapshot", "moment")


@pytest.mark.requirement("denied.names-the-statement")
@pytest.mark.exclusive
async def test_a_missing_permission_to_create_volumes_is_named_on_the_claim_and_heals(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    await live.plan_fault("CreateVolume", deny=True, times=1000)

    await namespace.create_claim("data", of=await namespace.create_storage_class())
    await namespace.create_pod("user", "data")

    await namespace.wait_for_event(
        "data", f"^ProvisioningFailed: .*PermissionDenied.*ec2:CreateVolume on .* is denied to IAM role {ROLE}"
    )
    await live.cancel_faults()
    await namespace.wait_for_pod("user")


@pytest.mark.requirement("denied.names-the-statement")
@pytest.mark.exclusive
async def test_a_missing_permission_to_attach_to_hyperpod_nodes_is_named_on_the_pod_and_heals(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """The permission that HyperPod needs beyond AWS's managed policy for the driver."""
    await live.plan_fault("AttachClusterNodeVolume", deny=True, times=1000)

    await namespace.create_claim("data", of=await namespace.create_storage_class())
    await namespace.create_pod("user", "data", on=live.record.nodes[0].name)

    denied = f"sagemaker:AttachClusterNodeVolume on .* is denied to IAM role {ROLE}"
    await namespace.wait_for_event("user", f"^FailedAttachVolume: .*PermissionDenied.*{denied}")
    await live.cancel_faults()
    await namespace.wait_for_pod("user")


async def _volumes_of(live: LiveCluster, name: str) -> list[dict[str, object]]:
    """The cloud's volumes that were created for a persistent volume."""
    async with live.client("ec2") as ec2:
        asked = [{"Name": "tag:CSIVolumeName", "Values": [name]}]
        found: list[dict[str, object]] = (await ec2.describe_volumes(Filters=asked))["Volumes"]
        return found
