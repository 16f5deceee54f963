"""One Kubernetes for all tests here, brought up as `make cluster` does it; each test has a namespace of its own.

All run on one worker of xdist, one after the other; the others go on with the rest meanwhile.
"""

import json
import os
import sys
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Final

import aiohttp
import psutil
import pytest

from live import Live, Space
from localcluster.record import Record
from privileges import want_of_privilege

ROOT: Final = Path(__file__).parent.parent.parent

IMAGES: Final = "HYPERPOD_EBS_IMAGES"
"""The variable in which scripts/test.sh names the archives of the driver's and the workloads' images."""

CLUSTER: Final = "HYPERPOD_EBS_CLUSTER"
"""The variable that names the directory of a cluster that runs already, to be used instead of one of the tests' own."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep these tests together, give them time, and say what they take."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("cluster"))
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def record(minded: Path) -> Generator[Record]:
    """A cluster with the driver installed; it ends with the tests."""
    if running := os.environ.get(CLUSTER):
        yield Record.read(Path(running))
        return
    if want := want_of_privilege() or (None if os.environ.get(IMAGES) else f"{IMAGES} names no image: make test does"):
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI has to be able to run this test, but {want}", pytrace=False)
        pytest.skip(want)
    log = minded / "cluster.log"
    argv = [sys.executable, "-m", "localcluster", "run", "--name=hpt"]
    argv += [f"--image={archive}" for archive in os.environ[IMAGES].split(os.pathsep)]
    with log.open("wb") as errors:
        process = psutil.Popen(argv, stdout=-1, stderr=errors, text=True, cwd=ROOT, start_new_session=True)
    try:
        yield Record.read(_ready(process, log))
    finally:
        process.terminate()
        process.communicate()


def _ready(process: psutil.Popen, log: Path) -> Path:
    for line in process.stdout:
        said = json.loads(line)
        if "ready" in said:
            return Path(said["ready"])
    pytest.fail(f"the cluster did not come up: {log.read_text()}", pytrace=False)


@pytest.fixture
async def live(record: Record) -> AsyncGenerator[Live]:
    """The cluster, to be spoken to; planned faults that nobody met fail the test."""
    async with aiohttp.ClientSession(record.environment["AWS_ENDPOINT_URL"]) as http:
        found = Live(record, http)
        try:
            yield found
            assert await found.faults() == []
        finally:
            await found.forget_faults()


@pytest.fixture
async def space(live: Live) -> AsyncGenerator[Space]:
    """A namespace of this test; it is held to leave nothing at the cloud and on the nodes."""
    opened = await Space.opened(live)
    try:
        yield opened
    finally:
        await opened.close()
