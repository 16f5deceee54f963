"""The image, built once for all tests, or taken from the cache if the same sources were built before."""

from pathlib import Path

import pytest

from tests.support.image_archives import Archive, build


@pytest.fixture(scope="session")
def archive(worker_directory: Path) -> Archive:
    """The image of this kind of machine."""
    return build(worker_directory)


@pytest.fixture(scope="session")
def rootfs(worker_directory: Path, archive: Archive) -> Path:
    """Its files."""
    directory = worker_directory / "rootfs"
    directory.mkdir(mode=0o755)
    archive.unpack(directory)
    # Those who are not root have to get there, too.
    worker_directory.chmod(0o711)
    return directory
