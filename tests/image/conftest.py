"""The image, built once for all tests, or taken from the cache if the same sources were built before."""

from pathlib import Path

import pytest

from tests.support.image_archives import Archive, build


@pytest.fixture(scope="session")
def archive(minded: Path) -> Archive:
    """The image of this kind of machine."""
    return build(minded)


@pytest.fixture(scope="session")
def rootfs(minded: Path, archive: Archive) -> Path:
    """Its files."""
    directory = minded / "rootfs"
    directory.mkdir(mode=0o755)
    archive.unpack(directory)
    # Those who are not root have to get there, too.
    minded.chmod(0o711)
    return directory
