"""What this process may do, without which some tests cannot run."""

import fcntl
import os
import re
from functools import cache
from pathlib import Path
from typing import Final

# <linux/capability.h>, <linux/loop.h>
CAP_SYS_ADMIN: Final = 21
CAP_SYS_RESOURCE: Final = 24
LOOP_CTL_GET_FREE: Final = 0x4C82


@cache
def want_of_privilege() -> str | None:
    """What keeps this process from attaching and mounting loop devices, if anything does."""
    if os.geteuid() != 0:
        return "this is not root"
    if not has(CAP_SYS_ADMIN):
        return "this root may not mount: CAP_SYS_ADMIN is withheld"
    try:
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return f"there are no loop devices: /dev/loop-control: {error.strerror}"
    try:
        fcntl.ioctl(control, LOOP_CTL_GET_FREE)
    except OSError as error:
        return f"no loop device can be had: {error.strerror}"
    finally:
        os.close(control)
    return None


def has(capability: int) -> bool:
    """Whether this process has a capability, by its number."""
    status = Path("/proc/self/status").read_text()
    effective = re.search(r"^CapEff:\s*(\w+)", status, re.MULTILINE)
    return effective is not None and bool(int(effective[1], 16) >> capability & 1)
