"""The partition, region and account that the driver works in; flags may name each of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from hyperpod_ebs.driver.model import errors

# ClusterArn in SageMaker's API reference; an ARN has the account's twelve digits.
_ARN: Final = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):sagemaker:(?P<region>[a-z0-9-]+):(?P<account>[0-9]{12}):cluster/[a-z0-9]{12}"
)
_PARTITION: Final = re.compile(r"aws[a-z-]*")
_ACCOUNT: Final = re.compile(r"[0-9]{12}")
_FORMS: Final[Mapping[str, str]] = {
    "--partition": "a partition such as aws, aws-cn or aws-us-gov",
    "--account-id": "twelve digits",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsScope:
    """A partition, region and account. None for what no flag names; `aws.clients` then looks it up."""

    partition: str | None = None
    region: str | None = None
    account: str | None = None

    @classmethod
    def from_flags(
        cls,
        *,
        cluster: str | None = None,
        partition: str | None = None,
        region: str | None = None,
        account: str | None = None,
    ) -> Self:
        """Combine a cluster's ARN with the flags for its parts.

        Raises:
            InvalidRequest: A value is invalid, or two of them contradict each other.
        """
        for flag, text, form in (("--partition", partition, _PARTITION), ("--account-id", account, _ACCOUNT)):
            if text and not form.fullmatch(text):
                raise errors.InvalidRequest(f"{flag} is {text!r}; it must be {_FORMS[flag]}")
        if not cluster:
            return cls(partition=partition or None, region=region or None, account=account or None)
        match = _ARN.fullmatch(cluster)
        if match is None:
            raise errors.InvalidRequest(
                f"--cluster-arn is {cluster!r}; it must be arn:<partition>:sagemaker:<region>:<account>:cluster/<12 "
                "characters of a-z and 0-9>, as SageMaker's DescribeCluster returns it, and not the ARN of the EKS "
                "cluster"
            )
        flags = {"partition": partition, "region": region, "account": account}
        for name, text in flags.items():
            if text and text != match[name]:
                raise errors.InvalidRequest(
                    f"the {name} is {text}, but --cluster-arn={cluster} has {match[name]}; correct one of them"
                )
        return cls(**match.groupdict())
