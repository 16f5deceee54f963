"""Device names for attachments: free ones, and never one for two attachments."""

import re
from contextlib import ExitStack

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

    with ExitStack() as stack:
        reserved = [stack.enter_context(names.reserve("i-1", used)) for _ in range(count)]
        on_another_instance = stack.enter_context(names.reserve("i-2", used))

    assert len(set(reserved)) == count
    assert not set(reserved) & used
    assert on_another_instance == reserved[0]
    assert not names.reserved


@pytest.mark.requirement("csi.publish-volume.full")
def test_an_instance_without_a_free_name_is_full() -> None:
    """CSI spec, ControllerPublishVolume: RESOURCE_EXHAUSTED when a node has the most volumes that it can have."""
    with pytest.raises(errors.NodeFull), DeviceNames().reserve("i-1", NAMES):
        pass
