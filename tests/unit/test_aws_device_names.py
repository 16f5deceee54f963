"""Device names for attachments: free ones, and never one for two attachments."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.aws.device_names import NAMES, DeviceNames
from hyperpod_ebs.driver.model import errors


def test_the_names_are_those_that_ec2_accepts() -> None:
    """aws-ebs-csi-driver, pkg/cloud/devicemanager/device_names.go: "discovered by trial and error"."""
    form = re.compile(r"/dev/xvd(?:[b-z]|[a-c][a-z]|d[a-x])")

    assert all(form.fullmatch(name) for name in NAMES)
    assert len(set(NAMES)) == len(NAMES) == 127


@given(st.sets(st.sampled_from(NAMES), max_size=100), st.integers(1, 27))
def test_simultaneous_attachments_get_different_free_names(used: set[str], count: int) -> None:
    """EC2 refuses a name that is in use."""
    names = DeviceNames()

    taken = [names.take("i-1", f"vol-{number}", used) for number in range(count)]
    on_another_instance = names.take("i-2", "vol-0", used)

    assert len(set(taken)) == count
    assert not set(taken) & used
    assert on_another_instance == taken[0]


def test_a_name_stays_taken_until_it_is_shown_or_a_minute_has_passed() -> None:
    """EC2 developer guide, eventual consistency: DescribeInstances shows an attachment some time after AttachVolume."""
    now = 0.0
    names = DeviceNames(clock=lambda: now)

    first = names.take("i-1", "vol-1", ())
    second = names.take("i-1", "vol-2", ())
    shown_and_detached = names.take("i-1", "vol-3", [first]), names.take("i-1", "vol-4", ())
    now = 59.9
    not_shown_yet = names.take("i-1", "vol-5", shown_and_detached)
    now = 60.0
    never_shown = names.take("i-1", "vol-6", shown_and_detached)

    assert shown_and_detached[1] == first
    assert not_shown_yet not in {first, second, *shown_and_detached}
    assert never_shown == second


def test_the_names_of_an_instance_that_is_gone_are_forgotten() -> None:
    """Instances come and go for as long as the controller runs."""
    now = 0.0
    names = DeviceNames(clock=lambda: now)

    for number in range(100):
        names.take(f"i-{number}", "vol-1", ())
        now += 60.0

    assert len(names.taken) == 1


def test_a_volume_takes_one_name_however_often_its_attachment_is_requested() -> None:
    """Retries of refused attachments must not use up the names of the instance."""
    names = DeviceNames()

    assert len({names.take("i-1", "vol-1", ()) for _ in range(200)}) == 1


def test_a_name_is_free_again_after_a_final_refusal() -> None:
    names = DeviceNames()

    refused = names.take("i-1", "vol-1", ())
    names.free("i-1", refused)

    assert names.take("i-1", "vol-2", ()) == refused


@pytest.mark.requirement("csi.publish-volume.full")
def test_an_instance_without_a_free_name_is_full() -> None:
    """CSI spec, ControllerPublishVolume: RESOURCE_EXHAUSTED when a node has the most volumes that it can have."""
    with pytest.raises(errors.NodeFull):
        DeviceNames().take("i-1", "vol-1", NAMES)
