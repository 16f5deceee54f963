"""What is measured, and on what kind of cloud."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.controller import burst, lives, rpcs, simulation
from bench.controller.cloud import open_cloud
from bench.controller.contender import OUR_CONTROLLER, Contender
from bench.controller.measurement import Findings, Result, Row, Scale, Site
from hyperpod_ebs.sandbox.failures import StepFailed
from hyperpod_ebs.sandbox.sandbox import Sandbox

_DEADLINE: Final = 1200.0
"""Seconds for one measurement of one contender."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Something to measure with processes, on a cloud."""

    name: str
    rows: Callable[[Scale], Sequence[Row]]
    measure: Callable[[Site], Awaitable[Findings]]
    volumes: Callable[[Scale], int] = lambda _: 1
    """The number of volumes that are attached at once."""
    is_immediate: bool = False
    """Whether the cloud takes no time and throttles nothing, at any scale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """Something to simulate with the controller's code; a peer has none."""

    name: str
    rows: Callable[[Scale], Sequence[Row]]
    measure: Callable[[Scale], Findings]


ALL: Final[Sequence[Measurement | Simulation]] = (
    Measurement(name="lives", rows=lives.rows, measure=lives.measure, volumes=lambda scale: max(scale.lives)),
    Measurement(name="burst", rows=burst.rows, measure=burst.measure, volumes=lambda scale: scale.burst + 1),
    Measurement(
        name="neighbour",
        rows=burst.neighbour_rows,
        measure=burst.measure_neighbour,
        volumes=lambda scale: scale.burst + 1,
    ),
    Measurement(name="rpcs", rows=rpcs.rpc_rows, measure=rpcs.measure_rpcs, is_immediate=True),
    Measurement(name="starts", rows=rpcs.start_rows, measure=rpcs.measure_starts, is_immediate=True),
    Simulation(name="simulation", rows=simulation.rows, measure=simulation.measure),
)


async def run_measurement(
    measurement: Measurement,
    contender: Contender,
    *,
    scale: Scale,
    directory: Path | None,
    report: Callable[[str], None],
) -> Result:
    """Measure one contender on a cloud of its own.

    Args:
        measurement: What to measure.
        contender: Whom to measure.
        scale: How much to measure.
        directory: The directory for time lines and pages.
        report: Reports progress.

    Raises:
        StepFailed: The measurement does not end: its callers repeat what fails.
        ExceptionGroup: A process did not start or ended, or a call failed.
    """
    name = f"{measurement.name}, {contender.name}"
    report(f"{name}: start")
    deadline = asyncio.timeout(_DEADLINE)
    try:
        async with deadline, Sandbox.open("hp-bench") as sandbox:
            flags = (*_cloud_flags(measurement, scale, sandbox.path), f"--seed={scale.seed}")
            async with open_cloud(sandbox, volumes=measurement.volumes(scale), flags=flags) as cloud:
                findings = await measurement.measure(
                    Site(
                        sandbox=sandbox,
                        contender=contender,
                        cloud=cloud,
                        scale=scale,
                        directory=directory,
                        report=lambda text: report(f"{name}: {text}"),
                    )
                )
    except TimeoutError as error:
        if deadline.expired():
            raise StepFailed(f"{name} did not end within {_DEADLINE:g} s") from error
        raise
    return Result(measurement=measurement.name, contender=contender.name, findings=findings)


async def run_simulation(one: Simulation, *, scale: Scale, report: Callable[[str], None]) -> Result:
    """Run a simulation in a thread, which has no event loop of its own."""
    report(f"{one.name}: start")
    findings = await asyncio.to_thread(one.measure, scale)
    return Result(measurement=one.name, contender=OUR_CONTROLLER.name, findings=findings)


def _cloud_flags(measurement: Measurement, scale: Scale, directory: Path) -> Sequence[str]:
    """The flags of the emulator, which may read a file in this directory."""
    if measurement.is_immediate:
        return ("--profile=instant", "--throttle=off")
    if not scale.limits:
        return (f"--profile={scale.profile}", "--throttle=documented")
    limits = directory / "limits.json"
    limits.write_text(json.dumps(scale.limits))
    return (f"--profile={scale.profile}", f"--throttle={limits}")
