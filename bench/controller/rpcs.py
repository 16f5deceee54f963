"""Single RPCs when the cloud takes no time, the start of the controller, and its memory at rest."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import grpc

from bench.controller.contender import run_controller, target
from bench.controller.measurement import Findings, Row, Scale, Site
from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc

_WARM_UP: Final = 0.1
"""The share of the calls that are not measured, which come first."""

_APART: Final = 0.01
"""Seconds between two RPCs with an AWS call: the controller keeps calls of one kind apart, to notice throttling."""

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
    async with (
        run_controller(site.sandbox, site.contender, site.cloud.environment) as controller,
        grpc.aio.insecure_channel(target(controller.socket)) as channel,
    ):
        identity, csi = csi_pb2_grpc.IdentityStub(channel), controller.csi
        one, each = csi_pb2.ControllerGetVolumeRequest(volume_id=volumes[0]), iter(volumes[1:])
        calls = await site.cloud.calls()
        seconds = await _take_turns(
            {
                "rpc_get_volume": lambda: csi.ControllerGetVolume(one),
                "rpc_delete_volume": lambda: csi.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=next(each))),
                "rpc_plugin_info": lambda: identity.GetPluginInfo(csi_pb2.GetPluginInfoRequest()),
            },
            turns=count,
        )
        calls = (await site.cloud.calls()).since(calls)
    return Findings(
        {id_: 1000 * statistics.median(values[int(_WARM_UP * len(values)) :]) for id_, values in seconds.items()},
        {"calls": calls.all},
    )


async def _take_turns(rpcs: Mapping[str, Callable[[], Awaitable[object]]], *, turns: int) -> Mapping[str, list[float]]:
    """Call one RPC after the other, in turns; the seconds of each call, without those of RPCs that do not exist.

    A call of the last RPC is repeated until the next turn, because a processor that pauses is slower afterwards.
    """
    *others, (last, call_last) = rpcs.items()
    seconds: dict[str, list[float]] = {}
    for _ in range(turns):
        for id_, call in others:
            await _time_call(call, seconds.setdefault(id_, []))
            end = time.perf_counter() + _APART
            while time.perf_counter() < end:
                await _time_call(call_last, seconds.setdefault(last, []))
    return {id_: values for id_, values in seconds.items() if values}


async def _time_call(call: Callable[[], Awaitable[object]], seconds: list[float]) -> None:
    """Call once; add the seconds, unless the RPC is not implemented."""
    began = time.perf_counter()
    try:
        await call()
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
            raise
    else:
        seconds.append(time.perf_counter() - began)


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
