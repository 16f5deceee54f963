"""A node of an instance type that is not in the driver's table: the controller asks EC2 for its attach limit.

Each test has an emulator in this process, an API server, and processes of the driver that only these two connect.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import grpc
import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.nodes.attach_slots import ATTACH_SLOTS, AttachSlots
from hyperpod_ebs.emulator.wire.operations import AwsFault
from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc
from tests.support.api_server import LABELS, NODE, PROVIDER_ID, ApiServer
from tests.support.controller_process import ControllerProcess, environment, start_controller
from tests.support.driver_process import DriverProcess, start_driver
from tests.support.waiting import wait_until

NEW_TYPE: Final = "x99.48xlarge"
"""A type that AWS has introduced after the release of the driver."""

CONFIGMAP: Final = "ebs-csi-attach-limits"
PATH: Final = f"/api/v1/namespaces/kube-system/configmaps/{CONFIGMAP}"
FLAG: Final = f"--attach-limits-configmap=kube-system/{CONFIGMAP}"
HYPERPOD_VOLUMES: Final = 2
"""A HyperPod node's own volumes, which take attach slots."""


@pytest.fixture(autouse=True)
def _new_instance_type(monkeypatch: pytest.MonkeyPatch, api: ApiServer) -> None:
    """EC2 has a new type, the cluster has a node of it, and the chart has created an empty ConfigMap."""
    monkeypatch.setitem(ATTACH_SLOTS, NEW_TYPE, AttachSlots(96, "dedicated"))
    api.put_node(NODE, PROVIDER_ID, {**LABELS, "node.kubernetes.io/instance-type": f"ml.{NEW_TYPE}"})
    api.configmaps[CONFIGMAP] = {"metadata": {"name": CONFIGMAP}}


@asynccontextmanager
async def start_cluster_controller(
    directory: Path, emulator: Emulator, api: ApiServer
) -> AsyncGenerator[ControllerProcess]:
    """Start a controller that can call the API server."""
    directory.mkdir()
    flags = (FLAG, f"--kubeconfig={api.write_kubeconfig()}")
    async with start_controller(directory, environment(emulator), *flags) as controller:
        yield controller


@asynccontextmanager
async def start_node(directory: Path, api: ApiServer, *flags: str) -> AsyncGenerator[DriverProcess]:
    """Start the node process of the cluster's node."""
    argv = ("node", f"--endpoint=unix://{directory / 'csi.sock'}", f"--kubeconfig={api.write_kubeconfig()}", *flags)
    async with start_driver(*argv, CSI_NODE_NAME=NODE) as node:
        yield node


async def attach_limit(directory: Path) -> int:
    """The attach limit that NodeGetInfo returns."""
    async with grpc.aio.insecure_channel(f"unix://{directory / 'csi.sock'}") as channel:
        info = await csi_pb2_grpc.NodeStub(channel).NodeGetInfo(csi_pb2.NodeGetInfoRequest(), wait_for_ready=True)
    return info.max_volumes_per_node


async def describe_calls(emulator: Emulator) -> int:
    """How often EC2 was asked for instance types."""
    async with aiohttp.ClientSession(emulator.url) as http, http.get("/_emulator/calls") as answer:
        counts: dict[str, int] = await answer.json()
        return counts.get("ec2:DescribeInstanceTypes", 0)


def has_entry(api: ApiServer, text: str, name: str = NEW_TYPE) -> Any:
    """A condition: the entry of the type has this text."""

    async def entry_is_there() -> bool:
        return bool(api.configmaps[CONFIGMAP].get("data", {}).get(name) == text)

    return entry_is_there


def has_request(api: ApiServer, request: str) -> Any:
    """A condition: the API server got this request."""

    async def request_is_there() -> bool:
        return request in api.requests

    return request_is_there


@pytest.mark.requirement("node.new-type")
async def test_a_node_of_a_new_type_gets_the_limit_that_ec2_reports(
    short_path: Path, emulator: Emulator, api: ApiServer
) -> None:
    """EC2, DescribeInstanceTypes, EbsInfo. The node process has no AWS permissions."""
    async with start_cluster_controller(short_path / "controller", emulator, api):
        await wait_until(has_entry(api, "96 dedicated"))
        async with start_node(short_path, api, FLAG):
            limit = await attach_limit(short_path)
        async with start_node(short_path, api, FLAG, "--volume-attach-limit=7"):
            limit_of_the_operator = await attach_limit(short_path)

    assert limit == 96 - HYPERPOD_VOLUMES
    assert limit_of_the_operator == 7
    assert await describe_calls(emulator) == 1


async def test_a_type_of_a_node_that_joins_later_is_published_too(
    short_path: Path, emulator: Emulator, api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An autoscaler adds a node of another type; the controller sees it before the driver's pod starts there."""
    monkeypatch.setitem(ATTACH_SLOTS, "x99.large", AttachSlots(12, "shared"))

    async with start_cluster_controller(short_path / "controller", emulator, api):
        await wait_until(has_entry(api, "96 dedicated"))
        labels = {**LABELS, "node.kubernetes.io/instance-type": "x99.large"}
        await api.send_event("ADDED", api.put_node("ip-10-0-0-1", "aws:///us-west-2a/i-0fedcba9876543210", labels))
        await wait_until(has_entry(api, "12 shared", "x99.large"))

    assert api.configmaps[CONFIGMAP]["data"] == {NEW_TYPE: "96 dedicated", "x99.large": "12 shared"}
    assert await describe_calls(emulator) == 2


async def test_two_replicas_keep_each_others_entries(short_path: Path, emulator: Emulator, api: ApiServer) -> None:
    """Both replicas of the controller run; no leader is elected for this."""
    api.configmaps[CONFIGMAP]["data"] = {"another.type": "50 shared"}

    async with (
        start_cluster_controller(short_path / "first", emulator, api),
        start_cluster_controller(short_path / "second", emulator, api),
    ):
        await wait_until(has_entry(api, "96 dedicated"))

    assert api.configmaps[CONFIGMAP]["data"] == {"another.type": "50 shared", NEW_TYPE: "96 dedicated"}


async def test_a_published_type_is_not_asked_for_again(short_path: Path, emulator: Emulator, api: ApiServer) -> None:
    """A controller that is restarted makes no call to AWS."""
    api.configmaps[CONFIGMAP]["data"] = {NEW_TYPE: "96 dedicated"}

    async with start_cluster_controller(short_path / "controller", emulator, api):
        await wait_until(has_request(api, f"GET {PATH}"))
        await wait_until(has_request(api, "watch /api/v1/nodes"))

    assert await describe_calls(emulator) == 0


async def test_a_garbled_entry_counts_as_missing(short_path: Path, emulator: Emulator, api: ApiServer) -> None:
    """A node process must not report 0, which means any number, nor a number that no instance type has."""
    api.configmaps[CONFIGMAP]["data"] = {NEW_TYPE: "0 shared", "b": "129 shared", "c": "many", "d": "9 other", "e": ""}

    async with start_node(short_path, api, FLAG) as node:
        limit = await attach_limit(short_path)
        logged = await node.wait_for_log("entries of the published attach limits ignored")
    async with start_cluster_controller(short_path / "controller", emulator, api):
        await wait_until(has_entry(api, "96 dedicated"))

    assert limit == 27 - HYPERPOD_VOLUMES
    assert NEW_TYPE in logged
    assert api.configmaps[CONFIGMAP]["data"]["c"] == "many"


async def test_without_permission_for_the_aws_call_the_node_gets_the_limit_of_most_types(
    short_path: Path, emulator: Emulator, api: ApiServer
) -> None:
    """IAM: a policy without ec2:DescribeInstanceTypes."""
    emulator.faults.plan(
        "DescribeInstanceTypes", AwsFault("UnauthorizedOperation", "You are not authorized."), times=1000
    )

    async with start_cluster_controller(short_path / "controller", emulator, api) as controller:
        logged = await controller.process.wait_for_log("cannot look up the attach limits of new instance types")
        healthy = await controller.is_healthy()
        async with start_node(short_path, api, FLAG):
            limit = await attach_limit(short_path)
    emulator.faults.clear()

    assert limit == 27 - HYPERPOD_VOLUMES
    assert "ec2:DescribeInstanceTypes" in logged
    assert healthy
    assert "data" not in api.configmaps[CONFIGMAP]


class Denial(NamedTuple):
    """What the API server denies the controller, and how many calls to AWS are made nevertheless."""

    id: str
    forbidden: str
    aws_calls: int = 0


@pytest.mark.parametrize(
    "case",
    [
        Denial("the nodes", "watch /api/v1/nodes"),
        Denial("the ConfigMap", f"GET {PATH}"),
        Denial("its change", f"PATCH {PATH}", aws_calls=1),
    ],
    ids=lambda case: case.id,
)
async def test_a_controller_without_kubernetes_rights_logs_it_and_works(
    short_path: Path, emulator: Emulator, api: ApiServer, case: Denial
) -> None:
    """A chart that is older than the driver grants no rights to the ConfigMap."""
    api.forbidden = {case.forbidden}

    async with start_cluster_controller(short_path / "controller", emulator, api) as controller:
        logged = await controller.process.wait_for_log("cannot look up the attach limits of new instance types")
        healthy = await controller.is_healthy()

    assert "cannot" in logged
    assert case.forbidden.partition(" ")[2] in logged
    assert healthy
    assert await describe_calls(emulator) == case.aws_calls


@pytest.mark.parametrize("how", ["forbidden", "missing"])
async def test_a_node_that_cannot_read_the_limits_logs_it_and_gets_the_limit_of_most_types(
    short_path: Path, api: ApiServer, how: str
) -> None:
    """Without the ConfigMap the limit is that of most Nitro types."""
    if how == "forbidden":
        api.forbidden = {f"GET {PATH}"}
    else:
        del api.configmaps[CONFIGMAP]

    async with start_node(short_path, api, FLAG) as node:
        limits = [await attach_limit(short_path) for _ in range(3)]
        await node.wait_for_log("cannot read the published attach limits")

    assert limits == [27 - HYPERPOD_VOLUMES] * 3
    assert api.requests.count(f"GET {PATH}") == 1


async def test_a_node_whose_type_is_in_the_table_does_not_read_the_limits(short_path: Path, api: ApiServer) -> None:
    """A thousand nodes must not ask the API server for what they know."""
    api.put_node(NODE, PROVIDER_ID, LABELS)
    api.configmaps[CONFIGMAP]["data"] = {"g5.8xlarge": "9 dedicated"}

    async with start_node(short_path, api, FLAG):
        limit = await attach_limit(short_path)

    assert limit == 23
    assert f"GET {PATH}" not in api.requests


@pytest.mark.parametrize("command", ["controller", "node"])
@pytest.mark.parametrize("name", ["ebs-csi-attach-limits", "kube-system/", "a/b/c"])
async def test_a_name_that_is_not_of_a_configmap_is_refused(short_path: Path, command: str, name: str) -> None:
    endpoint = f"--endpoint=unix://{short_path / 'csi.sock'}"

    async with start_driver(command, endpoint, f"--attach-limits-configmap={name}") as process:
        code = await process.wait()

    assert code != 0
    assert f"--attach-limits-configmap is wrong: '{name}'" in "".join(process.log)
