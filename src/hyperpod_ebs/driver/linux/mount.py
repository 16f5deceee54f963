"""Mount, bind-mount and unmount with mount(8) and umount(8)."""

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
"""Seconds. An unmount first writes back all dirty data: gigabytes, on a slow volume."""


async def mount(device: Device, target: Path, filesystem: str, options: Iterable[str]) -> None:
    """Mount the filesystem on `device` at the directory `target`; create the directory if it is absent.

    Raises:
        NotReady: The kernel refused, or the device is write-protected and `options` do not ask for a read-only mount.
        Unavailable: The kernel did not answer in time, or another program uses the device.
    """
    given = tuple(options)
    # Without -w, mount(8) mounts a write-protected device read-only and exits with 0; the option `rw` does not stop it.
    writing = [] if "ro" in given else ["-w"]
    argv = ["mount", *writing, "-t", filesystem, *_option_arguments(given), str(device.path), str(target)]
    await _run_mount(argv, target, directory=True, action=f"mount {device.path} as {filesystem} at {target}")


async def bind(source: Path, target: Path, options: Iterable[str]) -> None:
    """Bind-mount the directory or device node `source` at `target`; create `target` if it is absent.

    Raises:
        NotReady: The kernel refused.
        Unavailable: The kernel did not answer in time.
    """
    # mount(8) makes the two calls that the options of a bind mount need: bind, then remount.
    argv = ["mount", *_option_arguments(["bind", *options]), str(source), str(target)]
    action = f"bind-mount {source} at {target}"
    with system_errors.translate(action):
        directory = await files.off_loop(source.is_dir, about=source)
    await _run_mount(argv, target, directory=directory, action=action)


async def unmount(target: Path) -> None:
    """Unmount the top mount at `target`; succeed if nothing is mounted.

    Raises:
        InUse: A process still uses the mount.
        Unavailable: The kernel did not finish in time; it may finish later.
    """
    with system_errors.translate(f"unmount {target}"):
        try:
            # -c: the path is already resolved, and resolving it again could hang.
            await command.run(["umount", "-c", str(target)], deadline=UNMOUNT_DEADLINE)
        except CommandFailed as error:
            if "not mounted" in error.output or "no mount point" in error.output:
                return
            if "busy" in error.output:
                raise errors.InUse(
                    f"cannot unmount {target}: a process still uses it; end the process that has files open there, "
                    "then try again"
                ) from error
            raise


async def _run_mount(argv: list[str], target: Path, *, directory: bool, action: str) -> None:
    """Run a mount program; if it fails, undo the mount and remove the mount point that was created for it."""
    with system_errors.translate(action):
        created = await files.off_loop(lambda: paths.create_mount_point(target, directory=directory))
        before = await files.off_loop(_mount_count, target)
        try:
            await command.run(argv, deadline=MOUNT_DEADLINE)
        except BaseException as error:
            try:
                for _ in range(await files.off_loop(_mount_count, target) - before):
                    await unmount(target)
            except errors.Error as stuck:
                # kubelet never unstages after a final error, so the mount would leak: return a retryable one.
                raise errors.Unavailable(f"cannot {action}: {error}; {target} stays mounted: {stuck}") from error
            if created:
                with suppress(OSError, files.Unresponsive):
                    await files.off_loop(paths.remove_empty, target)
            if isinstance(error, CommandFailed) and "busy" in error.output:
                raise errors.Unavailable(
                    f"cannot {action}: {error}; another program uses the device, try again"
                ) from error
            raise


def _mount_count(target: Path) -> int:
    return len(mountinfo.stack(mountinfo.read(), target))


def _option_arguments(options: Iterable[str]) -> list[str]:
    joined = ",".join(options)
    return ["-o", joined] if joined else []
