"""Many volumes created and attached at once behind the account's token buckets, and a detach in the middle of that."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Final

from bench.controller import removal
from bench.controller.buckets import least_time
from bench.controller.cloud import Cloud
from bench.controller.contender import Controller, run_controller
from bench.controller.measurement import Findings, Row, Scale, Site
from bench.controller.phase import measure_phase
from bench.controller.sidecars import Journal, Sidecars
from bench.controller.time_line import Sample, TimeLine

NEIGHBOUR: Final = 0.3
"""The share of each bucket that a neighbour uses."""

_BUCKETS: Final = ("ec2:CreateVolume", "sagemaker:AttachClusterNodeVolume")
"""The buckets from which each volume takes one token."""

_SAMPLE: Final = 0.5
"""Seconds between two readings of the buckets."""

_PAGES: Final = {"/metrics": "metrics.txt", "/debug/state": "debug-state.json"}
"""The controller's pages that are saved in the middle of the burst, and the names of their files."""


def rows(scale: Scale) -> Sequence[Row]:
    """The rows of the burst, and of what follows it."""
    text = f"{scale.burst} created and attached"
    return [
        Row(id="burst_makespan", text=f"{text}: makespan / arithmetic", limit=1.05),
        Row(id="burst_throttled", text=f"{text}: changing calls throttled", unit="%", limit=0.5),
        Row(id="burst_failed", text=f"{text}: failed RPCs", limit=0),
        Row(id="burst_calls", text=f"{text}: AWS calls per volume", limit=2.5),
        Row(id="burst_memory", text=f"{text}: most resident memory", unit="MiB", limit=88),
        Row(id="burst_detach", text="a detach in the middle: beyond its cloud time", unit="s", limit=1),
        *removal.rows(scale),
    ]


def neighbour_rows(scale: Scale) -> Sequence[Row]:
    """The rows of the burst beside a neighbour."""
    text = f"{scale.burst} beside a neighbour"
    return [
        Row(id="neighbour_makespan", text=f"{text}: makespan / what is left", limit=1.10),
        Row(id="neighbour_throttled", text=f"{text}: changing calls throttled", unit="%", limit=3),
        Row(id="neighbour_failed", text=f"{text}: failed RPCs"),
        Row(id="neighbour_calls", text=f"{text}: AWS calls per volume"),
    ]


async def measure(site: Site) -> Findings:
    """Create and attach the volumes, take a snapshot of each, and detach and delete them."""
    async with run_controller(site.sandbox, site.contender, site.cloud.environment) as controller:
        nodes, burst = await _create_and_attach(site, controller, "burst")
        snapshots = await removal.take_snapshots(site, controller, nodes)
        end = await removal.detach_and_delete(site, controller, nodes)
    return Findings(
        {**burst.figures, **snapshots.figures, **end.figures},
        {"burst": burst.details, "snapshots": snapshots.details, "removal": end.details},
    )


async def measure_neighbour(site: Site) -> Findings:
    """Create and attach the volumes while others use a part of each bucket."""
    async with run_controller(site.sandbox, site.contender, site.cloud.environment) as controller:
        _, findings = await _create_and_attach(site, controller, "neighbour", neighbour=NEIGHBOUR)
    return findings


async def _create_and_attach(
    site: Site, controller: Controller, name: str, *, neighbour: float = 0.0
) -> tuple[Mapping[str, str], Findings]:
    """Create and attach all volumes at once, and detach another one in the middle.

    Returns:
        The node of each volume, and what was measured.
    """
    cloud, count = site.cloud, site.scale.burst
    other = Sidecars(controller.csi, cloud.zone)  # its callers do not wait until a worker is free
    other_volume, other_node = await other.create(f"{name}-other"), cloud.node_id(0)
    await other.attach(other_volume, other_node)
    await cloud.fill_buckets(neighbour=neighbour)
    bound = least_time(await cloud.buckets(), dict.fromkeys(_BUCKETS, count))
    sidecars = Sidecars(controller.csi, cloud.zone)
    nodes: dict[str, str] = {}

    async def create_and_attach(number: int) -> None:
        volume = await sidecars.create(f"{name}-{number}")
        nodes[volume] = cloud.node_id(number)
        await sidecars.attach(volume, nodes[volume])

    async def look_and_detach() -> None:
        await asyncio.sleep(bound.arithmetic_seconds / 2)
        for page, file in _PAGES.items():
            if text := await controller.page(page):
                site.save(f"{name}-{file}", text)
        await other.detach(other_volume, other_node)

    controller.reset_peak_memory()
    async with (
        _sample_buckets(cloud) as samples,
        measure_phase(cloud, controller) as phase,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(look_and_detach())
        for number in range(count):
            group.create_task(create_and_attach(number))
    memory = controller.peak_memory_mib
    site.report(f"{count} volumes created and attached in {phase.seconds:.1f} s")
    reached = await cloud.state_instants()
    _save_time_line(site, name, samples, sidecars.journal, attached=[reached[volume, "attached"] for volume in nodes])
    return nodes, Findings(
        {
            f"{name}_makespan": phase.seconds / bound.arithmetic_seconds,
            f"{name}_throttled": phase.calls.throttled_percent,
            f"{name}_failed": sidecars.journal.failures.total(),
            f"{name}_calls": phase.calls.total / count,
            f"{name}_memory": memory,
            f"{name}_detach": _detach_seconds(other.journal, reached, other_volume),
        },
        {**phase.details(sidecars.journal), **asdict(bound), "failed_detaches_in_the_middle": other.journal.failures},
    )


def _detach_seconds(journal: Journal, reached: Mapping[tuple[str, str], float], volume: str) -> float:
    """The seconds from the first request for the detach to its answer, without those of the state change."""
    calls = [call for call in journal.calls if call.rpc == "ControllerUnpublishVolume"]
    cloud_time = reached[volume, "detached"] - reached[volume, "detaching"]
    return calls[-1].answered - calls[0].asked - cloud_time


def _save_time_line(
    site: Site, name: str, samples: Sequence[Sample], journal: Journal, *, attached: Sequence[float]
) -> None:
    line = TimeLine.build(samples, calls=journal.calls, attached=attached, buckets=_BUCKETS)
    title = f"{len(attached)} volumes created and attached at once: {site.contender.name}"
    site.save(f"{name}.svg", line.svg(title))
    site.save(f"{name}.txt", line.text(title))


@asynccontextmanager
async def _sample_buckets(cloud: Cloud) -> AsyncGenerator[Sequence[Sample]]:
    """Readings of the buckets, to which further ones are added until the block ends."""
    samples: list[Sample] = []

    async def sample() -> None:
        while True:
            samples.append(Sample(time.time(), await cloud.buckets()))
            await asyncio.sleep(_SAMPLE)

    async with asyncio.TaskGroup() as group:
        sampler = group.create_task(sample())
        yield samples
        sampler.cancel()
