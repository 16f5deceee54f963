"""The parameters of a StorageClass and of a VolumeAttributesClass: one table for parsing both.

As in the upstream driver, keys are not case-sensitive, except for the prefixes `tagSpecification`
and `tagDeletion`.
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
_MAX_COUNT: Final = 2**31 - 1

_QUOTED: Final = 60
"""Characters of a wrong value that an error quotes."""

TYPES: Final = frozenset({"gp2", "gp3", "io1", "io2", "sc1", "st1", "standard"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A row of the table: a key, the field of `Parameters` that it sets, and how its value is parsed."""

    key: str
    field_name: str
    parse: Callable[[str, str], object]
    """Parses the value, given the key and the text."""
    mutable: bool = False
    """Whether a VolumeAttributesClass may have the key."""
    description: str


def _parse_volume_type(key: str, text: str) -> str:
    if text not in TYPES:
        raise errors.InvalidRequest(f"{key} is {text!r}; it must be one of {', '.join(sorted(TYPES))}")
    return text


def _parse_count(key: str, text: str) -> int:
    # Python's int() raises ValueError for thousands of digits.
    digits = text.lstrip("0") if text.isascii() and text.isdecimal() else ""
    if len(digits) > len(str(_MAX_COUNT)) or not 0 < int(digits or "0") <= _MAX_COUNT:
        raise errors.InvalidRequest(f"{key} is {text[:_QUOTED]!r}; it must be a whole number from 1 to {_MAX_COUNT}")
    return int(digits)


def _parse_flag(key: str, text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise errors.InvalidRequest(f"{key} is {text!r}; it must be true or false")
    return text.lower() == "true"


def _parse_text(key: str, text: str) -> str:
    if not text:
        raise errors.InvalidRequest(f"{key} is empty; remove it or give it a value")
    return text


TABLE: Final = (
    Parameter(
        key="type",
        field_name="type",
        parse=_parse_volume_type,
        mutable=True,
        description="EBS volume type; gp3 if absent",
    ),
    Parameter(key="iops", field_name="iops", parse=_parse_count, mutable=True, description="provisioned IOPS"),
    Parameter(
        key="throughput",
        field_name="throughput",
        parse=_parse_count,
        mutable=True,
        description="provisioned throughput in MiB/s, for gp3 only",
    ),
    Parameter(
        key="encrypted", field_name="encrypted", parse=_parse_flag, description="whether the volume is encrypted"
    ),
    Parameter(
        key="kmsKeyId",
        field_name="kms_key_id",
        parse=_parse_text,
        description="KMS key that encrypts the volume; implies encrypted",
    ),
    Parameter(
        key="csi.storage.k8s.io/fstype",
        field_name="filesystem",
        parse=_parse_text,
        description="filesystem: ext4 (default) or xfs",
    ),
    Parameter(
        key="iopsPerGB",
        field_name="iops_per_gib",
        parse=_parse_count,
        description="provisioned IOPS for each GiB, instead of iops",
    ),
    Parameter(
        key="allowAutoIOPSPerGBIncrease",
        field_name="raise_iops_to_minimum",
        parse=_parse_flag,
        description="whether IOPS from iopsPerGB that are below the type's minimum are raised to it",
    ),
    Parameter(
        key="allowAutoIOPSIncreaseOnModify",
        field_name="grow_iops",
        parse=_parse_flag,
        description="whether the volume keeps its iopsPerGB when it grows",
    ),
)
IGNORED: Final[Mapping[str, str]] = {
    "fstype": "the volume capability has the filesystem; use csi.storage.k8s.io/fstype",
    "blockexpress": "every io2 volume is a Block Express volume",
}
"""Deprecated keys, in lower case, that a StorageClass may have without effect, and why."""

_FORMER_TYPE: Final = "volumetype"
"""The former name of the key `type` in a VolumeAttributesClass; used if `type` is absent."""

_MUTABLE: Final = frozenset(parameter.key.lower() for parameter in TABLE if parameter.mutable)
_BY_KEY: Final = {parameter.key.lower(): parameter for parameter in TABLE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """The parsed parameters of one request."""

    type: str | None = None
    iops: int | None = None
    throughput: int | None = None
    """MiB/s."""
    encrypted: bool = False
    kms_key_id: str | None = None
    filesystem: str | None = None
    iops_per_gib: int | None = None
    raise_iops_to_minimum: bool = False
    grow_iops: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    tag_specifications: tuple[str, ...] = ()
    tag_deletions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _ParameterGroups:
    """Parameters, grouped by the kind of their keys."""

    metadata: Mapping[str, str]
    tags: tuple[str, ...]
    untags: tuple[str, ...]
    rest: Mapping[str, str]
    """The parameters in `TABLE`, and unknown ones."""

    @classmethod
    def split(cls, parameters: Mapping[str, str], *, mutable: bool = False) -> Self:
        """Split parameters into groups, each in the order of the keys."""
        keys = sorted(parameters)
        tag_keys = [key for key in keys if key.startswith(TAG_PREFIX)]
        untag_keys = [key for key in keys if mutable and key.startswith(UNTAG_PREFIX)]
        metadata = [key for key in keys if key in tags.METADATA]
        ignored = [key for key in keys if not mutable and key.lower() in {*IGNORED, *formatting.KEYS}]
        rest = {key: parameters[key] for key in keys if key not in {*tag_keys, *untag_keys, *metadata, *ignored}}
        return cls(
            metadata={key: parameters[key] for key in metadata},
            tags=tuple(parameters[key] for key in tag_keys),
            untags=tuple(parameters[key] for key in untag_keys),
            rest=_with_current_type_key(rest) if mutable else rest,
        )


def _with_current_type_key(parameters: Mapping[str, str]) -> Mapping[str, str]:
    """`parameters` with the key `type` in place of its former name."""
    former = [key for key in parameters if key.lower() == _FORMER_TYPE]
    rest = {key: value for key, value in parameters.items() if key not in former}
    if former and not any(key.lower() == "type" for key in rest):
        rest["type"] = parameters[former[0]]
    return rest


def parse_classes(storage_class: Mapping[str, str], attributes_class: Mapping[str, str]) -> Parameters:
    """Parse the parameters of a StorageClass; those of the VolumeAttributesClass take precedence.

    Raises:
        InvalidRequest: A key is unknown or given twice, or a value is invalid.
    """
    groups = _ParameterGroups.split(storage_class)
    mutable_groups = _ParameterGroups.split(attributes_class, mutable=True)
    values = _parse_values(groups.rest) | _parse_values(mutable_groups.rest, mutable=True)
    if values.get("kms_key_id"):
        if values.get("encrypted") is False:
            raise errors.InvalidRequest(
                f"parameter encrypted is false, but kmsKeyId is {values['kms_key_id']!r}, which encrypts the volume; "
                "remove one of them"
            )
        values["encrypted"] = True
    Formatting.parse(storage_class)  # its result is used elsewhere; here it only refuses invalid values
    if values.get("iops") and values.get("iops_per_gib"):
        raise errors.InvalidRequest("parameters iops and iopsPerGB are both given; remove one of them")
    return Parameters(
        **values,  # type: ignore[arg-type] # TABLE's parsers return values of the fields' types
        metadata={**mutable_groups.metadata, **groups.metadata},
        tag_specifications=groups.tags + mutable_groups.tags,
        tag_deletions=mutable_groups.untags,
    )


def parse_change(
    attributes_class: Mapping[str, str], policy: tags.TagPolicy = tags.DEFAULT_POLICY
) -> tuple[Change, tags.TagChanges]:
    """Parse what a VolumeAttributesClass changes of a volume and of its tags.

    Raises:
        InvalidRequest: A key is unknown or cannot be changed, or a value is invalid.
    """
    groups = _ParameterGroups.split(attributes_class, mutable=True)
    change = Change(**_parse_values(groups.rest, mutable=True))  # type: ignore[arg-type] # as above
    return change, policy.tag_changes(groups.metadata, groups.tags, groups.untags)


def has_only_known_keys(attributes_class: Mapping[str, str]) -> bool:
    """Whether every key is one that a VolumeAttributesClass may have."""
    return all(key.lower() in _MUTABLE for key in _ParameterGroups.split(attributes_class, mutable=True).rest)


def _parse_values(parameters: Mapping[str, str], *, mutable: bool = False) -> dict[str, object]:
    """Parse parameters into values by field name."""
    values: dict[str, object] = {}
    for key in sorted(parameters):
        parameter = _BY_KEY.get(key.lower())
        if parameter is None or (mutable and not parameter.mutable):
            known = ", ".join(parameter.key for parameter in TABLE if parameter.mutable or not mutable)
            more = f", {UNTAG_PREFIX}*" if mutable else "".join(f", {name}" for name in formatting.KEYS.values())
            raise errors.InvalidRequest(f"parameter {key!r} is not one of {known}, {TAG_PREFIX}*{more}")
        if parameter.field_name in values:
            raise errors.InvalidRequest(
                f"parameter {parameter.key!r} is given twice, in different spellings; remove one"
            )
        values[parameter.field_name] = parameter.parse(key, parameters[key])
    return values
