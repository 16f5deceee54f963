"""The node process in a cluster: its identity, its registration with kubelet, and the start-up taint."""

import json
import stat
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
import pytest

from hyperpod_ebs.kit import files
from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc, pluginregistration_pb2, pluginregistration_pb2_grpc
from tests.support.api_server import LABELS, NODE, OTHER_TAINT, PROVIDER_ID, STARTUP_TAINT, ApiServer
from tests.support.driver_process import HYPERPOD_NODE, start_driver
from tests.support.loop_device_node import GIB, LoopNode
from tests.support.waiting import wait_until

INTERFACES: Final = "sagemaker.amazonaws.com/num-eni-attachments"


@dataclass
class Kubelet:
    """A kubelet's calls to the sockets of one node process."""

    directory: Path

    @property
    def socket(self) -> Path:
        """The driver's registration socket."""
        return self.directory / "registry" / "ebs.csi.aws.com-reg.sock"

    async def wait_for_socket(self) -> tuple[int, int]:
        """Wait for the registration socket, and return its inode and time: inode numbers alone are reused."""
        await wait_until(self._has_socket, seconds=30)
        found = await files.off_loop(self.socket.stat)
        return found.st_ino, found.st_mtime_ns

    async def _has_socket(self) -> bool:
        return await files.off_loop(self.socket.exists)

    @asynccontextmanager
    async def connect_registration(self) -> AsyncGenerator[pluginregistration_pb2_grpc.RegistrationStub]:
        """Connect to the registration socket."""
        async with grpc.aio.insecure_channel(f"unix://{self.socket}") as channel:
            yield pluginregistration_pb2_grpc.RegistrationStub(channel)

    async def node_info(self) -> csi_pb2.NodeGetInfoResponse:
        """Call NodeGetInfo on the driver's CSI socket."""
        async with grpc.aio.insecure_channel(f"unix://{self.directory / 'csi.sock'}") as channel:
            return await csi_pb2_grpc.NodeStub(channel).NodeGetInfo(csi_pb2.NodeGetInfoRequest(), wait_for_ready=True)

    async def is_ready(self) -> bool:
        """Call Probe on the driver's CSI socket."""
        async with grpc.aio.insecure_channel(f"unix://{self.directory / 'csi.sock'}") as channel:
            return (await csi_pb2_grpc.IdentityStub(channel).Probe(csi_pb2.ProbeRequest())).ready.value

    async def notify(self, error: str = "") -> None:
        """Report to the driver that its registration succeeded, or failed with `error`."""
        async with self.connect_registration() as registration:
            await registration.NotifyRegistrationStatus(
                pluginregistration_pb2.RegistrationStatus(plugin_registered=not error, error=error)
            )


def cluster_node_arguments(directory: Path, api: ApiServer, *more: str) -> tuple[str, ...]:
    """The arguments of a node process of the cluster."""
    return (
        "node",
        f"--endpoint=unix://{directory / 'csi.sock'}",
        f"--plugin-registration-path={directory / 'registry'}",
        "--kubelet-registration-path=/var/lib/kubelet/plugins/ebs.csi.aws.com/csi.sock",
        f"--kubeconfig={api.write_kubeconfig()}",
        "--logging-format=json",
        *more,
    )


async def get_page(address: str) -> tuple[int, str]:
    """Get a page's status and text."""
    async with aiohttp.request("GET", address) as answer:
        return answer.status, await answer.text()


async def test_the_node_process_registers_a_hyperpod_node_with_kubelet(short_path: Path, api: ApiServer) -> None:
    """Kubernetes, kubelet plugin registration. The node is identified by its provider id and labels."""
    kubelet = Kubelet(short_path)

    async with start_driver(*cluster_node_arguments(short_path, api), CSI_NODE_NAME=NODE) as node:
        await kubelet.wait_for_socket()
        mode = await files.off_loop(lambda: kubelet.socket.stat().st_mode)
        async with kubelet.connect_registration() as registration:
            offered = await registration.GetInfo(pluginregistration_pb2.InfoRequest())
        info = await kubelet.node_info()
        await kubelet.notify()
        await node.wait_for_log("registered with kubelet")
        node.subprocess.terminate()
        code = await node.wait()

    assert (offered.type, offered.name, list(offered.supported_versions)) == ("CSIPlugin", "ebs.csi.aws.com", ["1.0.0"])
    assert offered.endpoint == "/var/lib/kubelet/plugins/ebs.csi.aws.com/csi.sock"
    assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o600)
    assert (info.node_id, info.max_volumes_per_node) == (HYPERPOD_NODE, 23)
    assert info.accessible_topology.segments["topology.kubernetes.io/zone"] == "us-west-2a"
    assert code == 0
    assert sorted(str(path.relative_to(short_path)) for path in short_path.rglob("*")) == ["registry"]


async def test_a_plain_ec2_instance_is_identified_by_its_provider_id(short_path: Path, api: ApiServer) -> None:
    """The cluster has EC2 and HyperPod nodes, and its pods cannot reach the instance metadata."""
    api.put_node(
        "ip-10-0-0-1",
        "aws:///us-west-2a/i-0fedcba9876543210",
        {**LABELS, "node.kubernetes.io/instance-type": "m5.large"},
    )

    async with start_driver(
        *cluster_node_arguments(short_path, api, "--metadata-endpoint=http://127.0.0.1:9"), CSI_NODE_NAME="ip-10-0-0-1"
    ):
        info = await Kubelet(short_path).node_info()

    assert (info.node_id, info.max_volumes_per_node) == ("i-0fedcba9876543210", 26)


async def test_the_attach_limit_follows_the_labels_while_the_process_runs(short_path: Path, api: ApiServer) -> None:
    """Kubernetes, CSIDriver nodeAllocatableUpdatePeriodSeconds: kubelet repeats NodeGetInfo. The token changes too."""
    kubelet = Kubelet(short_path)

    async with start_driver(*cluster_node_arguments(short_path, api), CSI_NODE_NAME=NODE):
        before = (await kubelet.node_info()).max_volumes_per_node
        api.put_node(NODE, PROVIDER_ID, {**LABELS, INTERFACES: "4"})
        api.token = "second"
        (api.directory / "token").write_text(api.token)
        after = (await kubelet.node_info()).max_volumes_per_node

    assert (before, after) == (23, 20)


@pytest.mark.requirement("node.starts-unidentified")
async def test_a_node_process_without_an_identity_starts_and_recovers(short_path: Path, api: ApiServer) -> None:
    """A process that exits is restarted in a loop. The registration socket appears once NodeGetInfo can answer."""
    kubelet = Kubelet(short_path)
    api.broken = True

    async with start_driver(
        *cluster_node_arguments(short_path, api, "--health-endpoint=127.0.0.1:0"), CSI_NODE_NAME=NODE
    ) as node:
        health = f"http://127.0.0.1:{json.loads(await node.wait_for_log('pages served'))['port']}/healthz"
        logged = json.loads(await node.wait_for_log("unhealthy"))["why"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await kubelet.node_info()
        unhealthy = await get_page(health)
        ready, has_socket = await kubelet.is_ready(), await files.off_loop(kubelet.socket.exists)
        api.broken = False
        await kubelet.wait_for_socket()
        info = await kubelet.node_info()
        recovered = (await get_page(health), await kubelet.is_ready())

    assert (ready, has_socket) == (False, False)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, logged)
    assert unhealthy == (503, f"{logged}\n")
    assert "etcd is down" in logged
    assert "--node-id, --zone and --instance-type" in logged
    assert info.node_id == HYPERPOD_NODE
    assert recovered == ((200, "ok\n"), True)


async def test_after_a_failed_registration_the_process_creates_a_new_socket(short_path: Path, api: ApiServer) -> None:
    """Only a new socket makes kubelet's plugin manager try again; the process need not restart for that."""
    kubelet = Kubelet(short_path)

    async with start_driver(*cluster_node_arguments(short_path, api), CSI_NODE_NAME=NODE) as node:
        first = await kubelet.wait_for_socket()
        await kubelet.notify("the CSINode cannot be written")
        await node.wait_for_log("the CSINode cannot be written")

        async def is_new() -> bool:
            return await files.off_loop(kubelet.socket.exists) and await kubelet.wait_for_socket() != first

        await wait_until(is_new, seconds=20)
        await kubelet.notify()
        await node.wait_for_log("registered with kubelet")


@pytest.mark.requirement("socket.comes-back")
async def test_sockets_that_were_removed_come_back_and_the_driver_is_registered_again(
    short_path: Path, api: ApiServer
) -> None:
    """Kubelet unregisters a driver whose registration socket is removed, and then starts no pod with its volumes."""
    kubelet = Kubelet(short_path)
    flags = "--health-endpoint=127.0.0.1:0"

    async with start_driver(*cluster_node_arguments(short_path, api, flags), CSI_NODE_NAME=NODE) as node:
        livez = f"http://127.0.0.1:{json.loads(await node.wait_for_log('pages served'))['port']}/livez"
        await kubelet.wait_for_socket()
        await kubelet.notify()
        await node.wait_for_log("registered with kubelet")
        (short_path / "csi.sock").unlink()
        kubelet.socket.unlink()
        why = json.loads(await node.wait_for_log("unhealthy"))["why"]
        await node.wait_for_log("registration offered")
        await kubelet.wait_for_socket()
        await kubelet.notify()
        await node.wait_for_log("registered with kubelet")
        await wait_until(lambda: files.off_loop((short_path / "csi.sock").exists))
        info = await kubelet.node_info()
        alive = await get_page(livez)

    assert f"{kubelet.socket} was removed" in why
    assert info.node_id == HYPERPOD_NODE
    assert alive == (200, "ok\n")


async def test_a_stale_socket_of_a_killed_process_is_replaced(short_path: Path, api: ApiServer) -> None:
    """A node process that was killed is started again while pods run."""
    kubelet = Kubelet(short_path)

    async with start_driver(*cluster_node_arguments(short_path, api), CSI_NODE_NAME=NODE) as killed:
        first = await kubelet.wait_for_socket()
        killed.subprocess.kill()
        await killed.wait()
    async with start_driver(*cluster_node_arguments(short_path, api), CSI_NODE_NAME=NODE) as node:
        await node.wait_for_log("registration offered")
        second = await kubelet.wait_for_socket()
        await kubelet.notify()

    assert first != second


@pytest.mark.requirement("node.startup-taint")
async def test_only_the_start_up_taint_is_removed_and_only_after_the_registration(
    short_path: Path, api: ApiServer
) -> None:
    """Another program changes the node's taints at the same moment."""
    other = {"key": "late/comer", "effect": "NoSchedule"}
    api.put_node(NODE, PROVIDER_ID, LABELS, OTHER_TAINT, STARTUP_TAINT, {**STARTUP_TAINT, "effect": "NoSchedule"})
    api.taints_before_patch.append(other)

    async with start_driver(*cluster_node_arguments(short_path, api), CSI_NODE_NAME=NODE) as node:
        await Kubelet(short_path).wait_for_socket()
        await wait_until(_has_requests(api, "GET /apis/storage.k8s.io/v1/csinodes/"))
        before = list(api.nodes[NODE]["spec"]["taints"])
        api.register_driver(NODE, 23)
        await Kubelet(short_path).notify()
        await node.wait_for_log("start-up taint removed")
        after = api.nodes[NODE]["spec"]["taints"]

    assert len(before) == 3
    assert after == [other, OTHER_TAINT]


async def test_a_start_up_taint_that_is_added_late_is_removed_too(short_path: Path, api: ApiServer) -> None:
    """aws-ebs-csi-driver watches for ten minutes only. A watch that ends is started again."""
    api.register_driver(NODE, 23)

    async with start_driver(*cluster_node_arguments(short_path, api), CSI_NODE_NAME=NODE) as node:
        await wait_until(_has_requests(api, "watch /api/v1/nodes"))
        await api.send_event("END", {})
        await wait_until(_has_requests(api, "watch /api/v1/nodes", times=2))
        await api.send_event("MODIFIED", api.put_node(NODE, PROVIDER_ID, LABELS, OTHER_TAINT, STARTUP_TAINT))
        await node.wait_for_log("start-up taint removed")

    assert api.nodes[NODE]["spec"]["taints"] == [OTHER_TAINT]


@pytest.mark.requirement("node.startup-taint")
async def test_the_taint_stays_while_the_scheduler_does_not_know_the_limit(short_path: Path, api: ApiServer) -> None:
    """aws-ebs-csi-driver: the CSINode must list the driver with an allocatable count first."""
    api.put_node(NODE, PROVIDER_ID, LABELS, STARTUP_TAINT)
    api.register_driver(NODE, None)

    async with start_driver(*cluster_node_arguments(short_path, api), CSI_NODE_NAME=NODE):
        await wait_until(_has_requests(api, "GET /apis/storage.k8s.io/v1/csinodes/", times=3))

    assert api.nodes[NODE]["spec"]["taints"] == [STARTUP_TAINT]


@pytest.mark.parametrize("how", ["switched off", "forbidden"])
async def test_the_taint_stays_if_the_driver_may_not_remove_it(short_path: Path, api: ApiServer, how: str) -> None:
    """aws-ebs-csi-driver: DISABLE_TAINT_WATCHER, and its chart's disableMutation, which withholds the permission."""
    api.put_node(NODE, PROVIDER_ID, LABELS, STARTUP_TAINT)
    api.register_driver(NODE, 23)
    env = {"DISABLE_TAINT_WATCHER": "yes"} if how == "switched off" else {}
    api.forbidden = {"watch", "PATCH"}

    async with start_driver(*cluster_node_arguments(short_path, api), CSI_NODE_NAME=NODE, **env) as node:
        await (
            node.wait_for_log("does not remove the taint")
            if how == "forbidden"
            else Kubelet(short_path).wait_for_socket()
        )
        info = await Kubelet(short_path).node_info()

    assert info.node_id == HYPERPOD_NODE
    assert api.nodes[NODE]["spec"]["taints"] == [STARTUP_TAINT]
    assert any(request.startswith("watch") for request in api.requests) is (how == "forbidden")


@pytest.mark.requirement("node.small")
async def test_the_node_process_loads_no_client_library_and_stays_within_55_mib(
    short_path: Path, api: ApiServer
) -> None:
    """The node process runs on every node and takes memory from the pods there."""
    env = {**api.environment, "CSI_NODE_NAME": NODE, "PYTHONPROFILEIMPORTTIME": "1"}
    argv = cluster_node_arguments(short_path, api)

    async with start_driver(*argv, **env) as node:
        await node.wait_for_log("registration offered")
        resident = memory(node.subprocess.pid, "VmRSS")
        node.subprocess.terminate()
        await node.wait()

    imported = {line.rpartition("|")[2].strip() for line in "".join(node.log).splitlines() if "import time:" in line}
    packages = {name.partition(".")[0] for name in imported if "." in name}
    assert packages.isdisjoint({"aiobotocore", "botocore", "aiohttp", "requests", "urllib3", "kubernetes", "rich"})
    assert resident <= 55


@pytest.mark.root
@pytest.mark.requirement("node.small")
async def test_the_node_process_stays_within_60_mib_while_it_stages_20_blank_volumes_at_once(
    short_path: Path, tmp_path: Path, api: ApiServer
) -> None:
    """Kubelet stages the volumes of all pods of a node at once. Memory that a moment needed is returned."""
    volumes = [f"vol-{number:017x}" for number in range(20)]

    async with LoopNode.create(tmp_path / "node") as machine:
        for volume in volumes:
            await machine.attach(volume, size=4 * GIB)
        directories = (
            f"--device-directory={machine.directory / 'dev'}",
            f"--kubelet-root={machine.directory / 'kubelet'}",
        )
        argv = cluster_node_arguments(short_path, api, *directories)
        async with start_driver(*argv, CSI_NODE_NAME=NODE) as node:
            await node.wait_for_log("registration offered")
            await stage_all(short_path / "csi.sock", {volume: machine.staging(volume) for volume in volumes})
            highest, resident = memory(node.subprocess.pid, "VmHWM"), memory(node.subprocess.pid, "VmRSS")

    assert highest <= 60
    assert resident <= 55


async def stage_all(socket: Path, targets: Mapping[str, Path]) -> None:
    """Stage volumes as ext4 at the same time."""
    mode = csi_pb2.VolumeCapability.AccessMode(mode=csi_pb2.VolumeCapability.AccessMode.SINGLE_NODE_WRITER)
    writer = csi_pb2.VolumeCapability(mount=csi_pb2.VolumeCapability.MountVolume(fs_type="ext4"), access_mode=mode)
    async with grpc.aio.insecure_channel(f"unix://{socket}") as channel:
        node = csi_pb2_grpc.NodeStub(channel)
        calls = [
            node.NodeStageVolume(
                csi_pb2.NodeStageVolumeRequest(
                    volume_id=volume, staging_target_path=str(target), volume_capability=writer
                )
            )
            for volume, target in targets.items()
        ]
        for call in calls:
            await call


def memory(pid: int, field: str) -> float:
    """A field of a process's status, in MiB (proc_pid_status(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(field))


def _has_requests(api: ApiServer, start: str, *, times: int = 1) -> Any:
    """A condition: the API server got at least `times` requests that start with `start`."""

    async def has_requests() -> bool:
        return sum(request.startswith(start) for request in api.requests) >= times

    return has_requests
