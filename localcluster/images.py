"""The images that the nodes have besides the driver's: the upstream sidecars, the pause image, and busybox."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hyperpod_ebs.kit.directory_lock import lock_directory
from localcluster import oci
from localcluster.oci import Image
from localcluster.programs import Programs

REGISTRY: Final = "localhost/"
"""The registry in the names of images that exist only on the nodes."""

PAUSE: Final = f"{REGISTRY}pause:latest"
"""The image that holds a pod's namespaces open; it has a shell, so tests use it for their pods, too."""

BUSYBOX: Final = f"{REGISTRY}busybox:1"
"""An image with a shell and the usual tools, for the pods of the guides."""

SIDECARS: Final = {
    "csi-provisioner": "v6.4.0",
    "csi-attacher": "v4.12.0",
    "csi-resizer": "v2.3.0",
    "csi-snapshotter": "v8.6.0",
    "snapshot-controller": "v8.6.0",
}
"""The tag of each upstream image, which is the version of its program (scripts/kubernetes/sidecars/go.mod)."""


def build_pause_archive(programs: Programs) -> Path:
    """Build the archive of the pause image, which every pod needs, and of busybox, the same program."""
    program = Path(shutil.which("busybox") or "busybox")
    pause = Image(
        name=PAUSE,
        files={"/bin/busybox": program},
        entrypoint=("/bin/busybox", "sleep", "2147483647"),
        user="0:0",
    )
    # Its shell finds all other tools in the program itself. `kubectl exec` runs these two without a shell.
    tools = {"/bin/sh": program, "/bin/cat": program}
    busybox = Image(name=BUSYBOX, files=tools, entrypoint=("/bin/sh",), user="0:0")
    return _build_archive([pause, busybox], programs, "pause-busybox")


def build_sidecar_archive(programs: Programs) -> Path:
    """Build the archive of the upstream images that the chart uses."""
    images = [
        Image(
            name=f"{REGISTRY}csi-components/{program}:{version}",
            files={f"/{program}": programs.built / program},
            entrypoint=(f"/{program}",),
        )
        for program, version in SIDECARS.items()
    ]
    return _build_archive(images, programs, "-".join(["sidecars", *SIDECARS.values()]))


def _build_archive(images: Sequence[Image], programs: Programs, name: str) -> Path:
    """Build the archive next to the programs, unless an earlier cluster has; its path."""
    archive = programs.built / "images" / f"{name}.tar"
    archive.parent.mkdir(exist_ok=True)
    with lock_directory(archive.parent):  # two clusters can start at the same time
        if not archive.exists():
            oci.write(images, archive)
    return archive
