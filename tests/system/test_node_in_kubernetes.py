"""The node process in a cluster: who it is, how kubelet comes to know it, and the taint that goes then."""

import json
import stat
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
import pytest

from hyperpod_ebs.kit import files
from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc, pluginregistration_pb2, pluginregistration_pb2_grpc
from tests.support.api_server import LABELS, NODE, OTHER, PROVIDER, TAINT, ApiServer
from tests.support.driver_process import program
from tests.support.waiting import wait_until

HYPERPOD: Final = "hyperpod-abcdefghijkl-i-0123456789abcdef0"
INTERFACES: Final = "sagemaker.amazonaws.com/num-eni-attachments"


@dataclass
class Kubelet:
    """What a kubelet does with the sockets of one node process."""

    directory: Path

    @property
    def socket(self) -> Path:
        """Where the driver offers itself."""
        return self.directory / "registry" / "ebs.csi.aws.com-reg.sock"

    async def finds(self) -> tuple[int, int]:
        """What one socket is told from the next by, once there is one: a number alone may be given again."""
        await wait_until(self._there, seconds=30)
        found = await files.off_loop(self.socket.stat)
        return found.st_ino, found.st_mtime_ns

    async def _there(self) -> bool:
        return await files.off_loop(self.socket.exists)

    @asynccontextmanager
    async def registrar(self) -> AsyncGenerator[pluginregistration_pb2_grpc.RegistrationStub]:
        """A client of the registration socket."""
        async with grpc.aio.insecure_channel(f"unix://{self.socket}") as channel:
            yield pluginregistration_pb2_grpc.RegistrationStub(channel)

    async def info(self) -> csi_pb2.NodeGetInfoResponse:
        """NodeGetInfo on the driver's own socket."""
        async with grpc.aio.insecure_channel(f"unix://{self.directory / 'csi.sock'}") as channel:
            return await csi_pb2_grpc.NodeStub(channel).NodeGetInfo(csi_pb2.NodeGetInfoRequest(), wait_for_ready=True)

    async def ready(self) -> bool:
        """Probe on the driver's own socket."""
        async with grpc.aio.insecure_channel(f"unix://{self.directory / 'csi.sock'}") as channel:
            return (await csi_pb2_grpc.IdentityStub(channel).Probe(csi_pb2.ProbeRequest())).ready.value

    async def notify(self, error: str = "") -> None:
        """Tell the driver what became of its registration."""
        async with self.registrar() as registrar:
            await registrar.NotifyRegistrationStatus(
                pluginregistration_pb2.RegistrationStatus(plugin_registered=not error, error=error)
            )


@pytest.fixture
async def api(tmp_path: Path) -> AsyncGenerator[ApiServer]:
    """A cluster."""
    async with ApiServer.running(tmp_path) as running:
        yield running


def words(directory: Path, api: ApiServer, *more: str) -> tuple[str, ...]:
    """What starts a node process of the cluster."""
    return (
        "node",
        f"--endpoint=unix://{directory / 'csi.sock'}",
        f"--plugin-registration-path={directory / 'registry'}",
        "--kubelet-registration-path=/var/lib/kubelet/plugins/ebs.csi.aws.com/csi.sock",
        f"--kubeconfig={api.kubeconfig()}",
        "--logging-format=json",
        *more,
    )


async def page(address: str) -> tuple[int, str]:
    """The status and text of a page."""
    async with aiohttp.request("GET", address) as answer:
        return answer.status, await answer.text()


async def test_kubelet_finds_a_socket_asks_it_and_learns_who_the_node_is(short_path: Path, api: ApiServer) -> None:
    """Kubelet's plugin registration, and the guide: a HyperPod node by its provider id and labels."""
    kubelet = Kubelet(short_path)

    async with program(*words(short_path, api), CSI_NODE_NAME=NODE) as node:
        await kubelet.finds()
        mode = await files.off_loop(lambda: kubelet.socket.stat().st_mode)
        async with kubelet.registrar() as registrar:
            offered = await registrar.GetInfo(pluginregistration_pb2.InfoRequest())
        info = await kubelet.info()
        await kubelet.notify()
        await node.until("registered with kubelet")
        node.running.terminate()
        code = await node.ended()

    assert (offered.type, offered.name, list(offered.supported_versions)) == ("CSIPlugin", "ebs.csi.aws.com", ["1.0.0"])
    assert offered.endpoint == "/var/lib/kubelet/plugins/ebs.csi.aws.com/csi.sock"
    assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o600)
    assert (info.node_id, info.max_volumes_per_node) == (HYPERPOD, 23)
    assert info.accessible_topology.segments["topology.kubernetes.io/zone"] == "us-west-2a"
    assert code == 0
    assert sorted(str(path.relative_to(short_path)) for path in short_path.rglob("*")) == ["registry"]


async def test_a_plain_instance_is_known_by_its_provider_id_too(short_path: Path, api: ApiServer) -> None:
    """A mixed cluster, where instance metadata cannot be reached from a pod."""
    api.node(
        "ip-10-0-0-1",
        "aws:///us-west-2a/i-0fedcba9876543210",
        {**LABELS, "node.kubernetes.io/instance-type": "m5.large"},
    )

    async with program(*words(short_path, api, "--metadata-endpoint=http://127.0.0.1:9"), CSI_NODE_NAME="ip-10-0-0-1"):
        info = await Kubelet(short_path).info()

    assert (info.node_id, info.max_volumes_per_node) == ("i-0fedcba9876543210", 26)


async def test_the_attach_limit_follows_the_labels_while_the_process_runs(short_path: Path, api: ApiServer) -> None:
    """Kubernetes' nodeAllocatableUpdatePeriodSeconds: NodeGetInfo is asked again; and a token is changed meanwhile."""
    kubelet = Kubelet(short_path)

    async with program(*words(short_path, api), CSI_NODE_NAME=NODE):
        before = (await kubelet.info()).max_volumes_per_node
        api.node(NODE, PROVIDER, {**LABELS, INTERFACES: "4"})
        api.token = "second"
        (api.directory / "token").write_text(api.token)
        after = (await kubelet.info()).max_volumes_per_node

    assert (before, after) == (23, 20)


@pytest.mark.requirement("node.starts-unidentified")
async def test_a_node_that_is_not_known_starts_says_why_and_heals(short_path: Path, api: ApiServer) -> None:
    """Ours: no crash loop; the socket for kubelet appears when NodeGetInfo can answer."""
    kubelet = Kubelet(short_path)
    api.broken = True

    async with program(*words(short_path, api, "--health-endpoint=127.0.0.1:0"), CSI_NODE_NAME=NODE) as node:
        health = f"http://127.0.0.1:{json.loads(await node.until('pages served'))['port']}/healthz"
        logged = json.loads(await node.until("unhealthy"))["why"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await kubelet.info()
        told = await page(health)
        ready, offered = await kubelet.ready(), await files.off_loop(kubelet.socket.exists)
        api.broken = False
        await kubelet.finds()
        info = await kubelet.info()
        healed = (await page(health), await kubelet.ready())

    assert (ready, offered) == (False, False)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, logged)
    assert told == (503, f"{logged}\n")
    assert "etcd is away" in logged
    assert "--node-id, --zone and --instance-type" in logged
    assert info.node_id == HYPERPOD
    assert healed == ((200, "ok\n"), True)


async def test_after_a_failed_registration_there_is_a_new_socket(short_path: Path, api: ApiServer) -> None:
    """What kubelet's plugin manager needs to try again; no need to exit."""
    kubelet = Kubelet(short_path)

    async with program(*words(short_path, api), CSI_NODE_NAME=NODE) as node:
        first = await kubelet.finds()
        await kubelet.notify("the CSINode cannot be written")
        await node.until("the CSINode cannot be written")

        async def made_anew() -> bool:
            return await files.off_loop(kubelet.socket.exists) and await kubelet.finds() != first

        await wait_until(made_anew, seconds=20)
        await kubelet.notify()
        await node.until("registered with kubelet")


async def test_a_stale_socket_of_a_killed_process_is_replaced(short_path: Path, api: ApiServer) -> None:
    """Ours: a node process that was killed is started again under running pods."""
    kubelet = Kubelet(short_path)

    async with program(*words(short_path, api), CSI_NODE_NAME=NODE) as killed:
        first = await kubelet.finds()
        killed.running.kill()
        await killed.ended()
    async with program(*words(short_path, api), CSI_NODE_NAME=NODE) as node:
        await node.until("registration offered")
        second = await kubelet.finds()
        await kubelet.notify()

    assert first != second


@pytest.mark.requirement("node.startup-taint")
async def test_the_start_up_taint_goes_when_kubelet_knows_the_driver_and_no_other_with_it(
    short_path: Path, api: ApiServer
) -> None:
    """The guide's start-up taint; somebody else changes the taints at the same moment."""
    other = {"key": "late/comer", "effect": "NoSchedule"}
    api.node(NODE, PROVIDER, LABELS, OTHER, TAINT, {**TAINT, "effect": "NoSchedule"})
    api.meddle.append(other)

    async with program(*words(short_path, api), CSI_NODE_NAME=NODE) as node:
        await Kubelet(short_path).finds()
        await wait_until(_asked(api, "GET /apis/storage.k8s.io/v1/csinodes/"))
        before = list(api.nodes[NODE]["spec"]["taints"])
        api.enrol(NODE, 23)
        await Kubelet(short_path).notify()
        await node.until("start-up taint removed")
        after = api.nodes[NODE]["spec"]["taints"]

    assert len(before) == 3
    assert after == [other, OTHER]


async def test_a_taint_that_comes_late_goes_too(short_path: Path, api: ApiServer) -> None:
    """Upstream looks for ten minutes only; a watch that ends is begun anew."""
    api.enrol(NODE, 23)

    async with program(*words(short_path, api), CSI_NODE_NAME=NODE) as node:
        await wait_until(_asked(api, "watch /api/v1/nodes"))
        await api.tell("END", {})
        await wait_until(_asked(api, "watch /api/v1/nodes", times=2))
        await api.tell("MODIFIED", api.node(NODE, PROVIDER, LABELS, OTHER, TAINT))
        await node.until("start-up taint removed")

    assert api.nodes[NODE]["spec"]["taints"] == [OTHER]


@pytest.mark.requirement("node.startup-taint")
async def test_the_taint_stays_while_the_scheduler_does_not_know_the_limit(short_path: Path, api: ApiServer) -> None:
    """Upstream's rule: the CSINode lists the driver with an allocatable count."""
    api.node(NODE, PROVIDER, LABELS, TAINT)
    api.enrol(NODE, None)

    async with program(*words(short_path, api), CSI_NODE_NAME=NODE):
        await wait_until(_asked(api, "GET /apis/storage.k8s.io/v1/csinodes/", times=3))

    assert api.nodes[NODE]["spec"]["taints"] == [TAINT]


@pytest.mark.parametrize("how", ["switched off", "forbidden"])
async def test_where_it_may_not_be_touched_the_taint_is_left_alone(short_path: Path, api: ApiServer, how: str) -> None:
    """Upstream's DISABLE_TAINT_WATCHER and its chart's disableMutation, which takes the permission."""
    api.node(NODE, PROVIDER, LABELS, TAINT)
    api.enrol(NODE, 23)
    env = {"DISABLE_TAINT_WATCHER": "yes"} if how == "switched off" else {}
    api.forbidden = {"watch", "PATCH"}

    async with program(*words(short_path, api), CSI_NODE_NAME=NODE, **env) as node:
        await (node.until("is left to whoever set it") if how == "forbidden" else Kubelet(short_path).finds())
        info = await Kubelet(short_path).info()

    assert info.node_id == HYPERPOD
    assert api.nodes[NODE]["spec"]["taints"] == [TAINT]
    assert any(one.startswith("watch") for one in api.asked) is (how == "forbidden")


@pytest.mark.requirement("node.small")
async def test_a_node_in_a_cluster_loads_no_client_library(short_path: Path, api: ApiServer) -> None:
    """Ours: memory on every node of a cluster; the bound is the issue's."""
    env = {**api.environment, "CSI_NODE_NAME": NODE, "PYTHONPROFILEIMPORTTIME": "1"}
    argv = words(short_path, api)

    async with program(*argv, **env) as node:
        await node.until("registration offered")
        status = await files.off_loop((Path("/proc") / str(node.running.pid) / "status").read_text)
        node.running.terminate()
        await node.ended()

    imported = {line.rpartition("|")[2].strip() for line in "".join(node.said).splitlines() if "import time:" in line}
    packages = {name.partition(".")[0] for name in imported if "." in name}
    resident = next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))
    assert packages.isdisjoint({"aiobotocore", "botocore", "aiohttp", "requests", "urllib3", "kubernetes", "rich"})
    assert resident <= 55


def _asked(api: ApiServer, what: str, *, times: int = 1) -> Any:
    """Whether that has been asked so often."""

    async def enough() -> bool:
        return sum(one.startswith(what) for one in api.asked) >= times

    return enough
