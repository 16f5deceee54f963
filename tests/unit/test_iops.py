"""IOPS in proportion to the size."""

from typing import Final, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as some

from hyperpod_ebs.driver.model import errors, iops
from hyperpod_ebs.driver.model.sizes import GiB


class Case(NamedTuple):
    """A class's wish for a volume, and what comes of it."""

    id: str
    type: str
    per_gib: int
    size: int
    wanted: int
    at_least: bool = False


CASES: Final = (
    Case("in proportion", "io1", 10, 100, 1000),
    Case("too few are EC2's to refuse", "io1", 10, 4, 40),
    Case("or raised to the least", "io1", 10, 4, 100, at_least=True),
    Case("not above the most", "io2", 10_000, 1000, 256_000),
    Case("not above the ratio", "io1", 100, 100, 5000),
    Case("gp3 has its least as well", "gp3", 1, 10, 3000, at_least=True),
    Case("a ratio that would fall below the least does not bind", "gp3", 600, 4, 2400),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_iops_follow_the_size_within_the_types_limits(case: Case) -> None:
    """Upstream's arithmetic, with EC2's limits of today."""
    assert iops.for_size(case.type, case.per_gib, GiB(case.size), at_least=case.at_least) == case.wanted


def test_a_type_without_iops_is_refused() -> None:
    """Ours: upstream asks for them all the same."""
    with pytest.raises(errors.InvalidRequest, match="type gp2"):
        iops.for_size("gp2", 3, GiB(1), at_least=False)


@given(per_gib=some.integers(1, 2000), sizes=some.tuples(some.integers(4, 16384), some.integers(4, 16384)))
def test_a_larger_volume_never_has_fewer(per_gib: int, sizes: tuple[int, int]) -> None:
    """Ours: growth must not slow a volume down."""
    small, large = sorted(sizes)
    grown = [iops.for_size("io2", per_gib, GiB(size), at_least=True) for size in (small, large)]

    assert grown[0] <= grown[1]


def test_a_volume_that_grows_keeps_its_ratio_where_its_tags_say_so() -> None:
    """Upstream's allowAutoIOPSIncreaseOnModify, which lives in the volume's tags."""
    promised = {iops.PER_GIB: "10", iops.GROWS: "true"}

    assert iops.after_growth("io1", promised, GiB(200)) == 2000
    assert iops.after_growth("io1", {**promised, iops.GROWS: "false"}, GiB(200)) is None
    assert iops.after_growth("io1", {**promised, iops.PER_GIB: "many"}, GiB(200)) is None
    assert iops.after_growth("gp2", promised, GiB(200)) is None
