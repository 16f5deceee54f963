"""Whole lives of volumes: the time that the controller adds to the cloud's own, its AWS calls and its CPU time.

A life is create, attach to a HyperPod node, detach and delete. Waste is the time from the end of a state change in the
cloud's history to the controller's answer, summed over create, attach and detach.
"""

import asyncio
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Final

from bench.controller.cloud import Cloud
from bench.controller.contender import run_controller
from bench.controller.measurement import Findings, Row, Scale, Site
from bench.controller.phase import measure_phase
from bench.controller.sidecars import Sidecars

_LIMITS: Final[Mapping[int, tuple[float, float, float, float]]] = {
    1: (0.40, 0.65, 16, 40),
    10: (0.45, 0.80, 6, 18),
    100: (0.55, 0.85, 4.5, 8),
}
"""By lives at once: waste on average and at the 95th percentile, AWS calls, milliseconds of CPU time."""


def rows(scale: Scale) -> Sequence[Row]:
    """The rows of this measurement."""
    found: list[Row] = []
    for at_once in scale.lives:
        mean, p95, calls, cpu = _LIMITS.get(at_once, (None, None, None, None))
        found += [
            Row(id=f"waste_mean_{at_once}", text=f"{at_once} at once: waste, mean", unit="s", limit=mean),
            Row(id=f"waste_p95_{at_once}", text=f"{at_once} at once: waste, p95", unit="s", limit=p95),
            Row(id=f"calls_{at_once}", text=f"{at_once} at once: AWS calls per life", limit=calls),
            Row(id=f"cpu_{at_once}", text=f"{at_once} at once: CPU per life", unit="ms", limit=cpu),
        ]
    return found


async def measure(site: Site) -> Findings:
    """Run all lives."""
    figures: dict[str, float] = {}
    details: dict[str, object] = {}
    async with run_controller(site.sandbox, site.contender, site.cloud.environment) as controller:
        await _run_lives(site.cloud, Sidecars(controller.csi, site.cloud.zone), 1, "warm-up")
        for at_once, rounds in site.scale.lives.items():
            await site.cloud.fill_buckets()
            sidecars = Sidecars(controller.csi, site.cloud.zone)
            wastes: list[float] = []
            async with measure_phase(site.cloud, controller) as phase:
                for number in range(rounds):
                    wastes += await _run_lives(site.cloud, sidecars, at_once, f"{at_once}-{number}")
            site.report(f"{len(wastes)} lives, {at_once} at once, in {phase.seconds:.1f} s")
            figures |= {
                f"waste_mean_{at_once}": statistics.fmean(wastes),
                f"waste_p95_{at_once}": percentile_95(wastes),
                f"calls_{at_once}": phase.calls.total / len(wastes),
                f"cpu_{at_once}": 1000 * phase.cpu / len(wastes),
            }
            details[f"{at_once}_at_once"] = {"lives": len(wastes), **phase.details(sidecars.journal)}
    return Findings(figures, details)


async def _run_lives(cloud: Cloud, sidecars: Sidecars, at_once: int, name: str) -> list[float]:
    """Run this number of lives at once; the waste of each in seconds."""
    answered: dict[tuple[str, str], float] = {}

    async def run_life(number: int) -> None:
        node = cloud.node_id(number)
        volume = await sidecars.create(f"life-{name}-{number}")
        answered[volume, "available"] = time.time()
        await sidecars.attach(volume, node)
        answered[volume, "attached"] = time.time()
        await sidecars.detach(volume, node)
        answered[volume, "detached"] = time.time()
        await sidecars.delete(volume)

    async with asyncio.TaskGroup() as group:
        for number in range(at_once):
            group.create_task(run_life(number))
    reached = await cloud.state_instants()
    wastes: dict[str, float] = {}
    for (volume, state), instant in answered.items():
        wastes[volume] = wastes.get(volume, 0.0) + instant - reached[volume, state]
    return list(wastes.values())


def percentile_95(values: Sequence[float]) -> float:
    """The value that 95 % of the values do not exceed."""
    return sorted(values)[max(0, -(-95 * len(values) // 100) - 1)]
