"""Volumes that pods ask for: made, found, grown, copied."""

from live import Live, Space


async def test_a_volume_is_made_where_its_first_pod_is_and_its_data_outlives_the_pod(space: Space, live: Live) -> None:
    """Guide: dynamic provisioning, with WaitForFirstConsumer."""
    await space.claim("data", of=await space.storage_class(type="gp3"))
    await space.pod("first", "data")
    ready = await space.running("first")
    await space.shell("first", "dd if=/dev/urandom of=/data/file bs=1M count=8 && sync")
    digest = await space.shell("first", "sha256sum /data/file")

    await space.gone("pod", "first")
    await space.pod("second", "data")
    await space.running("second")

    assert await space.shell("second", "sha256sum /data/file") == digest
    claim = await space.bound("data")
    volume = await live.volume(claim)
    node = await live.kubectl.get("node", ready["spec"]["nodeName"])
    assert volume["zone"] == node["metadata"]["labels"]["topology.kubernetes.io/zone"]
    assert (volume["size_gib"], volume["type"]) == (1, "gp3")
