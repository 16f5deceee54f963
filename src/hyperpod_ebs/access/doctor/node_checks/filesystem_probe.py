"""Judge filesystems in a process of its own: filesystem_probe.py FILE KUBELET DEVICES SYSFS PATH...

A thread that waits for a dead or frozen filesystem cannot be ended, and the kernel does not let its process exit. The
doctor must not wait for that, so it leaves the question to this process, which writes the findings to FILE as JSON.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from hyperpod_ebs.access.doctor.findings import Finding, fails, may_fail
from hyperpod_ebs.driver.linux.host import LinuxHost
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.health import HEALTHY
from hyperpod_ebs.driver.mounts.health import judge_writes

_AT_ONCE: Final = 16
"""Filesystems that are asked at the same time."""


async def find_failure(host: LinuxHost, point: Path) -> Finding | None:
    """What is wrong with a mounted filesystem, as the driver itself judges it."""
    where, pods = f"filesystem at {point}", "The pods that use the volume get I/O errors"
    again = (
        "delete the volume's pods on this node: kubelet unmounts the volume, and the driver checks and mounts it again"
    )
    try:
        state = await host.inspect_path(point)
        if state.broken:
            return fails(where, f"the filesystem is dead: {state.broken}", pods, again)
        health = await judge_writes(host, f"on {state.top.source}" if state.top else "", state)
    except errors.Error as error:
        return fails(where, str(error), pods, again)
    if health != HEALTHY:
        judge = may_fail if health.reason == "ErrorsRecorded" else fails
        return judge(where, health.message.partition("; ")[0], pods, again)
    return None


async def judge(host: LinuxHost, points: Sequence[Path]) -> list[Finding]:
    """What is wrong with the filesystems at these paths."""
    turn = asyncio.Semaphore(_AT_ONCE)

    async def examine(point: Path) -> Finding | None:
        async with turn:
            return await find_failure(host, point)

    async with asyncio.TaskGroup() as tasks:
        answers = [tasks.create_task(examine(point)) for point in points]
    return [finding for answer in answers if (finding := answer.result())]


def main() -> None:
    """Judge the filesystems that the command line names."""
    file, kubelet, devices, sysfs, *points = map(Path, sys.argv[1:])
    findings = asyncio.run(judge(LinuxHost(devices=devices, sysfs=sysfs, root=kubelet), points))
    file.write_text(json.dumps([asdict(finding) for finding in findings]))


if __name__ == "__main__":
    main()
