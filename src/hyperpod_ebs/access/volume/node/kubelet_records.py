"""What kubelet has written down about CSI volumes: `vol_data.json` beside each volume's mount.

Kubernetes, pkg/volume/csi/csi_plugin.go and csi_block.go. kubelet removes the file when it unmounts the volume.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_RECORDS: Final = (
    "plugins/kubernetes.io/csi/*/*/vol_data.json",
    "plugins/kubernetes.io/csi/volumeDevices/*/data/vol_data.json",
    "pods/*/volumes/kubernetes.io~csi/*/vol_data.json",
)


def persistent_volumes(kubelet_root: Path, volume_id: str) -> list[str]:
    """The names of the persistent volumes under which kubelet has the volume on this node. Blocks."""
    names = {name for handle, name in _records(kubelet_root) if handle == volume_id}
    return sorted(names)


def _records(kubelet_root: Path) -> Iterator[tuple[str, str]]:
    """The volume handle and the name of the persistent volume in each record."""
    for pattern in _RECORDS:
        for path in kubelet_root.glob(pattern):
            try:
                record = json.loads(path.read_bytes())
            except (OSError, ValueError):
                continue  # kubelet has just removed it, or the node lost power while it was written
            if isinstance(record, dict):
                yield str(record.get("volumeHandle", "")), str(record.get("specVolID", "?"))
