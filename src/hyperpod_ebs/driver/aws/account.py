"""The AWS account that the driver works for, and the ARNs of its HyperPod clusters."""

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Account:
    """An account in one partition and region."""

    partition: str
    region: str
    known_id: str | None = None
    """Twelve digits; None until it is looked up."""
    lookup: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)
    """Held while the id is looked up."""

    def cluster_arn(self, account_id: str, cluster_id: str) -> str:
        """The ARN of a HyperPod cluster in this partition and region."""
        return f"arn:{self.partition}:sagemaker:{self.region}:{account_id}:cluster/{cluster_id}"
