"""Many more volumes at once than a machine can attach: the controller's own code on a virtual clock, and no processes.

`bench.watch` simulates the cloud, with its times and its token buckets. A peer has no part in it, because the code runs
in this process.
"""

import asyncio
import logging
import math
import time
from collections.abc import Sequence

import structlog

from bench.controller.buckets import Bucket
from bench.controller.measurement import Findings, Row, Scale
from bench.watch import Case, Figures, run_case
from hyperpod_ebs.driver.volumes.budget import documented_limit
from tests.support.virtual_time import VirtualLoop


def rows(scale: Scale) -> Sequence[Row]:
    """The rows of the simulation."""
    text = f"{scale.simulated} at once, simulated"
    return [
        Row(id="simulated_makespan", text=f"{text}: makespan / arithmetic", limit=1.05),
        Row(id="simulated_throttled", text=f"{text}: calls throttled", unit="%"),
        Row(id="simulated_calls", text=f"{text}: AWS calls per volume", limit=2.5),
        Row(id="simulated_cpu", text=f"{text}: CPU, with the simulated cloud's", unit="s", limit=30),
    ]


def measure(scale: Scale) -> Findings:
    """Create and attach all volumes at once. Blocks, and must not run in a thread with a running loop."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    case = Case("burst", scale.simulated, waste=math.inf, calls=math.inf, seconds=math.inf)
    limit = documented_limit("AttachClusterNodeVolume")
    bucket = Bucket(capacity=limit.capacity, refill=limit.rate, neighbour=0.0, tokens=limit.capacity)
    arithmetic = bucket.seconds_for(scale.simulated)
    began = time.thread_time()
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        figures: Figures = runner.run(run_case(case, scale.simulated, scale.seed))
    cpu = time.thread_time() - began
    return Findings(
        {
            "simulated_makespan": figures.seconds / arithmetic,
            "simulated_throttled": 100 * figures.throttled / figures.calls.total(),
            "simulated_calls": figures.calls.total() / scale.simulated,
            "simulated_cpu": cpu,
        },
        {"seconds": round(figures.seconds, 1), "arithmetic_seconds": arithmetic, "calls": figures.calls},
    )
