"""Sizes are whole GiB, rounded up, within the caller's limits."""

import contextlib
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.model import errors, sizes
from hyperpod_ebs.driver.model.sizes import GiB, SizeRange

GIB: Final = 2**30
COUNTS: Final = st.integers(min_value=0, max_value=2**46)


@given(COUNTS)
def test_a_rounded_size_holds_the_bytes_and_no_smaller_one_does(count: int) -> None:
    """CSI spec, CapacityRange: at least required_bytes."""
    size = sizes.smallest_size(count)

    assert sizes.to_bytes(size) >= count
    assert size == 1 or sizes.to_bytes(GiB(size - 1)) < count


@pytest.mark.requirement("csi.create-volume.capacity")
@given(COUNTS, COUNTS)
def test_the_size_is_in_the_requested_range_or_the_request_is_refused(required: int, limit: int) -> None:
    """CSI spec, CapacityRange: between required_bytes and limit_bytes, if they are set."""
    with contextlib.suppress(errors.OutOfRange):
        size = SizeRange.from_capacity_range(required, limit)

        assert sizes.to_bytes(size.wanted) >= max(required, 1)
        assert not limit or sizes.to_bytes(size.wanted) <= limit
        assert size.allows(size.wanted)


@given(COUNTS, COUNTS)
def test_a_range_is_refused_only_if_no_whole_size_fits(required: int, limit: int) -> None:
    try:
        SizeRange.from_capacity_range(required, limit)
    except errors.OutOfRange:
        assert limit
        assert limit // GIB < sizes.smallest_size(required)


@pytest.mark.parametrize(
    ("required", "limit", "wanted"),
    [(0, 0, 100), (1, 0, 1), (GIB, 0, 1), (GIB + 1, 0, 2), (0, 5 * GIB + 1, 5), (0, 500 * GIB, 100)],
    ids=["no range", "a byte", "one GiB", "a byte more than a GiB", "only a limit", "a limit above the default"],
)
def test_the_size_is_the_smallest_in_the_range(required: int, limit: int, wanted: int) -> None:
    """CSI spec, CapacityRange; the default of 100 GiB is upstream's."""
    assert SizeRange.from_capacity_range(required, limit).wanted == wanted


@pytest.mark.requirement("csi.create-volume.capacity")
@pytest.mark.parametrize(("required", "limit"), [(GIB, GIB - 1), (-1, 0), (0, -1), (0, GIB - 1)])
def test_a_range_without_a_whole_size_is_out_of_range(required: int, limit: int) -> None:
    """CSI spec, CreateVolume: OUT_OF_RANGE for an unsupported capacity_range."""
    with pytest.raises(errors.OutOfRange):
        SizeRange.from_capacity_range(required, limit)


def test_an_existing_volume_satisfies_a_request_if_its_size_is_in_the_range() -> None:
    """CSI spec, CreateVolume: compatible with the capacity_range, or ALREADY_EXISTS."""
    wanted = SizeRange.from_capacity_range(2 * GIB, 4 * GIB)

    assert [size for size in range(1, 7) if wanted.allows(GiB(size))] == [2, 3, 4]


def test_each_volume_type_has_the_size_limits_of_aws() -> None:
    """EBS user guide, "Amazon EBS volume types"."""
    gib, tib = 1, 1024
    expected = {
        "gp2": (1 * gib, 16 * tib),
        "gp3": (1 * gib, 64 * tib),
        "io1": (4 * gib, 16 * tib),
        "io2": (4 * gib, 64 * tib),
        "sc1": (125 * gib, 16 * tib),
        "st1": (125 * gib, 16 * tib),
        "standard": (1 * gib, 1 * tib),
    }

    assert expected == sizes.BY_TYPE
