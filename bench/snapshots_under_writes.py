"""Measure snapshots of a volume to which a node writes all the time."""

import asyncio
import mmap
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.form_client import FormClient, element

SIZE_GIB: Final = 10
SNAPSHOTS: Final = 10

_BLOCK: Final = 64 * 1024
_WRITES_PER_SECOND: Final = 2000
"""With `_BLOCK` 125 MiB/s, the throughput of a gp3 volume that is created without one."""

_APART: Final = 0.5
"""Seconds between two snapshots."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes to a device one block after the other, past the page cache, until `stop` is set."""

    device: Path
    times: list[tuple[float, float]] = field(default_factory=list)
    """The beginning and the end of each write, in seconds."""

    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Write at the rate of a gp3 volume."""
        handle = os.open(self.device, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
        began = time.monotonic()
        try:
            with mmap.mmap(-1, _BLOCK) as buffer:  # O_DIRECT needs page-aligned memory
                buffer.write(os.urandom(_BLOCK))
                while not self.stop.wait(began + len(self.times) / _WRITES_PER_SECOND - time.monotonic()):
                    begin = time.monotonic()
                    os.pwritev(handle, [buffer], len(self.times) * _BLOCK)
                    self.times.append((begin, time.monotonic()))
        finally:
            os.close(handle)

    def longest_write(self, begin: float, end: float) -> float:
        """The seconds of the longest write that ran in this time."""
        return max((last - first for first, last in self.times if first < end and last > begin), default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowestSnapshot:
    """The slowest of all snapshots, in milliseconds."""

    answer: float
    """From the request of CreateSnapshot until its answer."""

    write: float
    """The longest write that ran at the same time."""


async def measure_snapshots(client: FormClient, state: Path) -> SlowestSnapshot:
    """Attach a volume to an instance, write to it, and take snapshots.

    Args:
        client: A caller who may do all this.
        state: The emulator's state directory, which contains the instance's devices.
    """
    zone = "us-west-2a"
    image = {"ImageId": "ami-00000000000000000", "InstanceType": "m5.large", "MinCount": 1, "MaxCount": 1}
    launched = await client.call("ec2", "RunInstances", **image, Placement__AvailabilityZone=zone)
    instance = element(launched, "instanceId")
    created = await client.call("ec2", "CreateVolume", AvailabilityZone=zone, Size=SIZE_GIB, VolumeType="gp3")
    volume = element(created, "volumeId")
    await client.call("ec2", "AttachVolume", VolumeId=volume, InstanceId=instance, Device="/dev/xvdb")
    await client.call("ec2", "DescribeVolumes", VolumeId__1=volume)  # runs the step that attaches it
    writer = Writer(state / "nodes" / instance / "dev" / "nvme1n1")
    thread = threading.Thread(target=writer.run)
    thread.start()
    times = []
    try:
        for _ in range(SNAPSHOTS):
            await asyncio.sleep(_APART)
            begin = time.monotonic()
            await client.call("ec2", "CreateSnapshot", VolumeId=volume)
            times.append((begin, time.monotonic()))
    finally:
        writer.stop.set()
        await asyncio.to_thread(thread.join)
    await client.call("ec2", "TerminateInstances", InstanceId__1=instance)
    return SlowestSnapshot(
        answer=1000 * max(end - begin for begin, end in times),
        write=1000 * max(writer.longest_write(begin, end) for begin, end in times),
    )
