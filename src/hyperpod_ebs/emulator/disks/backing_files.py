"""The backing files of volumes and snapshots: one sparse file each, named by the id.

Every method can be called again after a crash, and finishes what an interrupted call began.
"""

import os
from collections.abc import Container, Iterable
from functools import partial
from pathlib import Path
from typing import Final

from hyperpod_ebs.emulator.disks import file_copy
from hyperpod_ebs.emulator.disks.pool import Pool
from hyperpod_ebs.kit import files

GIB: Final = 1 << 30

_DEADLINE: Final = 600.0
"""Seconds that a full copy may take; a clone takes milliseconds."""


class BackingFiles:
    """The backing files in a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def path(self, id_: str) -> Path:
        """The backing file of a volume or snapshot."""
        return self._pool.path / f"{id_}.img"

    async def create(self, volume: str, *, size_gib: int, snapshot: str | None) -> None:
        """Create the backing file of `volume`, blank or as a copy of the snapshot's."""
        target, size = self.path(volume), size_gib * GIB
        if snapshot is None:
            await files.off_loop(_extend, target, size)
        elif not await files.off_loop(target.exists):
            await self._copy(self.path(snapshot), target, size)

    async def snapshot(self, volume: str, snapshot: str) -> int:
        """Copy the volume's backing file to the snapshot's; return the bytes that the copy takes on disk."""
        source, target = self.path(volume), self.path(snapshot)
        size = await files.off_loop(lambda: source.stat().st_size)
        await self._copy(source, target, size)
        return await files.off_loop(lambda: target.stat().st_blocks * 512)

    async def grow(self, volume: str, *, size_gib: int) -> None:
        """Grow the backing file of `volume` to at least `size_gib`."""
        await files.off_loop(_extend, self.path(volume), size_gib * GIB)

    async def delete(self, id_: str) -> None:
        """Delete the backing file of `id_` if it exists."""
        await files.off_loop(lambda: self.path(id_).unlink(missing_ok=True))

    async def missing(self, ids: Iterable[str]) -> list[str]:
        """The ids without a backing file."""
        return await files.off_loop(lambda: [id_ for id_ in ids if not self.path(id_).exists()])

    async def delete_unknown(self, known: Container[str]) -> None:
        """Delete every file that is not the backing file of a known id, such as unfinished copies after a crash."""

        def delete_unknown() -> None:
            for file in self._pool.path.iterdir():
                if not (file.suffix == ".img" and file.stem in known):
                    file.unlink()

        await files.off_loop(delete_unknown)

    async def _copy(self, source: Path, target: Path, size: int) -> None:
        act = partial(file_copy.copy, source, target, method=self._pool.copy_method, size=size)
        await files.off_loop(act, deadline=_DEADLINE)


def _extend(path: Path, size: int) -> None:
    """Extend the file to at least `size` bytes, with a hole; create it if it does not exist."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(handle).st_size < size:
            os.ftruncate(handle, size)
            os.fsync(handle)
    finally:
        os.close(handle)
    file_copy.sync_directory(path.parent)
