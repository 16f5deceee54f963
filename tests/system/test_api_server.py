"""Requests to an API server over real TLS: shared connections, changing credentials, and errors."""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hyperpod_ebs.driver.kubernetes.access import Access
from hyperpod_ebs.driver.kubernetes.api import Api
from hyperpod_ebs.driver.kubernetes.cluster import Kubernetes
from hyperpod_ebs.driver.model import errors
from tests.support.api_server import LABELS, NODE, OTHER_TAINT, PROVIDER_ID, STARTUP_TAINT, ApiServer


@contextlib.asynccontextmanager
async def connect(server: ApiServer) -> AsyncGenerator[Kubernetes]:
    """The cluster, as the driver's node process uses it."""
    api = Api(server.access)
    try:
        yield Kubernetes(api, NODE)
    finally:
        await api.close()


async def test_requests_share_a_connection_until_it_is_closed(tmp_path: Path) -> None:
    """A thousand nodes must not make a thousand TLS handshakes every few seconds, and API servers restart."""
    async with ApiServer.start(tmp_path) as before, connect(before) as cluster:
        for _ in range(5):
            await cluster.read_node()
        shared = len(before.peers)
        await before.stop()
        async with ApiServer.start(tmp_path, port=before.port) as after:
            await cluster.read_node()

    assert (shared, len(after.peers)) == (1, 1)


async def test_watches_that_start_together_do_not_end_together(api: ApiServer) -> None:
    """When an API server comes back, thousands of nodes start a watch at once, and would again at each watch's end."""
    async with connect(api) as cluster:
        for _ in range(10):
            async with contextlib.aclosing(cluster.watch_node()) as nodes:
                await anext(nodes)

    assert len(set(api.watches)) > 1
    assert all(300 <= seconds <= 600 for seconds in api.watches)


class Refusal(NamedTuple):
    """A failure of the API server, and the error that follows."""

    id: str
    settings: dict[str, Any]
    error: type[errors.Error]
    message: str


@pytest.mark.parametrize(
    "case",
    [
        Refusal("forbidden", {"forbidden": {"GET"}}, errors.Denied, "cannot get /api/v1/nodes/"),
        Refusal("broken", {"broken": True}, errors.Unavailable, "etcd is down"),
        Refusal("wrong token", {"token": "other"}, errors.Denied, "Unauthorized"),
    ],
    ids=lambda case: case.id,
)
async def test_an_error_of_the_api_server_keeps_its_message(api: ApiServer, case: Refusal) -> None:
    """The message names the right that is missing."""
    for name, value in case.settings.items():
        setattr(api, name, value)

    async with connect(api) as cluster:
        with pytest.raises(case.error, match=case.message):
            await cluster.read_node()


async def test_a_deleted_node_has_an_error_of_its_own(api: ApiServer) -> None:
    """The pre-stop hook waits for the volumes of a deleted node, but retries if the node cannot be read."""
    del api.nodes[NODE]

    async with connect(api) as cluster:
        with pytest.raises(errors.NodeNotFound, match="CSI_NODE_NAME"):
            await cluster.read_node()


@pytest.mark.usefixtures("api")
async def test_an_address_where_no_server_listens_is_an_error(tmp_path: Path) -> None:
    environment = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "9"}
    nowhere = Api(lambda: Access.from_pod(environment, tmp_path))

    with pytest.raises(errors.Unavailable, match=r"request GET /api/v1/nodes/.* to the API server failed"):
        await Kubernetes(nowhere, NODE).read_node()


async def test_a_certificate_for_another_host_is_not_trusted(api: ApiServer) -> None:
    server = Api(lambda: Access(server=f"https://localhost:{api.port}", tls=api.access().tls))

    with pytest.raises(errors.Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
        await Kubernetes(server, NODE).read_node()


async def test_outside_a_pod_the_error_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(errors.Refused, match=r"KUBERNETES_SERVICE_HOST is not set, .*; set --kubeconfig"):
        Access.from_pod({}, tmp_path)
    with pytest.raises(errors.Refused, match=r"cannot use the cluster's certificate .*ca\.crt"):
        Access.from_pod({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path)
    assert os.environ.get("KUBERNETES_SERVICE_HOST") is None


async def test_a_watch_yields_the_node_now_and_after_each_change(api: ApiServer) -> None:
    """Kubernetes API concepts, resourceVersion 0: a watch starts at any version, with synthetic ADDED events.

    Without a version, a watch waits for etcd's latest version, which an API server with etcd 3.4 may never learn.
    """
    async with connect(api) as cluster, asyncio.timeout(20), contextlib.aclosing(cluster.watch_node()) as nodes:
        before = await anext(nodes)
        await api.send_event("MODIFIED", api.put_node(NODE, PROVIDER_ID, LABELS, STARTUP_TAINT))
        after = await anext(nodes)

    assert (before.has_startup_taint, after.has_startup_taint) == (False, True)


@pytest.mark.requirement("node.startup-taint")
async def test_a_taint_is_removed_only_if_its_index_has_not_changed(api: ApiServer) -> None:
    """RFC 6902, section 5: a patch with a failed test changes nothing."""
    api.put_node(NODE, PROVIDER_ID, LABELS, OTHER_TAINT, STARTUP_TAINT)
    async with connect(api) as cluster:
        node = await cluster.read_node()
        startup = [taint for taint in node.taints if taint.key == STARTUP_TAINT["key"]]
        api.taints_before_patch.append({"key": "late/comer", "effect": "NoSchedule"})

        with pytest.raises(errors.Conflict):
            await cluster.remove_taints(node, startup)
        unchanged = list(api.nodes[NODE]["spec"]["taints"])
        await cluster.remove_taints(await cluster.read_node(), startup)

    assert [taint["key"] for taint in unchanged] == ["late/comer", OTHER_TAINT["key"], STARTUP_TAINT["key"]]
    assert [taint["key"] for taint in api.nodes[NODE]["spec"]["taints"]] == ["late/comer", OTHER_TAINT["key"]]
