"""The files of a release that need no root, built once for all tests of a worker."""

from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def packages(worker_directory: Path) -> Path:
    """The directory that `scripts/release/packages.sh` filled from this tree."""
    directory = worker_directory / "packages"
    with psutil.Popen([str(ROOT / "scripts/release/packages.sh"), str(ROOT), str(directory)]) as process:
        assert process.wait(timeout=120) == 0
    return directory
