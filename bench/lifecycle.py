"""Measure the time that the driver adds to AWS's own, over the lives of many volumes.

A life is create, attach to a HyperPod node, detach and delete, through the real controller and
the emulator with its `aws` profile. Waste is the time from the end of a state change in the
emulator to the driver's response, summed over the life. The benchmark prints one line for each
life, and the mean and p95 of all.

    .venv/bin/python bench/lifecycle.py --lives 50
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from hyperpod_ebs.demo.fleet import Fleet, start_fleet
from hyperpod_ebs.demo.orchestrator import block_capability
from hyperpod_ebs.sandbox.sandbox import Sandbox


@dataclass(frozen=True, slots=True)
class Life:
    """The measurements of one volume's life."""

    waste: float
    """Seconds."""

    calls: int
    """AWS calls."""


async def run_life(fleet: Fleet, number: int) -> Life:
    """Create, attach, detach and delete a volume."""
    orchestrator = fleet.orchestrator
    node = next(iter(orchestrator.nodes.values()))
    before = await fleet.emulator.call_counts()
    returned: dict[str, float] = {}
    claim = await orchestrator.create(f"life-{number}", gib=1, capability=block_capability())
    returned["available"] = time.time()
    await orchestrator.attach(claim, node)
    returned["attached"] = time.time()
    await orchestrator.detach(claim, node)
    returned["detached"] = time.time()
    await orchestrator.delete(claim)
    after = await fleet.emulator.call_counts()
    done: dict[str, float] = {}
    for moment in await fleet.emulator.history():
        if moment.volume == claim.id:
            done.setdefault(moment.state, moment.instant)
    waste = sum(returned[state] - done[state] for state in returned)
    return Life(waste, sum(after.values()) - sum(before.values()))


def p95(values: Sequence[float]) -> float:
    """The value that 95 % of the values do not exceed."""
    return sorted(values)[max(0, -(-95 * len(values) // 100) - 1)]


async def main() -> None:
    """Run all lives, one after the other, and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lives", type=int, default=50, help="lives to measure")
    lives: list[Life] = []
    count = parser.parse_args().lives
    async with Sandbox.open("hp-bench") as sandbox, start_fleet(sandbox, "aws") as fleet:
        for number in range(count):
            lives.append(life := await run_life(fleet, number))
            sys.stdout.write(f"life {number:3d}: waste {life.waste:.3f} s, {life.calls} AWS calls\n")
            sys.stdout.flush()
    waste, calls = [life.waste for life in lives], [life.calls for life in lives]
    sys.stdout.write(
        f"{count} lives: waste mean {statistics.mean(waste):.3f} s, p95 {p95(waste):.3f} s; "
        f"AWS calls a life mean {statistics.mean(calls):.1f}, most {max(calls)}\n"
    )


if __name__ == "__main__":
    asyncio.run(main())
