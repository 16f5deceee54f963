"""StorageClass and VolumeAttributesClass parameters: one table, read once.

Keys are matched without regard to case, as upstream does, but for the prefix
`tagSpecification` and `tagDeletion`, which are case-sensitive there too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from hyperpod_ebs.driver.model import errors, formatting, tags
from hyperpod_ebs.driver.model.formatting import Formatting
from hyperpod_ebs.driver.model.volume import Change

TAG_PREFIX: Final = "tagSpecification"
UNTAG_PREFIX: Final = "tagDeletion"
DEFAULT_TYPE: Final = "gp3"
TYPES: Final = frozenset({"gp2", "gp3", "io1", "io2", "sc1", "st1", "standard"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One key: what it sets, how its text is read, and whether a VolumeAttributesClass may carry it."""

    key: str
    sets: str
    read: Callable[[str, str], object]
    mutable: bool = False
    says: str


def _volume_type(key: str, text: str) -> str:
    if text not in TYPES:
        raise errors.InvalidRequest(f"{key} is {text!r}; it must be one of {', '.join(sorted(TYPES))}")
    return text


def _count(key: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text) < 2**31:
        raise errors.InvalidRequest(f"{key} is {text!r}; it must be a whole number from 1 to {2**31 - 1}")
    return int(text)


def _flag(key: str, text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise errors.InvalidRequest(f"{key} is {text!r}; it must be true or false")
    return text.lower() == "true"


def _text(key: str, text: str) -> str:
    if not text:
        raise errors.InvalidRequest(f"{key} is empty; leave it out or give it a value")
    return text


TABLE: Final = (
    Parameter(key="type", sets="type", read=_volume_type, mutable=True, says="EBS volume type; gp3 where absent"),
    Parameter(key="iops", sets="iops", read=_count, mutable=True, says="provisioned IOPS"),
    Parameter(key="throughput", sets="throughput", read=_count, mutable=True, says="provisioned MiB/s, gp3 only"),
    Parameter(key="encrypted", sets="encrypted", read=_flag, says="whether the volume is encrypted"),
    Parameter(key="kmsKeyId", sets="kms_key_id", read=_text, says="the KMS key; implies encrypted"),
    Parameter(key="csi.storage.k8s.io/fstype", sets="filesystem", read=_text, says="ext4 (default) or xfs"),
    Parameter(key="iopsPerGB", sets="iops_per_gib", read=_count, says="IOPS for each GiB, in place of iops"),
    Parameter(
        key="allowAutoIOPSPerGBIncrease",
        sets="at_least",
        read=_flag,
        says="whether iopsPerGB that comes to less than the type's least is raised to it",
    ),
    Parameter(
        key="allowAutoIOPSIncreaseOnModify",
        sets="grows",
        read=_flag,
        says="whether iopsPerGB is kept when the volume grows",
    ),
)
IGNORED: Final[Mapping[str, str]] = {
    "fstype": "the volume's capability has the filesystem; take csi.storage.k8s.io/fstype",
    "blockexpress": "every io2 volume is a Block Express volume",
}
"""Deprecated keys that are taken and mean nothing by now, and why."""

_FORMER: Final = "volumetype"
"""What `type` was called in a VolumeAttributesClass once; it is read where `type` is absent."""

_MUTABLE: Final = frozenset(parameter.key.lower() for parameter in TABLE if parameter.mutable)
_BY_KEY: Final = {parameter.key.lower(): parameter for parameter in TABLE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What the parameters of one request say."""

    type: str | None = None
    iops: int | None = None
    throughput: int | None = None
    """MiB/s."""
    encrypted: bool = False
    kms_key_id: str | None = None
    filesystem: str | None = None
    iops_per_gib: int | None = None
    at_least: bool = False
    grows: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    tag_specifications: tuple[str, ...] = ()
    tag_deletions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """Parameters, taken apart by what kind of key each has."""

    metadata: Mapping[str, str]
    tags: tuple[str, ...]
    untags: tuple[str, ...]
    rest: Mapping[str, str]

    @classmethod
    def of(cls, given: Mapping[str, str], *, mutable: bool = False) -> Self:
        """Each kind, in the order of the keys."""
        keys = sorted(given)
        tags_ = [key for key in keys if key.startswith(TAG_PREFIX)]
        untags = [key for key in keys if mutable and key.startswith(UNTAG_PREFIX)]
        metadata = [key for key in keys if key in tags.METADATA]
        ignored = [key for key in keys if not mutable and key.lower() in {*IGNORED, *formatting.KEYS}]
        rest = {key: given[key] for key in keys if key not in {*tags_, *untags, *metadata, *ignored}}
        return cls(
            metadata={key: given[key] for key in metadata},
            tags=tuple(given[key] for key in tags_),
            untags=tuple(given[key] for key in untags),
            rest=_renamed(rest) if mutable else rest,
        )


def _renamed(given: Mapping[str, str]) -> Mapping[str, str]:
    """`given` with `type` in place of its former name."""
    former = [key for key in given if key.lower() == _FORMER]
    rest = {key: value for key, value in given.items() if key not in former}
    if former and not any(key.lower() == "type" for key in rest):
        rest["type"] = given[former[0]]
    return rest


def parse_classes(given: Mapping[str, str], mutable: Mapping[str, str]) -> Parameters:
    """What a StorageClass says, with a VolumeAttributesClass laid over it.

    Raises:
        InvalidRequest: A key is unknown or given twice, or a value cannot be read.
    """
    parts, over = _Parts.of(given), _Parts.of(mutable, mutable=True)
    values = _read(parts.rest) | _read(over.rest, mutable=True)
    if values.get("kms_key_id"):
        values["encrypted"] = True
    Formatting.parse(given)  # so that what nobody can read is refused with the rest
    if values.get("iops") and values.get("iops_per_gib"):
        raise errors.InvalidRequest("iops and iopsPerGB are both given; take one of them")
    return Parameters(
        **values,  # type: ignore[arg-type] # each value is of its field's type: TABLE's readers see to it
        metadata={**over.metadata, **parts.metadata},
        tag_specifications=parts.tags + over.tags,
        tag_deletions=over.untags,
    )


def parse_change(
    mutable: Mapping[str, str], policy: tags.TagPolicy = tags.DEFAULT_POLICY
) -> tuple[Change, tags.TagChanges]:
    """What a VolumeAttributesClass asks to change, of the volume and of its tags.

    Raises:
        InvalidRequest: A key is unknown, or not one that can change; or a value cannot be read.
    """
    parts = _Parts.of(mutable, mutable=True)
    wanted = Change(**_read(parts.rest, mutable=True))  # type: ignore[arg-type] # TABLE's readers see to the types
    return wanted, policy.tag_changes(parts.metadata, parts.tags, parts.untags)


def has_only_known_keys(mutable: Mapping[str, str]) -> bool:
    """Whether a VolumeAttributesClass has nothing but keys that it may have."""
    return all(key.lower() in _MUTABLE for key in _Parts.of(mutable, mutable=True).rest)


def _read(given: Mapping[str, str], *, mutable: bool = False) -> dict[str, object]:
    values: dict[str, object] = {}
    for key in sorted(given):
        parameter = _BY_KEY.get(key.lower())
        if parameter is None or (mutable and not parameter.mutable):
            known = ", ".join(p.key for p in TABLE if p.mutable or not mutable)
            more = f", {UNTAG_PREFIX}*" if mutable else "".join(f", {one}" for one in formatting.KEYS.values())
            raise errors.InvalidRequest(f"parameter {key!r} is not one of {known}, {TAG_PREFIX}*{more}")
        if parameter.sets in values:
            raise errors.InvalidRequest(f"parameter {parameter.key!r} is given twice, in different spellings")
        values[parameter.sets] = parameter.read(key, given[key])
    return values
