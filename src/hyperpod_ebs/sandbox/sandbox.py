"""A directory whose processes, mounts and loop devices all end with it, however its owner ends."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from hyperpod_ebs.kit import files
from hyperpod_ebs.sandbox import cgroups, janitor

_CLEANUP_TIMEOUT: Final = 180.0
"""Seconds to wait for the janitor; if it is stuck in the kernel for longer, the leftovers show what is not removed."""

_FALLBACK: Final = Path("/var/tmp")  # noqa: S108 - sandboxes in it get unpredictable names


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """What remains of a sandbox, by kind; all empty after a complete cleanup."""

    loop_devices: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    processes: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    control_groups: tuple[str, ...] = ()

    def union(self, other: "Leftovers") -> "Leftovers":
        """What is in either, without duplicates."""
        kinds = other.as_dict()
        return Leftovers(**{name: tuple(dict.fromkeys(found + kinds[name])) for name, found in self.as_dict().items()})

    def as_dict(self) -> dict[str, tuple[str, ...]]:
        """The leftovers by the name of their kind."""
        return asdict(self)


class Sandbox:
    """The directory, and what was started in it."""

    def __init__(self, path: Path, janitor_process: asyncio.subprocess.Process) -> None:
        """Use `Sandbox.open`, which starts the janitor process `janitor_process`."""
        self.path = path
        self._janitor_process = janitor_process

    @classmethod
    @asynccontextmanager
    async def open(cls, name: str) -> AsyncGenerator[Self]:
        """A new sandbox `<name>-<random>` below `parent_directory()`; when the block ends, it is cleaned up.

        Raises:
            OSError: The directory cannot be created.
        """
        path = _create_directory(name)  # not awaited, so that a cancellation cannot leave it behind
        handle = janitor.create_lock_file(path)
        try:
            try:
                janitor_process = await _start_janitor(path, handle)
            except BaseException:  # such as a cancellation, which kills the janitor while it starts
                janitor.clean(path)
                raise
            sandbox = cls(path, janitor_process)
            try:
                yield sandbox
            finally:
                await sandbox.close()
        finally:
            os.close(handle)

    async def close(self) -> None:
        """Clean the sandbox up; idempotent."""
        if self._janitor_process.stdin is not None:
            self._janitor_process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLEANUP_TIMEOUT):
                await self._janitor_process.wait()
        if self._janitor_process.returncode != 0:  # the janitor was killed or is stuck
            await files.off_loop(janitor.clean, self.path, deadline=_CLEANUP_TIMEOUT)

    async def start(
        self, argv: Sequence[str], *, log: str, env: Mapping[str, str] | None = None, pass_fds: Sequence[int] = ()
    ) -> asyncio.subprocess.Process:
        """Start a program that ends with the sandbox; its output goes to the file `log` in the sandbox.

        Args:
            argv: The program and its arguments.
            log: The file's name.
            env: Environment variables in addition to those of this process.
            pass_fds: Open files that the program inherits.
        """
        with await files.off_loop((self.path / log).open, "ab") as output:
            return await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(env or {}), janitor.SANDBOX_VARIABLE: str(self.path)},
                start_new_session=True,  # a Ctrl-C reaches only the owner, which stops its programs in order
                pass_fds=pass_fds,
            )

    def leftovers(self) -> Leftovers:
        """What remains of the sandbox now."""
        return Leftovers(
            loop_devices=tuple(str(device) for device in janitor.loops_below(self.path)),
            mounts=tuple(str(point) for point in janitor.mounts_below(self.path)),
            processes=tuple(str(pid) for pid in janitor.processes_of(self.path)),
            directories=(str(self.path),) * self.path.exists(),
            control_groups=tuple(str(group) for group in cgroups.groups(self.path.name)),
        )


async def _start_janitor(path: Path, lock: int) -> asyncio.subprocess.Process:
    """Start the janitor of the sandbox at `path`, which inherits the open lock file."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hyperpod_ebs.sandbox.janitor", str(path)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        # Without the variable, so that a sandbox around this one does not end the janitor.
        env={name: value for name, value in os.environ.items() if name != janitor.SANDBOX_VARIABLE},
        start_new_session=True,
        pass_fds=(lock,),
    )


def _create_directory(name: str) -> Path:
    """Create a directory; its path as the kernel shows it in its tables."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent_directory())).resolve()


def parent_directory() -> Path:
    """The directory of sandboxes: the one for temporary files, or /var/tmp if only that one allows devices.

    Newer systems mount /tmp as a tmpfs with the option nodev, on which device nodes cannot be opened.
    """
    preferred = Path(tempfile.gettempdir())
    return next((directory for directory in (preferred, _FALLBACK) if allows_devices(directory)), preferred)


def allows_devices(directory: Path) -> bool:
    """Whether device nodes in the directory can be opened."""
    return not os.statvfs(directory).f_flag & os.ST_NODEV
