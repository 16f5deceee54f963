"""The limits of each volume type: sizes, IOPS, throughput and their ratios.

Source: EC2's API reference for CreateVolume and ModifyVolume. The error texts are EC2's,
because callers parse them: the Go driver reads the highest IOPS from "maximum is N" for gp3
and io1, and from "NK IOPS" for io2 (pkg/cloud/cloud.go, nonIo2ErrRegex and io2ErrRegex).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.emulator.wire.operations import AwsFault


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeLimits:
    """The limits of a volume type; each pair is the smallest and the largest value."""

    sizes_gib: tuple[int, int]
    iops: tuple[int, int] | None = None
    """None if requests cannot set it."""

    iops_per_gib: int = 0
    iops_required: bool = False
    throughput_mib: tuple[int, int] | None = None
    shareable: bool = False
    """Whether a volume can be attached to several instances."""


VOLUME_TYPES: Final[Mapping[str, TypeLimits]] = {
    "gp3": TypeLimits(sizes_gib=(1, 65_536), iops=(3_000, 80_000), iops_per_gib=500, throughput_mib=(125, 2_000)),
    "gp2": TypeLimits(sizes_gib=(1, 16_384)),
    "io1": TypeLimits(sizes_gib=(4, 16_384), iops=(100, 64_000), iops_per_gib=50, iops_required=True, shareable=True),
    "io2": TypeLimits(
        sizes_gib=(4, 65_536), iops=(100, 256_000), iops_per_gib=1_000, iops_required=True, shareable=True
    ),
    "st1": TypeLimits(sizes_gib=(125, 16_384)),
    "sc1": TypeLimits(sizes_gib=(125, 16_384)),
    "standard": TypeLimits(sizes_gib=(1, 1_024)),
}

MIB_PER_IOPS: Final = 0.25

_IO2_TEXT: Final = (
    "io2 volumes configured with greater than 64 TiB or 256K IOPS or 1000:1 IOPS:GB ratio are not supported."
)
"""EC2's one text for these limits of io2, quoted in https://github.com/kubernetes-sigs/aws-ebs-csi-driver/pull/2475."""

_GP2_IOPS: Final = (100, 16_000)
"""The fewest and the most IOPS of a gp2 volume, which requests cannot set."""

_GP2_IOPS_PER_GIB: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The properties of a volume that ModifyVolume can change."""

    kind: str
    size_gib: int
    iops: int | None
    throughput_mib: int | None
    multi_attach: bool = False


def valid_settings(
    *, kind: str, size_gib: int, iops: int | None, throughput_mib: int | None, multi_attach: bool
) -> Settings:
    """The settings of a requested volume, with AWS's defaults for those that are not requested.

    Raises:
        AwsFault: A setting is outside the limits of the volume type.
    """
    if kind not in VOLUME_TYPES:
        raise AwsFault("UnknownVolumeType", f"Unknown volume type: {kind}")
    limits = VOLUME_TYPES[kind]
    _check_size(kind, limits, size_gib)
    if multi_attach and not limits.shareable:
        raise _error(f"The parameter multi-attach-enabled is not supported for {kind} volumes.", combination=True)
    effective_iops = _iops(kind, limits, size_gib, iops)
    return Settings(
        kind=kind,
        size_gib=size_gib,
        iops=effective_iops,
        throughput_mib=_throughput(limits, effective_iops, throughput_mib),
        multi_attach=multi_attach,
    )


def _check_size(kind: str, limits: TypeLimits, size_gib: int) -> None:
    least, most = limits.sizes_gib
    if size_gib < least:
        raise _error(f"Volume of {size_gib}GiB is too small for volume type {kind}; minimum is {least}GiB.")
    if size_gib > most:
        if kind == "io2":
            raise _error(_IO2_TEXT, combination=True)
        raise _error(f"Volume of {size_gib}GiB is too large for volume type {kind}; maximum is {most}GiB.")


def _iops(kind: str, limits: TypeLimits, size_gib: int, requested: int | None) -> int | None:
    if limits.iops is None:
        if requested is not None:
            raise _error(f"The parameter iops is not supported for {kind} volumes.", combination=True)
        return max(_GP2_IOPS[0], min(_GP2_IOPS[1], _GP2_IOPS_PER_GIB * size_gib)) if kind == "gp2" else None
    least, most = limits.iops
    if requested is None and limits.iops_required:
        raise _error(f"The parameter iops must be specified for {kind} volumes.", combination=True)
    iops = least if requested is None else requested
    if iops < least:
        raise _error(f"Volume iops of {iops} is too low; minimum is {least}.")
    baseline = least if kind == "gp3" else 0  # included at any size
    most_for_size = max(baseline, limits.iops_per_gib * size_gib)
    if kind == "io2" and iops > min(most, most_for_size):
        raise _error(_IO2_TEXT, combination=True)
    if iops > most:
        raise _error(f"Volume iops of {iops} is too high; maximum is {most}.")
    if iops > most_for_size:
        raise _error(
            f"Iops to volume size ratio of {iops / size_gib:.6f} is too high; maximum is {limits.iops_per_gib}"
        )
    return iops


def _throughput(limits: TypeLimits, iops: int | None, requested: int | None) -> int | None:
    if limits.throughput_mib is None:
        if requested is not None:
            raise _error("throughput can only be specified for volumeType gp3.", combination=True)
        return None
    least, most = limits.throughput_mib
    throughput = least if requested is None else requested
    if throughput > most:
        raise _error(f"Volume throughput of {throughput} is too high; maximum is {most}.")
    if throughput < least:
        raise _error(f"Volume throughput of {throughput} is too low; minimum is {least}.")
    if iops and throughput > MIB_PER_IOPS * iops:
        text = f"Throughput (MiBps) to iops ratio of {throughput / iops:.6f} is too high; "
        raise _error(f"{text}maximum is {MIB_PER_IOPS:.6f} MiBps per iops")
    return throughput


def _error(text: str, *, combination: bool = False) -> AwsFault:
    return AwsFault("InvalidParameterCombination" if combination else "InvalidParameterValue", text)
