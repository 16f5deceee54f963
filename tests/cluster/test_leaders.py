"""Two controllers, of which one leads: when it is gone, the other takes over."""

import pytest

from tests.support import driver_pods
from tests.support.cluster_namespace import ClusterNamespace
from tests.support.driver_pods import CONTROLLER, Sidecar
from tests.support.live_cluster import SYSTEM, LiveCluster


@pytest.mark.exclusive
@pytest.mark.usefixtures("pod_replacement")
async def test_when_the_leading_controller_is_gone_the_other_takes_over(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    first = await driver_pods.wait_for_leader(live, Sidecar.PROVISIONER)
    (other,) = {one["metadata"]["name"] for one in await driver_pods.list_pods(live, CONTROLLER)} - {first}

    await live.kubectl("delete", f"--namespace={SYSTEM}", "pod", first, "--force", "--grace-period=0")
    await namespace.create_claim("data", of=await namespace.create_storage_class(type="gp3"))
    await namespace.create_pod("user", "data")
    await namespace.wait_for_pod("user")

    assert await driver_pods.wait_for_leader(live, Sidecar.PROVISIONER) == other
