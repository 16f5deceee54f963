"""The compiled policies that the emulator keeps."""

import json

from hyperpod_ebs.emulator.identity.compiled_policies import CompiledPolicies
from hyperpod_ebs.iam.documents import Kind

DOCUMENT = json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}})


def test_a_policy_is_compiled_once() -> None:
    policies = CompiledPolicies(len(DOCUMENT))

    assert policies.get(DOCUMENT, Kind.IDENTITY, "one") is policies.get(DOCUMENT, Kind.IDENTITY, "one")


def test_the_policy_that_was_not_used_for_longest_makes_room_for_another() -> None:
    """A caller who writes many long policies cannot fill the memory."""
    policies = CompiledPolicies(2 * len(DOCUMENT))
    first, second = (policies.get(DOCUMENT, Kind.IDENTITY, name) for name in ("first", "second"))
    policies.get(DOCUMENT, Kind.IDENTITY, "first")

    policies.get(DOCUMENT, Kind.IDENTITY, "third")

    assert policies.get(DOCUMENT, Kind.IDENTITY, "first") is first
    assert policies.get(DOCUMENT, Kind.IDENTITY, "second") is not second


def test_a_policy_that_is_too_long_is_compiled_for_each_use() -> None:
    policies = CompiledPolicies(len(DOCUMENT) - 1)

    assert policies.get(DOCUMENT, Kind.IDENTITY, "one") is not policies.get(DOCUMENT, Kind.IDENTITY, "one")
