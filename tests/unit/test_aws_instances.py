"""Device names: free ones, and never one for two."""

import re
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.aws.instances import NAMES, Names
from hyperpod_ebs.driver.model import errors


def test_names_are_those_that_ec2_takes() -> None:
    """Upstream: found by trial."""
    form = re.compile(r"/dev/xvd(?:[b-z]|[a-c][a-z]|d[a-x])")

    assert all(form.fullmatch(name) for name in NAMES)
    assert len(set(NAMES)) == len(NAMES) == 127


@given(st.sets(st.sampled_from(NAMES), max_size=100), st.integers(1, 27))
def test_attaches_at_once_have_different_names_that_nobody_uses(used: set[str], count: int) -> None:
    """EC2: a name that is taken is refused."""
    names = Names()

    with ExitStack() as stack:
        given = [stack.enter_context(names.held("i-1", used)) for _ in range(count)]
        elsewhere = stack.enter_context(names.held("i-2", used))

    assert len(set(given)) == count
    assert not set(given) & used
    assert elsewhere == given[0]
    assert not names.asked


@pytest.mark.requirement("csi.publish-volume.full")
def test_an_instance_without_a_free_name_is_full() -> None:
    """CSI: RESOURCE_EXHAUSTED."""
    with pytest.raises(errors.NodeFull), Names().held("i-1", NAMES):
        pass
