"""The bytes of volumes and snapshots: one sparse file each, by the id.

Every call brings about an end and may be repeated: it is how a step that a crash
cut short is finished.
"""

import os
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Final

from hyperpod_ebs.emulator.disks.pool import Pool, sync_directory
from hyperpod_ebs.kit import files

GIB: Final = 1 << 30

_DEADLINE: Final = 600.0
"""Seconds for a copy; a clone takes milliseconds."""


class Images:
    """The images in a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def path(self, id_: str) -> Path:
        """The file of the volume or snapshot `id_`."""
        return self._pool.path / f"{id_}.img"

    async def make(self, volume: str, *, size_gib: int, snapshot: str | None) -> None:
        """Have an image for `volume`: blank, or with the bytes of `snapshot`."""
        target, size = self.path(volume), size_gib * GIB
        if snapshot is None:
            await files.off_loop(_extend, target, size)
        elif not await files.off_loop(target.exists):
            await self._copy(self.path(snapshot), target, size)

    async def snap(self, volume: str, snapshot: str) -> int:
        """Make `snapshot` of `volume` as it is now; the bytes in it."""
        source, target = self.path(volume), self.path(snapshot)
        size = await files.off_loop(lambda: source.stat().st_size)
        await self._copy(source, target, size)
        return await files.off_loop(lambda: target.stat().st_blocks * 512)

    async def grow(self, volume: str, *, size_gib: int) -> None:
        """Have the image of `volume` at least `size_gib` long."""
        await files.off_loop(lambda: _extend(self.path(volume), size_gib * GIB))

    async def part(self, volume: str) -> None:
        """Give `volume` a file of its own, apart from the one that somebody has open and goes on writing to."""
        path = self.path(volume)
        size = await files.off_loop(lambda: path.stat().st_size)
        await self._copy(path, path, size)

    async def drop(self, id_: str) -> None:
        """Have no image for `id_`."""
        await files.off_loop(lambda: self.path(id_).unlink(missing_ok=True))

    async def missing(self, known: Iterable[str]) -> list[str]:
        """Those of the `known` ids that have no image."""
        return await files.off_loop(lambda: [id_ for id_ in known if not self.path(id_).exists()])

    async def sweep(self, known: Container[str]) -> None:
        """Drop what is no image of a known id: what a crash left half-made."""

        def sweep() -> None:
            for file in self._pool.path.iterdir():
                if not (file.suffix == ".img" and file.stem in known):
                    file.unlink()

        await files.off_loop(sweep)

    async def _copy(self, source: Path, target: Path, size: int) -> None:
        await files.off_loop(lambda: self._pool.copy(source, target, size=size), deadline=_DEADLINE)


def _extend(path: Path, size: int) -> None:
    """Make the file `path` at least `size` bytes long, with a hole."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(handle).st_size < size:
            os.ftruncate(handle, size)
            os.fsync(handle)
    finally:
        os.close(handle)
    sync_directory(path.parent)
