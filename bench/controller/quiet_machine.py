"""Whether the machine has other work to do, which would disturb what is measured."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import psutil

_SECONDS: Final = 1.0
"""For which the processes are watched."""

_BUSY: Final = 5.0
"""Percent of a processor from which a process is busy."""

_LOAD: Final = 0.5
"""The load average of the last minute, per processor, up to which the machine is quiet."""


@dataclass(frozen=True, slots=True)
class BusyProcess:
    """A process that uses a processor."""

    pid: int
    name: str
    percent: float
    """Of one processor."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the machine did before the measurement."""

    processors: int
    load: float
    """The load average of the last minute."""
    busy: Sequence[BusyProcess]

    @property
    def is_quiet(self) -> bool:
        """Whether nothing else disturbs the measurement."""
        return not self.busy and self.load <= _LOAD * self.processors

    def __str__(self) -> str:
        busy = ", ".join(f"{process.name} ({process.percent:.0f} %)" for process in self.busy) or "none"
        verdict = "quiet" if self.is_quiet else "NOT QUIET: the figures below are too high"
        return f"{self.processors} processors, load {self.load:.2f}, other busy processes: {busy}; {verdict}"


def look_at_machine() -> Machine:
    """Watch all processes for a second. Blocks for that time."""
    before = _cpu_seconds()
    psutil.cpu_percent(interval=_SECONDS)
    busy = [
        BusyProcess(process.pid, name, percent)
        for process, (name, seconds) in _cpu_seconds().items()
        if process in before and (percent := 100 * (seconds - before[process][1]) / _SECONDS) >= _BUSY
    ]
    return Machine(os.cpu_count() or 1, os.getloadavg()[0], sorted(busy, key=lambda one: -one.percent))


def _cpu_seconds() -> dict[psutil.Process, tuple[str, float]]:
    """The name and the CPU time of each process, except this one."""
    found: dict[psutil.Process, tuple[str, float]] = {}
    for process in psutil.process_iter(["name", "cpu_times"]):
        times = process.info["cpu_times"]
        if times is not None and process.pid != os.getpid():
            found[process] = (process.info["name"], times.user + times.system)
    return found
