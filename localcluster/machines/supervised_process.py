"""A process, identified by id and start time, so that a later process with the same id is never signalled."""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_STATE: Final = 0
_STARTED: Final = 19
"""Positions in /proc/PID/stat after the name in parentheses (fields 3 and 22 of proc_pid_stat(5))."""


@dataclass(frozen=True, slots=True)
class SupervisedProcess:
    """A process that runs or has run."""

    pid: int
    started: int
    """In clock ticks since boot."""

    @classmethod
    def find(cls, pid: int) -> Self:
        """The process that has this id now.

        Raises:
            ProcessLookupError: There is none.
        """
        fields = _stat_fields(pid)
        if fields is None:
            raise ProcessLookupError(pid)
        return cls(pid, int(fields[_STARTED]))

    def is_running(self) -> bool:
        """Whether the process still runs."""
        fields = _stat_fields(self.pid)
        return fields is not None and fields[_STATE] != b"Z" and int(fields[_STARTED]) == self.started

    def signal(self, number: signal.Signals) -> None:
        """Signal the process, if it still runs."""
        with suppress(ProcessLookupError):
            handle = os.pidfd_open(self.pid)
            try:
                # Checked after opening the handle, which refers to the same process even if the id is used again.
                if self.is_running():
                    signal.pidfd_send_signal(handle, number)
            finally:
                os.close(handle)


def _stat_fields(pid: int) -> list[bytes] | None:
    try:  # bytes, because the name of a process can be any bytes
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
