"""Two controllers, of which one leads: when it is gone, another takes over."""

import pytest

from tests.support import driver_pods
from tests.support.cluster_namespace import ClusterNamespace
from tests.support.driver_pods import Sidecar
from tests.support.live_cluster import SYSTEM, LiveCluster


@pytest.mark.exclusive
@pytest.mark.usefixtures("pod_replacement")
async def test_when_the_leading_controller_is_gone_another_takes_over(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """The pod that replaces it may run before the lease expires, and then takes over as often as the other one."""
    first = await driver_pods.wait_for_leader(live, Sidecar.PROVISIONER)

    await live.kubectl("delete", f"--namespace={SYSTEM}", "pod", first, "--force", "--grace-period=0")
    await namespace.create_claim("data", of=await namespace.create_storage_class(type="gp3"))
    await namespace.create_pod("user", "data")
    await namespace.wait_for_pod("user")

    assert await driver_pods.wait_for_leader(live, Sidecar.PROVISIONER) != first
