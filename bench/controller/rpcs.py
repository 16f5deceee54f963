"""Single RPCs when the cloud takes no time, the start of the controller, and its memory at rest."""

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Final

import grpc

from bench.controller.contender import run_controller, target
from bench.controller.measurement import Findings, Row, Scale, Site
from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc

_WARM_UP: Final = 0.1
"""The share of the calls that are not measured, which come first."""

_APART: Final = 0.01
"""Seconds between two RPCs that change something: the controller keeps such calls apart, to notice throttling."""

_INFO_FACTOR: Final = 10
"""Calls of GetPluginInfo for each of the others: they are fast, and AWS limits only the others."""

_REST: Final = 2.0
"""Seconds after which a started controller is at rest."""


def rpc_rows(_: Scale) -> Sequence[Row]:
    """The rows of the RPCs."""
    return [
        Row(id="rpc_get_volume", text="ControllerGetVolume (1 AWS call), p50", unit="ms", limit=1.6),
        Row(id="rpc_delete_volume", text="DeleteVolume (1 AWS call that writes), p50", unit="ms"),
        Row(id="rpc_plugin_info", text="GetPluginInfo, p50", unit="ms", limit=0.4),
    ]


async def measure_rpcs(site: Site) -> Findings:
    """Measure each RPC."""
    count = site.scale.rpcs
    wanted = {"AvailabilityZone": site.cloud.zone, "Size": 1, "VolumeType": "gp3"}
    async with site.cloud.client.client("ec2") as ec2:
        volumes: list[str] = [(await ec2.create_volume(**wanted))["VolumeId"] for _ in range(count + 1)]
    async with run_controller(site.sandbox, site.contender, site.cloud.environment) as controller:
        calls = await site.cloud.calls()
        seconds = await asyncio.to_thread(_time_rpcs, target(controller.socket), volumes, count)
        calls = (await site.cloud.calls()).since(calls)
    return Findings(
        {
            id_: 1000 * statistics.median(values[int(_WARM_UP * len(values)) :])
            for id_, values in seconds.items()
            if values
        },
        {"calls": calls.all},
    )


def _time_rpcs(address: str, volumes: Sequence[str], count: int) -> dict[str, list[float]]:
    """The seconds of each call, by row. The client does not use asyncio, which would take as long as the server."""
    with grpc.insecure_channel(address) as channel:
        identity = csi_pb2_grpc.IdentityStub(channel)  # type: ignore[arg-type] # the stubs' types know only asyncio
        csi = csi_pb2_grpc.ControllerStub(channel)  # type: ignore[arg-type] # as above
        info, each = csi_pb2.GetPluginInfoRequest(), iter(volumes[1:])
        one = csi_pb2.ControllerGetVolumeRequest(volume_id=volumes[0])
        return {
            "rpc_plugin_info": _time_calls(lambda: identity.GetPluginInfo(info), _INFO_FACTOR * count),
            "rpc_get_volume": _time_calls(lambda: csi.ControllerGetVolume(one), count),
            "rpc_delete_volume": _time_calls(
                lambda: csi.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=next(each))), count, apart=_APART
            ),
        }


def _time_calls(call: Callable[[], object], count: int, *, apart: float = 0.0) -> list[float]:
    """Call one after the other; the seconds of each call, or of none if the RPC is not implemented."""
    seconds: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        try:
            call()
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise
            return []
        seconds.append(time.perf_counter() - began)
        time.sleep(apart)
    return seconds


def start_rows(_: Scale) -> Sequence[Row]:
    """The rows of the start."""
    return [
        Row(id="start", text="start to the first answer, median", unit="s", limit=0.6),
        Row(id="memory_at_rest", text="resident memory at rest", unit="MiB"),
    ]


async def measure_starts(site: Site) -> Findings:
    """Start the controller a few times; look at its memory after the last start."""
    seconds: list[float] = []
    memory = 0.0
    for number in range(site.scale.starts):
        async with run_controller(site.sandbox, site.contender, site.cloud.environment) as controller:
            seconds.append(controller.start_seconds)
            if number == site.scale.starts - 1:
                await asyncio.sleep(_REST)
                memory = controller.memory_mib
    return Findings(
        {"start": statistics.median(seconds), "memory_at_rest": memory},
        {"starts": [round(value, 3) for value in seconds]},
    )
