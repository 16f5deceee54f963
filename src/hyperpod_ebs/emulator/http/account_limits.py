"""The account's limits on the rate of calls: which bucket a call takes its token from, and how large that bucket is.

EC2's are those of AWS's page "Request throttling for the Amazon EC2 API" (EC2 developer guide), for the operations that
the emulator has. SageMaker's are guesses, because AWS does not publish them. The other services have no limits.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, assert_never

from hyperpod_ebs.emulator.http.token_bucket import Limit
from hyperpod_ebs.emulator.state.clock import Profile
from hyperpod_ebs.emulator.wire.operations import Parameters

ThrottleMode = Literal["off", "documented"]

Limits = Mapping[str, Limit]
"""The limit of each bucket. A bucket has the name of its operation: `ec2:AttachVolume`."""

Changes = Mapping[str, Mapping[str, float]]
"""New values of some limits' fields, by bucket; those of `EVERY` are for every bucket without values of its own."""

EVERY: Final = "*"
"""Stands for all buckets."""

UNFILTERED: Final = ":unfiltered"
"""The end of the name of a bucket for calls that have neither filters nor pages: `ec2:DescribeVolumes:unfiltered`."""

MAX_RATE: Final = 1_000_000
"""The largest capacity, and the largest refill per second."""

_FIELDS: Final[Mapping[str, float]] = {"capacity": MAX_RATE, "refill": MAX_RATE, "neighbour": 1}
"""The fields of a limit that can be changed, and the largest value of each."""

_NARROWING: Final = ("Filters", "MaxResults", "NextToken", "InstanceIds", "SnapshotIds", "VolumeIds")
"""The members of a request that keep it out of the bucket for unfiltered calls; that ids do so is a guess."""


def _limits(service: str, limit: Limit, *operations: str) -> Limits:
    return {f"{service}:{operation}": limit for operation in operations}


DOCUMENTED: Final[Limits] = {
    **_limits(  # "Non-mutating actions"
        "ec2",
        Limit(capacity=100, refill=20),
        "DescribeAvailabilityZones",
        "DescribeInstanceStatus",
        "DescribeInstanceTypes",
        "DescribeInstances",
        "DescribeRegions",
        "DescribeSnapshotAttribute",
        "DescribeSnapshots",
        "DescribeTags",
        "DescribeVolumeAttribute",
        "DescribeVolumeStatus",
        "DescribeVolumes",
        "DescribeVolumesModifications",
        "GetEbsDefaultKmsKeyId",
        "GetEbsEncryptionByDefault",
    ),
    **_limits(  # "Unfiltered and unpaginated non-mutating actions"
        "ec2",
        Limit(capacity=50, refill=10),
        f"DescribeInstanceStatus{UNFILTERED}",
        f"DescribeInstances{UNFILTERED}",
        f"DescribeSnapshots{UNFILTERED}",
        f"DescribeVolumes{UNFILTERED}",
    ),
    **_limits(  # "Mutating actions"
        "ec2",
        Limit(capacity=50, refill=5),
        "AttachVolume",
        "CopySnapshot",
        "DetachVolume",
        "DisableEbsEncryptionByDefault",
        "EnableEbsEncryptionByDefault",
        "ModifyEbsDefaultKmsKeyId",
        "ModifyVolume",
        "ResetEbsDefaultKmsKeyId",
        "ResetSnapshotAttribute",
        "StopInstances",
    ),
    **_limits(  # "Uncategorized actions", and so the next two
        "ec2",
        Limit(capacity=100, refill=5),
        "CreateSnapshot",
        "CreateVolume",
        "DeleteSnapshot",
        "DeleteVolume",
        "ModifyInstanceMetadataOptions",
        "ModifySnapshotAttribute",
        "TerminateInstances",
    ),
    **_limits("ec2", Limit(capacity=100, refill=10), "CreateTags", "DeleteTags"),
    **_limits("ec2", Limit(capacity=5, refill=2), "RunInstances", "StartInstances"),
    **_limits("sagemaker", Limit(capacity=50, refill=5), "AttachClusterNodeVolume", "DetachClusterNodeVolume"),
    **_limits(
        "sagemaker",
        Limit(capacity=100, refill=20),
        "AddTags",
        "BatchAddClusterNodes",
        "BatchDeleteClusterNodes",
        "BatchRebootClusterNodes",
        "BatchReplaceClusterNodes",
        "CreateCluster",
        "DeleteCluster",
        "DeleteTags",
        "DescribeCluster",
        "DescribeClusterEvent",
        "DescribeClusterNode",
        "ListClusterEvents",
        "ListClusterNodes",
        "ListClusters",
        "ListTags",
        "UpdateCluster",
    ),
}
"""The limits of an account for which AWS has not raised any."""


class BadLimits(ValueError):  # noqa: N818 - named for what is wrong
    """The document with limits is malformed, or would have no effect."""


def bucket_name(service: str, operation: str, parameters: Parameters) -> str:
    """The bucket from which a call takes its token."""
    name = f"{service}:{operation}"
    unfiltered = f"{name}{UNFILTERED}"
    is_narrow = unfiltered not in DOCUMENTED or any(parameters.get(member) for member in _NARROWING)
    return name if is_narrow else unfiltered


def load_limits(throttle: ThrottleMode | Path | None, profile: Profile) -> Limits:
    """The limits at the start of an emulator; reads the file if `throttle` is one.

    Args:
        throttle: No limits, the documented ones, or a file with changes of those; None for the profile's default.
        profile: The profile of the emulator; `instant` has no limits by default.

    Raises:
        BadLimits: The file cannot be read, or is malformed.
    """
    mode = throttle or ("off" if profile == "instant" else "documented")
    match mode:
        case "off":
            return {}
        case "documented":
            return DOCUMENTED
        case Path():
            return _read_limits(mode)
        case _:
            assert_never(mode)


def _read_limits(file: Path) -> Limits:
    try:
        return limits_after(parse_changes(json.loads(file.read_bytes())), DOCUMENTED)
    except OSError as error:
        raise BadLimits(
            f"cannot read the limits in {file}: {error.strerror}; give off, documented or a JSON file as --throttle"
        ) from error
    except RecursionError as error:
        raise BadLimits(f"the limits in {file} are unusable: the document has too many nested brackets") from error
    except ValueError as error:  # not JSON, not UTF-8, or refused above
        raise BadLimits(f"the limits in {file} are unusable: {error}") from error


def parse_changes(document: object) -> Changes:
    """Parse changes of limits from a JSON document: `{"ec2:AttachVolume": {"capacity": 5}, "*": {"neighbour": 0.3}}`.

    Raises:
        BadLimits: The document does not have this form, or names an unknown bucket.
    """
    if not isinstance(document, dict) or not document:
        raise BadLimits('no limits are given; write a JSON object such as {"ec2:AttachVolume": {"capacity": 5}}')
    for name, fields in document.items():
        if name != EVERY and name not in DOCUMENTED:
            raise BadLimits(
                f"{name!r} is not a bucket; name an operation of EC2 or SageMaker such as ec2:AttachVolume or "
                f"ec2:DescribeVolumes{UNFILTERED}, or {EVERY} for all"
            )
        if not isinstance(fields, dict) or not fields:
            raise BadLimits(f"{name} has no values; write a JSON object with some of {', '.join(_FIELDS)}")
        for field, value in fields.items():
            if field not in _FIELDS:
                raise BadLimits(f"{name} has an unknown value {field!r}; the values are {', '.join(_FIELDS)}")
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise BadLimits(f"{field} of {name} is {value!r}, not a number")
            if not 0 <= value <= _FIELDS[field]:  # false for NaN
                raise BadLimits(f"{field} of {name} is {value}; it must be between 0 and {_FIELDS[field]}")
    return document


def limits_after(changes: Changes, limits: Limits) -> Limits:
    """The limits with the changes; a bucket that had no limit starts from the documented one.

    Raises:
        BadLimits: The changes are for all buckets, and there are none.
    """
    if EVERY in changes and not limits:
        raise BadLimits(
            f"{EVERY} changes nothing, because throttling is off; name a bucket, or use --throttle documented"
        )
    result = {name: replace(limit, **changes.get(EVERY, {})) for name, limit in limits.items()}
    for name, fields in changes.items():
        if name != EVERY:
            result[name] = replace(result.get(name) or DOCUMENTED[name], **fields)
    return result
