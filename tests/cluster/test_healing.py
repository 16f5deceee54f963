"""The driver where AWS cannot be had: it starts, says what is wrong, and heals when that is mended."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from localcluster.kubernetes.chart import Release
from localcluster.machines import network
from tests.support import driver_pods
from tests.support.cluster_namespace import Space
from tests.support.driver_pods import CONTROLLER, PLUGIN
from tests.support.live_cluster import SYSTEM, Live, eventually

pytestmark = [pytest.mark.exclusive, pytest.mark.usefixtures("relieved")]

UNREADY: Final = "Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 503"

_IN = f"--namespace={SYSTEM}"


async def test_a_controller_to_which_no_way_to_aws_leads_says_so_and_heals_with_the_way(
    space: Space, live: Live
) -> None:
    """In its log, its page and on the claim; it is not restarted, and not ready."""
    name = await space.storage_class(type="gp3")
    async with _cut_off(live):
        started = await _started_anew(live)
        await _unhealthy(live, started, because="no answer from AWS")
        await space.claim("data", of=name)
        await space.pod("user", "data")
        await space.says("data", "ProvisioningFailed: .*no answer from AWS")

    await _heals(live, started)
    await space.running("user", seconds=240)


async def test_a_controller_of_a_wrong_role_names_the_action_that_it_lacks_and_heals_with_the_role(live: Live) -> None:
    """No restart: a policy takes effect when it is changed."""
    await live.plan("DescribeVolumes", deny=True, times=1000)

    started = await _started_anew(live)
    await _unhealthy(live, started, because="ec2:DescribeVolumes on * is denied")
    await live.forget_faults()

    await _heals(live, started)


async def test_a_controller_of_wrong_keys_says_so_and_is_well_once_it_is_started_with_right_ones(live: Live) -> None:
    """What a Secret gives as environment is read when the container starts."""
    async with _other_key(live):
        started = await _started_anew(live)
        await _unhealthy(live, started, because="give the driver a role or keys that AWS knows")

    await live.kubectl("delete", _IN, "pod", started)
    await live.kubectl("rollout", _IN, "status", CONTROLLER, "--timeout=180s")


async def _started_anew(live: Live) -> str:
    """The name of a controller pod that has just come for another, and runs."""
    before = await driver_pods.pods(live, CONTROLLER)
    names = {one["metadata"]["name"] for one in before}
    await live.kubectl("delete", _IN, "pod", min(names), "--wait=false")

    async def running() -> str | None:
        new = (one for one in await driver_pods.pods(live, CONTROLLER) if one["metadata"]["name"] not in names)
        well = (one for one in new if one["status"].get("containerStatuses"))
        return next((one["metadata"]["name"] for one in well if "running" in driver_pods.container(one)["state"]), None)

    name: str = await eventually(running)
    return name


async def _unhealthy(live: Live, name: str, because: str) -> None:
    """See the page of a controller pod, and its log, say what is wrong; it lives, and is not ready."""
    await driver_pods.unhealthy(live, name, because)
    assert because in (await live.kubectl("logs", _IN, name, f"--container={PLUGIN}")).out
    pod = await driver_pods.pod(live, name)
    assert " 200 " in (await driver_pods.page(live, pod, "/livez")).partition("\n")[0]

    async def probed() -> bool:
        return UNREADY in await live.events(SYSTEM, name)

    await eventually(probed)
    assert not driver_pods.container(await driver_pods.pod(live, name))["ready"]


async def _heals(live: Live, name: str) -> None:
    """Come back when the pod is ready; it is as it was started."""
    await live.kubectl("wait", _IN, "--for=condition=Ready", f"pod/{name}", "--timeout=120s")
    assert driver_pods.container(await driver_pods.pod(live, name))["restartCount"] == 0


@asynccontextmanager
async def _cut_off(live: Live) -> AsyncGenerator[None]:
    """No way leads from a pod to the cloud; Kubernetes' API has an address of its own, and nodes have another way."""
    rule = ("from", network.PODS, "to", network.GATEWAY, "unreachable")
    async with AsyncExitStack() as stack:
        for node in live.record.nodes:
            await live.on_node(node.name, "ip", "rule", "add", *rule)
            stack.push_async_callback(live.on_node, node.name, "ip", "rule", "delete", *rule)
        yield


@asynccontextmanager
async def _other_key(live: Live) -> AsyncGenerator[None]:
    """The Secret of the access keys has one that the cloud does not know."""
    release, environment = Release(live.kubectl, Path(live.record.directory)), live.record.environment
    await release.credentials(environment["AWS_ACCESS_KEY_ID"], "another")
    try:
        yield
    finally:
        await release.credentials(environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"])
