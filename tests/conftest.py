"""What every test lives under: no privilege assumed, no blocked event loop, nothing left behind.

Tests run side by side (xdist), so that a test answers only for the loop devices and
mounts below its own directories, and for the processes that it started.
"""

import ctypes
import fcntl
import os
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import pytest
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, settings

from hyperpod_ebs.sandbox import janitor
from tests.support.privileges import CAP_SYS_RESOURCE, has, want_of_privilege

# <linux/loop.h>, <sys/mount.h>
LOOP_CLR_FD: Final = 0x4C01
MNT_DETACH: Final = 2

LINGER: Final = 15.0
"""Seconds that what is on its way out has to be gone: udev holds a loop device after its last user, and a janitor or a
filesystem that is unmounted waits for a disk on which others write. What is really left stays longer than that."""

settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")  # how long an example takes says more of the machine than of us


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Keep a test from a machine that cannot run it: skipped at home, failed in CI."""
    if item.get_closest_marker("root") and (want := want_of_privilege()):
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI has to be able to run this test, but {want}", pytrace=False)
        pytest.skip(want)
    if item.get_closest_marker("online_ext4_growth") and not has(CAP_SYS_RESOURCE):
        pytest.skip("growing a mounted ext4 needs CAP_SYS_RESOURCE, which this machine withholds")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell what a test recorded as its `summary`; with xdist nothing that it prints would be seen."""
    for reports in terminalreporter.stats.values():
        for report in (one for one in reports if getattr(one, "when", "") == "call"):
            for name, value in getattr(report, "user_properties", ()):
                if name == "summary":
                    terminalreporter.write_line(str(value))


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Generator[None]:
    """A call of ours that would block the event loop fails the test that made it.

    The demo is left out: it is a client, and nobody waits for its loop.
    """
    with blockbuster_ctx("hyperpod_ebs", excluded_modules=["hyperpod_ebs.demo", "hyperpod_ebs.sandbox"]):
        yield


@pytest.fixture(scope="session")
def minded() -> Generator[Path]:
    """A directory of which nothing is left when this worker ends, and be it by SIGKILL: a janitor minds it.

    What a test starts carries the sandbox's mark, by which the janitor knows it.
    """
    with tempfile.TemporaryDirectory(prefix="hp-") as outer, pytest.MonkeyPatch.context() as patch:
        path = Path(outer).resolve()
        seal = janitor.create_lock_file(path)
        argv = [sys.executable, "-m", "hyperpod_ebs.sandbox.janitor", str(path)]
        process = psutil.Popen(argv, stdin=-1, pass_fds=(seal,), start_new_session=True)
        patch.setenv(janitor.SANDBOX_VARIABLE, str(path))
        try:
            yield path
        finally:
            os.close(seal)
            process.communicate()
            path.mkdir(exist_ok=True)  # the janitor has removed it already


@pytest.fixture
def tmp_path(minded: Path) -> Path:
    """A directory of this test alone; pytest's own would outlive a killed run."""
    return Path(tempfile.mkdtemp(prefix="p-", dir=minded))


@pytest.fixture
def short_path(minded: Path) -> Generator[Path]:
    """The directory for temporary files, of this test alone.

    Its path is so short that a socket below it can be bound (unix(7): at most 107 bytes), and
    what the test starts finds it in TMPDIR, by which the processes of a test are known.
    """
    with tempfile.TemporaryDirectory(prefix="t-", dir=minded) as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", directory)
        patch.setenv("TMPDIR", directory)
        yield Path(directory)


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Generator[None]:
    """A root test that leaves a loop device, a mount or a process behind fails, and is cleaned up after."""
    if request.node.get_closest_marker("root") is None:
        yield
        return
    directories: list[Path] = [request.getfixturevalue(name) for name in ("tmp_path", "short_path")]
    before = children()
    yield
    report(directories, before)


@pytest.fixture(autouse=True, scope="session")
def nothing_left_by_the_session(minded: Path) -> Generator[None]:
    """What fixtures of a wider scope set up is gone at the end, too."""
    before = children()
    yield
    report([minded], before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """What should be gone."""

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
        """Make good, innermost first, so that the next test starts clean."""
        for process in self.processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(self.processes, timeout=LINGER)
        libc = ctypes.CDLL(None)
        for mount in self.mounts:
            libc.umount2(bytes(mount), MNT_DETACH)
        for loop in self.loops:
            device = os.open(loop, os.O_RDONLY | os.O_CLOEXEC)
            with suppress(OSError):  # mount -o loop: the unmounting has freed it
                fcntl.ioctl(device, LOOP_CLR_FD)
            os.close(device)


def report(directories: Sequence[Path], before: set[psutil.Process]) -> None:
    """Fail when something is still left after a moment."""
    deadline = time.monotonic() + LINGER
    while (left := leftovers(directories, before)) and time.monotonic() < deadline:
        time.sleep(0.02)  # neither udev nor a dying process tells when it lets go
    if left:
        said = str(left)
        left.remove()
        pytest.fail(f"left behind: {said}", pytrace=False)


def leftovers(directories: Sequence[Path], before: set[psutil.Process]) -> Leftovers:
    """What is below the directories, and the processes of theirs or ours that were not there `before`."""
    of_theirs = {process for process in psutil.process_iter() if temporary_directory(process) in directories}
    return Leftovers(
        processes=tuple((of_theirs | children()) - before - {psutil.Process()}),
        mounts=tuple(mount for directory in directories for mount in janitor.mounts_below(directory)),
        loops=tuple(loop for directory in directories for loop in janitor.loops_below(directory)),
    )


def children() -> set[psutil.Process]:
    """The processes that this one, or a child of it, has started and that still run."""
    return {child for child in psutil.Process().children(recursive=True) if temporary_directory(child) is not None}


def temporary_directory(process: psutil.Process) -> Path | None:
    """The one that a process was started with; None for one that has ended."""
    try:
        ended = process.status() == psutil.STATUS_ZOMBIE
        return None if ended else Path(process.environ().get("TMPDIR", "/tmp"))  # noqa: S108 - not used, only compared
    except psutil.Error:
        return None
