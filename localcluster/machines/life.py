"""A process, told from a later one that has got its number."""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_STATE: Final = 0
_STARTED: Final = 19
"""Where both are in /proc/PID/stat, counted from what follows the name in parentheses (proc_pid_stat(5): 3 and 22)."""


@dataclass(frozen=True, slots=True)
class Life:
    """One life of a process id."""

    pid: int
    started: int
    """In clock ticks since the machine's start."""

    @classmethod
    def of(cls, pid: int) -> Self:
        """That of the process which has this id now.

        Raises:
            ProcessLookupError: There is none.
        """
        fields = _fields(pid)
        if fields is None:
            raise ProcessLookupError(pid)
        return cls(pid, int(fields[_STARTED]))

    def lasts(self) -> bool:
        """Whether it still runs."""
        fields = _fields(self.pid)
        return fields is not None and fields[_STATE] != "Z" and int(fields[_STARTED]) == self.started

    def signal(self, number: signal.Signals) -> None:
        """Signal it, if it still runs; never another."""
        with suppress(ProcessLookupError):
            handle = os.pidfd_open(self.pid)
            try:
                if self.lasts():  # looked at with the handle in hand, which stays with whom we have looked at
                    signal.pidfd_send_signal(handle, number)
            finally:
                os.close(handle)


def _fields(pid: int) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
