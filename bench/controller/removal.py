"""What follows a burst: a snapshot of each volume at once, then all volumes detached and deleted at once."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Final

from bench.controller.buckets import least_time
from bench.controller.contender import Controller
from bench.controller.measurement import Findings, Row, Scale, Site
from bench.controller.phase import measure_phase
from bench.controller.sidecars import Sidecars

_REMOVAL_BUCKETS: Final = ("ec2:DeleteVolume", "sagemaker:DetachClusterNodeVolume")
"""The buckets from which each volume takes one token."""


def rows(scale: Scale) -> Sequence[Row]:
    """The rows of both."""
    snapshots, removal = f"{scale.burst} snapshots", f"{scale.burst} detached and deleted"
    return [
        Row(id="snapshots_makespan", text=f"{snapshots}: makespan / arithmetic", limit=1.05),
        Row(id="snapshots_throttled", text=f"{snapshots}: changing calls throttled", unit="%", limit=0.5),
        Row(id="snapshots_failed", text=f"{snapshots}: failed RPCs"),
        Row(id="removal_makespan", text=f"{removal}: makespan / arithmetic", limit=1.05),
        Row(id="removal_throttled", text=f"{removal}: changing calls throttled", unit="%", limit=0.5),
        Row(id="removal_failed", text=f"{removal}: failed RPCs"),
    ]


async def take_snapshots(site: Site, controller: Controller, volumes: Mapping[str, str]) -> Findings:
    """Take a snapshot of each volume, and wait until all are ready; the makespan ends when the last one is taken."""
    cloud = site.cloud
    bound = least_time(await cloud.buckets(), {"ec2:CreateSnapshot": len(volumes)})
    sidecars = Sidecars(controller.csi, cloud.zone)
    began, last = time.monotonic(), 0.0

    async def take_snapshot(volume: str) -> None:
        nonlocal last
        await sidecars.take_snapshot(volume, f"snapshot-{volume}")
        last = time.monotonic() - began
        await sidecars.wait_until_snapshot_is_ready(volume, f"snapshot-{volume}")

    async with measure_phase(cloud, controller) as phase, asyncio.TaskGroup() as group:
        for volume in volumes:
            group.create_task(take_snapshot(volume))
    site.report(f"{len(volumes)} snapshots taken in {last:.1f} s, and ready in {phase.seconds:.1f} s")
    return Findings(
        {
            "snapshots_makespan": last / bound.arithmetic_seconds,
            "snapshots_throttled": phase.calls.throttled_percent,
            "snapshots_failed": sidecars.journal.failures.total(),
        },
        {**phase.details(sidecars.journal), **asdict(bound), "last_snapshot_taken_seconds": round(last, 2)},
    )


async def detach_and_delete(site: Site, controller: Controller, nodes: Mapping[str, str]) -> Findings:
    """Detach all volumes from their nodes, and delete each as soon as it is detached."""
    cloud = site.cloud
    bound = least_time(await cloud.buckets(), dict.fromkeys(_REMOVAL_BUCKETS, len(nodes)))
    sidecars = Sidecars(controller.csi, cloud.zone)

    async def remove(volume: str, node: str) -> None:
        await sidecars.detach(volume, node)
        await sidecars.delete(volume)

    async with measure_phase(cloud, controller) as phase, asyncio.TaskGroup() as group:
        for volume, node in nodes.items():
            group.create_task(remove(volume, node))
    site.report(f"{len(nodes)} volumes detached and deleted in {phase.seconds:.1f} s")
    return Findings(
        {
            "removal_makespan": phase.seconds / bound.arithmetic_seconds,
            "removal_throttled": phase.calls.throttled_percent,
            "removal_failed": sidecars.journal.failures.total(),
        },
        {**phase.details(sidecars.journal), **asdict(bound)},
    )
