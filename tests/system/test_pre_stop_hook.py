"""The node's pre-stop hook: it waits where the node leaves, for this node's volumes alone, and never too long."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.api_server import NODE, ApiServer
from tests.support.driver_process import program
from tests.support.waiting import wait_until

CORDONED: Final = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
LIST: Final = "GET /apis/storage.k8s.io/v1/volumeattachments"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncGenerator[ApiServer]:
    """A cluster, with a volume on this node, one of another driver, and many on another node."""
    async with ApiServer.running(tmp_path) as running:
        running.attach("csi-of-another-driver", NODE, "efs.csi.aws.com")
        for number in range(1200):
            running.attach(f"csi-elsewhere-{number}", "another-node")
        running.attach("csi-here", NODE)
        yield running


def words(api: ApiServer, *more: str) -> tuple[str, ...]:
    """What starts the hook."""
    return ("pre-stop-hook", f"--kubeconfig={api.kubeconfig()}", "--logging-format=json", *more)


async def test_a_node_that_stays_keeps_nobody_waiting(api: ApiServer) -> None:
    """Upstream's rule: an upgrade of the driver is no drain."""
    async with program(*words(api), CSI_NODE_NAME=NODE) as hook:
        code = await hook.ended()

    assert code == 0
    assert LIST not in api.asked


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
    """Upstream's hook, and the out-of-service taint; what other nodes and drivers have attached is not waited for."""
    if leaving is None:
        del api.nodes[NODE]
    else:
        api.nodes[NODE]["spec"] |= leaving

    async with program(*words(api), CSI_NODE_NAME=NODE) as hook:
        await hook.until("volumes still attached")
        await wait_until(_watched(api))
        await api.tell("DELETED", api.attach("csi-elsewhere-1", "another-node"))
        await api.tell("DELETED", api.attachments.pop("csi-here"))
        code = await hook.ended()

    assert code == 0, hook.said
    assert api.asked.count(LIST) == 3  # pages of one list: what changes is told by the watch


async def test_a_watch_that_is_lost_is_begun_anew(api: ApiServer) -> None:
    """Upstream then waits for ever."""
    api.nodes[NODE]["spec"]["taints"] = [CORDONED]

    async with program(*words(api), CSI_NODE_NAME=NODE) as hook:
        await hook.until("volumes still attached")
        await wait_until(_watched(api))
        del api.attachments["csi-here"]
        await api.tell("ERROR", {"message": "too old resource version"})
        code = await hook.ended()

    assert code == 0, hook.said


@pytest.mark.requirement("node.pre-stop")
async def test_it_ends_within_the_grace_period_and_names_what_is_left(api: ApiServer) -> None:
    """Ours: a hook that is killed says nothing."""
    api.nodes[NODE]["spec"]["taints"] = [CORDONED]
    for number in range(1, 1200):
        del api.attachments[f"csi-elsewhere-{number}"]  # to read them all may take as long as it waits here

    async with program(*words(api, "--wait-seconds=5"), CSI_NODE_NAME=NODE) as hook, asyncio.timeout(60):
        code = await hook.ended()

    assert code == 1
    assert "still attached after 5 s: pv-csi-here; their pods have not ended" in hook.said[-1]


async def test_an_api_server_that_is_away_is_asked_again_until_the_time_is_over(api: ApiServer) -> None:
    """Ours: a node that leaves with its control plane still ends."""
    api.broken = True

    async with program(*words(api, "--wait-seconds=2"), CSI_NODE_NAME=NODE) as hook:
        code = await hook.ended()

    assert code == 1
    assert "not known after 2 s" in hook.said[-1]
    assert "etcd is away" in hook.said[-1]


async def test_an_uninstallation_is_no_failure_of_the_hook(api: ApiServer) -> None:
    """Ours: Helm takes the rights and the account along without waiting for the pods, and nobody leaves."""
    api.nodes[NODE]["spec"]["taints"] = [CORDONED]
    api.forbidden.add("GET")

    async with program(*words(api), CSI_NODE_NAME=NODE) as hook:
        code = await hook.ended()

    assert code == 0
    assert "cluster does not tell whether the node leaves" in "".join(hook.said)
    assert LIST not in api.asked


async def test_a_node_that_leaves_and_may_not_see_its_volumes_says_so(api: ApiServer) -> None:
    """Ours: the hook alone needs that right, so that nobody else would tell that it is missing."""
    del api.nodes[NODE]
    api.forbidden.add("watch")

    async with program(*words(api), CSI_NODE_NAME=NODE) as hook:
        code = await hook.ended()

    assert code == 1
    assert 'User "node" cannot watch' in hook.said[-1]


@pytest.mark.parametrize("word", ["metadata-labeler", "metadataLabeler"])
async def test_a_labeler_is_refused_with_what_to_do(word: str) -> None:
    """Upstream's word, in both its forms, with flags after it."""
    async with program(word, "--v=2", "--metrics-endpoint=:1") as labeler:
        code = await labeler.ended()

    assert code == 2
    assert "sidecars.metadataLabeler.enabled=false" in labeler.said[-1]


def _watched(api: ApiServer) -> Any:
    async def watched() -> bool:
        return any(one.startswith("watch") for one in api.asked)

    return watched
