"""The tags on what the driver makes: upstream's own, then the user's."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from hyperpod_ebs.model import errors

VOLUME_NAME: Final = "CSIVolumeName"
"""Carries the request's name; a volume is found again by it."""

SNAPSHOT_NAME: Final = "CSIVolumeSnapshotName"
MANAGED: Final = "ebs.csi.aws.com/cluster"
"""Always "true": AWS's managed policy for drivers asks for it."""

METADATA: Final[Mapping[str, str]] = {
    "csi.storage.k8s.io/pvc/name": "kubernetes.io/created-for/pvc/name",
    "csi.storage.k8s.io/pvc/namespace": "kubernetes.io/created-for/pvc/namespace",
    "csi.storage.k8s.io/pv/name": "kubernetes.io/created-for/pv/name",
}
"""What the provisioner tells about the claim, and the tag that keeps it."""

_FIELDS: Final[Mapping[str, str]] = {
    ".PVCName": "csi.storage.k8s.io/pvc/name",
    ".PVCNamespace": "csi.storage.k8s.io/pvc/namespace",
    ".PVName": "csi.storage.k8s.io/pv/name",
}
_TEMPLATE: Final = re.compile(r"\{\{\s*(.*?)\s*\}\}")
_RESERVED: Final = ("kubernetes.io", "ebs.csi.aws.com/")
_RESERVED_KEYS: Final = frozenset({VOLUME_NAME, SNAPSHOT_NAME})

# EC2's limits, "Tag restrictions" in its user guide.
_MOST: Final = 50
_LONGEST_KEY: Final = 128
_LONGEST_VALUE: Final = 256


def of_volume(name: str, metadata: Mapping[str, str], specifications: Iterable[str]) -> dict[str, str]:
    """All tags of a new volume.

    Args:
        name: The request's name.
        metadata: The provisioner's pvc/pv keys that were sent.
        specifications: Values of `tagSpecification*`, each `key=value`; a value may name `{{ .PVCName }}`,
            `{{ .PVCNamespace }}` or `{{ .PVName }}`.

    Raises:
        InvalidRequest: A tag is malformed, reserved, or beyond EC2's limits.
    """
    tags = {VOLUME_NAME: name, MANAGED: "true"}
    tags |= {METADATA[key]: value for key, value in metadata.items()}
    return _checked(tags | dict(_specified(text, metadata) for text in specifications))


def of_snapshot(name: str) -> dict[str, str]:
    """All tags of a new snapshot."""
    return {SNAPSHOT_NAME: name, MANAGED: "true"}


def _specified(text: str, metadata: Mapping[str, str]) -> tuple[str, str]:
    key, equals, template = text.partition("=")
    if not equals or not key:
        raise errors.InvalidRequest(f"tag specification {text!r} is not of the form key=value")
    if key in _RESERVED_KEYS or key.startswith(_RESERVED) or key.lower().startswith("aws:"):
        raise errors.InvalidRequest(f"tag key {key!r} is reserved: choose another")

    def filled(match: re.Match[str]) -> str:
        source = _FIELDS.get(match[1])
        if source is None:
            raise errors.InvalidRequest(
                f"tag {key!r} uses {match[0]!r}, which is not one of {', '.join(sorted(_FIELDS))}"
            )
        return metadata.get(source, "")

    return key, _TEMPLATE.sub(filled, template)


def _checked(tags: dict[str, str]) -> dict[str, str]:
    if len(tags) > _MOST:
        raise errors.InvalidRequest(f"{len(tags)} tags asked for, EC2 takes {_MOST}")
    for key, value in tags.items():
        if len(key) > _LONGEST_KEY or len(value) > _LONGEST_VALUE:
            raise errors.InvalidRequest(
                f"tag {key[:_LONGEST_KEY]!r} has a key of {len(key)} and a value of {len(value)} characters; "
                f"EC2 takes {_LONGEST_KEY} and {_LONGEST_VALUE}"
            )
    return tags
