"""The node's pre-stop hook: it waits if the node is leaving, only for this node's volumes, and with a time limit."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.api_server import NODE, ApiServer
from tests.support.driver_process import start_driver
from tests.support.waiting import wait_until

CORDONED: Final = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
LIST: Final = "GET /apis/storage.k8s.io/v1/volumeattachments"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncGenerator[ApiServer]:
    """The API server of a cluster: the node has a volume and one of another driver, another node has many."""
    async with ApiServer.start(tmp_path) as server:
        server.add_attachment("csi-of-another-driver", NODE, "efs.csi.aws.com")
        for number in range(1200):
            server.add_attachment(f"csi-elsewhere-{number}", "another-node")
        server.add_attachment("csi-here", NODE)
        yield server


def hook_arguments(api: ApiServer, *more: str) -> tuple[str, ...]:
    """The arguments of the pre-stop hook."""
    return ("pre-stop-hook", f"--kubeconfig={api.write_kubeconfig()}", "--logging-format=json", *more)


async def test_the_hook_of_a_node_that_stays_does_not_wait(api: ApiServer) -> None:
    """aws-ebs-csi-driver, pre-stop hook: an upgrade of the driver is not a drain."""
    async with start_driver(*hook_arguments(api), CSI_NODE_NAME=NODE) as hook:
        code = await hook.wait()

    assert code == 0
    assert LIST not in api.requests


@pytest.mark.requirement("node.pre-stop")
@pytest.mark.parametrize(
    "leaving",
    [
        {"taints": [CORDONED]},
        {"taints": [{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}]},
        {"taints": [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]},
        {"unschedulable": True},
        None,
    ],
    ids=["drained", "disrupted", "out of service", "just cordoned", "gone"],
)
async def test_a_node_that_leaves_waits_for_its_own_volumes(api: ApiServer, leaving: dict[str, Any] | None) -> None:
    """aws-ebs-csi-driver, pre-stop hook. In addition the out-of-service taint counts as leaving."""
    if leaving is None:
        del api.nodes[NODE]
    else:
        api.nodes[NODE]["spec"] |= leaving

    async with start_driver(*hook_arguments(api), CSI_NODE_NAME=NODE) as hook:
        await hook.wait_for_log("volumes still attached")
        await wait_until(_has_watch(api))
        await api.send_event("DELETED", api.add_attachment("csi-elsewhere-1", "another-node"))
        await api.send_event("DELETED", api.attachments.pop("csi-here"))
        code = await hook.wait()

    assert code == 0, hook.log
    assert api.requests.count(LIST) == 3  # the pages of one list; the watch reports later changes


async def test_a_watch_that_fails_is_started_again(api: ApiServer) -> None:
    """aws-ebs-csi-driver, pre-stop hook: it waits for ever after a failed watch, and this one must not."""
    api.nodes[NODE]["spec"]["taints"] = [CORDONED]

    async with start_driver(*hook_arguments(api), CSI_NODE_NAME=NODE) as hook:
        await hook.wait_for_log("volumes still attached")
        await wait_until(_has_watch(api))
        del api.attachments["csi-here"]
        await api.send_event("ERROR", {"message": "too old resource version"})
        code = await hook.wait()

    assert code == 0, hook.log


@pytest.mark.requirement("node.pre-stop")
async def test_the_hook_ends_before_the_grace_period_and_names_the_volumes_that_are_left(api: ApiServer) -> None:
    """The kubelet kills a hook at the end of the grace period, and a killed hook reports nothing."""
    api.nodes[NODE]["spec"]["taints"] = [CORDONED]
    for number in range(1, 1200):
        del api.attachments[f"csi-elsewhere-{number}"]  # reading them all could take longer than the wait here

    async with start_driver(*hook_arguments(api, "--wait-seconds=5"), CSI_NODE_NAME=NODE) as hook, asyncio.timeout(60):
        code = await hook.wait()

    assert code == 1
    assert "still attached after 5 s: pv-csi-here; their pods have not ended" in hook.log[-1]


async def test_the_hook_retries_an_api_server_that_is_down_until_its_time_is_over(api: ApiServer) -> None:
    """A node that leaves together with its control plane must still stop."""
    api.broken = True

    async with start_driver(*hook_arguments(api, "--wait-seconds=2"), CSI_NODE_NAME=NODE) as hook:
        code = await hook.wait()

    assert code == 1
    assert "cannot find out within 2 s whether volumes are still attached" in hook.log[-1]
    assert "etcd is down" in hook.log[-1]


async def test_the_hook_succeeds_during_an_uninstallation(api: ApiServer) -> None:
    """Helm deletes the rights and the service account without waiting for the pods, and the node stays."""
    api.nodes[NODE]["spec"]["taints"] = [CORDONED]
    api.forbidden.add("GET")

    async with start_driver(*hook_arguments(api), CSI_NODE_NAME=NODE) as hook:
        code = await hook.wait()

    assert code == 0
    assert "cannot read the node; not waiting for its volumes" in "".join(hook.log)
    assert LIST not in api.requests


async def test_the_hook_reports_that_it_may_not_watch_attachments(api: ApiServer) -> None:
    """Only the hook needs that right, so no other process would report that it is missing."""
    del api.nodes[NODE]
    api.forbidden.add("watch")

    async with start_driver(*hook_arguments(api), CSI_NODE_NAME=NODE) as hook:
        code = await hook.wait()

    assert code == 1
    assert 'User "node" cannot watch' in hook.log[-1]


@pytest.mark.parametrize("command", ["metadata-labeler", "metadataLabeler"])
async def test_the_command_metadata_labeler_is_refused_with_what_to_do_instead(command: str) -> None:
    """aws-ebs-csi-driver, metadata labeler: its command in both spellings, with flags."""
    async with start_driver(command, "--v=2", "--metrics-endpoint=:1") as labeler:
        code = await labeler.wait()

    assert code == 2
    assert "sidecars.metadataLabeler.enabled=false" in labeler.log[-1]


def _has_watch(api: ApiServer) -> Any:
    """A condition: the API server has a watch."""

    async def has_watch() -> bool:
        return any(request.startswith("watch") for request in api.requests)

    return has_watch
