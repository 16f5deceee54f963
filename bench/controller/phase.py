"""What happens between two moments: seconds, AWS calls, and the CPU time of the controller and of the cloud."""

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bench.controller.cloud import Calls, Cloud
from bench.controller.contender import Controller
from bench.controller.sidecars import Journal


@dataclass(slots=True, kw_only=True)
class Phase:
    """The measurements, complete at the end of the phase."""

    calls: Calls
    seconds: float = 0.0
    cpu: float = 0.0
    """CPU time of the controller in seconds."""
    cloud_cpu: float = 0.0
    """CPU time of the emulator in seconds."""

    def details(self, journal: Journal) -> dict[str, object]:
        """The phase as JSON, with the failures in the journal of its calls."""
        return {
            "seconds": round(self.seconds, 2),
            "failed_rpcs": journal.failures,
            "calls": self.calls.all,
            "throttled_calls": self.calls.throttled,
            "controller_cpu_seconds": round(self.cpu, 2),
            "cloud_cpu_seconds": round(self.cloud_cpu, 2),
        }


@asynccontextmanager
async def measure_phase(cloud: Cloud, controller: Controller) -> AsyncGenerator[Phase]:
    """Measure the block."""
    phase = Phase(calls=await cloud.calls())
    cpu, cloud_cpu, began = controller.cpu_seconds, cloud.cpu_seconds, time.monotonic()
    yield phase
    phase.seconds = time.monotonic() - began
    phase.cpu, phase.cloud_cpu = controller.cpu_seconds - cpu, cloud.cpu_seconds - cloud_cpu
    phase.calls = (await cloud.calls()).since(phase.calls)
