"""What the doctor says of the account's quotas for EBS (Service Quotas, "Amazon Elastic Block Store")."""

from datetime import UTC, datetime
from typing import Final

import pytest

from hyperpod_ebs.access.aws.quotas import Quota
from hyperpod_ebs.access.aws.volumes import EbsVolume
from hyperpod_ebs.access.doctor.aws_checks.limits import quota_findings

GP3: Final = Quota(code="L-7A658B76", name="Storage for General Purpose SSD (gp3) volumes, in TiB", value=2)
SNAPSHOTS: Final = Quota(code="L-309BACF6", name="Snapshots per Region", value=100)
OTHER: Final = Quota(code="L-8D977E7E", name="IOPS for Provisioned IOPS SSD (io2) volumes", value=1)


def volume(gib: int, type_: str = "gp3") -> EbsVolume:
    """A volume of this size and type."""
    return EbsVolume(
        id="vol-1",
        owner="123456789012",
        state="available",
        gib=gib,
        type=type_,
        iops=3000,
        throughput=125,
        zone="us-west-2a",
        zone_id="usw2-az1",
        key="",
        snapshot="",
        multi_attach=False,
        created=datetime.now(UTC),
        tags={},
        holders=(),
    )


@pytest.mark.parametrize(
    ("gib", "snapshots", "expected"),
    [
        (1024, 0, []),
        (2048, 0, [("fails", "2 of 2 TiB are in use")]),
        (1900, 0, [("may fail", "1.85547 of 2 TiB are in use")]),
        (0, 100, [("fails", "100 of 100 snapshots are in use")]),
        (0, 90, [("may fail", "90 of 100 snapshots are in use")]),
        (0, 89, []),
    ],
)
def test_a_quota_that_is_reached_fails_and_one_that_nearly_is_may_fail(
    gib: int, snapshots: int, expected: list[tuple[str, str]]
) -> None:
    volumes = [volume(gib), volume(50_000, "gp2")]

    findings = list(quota_findings([GP3, SNAPSHOTS, OTHER], volumes, snapshots))

    assert [(each.status, each.evidence) for each in findings] == expected
    assert all("request-service-quota-increase" in each.fix for each in findings)
