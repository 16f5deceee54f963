"""The programs of a Kubernetes cluster: where they are, and which are missing."""

import shutil
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
    "setpriv",
    "sysctl",
    "umount",
    "unshare",
)

HELM: Final = BUILT.parent / "bin" / "helm"

CNI: Final = Path("/usr/lib/cni")
"""Where Debian installs the network plugins."""


@dataclass(frozen=True, slots=True)
class Programs:
    """The directory of the programs built from Go modules; the others are on PATH."""

    built: Path

    @classmethod
    def find(cls) -> "Programs":
        """The programs that the setup has installed.

        Raises:
            PrerequisiteMissing: Some are missing; the message says how to install them.
        """
        programs = cls(BUILT.resolve())
        missing = [
            *(name for name in FROM_GO if not (programs.built / name).is_file()),
            *(name for name in FROM_DEBIAN if shutil.which(name) is None),
            *(str(file) for file in (HELM, CNI / "bridge") if not file.exists()),
        ]
        if missing:
            raise PrerequisiteMissing(
                f"these programs are missing: {', '.join(missing)}; run scripts/setup.sh machine go-tools cluster"
            )
        return programs

    def __getitem__(self, name: str) -> str:
        """The path of a program built from Go modules."""
        return str(self.built / name)

    @property
    def snapshot_definitions(self) -> Path:
        """The directory of the snapshot API's custom resource definitions."""
        return self.built / "snapshot-crds"
