"""Volumes modified through VolumeAttributesClass: type, IOPS, throughput, and modifications that AWS refuses."""

from typing import Any, Final

import pytest

from tests.support.cluster_namespace import Space
from tests.support.live_cluster import Live
from tests.support.pod_manifests import COUNT, NOTICED

TOO_MANY: Final = "Iops to volume size ratio of 1875.000000 is too high; maximum is 500"
"""AWS's error text for 15000 IOPS on 8 GiB."""


@pytest.mark.requirement("data.changes-under-pod")
async def test_type_iops_and_throughput_change_at_the_cloud_while_the_pod_keeps_writing(
    space: Space, live: Live
) -> None:
    """CSI spec, ControllerModifyVolume."""
    await space.claim("data", of=await space.storage_class(type="gp2"), size="8Gi")
    await space.pod("writer", "data", script=COUNT)
    await space.running("writer")
    await space.counts_on("writer")

    fast = await space.attributes_class(type="gp3", iops="4000", throughput="250")
    await _set_class(space, fast)
    await _wait_for_class(space, fast)

    volume = await _ec2_volume(space, live)
    assert (volume["VolumeType"], volume["Iops"], volume["Throughput"]) == ("gp3", 4000, 250)
    await space.counts_on("writer")
    assert await space.longest_pause("writer") < NOTICED
    await space.says("data", f"^VolumeModify: external resizer is modifying volume data with vac {fast}$")
    await space.says("data", f"^VolumeModifySuccessful: external resizer modified volume data with vac {fast} success")


async def test_a_claim_with_an_attributes_class_gets_its_attributes_at_creation(space: Space, live: Live) -> None:
    """CSI spec, CreateVolume: mutable_parameters take precedence over parameters."""
    fast = await space.attributes_class(iops="4000")
    await space.claim("data", of=await space.storage_class(type="gp3"), size="8Gi", volumeAttributesClassName=fast)

    await space.pod("user", "data")
    await space.running("user")

    volume = await _ec2_volume(space, live)
    assert (volume["VolumeType"], volume["Iops"]) == ("gp3", 4000)
    await _wait_for_class(space, fast)


async def test_a_modification_that_aws_refuses_is_explained_on_the_claim_and_another_class_fixes_it(
    space: Space, live: Live
) -> None:
    """A gp3 volume has at most 500 IOPS for each GiB."""
    await space.claim("data", of=await space.storage_class(type="gp3"), size="8Gi")
    await space.pod("user", "data")
    await space.running("user")

    await _set_class(space, await space.attributes_class(iops="15000"))
    said = await space.says("data", "^VolumeModifyFailed: ")

    assert TOO_MANY in said
    claim = await space.get("pvc", "data")
    condition = next(one for one in claim["status"]["conditions"] if one["type"] == "ModifyVolumeError")
    assert TOO_MANY in condition["message"]
    assert claim["status"]["modifyVolumeStatus"]["status"] == "Infeasible"
    good = await space.attributes_class(iops="4000")
    await _set_class(space, good)
    await _wait_for_class(space, good)
    assert (await _ec2_volume(space, live))["Iops"] == 4000


async def _set_class(space: Space, class_: str) -> None:
    """Set the claim's attributes class."""
    await space("patch", "pvc", "data", f'--patch={{"spec":{{"volumeAttributesClassName":"{class_}"}}}}')


async def _wait_for_class(space: Space, class_: str) -> None:
    """Wait until the claim's volume has the attributes of the class."""
    of = "jsonpath={.status.currentVolumeAttributesClassName}"
    await space("wait", f"--for={of}={class_}", "pvc/data", "--timeout=120s")


async def _ec2_volume(space: Space, live: Live) -> Any:  # a dictionary of the SDK's
    id_ = (await live.volume(await space.bound("data")))["id"]
    async with live.ec2() as ec2:
        return (await ec2.describe_volumes(VolumeIds=[id_]))["Volumes"][0]
