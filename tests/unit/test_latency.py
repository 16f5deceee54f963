"""The latency of AWS's answers: which operations have one, and how it is drawn."""

from itertools import pairwise

import pytest

from hyperpod_ebs.emulator.http.latency import LatencyMode, latency_of, span_of
from hyperpod_ebs.emulator.state.clock import Profile


@pytest.mark.parametrize("operation", ["ec2:AttachVolume", "sagemaker:AttachClusterNodeVolume"])
def test_an_attach_is_acknowledged_after_a_quarter_to_a_whole_second(operation: str) -> None:
    """kubernetes-sigs/aws-ebs-csi-driver issue 2056."""
    assert span_of(*operation.split(":")) == (0.25, 1.0)


def test_describing_is_faster_than_changing_and_that_is_faster_than_attaching() -> None:
    operations = ("DescribeVolumes", "CreateVolume", "AttachVolume")

    spans = [span_of("ec2", operation) for operation in operations]

    assert all(former[1] < later[0] for former, later in pairwise(spans))


@pytest.mark.parametrize("service", ["iam", "sts", "kms", "eks"])
def test_the_other_services_answer_at_once(service: str) -> None:
    assert span_of(service, "CreateRole") == (0, 0)


@pytest.mark.parametrize(
    ("mode", "profile", "is_late"),
    [
        (None, "instant", False),
        (None, "aws", True),
        (None, "chaos", True),
        ("off", "aws", False),
        ("observed", "instant", True),
    ],
)
def test_without_a_setting_the_profile_decides(mode: LatencyMode | None, profile: Profile, *, is_late: bool) -> None:
    latency = latency_of(mode, profile=profile, seed=0)

    assert (latency("ec2", "DescribeVolumes") > 0) is is_late


def test_the_seed_repeats_the_latencies_within_their_span() -> None:
    latencies = [latency_of("observed", profile="aws", seed=seed) for seed in (1, 1, 2)]

    first, same, other = ([latency("ec2", "AttachVolume") for _ in range(100)] for latency in latencies)

    assert first == same != other
    assert 0.25 <= min(first) < 0.4
    assert 0.85 < max(first) <= 1
