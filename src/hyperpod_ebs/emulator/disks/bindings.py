"""The loop device of each attachment.

Bindings are not stored. After a crash, the store has the attachments, the kernel has the
loop devices, and the device directories show which device belongs to which attachment. Only
a forced detach takes away a device that a node has mounted. A stop of the emulator leaves
such a device in place, and the next start finds it.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from hyperpod_ebs.emulator.disks import loop_devices
from hyperpod_ebs.emulator.disks.backing_files import BackingFiles
from hyperpod_ebs.emulator.disks.device_directories import DeviceDirectories
from hyperpod_ebs.emulator.disks.loop_devices import LoopDevice
from hyperpod_ebs.emulator.records import Attachment
from hyperpod_ebs.kit import files


class Bindings:
    """The loop devices of attachments, and their entries in the nodes' device directories.

    Without root there are none: attachments then only have states.
    """

    def __init__(self, backing_files: BackingFiles, directories: DeviceDirectories, *, usable: bool) -> None:
        self.usable = usable
        self._backing_files = backing_files
        self._directories = directories
        self._loops: dict[str, LoopDevice] = {}

    async def bind(self, attachment: Attachment) -> None:
        """Bind a loop device to the volume's backing file, and show it in the node's device directory."""
        if self.usable and attachment.unit:
            file = self._backing_files.path(attachment.volume)
            loop = await files.off_loop(self._bind, attachment, file)
            # A device that the kernel freed at its last close may have been bound again, for this attachment.
            stale = [id_ for id_, other in self._loops.items() if other == loop]
            for id_ in stale:
                del self._loops[id_]
            self._loops[attachment.id] = loop
            # A modification may have grown the file after the kernel took its size, before the device was in _loops.
            await files.off_loop(loop.update_size)

    async def release(self, attachment: Attachment) -> bool:
        """Free the loop device and remove it from the device directory; return False if the node uses it."""
        return await files.off_loop(partial(self._release, attachment, force=False))

    async def force_release(self, attachment: Attachment) -> None:
        """Take the device away from its node even if it is in use there: all later I/O of the node fails.

        The volume keeps what the node has written until then.
        """
        await files.off_loop(self._force_release, attachment)

    async def update_sizes(self, attachments: Iterable[Attachment]) -> None:
        """Grow the attachments' devices to the sizes of their backing files."""
        for loop in [self._loops[attachment.id] for attachment in attachments if attachment.id in self._loops]:
            await files.off_loop(loop.update_size)

    async def take_over(self, attachments: list[Attachment], directory: Path) -> None:
        """Find the loop devices that a dead process left for backing files in `directory`, and bind missing ones.

        An attachment in state attaching is bound later by the clock, unless it already has a device.
        Loop devices without an attachment are freed.
        """
        found = await files.off_loop(self._find_loops, attachments, directory)
        self._loops.update(found)
        await files.off_loop(partial(loop_devices.free_all, directory, keep=set(found.values())))
        for attachment in [attachment for attachment in attachments if attachment.state != "attaching"]:
            await self.bind(attachment)

    async def release_all(self, attachments: Iterable[Attachment], *, force: bool) -> list[Attachment]:
        """Release the idle devices; return the attachments whose devices are busy.

        With `force`, the kernel frees busy devices at their last close.
        """
        return [
            attachment
            for attachment in attachments
            if not await files.off_loop(partial(self._release, attachment, force=force))
        ]

    def device(self, attachment: Attachment) -> Path | None:
        """The path of the attachment's loop device; None if it has none."""
        loop = self._loops.get(attachment.id)
        return loop.path if loop else None

    def _find_loops(self, attachments: Iterable[Attachment], directory: Path) -> dict[str, LoopDevice]:
        """By attachment id, the loop device that is in the node's device directory and has the right backing file."""
        by_number = {loop.rdev: loop for loop, _ in loop_devices.find_in(directory)}
        shown = {
            attachment.id: by_number.get(self._directories.device_number(attachment) or 0) for attachment in attachments
        }
        wanted = {attachment.id: str(self._backing_files.path(attachment.volume)) for attachment in attachments}
        return {id_: loop for id_, loop in shown.items() if loop and loop.backing_file == wanted[id_]}

    def _bind(self, attachment: Attachment, file: Path) -> LoopDevice:
        loop = self._loops.get(attachment.id)
        if loop is None or loop.backing_file != str(file):
            loop = loop_devices.bind(file)
        self._directories.add_device(attachment, loop.rdev)
        return loop

    def _force_release(self, attachment: Attachment) -> None:
        if not self._release(attachment, force=False):
            # In this order, a kill in between leaves a device that the next start finds, and that cannot write.
            self._loops[attachment.id].disconnect(self._backing_files.path(attachment.volume))
            self._directories.remove_device(attachment)
            del self._loops[attachment.id]

    def _release(self, attachment: Attachment, *, force: bool) -> bool:
        loop = self._loops.get(attachment.id)
        is_free = loop is None or loop.free(self._backing_files.path(attachment.volume), force=force)
        if is_free or force:
            self._directories.remove_device(attachment)
        if is_free:
            self._loops.pop(attachment.id, None)
        return is_free
