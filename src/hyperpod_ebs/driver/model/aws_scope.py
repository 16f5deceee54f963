"""Where the HyperPod clusters are: of what partition, region and account, as far as somebody said it."""

import re
from dataclasses import dataclass
from typing import Final, Self

from hyperpod_ebs.driver.model import errors

# ClusterArn in SageMaker's API reference; an ARN has the account's twelve digits.
_ARN: Final = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):sagemaker:(?P<region>[a-z0-9-]+):(?P<account>[0-9]{12}):cluster/[a-z0-9]{12}"
)
_PARTITION: Final = re.compile(r"aws[a-z-]*")
_ACCOUNT: Final = re.compile(r"[0-9]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsScope:
    """What was said; None is for AWS to tell."""

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
        """What a cluster's ARN and its parts, said beside it, say together.

        Raises:
            InvalidRequest: One of them can be none, or two of them do not agree.
        """
        for flag, text, form in (("--partition", partition, _PARTITION), ("--account-id", account, _ACCOUNT)):
            if text and not form.fullmatch(text):
                raise errors.InvalidRequest(f"{flag} is {text!r}; it must be {_FORMS[flag]}")
        if not cluster:
            return cls(partition=partition or None, region=region or None, account=account or None)
        match = _ARN.fullmatch(cluster)
        if match is None:
            raise errors.InvalidRequest(
                f"--cluster-arn is {cluster!r}; it must be arn:<partition>:sagemaker:<region>:<account>:cluster/<12 of "
                "a-z and 0-9>, as SageMaker's DescribeCluster tells it; the ARN of the EKS cluster is another"
            )
        said = {"partition": partition, "region": region, "account": account}
        for name, text in said.items():
            if text and text != match[name]:
                raise errors.InvalidRequest(f"the {name} is {text}, but {match[name]} in --cluster-arn={cluster}")
        return cls(**match.groupdict())


_FORMS: Final = {"--partition": "aws, aws-cn, aws-us-gov or the like", "--account-id": "twelve digits"}
