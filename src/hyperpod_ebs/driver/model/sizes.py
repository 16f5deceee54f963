"""The size of a volume: whole GiB at EC2, bytes in CSI."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NewType, Self

from hyperpod_ebs.driver.model import errors

GiB = NewType("GiB", int)

DEFAULT: Final = GiB(100)
"""The size of a volume whose request has no capacity range; upstream uses the same."""

BY_TYPE: Final[Mapping[str, tuple[int, int]]] = {
    "gp2": (1, 16_384),
    "gp3": (1, 65_536),
    "io1": (4, 16_384),
    "io2": (4, 65_536),
    "sc1": (125, 16_384),
    "st1": (125, 16_384),
    "standard": (1, 1024),
}
"""The smallest and the largest size of each volume type, in GiB (EBS User Guide, "Amazon EBS volume types").

EC2 decides; this table only explains a refusal.
"""

_BYTES: Final = 2**30


def to_bytes(size: GiB) -> int:
    """`size` in bytes."""
    return size * _BYTES


def smallest_size(byte_count: int) -> GiB:
    """The smallest whole size that holds `byte_count` bytes, at least one GiB."""
    return GiB(max(1, -(-byte_count // _BYTES)))


@dataclass(frozen=True, slots=True)
class SizeRange:
    """The requested size and the largest acceptable one, from CSI's CapacityRange."""

    wanted: GiB
    limit: int | None = None
    """Bytes; None if the caller sets no limit."""

    @classmethod
    def from_capacity_range(cls, required: int, limit: int) -> Self:
        """The range for CSI's two numbers of bytes, of which 0 means absent.

        Raises:
            OutOfRange: No whole number of GiB is in the range.
        """
        if required < 0 or limit < 0:
            raise errors.OutOfRange(f"a capacity cannot be negative: required {required}, limit {limit} bytes")
        wanted = smallest_size(required) if required else DEFAULT
        if not required and limit:
            wanted = GiB(min(DEFAULT, limit // _BYTES))
        if limit and (wanted == 0 or to_bytes(wanted) > limit):
            raise errors.OutOfRange(
                f"no whole number of GiB is between the required {required} bytes and the limit of {limit} bytes; "
                "raise the limit"
            )
        return cls(wanted, limit or None)

    def allows(self, size: GiB) -> bool:
        """Whether an existing volume of `size` satisfies the request."""
        return size >= self.wanted and (self.limit is None or to_bytes(size) <= self.limit)
