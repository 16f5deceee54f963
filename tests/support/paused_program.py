"""A program that stops when it starts, so that a test can act in the middle of what the product does with it."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from tests.support.waiting import wait_until


@dataclass(frozen=True, slots=True)
class PausedProgram:
    """A program that stops itself when it starts, and runs after SIGCONT."""

    path: str
    """The value of PATH with which a process finds this program instead of the real one."""

    _pid_file: Path

    @classmethod
    def create(cls, directory: Path, name: str) -> Self:
        """Create the program in a new directory below `directory`; the machine has the real one."""
        real = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        shims, pid_file = directory / "shims", directory / f"{name}.pid"
        shims.mkdir()
        shim = shims / name
        shim.write_text(
            f'#!/bin/sh\necho $$ > {pid_file}.new && mv {pid_file}.new {pid_file}\nkill -STOP $$\nexec {real} "$@"\n'
        )
        shim.chmod(0o755)
        return cls(f"{shims}:{os.environ['PATH']}", pid_file)

    async def wait_until_paused(self) -> None:
        """Wait until the program was started and has stopped: a SIGCONT before that would have no effect.

        Raises:
            TimeoutError: It does not stop.
        """
        await wait_until(self.is_paused)

    async def is_paused(self) -> bool:
        """Whether the program was started and has stopped."""
        return self._pid_file.exists() and psutil.Process(self._pid).status() == psutil.STATUS_STOPPED

    def send(self, signal: int) -> None:
        """Send a signal to the paused program."""
        os.kill(self._pid, signal)

    @property
    def _pid(self) -> int:
        return int(self._pid_file.read_text())
