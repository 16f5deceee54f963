"""A directory whose processes, mounts and loop devices all end with it, however its owner ends."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hyperpod_ebs.demo import janitor
from hyperpod_ebs.kit import files


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """What still stands of a sandbox; all empty when it is clean."""

    loop_devices: tuple[str, ...]
    mounts: tuple[str, ...]
    processes: tuple[str, ...]


class Sandbox:
    """The directory, and what was started in it."""

    def __init__(self, path: Path) -> None:
        """`Sandbox.open` makes it, with a janitor that minds it."""
        self.path = path

    @classmethod
    @asynccontextmanager
    async def open(cls, name: str) -> AsyncGenerator[Self]:
        """A sandbox in the directory for temporary files; all of it is gone when the block ends."""
        path = Path(await files.off_loop(lambda: tempfile.mkdtemp(prefix=f"{name}-")))
        cleaner = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "hyperpod_ebs.demo.janitor",
            str(path),
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            yield cls(path)
        finally:
            if cleaner.stdin is not None:
                cleaner.stdin.close()
            await cleaner.wait()

    async def start(
        self, argv: Sequence[str], *, log: str, env: Mapping[str, str] | None = None
    ) -> asyncio.subprocess.Process:
        """A program that ends with the sandbox; what it prints goes to the file `log` in it."""
        with await files.off_loop(lambda: (self.path / log).open("ab")) as output:
            return await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(env or {}), janitor.MARK: str(self.path)},
                start_new_session=True,  # a Ctrl-C is for the owner, who ends them in order
            )

    def leftovers(self) -> Leftovers:
        """What stands of it now."""
        return Leftovers(
            loop_devices=tuple(str(device) for device in janitor.loops_below(self.path)),
            mounts=tuple(str(point) for point in janitor.mounts_below(self.path)),
            processes=tuple(str(pid) for pid in janitor.processes_of(self.path)),
        )
