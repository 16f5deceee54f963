"""A filesystem for the backing files of volumes, which a test can freeze: the volumes then hang, like slow disks."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from hyperpod_ebs.kit import command
from tests.support.loop_device_node import VOLUME, LoopNode

_SIZE: Final = 400 * 2**20


@dataclass(frozen=True, slots=True)
class FreezableStore:
    """A mounted filesystem of its own."""

    directory: Path

    @classmethod
    @asynccontextmanager
    async def create(cls, directory: Path) -> AsyncGenerator[Self]:
        """Mount a new filesystem at `directory`; at the end thaw and remove it, even after a failed test."""
        directory.mkdir()
        image = directory.with_suffix(".img")
        with image.open("wb") as file:
            file.truncate(_SIZE)
        await command.run(["mkfs.xfs", "-q", str(image)])
        await command.run(["mount", "-o", "loop", str(image), str(directory)])
        store = cls(directory)
        try:
            yield store
        finally:
            await store.thaw()
            await command.run(["umount", "--lazy", str(directory)])  # a freed loop device closes its file a bit later

    def add_image(self, node: LoopNode, size: int, volume_id: str = VOLUME) -> None:
        """Put the backing file of a volume of `node` into this store."""
        file = self.directory / f"{volume_id}.img"
        with file.open("wb") as image:
            image.truncate(size)
        node.image(volume_id).symlink_to(file)

    async def freeze(self) -> None:
        """Block every write to the store until `thaw`."""
        await command.run(["fsfreeze", "--freeze", str(self.directory)])

    async def thaw(self) -> None:
        """Let writes continue; a store that is not frozen stays as it is."""
        await command.run(["fsfreeze", "--unfreeze", str(self.directory)], ok=frozenset({0, 1}))
