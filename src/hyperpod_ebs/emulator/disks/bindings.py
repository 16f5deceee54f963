"""Which loop device stands for which attachment.

Nothing of this is stored: after a crash the attachments are known from the store, the
loop devices from the kernel, and which belongs to which from the device directories.
A device that a node still has mounted is never torn away, not even by a stop of the
emulator: it is found again at the next start.
"""

from collections.abc import Container, Iterable
from pathlib import Path

from hyperpod_ebs.emulator.disks import loops
from hyperpod_ebs.emulator.disks.device_directories import DeviceDirectories
from hyperpod_ebs.emulator.disks.images import Images
from hyperpod_ebs.emulator.disks.loops import Loop
from hyperpod_ebs.emulator.records import Attachment
from hyperpod_ebs.kit import files


class Bindings:
    """The loop devices of the attachments, and the nodes' views of them.

    Without root there are none: attachments are then states and nothing else.
    """

    def __init__(self, images: Images, directories: DeviceDirectories, *, usable: bool) -> None:
        self.usable = usable
        self._images = images
        self._directories = directories
        self._loops: dict[str, Loop] = {}

    async def bind(self, attachment: Attachment) -> None:
        """Have a device for `attachment`, in its node's directory."""
        if self.usable and attachment.unit:
            image = self._images.path(attachment.volume)
            loop = await files.off_loop(self._bound, attachment, image)
            # A device freed at its last close may come back as somebody else's.
            stale = [id_ for id_, other in self._loops.items() if other == loop]
            for id_ in stale:
                del self._loops[id_]
            self._loops[attachment.id] = loop
            # The image may have grown since the kernel took its size, and whoever grew it found no device of ours yet.
            await files.off_loop(loop.regrow)

    async def release(self, attachment: Attachment) -> bool:
        """Have none; False while somebody on the node has it mounted or open."""
        return await files.off_loop(lambda: self._released(attachment, force=False))

    async def cut(self, attachment: Attachment, *, shared: bool) -> None:
        """Take the device away from its node although it may be in use there.

        What has it mounted goes on with a file of its own, which is lost with its last close:
        the volume is what it was at this moment. A `shared` volume cannot be parted from its
        file, which other nodes write to, so there the old node is only trusted to write no more.
        """
        if not await files.off_loop(lambda: self._released(attachment, force=True)):
            if not shared:
                await self._images.part(attachment.volume)
            self._loops.pop(attachment.id, None)

    async def regrow(self, attachments: Iterable[Attachment]) -> None:
        """Let each attachment's device be as long as the image has become."""
        for loop in [self._loops[attachment.id] for attachment in attachments if attachment.id in self._loops]:
            await files.off_loop(loop.regrow)

    async def take_over(self, attachments: list[Attachment], directory: Path) -> None:
        """Find the devices that a dead process left for images in `directory`; have one for each of `attachments`.

        One that is attaching gets its own from the clock, unless it had it already. Those that belong
        to no attachment are freed.
        """
        found = await files.off_loop(self._found, attachments, directory)
        self._loops.update(found)
        await files.off_loop(lambda: _free_all(directory, set(found.values())))
        for attachment in [one for one in attachments if one.state != "attaching"]:
            await self.bind(attachment)

    async def close(self, attachments: Iterable[Attachment], *, force: bool) -> list[Attachment]:
        """Release what is not in use; what is, and is with `force` released by its last user."""
        return [
            one
            for one in attachments
            if not await files.off_loop(lambda one=one: self._released(one, force=force))  # type: ignore[misc] # a default binds it
        ]

    def device(self, attachment: Attachment) -> Path | None:
        """The loop device behind `attachment`."""
        loop = self._loops.get(attachment.id)
        return loop.path if loop else None

    def _found(self, attachments: Iterable[Attachment], directory: Path) -> dict[str, Loop]:
        """The device of each attachment that a node can see and that has the right image behind it."""
        left = {loop.rdev: loop for loop, _ in loops.under(directory)}
        seen = {one.id: left.get(self._directories.shown(one) or 0) for one in attachments}
        wanted = {one.id: str(self._images.path(one.volume)) for one in attachments}
        return {id_: loop for id_, loop in seen.items() if loop and loop.file == wanted[id_]}

    def _bound(self, attachment: Attachment, image: Path) -> Loop:
        loop = self._loops.get(attachment.id)
        if loop is None or loop.file != str(image):
            loop = loops.bound(image)
        self._directories.show(attachment, loop.rdev)
        return loop

    def _released(self, attachment: Attachment, *, force: bool) -> bool:
        loop = self._loops.get(attachment.id)
        free = loop is None or loop.free(self._images.path(attachment.volume), force=force)
        if free or force:
            self._directories.hide(attachment)
        if free:
            self._loops.pop(attachment.id, None)
        return free


def _free_all(directory: Path, kept: Container[Loop]) -> None:
    """Free the devices over `directory` that nobody wants any more."""
    for loop, file in loops.under(directory):
        if loop not in kept:
            loop.free(file, force=True)
