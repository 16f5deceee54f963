"""The image under test: built once, or taken from the build cache if its sources have not changed."""

from pathlib import Path

import pytest

from tests.support.image_archives import Archive, build


@pytest.fixture(scope="session")
def archive(worker_directory: Path) -> Archive:
    """The image for the architecture of this machine."""
    return build(worker_directory)


@pytest.fixture(scope="session")
def rootfs(worker_directory: Path, archive: Archive) -> Path:
    """A directory with the files of the image."""
    directory = worker_directory / "rootfs"
    directory.mkdir(mode=0o755)
    archive.unpack(directory)
    # Tests run programs of the image as users other than root, who must be able to enter this directory.
    worker_directory.chmod(0o711)
    return directory
