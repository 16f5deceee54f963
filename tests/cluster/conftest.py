"""One Kubernetes cluster for all tests of this directory, started like `make cluster`; each test has its own namespace.

The first xdist worker starts the cluster, and stops it when the last worker has finished. Tests run on it side by
side, except the tests that disturb others: they are marked as exclusive and run alone.
"""

import fcntl
import json
import os
import sys
from asyncio.subprocess import PIPE
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
from tests.support.privileges import missing_privilege, skip_or_fail

ROOT: Final = Path(__file__).parent.parent.parent

IMAGES: Final = "HYPERPOD_EBS_IMAGES"
"""The variable in which scripts/test.sh passes the archives of the driver's and the workloads' images."""

CLUSTER: Final = "HYPERPOD_EBS_CLUSTER"
"""The variable that names the directory of a running cluster, which the tests then use instead of starting one."""

LONGEST: Final = {"test_demo.py", "test_examples.py", "test_local_cluster.py"}
"""Files whose tests take a minute each, and keep a processor busy for a part of it."""


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
    """The record of a running cluster with the driver installed.

    The worker that started the cluster stops it, and checks that the machine is as it was before.
    """
    if running := os.environ.get(CLUSTER):
        yield Record.read(Path(running))
        return
    if reason := missing_privilege() or (None if os.environ.get(IMAGES) else f"{IMAGES} is not set; run make test"):
        skip_or_fail(reason)
    directory_file, started = shared_directory / "cluster", None
    before: dict[str, object] = {}
    with _lock(shared_directory / "cluster.begin"):
        if not directory_file.exists():
            before = kubernetes_state()
            started = _start_cluster(worker_directory / "cluster.log")
            directory_file.write_text(str(_wait_until_ready(started, worker_directory / "cluster.log", directory_file)))
    try:
        with _lock(shared_directory / "cluster.users", fcntl.LOCK_SH):
            yield _read_record(directory_file)
    finally:
        if started:
            with _lock(shared_directory / "cluster.users"), _lock(shared_directory / "cluster.begin"):
                directory = Path(directory_file.read_text())
                directory_file.unlink()
                started.terminate()
                started.communicate()
            assert started.returncode == 0, (worker_directory / "cluster.log").read_text()
            assert cluster_leftovers(directory) == []
            assert kubernetes_state() == before


def _read_record(directory_file: Path) -> Record:
    """The record of the cluster that this or another worker has started."""
    if not (directory := directory_file.read_text()):
        pytest.fail("the cluster did not start: the first test that needed it shows the reason", pytrace=False)
    return Record.read(Path(directory))


def _start_cluster(log: Path) -> psutil.Popen:
    """Start a cluster whose messages go to `log`."""
    argv = [sys.executable, "-m", "localcluster", "run", "--name=hpt"]
    argv += [f"--image={archive}" for archive in os.environ[IMAGES].split(os.pathsep)]
    with log.open("wb") as errors:
        return psutil.Popen(argv, stdout=PIPE, stderr=errors, text=True, cwd=ROOT, start_new_session=True)


def _wait_until_ready(process: psutil.Popen, log: Path, directory_file: Path) -> Path:
    """Wait until the cluster is ready, and return its directory.

    After a failure the file is empty, so that no other worker starts a cluster.
    """
    for line in process.stdout:
        event = json.loads(line)
        if "ready" in event:
            return Path(event["ready"])
    directory_file.touch()
    pytest.fail(f"the cluster did not start: {log.read_text()}", pytrace=False)


@pytest.fixture
def turn(record: Record, request: pytest.FixtureRequest) -> Generator[None]:
    """The right to use the cluster, together with other tests or, for an exclusive test, alone."""
    alone = request.node.get_closest_marker("exclusive") is not None
    with _lock(Path(record.directory) / "turn", fcntl.LOCK_EX if alone else fcntl.LOCK_SH):
        yield


@contextmanager
def _lock(file: Path, kind: int = fcntl.LOCK_EX) -> Generator[None]:
    """Hold a lock on a file, against other processes."""
    with file.open("w") as handle:
        fcntl.flock(handle, kind)
        yield


@pytest.fixture
async def live(record: Record, turn: None, request: pytest.FixtureRequest) -> AsyncGenerator[LiveCluster]:
    """The cluster with a healthy driver; the test fails if a fault that it planned did not happen."""
    del turn
    async with aiohttp.ClientSession(record.environment["AWS_ENDPOINT_URL"]) as http:
        # Read the record again, because an earlier test may have replaced nodes.
        cluster = LiveCluster(Record.read(Path(record.directory)), http)
        # An exclusive test may have run just before, and its damaged pods may still be terminating.
        if request.node.get_closest_marker("exclusive"):
            await driver_pods.restore_driver(cluster)
        else:
            await driver_pods.wait_until_ready(cluster)
        try:
            yield cluster
            assert await cluster.list_faults() == []
        finally:
            await cluster.cancel_faults()


@pytest.fixture
async def namespace(live: LiveCluster) -> AsyncGenerator[ClusterNamespace]:
    """A namespace of this test; the test fails if it leaves anything in the emulator or on the nodes."""
    opened = await ClusterNamespace.create(live)
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture(name="pod_replacement")
async def replace_damaged_pods(live: LiveCluster, namespace: ClusterNamespace) -> AsyncGenerator[None]:
    """Replace the driver pods that the test damaged; the new pods start while the test's namespace is deleted."""
    del namespace
    yield
    await driver_pods.replace_damaged_pods(live)


@pytest.fixture
async def cordon_turn(record: Record, turn: None) -> AsyncGenerator[None]:
    """The right to cordon nodes: no other test has a node cordoned meanwhile, and at the end no node is.

    The demo and its example also need it because they use the same namespace.
    """
    del turn
    kubectl = Kubectl(record.kubectl, record.kubeconfig)
    with _lock(Path(record.directory) / "cordon"):
        yield
        nodes = Record.read(Path(record.directory)).nodes
        await kubectl("uncordon", *(node.name for node in nodes))
