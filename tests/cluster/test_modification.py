"""Volumes modified through VolumeAttributesClass: type, IOPS, throughput, and modifications that AWS refuses."""

import json
from typing import Any, Final

import pytest

from tests.support.cluster_namespace import ClusterNamespace
from tests.support.live_cluster import LiveCluster
from tests.support.pod_manifests import COUNT, INTERRUPTION

TOO_MANY: Final = "Iops to volume size ratio of 1875.000000 is too high; maximum is 500"
"""AWS's error text for 15000 IOPS on 8 GiB."""


@pytest.mark.requirement("data.changes-under-pod")
async def test_type_iops_and_throughput_change_in_the_cloud_while_the_pod_keeps_writing(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """CSI spec, ControllerModifyVolume."""
    await namespace.create_claim("data", of=await namespace.create_storage_class(type="gp2"), size="8Gi")
    await namespace.create_pod("writer", "data", script=COUNT)
    await namespace.wait_for_pod("writer")
    await namespace.wait_for_more_numbers("writer")

    fast = await namespace.create_attributes_class(type="gp3", iops="4000", throughput="250")
    await _set_class(namespace, fast)
    await _wait_for_class(namespace, fast)

    volume = await _ec2_volume(namespace, live)
    assert (volume["VolumeType"], volume["Iops"], volume["Throughput"]) == ("gp3", 4000, 250)
    await namespace.wait_for_more_numbers("writer")
    assert await namespace.longest_pause("writer") < INTERRUPTION
    await namespace.wait_for_event("data", f"^VolumeModify: external resizer is modifying volume data with vac {fast}$")
    await namespace.wait_for_event(
        "data", f"^VolumeModifySuccessful: external resizer modified volume data with vac {fast} success"
    )


@pytest.mark.requirement("csi.modify-volume.together")
async def test_a_claim_that_changes_its_size_and_its_class_costs_one_modification(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """The resizer makes two calls, the second one after its patch of the claim has conflicted with the first one's."""
    await namespace.create_claim("data", of=await namespace.create_storage_class(type="gp3"), size="8Gi")
    await namespace.create_pod("user", "data")
    await namespace.wait_for_pod("user")

    fast = await namespace.create_attributes_class(iops="4000")
    changes = {"volumeAttributesClassName": fast, "resources": {"requests": {"storage": "9Gi"}}}
    await namespace("patch", "pvc", "data", f"--patch={json.dumps({'spec': changes})}")
    await _wait_for_class(namespace, fast)

    async with live.client("ec2") as ec2:
        of = [{"Name": "volume-id", "Values": [(await _ec2_volume(namespace, live))["VolumeId"]]}]
        (latest,) = (await ec2.describe_volumes_modifications(Filters=of))["VolumesModifications"]
    assert (latest["OriginalSize"], latest["TargetSize"]) == (8, 9)
    assert (latest["OriginalIops"], latest["TargetIops"]) == (3000, 4000)


async def test_a_claim_with_an_attributes_class_gets_its_attributes_at_creation(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """CSI spec, CreateVolume: mutable_parameters take precedence over parameters."""
    fast = await namespace.create_attributes_class(iops="4000")
    await namespace.create_claim(
        "data", of=await namespace.create_storage_class(type="gp3"), size="8Gi", volumeAttributesClassName=fast
    )

    await namespace.create_pod("user", "data")
    await namespace.wait_for_pod("user")

    volume = await _ec2_volume(namespace, live)
    assert (volume["VolumeType"], volume["Iops"]) == ("gp3", 4000)
    await _wait_for_class(namespace, fast)


async def test_a_modification_that_aws_refuses_is_explained_on_the_claim_and_another_class_fixes_it(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """A gp3 volume has at most 500 IOPS for each GiB."""
    await namespace.create_claim("data", of=await namespace.create_storage_class(type="gp3"), size="8Gi")
    await namespace.create_pod("user", "data")
    await namespace.wait_for_pod("user")

    await _set_class(namespace, await namespace.create_attributes_class(iops="15000"))
    said = await namespace.wait_for_event("data", "^VolumeModifyFailed: ")

    assert TOO_MANY in said
    claim = await namespace.get("pvc", "data")
    condition = next(one for one in claim["status"]["conditions"] if one["type"] == "ModifyVolumeError")
    assert TOO_MANY in condition["message"]
    assert claim["status"]["modifyVolumeStatus"]["status"] == "Infeasible"
    good = await namespace.create_attributes_class(iops="4000")
    await _set_class(namespace, good)
    await _wait_for_class(namespace, good)
    assert (await _ec2_volume(namespace, live))["Iops"] == 4000


async def _set_class(namespace: ClusterNamespace, class_: str) -> None:
    """Set the claim's attributes class."""
    await namespace("patch", "pvc", "data", f'--patch={{"spec":{{"volumeAttributesClassName":"{class_}"}}}}')


async def _wait_for_class(namespace: ClusterNamespace, class_: str) -> None:
    """Wait until the claim's volume has the attributes of the class."""
    of = "jsonpath={.status.currentVolumeAttributesClassName}"
    await namespace("wait", f"--for={of}={class_}", "pvc/data", "--timeout=120s")


async def _ec2_volume(namespace: ClusterNamespace, live: LiveCluster) -> Any:  # a dictionary of the SDK's
    id_ = (await live.volume(await namespace.wait_until_bound("data")))["id"]
    async with live.client("ec2") as ec2:
        return (await ec2.describe_volumes(VolumeIds=[id_]))["Volumes"][0]
