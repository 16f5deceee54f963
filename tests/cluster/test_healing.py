"""The driver without a usable AWS: it starts, reports the cause, and recovers when the cause is fixed."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import pytest

from localcluster.driver_role import POLICY
from localcluster.machines import network
from tests.support import driver_pods
from tests.support.cluster_namespace import ClusterNamespace
from tests.support.driver_pods import CONTROLLER, PLUGIN
from tests.support.live_cluster import SYSTEM, LiveCluster
from tests.support.waiting import wait_for_cluster

pytestmark = [pytest.mark.exclusive, pytest.mark.usefixtures("pod_replacement")]

UNREADY: Final = "Unhealthy: Readiness probe failed: the driver is not ready"

_IN = f"--namespace={SYSTEM}"

_SECRET: Final = "aws-secret"
"""The chart's default name of the Secret."""


@pytest.mark.requirement("controller.starts-without-aws")
async def test_a_controller_that_cannot_reach_aws_reports_it_and_recovers_without_a_restart(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """The log, the health page and the claim show the cause, and the pod is not ready."""
    name = await namespace.create_storage_class(type="gp3")
    async with _without_route_to_aws(live):
        started = await _replace_controller(live)
        await _assert_unhealthy(live, started, because="no answer from AWS")
        await namespace.create_claim("data", of=name)
        await namespace.create_pod("user", "data")
        await namespace.wait_for_event("data", "ProvisioningFailed: .*no answer from AWS")

    await _wait_until_ready(live, started)
    await namespace.wait_for_pod("user", seconds=240)


@pytest.mark.requirement("controller.starts-without-aws")
async def test_a_controller_whose_role_lacks_an_action_names_the_action_and_recovers_without_a_restart(
    live: LiveCluster,
) -> None:
    """An IAM policy takes effect when it is changed."""
    await live.plan_fault("DescribeVolumes", deny=True, times=1000)

    started = await _replace_controller(live)
    await _assert_unhealthy(live, started, because="ec2:DescribeVolumes on * is denied")
    await live.cancel_faults()

    await _wait_until_ready(live, started)


async def test_a_controller_with_wrong_keys_reports_them_and_works_after_a_start_with_right_keys(
    live: LiveCluster,
) -> None:
    """Keys in a Secret take precedence over the role. A container reads their variables when it starts."""
    async with _access_key(live) as key:
        await _apply_keys(live, key["AccessKeyId"], "another")
        started = await _replace_controller(live)
        await _assert_unhealthy(live, started, because="give the driver a role or access keys that AWS recognises")

        await _apply_keys(live, key["AccessKeyId"], key["SecretAccessKey"])
        before = await live.last_call()
        await live.kubectl("delete", _IN, "pod", started)
        await live.kubectl("rollout", _IN, "status", CONTROLLER, "--timeout=180s")

        assert key["UserName"] in {call["caller"].rpartition("/")[2] for call in await live.driver_calls(after=before)}

    await live.kubectl("rollout", _IN, "restart", CONTROLLER)
    await live.kubectl("rollout", _IN, "status", CONTROLLER, "--timeout=180s")


async def _replace_controller(live: LiveCluster) -> str:
    """Delete a controller pod and return the name of the running pod that replaces it."""
    before = await driver_pods.list_pods(live, CONTROLLER)
    names = {one["metadata"]["name"] for one in before}
    await live.kubectl("delete", _IN, "pod", min(names), "--wait=false")

    async def running() -> str | None:
        new = (one for one in await driver_pods.list_pods(live, CONTROLLER) if one["metadata"]["name"] not in names)
        well = (one for one in new if one["status"].get("containerStatuses"))
        return next(
            (one["metadata"]["name"] for one in well if "running" in driver_pods.container_status(one)["state"]), None
        )

    name: str = await wait_for_cluster(running)
    return name


async def _assert_unhealthy(live: LiveCluster, name: str, because: str) -> None:
    """Check that a controller pod's health page and log show the cause, and that it is live but not ready."""
    await driver_pods.wait_until_unhealthy(live, name, because)
    assert because in (await live.kubectl("logs", _IN, name, f"--container={PLUGIN}")).out
    pod = await driver_pods.get_pod(live, name)
    assert " 200 " in (await driver_pods.get_page(live, pod, "/livez")).partition("\n")[0]

    async def is_probed() -> bool:
        return any(event.startswith(UNREADY) for event in await live.events(SYSTEM, name))

    await wait_for_cluster(is_probed)
    assert not driver_pods.container_status(await driver_pods.get_pod(live, name))["ready"]


async def _wait_until_ready(live: LiveCluster, name: str) -> None:
    """Wait until the pod is ready; fail if its container was restarted."""
    await live.kubectl("wait", _IN, "--for=condition=Ready", f"pod/{name}", "--timeout=120s")
    assert driver_pods.container_status(await driver_pods.get_pod(live, name))["restartCount"] == 0


@asynccontextmanager
async def _without_route_to_aws(live: LiveCluster) -> AsyncGenerator[None]:
    """Block the route from pods to the cloud; the Kubernetes API has another address, and nodes another route."""
    rule = ("from", network.PODS, "to", network.GATEWAY, "unreachable")
    async with AsyncExitStack() as stack:
        for node in live.record.nodes:
            await live.run_on_node(node.name, "ip", "rule", "add", *rule)
            stack.push_async_callback(live.run_on_node, node.name, "ip", "rule", "delete", *rule)
        yield


@asynccontextmanager
async def _access_key(live: LiveCluster) -> AsyncGenerator[Mapping[str, str]]:
    """An access key of a user with the driver's permissions; at the end there is no Secret with keys any more."""
    name = "driver"
    async with live.client("iam") as iam:
        await iam.create_user(UserName=name)
        await iam.attach_user_policy(UserName=name, PolicyArn=f"arn:aws:iam::aws:policy/{POLICY}")
        key: Mapping[str, str] = (await iam.create_access_key(UserName=name))["AccessKey"]
        try:
            yield key
        finally:
            await live.kubectl("delete", _IN, "secret", _SECRET, "--ignore-not-found")
            await iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
            await iam.detach_user_policy(UserName=name, PolicyArn=f"arn:aws:iam::aws:policy/{POLICY}")
            await iam.delete_user(UserName=name)


async def _apply_keys(live: LiveCluster, key_id: str, key: str) -> None:
    """Create or update the Secret from which the driver reads its access key."""
    await live.kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": _SECRET, "namespace": SYSTEM},
            "stringData": {"key_id": key_id, "access_key": key},
        }
    )
