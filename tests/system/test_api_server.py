"""The API server spoken to over real TLS: one connection, new credentials, and every error as one of ours."""

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
from tests.support.api_server import LABELS, NODE, OTHER, PROVIDER, TAINT, ApiServer


@pytest.fixture
async def api(tmp_path: Path) -> AsyncGenerator[ApiServer]:
    """A cluster."""
    async with ApiServer.running(tmp_path) as running:
        yield running


@contextlib.asynccontextmanager
async def client(server: ApiServer) -> AsyncGenerator[Kubernetes]:
    """This node's view of the cluster."""
    found = Api(server.access)
    try:
        yield Kubernetes(found, NODE)
    finally:
        await found.close()


async def test_requests_share_a_connection_and_outlive_it(tmp_path: Path) -> None:
    """Ours: a thousand nodes must not make a thousand handshakes every few seconds; and API servers restart."""
    async with ApiServer.running(tmp_path) as before, client(before) as cluster:
        for _ in range(5):
            await cluster.read_node()
        shared = len(before.peers)
        await before.stop()
        async with ApiServer.running(tmp_path, port=before.port) as after:
            await cluster.read_node()

    assert (shared, len(after.peers)) == (1, 1)


async def test_watches_that_begin_together_do_not_end_together(api: ApiServer) -> None:
    """Ours: those of five thousand nodes begin at once when the API server comes back, and would do so for ever."""
    async with client(api) as cluster:
        for _ in range(10):
            async with contextlib.aclosing(cluster.watch_node()) as nodes:
                await anext(nodes)

    assert len(set(api.watches)) > 1
    assert all(300 <= seconds <= 600 for seconds in api.watches)


class Refusal(NamedTuple):
    """What is wrong with the API server, and what becomes of it."""

    id: str
    wrong: dict[str, Any]
    error: type[errors.Error]
    says: str


@pytest.mark.parametrize(
    "case",
    [
        Refusal("forbidden", {"forbidden": {"GET"}}, errors.Denied, "cannot get /api/v1/nodes/"),
        Refusal("broken", {"broken": True}, errors.Unavailable, "etcd is away"),
        Refusal("unknown to it", {"token": "other"}, errors.Denied, "Unauthorized"),
    ],
    ids=lambda case: case.id,
)
async def test_what_the_api_server_refuses_is_an_error_of_ours_in_its_words(api: ApiServer, case: Refusal) -> None:
    """Ours: the sentence names the right that is missing."""
    for name, value in case.wrong.items():
        setattr(api, name, value)

    async with client(api) as cluster:
        with pytest.raises(case.error, match=case.says):
            await cluster.read_node()


async def test_a_node_that_is_gone_is_told_from_one_that_cannot_be_read(api: ApiServer) -> None:
    """The pre-stop hook waits for the volumes of the one and asks again for the other."""
    del api.nodes[NODE]

    async with client(api) as cluster:
        with pytest.raises(errors.NodeNotFound, match="CSI_NODE_NAME"):
            await cluster.read_node()


@pytest.mark.usefixtures("api")
async def test_where_nobody_listens_is_told_within_time(tmp_path: Path) -> None:
    """Ours."""
    environment = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "9"}
    nowhere = Api(lambda: Access.from_pod(environment, tmp_path))

    with pytest.raises(errors.Unavailable, match="cannot be asked"):
        await Kubernetes(nowhere, NODE).read_node()


async def test_a_certificate_of_somebody_else_is_not_trusted(api: ApiServer) -> None:
    """Ours."""
    found = Api(lambda: Access(server=f"https://localhost:{api.port}", tls=api.access().tls))

    with pytest.raises(errors.Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
        await Kubernetes(found, NODE).read_node()


async def test_outside_of_a_pod_it_is_said_what_is_missing(tmp_path: Path) -> None:
    """Ours."""
    with pytest.raises(errors.Refused, match="KUBERNETES_SERVICE_HOST is not set; give --kubeconfig"):
        Access.from_pod({}, tmp_path)
    with pytest.raises(errors.Refused, match=r"ca\.crt cannot be used"):
        Access.from_pod({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path)
    assert os.environ.get("KUBERNETES_SERVICE_HOST") is None


async def test_a_watch_shows_what_is_and_what_comes_and_ends_when_it_is_left(api: ApiServer) -> None:
    """Kubernetes' watch without a version: first what there is."""
    async with client(api) as cluster, asyncio.timeout(20), contextlib.aclosing(cluster.watch_node()) as nodes:
        before = await anext(nodes)
        await api.tell("MODIFIED", api.node(NODE, PROVIDER, LABELS, TAINT))
        after = await anext(nodes)

    assert (before.has_startup_taint, after.has_startup_taint) == (False, True)


@pytest.mark.requirement("node.startup-taint")
async def test_a_taint_is_taken_off_only_while_it_stands_where_it_was_read(api: ApiServer) -> None:
    """Kubernetes' JSON patch: a test that does not hold changes nothing."""
    api.node(NODE, PROVIDER, LABELS, OTHER, TAINT)
    async with client(api) as cluster:
        read = await cluster.read_node()
        ours = [taint for taint in read.taints if taint.key == TAINT["key"]]
        api.meddle.append({"key": "late/comer", "effect": "NoSchedule"})

        with pytest.raises(errors.Conflict):
            await cluster.remove_taints(read, ours)
        between = list(api.nodes[NODE]["spec"]["taints"])
        await cluster.remove_taints(await cluster.read_node(), ours)

    assert [taint["key"] for taint in between] == ["late/comer", OTHER["key"], TAINT["key"]]
    assert [taint["key"] for taint in api.nodes[NODE]["spec"]["taints"]] == ["late/comer", OTHER["key"]]
