"""Client tokens: derived from names alone, so that any process finds the same."""

import hashlib
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.volumes.tokens import MOST, tokens


@given(st.text())
def test_a_name_always_has_the_same_tokens_all_different_and_in_ec2s_form(name: str) -> None:
    """EC2: at most 64 ASCII characters; ours: a restart goes on where the last process was."""
    sequence = list(tokens(name))

    assert sequence == list(tokens(name))
    assert len(set(sequence)) == len(sequence) == MOST
    assert all(len(token) == 64 and token.isascii() for token in sequence)


@given(st.text(), st.text())
def test_two_names_share_no_first_token(one: str, other: str) -> None:
    """Ours: a token names one volume."""
    assert (next(tokens(one)) == next(tokens(other))) == (one == other)


def test_the_sequence_is_upstreams() -> None:
    """Upstream: a driver that takes over in the middle of a create meets the same volume (cloud.go:754-769)."""
    expected = [hashlib.sha256(text.encode()).hexdigest() for text in ("pvc-1", "pvc-1-2", "pvc-1-3")]

    assert list(islice(tokens("pvc-1"), 3)) == expected
