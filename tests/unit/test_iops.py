"""IOPS in proportion to the size."""

from typing import Final, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as some

from hyperpod_ebs.driver.model import errors, iops
from hyperpod_ebs.driver.model.sizes import GiB


class Case(NamedTuple):
    """Requested IOPS for each GiB, and the IOPS of the volume."""

    id: str
    type: str
    per_gib: int
    size: int
    wanted: int
    raise_to_minimum: bool = False


CASES: Final = (
    Case("in proportion", "io1", 10, 100, 1000),
    Case("IOPS below the minimum are left for EC2 to refuse", "io1", 10, 4, 40),
    Case("IOPS below the minimum are raised to it", "io1", 10, 4, 100, raise_to_minimum=True),
    Case("not above the maximum", "io2", 10_000, 1000, 256_000),
    Case("not above the maximum for each GiB", "io1", 100, 100, 5000),
    Case("gp3 has a minimum as well", "gp3", 1, 10, 3000, raise_to_minimum=True),
    Case("a size's maximum that is the type's minimum counts", "gp3", 600, 6, 3000),
    Case("a size's maximum that is below the type's minimum does not count", "gp3", 600, 4, 2400),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_iops_follow_the_size_within_the_types_limits(case: Case) -> None:
    """Upstream's arithmetic, with the limits of the EBS User Guide, "Amazon EBS volume types"."""
    assert iops.for_size(case.type, case.per_gib, GiB(case.size), raise_to_minimum=case.raise_to_minimum) == case.wanted


def test_iops_per_gib_are_refused_for_a_type_without_configurable_iops() -> None:
    """EC2 would refuse the volume; upstream sends the request all the same."""
    with pytest.raises(errors.InvalidRequest, match="type gp2"):
        iops.for_size("gp2", 3, GiB(1), raise_to_minimum=False)


@given(per_gib=some.integers(1, 2000), sizes=some.tuples(some.integers(4, 16384), some.integers(4, 16384)))
def test_a_larger_volume_never_has_fewer_iops(per_gib: int, sizes: tuple[int, int]) -> None:
    """Growth must not slow a volume down."""
    small, large = sorted(sizes)
    grown = [iops.for_size("io2", per_gib, GiB(size), raise_to_minimum=True) for size in (small, large)]

    assert grown[0] <= grown[1]


def test_iops_grow_with_the_volume_if_its_tags_say_so() -> None:
    """Upstream keeps allowAutoIOPSIncreaseOnModify in the volume's tags."""
    tags = {iops.PER_GIB_TAG: "10", iops.GROW_TAG: "true"}

    assert iops.after_growth("io1", tags, GiB(200)) == 2000
    assert iops.after_growth("io1", {**tags, iops.GROW_TAG: "false"}, GiB(200)) is None
    assert iops.after_growth("io1", {**tags, iops.PER_GIB_TAG: "many"}, GiB(200)) is None
    assert iops.after_growth("gp2", tags, GiB(200)) is None
