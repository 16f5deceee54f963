"""Single RPCs when the cloud takes no time, the start of the controller, and its memory at rest."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import grpc

from bench.controller.contender import run_controller, target
from bench.controller.measurement import Findings, Row, Scale, Site
from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc

_WARM_UP: Final = 0.1
"""The share of the calls that are not measured, which come first."""

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
    """Call each RPC again and again, one call at a time."""
    count = site.scale.rpcs
    volumes = [await site.cloud.client.create_volume(site.cloud.zone, gib=1) for _ in range(count)]
    figures: dict[str, float] = {}
    missing: list[str] = []
    async with (
        run_controller(site.sandbox, site.contender, site.cloud.environment) as controller,
        grpc.aio.insecure_channel(target(controller.socket)) as channel,
    ):
        identity, csi = csi_pb2_grpc.IdentityStub(channel), controller.csi
        one, each = csi_pb2.ControllerGetVolumeRequest(volume_id=volumes[0]), iter(volumes)
        rpcs: dict[str, Callable[[], Awaitable[object]]] = {
            "rpc_get_volume": lambda: csi.ControllerGetVolume(one),
            "rpc_delete_volume": lambda: csi.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=next(each))),
            "rpc_plugin_info": lambda: identity.GetPluginInfo(csi_pb2.GetPluginInfoRequest()),
        }
        calls = await site.cloud.calls()
        for id_, rpc in rpcs.items():
            try:
                figures[id_] = 1000 * await _median_seconds(rpc, count)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                    raise
                missing.append(id_)
        calls = (await site.cloud.calls()).since(calls)
    return Findings(figures, {"calls of each RPC": count, "AWS calls": calls.all, "unimplemented": missing})


async def _median_seconds(rpc: Callable[[], Awaitable[object]], count: int) -> float:
    seconds: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        await rpc()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[int(_WARM_UP * count) :])


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
