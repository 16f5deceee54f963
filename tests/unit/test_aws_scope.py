"""Where HyperPod clusters are, as flags tell it."""

import pytest

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.aws_scope import AwsScope

ARN = "arn:aws-us-gov:sagemaker:us-gov-west-1:123456789012:cluster/abcdefghijkl"


def test_a_clusters_arn_tells_partition_region_and_account() -> None:
    """SageMaker: ClusterArn."""
    told = AwsScope(partition="aws-us-gov", region="us-gov-west-1", account="123456789012")

    assert AwsScope.from_flags(cluster=ARN) == told
    assert AwsScope.from_flags(cluster=ARN, region="us-gov-west-1", account="123456789012") == told


def test_what_nobody_says_is_for_aws_to_tell() -> None:
    """Ours: a chart passes an empty value on."""
    assert AwsScope.from_flags(cluster="", partition="", region="", account="") == AwsScope()
    assert AwsScope.from_flags(partition="aws-cn", region="cn-north-1").account is None


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"cluster": "arn:aws:eks:us-west-2:123456789012:cluster/mine"}, "the ARN of the EKS cluster is another"),
        ({"cluster": "arn:aws:sagemaker:us-west-2:123456789012:cluster/UPPERCASE123"}, "--cluster-arn is"),
        ({"cluster": "abcdefghijkl"}, "--cluster-arn is"),
        ({"cluster": ARN, "region": "us-west-2"}, "the region is us-west-2, but us-gov-west-1 in --cluster-arn"),
        ({"cluster": ARN, "account": "210987654321"}, "the account is 210987654321"),
        ({"cluster": ARN, "partition": "aws"}, "the partition is aws"),
        ({"account": "12345"}, "--account-id is '12345'; it must be twelve digits"),
        ({"partition": "azure"}, "--partition is 'azure'"),
    ],
    ids=[
        "the EKS cluster's",
        "no cluster's id",
        "no ARN",
        "another region",
        "another account",
        "another partition",
        "no account",
        "no partition",
    ],
)
def test_what_cannot_be_or_does_not_agree_is_refused(said: dict[str, str], says: str) -> None:
    """Ours: better at the start than at each attach."""
    with pytest.raises(errors.InvalidRequest, match=says):
        AwsScope.from_flags(**said)
