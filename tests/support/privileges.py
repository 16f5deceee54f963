"""The privileges of this process, and what happens to a test that needs more."""

import fcntl
import os
import re
from functools import cache
from pathlib import Path
from typing import Final, NoReturn

import pytest

# <linux/capability.h>, <linux/loop.h>
CAP_SYS_ADMIN: Final = 21
CAP_SYS_RESOURCE: Final = 24
LOOP_CTL_GET_FREE: Final = 0x4C82


@cache
def missing_privilege() -> str | None:
    """Why this process cannot attach and mount loop devices; None if it can."""
    if os.geteuid() != 0:
        return "this process does not run as root"
    if not has_capability(CAP_SYS_ADMIN):
        return "root has no CAP_SYS_ADMIN, so it cannot mount"
    try:
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return f"/dev/loop-control cannot be opened: {error.strerror}"
    try:
        fcntl.ioctl(control, LOOP_CTL_GET_FREE)
    except OSError as error:
        return f"/dev/loop-control provides no free loop device: {error.strerror}"
    finally:
        os.close(control)
    return None


def skip_or_fail(reason: str) -> NoReturn:
    """Skip a test that this machine cannot run; in CI, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must be able to run this test, but {reason}", pytrace=False)
    pytest.skip(reason)


def has_capability(capability: int) -> bool:
    """Whether this process has the capability with this number."""
    status = Path("/proc/self/status").read_text()
    effective = re.search(r"^CapEff:\s*(\w+)", status, re.MULTILINE)
    return effective is not None and bool(int(effective[1], 16) >> capability & 1)
