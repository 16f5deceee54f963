"""What a volume of each type may be: sizes, IOPS, throughput and their ratios.

Taken from EC2's own reference for CreateVolume and ModifyVolume; the words of the
refusals are those that callers parse (the Go driver learns the highest IOPS from them).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.emulator.wire.operations import AwsFault


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """The bounds of a volume type."""

    sizes_gib: tuple[int, int]
    iops: tuple[int, int] | None = None
    """None where it cannot be asked for."""

    iops_per_gib: int = 0
    iops_required: bool = False
    throughput_mib: tuple[int, int] | None = None
    shareable: bool = False
    """Whether it can be attached to several instances."""


KINDS: Final[Mapping[str, Kind]] = {
    "gp3": Kind(sizes_gib=(1, 65_536), iops=(3_000, 80_000), iops_per_gib=500, throughput_mib=(125, 2_000)),
    "gp2": Kind(sizes_gib=(1, 16_384)),
    "io1": Kind(sizes_gib=(4, 16_384), iops=(100, 64_000), iops_per_gib=50, iops_required=True, shareable=True),
    "io2": Kind(sizes_gib=(4, 65_536), iops=(100, 256_000), iops_per_gib=1_000, iops_required=True, shareable=True),
    "st1": Kind(sizes_gib=(125, 16_384)),
    "sc1": Kind(sizes_gib=(125, 16_384)),
    "standard": Kind(sizes_gib=(1, 1_024)),
}

MIB_PER_IOPS: Final = 0.25

_GP2: Final = (100, 16_000)
_GP2_PER_GIB: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a volume is able to do."""

    kind: str
    size_gib: int
    iops: int | None
    throughput_mib: int | None
    multi_attach: bool = False


def shape(*, kind: str, size_gib: int, iops: int | None, throughput_mib: int | None, multi_attach: bool) -> Shape:
    """The shape of a volume for which this was asked, with what AWS chooses where nothing was.

    Raises:
        AwsFault: No volume can be so.
    """
    if kind not in KINDS:
        raise AwsFault("UnknownVolumeType", f"Unknown volume type: {kind}")
    bounds = KINDS[kind]
    _check_size(kind, bounds, size_gib)
    if multi_attach and not bounds.shareable:
        raise _refused(f"The parameter multi-attach-enabled is not supported for {kind} volumes.", combination=True)
    settled = _iops(kind, bounds, size_gib, iops)
    return Shape(
        kind=kind,
        size_gib=size_gib,
        iops=settled,
        throughput_mib=_throughput(bounds, settled, throughput_mib),
        multi_attach=multi_attach,
    )


def _check_size(kind: str, bounds: Kind, size_gib: int) -> None:
    least, most = bounds.sizes_gib
    if size_gib < least:
        raise _refused(f"Volume of {size_gib}GiB is too small for volume type {kind}; minimum is {least}GiB.")
    if size_gib > most:
        raise _refused(f"Volume of {size_gib}GiB is too large for volume type {kind}; maximum is {most}GiB.")


def _iops(kind: str, bounds: Kind, size_gib: int, asked: int | None) -> int | None:
    if bounds.iops is None:
        if asked is not None:
            raise _refused(f"The parameter iops is not supported for {kind} volumes.", combination=True)
        return max(_GP2[0], min(_GP2[1], _GP2_PER_GIB * size_gib)) if kind == "gp2" else None
    least, most = bounds.iops
    if asked is None and bounds.iops_required:
        raise _refused(f"The parameter iops must be specified for {kind} volumes.", combination=True)
    iops = least if asked is None else asked
    if iops > most:
        # The Go driver reads "maximum is N" for gp3 and io1, and "NK IOPS" for io2.
        bound = f"io2 volumes have at most {most // 1000}K IOPS." if kind == "io2" else f"maximum is {most}."
        raise _refused(f"Volume iops of {iops} is too high; {bound}")
    if iops < least:
        raise _refused(f"Volume iops of {iops} is too low; minimum is {least}.")
    free = least if kind == "gp3" else 0  # gp3 has its baseline at any size
    if iops > max(free, bounds.iops_per_gib * size_gib):
        raise _refused(
            f"Iops to volume size ratio of {iops / size_gib:.6f} is too high; maximum is {bounds.iops_per_gib}"
        )
    return iops


def _throughput(bounds: Kind, iops: int | None, asked: int | None) -> int | None:
    if bounds.throughput_mib is None:
        if asked is not None:
            raise _refused("throughput can only be specified for volumeType gp3.", combination=True)
        return None
    least, most = bounds.throughput_mib
    throughput = least if asked is None else asked
    if throughput > most:
        raise _refused(f"Volume throughput of {throughput} is too high; maximum is {most}.")
    if throughput < least:
        raise _refused(f"Volume throughput of {throughput} is too low; minimum is {least}.")
    if iops and throughput > MIB_PER_IOPS * iops:
        text = f"Throughput (MiBps) to iops ratio of {throughput / iops:.6f} is too high; "
        raise _refused(f"{text}maximum is {MIB_PER_IOPS:.6f} MiBps per iops")
    return throughput


def _refused(text: str, *, combination: bool = False) -> AwsFault:
    return AwsFault("InvalidParameterCombination" if combination else "InvalidParameterValue", text)
