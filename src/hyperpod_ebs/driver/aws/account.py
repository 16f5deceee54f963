"""The AWS account that the driver works for, and the ARNs of its HyperPod clusters."""

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Account:
    """An account in one partition and region."""

    partition: str
    region: str
    known_id: str | None = None
    """Twelve digits; None until it is looked up."""

    def cluster_arn(self, account_id: str, cluster_id: str) -> str:
        """The ARN of a HyperPod cluster in this partition and region."""
        return f"arn:{self.partition}:sagemaker:{self.region}:{account_id}:cluster/{cluster_id}"
