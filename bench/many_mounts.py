"""Add mounts to a node, as many as a full node has."""

import os
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.linux import mount_calls

_LONG_NAME: Final = "0123456789abcdef" * 4
"""As long as the digest in kubelet's staging paths."""


def add_mounts(directory: Path, count: int) -> None:
    """Make bind mounts with paths as long as kubelet's."""
    for number in range(count):
        point = directory / "kubelet" / "plugins" / "kubernetes.io" / "csi" / _LONG_NAME / str(number)
        point.mkdir(parents=True)
        handle = os.open(point, os.O_PATH)
        mount_calls.bind(handle, handle)
        os.close(handle)
