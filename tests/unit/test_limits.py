"""How many volumes a node can have, by its instance type."""

import botocore.session
import pytest
from hypothesis import given, strategies

from hyperpod_ebs.driver.model import limits
from hyperpod_ebs.driver.model.limits import AttachSlots
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
        ("ml.p6e-gb200.36xlarge", 27),
        ("inf2.48xlarge", 28),
        ("p3dn.24xlarge", 17),
        ("g4ad.xlarge", 25),
        ("m5ad.4xlarge", 25),
        ("c6gd.large", 26),
        ("m6id.large", 26),
        ("m7i.metal-24xl", 39),
        ("m4.large", 39),
    ],
)
def test_an_instance_type_has_the_limit_that_ec2_documents(instance_type: str, limit: int) -> None:
    """EC2, DescribeInstanceTypes, EbsInfo.MaximumEbsAttachments."""
    assert limits.attach_limit(instance_type, reserved=0) == limit


def test_driver_and_emulator_read_the_same_limits_from_their_tables() -> None:
    """Each reads its own form of the table: a wrong number in one of them would overfill or waste a node."""
    with_second_interface = {
        name: limits.attach_limit(name, reserved=0) - limits.attach_limit(name, reserved=0, interfaces=2)
        for name in ATTACH_SLOTS
    }

    assert {name: limits.attach_limit(name, reserved=0) for name in ATTACH_SLOTS} == {
        name: slots.count for name, slots in ATTACH_SLOTS.items()
    }
    assert with_second_interface == {name: slots.limit_type == "shared" for name, slots in ATTACH_SLOTS.items()}


@pytest.mark.requirement("csi.node-info.limit")
def test_every_instance_type_of_ec2_and_hyperpod_has_a_limit() -> None:
    """CSI spec, NodeGetInfo: max_volumes_per_node 0 would let the CO place any number of volumes on the node."""
    session = botocore.session.get_session()
    ec2 = session.get_service_model("ec2").shape_for("InstanceType").metadata["enum"]
    hyperpod = session.get_service_model("sagemaker").shape_for("ClusterInstanceType").metadata["enum"]

    assert [name for name in (*ec2, *hyperpod) if limits.attach_limit(name, reserved=2) < 1] == []
    assert set(ec2) <= ATTACH_SLOTS.keys()


@pytest.mark.requirement("csi.node-info.limit")
@pytest.mark.parametrize("instance_type", ["", "x99.huge", "ml.x99.huge"])
def test_an_unknown_type_has_the_limit_of_most_nitro_types(instance_type: str) -> None:
    """EC2 user guide, Amazon EBS volume limits: most Nitro types have 28 attachments, one of them for the interface."""
    assert limits.attach_limit(instance_type, reserved=1) == 26


@pytest.mark.requirement("csi.node-info.limit")
def test_other_volumes_lower_the_limit_to_no_less_than_one() -> None:
    """As upstream: the limit is at least 1, because 0 would mean any number."""
    assert limits.attach_limit("ml.g5.48xlarge", reserved=2) == 7
    assert limits.attach_limit("ml.g5.48xlarge", reserved=20) == 1


@pytest.mark.requirement("csi.node-info.limit")
def test_a_published_limit_counts_for_a_type_that_the_table_lacks() -> None:
    """The table has priority: it corrects types of which EC2 reports that interfaces share their slots."""
    published = {
        "x99.huge": AttachSlots(96, shared=False),
        "x99.large": AttachSlots(12, shared=True),
        "g5.48xlarge": AttachSlots(100, shared=False),
    }

    def limit(instance_type: str) -> int:
        return limits.attach_limit(instance_type, reserved=2, interfaces=3, published=published)

    assert (limit("ml.x99.huge"), limit("x99.large"), limit("x99.small")) == (94, 8, 23)
    assert limit("ml.g5.48xlarge") == 5


@given(strategies.text() | strategies.builds("{} {}".format, strategies.integers(), strategies.text()))
def test_attach_slots_are_parsed_as_they_are_written_or_refused(text: str) -> None:
    """A number outside of 1 to 128 is not that of an instance type, and 0 would mean any number."""
    try:
        slots = AttachSlots.parse(text)
    except ValueError:
        return

    assert 1 <= slots.count <= 128
    assert AttachSlots.parse(str(slots)) == slots


@pytest.mark.parametrize("text", ["1 shared", "128 dedicated"])
def test_the_smallest_and_the_largest_number_of_slots_are_accepted(text: str) -> None:
    assert str(AttachSlots.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "27", "0 shared", "129 shared", "-1 dedicated", "27 none", "x shared", "27 shared 1"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        AttachSlots.parse(text)
