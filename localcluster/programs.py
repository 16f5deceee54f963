"""The programs of a Kubernetes: where they lie, and which are missing."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hyperpod_ebs.sandbox.failures import PrerequisiteMissing

BUILT: Final = Path(__file__).parent.parent / ".tools" / "kubernetes"
"""Where scripts/setup.sh puts the programs built from Go modules."""

FROM_GO: Final = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kubectl",
    "csi-provisioner",
    "csi-attacher",
    "csi-resizer",
    "csi-snapshotter",
    "snapshot-controller",
)
FROM_DEBIAN: Final = (
    "busybox",
    "containerd",
    "containerd-shim-runc-v2",
    "ctr",
    "etcd",
    "ip",
    "mount",
    "nsenter",
    "runc",
    "sysctl",
    "umount",
    "unshare",
)

HELM: Final = BUILT.parent / "bin" / "helm"

CNI: Final = Path("/usr/lib/cni")
"""Where Debian keeps the network plugins."""


@dataclass(frozen=True, slots=True)
class Programs:
    """The directory of those that are built from Go modules; the others are on PATH."""

    built: Path

    @classmethod
    def here(cls) -> "Programs":
        """Those that `make cluster` or `make test` has brought.

        Raises:
            PrerequisiteMissing: Some are missing; the message says how to get them.
        """
        programs = cls(BUILT.resolve())
        if missing := list(programs._missing()):
            raise PrerequisiteMissing(f"{', '.join(missing)}: not there; scripts/setup.sh go-tools cluster brings them")
        return programs

    def __getitem__(self, name: str) -> str:
        """The path of a program built from Go modules."""
        return str(self.built / name)

    @property
    def snapshot_definitions(self) -> Path:
        """The directory of the snapshot API's custom resource definitions."""
        return self.built / "snapshot-crds"

    def _missing(self) -> Iterator[str]:
        yield from (name for name in FROM_GO if not (self.built / name).is_file())
        yield from (name for name in FROM_DEBIAN if shutil.which(name) is None)
        yield from (str(file) for file in (HELM, CNI / "bridge") if not file.exists())
