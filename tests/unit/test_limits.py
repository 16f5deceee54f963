"""How many volumes a node can have, by its instance type."""

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
def test_an_instance_type_has_the_limit_that_ec2_documents(instance_type: str, limit: int) -> None:
    """EC2, DescribeInstanceTypes, EbsInfo.MaximumEbsAttachments."""
    assert limits.attach_limit(instance_type, reserved=0) == limit


def test_driver_and_emulator_have_the_same_limits_for_every_hyperpod_type() -> None:
    """The two tables were written independently: a wrong number in one of them would overfill or waste a node."""
    driver_limits = {
        name: (limits.attach_limit(name, reserved=0), limits.shares_slots_with_interfaces(name))
        for name in ATTACH_SLOTS
    }

    assert driver_limits == {name: (slots.count, slots.limit_type == "shared") for name, slots in ATTACH_SLOTS.items()}


@pytest.mark.requirement("csi.node-info.limit")
@pytest.mark.parametrize("instance_type", ["", "x99.huge", "m4.large", "m7i.metal-24xl", "m5d.large"])
def test_an_unknown_type_has_no_limit(instance_type: str) -> None:
    """CSI spec, NodeGetInfo: with max_volumes_per_node 0 the CO decides."""
    assert limits.attach_limit(instance_type, reserved=1) == 0


@pytest.mark.requirement("csi.node-info.limit")
def test_other_volumes_lower_the_limit_to_no_less_than_one() -> None:
    """As upstream: the limit is at least 1, because 0 would mean any number."""
    assert limits.attach_limit("ml.g5.48xlarge", reserved=2) == 7
    assert limits.attach_limit("ml.g5.48xlarge", reserved=20) == 1
