"""A killed test run leaves nothing behind."""

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from hyperpod_ebs.sandbox import janitor
from tests.support.waiting import wait_until

pytestmark = pytest.mark.root

_MOUNT = """
import os, signal, subprocess
import pytest

@pytest.mark.root
def test_that_is_killed(tmp_path):
    image = tmp_path / "image"
    image.touch()
    os.truncate(image, 16 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    (tmp_path / "mount").mkdir()
    subprocess.run(["mount", "-o", "loop", image, tmp_path / "mount"], check=True)
    subprocess.Popen(["sleep", "600"])
    os.kill(os.getpid(), signal.SIGKILL)
"""

_EMULATOR = """
import os, signal
from tests.support.emulator_clients import cloud

async def test_that_is_ended():
    async with cloud():
        os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.requirement("tests.leave-nothing")
@pytest.mark.parametrize(
    ("test", "ended_by"),
    [(_MOUNT, signal.SIGKILL), (_EMULATOR, signal.SIGTERM)],
    ids=["SIGKILL with a mount", "SIGTERM with an emulator in the same process"],
)
async def test_a_test_run_that_is_killed_leaves_no_mount_no_loop_device_no_file_and_no_process(
    short_path: Path, test: str, ended_by: signal.Signals
) -> None:
    """Both signals end pytest before any fixture can clean up; the janitor of its directory does it."""
    (short_path / "test_it.py").write_text(test)
    pytest_argv = [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-p", "no:cacheprovider"]
    argv = [*pytest_argv, "-o", "asyncio_mode=auto", "--rootdir", str(short_path), str(short_path / "test_it.py")]
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": f"{root}:{root / 'tests'}", "PYTHONDONTWRITEBYTECODE": "1"}

    run = psutil.Popen(argv, cwd=short_path, env=env, stdout=-1, stderr=-1)
    out, _ = run.communicate()

    async def is_clean() -> bool:
        left = [entry.name for entry in short_path.iterdir()]
        return left == ["test_it.py"] and not (janitor.mounts_below(short_path) or janitor.loops_below(short_path))

    assert run.returncode == -ended_by, out
    await wait_until(is_clean)
