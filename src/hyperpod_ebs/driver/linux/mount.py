"""Mount, bind-mount and unmount, on open mount points (`linux.pinned_path`)."""

import errno
import os
import stat
from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Final, TypeVar

from hyperpod_ebs.driver.linux import device_use, mount_calls, mount_points, mountinfo, paths, system_errors
from hyperpod_ebs.driver.linux.mount_points import MountPoint
from hyperpod_ebs.driver.linux.pinned_path import real_root
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.disk import Device, DeviceNumber
from hyperpod_ebs.driver.model.mount_options import MountOptions
from hyperpod_ebs.kit import command, files
from hyperpod_ebs.kit.command import CommandFailed

T = TypeVar("T")

MOUNT_DEADLINE: Final = 600.0
"""Seconds. A mount replays the journal, which takes long on a slow volume."""

UNMOUNT_DEADLINE: Final = 600.0
"""Seconds. An unmount writes what was written since the sync, and the journal."""


async def mount(  # noqa: PLR0913 - a mount has that many parts
    device: Device, target: Path, root: Path, filesystem: str, options: MountOptions, *, lock: int
) -> None:
    """Mount the filesystem on `device` at the directory `target` below `root`; create the directory if it is absent.

    `lock` is the device's locked descriptor, see `linux.device_lock`.

    Raises:
        NotReady: The kernel refused, or the device is write-protected and `options` do not ask for a read-only mount.
        Unavailable: The kernel did not answer in time, another program uses the device, or another device was mounted.
    """
    # Without -w, mount(8) mounts a write-protected device read-only and exits with 0; the option `rw` does not stop it.
    writing = [] if options.read_only else ["-w"]
    action = f"mount {device.path} as {filesystem} at {target} with options {options}"
    with system_errors.translate(action), ExitStack() as opened:
        point = await _open(opened, mount_points.open_mount_point(target, root, directory=True))
        # With the final dot, no version of mount(8) mistakes the descriptor's link for the mount point. -c: the path
        # is not turned into text. -n: that path means nothing to other programs, so no table gets it.
        place = f"/proc/self/fd/{point.handle}/."
        arguments = ["-t", filesystem, "-o", str(options), str(device.path), place]
        try:
            await command.run(
                ["mount", "-n", "-c", *writing, *arguments], deadline=MOUNT_DEADLINE, keep=[point.handle, lock]
            )
            await files.off_loop(_check_mount, point, device, about=target)
        except BaseException as error:
            # The descriptors stay open until the thread ends, even if that is after the deadline: the kernel gives the
            # number of a closed descriptor to another file, and the thread would unmount what is there.
            await files.off_loop(_undo_and_close, point, error, opened.pop_all(), deadline=UNMOUNT_DEADLINE)
            if not isinstance(error, CommandFailed):
                raise
            # The paths in the message may contain any word.
            if "already mounted" in error.output.replace(str(device.path), "").replace(place, ""):
                raise errors.Unavailable(
                    f"cannot {action}: {error}; another program uses the device, try again"
                ) from error
            raise error.with_output(error.output.replace(place, str(target))) from error


async def bind(source: Path, number: DeviceNumber, target: Path, root: Path, options: Iterable[str]) -> None:
    """Bind-mount `source` at `target` below `root`; create `target` if it is absent.

    `source` is a directory below `root` on the device with this number, or the device's node.

    Raises:
        Unavailable: The kernel refused or did not answer in time, or `source` belongs to another device.
    """
    action = f"bind-mount {source} at {target}"
    with system_errors.translate(action):
        await files.off_loop(_bind, source, number, target, root, tuple(options), about=source)


async def unmount(target: Path, root: Path) -> None:
    """Unmount the top mount at `target` below `root`, after its data is written; succeed if nothing is mounted.

    umount(2) removes the mount from the mount table first and writes the data afterwards. If that takes long, nothing
    shows any more that the filesystem is in use. So the data is written while the filesystem is still mounted. A frozen
    filesystem is thawed then, because it would stay in the kernel without a mount.

    Raises:
        InUse: A process still uses the mount.
        Unavailable: The kernel did not finish in time; it may finish later.
    """
    with system_errors.translate(f"unmount {target}"):
        with ExitStack() as opened:
            if last := await _open(opened, mount_points.open_last_mount(target, root)):
                handle, number = last
                place = Path(f"/proc/self/fd/{handle}")
                await device_use.write_back(place, number, "--file-system", keep=[handle])
                await files.off_loop(mount_calls.thaw, handle, about=f"the thaw of device {number}")
        try:
            await files.off_loop(mount_points.unmount, target, root, deadline=UNMOUNT_DEADLINE)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            raise errors.InUse(
                f"cannot unmount {target}: a process still uses it; end the process that has files open there, "
                "then try again"
            ) from error


async def _open(opened: ExitStack, place: AbstractContextManager[T]) -> T:
    """Enter the context off the loop; it ends with `opened`, also if that has ended before the kernel answers."""
    return await files.off_loop(opened.enter_context, place, discard=lambda _: opened.close())


def _bind(source: Path, number: DeviceNumber, target: Path, root: Path, options: tuple[str, ...]) -> None:
    with _open_source(source, number, root) as handle:
        directory = stat.S_ISDIR(os.fstat(handle).st_mode)
        with mount_points.open_mount_point(target, root, directory=directory) as point:
            try:
                if options and mount_calls.bind_with_options(handle, point.handle, options):
                    return
                mount_calls.bind(handle, point.handle)
                if options:  # the kernel ignores them in the first call
                    with point.pinned.open() as mounted:
                        mount_calls.set_options(mounted, options)
            except OSError as error:
                _undo(point, error)
                raise


@contextmanager
def _open_source(source: Path, number: DeviceNumber, root: Path) -> Generator[int]:
    """Open a directory below `root` on the device with this number, or the device's node in another directory.

    Raises:
        OSError: It belongs to another device.
    """
    if source.is_relative_to(real_root(root)):
        with paths.open_volume(source, root, number) as handle:
            yield handle
        return
    handle = os.open(source, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if (found := paths.volume_number(os.fstat(handle))) != number:
            raise OSError(errno.EAGAIN, f"{source} is of device {found}, not {number}")
        yield handle
    finally:
        os.close(handle)


def _check_mount(point: MountPoint, device: Device) -> None:
    """Check that the whole filesystem on the device is mounted.

    Raises:
        Unavailable: Something else is, or nothing.
    """
    here = point.pinned.find_mount_id()
    found = next((f"{each.root} of device {each.number}" for each in mountinfo.read() if each.id == here), "nothing")
    if found != (wanted := f"/ of device {device.number}"):
        raise errors.Unavailable(
            f"cannot mount {wanted} at {point.pinned.path}: {found} was mounted there; check mountOptions, try again"
        )


def _undo_and_close(point: MountPoint, error: BaseException, opened: ExitStack) -> None:
    with opened:
        _undo(point, error)


def _undo(point: MountPoint, error: BaseException) -> None:
    """Undo a mount that failed half-way.

    Raises:
        Unavailable: The mount stays.
    """
    try:
        point.undo()
    except OSError as stuck:
        # kubelet never unstages after a final error, so the mount would leak: return a retryable one.
        raise errors.Unavailable(
            f"cannot mount at {point.pinned.path}: {error}; it stays mounted: {stuck.strerror or stuck}; try again"
        ) from error
