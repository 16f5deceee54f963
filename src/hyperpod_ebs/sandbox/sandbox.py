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

_CLEANED: Final = 180.0
"""Seconds that the janitor has; one stuck in the kernel does not hold us longer, and the report tells."""

_ELSEWHERE: Final = Path("/var/tmp")  # noqa: S108 - the directory in it is made with a name that nobody can guess


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """What still stands of a sandbox; all empty when it is clean."""

    loop_devices: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    processes: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    control_groups: tuple[str, ...] = ()

    def and_then(self, later: "Leftovers") -> "Leftovers":
        """What stood now or `later`."""
        kinds = later.kinds()
        return Leftovers(**{name: tuple(dict.fromkeys(found + kinds[name])) for name, found in self.kinds().items()})

    def kinds(self) -> dict[str, tuple[str, ...]]:
        """What there is of each kind."""
        return asdict(self)


class Sandbox:
    """The directory, and what was started in it."""

    def __init__(self, path: Path, cleaner: asyncio.subprocess.Process) -> None:
        """`Sandbox.open` makes it, with a janitor that minds it."""
        self.path = path
        self._cleaner = cleaner

    @classmethod
    @asynccontextmanager
    async def open(cls, name: str) -> AsyncGenerator[Self]:
        """A sandbox in the directory for temporary files; all of it is gone when the block ends.

        Raises:
            OSError: It cannot be made there.
        """
        path = _made(name)
        handle = janitor.seal(path)
        try:
            cleaner = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "hyperpod_ebs.sandbox.janitor", str(path)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                # A janitor has no mark: whoever ends the sandbox around this one leaves it to clean up.
                env={name: value for name, value in os.environ.items() if name != janitor.MARK},
                start_new_session=True,
                pass_fds=(handle,),
            )
            sandbox = cls(path, cleaner)
            try:
                yield sandbox
            finally:
                await sandbox.close()
        finally:
            os.close(handle)

    async def close(self) -> None:
        """End all of it; a second call finds nothing to do."""
        if self._cleaner.stdin is not None:
            self._cleaner.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLEANED):
                await self._cleaner.wait()
        if self._cleaner.returncode != 0:  # somebody has killed even the janitor
            await files.off_loop(janitor.clean, self.path, deadline=_CLEANED)

    async def start(
        self, argv: Sequence[str], *, log: str, env: Mapping[str, str] | None = None, keep: Sequence[int] = ()
    ) -> asyncio.subprocess.Process:
        """A program that ends with the sandbox; what it prints goes to the file `log` in it.

        `keep` are open files that it gets too.
        """
        with await files.off_loop((self.path / log).open, "ab") as output:
            return await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(env or {}), janitor.MARK: str(self.path)},
                start_new_session=True,  # a Ctrl-C is for the owner, who ends them in order
                pass_fds=keep,
            )

    def leftovers(self) -> Leftovers:
        """What stands of it now."""
        return Leftovers(
            loop_devices=tuple(str(device) for device in janitor.loops_below(self.path)),
            mounts=tuple(str(point) for point in janitor.mounts_below(self.path)),
            processes=tuple(str(pid) for pid in janitor.processes_of(self.path)),
            directories=(str(self.path),) * self.path.exists(),
            control_groups=tuple(str(group) for group in cgroups.left(self.path.name)),
        )


def _made(name: str) -> Path:
    """A new directory, by the path that the kernel has for it; not awaited, so that no cancelling can lose it."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=place())).resolve()


def place() -> Path:
    """Where sandboxes are made: the directory for temporary files, or one beside it where device nodes work.

    Newer systems mount /tmp as a tmpfs on which devices cannot be opened (nodev).
    """
    first = Path(tempfile.gettempdir())
    return next((one for one in (first, _ELSEWHERE) if takes_devices(one)), first)


def takes_devices(directory: Path) -> bool:
    """Whether a device node in it can be opened."""
    return not os.statvfs(directory).f_flag & os.ST_NODEV
