"""The partition, region and account that flags name."""

import pytest

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.aws_scope import AwsScope

ARN = "arn:aws-us-gov:sagemaker:us-gov-west-1:123456789012:cluster/abcdefghijkl"


def test_a_cluster_arn_has_partition_region_and_account() -> None:
    """SageMaker API reference, DescribeCluster, ClusterArn."""
    scope = AwsScope(partition="aws-us-gov", region="us-gov-west-1", account="123456789012")

    assert AwsScope.from_flags(cluster=ARN) == scope
    assert AwsScope.from_flags(cluster=ARN, region="us-gov-west-1", account="123456789012") == scope


def test_an_empty_flag_counts_as_absent() -> None:
    """The chart passes empty values on."""
    assert AwsScope.from_flags(cluster="", partition="", region="", account="") == AwsScope()
    assert AwsScope.from_flags(partition="aws-cn", region="cn-north-1").account is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"cluster": "arn:aws:eks:us-west-2:123456789012:cluster/mine"}, "not the ARN of the EKS cluster"),
        ({"cluster": "arn:aws:sagemaker:us-west-2:123456789012:cluster/UPPERCASE123"}, "--cluster-arn is"),
        ({"cluster": "abcdefghijkl"}, "--cluster-arn is"),
        ({"cluster": ARN, "region": "us-west-2"}, "the region is us-west-2, but --cluster-arn=.* has us-gov-west-1"),
        ({"cluster": ARN, "account": "210987654321"}, "the account is 210987654321"),
        ({"cluster": ARN, "partition": "aws"}, "the partition is aws"),
        ({"account": "12345"}, "--account-id is '12345'; it must be twelve digits"),
        ({"partition": "azure"}, "--partition is 'azure'"),
    ],
    ids=[
        "the EKS cluster's ARN",
        "not a cluster's id",
        "not an ARN",
        "another region",
        "another account",
        "another partition",
        "not an account",
        "not a partition",
    ],
)
def test_invalid_and_contradictory_flags_are_refused(flags: dict[str, str], message: str) -> None:
    """An error at the start is better than one with every attachment."""
    with pytest.raises(errors.InvalidRequest, match=message):
        AwsScope.from_flags(**flags)
