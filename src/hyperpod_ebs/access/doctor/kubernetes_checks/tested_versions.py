"""The versions of the sidecars that this release was tested with: those of the chart."""

import re
from collections.abc import Mapping
from typing import Final

TESTED: Final[Mapping[str, str]] = {
    "csi-provisioner": "v6.4.0",
    "csi-attacher": "v4.12.0",
    "csi-snapshotter": "v8.6.0",
    "csi-resizer": "v2.3.0",
    "livenessprobe": "v2.19.0",
    "csi-node-driver-registrar": "v2.17.0",
    "snapshot-controller": "v8.6.0",
}
"""By the images' names; a test compares them with the chart's values."""

OLDEST_KUBERNETES: Final = (1, 29)
"""The oldest Kubernetes that the chart installs on."""

_VERSION: Final = re.compile(r"v?(?P<major>\d+)\.(?P<minor>\d+)")


def parse_version(text: str) -> tuple[int, int] | None:
    """The major and minor number of a version, such as `v5.2.0-eks-1-33-3`; None if the text is not a version."""
    match = _VERSION.match(text)
    return (int(match["major"]), int(match["minor"])) if match else None


def difference(name: str, tag: str) -> str:
    """How a sidecar's version differs from the tested one: `older than`, `a later major version than`; else empty."""
    found, tested = parse_version(tag), parse_version(TESTED.get(name, ""))
    if not found or not tested or found == tested:
        return ""
    if found < tested:
        return "older than"
    return "a later major version than" if found[0] > tested[0] else ""
