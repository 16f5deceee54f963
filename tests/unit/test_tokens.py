"""Client tokens follow from names alone, so that each process finds the same ones."""

import hashlib
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.volumes.provision import client_tokens


@given(st.text())
def test_a_name_always_has_the_same_different_tokens_in_the_form_that_ec2_accepts(name: str) -> None:
    """EC2 API reference, CreateVolume: a client token has at most 64 ASCII characters."""
    sequence = list(client_tokens(name))

    assert sequence == list(client_tokens(name))
    assert len(set(sequence)) == len(sequence) == 64
    assert all(len(token) == 64 and token.isascii() for token in sequence)


@given(st.text(), st.text())
def test_two_names_share_no_first_token(first: str, second: str) -> None:
    assert (next(client_tokens(first)) == next(client_tokens(second))) == (first == second)


def test_the_sequence_of_tokens_is_upstreams() -> None:
    """A driver that replaces upstream's in the middle of a create finds the same volume.

    Source: CreateDisk in pkg/cloud/cloud.go of github.com/kubernetes-sigs/aws-ebs-csi-driver.
    """
    expected = [hashlib.sha256(text.encode()).hexdigest() for text in ("pvc-1", "pvc-1-2", "pvc-1-3")]

    assert list(islice(client_tokens("pvc-1"), 3)) == expected
