"""What is wrong is said where its user looks, once; nothing comes of it, and it heals."""

from typing import NamedTuple

import pytest

from tests.support.cluster_namespace import Space
from tests.support.live_cluster import Live, eventually


class Wrong(NamedTuple):
    """Parameters that cannot be honoured, and what is said about them."""

    id: str
    parameters: dict[str, str]
    says: str


CLASSES = (
    Wrong(
        "a parameter that nobody knows", {"colour": "red"}, "InvalidArgument desc = parameter 'colour' is not one of "
    ),
    Wrong("a type that there is not", {"type": "gp9"}, "InvalidArgument desc = type is 'gp9'; it must be one of "),
    Wrong(
        "a number that is none", {"iops": "many"}, "InvalidArgument desc = iops is 'many'; it must be a whole number"
    ),
    Wrong(
        "more IOPS than the type has", {"type": "gp3", "iops": "100000"}, "InvalidArgument desc = .*100000 is too high"
    ),
)


@pytest.mark.parametrize("wrong", [pytest.param(each, id=each.id) for each in CLASSES])
async def test_a_storage_class_that_cannot_be_honoured_is_told_on_the_claim(
    space: Space, live: Live, wrong: Wrong
) -> None:
    """The issue: one clear event, and nothing left behind."""
    class_ = await space.storage_class(**wrong.parameters)

    await space.claim("data", of=class_)
    await space.pod("user", "data")
    said = await space.says("data", f"^ProvisioningFailed: .*{wrong.says}")

    claim = await space.get("pvc", "data")
    assert claim["status"]["phase"] == "Pending"
    await space.gone("pod", "user")
    await space.gone("pvc", "data")
    assert {one for one in await live.events(space.name, "data") if one.startswith("ProvisioningFailed")} == {said}
    assert await _named(live, f"pvc-{claim['metadata']['uid']}") == []


async def test_an_attributes_class_that_cannot_be_read_is_told_on_the_claim_which_is_made_anew_with_another(
    space: Space, live: Live
) -> None:
    """Kubernetes: only a bound claim may name another class, so the event says what to do instead."""
    class_ = await space.storage_class()
    await space.claim(
        "data", of=class_, size="8Gi", volumeAttributesClassName=await space.attributes_class(iops="many")
    )
    await space.pod("user", "data")
    said = await space.says("data", "^ProvisioningFailed: .*FailedPrecondition desc = .*iops is 'many'")
    wrong = await space.get("pvc", "data")

    await space.gone("pod", "user")
    await space.gone("pvc", "data")
    good = await space.attributes_class(iops="4000")
    await space.claim("data", of=class_, size="8Gi", volumeAttributesClassName=good)
    await space.pod("user", "data")
    await space.running("user")

    assert said.endswith("make the claim anew with another")
    volumes = await _named(live, (await space.bound("data"))["spec"]["volumeName"])
    assert [one["Iops"] for one in volumes] == [4000]
    assert await _named(live, f"pvc-{wrong['metadata']['uid']}") == []


async def test_a_snapshot_class_with_an_unknown_parameter_is_told_on_the_snapshot(space: Space, live: Live) -> None:
    """The issue: nothing left behind. The snapshotter puts its events on the content, and its error on the snapshot."""
    await space.claim("data", of=await space.storage_class())
    await space.pod("user", "data")
    await space.running("user")
    says = "snapshot parameter 'colour' is not offered; remove it from the class"

    await space.snapshot("moment", "data", of=await space.snapshot_class(colour="red"))

    async def told() -> str | None:
        status = (await space.get("volumesnapshot", "moment")).get("status", {})
        message = status.get("error", {}).get("message", "")  # others may come before, which are tried again
        return status.get("boundVolumeSnapshotContentName") if says in message else None

    content: str = await eventually(told)

    async def told_of_the_content() -> bool:
        return any(says in one for one in await live.events("default", content))

    await eventually(told_of_the_content)
    volume = (await live.volume(await space.bound("data")))["id"]
    assert volume not in {one["volume"] for one in await live.cloud("snapshots")}
    await space.gone("volumesnapshot", "moment")


@pytest.mark.exclusive
async def test_a_missing_permission_to_make_volumes_is_named_on_the_claim_and_heals(space: Space, live: Live) -> None:
    """The issue: a missing permission names the action."""
    await live.plan("CreateVolume", deny=True, times=1000)

    await space.claim("data", of=await space.storage_class())
    await space.pod("user", "data")

    await space.says("data", "^ProvisioningFailed: .*PermissionDenied.*not authorized to perform: ec2:CreateVolume")
    await live.forget_faults()
    await space.running("user")


@pytest.mark.exclusive
async def test_a_missing_permission_to_attach_to_hyperpod_nodes_is_named_on_the_pod_and_heals(
    space: Space, live: Live
) -> None:
    """The guide's extra permission, which is the one that is forgotten."""
    await live.plan("AttachClusterNodeVolume", deny=True, times=1000)

    await space.claim("data", of=await space.storage_class())
    await space.pod("user", "data", on=live.record.nodes[0].name)

    await space.says(
        "user", "^FailedAttachVolume: .*PermissionDenied.*not authorized to perform: sagemaker:AttachClusterNodeVolume"
    )
    await live.forget_faults()
    await space.running("user")


async def _named(live: Live, name: str) -> list[dict[str, object]]:
    """The cloud's volumes that were made for a persistent volume."""
    async with live.ec2() as ec2:
        asked = [{"Name": "tag:CSIVolumeName", "Values": [name]}]
        found: list[dict[str, object]] = (await ec2.describe_volumes(Filters=asked))["Volumes"]
        return found
