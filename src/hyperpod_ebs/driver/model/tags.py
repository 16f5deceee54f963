"""The tags on what the driver makes: its own, then the cluster's, then the user's, which win."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from hyperpod_ebs.driver.model import errors

VOLUME_NAME: Final = "CSIVolumeName"
"""Carries the request's name; a volume is found again by it."""

SNAPSHOT_NAME: Final = "CSIVolumeSnapshotName"
MANAGED: Final = "ebs.csi.aws.com/cluster"
"""Always "true": AWS's managed policy for drivers asks for it."""

CLUSTER: Final = "ebs.csi.aws.com/cluster-name"
"""The cluster's name, for policies that keep clusters apart."""

METADATA: Final[Mapping[str, str]] = {
    "csi.storage.k8s.io/pvc/name": "kubernetes.io/created-for/pvc/name",
    "csi.storage.k8s.io/pvc/namespace": "kubernetes.io/created-for/pvc/namespace",
    "csi.storage.k8s.io/pv/name": "kubernetes.io/created-for/pv/name",
}
"""What the provisioner tells about the claim, and the tag that keeps it; the resizer tells the same."""

SNAPSHOT_METADATA: Final = frozenset(
    {
        "csi.storage.k8s.io/volumesnapshot/name",
        "csi.storage.k8s.io/volumesnapshot/namespace",
        "csi.storage.k8s.io/volumesnapshotcontent/name",
    }
)
"""What the snapshotter tells about the snapshot; no tag keeps it, but templates may name it."""

_FIELDS: Final[Mapping[str, str]] = {
    ".PVCName": "csi.storage.k8s.io/pvc/name",
    ".PVCNamespace": "csi.storage.k8s.io/pvc/namespace",
    ".PVName": "csi.storage.k8s.io/pv/name",
    ".VolumeSnapshotName": "csi.storage.k8s.io/volumesnapshot/name",
    ".VolumeSnapshotNamespace": "csi.storage.k8s.io/volumesnapshot/namespace",
    ".VolumeSnapshotContentName": "csi.storage.k8s.io/volumesnapshotcontent/name",
}
_TEMPLATE: Final = re.compile(r"\{\{\s*(.*?)\s*\}\}")
_RESERVED: Final = ("kubernetes.io", "ebs.csi.aws.com/")
_RESERVED_KEYS: Final = frozenset({VOLUME_NAME, SNAPSHOT_NAME})

# EC2's limits, "Tag restrictions" in its user guide.
_MOST: Final = 50
_LONGEST_KEY: Final = 128
_LONGEST_VALUE: Final = 256

_NO_METADATA: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class TagChanges:
    """What a VolumeAttributesClass asks of a volume's tags."""

    put: Mapping[str, str] = field(default_factory=dict[str, str])
    remove: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class TagPolicy:
    """How everything is tagged that this driver makes."""

    cluster: str = ""
    """The cluster's name, where its volumes are to be told from those of others."""
    extra: tuple[str, ...] = ()
    """What else each volume and snapshot is tagged with, as `key=value`."""
    on_invalid: Callable[[str], None] | None = None
    """Hears of each user's tag that is wrong, which is then left out; without it a wrong one is an error."""

    def volume_tags(
        self, name: str, metadata: Mapping[str, str], specifications: Iterable[str], remove: Iterable[str] = ()
    ) -> dict[str, str]:
        """All tags of a new volume.

        Args:
            name: The request's name.
            metadata: The provisioner's pvc/pv keys that were sent.
            specifications: Values of `tagSpecification*`, each `key=value`; a value may be a template of what was
                sent, `{{ .PVCName }}`.
            remove: Keys of the user's tags that are not to be.

        Raises:
            InvalidRequest: A tag is malformed, reserved, or beyond EC2's limits.
        """
        tags = {VOLUME_NAME: name, MANAGED: "true"}
        tags |= {METADATA[key]: value for key, value in metadata.items()}
        if self.cluster:
            tags |= {**self._of_cluster(name), "KubernetesCluster": self.cluster}
        users = self._users([*self.extra, *specifications], metadata)
        return _few(tags | {key: value for key, value in users.items() if key not in set(remove)})

    def snapshot_tags(
        self, name: str, metadata: Mapping[str, str] = _NO_METADATA, specifications: Iterable[str] = ()
    ) -> dict[str, str]:
        """All tags of a new snapshot, as `volume_tags`."""
        tags = {SNAPSHOT_NAME: name, MANAGED: "true"} | (self._of_cluster(name) if self.cluster else {})
        return _few(tags | self._users([*self.extra, *specifications], metadata))

    def tag_changes(
        self, metadata: Mapping[str, str], specifications: Iterable[str], remove: Iterable[str]
    ) -> TagChanges:
        """What is to become of the tags of a volume that there is.

        Raises:
            InvalidRequest: A tag is malformed, reserved, or beyond EC2's limits.
        """
        for key in remove:
            _free(key)
        return TagChanges(put=self._users(specifications, metadata), remove=frozenset(remove))

    def _of_cluster(self, name: str) -> dict[str, str]:
        return {
            f"kubernetes.io/cluster/{self.cluster}": "owned",
            CLUSTER: self.cluster,
            "Name": f"{self.cluster}-dynamic-{name}"[:_LONGEST_VALUE],
        }

    def _users(self, specifications: Iterable[str], metadata: Mapping[str, str]) -> dict[str, str]:
        """The user's tags, a later one in place of an earlier."""
        tags: dict[str, str] = {}
        for text in specifications:
            try:
                key, value = _specified(text, metadata)
            except errors.InvalidRequest as error:
                if self.on_invalid is None:
                    raise
                self.on_invalid(str(error))
            else:
                tags[key] = value
        return tags


DEFAULT_POLICY: Final = TagPolicy()
"""No cluster's name, and nothing else."""


def split_flags(texts: Iterable[str]) -> tuple[str, ...]:
    """The `key=value` of each flag's text, which holds one, or several with commas between them.

    A value that has a comma stands alone, or in quotes: `"team=a,b",owner=c` (spf13/pflag, StringToString).
    """
    return tuple(pair for text in texts for pair in ([text.strip('"')] if text.count("=") == 1 else _parted(text)))


def _parted(text: str) -> Iterator[str]:
    for row in csv.reader([text], strict=False):
        yield from row


def _specified(text: str, metadata: Mapping[str, str]) -> tuple[str, str]:
    key, equals, template = text.partition("=")
    if not equals or not key:
        raise errors.InvalidRequest(f"tag specification {text!r} is not of the form key=value")
    _free(key)

    def filled(match: re.Match[str]) -> str:
        source = _FIELDS.get(match[1])
        if source is None:
            raise errors.InvalidRequest(
                f"tag {key!r} uses {match[0]!r}, which is not one of {', '.join(sorted(_FIELDS))}"
            )
        return metadata.get(source, "")

    value = _TEMPLATE.sub(filled, template)
    if len(key) > _LONGEST_KEY or len(value) > _LONGEST_VALUE:
        raise errors.InvalidRequest(
            f"tag {key[:_LONGEST_KEY]!r} has a key of {len(key)} and a value of {len(value)} characters; "
            f"EC2 takes {_LONGEST_KEY} and {_LONGEST_VALUE}"
        )
    return key, value


def _free(key: str) -> None:
    """Accept a key that is the user's to set.

    Raises:
        InvalidRequest: It is the driver's own, Kubernetes', or AWS's.
    """
    if not key or key in _RESERVED_KEYS or key.startswith(_RESERVED) or key.lower().startswith("aws:"):
        raise errors.InvalidRequest(f"tag key {key!r} is reserved: choose another")


def _few(tags: dict[str, str]) -> dict[str, str]:
    if len(tags) > _MOST:
        raise errors.InvalidRequest(f"{len(tags)} tags asked for, EC2 takes {_MOST}")
    return tags
