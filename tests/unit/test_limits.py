"""How many volumes a node takes."""

import pytest

from hyperpod_ebs.driver.model import limits
from hyperpod_ebs.emulator.nodes.attach_slots import ATTACH_SLOTS


@pytest.mark.parametrize(
    ("instance_type", "limit"),
    [
        ("ml.p5.48xlarge", 64),
        ("p5.4xlarge", 32),
        ("ml.p4d.24xlarge", 28),
        ("ml.g5.48xlarge", 9),
        ("ml.g5.8xlarge", 25),
        ("ml.g6.48xlarge", 128),
        ("g6e.16xlarge", 48),
        ("ml.trn1.32xlarge", 28),
        ("trn2.48xlarge", 64),
        ("m5.large", 27),
        ("m7g.large", 27),
        ("m7i.24xlarge", 64),
        ("c6in.16xlarge", 27),
        ("ml.g4dn.12xlarge", 22),
        ("ml.i3en.24xlarge", 19),
        ("ml.r5d.16xlarge", 23),
        ("ml.g7.24xlarge", 64),
    ],
)
def test_a_type_has_the_limit_that_ec2_gives_it(instance_type: str, limit: int) -> None:
    """EC2's DescribeInstanceTypes, EbsInfo.MaximumEbsAttachments."""
    assert limits.attach_limit(instance_type, taken=0) == limit


def test_every_type_that_hyperpod_offers_has_the_limit_that_the_embedded_cloud_keeps() -> None:
    """Two tables, written apart: a number that one of them has wrong would overfill or waste a node."""
    driver_limits = {
        name: (limits.attach_limit(name, taken=0), limits.shares_slots_with_interfaces(name)) for name in ATTACH_SLOTS
    }

    assert driver_limits == {name: (slots.count, slots.limit_type == "shared") for name, slots in ATTACH_SLOTS.items()}


@pytest.mark.requirement("csi.node-info.limit")
@pytest.mark.parametrize("instance_type", ["", "x99.huge", "m4.large", "m7i.metal-24xl", "m5d.large"])
def test_a_type_that_is_not_in_the_table_is_not_guessed(instance_type: str) -> None:
    """CSI spec §NodeGetInfo: 0 leaves it to the CO."""
    assert limits.attach_limit(instance_type, taken=1) == 0


@pytest.mark.requirement("csi.node-info.limit")
def test_what_a_node_has_anyway_is_taken_off_but_one_place_is_left() -> None:
    """Upstream's rule: never below 1, for 0 would mean any number."""
    assert limits.attach_limit("ml.g5.48xlarge", taken=2) == 7
    assert limits.attach_limit("ml.g5.48xlarge", taken=20) == 1
