"""The tags of volumes and snapshots: the driver's own, then the cluster's, then the user's, which take precedence."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from hyperpod_ebs.driver.model import errors

VOLUME_NAME: Final = "CSIVolumeName"
"""The tag with the name of a CreateVolume request, by which the driver finds the volume again."""

SNAPSHOT_NAME: Final = "CSIVolumeSnapshotName"
"""The tag with the name of a CreateSnapshot request."""

MANAGED: Final = "ebs.csi.aws.com/cluster"
"""The tag that AWS's managed policies for the driver require; its value is always "true"."""

CLUSTER: Final = "ebs.csi.aws.com/cluster-name"
"""The tag with the cluster's name, for IAM policies that separate clusters."""

METADATA: Final[Mapping[str, str]] = {
    "csi.storage.k8s.io/pvc/name": "kubernetes.io/created-for/pvc/name",
    "csi.storage.k8s.io/pvc/namespace": "kubernetes.io/created-for/pvc/namespace",
    "csi.storage.k8s.io/pv/name": "kubernetes.io/created-for/pv/name",
}
"""Parameters that the provisioner and the resizer add about the claim, and the tags that keep them."""

SNAPSHOT_METADATA: Final = frozenset(
    {
        "csi.storage.k8s.io/volumesnapshot/name",
        "csi.storage.k8s.io/volumesnapshot/namespace",
        "csi.storage.k8s.io/volumesnapshotcontent/name",
    }
)
"""Parameters that the snapshotter adds about the snapshot. No tag keeps them, but templates may use them."""

_VOLUME_FIELDS: Final[Mapping[str, str]] = {
    ".PVCName": "csi.storage.k8s.io/pvc/name",
    ".PVCNamespace": "csi.storage.k8s.io/pvc/namespace",
    ".PVName": "csi.storage.k8s.io/pv/name",
}
_SNAPSHOT_FIELDS: Final[Mapping[str, str]] = {
    ".VolumeSnapshotName": "csi.storage.k8s.io/volumesnapshot/name",
    ".VolumeSnapshotNamespace": "csi.storage.k8s.io/volumesnapshot/namespace",
    ".VolumeSnapshotContentName": "csi.storage.k8s.io/volumesnapshotcontent/name",
}
_TEMPLATE: Final = re.compile(r"\{\{([^{}]*)\}\}")
_RESERVED_PREFIXES: Final = ("kubernetes.io", "ebs.csi.aws.com/")
_RESERVED_KEYS: Final = frozenset({VOLUME_NAME, SNAPSHOT_NAME})

# "Tag restrictions" in the EC2 User Guide.
_MAX_TAGS: Final = 50
_MAX_KEY: Final = 128
_MAX_VALUE: Final = 256

_NO_METADATA: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class TagChanges:
    """What a VolumeAttributesClass changes of a volume's tags."""

    put: Mapping[str, str] = field(default_factory=dict[str, str])
    remove: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class TagPolicy:
    """The tags that this driver gives to volumes and snapshots."""

    cluster: str = ""
    """The cluster's name, which distinguishes its volumes from those of other clusters; empty for no such tags."""
    extra: tuple[str, ...] = ()
    """Further tags for every volume and snapshot, each as `key=value`."""
    on_invalid: Callable[[str], None] | None = None
    """Gets the reason for each invalid tag of the user, which is then left out. If None, invalid tags are errors."""

    def volume_tags(
        self, name: str, metadata: Mapping[str, str], specifications: Iterable[str], remove: Iterable[str] = ()
    ) -> dict[str, str]:
        """All tags of a new volume.

        Args:
            name: The name in the CreateVolume request.
            metadata: The parameters of `METADATA` in the request.
            specifications: The values of `tagSpecification*`, each `key=value`, where the value may be a template
                with fields of the metadata, such as `{{ .PVCName }}`.
            remove: Keys of the user's tags to leave out.

        Raises:
            InvalidRequest: A tag is malformed or reserved, or exceeds EC2's limits.
        """
        tags = {VOLUME_NAME: name, MANAGED: "true"}
        tags |= {METADATA[key]: value for key, value in metadata.items()}
        if self.cluster:
            tags |= {**self._cluster_tags(name), "KubernetesCluster": self.cluster}
        extra = _without_fields(_SNAPSHOT_FIELDS, self.extra)
        user_tags = self._user_tags([*extra, *specifications], metadata, _VOLUME_FIELDS)
        tags |= {key: value for key, value in user_tags.items() if key not in set(remove)}
        _check_count(tags)
        return tags

    def snapshot_tags(
        self, name: str, metadata: Mapping[str, str] = _NO_METADATA, specifications: Iterable[str] = ()
    ) -> dict[str, str]:
        """All tags of a new snapshot; arguments and errors are those of `volume_tags`."""
        tags = {SNAPSHOT_NAME: name, MANAGED: "true"} | (self._cluster_tags(name) if self.cluster else {})
        extra = _without_fields(_VOLUME_FIELDS, self.extra)
        tags |= self._user_tags([*extra, *specifications], metadata, _SNAPSHOT_FIELDS)
        _check_count(tags)
        return tags

    def tag_changes(
        self, metadata: Mapping[str, str], specifications: Iterable[str], remove: Iterable[str]
    ) -> TagChanges:
        """The changes to the tags of an existing volume; arguments are those of `volume_tags`.

        Raises:
            InvalidRequest: A tag is malformed or reserved, or exceeds EC2's limits.
        """
        for key in remove:
            _check_key(key)
        return TagChanges(put=self._user_tags(specifications, metadata, _VOLUME_FIELDS), remove=frozenset(remove))

    def _cluster_tags(self, name: str) -> dict[str, str]:
        key = f"kubernetes.io/cluster/{self.cluster}"
        if len(key) > _MAX_KEY:
            raise errors.InvalidRequest(
                f"--k8s-tag-cluster-id has {len(self.cluster)} characters; it may have "
                f"{_MAX_KEY - len(key) + len(self.cluster)}, because EC2 allows {_MAX_KEY} in the tag key "
                "kubernetes.io/cluster/<id>"
            )
        return {
            key: "owned",
            CLUSTER: self.cluster,
            "Name": f"{self.cluster}-dynamic-{name}"[:_MAX_VALUE],
        }

    def _user_tags(
        self, specifications: Iterable[str], metadata: Mapping[str, str], fields: Mapping[str, str]
    ) -> dict[str, str]:
        """The user's tags, in whose templates `fields` are known; of two with one key the later one counts."""
        tags: dict[str, str] = {}
        for specification in specifications:
            try:
                key, value = _parse_specification(specification, metadata, fields)
            except errors.InvalidRequest as error:
                if self.on_invalid is None:
                    raise
                self.on_invalid(str(error))
            else:
                tags[key] = value
        return tags


DEFAULT_POLICY: Final = TagPolicy()
"""Only the driver's own tags and those of each request."""


def split_flags(texts: Iterable[str]) -> tuple[str, ...]:
    """The `key=value` pairs of a flag that may be given several times; commas separate the pairs of one text.

    A pair whose value has a comma must be the only pair of its text, or be in quotes: `"team=a,b",owner=c`
    (spf13/pflag, StringToString).
    """
    return tuple(
        pair for text in texts for pair in ([text.strip('"')] if text.count("=") == 1 else _split_at_commas(text))
    )


def _split_at_commas(text: str) -> Iterator[str]:
    for row in csv.reader([text], strict=False):
        yield from row


def _without_fields(fields: Mapping[str, str], specifications: Iterable[str]) -> Iterator[str]:
    """The tags whose templates use none of these fields: a snapshot has no claim, and a volume no snapshot."""
    return (text for text in specifications if fields.keys().isdisjoint(map(str.strip, _TEMPLATE.findall(text))))


def _parse_specification(specification: str, metadata: Mapping[str, str], fields: Mapping[str, str]) -> tuple[str, str]:
    """Parse the key and value of a tag, and fill in the value's templates."""
    key, equals, template = specification.partition("=")
    if not equals or not key:
        raise errors.InvalidRequest(f"tag specification {specification!r} is not of the form key=value")
    _check_key(key)

    def field_value(match: re.Match[str]) -> str:
        source = fields.get(match[1].strip())
        if source is None:
            raise errors.InvalidRequest(
                f"tag {key!r} uses {match[0]!r}, which is not one of {', '.join(sorted(fields))}"
            )
        return metadata.get(source, "")

    value = _TEMPLATE.sub(field_value, template)
    if len(key) > _MAX_KEY or len(value) > _MAX_VALUE:
        raise errors.InvalidRequest(
            f"tag {key[:_MAX_KEY]!r} has a key of {len(key)} and a value of {len(value)} characters; "
            f"EC2 allows {_MAX_KEY} and {_MAX_VALUE}"
        )
    return key, value


def _check_key(key: str) -> None:
    """Check that users may set a tag of this key.

    Raises:
        InvalidRequest: The key is reserved for the driver, Kubernetes or AWS.
    """
    if not key or key in _RESERVED_KEYS or key.startswith(_RESERVED_PREFIXES) or key.lower().startswith("aws:"):
        raise errors.InvalidRequest(f"tag key {key!r} is reserved; use another key")


def _check_count(tags: Mapping[str, str]) -> None:
    if len(tags) > _MAX_TAGS:
        raise errors.InvalidRequest(
            f"with the driver's own, there would be {len(tags)} tags, but EC2 allows {_MAX_TAGS}; remove some"
        )
