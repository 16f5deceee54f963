"""How large a volume is: whole GiB at the cloud, bytes in CSI."""

from dataclasses import dataclass
from typing import Final, NewType, Self

from hyperpod_ebs.driver.model import errors

GiB = NewType("GiB", int)

DEFAULT: Final = GiB(100)
"""A volume's size where the request names none, as upstream has it."""

_BYTES: Final = 2**30


def to_bytes(size: GiB) -> int:
    """`size` as CSI counts it."""
    return size * _BYTES


def smallest_size(count: int) -> GiB:
    """The smallest whole size that holds `count` bytes, at least one GiB."""
    return GiB(max(1, -(-count // _BYTES)))


@dataclass(frozen=True, slots=True)
class SizeRange:
    """The size that is asked for, and the most that would do, from CSI's CapacityRange."""

    wanted: GiB
    limit: int | None = None
    """Bytes; None where the caller sets no limit."""

    @classmethod
    def from_capacity_range(cls, required: int, limit: int) -> Self:
        """The range that CSI's two numbers describe; 0 stands for an absent one.

        Raises:
            OutOfRange: No whole number of GiB lies in it.
        """
        if required < 0 or limit < 0:
            raise errors.OutOfRange(f"a capacity cannot be negative: required {required}, limit {limit} bytes")
        wanted = smallest_size(required) if required else DEFAULT
        if not required and limit:
            wanted = GiB(min(DEFAULT, limit // _BYTES))
        if limit and (wanted == 0 or to_bytes(wanted) > limit):
            raise errors.OutOfRange(
                f"no whole GiB fits: required {required} bytes makes {wanted} GiB, over the limit of {limit} bytes"
            )
        return cls(wanted, limit or None)

    def allows(self, size: GiB) -> bool:
        """Whether an existing volume of `size` answers this request."""
        return size >= self.wanted and (self.limit is None or to_bytes(size) <= self.limit)
