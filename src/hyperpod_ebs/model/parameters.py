"""StorageClass and VolumeAttributesClass parameters: one table, read once.

Keys are matched without regard to case, as upstream does, but for the prefix
`tagSpecification`, which is case-sensitive there too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from hyperpod_ebs.model import errors, tags
from hyperpod_ebs.model.volume import Change

TAG_PREFIX: Final = "tagSpecification"
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
)
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
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    tag_specifications: tuple[str, ...] = ()


def of_class(given: Mapping[str, str], mutable: Mapping[str, str]) -> Parameters:
    """What a StorageClass says, with a VolumeAttributesClass laid over it.

    Raises:
        InvalidRequest: A key is unknown or given twice, or a value cannot be read.
    """
    metadata = {key: value for key, value in given.items() if key in tags.METADATA}
    specifications = {key: value for key, value in given.items() if key.startswith(TAG_PREFIX)}
    rest = {key: value for key, value in given.items() if key not in metadata and key not in specifications}
    values = _read(rest) | _read(mutable, mutable=True)
    if values.get("kms_key_id"):
        values["encrypted"] = True
    return Parameters(
        **values,  # type: ignore[arg-type] # each value is of its field's type: TABLE's readers see to it
        metadata=metadata,
        tag_specifications=tuple(specifications[key] for key in sorted(specifications)),
    )


def change(mutable: Mapping[str, str]) -> Change:
    """What a VolumeAttributesClass asks to change.

    Raises:
        InvalidRequest: A key is unknown, or not one that can change; or a value cannot be read.
    """
    return Change(**_read(mutable, mutable=True))  # type: ignore[arg-type] # TABLE's readers see to the types


def _read(given: Mapping[str, str], *, mutable: bool = False) -> dict[str, object]:
    values: dict[str, object] = {}
    for key in sorted(given):
        parameter = _BY_KEY.get(key.lower())
        if parameter is None or (mutable and not parameter.mutable):
            known = ", ".join(p.key for p in TABLE if p.mutable or not mutable)
            raise errors.InvalidRequest(
                f"parameter {key!r} is not one of {known}" + ("" if mutable else f", {TAG_PREFIX}*")
            )
        if parameter.sets in values:
            raise errors.InvalidRequest(f"parameter {parameter.key!r} is given twice, in different spellings")
        values[parameter.sets] = parameter.read(key, given[key])
    return values
