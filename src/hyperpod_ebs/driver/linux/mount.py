"""Mounts, binds and unmounts through mount(8) and umount(8)."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.linux import mountinfo, paths, system_errors
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.disk import Device
from hyperpod_ebs.kit import command, files
from hyperpod_ebs.kit.command import CommandFailed

MOUNT_DEADLINE: Final = 600.0
"""Seconds. A mount replays the journal, which takes long on a slow volume."""

UNMOUNT_DEADLINE: Final = 600.0
"""Seconds. An unmount first writes back all that is dirty: gigabytes, on a slow volume."""


async def mount(device: Device, target: Path, filesystem: str, options: Iterable[str]) -> None:
    """Mount the filesystem on `device` at the directory `target`, made where it is absent.

    Raises:
        NotReady: The kernel refused.
        Unavailable: It did not answer in time, or somebody else holds the device.
    """
    argv = ["mount", "-t", filesystem, *_given(options), str(device.path), str(target)]
    await _mounted(argv, target, directory=True, doing=f"mounting {device.path} as {filesystem} at {target}")


async def bind(source: Path, target: Path, options: Iterable[str]) -> None:
    """Show the directory or device node `source` at `target` too.

    Raises:
        NotReady: The kernel refused.
        Unavailable: It did not answer in time.
    """
    # mount(8) makes the two calls that options of a bind mount need: bind, then remount.
    argv = ["mount", *_given(["bind", *options]), str(source), str(target)]
    doing = f"binding {source} to {target}"
    with system_errors.translate(doing):
        directory = await files.off_loop(source.is_dir, about=source)
    await _mounted(argv, target, directory=directory, doing=doing)


async def unmount(target: Path) -> None:
    """Take the top mount off `target`; success where nothing is mounted.

    Raises:
        InUse: A process still uses it.
        Unavailable: The kernel did not finish in time; it may yet.
    """
    with system_errors.translate(f"unmounting {target}"):
        try:
            # -c: the path is resolved already, and a look at it may hang.
            await command.run(["umount", "-c", str(target)], deadline=UNMOUNT_DEADLINE)
        except CommandFailed as error:
            if "not mounted" in error.said or "no mount point" in error.said:
                return
            if "busy" in error.said:
                raise errors.InUse(
                    f"{target} is still used by a process; end what has files open below it, then try again"
                ) from error
            raise


async def _mounted(argv: list[str], target: Path, *, directory: bool, doing: str) -> None:
    """Run a mount program, so that where it fails it leaves nothing mounted and nothing made."""
    with system_errors.translate(doing):
        made = await files.off_loop(lambda: paths.make(target, directory=directory))
        before = await files.off_loop(_height, target)
        try:
            await command.run(argv, deadline=MOUNT_DEADLINE)
        except BaseException as error:
            try:
                await _lowered(target, before)
            except errors.Error as stays:
                # kubelet never unstages what failed with a final code: the mount would leak.
                raise errors.Unavailable(f"{doing}: {error}; and what was mounted stays: {stays}") from error
            if made:
                with suppress(OSError, files.Unresponsive):
                    await files.off_loop(paths.clear, target)
            if isinstance(error, CommandFailed) and "busy" in error.said:
                raise errors.Unavailable(f"{doing}: {error}; somebody else holds it, try again") from error
            raise


async def _lowered(target: Path, height: int) -> None:
    """Unmount what was mounted over the first `height` mounts at `target`."""
    for _ in range(await files.off_loop(_height, target) - height):
        await unmount(target)


def _height(target: Path) -> int:
    return len(mountinfo.stack(mountinfo.parse(mountinfo.TABLE.read_bytes()), target))


def _given(options: Iterable[str]) -> list[str]:
    joined = ",".join(options)
    return ["-o", joined] if joined else []
