"""The images that the nodes have besides the driver's: the official sidecars, and one that does nothing."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hyperpod_ebs.kit.directory_lock import lock_directory
from localcluster import oci
from localcluster.oci import Image
from localcluster.programs import Programs

REGISTRY: Final = "localhost/"
"""Where images that are nowhere but on the node are said to come from."""

PAUSE: Final = f"{REGISTRY}pause:latest"
"""Holds a pod's namespaces open; has a shell, and so serves for pods that do little else."""

SIDECARS: Final = {
    "csi-provisioner": "v6.4.0",
    "csi-attacher": "v4.12.0",
    "csi-resizer": "v2.3.0",
    "csi-snapshotter": "v8.6.0",
    "snapshot-controller": "v8.6.0",
}
"""Each official image, by the version of its program (scripts/kubernetes/sidecars/go.mod)."""


def pause(programs: Programs) -> Path:
    """An archive of the image that does nothing, without which no pod runs."""
    image = Image(
        name=PAUSE,
        files={"/bin/busybox": Path(shutil.which("busybox") or "busybox")},
        entrypoint=("/bin/busybox", "sleep", "2147483647"),
        user="0:0",
    )
    return _archived([image], programs, "pause")


def sidecars(programs: Programs) -> Path:
    """An archive of the official images that the chart asks for."""
    images = [
        Image(
            name=f"{REGISTRY}csi-components/{program}:{version}",
            files={f"/{program}": programs.built / program},
            entrypoint=(f"/{program}",),
        )
        for program, version in SIDECARS.items()
    ]
    return _archived(images, programs, "-".join(["sidecars", *SIDECARS.values()]))


def _archived(images: Sequence[Image], programs: Programs, name: str) -> Path:
    """An archive made now or for an earlier cluster; it lies beside the programs that are in it."""
    archive = programs.built / "images" / f"{name}.tar"
    archive.parent.mkdir(exist_ok=True)
    with lock_directory(archive.parent):  # two clusters may come up at once, and the first ones of a machine do
        if not archive.exists():
            oci.write(images, archive)
    return archive
