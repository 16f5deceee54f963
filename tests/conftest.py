"""Checks around every test: its privileges, that nothing blocks the event loop, and that nothing is left behind.

Tests run at the same time (xdist), so a test is responsible only for the loop devices and mounts below
its own directories, and for the processes that it started.
"""

import ctypes
import fcntl
import os
import signal
import struct
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import Collection, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc.aio
import psutil
import pytest
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, settings

from hyperpod_ebs.sandbox import janitor
from tests.support.privileges import CAP_SYS_RESOURCE, has_capability, missing_privilege, skip_or_fail

# <linux/fs.h>, <linux/loop.h>, <sys/mount.h>
BLKROSET: Final = 0x125D
LOOP_CLR_FD: Final = 0x4C01
MNT_DETACH: Final = 2

LEFTOVER_TIMEOUT: Final = 15.0
"""Seconds for leftovers to disappear: udev holds a loop device after its last user, and a janitor or an unmount
waits for a disk to which other tests write."""

settings.register_profile("hyperpod-ebs", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(  # make fuzz
    "fuzz", parent=settings.get_profile("hyperpod-ebs"), max_examples=2000, print_blob=True
)
settings.load_profile("hyperpod-ebs")  # without deadlines, since the machine may be busy


def pytest_configure(config: pytest.Config) -> None:
    """Let a run in the background send Ctrl-C to the processes of its tests, and refuse a wrong -k or -m.

    Such a run starts with SIGINT ignored, which its processes would inherit. A wrong expression has to be refused
    before xdist starts its workers: they would end in an INTERNALERROR that hides it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    marks: Any = config.pluginmanager.getplugin("mark")  # pluggy does not say what a plugin has
    marks.pytest_collection_modifyitems(items=[], config=config)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that this machine cannot run; in CI, fail it."""
    if item.get_closest_marker("root") and (reason := missing_privilege()):
        skip_or_fail(reason)
    if item.get_closest_marker("online_ext4_growth") and not has_capability(CAP_SYS_RESOURCE):
        pytest.skip("growing a mounted ext4 needs CAP_SYS_RESOURCE, which this process does not have")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the property `summary` of each test that has one; with xdist, the output of tests is not shown."""
    for reports in terminalreporter.stats.values():
        for report in (report for report in reports if getattr(report, "when", "") == "call"):
            for name, value in getattr(report, "user_properties", ()):
                if name == "summary":
                    terminalreporter.write_line(str(value))


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Generator[None]:
    """Fail a test in which the product's code calls something that blocks the event loop.

    The demo and the sandbox are excluded: they are clients, and no other process waits for their loop.
    """
    with blockbuster_ctx("hyperpod_ebs", excluded_modules=["hyperpod_ebs.demo", "hyperpod_ebs.sandbox"]):
        yield


@pytest.fixture(autouse=True, scope="session")
def grpc_runtime() -> Generator[None]:
    """Keep gRPC's poller thread running between the tests.

    Its last channel or server stops the poller when Python frees it, which the garbage collector may do in any
    later test, on that test's event loop. To stop the poller blocks.
    """
    grpc.aio.init_grpc_aio()
    yield
    grpc.aio.shutdown_grpc_aio()


@pytest.fixture(scope="session")
def worker_directory() -> Generator[Path]:
    """The directory for temporary files, which a janitor cleans when this worker ends, even by SIGKILL.

    The processes that tests start inherit the sandbox's variable, by which the janitor finds them.
    """
    with tempfile.TemporaryDirectory(prefix="hp-") as outer, pytest.MonkeyPatch.context() as patch:
        path = Path(outer).resolve()
        lock = janitor.create_lock_file(path)
        argv = [sys.executable, "-m", "hyperpod_ebs.sandbox.janitor", str(path)]
        process = psutil.Popen(argv, stdin=PIPE, pass_fds=(lock,), start_new_session=True)
        patch.setenv(janitor.SANDBOX_VARIABLE, str(path))
        patch.setenv("TMPDIR", str(path))
        patch.setattr(tempfile, "tempdir", str(path))
        try:
            yield path
        finally:
            os.close(lock)
            process.communicate()
            path.mkdir(exist_ok=True)  # the janitor has removed it, but TemporaryDirectory expects it


@pytest.fixture
def tmp_path(worker_directory: Path) -> Path:
    """A directory of this test; pytest's own fixture would leave it behind after a killed run."""
    return Path(tempfile.mkdtemp(prefix="p-", dir=worker_directory))


@pytest.fixture
def short_path(worker_directory: Path) -> Generator[Path]:
    """The directory for temporary files during this test.

    Its path is short enough for sockets below it (unix(7): at most 107 bytes). Processes that the test
    starts have it in TMPDIR, by which `leftovers` finds the processes of a test.
    """
    with (
        tempfile.TemporaryDirectory(prefix="t-", dir=worker_directory) as directory,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(tempfile, "tempdir", directory)
        patch.setenv("TMPDIR", directory)
        yield Path(directory)


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Generator[None]:
    """Fail a root test that leaves a loop device, a mount or a process behind, and clean up."""
    if request.node.get_closest_marker("root") is None:
        yield
        return
    directories: list[Path] = [request.getfixturevalue(name) for name in ("tmp_path", "short_path")]
    before = child_processes()
    yield
    fail_on_leftovers(directories, before)


@pytest.fixture(autouse=True, scope="session")
def nothing_left_by_the_session(worker_directory: Path) -> Generator[None]:
    """Fail a session whose fixtures leave something behind."""
    before = child_processes()
    yield
    fail_on_leftovers([worker_directory], before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """The processes, mounts and loop devices that tests have left behind."""

    processes: tuple[psutil.Process, ...]
    mounts: tuple[Path, ...]
    loops: tuple[Path, ...]

    def __bool__(self) -> bool:
        return bool(self.processes or self.mounts or self.loops)

    def __str__(self) -> str:
        return ", ".join(
            [
                *(str(process) for process in self.processes),
                *(f"mount {mount}" for mount in self.mounts),
                *(f"loop device {loop}" for loop in self.loops),
            ],
        )

    def remove(self) -> None:
        """Remove everything, innermost mounts first, so that the next test starts clean."""
        for process in self.processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(self.processes, timeout=LEFTOVER_TIMEOUT)
        libc = ctypes.CDLL(None)
        for mount in self.mounts:
            libc.umount2(bytes(mount), MNT_DETACH)
        for loop in self.loops:
            device = os.open(loop, os.O_RDONLY | os.O_CLOEXEC)
            with suppress(OSError):  # unmounting has freed it already (mount -o loop)
                fcntl.ioctl(device, BLKROSET, struct.pack("=i", 0))  # it would outlive the binding
                fcntl.ioctl(device, LOOP_CLR_FD)
            os.close(device)


def fail_on_leftovers(directories: Sequence[Path], before: set[psutil.Process]) -> None:
    """Wait until nothing is left; after a timeout remove the leftovers and fail the test.

    Args:
        directories: The directories of the test.
        before: The processes that ran before the test.
    """
    deadline = time.monotonic() + LEFTOVER_TIMEOUT
    while (remaining := leftovers(directories, before)) and time.monotonic() < deadline:
        time.sleep(0.02)  # udev and dying processes send no notification
    if remaining:
        description = str(remaining)
        remaining.remove()
        pytest.fail(f"left behind: {description}", pytrace=False)


def leftovers(directories: Sequence[Path], before: set[psutil.Process]) -> Leftovers:
    """The mounts and loop devices below the directories, and the processes that were not there before.

    These are processes with one of the directories as TMPDIR, and the descendants of this process. A descendant of a
    process that ran before the test does not count: in a cluster that all tests share, other tests start pods.
    """
    processes = {process for process in psutil.process_iter() if temporary_directory(process) in directories}
    return Leftovers(
        processes=tuple((processes | child_processes(before)) - before - {psutil.Process()}),
        mounts=tuple(mount for directory in directories for mount in janitor.mounts_below(directory)),
        loops=tuple(loop for directory in directories for loop in janitor.loops_below(directory)),
    )


def child_processes(without: Collection[psutil.Process] = ()) -> set[psutil.Process]:
    """The running descendants of this process, but not these processes and their descendants."""
    others, found = {process.pid for process in without}, set()
    for child in psutil.Process().children(recursive=True):  # each after its parent
        with suppress(psutil.NoSuchProcess):
            if child.pid in others or child.ppid() in others:
                others.add(child.pid)
            elif temporary_directory(child) is not None:
                found.add(child)
    return found


def temporary_directory(process: psutil.Process) -> Path | None:
    """The TMPDIR with which a process was started; None if the process has ended."""
    try:
        ended = process.status() == psutil.STATUS_ZOMBIE
        return None if ended else Path(process.environ().get("TMPDIR", "/tmp"))  # noqa: S108 - not used, only compared
    except psutil.Error:
        return None
