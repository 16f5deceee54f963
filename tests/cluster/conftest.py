"""One Kubernetes for all tests here, brought up as `make cluster` does it; each test has a namespace of its own.

Whichever worker of xdist comes first brings it up, and ends it when the last is done with
it. Tests run on it side by side, but for those that disturb others: marked as exclusive,
they have it alone.
"""

import fcntl
import json
import os
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import aiohttp
import psutil
import pytest

from localcluster.kubernetes.kubectl import Kubectl
from localcluster.record import Record
from tests.support import driver_pods
from tests.support.cluster_namespace import Space
from tests.support.live_cluster import Live
from tests.support.machine_state import left_of, of_kubernetes
from tests.support.privileges import want_of_privilege

ROOT: Final = Path(__file__).parent.parent.parent

IMAGES: Final = "HYPERPOD_EBS_IMAGES"
"""The variable in which scripts/test.sh names the archives of the driver's and the workloads' images."""

CLUSTER: Final = "HYPERPOD_EBS_CLUSTER"
"""The variable that names the directory of a cluster that runs already, to be used instead of one of the tests' own."""

LONGEST: Final = {"test_demo.py", "test_examples.py", "test_local_cluster.py"}
"""Whose tests take a minute each, of which a part is their own computing."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the longest first and the exclusive ones last, and give all of them time.

    An exclusive test between the others would have all workers run dry, and start again. The
    wait for a turn is no part of a test, and ends with the tests before.
    """
    items.sort(key=lambda item: (item.get_closest_marker("exclusive") is not None, item.path.name not in LONGEST))
    for item in items:
        if Path(__file__).parent in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(600, func_only=True))


@pytest.fixture(scope="session")
def meeting_place(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A directory that all workers of this run have."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


@pytest.fixture(scope="session")
def record(minded: Path, meeting_place: Path) -> Generator[Record]:
    """A cluster with the driver installed, which ends in order and leaves the machine as it was."""
    if running := os.environ.get(CLUSTER):
        yield Record.read(Path(running))
        return
    if want := want_of_privilege() or (None if os.environ.get(IMAGES) else f"{IMAGES} names no image: make test does"):
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI has to be able to run this test, but {want}", pytrace=False)
        pytest.skip(want)
    known, started = meeting_place / "cluster", None
    before: dict[str, object] = {}
    with _locked(meeting_place / "cluster.begin"):
        if not known.exists():
            before = of_kubernetes()
            started = _begun(minded / "cluster.log")
            known.write_text(str(_ready(started, minded / "cluster.log", known)))
    try:
        with _locked(meeting_place / "cluster.users", fcntl.LOCK_SH):
            yield _known(known)
    finally:
        if started:
            with _locked(meeting_place / "cluster.users"), _locked(meeting_place / "cluster.begin"):
                directory = Path(known.read_text())
                known.unlink()
                started.terminate()
                started.communicate()
            assert started.returncode == 0, (minded / "cluster.log").read_text()
            assert left_of(directory) == []
            assert of_kubernetes() == before


def _known(known: Path) -> Record:
    """The cluster that somebody has brought up."""
    if not (directory := known.read_text()):
        pytest.fail("the cluster did not come up: see why at the first test that wanted it", pytrace=False)
    return Record.read(Path(directory))


def _begun(log: Path) -> psutil.Popen:
    argv = [sys.executable, "-m", "localcluster", "run", "--name=hpt"]
    argv += [f"--image={archive}" for archive in os.environ[IMAGES].split(os.pathsep)]
    with log.open("wb") as errors:
        return psutil.Popen(argv, stdout=-1, stderr=errors, text=True, cwd=ROOT, start_new_session=True)


def _ready(process: psutil.Popen, log: Path, known: Path) -> Path:
    """The cluster's directory once it is ready; when it does not come up, nobody need try again."""
    for line in process.stdout:
        said = json.loads(line)
        if "ready" in said:
            return Path(said["ready"])
    known.touch()
    pytest.fail(f"the cluster did not come up: {log.read_text()}", pytrace=False)


@pytest.fixture
def turn(record: Record, request: pytest.FixtureRequest) -> Generator[None]:
    """The cluster together with others, or alone."""
    alone = request.node.get_closest_marker("exclusive") is not None
    with _locked(Path(record.directory) / "room", fcntl.LOCK_EX if alone else fcntl.LOCK_SH):
        yield


@contextmanager
def _locked(file: Path, kind: int = fcntl.LOCK_EX) -> Generator[None]:
    with file.open("w") as handle:
        fcntl.flock(handle, kind)
        yield


@pytest.fixture
async def live(record: Record, turn: None, request: pytest.FixtureRequest) -> AsyncGenerator[Live]:
    """The cluster, to be spoken to, with the driver whole; a test has its planned faults met."""
    del turn
    async with aiohttp.ClientSession(record.environment["AWS_ENDPOINT_URL"]) as http:
        found = Live(Record.read(Path(record.directory)), http)  # anew: a test before may have replaced nodes
        # One that had the cluster alone may have been just before, and let hurt pods give way.
        await (driver_pods.whole if request.node.get_closest_marker("exclusive") else driver_pods.settled)(found)
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


@pytest.fixture
async def relieved(live: Live, space: Space) -> AsyncGenerator[None]:
    """Pods of the driver's that the test hurts give way to new ones, which start while the test's namespace goes."""
    del space
    yield
    await driver_pods.relieved(live)


@pytest.fixture
async def cordon(record: Record, turn: None) -> AsyncGenerator[None]:
    """The right to cordon a node, and to see none cordoned; the demo and its example have one namespace, too."""
    del turn
    kubectl = Kubectl(record.kubectl, record.kubeconfig)
    with _locked(Path(record.directory) / "cordon"):
        yield
        nodes = Record.read(Path(record.directory)).nodes
        await kubectl("uncordon", *(node.name for node in nodes))
