"""One Kubernetes cluster for all tests of this directory, started like `make cluster`; each test has its own namespace.

The first xdist worker starts the cluster, and stops it when the last worker has finished.
Tests run on it side by side, except tests that disturb others: those are marked as
exclusive and run alone.
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
from tests.support.cluster_namespace import ClusterNamespace
from tests.support.live_cluster import LiveCluster
from tests.support.machine_state import cluster_leftovers, kubernetes_state
from tests.support.privileges import missing_privilege

ROOT: Final = Path(__file__).parent.parent.parent

IMAGES: Final = "HYPERPOD_EBS_IMAGES"
"""The variable in which scripts/test.sh passes the archives of the driver's and the workloads' images."""

CLUSTER: Final = "HYPERPOD_EBS_CLUSTER"
"""The variable that names the directory of a running cluster, which the tests then use instead of starting one."""

LONGEST: Final = {"test_demo.py", "test_examples.py", "test_local_cluster.py"}
"""Files whose tests take a minute each and compute for a part of it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest tests first and the exclusive tests last, with a timeout that suits a cluster.

    An exclusive test in the middle would leave all other workers idle. The timeout does not include the
    wait for the cluster.
    """
    items.sort(key=lambda item: (item.get_closest_marker("exclusive") is not None, item.path.name not in LONGEST))
    for item in items:
        if Path(__file__).parent in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(600, func_only=True))


@pytest.fixture(scope="session")
def shared_directory(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A directory that all workers of this run share."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


@pytest.fixture(scope="session")
def record(worker_directory: Path, shared_directory: Path) -> Generator[Record]:
    """A cluster with the driver installed, which stops in order and leaves the machine as it was."""
    if running := os.environ.get(CLUSTER):
        yield Record.read(Path(running))
        return
    if want := missing_privilege() or (None if os.environ.get(IMAGES) else f"{IMAGES} names no image: make test does"):
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI has to be able to run this test, but {want}", pytrace=False)
        pytest.skip(want)
    known, started = shared_directory / "cluster", None
    before: dict[str, object] = {}
    with _lock(shared_directory / "cluster.begin"):
        if not known.exists():
            before = kubernetes_state()
            started = _start_cluster(worker_directory / "cluster.log")
            known.write_text(str(_wait_until_ready(started, worker_directory / "cluster.log", known)))
    try:
        with _lock(shared_directory / "cluster.users", fcntl.LOCK_SH):
            yield _read_record(known)
    finally:
        if started:
            with _lock(shared_directory / "cluster.users"), _lock(shared_directory / "cluster.begin"):
                directory = Path(known.read_text())
                known.unlink()
                started.terminate()
                started.communicate()
            assert started.returncode == 0, (worker_directory / "cluster.log").read_text()
            assert cluster_leftovers(directory) == []
            assert kubernetes_state() == before


def _read_record(known: Path) -> Record:
    """The cluster that another worker has started."""
    if not (directory := known.read_text()):
        pytest.fail("the cluster did not start: the first test that needed it shows the reason", pytrace=False)
    return Record.read(Path(directory))


def _start_cluster(log: Path) -> psutil.Popen:
    argv = [sys.executable, "-m", "localcluster", "run", "--name=hpt"]
    argv += [f"--image={archive}" for archive in os.environ[IMAGES].split(os.pathsep)]
    with log.open("wb") as errors:
        return psutil.Popen(argv, stdout=-1, stderr=errors, text=True, cwd=ROOT, start_new_session=True)


def _wait_until_ready(process: psutil.Popen, log: Path, known: Path) -> Path:
    """Wait for the cluster and return its directory; after a failure no other worker tries again."""
    for line in process.stdout:
        said = json.loads(line)
        if "ready" in said:
            return Path(said["ready"])
    known.touch()
    pytest.fail(f"the cluster did not start: {log.read_text()}", pytrace=False)


@pytest.fixture
def turn(record: Record, request: pytest.FixtureRequest) -> Generator[None]:
    """The right to use the cluster, together with other tests or, for an exclusive test, alone."""
    alone = request.node.get_closest_marker("exclusive") is not None
    with _lock(Path(record.directory) / "room", fcntl.LOCK_EX if alone else fcntl.LOCK_SH):
        yield


@contextmanager
def _lock(file: Path, kind: int = fcntl.LOCK_EX) -> Generator[None]:
    with file.open("w") as handle:
        fcntl.flock(handle, kind)
        yield


@pytest.fixture
async def live(record: Record, turn: None, request: pytest.FixtureRequest) -> AsyncGenerator[LiveCluster]:
    """The cluster with a healthy driver; the test fails if a fault that it planned did not happen."""
    del turn
    async with aiohttp.ClientSession(record.environment["AWS_ENDPOINT_URL"]) as http:
        found = LiveCluster(
            Record.read(Path(record.directory)), http
        )  # read again: an earlier test may have replaced nodes
        # An exclusive test may have run just before, and its damaged pods may still be terminating.
        await (
            driver_pods.restore_driver if request.node.get_closest_marker("exclusive") else driver_pods.wait_until_ready
        )(found)
        try:
            yield found
            assert await found.list_faults() == []
        finally:
            await found.cancel_faults()


@pytest.fixture
async def namespace(live: LiveCluster) -> AsyncGenerator[ClusterNamespace]:
    """A namespace of this test; the test fails if it leaves anything at the cloud or on the nodes."""
    opened = await ClusterNamespace.create(live)
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture
async def replace_damaged_pods(live: LiveCluster, namespace: ClusterNamespace) -> AsyncGenerator[None]:
    """Replace the driver pods that the test damages; the new ones start while the test's namespace is deleted."""
    del namespace
    yield
    await driver_pods.replace_damaged_pods(live)


@pytest.fixture
async def cordon(record: Record, turn: None) -> AsyncGenerator[None]:
    """The right to cordon a node and to see no node cordoned; the demo and its example share a namespace, too."""
    del turn
    kubectl = Kubectl(record.kubectl, record.kubeconfig)
    with _lock(Path(record.directory) / "cordon"):
        yield
        nodes = Record.read(Path(record.directory)).nodes
        await kubectl("uncordon", *(node.name for node in nodes))
