"""The images that the nodes have besides the driver's: the official sidecars, and one that does nothing."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

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


def small(programs: Programs) -> Iterator[Path]:
    """Archives of them all, made now or by an earlier cluster; they lie beside the programs that are in them."""
    directory = programs.built / "images"
    directory.mkdir(exist_ok=True)
    pause = Image(
        name=PAUSE,
        files={"/bin/busybox": Path(shutil.which("busybox") or "busybox")},
        entrypoint=("/bin/busybox", "sleep", "2147483647"),
        user="0:0",
    )
    yield _archived(pause, directory / "pause.tar")
    for program, version in SIDECARS.items():
        image = Image(
            name=f"{REGISTRY}csi-components/{program}:{version}",
            files={f"/{program}": programs.built / program},
            entrypoint=(f"/{program}",),
        )
        yield _archived(image, directory / f"{program}-{version}.tar")


def _archived(image: Image, archive: Path) -> Path:
    if not archive.exists():
        oci.write(image, archive)
    return archive
