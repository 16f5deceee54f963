"""What one request asks of EC2 for several changes of a volume."""

from dataclasses import fields, replace

from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.model import iops
from hyperpod_ebs.driver.model.modification import leads_to, missing_change, overlaps, requested_change
from hyperpod_ebs.driver.model.sizes import GiB
from hyperpod_ebs.driver.model.volume import Change
from tests.support.scripted_cloud import a_modification, a_volume

GROWING = {iops.PER_GIB_TAG: "10", iops.GROW_TAG: "true"}
"""The tags of a volume whose IOPS grow with its size."""

attributes = st.builds(
    Change,
    type=st.none() | st.sampled_from(["gp2", "gp3", "io2"]),
    iops=st.none() | st.sampled_from([3000, 4000]),
    throughput=st.none() | st.sampled_from([125, 250]),
)
growths = st.builds(Change, size=st.integers(1, 1000).map(GiB))
tags = st.sampled_from([{}, GROWING])


def test_the_iops_of_a_class_win_over_those_that_grow_with_the_size() -> None:
    """The class is set now and names a number; the ratio in the tags is from the volume's creation."""
    volume = a_volume(gib=100, tags=GROWING)
    growth = Change(size=GiB(1000))

    assert requested_change([growth], volume).iops == 10_000
    assert requested_change([growth, Change(iops=5000)], volume).iops == 5000
    assert requested_change([growth, Change(throughput=250)], volume).iops == 10_000


def test_iops_grow_by_the_rule_of_the_new_type() -> None:
    """EBS user guide, "Amazon EBS volume types": gp2 volumes have no configurable IOPS."""
    volume = a_volume(gib=100, type="io2", iops=1000, tags=GROWING)
    growth = Change(size=GiB(200))

    assert requested_change([growth], volume).iops == 2000
    assert requested_change([growth, Change(type="gp3")], volume).iops == 3000
    assert requested_change([growth, Change(type="gp2")], volume).iops is None


@given(growths, attributes, tags)
def test_one_request_leads_to_all_its_parts(growth: Change, change: Change, marks: dict[str, str]) -> None:
    volume = a_volume(gib=100, tags=marks)

    requested = requested_change([growth, change], volume)

    values = {field.name: getattr(requested, field.name) for field in fields(Change)}
    assert requested == requested_change([change, growth], volume)
    for part in (growth, change):
        assert leads_to(a_modification("modifying", **values), missing_change(part, volume))


@given(growths, attributes, tags)
def test_a_request_for_two_parts_asks_for_nothing_else(growth: Change, change: Change, marks: dict[str, str]) -> None:
    volume = a_volume(gib=100, tags=marks)

    requested = requested_change([growth, change], volume)

    wanted = replace(change, size=growth.size)
    for field in fields(Change):
        value = getattr(requested, field.name)
        assert value is None or value == getattr(wanted, field.name) or (field.name == "iops" and marks)


@given(attributes, attributes, growths)
def test_only_changes_of_the_same_property_overlap(first: Change, second: Change, growth: Change) -> None:
    same = [
        field.name for field in fields(Change) if None not in (getattr(first, field.name), getattr(second, field.name))
    ]

    assert overlaps(first, second) == overlaps(second, first) == bool(same)
    assert not overlaps(first, growth)
    assert overlaps(growth, growth)
