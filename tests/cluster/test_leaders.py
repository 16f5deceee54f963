"""Two controllers, of which one leads: when it is gone, the other takes over."""

import pytest

from tests.support import driver_pods
from tests.support.cluster_namespace import Space
from tests.support.driver_pods import CONTROLLER, Sidecar
from tests.support.live_cluster import SYSTEM, Live


@pytest.mark.exclusive
@pytest.mark.usefixtures("replace_damaged_pods")
async def test_when_the_leading_controller_is_gone_the_other_takes_over(space: Space, live: Live) -> None:
    first = await driver_pods.leader(live, Sidecar.PROVISIONER)
    (other,) = {one["metadata"]["name"] for one in await driver_pods.pods(live, CONTROLLER)} - {first}

    await live.kubectl("delete", f"--namespace={SYSTEM}", "pod", first, "--force", "--grace-period=0")
    await space.claim("data", of=await space.storage_class(type="gp3"))
    await space.pod("user", "data")
    await space.running("user")

    assert await driver_pods.leader(live, Sidecar.PROVISIONER) == other
